"""Parts of a Layout as they stand in a file, checked before anything is made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError

__all__ = ["MOST_NEURONS", "checked_errors", "integer_rows", "name_of", "seconds_of", "shape_of"]

MOST_NEURONS = 1 << 20
"""Of a shape, and of all input channels: a stack of eight chips has 8192 neurons and 65 536 addresses."""
MOST_NAME = 1000
"""Characters of a name, which stands in messages, reports and pictures."""


def name_of(value: Any) -> str:
    """A name as a file holds it."""
    if not isinstance(value, str) or len(value) > MOST_NAME:
        raise ValueError(f"name {str(value)[:40]!r}, allowed is text of at most {MOST_NAME} characters")
    return value


def shape_of(sizes: Any) -> tuple[int, ...]:
    """A shape of at most MOST_NEURONS entries, all of them whole numbers from 0."""
    shape = tuple(sizes)
    if len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) > MOST_NEURONS:
        raise ValueError(f"shape {str(sizes)[:60]}, allowed are whole numbers of at most {MOST_NEURONS} entries")
    return shape


def seconds_of(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {str(value)[:40]}, needed is a finite number of seconds above 0")
    return float(value)


def checked_errors(data: Any, n_neurons: int) -> dict[str, Any]:
    """What `quant.rounding.weight_errors` made, or nothing; anything else is refused."""
    if data == {}:
        return {}
    counts = [
        n for core in data["cores"].values() for n in (core["weights"], core["rows"], core["lost"], *core["bins"])
    ]
    counts += [n for _, _, *pair, _ in data["projections"] for n in pair]
    errors = [core["nrmse"] for core in data["cores"].values()] + [row[-1] for row in data["projections"]]
    sound = (
        len(data["neurons"]) == n_neurons
        and len(data["borders"]) > 1
        and all(isinstance(n, int) and n >= 0 for n in counts)
        and all(isinstance(e, (int, float)) and 0 <= e < np.inf for e in (*errors, *data["neurons"]))
        and all(isinstance(border, (int, float)) and abs(border) < np.inf for border in data["borders"])
        and all(len(core["bins"]) == len(data["borders"]) - 1 for core in data["cores"].values())
        and all(isinstance(name, str) for *names, _, _, _ in data["projections"] for name in names)
        and all(len(row) == 5 for row in data["projections"])
    )
    if not sound:
        raise ConfigurationError("Layout: 'weight_errors' does not fit its neurons. Compile the network again.")
    return dict(data)


def integer_rows(
    name: str, rows: Any, width: int, high: tuple[int, ...], low: tuple[int, ...] | None = None
) -> np.ndarray:
    """A list of rows of integers as (n, width), each column within low ≤ v < high."""
    values = np.array(rows, dtype=np.int64).reshape(-1, width) if len(rows) else np.zeros((0, width), np.int64)
    if any(len(row) != width for row in rows):
        raise ConfigurationError(f"Layout: a row of {name!r} does not have {width} numbers. Compile the network again.")
    lowest = np.zeros(width, np.int64) if low is None else np.array(low)
    bad = (values < lowest) | (values >= np.array(high))
    if bad.any():
        r, c = (int(v) for v in np.argwhere(bad)[0])
        raise ConfigurationError(
            f"Layout: row {r} of {name!r} has {values[r, c]} in column {c}, allowed are {lowest[c]} to {high[c] - 1}. "
            "Compile the network again."
        )
    return values
