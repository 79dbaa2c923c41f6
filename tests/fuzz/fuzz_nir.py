"""Damage done to NIR files: to their bytes, near the structures of HDF5, and to what h5py shows of them."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from fuzz_bytes import damage_bytes, splice
from nir_zoo import ZOO

__all__ = ["STRUCTURAL", "damage_nir", "write_seeds"]

MARKS = (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"BTHD", b"FRHP", b"\x89HDF", b"\x01\x00")
_WRITTEN: set[int] = set()
"""Check sums of the files that h5py wrote: others are not opened here, for HDF5 itself may crash on them."""
TYPES = ["LIF", "CubaLIF", "IF", "LI", "CubaLI", "I", "Threshold", "Linear", "Affine", "Scale", "Conv1d", "Conv2d"]
TYPES += [
    "SumPool2d",
    "AvgPool2d",
    "Flatten",
    "Delay",
    "Input",
    "Output",
    "NIRGraph",
    "NIRNode",
    "lif",
    "",
    "\udcff",
    "Reset",
]
NUMBERS = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -1.0,
    1e308,
    -1e308,
    1e-320,
    1e30,
    0.5,
    2**31,
    2**53,
    2**62,
    -(2**62),
    7,
    1,
    2,
    3,
]
SHAPES = [(0,), (1,), (2,), (0, 0), (1, 1), (3, 1), (2, 2, 2), (1, 1, 1, 1, 1), (2, 0, 3), (4,), (8,), (1, 4), (2, 4)]
HUGE = [(2**40,), (2**20, 2**20), (2**62,), (2**27,), (2**13, 2**13), (2**26, 1, 1), (2**25,), (2**12, 2**12)]
DTYPES = ["i1", "u8", "f2", ">f4", ">i8", "c16", "?", "S3", "V4", "f8", "i4"]


def damage_nir(content: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> tuple[bytes, str]:
    """Damaged bytes, or up to three changes through h5py."""
    if rng.random() < 0.02:
        return splice(content, rng, others)
    if rng.random() < 0.45 or zlib.crc32(content) not in _WRITTEN:
        return damage_bytes(content, rng, MARKS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.nir"
        path.write_bytes(content)
        try:
            kind = _damage_structure(path, rng)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError):  # a file that was damaged before
            return damage_bytes(content, rng, MARKS)
        made = path.read_bytes()
    _WRITTEN.add(zlib.crc32(made))
    return made, kind


def write_seeds(folder: Path) -> list[Path]:
    """The sound files that are damaged: with and without compression, and in HDF5's newer format."""
    paths = []
    for name, make in ZOO.items():
        for compression in ("gzip", None):
            paths.append(folder / f"{name}_{compression}.nir")
            nir.write(paths[-1], make(), compression=compression)  # pyright: ignore[reportArgumentType]
        latest = folder / f"{name}_latest.nir"
        with h5py.File(paths[-1]) as source, h5py.File(latest, "w", libver="latest") as target:
            for key in source:
                source.copy(key, target)
        paths.append(latest)
    _WRITTEN.update(zlib.crc32(path.read_bytes()) for path in paths)
    return paths


# --- structure -------------------------------------------------------------------------------------------------------


def _all(h5: Any, kind: type) -> list[str]:
    names: list[str] = []
    h5.visititems(lambda name, item: names.append(name) if isinstance(item, kind) else None)
    return names


def _replace(h5: Any, name: str, *args: Any, **options: Any) -> None:
    if name in h5:
        del h5[name]
    h5.create_dataset(name, *args, **options)


def _small(h5: Any, name: str) -> Any:
    """The value of a dataset, unless an earlier change made it huge."""
    if (h5[name].size or 0) > 2**16:
        raise ValueError(name)
    return h5[name][()]


def _number(h5: Any, name: str, rng: np.random.Generator) -> None:
    """One value, or all, become an odd one."""
    value = np.array(_small(h5, name), float) if h5[name].dtype.kind in "iufb" else np.ones(3)
    odd = NUMBERS[int(rng.integers(len(NUMBERS)))]
    if rng.random() < 0.5 or not value.ndim or not value.size:
        value = np.full(value.shape, odd)
    else:
        value.reshape(-1)[int(rng.integers(value.size))] = odd
    whole = rng.random() < 0.4 and np.all(np.isfinite(value)) and np.all(np.abs(value) < 2**63)
    _replace(h5, name, data=value.astype(np.int64) if whole else value)


def _shape(h5: Any, name: str, rng: np.random.Generator) -> None:
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    if h5[name].dtype.kind in "iufb" and rng.random() < 0.4:
        value = np.asarray(_small(h5, name))
        value = [value.T, value[None], np.ravel(value)[:-1], np.append(np.ravel(value), 1), value.sum()][
            rng.integers(5)
        ]
        _replace(h5, name, data=value)
    else:
        _replace(h5, name, data=np.ones(shape))


def _huge(h5: Any, name: str, rng: np.random.Generator) -> None:
    """A shape that is declared, but of which nothing is stored."""
    shape = HUGE[int(rng.integers(len(HUGE)))]
    dtype = str(rng.choice(["f8", "i1", "S1", "f4"]))
    _replace(h5, name, shape, dtype, chunks=tuple(min(n, 64) for n in shape))


def _dtype(h5: Any, name: str, rng: np.random.Generator) -> None:
    shape = np.shape(_small(h5, name))
    _replace(h5, name, data=np.zeros(shape, str(rng.choice(DTYPES))))


