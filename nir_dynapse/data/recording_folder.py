"""`RecordingFolder`: what a run gave, on the disk: spikes as events in order of time, currents bin by bin.

`recording.json` says what is what. An event is one row of `time_us.npy`, `sample.npy`, `node.npy` (number of the node) and
`index.npy` (neuron); currents and the values of readouts are NAME.npy (bin, sample, neuron of all nodes).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.data.bins import MOST_ELEMENTS, bin_numbers, bin_of, bins_of, first_us
from nir_dynapse.data.counts import LONGEST_TIME
from nir_dynapse.data.data import MOST_EVENTS, Events
from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import ConfigurationError, DynapseError, Finding
from nir_dynapse.files.bounds import UnreadableError, parse_json, read_text
from nir_dynapse.files.columns import Growing, growing, mapped
from nir_dynapse.files.numbers import COPIES, STEP, Whole
from nir_dynapse.files.whole import whole_files

__all__ = ["RecordingFolder", "Stretch", "files_of", "write_recording"]

MANIFEST, FORMAT, VERSION = "recording.json", "nir_dynapse.recording", 1
COLUMNS = {"time_us": "<i8", "sample": "<u4", "node": "<u2", "index": "<u4"}
VALUES, WIDE = "values", ("uint32", "int64")
PIECE = 1 << 20
"""Events that are looked at together."""
DAMAGED = "Write the recording again with simulate(..., to=FOLDER)."


class Stretch(NamedTuple):
    """Some bins of a run: counts `spikes[node]` (batch, bin, neuron), and `traces[name][node]` of the same shape."""

    spikes: dict[str, np.ndarray]
    traces: dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class RecordingFolder:
    """A recording of `samples` of `bins` of `dt` s in a folder; nothing of it is in memory until it is asked for.

    `sizes[node]` are the neurons of each node; `states[name][node]` and `values[node]` (sample, bin, neuron) are read from
    the disk where they are looked at, and mean what they mean in a `Recording`, as `outputs` and `copies` do.
    """

    path: Path
    dt: float
    samples: int
    bins: int
    sizes: dict[str, int]
    outputs: dict[str, str]
    copies: dict[str, int]
    states: dict[str, dict[str, np.ndarray]]
    values: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    wide: str = "uint32"

    def __repr__(self) -> str:
        nodes = ", ".join(f"{name} {n}" for name, n in self.sizes.items())
        size = f"{self.samples} samples of {self.bins} bins of {1e3 * self.dt:g} ms, {len(self)} events"
        return f"RecordingFolder({str(self.path)!r}: {nodes}; {size})"

    def __len__(self) -> int:
        """Events of all samples."""
        return len(self.columns["time_us"])

    @property
    def duration(self) -> float:
        """Length of a sample in s."""
        return self.bins * self.dt

    @property
    def of_spikes(self) -> bool:
        """Whether the output node reads spikes, and not a readout on the host."""
        return next(iter(self.outputs.values()), None) not in self.values

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RecordingFolder:
        """The recording that `simulate(..., to=path)` wrote; ConfigurationError where there is none, or a damaged one."""
        folder = Path(path)
        try:
            said = parse_json(read_text(folder / MANIFEST))
            if said["format"] != FORMAT or said["version"] != VERSION:
                raise UnreadableError(f"it has format {said['format']!r}, version {said['version']!r}")
            sizes = {str(name): Whole(0, 1 << 31).check("recording", name, n) for name, n in said["sizes"]}
            samples, bins, events = (
                Whole(0, 1 << 53).check("recording", k, said[k]) for k in ("samples", "bins", "events")
            )
            traces = {str(name): _trace(folder, name, held, (bins, samples)) for name, held in said["traces"].items()}
            columns = {name: mapped(folder / f"{name}.npy", kind, (events,)) for name, kind in COLUMNS.items()}
            outputs = {str(name): str(node) for name, node in said["outputs"]}
            copies = {str(name): COPIES.check("recording", "copies", n) for name, n in said["copies"]}
            dt, wide = STEP.check("recording", "dt", said["dt"]), str(np.dtype(said["wide"]))
            values = traces.pop(VALUES, {})
            if (
                samples * max(sum(sizes.values()), 1) > MOST_ELEMENTS
                or bins * dt > LONGEST_TIME * 1e-6
                or wide not in WIDE
                or not {*outputs.values()} <= {*sizes, *values}
                or len(sizes) != len(said["sizes"])
            ):
                raise UnreadableError("its numbers and names do not fit each other")
            return cls(folder, dt, samples, bins, sizes, outputs, copies, traces, values, columns, wide)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, DynapseError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"{folder}: cannot be read as a recording ({reason}). {DAMAGED}") from error

    def events(self, sample: int = 0, start: float = 0.0, duration: float | None = None) -> Events:
        """The spikes of a sample from `start` on, within `duration` s, their times in µs from `start`.

        The first spike of a bin is at its first whole µs, further ones of the same neuron 1 µs apart, as in
        `Events.from_counts`. ConfigurationError for more events than are taken into memory.
        """
        if not 0 <= sample < self.samples:
            raise ConfigurationError(f"{self.path}: it has no sample {sample}. Samples are numbered from 0.")
        rows = self._within(start, duration, sample)
        return Events(rows["time_us"], rows["node"], rows["index"], tuple(self.sizes))

    def samples_of_events(self, start: float = 0.0, duration: float | None = None) -> list[Events]:
        """`events` of every sample."""
        rows = self._within(start, duration)
        order = np.argsort(rows["sample"], kind="stable")
        ends = np.searchsorted(rows["sample"][order], np.arange(self.samples + 1))
        time, node, index = (rows[name][order] for name in ("time_us", "node", "index"))
        parts = [slice(a, b) for a, b in pairwise(ends)]
        return [Events(time[part], node[part], index[part], tuple(self.sizes)) for part in parts]

    def _within(self, start: float, duration: float | None, sample: int | None = None) -> dict[str, np.ndarray]:
        """The events of one sample, or all, in a stretch of time, their times from `start`; not too many for memory."""
        first, parts, total = round(start * 1e6), [], 0
        last = LONGEST_TIME if duration is None else first + int(first_us(1, duration))
        for part in self._pieces(first, last):
            mine = part["sample"] == sample if sample is not None else slice(None)
            parts.append({name: column[mine] for name, column in part.items()})
            total += len(parts[-1]["node"])
            if total > MOST_EVENTS:
                raise ConfigurationError(
                    f"{self.path}: more than {MOST_EVENTS} events, which is what is read at once. Give start and duration."
                )
        empty = {name: np.zeros(0, kind) for name, kind in COLUMNS.items()}
        rows = {name: np.concatenate([empty[name], *(part[name] for part in parts)]) for name in COLUMNS}
        return {**rows, "time_us": rows["time_us"] - first}

    def cut(self, start: float = 0.0, duration: float | None = None) -> Recording:
        """The bins from `start` s on, of `duration` s (default: all that follow), in memory as a `Recording`."""
        first = int(np.clip(bin_numbers(np.array([start]), self.dt)[0], 0, self.bins))
        bins = self.bins - first if duration is None else min(bins_of(duration, self.dt), self.bins - first)
        if self.samples * bins * sum(self.sizes.values()) > MOST_ELEMENTS:
            raise ConfigurationError(
                f"{self.path}: {self.samples} samples of {bins} bins of {sum(self.sizes.values())} neurons are more than "
                f"{MOST_ELEMENTS} counts. Give a shorter duration, or read its events."
            )
        counts = {name: np.zeros((self.samples, bins, n), np.uint32) for name, n in self.sizes.items()}
        for part in self._pieces(int(first_us(first, self.dt)), int(first_us(first + bins, self.dt))):
            place = part["sample"], bin_of(part["time_us"], self.dt) - first
            for k, held in enumerate(counts.values()):
                mine = part["node"] == k
                np.add.at(held, (place[0][mine], place[1][mine], part["index"][mine]), 1)
        small = {n: c.astype(np.uint8 if c.max(initial=0) <= 255 else self.wide) for n, c in counts.items()}
        here = slice(first, first + bins)
        states = {name: {node: np.array(v[:, here]) for node, v in held.items()} for name, held in self.states.items()}
        values = {node: np.array(v[:, here]) for node, v in self.values.items()}
        return Recording(small, self.dt, self.outputs, states, values, copies=self.copies)

    def totals(self) -> dict[str, np.ndarray]:
        """Spikes of every neuron (sample, neuron) in the whole run, by node."""
        offsets = np.cumsum([0, *self.sizes.values()])
        total = np.zeros(self.samples * int(offsets[-1]), np.int64)
        for part in self._pieces(0, LONGEST_TIME):
            place = part["sample"].astype(np.int64) * offsets[-1] + offsets[part["node"]] + part["index"]
            where, times = np.unique(place, return_counts=True)
            total[where] += times
        total = total.reshape(self.samples, int(offsets[-1]))
        return {name: total[:, a : a + n] for a, (name, n) in zip(offsets, self.sizes.items(), strict=False)}

    def counts(self) -> np.ndarray:
        """Spikes (or the summed values of a readout) per sample and output neuron, as `Recording.counts`."""
        if not self.outputs:
            raise ConfigurationError("the network has no output node: nothing is read out. Use totals().")
        source = next(iter(self.outputs.values()))
        if source in self.values:
            return self.values[source].sum(1, dtype=np.float64)
        total, copies = self.totals()[source], self.copies.get(source, 1)
        return total if copies == 1 else total / copies

    def _pieces(self, first: int, last: int) -> Iterator[dict[str, np.ndarray]]:
        """The events with first <= time < last µs, some at a time; ConfigurationError for those of nobody."""
        time, sizes = self.columns["time_us"], np.array([*self.sizes.values()], np.int64)
        start, stop = (int(np.searchsorted(time, np.int64(t))) for t in (first, last))
        for at in range(start, stop, PIECE):
            part = {name: np.array(column[at : min(at + PIECE, stop)]) for name, column in self.columns.items()}
            known = part["node"] < len(sizes)
            if not known.all() or (part["index"] >= sizes[part["node"]]).any() or part["sample"].max() >= self.samples:
                raise ConfigurationError(f"{self.path}: it holds events of no neuron of its nodes. {DAMAGED}")
            yield part


def _trace(folder: Path, name: str, held: dict[str, Any], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """(sample, bin, neuron) of each node, on the disk."""
    sizes = [(str(node), int(n)) for node, n in held["sizes"]]
    if not name.isidentifier() or any(n < 0 for _, n in sizes):
        raise UnreadableError(f"it has no trace {name!r}")
    everything = mapped(folder / f"{name}.npy", held["dtype"], (*shape, sum(n for _, n in sizes)))
    ends = np.cumsum([0, *(n for _, n in sizes)])
    return {node: everything[:, :, a : a + n].swapaxes(0, 1) for a, (node, n) in zip(ends, sizes, strict=False)}


def files_of(traces: Iterable[str]) -> tuple[str, ...]:
    """The files of a recording with these traces."""
    return (*(f"{name}.npy" for name in (*COLUMNS, *traces)), MANIFEST)


def write_recording(
    path: str | os.PathLike[str],
    stretches: Iterable[Stretch],
    dt: float,
    traces: Sequence[str] = (),
    outputs: Mapping[str, str] | None = None,
    copies: Mapping[str, int] | None = None,
    wide: str = "uint32",
) -> RecordingFolder:
    """Write `stretches` (at least one) as they come, each with `traces`; the folder has all of them, or is as it was.

    ConfigurationError where it cannot be written, or a bin has more spikes of a neuron than µs.
    """
    said: dict[str, Any] = {"format": FORMAT, "version": VERSION, "dt": float(dt), "wide": wide}
    said |= {"outputs": [*(outputs or {}).items()], "copies": [*(copies or {}).items()]}
    try:
        with whole_files(path, files_of(traces)) as folder:
            with ExitStack() as stack:
                events = [stack.enter_context(growing(folder / f"{name}.npy", kind)) for name, kind in COLUMNS.items()]
                kept: dict[str, Growing] = {}
                bins = samples = 0
                for part in _apart(stretches):
                    counts = np.concatenate([*part.spikes.values()], axis=2) if part.spikes else np.zeros((0, 0, 0))
                    for column, values in zip(events, _rows(part.spikes, counts, bins, dt), strict=True):
                        column.append(values)
                    for name in traces:
                        held = part.traces[name]
                        rows = np.concatenate([*held.values()], axis=2).swapaxes(0, 1)
                        if name not in kept:
                            kind = rows.dtype.newbyteorder("<").str
                            sizes = [(node, v.shape[2]) for node, v in held.items()]
                            said.setdefault("traces", {})[name] = {"dtype": kind, "sizes": sizes}
                            kept[name] = stack.enter_context(growing(folder / f"{name}.npy", kind, rows.shape[1:]))
                        kept[name].append(rows)
                    said["sizes"] = [(name, v.shape[2]) for name, v in part.spikes.items()]
                    samples, bins = counts.shape[0], bins + counts.shape[1]
                said |= {"samples": samples, "bins": bins, "events": events[0].rows, "traces": said.get("traces", {})}
            (folder / MANIFEST).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    except _Broken as broken:
        raise broken.error from None
    return RecordingFolder.load(path)


class _Broken(Exception):
    """What broke the run is its own error, not one of the files that are written."""

    def __init__(self, error: OSError) -> None:
        self.error = error


def _apart(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    try:
        yield from stretches
    except OSError as error:
        raise _Broken(error) from error


def _rows(spikes: Mapping[str, np.ndarray], counts: np.ndarray, first: int, dt: float) -> tuple[np.ndarray, ...]:
    """`COLUMNS` of counts (batch, bin, neuron of all nodes) that begin at bin `first`, in order of time."""
    samples, steps, n = counts.shape
    turned = np.ascontiguousarray(counts.swapaxes(0, 1)).reshape(-1)
    place = np.flatnonzero(turned)
    repeat = turned[place]
    each = np.diff(np.searchsorted(place, np.arange(steps + 1) * (samples * n)))
    edges = first_us(first + np.arange(steps + 1), dt)
    time = np.repeat(edges[:-1], each)
    sample, neuron = np.divmod(place - np.repeat(np.arange(steps) * (samples * n), each), max(n, 1))
    sizes = [v.shape[2] for v in spikes.values()]
    node = np.repeat(np.arange(len(sizes), dtype=np.uint16), sizes)[neuron]
    index = np.concatenate([np.zeros(0, np.uint32), *(np.arange(k, dtype=np.uint32) for k in sizes)])[neuron]
    if repeat.max(initial=0) <= 1:
        return time, sample, node, index
    if (full := repeat > (room := np.repeat(np.diff(edges), each))).any():
        k = int(full.argmax())
        bin_ = first + int(np.searchsorted(np.cumsum(each), k, side="right"))
        what = f"{repeat[k]} spikes in bin {bin_}, which has {room[k]} whole µs, one for each."
        hint, name = "Give longer bins, or record in memory (without to).", [*spikes][int(node[k])]
        raise ConfigurationError(
            Finding("error", "counts", what, name, int(index[k]), int(repeat[k]), int(room[k]), hint=hint)
        )
    repeat = repeat.astype(np.int64)
    within = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    time = np.repeat(time, repeat) + within
    order = np.argsort(time, kind="stable")
    return (time[order], *(np.repeat(values, repeat)[order] for values in (sample, node, index)))
