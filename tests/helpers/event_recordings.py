"""Files of event cameras with known content, written from the formats' public descriptions (see data/prophesee.py)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["EVENT", "FORMATS", "aedat4", "dat", "evt2", "evt3", "random_events", "rows", "write_shd"]

EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
"""An event as tonic gives it: µs, column, row, polarity."""
SIZE = (640, 480)


def random_events(n: int, span: int, start: int = 0, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """`n` events in order of time within `span` µs from `start` on."""
    rng = np.random.default_rng(seed)
    events = np.zeros(n, EVENT)
    events["t"] = np.sort(rng.integers(0, span, n)) + start
    events["x"], events["y"] = rng.integers(0, size[0], n), rng.integers(0, size[1], n)
    events["p"] = rng.integers(0, 2, n)
    return events


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Events of `n` rows, each with up to 40 pixels of one polarity at one time, from left to right."""
    rng = np.random.default_rng(seed)
    found: list[tuple[int, int, int, int]] = []
    for k in range(n):
        columns = np.sort(rng.choice(SIZE[0], rng.integers(1, 40), replace=False))
        y, p = int(rng.integers(0, SIZE[1])), int(rng.integers(0, 2))
        found += [(100 + 7 * k, int(x), y, p) for x in columns]
    return np.array(found, EVENT)


def _header(name: str, size: tuple[int, int]) -> bytes:
    version = {"EVT2": "2.0", "EVT3": "3.0"}[name]
    return (
        f"% date 2026-01-01 00:00:00\n% evt {version}\n% format {name};height={size[1]};width={size[0]}\n"
        f"% geometry {size[0]}x{size[1]}\n% end\n"
    ).encode()


def dat(events: np.ndarray, *, kind: int = 0x0C, size: tuple[int, int] = SIZE) -> bytes:
    """DAT of version 2; `kind` 0 as in older files."""
    head = f"% Data file containing CD events.\n% Version 2\n% Height {size[1]}\n% Width {size[0]}\n".encode()
    words = np.zeros((len(events), 2), "<u4")
    words[:, 0] = events["t"] & 0xFFFFFFFF
    words[:, 1] = events["x"].astype("u4") | events["y"].astype("u4") << 14 | events["p"].astype("u4") << 28
    return head + bytes([kind, 8]) + words.tobytes()


def evt2(events: np.ndarray, *, size: tuple[int, int] = SIZE) -> bytes:
    """EVT2, with a trigger and words of other kinds behind the first time."""
    words, last = [], None
    for t, x, y, p in events.tolist():
        if (high := t >> 6 & 0xFFFFFFF) != last:
            words.append(8 << 28 | high)
            words += [10 << 28 | 1, 14 << 28 | 5, 15 << 28 | 7] if last is None else []
            last = high
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return _header("EVT2", size) + np.array(words, "<u4").tobytes()


def evt3(events: np.ndarray, *, size: tuple[int, int] = SIZE) -> bytes:
    """EVT3, pixels of one row and time as vectors, with a trigger and words of other kinds behind the first time."""
    words: list[int] = []
    high = low = row = None
    held = events.tolist()
    i = 0
    while i < len(held):
        t, x, y, p = held[i]
        if high is None:
            words += [0x8000 | t >> 12 & 0xFFF, 0xA101, 0xE005, 0x7003, 0xF007]
        elif t >> 12 != high:  # a camera writes every one of them
            words += [0x8000 | k & 0xFFF for k in range(high + 1, (t >> 12) + 1)]
            low = None
        high = t >> 12
        if t & 0xFFF != low:
            words.append(0x6000 | (low := t & 0xFFF))
        if y != row:
            words.append(row := y)
        last = i
        while (
            last + 1 < len(held)
            and held[last + 1][0] == t
            and held[last + 1][2:] == (y, p)
            and held[last + 1][1] > held[last][1]
        ):
            last += 1
        if last == i:
            words.append(0x2000 | p << 11 | x)
        else:
            offsets = [held[k][1] - x for k in range(i, last + 1)]
            words.append(0x3000 | p << 11 | x)
            base = 0
            while base <= offsets[-1]:
                width = 8 if offsets[-1] < base + 8 else 12
                mask = sum(1 << k - base for k in offsets if base <= k < base + width)
                words.append((0x5000 if width == 8 else 0x4000) | mask)
                base += width
        i = last + 1
    return _header("EVT3", size) + np.array(words, "<u2").tobytes()


def aedat4(events: np.ndarray, *, size: tuple[int, int] = SIZE, packet: int = 1000, streams: int = 1) -> bytes:
    """AEDAT4 without compression and without a table at the end, as of a camera that was switched off."""
    nodes = "".join(
        f'<node name="{i}" path="/outInfo/{i}/"><attr key="compression" type="string">NONE</attr>'
        '<attr key="typeIdentifier" type="string">EVTS</attr>'
        f'<node name="info" path="/outInfo/{i}/info/"><attr key="sizeX" type="int">{size[0]}</attr>'
        f'<attr key="sizeY" type="int">{size[1]}</attr><attr key="source" type="string">cam</attr></node></node>'
        for i in range(streams)
    )
    text = f'<dv version="2.0"><node name="outInfo" path="/outInfo/">{nodes}</node></dv>'.encode()
    # FlatBuffers: where the table is, an identifier, its fields' places, the table itself, what it points to.
    head = struct.pack("<I4s", 24, b"IOHE") + struct.pack("<5H6x", 10, 24, 4, 8, 16)
    head += struct.pack("<iiqI4x", 16, 0, -1, 8) + struct.pack("<I", len(text)) + text + b"\0"
    content = b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(head)) + head
    for begin in range(0, len(events), packet):
        part = events[begin : begin + packet]
        structs = np.zeros(len(part), np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("pad", "V3")]))
        structs["t"], structs["x"], structs["y"], structs["on"] = part["t"], part["x"], part["y"], part["p"]
        body = struct.pack("<I4s", 16, b"EVTS") + struct.pack("<3H2x", 6, 8, 4)
        body += struct.pack("<iI", 8, 4) + struct.pack("<I", len(part)) + structs.tobytes()
        body = struct.pack("<I", len(body)) + body
        content += struct.pack("<II", 0, len(body)) + body
    return content


FORMATS: dict[str, Any] = {"dat": dat, "evt2": evt2, "evt3": evt3, "aedat4": aedat4}


def write_shd(
    path: Path, samples: list[tuple[np.ndarray, np.ndarray]], labels: list[int] | None, **options: Any
) -> None:
    """HDF5 as the Spiking Heidelberg Digits: (times in s, units) and a label for each sample; `options` of the datasets."""
    import h5py

    with h5py.File(path, "w") as file:
        spikes = file.create_group("spikes")
        for name, kind, k in (("times", np.float32, 0), ("units", np.uint16, 1)):
            held = spikes.create_dataset(name, (len(samples),), h5py.vlen_dtype(kind), **options)
            for i, sample in enumerate(samples):
                held[i] = sample[k].astype(kind)
        if labels is not None:
            file["labels"] = np.array(labels, np.uint16)
