"""Bins of time and whole µs: where a bin begins, and in which bin a µs lies; each is the exact inverse of the other.

Bin k of `dt` s holds the times k·dt <= t < (k + 1)·dt and begins at the first whole µs inside it, ⌈k·dt⌉ µs. Steps
that are no whole number of µs (frames at 30 or 44 100 / 64 per second) have bins that differ by one µs in length.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError

__all__ = ["MOST_ELEMENTS", "bin_numbers", "bin_of", "bins_of", "counted", "first_us"]

MOST_ELEMENTS = 512 * 2**20
"""Most elements of an array of counts."""
_EXACT = 1e-9
"""Part of a bin, and of a time, by which one on the edge may have been rounded below it."""

LAST = 2.0**62
"""Numbers of bins that an int64 holds."""
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


def bins_of(duration: float, dt: float) -> int:
    """The bins of `dt` that `duration` takes, both in s, rounded up; ConfigurationError if they are too many."""
    bins = np.ceil(duration / dt - 1e-6)
    if not 0 <= bins < MOST_ELEMENTS:
        raise ConfigurationError(
            f"{duration:g} s are {bins:.6g} bins of {dt:g} s. Give a shorter time, or longer bins."
        )
    return int(bins)


def bin_numbers(times: Any, dt: float) -> np.ndarray:
    """The bin (int64) of each finite time, `floor(t / dt)`; a time written as k·dt is in bin k however it was rounded.

    times: in the unit of `dt`; those of 32 bits may be their own rounding off.
    """
    t = np.asarray(times)
    relative = 4 * float(np.finfo(t.dtype).eps) if t.dtype.kind == "f" else 0.0
    bins = np.floor(t.astype(np.float64) / dt * (1 + max(_EXACT, relative)) + _EXACT)
    return np.clip(bins, -LAST, LAST).astype(np.int64)


def counted(where: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """How many events each place of an array of `shape` has: uint8, or int64 where one has more than 255.

    where: an index array (E,) for each axis, all inside.
    """
    if np.prod(shape, dtype=np.float64) > MOST_ELEMENTS:
        raise ConfigurationError(
            f"counts of shape {shape} have more than {MOST_ELEMENTS} elements. Give fewer channels, or fewer bins."
        )
    places, times = np.unique(np.ravel_multi_index(where, shape), return_counts=True)
    counts = np.zeros(shape, np.uint8 if times.max(initial=0) < 256 else np.int64)
    counts.reshape(-1)[places] = times
    return counts
