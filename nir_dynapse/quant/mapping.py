"""Mapping: Params to bits, stage by stage: fan-in, bias groups, places, tags, weights, rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import BASE_WEIGHTS, COLUMN, PARAMETERS, WEIGHT_GAINS, Device
from nir_dynapse.chip.measured import range_of
from nir_dynapse.circuit.closed_form import event_charge
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.errors import CapacityError, Finding, raise_if_errors
from nir_dynapse.quant.biases import encode_biases, open_second_range
from nir_dynapse.quant.cam import round_to_rows, write_given
from nir_dynapse.quant.delays import merged
from nir_dynapse.quant.fan_in import limit_fan_in
from nir_dynapse.quant.given import given_groups, given_rows
from nir_dynapse.quant.groups import TOLERANCE, one_group_per_core
from nir_dynapse.quant.placement import Placement, expanded, place
from nir_dynapse.quant.rounding import Rounded, Rounding, gain_units, rounding_findings, weight_errors
from nir_dynapse.quant.routing import (
    check_destinations,
    core_of,
    input_rows,
    reached_cores,
    spare_destinations,
    sram_rows,
    unheard_channels,
)
from nir_dynapse.quant.sharing import keep_synapses, share_sources
from nir_dynapse.quant.slots import BadPlace, place_slots, spare_rows, unplaceable_tags
from nir_dynapse.quant.tags import Destinations, assign_tags

__all__ = ["Mapped", "Options", "Wired", "check_places", "map_params"]


@dataclass(frozen=True)
class Options:
    """How to map; the fields are the keywords of `compile`, and `spread`: fewer neurons to a core where tags run short."""

    fan_in: Literal["refuse", "prune"] = "refuse"
    spare_rows: bool = True
    second_range: bool = False
    share_tags: bool = False
    spread: bool = True
    tolerance: float = TOLERANCE
    seed: int = 0
    budget: float = 60.0
    progress: Callable[[str, float], None] | None = None


class Wired(NamedTuple):
    """The synapses that the bits must make: `source`, `neuron`, `dendrite` and `delay` flags of each (S,).

    `second_range`: AMPA and NMDA stand for one another. `mask` (S,), where given, is that of the one CAM row of each.
    """

    source: np.ndarray
    neuron: np.ndarray
    dendrite: np.ndarray
    delay: np.ndarray
    second_range: bool
    mask: np.ndarray | None = None


class Mapped(NamedTuple):
    """The bits of a Layout (see there), the topology that they came from, and what they do not do exactly."""

    topology: Topology
    place: np.ndarray
    cam: np.ndarray
    sram: np.ndarray
    codes: np.ndarray
    input_rows: np.ndarray
    wired: Wired
    errors: dict[str, Any]
    findings: list[Finding]


def map_params(
    asked: Params,
    monitored: np.ndarray,
    activity: np.ndarray,
    importance: np.ndarray | None,
    device: Device,
    options: Options,
) -> Mapped:
    """Bits for `asked` on `device`: `monitored` (N,) neurons send their events out, `activity` (sources,) weighs events.

    Synapses with masks become a CAM row each, as they are (`quant.given`). CapacityError with all that does not fit.
    """
    mapped, findings = _mapped(asked, monitored, activity, importance, device, options, _map)
    return mapped._replace(findings=[*findings, *mapped.findings])


def check_places(asked: Params, monitored: np.ndarray, activity: np.ndarray, device: Device, options: Options) -> None:
    """CapacityError where `map_params` finds no places and tags for as many synapses of `asked` as neurons have rows."""
    options = replace(options, fan_in="prune", progress=None)
    _mapped(asked, monitored, activity, None, device, options, _wire)


def _mapped(
    asked: Params,
    monitored: np.ndarray,
    activity: np.ndarray,
    importance: np.ndarray | None,
    device: Device,
    options: Options,
    make: Callable[[_Task, np.ndarray | None], Any],
) -> tuple[Any, list[Finding]]:
    """What `make` makes of the first way that fits, and what was found before it."""
    alias = np.arange(asked.topology.n_sources)
    if options.share_tags:
        alias, keep = share_sources(asked)
        asked, importance = keep_synapses(asked, keep), None if importance is None else importance[keep]
    asked, importance, findings = limit_fan_in(asked, device, options.fan_in, importance)
    capacity = [f for f in findings if f.severity == "error"]
    task = _Task(asked, asked, alias, monitored, activity, importance, device, options)
    try:
        if asked.topology.mask is None:
            grouped, found = merged(asked, device, options.tolerance)
            asked = replace(asked, topology=replace(asked.topology, delay=grouped.topology.delay))
            tasks = [task._replace(asked=asked, grouped=grouped)]
        else:
            tasks, found = [task._replace(grouped=way) for way in given_groups(asked, device)], []
        if capacity:  # what else does not fit is said at once
            _placed(tasks[-1], None)
    except CapacityError as error:
        raise CapacityError([*capacity, *error.findings]) from None
    raise_if_errors(capacity, CapacityError)
    return _first_that_fits(tasks, make), [*findings, *found]


class _Task(NamedTuple):
    """What is mapped: `asked`, and `grouped`, the same with bias groups that fit the cores."""

    asked: Params
    grouped: Params
    alias: np.ndarray
    monitored: np.ndarray
    activity: np.ndarray
    importance: np.ndarray | None
    device: Device
    options: Options


def _first_that_fits(tasks: list[_Task], make: Callable[[_Task, np.ndarray | None], Any]) -> Any:
    for task in tasks[:-1]:
        with suppress(CapacityError):
            return _around_bad_places(task, make)
    return _around_bad_places(tasks[-1], make)


def _around_bad_places(task: _Task, make: Callable[[_Task, np.ndarray | None], Any]) -> Any:
    """What `make` makes of the task; where tags run short or find no good rows, again with fewer neurons to a core, or
    without unfit places.

    Raises what went wrong first where nothing helps.
    """
    device = task.device
    most, errors = device.neurons_per_core, []
    while not errors or (task.options.spread and most and task.grouped.topology.n_neurons <= most * device.n_cores):
        blocked = np.zeros((device.n_chips, device.cores_per_chip, device.neurons_per_core), bool)
        blocked[:, :, most:] = True
        while True:
            try:
                return make(task, blocked if blocked.any() else None)
            except CapacityError as error:
                errors.append(error)
                where = error.where if isinstance(error, BadPlace) else ()
                if all(blocked[place].all() for place in where):
                    break
                for place in where:
                    blocked[place] = True
        if not any(f.code in ("tags", "bad-rows") for f in errors[0].findings):
            break
        most //= 2
    raise errors[0]


def _placed(task: _Task, blocked: np.ndarray | None) -> Placement:
    options = task.options
    return place(
        task.grouped.topology,
        task.alias,
        task.monitored,
        task.activity,
        task.device,
        seed=options.seed,
        budget=options.budget,
        progress=options.progress,
        prune=options.fan_in == "prune",
        blocked=blocked,
    )


class _Wiring(NamedTuple):
    """A task with its places, tags and biases, before any weight is rounded."""

    asked: Params
    grouped: Params
    importance: np.ndarray | None
    opened: np.ndarray | None
    places: np.ndarray
    core: np.ndarray
    destinations: Destinations
    tags: np.ndarray
    free: np.ndarray
    group_codes: np.ndarray
    got: dict[str, np.ndarray]
    findings: list[Finding]


def _wire(task: _Task, blocked: np.ndarray | None) -> _Wiring:
    """Places, tags and biases for `task`; CapacityError where they do not suffice."""
    asked, grouped, alias, monitored, _, importance, device, options = task
    placed = _placed(task, blocked)
    findings = placed.findings
    if placed.limit is not None:
        asked, importance, found = limit_fan_in(asked, device, "prune", importance, placed.limit)
        findings += found
        grouped = replace(grouped, topology=replace(asked.topology, group=grouped.topology.group), weight=asked.weight)

    given, opened = asked.topology.mask is not None, None
    if options.second_range and not given:
        grouped, opened = open_second_range(grouped)
    places, scales = placed.place, None
    core = core_of(places, device)
    if device.has_scales:  # cores that should be alike need different codes
        grouped, before = one_group_per_core(grouped, core)
        opened = None if opened is None else opened[before]
        scales = {name: device.scale(name)[np.unique(core)] for name in PARAMETERS}
        findings += _scaled(np.unique(places[:, 0]), device)
    group_codes, got, found = encode_biases(grouped, scales)
    findings += found
    t = grouped.topology
    reached = reached_cores(t, alias, core, device)
    check_destinations(t, places[:, 0], reached, monitored, device)
    spare = spare_destinations(t, reached, monitored, device)
    fan_out = np.bincount(t.pre, minlength=t.n_sources)[alias]
    least = np.full(t.n_sources, device.n_cores)
    np.minimum.at(least, alias, spare)  # sources that share their tags also split them alike
    own = alias == np.arange(t.n_sources)
    destinations = _tags(t, core, reached & own[:, None], least, fan_out, device).shared(alias)
    tags = destinations.tag_at(t.pre, core[t.post], device.n_cores, device.cores_per_chip)
    places, free = _slots(t, places, tags, device)
    return _Wiring(
        asked, grouped, importance, opened, places, core, destinations, tags, free, group_codes, got, findings
    )


def _map(task: _Task, blocked: np.ndarray | None) -> Mapped:
    wired = _wire(task, blocked)
    asked, grouped, importance, opened, places, core, destinations, tags, free, group_codes, got, findings = wired
    t, monitored, device, options = grouped.topology, task.monitored, task.device, task.options
    given = asked.topology.mask is not None
    problem = Rounding(
        t,
        asked.row_currents() * event_charge(asked),
        core,
        free if options.spare_rows else 0 * free,
        gain_units(grouped, got),
        importance,
        opened,
        options.seed,
    )
    if given:
        rounded = given_rows(grouped, got, core, device)
        cam = write_given(t, rounded, places, tags, device)
    else:
        rounded, cam = round_to_rows(problem, places, tags, device)
    errors = weight_errors(problem, rounded, device)
    inputs = input_rows(t, destinations)
    findings = [*findings, *unheard_channels(t, inputs)]
    return Mapped(
        t,
        places,
        cam,
        sram_rows(t, places, destinations, monitored, device),
        _codes(t, core, group_codes, rounded, device),
        inputs,
        _wired(t, task.alias, opened is not None),
        errors,
        [*findings, *([] if given else rounding_findings(errors))],
    )


def _tags(
    t: Topology, core: np.ndarray, reached: np.ndarray, spare: np.ndarray, fan_out: np.ndarray, device: Device
) -> Destinations:
    """Tags for all sources; on chips with bad rows, for each core only from the half for which its rows suffice."""
    usable = np.concatenate([device.usable_tags(chip) for chip in range(device.n_chips)])
    if device.profiles:
        restricted, degree = usable.copy(), reached.sum(0)
        halves = slice(device.first_tag, None), slice(device.first_tag)  # the preferred one first
        need = np.bincount(t.post, minlength=t.n_neurons)
        for c in np.unique(core).tolist():
            if (profile := device.profile(c // device.cores_per_chip)) is None:
                continue
            wanted = np.sort(need[core == c])[::-1]
            for k, half in enumerate(halves):
                rows = np.sort(profile.usable_rows(1 - k)[c % device.cores_per_chip])[::-1]
                if degree[c] <= usable[c, half].sum() and (wanted <= rows[: len(wanted)]).all():
                    restricted[c, halves[1 - k]] = False
                    break
        with suppress(CapacityError):
            return assign_tags(reached, spare, fan_out, restricted, device)
    return assign_tags(reached, spare, fan_out, usable, device)


def _slots(t: Topology, places: np.ndarray, tags: np.ndarray, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Places with slots whose good CAM rows fit the tags, and the rows that each neuron has to spare (N,)."""
    high = np.bincount(t.post, tags >= device.first_tag, t.n_neurons).astype(int)
    low = np.bincount(t.post, tags < device.first_tag, t.n_neurons).astype(int)
    if not device.profiles:
        return places, device.cam_rows - high - low
    places, free = places.copy(), device.cam_rows - high - low
    for chip, core in np.unique(places[:, :2], axis=0).tolist():
        profile = device.profile(chip)
        if profile is None:
            continue
        here = np.flatnonzero((places[:, 0] == chip) & (places[:, 1] == core))
        kinds = profile.row_kinds()[core]
        slots = place_slots(low[here], high[here], places[here, 2], kinds)
        if slots is None:
            raise unplaceable_tags(low[here], high[here], kinds, profile, chip, core)
        places[here, 2] = slots
        free[here] = spare_rows(low[here], high[here], kinds[slots])
    return places, free


