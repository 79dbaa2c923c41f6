"""Layout → samna configuration object, by attributes (`to_samna`); the JSON text is in `samna_text`.

Only what a Layout owns is written, and only in used cores: the biases of `device.PARAMETERS`, the CAM and SRAM rows and
four latches of all neurons, and which membrane is monitored. samna itself is never imported here
(facts/samna_dynapse2_contract.md §4, §9).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from nir_dynapse.chip.device import COLUMN, DENDRITE_VALUES, DENDRITES, LATCH_NAMES, PARAMETERS
from nir_dynapse.errors import CapacityError, ConfigurationError
from nir_dynapse.export.configuration import Dynapse2Configuration
from nir_dynapse.export.samna_bits import CORES, NEURONS, bits, cam_rows, check_values, sram_rows
from nir_dynapse.export.samna_text import write_config_json
from nir_dynapse.files.bulk import no_collector
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import SRAM_DTYPE, UNUSED_CAM, cam_words, has_rows, sram_words

__all__ = ["names_of", "quiet_codes", "to_samna", "write_config_json"]

Writes = list[tuple[Any, str, Any]]

CHIP = CORES * NEURONS
SYNAPSE_FIELDS = ("tag", "dendrite", "weight", "stp", "precise_delay", "mismatched_delay")
DESTINATION_FIELDS = ("core", "x_hop", "y_hop", "tag")
LATCHES = tuple(LATCH_NAMES.values())
QUIET_BIASES, QUIET_CODE = ("i_tau_mem", *(f"i_tau_{name}" for name in DENDRITES)), (5, 255)
FOUR, THREE = [bits(value, 4) for value in range(16)], [bits(value, 3) for value in range(8)]
"""Masks and flags as booleans."""
REFUSALS = (AttributeError, TypeError, ValueError, RuntimeError, ArithmeticError)
"""What an object raises that does not take a value."""


def to_samna(layout: Layout, config: Any = None, *, previous: Layout | None = None) -> Any:
    """Write a Layout into a configuration object and return it.

    `config` is an object shaped like `samna.dynapse2.Dynapse2Configuration` (from the real samna, or ours); where None, a
    plain one with `layout.n_chips` chips is made. Written are, of used cores, coarse and fine of the biases in
    `device.PARAMETERS`, all CAM rows, SRAM rows and four latches of all 256 neurons (unused and off where no neuron is
    placed), and which membrane is monitored. The plain configuration also gets `names`, everything of the Layout that is
    not bits, so that `from_samna` restores it.

    `previous` is the Layout that `config` holds already, written by `to_samna`: then only what differs is written, and
    cores that only `previous` used get unused rows, latches and monitoring off, and keep their biases.

    All names that are written are looked up and all rows built before the first write; a missing name or a value that
    the object refuses is a ConfigurationError and leaves the object as it was, too few chips a CapacityError.
    """
    check_values(layout)
    if previous is not None:
        check_values(previous)
        if config is None:
            raise ConfigurationError(
                "to_samna: previous is given without the config that holds it. Give both, or none."
            )
    with no_collector():
        if config is None:
            config = Dynapse2Configuration(layout.n_chips)
        _apply(_plan(layout, previous, config))
    if isinstance(config, Dynapse2Configuration):
        config.names = names_of(layout)
    return config


def quiet_codes(layout: Layout) -> Layout:
    """The same Layout with the largest leaks in used cores, membranes and dendrites: nothing on the chip spikes."""
    codes = np.array(layout.codes)
    for name in QUIET_BIASES:
        codes[layout.used_cores, COLUMN[name]] = QUIET_CODE
    return replace(layout, codes=codes)


def names_of(layout: Layout) -> dict[str, Any]:
    """Everything of a Layout that is not bits: `Layout.to_dict` without rows, codes and membranes.

    `neurons` holds (chip, core, slot), `used_cores` the indices chip·4 + core of written cores, and `silent` the flat
    indices of neurons that have no row at all and so leave no trace in a configuration.
    """
    cam, sram = np.full(layout.cam.shape, UNUSED_CAM), np.zeros(layout.sram.shape, SRAM_DTYPE)
    used = np.zeros_like(layout.used_cores)
    names = replace(layout, cam=cam, sram=sram, used_cores=used, membranes=np.full(len(used), -1)).to_dict()
    for key in ("cam", "sram", "cores"):
        del names[key]
    names["neurons"] = [place[:3] for place in names["neurons"]]
    names["used_cores"] = np.flatnonzero(layout.used_cores).tolist()
    names["silent"] = np.flatnonzero(~has_rows(layout.cam, layout.sram)).tolist()
    return {key: value if key in ("neurons", "silent") else copy.deepcopy(value) for key, value in names.items()}


# -- what is to be written --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bits:
    """What a Layout says about every place (P,) and core (K,) of `n_chips` chips, as far as its used cores go."""

    used: np.ndarray
    cam: np.ndarray
    sram: np.ndarray
    latches: np.ndarray
    codes: np.ndarray
    membranes: np.ndarray

    @classmethod
    def of(cls, layout: Layout, n_chips: int) -> _Bits:
        place, cores = layout.core_index * NEURONS + layout.slot, slice(layout.n_chips * CORES)
        cam, sram = np.zeros((n_chips * CHIP, 64), np.uint32), np.zeros((n_chips * CHIP, 4), np.uint32)
        latches = np.zeros((n_chips * CHIP, len(LATCHES)), bool)
        cam[place], sram[place] = cam_words(layout.cam), sram_words(layout.sram)
        latches[place] = layout.latches[:, None] >> np.arange(len(LATCHES)) & 1
        used, membranes = np.zeros(n_chips * CORES, bool), np.full(n_chips * CORES, -1)
        codes = np.zeros((n_chips * CORES, *layout.codes.shape[1:]), np.uint8)
        used[cores], membranes[cores], codes[cores] = layout.used_cores, layout.membranes, layout.codes
        return cls(used, cam, sram, latches, codes, membranes)


def _plan(layout: Layout, previous: Layout | None, config: Any) -> Writes:
    """All assignments, after every name was looked up."""
    chips = list(_need(config, "chips", "configuration"))
    if len(chips) < layout.n_chips:
        raise CapacityError(
            f"the Layout needs {layout.n_chips} chips, the configuration has {len(chips)}. "
            "Use a board with more chips, or compile for fewer."
        )
    if previous is not None and len(chips) < previous.n_chips:
        raise ConfigurationError(
            f"to_samna: previous is for {previous.n_chips} chips, the configuration has {len(chips)}. "
            "Give the Layout that was written to this configuration, or none."
        )
    n_chips = max(layout.n_chips, 0 if previous is None else previous.n_chips)
    new = _Bits.of(layout, n_chips)
    old = None if previous is None else _Bits.of(previous, n_chips)
    writes: Writes = []
    neurons: list[tuple[int, Any]] = []
    for i in np.flatnonzero(new.used if old is None else new.used | old.used).tolist():
        where = f"chip {i // CORES}, core {i % CORES}"
        core = _children(chips[i // CORES], "cores", CORES, where)[i % CORES]
        known = old if old is not None and old.used[i] else None
        if new.used[i]:
            writes += _bias_writes(core, new.codes[i], None if known is None else known.codes[i], where)
        held = {} if known is None else _monitor(int(known.membranes[i]))
        wanted = _monitor(int(new.membranes[i]))
        writes += _checked(core, {name: value for name, value in wanted.items() if held.get(name) != value}, where)
        places = slice(i * NEURONS, (i + 1) * NEURONS)
        changed = np.ones(NEURONS, bool) if known is None else _differ(new, known, places)
        if changed.any():
            members = _children(core, "neurons", NEURONS, where)
            neurons += [(i * NEURONS + slot, members[slot]) for slot in np.flatnonzero(changed).tolist()]
    return writes + list(_neuron_writes(new, old, neurons))


def _monitor(slot: int) -> dict[str, Any]:
    """Which membrane a core shows; -1 for none."""
    return {"neuron_monitoring_on": slot >= 0, "monitored_neuron": max(slot, 0)}


def _differ(new: _Bits, old: _Bits, places: slice) -> np.ndarray:
    """Which neurons of a core differ."""
    pairs = ((new.cam, old.cam), (new.sram, old.sram), (new.latches, old.latches))
    return np.any([(a[places] != b[places]).any(axis=1) for a, b in pairs], axis=0)


def _bias_writes(core: Any, codes: np.ndarray, known: np.ndarray | None, where: str) -> Writes:
    """Coarse and fine of every bias that we own and that is not known to be right."""
    parameters = _need(core, "parameters", where)
    held = np.full(codes.shape, -1) if known is None else known
    writes: Writes = []
    for row, code, old in zip(PARAMETERS.values(), codes.tolist(), held.tolist(), strict=True):
        fields = zip(("coarse_value", "fine_value"), code, old, strict=True)
        wanted: dict[str, Any] = {name: value for name, value, before in fields if value != before}
        if not wanted:
            continue
        try:
            parameter = parameters[row.bias]
        except (KeyError, IndexError, TypeError) as error:
            raise ConfigurationError(
                f"{where}: the configuration has no bias {row.bias!r}. Nothing was written. "
                "Check that it is one for DYNAP-SE2."
            ) from error
        writes += _checked(parameter, wanted, f"{where}, bias {row.bias}")
    return writes


def _neuron_writes(new: _Bits, old: _Bits | None, neurons: list[tuple[int, Any]]) -> Iterator[tuple[Any, str, Any]]:
    """Rows and latches of `neurons` (place, object): all of them, or those that differ from what `old` wrote there."""
    if not neurons:
        return
    place = np.array([p for p, _ in neurons])
    written = np.zeros(len(place), bool) if old is None else old.used[place // NEURONS]
    synapses, destinations, latches = new.cam[place], new.sram[place], new.latches[place]
    write = [np.ones(values.shape, bool) for values in (synapses, destinations, latches)]
    if old is not None:
        pairs = (synapses, old.cam[place]), (destinations, old.sram[place]), (latches, old.latches[place])
        write = [(a != b) | ~written[:, None] for a, b in pairs]
    make_synapse, make_destination = _makers(*neurons[0])
    with_cam, with_sram = (mask.any(axis=1) for mask in write[:2])
    cam = iter(cam_rows(synapses[with_cam], make_synapse))
    sram = iter(sram_rows(destinations[with_sram], make_destination))
    which = zip(with_cam.tolist(), with_sram.tolist(), write[2].tolist(), latches.tolist(), strict=True)
    for (p, neuron), (has_cam, has_sram, flipped, values) in zip(neurons, which, strict=True):
        wanted: dict[str, Any] = {"synapses": next(cam)} if has_cam else {}
        if has_sram:
            wanted["destinations"] = next(sram)
        wanted |= {name: value for name, value, flip in zip(LATCHES, values, flipped, strict=True) if flip}
        yield from _checked(neuron, wanted, _where(p))


def _makers(place: int, neuron: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Makers of CAM and SRAM rows of the configuration's own classes, tried once."""
    synapse = _children(neuron, "synapses", 64, _where(place))[0]
    destination = _children(neuron, "destinations", 4, _where(place))[0]
    for thing, names in ((synapse, SYNAPSE_FIELDS), (destination, DESTINATION_FIELDS)):
        for name in names:
            _need(thing, name, _where(place))
    try:
        dendrites = [type(synapse.dendrite)(value) for value in DENDRITE_VALUES]
        makers = partial(_synapse, type(synapse), dendrites), partial(_destination, type(destination))
        _ = makers[0](2047, 0, 15, 7), makers[1](2047, 15, -7, 7)
    except REFUSALS as error:
        raise ConfigurationError(
            f"a row of class {type(synapse).__name__} or {type(destination).__name__} cannot be made ({error}). "
            "Nothing was written. Give a samna.dynapse2.Dynapse2Configuration, or none at all."
        ) from error
    return makers


