"""`read_nir`: a tolerant reader of NIR's HDF5 files that runs nothing, follows no links and refuses absurd sizes.

It does not call `nir.read`, which type-checks nested graphs whatever it is told (nir 1.0.8), cannot read a root that is
a single node, and trips over extra and missing fields. Every repair is a finding; every failure is one error.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import nir
import numpy as np

from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.files.bounds import foreign, kind_of
from nir_dynapse.network.primitives import PRIMITIVES, graph, nearest

__all__ = ["read_nir", "read_version"]

MAX_ELEMENTS = 32 * 2**20
"""Most elements of one weight: an 8-chip stack fed by 4096 channels, fully connected."""
MAX_VALUES = 2**21
"""Most elements of any other field, and of metadata."""
MAX_OPTIONS = 64
"""Most elements of a size or an option, such as a shape or a stride."""
MAX_TOTAL_BYTES = 512 * 2**20
"""Most bytes of all datasets of a file together, and of the file itself."""
MAX_OBJECTS = 100_000
MAX_TEXT = 2**20
MAX_TEXTS = 4 * MAX_OBJECTS
MAX_RATIO = 2048
"""Most bytes of a large dataset per byte stored for it: gzip reaches half of that."""
MAX_FREE, MAX_PACKED = 2**22, 25
"""Weights other than 0 of a file that may be packed as one likes, and most of more per byte of the file: each becomes a
connection of some 60 bytes, and a constant packs to a thousandth."""
MAX_DEPTH = 32
_AGAIN = "Export the network again: nir.write may have stopped within the file."
_HEAP_HEADER = 16  # bytes of the header of a global heap, and of each object in it
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, AttributeError, MemoryError)


def read_nir(path: str | os.PathLike[str]) -> tuple[Any, list[Finding], str]:
    """The NIR graph (or single node) stored at `path`, the repairs made, and the file's SHA-256 in hexadecimal.

    Raises `UnsupportedGraphError` with one paragraph per problem for anything that is not a readable NIR file.
    """
    file = Path(os.fspath(path))
    sha256 = _checked_digest(file)
    findings: list[Finding] = []
    with _open(file) as h5:
        try:
            root = _root(file, h5)
            node = _Reader(file, findings).node(root, "")
        except _DAMAGE as error:
            raise _damaged(file, error) from error
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise UnsupportedGraphError(errors)
    if not isinstance(node, nir.NIRGraph):
        findings.append(Finding("info", "root", f"file {file.name!r} holds a single {type(node).__name__}, no graph."))
    return node, findings, sha256


def read_version(path: str | os.PathLike[str]) -> str | None:
    """Version of the nir package that wrote the file, None where it is not recorded."""
    try:
        with h5py.File(os.fspath(path), "r") as h5:
            if h5.get("version", getlink=True) is None or not isinstance(
                h5.get("version", getlink=True), h5py.HardLink
            ):
                return None
            dataset = h5["version"]
            if (
                not isinstance(dataset, h5py.Dataset)
                or dataset.size != 1
                or _text_too_long(Path(os.fspath(path)), dataset)
            ):
                return None
            value = dataset[()]
    except _DAMAGE:
        return None
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)[:64]


# --- is it a NIR file at all? ----------------------------------------------------------------------------------------


def _refuse(file: Path, what: str, hint: str, code: str = "file") -> UnsupportedGraphError:
    return UnsupportedGraphError(Finding("error", code, f"file '{file}' {what}", hint=hint))


def _damaged(file: Path, error: BaseException) -> UnsupportedGraphError:
    reason = " ".join(str(error).split())[:200]
    return _refuse(
        file,
        f"is damaged: HDF5 says {reason or type(error).__name__!r}.",
        "It may be cut off or still being written: copy or export it again.",
    )


def _checked_digest(file: Path) -> str:
    """SHA-256 of a file that looks like HDF5; raises for everything else, naming what it is."""
    export = "Export the network as NIR first (nir.write)."
    try:
        if not file.exists():
            raise _refuse(file, "does not exist.", "Check the path and the working directory.")
        if file.is_dir():
            there = sorted(path.name for path in file.glob("*.nir"))[:3]
            which = f"Give the .nir file in it: {' or '.join(map(repr, there))}." if there else "Give a .nir file."
            raise _refuse(file, "is a directory.", which)
        if not file.is_file():
            raise _refuse(file, "is not a regular file.", "Give the path of a .nir file.")
        size = file.stat().st_size
        if size == 0:
            raise _refuse(file, "is empty (0 bytes).", "The export was interrupted: write it again.")
        if size > MAX_TOTAL_BYTES:
            raise _refuse(
                file,
                f"has {size / 2**20:.0f} MiB, allowed are {MAX_TOTAL_BYTES // 2**20}.",
                "No network that a chip could hold needs that much.",
            )
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            start = stream.read(512)
            if not start.startswith(b"\x89HDF\r\n\x1a\n"):
                kind, advice = foreign(start)
                raise _refuse(file, f"is not a NIR file: it is {kind or kind_of(start)}.", advice or export)
            digest.update(start)
            while block := stream.read(2**20):
                digest.update(block)
            if _endless_heap(stream):
                raise _damaged(file, ValueError("a heap object of size zero"))
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _refuse(file, f"cannot be opened: {error}.", "Check the path and its permissions.") from error
    return digest.hexdigest()


def _endless_heap(stream: BinaryIO) -> bool:
    """Whether a global heap, where HDF5 keeps text, holds an object of no size: the HDF5 library loops over it for ever."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(b"GCOL\x01")
        while start >= 0:
            end = min(start + int.from_bytes(data[start + 8 : start + 16], "little"), len(data))
            at = start + _HEAP_HEADER
            while at + _HEAP_HEADER <= end:
                index, _, _, size = struct.unpack("<HHIQ", data[at : at + _HEAP_HEADER])
                padded = (size + 7) % 2**64 // 8 * 8  # in 64 bits, as the library does
                step = (size if index == 0 else _HEAP_HEADER + padded) % 2**64
                if step < _HEAP_HEADER:
                    return True
                at += step
            start = data.find(b"GCOL\x01", start + 1)
    return False


