"""Neurons to chips: the partition of a network with the fewest events between the chips of a stack that was found.

Chips are in a row, the FPGA west of chip 0. A neuron sends one event (one SRAM row) to each chip that holds a target of
it; a core holds neurons of one bias group. Starts from several orders of the neurons; each is improved first in cells of
neurons that move together, then neuron by neuron (see `partition_refine`); then the chips are put in the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.quant.partition_cost import Cost, Wiring, cores_used, cost, fits, overflowing, reached, traffic
from nir_dynapse.quant.partition_refine import Clock, Graph, refine
from nir_dynapse.quant.partition_repair import gather
from nir_dynapse.quant.partition_start import affinity, breadth_order, cells, cluster_order, fill, within_reach

__all__ = ["Cost", "Partition", "Wiring", "cost", "fits", "partition"]

Capacity = Callable[[int, np.ndarray], bool]
Progress = Callable[[str, float], None]

COARSE = (1, 4, 16)
"""Cells per core in the coarse levels of the search."""

SMALL = 300
"""Networks up to this many neurons are searched from random orders too."""

MEDIUM, LARGE = 60_000, 200_000
"""Sizes (pins + neurons × chips) from which fewer partitions are improved, with fewer and shorter passes."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Chip of each neuron (N,), its cost, the cost in index order, and whether the search ended by itself."""

    chip: np.ndarray
    cost: Cost
    start: Cost
    complete: bool


def partition(
    wiring: Wiring,
    device: Device,
    n_chips: int,
    *,
    seed: int = 0,
    budget: float = 10.0,
    progress: Progress | None = None,
    capacity: Capacity | None = None,
    first: np.ndarray | None = None,
) -> Partition:
    """The partition over `n_chips` chips of least `Cost` found, never worse than in index order; the same for a seed.

    `budget` in s cuts the search short (`complete` False). `progress(stage, fraction)`. `capacity(chip, neurons)`: a
    further limit, kept if at all possible; `first` (N,) a partition that keeps it. CapacityError where the cores do not
    suffice, or too many neurons are monitored to be within `device.max_hop` chips of the FPGA.
    """
    _check_cores(wiring, device, n_chips)
    n = wiring.n_neurons
    if n_chips == 1 or n == 0:
        chip = np.zeros(n, np.int64)
        only = cost(wiring, chip, device)
        return Partition(chip, only, only, True)
    search = _Search(wiring, device, n_chips, Clock(budget), capacity)
    report = progress or (lambda stage, fraction: None)
    index = np.arange(n)
    search.offer(within_reach(wiring, fill_in_index_order(wiring, device), device, n_chips))
    start = search.cost
    report("start", 0.0)
    graph = affinity(wiring)
    orders = [index, breadth_order(graph), cluster_order(graph)]
    found = []
    for number, order in enumerate(orders):
        found.append(search.coarse(order))
        report("cells", (number + 1) / len(orders))
    search.fine(found if first is None else [first, *found])
    report("neurons", 0.5)
    search.restart(seed)
    search.spare_rows()
    search.polish()
    report("neurons", 1.0)
    search.line_up()
    report("row", 1.0)
    return Partition(search.chip, search.cost, start, not search.clock.struck)


def fill_in_index_order(wiring: Wiring, device: Device) -> np.ndarray:
    """Chip of each neuron (N,) where bias group after bias group fills cores, and cores chips, in index order."""
    return cells(wiring, np.arange(wiring.n_neurons), device.neurons_per_core) // device.cores_per_chip


def _check_cores(wiring: Wiring, device: Device, n_chips: int) -> None:
    one = np.zeros(wiring.n_neurons, np.int64)
    needed = int(cores_used(wiring.group, one, 1, device.neurons_per_core).sum())
    have = n_chips * device.cores_per_chip
    if needed > have:
        raise CapacityError(
            Finding(
                "error",
                "neurons",
                f"{wiring.n_neurons} neurons in {wiring.n_groups} bias group(s) take {needed} cores, {n_chips} chip(s) "
                f"have {have} cores of {device.neurons_per_core} neurons.",
                used=needed,
                limit=have,
                unit="cores",
                hint=f"It takes {-(-needed // device.cores_per_chip)} chips.",
            )
        )


