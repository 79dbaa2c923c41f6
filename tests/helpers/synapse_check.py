"""Whether the bits of a Layout do what a Network asks for, and keep the rules of the chip.

`complaints` compares what `chip_interpreter` reads with the Network. It holds for any compiler: parallel CAM rows add, a
row may serve several sources, a source may carry several tags, neurons may be anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import chip_interpreter as chip
from chip_interpreter import INPUT, Bits, Wiring, follow, read_arrays
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from random_networks import charge_per_weight, groups_of, obstacles

__all__ = ["SAME", "Asked", "asked", "complaints", "key_of", "places", "wrong_sharing", "wrong_synapses"]

SAME = 1e-9
"""Largest relative difference of numbers that are meant to be equal."""


class Asked(NamedTuple):
    """What a Network asks of its places, one entry per source, target and sign: sum of charges, number of synapses."""

    key: np.ndarray
    charge: np.ndarray
    number: np.ndarray

    @property
    def core(self) -> np.ndarray:
        return self.key // 2 % 8192 // 256


def key_of(source: np.ndarray, target: np.ndarray, negative: np.ndarray) -> np.ndarray:
    return (source.astype(np.int64) * 8192 + target) * 2 + negative


def places(net: Network, layout: Layout) -> np.ndarray:
    """Place of every neuron in the flat order of the network (N,)."""
    names = [(p.name, i) for p in net.populations for i in range(p.size)]
    return np.array([layout.neuron_map[name] for name in names], int) @ (1024, 256, 1)


def asked(net: Network, layout: Layout, place: np.ndarray) -> Asked:
    """Charges per event, as NIR defines them: a weight moves v by k·weight in all, the tonic channel by the leak."""
    per_weight = np.concatenate([charge_per_weight(p, net.dt) for p in net.populations])
    parts = []
    for q, pre, post in net.synapses():
        source = np.where(pre < net.n_inputs, INPUT + pre, place[np.maximum(pre - net.n_inputs, 0)])
        parts.append((source, place[post], q.weight * per_weight[post]))
    first = net.offsets()
    for p in net.populations:
        drive = (p.v_leak - p.v_reset) / (p.v_threshold - p.v_reset) * net.dt / p.tau_mem  # per step
        if np.ptp(p.v_leak) > 1e-9 and layout.tonic_period is not None:
            here = place[first[p.name] : first[p.name] + p.size]
            parts.append((np.full(p.size, INPUT + net.n_inputs), here, drive * layout.tonic_period / net.dt))
    source, target, charge = (np.concatenate([part[k] for part in parts]) for k in range(3))
    there = charge != 0
    key = key_of(source, target, charge < 0)[there]
    unique, where, count = np.unique(key, return_inverse=True, return_counts=True)
    return Asked(unique, np.bincount(where.reshape(-1), charge[there], len(unique)), count)


def complaints(net: Network, layout: Layout, monitor: str, bound: float) -> list[str]:
    """Everything that is wrong with a Layout of `net`, read from its bits; empty where nothing is.

    `monitor` is what it was compiled with, `bound` the largest RMS error over RMS weight of the weights of a core.
    """
    place = places(net, layout)
    if len(np.unique(place)) != len(place) or place.max() >= 1024 * layout.n_chips:
        return ["two neurons share one place, or are outside the stack"]
    bits = read_arrays(layout)
    wiring = follow(bits)
    want = asked(net, layout, place)
    return [
        *wiring.broken,
        *wrong_synapses(wiring, want),
        *wrong_weights(bits, wiring, want, bound),
        *wrong_sharing(wiring, want),
        *wrong_rows(bits, wiring, layout, place),
        *wrong_monitors(net, layout, wiring, place, monitor),
        *wrong_cores(net, bits, place),
    ]


def wrong_synapses(wiring: Wiring, want: Asked) -> list[str]:
    got = np.unique(key_of(wiring.source, wiring.target, np.isin(wiring.dendrite, chip.MINUS)))
    missing, extra = np.setdiff1d(want.key, got), np.setdiff1d(got, want.key)
    ends = (("missing", missing), ("extra", extra))
    found = [f"{len(keys)} synapses are {what}, e.g. key {keys[0]}" for what, keys in ends if len(keys)]
    if (wiring.dendrite == chip.SHUNT).any():
        found.append("a synapse uses the shunt")
    return found


def wrong_weights(bits: Bits, wiring: Wiring, want: Asked, bound: float) -> list[str]:
    """Weights further from what was asked than `bound` per core, or than one CAM row could be by itself."""
    key = key_of(wiring.source, wiring.target, np.isin(wiring.dendrite, chip.MINUS))
    at = np.searchsorted(want.key, key).clip(0, len(want.key) - 1) if len(want.key) else np.zeros(len(key), int)
    if not len(want.key) or (want.key[at] != key).any():
        return []  # extra synapses are another complaint
    got = np.bincount(at, wiring.charge, len(want.key))
    found = []
    for core in np.unique(want.core).tolist():
        here = want.core == core
        error = float(np.sqrt(np.mean((got - want.charge)[here] ** 2) / np.mean(want.charge[here] ** 2)))
        if error > bound:
            found.append(f"core {core}: {int(here.sum())} weights are off by {100 * error:.1f} % of their RMS")
    base = np.stack([bits.currents[name] for name in chip.BASES], 1)
    levels = base @ ((np.arange(16) >> np.arange(4)[:, None]) & 1)
    core = wiring.target // 256
    one_row = levels[core] * chip.charge_per_ampere(bits.currents)[core, wiring.dendrite][:, None]
    nearest = np.abs(one_row - want.charge[at][:, None]).min(1, initial=np.inf)
    largest = np.abs(want.charge).max()
    worse = (np.abs(got - want.charge)[at] > nearest + SAME * largest) & (want.number[at] == 1)
    if worse.any():
        k = int(np.argmax(worse))
        found.append(
            f"{int(worse.sum())} rows leave their weight further off than one row could be, e.g. {got[at[k]]:.4g} for "
            f"{want.charge[at[k]]:.4g} at place {wiring.target[k]}"
        )
    return found


def wrong_sharing(wiring: Wiring, want: Asked) -> list[str]:
    """Sources with one tag at a core that are not meant to do the same there."""
    pairs = np.unique(np.stack([wiring.key, wiring.source], 1), axis=0)
    keys, count = np.unique(pairs[:, 0], return_counts=True)
    found = []
    for key in keys[count > 1].tolist():
        core, tag = divmod(key, chip.TAGS)
        meant = []
        for source in pairs[pairs[:, 0] == key, 1].tolist():
            low, high = np.searchsorted(want.key, (source * 16384, (source + 1) * 16384))
            here = slice(low, high)
            there = want.core[here] == core
            meant.append((want.key[here][there] % 16384, want.charge[here][there]))
        (targets, charges), *others = meant
        if not all(np.array_equal(targets, t) and np.allclose(charges, c, rtol=SAME, atol=0) for t, c in others):
            found.append(f"core {core}: {len(meant)} sources that are not alike share tag {tag}")
    return found


def wrong_rows(bits: Bits, wiring: Wiring, layout: Layout, place: np.ndarray) -> list[str]:
    """Rows that are too many, out of range, deaf, dirty or idle."""
    found = []
    if layout.cam.shape != (len(place), 64) or layout.sram.shape != (len(place), 4):
        found.append("a neuron does not have 64 CAM rows and 4 SRAM rows")
    unused = bits.dendrite < 0
    if (unused & ((bits.tag != 0) | (bits.mask != 0) | (bits.flags != 0))).any():
        found.append("an unused CAM row is not empty")
    if ((bits.sram[..., 1] == 0) & bits.sram.any(-1)).any():
        found.append("an unused SRAM row is not empty")
    if (bits.flags != 0).any():
        found.append("a CAM row asks for plasticity or a delay")
    if (bits.tag >= chip.TAGS).any() or (bits.mask > 15).any() or (bits.dendrite > 3).any():
        found.append("a CAM row is out of range")
    heard = np.zeros_like(unused)
    heard[wiring.target, wiring.row] = True
    if (~unused & ~heard).any():
        found.append(f"{int((~unused & ~heard).sum())} CAM rows listen to a tag that no event carries")
    if wiring.idle:
        found.append(f"{len(wiring.idle)} events go to cores where nobody listens, e.g. {wiring.idle[0]}")
    if (bits.inputs[:, 2] == 0).any() or (layout.codes[..., 0] > 5).any():
        found.append("an input goes to no core, or a coarse code is above 5")
    return found


def wrong_monitors(net: Network, layout: Layout, wiring: Wiring, place: np.ndarray, monitor: str) -> list[str]:
    """The host must see exactly the wanted neurons, each by a (chip, tag) of its own, and find their names."""
    wanted = np.full(len(place), monitor == "all")
    for port in net.outputs:
        first = net.offsets()[str(port.source)]
        wanted[first : first + net[str(port.source)].size] = True
    seen = sorted(p for group in wiring.recorded.values() for p in group)
    found = []
    if seen != sorted(place[wanted].tolist()):
        found.append(f"the host sees {len(seen)} neurons, {int(wanted.sum())} are to be seen")
    if any(len(group) > 1 for group in wiring.recorded.values()):
        found.append("two monitored neurons look alike to the host")
    named = {key: int(np.dot(layout.neuron_map[name], (1024, 256, 1))) for key, name in layout.output_map.items()}
    if named != {key: group[0] for key, group in wiring.recorded.items()}:
        found.append("the output map does not name what the host sees")
    return found


def wrong_cores(net: Network, bits: Bits, place: np.ndarray) -> list[str]:
    """Every core holds one bias group, and its leak is that group's."""
    if "cores" in obstacles(net, bits.n_chips):
        return []  # groups have to share cores
    group, found = groups_of(net), []
    tau = np.concatenate([p.tau_mem for p in net.populations])
    for core in np.unique(place // 256).tolist():
        here = place // 256 == core
        if len(set(group[here].tolist())) > 1:
            found.append(f"core {core} holds neurons of different bias groups")
        leak = chip.C_MEM * chip.U_T / (chip.KAPPA * bits.currents["SOIF_LEAK_N"][core])
        if not np.allclose(np.exp(-net.dt / leak), 1 - net.dt / tau[here], rtol=0.004):
            found.append(f"core {core}: a membrane of {leak:.4g} s for {tau[here][0]:.4g} s")
    return found
