"""Cases of a parametrised test of which the first few stand for all in the test command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["shortened"]


def shortened(cases: Iterable[Any], keep: int = 1) -> list[Any]:
    """`cases` of `pytest.mark.parametrize` (tuples of values, or values), all but the first `keep` marked long."""
    listed = list(cases)
    rest = [pytest.param(*(c if isinstance(c, tuple) else (c,)), marks=pytest.mark.long) for c in listed[keep:]]
    return listed[:keep] + rest
