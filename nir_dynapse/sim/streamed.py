"""Runs whose recording goes to the disk while they run: cut along time, the state carried from stretch to stretch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.circuit.copies import folded
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.counts import check_counts
from nir_dynapse.data.images import flattened
from nir_dynapse.data.recording_folder import VALUES, RecordingFolder, Stretch, write_recording
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.network.network import Network, Port
from nir_dynapse.network.readout import ReadoutBlocks
from nir_dynapse.sim.circuit import (
    MOST_EVENTS,
    TRACES,
    Disturbance,
    currents_for,
    prepare,
    tonic_events,
    traces_of,
)
from nir_dynapse.sim.native import here as native
from nir_dynapse.sim.native.play import Circuit, Events, Found, play
from nir_dynapse.sim.reference import TRACES as IDEAL_TRACES
from nir_dynapse.sim.reference import reference_blocks
from nir_dynapse.sim.simulation import Steps, steps_of, stretch_in_numpy

__all__ = ["stream_circuit", "stream_ideal"]

STRETCH = 1 << 22
"""Bytes of counts and currents of a stretch, about."""
MANY = 4096
"""Bins in which the tonic channel shows the most events that it has in one."""
Run = Callable[[np.ndarray, int], tuple[np.ndarray, Sequence[np.ndarray]]]
"""Counts (batch, bin, channel) and the number of their first bin to spikes (batch, bin, N) and what else is wanted."""


class _Input(NamedTuple):
    """Counts (batch, bin, channel) in `blocks` of at most so many bins: `most` events in one, `steps` bins (or inf)."""

    blocks: Iterator[np.ndarray]
    batch: int
    steps: float
    most: float

    @classmethod
    def of(cls, x: Any, inputs: Sequence[Port], columns: int, *, whole: bool) -> _Input:
        """Of an array, or an iterator of blocks, each checked as it comes; `columns` bytes are kept per sample and bin."""
        nodes = [(port.name, port.size) for port in inputs]
        channels = sum(port.size for port in inputs)

        def checked(block: Any) -> np.ndarray:
            return check_counts(flattened(block, inputs), nodes, whole=whole)

        def length(batch: int) -> int:
            return max(1, STRETCH // max(1, batch * max(channels, columns)))

        if not isinstance(x, Iterator):
            counts = checked(x)
            return cls(_parts(counts, length(len(counts))), len(counts), counts.shape[1], float(counts.max(initial=0)))
        first = checked(next(x, np.zeros((1, 0, channels), np.uint8)))
        cut = length(len(first))
        return cls(_pieces(chain([first], map(checked, x)), len(first), cut, whole), len(first), np.inf, MOST_EVENTS)


def _parts(counts: np.ndarray, length: int) -> Iterator[np.ndarray]:
    for first in range(0, max(counts.shape[1], 1), length):
        yield counts[:, first : first + length]


def _pieces(blocks: Iterable[np.ndarray], batch: int, length: int, whole: bool) -> Iterator[np.ndarray]:
    for number, block in enumerate(blocks):
        if len(block) != batch:
            raise ConfigurationError(
                f"simulate: block {number} of x has {len(block)} samples, the first one {batch}. Give as many in each."
            )
        if whole and block.max(initial=0) > MOST_EVENTS:
            raise ConfigurationError(
                f"simulate: block {number} of x has {block.max():g} events of a channel in a bin, blocks may have "
                f"{MOST_EVENTS:g}, with which sums are exact. Give finer bins, or x as one array (it may be memory-mapped)."
            )
        yield from _parts(block, length)


def stream_circuit(
    params: Params,
    x: Any,
    dt: float,
    record: Sequence[str],
    backend: str,
    disturbance: Disturbance,
    to: str | os.PathLike[str],
) -> RecordingFolder:
    """`simulation.run_circuit` of `x`, with its recording in the folder `to`."""
    t = params.topology
    wanted = currents_for(record)
    given = _Input.of(x, t.inputs, t.n_neurons * (1 + 8 * len(wanted)), whole=True)
    lists = backend == "jax" and native.available()
    by = steps_of(params, dt, disturbance, lists)
    tonic = tonic_events(t.tonic_period, MANY if given.steps == np.inf else int(given.steps), dt)
    most = max(given.most, float(tonic.max(initial=0)))
    begin = _kernels if lists else partial(_scans, backend=backend)
    run = begin(params, dt, by, disturbance, wanted, given.batch, most)
    copies = {node: c for node, c in t.copies_of.items() if c > 1}
    readout = ReadoutBlocks(t.readout, t.dt, dt, copies)

    def stretches() -> Iterator[Stretch]:
        first = 0
        for counts in given.blocks:
            spikes, extras = run(counts, first)
            first += counts.shape[1]
            traces = traces_of(params, record, extras, dt / by.substeps)
            by_node = folded(t, spikes)
            traces |= {VALUES: read} if (read := readout.read(by_node)) else {}
            yield Stretch(by_node, traces)

    kept = tuple(name for name in TRACES if name in record and name != "spikes")
    traces = (*kept, VALUES) if t.readout else kept
    outputs = {port.name: str(port.source) for port in t.outputs}
    return write_recording(to, stretches(), dt, traces, outputs, copies)


def stream_ideal(
    network: Network, x: Any, record: Sequence[str], backend: str, to: str | os.PathLike[str]
) -> RecordingFolder:
    """`reference.run_reference` of `x`, with its recording in the folder `to`."""
    wanted = tuple(name for name in IDEAL_TRACES if name in record)
    neurons = sum(p.size for p in (*network.populations, *network.readout.populations))
    given = _Input.of(x, network.inputs, neurons * 4 * (2 + len(wanted)), whole=False)
    blocks = (counts.astype(np.float32) for counts in given.blocks)
    traces = (*wanted, VALUES) if network.readout else wanted
    outputs = {p.name: str(p.source) for p in network.outputs}
    found = reference_blocks(network, blocks, given.steps, record=record, backend=backend)
    stretches = (Stretch(part.spikes, {**part.traces, VALUES: part.values}) for part in found)
    return write_recording(to, stretches, network.dt, traces, outputs, wide="int64")


def _kernels(
    params: Params,
    dt: float,
    by: Steps,
    disturbance: Disturbance,
    wanted: tuple[str, ...],
    batch: int,
    most: float,
) -> Run:
    circuit = Circuit.of(params, dt, by.substeps, by.structure, most, disturbance)
    state, period = circuit.silence(batch), params.topology.tonic_period

    def run(counts: np.ndarray, first: int) -> tuple[np.ndarray, Sequence[np.ndarray]]:
        steps = counts.shape[1]
        found = Found.of(batch, steps, circuit.n, circuit.n, wanted=wanted)
        events = Events.of(counts, tonic_events(period, steps, dt, first))
        play(circuit, events, np.arange(batch), found, state=state, first_bin=first)
        return found.counts, list(found.traces)

    return run


def _scans(
    params: Params,
    dt: float,
    by: Steps,
    disturbance: Disturbance,
    wanted: tuple[str, ...],
    batch: int,
    most: float,
    backend: str,
) -> Run:
    """By XLA, or in NumPy."""
    weights, c = prepare(params, dt / by.substeps, by.structure, most, disturbance)
    period, seed, sample = params.topology.tonic_period, disturbance.word, np.arange(batch)
    stretch, carry = stretch_in_numpy, None
    if backend == "jax":
        from nir_dynapse.sim.scanned import stretch_in_jax as stretch  # JAX, where it is needed

    def run(counts: np.ndarray, first: int) -> tuple[np.ndarray, Sequence[np.ndarray]]:
        nonlocal carry
        steps = counts.shape[1]
        if not steps:
            nothing = (batch, 0, params.topology.n_neurons)
            return np.zeros(nothing, np.uint8), [np.zeros(nothing, np.float32) for _ in wanted]
        tonic = np.broadcast_to(tonic_events(period, steps, dt, first)[None, :, None], (batch, steps, 1))
        x = np.concatenate([counts.astype(np.float32), tonic], axis=2)
        (spikes, extras), carry = stretch(weights, c, x, seed, sample, by, wanted, carry)
        return np.asarray(spikes, np.uint8), [np.asarray(e) for e in extras]

    return run
