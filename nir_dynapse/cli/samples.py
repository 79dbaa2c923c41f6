"""What --data and --input name: samples in an .npz, or files of events, as `Data` or `Events` for a network."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from nir_dynapse.data.data import Data, Events
from nir_dynapse.data.event_files import file_kind, read_events, read_samples
from nir_dynapse.data.recording_folder import RecordingFolder
from nir_dynapse.data.sensor import View
from nir_dynapse.errors import ConfigurationError, Finding, raise_if_errors, strictly

__all__ = ["left_out", "samples", "stimulus"]


def samples(
    path: str, thing: Any, args: argparse.Namespace, *, labels: bool, view: View | None = None
) -> tuple[Data, bool]:
    """The samples for `thing` (Network, Params or Layout), and whether they have classes, which `labels` asks for."""
    known = getattr(thing, "topology", thing)
    data, labelled = read_samples(path, known.inputs, known.dt, view or _view(args), args.samples or slice(None))
    if labels and not labelled:
        raise ConfigurationError(
            f"{path}: it has no classes, which an accuracy needs. Give data with y, or simulate it."
        )
    return _accepted(data, args), labelled


def stimulus(path: str, layout: Any, args: argparse.Namespace) -> tuple[Data | Events, bool]:
    """What a board is given: events as they are, or samples; and whether those have classes."""
    from nir_dynapse.files.bounds import array_names

    kind = file_kind(path)
    several = kind == "recording" and RecordingFolder.load(path).samples != 1
    if kind == "hdf5" or several or (kind == "npz" and "time_us" not in array_names(path)):
        view = _view(args) if kind != "npz" else replace(_view(args), duration=None)  # the run itself is cut
        return samples(path, layout, args, labels=False, view=view)
    view = _view(args)
    port = layout.inputs[0] if len(layout.inputs) == 1 else None
    if port is None and kind not in ("npz", "recording"):
        names = ", ".join(repr(port.name) for port in layout.inputs) or "none"
        raise ConfigurationError(f"{path}: a file of events belongs to one input node, the Layout has {names}.")
    seen = {"node": port.name, "shape": port.shape} if port is not None else {}
    options = {"crop": view.crop, "pool": view.pool, "polarity": view.polarity, "start": view.start}
    duration = None if kind == "npz" else view.duration
    return _accepted(read_events(path, **seen, **options, duration=duration), args), False


def left_out(thing: Data | Events) -> tuple[list[dict[str, Any]], list[str]]:
    """What reading had to say: findings for --json, and lines."""
    return [finding.to_dict() for finding in thing.findings], [_line(finding) for finding in thing.findings]


def _line(finding: Finding) -> str:
    return f"{finding.severity}: {finding}"


def _view(args: argparse.Namespace) -> View:
    return View(args.crop, args.pool or 1, args.polarity, args.start, args.duration)


def _accepted(thing: Any, args: argparse.Namespace) -> Any:
    if args.strict:
        raise_if_errors(strictly(thing.findings), ConfigurationError)
    return thing
