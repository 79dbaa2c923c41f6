"""Placement: neurons to chips, cores and slots."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.circuit.closed_form import counted_up
from nir_dynapse.circuit.params import Topology
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.quant.groups import cores_needed
from nir_dynapse.quant.partition import Wiring, partition
from nir_dynapse.quant.slots import ChipRoom, good_rows, legal_start, unplaceable

__all__ = ["Placement", "expanded", "place"]

Progress = Callable[[str, float], None]


class Placement(NamedTuple):
    """Places (N, 3) = chip, core, slot, and what is worth knowing about how they were found.

    `limit` (N,), where neurons must drop synapses to fit, is the number of good CAM rows at their places.
    """

    place: np.ndarray
    findings: list[Finding]
    limit: np.ndarray | None = None


def place(
    t: Topology,
    alias: np.ndarray,
    monitored: np.ndarray,
    activity: np.ndarray,
    device: Device,
    *,
    seed: int = 0,
    budget: float = 60.0,
    progress: Progress | None = None,
    prune: bool = False,
    blocked: np.ndarray | None = None,
) -> Placement:
    """Places for the neurons of `t`: as few chips as hold them, then as few events between chips as can be found.

    `alias` (sources,) says whose synapses a source uses, `monitored` (N,) which neurons send their events out of the
    stack, `activity` (sources,) how many events each sends (relative). `budget` in s caps the search; it normally ends
    before. `blocked` (chips, cores, slots) must stay empty. CapacityError where the device has too few neurons, cores or
    good CAM rows; with `prune`, too few good CAM rows give a `limit` instead.
    """
    needed = cores_needed(t.group, device)
    fewest = -(-needed // device.cores_per_chip)
    if needed > device.n_cores:
        raise _too_large(t, needed, fewest, device)
    need = np.bincount(t.post, minlength=t.n_neurons)
    synapse, pre = expanded(t, alias)
    owner = np.maximum(np.arange(t.n_sources) - t.tonic - 1, -1)
    wiring = Wiring(
        t.n_neurons,
        t.group,
        monitored,
        pre,
        t.post[synapse],
        owner,
        np.asarray(activity, np.int64),
    )

    failed: CapacityError | None = None
    for n_chips, either in product(range(max(fewest, 1), device.n_chips + 1), (False, True)):
        limited = bool(device.profiles) or blocked is not None
        if either and not device.profiles:
            continue
        closed = [None] * n_chips if blocked is None else blocked
        rooms = [ChipRoom(device.profile(chip), device, closed[chip], either) for chip in range(n_chips)]

        def holds(chip: int, members: np.ndarray, rooms: list[ChipRoom] = rooms) -> bool:
            return rooms[chip].labels(need[members], t.group[members]) is not None

        first = legal_start(need, t.group, rooms) if limited else None
        found = partition(
            wiring,
            device,
            n_chips,
            seed=seed,
            budget=budget,
            progress=progress,
            capacity=holds if limited else None,
            first=first,
        )
        places = np.zeros((t.n_neurons, 3), int)
        places[:, 0] = found.chip
        try:
            for chip in np.unique(found.chip).tolist():
                members = np.flatnonzero(found.chip == chip)
                inside = rooms[chip].fill(need[members], t.group[members])
                if inside is None:
                    raise unplaceable(need[members], device.profile(chip), chip)
                places[members, 1:] = inside
        except CapacityError as error:  # bad rows: another chip may help
            failed = failed or error
            continue
        return Placement(places, _findings(found, n_chips))
    if failed is not None and prune:
        return _pruned(need, t, wiring, device, seed, budget, progress)
    raise failed or _too_large(t, needed, fewest, device)


def _pruned(
    need: np.ndarray, t: Topology, wiring: Wiring, device: Device, seed: int, budget: float, progress: Progress | None
) -> Placement:
    """The placement that loses few synapses: the neediest neurons in the best slots, as far as their good rows go."""
    found = partition(wiring, device, device.n_chips, seed=seed, budget=budget, progress=progress)
    places, limit = np.zeros((t.n_neurons, 3), int), np.full(t.n_neurons, device.cam_rows)
    places[:, 0] = found.chip
    for chip in np.unique(found.chip).tolist():
        members = np.flatnonzero(found.chip == chip)
        profile = device.profile(chip)
        room = ChipRoom(profile, device)
        inside = room.fill(need[members], t.group[members])
        if inside is None:
            inside = room.fill(np.minimum(need[members], 1), t.group[members], need[members])
            if inside is None or profile is None:
                raise unplaceable(need[members], profile, chip)
            limit[members] = good_rows(profile)[inside[:, 0], inside[:, 1]]
        places[members, 1:] = inside
    return Placement(places, _findings(found, device.n_chips), limit)


def expanded(t: Topology, alias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every synapse that events meet: its index in `t` and its source, those that share another source's rows included."""
    order = np.argsort(t.pre, kind="stable")
    start = np.searchsorted(t.pre[order], np.arange(t.n_sources + 1))
    count = np.diff(start)[alias]
    source = np.repeat(np.arange(t.n_sources), count)
    return order[start[alias][source] + counted_up(count)], source


def _findings(found, n_chips: int) -> list[Finding]:
    if n_chips == 1:
        return []
    saved = 100 * (1 - found.cost.events / found.start.events) if found.start.events else 0.0
    difference = f"{abs(saved):.0f} % {'fewer' if saved >= 0 else 'more'}"
    what = (
        f"{n_chips} chips; {found.cost.events} events (relative) cross from chip to chip, {difference} than in "
        f"index order ({found.start.events})."
    )
    if not found.complete:
        what += (
            " The time for placing ran out: with more of it fewer may cross, and other machines may place otherwise."
        )
    return [Finding("info", "placement", what, used=found.cost.events, limit=found.start.events)]


def _too_large(t: Topology, needed: int, chips: int, device: Device) -> CapacityError:
    more = (
        f"Use device=DYNAPSE2.stack({chips}) (--chips {chips})."
        if chips <= device.max_stack
        else f"A stack holds at most {device.max_stack} chips: make the network smaller."
    )
    what = (
        f"{t.n_neurons} neurons in {t.n_groups} bias group(s) take {needed} cores, {device.n_chips} chip(s) have "
        f"{device.n_cores} cores of {device.neurons_per_core} neurons ({device.n_neurons} in all); the neurons alone take "
        f"{chips} chips."
    )
    return CapacityError(Finding("error", "neurons", what, used=t.n_neurons, limit=device.n_neurons, hint=more))
