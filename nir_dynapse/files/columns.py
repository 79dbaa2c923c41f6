"""Arrays that grow on the disk while they are made, and are read without being in memory: .npy with an open first axis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nir_dynapse.files.bounds import UnreadableError

__all__ = ["Growing", "growing", "mapped"]

HEADER = 128
"""Bytes before the numbers: room for any number of rows, and numbers that are aligned when they are mapped."""
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


def mapped(path: str | os.PathLike[str], dtype: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """The array of an .npy, read from the disk where it is looked at; None in `shape` stands for any length.

    OSError where there is no file; UnreadableError where it is another array, or shorter than it says.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # NumPy's parser of headers has no error of its own
        lines = str(error).splitlines()
        raise UnreadableError(lines[0][:200] if lines else type(error).__name__) from error
    fits = isinstance(array, np.memmap) and array.dtype == np.dtype(dtype) and array.ndim == len(shape)
    if not fits or any(want is not None and want != n for want, n in zip(shape, array.shape, strict=True)):
        raise UnreadableError(f"it holds {getattr(array, 'dtype', 'no array')} of shape {getattr(array, 'shape', '')}")
    return array
