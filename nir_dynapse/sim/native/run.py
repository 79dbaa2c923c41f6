"""The fast run on CPUs: event-driven kernels (`kernels.run`) as differentiable JAX functions, under jit and vmap."""

from __future__ import annotations

import os
from functools import cache, partial
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.circuit.params import Topology
from nir_dynapse.sim.adjoint import instantiate
from nir_dynapse.sim.derivatives import SHAPES
from nir_dynapse.sim.dynamics import SHUNT, Constants, Structure
from nir_dynapse.sim.native import ahead, here
from nir_dynapse.sim.native.names import PADDED, STRETCH
from nir_dynapse.sim.surrogate import Surrogate

__all__ = [
    "Lines",
    "Wiring",
    "available",
    "constants_of",
    "lines_of",
    "rewired",
    "run",
    "silence",
    "weights_of",
    "wiring_of",
]

Array = Any
CELLS, FEW_CELLS = 1024, 128
"""Most and least cells (sample·neuron) of a tile, about: their vectors stay in the cache, and are worth a loop."""
WORTHWHILE = 2**15
"""Steps of a neuron that are worth a thread."""
HERE = "promise_in_bounds"
"""Of indices: without it XLA computes for seconds, when it compiles, that none is out of bounds."""
SPARSE_FROM, SPARSE_BELOW = 2**14, 0.2
"""Elements of the weights from which on lists are used instead of a matrix, if they are shorter by this factor."""


def available() -> bool:
    """Whether the kernels can be had here: for CPUs, with LLVM; in float64 with Numba (it lags behind new versions)."""
    wide = jax.dtypes.canonicalize_dtype(float) == np.float64
    return os.name == "posix" and here.available() and _works("numba" if wide else "llvmlite.binding")


@cache
def _works(package: str) -> bool:
    try:
        import_module(package)
    except ImportError:
        return False
    return True