def _text(h5: Any, name: str, rng: np.random.Generator) -> None:
    words = [
        "same",
        "valid",
        "",
        "x" * 70000,
        "nan",
        "1e999",
        "LIF",
        b"\xff\xfe",
        ["in", "out"],
        [["in", "lif"]],
        "\u2603",
    ]
    _replace(h5, name, data=words[int(rng.integers(len(words)))])


def _odd(h5: Any, name: str, rng: np.random.Generator) -> None:
    """Things that NumPy arrays cannot say: null, references, enumerations, compounds, ragged rows."""
    kind = int(rng.integers(6))
    if kind == 0:
        _replace(h5, name, data=h5py.Empty("f8"))
    elif kind == 1:
        _replace(h5, name, (2,), h5py.ref_dtype)
    elif kind == 2:
        _replace(h5, name, data=np.zeros(2, h5py.enum_dtype({"a": 0, "b": 1})))
    elif kind == 3:
        _replace(h5, name, data=np.zeros(2, [("a", "f8"), ("b", "S3")]))
    elif kind == 4:
        _replace(h5, name, (2,), h5py.vlen_dtype(float))
    else:
        _replace(h5, name, data=h5py.Empty(h5py.string_dtype()))


def _gone(h5: Any, name: str, rng: np.random.Generator) -> None:
    del h5[name if rng.random() < 0.7 else name.rpartition("/")[0] or name]


def _extra(h5: Any, name: str, rng: np.random.Generator) -> None:
    parent = name.rpartition("/")[0]
    key = str(
        rng.choice(["v_reset", "bias", "w_in", "input_shape", "start_dim", "metadata", "nodes", "colour", "shape"])
    )
    _replace(h5, f"{parent}/{key}", data=[np.ones(3), "red", 0.5, np.array([[1]])][int(rng.integers(4))])


def _type(h5: Any, name: str, rng: np.random.Generator) -> None:
    places = [n for n in _all(h5, h5py.Dataset) if n.endswith("/type")]
    place = places[int(rng.integers(len(places)))] if places else name
    word = TYPES[int(rng.integers(len(TYPES)))]
    _replace(h5, place, data=word.encode("utf8", "surrogateescape"))


def _edges(h5: Any, name: str, rng: np.random.Generator) -> None:
    """Wrong edges: other ends, doubled, turned round, unknown names, none at all."""
    places = [n for n in _all(h5, h5py.Dataset) if n.endswith("/edges")]
    if not places:
        return
    place = places[int(rng.integers(len(places)))]
    own = f"{place[:-6]}/nodes"
    names = [*(list(h5[own]) if own in h5 else []), "nobody", "rnn.lif", "", "rnn/nodes/lif", "."]
    rows = [[str(v) for v in rng.choice(names, 2)] for _ in range(int(rng.integers(0, 6)))]
    old = _small(h5, place)
    if rng.random() < 0.7 and old.ndim == 2:
        rows += [[v.decode() if isinstance(v, bytes) else str(v) for v in row] for row in old.tolist()]
        rows = [row[::-1] if rng.random() < 0.05 else row for row in rows if rng.random() < 0.95]
    _replace(h5, place, data=np.array(rows or [["a", "b"]], dtype=object), dtype=h5py.string_dtype())


def _moved(h5: Any, name: str, rng: np.random.Generator) -> None:
    """A group or dataset under another name, or under two, perhaps inside itself."""
    groups = _all(h5, h5py.Group)
    source = name if rng.random() < 0.5 or not groups else groups[int(rng.integers(len(groups)))]
    target = groups[int(rng.integers(len(groups)))] if groups else "node"
    key = f"{target}/{rng.choice(['lif', 'a', 'type', 'nodes', 'metadata', 'x_1', '0'])}"
    if key in h5:
        del h5[key]
    if source in h5:
        h5[key] = h5[source]


def _note(h5: Any, name: str, rng: np.random.Generator) -> None:
    """Odd metadata, of which some keys mean something to the reader."""
    groups = [n for n in _all(h5, h5py.Group) if f"{n}/type" in h5]
    place = groups[int(rng.integers(len(groups)))] if groups else "node"
    key = str(rng.choice(["dt", "shape", "reset", "dendrite", "recurrence", "emission", "metadata"]))
    values = [
        np.nan,
        0,
        -1.0,
        1e300,
        "text",
        b"\xff",
        np.ones((2, 2)),
        np.array([2**62, 4]),
        np.array([2, 2]),
        np.zeros(0),
    ]
    if f"{place}/metadata" in h5 and not isinstance(h5[f"{place}/metadata"], h5py.Group):
        return
    _replace(h5, f"{place}/metadata/{key}", data=values[int(rng.integers(len(values)))])


STRUCTURAL: tuple[Callable[[Any, str, np.random.Generator], None], ...] = (
    _number, _number, _shape, _huge, _dtype, _text, _odd, _gone, _extra, _type, _edges, _moved, _note
)  # fmt: skip


def _damage_structure(path: Path, rng: np.random.Generator) -> str:
    """One to three changes through h5py; returns their names."""
    kinds = []
    with h5py.File(path, "r+") as h5:
        for _ in range(int(rng.integers(1, 4))):
            names = _all(h5, h5py.Dataset)
            if not names:
                break
            change = STRUCTURAL[int(rng.integers(len(STRUCTURAL)))]
            kinds.append(change.__name__)
            try:
                change(h5, names[int(rng.integers(len(names)))], rng)
            except (
                ValueError,
                TypeError,
                OSError,
                RuntimeError,
                KeyError,
                UnicodeError,
                OverflowError,
                AttributeError,
            ):
                continue  # h5py itself would not do it: the case has one change less
    return "+".join(kinds)
