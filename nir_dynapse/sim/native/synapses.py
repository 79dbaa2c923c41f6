"""Synapses of a circuit as lists by source, with weights on the grid of `wiring.summable`; NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.sim.circuit import MOST_EVENTS
from nir_dynapse.sim.dynamics import Structure
from nir_dynapse.sim.wiring import Rows, on_grid, summable, synaptic_values, weights_of

__all__ = ["Places", "Synapses", "places_of", "synapses_of"]

SPARSE_FROM, SPARSE_BELOW = 2**11, 0.15
"""Values from which on lists are used, if rows of all neurons would be longer by more than this factor."""


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
    """Where the values of the synapses of a topology go; the same for all chips."""

    synapses: Synapses  # without values
    merged: np.ndarray  # (synapses,): value of each, parallel rows add
    column: np.ndarray  # (values,): dendrite·N + neuron
    from_input: np.ndarray  # (values,)
    at: np.ndarray  # (values,): in `w`
    size: int  # of `w`


def _order(*keys: np.ndarray) -> np.ndarray:
    """The order by the first key, then by the second, …; fast where numbers have 16 bits."""
    order = np.arange(len(keys[0]))
    for key in reversed(keys):
        small = key.astype(np.uint16) if key.max(initial=0) < 2**16 else key
        order = order[np.argsort(small[order], kind="stable")]
    return order


def used_dendrites(structure: Structure) -> tuple[int, ...]:
    """The dendrites of all groups, in order."""
    return tuple(d for group in structure.groups for d in group.dendrites)


def places_of(t: Topology, structure: Structure) -> Places:
    """Lists for `t`, or rows of all neurons where they are not much longer."""
    used, n = used_dendrites(structure), t.n_neurons
    order = np.zeros(max(used) + 1, np.int64)
    order[list(used)] = np.arange(len(used))
    sort = _order(t.pre, order[t.dendrite], t.post)
    line, post = (t.pre.astype(np.int64) * len(used) + order[t.dendrite])[sort], t.post[sort]
    fresh = np.r_[True, np.diff(line * n + post) != 0][: len(sort)]
    merged = np.empty(len(sort), np.int64)
    merged[sort] = np.cumsum(fresh) - 1
    line, post = line[fresh], post[fresh]
    begins = np.r_[True, np.diff(line) != 0][: len(line)]
    lines, row = line[begins], np.cumsum(begins) - 1
    sparse = len(lines) * n >= SPARSE_FROM and len(line) < SPARSE_BELOW * len(lines) * n
    entry = line if sparse else lines
    source = entry // len(used)
    synapses = Synapses(
        first=np.searchsorted(source, np.arange(t.n_sources + 1)).astype(np.int32),
        dendrite=(entry % len(used)).astype(np.int32),
        lag=np.zeros(len(entry), np.int32),
        post=(post if sparse else np.zeros(len(entry))).astype(np.int32),
        w=np.zeros(0, np.float32),
        length=1 if sparse else n,
    )
    at = np.arange(len(line)) if sparse else row * n + post
    column = line % len(used) * n + post
    return Places(synapses, merged, column, line // len(used) <= t.tonic, at, len(entry) * synapses.length)


def synapses_of(params: Params, h: float, structure: Structure, most: float, places: Places | None = None) -> Synapses:
    """The weights of `circuit.prepare`, bit by bit, as lists; `most` events of an input per step at most."""
    most = max(most, MOST_EVENTS)
    if structure.rows:
        weights = summable(weights_of(params, h, structure, np, np.float64), most)
        if not isinstance(weights, Rows):
            raise TypeError("the weights are not tables of rows")
        return _from_table(weights, params.topology.n_sources)
    places = places_of(params.topology, structure) if places is None else places
    columns = len(used_dendrites(structure)) * params.topology.n_neurons
    value = np.bincount(places.merged, np.asarray(synaptic_values(params, h, np)), len(places.column))
    # Sums in the order of the sources, as over a matrix.
    totals = [
        np.bincount(places.column[chosen], value[chosen], columns) for chosen in (places.from_input, ~places.from_input)
    ]
    w = np.zeros(places.size, np.float32)
    w[places.at] = on_grid(value, (totals[0] * most + totals[1])[places.column])
    return places.synapses._replace(w=w)


def _from_table(rows: Rows, n_sources: int) -> Synapses:
    """Lists of what is not 0 in tables of CAM rows."""
    dendrite, post, _ = index = np.nonzero(rows.value)
    column = rows.column[index]
    source = column % n_sources
    order = _order(source)
    return Synapses(
        first=np.searchsorted(source[order], np.arange(n_sources + 1)).astype(np.int32),
        dendrite=dendrite[order].astype(np.int32),
        lag=(column // n_sources)[order].astype(np.int32),
        post=post[order].astype(np.int32),
        w=rows.value[index][order],
        length=1,
    )
