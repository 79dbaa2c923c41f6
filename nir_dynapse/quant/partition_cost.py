"""What it costs to put neurons on chips: SRAM rows, events between chips, hops; all in integers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nir_dynapse.chip.device import Device

__all__ = ["Cost", "Wiring", "cores_used", "cost", "fits"]


@dataclass(frozen=True, eq=False)
class Wiring:
    """Neurons and nets: one net per source neuron and one per input channel.

    `group` (N,) bias group, `monitored` (N,) bool; `pre` (S,) net and `post` (S,) neuron of each synapse (repeats
    count once); `owner` (n_nets,) source neuron or -1 for an input; `activity` (n_nets,) int64 ≥ 0 events of each net
    on any scale, with a sum below 2^56.
    """

    n_neurons: int
    group: np.ndarray
    monitored: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    owner: np.ndarray
    activity: np.ndarray

    @property
    def n_nets(self) -> int:
        return len(self.owner)

    @property
    def n_groups(self) -> int:
        return int(self.group.max()) + 1 if self.n_neurons else 0

    @cached_property
    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Net and neuron of each distinct (net, target neuron), sorted by net, then neuron."""
        key = np.unique(self.pre.astype(np.int64) * max(self.n_neurons, 1) + self.post)
        return np.divmod(key, max(self.n_neurons, 1))

    @cached_property
    def pins(self) -> tuple[np.ndarray, np.ndarray]:
        """Like `targets`, with the owner of each net added to it: an event costs a hop for every further chip."""
        net, neuron = self.targets
        owned = np.unique(net)
        owned = owned[self.owner[owned] >= 0]
        width = max(self.n_neurons, 1)
        key = np.unique(np.concatenate([net * width + neuron, owned * width + self.owner[owned]]))
        return np.divmod(key, width)


@dataclass(frozen=True, order=True)
class Cost:
    """Cost of a partition, compared in this order.

    `overflow` SRAM rows that neurons need above what they have; `events` of neurons to other chips (activity × further
    chips); `rows` SRAM rows without those of monitoring; `input_events` events × destination chips of the inputs;
    `hops` events × chips travelled (neurons, inputs from chip 0, monitored neurons to chip 0).
    """

    overflow: int
    events: int
    rows: int
    input_events: int
    hops: int


def reached(wiring: Wiring, chip: np.ndarray, n_chips: int) -> np.ndarray:
    """Whether each net has a target on each chip, (n_nets, n_chips) bool."""
    net, neuron = wiring.targets
    flags = np.zeros(wiring.n_nets * n_chips, bool)
    flags[net * n_chips + chip[neuron]] = True
    return flags.reshape(wiring.n_nets, n_chips)


def overflowing(wiring: Wiring, present: np.ndarray, device: Device) -> np.ndarray:
    """SRAM rows above what the owner has, per net (n_nets,); 0 for inputs. `present`: see `reached`."""
    owner = wiring.owner
    needed = present.sum(1) + np.where(owner >= 0, wiring.monitored[owner] if wiring.n_neurons else 0, 0)
    return np.where(owner >= 0, np.maximum(needed - device.sram_rows, 0), 0)


def traffic(wiring: Wiring, chip: np.ndarray, n_chips: int) -> tuple[np.ndarray, np.ndarray]:
    """Events from chip to chip (n_chips, n_chips) and events between each chip and the FPGA (n_chips,), int64."""
    present, owner = reached(wiring, chip, n_chips), wiring.owner
    weighted = present * wiring.activity[:, None]
    between = np.zeros((n_chips, n_chips), np.int64)
    owned = owner >= 0
    np.add.at(between, chip[owner[owned]], weighted[owned])
    outside = weighted[~owned].sum(0, dtype=np.int64)
    watched = np.flatnonzero(owned)[wiring.monitored[owner[owned]]]
    np.add.at(outside, chip[owner[watched]], wiring.activity[watched])
    return between, outside


def cost(wiring: Wiring, chip: np.ndarray, device: Device) -> Cost:
    """Cost of putting neuron i on chip[i] (N,)."""
    n_chips = int(chip.max()) + 1 if len(chip) else 1
    present, owned = reached(wiring, chip, n_chips), wiring.owner >= 0
    between, outside = traffic(wiring, chip, n_chips)
    distance = np.abs(np.arange(n_chips)[:, None] - np.arange(n_chips))
    return Cost(
        overflow=int(overflowing(wiring, present, device).sum()),
        events=int(between.sum() - between.trace()),
        rows=int(present[owned].sum()),
        input_events=int((present[~owned].sum(1) * wiring.activity[~owned]).sum()),
        hops=int((between * distance).sum() + (outside * np.arange(n_chips)).sum()),
    )


def cores_used(group: np.ndarray, chip: np.ndarray, n_chips: int, neurons_per_core: int) -> np.ndarray:
    """Cores that each chip needs, (n_chips,): no core holds two bias groups."""
    n_groups = int(group.max()) + 1 if len(group) else 0
    sizes = np.bincount(group * n_chips + chip, minlength=n_groups * n_chips).reshape(n_groups, n_chips)
    return (-(-sizes // neurons_per_core)).sum(0)


def fits(wiring: Wiring, chip: np.ndarray, device: Device) -> bool:
    """Whether every chip has the cores that its neurons need, and no monitored neuron is out of the FPGA's reach."""
    n_chips = int(chip.max()) + 1 if len(chip) else 1
    if n_chips > 1 and (chip[wiring.monitored] >= device.max_hop).any():
        return False
    used = cores_used(wiring.group, chip, n_chips, device.neurons_per_core)
    return bool((used <= device.cores_per_chip).all())
