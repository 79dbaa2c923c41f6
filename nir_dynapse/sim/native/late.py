"""Networks with late CAM rows by the kernels, which know no delays: level by level, with the past as further inputs.

A level are the populations that reach each other, in order of signal flow. It hears input channels and the spikes of
earlier levels as events of inputs, and each source of late rows once per internal step of the past: an event that is d s
late is two, ⌊d/h⌋ and ⌊d/h⌋ + 1 steps late, that share its weight by where d lies between (`sim.wiring.lags_of`). So the
gradient reaches the delay through the two weights. A row that is late within a level is beyond this.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.sim.circuit import constants
from nir_dynapse.sim.dynamics import Group, Structure
from nir_dynapse.sim.native import run as native
from nir_dynapse.sim.native.run import Lines, Plan
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.sim.wiring import lags_of, synaptic_values

__all__ = ["has_levels", "run_levels"]

Array = Any
DENSE_BELOW = 2**21
"""Elements of the weights of a level with late rows up to which they are a matrix; longer ones are sorted into lists."""


class Level(NamedTuple):
    """What is static of a level.

    `neurons` and `entries` (E,), numbers of what `lags_of` gives for its synapses; `late` and `plain` are the sources that
    it hears with and without a past; `first`, `lines`, `group` as in `Lines`; per entry `base`, the line of lag 0, and
    `column`, the neuron.
    """

    neurons: np.ndarray
    entries: np.ndarray
    late: np.ndarray
    plain: np.ndarray
    first: np.ndarray
    lines: np.ndarray
    group: np.ndarray
    base: np.ndarray
    column: np.ndarray


def has_levels(t: Topology) -> bool:
    """Whether no row is late within a level."""
    if t.delay is None:
        return False
    level = _levels(t)
    inner = (t.delay > 0) & (t.pre > t.tonic)
    return bool((level[t.pre[inner] - t.tonic - 1] < level[t.post[inner]]).all())


def _levels(t: Topology) -> np.ndarray:
    """The level of each neuron (N,), counted in order of signal flow."""
    part = np.repeat(np.arange(len(t.populations)), [size for _, size in t.populations])
    inner = t.pre > t.tonic
    reach = np.eye(len(t.populations), dtype=bool)
    reach[part[t.pre[inner] - t.tonic - 1], part[t.post[inner]]] = True
    for _ in t.populations:
        reach = (reach.astype(int) @ reach) > 0
    # Who reaches a population is fewer than who reaches what comes after it; those in a loop are reached by the same.
    order = np.stack([reach.sum(0), (reach & reach.T).argmax(1)], 1)
    return np.unique(order, axis=0, return_inverse=True)[1].reshape(-1)[part]


@lru_cache(maxsize=16)
def _planned(t: Topology, depth: int) -> tuple[Level, ...]:
    level, late_rows = _levels(t), np.flatnonzero(t.delay if t.delay is not None else np.zeros(t.n_synapses))
    used = np.unique(t.dendrite)
    behind = np.full(t.n_synapses, -1)
    behind[late_rows] = t.n_synapses + np.arange(len(late_rows))
    made = []
    for k in range(int(level.max()) + 1):
        neurons = np.flatnonzero(level == k)
        own = np.full(t.n_sources, -1)
        own[t.tonic + 1 + neurons] = np.arange(len(neurons))
        rows = np.flatnonzero(level[t.post] == k)
        delayed = behind[rows] >= 0
        outer = own[t.pre[rows]] < 0
        late = np.unique(t.pre[rows[delayed]])
        plain = np.setdiff1d(np.unique(t.pre[rows[outer]]), late)
        inputs = len(late) * depth + len(plain)
        place = inputs + own  # of every source among the columns
        place[late], place[plain] = np.arange(len(late)) * depth, len(late) * depth + np.arange(len(plain))
        group = np.searchsorted(used, t.dendrite[rows])
        columns = inputs + len(neurons)
        # A line for every dendrite and column that may be heard: all steps of the past where a row is late.
        key = group * columns + place[t.pre[rows]]
        every = np.unique(np.r_[key, (np.unique(key[delayed])[:, None] + np.arange(depth)).reshape(-1)])
        every = every if len(every) else np.zeros(1, int)
        by_column = np.argsort(every % columns, kind="stable")
        twice = np.r_[np.arange(len(rows)), np.flatnonzero(delayed)]
        made.append(
            Level(
                neurons,
                np.r_[rows, behind[rows[delayed]]],
                late,
                plain,
                np.searchsorted((every % columns)[by_column], np.arange(columns + 1)).astype(np.int32),
                by_column.astype(np.int32),
                (every // columns).astype(np.int32),
                np.searchsorted(every, key)[twice].astype(np.int32),
                np.searchsorted(neurons, t.post[rows])[twice].astype(np.int32),
            )
        )
    return tuple(made)


def run_levels(params: Params, x: Array, h: float, structure: Structure, substeps: int, surrogate: Surrogate) -> Array:
    """Counts (batch, time, N) of events `x` (batch, time, channels + 1); `has_levels` must hold.

    `substeps` internal steps of `h` s make a bin; `structure.depth` steps of the past are kept.
    """
    t, depth, kind = params.topology, structure.depth, x.dtype
    batch, bins, _ = x.shape
    used = np.unique(t.dendrite).tolist()
    structure = structure._replace(groups=tuple(Group((d,)) for d in used))
    c = native.constants_of(constants(params, h, structure, jnp, kind), surrogate)
    late = np.flatnonzero(t.delay if t.delay is not None else ())
    lag, value = lags_of(params, h, depth, synaptic_values(params, h, jnp), late, jnp)
    if substeps > 1:  # a delay may end within a bin
        x = jnp.pad(x[:, :, None], ((0, 0), (0, 0), (0, substeps - 1), (0, 0))).reshape(batch, bins * substeps, -1)
    spikes = jnp.zeros((batch, bins * substeps, t.n_neurons), kind)
    for level in _planned(t, depth):
        heard = _heard(level, x, spikes, depth)
        lines = _lines(level, lag[level.entries], used)
        n = len(level.neurons)
        w = native.weights_of(value[level.entries], lines, n, kind)
        plan = Plan.of(structure._replace(inputs=heard.shape[2]), lines, 1, surrogate)
        own = c[:, level.neurons]
        found, _ = native.run(w, own, native.silence(batch, own, len(used)), heard, lines, plan)
        spikes = spikes.at[:, :, level.neurons].set(found, unique_indices=True, indices_are_sorted=True)
    return spikes if substeps == 1 else spikes.reshape(batch, bins, substeps, -1).sum(2)


def _heard(level: Level, x: Array, spikes: Array, depth: int) -> Array:
    """Events (batch, steps, columns) that a level hears; spikes of earlier ones act in the next step."""
    inputs, steps = x.shape[2], x.shape[1]

    def of(sources: np.ndarray) -> Array:
        outer, inner = sources[sources < inputs], sources[sources >= inputs] - inputs
        parts = [x[:, :, outer]]
        if len(inner):
            parts.append(jnp.pad(spikes[:, : steps - 1][:, :, inner], ((0, 0), (1, 0), (0, 0))))
        return jnp.concatenate(parts, 2)

    plain = of(level.plain)
    if not len(level.late):
        return plain
    past = jnp.pad(of(level.late), ((0, 0), (depth - 1, 0), (0, 0)))
    then = np.arange(steps)[:, None] + depth - 1 - np.arange(depth)
    late = jnp.swapaxes(past[:, then], 2, 3).reshape(x.shape[0], steps, -1)
    return jnp.concatenate([late, plain], 2)


def _lines(level: Level, lag: Array, dendrites: list[int]) -> Lines:
    """The lines of a level whose entries come `lag` (E,) steps late."""
    count, n = len(level.group), len(level.neurons)
    row = level.base + lag if len(level.late) else level.base
    limit = DENSE_BELOW if len(level.late) else native.SPARSE_FROM
    sparse = count * n >= limit and len(level.base) < native.SPARSE_BELOW * count * n
    order: Any = np.zeros(1, np.int32)
    ends = post = order
    if sparse:
        xp: Any = jnp if len(level.late) else np
        order = jnp.argsort(row, stable=True) if len(level.late) else np.argsort(row, kind="stable")
        ends = xp.searchsorted(row[order], np.arange(count + 1)).astype(np.int32)
        post = xp.asarray(level.column)[order].astype(np.int32)
    parts = level.first, level.lines, level.group, ends, post
    return Lines(tuple(dendrites), *parts, row, level.column, order, sparse)
