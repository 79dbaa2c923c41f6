"""The one check of event counts: every way in asks it, so that all of them refuse the same, in the same words.

Counts are real, finite, not negative, and at most 2^24 = 16 777 216 in a bin: float32, in which the circuits compute, holds
every whole number up to there exactly, and none beyond without gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.files.numbers import shown

__all__ = ["LARGEST", "LONGEST_TIME", "check_counts", "check_values", "real_array", "whole_array"]

LARGEST = 1 << 24
"""Most events in a bin: float32 holds every whole number up to here."""
LONGEST_TIME = 1 << 53
"""Largest time of an event in µs, some 285 years: float64 holds every whole number up to here."""
AXES = {1: ("bin",), 2: ("bin", "channel"), 3: ("sample", "bin", "channel")}
PIECE = 1 << 22
"""Elements that are looked at together: whether numbers are whole needs a copy of them."""
CLEAN = "Clean the data: counts start at 0."
ENCODE = "Encode the values as counts of events (nir_dynapse.data.encoders), or run the network with ideal=True."
FEWER = "Scale the data, or give it finer bins."


def check_counts(x: Any, nodes: Sequence[tuple[str, int]], *, whole: bool = True) -> np.ndarray:
    """Event counts (batch, time, channel) for input `nodes` (name, channels), their type as it is.

    (time, channel) are a batch of one. ConfigurationError for another shape, and for what `check_values` refuses.
    """
    counts = real_array("input", x)
    channels = sum(size for _, size in nodes)
    if counts.ndim not in (2, 3) or counts.shape[-1] != channels:
        names = ", ".join(f"{name!r} ({size})" for name, size in nodes)
        raise ConfigurationError(
            f"input of shape {counts.shape}: the network expects (batch, time, {channels}) or (time, {channels}) event "
            f"counts for input node {names}. Transpose or bin the data accordingly."
        )
    counts = counts[None] if counts.ndim == 2 else counts
    check_values("input", counts, nodes, whole=whole)
    return counts


def check_values(who: str, counts: np.ndarray, nodes: Sequence[tuple[str, int]] = (), *, whole: bool = True) -> None:
    """ConfigurationError where a number of `counts` (…, channel) is no count: not finite, negative, above `LARGEST`, or,
    where a circuit or a board receives them (`whole`), no whole number. `nodes` (name, channels) are named in the message.
    """
    if not counts.size or counts.dtype == bool:
        return
    low, high = counts.min(), counts.max()  # NaN where there is one
    if not (low >= 0 and high <= LARGEST):
        wrong = ~((counts >= 0) & (counts <= LARGEST))
        at = np.unravel_index(int(wrong.argmax()), counts.shape)
        value = counts[at]
        sound = bool(np.isfinite(value)) and value > 0
        what = f"allowed are 0 to {LARGEST}, which float32 counts exactly"
        raise _error(who, counts, at, nodes, what, FEWER if sound else CLEAN)
    if whole and counts.dtype.kind == "f":
        flat = counts.reshape(-1)
        for first in range(0, len(flat), PIECE):
            part = flat[first : first + PIECE]
            if (fractions := part != np.floor(part)).any():
                at = np.unravel_index(first + int(fractions.argmax()), counts.shape)
                what = f"a circuit receives whole events, 0 to {LARGEST}"
                raise _error(who, counts, at, nodes, what, ENCODE)


def _error(
    who: str, counts: np.ndarray, at: Sequence[Any], nodes: Sequence[tuple[str, int]], what: str, hint: str
) -> ConfigurationError:
    """What stands at index `at`, in the words of the user's data and graph."""
    place, node = [int(i) for i in at], None
    value = counts[tuple(place)].item()
    number = f"{value:.9g}" if isinstance(value, float) else f"{value}"
    for name, size in nodes:
        if place[-1] < size:
            node = name
            break
        place[-1] -= size
    axes = AXES.get(counts.ndim, tuple(f"axis {k}" for k in range(counts.ndim)))
    where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, place, strict=True))
    said = f"{where} of the data holds {number} events, {what}."
    said = said if node is not None else f"{who}: {said}" if who != "input" else said
    return ConfigurationError(Finding("error", "counts", said, node, used=value, limit=LARGEST, hint=hint))


def real_array(who: str, values: Any, what: str = "event counts") -> np.ndarray:
    """`values` as an array of real numbers or booleans; ConfigurationError for text, objects, complex numbers and dates."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # RuntimeError: a tensor with a gradient
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ConfigurationError(
            f"{who}: {type(values).__name__} is no array of numbers ({reason}). Give a NumPy array of {what}."
        ) from error
    if array.dtype.kind not in "biuf":
        remedy = "Take its real part, if that is meant." if array.dtype.kind == "c" else "Convert the data."
        raise ConfigurationError(
            f"{who}: values of type {array.dtype} and shape {array.shape}, {what} are real numbers. {remedy}"
        )
    if np.ma.is_masked(values):
        raise ConfigurationError(
            f"{who}: {int(np.ma.getmaskarray(values).sum())} values of a masked array are masked. Fill them in first."
        )
    return array


def whole_array(who: str, name: str, values: Any, low: int, high: int) -> np.ndarray:
    """`values` (n,) as int64, whole numbers from `low` to `high`; ConfigurationError for anything else."""
    array = real_array(who, values, "whole numbers").reshape(-1)
    sound = (array >= low) & (array <= high)
    if array.dtype.kind == "f":
        sound &= array == np.floor(array)
    if not sound.all():
        k = int((~sound).argmax())
        raise ConfigurationError(
            f"{who}: {name}[{k}] is {shown(array[k].item())}, allowed are whole numbers from {low} to {high}. "
            "Correct the events."
        )
    return array.astype(np.int64)
