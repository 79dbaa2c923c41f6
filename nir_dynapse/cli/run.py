"""The verb `run`: a Layout on a board, samples or events in, spikes out."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import numpy as np

from nir_dynapse.board.address_events import to_grid
from nir_dynapse.board.board import Board
from nir_dynapse.board.link import CUT, LinkedBoard, monitored, stimuli
from nir_dynapse.cli.exchange import check_places, device_of, run_with
from nir_dynapse.cli.output import Output, accuracy_text, node_rates, rates_text
from nir_dynapse.cli.samples import left_out, stimulus
from nir_dynapse.data.bins import first_us
from nir_dynapse.data.data import Data, Events
from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.files.numbers import DURATION
from nir_dynapse.files.whole import write_arrays
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.readout import run_readout

__all__ = ["run"]

TAIL = 0.1
"""s that a run goes on after the last event of a list."""
MOST_ELEMENTS = 1 << 32
"""Most samples times bins times channels and neurons: what is sent and heard is held in memory, a byte or more for each."""


def run(args: argparse.Namespace, out: Output) -> int:
    check_places(args)
    if args.duration is not None:
        DURATION.check("run", "duration", args.duration, CUT)
    layout = run_with(Layout.load(args.layout), args)
    from nir_dynapse.evaluation.checks import check_decision

    check_decision("run", args.decide or "counts", layout)
    findings = out.warned(layout)
    thing, labelled = stimulus(args.input, layout, args)
    said, lines = left_out(thing)
    if isinstance(thing, Data):
        thing = _samples(thing, layout, args.duration)
    else:
        to_grid(layout, thing, int(first_us(1, _duration(thing, args))), echo=args.echo)  # says what does not fit
    device = device_of(args)

    from nir_dynapse.backend import open_board  # JAX, once what is read was read

    _check_record(args, thing)
    with open_board(args.board, device=device, bit_file=args.bit_file) as board:
        board.apply(layout)
        if isinstance(thing, Events):
            result, arrays = _run_events(board, layout, thing, args)
            notes = []
        else:
            result, arrays, notes = _run_samples(board, layout, thing, labelled, args, out)
    if result["unknown_events"]:
        notes.append(f"{result['unknown_events']} events came from nobody in the Layout.")
    notes += lines
    files = [] if args.out is None else [args.out]
    if args.out is not None:
        write_arrays(args.out, **arrays)
        notes.append(f"Written: {args.out}")
    result = {"run": args.board, **result, "files": files, "findings": findings + said}
    out.result(result, "\n".join([rates_text(result["nodes"]), "", *notes]))
    return 0


def _samples(data: Data, layout: Layout, duration: float | None) -> Data:
    """The samples, cut or lengthened to `duration` s."""
    from nir_dynapse.evaluation.checks import check_data

    check_data(data, layout, labels=False)
    DURATION.check("run", "duration of a sample", data.duration if duration is None else duration, CUT)
    bins = data.x.shape[1] if duration is None else int(np.ceil(duration / data.dt - 1e-9))
    elements = len(data) * bins * (layout.n_channels + layout.n_neurons)
    if elements > MOST_ELEMENTS:
        raise ParameterRangeError(
            f"run: {len(data)} samples of {bins} bins of {data.dt:g} s for {layout.n_channels} channels and "
            f"{layout.n_neurons} neurons are {elements} counts, allowed are {MOST_ELEMENTS}. Give fewer samples, or a "
            "shorter duration."
        )
    if duration is None:
        return data
    longer = np.zeros((len(data), bins, data.x.shape[2]), data.x.dtype)
    longer[:, : data.x.shape[1]] = data.x[:, :bins]
    return Data(longer, data.y, data.dt)


def _check_record(args: argparse.Namespace, thing: Data | Events) -> None:
    """ConfigurationError where there is no membrane to be recorded."""
    if args.record and (args.out is None or args.echo or isinstance(thing, Events) or "virtual" not in args.board):
        raise ConfigurationError(
            "--record: samples on a virtual board, without --echo, are recorded into SPIKES.npz (-o). An oscilloscope at "
            "the monitor pins sees the membranes of a real one."
        )


def _unknown(board: Board) -> int:
    """Events of the last run that nobody in the Layout sends."""
    return len(board.last.unknown) if isinstance(board, LinkedBoard) and board.last is not None else 0


def _run_samples(
    board: Board, layout: Layout, data: Data, labels: bool, args: argparse.Namespace, out: Output
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The result, the arrays to be written, and lines about them."""
    from nir_dynapse.evaluation.checks import score
    from nir_dynapse.sim.virtual.board import VirtualBoard

    at_once = len(data) if isinstance(board, VirtualBoard) and not args.echo else 1
    parts: list[Recording] = []
    unknown = 0
    with out.progress() as tell:
        for first in range(0, len(data), at_once):
            tell("running", first / len(data))
            x = data.x[first : first + at_once]
            if args.record and isinstance(board, VirtualBoard):
                parts.append(board.run_batch(x, data.dt, record=args.record))
            else:
                parts.append(_echoed(board, layout, x[0], data) if args.echo else board.run_batch(x, data.dt))
            unknown += _unknown(board)
        tell("done", 1.0)
    spikes = {node: np.concatenate([part.spikes[node] for part in parts]) for node in parts[0].spikes}
    values = {node: np.concatenate([part.values[node] for part in parts]) for node in parts[0].values}
    copies = parts[0].copies
    arrays: dict[str, Any] = {f"spikes.{node}": counts for node, counts in spikes.items()}
    arrays |= {f"values.{node}": volts for node, volts in values.items()}
    for name, held in parts[0].states.items():
        arrays |= {f"{name}.{node}": np.concatenate([part.states[name][node] for part in parts]) for node in held}
    arrays["dt"] = np.float64(data.dt)
    result: dict[str, Any] = {
        "samples": len(data),
        "duration_s": data.duration,
        "nodes": node_rates(spikes, data.dt, copies),
    }
    result |= {"accuracy": None, "unknown_events": unknown}
    if not labels:
        return result, arrays, []
    whole = Recording(spikes, data.dt, parts[0].outputs, values=values, copies=copies)
    counts = whole.counts()
    if data.y.ndim == 1 and 0 <= data.y.min() <= data.y.max() < counts.shape[1]:
        first = whole.first_spikes() if args.decide == "first-spike" else None
        result["accuracy"] = asdict(score(args.board, counts, data.y, spikes=whole.of_spikes, first=first))
    return result, {**arrays, "y": data.y}, [accuracy_text(result["accuracy"])]


