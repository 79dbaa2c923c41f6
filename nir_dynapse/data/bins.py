"""Bins of time and whole µs: where a bin begins, and in which bin a µs lies; each is the exact inverse of the other.

Bin k of `dt` s begins at the first whole µs inside it, ⌈k·dt⌉ µs. Steps that are no whole number of µs (frames at 30 or
44 100 / 64 per second) have bins that differ by one µs in length.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["bin_of", "first_us"]

SLACK = 1e-5
"""µs that k·dt may lie above a whole µs because of its rounding in float64, up to the longest run."""


def first_us(k: Any, dt: float) -> np.ndarray:
    """First whole µs (int64) inside bin `k` of `dt` s: ⌈k·dt⌉."""
    return np.ceil(np.asarray(k, np.float64) * (dt * 1e6) - SLACK).astype(np.int64)


def bin_of(time: Any, dt: float) -> np.ndarray:
    """Number (int64) of the bin of `dt` s in which whole µs `time` lie: the last one with first_us(k) ≤ time."""
    time = np.asarray(time, np.int64)
    k = np.floor((time + SLACK) / (dt * 1e6)).astype(np.int64)
    k = k - (first_us(k, dt) > time)  # what the division rounded across an edge
    return k + (first_us(k + 1, dt) <= time)
