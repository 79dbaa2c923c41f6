"""Arrays that grow on the disk while they are made, and are read without being in memory: .npy with an open first axis."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nir_dynapse.files.bounds import BROKEN, UnreadableError, array_header

__all__ = ["Growing", "growing", "mapped"]

HEADER = 128
"""Bytes before the numbers: room for any number of rows, and numbers that are aligned when they are mapped."""
MOST = 1 << 62
"""Most bytes of an array: they stay on the disk."""
MAGIC = b"\x93NUMPY\x01\x00"


class Growing:
    """Rows (row, *shape) of `dtype`, little-endian, that go to a stream one after the other."""

    def __init__(self, stream: BinaryIO, dtype: str, shape: tuple[int, ...]) -> None:
        self.stream, self.dtype, self.shape, self.rows = stream, np.dtype(dtype), shape, 0
        stream.write(self.header())

    def header(self) -> bytes:
        """What an .npy with the rows so far begins with."""
        said = repr({"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.shape)}).encode()
        room = HEADER - len(MAGIC) - 2
        return MAGIC + room.to_bytes(2, "little") + said.ljust(room - 1) + b"\n"

    def append(self, rows: np.ndarray) -> None:
        """Write `rows`."""
        array = np.ascontiguousarray(rows, self.dtype)
        if array.size:
            self.stream.write(array.data)
        self.rows += len(array)


@contextmanager
def growing(path: str | os.PathLike[str], dtype: str, shape: tuple[int, ...] = ()) -> Iterator[Growing]:
    """An .npy (row, *shape) that grows while the block lasts; its rows are counted, and on the disk, when it ends."""
    with Path(path).open("wb") as stream:
        column = Growing(stream, dtype, shape)
        yield column
        stream.seek(0)
        stream.write(column.header())
        stream.flush()
        os.fsync(stream.fileno())


def mapped(path: str | os.PathLike[str], dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of an .npy, read from the disk where it is looked at.

    OSError where there is no file; UnreadableError where it is another array, or has another size than it says.
    """
    name, kind = Path(path).name, np.dtype(dtype)
    try:
        with Path(path).open("rb") as stream:
            found, fortran, held = array_header(stream, name, MOST)
            if (found, held) != (shape, kind) or fortran or kind.hasobject:
                raise UnreadableError(f"{name} holds {held} of shape {found} in place of {kind} of shape {shape}")
            begin, count = stream.tell(), math.prod(shape)
            there = os.fstat(stream.fileno()).st_size - begin
            if there != count * kind.itemsize:
                raise UnreadableError(f"{name} has {there} bytes of {count * kind.itemsize}")
            return np.frombuffer(mmap(stream.fileno(), 0, access=ACCESS_READ), kind, count, begin).reshape(shape)
    except UnreadableError:
        raise
    except BROKEN as error:
        lines = str(error).splitlines()
        raise UnreadableError(lines[0][:200] if lines else type(error).__name__) from error
