"""Damaged files of every format: each gives an object that comes back, or one of our errors, soon and in little memory.

A few hundred cases; `tests/fuzz/run.py` runs as many as one likes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fuzz_cases
import fuzz_nir
from fuzz_cases import EXPECTED, NAMES, Job, results, run_cases

pytestmark = pytest.mark.long

CASES = {"nir": 400, "profile-json": 24, "profile-csv": 60, "config": 120}
USUAL = 200
KINDS = {
    "nir": {"flip", "replace", "cut", "insert", "zero", "copy", *(c.__name__ for c in fuzz_nir.STRUCTURAL)},
    "layout": {"flip", "value", "mark", "gone", "name", "type", "graft"},
    "data": {"values", "dtype", "shape", "header", "pickle", "lie", "twice"},
    "log": {"field", "line", "columns"},
}
"""What must have been done to the files of some formats."""


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files(name: str) -> None:
    summary = run_cases(name, CASES.get(name, USUAL))
    assert not summary.failures, summary.failures[:3]
    assert summary.valid + summary.refused == summary.cases
    assert min(summary.valid, summary.refused) > 0.02 * summary.cases
    assert KINDS.get(name, set()) <= summary.done
    assert summary.grown < 1024


def test_guided_cases_are_kept_and_repeatable() -> None:
    first, second = (run_cases("log", 80, 3, guided=True) for _ in range(2))
    assert first.kept > 2
    assert first.branches >= first.kept
    assert (first.outcomes, first.kept, first.branches) == (second.outcomes, second.kept, second.branches)
    assert first.done == second.done


def test_a_case_is_fixed_by_its_number(tmp_path: Path) -> None:
    def seen(first: int, last: int) -> list[tuple[str, str]]:
        job = Job("log", 5, first, last, False, str(tmp_path))
        return [(result["what"], result["outcome"]) for result in results(job)]

    assert seen(0, 20)[12:] == seen(12, 20)


# --- the guards -------------------------------------------------------------------------------------------------------

WRONG = """
import json, os, signal, sys
job = json.loads(sys.argv[1])
for case in range(job["first"], job["last"]):
    print(json.dumps({"case": case}), flush=True)
    if case in (2, 4):
        os.kill(os.getpid(), signal.SIGSEGV if case == 2 else signal.SIGALRM)
    print(json.dumps({"case": case, "what": "x y", "outcome": "valid", "grown": 0, "new": 0}), flush=True)
"""


def test_a_crash_and_a_hang_are_failures_that_name_their_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "dies.py"
    script.write_text(WRONG)
    monkeypatch.setattr(fuzz_cases, "WORKER", script)
    outcomes = {r["case"]: r["outcome"] for r in results(Job("nir", 0, 0, 6, False, str(tmp_path)))}
    assert outcomes.pop(2).startswith("ended with -11")
    assert outcomes.pop(4).startswith("hung")
    assert outcomes == dict.fromkeys((0, 1, 3, 5), "valid")


SPOILT = {
    "crash": ("os.abort()", "ended with -6"),
    "hang": ("exec('while True: pass')", "hung"),
    "memory": ("bytearray(b'x' * (1100 << 20))", "MemoryError"),
    "other error": ("{}['x']", "KeyError"),
    "warning": ("np.log(np.zeros(1))", "RuntimeWarning"),
    "name": ("exec('raise DynapseError(\"no\")')", "the message does not name the file: no"),
    "pickle": ("__import__('pickle').loads(__import__('pickle').dumps(fuzz_npz._Payload()))", "a pickle was loaded"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_a_reader_must_not_do_is_noticed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real worker, with a reader that does it in every third case; the others are read as before."""
    code, words = SPOILT[kind]
    script = tmp_path / "fuzz_spoilt.py"
    script.write_text(
        "import json, os, sys\n"
        "import fuzz_worker, fuzz_npz\n"
        "import numpy as np\n"
        "from nir_dynapse.errors import DynapseError\n"
        f"fuzz_worker.MOST_SECONDS = {1 if kind == 'hang' else 20}\n"
        "count = [0]\n"
        "good = fuzz_worker.FORMATS['log']\n"
        "def read(path):\n"
        "    count[0] += path.name.startswith('case')\n"
        f"    return ({code}) if count[0] == 5 else good.read(path)\n"
        "fuzz_worker.FORMATS['log'] = good._replace(read=read)\n"
        "fuzz_worker.main(json.loads(sys.argv[1]))\n"
    )
    command = (*fuzz_cases.command()[:-1], str(script))
    found = list(results(Job("log", 0, 0, 3, False, str(tmp_path)), command))
    wrong = [(r["case"], r["outcome"]) for r in found if r["outcome"] not in EXPECTED]
    assert [r["case"] for r in found] == [0, 1, 2]
    assert [case for case, _ in wrong] == [2]  # the fifth file: two sound ones come first
    assert words in wrong[0][1]


def test_the_command_saves_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    import run

    script = tmp_path / "dies.py"
    script.write_text(WRONG.replace("print(", f"open({str(tmp_path / 'case.csv')!r}, 'w').write('x'); print(", 1))
    monkeypatch.setattr(fuzz_cases, "WORKER", script)
    original = fuzz_cases.tempfile.TemporaryDirectory

    class Here(original):  # the folder in which the script leaves its file
        def __enter__(self) -> str:
            super().__enter__()
            return str(tmp_path)

    monkeypatch.setattr(fuzz_cases.tempfile, "TemporaryDirectory", Here)
    assert run.main(["--format", "log", "--cases", "4", "--save", str(tmp_path / "out")]) == 1
    lines = capsys.readouterr().out.splitlines()
    failure = json.loads(lines[-1])
    assert failure["case"] == 2
    assert Path(failure["file"]).read_text() == "x"
    assert lines[1].split()[:5] == ["log", "4", "3", "0", "1"]


def test_counters_do_not_change_what_a_module_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    import fuzz_branches

    (tmp_path / "counted.py").write_text(
        '"""A module."""\n'
        "from __future__ import annotations\n"
        "def f(x):\n"
        "    'doc'\n"
        "    out = []\n"
        "    for i in range(x):\n"
        "        if i == 1:\n            continue\n"
        "        elif i == 2:\n            out.append('two')\n"
        "        try:\n            out.append(1 / (i - 3))\n"
        "        except ZeroDivisionError:\n            out.append(None)\n"
        "        else:\n            out.append(0 if i else [])\n"
        "    return out\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    fuzz_branches.install(["counted"])
    module = importlib.import_module("counted")
    monkeypatch.delitem(sys.modules, "counted")
    reached = []
    for n in (0, 1, 2, 3, 4):
        fuzz_branches.HITS[:] = bytes(len(fuzz_branches.HITS))
        result = module.f(n)
        reached.append(sum(fuzz_branches.HITS))
    assert result == [-1 / 3, [], "two", -1.0, 0, None]
    assert module.f.__doc__ == "doc"
    assert reached == sorted(reached)
    assert reached[0] < reached[1] < reached[2] < reached[3] < reached[4]
    assert np.count_nonzero(np.frombuffer(fuzz_branches.HITS, np.uint8)) == reached[-1]
