"""iniVation's AEDAT4 files as arrays: sizes are compared with the file's, and what packed parts can become is bounded,
before aedat (extra `events`) unpacks them.

Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html; LZ4 and Zstandard frames:
the LZ4 frame format 1.6 and RFC 8878.
"""

from __future__ import annotations

import struct
from typing import Any
from xml.etree.ElementTree import ParseError, fromstring

import numpy as np

from nir_dynapse.data.prophesee import INSTALL
from nir_dynapse.data.sensor import Sensed
from nir_dynapse.errors import NotInstalledError
from nir_dynapse.files.bounds import UnreadableError

__all__ = ["MAGIC", "read_aedat4"]

MAGIC = b"#!AER-DAT4.0\r\n"
MOST_PACKET = 1 << 26
"""Most bytes of a packet that is unpacked."""
LZ4, ZSTANDARD = b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"
_CHECKED = "so it is damaged, or not whole"


def read_aedat4(path: str, content: bytes, most: int) -> Sensed:
    """The events of the one stream of events in `content`, what `path` holds; UnreadableError for anything else."""
    _check(content)
    try:
        import aedat
    except ImportError as error:
        raise NotInstalledError(f"AEDAT4 files are decoded by aedat, which is not installed. {INSTALL}") from error
    parts: list[np.ndarray] = []
    count = 0
    try:
        decoder: Any = aedat.Decoder(path)
        streams = {n: held for n, held in decoder.id_to_stream().items() if held.get("type") == "events"}
        if len(streams) != 1:
            raise UnreadableError(f"it has {len(streams)} streams of events, one is read; export one")
        for packet in decoder:
            if packet.get("stream_id") in streams and "events" in packet:
                parts.append(packet["events"])
                count += len(parts[-1])
                if count > most:
                    raise UnreadableError(f"it holds more than {most} events; cut the recording")
    except UnreadableError:
        raise
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        raise UnreadableError(
            f"{str(error).splitlines()[0] if str(error) else 'aedat cannot read it'}, {_CHECKED}"
        ) from error
    except BaseException as error:  # what PyO3 raises where Rust panics is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise UnreadableError(f"aedat gave up ({str(error)[:100]}), {_CHECKED}") from error
    (stream,) = streams.values()
    time, x, y, on = (
        np.concatenate([np.zeros(0, kind), *(part[name] for part in parts)])
        for name, kind in (("t", "u8"), ("x", "u2"), ("y", "u2"), ("on", "?"))
    )
    if time.max(initial=0) >= 1 << 62:
        raise UnreadableError(f"an event has the time {time.max()} µs, {_CHECKED}")
    return Sensed(time.astype(np.int64), x, y, on, (int(stream["width"]), int(stream["height"])), clock=True)


def _check(content: bytes) -> None:
    """UnreadableError where sizes in the file do not fit it, or a packet could become more than MOST_PACKET bytes."""
    at = len(MAGIC)
    length = _number(content, at)
    if length > len(content) - at - 4:
        raise UnreadableError(f"its header is {length} bytes long, the file has {len(content)}, {_CHECKED}")
    end, at = _end(content[at + 4 : at + 4 + length], len(content)), at + 4 + length
    if end < at:
        raise UnreadableError(f"its table stands at byte {end}, before its data, {_CHECKED}")
    while at < end:
        length = _number(content, at + 4)
        if at + 8 + length > end:
            raise UnreadableError(f"the packet at byte {at} is {length} bytes long, {end - at - 8} follow, {_CHECKED}")
        _check_packed(content, at + 8, at + 8 + length)
        at += 8 + length
    _check_packed(content, end, len(content))


def _number(content: bytes, at: int) -> int:
    if at + 4 > len(content):
        raise UnreadableError(f"it ends at byte {len(content)}, within a size, {_CHECKED}")
    return int.from_bytes(content[at : at + 4], "little")


def _end(header: bytes, size: int) -> int:
    """Where the packets end, as the header's table (FlatBuffers: compression, place of the table, text in XML) says."""
    try:
        (table,) = struct.unpack_from("<I", header, 0)
        (back,) = struct.unpack_from("<i", header, table)
        fields, _, *places = struct.unpack_from("<5H", header, table - back)
        if table - back < 0 or fields < 10 or not places[2]:
            raise UnreadableError(f"its header lacks the description of its streams, {_CHECKED}")
        compression = struct.unpack_from("<i", header, table + places[0])[0] if places[0] else 0
        end = struct.unpack_from("<q", header, table + places[1])[0] if places[1] else -1
        (offset,) = struct.unpack_from("<I", header, table + places[2])
        (length,) = struct.unpack_from("<I", header, table + places[2] + offset)
        text = header[table + places[2] + offset + 4 :][:length]
        if len(text) < length or not 0 <= compression <= 4 or b"<!" in text:
            raise UnreadableError(f"its header is none of AEDAT4, {_CHECKED}")
        fromstring(text.decode("utf-8"))
    except (struct.error, UnicodeDecodeError, ParseError) as error:
        raise UnreadableError(f"its header is none of AEDAT4 ({error}), {_CHECKED}") from error
    if end > size:
        raise UnreadableError(f"its table stands at byte {end}, the file has {size}, {_CHECKED}")
    return size if end < 0 else end


def _check_packed(content: bytes, at: int, end: int) -> None:
    """UnreadableError where what stands from `at` to `end` could become more than MOST_PACKET bytes."""
    start = content[at : min(at + 4, end)]
    unpacked = (
        _lz4(content, at, end) if start == LZ4 else _zstandard(content, at, end) if start == ZSTANDARD else end - at
    )
    if unpacked > MOST_PACKET:
        raise UnreadableError(
            f"the packet at byte {at} may become {unpacked} bytes, at most {MOST_PACKET} are unpacked"
        )


def _lz4(content: bytes, at: int, end: int) -> int:
    """Most bytes that an LZ4 frame becomes: its blocks times the largest block that it allows."""
    if at + 7 > end:
        return 0
    flags, block = content[at + 4], content[at + 5] >> 4 & 7
    largest = 1 << (8 + 2 * block) if 4 <= block <= 7 else MOST_PACKET
    place = at + 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)
    total = 0
    while place + 4 <= end and (size := int.from_bytes(content[place : place + 4], "little") & 0x7FFFFFFF):
        total += min(largest, 255 * size)  # LZ4 packs 255 bytes into one at best
        place += 4 + size + 4 * (flags >> 4 & 1)
    return total


def _zstandard(content: bytes, at: int, end: int) -> int:
    """Most bytes that a Zstandard frame becomes: at most 128 KiB for each block."""
    if at + 6 > end:
        return 0
    descriptor = content[at + 4]
    single = descriptor >> 5 & 1
    place = at + 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    place += (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    total = 0
    while place + 3 <= end:
        block = int.from_bytes(content[place : place + 3], "little")
        kind, size = block >> 1 & 3, block >> 3
        total += size if kind != 2 else 1 << 17
        place += 3 + (1 if kind == 1 else size)
        if block & 1:
            break
    return total
