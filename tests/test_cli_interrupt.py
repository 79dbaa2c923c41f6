"""Ctrl-C in the middle: exit code 130, whole files, no traceback, and how to go on."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from cli_models import graph, save, write
from nir_dynapse.cli_output import Output

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
LOST = "--checkpoint FILE.npz the same command could go on"
KEPT = "so far is in so_far.npz; give the same command again"
FINETUNE = ("finetune", "m.nir", "--train", "x.npz", "--devices", "2", "--steps", "99999", "--check-every", "2")
TRAINING = ("--train-devices", "2", "--uniform", "0.2", "--train-steps", "100000", "--compare", "0")


def interrupted(folder: Path, argv: tuple[str, ...], until: str) -> str:
    """Starts the command, waits for the file `until` (empty: for a line on stderr), interrupts; returns its stderr."""
    words = [sys.executable, "-m", "nir_dynapse", *argv]
    with tempfile.TemporaryDirectory() as elsewhere:
        out, err = Path(elsewhere, "out"), Path(elsewhere, "err")
        with out.open("w") as o, err.open("w") as e, subprocess.Popen(words, cwd=folder, stdout=o, stderr=e) as process:
            try:
                patience = time.monotonic() + 120
                while not ((folder / until).exists() if until else "\n" in err.read_text()):
                    assert process.poll() is None, err.read_text()
                    assert time.monotonic() < patience, err.read_text()
                    time.sleep(0.02)
                process.send_signal(signal.SIGINT)
                process.wait(60)
            finally:
                process.kill()
        assert (process.returncode, out.read_text()) == (130, ""), err.read_text()
        return err.read_text()


@pytest.mark.parametrize(
    ("argv", "until", "words"),
    [
        (("evaluate", "m.nir", "--data", "x.npz", "--devices", "99999"), "", LOST),
        (
            (*FINETUNE, "--checkpoint", "so_far.npz", "-o", "tuned.npz"),
            "so_far.npz",
            KEPT,
        ),
        (
            (
                "deploy",
                "m.nir",
                "--data",
                "x.npz",
                "--train",
                "x.npz",
                *TRAINING,
                "--checkpoint",
                "so_far.npz",
                "-o",
                "out",
            ),
            "so_far.npz",
            KEPT,
        ),
        (("deploy", "m.nir", "--data", "x.npz", "-o", "out"), "", ""),
        (("calibrate", "-o", "chip.json"), "", ""),
    ],
)
def test_interrupt(argv: tuple[str, ...], until: str, words: str, tmp_path: Path) -> None:
    write(tmp_path / "m.nir", graph())
    save(tmp_path / "x.npz", samples=40)
    err = interrupted(tmp_path, argv, until)
    assert err.endswith("nir-dynapse: interrupted; every file is complete, old or new.\n")
    assert words in err
    assert "Traceback" not in err
    assert "ignored" not in err
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"m.nir", "x.npz", until or "m.nir"}
    if until:
        with np.load(tmp_path / until, allow_pickle=False) as archive:
            assert archive.files


def test_an_interrupt_in_a_callback_comes_again() -> None:
    """JAX's callback of the garbage collection swallows what it meets; the next one must not be needed."""
    code = """
import sys, time, weakref
from nir_dynapse.cli_interrupt import interruptible

class Thing:
    pass

def callback(_):
    raise KeyboardInterrupt

before = sys.unraisablehook
try:
    with interruptible():
        thing = Thing()
        watch = weakref.ref(thing, callback)
        del thing
        time.sleep(30)
except KeyboardInterrupt:
    assert sys.unraisablehook is before
    sys.exit(7)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (7, "")


def test_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "so_far.npz"
    there.touch()
    for checkpoint, words in ((None, LOST), (str(there), "give the same command again"), ("no.npz", "begins anew")):
        with pytest.raises(KeyboardInterrupt), Output(quiet=True).resumable(checkpoint, "training"):
            raise KeyboardInterrupt
        assert words in capsys.readouterr().err