def _echoed(board: Board, layout: Layout, counts: np.ndarray, data: Data) -> Recording:
    """One sample with the stimuli recorded as spikes of their input nodes."""
    heard = board.run(stimuli(layout, counts, data.dt), data.duration, echo=True)
    sizes = {node: len(mask) for node, mask in monitored(layout).items()}
    spikes = {node: heard.to_counts(node, size, data.dt, data.duration)[None] for node, size in sizes.items()}
    copies = {node: c for node, c in layout.copies_of.items() if c > 1 and node in sizes}
    values = run_readout(layout.readout, spikes, layout.dt, data.dt, copies)
    spikes |= {port.name: heard.to_counts(port.name, port.size, data.dt, data.duration)[None] for port in layout.inputs}
    outputs = {port.name: str(port.source) for port in layout.outputs}
    return Recording(spikes, data.dt, outputs, values=values, copies=copies)


def _duration(events: Events, args: argparse.Namespace) -> float:
    """Length in s of the run of an event list."""
    if args.duration is not None:
        return args.duration
    return DURATION.check("run", "duration", 1e-6 * float(events.time.max(initial=0)) + TAIL, CUT)


def _run_events(
    board: Board, layout: Layout, events: Events, args: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The result, and the arrays to be written."""
    duration = _duration(events, args)
    heard = board.run(events, duration, echo=args.echo)
    sizes = {node: len(mask) for node, mask in monitored(layout).items()}
    sizes |= {port.name: port.size for port in layout.inputs} if args.echo else {}
    spikes = {node: heard.to_counts(node, size, duration, duration)[None] for node, size in sizes.items()}
    arrays = {"time_us": heard.time, "node": heard.node, "index": heard.index, "nodes": np.array(heard.nodes, np.str_)}
    result = {"samples": 1, "duration_s": duration, "nodes": node_rates(spikes, duration)}
    return {**result, "accuracy": None, "unknown_events": _unknown(board)}, arrays
