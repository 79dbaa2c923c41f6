"""Files from outside: how large they are is found out, and bounded, before anything of them is allocated or parsed.

Sizes that a file states of itself are compared with what it holds; nothing in it is run (no pickles). What is wrong is an
`UnreadableError` with a sentence; the readers of each format add the file's name and the remedy.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from nir_dynapse.files.bulk import no_collector

__all__ = [
    "BROKEN",
    "LINE_ENDS",
    "MOST_BYTES",
    "UnreadableError",
    "array_header",
    "array_names",
    "foreign",
    "kind_of",
    "parse_json",
    "read_arrays",
    "read_text",
]

MOST_BYTES = 1 << 31
"""Most bytes of all arrays of a file together."""
FREE_BYTES, MOST_RATIO = 1 << 27, 400
"""A file whose arrays take more than so many bytes must not be more than so many times smaller than they are: sparse spikes
as float64 are some 200 times smaller packed, a bomb 1 000 times."""
MOST_ARRAYS, MOST_EMPTY = 4096, 1 << 24
"""Arrays of a file; bytes that an empty array may state along its other axes."""
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""Characters at which `str.splitlines` begins a line."""
MOST_TEXT = 1 << 26
"""Most bytes of a text."""
MOST_LISTS, MOST_MEMBERS, MOST_VALUES, MOST_DEPTH = 1 << 22, 1 << 20, 1 << 23, 64
"""Most lists and objects, members of objects, values and levels of a JSON text: Python needs up to 60, 160 and 60 bytes."""
_KNOWN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER_BYTES = bytes(set(range(256)) - set(b'"[]{},:'))
BROKEN = (
    *(EOFError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, IndexError),
    *(RuntimeError, SyntaxError, tokenize.TokenError, struct.error, zlib.error, zipfile.BadZipFile),
)
"""What zipfile and NumPy raise for a file that is damaged or something else: RuntimeError where it is encrypted, errors of
the language where the header of an array is no Python."""


class UnreadableError(ValueError):
    """A file holds something else than it should, or more."""


def foreign(start: bytes) -> tuple[str, str]:
    """What a file that begins so is in place of what was meant, and what helps; empty where nothing tells."""
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, a few lines in place of the file", "Fetch the file itself: git lfs pull."
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return (
            "an HTML page, as a download gives that needs a login or another address",
            "Download the file itself, not the page about it (on GitHub: raw).",
        )
    return "", ""


# -- text -------------------------------------------------------------------------------------------------------------


def read_text(path: str | os.PathLike[str], most: int = MOST_TEXT) -> str:
    """The text of a file in UTF-8 of at most `most` bytes; OSError where there is none to read."""
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(most + 1)
    except ValueError as error:  # a path with a NUL character
        raise OSError(None, str(error)) from error
    if len(content) > most:
        raise UnreadableError(f"more than {most >> 20} MiB")
    _not_foreign(content[:64])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte {error.start} is not UTF-8") from error


def kind_of(start: bytes) -> str:
    """What a file that begins so is, in words, whatever was meant."""
    if start.startswith(b"PK\x03\x04"):
        return "a zip archive, as torch.save and numpy write them; it is not opened, for it may hold a pickle"
    if start[:1] == b"\x80" and len(start) > 1 and start[1] <= 5:
        return "a Python pickle, as torch.save wrote them; it is never loaded, for that would run its code"
    if start.startswith(b"\x93NUMPY"):
        return "a NumPy array"
    if start.startswith(b"\x1f\x8b"):
        return "a gzip archive"
    try:
        start.decode("utf8")
        return "a text file"
    except UnicodeDecodeError as error:
        return "a text file" if error.start > len(start) - 4 else "of an unknown binary format (no HDF5 signature)"


def _not_foreign(start: bytes) -> None:
    what, advice = foreign(start)
    if what:
        raise UnreadableError(f"it is {what}. {advice.rstrip('.')}")


def parse_json(text: str) -> Any:
    """What a JSON text holds, once its lists, values and levels were counted."""
    _not_foreign(text[:64].encode("utf-8", "replace"))
    lists, members, values, depth = _counted(text)
    counts = (lists, MOST_LISTS, "lists"), (members, MOST_MEMBERS, "members"), (values, MOST_VALUES, "values")
    for count, most, what in (*counts, (depth, MOST_DEPTH, "levels")):
        if count > most:
            raise UnreadableError(f"more than {most} {what}: {count}")
    try:
        with no_collector():
            data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(str(error)) from error
    return data


def _counted(text: str) -> tuple[int, int, int, int]:
    """(lists and objects, members of objects, values, levels) of a JSON text, what stands in strings left out."""
    content = text.encode("utf-8", "surrogatepass").replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = np.frombuffer(content.translate(None, _OTHER_BYTES), np.uint8)
    quotes = marks == ord('"')
    marks = marks[~quotes & (np.cumsum(quotes, dtype=np.uint8) % 2 == 0)]
    opened = (marks == ord("[")) | (marks == ord("{"))
    closed = (marks == ord("]")) | (marks == ord("}"))
    lists, commas = int(opened.sum()), int((marks == ord(",")).sum())
    if lists > MOST_LISTS:
        return lists, 0, 0, 0
    levels = np.cumsum(opened.astype(np.int8) - closed.astype(np.int8), dtype=np.int32)
    return lists, int((marks == ord(":")).sum()), lists + commas, int(levels.max(initial=0))


