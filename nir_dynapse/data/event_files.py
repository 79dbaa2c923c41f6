"""Events of cameras and data sets, from files and from structured arrays, as `Events` and `Data` for a network's input.

Read are AEDAT4, DAT, EVT2 and EVT3, the HDF5 of the Spiking Heidelberg Digits, our own .npz, and folders of recordings;
docs/event_files.md has an example of each. What a file holds decides, not its name. Channels are (polarity, y, x)
flattened row by row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nir_dynapse.data.bins import bin_of, bins_of, counted
from nir_dynapse.data.data import MOST_EVENTS, Data, Events
from nir_dynapse.data.recording_folder import RecordingFolder
from nir_dynapse.data.sensor import Sensed, View, channels
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.files.bounds import UnreadableError, array_names, foreign
from nir_dynapse.network.network import Port

__all__ = ["events_to_data", "file_kind", "from_structured", "read_data", "read_events", "read_samples"]

MOST_FILE = 1 << 28
"""Most bytes of a camera's file; HDF5 is read a sample at a time."""
MAGICS = {b"#!AER-DAT4.0": "aedat4", b"\x89HDF\r\n\x1a\n": "hdf5", b"%": "prophesee", b"PK\x03\x04": "npz"}
FIELDS = {"t": ("t", "ts", "time", "timestamp"), "x": ("x",), "y": ("y",), "on": ("p", "on", "polarity")}
"""Names that fields of structured arrays have in tonic, aedat, expelliarmus, faery and dv_processing."""
UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0}
RECORDED = ("start", "duration")
"""What of a `View` a recording knows."""
_REMEDY = "Check that it is the right file and was copied whole, and record or export it again."


def read_events(
    path: str | os.PathLike[str],
    *,
    node: str = "input",
    shape: Sequence[int] | None = None,
    crop: tuple[int, ...] | None = None,
    pool: int = 1,
    polarity: str | None = None,
    start: float | None = None,
    duration: float | None = None,
    sample: int = 0,
) -> Events:
    """The events of a file as those of input node `node`; `Events.findings` counts the ones that are left out.

    shape: that of the input node, (polarity, y, x) or less; what the file gives is compared with it. crop: (x, y, width,
    height) in pixels, or (x, width) of one row. pool: pixels per channel along each axis. polarity: "both" (OFF channels
    before ON channels), "merge", "on" or "off"; by default both, or one where the shape has no more. start: time in s that
    becomes 0, by default the first event of a camera's file. duration: s that are kept from there on. sample: which one of
    an HDF5 file or a recording. Raises ConfigurationError for a file that is something else, damaged or too large, and for
    channels that are not those of the node; NotInstalledError where the reader of the format is missing.
    """
    view = View(crop, pool, polarity, start, duration)
    kind = file_kind(path)
    if kind == "npz":
        _only_for_sensors(path, view)
        return Events.load(path)
    if kind == "recording":
        _only_for_sensors(path, view, RECORDED)
        return RecordingFolder.load(path).events(sample, start or 0.0, duration)
    chosen = slice(sample, sample + 1) if sample >= 0 else slice(0, 0)
    samples = _read(path, kind, chosen)
    if not samples:
        raise ConfigurationError(f"{path}: it has no sample {sample}. Samples are numbered from 0.")
    return _events(samples[0][0], view, node, None if shape is None else tuple(shape), str(path))


def from_structured(
    array: Any,
    *,
    node: str = "input",
    shape: Sequence[int] | None = None,
    crop: tuple[int, ...] | None = None,
    pool: int = 1,
    polarity: str | None = None,
    start: float | None = None,
    duration: float | None = None,
    time_unit: str = "us",
) -> Events:
    """A structured array (event,) with the fields t, x and, where held, y and p, as tonic gives it, as `Events`.

    time_unit: "s", "ms" or "us" (default) of its times; the others as in `read_events`, with `start` 0 by default.
    Polarities above 0 are ON. Raises ConfigurationError for anything else.
    """
    if time_unit not in UNITS:
        raise ConfigurationError(f"time_unit is {time_unit!r}. Choose from {', '.join(UNITS)}.")
    view = View(crop, pool, polarity, start, duration)
    return _events(_sensed(array, UNITS[time_unit]), view, node, None if shape is None else tuple(shape), "the array")


