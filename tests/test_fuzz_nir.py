"""Damaged NIR files: every one gives a Network or a DynapseError, soon and in little memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import nir_damage
import nir_dynapse

CASES = 2400
SECONDS = 300
"""The most that all of them may take; a single one that hangs is ended after `nir_damage.CASE_SECONDS`."""
KNOWN = {"Network", "UnsupportedGraphError", "ParameterRangeError"}


def read_cases(first: int, last: int) -> list[dict[str, Any]]:
    """Results of the cases from `first` to before `last`, read in processes of their own; a crash ends one case only."""
    results: list[dict[str, Any]] = []
    paths = [str(Path(nir_dynapse.__file__).parents[1]), str(Path(nir_damage.__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-W", "error::RuntimeWarning", nir_damage.__file__]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        while first < last:
            for stream in (out, err):
                stream.seek(0)
                stream.truncate()
            try:
                code = subprocess.call(
                    [*command, str(first), str(last)], stdout=out, stderr=err, env=environment, timeout=SECONDS
                )
            except subprocess.TimeoutExpired:
                code = -int(signal.SIGALRM)
            out.seek(0)
            err.seek(0)
            lines = [json.loads(line) for line in out if line.endswith(b"\n")]
            results += [line for line in lines if "outcome" in line]
            if code == 0:
                break
            said = err.read().decode("utf8", "replace")
            assert lines, f"the reading process did not start: {said[-2000:]}"
            how = "hung" if code == -signal.SIGALRM else f"ended with {code}"
            results.append({"seed": lines[-1]["seed"], "what": " ", "outcome": f"{how}: {said[-500:]}", "grown": 0.0})
            first = lines[-1]["seed"] + 1
    return results


def test_damaged_files_give_a_network_or_our_error() -> None:
    results = read_cases(0, CASES)
    assert len(results) == CASES
    failed = [(r["seed"], r["what"], r["outcome"]) for r in results if r["outcome"] not in KNOWN]
    assert not failed, failed[:5]
    large = [(r["seed"], r["what"], r["grown"]) for r in results if r["grown"] >= nir_damage.MEMORY]
    assert not large, large[:5]
    outcomes = Counter(r["outcome"] for r in results)
    assert min(outcomes[name] for name in KNOWN) > 20, outcomes
    done = {word for r in results for word in r["what"].split(" ", 1)[1].split("+")}
    assert {"flip", "replace", "cut", "insert", "zero", "copy"} < done
    assert {change.__name__ for change in nir_damage.STRUCTURAL} < done


def test_the_files_that_are_damaged_are_sound(tmp_path: Path) -> None:
    assert {nir_damage.outcome(path) for path in nir_damage.write_seeds(tmp_path)} == {"Network"}


def test_a_crash_and_a_hang_are_failures_that_name_their_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "dies.py"
    script.write_text(
        "import json, os, signal, sys\n"
        "for seed in range(int(sys.argv[1]), int(sys.argv[2])):\n"
        "    os.write(1, (json.dumps({'seed': seed}) + '\\n').encode())\n"
        "    if seed in (2, 4): os.kill(os.getpid(), signal.SIGSEGV if seed == 2 else signal.SIGALRM)\n"
        "    os.write(1, (json.dumps({'seed': seed, 'outcome': 'Network'}) + '\\n').encode())\n"
    )
    monkeypatch.setattr(nir_damage, "__file__", str(script))
    outcomes = {r["seed"]: r["outcome"] for r in read_cases(0, 6)}
    assert outcomes.pop(2).startswith("ended with -11")
    assert outcomes.pop(4).startswith("hung")
    assert outcomes == dict.fromkeys((0, 1, 3, 5), "Network")
