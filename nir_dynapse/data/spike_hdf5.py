"""HDF5 files of spikes as the Spiking Heidelberg Digits come: spikes/times (s), spikes/units and labels, a row per sample.

Format: https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/. Lengths of rows are compared with the file's size
before a row is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from nir_dynapse.data.sensor import Sensed
from nir_dynapse.files.bounds import UnreadableError

__all__ = ["MAGIC", "Samples", "read_hdf5"]

MAGIC = b"\x89HDF\r\n\x1a\n"
MOST_SAMPLES = 1 << 20
_WHAT = "needed are spikes/times (seconds) and spikes/units, a row per sample, and perhaps labels, as in SHD"
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    AttributeError,
    OverflowError,
    MemoryError,
    IndexError,
)
"""What h5py raises for a file that is damaged or something else."""

Samples = list[tuple[Sensed, int | None]]


def read_hdf5(path: str, chosen: slice, most: int) -> Samples:
    """The `chosen` samples, each with its label or None; UnreadableError for anything else or more than `most` events."""
    try:
        with h5py.File(path, "r") as file:
            return list(_samples(file, chosen, most))
    except UnreadableError:
        raise
    except _DAMAGE as error:
        lines = str(error).splitlines()
        raise UnreadableError(f"{lines[0][:200] if lines else type(error).__name__}; {_WHAT}") from error


def _samples(file: h5py.File, chosen: slice, most: int) -> Iterator[tuple[Sensed, int | None]]:
    spikes = _own(file, "spikes")
    if not isinstance(spikes, h5py.Group):
        raise UnreadableError(_WHAT)
    times, units = (_rows(spikes, name) for name in ("times", "units"))
    labels = _own(file, "labels")
    if len(times) != len(units):
        raise UnreadableError(f"it has {len(times)} rows of times and {len(units)} of units")
    classes = None
    if isinstance(labels, h5py.Dataset):
        if labels.shape != (len(times),) or labels.dtype.kind not in "iu" or labels.external or labels.is_virtual:
            raise UnreadableError(
                f"labels is {labels.dtype} of shape {labels.shape}, needed is a class for each sample"
            )
        classes = np.asarray(labels[()])
    lengths = [_lengths(rows, file) for rows in (times, units)]
    for i in range(*chosen.indices(len(times))):
        if any(known is not None and known[i] > most for known in lengths):
            raise UnreadableError(f"sample {i} has more than {most} events")
        t, unit = np.asarray(times[i]), np.asarray(units[i])
        if t.shape != unit.shape or t.ndim != 1 or len(t) > most:
            raise UnreadableError(f"sample {i} has {t.shape} times and {unit.shape} units, at most {most} are read")
        if t.dtype.kind not in "fiu" or unit.dtype.kind not in "iu":
            raise UnreadableError(f"sample {i} has times of type {t.dtype} and units of type {unit.dtype}")
        seconds = t.astype(np.float64)
        if not np.all(np.abs(seconds) < 1e9):
            raise UnreadableError(f"sample {i} has times that are not finite, or beyond 1e9 s")
        yield (
            Sensed(np.round(seconds * 1e6).astype(np.int64), unit.astype(np.int64)),
            None if classes is None else int(classes[i]),
        )


def _own(group: h5py.Group, name: str) -> Any:
    """What stands under `name` in this very file, None where nothing does: links are not followed."""
    return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None


def _rows(group: h5py.Group, name: str) -> h5py.Dataset:
    rows = _own(group, name)
    if not isinstance(rows, h5py.Dataset) or rows.ndim not in (1, 2) or rows.external or rows.is_virtual:
        raise UnreadableError(_WHAT)
    if len(rows) > MOST_SAMPLES:
        raise UnreadableError(f"spikes/{name} has {len(rows)} rows, at most {MOST_SAMPLES} are read")
    return rows


def _lengths(rows: h5py.Dataset, file: h5py.File) -> np.ndarray | None:
    """How long each row says that it is; None where they are equally long, which their shape has said.

    HDF5 believes these lengths, so they are read from the descriptors (length, address and index: 4, 8 and 4 bytes).
    """
    kind = h5py.check_vlen_dtype(rows.dtype)
    if kind is None:
        if rows.ndim != 2 or rows.shape[1] * rows.dtype.itemsize > os.path.getsize(file.filename):
            raise UnreadableError(_WHAT)
        return None
    if rows.ndim != 1 or rows.id.get_create_plist().get_nfilters():
        raise UnreadableError(f"{rows.name} has rows that are filtered; unpack it with: h5repack -f NONE OLD NEW")
    if rows.chunks is None:
        raw = b"" if rows.id.get_offset() is None else _bytes(file, rows.id.get_offset(), rows.id.get_storage_size())
    else:
        parts = {}
        for i in range(rows.id.get_num_chunks()):
            chunk = rows.id.get_chunk_info(i)
            parts[chunk.chunk_offset[0]] = _bytes(file, chunk.byte_offset, chunk.size)
        raw = b"".join(parts[at] for at in sorted(parts))
    lengths = np.frombuffer(raw[: len(raw) // 16 * 16], np.dtype([("n", "<u4"), ("at", "V12")]))["n"][: len(rows)]
    if len(lengths) < len(rows) or (lengths.astype(np.int64) * np.dtype(kind).itemsize).sum() > os.path.getsize(
        file.filename
    ):
        raise UnreadableError(f"the rows of {rows.name} are longer than the file")
    return lengths


def _bytes(file: h5py.File, at: int, size: int) -> bytes:
    with open(file.filename, "rb") as stream:
        stream.seek(at)
        return stream.read(min(size, max(os.path.getsize(file.filename) - at, 0)))
