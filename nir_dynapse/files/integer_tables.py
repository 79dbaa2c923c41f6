"""JSON texts most of which are tables of integers: those are written and read by NumPy, the rest by `json`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Container
from typing import Any

import numpy as np

from nir_dynapse.files.bounds import MOST_LISTS, MOST_VALUES, UnreadableError, parse_json

__all__ = ["json_text", "parse_tables"]

START, LEAST = '":[[', 1 << 14
"""How a table begins that is a member of an object, and characters of one that is worth it."""
DIGITS = 9
"""Most digits of a number of a table, so that it fits into 32 bits."""
MOST_WRITTEN = 1 << 16
"""Most different values between the least and the largest of a table that is written by a look-up."""


def json_text(data: Any) -> bytes:
    """`data` as JSON text without blanks, keys sorted; arrays (rows, columns) of integers in it become lists of lists.

    Byte for byte what `json.dumps` makes of the lists.
    """
    mark, tables = secrets.token_hex(16), []  # in no text of anybody

    def table(array: Any) -> str:
        if not (isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind in "iu"):
            raise TypeError(f"{type(array).__name__} is no part of a JSON text")
        tables.append(_text(array))
        return mark

    rest = json.dumps(data, default=table, separators=(",", ":"), sort_keys=True).encode().split(f'"{mark}"'.encode())
    parts: list[bytes] = [b""] * (2 * len(rest) - 1)
    parts[::2], parts[1::2] = rest, tables
    return b"".join(parts)


def _text(array: np.ndarray) -> bytes:
    """A table as JSON text."""
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if array.size * 10 < high - low or high - low > MOST_WRITTEN or 0 in array.shape:
        return json.dumps(array.tolist(), separators=(",", ":")).encode()
    inner, last = (np.array([f"{value}{behind}" for value in range(low, high + 1)], "S") for behind in (",", "],["))
    fields = np.zeros(array.shape, last.dtype)
    fields[:, :-1], fields[:, -1] = inner[array[:, :-1] - low], last[array[:, -1] - low]
    return b"[[" + fields.tobytes().translate(None, b"\0")[:-2] + b"]"


def parse_tables(text: str, names: Container[str]) -> Any:
    """What a JSON text holds, as `parse_json`; large tables of integers among its members `names` are arrays (n, columns)
    where they are written as `json_text` does. UnreadableError as there.
    """
    mark, tables, pieces, at = secrets.token_hex(16), [], [], 0
    begin = text.find(START) if text.count("[") <= MOST_LISTS and text.count(",") <= MOST_VALUES - MOST_LISTS else -1
    while begin >= 0:
        begin += len(START) - 2
        end = text.find("]]", begin) + 2
        if end - begin > LEAST and (table := _table(text[begin:end])) is not None:
            pieces += [text[at:begin], f'"{mark}{len(tables)}"']
            tables.append(table)
            at = end
        begin = text.find(START, begin)
    if not tables:
        return parse_json(text)
    try:
        data = parse_json("".join([*pieces, text[at:]]))
    except UnreadableError:  # or a table within a string
        return parse_json(text)
    known = {f"{mark}{k}": table for k, table in enumerate(tables)}
    members = data.items() if isinstance(data, dict) else ()
    found = {key: known[value] for key, value in members if isinstance(value, str) and value in known}
    # Further down, under a key that stands twice, or under another name.
    if len(found) < len(known) or any(key not in names for key in found):
        return parse_json(text)
    return {**data, **found}


def _table(text: str) -> np.ndarray | None:
    """The table that a JSON text of integers without blanks holds; None where it is anything else."""
    content = text.encode("utf-8", "replace")
    width = content[: content.find(b"]")].count(b",") + 1
    flat = content[2:-2].replace(b"],[", b";") + b";"
    if flat.translate(None, b"0123456789-,;"):
        return None
    chars = np.frombuffer(flat, np.uint8)
    ends = np.flatnonzero((chars == ord(",")) | (chars == ord(";")))
    if len(ends) % width:
        return None
    marks = chars[ends].reshape(-1, width)
    if (marks[:, :-1] == ord(";")).any() or (marks[:, -1] == ord(",")).any():
        return None  # rows of different lengths
    starts = np.concatenate([[0], ends[:-1] + 1])
    negative = chars[starts] == ord("-")
    digits = ends - starts - negative
    if digits.min() < 1 or digits.max() > DIGITS or np.count_nonzero(chars == ord("-")) > np.count_nonzero(negative):
        return None
    if ((chars[starts + negative] == ord("0")) & (digits > 1)).any():
        return None
    values = np.zeros(len(ends), np.int64)
    for k in range(int(digits.max())):
        longer = slice(None) if k == 0 else np.flatnonzero(digits > k)
        values[longer] += (chars[ends[longer] - 1 - k].astype(np.int64) - ord("0")) * 10**k
    values[negative] *= -1
    return values.reshape(-1, width)
