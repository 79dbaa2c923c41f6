"""What a calibration measured of a chip, checked: currents over what they should be, and where the numbers come from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError

__all__ = ["checked_ratios", "json_ready", "range_of"]

LEAST, MOST = 1e-3, 1e3
"""Smallest and largest ratio of a measured current to what it should be: what is beyond is no measurement."""
DIGITS = 6
"""Significant digits of a ratio: no measurement has more, and files stay small."""
MOST_NAMES = 64
"""Parameters that ratios may be given for; the chip has fewer."""
DEEPEST, MOST_TEXT = 16, 1 << 20
"""Levels, and characters as JSON, of what is said about a measurement."""


def checked_ratios(where: str, given: Any, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Name of a parameter -> read-only copy of its ratios, rounded, in the order of names (ConfigurationError)."""
    if not isinstance(given, Mapping) or len(given) > MOST_NAMES:
        got = f"of {len(given)} names" if isinstance(given, Mapping) else f"a {type(given).__name__}"
        raise ConfigurationError(
            f"{where} is {got}, needed is a dictionary of up to {MOST_NAMES} parameters. Name those that were measured."
        )
    if strange := [name for name in given if not (isinstance(name, str) and name.isidentifier())]:
        raise ConfigurationError(
            f"{where} names {_short(strange[0])}, needed are names of parameters. Write them as in i_tau_mem."
        )
    result = {}
    for name in sorted(given):
        value = _numbers(given[name])
        if value is None or value.shape != shape:
            got = "no array of numbers" if value is None else f"of shape {value.shape}"
            raise ConfigurationError(
                f"{where}[{_short(name)}] is {got}, needed are numbers of shape {shape}. Pass current over nominal current."
            )
        value = np.array([float(f"{x:.{DIGITS}g}") for x in value.ravel().tolist()]).reshape(shape)
        if (bad := ~((value >= LEAST) & (value <= MOST))).any():
            place = tuple(np.argwhere(bad)[0].tolist())
            raise ConfigurationError(
                f"{where}[{_short(name)}]{list(place)} is {value[place]:g}, allowed are {LEAST:g} to {MOST:g}. Give 1 "
                "where nothing was measured."
            )
        value.flags.writeable = False
        result[name] = value
    return result


def _numbers(value: Any) -> np.ndarray | None:
    """Integers or floats as an array; None for anything else."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError):  # lists of different lengths
        return None
    return array if array.dtype.kind in "iuf" else None


def range_of(what: str, ratios: Mapping[str, np.ndarray]) -> str:
    """In words: how many parameters have ratios, and between which they are. Empty where none has."""
    if not ratios:
        return ""
    low, high = min(float(x.min()) for x in ratios.values()), max(float(x.max()) for x in ratios.values())
    return f"{what} of {len(ratios)} parameter{'s' if len(ratios) > 1 else ''}, {low:.3g} to {high:.3g}"


def json_ready(where: str, value: Any) -> dict[str, Any]:
    """A copy of a dictionary that a JSON file can hold (ConfigurationError for anything else)."""
    remedy = f"Give a dictionary of text, finite numbers, lists and dictionaries, {DEEPEST} levels at most."
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where} is {_short(value)}, needed is a dictionary. {remedy}")
    try:
        copy = _plain(value, 0)
    except ValueError as error:
        raise ConfigurationError(f"{where} holds {error}, which no JSON file holds. {remedy}") from error
    if (size := len(json.dumps(copy))) > MOST_TEXT:
        raise ConfigurationError(f"{where} has {size} characters as JSON, allowed are {MOST_TEXT}. Leave raw data out.")
    return copy


def _plain(value: Any, depth: int) -> Any:
    if depth <= DEEPEST:
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, (int, np.integer)) and abs(int(value)) < 1 << 63:
            return int(value)
        if isinstance(value, (float, np.floating)) and math.isfinite(value):
            return float(value)
        if isinstance(value, (list, tuple)):
            return [_plain(entry, depth + 1) for entry in value]
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: _plain(entry, depth + 1) for key, entry in value.items()}
    raise ValueError(_short(value))


def _short(value: Any) -> str:
    """A value as it may appear in a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or lists in lists
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