class _Search:
    """The best partition so far and the ways to a better one."""

    def __init__(self, wiring: Wiring, device: Device, n_chips: int, clock: Clock, capacity: Capacity | None) -> None:
        self.wiring, self.device, self.n_chips, self.clock, self.capacity = wiring, device, n_chips, clock, capacity
        self.size = len(wiring.pins[0]) + wiring.n_neurons * n_chips
        self.weight = _weights(wiring)
        self.fine_graph = Graph.of(wiring, self.weight, device.neurons_per_core)
        self.chip = np.zeros(0, np.int64)
        self.key: tuple[int, Cost] | None = None

    @property
    def cost(self) -> Cost:
        if self.key is None:
            raise _out_of_reach(self.wiring, self.device)
        return self.key[1]

    def offer(self, chip: np.ndarray | None) -> None:
        """Keeps a partition if it is the best so far: first the chips' capacity, then the cost."""
        if chip is None:
            return
        key = (self._refused(chip), cost(self.wiring, chip, self.device))
        if self.key is None or key < self.key:
            self.chip, self.key = chip, key

    def _refused(self, chip: np.ndarray) -> int:
        """Chips that `capacity` refuses."""
        if self.capacity is None:
            return 0
        return sum(not self.capacity(c, np.flatnonzero(chip == c)) for c in range(self.n_chips))

    def refine(self, graph: Graph, chip: np.ndarray, *, passes: int, patience: int, most: int = 4096) -> np.ndarray:
        single = graph.n == self.wiring.n_neurons
        return refine(
            graph,
            chip,
            self.n_chips,
            self.device.cores_per_chip,
            self.clock,
            passes=passes,
            patience=patience,
            most=most,
            reach=self.device.max_hop if single else self.n_chips,
            holds=self.capacity if single else None,
        )

    def coarse(self, order: np.ndarray) -> np.ndarray:
        """A partition from an order of the neurons (N,), improved in cells from a whole core down."""
        full = self.device.neurons_per_core
        chip = fill(self.wiring, order, self.device)
        for parts in COARSE:
            if full % parts or full // parts == 1:
                continue
            cell = cells(self.wiring, order, full // parts)
            of_cell = np.zeros(int(cell.max()) + 1, np.int64)
            of_cell[cell] = chip
            graph = Graph.of(self.wiring, self.weight, parts, cell)
            chip = self.refine(graph, of_cell, passes=4, patience=100)[cell]
        return self.legal(chip)

    def legal(self, chip: np.ndarray) -> np.ndarray:
        """The partition with monitored neurons within reach and, if it can be, every chip's capacity kept."""
        moved = within_reach(self.wiring, chip, self.device, self.n_chips)
        return self._relieve(self.chip if moved is None else moved)

    def _relieve(self, chip: np.ndarray) -> np.ndarray:
        """Moves neurons off the chips that `capacity` refuses, to chips with room."""
        if self.capacity is None:
            return chip
        chip = chip.copy()
        for c in range(self.n_chips):
            for v in np.flatnonzero(chip == c)[::-1]:
                if self.capacity(c, np.flatnonzero(chip == c)):
                    break
                for b in range(self.n_chips):
                    if b == c:
                        continue
                    chip[v] = b
                    if fits(self.wiring, chip, self.device) and self.capacity(b, np.flatnonzero(chip == b)):
                        break
                    chip[v] = c
        return chip

    def fine(self, found: list[np.ndarray]) -> None:
        """Improves the best of the partitions neuron by neuron: all of them, two or one, by the size of the network."""
        for chip in found:
            self.offer(chip)
        keys = [cost(self.wiring, chip, self.device) for chip in found]
        ranked = sorted(range(len(found)), key=lambda i: (self._refused(found[i]), keys[i], i))
        most = len(found) if self.size < MEDIUM else 2 if self.size < LARGE else 1
        for i in ranked[:most]:
            if not self.clock.over():
                self.offer(self.deep(found[i]))

    def deep(self, chip: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
        graph = self.fine_graph
        if weight is not None:
            graph = Graph.of(self.wiring, weight, self.device.neurons_per_core)
        if self.size < LARGE:
            return self.refine(graph, chip, passes=12, patience=100)
        return self.refine(graph, chip, passes=4, patience=60, most=1024)

    def restart(self, seed: int) -> None:
        """Further searches: small networks from random orders, others from the best partition, shaken."""
        rng = np.random.PCG64(seed)  # raw draws: the stream of a bit generator is the same in every version of numpy
        n = self.wiring.n_neurons
        rounds = int(np.clip(100_000 // (self.size + 20 * n), 0, 60))
        for number in range(rounds):
            if self.clock.over():
                return
            if n <= SMALL and number % 2:
                order = np.argsort(rng.random_raw(n), kind="stable")
                chip = self.coarse(order)
            else:
                chip = self._shaken(rng, max(2, n // 12))
            self.offer(self.deep(self.legal(chip)))

    def _shaken(self, rng: np.random.PCG64, swaps: int) -> np.ndarray:
        """The best partition with the chips of random neurons of each group permuted among them."""
        chip = self.chip.copy()
        some = np.argsort(rng.random_raw(len(chip)), kind="stable")[: 2 * swaps]
        for g in range(self.wiring.n_groups):
            mine = some[self.wiring.group[some] == g]
            chip[mine] = np.roll(chip[mine], 1)
        return chip

    def spare_rows(self) -> None:
        """Where neurons lack SRAM rows: searches in which their nets weigh more from round to round."""
        penalty = np.zeros(self.wiring.n_nets, np.int64)
        step = min(int(self.weight.max(initial=1)), 1 << 40)  # so that no sum of penalties overflows
        chip = self.chip
        for _ in range(8 if self.size < LARGE else 1):
            over = overflowing(self.wiring, reached(self.wiring, chip, self.n_chips), self.device)
            if not over.any() or self.clock.over():
                return
            penalty += step * over
            chip = self.deep(chip, self.weight + penalty)
            self.offer(chip)
        if self.size < MEDIUM and self.cost.overflow:
            self.offer(gather(self.wiring, self.chip, self.device, self.n_chips, self.clock))

    def polish(self) -> None:
        if not self.clock.over():
            self.offer(self.deep(self.chip))

    def line_up(self) -> None:
        """Puts the chips in the row so that events travel the fewest hops; not where chips differ (`capacity`)."""
        if self.capacity is not None:
            return
        k = self.n_chips
        between, outside = traffic(self.wiring, self.chip, k)
        orders = np.array(list(permutations(range(k))))  # position of each chip; 40320 for eight
        hops = orders @ outside
        for a in range(k):
            for b in range(k):
                if between[a, b]:
                    hops += between[a, b] * np.abs(orders[:, a] - orders[:, b])
        if k > self.device.max_hop:
            watched = np.bincount(self.chip[self.wiring.monitored], minlength=k) > 0
            hops[(watched & (orders >= self.device.max_hop)).any(1)] = np.iinfo(np.int64).max
        self.offer(orders[hops.argmin()][self.chip])


def _weights(wiring: Wiring) -> np.ndarray:
    """Weight of each net (n_nets,) in the search: events first, SRAM rows and events of inputs far below."""
    owned = wiring.owner >= 0
    total = int(wiring.activity[owned].sum())
    shift = max(0, total.bit_length() - 24)  # activities beyond 24 bits are rounded here, never in `cost`
    inputs = np.where(owned, 0, wiring.activity)
    scale = max(int(inputs.sum()), 1)
    small = np.array([int(a) * (1 << 14) // scale for a in inputs], np.int64)
    return np.where(owned, ((wiring.activity >> shift) << 22) + (1 << 4), np.maximum(small, 1))


def _out_of_reach(wiring: Wiring, device: Device) -> CapacityError:
    count = int(wiring.monitored.sum())
    return CapacityError(
        Finding(
            "error",
            "monitor-hops",
            f"{count} monitored neurons do not fit on the {device.max_hop} chips whose events reach the FPGA.",
            used=count,
            limit=device.max_hop * device.neurons_per_chip,
            hint="Monitor fewer neurons.",
        )
    )
