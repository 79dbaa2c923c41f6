"""Where the verbs write: never over what they read, never two things into one file, by whatever name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli_models import fails, graph, save, write
from nir_dynapse.cli.main import main
from nir_dynapse.deployment.files import FILES
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.files.places import check_apart

TRAIN = ("--steps", "1", "--devices", "1", "--batch", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, data, a Layout and a configuration; each also by a symbolic and a hard link."""
    path = tmp_path_factory.mktemp("places")
    write(path / "m.nir", graph())
    save(path / "d.npz")
    assert main(["compile", str(path / "m.nir"), "-o", str(path / "layout.json"), "-q", "--json"]) == 0
    assert (
        main(["compile", str(path / "m.nir"), "-o", str(path / "l.json"), "--config", str(path / "c.json.gz"), "-q"])
        == 0
    )
    (path / "out").mkdir()
    for name in ("m.nir", "d.npz", "layout.json"):
        (path / f"soft_{name}").symlink_to(path / name)
        os.link(path / name, path / f"hard_{name}")
        (path / "out" / "layout.json").unlink(missing_ok=True)
        (path / "out" / "layout.json").symlink_to(path / "m.nir")
    return path


CASES = [
    ("compile m.nir -o m.nir", "'m.nir' (--out) would overwrite the network, which is read"),
    (
        "compile m.nir -o ./m.nir",
        "'./m.nir' (--out) would overwrite the network, which is read, by another name: 'm.nir'",
    ),
    ("compile m.nir -o soft_m.nir", "would overwrite the network"),
    ("compile m.nir -o hard_m.nir", "would overwrite the network"),
    ("compile soft_m.nir -o m.nir", "would overwrite the network"),
    ("compile m.nir -o x.json --report m.nir", "'m.nir' (--report) would overwrite the network"),
    ("compile m.nir -o x.json --config x.json", "'x.json' is to be both --out and --config. Give two names"),
    ("compile m.nir -o x.json --config y.json --report ./y.json", "both --config and --report"),
    ("compile m.nir -o d.npz --activity d.npz", "would overwrite --activity"),
    ("compile m.nir -o x.nir", "the result is a Layout. Name it LAYOUT.json"),
    ("import m.nir -o m.nir", "would overwrite what is read"),
    ("import m.nir -o hard_m.nir", "would overwrite what is read"),
    ("import c.json.gz -o l.json --names l.json", "would overwrite --names"),
    ("import c.json.gz -o layout.json", "would overwrite the names in 'layout.json'"),
    ("export m.nir -o m.nir", "would overwrite what is read"),
    ("export m.nir -o soft_m.nir", "would overwrite what is read"),
    ("simulate m.nir --data d.npz -o d.npz", "would overwrite --data"),
    ("simulate m.nir --data d.npz -o m.nir", "would overwrite the network"),
    ("simulate layout.json --data d.npz -o hard_layout.json", "would overwrite the network"),
    ("evaluate m.nir --data d.npz --checkpoint d.npz", "'d.npz' (--checkpoint) would overwrite --data"),
    ("evaluate m.nir --data d.npz --checkpoint m.nir", "would overwrite the network"),
    ("run layout.json --input d.npz -o d.npz", "would overwrite --input"),
    ("run layout.json --input d.npz -o soft_d.npz", "would overwrite --input"),
    ("run layout.json --input d.npz -o layout.json", "would overwrite the Layout"),
    ("calibrate --profile p.json -o p.json", "would overwrite --profile"),
    ("finetune m.nir --train d.npz -o d.npz", "would overwrite --train"),
    ("finetune m.nir --train d.npz -o t.npz --checkpoint t.npz", "both --out and --checkpoint"),
    ("finetune m.nir --train d.npz -o t.npz --checkpoint d.npz", "would overwrite --train"),
    ("finetune m.nir --train d.npz -o t.npz --log l.csv --plot ./l.csv", "both --log and --plot"),
    ("finetune m.nir --train d.npz -o t.npz --validation v.npz --log v.npz", "would overwrite --validation"),
    ("deploy m.nir --data d.npz -o out", "layout.json' (layout.json of --out) would overwrite the network"),
    ("deploy m.nir --data d.npz --params new/tuned.npz -o new", "would overwrite --params"),
    ("deploy m.nir --data d.npz --train d.npz --checkpoint new/tuned.npz -o new", "both --checkpoint and tuned.npz of"),
    ("deploy m.nir --data d.npz --train d.npz --checkpoint d.npz -o new", "would overwrite --data"),
]


@pytest.mark.parametrize(("command", "words"), CASES)
def test_nothing_is_overwritten(
    command: str, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "new").mkdir(exist_ok=True)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    fails(capsys, command.split(), words)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert list((folder / "new").iterdir()) == []


def test_a_checkpoint_may_be_gone_on_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for devices in "12":
        assert main(["evaluate", "m.nir", "--data", "d.npz", "--devices", devices, "--checkpoint", "k.npz", "-q"]) == 0
    (folder / "k.npz").unlink()


def test_names_that_do_not_exist_yet(tmp_path: Path) -> None:
    check_apart({"a": tmp_path / "x", "b": tmp_path / "y", "c": None}, {"d": tmp_path / "z", "e": None})
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with pytest.raises(ConfigurationError, match="both a and b"):
        check_apart({"a": tmp_path / "folder" / "x", "b": tmp_path / "link" / "x"}, {})
    with pytest.raises(ConfigurationError, match="which is read"):
        check_apart({"a": tmp_path / "x"}, {"b": tmp_path / "folder" / ".." / "x"})
    assert "layout.json" in FILES
