"""What a Layout uses of a device, counted from its bits: neurons, CAM and SRAM rows, tags, base currents, bias groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nir_dynapse.chip.device import AMPA, BASE_WEIGHTS, COLUMN, CURRENTS, NMDA, WEIGHT_GAINS, Device
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.errors import DynapseError
from nir_dynapse.layout.decoding import core_currents, matches
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network

__all__ = [
    "ChipUse",
    "CoreUse",
    "NodeUse",
    "Use",
    "bias_groups",
    "chip_use",
    "core_use",
    "layout_nodes",
    "layout_projections",
    "network_nodes",
]


class Use(NamedTuple):
    """How much of something is used, of how much there is."""

    used: int
    available: int

    def __str__(self) -> str:
        return f"{self.used}/{self.available}"


@dataclass(frozen=True)
class NodeUse:
    """A spiking node: its neurons, the most connections to one of them (fan-in), the cores "chip.core" that it is on.

    `tonic` of those connections are a constant input, which takes a CAM row as any other. `copies` neurons of the chip
    stand for each of its neurons.
    """

    name: str
    kind: str
    neurons: int
    fan_in: Use
    cores: tuple[str, ...] = ()
    tonic: int = 0
    copies: int = 1


@dataclass(frozen=True)
class CoreUse:
    """What one used core holds. CAM and SRAM rows are counted for the neurons in use; `fan_in` is the most connections.

    `base_currents` in A: those of the four that some weight mask selects. Cores with the same `bias_group` are set alike.
    """

    chip: int
    core: int
    nodes: dict[str, int]
    neurons: Use
    cam_rows: Use
    fan_in: Use
    sram_rows: Use
    tags: Use
    base_currents: dict[str, float]
    bias_group: int


@dataclass(frozen=True)
class ChipUse:
    """Totals of one chip; CAM and SRAM rows are counted against all that the chip has."""

    chip: int
    cores: Use
    neurons: Use
    cam_rows: Use
    sram_rows: Use
    bias_groups: Use


def _fan_in(layout: Layout) -> np.ndarray:
    """Connections that arrive at each neuron (N,): parallel CAM rows with one tag, sign and delay are one."""
    cam = layout.cam
    key = np.where(cam["dendrite"] >= 0, (cam["tag"] * 4 + _sign(cam["dendrite"])) * 8 + cam["flags"], -1)
    key = np.sort(key.astype(np.int64), axis=1)
    return ((key[:, 1:] != key[:, :-1]) & (key[:, 1:] >= 0)).sum(1) + (key[:, 0] >= 0)


def _sign(dendrite: np.ndarray) -> np.ndarray:
    """Dendrites with AMPA and NMDA, which may make one weight together, as one (their index; 0 for both)."""
    return np.where(dendrite == NMDA, AMPA, dendrite).astype(np.int64)


def core_use(layout: Layout, device: Device, index: int, group: int) -> CoreUse:
    """What core `index` (chip·4 + core) holds; `group` is the number of its bias group."""
    chip, core = divmod(index, device.cores_per_chip)
    here = np.flatnonzero(layout.core_index == index)
    cam = layout.cam[here]
    listening = cam["dendrite"] >= 0
    used_bits = int(np.bitwise_or.reduce(cam["mask"][listening], initial=0))
    nodes: dict[str, int] = {}
    for n in here.tolist():
        nodes[layout.names[n][0]] = nodes.get(layout.names[n][0], 0) + 1
    base = {name: float(core_currents(layout, name, np.array([index]), device)[0]) for name in BASE_WEIGHTS}
    return CoreUse(
        chip,
        core,
        nodes,
        Use(len(here), device.neurons_per_core),
        Use(int(listening.sum()), len(here) * device.cam_rows),
        Use(int(_fan_in(layout)[here].max(initial=0)), device.cam_rows),
        Use(int((layout.sram["cores"][here] > 0).sum()), len(here) * device.sram_rows),
        Use(len(np.unique(cam["tag"][listening])), device.n_tags),
        {name: current for b, (name, current) in enumerate(base.items()) if used_bits >> b & 1},
        group,
    )


def bias_groups(layout: Layout) -> dict[int, int]:
    """Used core → number of its bias group: cores with equal codes share one (base currents and gains of weights aside)."""
    shared = [COLUMN[name] for name in CURRENTS if name not in WEIGHT_GAINS]
    keys = {int(c): layout.codes[c, shared].tobytes() for c in np.flatnonzero(layout.used_cores)}
    order = {key: g for g, key in enumerate(dict.fromkeys(keys.values()))}
    return {c: order[key] for c, key in keys.items()}


def chip_use(device: Device, chip: int, cores: Sequence[CoreUse]) -> ChipUse:
    """Totals of `chip` over its used cores."""
    mine = [core for core in cores if core.chip == chip]
    total = device.neurons_per_chip
    return ChipUse(
        chip,
        Use(len(mine), device.cores_per_chip),
        Use(sum(c.neurons.used for c in mine), total),
        Use(sum(c.cam_rows.used for c in mine), total * device.cam_rows),
        Use(sum(c.sram_rows.used for c in mine), total * device.sram_rows),
        Use(len({c.bias_group for c in mine}), device.cores_per_chip),
    )


def layout_nodes(layout: Layout, device: Device) -> tuple[NodeUse, ...]:
    """Every spiking node of a Layout, with where it is."""
    source, neuron, _ = matches(layout)
    tonic = np.bincount(neuron[source == layout.n_channels], minlength=layout.n_neurons) > 0
    fan_in, first, result = _fan_in(layout), 0, []
    for name, kind, _ in layout.populations:
        part = slice(first, first + layout.sizes[name])
        first = part.stop
        places = (divmod(int(c), device.cores_per_chip) for c in np.unique(layout.core_index[part]))
        cores = tuple(f"{a}.{b}" for a, b in places)
        result.append(_node_use(name, kind, fan_in[part], tonic[part], device, cores, layout.copies_of[name]))
    return tuple(result)


def network_nodes(network: Network, device: Device) -> tuple[NodeUse, ...]:
    """Every spiking node of a Network that has not been placed, with the rows that a constant input takes."""
    try:
        t = to_params(network, device).topology
    except DynapseError:  # no circuit can do it: what the network itself says
        pre, post, tonic, late = np.zeros(0, int), np.zeros(0, int), -1, None
        for q, before, after in network.synapses():
            keep = q.weight != 0
            pre, post = np.append(pre, before[keep]), np.append(post, after[keep])
    else:
        pre, post, tonic, late = t.pre, t.post, t.tonic, t.delay
    late = np.zeros(len(pre), int) if late is None else late
    ends = np.unique(np.stack([post, pre, late]), axis=1)  # parallel ones share a row, where they are as late
    fan_in = np.bincount(ends[0], minlength=network.n_neurons)
    constant = np.bincount(ends[0][ends[1] == tonic], minlength=network.n_neurons) > 0
    offsets = network.offsets()
    parts = [(p, slice(offsets[p.name], offsets[p.name] + p.size)) for p in network.populations]
    return tuple(_node_use(p.name, p.kind, fan_in[part], constant[part], device) for p, part in parts)


def _node_use(
    name: str,
    kind: str,
    fan_in: np.ndarray,
    tonic: np.ndarray,
    device: Device,
    cores: tuple[str, ...] = (),
    copies: int = 1,
) -> NodeUse:
    """A node by the connections (n,) to each of its neurons, and which of them have a constant input (n,)."""
    most = int(fan_in.max(initial=0))
    worst = fan_in == most
    return NodeUse(
        name, kind, len(fan_in) // copies, Use(most, device.cam_rows), cores, int(tonic[worst].any()), copies
    )


def layout_projections(layout: Layout) -> tuple[tuple[str, str, str, int], ...]:
    """(NIR node, source, target, connections) of every projection, counted from the bits (parallel rows are one)."""
    owners = [name for name, _ in layout.channel_names] + ["tonic"] + [name for name, *_ in layout.names]
    names = {name: k for k, name in enumerate(dict.fromkeys(owners))}
    owner = np.array([names[name] for name in owners])
    source, neuron, row = matches(layout)
    cam = layout.cam[neuron, row]
    ends = source.astype(np.int64) * layout.n_neurons + neuron
    _, first = np.unique((ends * 4 + _sign(cam["dendrite"])) * 8 + cam["flags"], return_index=True)
    source, neuron = source[first], neuron[first]
    pairs, rows = np.unique(owner[source] * len(names) + owner[neuron + layout.n_channels + 1], return_counts=True)
    label, nodes = list(names), {}
    for a, b, node in layout.projections:
        nodes[a, b] = f"{nodes[a, b]} + {node}" if (a, b) in nodes else node
    result = []
    for pair, n in zip(pairs.tolist(), rows.tolist(), strict=True):
        a, b = label[pair // len(names)], label[pair % len(names)]
        result.append((nodes.get((a, b), "constant input" if a == "tonic" else f"{a}->{b}"), a, b, n))
    return tuple(result)
