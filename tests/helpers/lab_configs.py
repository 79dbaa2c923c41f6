"""Chip configurations written by hand, the way lab scripts do it: bias codes by name, full lists of rows, tags at will.

Values follow the practice of working scripts (facts/samna_dynapse2_contract.md §5, §7). Each maker takes a configuration
of the package's own classes or of the fake samna's, and writes into it by attribute only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

WEIGHTS = {"SYAM_W0_P": (4, 200), "SYAM_W1_P": (5, 50), "SYAM_W2_P": (5, 100), "SYAM_W3_P": (5, 250)}
"""Base currents of 40 nA to 0.4 µA."""
BIASES: dict[str, tuple[int, int]] = {
    "SOIF_LEAK_N": (0, 50),
    "SOIF_GAIN_N": (3, 40),
    "SOIF_REFR_N": (2, 45),
    "SOIF_SPKTHR_P": (3, 254),
    "SOIF_DC_P": (0, 0),
    "DEAM_ETAU_P": (2, 30),
    "DEAM_EGAIN_P": (2, 35),
    "DENM_ETAU_P": (1, 40),
    "DENM_EGAIN_P": (1, 130),
    "DENM_NMREV_N": (0, 0),
    "DEGA_ITAU_P": (1, 50),
    "DEGA_IGAIN_P": (1, 50),
    "DESC_ITAU_P": (1, 160),
    "DESC_IGAIN_P": (1, 90),
    "SYPD_EXT_N": (3, 200),
    "SYPD_DLY0_P": (0, 1),
    "SYPD_DLY1_P": (5, 200),
    "SYPD_DLY2_P": (1, 20),
    "SOAD_PWTAU_N": (5, 255),
    "SOAD_GAIN_P": (0, 0),
    "SOAD_TAU_P": (5, 255),
    "SOAD_W_N": (0, 0),
    **WEIGHTS,
}
"""A core of neurons with thresholds of 12 nA, membranes of 11 ms and AMPA of 10 ms."""


class Bench:
    """A configuration and the hands that fill it: rows are collected, and written as full lists by `done`."""

    def __init__(self, config: Any) -> None:
        self.config = config
        first = config.chips[0].cores[0].neurons[0]
        self.synapse, self.destination = type(first.synapses[0]), type(first.destinations[0])
        self.dendrite: Any = type(first.synapses[0].dendrite)
        self.rows: dict[tuple[int, int, int], list[Any]] = {}
        self.sends: dict[tuple[int, int, int], list[Any]] = {}

    def neuron(self, place: tuple[int, int, int]) -> Any:
        chip, core, slot = place
        return self.config.chips[chip].cores[core].neurons[slot]

    def biases(self, chip: int, core: int, **codes: tuple[int, int]) -> None:
        """All biases of a core: `BIASES` with changes."""
        for name, (coarse, fine) in {**BIASES, **codes}.items():
            parameter = self.config.chips[chip].cores[core].parameters[name]
            parameter.coarse_value, parameter.fine_value = coarse, fine

    def listen(
        self, place: tuple[int, int, int], tag: int, dendrite: str, mask: int, *, repeat: int = 1, **flags: bool
    ):
        """`repeat` CAM rows of a neuron (chip, core, slot)."""
        row = self.synapse()
        row.tag, row.dendrite = tag, self.dendrite[dendrite]
        row.weight = [bool(mask >> k & 1) for k in range(4)]
        for name, value in flags.items():
            setattr(row, name, value)
        self.rows.setdefault(place, []).extend([row] * repeat)

    def send(self, place: tuple[int, int, int], tag: int, cores: Iterable[int], x_hop: int = 0, y_hop: int = 0) -> None:
        """An SRAM row of a neuron (chip, core, slot)."""
        row = self.destination()
        row.core = [k in tuple(cores) for k in range(4)]
        row.tag, row.x_hop, row.y_hop = tag, x_hop, y_hop
        self.sends.setdefault(place, []).append(row)

    def monitor(self, place: tuple[int, int, int], tag: int, x_hop: int = -7, y_hop: int = 0) -> None:
        self.send(place, tag, range(4), x_hop, y_hop)

    def done(self) -> Any:
        for place, rows in self.rows.items():
            self.neuron(place).synapses = rows + [self.synapse()] * (64 - len(rows))
        for place, rows in self.sends.items():
            self.neuron(place).destinations = rows + [self.destination()] * (4 - len(rows))
        return self.config


def winner_take_all(config: Any) -> Any:
    """32 excitatory neurons in two pools on core 0, eight inhibitory ones on core 1, stimuli on tags 1024 to 1039.

    The neurons of a pool share a tag (aliasing) and excite each other with repeated rows; the inhibitory ones share a tag,
    too, and inhibit everybody. Monitored with x_hop -1, as on a single chip.
    """
    bench = Bench(config)
    bench.biases(0, 0)
    bench.biases(0, 1, SOIF_LEAK_N=(1, 60), SOIF_SPKTHR_P=(3, 120), SOIF_GAIN_N=(3, 20))
    for slot in range(32):
        place, pool = (0, 0, slot), slot // 16
        bench.send(place, 1100 + pool, (0, 1))
        bench.monitor(place, slot, x_hop=-1)
        bench.listen(place, 1024 + slot // 2, "ampa", 0b1000, repeat=3)
        bench.listen(place, 1100 + pool, "ampa", 0b0101, repeat=2)
        bench.listen(place, 1200, "gaba", 0b1110, repeat=4)
    for slot in range(8):
        place = (0, 1, 8 + slot)
        bench.send(place, 1200, (0,))
        bench.monitor(place, 1200 + slot, x_hop=-1)
        bench.listen(place, 1100, "ampa", 0b0010)
        bench.listen(place, 1101, "ampa", 0b0010, repeat=2)
    return bench.done()


def two_chips(config: Any) -> Any:
    """A chain over two chips with low tags: stimuli to chip 0, forwarded to chip 1, and back. Monitored at (-7, -7)."""
    bench = Bench(config)
    rng = np.random.default_rng(3)
    bench.biases(0, 2, SOIF_REFR_N=(2, 250))
    bench.biases(1, 3, SOIF_REFR_N=(2, 250), DEAM_ETAU_P=(2, 40))
    for slot in range(24):
        first, second = (0, 2, slot), (1, 3, 200 + slot)
        for tag in rng.choice(12, 5, replace=False).tolist():
            bench.listen(first, tag, "ampa", int(rng.integers(1, 16)), repeat=int(rng.integers(1, 4)))
        bench.send(first, 100 + slot, (3,), x_hop=1)
        bench.monitor(first, 500 + slot, y_hop=-7)
        for k in rng.choice(24, 4, replace=False).tolist():
            bench.listen(second, 100 + k, "ampa", int(rng.integers(1, 16)))
        bench.listen(second, 400 + slot // 12, "ampa", 0b0011)
        bench.send(second, 300 + slot % 6, (2, 3), x_hop=-1)
        bench.send(second, 400 + slot % 2, (3,))
        bench.monitor(second, 500 + slot, y_hop=-7)
        bench.listen(first, 300 + slot % 6, "gaba", 0b0111, repeat=2)
    return bench.done()


def slow_and_fast(config: Any) -> Any:
    """Neurons driven by NMDA alone beside neurons driven by AMPA, a shunted one, and one that DC keeps above rest."""
    bench = Bench(config)
    bench.biases(0, 0, SOIF_DC_P=(1, 4), SOIF_LEAK_N=(2, 4), SOIF_SPKTHR_P=(3, 200))
    for slot in range(10):
        place = (0, 0, slot)
        bench.listen(place, 1030 + slot, "nmda" if slot % 2 else "ampa", 0b0011, repeat=1 + slot % 3)
        bench.monitor(place, slot, x_hop=-2)
        bench.neuron(place).latch_so_dc = True
        if slot == 4:
            bench.listen(place, 1029, "shunt", 0b0001)
        if slot == 5:
            bench.send(place, 1040, (0,))
        if slot == 6:
            bench.listen(place, 1040, "nmda", 0b0100)
    core = bench.config.chips[0].cores[0]
    core.neuron_monitoring_on, core.monitored_neuron = True, 4
    return bench.done()


LABS = {"winner_take_all": (winner_take_all, 1), "two_chips": (two_chips, 2), "slow_and_fast": (slow_and_fast, 1)}
"""Name → (maker, chips that it needs)."""
