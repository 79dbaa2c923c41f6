"""Delays of a compiled network: bias groups that must share cores, and what each delay became on the chip."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from nir_dynapse.chip.device import DELAYS, Device
from nir_dynapse.circuit.closed_form import event_charge
from nir_dynapse.circuit.delays import SPREAD, delay_node, share_delays
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.layout.decoding import core_currents, layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.quant.groups import merge_groups

__all__ = ["MOST", "delay_errors", "merged"]

MOST = 64
"""Most lines for one node: more delays than that are told in as many ranges."""


def merged(params: Params, device: Device, tolerance: float) -> tuple[Params, list[Finding]]:
    """`merge_groups`; where only their delays keep groups apart, they share delays anew as the cores allow.

    Flags of synapses may change then.
    """
    try:
        return merge_groups(params, device, tolerance)
    except CapacityError:
        t = params.topology
        if t.delay is None:
            raise
        with suppress(CapacityError):
            made, found = merge_groups(replace(params, topology=replace(t, delay=None)), device, tolerance)
            return _shared(params, made, device), [*found, _told(params, device)]
        raise


def _shared(params: Params, made: Params, device: Device) -> Params:
    """`made` with delays for its groups that are near those of the synapses of `params`."""
    t, wanted = made.topology, np.asarray(params.row_delays())
    strength = np.abs(np.asarray(params.row_currents()) * event_charge(params))
    late = share_delays(wanted, strength, t.post, t.group, device)
    before = t.group[np.unique(late.group, return_index=True)[1]]
    bias = {name: np.asarray(value, float)[before] for name, value in made.bias.items()}
    for k, name in enumerate(DELAYS):
        width = made.circuit.width(name, bias[name])
        bias[name] = made.circuit.width(name, np.where(late.delay[:, k] > 0, late.delay[:, k], width))
    return replace(made, bias=bias, topology=replace(t, group=late.group, delay=late.flags))


def _told(params: Params, device: Device) -> Finding:
    t = params.topology
    what = (
        f"{t.n_groups} bias groups share {device.n_cores} cores, and with them two delays per core: the delays of "
        f"{int((t.delay > 0).sum()) if t.delay is not None else 0} synapses change (see the delays of the report)."
    )
    hint = "Use fewer different time constants or delays, or more chips (device=DYNAPSE2.stack(n), --chips n)."
    return Finding("warning", "delays-shared", what, used=t.n_groups, limit=device.n_cores, hint=hint)


def delay_errors(net: Network, layout: Layout, device: Device) -> dict[str, Any]:
    """What the delays of `net` are in the bits of `layout`, in s; empty where none is late.

    "nodes": NIR node → [wanted, connections, got on average, largest error, spread] for each delay (at most `MOST`), where
    got counts for each connection the nearest delay of the CAM rows that stand for it, on all copies, and the spread is one
    standard deviation over the rows of a chip. "lost" counts connections of no row, "cores": core → the precise and the
    mismatched delay, None for one that no row has.
    """
    links = [(q, q.delay, pre, post) for q, pre, post in net.synapses() if q.delay is not None]
    params = layout_to_params(layout, device)
    t = params.topology
    if not links and t.delay is None:
        return {}
    rows, flags = np.asarray(params.row_delays()), np.zeros(t.n_synapses, int) if t.delay is None else t.delay
    nodes: dict[str, list[tuple[np.ndarray, ...]]] = {}
    lost = 0
    single = _single(layout)
    source = np.where(t.pre > t.tonic, single[np.maximum(t.pre - t.tonic - 1, 0)] + t.tonic + 1, t.pre)
    order = np.argsort(source.astype(np.int64) * len(single) + single[t.post], kind="stable")
    pair = (source.astype(np.int64) * len(single) + single[t.post])[order]
    for q, delay, pre, post in links:
        keep = q.weight != 0
        wanted = delay[keep]
        key = np.where(pre >= net.n_inputs, pre + 1, pre)[keep].astype(np.int64) * len(single) + post[keep]
        start, stop = np.searchsorted(pair, key), np.searchsorted(pair, key, "right")
        there = stop > start
        lost += int((~there).sum())
        got, flag = np.zeros(len(key)), np.zeros(len(key), int)
        for k in np.flatnonzero(there).tolist():
            candidates = order[start[k] : stop[k]]
            best = candidates[np.argmin(np.abs(rows[candidates] - wanted[k]))]
            got[k], flag[k] = rows[best], flags[best]
        nodes.setdefault(delay_node(q), []).append((wanted[there], got[there], flag[there]))
    lines = {
        node: _lines(*(np.concatenate(column) for column in zip(*parts, strict=True))) for node, parts in nodes.items()
    }
    return {"nodes": lines, "lost": lost, "cores": _cores(layout, device)}


def _single(layout: Layout) -> np.ndarray:
    """The neuron of the network that each of the chip stands for (N,), in flat order."""
    sizes, copies = layout.node_sizes, layout.copies_of
    each = np.concatenate([np.full(n, copies[name]) for name, n in sizes.items()])
    return np.repeat(np.arange(len(each)), each)


def _lines(wanted: np.ndarray, got: np.ndarray, flag: np.ndarray) -> list[list[float]]:
    values, which = np.unique(wanted, return_inverse=True)
    if len(values) > MOST:
        which = np.searchsorted(np.quantile(wanted, np.linspace(0, 1, MOST + 1)[1:-1]), wanted)
        values = np.array([np.mean(wanted[which == k]) if (which == k).any() else np.nan for k in range(MOST)])
    spread = np.array([0.0, *SPREAD])
    lines = []
    for k in np.unique(which).tolist():
        here = which == k
        sd = float(np.sqrt(np.mean((spread[np.minimum(flag[here], 2)] * got[here]) ** 2)))
        error = float(np.abs(got[here] - wanted[here]).max())
        lines.append([float(values[k]), int(here.sum()), float(got[here].mean()), error, sd])
    return lines


def _cores(layout: Layout, device: Device) -> dict[str, list[float | None]]:
    """chip.core → the two delays that its rows have."""
    found: dict[str, list[float | None]] = {}
    for core in np.flatnonzero(layout.used_cores).tolist():
        flags = layout.cam["flags"][layout.core_index == core]
        here: list[float | None] = []
        for k, name in enumerate(DELAYS):
            seconds = float(layout.circuit.width(name, core_currents(layout, name, np.array([core]), device)[0]))
            here.append(seconds if ((flags >> (1 + k)) & 1).any() else None)
        found[f"{core // device.cores_per_chip}.{core % device.cores_per_chip}"] = here
    return found