def _text_too_long(file: Path, dataset: h5py.Dataset) -> bool:
    """Whether a text is longer than any name, so that it need not be allocated: HDF5 believes the length that is stored."""
    offset, size = dataset.id.get_offset(), dataset.id.get_storage_size()
    if dataset.dtype.kind != "O" or offset is None or size != 16 * (dataset.size or 0):
        return False
    with file.open("rb") as stream:
        stream.seek(offset)
        lengths = np.frombuffer(stream.read(size), "<u4")[::4]  # then 8 bytes of address and 4 of index
    return bool(np.any(lengths > MAX_TEXT))


def _open(file: Path) -> h5py.File:
    try:
        return h5py.File(file, "r")
    except _DAMAGE as error:
        raise _damaged(file, error) from error


def _root(file: Path, h5: h5py.File) -> h5py.Group:
    found = ", ".join(repr(key) for key in list(h5)[:5]) or "nothing"
    missing = _refuse(
        file,
        f"is HDF5 but not NIR: it has no group /node with a type (found at the top: {found}).",
        "Lava's .net, Keras and PyTorch Lightning files are HDF5 too; export the network with nir.write.",
    )
    if not isinstance(h5.get("node", getlink=True), h5py.HardLink):
        raise missing
    root = h5["node"]
    if isinstance(root, h5py.Group) and not {"type", "edges"} & {*root} and "version" in h5:
        held = ", ".join(map(repr, list(root)[:5])) or "nothing"
        raise _refuse(
            file,
            f"was not written to its end: /node holds {held}, and neither edges nor a type.",
            "nir.write stopped within it, as it does over a value that HDF5 cannot hold: see the error that it raised, "
            "mend that node and write the file again.",
        )
    if not isinstance(root, h5py.Group) or "type" not in root:
        raise missing
    return root


# --- HDF5 to nodes ---------------------------------------------------------------------------------------------------


