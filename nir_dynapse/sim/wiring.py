"""Weights of the circuit: who drives which dendrite of whom, as matrices or as tables of CAM rows; no JAX here."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.chip.device import DENDRITES
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.dynamics import Group, State, Structure

__all__ = [
    "Matrices",
    "Rows",
    "Weights",
    "drive",
    "groups_of",
    "on_grid",
    "pick",
    "summable",
    "synaptic_values",
    "tau_of",
    "weights_of",
]

ROWS_FROM = 2**24
"""Elements of the weight matrices from which on tables of CAM rows are used instead (if they are much smaller)."""
SPLIT_FROM = 4096
"""Elements of a weight matrix from which on it is worth to split it by dendrite."""

Array = Any


class Rows(NamedTuple):
    """CAM-shaped weights: per dendrite, neuron and row (dendrites, N, rows) a value and the column of the source.

    Columns number the sources (input channels, tonic channel, neurons), once per step of the past.
    """

    value: Array
    column: Array


class Matrices(NamedTuple):
    """Dense weights of a group: (inputs, dendrites·N) and (neurons, dendrites·N)."""

    inputs: Array
    neurons: Array


Weights = Rows | tuple[Matrices, ...]


def groups_of(params: Params, used: tuple[int, ...]) -> tuple[Group, ...]:
    """One group of all dendrites, or one per dendrite where neurons that drive one kind of it lie side by side."""
    t = params.topology
    n_inputs = t.n_channels + 1
    parts = []
    for d in used:
        sources = np.flatnonzero(np.bincount(t.pre[t.dendrite == d], minlength=t.n_sources))
        inputs = np.searchsorted(sources, n_inputs)
        parts.append(Group((d,), tuple(sources[:inputs].tolist()), tuple((sources[inputs:] - n_inputs).tolist())))
    cost = sum(len(g.inputs or ()) + len(g.neurons or ()) for g in parts)
    neurons = [n for g in parts for n in g.neurons or ()]
    worth = t.n_sources * t.n_neurons >= SPLIT_FROM and cost <= 0.6 * t.n_sources * len(used)
    side_by_side = all(not g.neurons or g.neurons[-1] - g.neurons[0] + 1 == len(g.neurons) for g in parts)
    disjoint = len(set(neurons)) == len(neurons)
    if len(used) > 1 and worth and disjoint and side_by_side:
        return tuple(parts)
    # Spares the silent tonic channel, and all products with spikes where no neuron has a target.
    recurrent = bool((t.pre >= n_inputs).any())
    return (Group(used, None if t.tonic_period else tuple(range(t.n_channels)), None if recurrent else ()),)


def tau_of(params: Params, dendrite: int, xp: Any) -> Any:
    """Time constants of one dendrite in s (N,)."""
    name = f"i_tau_{DENDRITES[dendrite]}"
    return params.circuit.tau(name, params.per_neuron(name, xp))


def synaptic_kick(params: Params, h: float, xp: Any) -> Any:
    """Mean synaptic current over a step of `h` s that an event at its beginning adds, (4, N), in I_τ per ampere of I_w.

    (I_gain,s/I_τ,s)·(1 − e^(−t_pulse/τ_s))·(1 − e^(−h/τ_s))·τ_s/h/I_τ.
    """
    pulse = params.circuit.width("i_pulse", params.per_neuron("i_pulse", xp))
    kicks = []
    for d, name in enumerate(DENDRITES):
        tau = tau_of(params, d, xp)
        ratio = params.per_neuron(f"i_gain_{name}", xp) / params.per_neuron(f"i_tau_{name}", xp)
        kicks.append(ratio * -xp.expm1(-pulse / tau) * -xp.expm1(-h / tau) * tau / h)
    return xp.stack(kicks) / params.per_neuron("i_tau_mem", xp)


def synaptic_values(params: Params, h: float, xp: Any) -> Any:
    """What an event of every synapse adds to the mean current of its dendrite over a step of `h` s, in I_τ (synapses,)."""
    t = params.topology
    return params.row_currents(xp) * synaptic_kick(params, h, xp)[t.dendrite, t.post]


def stable_order(*keys: np.ndarray) -> np.ndarray:
    """The order by the first key, then by the second, …; keys are whole numbers from 0 on, fast where they have 16 bits."""
    order = None
    for key in reversed(keys):
        key = key if order is None else key[order]
        if (key[1:] >= key[:-1]).all():
            continue
        more = np.argsort(key.astype(np.uint16) if key.max() < 2**16 else key, kind="stable")
        order = more if order is None else order[more]
    return np.arange(len(keys[0])) if order is None else order


def slots_of(column: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The stable order of entries by `column`, and the slot of each in a table of columns that is filled in order, and how
    many slots it needs.
    """
    order, count = stable_order(column), np.bincount(column, minlength=columns)
    slot = np.empty(len(column), np.int64)
    slot[order] = np.arange(len(column)) - np.repeat(np.cumsum(count) - count, count)
    return order, slot, int(count.max(initial=1))