def _synapse(kind: Callable[[], Any], dendrites: list[Any], tag: int, dendrite: int, mask: int, flags: int) -> Any:
    row = kind()
    row.tag, row.dendrite, row.weight = tag, dendrites[dendrite], FOUR[mask].copy()
    row.stp, row.precise_delay, row.mismatched_delay = THREE[flags]
    return row


def _destination(kind: Callable[[], Any], tag: int, cores: int, x_hop: int, y_hop: int) -> Any:
    row = kind()
    row.core, row.x_hop, row.y_hop, row.tag = FOUR[cores].copy(), x_hop, y_hop, tag
    return row


# -- names and writes -------------------------------------------------------------------------------------------------


def _where(place: int) -> str:
    return f"chip {place // CHIP}, core {place // NEURONS % CORES}, neuron {place % NEURONS}"


def _need(thing: Any, name: str, where: str) -> Any:
    """An attribute, or a ConfigurationError that names it."""
    try:
        return getattr(thing, name)
    except AttributeError as error:
        raise ConfigurationError(
            f"{where}: {type(thing).__name__} has no attribute {name!r}. Nothing was written. "
            "Give a samna.dynapse2.Dynapse2Configuration, or none at all."
        ) from error


def _children(thing: Any, name: str, count: int, where: str) -> list[Any]:
    """A list attribute with exactly `count` members."""
    children = list(_need(thing, name, where))
    if len(children) != count:
        raise ConfigurationError(
            f"{where}: {name} has {len(children)} entries, needed are {count}. Nothing was written."
        )
    return children


def _checked(thing: Any, wanted: dict[str, Any], where: str) -> Writes:
    """Assignments to `thing`, each to an attribute that is there."""
    for name in wanted:
        if not hasattr(type(thing), name):  # reading the rows of a samna object copies them all
            _need(thing, name, where)
    return [(thing, name, value) for name, value in wanted.items()]


def _apply(writes: Writes) -> None:
    """Make all assignments; where one is refused, or the user interrupts, take back those made before."""
    before = [_need(thing, name, "configuration") for thing, name, _ in writes]
    made = 0
    try:
        for thing, name, value in writes:
            setattr(thing, name, value)
            made += 1
    except BaseException as error:
        refused = isinstance(error, REFUSALS)  # an interrupt may come between the assignment and its count
        for (thing, name, _), value in zip(writes[: made + (not refused)], before, strict=False):
            setattr(thing, name, value)
        if not refused:
            raise
        thing, name, _ = writes[made]
        raise ConfigurationError(
            f"{type(thing).__name__}.{name} refuses its value ({error}). The configuration was left as it was. "
            "Check that it is one for DYNAP-SE2."
        ) from error