# -- arrays -----------------------------------------------------------------------------------------------------------


class _File(io.FileIO):
    """A file of which nobody can ask for more bytes than it has: a buffer for them would be made at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def read_arrays(path: str | os.PathLike[str], wanted: Container[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, those in `wanted` only where it is given; OSError where there is no file to read.

    Nothing is unpacked before all sizes were compared; names stand once; text is text, arrays of objects are refused.
    """
    try:
        with _File(path, "rb") as stream:
            _not_foreign(stream.read(64))
        with _File(path, "rb") as stream, zipfile.ZipFile(stream) as archive:
            members = _members(archive, os.fstat(stream.fileno()).st_size)
            return {
                name: _array(archive, name, item) for name, item in members.items() if wanted is None or name in wanted
            }
    except UnreadableError:
        raise
    except BROKEN as error:
        lines = str(error).splitlines()
        raise UnreadableError(lines[0][:200] if lines else type(error).__name__) from error


def array_names(path: str | os.PathLike[str]) -> set[str]:
    """The names of the arrays in an .npz; none where it is not one (reading it says why)."""
    try:
        with _File(path, "rb") as stream, zipfile.ZipFile(stream) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, *BROKEN):
        return set()


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The arrays of a zip file of `size` bytes by name, their number and sizes checked."""
    items = archive.infolist()
    if len(items) > MOST_ARRAYS:
        raise UnreadableError(f"{len(items)} arrays, at most {MOST_ARRAYS} are read")
    total = sum(item.file_size for item in items)
    if total > MOST_BYTES:
        raise UnreadableError(f"{total} bytes unpacked, at most {MOST_BYTES} are read; split the file")
    if total > max(FREE_BYTES, MOST_RATIO * size):
        raise UnreadableError(
            f"{total} bytes unpacked from {size}; more than {FREE_BYTES} bytes are read only where the file is at most "
            f"{MOST_RATIO} times smaller, as one that is not compressed (numpy.savez)"
        )
    named: dict[str, zipfile.ZipInfo] = {}
    for item in items:
        name = item.filename.removesuffix(".npy")
        if name in named:
            raise UnreadableError(f"the array {name[:80]!r} stands twice")
        named[name] = item
    return named


def _array(archive: zipfile.ZipFile, name: str, item: zipfile.ZipInfo) -> np.ndarray:
    if item.compress_type not in _KNOWN_METHODS:
        raise UnreadableError(f"{name[:80]!r} is packed by method {item.compress_type}, NumPy stores or deflates")
    with archive.open(item) as stream:
        shape, fortran, dtype = array_header(stream, name)
        there, count = item.file_size - stream.tell(), math.prod(shape)
        if count * dtype.itemsize != there:
            raise UnreadableError(
                f"{name[:80]!r} is announced as {dtype} of shape {shape}, {count * dtype.itemsize} bytes, but has {there}"
            )
        flat = np.empty(count, dtype)
        view: Any = flat.view(np.uint8) if count else b""
        at = 0
        while at < there and (piece := stream.read(min(there - at, 1 << 20))):
            view[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
        if at < there or stream.read(1):  # the last read compares the check sum
            raise UnreadableError(f"{name[:80]!r} ends after {at} of {there} bytes")
    if dtype.kind == "U":
        code = flat.view(np.uint32 if dtype.isnative else np.dtype(np.uint32).newbyteorder()) if count else np.zeros(0)
        if ((code > 0x10FFFF) | ((code >= 0xD800) & (code < 0xE000))).any():
            raise UnreadableError(f"{name[:80]!r} holds characters that do not exist")
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def array_header(stream: Any, name: str, most: int = MOST_BYTES) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, order, type) of the array of at most `most` bytes that follows; one of `BROKEN` where the header is none."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise UnreadableError(f"{name[:80]!r} has a header of version {version}")
    try:
        with warnings.catch_warnings():  # numpy tells of files that Python 2 wrote, and says it of damaged ones
            warnings.simplefilter("ignore")
            shape, fortran, dtype = readers[version](stream)
    except MemoryError as error:  # what Python's parser says of deeply nested text
        raise UnreadableError(f"{name[:80]!r} has a header that is no Python") from error
    if dtype.hasobject:
        raise UnreadableError(f"{name[:80]!r} holds Python objects, a pickle; it is not loaded")
    if dtype.itemsize == 0 or dtype.kind not in "biufcUS" or len(shape) > 32:
        raise UnreadableError(f"{name[:80]!r} is {dtype} of {len(shape)} dimensions; numbers and text are read")
    # An empty array may state any length along its other axes, of which its readers make others.
    extent = math.prod(max(n, 1) for n in shape) * dtype.itemsize
    if any(isinstance(n, bool) or n < 0 for n in shape) or extent > (most if math.prod(shape) else MOST_EMPTY):
        raise UnreadableError(f"{name[:80]!r} is {dtype} of shape {str(shape)[:80]}")
    return shape, fortran, dtype
