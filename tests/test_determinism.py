"""The same inputs, seed and version give the same bytes: in every process, on every Python, NumPy and JAX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache

import pytest

import layout_bytes
from layout_bytes import CASES, hashes
from places import GOLDEN
from shortened import shortened

HASHES = json.loads((GOLDEN / "layout_hashes.json").read_text())


@cache
def found(name: str) -> dict[str, str]:
    """The hashes of a case in this process."""
    return hashes(name)


@pytest.mark.parametrize("name", shortened(CASES, 3))
def test_on_every_python(name: str) -> None:
    """`python tests/robustness/golden_layouts.py` writes what this compares with, where Layouts are meant to change."""
    assert {part: found(name)[part] for part in HASHES[name]} == HASHES[name]


@pytest.mark.long
def test_cases_differ() -> None:
    """Options and seeds do reach the bytes that are compared."""
    for part in ("layout", "configuration"):
        assert len({found(name)[part] for name in CASES}) == len(CASES)
    assert HASHES.keys() == CASES.keys()


@pytest.mark.long
def test_in_every_process() -> None:
    """Whatever the order of sets, and however many threads BLAS has."""
    environments = ({"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1"}, {"PYTHONHASHSEED": "2"})
    for changes in environments:
        words = [sys.executable, layout_bytes.__file__, "yin_yang", "random, pruned", "digits_recurrent, bad chip"]
        run = subprocess.run(words, env={**os.environ, **changes}, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        again = json.loads(run.stdout)
        assert len(again) == 3
        assert all(again[name] == found(name) for name in again)
