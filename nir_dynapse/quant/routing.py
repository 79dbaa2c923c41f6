"""Routing: one tag per source within the cores that it reaches, CAM rows that listen to it, SRAM rows that send it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nir_dynapse.device import Device
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.layout import INPUT_DTYPE, MONITOR_HOP, SRAM_DTYPE, UNUSED_CAM
from nir_dynapse.params import Topology

__all__ = ["Routing", "route"]


class Routing(NamedTuple):
    """CAM rows (N, 64), SRAM rows (N, 4) and the destinations of the input channels."""

    cam: np.ndarray
    sram: np.ndarray
    input_rows: np.ndarray


def route(t: Topology, masks: np.ndarray, monitored: np.ndarray, device: Device) -> Routing:
    """Route the synapses of `t` (placed, at most 64 per neuron) with weight `masks` (S,); `monitored` (N,) neurons
    also send their events out of the stack.

    A source keeps one tag for all its destinations: the first one in the device's order that is free in every core it
    reaches, so sources that share no target core may share a tag. CapacityError where tags or SRAM rows run out.
    """
    core = t.place[:, 0] * device.cores_per_chip + t.place[:, 1]
    reached = np.zeros((t.n_sources, device.n_cores), bool)
    reached[t.pre, core[t.post]] = True
    tags = _tags(reached, device)

    cam = np.full((t.n_neurons, device.cam_rows), UNUSED_CAM)
    cam["tag"][t.post, t.row] = tags[t.pre]
    cam["dendrite"][t.post, t.row] = t.dendrite
    cam["mask"][t.post, t.row] = masks
    if t.delay is not None:
        cam["flags"][t.post, t.row] = t.delay << 1

    chips = reached.reshape(t.n_sources, device.n_chips, device.cores_per_chip)
    core_masks = (chips * (1 << np.arange(device.cores_per_chip))).sum(2)
    source, chip = np.nonzero(core_masks)
    is_input = source <= t.tonic
    rows = np.zeros(int(is_input.sum()), INPUT_DTYPE)
    rows["channel"], rows["chip"] = source[is_input], chip[is_input]
    rows["cores"], rows["tag"] = core_masks[source[is_input], chip[is_input]], tags[source[is_input]]

    sram = _sram(t, tags, core_masks, monitored, device)
    return Routing(cam, sram, rows)


def _tags(reached: np.ndarray, device: Device) -> np.ndarray:
    """A tag per source (0 where it reaches nothing): first fit in the device's order of preference."""
    order = device.tag_order()
    taken = np.zeros((device.n_cores, device.n_tags), bool)
    tags = np.zeros(len(reached), int)
    for source in np.flatnonzero(reached.any(1)):
        cores = np.flatnonzero(reached[source])
        free = ~taken[cores].any(0)[order]
        first = int(np.argmax(free))
        if not free[first]:
            crowded = int(np.argmax(reached.sum(0)))
            raise CapacityError(
                Finding(
                    "error",
                    "tags",
                    f"core {crowded % device.cores_per_chip} of chip {crowded // device.cores_per_chip} is reached by "
                    f"{int(reached[:, crowded].sum())} sources, a core tells {device.n_tags} tags apart.",
                    used=int(reached[:, crowded].sum()),
                    limit=device.n_tags,
                    hint="Use fewer input channels, or sparser connections between the populations.",
                )
            )
        tags[source] = order[first]
        taken[cores, tags[source]] = True
    return tags


def _sram(t: Topology, tags: np.ndarray, core_masks: np.ndarray, monitored: np.ndarray, device: Device) -> np.ndarray:
    """SRAM rows: one per destination chip, the last one for monitoring."""
    first = t.tonic + 1
    targets = core_masks[first:] > 0
    need = targets.sum(1) + monitored
    sram = np.zeros((t.n_neurons, device.sram_rows), SRAM_DTYPE)
    if (need > device.sram_rows).any():
        worst = int(np.argmax(need))
        raise CapacityError(
            Finding(
                "error",
                "fan-out",
                f"neuron {worst} of the network sends to {int(targets[worst].sum())} chips"
                f"{' and is monitored' if monitored[worst] else ''}, a neuron has {device.sram_rows} SRAM rows "
                "(one per destination chip, one for monitoring).",
                used=int(need[worst]),
                limit=device.sram_rows,
                hint="Use fewer chips, or connections that stay within fewer chips.",
            )
        )
    neuron, chip = np.nonzero(targets)
    row = np.cumsum(targets, 1)[neuron, chip] - 1
    sram["tag"][neuron, row] = tags[first + neuron]
    sram["cores"][neuron, row] = core_masks[first + neuron, chip]
    sram["x_hop"][neuron, row] = chip - t.place[neuron, 0]

    out = np.flatnonzero(monitored)
    far = t.place[out, 0] + MONITOR_HOP >= 0
    if far.any():
        raise CapacityError(
            Finding(
                "error",
                "monitor-hops",
                f"neuron {int(out[far][0])} of the network is monitored on chip {int(t.place[out[far][0], 0])}; its "
                f"events would need more than {-MONITOR_HOP} hops to leave the stack.",
                used=int(t.place[out[far][0], 0]) + 1,
                limit=-MONITOR_HOP,
                hint="Use at most 7 chips, or outputs on the first ones.",
            )
        )
    last = device.sram_rows - 1
    # Tags of monitored events only tell the neurons of one chip apart: core and slot do.
    sram["tag"][out, last] = device.first_tag + t.place[out, 1] * device.neurons_per_core + t.place[out, 2]
    sram["cores"][out, last] = (1 << device.cores_per_chip) - 1
    sram["x_hop"][out, last] = MONITOR_HOP
    return sram
