"""Many virtual chips on the kernels of `sim.native`: chips are fabricated and run side by side in threads.

Every chip runs with its own internal steps and structure, as alone, so its numbers depend on nothing else. Processes under
`jax.distributed` take turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from nir_dynapse.chip.device import Mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.circuit import Disturbance, internal_step, structure_of, tonic_events
from nir_dynapse.sim.first_output import counted, taken
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.native import plain
from nir_dynapse.sim.native.play import Circuit, Events, Found, cpus, expect, play
from nir_dynapse.sim.native.synapses import places_of

__all__ = ["NOMINAL", "chip_counts"]

NOMINAL = -1
"""The number of the chip without mismatch."""
ROUND = 8
"""Least chips of a round; otherwise two per thread."""
EVENT_BYTES, BIN_BYTES = 8, 8
"""Bytes of an input event and of a bin of a sample in lists of events."""


def chip_counts(
    params: Params,
    x: np.ndarray,
    dt: float,
    mismatch: Mismatch,
    numbers: Sequence[int],
    memory: int,
    process: tuple[int, int] = (0, 1),
    timed: bool = False,
) -> Iterator[dict[int, np.ndarray]]:
    """Round by round, what the first output counted on the chips of process (number, of how many); see `ensemble`."""
    threads, (own, processes) = cpus(), process
    size = max(ROUND, 2 * threads) * processes
    rounds = [numbers[first : first + size] for first in range(0, len(numbers), size)]
    chips = _Chips(params, x, dt, mismatch, memory // (threads + 1), timed)
    expect(len(numbers) * plain.seconds(len(x), max(params.topology.n_neurons, 1), x.shape[1]))
    waiting: list[tuple[int, Future[np.ndarray]]] | None = None
    with ThreadPoolExecutor(threads) as pool:
        try:
            for round_ in rounds:
                mine = round_[own::processes]
                each = 1 if len(mine) >= threads else threads  # few chips share all threads
                started = [(number, pool.submit(chips.run, number, each)) for number in mine]
                if waiting is not None:
                    yield {number: future.result() for number, future in waiting}
                waiting = started
            if waiting is not None:
                yield {number: future.result() for number, future in waiting}
        finally:
            pool.shutdown(cancel_futures=True)


class _Chips:
    """The virtual chips by number, and the input that all of them get."""

    def __init__(self, params: Params, x: np.ndarray, dt: float, mismatch: Mismatch, memory: int, timed: bool) -> None:
        self.params, self.x, self.dt, self.mismatch, self.timed = params, x, dt, mismatch, timed
        t = params.topology
        slices, self.per_bin = taken(t, timed)
        self.column = np.full(t.n_neurons, -1, np.int32)
        for k, neuron in enumerate(np.concatenate([np.arange(*part) for part in slices] or [np.zeros(0, int)])):
            self.column[neuron] = k
        self.columns = int(self.column.max(initial=-1)) + 1
        self.tonic = tonic_events(t.tonic_period, x.shape[1], dt)
        self.most = max(float(x.max(initial=0)), float(self.tonic.max(initial=0)))
        # Samples are cut so that the lists of their events and their spikes fit in the memory.
        fill = np.count_nonzero(x) / max(len(x), 1)
        each = EVENT_BYTES * fill + BIN_BYTES * x.shape[1] + self.columns * (x.shape[1] if self.per_bin else 4)
        size = int(min(max(memory // max(each, 1), 1), max(len(x), 1)))
        self.parts = [slice(first, first + size) for first in range(0, len(x), size)]
        self.kept = [self._events(part) for part in self.parts] if len(self.parts) <= 1 else None
        self.places = places_of(t, structure_of(params, dt, lists=True))

    def _events(self, part: slice) -> Events:
        return Events.of(self.x[part], self.tonic)

    def run(self, number: int, threads: int) -> np.ndarray:
        """What the first output of chip `number` counts (sample, output)."""
        mismatch = Mismatch.none() if number == NOMINAL else self.mismatch
        chip, disturbance = fabricate(self.params, mismatch, number), Disturbance.of(mismatch, number)
        substeps = internal_step(chip, self.dt)
        structure = structure_of(chip, self.dt / substeps, disturbance, lists=True, substeps=substeps)
        circuit = Circuit.of(chip, self.dt, substeps, structure, self.most, disturbance, self.places)
        results: list[Any] = []
        for k, part in enumerate(self.parts):
            events = self._events(part) if self.kept is None else self.kept[k]
            sample = np.arange(len(self.x), dtype=np.uint32)[part]
            found = Found.of(len(sample), self.x.shape[1], self.columns, per_bin=self.per_bin)
            play(circuit, events, sample, found, column=self.column, threads=threads)
            spikes = found.counts if self.per_bin else found.total[:, None]
            results.append(counted(spikes, self.params.topology, self.dt, self.timed))
        return np.concatenate(results)
