"""First partitions: orders of the neurons in which neighbours are close, and cells cut from an order and put on chips."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order

from nir_dynapse.chip.device import Device
from nir_dynapse.circuit.closed_form import counted_up
from nir_dynapse.quant.partition_cost import Wiring, cores_used

__all__ = ["affinity", "breadth_order", "cells", "cluster_order", "fill", "within_reach"]

SAMPLE = 12
"""Pins of a net whose pairs count as neighbours; more would make large nets dominate time and memory."""


def affinity(wiring: Wiring) -> sparse.csr_matrix:
    """Symmetric integer affinity (N, N) of neurons: source with target, and targets of one source with each other."""
    net, neuron = wiring.pins
    n = wiring.n_neurons
    size = np.bincount(net, minlength=wiring.n_nets)
    # Activities above 2^20 of the largest would not change which neighbour is closest, and products must not overflow.
    shift = max(0, int(wiring.activity.max(initial=0)).bit_length() - 20)
    owned = wiring.owner >= 0
    weight = np.where(owned, (wiring.activity >> shift) * 64 + 16, 1) * 64 // np.maximum(size - 1, 1) + 1
    edge = owned[net]
    rows, columns, values = [wiring.owner[net[edge]]], [neuron[edge]], [weight[net[edge]]]
    starts = np.cumsum(size) - size
    taken = np.minimum(size, SAMPLE)
    pick = np.repeat(np.arange(wiring.n_nets), taken)
    rank = counted_up(taken)
    sample = neuron[starts[pick] + rank * size[pick] // taken[pick]] if len(pick) else neuron[:0]
    table = np.full((wiring.n_nets, SAMPLE), -1)
    table[pick, rank] = sample
    for step in range(1, SAMPLE):
        first, second = table[:, :-step].ravel(), table[:, step:].ravel()
        real = second >= 0
        rows.append(first[real])
        columns.append(second[real])
        values.append(np.repeat(weight, SAMPLE - step)[real])
    i, j, w = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    apart = i != j
    half = sparse.coo_matrix((w[apart], (i[apart], j[apart])), shape=(n, n)).tocsr()
    both = sparse.csr_matrix(half + half.T)
    both.sort_indices()
    return both


def breadth_order(graph: sparse.csr_matrix) -> np.ndarray:
    """Cuthill–McKee order (N,): breadth first from a far end of each part, neighbours of small degree first."""
    n = len(graph.indptr) - 1
    by_degree = np.argsort(np.diff(graph.indptr), kind="stable")
    old = np.repeat(np.arange(n), np.diff(graph.indptr))
    new = np.empty(n, np.int64)
    new[by_degree] = np.arange(n)
    ranked = sparse.csr_matrix((graph.data, (new[old], new[graph.indices])), shape=(n, n))
    ranked.sort_indices()
    seen = np.zeros(n, bool)
    parts: list[np.ndarray] = []
    for first in range(n):
        if not seen[first]:
            start = first
            for _ in range(2):  # the last vertex reached is at a far end
                start = int(breadth_first_order(ranked, start, directed=True, return_predecessors=False)[-1])
            part = breadth_first_order(ranked, start, directed=True, return_predecessors=False)
            seen[part] = True
            parts.append(part)
    return by_degree[np.concatenate(parts)]


def cluster_order(graph: sparse.csr_matrix) -> np.ndarray:
    """Order (N,) of the leaves of a clustering: in each round every cluster merges with the one it is closest to.

    Closeness is the affinity divided by both sizes; only pairs that choose each other merge.
    """
    n = len(graph.indptr) - 1
    label = np.arange(n)
    size = np.ones(n, np.int64)
    levels: list[np.ndarray] = []
    work = graph
    while len(degree := np.diff(work.indptr)) > 1 and work.nnz:
        chosen = _closest(work, degree, size)
        here = np.arange(len(degree))
        mutual = (chosen >= 0) & (chosen[chosen] == here)
        root = np.where(mutual, np.minimum(here, chosen), here)
        kept, parent = np.unique(root, return_inverse=True)
        if len(kept) == len(degree):
            break
        levels.append(label)
        label = parent[label]
        size = np.bincount(parent, size.astype(float)).astype(np.int64)
        work = _merged(work, parent, len(kept))
    return np.lexsort((*levels, label)) if levels else np.arange(n)


def _closest(graph: sparse.csr_matrix, degree: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The cluster (n,) that each one of `size` (n,) is closest to, -1 where it has no neighbour."""
    strength = np.asarray(graph.data, np.int64)
    # Scaled so that the quotient keeps some bits below the strongest affinity.
    spread = max(0, 46 - int(strength.max()).bit_length())
    rating = (strength << spread) // (np.repeat(size, degree) * size[graph.indices])
    linked = np.flatnonzero(degree)
    best = np.maximum.reduceat(rating, graph.indptr[linked])
    first = np.flatnonzero(rating == np.repeat(best, degree[linked]))
    # Equals are told apart by a number that both ends of a pair agree on, or else long chains of equals would merge one
    # pair a round; if that is equal, too, the last one counts.
    source, target = np.repeat(np.arange(len(degree)), degree)[first], graph.indices[first].astype(np.int64)
    low, high = np.minimum(source, target), np.maximum(source, target)
    lot = (low * 40503 + high * 25717 + low * high) % 65521
    chosen = np.full(len(degree), -1)
    last = np.lexsort((target, lot, source))
    chosen[source[last]] = target[last]
    return chosen


