"""`Data`, labelled event counts in a file, and `Events`, address events with their times."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from nir_dynapse.data.bins import MOST_ELEMENTS, bin_of, first_us
from nir_dynapse.data.counts import LONGEST_TIME, check_values, real_array, whole_array
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.files.bounds import read_arrays
from nir_dynapse.files.numbers import STEP, Real, Whole, shown
from nir_dynapse.files.whole import write_arrays
from nir_dynapse.network.network import freeze

__all__ = ["Data", "Events"]

MOST_EVENTS = 1 << 24
"""Most events of a file: whatever type they have there, they become three int64 arrays."""
LARGEST_TARGET = 1e9
"""Size of a number of a trajectory: its square stays far from where float32 ends."""
MOST_NODES = 1 << 31
"""Nodes of an event list, and channels or neurons of a node, are fewer."""


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
        limits = {"time": (-LONGEST_TIME, LONGEST_TIME), "node": (-MOST_NODES, MOST_NODES), "index": (0, MOST_NODES)}
        for name, (low, high) in limits.items():
            value = whole_array("events", name, getattr(self, name), low, high)  # an array of its own
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if not len(self.time) == len(self.node) == len(self.index):
            raise ConfigurationError("events need one time, node and index each; the arrays differ in length.")
        if not isinstance(self.nodes, (tuple, list)) or not all(isinstance(name, str) for name in self.nodes):
            raise ConfigurationError(f"events: nodes is {shown(self.nodes)}. Give a tuple with the name of each node.")
        object.__setattr__(self, "nodes", tuple(map(str, self.nodes)))
        if len(set(self.nodes)) != len(self.nodes):
            raise ConfigurationError("events: two nodes have the same name. Number the events by one of them.")
        if len(self.node) and not 0 <= (low := self.node.min()) <= (high := self.node.max()) < len(self.nodes):
            wrong = low if low < 0 else high
            raise ConfigurationError(f"events name node number {wrong}, there are {len(self.nodes)} nodes.")

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        return f"Events({len(self)} of {', '.join(self.nodes) or 'no node'})"

    @classmethod
    def from_counts(cls, counts: np.ndarray, dt: float, node: str) -> Events:
        """Events of one node from counts (time, channel) of whole events in bins of `dt` s.

        The first event of a bin is at its first whole µs, ⌈k·dt⌉ µs for bin k; several of a channel are 1 µs apart and
        stay in their bin, so that `to_counts` is the exact inverse for any `dt`. ConfigurationError for what is no count,
        and where a channel has more events in a bin than the bin has µs. (The bus of a board carries one event per µs in
        all: what is more than that comes late, see `board.run`.)
        """
        dt = STEP.check("Events.from_counts", "dt", dt, "Give the width of a bin in seconds.")
        counts = real_array("Events.from_counts", counts)
        if counts.ndim != 2:
            raise ConfigurationError(
                f"Events.from_counts: counts have shape {counts.shape}, needed is (time, channel). Give one sample."
            )
        check_values("counts", counts, ((str(node), counts.shape[1]),))
        total = counts.sum(dtype=np.float64)
        if total > MOST_EVENTS:
            raise ConfigurationError(
                f"node {node!r}: {total:.0f} events, at most {MOST_EVENTS} are made. Split the data."
            )
        bins, index = np.nonzero(counts)
        repeat = counts[bins, index].astype(np.int64)
        first, stop = first_us(bins, dt), first_us(bins + 1, dt)
        if (full := repeat > stop - first).any():
            k = int(full.argmax())
            what = (
                f"{repeat[k]} events of channel {index[k]} in bin {bins[k]}, which has {stop[k] - first[k]} whole µs; a "
                "sender has one event per µs at most."
            )
            hint = "Give longer bins, or fewer events."
            limit = int(stop[k] - first[k])
            raise ConfigurationError(Finding("error", "counts", what, node, None, int(repeat[k]), limit, hint=hint))
        within = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
        times = np.repeat(first, repeat) + within
        order = np.argsort(times, kind="stable")
        return cls(times[order], np.zeros(len(times), np.int64), np.repeat(index, repeat)[order], (node,))

    def to_counts(self, node: str, size: int, dt: float, duration: float) -> np.ndarray:
        """Events of `node` as counts (time, size) in bins of `dt` s, the inverse of `from_counts`.

        Events outside `duration` s are left out; ConfigurationError where one names an index from `size` on.
        """
        dt = STEP.check("Events.to_counts", "dt", dt, "Give the width of a bin in seconds.")
        size = Whole(0, MOST_NODES).check("Events.to_counts", "size", size, "Give the number of channels or neurons.")
        duration = Real(0, 1e9, "s").check("Events.to_counts", "duration", duration, "Give seconds.")
        steps = int(np.ceil(duration / dt - 1e-9))
        if steps * size > MOST_ELEMENTS:
            raise ConfigurationError(
                f"node {node!r}: {steps} bins of {dt:g} s and {size} channels are more than {MOST_ELEMENTS} counts. "
                "Give longer bins, or a shorter duration."
            )
        counts = np.zeros((steps, size), np.int64)
        if node in self.nodes:
            mine = self.node == self.nodes.index(node)
            bins, index = bin_of(self.time[mine], dt), self.index[mine]
            inside = (bins >= 0) & (bins < steps)
            if (worst := int(index[inside].max(initial=-1))) >= size:
                raise ConfigurationError(
                    f"node {node!r}: an event names index {worst}, allowed are 0 to {size - 1}. Give the node's own size."
                )
            np.add.at(counts, (bins[inside], index[inside]), 1)
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
        counts = real_array("Data: x", self.x)
        if counts.ndim > 3:
            object.__setattr__(self, "shape", counts.shape[2:])
            counts = counts.reshape(*counts.shape[:2], int(np.prod(counts.shape[2:])))
        object.__setattr__(self, "x", freeze(counts))
        object.__setattr__(self, "y", freeze(real_array("Data: y", self.y, "classes or trajectories")))
        hint = "Give the width of a bin in seconds."
        object.__setattr__(self, "dt", STEP.check("Data", "dt", self.dt, hint, ConfigurationError))
        x, y = self.x, self.y
        if x.ndim != 3:
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
        if y.dtype.kind == "f" and not -LARGEST_TARGET <= y.min(initial=0) <= y.max(initial=0) <= LARGEST_TARGET:
            raise ConfigurationError(
                f"Data: y holds {y[~(np.abs(y) <= LARGEST_TARGET)][0]:g}, allowed are finite targets from "
                f"-{LARGEST_TARGET:g} to {LARGEST_TARGET:g}. Scale or clean them."
            )
        check_values("Data: x", x, whole=False)  # NIR takes values, too; `check_data` knows who receives them

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
