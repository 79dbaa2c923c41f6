"""Damage to JSON: values, keys, types, numbers that no format holds, deep and long lists, keys that stand twice."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fuzz_bytes import damage_lines

__all__ = ["damage_json", "damage_text"]

SMALL = 700_000
"""Bytes up to which a text is parsed as a whole to damage its structure."""
ODD: list[str] = ["null", "true", "false", "-1", "0", "1", "2", "3", "4", "7", "8", "16", "63", "64", "255"]
ODD += ["256", "1023"]
ODD += ["1024", "2047", "2048", "4294967296", "2147483648", "9223372036854775807", "9223372036854775808", "1e5"]
ODD += ["1e308"]
ODD += ["-9223372036854775809", "1e999", "-1e999", "-0.0", "0.5", "1e-320", "NaN", "Infinity", "-Infinity"]
ODD += ["18446744073709551616"]
ODD += ["9" * 400, "9" * 4299, "9" * 5000, "-" + "9" * 5000, '""', '"x"', '"0"', '"-1"', '"a/b"', r'"\ud800"']
ODD += [r'"\u0000"']
ODD += ['"\u2603"', '"\U0001f600"', f'"{"x" * 70000}"', "[]", "{}", "[[]]", "[0]", "[0,0]", "[null]", '{"a":1}']
ODD += ["[[0,0,0,0]]"]
ODD += ["[" * 20 + "]" * 20, "[" * 900 + "]" * 900, "[" * 100_000 + "]" * 100_000, "[" * 3000]
ODD += ['{"a":' * 500 + "1" + "}" * 500]
ODD += ["[" + "0," * 5000 + "0]", "[" + "[0],[0]," * 2000 + "0]", '{"":0,"":1}', "0x10", "01", "+1", "1.", ".5"]
ODD += ["'x'", "/**/1"]
BOMBS = [("[", "[],", 10_000_000, "0]"), ("[", "1.5,", 4_000_000, "0]"), ("[", "{},", 2_000_000, "0]")]
BOMBS += [("", " ", 20_000_000, "0")]
BOMBS += [("[", "0,", 10_000_000, "0]"), ('"', "\U0001f600", 8_000_000, '"'), ("[", '{"":0},', 5_000_000, "0]")]
"""Beginning, what repeats, how often, end."""
NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*")
VALUE = re.compile(r"[:,\[]\s*")


def damage_json(content: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> tuple[bytes, str]:
    """One to three changes to the structure, the text or the bytes of a JSON file, gzipped or not."""
    return damage_lines(content, rng, others, _changed, (b'"', b"[", b"{", b","), 0.15, (1, 1, 1, 2, 3))


def _changed(text: str, rng: np.random.Generator) -> tuple[str, str]:
    how = rng.random()
    if how < 0.1:
        return damage_text(text, rng)
    return _structure(text, rng) if how < 0.7 and len(text) < SMALL else _local(text, rng)


def odd(rng: np.random.Generator) -> str:
    """The text of a value that hardly belongs anywhere; rarely one of millions of characters."""
    if rng.random() < 0.004:
        start, filler, times, end = BOMBS[int(rng.integers(len(BOMBS)))]
        return start + filler * times + end
    return ODD[int(rng.integers(len(ODD)))]


def damage_text(text: str, rng: np.random.Generator) -> tuple[str, str]:
    """Changes that a parser of text meets, in any format of lines or brackets."""
    at = int(rng.integers(len(text) + 1))
    choices = {
        "cut": lambda: text[:at],
        "head gone": lambda: text[at:],
        "blank": lambda: text[:at] + " \n\t" * 1000 + text[at:],
        "NUL": lambda: text[:at] + "\0" + text[at:],
        "trailing": lambda: text + "{}",
        "twice": lambda: text + text,
        "token": lambda: text[:at] + odd(rng) + text[at:],
        "separators": lambda: text.replace(",", "\u2028,", 3),
        "byte order": lambda: "\ufeff" + text,
    }
    kind = str(rng.choice(list(choices)))
    return choices[kind](), kind


def _local(text: str, rng: np.random.Generator) -> tuple[str, str]:
    """Replace, remove, repeat or nudge one value that is found in the text, without parsing the whole."""
    names, at = keys_of(text), int(rng.integers(len(text) + 1))
    if names and rng.random() < 0.6:
        name = f'"{names[int(rng.integers(len(names)))]}":'
        found = max(text.find(name, at), text.find(name) if text.find(name, at) < 0 else 0)
        start, key = found + len(name), name
    else:
        match = VALUE.search(text, at) or VALUE.search(text)
        start, key = (match.end() if match else 0), ""
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        end = start + 1
    value = text[start:end]
    if NUMBER.fullmatch(value) and rng.random() < 0.5:
        value = value.split(".")[0].split("e")[0][:18]
        step = int(rng.choice([-2048, -256, -4, -1, 1, 1, 2, 4, 64, 256, 1024, 2048]))
        return text[:start] + str(int(value) + step if value not in ("", "-") else step) + text[end:], "nudge"
    how = int(rng.integers(5))
    if how == 0:
        return text[:start] + value + "," + key + value + text[end:], "repeat"
    if how == 1:
        return text[:start].rstrip('":,abcdefghijklmnopqrstuvwxyz_0123456789') + text[end:].lstrip(","), "remove"
    return text[:start] + odd(rng) + text[end:], "value"


@lru_cache(4)
def keys_of(text: str) -> list[str]:
    """Names of members in the text, without numbered ones."""
    return sorted(set(re.findall(r'"([A-Za-z_]{1,40}[0-9]?)":', text[:3_000_000])))


def _structure(text: str, rng: np.random.Generator) -> tuple[str, str]:
    """Parse, change one place, write again (odd values by a mark that is replaced in the text)."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return _local(text, rng)
    root: Any = [data]
    place, index = root, 0
    while isinstance(place[index], (list, dict)) and place[index] and rng.random() < 0.8:
        place = place[index]
        keys = list(place) if isinstance(place, dict) else range(len(place))
        index = keys[int(rng.integers(len(keys)))]
    kind = str(rng.choice(["mark", "mark", "gone", "again", "swap", "wrap", "type", "graft", "name", "more"]))
    value = place[index]
    mark = "@odd@"
    if kind == "gone":
        del place[index]
    elif kind == "again" and isinstance(place, list):
        place.insert(index, value)
    elif kind == "swap":
        keys = list(place) if isinstance(place, dict) else range(len(place))
        other = keys[int(rng.integers(len(keys)))]
        place[index], place[other] = place[other], value
    elif kind == "wrap":
        place[index] = [value] if rng.random() < 0.5 else {"a": value}
    elif kind == "type":
        place[index] = _retyped(value, rng)
    elif kind == "graft":
        place[index] = _anywhere(data, rng)
    elif kind == "name" and isinstance(place, dict):
        name = str(rng.choice(["", "-1", "99", "x", str(index) + "_", "1e3", "\u0663", "\ud800", "9" * 5000]))
        place[name] = place.pop(index)
    elif kind == "more" and isinstance(value, list):
        value.append(_anywhere(data, rng) if rng.random() < 0.5 else mark)
    elif kind == "more" and isinstance(value, dict):
        value[str(rng.choice(["x", "n_chips", "nodes", "-1", "5"]))] = mark
    else:
        place[index] = mark
    try:
        changed = json.dumps(root[0], separators=(",", ":")) if root else ""
    except (ValueError, RecursionError):
        return _local(text, rng)
    return changed.replace(f'"{mark}"', odd(rng)), kind


def _retyped(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, bool) or value is None:
        return int(bool(value))
    if isinstance(value, (int, float)):
        number = float(value) if abs(value) < 1e300 else 0.5
        choices = [str(value)[:20], number, -value, value + 1, value * 2, bool(value), [value]]
        return choices[int(rng.integers(len(choices)))]
    if isinstance(value, str):
        return [len(value), list(value[:50]), value[:-1], value * 2, value.upper(), None][int(rng.integers(6))]
    if isinstance(value, list):
        lists = [value[::-1], value[:-1], value * 2, len(value)]
        return [dict.fromkeys(map(str, range(len(value))), 0), *lists][int(rng.integers(5))]
    pairs = list(value.items())
    return [list(value.values()), list(value), pairs, dict(pairs[:-1])][int(rng.integers(4))]


def _anywhere(data: Any, rng: np.random.Generator) -> Any:
    """A copy of some part of the document."""
    while isinstance(data, (list, dict)) and data and rng.random() < 0.8:
        members = list(data.values()) if isinstance(data, dict) else data
        data = members[int(rng.integers(len(members)))]
    return json.loads(json.dumps(data))
