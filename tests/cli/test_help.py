"""What the command line says about itself: examples that work, the nearest word, at once, on any terminal."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nir_dynapse.cli.main import main
from nir_dynapse.cli.parser import parser
from nir_dynapse.cli.verbs import VERBS
from nir_dynapse.data.data import Data
from places import ROOT
from shortened import shortened

SLOW = ("--train ", "--devices ", "calibrate", "--board samna")
"""What marks examples that take more than seconds, or a board."""
HEAVY = ("numpy", "scipy", "jax", "nir", "h5py", "rich", "numba")


def command(*argv: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command (or Python `code`) in a process of its own."""
    program = ["-c", code] if code else ["-m", "nir_dynapse", *argv]
    env = {**{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}, **environment}
    run = [sys.executable, *program]
    return subprocess.run(run, capture_output=True, timeout=120, env=env, cwd=ROOT, encoding="utf-8", errors="strict")


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([verb, "--help"]) == 0
    return capsys.readouterr().out


def examples(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^  (nir-dynapse .*)$", text, re.M)]


# --- examples --------------------------------------------------------------------------------------------------------


def test_every_verb_has_a_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in VERBS:
        assert re.search(rf"^    {verb} +[A-Z].*", text, re.M), verb
    assert all(parser().parse_args(line) for line in examples(text))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_examples_that_parse(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = examples(help_of(verb, capsys))
    assert 1 <= len(found) <= 3
    for line in found:
        assert parser().parse_args(line).verb == line[0] == verb
        for word in line:
            assert not word.startswith("examples/") or (ROOT / word).exists()


@pytest.mark.parametrize("fit", shortened(["--no-fit", ""]), ids=["without fit", "as they stand"])
def test_quick_examples_run(
    fit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand in the help (`deploy` once without its fit), one after the other: each reads what compile wrote."""
    (tmp_path / "examples").mkdir()
    for kind in ("networks", "data"):
        shutil.copytree(ROOT / "examples" / kind, tmp_path / "examples" / kind)
    monkeypatch.chdir(tmp_path)
    first = [verb for verb in VERBS if verb != "compile"]
    lines = [line for verb in ["compile", *first] for line in examples(help_of(verb, capsys))]
    quick = [line for line in lines if not any(word in f"{shlex.join(line)} " for word in SLOW)]
    assert {line[0] for line in quick} >= set(VERBS) - {"finetune", "evaluate", "calibrate"}
    for line in quick:
        assert main([*line, *(fit.split() if line[0] == "deploy" else ()), "-q"]) == 0, shlex.join(line)
    assert (tmp_path / "out" / "layout.json").exists()


# --- the nearest word ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["chekc"], "Did you mean check?"),
        (["show", "primitive"], "Did you mean primitives"),
        (["schema", "chek"], "Did you mean check"),
        (["completion", "bsh"], "Did you mean bash"),
        (["check", "x", "--frontend", "nors"], "Did you mean norse?"),
        (["check", "x", "--fan-in=purne"], "Did you mean prune?"),
        (["check", "x", "--proflie", "y"], "--proflie: Did you mean --profile"),
        (["deploy", "x", "--dta", "y"], "--dta: Did you mean --data"),
        (["doctor", "--jsno"], "--jsno: Did you mean --json?"),
        (["simulate", "x", "--data", "y", "--devices", "3"], "unrecognized arguments: --devices 3."),
        (["check", "x", "y"], "unrecognized arguments: y."),
    ],
)
def test_nearest(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.endswith(f"Try 'nir-dynapse {argv[0]} --help'.\n" if len(argv) > 1 else "--help'.\n")


def test_options_of_other_verbs_are_not_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--tran"]) == 2
    assert "--train" not in capsys.readouterr().err


def test_nearest_board(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["calibrate", "--board", "virtuel:7", "-o", str(tmp_path / "chip.json"), "-q"]) == 1
    assert "Did you mean virtual:7?" in capsys.readouterr().err


# --- at once ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["deploy", "--help"], ["depoly"], ["completion", "bash"], ["schema", "check"]]
)
def test_nothing_heavy_is_imported(argv: list[str]) -> None:
    code = f"""
import sys
from nir_dynapse.cli.main import main
main({argv!r})
sys.stderr.write(repr([m for m in {HEAVY!r} if m in sys.modules] + [len(sys.modules)]))
"""
    modules = command(code=code).stderr.splitlines()[-1]
    assert re.fullmatch(r"\[\d+\]", modules)
    assert int(modules[1:-1]) < 200


@pytest.mark.parametrize(
    "words",
    [
        "check {networks}/digits_recurrent.nir",
        "simulate {networks}/yin_yang.nir --data {data}",
        "evaluate {networks}/yin_yang.nir --data {data} --devices 1",
        "deploy {networks}/yin_yang.nir --data {data}",
    ],
)
def test_no_compiler_is_loaded_for_what_is_over_sooner(words: str, tmp_path: Path) -> None:
    """Neither JAX nor Numba, nor what of SciPy takes long."""
    whole = Data.load("examples/data/yin_yang_test.npz")
    replace(whole, x=whole.x[:20], y=whole.y[:20]).save(tmp_path / "few.npz")
    argv = words.format(networks="examples/networks", data=tmp_path / "few.npz").split()
    code = f"""
import sys
from nir_dynapse.cli.main import main
assert main([*{argv!r}, "-q"]) == 0
sys.stderr.write(repr([m for m in ("jax", "numba", "scipy.optimize", "scipy.cluster") if m in sys.modules]))
"""
    run = command(code=code)
    assert run.stderr == "[]"


# --- any terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_terminals_that_are_not_utf8(environment: dict[str, str], tmp_path: Path) -> None:
    model = "examples/networks/yin_yang.nir"
    for argv in (["show", "primitives"], ["check", model], ["compile", model, "-o", str(tmp_path / "l.json")]):
        run = subprocess.run(
            [sys.executable, "-m", "nir_dynapse", *argv],
            capture_output=True,
            env={**os.environ, **environment},
            cwd=ROOT,
        )
        assert run.returncode == 0, run.stderr
        assert b"Traceback" not in run.stderr
        assert run.stdout


def test_narrow_and_without_colour() -> None:
    for argv in (["--help"], ["deploy", "--help"], ["show", "device"], ["show", "parameters"], ["show", "primitives"]):
        run = command(*argv, COLUMNS="40", NO_COLOR="1")
        assert run.returncode == 0
        assert "\x1b" not in run.stdout + run.stderr
        long = [line for line in run.stdout.splitlines() if len(line) > 40 and " " in line.strip()]
        copied = [line for line in long if re.match(r"(usage: |  )nir-dynapse ", line)]  # stay whole
        assert long == copied, argv
    assert re.search(r"^CubaLIF$", command("show", "primitives", COLUMNS="40").stdout, re.M)


@pytest.mark.skipif(shutil.which("head") is None, reason="no head")
def test_head_is_no_error() -> None:
    pipe = f"{shlex.quote(sys.executable)} -m nir_dynapse show parameters --json | head -1"
    run = subprocess.run(pipe, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (run.stdout, run.stderr) == ("[\n", "")