@cache
def threads() -> int:
    """Threads of a call: the CPUs of this process, shared between the devices that run side by side."""
    return max(1, ahead.cpus() // jax.local_device_count())


class Lines(NamedTuple):
    """Rows of the weights: what an event of one source adds to one kind of dendrite, and where synapses lie in them."""

    dendrites: tuple[int, ...]  # of each group
    first: np.ndarray  # (sources + 1,): lines of source s are lines[first[s] : first[s + 1]]
    lines: np.ndarray
    group: np.ndarray  # of each line
    ends: np.ndarray  # (lines + 1,) synapses of each line, in order; empty for a matrix
    post: np.ndarray  # neuron of each of those
    row: np.ndarray  # (synapses,): line of each synapse
    column: np.ndarray  # its neuron
    order: np.ndarray  # synapses in the order of the lists
    sparse: bool


def lines_of(t: Topology) -> Lines:
    """The rows of the weights of a topology, by dendrite and source."""
    used = np.unique(t.dendrite) if t.n_synapses else np.zeros(1, int)
    key = np.searchsorted(used, t.dendrite) * t.n_sources + t.pre
    keys, row = np.unique(key, return_inverse=True)
    if not len(keys):
        keys = np.zeros(1, int)
    source = keys % t.n_sources
    by_source = np.argsort(source, kind="stable")
    sparse = len(keys) * t.n_neurons >= SPARSE_FROM and t.n_synapses < SPARSE_BELOW * len(keys) * t.n_neurons
    order = np.argsort(row, kind="stable")
    return Lines(
        dendrites=tuple(int(d) for d in used),
        first=np.searchsorted(source[by_source], np.arange(t.n_sources + 1)).astype(np.int32),
        lines=by_source.astype(np.int32),
        group=(keys // t.n_sources).astype(np.int32),
        ends=np.searchsorted(row[order], np.arange(len(keys) + 1)).astype(np.int32)
        if sparse
        else np.zeros(1, np.int32),
        post=t.post[order].astype(np.int32) if sparse else np.zeros(1, np.int32),
        row=row,
        column=np.asarray(t.post),
        order=order,
        sparse=bool(sparse),
    )


class Wiring(NamedTuple):
    """Who hears whom as data, not compiled in: lists of targets for every dendrite in use and source, in this order.

    For wires that change during a training: their number and neurons stay, their sources do not. Shapes are those of
    `Lines`; `pre` (synapses,) are the sources, `order` the synapses in the order of the lists.
    """

    pre: Array
    ends: Array
    post: Array
    order: Array


def wiring_of(t: Topology, pre: np.ndarray) -> Wiring:
    """The wires of `t` with the sources `pre` (synapses,)."""
    used = np.unique(t.dendrite) if t.n_synapses else np.zeros(1, int)
    key = np.searchsorted(used, t.dendrite) * t.n_sources + pre
    order = np.argsort(key, kind="stable")
    ends = np.searchsorted(key[order], np.arange(len(used) * t.n_sources + 1))
    return Wiring(*(np.asarray(part, np.int32) for part in (pre, ends, t.post[order], order)))


def rewired(t: Topology, wiring: Wiring, sparse: bool = True) -> Lines:
    """Lines of `t` with the sources of `wiring`, which may be traced: lists, or a matrix with a line for every source."""
    used = np.unique(t.dendrite) if t.n_synapses else np.zeros(1, int)
    count = len(used) * t.n_sources
    dendrite = np.searchsorted(used, t.dendrite)
    return Lines(
        dendrites=tuple(int(d) for d in used),
        first=(np.arange(t.n_sources + 1) * len(used)).astype(np.int32),
        lines=np.arange(count).reshape(len(used), -1).T.reshape(-1).astype(np.int32),
        group=np.repeat(np.arange(len(used)), t.n_sources).astype(np.int32),
        ends=wiring.ends if sparse else np.zeros(1, np.int32),
        post=wiring.post if sparse else np.zeros(1, np.int32),
        row=dendrite * t.n_sources + wiring.pre,
        column=np.asarray(t.post),
        order=wiring.order,
        sparse=sparse,
    )


def weights_of(value: Array, lines: Lines, n: int, dtype: Any) -> Array:
    """Weights (lines, N), or (1, synapses) as lists, of what every synapse adds; parallel rows add."""
    value = jnp.asarray(value, dtype)
    if lines.sparse:
        return value.at[lines.order].get(mode=HERE)[None]
    return jnp.zeros((len(lines.group), n), dtype).at[lines.row, lines.column].add(value, mode=HERE)


def constants_of(c: Constants, surrogate: Surrogate) -> Array:
    """Constants (`names.CONSTANTS`, then the decays per group; N)."""
    n = c.rate.shape[-1]
    values = (c.rate, c.floor, c.threshold, c.refractory, c.dc, c.h, c.ahp_decay, c.ahp_kick)
    rows = [jnp.broadcast_to(value, (n,)) for value in values]
    decay = [part for group in c.decay for part in group]
    return jnp.stack([*rows, jnp.full((n,), surrogate.slope, c.rate.dtype), *decay])


def silence(batch: int, c: Array, groups: int) -> Array:
    """The state before the first step, (batch, groups + 3, N): dendrites, adaptation, membrane, spikes."""
    zeros = jnp.zeros((groups + 1, c.shape[1]), c.dtype)
    return jnp.broadcast_to(jnp.concatenate([zeros, c[1:2], zeros[:1]])[None], (batch, groups + 3, c.shape[1]))


class Plan(NamedTuple):
    """What a run is compiled for."""

    groups: tuple[int, ...]
    adaptation: bool
    leak: bool
    sparse: bool
    inputs: int
    substeps: int
    surrogate: Surrogate
    again: int

    @classmethod
    def of(cls, structure: Structure, lines: Lines, substeps: int, surrogate: Surrogate) -> Plan:
        leak = structure.adaptation or SHUNT in lines.dendrites
        parts = lines.dendrites, structure.adaptation, leak, lines.sparse, structure.inputs
        return cls(*parts, substeps, surrogate, structure.again)

    def numbers(self, rows: int) -> np.ndarray:
        """As the kernels read it (`names.HEAD`), for tiles of so many samples."""
        shape = list(SHAPES).index(self.surrogate.shape)
        head = [rows, self.substeps, self.adaptation, self.leak, self.sparse, self.inputs, shape, threads(), WORTHWHILE]
        return np.array([*head, self.again, *self.groups], np.int32)


def run(w: Array, c: Array, start: Array, x: Array, lines: Lines, plan: Plan) -> tuple[Array, Array]:
    """Spike counts (B, T, N) and last state of events `x` (B, T, inputs) from `start`; channels it lacks are silent."""
    return _run(w, c, start, x, (lines.first, lines.lines, lines.group, lines.ends, lines.post), plan)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _run(w: Array, c: Array, start: Array, x: Array, lines: tuple[Array, ...], plan: Plan) -> tuple[Array, Array]:
    counts, state, _ = _forward(w, c, start, x, lines, plan, keep=False)
    return counts, state


def _forward(w: Array, c: Array, start: Array, x: Array, lines: Any, plan: Plan, keep: bool) -> list[Array]:
    """Counts, last state, and the states that the adjoint begins from if `keep`."""
    from nir_dynapse.sim.native.build import register

    (batch, bins, _), n, kind = x.shape, c.shape[1], c.dtype
    if keep:
        ahead.start("back", kind=kind.name)  # beside the run, if neither has been compiled
    groups = len(plan.groups)
    rows = _tile(batch, n)
    tiles, stretches = -(-batch // rows), -(-bins * plan.substeps // STRETCH)
    cells = -(-rows * n // PADDED) * PADDED
    results = (
        jax.ShapeDtypeStruct((batch, bins, n), kind),
        jax.ShapeDtypeStruct((batch, groups + 3, n), kind),
        jax.ShapeDtypeStruct((tiles, stretches if keep else 0, groups + 3, cells), kind),
    )
    call = jax.ffi.ffi_call(register("run", kind.name), results, vmap_method="expand_dims")
    return list(call(w, plan.numbers(rows), *lines, c, start, x))


def _tile(batch: int, n: int) -> int:
    """Samples of a tile: a tile for every thread, none larger than the cache likes."""
    return max(1, min(batch, max(-(-batch // threads()), FEW_CELLS // n), CELLS // n))


def _run_forward(w: Any, c: Any, start: Any, x: Any, lines: Any, plan: Plan):
    wanted = (c.perturbed, x.perturbed)
    values = (w.value, c.value, start.value, x.value, tuple(part.value for part in lines))
    counts, state, states = _forward(*values, plan, keep=True)
    return (counts, state), (values, states, tuple(() if flag else None for flag in wanted))


def _run_backward(plan: Plan, saved: Any, cotangents: Any):
    from nir_dynapse.sim.native.build import register

    (w, c, start, x, lines), states, (c_wanted, x_wanted) = saved
    g_counts, g_state = map(instantiate, cotangents)
    kind, none = c.dtype, (0, 0, 0)
    results = (
        jax.ShapeDtypeStruct(w.shape, kind),
        jax.ShapeDtypeStruct(start.shape, kind),
        jax.ShapeDtypeStruct(none[:2] if c_wanted is None else c.shape, kind),
        jax.ShapeDtypeStruct(none if x_wanted is None else x.shape, kind),
    )
    call = jax.ffi.ffi_call(register("back", kind.name), results, vmap_method="expand_dims")
    numbers = plan.numbers(_tile(x.shape[0], c.shape[1]))
    g_w, g_start, g_c, g_x = call(w, numbers, *lines, c, start, x, states, g_counts, g_state)
    g_c = jnp.zeros_like(c) if c_wanted is None else g_c
    return g_w, g_c, g_start, jnp.zeros_like(x) if x_wanted is None else g_x, (None,) * len(lines)


_run.defvjp(_run_forward, _run_backward, symbolic_zeros=True)