class _Reader:
    """Reads one file: counts what it has read, collects repairs and errors in `findings`."""

    def __init__(self, file: Path, findings: list[Finding]) -> None:
        self.file, self.findings = file, findings
        self.bytes = self.objects = self.weights = 0

    def error(self, name: str, what: str, hint: str) -> None:
        what = what if name else f"file '{self.file}': {what}"
        self.findings.append(Finding("error", "file", what, node=name or None, hint=hint))

    def repaired(self, name: str, what: str) -> None:
        self.findings.append(Finding("info", "repair", what, node=name or None))

    def children(self, group: h5py.Group, depth: int) -> dict[str, h5py.Group | h5py.Dataset]:
        """Members of a group, without following any link."""
        if depth > MAX_DEPTH:
            raise _refuse(
                self.file, f"nests groups more than {MAX_DEPTH} deep at {group.name!r}.", "Flatten the graph."
            )
        members = {}
        for key in group:
            self.objects += 1
            if self.objects > MAX_OBJECTS:
                raise _refuse(self.file, f"holds more than {MAX_OBJECTS} objects.", "No chip could hold that network.")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise _refuse(
                    self.file,
                    f"holds a link at '{group.name}/{key}' that points elsewhere; links are not followed.",
                    "Store the data itself: read the file where it was made and write it again with nir.write.",
                )
            members[key] = group[key]
        return members

    def value(self, dataset: h5py.Dataset, most: int = MAX_VALUES) -> Any:
        """Value of a dataset, after its size was found sane and its storage local; bytes become text."""
        where, shape, dtype = f"dataset {dataset.name!r}", dataset.shape or (), dataset.dtype
        string = h5py.check_string_dtype(dtype) is not None
        if dataset.external or dataset.is_virtual:
            raise _refuse(self.file, f"keeps {where} in another file; links are not followed.", "Store it inside.")
        if not string and dtype.kind not in "biuf":
            raise _refuse(self.file, f"holds {where} of type {dtype}.", "NIR stores numbers and text only.")
        most = min(most, MAX_TEXTS) if string else most
        elements = int(np.prod(shape, dtype=object))
        chunk = int(np.prod(dataset.chunks or (1,), dtype=object))
        size = max(elements, chunk) * (dtype.itemsize if string else max(dtype.itemsize, 4))  # they become floats
        self.bytes += size
        if elements > most or chunk > MAX_ELEMENTS or self.bytes > MAX_TOTAL_BYTES:
            raise _refuse(
                self.file,
                f"holds {where} of shape {shape}, {elements:.3g} elements ({self.bytes / 2**20:.3g} MiB up to here); "
                f"allowed are {most} elements in this dataset and {MAX_TOTAL_BYTES // 2**20} MiB in all.",
                "No network that a chip could hold needs that much.",
                "size",
            )
        if size > 2**20 and size > MAX_RATIO * dataset.id.get_storage_size():
            raise _refuse(
                self.file,
                f"declares {size / 2**20:.3g} MiB for {where}, but does not hold them.",
                "It is damaged.",
                "size",
            )
        if string and _text_too_long(self.file, dataset):
            raise _refuse(
                self.file, f"holds {where} with a text of more than {MAX_TEXT} bytes.", "It is damaged.", "size"
            )
        value = dataset[()]
        if isinstance(value, bytes):
            return value.decode("utf8")
        return value.astype("U") if string and isinstance(value, np.ndarray) and dtype.kind == "S" else value

    def count(self, weight: Any) -> None:
        """Refuses connections that the file cannot really hold."""
        self.weights += int(np.count_nonzero(weight))
        size = self.file.stat().st_size
        if self.weights > max(MAX_FREE, MAX_PACKED * size):
            raise _refuse(
                self.file,
                f"has {self.weights} weights other than 0 in {size} bytes; more than {MAX_FREE} are read only with at most "
                f"{MAX_PACKED} per byte.",
                "Store them without compression (nir.write(…, compression=None)), or leave out constant ones.",
                "size",
            )

    def metadata(self, group: h5py.Group | h5py.Dataset, depth: int) -> Any:
        if isinstance(group, h5py.Dataset):
            return self.value(group)
        return {key: self.metadata(child, depth + 1) for key, child in self.children(group, depth).items()}

    def node(self, group: h5py.Group, name: str, depth: int = 0) -> Any:
        """The node stored in `group`, None (and an error finding) where it cannot be made."""
        members = self.children(group, depth)
        kind = members.pop("type", None)
        kind = self.value(kind) if isinstance(kind, h5py.Dataset) else None
        metadata = self.metadata(members.pop("metadata"), depth + 1) if "metadata" in members else {}
        metadata = metadata if isinstance(metadata, dict) else {"metadata": metadata}
        if not isinstance(kind, str):
            return self.error(name, "it has no type.", "Every node of a NIR file has a text dataset 'type'.")
        if kind not in PRIMITIVES:
            return self.error(name, f"unknown type {kind[:64]!r}.", nearest(kind))
        if not hasattr(nir, kind):
            return self.error(name, f"type {kind} is unknown to nir {nir.version}.", "Install nir 1.0.8 or newer.")
        if kind == "NIRGraph":
            return self.graph(members, metadata, name, depth)
        fields = self.fields(kind, members, name)
        return None if fields is None else _make(kind, fields, metadata)

    def fields(self, kind: str, members: dict[str, Any], name: str) -> dict[str, Any] | None:
        """Values of a node's fields by name; optional ones that are missing get the value that this means."""
        entry, values = PRIMITIVES[kind], {}
        for key in sorted(members.keys() - {*entry.fields, *entry.optional}):
            self.repaired(name, f"{kind} has no field {key!r}; it was left out.")
        for key in (*entry.fields, *entry.optional):
            if isinstance(members.get(key), h5py.Dataset):
                most = MAX_ELEMENTS if key == "weight" else MAX_OPTIONS if key in entry.whole else MAX_VALUES
                values[key] = self.value(members[key], most)
                if key == "weight":
                    self.count(values[key])
            elif key in entry.optional:
                default = values[key] = entry.optional[key]
                if default is not None:
                    self.repaired(name, f"{kind} without {key}, as older files are; read as {default:g}.")
            else:
                self.error(name, f"{kind} without its field {key!r}.", "Export the network again.")
                return None
        return values

    def graph(self, members: dict[str, Any], metadata: dict[str, Any], name: str, depth: int) -> Any:
        nodes, edges = members.get("nodes"), members.get("edges")
        if not isinstance(nodes, h5py.Group) or not isinstance(edges, h5py.Dataset):
            return self.error(name, "a NIRGraph without nodes or edges.", _AGAIN)
        inner = {key: self.node(group, _join(name, key), depth + 1) for key, group in self.named(nodes, depth + 1)}
        pairs = [(self.met(a, inner, name), self.met(b, inner, name)) for a, b in self.edges(edges, name)]
        return graph({key: node for key, node in inner.items() if node is not None}, pairs, metadata)

    def named(self, group: h5py.Group, depth: int, prefix: str = ""):
        """Node groups with their names: HDF5 turns a '/' in a name into a group without type, which is undone here."""
        for key, child in self.children(group, depth).items():
            if not isinstance(child, h5py.Group):
                self.error(prefix + key, "it is a dataset where a node belongs.", "Export the network again.")
            elif "type" in child or not self.only_groups(child, depth + 1):
                if prefix:
                    self.repaired(prefix + key, "its name contains '/', which nir itself cannot read.")
                yield prefix + key, child
            else:
                yield from self.named(child, depth + 1, f"{prefix}{key}/")

    def met(self, end: str, nodes: Mapping[str, Any], name: str) -> str:
        """The node that an end of an edge names: HDF5 drops from a path what is empty or '.'."""
        path = "/".join(part for part in end.split("/") if part not in ("", "."))
        if end in nodes or path not in nodes:
            return end
        self.repaired(_join(name, path), f"an edge names it {end!r}, which HDF5 cannot hold; read as this node.")
        return path

    def only_groups(self, group: h5py.Group, depth: int) -> bool:
        members = self.children(group, depth).values()
        return bool(members) and all(isinstance(member, h5py.Group) for member in members)

    def edges(self, dataset: h5py.Dataset, name: str) -> list[tuple[str, str]]:
        """Pairs of node names."""
        values = np.asarray(self.value(dataset), dtype=object)
        if values.size == 0:
            return []
        if values.ndim != 2 or values.shape[1] != 2 or not all(isinstance(v, (bytes, str)) for v in values.flat):
            self.error(name, f"its edges have shape {values.shape}, not (n, 2) names.", "Export the network again.")
            return []
        text = [[v.decode("utf8") if isinstance(v, bytes) else v for v in row] for row in values.tolist()]
        return [(a, b) for a, b in text]


def _join(outer: str, name: str) -> str:
    return f"{outer}.{name}" if outer else name


def _make(kind: str, fields: dict[str, Any], metadata: dict[str, Any]) -> Any:
    """A node by its own constructor; where that refuses the values, the bare node (the checks come later, with names)."""
    cls = getattr(nir, kind)
    if kind in ("Input", "Output"):
        key = kind.lower()
        fields = {f"{key}_type": {key: fields["shape"]}}
    elif kind == "Flatten":
        fields = {**fields, "input_type": {"input": fields["input_type"]}}
    try:
        return cls(**fields, metadata=metadata)
    except (AssertionError, TypeError, ValueError, AttributeError, IndexError):
        node = object.__new__(cls)
        node.__dict__.update({"input_type": None, "output_type": None, **fields, "metadata": metadata})
        return node
