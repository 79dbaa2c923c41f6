"""`Data`, labelled event counts in a file, and `Events`, address events with their times."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.files.bounds import read_arrays
from nir_dynapse.files.whole import write_arrays
from nir_dynapse.network.network import freeze

__all__ = ["Data", "Events"]

MOST_EVENTS = 1 << 24
"""Most events of a file: whatever type they have there, they become three int64 arrays."""


@dataclass(frozen=True, eq=False)
class Events:
    """Address events: `time` in µs (int64, E), and where: neuron or channel `index` (E,) of node `nodes[node]` (E,).

    `findings` count what was left out where they were read.
    """

    time: np.ndarray
    node: np.ndarray
    index: np.ndarray
    nodes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        for name in ("time", "node", "index"):
            object.__setattr__(self, name, freeze(getattr(self, name), np.int64).reshape(-1))
        if not len(self.time) == len(self.node) == len(self.index):
            raise ConfigurationError("events need one time, node and index each; the arrays differ in length.")
        if len(self.node) and not 0 <= (low := self.node.min()) <= (high := self.node.max()) < len(self.nodes):
            wrong = low if low < 0 else high
            raise ConfigurationError(f"events name node number {wrong}, there are {len(self.nodes)} nodes.")

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        return f"Events({len(self)} of {', '.join(self.nodes) or 'no node'})"

    @classmethod
    def from_counts(cls, counts: np.ndarray, dt: float, node: str) -> Events:
        """Events of one node from counts (time, channel) in bins of `dt` s; several in a bin are 1 µs apart."""
        bins, index = np.nonzero(counts)
        repeat = np.asarray(counts)[bins, index].astype(int)
        within = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
        times = np.repeat(np.round(bins * dt * 1e6).astype(np.int64), repeat) + within
        order = np.argsort(times, kind="stable")
        return cls(times[order], np.zeros(len(times)), np.repeat(index, repeat)[order], (node,))

    def to_counts(self, node: str, size: int, dt: float, duration: float) -> np.ndarray:
        """Events of `node` as counts (time, size) in bins of `dt` s; events outside `duration` s are left out."""
        steps = int(np.ceil(duration / dt - 1e-9))
        counts = np.zeros((steps, size), np.int64)
        if node in self.nodes:
            bins = np.floor(self.time / (dt * 1e6) + 1e-9).astype(np.int64)
            mine = (self.node == self.nodes.index(node)) & (bins >= 0) & (bins < steps)
            np.add.at(counts, (bins[mine], self.index[mine]), 1)
        return counts

    @classmethod
    def from_structured(cls, array: Any, **options: Any) -> Events:
        """Events of a structured array with the fields t, x, y, p (tonic's): see `data.event_files.from_structured`."""
        from nir_dynapse.data.event_files import from_structured

        return from_structured(array, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz with the arrays time_us, node, index and nodes (to a temporary name first)."""
        write_arrays(path, time_us=self.time, node=self.node, index=self.index, nodes=np.array(self.nodes, np.str_))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Events:
        """Read an .npz as `save` writes it; no pickles; ConfigurationError otherwise.

        `node` may hold names, too; `nodes` may be missing then.
        """
        what = (
            "an .npz file with arrays time_us, index (whole numbers, one per event), node (names, or numbers into nodes) "
            "and nodes (names, text)"
        )
        names = ("time_us", "node", "index", "nodes")
        arrays = _read_arrays(path, what, (), names)
        if (node := arrays.get("node", np.zeros(0))).dtype.kind == "U" and node.ndim == 1:
            arrays["nodes"], arrays["node"] = _numbered(path, node, arrays.get("nodes"))
        if missing := [name for name in names if name not in arrays]:
            raise ConfigurationError(f"{path}: lacks {', '.join(missing)}; the data must be {what}.")
        nodes = arrays.pop("nodes")
        for name, values in arrays.items():
            if values.ndim != 1 or values.dtype.kind not in ("iu" if values.size else "iuf"):  # an empty list is float
                raise ConfigurationError(
                    f"{path}: {name} has shape {values.shape} and type {values.dtype}; the data must be {what}."
                )
            if len(values) > MOST_EVENTS:
                raise ConfigurationError(
                    f"{path}: {len(values)} events, at most {MOST_EVENTS} are read. Split the file."
                )
        if nodes.ndim != 1 or (nodes.dtype.kind != "U" and nodes.size):
            raise ConfigurationError(
                f"{path}: nodes has shape {nodes.shape} and type {nodes.dtype}; the data must be {what}."
            )
        try:
            return cls(arrays["time_us"], arrays["node"], arrays["index"], tuple(nodes.tolist()))
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error} The data must be {what}.") from error


def _numbered(
    path: str | os.PathLike[str], names: np.ndarray, nodes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """`nodes` (by default those of the events in order of appearance), and the place of each of `names` in them."""
    found, first, place = np.unique(names, return_index=True, return_inverse=True)
    if nodes is None:
        order = np.argsort(first)
        return found[order], np.argsort(order)[place.reshape(-1)]
    known = {str(name): i for i, name in enumerate(nodes.reshape(-1).tolist())}
    if strangers := [str(name) for name in found if str(name) not in known]:
        raise ConfigurationError(
            f"{path}: events of node {strangers[0]!r}, nodes has {', '.join(map(repr, known)) or 'none'}. Add it to nodes."
        )
    return nodes, np.array([known[str(name)] for name in found], np.int64)[place.reshape(-1)]


@dataclass(frozen=True, eq=False)
class Data:
    """Samples with targets: event counts `x` (sample, time, channel), `y`, bin width `dt` in s.

    Images, (sample, time, polarity, y, x) or any further axes, are flattened row by row; `shape` is what they were.

    `y` is the class (sample,) of each, or a trajectory (sample, time, output) of numbers for `fine_tune`. `findings` count
    what was left out where the data was made.
    """

    x: np.ndarray
    y: np.ndarray
    dt: float
    findings: tuple[Finding, ...] = ()
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        counts = np.asarray(self.x)
        if counts.ndim > 3:
            object.__setattr__(self, "shape", counts.shape[2:])
            counts = counts.reshape(*counts.shape[:2], int(np.prod(counts.shape[2:])))
        object.__setattr__(self, "x", freeze(counts))
        object.__setattr__(self, "y", freeze(self.y))
        object.__setattr__(self, "dt", float(self.dt))
        x, y = self.x, self.y
        if x.ndim != 3 or not (np.issubdtype(x.dtype, np.number) or x.dtype == bool):
            raise ConfigurationError(
                f"Data: x has shape {x.shape} and type {x.dtype}; it must be numeric (sample, time, channel)."
            )
        if self.shape and int(np.prod(self.shape)) != x.shape[2]:
            raise ConfigurationError(f"Data: shape is {self.shape}, x has {x.shape[2]} channels. Leave shape out.")
        classes = y.ndim == 1 and np.issubdtype(y.dtype, np.integer)
        path = y.ndim == 3 and (np.issubdtype(y.dtype, np.integer) or np.issubdtype(y.dtype, np.floating))
        if not (classes or path) or len(y) != len(x):
            raise ConfigurationError(
                f"Data: y has shape {y.shape} and type {y.dtype}; needed is one integer class for each of {len(x)} "
                "samples, or a trajectory of numbers (sample, time, output)."
            )
        if not np.all(np.isfinite(y)):
            raise ConfigurationError("Data: y contains numbers that are not finite. Give finite targets.")
        if not np.all(np.isfinite(x)) or x.min(initial=0) < 0:
            raise ConfigurationError("Data: x contains negative or non-finite event counts; counts start at 0.")
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise ConfigurationError(f"Data: dt is {self.dt} s; it must be the positive width of a bin in seconds.")

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        targets = f"{len(np.unique(self.y))} classes" if self.y.ndim == 1 else f"{self.y.shape[2]} trajectories"
        n, steps, channels = self.x.shape
        return f"Data({n} samples of {steps} bins of {1e3 * self.dt:g} ms, {channels} channels, {targets})"

    def __getitem__(self, part: slice) -> Data:
        return Data(self.x[part], self.y[part], self.dt, self.findings, self.shape)

    @property
    def duration(self) -> float:
        """Length of a sample in s."""
        return self.x.shape[1] * self.dt

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz with the arrays x, y, dt (to a temporary name first)."""
        x = self.x.reshape(*self.x.shape[:2], *self.shape) if self.shape else self.x
        write_arrays(path, x=x, y=self.y, dt=np.float64(self.dt))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, labels: bool = True) -> Data:
        """Read an .npz with the arrays x, y, dt; no pickles; ConfigurationError otherwise.

        With `labels=False` y may be missing; every class is 0 then.
        """
        what = (
            "an .npz file with arrays x (sample, time, channel), y (sample,) or (sample, time, output) and dt (seconds)"
        )
        arrays = _read_arrays(path, what, ("x", "y", "dt") if labels else ("x", "dt"), ("y",))
        x, dt = arrays["x"], arrays["dt"]
        if dt.size != 1 or dt.dtype.kind not in "iuf":
            raise ConfigurationError(
                f"{path}: dt has shape {dt.shape} and type {dt.dtype}; it must be one number, the bin width in seconds."
            )
        try:
            return cls(x, arrays["y"] if "y" in arrays else np.zeros(x.shape[:1], int), float(dt.reshape(-1)[0]))
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error


def _read_arrays(
    path: str | os.PathLike[str], what: str, needed: tuple[str, ...], further: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """The arrays `needed`, and those of `further` that are there, of an .npz without pickles (ConfigurationError)."""
    try:
        arrays = read_arrays(path, (*needed, *further))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{path}: cannot be read ({reason}); the data must be {what}.") from error
    if missing := [name for name in needed if name not in arrays]:
        raise ConfigurationError(f"{path}: lacks {', '.join(missing)}; the data must be {what}.")
    return arrays