def events_to_data(
    events: Events | Sequence[Events],
    inputs: Sequence[Port],
    dt: float,
    *,
    y: Any = None,
    duration: float | None = None,
) -> Data:
    """Samples of events as `Data`: counts (sample, time, channel) in bins of `dt` s, for the input nodes `inputs`.

    `inputs` and `dt` are those of the network. duration: length of every sample in s (default: to the last event of all).
    Bin k holds the times k·dt <= t < (k + 1)·dt. `Data.findings` counts events outside, and of other nodes. y: classes
    (sample,), by default 0. Raises ConfigurationError for an event of a channel that its node has not.
    """
    samples = [events] if isinstance(events, Events) else list(events)
    last = max((int(part.time.max()) for part in samples if len(part)), default=0)
    length = duration if duration is not None else (max(int(bin_of(last, dt)), 0) + 1) * dt
    steps = bins_of(length, dt)
    places = []
    left = other = 0
    first = np.cumsum([0, *(port.size for port in inputs)])
    for i, part in enumerate(samples):
        bins = bin_of(part.time, dt)
        inside = (bins >= 0) & (bins < steps)
        channel = np.full(len(part), -1)
        for offset, port in zip(first, inputs, strict=False):
            mine = part.node == part.nodes.index(port.name) if port.name in part.nodes else np.zeros(len(part), bool)
            wrong = mine & ((part.index < 0) | (part.index >= port.size))
            if wrong.any():
                raise ConfigurationError(
                    f"node {port.name!r}: {int(wrong.sum())} events are of channels that it has not, one of "
                    f"{part.index[wrong][0]}; it has {port.size}. Check that the events belong to this network."
                )
            channel[mine] = offset + part.index[mine]
        known = channel >= 0
        left, other = left + int((known & ~inside).sum()), other + int((~known).sum())
        kept = known & inside
        places.append((np.full(int(kept.sum()), i), bins[kept], channel[kept]))
    where = tuple(np.concatenate([np.zeros(0, np.int64), *(p[k] for p in places)]) for k in range(3))
    counts = counted(where, (len(samples), steps, int(first[-1])))
    findings = [finding for part in samples for finding in part.findings]
    said = [f"{left} outside of 0 to {length:g} s"] * bool(left) + [f"{other} of nodes that are no inputs"] * bool(
        other
    )
    if said:
        total = sum(map(len, samples))
        text = f"{left + other} of {total} events are left out: {', '.join(said)}."
        findings.append(Finding("warning", "events-left-out", text, used=left + other, limit=total))
    classes = np.zeros(len(samples), np.int64) if y is None else np.asarray(y)
    return Data(counts, classes, dt, findings=tuple(findings))


def read_data(
    path: str | os.PathLike[str],
    inputs: Sequence[Port],
    dt: float,
    *,
    labels: bool = True,
    crop: tuple[int, ...] | None = None,
    pool: int = 1,
    polarity: str | None = None,
    start: float | None = None,
    duration: float | None = None,
    samples: slice = slice(None),
) -> Data:
    """A file of events, or an .npz of events or of samples, as `Data` for a network with these `inputs` and step `dt`.

    With `labels=False` classes may be missing; every class is 0 then. samples: which ones of an HDF5 file or a recording.
    The others as in `read_events`; errors as there and in `events_to_data`.
    """
    data, labelled = read_samples(path, inputs, dt, View(crop, pool, polarity, start, duration), samples)
    if labels and not labelled:
        raise ConfigurationError(
            f"{path}: it has no classes, which an accuracy needs. Give data with classes, or bin its events with "
            "events_to_data(..., y=classes) and save that."
        )
    return data


def read_samples(
    path: str | os.PathLike[str], inputs: Sequence[Port], dt: float, view: View, samples: slice = slice(None)
) -> tuple[Data, bool]:
    """As `read_data`, and whether the file has classes (those of `Data` are 0 where it has none)."""
    kind = file_kind(path)
    if kind == "npz":
        _only_for_sensors(path, view)
        names = array_names(path)
        if "time_us" not in names and view.duration is not None:
            raise ConfigurationError(f"{path}: holds samples, which have their length. Leave duration out, or cut x.")
        if "time_us" not in names:
            return Data.load(path, labels=False), "y" in names
        return events_to_data(Events.load(path), inputs, dt, duration=view.duration), False
    if kind == "recording":
        _only_for_sensors(path, view, RECORDED)
        held, start = RecordingFolder.load(path), view.start or 0.0
        events = held.samples_of_events(start, view.duration)[samples]
        _some(path, events)
        return events_to_data(events, inputs, dt, duration=view.duration or held.duration - start), False
    if len(inputs) != 1:
        names = ", ".join(repr(port.name) for port in inputs) or "none"
        raise ConfigurationError(
            f"{path}: a file of events belongs to one input node, the network has {names}. Read a file for each with "
            "read_events(node=...), and join them with events_to_data."
        )
    port = inputs[0]
    read = [(_events(s, view, port.name, port.shape, str(path)), label) for s, label in _read(path, kind, samples)]
    _some(path, read)
    labelled = all(label is not None for _, label in read)
    classes = [label or 0 for _, label in read]
    data = events_to_data([events for events, _ in read], inputs, dt, y=classes, duration=view.duration)
    return replace(data, findings=_joined(data.findings)), labelled


def _some(path: str | os.PathLike[str], chosen: Sequence[Any]) -> None:
    if not chosen:
        raise ConfigurationError(f"{path}: none of its samples is chosen. Choose others.")


