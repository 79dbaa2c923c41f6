"""The same inputs, seed and version give the same bytes: in every process, on every Python, NumPy and JAX."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import layout_bytes
from layout_bytes import CASES, hashes
from places import GOLDEN

HASHES = json.loads((GOLDEN / "layout_hashes.json").read_text())


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    """The hashes of all cases in this process."""
    return {name: hashes(name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_on_every_python(name: str, found: dict[str, dict[str, str]]) -> None:
    """`python tests/robustness/golden_layouts.py` writes what this compares with, where Layouts are meant to change."""
    assert {part: found[name][part] for part in HASHES[name]} == HASHES[name]


def test_cases_differ(found: dict[str, dict[str, str]]) -> None:
    """Options and seeds do reach the bytes that are compared."""
    for part in ("layout", "configuration"):
        assert len({each[part] for each in found.values()}) == len(CASES)
    assert HASHES.keys() == CASES.keys()


@pytest.mark.long
def test_in_every_process(found: dict[str, dict[str, str]]) -> None:
    """Whatever the order of sets, and however many threads BLAS has."""
    environments = ({"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1"}, {"PYTHONHASHSEED": "2"})
    for changes in environments:
        words = [sys.executable, layout_bytes.__file__, "yin_yang", "random, pruned", "digits_recurrent, bad chip"]
        run = subprocess.run(words, env={**os.environ, **changes}, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        again = json.loads(run.stdout)
        assert len(again) == 3
        assert all(again[name] == found[name] for name in again)
