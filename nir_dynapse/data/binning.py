"""Events into bins, by one rule: bin k holds the times k·dt <= t < (k + 1)·dt, and the last one the end of the run, too."""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError

__all__ = ["MOST_ELEMENTS", "bin_numbers", "bins_of", "counted"]

MOST_ELEMENTS = 512 * 2**20
"""Most elements of an array of counts."""
_EXACT = 1e-9
"""Part of a bin, and of a time, by which one on the edge may have been rounded below it."""


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
    return np.floor(t.astype(np.float64) / dt * (1 + max(_EXACT, relative)) + _EXACT).astype(np.int64)


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
