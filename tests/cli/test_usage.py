# IMPORT
"""Wrong usage as a document too; numbers on the command line; streams that are closed or full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from cli_models import fails, graph, save, write
from nir_dynapse.cli.main import main
from nir_dynapse.cli.options import limited
from nir_dynapse.cli.schemas import schema_of
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.files.numbers import Real, Whole
from places import ROOT
from shortened import shortened

VERBS = ("deploy", "check", "compile", "import", "export", "finetune", "simulate", "evaluate", "run", "calibrate")
VERBS = (*VERBS, "show", "schema", "completion")
"""Those that need an argument; doctor needs none."""


# --- wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        *([verb, "--json"] for verb in VERBS),
        ["doctor", "--json", "--no-such-option"],
        ["check", "x.nir", "--dt", "nan", "--json"],
        ["evaluate", "--json", "--chips", "9"],
        ["evaluate", "--json", "--chips", "many"],
        ["show", "devices", "--json"],
        ["--json", "check"],
        ["--json"],
        ["no-such-verb", "--json"],
        ["check", "x.nir", "-q", "-v", "--json"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_a_document(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    jsonschema.validate(document, schema_of("error"))
    assert document["type"] == "WrongUsage"
    (finding,) = document["findings"]
    assert finding["code"] == "usage"
    assert finding["hint"].startswith("Try 'nir-dynapse")
    assert " ".join(captured.err.split()) == f"nir-dynapse: {finding['what']} {finding['hint']}"


def test_without_json_wrong_usage_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nir-dynapse: the following arguments are required")


# --- numbers ---------------------------------------------------------------------------------------------------------

WRONG = ("nan", "inf", "-inf", "-1", "1e300", "0x10", "", "abc", "9" * 5000, "1e999", "1+0j")
OPTIONS = {
    "check m.nir": ("--seed", "--chips", "--dt", "--time-scale", "--tolerance", "--place-seconds"),
    "finetune m.nir --train d.npz -o t.npz": (
        *("--devices", "--uniform", "--worst", "--adversarial", "--dropout", "--bits", "--steps", "--batch", "--rate"),
        *("--sparsity", "--operations", "--check-every", "--patience"),
    ),
    "deploy m.nir --data d.npz --train d.npz": ("--train-steps", "--train-devices", "--uniform", "--compare"),
    "simulate m.nir --data d.npz": ("--chip",),
    "evaluate m.nir --data d.npz": ("--devices", "--uniform"),
    "run layout.json --input d.npz": ("--duration",),
    "calibrate -o p.json": ("--probes",),
}
WIDE = {"--uniform": ("1e300",)}
"""What looks absurd and is allowed: mismatch stays finite at any size."""


@pytest.mark.parametrize(("command", "option"), [(c, o) for c, options in OPTIONS.items() for o in options])
def test_numbers_have_limits(
    command: str,
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where nothing is: what is wrong is said before anything is read
    for value in (*WRONG, "1000000000000000000000"):
        if value in WIDE.get(option, ()) or (option == "--duration" and value not in WRONG[:4]):
            continue
        if option in ("--uniform", "--place-seconds") and value == "1000000000000000000000":
            continue
        assert main([*command.split(), f"{option}={value}"]) == 2, value
        captured = capsys.readouterr()
        assert captured.out == ""
        assert option in captured.err
        assert len(captured.err) < 500


def test_calls_and_options_use_the_same_words() -> None:
    for limit, text in (
        (Whole(1, 9), "0"),
        (Whole(1, 9), "10"),
        (Real(0, 1, "s", above=True), "0"),
        (Real(0, 1), "nan"),
    ):
        with pytest.raises(Exception, match=f"is {text}, allowed are {limit}\\."):
            limited(limit)(text)
        number = float(text) if isinstance(limit, Real) else int(text)
        with pytest.raises(ParameterRangeError, match=f"x: y is {number}, allowed are {limit}\\. Choose"):
            limit.check("x", "y", number)


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        ("1e300", "run: duration is 1e+300, allowed are numbers above 0 up to 2000 s. Cut the run into several."),
        ("2001", "run: duration is 2001.0, allowed are numbers above 0 up to 2000 s"),
    ],
)
def test_durations_are_bounded_as_those_of_a_board(
    duration: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data, layout = write(tmp_path / "m.nir", graph()), save(tmp_path / "d.npz"), str(tmp_path / "l.json")
    assert main(["compile", model, "-o", layout, "-q"]) == 0
    capsys.readouterr()
    fails(capsys, ["run", layout, "--input", data, "--duration", duration], words)
    assert main(["run", layout, "--input", data, "--duration", duration, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["type"] == "ParameterRangeError"


# --- streams ---------------------------------------------------------------------------------------------------------

GOOD, BAD, WRONG_USAGE = "show parameters", "check no_such_file.nir", "check"


def shell(command: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a shell command in which nir-dynapse is N."""
    line = f'N="{sys.executable} -m nir_dynapse"; {command}'
    run = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=ROOT, check=False)
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    shortened(
        [
            (f"$N {GOOD} >&-", 0),
            (f"$N {GOOD} >&- 2>&-", 0),
            (f"$N {GOOD} <&- >&- 2>&-", 0),
            (f"$N {BAD} >&-", 1),
            (f"$N {BAD} 2>&-", 1),
            (f"$N {BAD} 2>/dev/full", 1),
            (f"$N {BAD} >&- 2>&-", 1),
            (f"$N {WRONG_USAGE} 2>&-", 2),
            (f"$N {WRONG_USAGE} 2>/dev/full", 2),
            ("$N --help >&-", 0),
            (f"$N {GOOD} >/dev/full", 1),
            (f"$N {GOOD} >/dev/full 2>/dev/full", 1),
            ("$N --help >/dev/full", None),
        ],
        5,
    ),
)
def test_streams_that_lead_nowhere_end_quietly(command: str, code: int | None) -> None:
    got, out, err = shell(command)
    assert "Traceback" not in err
    assert "Exception" not in err
    assert out == ""
    assert got == code if code is not None else got in (0, 1)
    if ">/dev/full" in command and "2>" not in command and code == 1:
        assert err == "nir-dynapse: the output: cannot be read or written (No space left on device). Check the disk.\n"