def _merged(graph: sparse.csr_matrix, parent: np.ndarray, n: int) -> sparse.csr_matrix:
    """The affinity of `n` clusters, `parent` (vertices,) the one that each vertex is in; none with itself."""
    by_parent = np.argsort(parent, kind="stable")
    starts = np.r_[0, np.cumsum(np.bincount(parent, minlength=n))]
    rows = sparse.csr_matrix((np.ones(len(parent), np.int64), by_parent, starts), shape=(n, len(parent)))
    merged = sparse.csr_matrix(
        rows @ sparse.csr_matrix((graph.data, parent[graph.indices], graph.indptr), shape=(len(parent), n))
    )
    apart = merged.indices != np.repeat(np.arange(n), np.diff(merged.indptr))
    starts = np.r_[0, np.cumsum(apart)][merged.indptr]
    return sparse.csr_matrix((merged.data[apart], merged.indices[apart], starts), shape=(n, n))


def cells(wiring: Wiring, order: np.ndarray, size: int) -> np.ndarray:
    """Cell of each neuron (N,): each bias group cut into cells of `size` neurons in `order` (N,); the last may be less."""
    cell = np.zeros(wiring.n_neurons, np.int64)
    first = 0
    for g in range(wiring.n_groups):
        members = order[wiring.group[order] == g]
        cell[members] = first + np.arange(len(members)) // size
        first += -(-len(members) // size)
    return cell


def fill(wiring: Wiring, order: np.ndarray, device: Device) -> np.ndarray:
    """Chips (N,) filled with cores' worth of neurons: blocks of one group, by their mean position in `order` (N,)."""
    block = cells(wiring, order, device.neurons_per_core)
    position = np.zeros(wiring.n_neurons, np.int64)
    position[order] = np.arange(wiring.n_neurons)
    total = np.zeros(int(block.max()) + 1, np.int64)
    np.add.at(total, block, position)
    mean = total // np.bincount(block)
    chip_of_block = np.zeros(len(mean), np.int64)
    chip_of_block[np.argsort(mean, kind="stable")] = np.arange(len(mean)) // device.cores_per_chip
    return chip_of_block[block]


def within_reach(wiring: Wiring, chip: np.ndarray, device: Device, n_chips: int) -> np.ndarray | None:
    """`chip` (N,) with the monitored neurons on chips that the FPGA hears; None where the cores do not allow it.

    Swaps with neurons of the same group that are not monitored; where they are too few, the chips are filled anew.
    """
    reach, monitored = device.max_hop, wiring.monitored
    if n_chips <= reach or not (monitored & (chip >= reach)).any():
        return chip
    chip = chip.copy()
    short = False
    for g in range(wiring.n_groups):
        mine = wiring.group == g
        wrong = np.flatnonzero(mine & monitored & (chip >= reach))
        others = np.flatnonzero(mine & ~monitored & (chip < reach))
        m = min(len(wrong), len(others))
        short = short or m < len(wrong)
        chip[wrong[:m]], chip[others[:m]] = chip[others[:m]], chip[wrong[:m]]
    if not short:
        return chip
    # As many whole cores as needed are taken off the near chips, each from neurons that nobody listens to.
    chip = np.zeros(wiring.n_neurons, np.int64)
    far = np.zeros(wiring.n_neurons, bool)
    cores = reach * device.cores_per_chip
    full = device.neurons_per_core
    for g in range(wiring.n_groups):
        members = np.flatnonzero(wiring.group == g)
        silent = members[~monitored[members]]
        left, size = len(members), (len(members) - 1) % full + 1
        while left and size <= len(silent) - (len(members) - left):
            done = len(members) - left
            over = _cores(wiring, ~far, full) - cores
            if over <= 0 or _cores(wiring, far, full) >= (n_chips - reach) * device.cores_per_chip:
                break
            far[silent[done : done + size]] = True
            left, size = left - size, full
    if _cores(wiring, ~far, full) > cores:
        return None
    for part, base in ((~far, 0), (far, reach)):
        index = np.flatnonzero(part)
        if len(index):
            below = Wiring(
                len(index), wiring.group[index], monitored[index], index[:0], index[:0], index[:0], index[:0]
            )
            chip[index] = base + fill(below, np.arange(len(index)), device)
    return chip


def _cores(wiring: Wiring, part: np.ndarray, full: int) -> int:
    group = wiring.group[part]
    return int(cores_used(group, np.zeros(len(group), np.int64), 1, full).sum())