def _codes(t: Topology, core: np.ndarray, group_codes: np.ndarray, rounded: Rounded, device: Device) -> np.ndarray:
    """Codes of all cores (cores, parameters, 2): those of the bias group, with the core's own gains and base currents."""
    codes = np.zeros((device.n_cores, len(PARAMETERS), 2), np.uint8)
    used, first = np.unique(core, return_index=True)
    codes[used] = group_codes[t.group[first]]
    for c in used.tolist():
        for dendrite, code in rounded.gain_codes.get(c, {}).items():
            codes[c, COLUMN[WEIGHT_GAINS[dendrite]]] = code
        for bit, name in enumerate(BASE_WEIGHTS):
            coarse, fine, _ = biasgen.nearest_codes(name, rounded.base[c, bit] / device.scale(name)[c])
            codes[c, COLUMN[name]] = coarse, fine
    return codes


def _scaled(chips: np.ndarray, device: Device) -> list[Finding]:
    """A remark on the chips whose codes follow from measured currents."""
    profiles = [(chip, device.profile(chip)) for chip in chips.tolist()]
    known = [f"chip {c} ('{p.name}': {range_of('bias scales', p.scales)})" for c, p in profiles if p and p.scales]
    what = f"codes are chosen for the bias currents that were measured on {', '.join(known)}."
    return [Finding("info", "bias-scales", what)] if known else []


def _wired(t: Topology, alias: np.ndarray, second_range: bool) -> Wired:
    synapse, source = expanded(t, alias)
    delay = np.zeros(t.n_synapses, int) if t.delay is None else t.delay
    mask = None if t.mask is None else t.mask[synapse]
    return Wired(source, t.post[synapse], t.dendrite[synapse], delay[synapse], second_range, mask)
