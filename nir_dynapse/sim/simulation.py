"""`simulate`: run a Network, Params or Layout on event counts, ideally (NIR) or as a circuit, in JAX or NumPy.

Circuits run on the kernels of `sim.native` where JAX would compute on CPUs, otherwise as a scan by XLA.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch, check_mismatch
from nir_dynapse.circuit.copies import folded, smallest
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.counts import check_counts
from nir_dynapse.data.data import Events as SpikeEvents
from nir_dynapse.data.images import flattened
from nir_dynapse.data.nir_data import input_counts, is_nir_data
from nir_dynapse.data.recording import Recording
from nir_dynapse.data.recording_folder import RecordingFolder
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.files.numbers import SEED, STEP, shown
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.network.readout import run_readout
from nir_dynapse.sim.circuit import (
    TRACES,
    Disturbance,
    currents_for,
    internal_step,
    observe,
    prepare,
    run_bin,
    structure_of,
    tonic_events,
    traces_of,
    with_tonic,
)
from nir_dynapse.sim.disturbance import of_bin
from nir_dynapse.sim.dynamics import Constants, State, Structure, initial_state
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.native import here as native
from nir_dynapse.sim.native.play import Circuit, Events, Found, play
from nir_dynapse.sim.reference import run_reference
from nir_dynapse.sim.timed import run_timed
from nir_dynapse.sim.wiring import Weights

__all__ = ["Recording", "simulate"]

STRETCH = 1 << 24
"""Input counts of a stretch of time that the kernels run at once, about: their events become lists."""
CHUNK_ELEMENTS = 40_000_000
"""Elements recorded at most per call of the inner loop; larger batches are cut along the batch axis."""


class Steps(NamedTuple):
    """What a step does, and how many there are in a bin."""

    structure: Structure
    substeps: int


@overload
def simulate(
    thing: Network | Params | Layout,
    x: Any,
    *,
    dt: float | None = None,
    ideal: bool = False,
    mismatch: Mismatch | None = None,
    key: int = 0,
    record: Sequence[str] = ("spikes",),
    backend: Literal["jax", "numpy"] = "jax",
    device: Device = DYNAPSE2,
    times: bool = False,
    to: str | os.PathLike[str],
) -> RecordingFolder: ...
@overload
def simulate(
    thing: Network | Params | Layout,
    x: Any,
    *,
    dt: float | None = None,
    ideal: bool = False,
    mismatch: Mismatch | None = None,
    key: int = 0,
    record: Sequence[str] = ("spikes",),
    backend: Literal["jax", "numpy"] = "jax",
    device: Device = DYNAPSE2,
    times: bool = False,
    to: None = None,
) -> Recording: ...
def simulate(
    thing: Network | Params | Layout,
    x: Any,
    *,
    dt: float | None = None,
    ideal: bool = False,
    mismatch: Mismatch | None = None,
    key: int = 0,
    record: Sequence[str] = ("spikes",),
    backend: Literal["jax", "numpy"] = "jax",
    device: Device = DYNAPSE2,
    times: bool = False,
    to: str | os.PathLike[str] | None = None,
) -> Recording | RecordingFolder:
    """Run `thing` on event counts `x` (batch, time, channel) or (time, channel), bins of `dt` s (default: its own dt).

    Where the input node has the shape of images, `x` may be (batch, time, *shape) or (time, *shape), too.
    `x` may also be an `nir.NIRGraphData` (or one of NIR's other data containers) with the spikes of the input nodes.

    `ideal=True` (Network only) runs NIR semantics, forward Euler at the network's own dt. Otherwise the circuits are
    simulated: a Network through its closed-form mapping, a Layout from its bits; they receive whole events, an ideal run
    takes values, too. `mismatch` puts it on virtual chip `key`.
    `record` names what to return besides spikes (`TRACES`: currents in A and `v_mem` in V; "v" in ideal runs). Where
    several neurons of the chip stand for one of the network, spikes are their sum, and a readout on the host reads their
    mean.

    With `times` the recording also has every spike as an event, at the time when the threshold is met (`Recording.events`,
    in µs): such runs are stepped in NumPy, some 0.1 ms per internal step, whatever the `backend`.

    With a folder `to` the recording goes there while it runs, spikes as events, so that memory does not grow with
    its length; `x` may then be an iterator of blocks of bins, and what comes back is a `RecordingFolder`. All of it is
    there when the run has ended, or nothing. Raises ParameterRangeError for a dt that contradicts the network's and for
    times where a run has none, and ConfigurationError for input of the wrong shape or content, or a folder that cannot be
    written.
    """
    key = SEED.check("simulate", "key", key, "Give the number of a virtual chip.")
    if not isinstance(record, (tuple, list)) or not all(isinstance(name, str) for name in record):
        raise ParameterRangeError(
            f"simulate: record is {shown(record)}. Give names of {', '.join(TRACES)} (ideal: v, i_syn) as a tuple."
        )
    if not isinstance(backend, str):
        raise ParameterRangeError(f"simulate: backend is {shown(backend)}. Choose 'jax' or 'numpy'.")
    check_mismatch("simulate", mismatch)
    if dt is not None:
        dt = STEP.check("simulate", "dt", dt, "Give the width of a bin of x in seconds.")
    if times and (ideal or to is not None):
        what = "an ideal run fires at the ends of its steps" if ideal else "a recording in a folder has bins"
        raise ParameterRangeError(f"simulate: times within a bin were asked for, but {what}. Leave times out.")
    if ideal:
        if not isinstance(thing, Network):
            raise ParameterRangeError(
                "simulate: ideal=True runs NIR semantics, which only a Network has. Pass a Network."
            )
        if dt is not None and abs(dt - thing.dt) > 1e-6 * thing.dt:
            raise ParameterRangeError(
                f"simulate: ideal=True with dt = {dt:g} s, but the network is defined at its own step of {thing.dt:g} s. "
                "Leave dt out, or read the network with the dt that you mean."
            )
        x = input_counts(x, thing.inputs, thing.dt) if is_nir_data(x) else x
        if to is not None:
            from nir_dynapse.sim.streamed import stream_ideal

            return stream_ideal(thing, x, record, backend, to)
        nodes, x = [(port.name, port.size) for port in thing.inputs], flattened(x, thing.inputs)
        counts = check_counts(x, nodes, whole=False).astype(np.float32)
        result = run_reference(thing, counts, record=record, backend=backend)
        outputs = {p.name: str(p.source) for p in thing.outputs}
        return Recording(result.spikes, thing.dt, outputs, result.traces, result.values)

    params = as_params(thing, device)
    if mismatch is not None:
        params = fabricate(params, mismatch, key)
    bin_width = params.topology.dt if dt is None else dt
    x = input_counts(x, params.topology.inputs, bin_width) if is_nir_data(x) else x
    if to is not None:
        from nir_dynapse.sim.streamed import stream_circuit

        check_run(record, backend)
        return stream_circuit(params, x, bin_width, record, backend, Disturbance.of(mismatch, key), to)
    x = flattened(x, params.topology.inputs)
    counts = check_counts(x, [(port.name, port.size) for port in params.topology.inputs])
    return run_circuit(params, counts, bin_width, record, backend, Disturbance.of(mismatch, key), times)


def run_circuit(
    params: Params,
    counts: np.ndarray,
    dt: float,
    record: Sequence[str],
    backend: str = "jax",
    disturbance: Disturbance | None = None,
    times: bool = False,
) -> Recording:
    """Simulate `params` on checked counts (batch, time, channel) with bins of `dt` s; `times`: spikes as events, too."""
    check_run(record, backend)
    topology = params.topology
    wanted = currents_for(record)
    disturbance = disturbance or Disturbance()
    lists = backend == "jax" and native.available()
    run_all = _compiled if lists else partial(_scanned, backend=backend)
    by = steps_of(params, dt, disturbance, lists and not times)
    events: tuple[SpikeEvents, ...] = ()
    if times:
        spikes, extras, events = run_timed(params, counts, dt, by, disturbance, wanted)
    else:
        spikes, extras = run_all(params, counts, dt, by, disturbance, wanted)
    states = traces_of(params, record, extras, dt / by.substeps)
    outputs = {port.name: str(port.source) for port in topology.outputs}
    by_node = {node: smallest(counts) for node, counts in folded(topology, spikes).items()}
    copies = {node: c for node, c in topology.copies_of.items() if c > 1}
    values = run_readout(topology.readout, by_node, topology.dt, dt, copies)
    return Recording(by_node, dt, outputs, states, values, copies=copies, events=events)


def check_run(record: Sequence[str], backend: str) -> None:
    """ParameterRangeError for what a circuit cannot record, or what cannot run it."""
    for name in record:
        if name not in TRACES:
            raise ParameterRangeError(f"simulate: cannot record {name!r}. Recordable are {', '.join(TRACES)}.")
    if backend not in ("jax", "numpy"):
        raise ParameterRangeError(f"simulate: unknown backend {backend!r}. Choose 'jax' or 'numpy'.")


def run_events(
    params: Params, bins: np.ndarray, channel: np.ndarray, steps: int, dt: float, disturbance: Disturbance
) -> np.ndarray:
    """Spike counts (steps, N) for single events on `channel` (E,) in `bins` (E,) of `dt` s: the kernels take lists."""
    t, lists = params.topology, native.available()
    by = steps_of(params, dt, disturbance, lists)
    place, times = np.unique(bins * t.n_channels + channel, return_counts=True)
    if not lists:
        counts = np.zeros((1, steps, t.n_channels), np.float32)
        counts.reshape(-1)[place] = times
        return _scanned(params, counts, dt, by, disturbance, (), "jax")[0][0]
    tonic = tonic_events(t.tonic_period, steps, dt)
    most = float(max(times.max(initial=0), tonic.max(initial=0)))
    circuit = Circuit.of(params, dt, by.substeps, by.structure, most, disturbance)
    ends = np.searchsorted(place, np.arange(steps + 1) * t.n_channels)
    channels = (place % max(t.n_channels, 1)).astype(np.int32)
    found = Found.of(1, steps, circuit.n)
    play(circuit, Events(ends, channels, times.astype(np.float32), tonic), np.arange(1), found)
    return found.counts[0]


def steps_of(params: Params, dt: float, disturbance: Disturbance, lists: bool) -> Steps:
    """How a circuit steps through bins of `dt` s; with `lists` of synapses rather than groups of matrices."""
    n_sub = internal_step(params, dt)
    return Steps(structure_of(params, dt / n_sub, disturbance, lists=lists, substeps=n_sub), n_sub)


def _compiled(
    params: Params,
    counts: np.ndarray,
    dt: float,
    by: Steps,
    disturbance: Disturbance,
    wanted: tuple[str, ...],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Spikes (batch, time, N) and what is `wanted` by `sim.native.play`, in stretches of time."""
    batch, steps, channels = counts.shape
    tonic = tonic_events(params.topology.tonic_period, steps, dt)
    most = float(max(counts.max(initial=0), tonic.max(initial=0)))
    circuit = Circuit.of(params, dt, by.substeps, by.structure, most, disturbance)
    found = Found.of(batch, steps, circuit.n, circuit.n, wanted=wanted)
    length = max(1, STRETCH // max(1, batch * channels))
    state = circuit.silence(batch) if length < steps else None
    for first in range(0, steps, length):
        part = slice(first, first + length)
        events = Events.of(counts[:, part], tonic[part])
        play(circuit, events, np.arange(batch), found, state=state, first_bin=first, first_place=first)
    return found.counts, list(found.traces)


def _scanned(
    params: Params,
    counts: np.ndarray,
    dt: float,
    by: Steps,
    disturbance: Disturbance,
    wanted: tuple[str, ...],
    backend: str,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The same step by step, by XLA or in NumPy, in parts of the batch."""
    (batch, steps, _), n = counts.shape, params.topology.n_neurons
    x = with_tonic(counts.astype(np.float32), params, dt, np)
    weights, c = prepare(params, dt / by.substeps, by.structure, float(x.max(initial=0)), disturbance)
    arm = _in_numpy
    if backend == "jax":
        from nir_dynapse.sim.scanned import in_jax as arm  # JAX, where it is needed
    size = max(1, CHUNK_ELEMENTS // max(1, by.substeps * steps * n * (1 + len(wanted))))
    seed, sample = disturbance.word, np.arange(batch)
    firsts = range(0, batch if steps else 0, size)
    parts = [arm(weights, c, x[i : i + size], seed, sample[i : i + size], by, wanted) for i in firsts]
    shape = batch, steps, n
    spikes = np.concatenate([np.asarray(p[0], np.uint8) for p in parts] or [np.zeros(shape, np.uint8)])
    nothing = [np.zeros(shape, np.float32)]
    return spikes, [np.concatenate([np.asarray(p[1][k]) for p in parts] or nothing) for k in range(len(wanted))]


def _in_numpy(
    weights: Weights,
    c: Constants,
    x: np.ndarray,
    seed: np.uint32,
    sample: np.ndarray,
    by: Steps,
    wanted: tuple[str, ...],
) -> tuple[Any, tuple[Any, ...]]:
    return stretch_in_numpy(weights, c, x, seed, sample, by, wanted, None)[0]


def stretch_in_numpy(
    weights: Weights,
    c: Constants,
    x: np.ndarray,
    seed: np.uint32,
    sample: np.ndarray,
    by: Steps,
    wanted: tuple[str, ...],
    carry: tuple[State, int] | None,
) -> tuple[tuple[Any, tuple[Any, ...]], tuple[State, int]]:
    """Spikes and currents of some bins of a run, and what the next ones go on from (None: silence)."""
    structure, n_sub = by.structure, by.substeps
    state, first = carry or (initial_state(x.shape[0], c, structure, np), 0)
    counts, extras = [], []
    for t in range(first, first + x.shape[1]):
        disturb = of_bin(t, n_sub, seed, sample, c, structure, np)
        state, count = run_bin(state, x[:, t - first], c, weights, structure, n_sub, np, disturb=disturb)
        counts.append(count)
        extras.append([observe(name, state, c, structure, np) for name in wanted])
    stacked = tuple(np.stack([e[k] for e in extras], 1) for k in range(len(wanted)))
    return (np.stack(counts, 1), stacked), (state, first + x.shape[1])
