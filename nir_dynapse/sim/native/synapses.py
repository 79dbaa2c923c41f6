"""Synapses of a circuit as lists by source, with weights on the grid of `wiring.summable`; NumPy only.

Where they go depends on the wiring alone, so that is found once (`places_of`); what they weigh takes a few passes.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.sim.circuit import MOST_EVENTS
from nir_dynapse.sim.dynamics import Structure
from nir_dynapse.sim.wiring import grid_of, lags_of, slots_of, stable_order, synaptic_kick

__all__ = ["Places", "Synapses", "places_of", "synapses_of"]

SPARSE_FROM, SPARSE_BELOW = 2**11, 0.15
"""Values from which on lists are used, if rows of all neurons would be longer by more than this factor."""

DENSE_FROM = 0.9
"""Share of values that are not 0 from which on zeros stay: to leave them out takes as long as a step or two."""

NEAR = 1e-9
"""Sums whose order says on which side of a power of two they lie are no nearer to it than this, as a share of them."""


class Synapses(NamedTuple):
    """What an event of source s does: entries first[s] to first[s + 1].

    Entry q adds, `lag` steps later, w[q·length + k] to neuron post[q] + k of dendrite `dendrite` (a number in the order of
    those in use), for k below `length`.
    """

    first: np.ndarray  # (sources + 1,)
    dendrite: np.ndarray  # (entries,)
    lag: np.ndarray  # (entries,)
    post: np.ndarray  # (entries,)
    w: np.ndarray  # (entries·length,) float32
    length: int


class Places(NamedTuple):
    """Where the values of the synapses of a topology go; the same for all chips.

    As over matrices parallel rows add, and `w` may have values of no synapse. As over a `table` of CAM rows each value
    stays alone, and those of `late` synapses come once more, a step later.
    """

    synapses: Synapses  # without values
    used: tuple[int, ...]  # dendrites
    column: np.ndarray  # (synapses and late ones,): dendrite·N + neuron
    order: np.ndarray  # (synapses and late ones,): by source, as they stand in the lists
    merged: np.ndarray | None  # (synapses,): value of each, None where no rows are parallel
    target: np.ndarray  # (values,): `column` of those
    inputs: int  # values of input channels, which are the first ones
    inside: np.ndarray | None  # (values,): in `w`; None: one after the other
    size: int  # of `w`
    late: np.ndarray | None  # (late ones,)
    table: bool


def used_dendrites(structure: Structure) -> tuple[int, ...]:
    """The dendrites of all groups, in order."""
    return tuple(d for group in structure.groups for d in group.dendrites)


_LAST: list[tuple[tuple[weakref.ref[np.ndarray], ...], tuple[Any, ...], Places]] = []
"""The places found last, with the arrays that they follow from, while those live: nobody can write to them."""
KNOWN = 8
"""Most of them."""


def places_of(t: Topology, structure: Structure) -> Places:
    """Lists for `t`, or rows of all neurons where they are not much longer; those of before if `t` is known."""
    used = used_dendrites(structure)
    key = (used, structure.rows, t.n_neurons, t.n_channels, SPARSE_FROM, SPARSE_BELOW)
    arrays = [t.pre, t.post, t.dendrite] + ([] if t.delay is None else [t.delay])
    for known, given, places in _LAST[:]:
        if given == key and len(known) == len(arrays) and all(a() is b for a, b in zip(known, arrays, strict=True)):
            return places
    places = _in_table(t, used) if structure.rows else _in_matrix(t, used)
    _LAST[:] = [(tuple(weakref.ref(a, _forget) for a in arrays), key, places), *_LAST[: KNOWN - 1]]
    return places


def _forget(gone: weakref.ref[np.ndarray]) -> None:
    _LAST[:] = [item for item in _LAST if gone not in item[0]]


def _columns(t: Topology, used: tuple[int, ...]) -> np.ndarray:
    """Dendrite·N + neuron of each synapse, dendrites numbered in the order of those in use."""
    begin = np.zeros(max(used) + 1, np.int64)
    begin[list(used)] = np.arange(len(used)) * t.n_neurons
    return begin[t.dendrite] + t.post


def _first(source: np.ndarray, n_sources: int) -> np.ndarray:
    """Where the entries of each source begin (sources + 1,)."""
    return np.r_[0, np.cumsum(np.bincount(source, minlength=n_sources))].astype(np.int32)


def _in_matrix(t: Topology, used: tuple[int, ...]) -> Places:
    n, column = t.n_neurons, _columns(t, used)
    order = stable_order(t.pre, column)
    source, target = t.pre[order].astype(np.int64), column[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
    merged = None
    if not fresh.all():
        merged = np.empty(len(order), np.int64)
        merged[order] = np.cumsum(fresh) - 1
        source, target = source[fresh], target[fresh]
    kind = target // n if len(used) > 1 else np.zeros_like(target)
    post, line = target - kind * n, source * len(used) + kind
    begins = np.ones(len(line), bool)
    begins[1:] = line[1:] != line[:-1]
    lines, inputs = int(begins.sum()), int(np.searchsorted(source, t.tonic, "right"))
    sparse = lines * n >= SPARSE_FROM and len(line) < SPARSE_BELOW * lines * n
    inside = None if sparse else (np.cumsum(begins) - 1) * n + post
    if not sparse:
        source, kind, post = source[begins], kind[begins], np.zeros(lines)
    lists = Synapses(
        first=_first(source, t.n_sources),
        dendrite=kind.astype(np.int32),
        lag=np.zeros(len(source), np.int32),
        post=post.astype(np.int32),
        w=np.zeros(0, np.float32),
        length=1 if sparse else n,
    )
    size = len(source) * lists.length
    return Places(lists, used, column, order, merged, target, inputs, inside, size, None, False)


def _in_table(t: Topology, used: tuple[int, ...]) -> Places:
    column, source = _columns(t, used), t.pre
    late = None if t.delay is None else np.flatnonzero(t.delay)
    if late is not None:
        column, source = np.r_[column, column[late]], np.r_[source, source[late]]
    order = stable_order(source, column)
    target = column[order]
    lists = Synapses(
        first=_first(source, t.n_sources),
        dendrite=(target // t.n_neurons).astype(np.int32),
        lag=np.zeros(len(order), np.int32),
        post=(target % t.n_neurons).astype(np.int32),
        w=np.zeros(0, np.float32),
        length=1,
    )
    return Places(lists, used, column, order, None, target, 0, None, len(order), late, True)


def synapses_of(params: Params, h: float, structure: Structure, most: float, places: Places | None = None) -> Synapses:
    """The weights of `circuit.prepare`, bit by bit, as lists; `most` events of an input per step at most."""
    most = max(most, MOST_EVENTS)
    places = places_of(params.topology, structure) if places is None else places
    kick = np.asarray(synaptic_kick(params, h, np))[list(places.used)].reshape(-1)
    value = np.asarray(params.row_currents() * kick[places.column[: params.topology.n_synapses]], float)
    if places.table:
        return _of_table(params, h, structure, most, places, value)
    value = value[places.order] if places.merged is None else np.bincount(places.merged, value, len(places.target))
    # Sums in the order of the sources, as over a matrix.
    total = np.bincount(places.target[: places.inputs], value[: places.inputs], len(kick)) * most
    total += np.bincount(places.target[places.inputs :], value[places.inputs :], len(kick))
    w = _on_grid(value, grid_of(total)[places.target])
    if places.inside is None:
        return places.synapses._replace(w=w)
    matrix = np.zeros(places.size, np.float32)
    matrix[places.inside] = w
    return places.synapses._replace(w=matrix)


def _of_table(
    params: Params, h: float, structure: Structure, most: float, places: Places, value: np.ndarray
) -> Synapses:
    """Lists of tables of CAM rows, without the zeros if there are many; sums as in `wiring.summable`, gaps included."""
    lists, columns = places.synapses, len(places.used) * params.topology.n_neurons
    if places.late is not None:
        lag, value = lags_of(params, h, structure.depth, value, places.late)
        lists = lists._replace(lag=lag[places.order].astype(np.int32))
    total = np.bincount(places.column, value, columns) * most
    grid = grid_of(total * (1 - NEAR))
    if value.min(initial=0.0) < 0 or (grid != grid_of(total * (1 + NEAR))).any():
        grid = grid_of(_sums_of_table(places.column, value, columns) * most)
    w = _on_grid(value, grid[places.column])[places.order]
    there = w != 0
    if np.count_nonzero(there) >= DENSE_FROM * len(w):
        return lists._replace(w=w)
    first = np.r_[0, np.cumsum(there)].astype(np.int32)[lists.first]
    short = {name: getattr(lists, name)[there] for name in ("dendrite", "lag", "post")}
    return lists._replace(first=first, w=w[there], **short)


def _sums_of_table(column: np.ndarray, value: np.ndarray, columns: int) -> np.ndarray:
    """Sums of the columns in the order that NumPy takes over a table with its gaps."""
    _, slot, width = slots_of(column, columns)
    table = np.zeros((columns, width))
    table[column, slot] = value
    return table.sum(-1)


def _on_grid(value: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """`wiring.on_grid` in place of `value`."""
    value = np.divide(value, grid, out=value)
    return np.multiply(np.floor(value, out=value), grid, out=value).astype(np.float32)
