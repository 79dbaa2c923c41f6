"""How many neurons of a device stand for one of the network: what was asked for, or as many as there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.circuit.copies import Copied, copied
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.errors import CapacityError, Finding, ParameterRangeError
from nir_dynapse.files.numbers import COPIES
from nir_dynapse.quant.groups import cores_needed, merge_groups

__all__ = ["Spend", "chips_needed", "most_copies", "plans", "spread_out"]

Spend = int | Literal["chip", "none"] | Mapping[str, int]
"""Copies of every population, as many as fit ("chip"), one each ("none"), or a number for each node."""


def plans(spend: Any, params: Params, device: Device) -> Iterator[dict[str, int]]:
    """Numbers of copies to try, one after the other where there is less room than cores tell.

    ParameterRangeError for what is no `Spend`, and where `params` have copies or masks already; CapacityError where the
    neurons of `device` are too few for what was asked.
    """
    t = params.topology
    one = dict.fromkeys((name for name, _ in t.populations), 1)
    if isinstance(spend, str) and spend not in ("chip", "none"):
        raise ParameterRangeError(f"compile: spend is {spend[:40]!r}. Choose 'chip', 'none' or a number of copies.")
    if spend == "none" or (COPIES.holds(spend) and spend == 1):
        yield one
        return
    if t.copies or t.mask is not None:
        what = "have copies already" if t.copies else "have masks of 4 bits, from which no copies are made"
        raise ParameterRangeError(f"compile: spend is {spend!r}, but the params {what}. Leave spend out.")
    if spend != "chip":
        number = None if isinstance(spend, Mapping) else COPIES.check("compile", "spend", spend)
        wanted = dict.fromkeys(one, number) if number is not None else {**one, **spend}
        copied(params, wanted)  # refuses what is no number or no node
        _check_room(wanted, params, device)
        yield wanted
        return
    try:
        grouped = merge_groups(params, device)[0].topology
    except CapacityError:  # compile says what is wrong
        grouped = t
    level = most_copies(grouped, device)
    yield _filled(dict.fromkeys(one, level), grouped, device)
    while level > 1:  # tags, SRAM rows or good CAM rows are what runs out
        yield dict.fromkeys(one, level)
        level -= max(1, level // 8)
    yield one


def chips_needed(t: Topology, copies: Mapping[str, int], device: Device) -> int:
    """Chips that neurons with `copies[node]` (one where not named) fill: no core holds neurons of two bias groups."""
    return -(-_cores(t, copies, device) // device.cores_per_chip)


def most_copies(t: Topology, device: Device) -> int:
    """The largest number of copies of all populations for which `device` has neurons, 1 at least."""
    low, high = 1, COPIES.high + 1
    while high - low > 1:
        middle = (low + high) // 2
        names = (name for name, _ in t.populations)
        low, high = (middle, high) if _fits(t, dict.fromkeys(names, middle), device) else (low, middle)
    return low


def _cores(t: Topology, copies: Mapping[str, int], device: Device) -> int:
    each = np.concatenate([np.zeros(0, int), *(np.full(n, copies.get(name, 1)) for name, n in t.populations)])
    return cores_needed(t.group, device, each)


def _fits(t: Topology, copies: Mapping[str, int], device: Device) -> bool:
    """Whether there are as many cores, and neurons that work."""
    neurons = sum(size * copies.get(name, 1) for name, size in t.populations)
    profiles = [device.profile(chip) for chip in range(device.n_chips)]
    broken = sum(int((~p.neurons).sum()) for p in profiles if p is not None)
    return _cores(t, copies, device) <= device.n_cores and neurons <= device.n_neurons - broken


def _filled(copies: dict[str, int], t: Topology, device: Device) -> dict[str, int]:
    """More copies of single populations where neurons are left: of what the host hears first, then of the smaller ones."""
    heard = {str(port.source) for port in t.outputs} | set(t.readout.sources())
    sizes = t.node_sizes
    open_ = sorted(copies, key=lambda name: (name not in heard, sizes[name]))
    copies = dict(copies)
    while open_:
        for name in list(open_):
            more = {**copies, name: copies[name] + 1}
            if more[name] <= COPIES.high and _fits(t, more, device):
                copies = more
            else:
                open_.remove(name)
    return copies


def _check_room(copies: Mapping[str, int], params: Params, device: Device) -> None:
    """CapacityError where copies need more neurons than `device` has, in how many chips they would fit."""
    t = params.topology
    fewest = -(-sum(size * copies[name] for name, size in t.populations) // device.neurons_per_core)
    if fewest <= device.n_cores:
        return  # where bias groups do not fit, they may be merged
    total = sum(size * copies[name] for name, size in t.populations)
    chips = max(chips_needed(t, copies, device), -(-fewest // device.cores_per_chip))
    same = len(set(copies.values())) == 1
    times = f"{next(iter(copies.values()))} copies" if same else "copies"
    most = most_copies(t, device)
    fewer = f"spend fewer copies: {most} of all fit (spend={most}, --spend {most})."
    if chips <= device.max_stack:
        hint = f"Use device=DYNAPSE2.stack({chips}) (--chips {chips}), or {fewer}"
    else:
        hint = f"A stack holds at most {device.max_stack} chips: {fewer}"
    what = (
        f"{times} of {t.n_neurons} neurons are {total}, {device.n_chips} chip(s) have {device.n_neurons}; in cores of "
        f"{device.neurons_per_core} with one bias group each it would take {chips} chips."
    )
    raise CapacityError(Finding("error", "neurons", what, used=total, limit=device.n_neurons, hint=hint))


def spread_out(
    params: Params, copies: Mapping[str, int], importance: np.ndarray | None, device: Device, fan_in: str, seed: int
) -> tuple[Params, np.ndarray | None, list[Finding]]:
    """`params` with copies, the importance of their synapses, and what copies do not hear where `fan_in` is "prune"."""
    rows = device.cam_rows if fan_in == "prune" else None
    made = copied(params, copies, key=seed, rows=rows, importance=importance)
    findings = []
    if made.dealt.any():
        t = params.topology
        findings = [
            _dealt(params, made, name, copies[name], device)
            for name in t.slices()
            if made.dealt[t.slices()[name]].any()
        ]
    return made.params, None if importance is None else importance[made.origin], findings


def _dealt(params: Params, made: Copied, node: str, copies: int, device: Device) -> Finding:
    """How the synapses of a node are shared by the copies of its neurons, and which nobody hears."""
    t = params.topology
    part = t.slices()[node]
    count = np.bincount(t.post, minlength=t.n_neurons)[part]
    over = np.flatnonzero(made.dealt[part])
    worst = int(over[np.argmax(count[over])])
    lost = int(made.unheard[part].sum())
    several = "up to " if len(over) > 1 else ""
    what = (
        f"{several}{count[worst]} incoming synapses, a DYNAP-SE2 neuron stores {device.cam_rows}: the {copies} copies hear "
        "them in turn, with weights scaled so that their sum stays."
    )
    what += f" The weakest {lost} of all are heard by none." if lost else " Every one is heard by a copy."
    hint = "Train the network with copies, which chooses what they hear, or train a sparser layer."
    place = {"node": node, "index": worst, "count": len(over)}
    return Finding("warning", "fan-in", what, **place, used=int(count[worst]), limit=device.cam_rows, hint=hint)
