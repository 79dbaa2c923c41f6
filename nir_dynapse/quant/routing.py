"""Routing: SRAM rows that send events, entries of the input map, CAM rows that listen to them."""

from __future__ import annotations

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.circuit.closed_form import row_numbers
from nir_dynapse.circuit.params import Topology
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.layout.rows import INPUT_DTYPE, MONITOR_HOP, SRAM_DTYPE
from nir_dynapse.quant.tags import Destinations

__all__ = [
    "check_destinations",
    "core_of",
    "input_rows",
    "reached_cores",
    "spare_destinations",
    "sram_rows",
    "unheard_channels",
]


def core_of(place: np.ndarray, device: Device) -> np.ndarray:
    """Core of each neuron, counted over all chips (N,), from its place (N, 3)."""
    return place[:, 0] * device.cores_per_chip + place[:, 1]


def reached_cores(t: Topology, alias: np.ndarray, core: np.ndarray, device: Device) -> np.ndarray:
    """Boolean (sources, cores): which cores hold a target of each source; `alias` names the source whose rows it shares."""
    reached = np.zeros((t.n_sources, device.n_cores), bool)
    reached[t.pre, core[t.post]] = True
    return reached[alias]


def spare_destinations(t: Topology, reached: np.ndarray, monitored: np.ndarray, device: Device) -> np.ndarray:
    """Destinations that each source may have beyond one per chip (sources,): SRAM rows left; any number for inputs."""
    spare = np.full(t.n_sources, device.n_cores)
    spare[t.tonic + 1 :] = device.sram_rows - _chips(reached, device)[t.tonic + 1 :].sum(1) - monitored
    return spare


def _chips(reached: np.ndarray, device: Device) -> np.ndarray:
    return reached.reshape(len(reached), device.n_chips, device.cores_per_chip).any(2)


def check_destinations(
    t: Topology, chip: np.ndarray, reached: np.ndarray, monitored: np.ndarray, device: Device
) -> None:
    """CapacityError where a neuron reaches more chips than it has SRAM rows, or is monitored too far out (`chip`, (N,))."""
    targets = _chips(reached, device)[t.tonic + 1 :]
    need = targets.sum(1) + monitored
    if (need > device.sram_rows).any():
        worst = int(np.argmax(need))
        others = int((need > device.sram_rows).sum())
        also = " and it is monitored" if monitored[worst] else ""
        raise CapacityError(
            Finding(
                "error",
                "fan-out",
                f"its targets lie on {int(targets[worst].sum())} chips{also}, a neuron has {device.sram_rows} SRAM rows "
                f"(one per destination chip, one for monitoring); {others} neuron(s) need too many in the best "
                "placement found.",
                **t.where(worst),
                used=int(need[worst]),
                limit=device.sram_rows,
                hint="Use fewer chips, sparser connections, or connections that stay within fewer chips.",
            )
        )
    far = monitored & (chip + MONITOR_HOP >= 0)
    if far.any():
        worst = int(np.argmax(far))
        raise CapacityError(
            Finding(
                "error",
                "monitor-hops",
                f"it is monitored on chip {int(chip[worst])}; its events would need more than {-MONITOR_HOP} hops to leave "
                f"the stack. {int(monitored.sum())} neurons are monitored, {-MONITOR_HOP} chips can hold "
                f"{-MONITOR_HOP * device.neurons_per_chip}.",
                **t.where(worst),
                used=int(chip[worst]) + 1,
                limit=-MONITOR_HOP,
                hint="Monitor fewer neurons, or make the network smaller.",
            )
        )


def input_rows(t: Topology, destinations: Destinations) -> np.ndarray:
    """Entries of the input map (of INPUT_DTYPE): where the host sends the events of each channel."""
    d = destinations
    here = d.source <= t.tonic
    rows = np.zeros(int(here.sum()), INPUT_DTYPE)
    rows["channel"], rows["chip"], rows["cores"], rows["tag"] = d.source[here], d.chip[here], d.cores[here], d.tag[here]
    return rows


def unheard_channels(t: Topology, rows: np.ndarray) -> list[Finding]:
    """A remark on each input node with channels that no neuron hears, by the entries `rows` of the input map."""
    heard = np.bincount(rows["channel"], minlength=t.n_channels + 1)[: t.n_channels] > 0
    findings, first = [], 0
    for port in t.inputs:
        silent = int((~heard[first : first + port.size]).sum())
        first += port.size
        if silent:
            what = f"{silent} of {port.size} channels are heard by no neuron; their events are not sent."
            findings.append(Finding("info", "unheard-channels", what, node=port.name, used=silent, limit=port.size))
    return findings


def sram_rows(
    t: Topology, place: np.ndarray, destinations: Destinations, monitored: np.ndarray, device: Device
) -> np.ndarray:
    """SRAM rows (N, 4) of neurons at `place` (N, 3): one per destination, the last one for monitoring."""
    d = destinations
    here = np.flatnonzero(d.source > t.tonic)
    neuron = d.source[here] - t.tonic - 1
    row = row_numbers(neuron)
    sram = np.zeros((t.n_neurons, device.sram_rows), SRAM_DTYPE)
    sram["tag"][neuron, row] = d.tag[here]
    sram["cores"][neuron, row] = d.cores[here]
    sram["x_hop"][neuron, row] = d.chip[here] - place[neuron, 0]
    out, last = np.flatnonzero(monitored), device.sram_rows - 1
    # Tags of monitored events only tell the neurons of one chip apart: core and slot do.
    sram["tag"][out, last] = device.first_tag + place[out, 1] * device.neurons_per_core + place[out, 2]
    sram["cores"][out, last] = (1 << device.cores_per_chip) - 1
    sram["x_hop"][out, last] = MONITOR_HOP
    return sram
