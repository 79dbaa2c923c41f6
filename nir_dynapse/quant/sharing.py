"""Synapses that one CAM row can serve: parallel ones of one pair, and those of sources whose targets coincide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.circuit.closed_form import row_numbers
from nir_dynapse.circuit.params import Params

__all__ = ["keep_synapses", "merge_parallel", "share_sources"]


def keep_synapses(params: Params, keep: np.ndarray, weight: np.ndarray | None = None) -> Params:
    """`params` with only the synapses `keep` (indices or boolean (S,)), `weight` replaces theirs.

    The rows of each neuron are numbered anew, in their order.
    """
    t = params.topology
    post = t.post[keep]
    row, order = np.zeros(len(post), int), np.lexsort((t.row[keep], post))
    row[order] = row_numbers(post[order])
    topology = replace(
        t,
        pre=t.pre[keep],
        post=post,
        dendrite=t.dendrite[keep],
        row=row,
        mask=t.mask[keep] if t.mask is not None and weight is None else None,
        delay=None if t.delay is None else t.delay[keep],
    )
    factor = None if params.delay_factor is None else np.asarray(params.delay_factor)[keep]
    kept = weight
    if weight is None and params.weight is not None:
        kept = np.asarray(params.weight)[keep]
    return replace(params, weight=kept, topology=topology, delay_factor=factor)


def merge_parallel(params: Params, importance: np.ndarray | None) -> tuple[Params, np.ndarray | None]:
    """One synapse for all parallel ones of a pair with equal dendrite and delay: their weights add, in one CAM row.

    The importance of the sum is the largest of its parts'.
    """
    t = params.topology
    delay = np.zeros(t.n_synapses, np.int64) if t.delay is None else t.delay.astype(np.int64)
    key = ((t.pre.astype(np.int64) * t.n_neurons + t.post) * 4 + t.dendrite) * 4 + delay
    _, first, where = np.unique(key, return_index=True, return_inverse=True)
    if len(first) == t.n_synapses or params.delay_factor is not None:
        return params, importance
    total = np.bincount(where.reshape(-1), params.row_currents())
    order = np.argsort(first, kind="stable")  # in the order in which they came
    if importance is not None:
        most = np.zeros(len(first))
        np.maximum.at(most, where.reshape(-1), importance)
        importance = most[order]
    merged = keep_synapses(params, first[order], total[order])
    return replace(merged, base=None), importance


def share_sources(params: Params) -> tuple[np.ndarray, np.ndarray]:
    """Sources that can share their tags and CAM rows, because the same synapses lead from them to the same neurons.

    Returns (sources,) the source whose rows each one uses (the first of its kind, itself where there is no other), and
    boolean (S,) the synapses that still need rows. The tonic channel keeps its own. Masks must be the same bits.
    """
    t = params.topology
    weight = np.asarray(params.row_currents() if t.mask is None else t.mask, np.float64)
    delay = np.zeros(t.n_synapses) if t.delay is None else t.delay
    kind = (t.post.astype(np.int64) * 4 + t.dendrite) * 4 + delay.astype(np.int64)
    some = np.flatnonzero(_repeated(t.pre, t.n_sources, kind, weight)[t.pre])
    order = some[np.lexsort((weight[some], kind[some], t.pre[some]))]
    table = np.stack([t.post[order], t.dendrite[order], delay[order], weight[order]], 1).astype(np.float64)
    start = np.searchsorted(t.pre[order], np.arange(t.n_sources + 1))
    alias = np.arange(t.n_sources)
    known: dict[bytes, int] = {}
    for source in np.flatnonzero(np.diff(start)).tolist():
        if source != t.tonic:
            alias[source] = known.setdefault(table[start[source] : start[source + 1]].tobytes(), source)
    return alias, alias[t.pre] == t.pre


def _repeated(pre: np.ndarray, n_sources: int, kind: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Which sources (n_sources,) may have the synapses (kind, weight) of another one: by a hash, so that few are sorted."""
    word = (kind.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ weight.view(np.uint64)
    for multiplier in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
        word = (word ^ (word >> np.uint64(31))) * np.uint64(multiplier)
    running = np.r_[np.uint64(0), np.cumsum(word[np.argsort(pre, kind="stable")], dtype=np.uint64)]
    sums = np.diff(running[np.r_[0, np.cumsum(np.bincount(pre, minlength=n_sources))]])
    _, where, times = np.unique(sums, return_inverse=True, return_counts=True)
    return times[where.reshape(-1)] > 1
