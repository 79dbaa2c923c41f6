"""Runs of the circuit in JAX: the spikes of `Params`, differentiable, under jit and vmap.

Four ways through the same equations (`sim.dynamics`): `sim.native`, compiled for CPUs and driven by events;
`sim.adjoint`, the same for any device by XLA; `sim.spike_adjoint` with gradients through the times of spikes; and a plain
scan for what these leave out: the NMDA gate, the exponential soma, delays (those that are in no loop of neurons know the
kernels, too: `sim.native.late`), noise, lost events; by XLA also tables of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.sim.adjoint import Static, padded, segment
from nir_dynapse.sim.circuit import Disturbance, constants, internal_step, run_bin, structure_of, with_tonic
from nir_dynapse.sim.disturbance import of_bin
from nir_dynapse.sim.dynamics import Constants, Group, State, Structure, initial_state
from nir_dynapse.sim.loops import loop_for
from nir_dynapse.sim.native import run as _native
from nir_dynapse.sim.native.ahead import KINDS
from nir_dynapse.sim.native.late import has_levels, run_levels
from nir_dynapse.sim.spike_adjoint import spiking
from nir_dynapse.sim.spike_times import first_times, still
from nir_dynapse.sim.spike_times import run_bin as run_moving
from nir_dynapse.sim.surrogate import FAST_SIGMOID, Surrogate
from nir_dynapse.sim.wiring import Rows, Weights, pick, synaptic_values, weights_of

__all__ = ["Program", "first_spike_times", "has_kernels", "lower", "run", "spike_counts"]

Array = Any


class Program(NamedTuple):
    """What a run is compiled for; hashable."""

    structure: Structure
    substeps: int
    surrogate: Surrogate = FAST_SIGMOID
    checkpoint: bool = False


def spike_counts(
    params: Params,
    x: Array,
    dt: float | None = None,
    *,
    substeps: int | None = None,
    surrogate: Surrogate = FAST_SIGMOID,
    checkpoint: bool = False,
    disturbance: Disturbance | None = None,
    longest_delay: float | None = None,
    dtype: Any = None,
    native: bool | None = None,
    wiring: _native.Wiring | None = None,
    probe: Array | None = None,
) -> Array:
    """Spikes of every neuron (batch, time, N) for event counts `x` (batch, time, channel) in bins of `dt` s.

    A pure function of the leaves of `params`, to be used under jit, grad and vmap: gradients reach weights, base currents
    and every bias current, through `surrogate` where a neuron fires. `dt` is the network's own step unless given;
    `substeps` is the number of internal steps per bin (`circuit.internal_step`; to be given where `params` is traced).
    `checkpoint=True` stores the state at √T points in time only and runs every stretch twice: memory grows like √T.
    `longest_delay` in s must be given where `params` is traced and has delays. `native` says whether compiled kernels for
    CPUs run it (`sim.native`; None: where they can). Raises ParameterRangeError where a delay is not known or `native`
    cannot be. With `wiring` the sources of the synapses are those that it says, which may be traced (kernels only); a
    `probe` (dendrites in use, sources, N) is added to what events add, so that its gradient tells what wires that are not
    there would do.
    """
    width = params.topology.dt if dt is None else float(dt)
    kind = jnp.result_type(float) if dtype is None else dtype
    program = _program(params, width, substeps, surrogate, checkpoint, disturbance, longest_delay)
    late = program.structure.depth > 0
    by_levels = late and not checkpoint and has_levels(params.topology)
    if _takes_native(program, kind, native, by_levels):
        x = jnp.asarray(x, kind)
        if not late:
            return _on_cpu(params, x, width, program, wiring, probe)
        if wiring is None and probe is None:
            h = width / program.substeps
            return run_levels(params, with_tonic(x, params, width, jnp), h, *program[:3])
    if wiring is not None:
        raise ParameterRangeError("wiring needs the compiled kernels. Leave it out, and change the topology instead.")
    weights, c = lower(params, width / program.substeps, program.structure, disturbance, jnp, kind)
    seed = (disturbance or Disturbance()).word
    return run(weights, c, with_tonic(jnp.asarray(x, kind), params, width, jnp), program, seed)


def first_spike_times(
    params: Params,
    x: Array,
    dt: float | None = None,
    *,
    substeps: int | None = None,
    surrogate: Surrogate = FAST_SIGMOID,
    checkpoint: bool = False,
    disturbance: Disturbance | None = None,
    longest_delay: float | None = None,
    dtype: Any = None,
) -> tuple[Array, Array]:
    """Time in s of every neuron's first spike (batch, N), the end of the sample without one, and `spike_counts`.

    Within an internal step the time is where the threshold is met. Its gradient is the surrogate's, or exact where
    `surrogate.times` (`sim.spike_times`); the other arguments, and what is raised, are those of `spike_counts`. XLA runs
    it: the compiled kernels know counts only.
    """
    width = params.topology.dt if dt is None else float(dt)
    kind = jnp.result_type(float) if dtype is None else dtype
    program = _program(params, width, substeps, surrogate, checkpoint, disturbance, longest_delay)
    weights, c = lower(params, width / program.substeps, program.structure, disturbance, jnp, kind)
    events = jnp.swapaxes(with_tonic(jnp.asarray(x, kind), params, width, jnp), 0, 1)
    start = initial_state(events.shape[1], c, program.structure, jnp)
    seed = (disturbance or Disturbance()).word
    if not events.shape[0] * events.shape[1]:
        counts = jnp.zeros((events.shape[1], events.shape[0], c.rate.shape[-1]), kind)
        return jnp.full_like(counts[:, :1].sum(1), events.shape[0] * width), counts
    found = _moving(weights, c, start, events, program, seed)
    counts, first = (jnp.swapaxes(part, 0, 1) for part in found)
    return first_times(counts, first, width, surrogate), counts


def _program(
    params: Params,
    width: float,
    substeps: int | None,
    surrogate: Surrogate,
    checkpoint: bool,
    disturbance: Disturbance | None,
    longest_delay: float | None,
) -> Program:
    """What runs `params` in bins of `width` s."""
    count = internal_step(params, width) if substeps is None else substeps
    structure = structure_of(params, width / count, disturbance, longest_delay=longest_delay, substeps=count)
    if surrogate.smooth:  # the model without resets within a step
        structure = structure._replace(again=0)
    return Program(structure, count, surrogate, checkpoint)


def has_kernels(params: Params, substeps: int, surrogate: Surrogate, longest_delay: float | None = None) -> bool:
    """Whether the compiled kernels run `params` in bins of its own step; then what synapses hear can be data (`wiring`)."""
    h = params.topology.dt / substeps
    structure = structure_of(params, h, None, longest_delay=longest_delay)
    return _takes_native(Program(structure, substeps, surrogate), np.float32, None)


def _takes_native(program: Program, kind: Any, wanted: bool | None, by_levels: bool = False) -> bool:
    """Whether `sim.native` does it: if `wanted` is None where it can; with delays where they are none within loops."""
    beyond = (program.structure.depth and not by_levels) or program.surrogate.smooth or _needs_scan(program)
    beyond = beyond or np.dtype(kind).name not in KINDS
    if wanted and beyond:
        raise ParameterRangeError(
            "native=True: the compiled kernels leave out the NMDA gate, the exponential soma, delays within loops of "
            "neurons, noise, lost events, the smoothed model and half precision. Leave native at None."
        )
    if wanted and not _native.available():
        raise ParameterRangeError(
            "native=True: the compiled kernels need JAX's CPU backend, Linux or macOS, and llvmlite (in float64 Numba). "
            "Install numba, or leave native at None."
        )
    return not beyond and _native.available() and wanted is not False


def _on_cpu(
    params: Params, x: Array, width: float, program: Program, wiring: _native.Wiring | None, probe: Array | None
) -> Array:
    """Counts (batch, time, N) by `sim.native`."""
    t, h = params.topology, width / program.substeps
    x = with_tonic(x, params, width, jnp) if t.tonic_period else x
    lines = _native.lines_of(t) if wiring is None else _native.rewired(t, wiring, sparse=probe is None)
    structure = program.structure._replace(groups=tuple(Group((d,)) for d in lines.dendrites))
    plan = _native.Plan.of(structure, lines, program.substeps, program.surrogate)
    c = _native.constants_of(constants(params, h, structure, jnp, x.dtype), program.surrogate)
    w = _native.weights_of(synaptic_values(params, h, jnp), lines, t.n_neurons, x.dtype)
    if probe is not None:
        w += probe.reshape(w.shape)
    start = _native.silence(x.shape[0], c, len(lines.dendrites))
    if not program.checkpoint:
        return _native.run(w, c, start, x, lines, plan)[0]

    def stretch(state: Array, part: Array) -> tuple[Array, Array]:
        counts, state = _native.run(w, c, state, jnp.swapaxes(part, 0, 1), lines, plan)
        return state, jnp.swapaxes(counts, 0, 1)

    return jnp.swapaxes(_checkpointed(stretch, start, jnp.swapaxes(x, 0, 1)), 0, 1)


def lower(
    params: Params, h: float, structure: Structure, disturbance: Disturbance | None, xp: Any, dtype: Any
) -> tuple[Weights, Constants]:
    """Weights and constants of internal steps of `h` s."""
    return (
        weights_of(params, h, structure, xp, dtype),
        constants(params, h, structure, xp, dtype, disturbance),
    )


def run(
    weights: Weights,
    c: Constants,
    x: Array,
    program: Program,
    seed: Array | int = 0,
    sample: Array | None = None,
) -> Array:
    """Spike counts (batch, time, N) of `x` (batch, time, channels + 1), from silence.

    `seed` and the numbers of the samples `sample` (batch,) fix noise and lost events.
    """
    structure = program.structure
    batch, steps, _ = x.shape
    if not steps * batch:
        return jnp.zeros((batch, steps, c.rate.shape[-1]), c.rate.dtype)
    start = initial_state(batch, c, structure, jnp)
    events = jnp.swapaxes(x, 0, 1)
    if isinstance(weights, Rows) or _needs_scan(program):
        spikes = _scan(weights, c, start, events, program, seed, sample)
    else:
        spikes = _fast(weights, c, start, events, program)
    return jnp.swapaxes(spikes, 0, 1)


def _needs_scan(program: Program) -> bool:
    return _beyond(program.structure) or program.surrogate.timing or program.surrogate.times


def _beyond(structure: Structure) -> bool:
    """Whether it has what the adjoints by hand leave out."""
    return structure.noise or structure.loss or structure.feedback or structure.gate


def _fast(weights: Any, c: Constants, start: State, events: Array, program: Program) -> Array:
    """Counts (time, batch, N) by `adjoint.segment`; internal steps after the first of a bin get no input events."""
    _, batch, sources = events.shape
    n_sub, n = program.substeps, c.rate.shape[-1]
    static = Static(program.structure, program.surrogate)

    def stretch(state: State, part: Array) -> tuple[State, Array]:
        if n_sub > 1:
            empty = jnp.zeros((part.shape[0], n_sub - 1, batch, sources), part.dtype)
            part = jnp.concatenate([part[:, None], empty], axis=1).reshape(n_sub * len(part), batch, sources)
        steps = part.shape[0]
        if not program.checkpoint:  # the state at the end is not needed
            more = padded(steps, batch, n) - steps
            part = jnp.concatenate([part, jnp.zeros((more, batch, sources), part.dtype)]) if more else part
        parts = tuple(pick(part, group.inputs) for group in program.structure.groups)
        state, spikes = segment(weights, c, state, parts, static)
        spikes = spikes[:steps]
        return state, spikes if n_sub == 1 else spikes.reshape(steps // n_sub, n_sub, batch, n).sum(1)

    if not program.checkpoint:
        return stretch(start, events)[1]
    return _checkpointed(stretch, start, events)


def _checkpointed(stretch: Callable[[Any, Any], tuple[Any, Any]], start: Any, events: Array) -> Any:
    """A scan over √T stretches of √T bins each that keeps only the states between them."""
    steps = events.shape[0]
    length = int(np.ceil(np.sqrt(steps)))
    length = length if length < 8 else -(-length // 8) * 8  # long enough divisors for the blocks of the adjoint
    count = -(-steps // length)
    filled = jnp.concatenate([events, jnp.zeros((count * length - steps, *events.shape[1:]), events.dtype)])
    remat = jax.checkpoint  # pyright: ignore[reportPrivateImportUsage]
    _, out = jax.lax.scan(remat(stretch), start, filled.reshape(count, length, *events.shape[1:]))
    return jax.tree_util.tree_map(lambda a: a.reshape(count * length, *a.shape[2:])[:steps], out)


def _scan(
    weights: Weights,
    c: Constants,
    start: State,
    events: Array,
    program: Program,
    seed: Array | int,
    sample: Array | None,
) -> Array:
    """Counts (time, batch, N) by a plain scan, differentiated by JAX."""
    if program.surrogate.times:
        return _moving(weights, c, start, events, program, seed, sample)[0]
    structure, n_sub = program.structure, program.substeps
    number = jnp.arange(events.shape[1]) if sample is None else jnp.asarray(sample)

    def body(carry: tuple[State, Array], x_t: Array):
        state, t = carry
        disturb = of_bin(t, n_sub, seed, number, c, structure, jnp)
        state, count = run_bin(
            state,
            x_t,
            c,
            weights,
            structure,
            n_sub,
            jnp,
            program.surrogate,
            disturb,
            hold=program.surrogate.hold,
            **loop_for(n_sub),
        )
        return (state, t + 1), count

    return _in_turn(body, (start, jnp.zeros((), jnp.int32)), events, program)


def _moving(
    weights: Weights, c: Constants, start: State, events: Array, program: Program, seed: Array | int, sample: Any = None
) -> tuple[Array, Array]:
    """Counts and times of the first spikes within each bin (time, batch, N), see `spike_times.run_bin`."""
    structure, n_sub = program.structure, program.substeps
    if not (isinstance(weights, Rows) or _beyond(structure) or program.surrogate.smooth or program.checkpoint):
        return spiking(weights, c, events, Static(structure, program.surrogate), n_sub)
    number = jnp.arange(events.shape[1]) if sample is None else jnp.asarray(sample)

    def body(carry: tuple[Any, Array], x_t: Array) -> tuple[Any, tuple[Array, Array]]:
        moving, t = carry
        disturb = of_bin(t, n_sub, seed, number, c, structure, jnp)
        moving, count, first = run_moving(moving, x_t, c, weights, structure, n_sub, program.surrogate, disturb)
        return (moving, t + 1), (count, first)

    return _in_turn(body, (still(start), jnp.zeros((), jnp.int32)), events, program)


def _in_turn(body: Callable[[Any, Array], Any], begin: Any, events: Array, program: Program) -> Any:
    """What `body` gives bin by bin."""
    if not program.checkpoint:
        return jax.lax.scan(body, begin, events)[1]
    return _checkpointed(lambda carry, part: jax.lax.scan(body, carry, part), begin, events)
