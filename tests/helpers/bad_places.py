"""Runs every verb that writes, with one of its files at a place where it cannot be written; prints what came of it as JSON.

Run as `unshare -m python bad_places.py FOLDER SITUATION...`: "full disk" and "read-only disk" mount a tmpfs of their own,
for "foreign folder" and "foreign file" root becomes nobody, the others need nothing.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

import nir_dynapse as nd
import nir_dynapse.calibration.calibrate
from cli_models import DT, graph, write
from nir_dynapse.cli.main import main

NOBODY = 65534
OLD = b"what was there before"
STEPS = ("--steps", "2", "--devices", "2", "--batch", "2", "--check-every", "1")
MODEL = ("finetune", "{in}/m.nir", "--train", "{in}/x.npz", *STEPS)
VERBS: dict[str, tuple[str, ...]] = {
    "compile": ("compile", "{in}/m.nir", "-o", "{layout.json}"),
    "compile --config": ("compile", "{in}/m.nir", "-o", "{in}/l.json", "--config", "{config.json.gz}"),
    "compile --report": ("compile", "{in}/m.nir", "-o", "{in}/l.json", "--report", "{report.html}"),
    "deploy": ("deploy", "{in}/m.nir", "--data", "{in}/x.npz", "-o", "{out/layout.json}"),
    "finetune --checkpoint": (*MODEL, "-o", "{in}/t.npz", "--checkpoint", "{c.npz}"),
    "finetune": (*MODEL, "--checkpoint", "{in}/c.npz", "-o", "{tuned.npz}"),
    "finetune --log": (*MODEL, "--checkpoint", "{in}/c.npz", "-o", "{in}/t.npz", "--log", "{log.csv}"),
    "finetune --plot": (*MODEL, "--checkpoint", "{in}/c.npz", "-o", "{in}/t.npz", "--plot", "{log.svg}"),
    "evaluate": ("evaluate", "{in}/l.json", "--data", "{in}/x.npz", "--devices", "2", "--checkpoint", "{e.npz}"),
    "simulate": ("simulate", "{in}/l.json", "--data", "{in}/x.npz", "-o", "{spikes.npz}"),
    "run": ("run", "{in}/l.json", "--input", "{in}/x.npz", "-o", "{events.npz}"),
    "calibrate": ("calibrate", "-o", "{chip.json}"),
    "import": ("import", "{in}/m.nir", "-o", "{plain.nir}"),
    "import of a configuration": ("import", "{in}/c.json.gz", "-o", "{imported.json}"),
    "export": ("export", "{in}/l.json", "-o", "{network.nir}"),
}
"""Each verb with one file in braces, that at the bad place; what it needs otherwise is in {in}."""


def target_of(argv: tuple[str, ...]) -> str:
    return next(word[1:-1] for word in argv if word.startswith("{") and not word.startswith("{in}"))


def call(verb: str, inputs: Path, place: Path) -> tuple[int, str]:
    """Exit code and stderr."""
    target = target_of(VERBS[verb])
    where = str((place / target).parent if verb == "deploy" else place / target)
    argv = [word.replace("{in}", str(inputs)).replace(f"{{{target}}}", where) for word in VERBS[verb]]
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        code = main([*argv, "-q"])
    return code, said.getvalue()


def prepared(inputs: Path) -> None:
    """What the verbs read. They are called once, so that nothing is left to be imported by somebody with fewer rights."""
    inputs.mkdir()
    write(inputs / "m.nir", graph())
    nd.Data(np.random.default_rng(0).poisson(0.6, (6, 12, 3)).astype(np.uint8), np.arange(6) % 2, DT).save(
        inputs / "x.npz"
    )
    layout = nd.compile(nd.from_nir(inputs / "m.nir"))
    layout.save(inputs / "l.json")
    from nir_dynapse.export.samna_config import write_config_json

    write_config_json(layout, inputs / "c.json.gz")
    profile = nd.ChipProfile.synthetic(0)
    measured: Any = {"errors": {name: [0.0] * 4 for name in profile.scales}}
    object.__setattr__(profile, "measured", measured)
    nir_dynapse.calibration.calibrate.calibrate = lambda *_, **__: (profile,)  # it would measure for half a minute


def olds(place: Path, *, checkpoints: bool = False) -> None:
    """An older file of every name; of checkpoints only where it does not matter that they are none."""
    for argv in VERBS.values():
        path = place / target_of(argv)
        if checkpoints or path.name not in ("c.npz", "e.npz"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(OLD)


def listed(place: Path) -> dict[str, str]:
    """What is in a folder: content of files, nothing for others."""
    return {str(p.relative_to(place)): p.read_bytes().hex() if p.is_file() else "" for p in sorted(place.rglob("*"))}


def mounted(place: Path) -> None:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)], check=True)


def full_disk(place: Path) -> None:
    mounted(place)
    olds(place)
    with (place / "filler").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            pass


def read_only_disk(place: Path) -> None:
    mounted(place)
    olds(place)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


def no_folder(place: Path) -> None:
    """Nothing is there."""


def file_for_folder(place: Path) -> None:
    place.write_bytes(OLD)


def target_is_folder(place: Path) -> None:
    for argv in VERBS.values():
        (place / target_of(argv)).mkdir(parents=True)


def target_is_fifo(place: Path) -> None:
    for argv in VERBS.values():
        path = place / target_of(argv)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)


def foreign_folder(place: Path) -> None:
    place.mkdir()
    olds(place)
    for folder in (place, place / "out"):
        folder.chmod(0o555)


def foreign_file(place: Path) -> None:
    place.mkdir()
    olds(place, checkpoints=True)
    for folder in (place, place / "out"):
        folder.chmod(0o777)
    for path in place.rglob("*"):
        if path.is_file():
            path.chmod(0o444)


SITUATIONS: dict[str, Callable[[Path], None]] = {
    "full disk": full_disk,
    "read-only disk": read_only_disk,
    "no folder": no_folder,
    "file for a folder": file_for_folder,
    "target is a folder": target_is_folder,
    "target is a pipe": target_is_fifo,
    "foreign folder": foreign_folder,
    "foreign file": foreign_file,
}


def run(folder: Path, situations: list[str]) -> dict[str, dict[str, Any]]:
    """By "VERB, SITUATION": exit code, stderr, and whether anything at the place has changed."""
    inputs, found = folder / "in", {}
    prepared(inputs)
    (folder / "good").mkdir()
    for verb in VERBS:
        code, said = call(verb, inputs, folder / "good")
        found[f"{verb}, good place"] = {"code": code, "said": said, "changed": True}
    for number, name in enumerate(situations):
        place = folder / f"place{number}"
        SITUATIONS[name](place)
        before = listed(place)
        if name.startswith("foreign"):
            inputs.chmod(0o777)
            for path in inputs.iterdir():
                path.chmod(0o666)
            os.seteuid(NOBODY if os.getuid() == 0 else os.geteuid())
        for verb in VERBS:
            if (verb, name) != ("deploy", "no folder"):  # deploy makes it
                code, said = call(verb, inputs, place)
                found[f"{verb}, {name}"] = {"code": code, "said": said, "changed": listed(place) != before}
        os.seteuid(os.getuid())
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(Path(sys.argv[1]), sys.argv[2:]), indent=1))