def _joined(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of many samples: those of one code and node as one that adds up what is left out."""
    groups: dict[tuple[str, str | None], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.code, finding.node), []).append(finding)
    made = []
    for (code, node), held in groups.items():
        if len(held) == 1:
            made.append(held[0])
        elif code == "events-left-out":
            left, total = (sum(int(float(getattr(f, key) or 0)) for f in held) for key in ("used", "limit"))
            text = f"{left} of {total} events of {len(held)} samples are left out; of the first: {held[0].what}"
            made.append(Finding("warning", code, text, node=node, used=left, limit=total))
        else:
            made.append(Finding(held[0].severity, code, f"{held[0].what} So in {len(held)} samples.", node=node))
    return tuple(made)


def file_kind(path: str | os.PathLike[str]) -> str:
    """ "aedat4", "hdf5", "prophesee" or "npz", by how a file begins, or "recording"; ConfigurationError otherwise."""
    known = "AEDAT4, DAT, EVT2, EVT3 (.raw), the HDF5 of SHD and .npz are read"
    try:
        if Path(path).is_dir():
            return "recording"
        with Path(path).open("rb") as stream:
            start = stream.read(64)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}). Check the path."
        ) from error
    kind = next((name for magic, name in MAGICS.items() if start.startswith(magic)), None)
    if kind is None:
        other, helps = foreign(start)
        if other:
            raise ConfigurationError(f"{path}: cannot be read: it is {other}. {helps}")
        raise ConfigurationError(
            f"{path}: cannot be read: it begins with {start[:16]!r}, which is none of these ({known}). Convert it, or "
            "give a structured array to Events.from_structured."
        )
    return kind


def _read(path: str | os.PathLike[str], kind: str, chosen: slice) -> list[tuple[Sensed, int | None]]:
    """The samples of a file that is no .npz, each with its label or None; ConfigurationError where it is damaged."""
    from nir_dynapse.data.inivation import read_aedat4
    from nir_dynapse.data.prophesee import read_prophesee

    try:
        if kind == "hdf5":
            from nir_dynapse.data.spike_hdf5 import read_hdf5

            return read_hdf5(os.fspath(path), chosen, MOST_EVENTS)
        with Path(path).open("rb") as stream:
            content = stream.read(MOST_FILE + 1)
        if len(content) > MOST_FILE:
            raise UnreadableError(f"it is longer than {MOST_FILE >> 20} MiB; cut the recording")
        if kind == "aedat4":
            seen = read_aedat4(os.fspath(path), content, MOST_EVENTS)
        else:
            seen = read_prophesee(content, MOST_EVENTS)
    except (OSError, UnreadableError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{path}: cannot be read as a file of events: {reason}. {_REMEDY}") from error
    alone: list[tuple[Sensed, int | None]] = [(seen, None)]
    return alone[chosen]


def _events(seen: Sensed, view: View, node: str, shape: tuple[int, ...] | None, what: str) -> Events:
    time, index, findings = channels(seen, view, node, shape, what)
    return Events(time, np.zeros(len(time), np.int64), index, (node,), findings=tuple(findings))


def _only_for_sensors(path: str | os.PathLike[str], view: View, also: tuple[str, ...] = ("duration",)) -> None:
    if view != View(**{name: getattr(view, name) for name in also}):
        pixels = "crop, pool and polarity" if "start" in also else "crop, pool, polarity and start"
        raise ConfigurationError(f"{path}: it holds channels, not pixels: leave {pixels} out.")


def _sensed(array: Any, unit: float) -> Sensed:
    """A structured array as `Sensed`; `unit` is µs per unit of its times."""
    a = np.asarray(array)
    names = {key: next((n for n in also if n in (a.dtype.names or ())), None) for key, also in FIELDS.items()}
    if names["t"] is None or names["x"] is None or a.ndim != 1:
        raise ConfigurationError(
            f"the array has type {str(a.dtype)[:80]} and shape {a.shape}; needed is a structured array (event,) with the "
            "fields t, x and, where the sensor has them, y and p (polarity), as tonic gives it."
        )
    if len(a) > MOST_EVENTS:
        raise ConfigurationError(f"the array has {len(a)} events, at most {MOST_EVENTS} are taken. Split it.")
    held = {key: a[name] for key, name in names.items() if name is not None}
    for key, values in held.items():
        good = values.dtype.kind in ("iuf" if key in "tx y" else "iufb") and np.all(np.isfinite(values))
        if (
            not good
            or (key in "xy" and np.any(values != np.floor(values)))
            or np.any(np.abs(values * 1.0) * unit > 2**62)
        ):
            raise ConfigurationError(
                f"field {names[key]!r} of the array has type {values.dtype}, or values that are not finite"
                f"{' whole pixels' if key in 'xy' else ''}, or too large. Give numbers."
            )
    time = held["t"].astype(np.int64) if unit == 1 and held["t"].dtype.kind in "iu" else np.round(held["t"] * unit)
    pixels = {key: held[key].astype(np.int64) for key in ("x", "y") if key in held}
    return Sensed(time.astype(np.int64), pixels["x"], pixels.get("y"), held.get("on"))
