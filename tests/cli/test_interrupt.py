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
from nir_dynapse.cli.interrupt import Ended, interruptible
from nir_dynapse.cli.output import Output
from shortened import shortened

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
LOST = "--checkpoint FILE.npz the same command could go on"
KEPT = "so far is in so_far.npz; give the same command again"
FINETUNE = ("finetune", "m.nir", "--train", "x.npz", "--devices", "2", "--steps", "99999", "--check-every", "2")
TRAINING = ("--train-devices", "2", "--uniform", "0.2", "--train-steps", "100000", "--compare", "0")


START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run with it ignored, children would, too
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from nir_dynapse.cli.main import main
sys.exit(main())
"""


def interrupted(
    folder: Path, argv: tuple[str, ...], until: str, number: signal.Signals = signal.SIGINT, code: int = 130
) -> str:
    """Starts the command, waits for the file `until` (empty: for a line on stderr), interrupts; returns its stderr."""
    words = [sys.executable, "-c", START, *argv]
    with tempfile.TemporaryDirectory() as elsewhere:
        out, err = Path(elsewhere, "out"), Path(elsewhere, "err")
        with out.open("w") as o, err.open("w") as e, subprocess.Popen(words, cwd=folder, stdout=o, stderr=e) as process:
            try:
                patience = time.monotonic() + 120
                while not ((folder / until).exists() if until else "\n" in err.read_text()):
                    assert process.poll() is None, err.read_text()
                    assert time.monotonic() < patience, err.read_text()
                    time.sleep(0.02)
                process.send_signal(number)
                process.wait(60)
            finally:
                process.kill()
        assert (process.returncode, out.read_text()) == (code, ""), err.read_text()
        return err.read_text()


@pytest.mark.parametrize(
    ("argv", "until", "words"),
    shortened(
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
        ]
    ),
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


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_request_to_end_is_an_interrupt(number: signal.Signals, code: int, tmp_path: Path) -> None:
    write(tmp_path / "m.nir", graph())
    save(tmp_path / "x.npz", samples=40)
    argv = (*FINETUNE, "--checkpoint", "so_far.npz", "-o", "tuned.npz")
    err = interrupted(tmp_path, argv, "so_far.npz", number, code)
    assert KEPT in err
    assert err.endswith("nir-dynapse: interrupted; every file is complete, old or new.\n")
    assert {path.name for path in tmp_path.iterdir()} == {"m.nir", "x.npz", "so_far.npz"}


def test_other_handlers_stay() -> None:
    """A program that handles SIGTERM itself and calls `main` goes on doing so; others get the default back."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    seen: list[int] = []
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with interruptible():
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(Ended) as caught:
                signal.raise_signal(signal.SIGHUP)
        assert (seen, caught.value.number) == ([signal.SIGTERM], signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(number, handler)


def test_an_interrupt_in_a_callback_comes_again() -> None:
    """JAX's callback of the garbage collection swallows what it meets; the next one must not be needed."""
    code = """
import signal, sys, time, weakref
signal.signal(signal.SIGINT, signal.default_int_handler)
from nir_dynapse.cli.interrupt import interruptible

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
