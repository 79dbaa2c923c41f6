"""Progress: a bar on a terminal, a few plain lines elsewhere, nothing with -q or --json."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nir_dynapse.cli import output as cli_output
from nir_dynapse.cli.main import main
from nir_dynapse.cli.output import Output
from places import ROOT

MODEL = str(ROOT / "examples" / "networks" / "yin_yang.nir")


def lines(
    pace: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: Output
) -> list[str]:
    """What is said of two stages of 1 000 steps, `pace` s each."""
    clock = [0.0]
    monkeypatch.setattr(cli_output.time, "monotonic", lambda: clock[0])
    with output.progress() as tell:
        for stage in ("first", "second"):
            for step in range(1001):
                clock[0] += pace
                tell(stage, step / 1000)
    return capsys.readouterr().err.splitlines()


def test_a_line_per_stage_and_tenth_but_one_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = lines(1.0, monkeypatch, capsys, Output())
    assert [line.split() for line in slow[:3]] == [["0", "%", "first"], ["10", "%", "first"], ["20", "%", "first"]]
    assert len(slow) == 22
    quick = lines(1e-4, monkeypatch, capsys, Output())
    assert quick == ["  0 %  first", "100 %  first", "  0 %  second", "100 %  second"]
    assert lines(0.005, monkeypatch, capsys, Output())[1:3] == [" 20 %  first", " 40 %  first"]


@pytest.mark.parametrize("output", [Output(quiet=True), Output(json=True), Output(json=True, quiet=True)])
def test_silence(output: Output, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    output.note("simulating")
    assert lines(1.0, monkeypatch, capsys, output) == []


def test_json_with_times_when_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(1.0, monkeypatch, capsys, Output(json=True, verbose=True))[1].endswith("first  101.0 s")


def test_no_escapes_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", MODEL]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert captured.err.count("\n") < 20


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminal to be had")
def test_a_bar_on_a_terminal() -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "nir_dynapse", "check", MODEL]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert run.returncode == 0
    assert "\x1b[" in shown
    assert b"\x1b" not in run.stdout