def test_the_document_comes_also_where_stderr_is_gone() -> None:
    for stream in ("2>&-", "2>/dev/full"):
        for command, code in ((BAD, 1), (WRONG_USAGE, 2)):
            got, out, _ = shell(f"$N {command} --json {stream}")
            assert got == code
            assert json.loads(out)["findings"]


def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    write(tmp_path / "m.nir", graph())
    got, _, err = shell(f"$N import {tmp_path}/m.nir -o {tmp_path}/n.nir >&-")
    assert (got, err) == (0, "")
    assert main(["check", str(tmp_path / "n.nir"), "-q"]) == 0


# --- answers before JAX ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad")
    write(path / "m.nir", graph())
    save(path / "d.npz")
    assert main(["compile", str(path / "m.nir"), "-o", str(path / "layout.json"), "-q", "--json"]) == 0
    (path / "bad.json").write_text('{"format": "nir_dynapse.layout", "version": 5}')
    (path / "bad.npz").write_bytes(b"PK")
    return path


@pytest.mark.parametrize(
    "command",
    shortened(
        [
            "run bad.json --input d.npz",
            "run layout.json --input bad.npz",
            "run layout.json --input d.npz --duration 1e9",
            "run layout.json --input d.npz -o layout.json",
            "simulate bad.json --data d.npz",
            "simulate layout.json --data bad.npz",
            "evaluate bad.json --data d.npz",
            "evaluate layout.json --data bad.npz",
            "finetune bad.json --train d.npz -o t.npz",
            "finetune layout.json --train bad.npz -o t.npz",
            "deploy m.nir --data bad.npz",
            "calibrate --profile bad.json -o p.json",
        ],
        4,
    ),
)
def test_bad_files_are_told_before_jax_is_loaded(command: str, folder: Path) -> None:
    code = f"import sys; from nir_dynapse.cli.main import main; print(main({command.split()!r}), 'jax' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    assert run.stdout == "1 False\n", run.stderr
    assert run.stderr.startswith("nir-dynapse: ")
