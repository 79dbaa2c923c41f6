"""Damage to CSV files: fields, lines, headers, separators, encodings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fuzz_bytes import damage_lines
from fuzz_json import damage_text

__all__ = ["damage_csv"]

FIELDS = ["", "*", "0", "-1", "1", "3", "7", "255", "256", "1023", "1024", "2047", "2048", "0-2047", "0-1023"]
FIELDS += ["1-0", "0-1000000000000"]
FIELDS += ["999999999", "9999999999", "0-", "-", "1 - 2", "0-0", "2000-2047", "1e5", "nan", "inf", "-inf"]
FIELDS += ["1e999", "0x10", "\u0663", "=1+1"]
FIELDS += ["9" * 5000, "1" * 4299, "x" * 200_000, '"', '""', '"a', '"1,2"', "\0", "#", "\t", "\u2603", "-0"]
FIELDS += ["1_000", " 5 ", "9223372036854775807"]
FIELDS += ["-9223372036854775808", "9223372036854775808", "1e-320", "0.1", "None", "chip", "core", "step", "0-3"]
FIELDS += ["0-255", "0-63", "0-8"]
LINES = ["", "#", ",", ",,,", ",,,,", "*,*,*,*", ",,0-31,0-511", ",0-128,,0-1", "0-7,,,0-62,1", "a", "\0"]
LINES += [",,,5", ",5,,", ",,5,", "5,,,", ",,1,7"]
LINES += [",,0-62,0-3", ",,0-62,0-3,0-7", "0,0,0-62,0-1022", ",,,,,,,", "," * 100_000, '"' * 1001]
LINES += ["0,1,2,3,4,5,6,7", "9,1,,,,,,", "1e3,1,,,,,,"]
KINDS = ["field", "field", "field", "line", "gone", "again", "swap", "columns", "separator", "quote", "fields"]
KINDS += ["bomb"]
SEPARATORS = ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\n\n", "\r\n", "\n\r"]
BOMBS = [("\n", 30_000_000), ("\r", 60_000_000), ("ab\r", 20_000_000), (",", 60_000_000)]
BOMBS += [("0,0,0,0\n", 2_000_000), (",,1,7\n", 1_000_000)]
BOMBS += [("1,1,,,,,,\n", 5_000_000), ("#\r", 20_000_000), ('"', 30_000_000), ("5,,,\x0b", 6_000_000)]
BOMBS += [("0,1,1,1\x1c", 4_000_000)]


def damage_csv(content: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> tuple[bytes, str]:
    """One to four changes to fields, lines, text or bytes, gzipped or not."""
    return damage_lines(content, rng, others, _changed, (b",", b"\n", b"-"), 0.12, (1, 1, 2, 3, 4))


def _changed(text: str, rng: np.random.Generator) -> tuple[str, str]:
    return damage_text(text, rng) if rng.random() < 0.06 else _lines(text, rng)


def _lines(text: str, rng: np.random.Generator) -> tuple[str, str]:
    if len(text) > 1 << 20:
        return damage_text(text, rng)
    lines = text.split("\n")
    at = int(rng.integers(len(lines))) if rng.random() < 0.85 else 0
    kind = str(rng.choice(KINDS))
    fields = lines[at].split(",")
    k = int(rng.integers(len(fields)))
    if kind == "bomb":
        if rng.random() < 0.97:
            return _lines(text, rng)
        filler, times = BOMBS[int(rng.integers(len(BOMBS)))]
        lines.insert(at, filler * times)
    elif kind == "field":
        fields[k] = FIELDS[int(rng.integers(len(FIELDS)))]
    elif kind == "fields":
        fields[k : k + 1] = [fields[k]] * int(rng.integers(0, 3))
    elif kind == "columns":
        fields = [fields[i] for i in rng.permutation(len(fields))]
    elif kind == "quote":
        fields[k] = f'"{fields[k]}"'
    elif kind == "line":
        lines.insert(at, LINES[int(rng.integers(len(LINES)))])
    elif kind == "gone":
        del lines[at]
    elif kind == "again":
        lines[at:at] = [lines[at]] * int(rng.choice([1, 1, 1, 20, 1000]))
    elif kind == "swap":
        other = int(rng.integers(len(lines)))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        return SEPARATORS[int(rng.integers(len(SEPARATORS)))].join(lines), kind
    if kind in ("field", "fields", "columns", "quote"):
        lines[at] = ",".join(fields)
    return "\n".join(lines), kind
