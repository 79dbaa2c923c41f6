"""Damage to bytes of any format: flips, cuts, insertions, copies, splices of two files; gzip and its bombs."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

__all__ = ["Damage", "damage_bytes", "damage_lines", "packed", "splice", "unpacked"]

Damage = Callable[[bytes, np.random.Generator, Sequence[bytes]], tuple[bytes, str]]
"""(content, generator, other files) → (damaged content, what was done)."""

WHOLE = [b"", b"\0", b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80\x04N.", b"\x93NUMPY\x01\x00"]
WHOLE += [b"{}"]
WHOLE += [b"[]", b"null", b"0", b'""', b"\xef\xbb\xbf", b"\xff\xfe", b"\n" * 1000, b"\r" * 300_000, b"\0" * 100_000]
WHOLE += [b"," * 100_000, b"[" * 100_000, b'{"a":' * 50_000, b"<html>", b"\x89HDF\r\n\x1a\n", b"9" * 20_000]


def damage_bytes(content: bytes, rng: np.random.Generator, marks: Sequence[bytes] = ()) -> tuple[bytes, str]:
    """Flip, replace, cut, insert, zero or copy; near one of `marks`, or a byte that is not zero, more often."""
    if rng.random() < 0.01 or not content:
        return WHOLE[int(rng.integers(len(WHOLE)))], "whole"
    data = bytearray(content)
    kind = str(rng.choice(["flip", "flip", "replace", "replace", "cut", "insert", "zero", "copy"]))
    for _ in range(1 if kind == "cut" else int(rng.integers(1, 9))):
        at = _place(data, rng, marks)
        some = int(rng.integers(1, 64))
        if kind == "flip":
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == "replace":
            data[at] = int(rng.choice([0, 1, 2, 34, 44, 48, 57, 91, 127, 128, 254, 255, int(rng.integers(256))]))
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = rng.bytes(some)
        elif kind == "zero":
            data[at : at + some] = bytes(len(data[at : at + some]))
        else:
            other = _place(data, rng, marks)
            part = data[other : other + some]
            data[at : at + len(part)] = part
        if not data:
            break
    return bytes(data), kind


def _place(content: bytearray, rng: np.random.Generator, marks: Sequence[bytes]) -> int:
    how = rng.random()
    if how < 0.3 or not any(content):
        return int(rng.integers(len(content)))
    if how < 0.6 or not marks:
        places = rng.integers(len(content), size=16).tolist()  # most of some files is zero
        return next((at for at in places if content[at]), places[0])
    mark = marks[int(rng.integers(len(marks)))]
    start = content.find(mark, int(rng.integers(len(content))))
    start = content.find(mark) if start < 0 else start
    return min(max(start, 0) + int(rng.integers(160)), len(content) - 1)


def splice(content: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> tuple[bytes, str]:
    """The beginning of one file and the end of another."""
    other = others[int(rng.integers(len(others)))]
    end = len(other) - int(rng.integers(len(other) + 1))
    return content[: int(rng.integers(len(content) + 1))] + other[end:], "splice"


# --- gzip -------------------------------------------------------------------------------------------------------------

MOST_UNPACKED = 1 << 24
"""Bytes up to which a gzip file is unpacked to be damaged."""


@cache
def _member(filler: bytes) -> bytes:
    """A gzip member of 16 MiB of a few bytes that repeat."""
    return gzip.compress(filler * ((1 << 24) // len(filler)), 6, mtime=0)


def unpacked(content: bytes) -> bytes | None:
    """What a gzip file holds, None where it is none or a bomb (an input that was kept may be one)."""
    if content[:2] != b"\x1f\x8b":
        return None
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            text = stream.read(MOST_UNPACKED + 1)
            return text if len(text) <= MOST_UNPACKED else None
    except (OSError, EOFError, zlib.error):
        return None


def packed(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A gzip file of `content`: whole, in two members, followed by a bomb, inside one, or with a wrong check sum."""
    how = rng.random()
    made = gzip.compress(content, 1, mtime=0)
    if how < 0.75:
        return made, "gzip"
    if how < 0.82:
        at = int(rng.integers(len(content) + 1))
        return gzip.compress(content[:at], 1, mtime=0) + gzip.compress(content[at:], 1, mtime=0), "gzip in two"
    if how < 0.84:
        filler = (b" ", b"[", b"0,", b"\0", b"\n", b'{"":', b"[],", b'"x",', b"1,1\r")[int(rng.integers(9))]
        times = int(rng.choice([1, 1, 2, 2, 16, 70]))
        bomb = _member(filler) * times
        return (bomb + made if rng.random() < 0.5 else made + bomb), "gzip bomb"
    if how < 0.86:
        return gzip.compress(made, 1, mtime=0), "gzip twice"
    if how < 0.9:
        return made + rng.bytes(20), "gzip and more"
    damaged, kind = damage_bytes(made, rng)
    return damaged, f"gzip {kind}"


def damage_lines(
    content: bytes,
    rng: np.random.Generator,
    others: Sequence[bytes],
    change: Callable[[str, np.random.Generator], tuple[str, str]],
    marks: Sequence[bytes],
    share: float,
    times: Sequence[int],
) -> tuple[bytes, str]:
    """A file of text, gzipped or not: `change`d one of `times` times; for a `share` of them bytes, mostly near `marks`."""
    if rng.random() < 0.03:
        return splice(content, rng, others)
    inside = unpacked(content)
    if rng.random() < share:
        return damage_bytes(content, rng, marks)
    try:
        text = (content if inside is None else inside).decode("utf8")
    except UnicodeDecodeError:
        return damage_bytes(content, rng)
    kinds = []
    for _ in range(int(rng.choice(times))):
        text, kind = change(text, rng)
        kinds.append(kind)
    data = text.encode("utf8", "surrogatepass")
    if rng.random() < 0.02:
        data = text.encode(str(rng.choice(["utf-16", "utf-8-sig", "utf-32"])), "surrogatepass")
        kinds.append("encoding")
    if inside is not None or rng.random() < 0.02:
        data, kind = packed(data, rng)
        kinds.append(kind)
    return data, "+".join(kinds)