def weights_of(params: Params, h: float, structure: Structure, xp: Any, dtype: Any) -> Weights:
    """What every event adds to the dendrites of every neuron, as matrices or as tables of CAM rows; parallel rows add."""
    t = params.topology
    value = synaptic_values(params, h, xp)
    if structure.rows:
        return _rows(params, value, h, structure, xp, dtype)
    n_inputs = t.n_channels + 1
    matrices = []
    for group in structure.groups:
        order = np.full(len(DENDRITES), -1)
        order[list(group.dendrites)] = np.arange(len(group.dendrites))
        column = order[t.dendrite] * t.n_neurons + t.post
        blocks = []
        for first, stop, chosen in ((0, n_inputs, group.inputs), (n_inputs, t.n_sources, group.neurons)):
            names = np.arange(first, stop) if chosen is None else np.asarray(chosen, int) + first
            inside = np.flatnonzero((t.pre >= first) & (t.pre < stop) & (order[t.dendrite] >= 0))
            row = np.searchsorted(names, t.pre[inside])
            shape = (len(names), len(group.dendrites) * t.n_neurons)
            blocks.append(_scatter_add(shape, (row, column[inside]), value[inside], xp, dtype))
        matrices.append(Matrices(*blocks))
    return tuple(matrices)


def _scatter_add(shape: tuple[int, ...], index: tuple[Array, ...], value: Array, xp: Any, dtype: Any) -> Array:
    if xp is not np:
        return xp.zeros(shape, dtype).at[index].add(xp.asarray(value, dtype))
    if not len(value):
        return np.zeros(shape, dtype)
    flat = np.ravel_multi_index(index, shape)
    return np.bincount(flat, value, int(np.prod(shape))).reshape(shape).astype(dtype)


def _rows(params: Params, value: Array, h: float, structure: Structure, xp: Any, dtype: Any) -> Rows:
    """Tables of CAM rows; a delayed row is two, one step apart, that share the weight by where the delay lies between."""
    t, (used,) = params.topology, (group.dendrites for group in structure.groups)
    n, entry, lag = t.n_neurons, np.arange(t.n_synapses), 0
    if t.delay is not None:
        late = np.flatnonzero(t.delay)
        entry = np.r_[entry, late]
        lag, value = lags_of(params, h, structure.depth, value, late, xp)
    place = np.searchsorted(used, t.dendrite[entry]) * n + t.post[entry]
    _, slot, width = slots_of(place, len(used) * n)
    shape = (len(used), n, width)
    index = (place // n, place % n, slot)
    column = t.pre[entry] + lag * t.n_sources
    return Rows(_scatter_add(shape, index, value, xp, dtype), _scatter_add(shape, index, column, xp, np.int32))


def lags_of(params: Params, h: float, depth: int, value: Array, late: np.ndarray, xp: Any = np) -> tuple[Array, Array]:
    """Whole steps that events of the synapses and, one step later, of the `late` ones take, and what they add then."""
    delay = params.row_delays(xp) / h
    lag = xp.minimum(xp.asarray(xp.floor(delay), xp.int32), depth - 2)
    share = xp.clip(delay - lag, 0, 1)
    return xp.concatenate([lag, lag[late] + 1]), xp.concatenate([value * (1 - share), (value * share)[late]])


def drive(
    state: State, x: Array | None, weights: Weights, structure: Structure, xp: Any
) -> tuple[tuple[Array, ...], State]:
    """What the events of a step add to the dendrites (B, dendrites, N) per group, and the state with its new past.

    Events are those of `x` (B, channels + 1; None: none) and the spikes of the last step.
    """
    batch, n = state.v.shape
    if isinstance(weights, Rows):
        none = xp.zeros((batch, structure.inputs), state.v.dtype)
        events = xp.concatenate([none if x is None else x, state.spikes], axis=1)
        if structure.depth:
            before = xp.zeros_like(events)[:, None] if state.past is None else state.past
            past = xp.concatenate([events[:, None], before[:, : structure.depth - 1]], axis=1)
            state = state._replace(past=past)
            events = past.reshape(batch, -1)
        return ((events[:, weights.column] * weights.value).sum(-1),), state
    result = []
    for group, matrix in zip(structure.groups, weights, strict=True):
        total = pick(state.spikes, group.neurons) @ matrix.neurons
        if x is not None:
            total = pick(x, group.inputs) @ matrix.inputs + total
        result.append(total.reshape(batch, len(group.dendrites), n))
    return tuple(result), state


def pick(values: Array, chosen: tuple[int, ...] | None) -> Array:
    """The chosen columns of the last axis; a view where they are contiguous."""
    if chosen is None:
        return values
    if not chosen or chosen[-1] - chosen[0] + 1 == len(chosen):
        return values[..., chosen[0] : chosen[-1] + 1] if chosen else values[..., :0]
    return values[..., np.asarray(chosen)]


def summable(weights: Weights, most: float) -> Weights:
    """Weights as float32 rounded so that sums of them are exact in whatever order a matrix product takes (NumPy).

    Products split sums by the number of threads and devices. Each column gets steps of at most 2^-23 of what it can sum to
    with `most` events of every input and one of every neuron: a weight changes by less than 2e-6 of its neuron's total.
    """
    if isinstance(weights, Rows):
        return Rows(on_grid(weights.value, weights.value.sum(-1, keepdims=True) * most), weights.column)
    totals = [w.inputs.sum(0) * most + w.neurons.sum(0) for w in weights]
    pairs = zip(weights, totals, strict=True)
    return tuple(Matrices(on_grid(w.inputs, total), on_grid(w.neurons, total)) for w, total in pairs)


def on_grid(values: np.ndarray, total: np.ndarray) -> np.ndarray:
    """float32 of `values`, cut to multiples of 2^-24 of the next power of two above `total`."""
    grid = grid_of(total)
    return (np.floor(values / grid) * grid).astype(np.float32)


def grid_of(total: np.ndarray) -> np.ndarray:
    """2^-24 of the next power of two above `total`."""
    _, exponent = np.frexp(total)
    return np.ldexp(1.0, exponent - 24)
