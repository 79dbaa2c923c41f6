"""Prophesee's files of events, DAT, EVT2 and EVT3, as arrays: bounded by the file's size before anything is unpacked.

DAT and EVT2 are words of a fixed size, read here: the libraries for them lose or move events of some files
(docs/event_files.md says which). EVT3 is decoded by evt3 (extra `events`), imported where it is needed.
Formats: https://docs.prophesee.ai/stable/data/encoding_formats, and file_formats/dat.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from nir_dynapse.data.sensor import Sensed
from nir_dynapse.errors import NotInstalledError
from nir_dynapse.files.bounds import UnreadableError

__all__ = ["INSTALL", "read_prophesee"]

INSTALL = 'Install it with: pip install "nir-dynapse[events]"'
MOST_HEADER = 1 << 16
"""Bytes of a header at most."""
PIECE = 1 << 20
"""Bytes of EVT3 that are decoded at once: up to 6 events per byte."""
_TD, _CD = 0x00, 0x0C
"""Types of events in DAT files that are changes of contrast: in older files, and in newer ones."""


def read_prophesee(content: bytes, most: int) -> Sensed:
    """The events of a file that begins with lines of %; UnreadableError for anything else, or more than `most` events."""
    head, at = _header(content)
    if (version := _encoding(head)) is None:
        return _dat(content, head, at, most)
    readers = {"2": _evt2, "3": _evt3}
    if version not in readers:
        raise UnreadableError(f"it is encoded as EVT{version}; DAT, EVT2 and EVT3 are read, so convert it")
    return readers[version](content, at, _size(head), most)


def _header(content: bytes) -> tuple[str, int]:
    """The lines that begin with %, as text, and where the data begins."""
    at = 0
    while content[at : at + 1] == b"%":
        end = content.find(b"\n", at, at + MOST_HEADER)
        if end < 0 or end > MOST_HEADER:
            raise UnreadableError("its header of lines that begin with % does not end")
        line, at = content[at:end], end + 1
        if line.strip().lower() == b"% end":
            break
    return content[:at].decode("latin-1"), at


def _encoding(head: str) -> str | None:
    """ "2", "2.1" or "3" of an EVT file, None for DAT."""
    found = re.search(r"(?im)^%\s*(?:format\s+EVT|evt\s+)(\d+)(?:\.(\d+))?", head)
    if found is None:
        return None
    whole, part = found.group(1), (found.group(2) or "").strip("0")
    return f"{int(whole)}.{part}" if part else str(int(whole)) if whole != "21" else "2.1"


def _size(head: str) -> tuple[int, int] | None:
    """(width, height) as the header states it."""
    sides = [re.search(rf"(?i)\b{side}[= ]\s*(\d{{1,5}})\b", head) for side in ("width", "height")]
    if sides[0] and sides[1]:
        return int(sides[0].group(1)), int(sides[1].group(1))
    found = re.search(r"(?im)^%\s*geometry\s+(\d{1,5})x(\d{1,5})\b", head)
    return (int(found.group(1)), int(found.group(2))) if found else None


def _words(content: bytes, at: int, kind: str, most: int) -> np.ndarray:
    """The rest of a file as whole words of type `kind`."""
    size = np.dtype(kind).itemsize
    if (len(content) - at) % size:
        raise UnreadableError(f"it ends within a word of {size} bytes, so it is not whole")
    if (len(content) - at) // size > most:
        raise UnreadableError(
            f"it holds {(len(content) - at) // size} words, at most {most} are read; cut the recording"
        )
    return np.frombuffer(content, kind, offset=at)


def _unwrapped(values: np.ndarray, turn: int) -> np.ndarray:
    """Times that count modulo `turn` as ones that go on: a step back by more than half of it is a turn."""
    values = values.astype(np.int64)
    steps = np.diff(values)
    turns = np.cumsum((steps < -(turn // 2)).astype(np.int64) - (steps > turn // 2))
    values[1:] += turn * turns
    return values


def _within(x: np.ndarray, y: np.ndarray, size: tuple[int, int] | None) -> None:
    if size is not None and (wrong := (x >= size[0]) | (y >= size[1])).any():
        i = int(np.flatnonzero(wrong)[0])
        raise UnreadableError(
            f"{int(wrong.sum())} events lie outside of the sensor of {size[0]} x {size[1]} pixels that its header states, "
            f"one at ({x[i]}, {y[i]})"
        )


def _dat(content: bytes, head: str, at: int, most: int) -> Sensed:
    """DAT, version 2: 32 bits of time, then 14 of x, 14 of y and 4 of polarity."""
    version = re.search(r"(?im)^%\s*version\s+(\d+)", head)
    if version is not None and int(version.group(1)) != 2:
        raise UnreadableError(f"it is DAT of version {version.group(1)}, version 2 is read, so convert it")
    kind = content[at : at + 2]
    if len(kind) < 2 or kind[1] != 8 or kind[0] not in (_TD, _CD):
        raise UnreadableError(
            f"behind its header stand the bytes {kind.hex(' ') or 'none'}; DAT has 0c 08 or 00 08 (changes of contrast, 8 "
            "bytes each), EVT2 and EVT3 say so in their header"
        )
    words = _words(content, at + 2, "<u4", 2 * most)
    if len(words) % 2:
        raise UnreadableError("it ends within an event, so it is not whole")
    time, address = words[::2], words[1::2]
    x, y = (address & 0x3FFF).astype(np.uint16), (address >> 14 & 0x3FFF).astype(np.uint16)
    size = _size(head)
    _within(x, y, size)
    return Sensed(_unwrapped(time, 1 << 32), x, y, address >> 28 > 0, size, clock=True)


def _evt2(content: bytes, at: int, size: tuple[int, int] | None, most: int) -> Sensed:
    """EVT2: words of 32 bits, the upper 28 bits of the time in words of their own."""
    words = _words(content, at, "<u4", 4 * most)
    kind = (words >> 28).astype(np.uint8)
    high = np.flatnonzero(kind == 8)
    place = np.flatnonzero(kind <= 1)
    turn = np.searchsorted(high, place) - 1  # the last upper part before each event
    untimed = int((turn < 0).sum())
    place, turn = place[untimed:], turn[untimed:]
    if len(place) > most:
        raise UnreadableError(f"it holds {len(place)} events, at most {most} are read; cut the recording")
    event = words[place]
    upper = _unwrapped(words[high] & 0xFFFFFFF, 1 << 28)
    time = (upper[turn] << 6) + (event >> 22 & 0x3F)
    x, y = (event >> 11 & 0x7FF).astype(np.uint16), (event & 0x7FF).astype(np.uint16)
    _within(x, y, size)
    return Sensed(time, x, y, kind[place] == 1, size, clock=True, untimed=untimed)


def _evt3(content: bytes, at: int, size: tuple[int, int] | None, most: int) -> Sensed:
    """EVT3: words of 16 bits, decoded by evt3; its times count modulo 2^24 µs from the first one on."""
    try:
        import evt3
    except ImportError as error:
        raise NotInstalledError(f"EVT3 files are decoded by evt3, which is not installed. {INSTALL}") from error
    kind = _words(content, at, "<u2", 8 * most)[: PIECE // 2] >> 12
    first = np.flatnonzero(kind == 8)
    before = np.frombuffer(content, "<u2", int(first[0]) if len(first) else len(kind), at)
    untimed = int((before >> 12 == 2).sum()) + sum(int(word).bit_count() for word in before & _MASKS[before >> 12])
    width, height = size or (2048, 2048)
    decoder: Any = evt3.Decoder(width, height)
    parts, count = [], 0
    for begin in range(at, len(content), PIECE):
        parts.append(decoder.feed(content[begin : begin + PIECE]))
        count += len(parts[-1])
        if count > most:
            raise UnreadableError(f"it holds more than {most} events; cut the recording")
    try:
        decoder.finish()
    except OSError as error:
        raise UnreadableError(str(error)) from error
    x, y, on = (_joined([getattr(p, n) for p in parts], t) for n, t in (("x", "u2"), ("y", "u2"), ("polarity", "u1")))
    time = _joined([part.timestamp for part in parts], "u8").astype(np.int64)
    _within(x, y, size)
    return Sensed(time, x, y, on, size, clock=True, untimed=untimed)


_MASKS = np.zeros(16, np.uint16)
_MASKS[4], _MASKS[5] = 0xFFF, 0xFF
"""Bits of VECT_12 and VECT_8 words that are events."""


def _joined(parts: list[np.ndarray], kind: str) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *parts])
