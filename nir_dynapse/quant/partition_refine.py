"""Local search for partitions: Fiduccia–Mattheyses passes with moves and swaps, exact gains kept in a table.

The vertices are neurons, or cells: neurons of one bias group that move together. Gains are integers, so that the result
does not depend on the order of a sum.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from nir_dynapse.circuit.closed_form import counted_up
from nir_dynapse.quant.partition_cost import Wiring

__all__ = ["Clock", "Graph", "refine"]

FAR = np.int64(1) << 60
"""A loss that no move makes: marks what must not be chosen."""


class Clock:
    """The cap on wall-clock time: `over` says whether it has struck, `struck` whether the search was cut short."""

    def __init__(self, budget: float) -> None:
        self.start, self.budget, self.struck = time.perf_counter(), budget, False

    @property
    def fraction(self) -> float:
        return min(1.0, (time.perf_counter() - self.start) / self.budget) if self.budget > 0 else 1.0

    def over(self) -> bool:
        self.struck = self.struck or self.fraction >= 1
        return self.struck


@dataclass(frozen=True, eq=False)
class Graph:
    """A hypergraph: pins by net (`net_start`, `net_vertex`) and by vertex (`vertex_start`, `vertex_net`).

    `group` (V,) of each vertex, `weight` (nets,) int64 cost of each further chip, `per_core` vertices of one group that
    a core holds, `near` (V,) bool: must stay within the FPGA's reach.
    """

    group: np.ndarray
    near: np.ndarray
    weight: np.ndarray
    net_start: np.ndarray
    net_vertex: np.ndarray
    vertex_start: np.ndarray
    vertex_net: np.ndarray
    per_core: int

    @classmethod
    def of(cls, wiring: Wiring, weight: np.ndarray, per_core: int, cell: np.ndarray | None = None) -> Graph:
        """The hypergraph of `wiring` with weights (n_nets,), or of its cells: `cell` (N,) says which cell it is in."""
        net, vertex = wiring.pins
        n, group, near = wiring.n_neurons, wiring.group, wiring.monitored
        if cell is not None:
            n = int(cell.max()) + 1
            group, near = np.zeros(n, np.int64), np.zeros(n, bool)
            group[cell] = wiring.group
            net, vertex = np.divmod(_distinct(net * n + cell[vertex], wiring.n_nets * n), n)
        keep = np.bincount(net, minlength=wiring.n_nets) > 1  # a net inside one vertex costs nothing
        number = np.cumsum(keep) - 1
        of_kept = keep[net]
        net, vertex = number[net[of_kept]], vertex[of_kept]
        by_vertex = np.argsort(vertex, kind="stable")
        return cls(
            group=group,
            near=near,
            weight=weight[keep],
            net_start=_starts(net, int(keep.sum())),
            net_vertex=vertex,
            vertex_start=_starts(vertex, n),
            vertex_net=net[by_vertex],
            per_core=per_core,
        )

    @property
    def n(self) -> int:
        return len(self.group)


def _distinct(key: np.ndarray, size: int) -> np.ndarray:
    """`np.unique` of numbers below `size`; marked in a table where that is not much longer, which spares a sort."""
    if size > 16 * len(key):
        return np.unique(key)
    there = np.zeros(size, bool)
    there[key] = True
    return np.flatnonzero(there)


def _starts(label: np.ndarray, n: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(label, minlength=n))]).astype(np.int64)


class _State:
    """Where the vertices are, and what each single move would gain."""

    def __init__(self, graph: Graph, chip: np.ndarray, n_chips: int, cores: int, reach: int) -> None:
        self.graph, self.k, self.cores = graph, n_chips, cores
        self.chip = chip.astype(np.int64)
        n_nets, n, k = len(graph.weight), graph.n, n_chips
        net = np.repeat(np.arange(n_nets), np.diff(graph.net_start))
        place = net * k + self.chip[graph.net_vertex]
        self.count = np.bincount(place, minlength=n_nets * k).reshape(n_nets, k)
        self.total = np.zeros(n_nets * k, np.int64)  # the sum of vertex numbers: where the count is 1, the vertex
        np.add.at(self.total, place, graph.net_vertex)
        self.total = self.total.reshape(n_nets, k)
        incidence = sparse.csr_matrix(
            (np.ones(len(graph.vertex_net), np.int64), graph.vertex_net, graph.vertex_start), shape=(n, n_nets)
        )
        missing = (self.count == 0) * graph.weight[:, None]
        lone = np.where(self.count.ravel()[place] == 1, graph.weight[net], 0)
        leave = np.zeros(n, np.int64)
        np.add.at(leave, graph.net_vertex, lone)
        self.gain = np.ascontiguousarray(leave[:, None] - np.asarray(incidence @ missing))
        if n_chips > reach:
            self.gain[graph.near, reach:] = -FAR
        self.n_groups = int(graph.group.max()) + 1
        self.sizes = np.bincount(graph.group * k + self.chip, minlength=self.n_groups * k).reshape(self.n_groups, k)
        self.columns = np.arange(k)

    def candidates(self, most: int) -> None:
        """The vertices that this pass may move, by (group, chip): those with the best gains, at most about `most`."""
        gain = self.gain.copy()
        gain[np.arange(self.graph.n), self.chip] = -FAR
        segment = self.graph.group * self.k + self.chip
        order = np.argsort(-gain.max(1), kind="stable")
        order = order[np.argsort(segment[order], kind="stable")]
        lengths = np.bincount(segment, minlength=self.n_groups * self.k)
        if self.graph.n > most:
            rank = counted_up(lengths)
            share = max(8, most // max(1, int((lengths > 0).sum())))
            order = order[rank < share]
            lengths = np.minimum(lengths, share)
        self.free, self.ends = order, np.cumsum(lengths)

    def lock(self, vertex: int, segment: int) -> None:
        start = int(self.ends[segment - 1]) if segment else 0
        at = start + int(np.flatnonzero(self.free[start : self.ends[segment]] == vertex)[0])
        self.free = np.delete(self.free, at)
        self.ends[segment:] -= 1

    def best(self) -> np.ndarray:
        """Best gain of a free vertex of each group from each chip to each chip, (groups, chips, chips)."""
        k = self.k
        table = np.full((self.n_groups * k, k), -FAR)
        if len(self.free):
            starts = np.concatenate([[0], self.ends[:-1]])
            used = np.flatnonzero(self.ends > starts)
            table[used] = np.maximum.reduceat(self.gain[self.free], starts[used], axis=0)
        table = table.reshape(self.n_groups, k, k)
        table[:, self.columns, self.columns] = -FAR
        return table

    def choose(self) -> tuple[int, int, int, int] | None:
        """(group, from, to, group that goes back or -1) of the best move or swap that fits; None where there is none."""
        table, full = self.best(), self.graph.per_core
        used = (-(-self.sizes // full)).sum(0)
        opens = self.sizes % full == 0
        single = np.where((~opens | (used < self.cores))[:, None, :], table, -FAR)
        pair = table[:, None] + table.transpose(0, 2, 1)[None]
        if self.n_groups > 1:
            closes = self.sizes % full == 1 % full
            change = opens[None].astype(int) - closes[:, None]  # g leaves, h comes: (g, h, chip)
            spare = self.cores - used
            allowed = (change <= spare)[:, :, :, None] & (change.transpose(1, 0, 2) <= spare)[:, :, None, :]
            same = np.arange(self.n_groups)
            allowed[same, same] = True
            pair = np.where(allowed, pair, -FAR)
        one, two = int(single.argmax()), int(pair.argmax())
        if max(single.flat[one], pair.flat[two]) <= -FAR // 2:
            return None
        k = self.k
        if single.flat[one] >= pair.flat[two]:
            return one // (k * k), one // k % k, one % k, -1
        return two // (self.n_groups * k * k), two // k % k, two % k, two // (k * k) % self.n_groups

    def top(self, group: int, source: int, target: int) -> int:
        segment = group * self.k + source
        start = self.ends[segment - 1] if segment else 0
        members = self.free[start : self.ends[segment]]
        return int(members[self.gain[members, target].argmax()])

    def move(self, vertex: int, b: int) -> int:
        """Moves a vertex to chip b and brings all gains but its own up to date; its gain."""
        graph, a = self.graph, int(self.chip[vertex])
        gained = int(self.gain[vertex, b])
        self.place(vertex, a, b)
        nets = graph.vertex_net[graph.vertex_start[vertex] : graph.vertex_start[vertex + 1]]
        at_a, at_b = self.count[nets, a], self.count[nets, b]
        self.count[nets, a], self.count[nets, b] = at_a - 1, at_b + 1
        self.total[nets, a] -= vertex
        lone_b = nets[at_b == 1]
        lone_vertex_b = self.total[lone_b, b]
        self.total[nets, b] += vertex
        lone_a = nets[at_a == 2]
        rows = np.concatenate([self.total[lone_a, a], lone_vertex_b])
        flat = self.gain.reshape(-1)
        if len(rows):
            change = np.concatenate([graph.weight[lone_a], -graph.weight[lone_b]])
            np.add.at(flat, (rows[:, None] * self.k + self.columns).ravel(), np.repeat(change, self.k))
        emptied, opened = nets[at_a == 1], nets[at_b == 0]
        changed = np.concatenate([emptied, opened])
        if len(changed):
            starts = graph.net_start[changed]
            lengths = graph.net_start[changed + 1] - starts
            pins = np.repeat(starts, lengths) + counted_up(lengths)
            change = np.concatenate([-graph.weight[emptied], graph.weight[opened]])
            column = np.repeat(np.array([a, b]), [len(emptied), len(opened)])
            np.add.at(flat, graph.net_vertex[pins] * self.k + np.repeat(column, lengths), np.repeat(change, lengths))
        return gained

    def place(self, vertex: int, a: int, b: int) -> None:
        self.chip[vertex] = b
        self.sizes[self.graph.group[vertex], a] -= 1
        self.sizes[self.graph.group[vertex], b] += 1


def refine(
    graph: Graph,
    chip: np.ndarray,
    n_chips: int,
    cores: int,
    clock: Clock,
    *,
    passes: int,
    patience: int,
    most: int = 4096,
    reach: int = 1 << 30,
    holds: Callable[[int, np.ndarray], bool] | None = None,
) -> np.ndarray:
    """A partition (V,) at least as good as `chip`: passes of best moves, uphill too, each cut at its best prefix.

    A pass ends after `patience` steps without a new best and moves each vertex at most once; `most` vertices take part.
    `cores` per chip; `reach`: chips that the FPGA can be reached from; `holds(chip, vertices)`: a further limit.
    """
    chip = chip.astype(np.int64)
    if not len(graph.weight):
        return chip
    for _ in range(passes):
        state = _State(graph, chip, n_chips, cores, reach)
        state.candidates(most)
        gained = _one_pass(state, clock, patience, holds)
        chip = state.chip
        if gained <= 0 or clock.over():
            break
    return chip


def _one_pass(state: _State, clock: Clock, patience: int, holds: Callable[[int, np.ndarray], bool] | None) -> int:
    done: list[tuple[int, int, int]] = []  # vertex, from, to
    score = best = kept = 0
    since = 0
    while since < patience and not (since % 64 == 63 and clock.over()):
        choice = state.choose()
        if choice is None:
            break
        group, a, b, back = choice
        step, gained = [], 0
        for g, source, target in ((group, a, b), (back, b, a))[: 1 + (back >= 0)]:
            vertex = state.top(g, source, target)
            state.lock(vertex, g * state.k + source)
            gained += state.move(vertex, target)
            step.append((vertex, source, target))
        since += 1
        if holds and not all(holds(c, np.flatnonzero(state.chip == c)) for c in (a, b)):
            for vertex, source, _ in reversed(step):  # locked all the same, so that the pass goes on without them
                state.move(vertex, source)
            continue
        done += step
        score += gained
        if score > best:
            best, kept, since = score, len(done), 0
    _undo(state, done[kept:])
    return best


def _undo(state: _State, steps: list[tuple[int, int, int]]) -> None:
    for vertex, a, b in reversed(steps):
        state.place(vertex, b, a)
