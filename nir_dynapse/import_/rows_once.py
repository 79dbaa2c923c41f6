"""The rows of a configuration that is read: few are different, and each of those is decoded once."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["MOST_KEPT", "SHAPE_ERRORS", "RowsOnce"]

SHAPE_ERRORS = (AttributeError, KeyError, IndexError, TypeError, ValueError)
"""What reading something of another shape raises."""
MOST_KEPT = 1 << 16
"""Rows that are remembered: objects, texts and contents."""

Place = tuple[int, ...]


class RowsOnce:
    """The rows of all neurons (chips, cores, neurons, rows) by number, 0 the unused one.

    Each is decoded once, by object, by text and by content.

    `key` is what a row holds, for rows that hold the same; None where it may hold what is refused.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        decode: Callable[[Any, Place, Any], tuple[int, ...]],
        key: Callable[[Any, Any], Any],
        unused: tuple[int, ...],
    ) -> None:
        self._shape, self._numbers = shape, array("I", [0]) * math.prod(shape)
        self._decode, self._key = decode, key
        self._decoded = [unused]
        self._seen: dict[Any, int] = {}
        self._kept: list[Any] = []
        self._known: dict[Any, int] = {}

    def decoded(self, dtype: np.dtype) -> np.ndarray:
        """All rows, of `dtype`."""
        return np.array(self._decoded, dtype)[np.frombuffer(self._numbers, np.uintc).reshape(self._shape)]

    def _store(self, place: Place, found: list[int]) -> None:
        """Note the numbers of the rows of a neuron: a third of the time that NumPy needs for so few."""
        (_, cores, neurons, rows), (chip, core, slot) = self._shape, place
        at = ((chip * cores + core) * neurons + slot) * rows
        self._numbers[at : at + rows] = array("I", found)

    def put(self, form: Any, place: Place, rows: list[Any], lasting: bool) -> None:
        """Store the rows of a neuron; `lasting` says that other neurons may hold the same objects."""
        if len(self._kept) > MOST_KEPT or not lasting:
            self._seen, self._kept = {}, []
        found: list[Any] = list(map(self._seen.get, map(id, rows)))
        if None in found:
            for k in [k for k, number in enumerate(found) if number is None]:
                row = rows[k]
                if id(row) not in self._seen:
                    self._seen[id(row)] = self._number(form, place, row)
                    self._kept.append(row)  # no other object takes its place
                found[k] = self._seen[id(row)]
        self._store(place, found)

    def put_texts(self, place: Place, texts: list[str], decode: Callable[[Place, str], tuple[int, ...]]) -> None:
        """Store the rows of a neuron by what `decode` makes of their JSON texts."""
        found: list[Any] = list(map(self._seen.get, texts))
        if None in found:
            if len(self._seen) > MOST_KEPT:
                self._seen = {}
            for k in [k for k, number in enumerate(found) if number is None]:
                self._decoded.append(decode(place, texts[k]))
                found[k] = self._seen[texts[k]] = len(self._decoded) - 1
        self._store(place, found)

    def _number(self, form: Any, place: Place, row: Any) -> int:
        """The number of one row."""
        try:
            key = self._key(form, row)
            number = None if key is None else self._known.get(key)
        except SHAPE_ERRORS:  # not hashable, or not a row: decoding says what is wrong
            key = number = None
        if number is None:
            number = len(self._decoded)
            self._decoded.append(self._decode(form, place, row))
            if len(self._known) > MOST_KEPT:
                self._known = {}
            if key is not None:
                self._known[key] = number
        return number
