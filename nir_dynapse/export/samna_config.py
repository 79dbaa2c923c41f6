"""Layout → samna configuration: by attributes to an object (`to_samna`), or as JSON text (`write_config_json`).

Only what a Layout owns is written: the biases of `device.PARAMETERS` in used cores, and of every neuron there the CAM
and SRAM rows; latches of placed neurons. samna itself is never imported here (facts/samna_dynapse2_contract.md §4, §9).
"""

from __future__ import annotations

import copy
import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nir_dynapse.device import DENDRITE_VALUES, LATCH_NAMES, LATCHES, PARAMETERS
from nir_dynapse.errors import CapacityError, ConfigurationError
from nir_dynapse.export.configuration import Dynapse2Configuration, Dynapse2Neuron
from nir_dynapse.layout import (
    SRAM_DTYPE,
    UNUSED_CAM,
    Layout,
    cam_from_words,
    cam_words,
    has_rows,
    sram_from_words,
    sram_words,
)

__all__ = ["names_of", "to_samna", "write_config_json"]

T = TypeVar("T")
Writes = list[tuple[Any, str, Any]]

CORES, NEURONS = 4, 256
OTHER_LATCHES = tuple(
    f.name for f in fields(Dynapse2Neuron) if f.name.startswith("latch_") and f.name not in LATCH_NAMES.values()
)
"""Latches that we leave alone; off in JSON text."""
SYNAPSE_FIELDS = ("tag", "dendrite", "weight", "stp", "precise_delay", "mismatched_delay")
DESTINATION_FIELDS = ("core", "x_hop", "y_hop", "tag")


# -- the object -------------------------------------------------------------------------------------------------------


def to_samna(layout: Layout, config: Any = None) -> Any:
    """Write a Layout into a configuration object and return it.

    `config` is an object shaped like `samna.dynapse2.Dynapse2Configuration` (from the real samna, or ours); where None, a
    plain one with `layout.n_chips` chips is made. Written are coarse and fine of the biases in `device.PARAMETERS` of used
    cores; four latches, 64 CAM rows and 4 SRAM rows of placed neurons; and other neurons of used cores get unused rows.
    The plain configuration also gets `names`, everything of the Layout that is not bits, so that `from_samna` restores it.

    All names are looked up and all rows are built before the first write; a missing name or a value that the object
    refuses is a ConfigurationError and leaves the object as it was, too few chips a CapacityError.
    """
    _check_values(layout)
    if config is None:
        config = Dynapse2Configuration(layout.n_chips)
    _apply(_plan(layout, config))
    if isinstance(config, Dynapse2Configuration):
        config.names = names_of(layout)
    return config


def names_of(layout: Layout) -> dict[str, Any]:
    """Everything of a Layout that is not bits: `Layout.to_dict` without rows and codes.

    `neurons` holds (chip, core, slot), `used_cores` the indices chip·4 + core of written cores, and `silent` the flat
    indices of neurons that have no row at all and so leave no trace in a configuration.
    """
    cam, sram = np.full(layout.cam.shape, UNUSED_CAM), np.zeros(layout.sram.shape, SRAM_DTYPE)
    names = replace(layout, cam=cam, sram=sram, used_cores=np.zeros_like(layout.used_cores)).to_dict()
    for key in ("cam", "sram", "cores"):
        del names[key]
    names["neurons"] = [place[:3] for place in names["neurons"]]
    names["used_cores"] = np.flatnonzero(layout.used_cores).tolist()
    names["silent"] = np.flatnonzero(~has_rows(layout.cam, layout.sram)).tolist()
    return copy.deepcopy(names)


def _check_values(layout: Layout) -> None:
    """Refuse a hand-made Layout that holds values no chip can store, or that contradicts itself."""
    checks = (
        ("chip", layout.chip, 0, layout.n_chips - 1),
        ("core", layout.core, 0, CORES - 1),
        ("latch bits", layout.latches, 0, (1 << len(LATCHES)) - 1),
        ("tag of a CAM row", layout.cam["tag"], 0, 2047),
        ("dendrite of a CAM row", layout.cam["dendrite"], -1, 3),
        ("mask of a CAM row", layout.cam["mask"], 0, 15),
        ("flags of a CAM row", layout.cam["flags"], 0, 7),
        ("tag of an SRAM row", layout.sram["tag"], 0, 2047),
        ("core mask of an SRAM row", layout.sram["cores"], 0, 15),
        ("x_hop of an SRAM row", layout.sram["x_hop"], -7, 7),
        ("y_hop of an SRAM row", layout.sram["y_hop"], -7, 7),
        ("coarse code", layout.codes[layout.used_cores, :, 0], 0, 5),
    )
    for what, values, low, high in checks:
        bad = np.argwhere((values < low) | (values > high))
        if len(bad):
            raise ConfigurationError(
                f"Layout: {what} is {values[tuple(bad[0])]} (at {bad[0].tolist()}), allowed are {low} to {high}. "
                "Compile the network again."
            )
    if len(np.unique(layout.core_index * NEURONS + layout.slot)) != layout.n_neurons:
        raise ConfigurationError("Layout: two neurons share one place. Compile the network again.")
    if not layout.used_cores[layout.core_index].all():
        raise ConfigurationError("Layout: a neuron sits in a core that is not marked as used. Compile it again.")


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


def _plan(layout: Layout, config: Any) -> Writes:
    """All assignments, after every name was looked up."""
    chips = list(_need(config, "chips", "configuration"))
    if len(chips) < layout.n_chips:
        raise CapacityError(
            f"the Layout needs {layout.n_chips} chips, the configuration has {len(chips)}. "
            "Use a board with more chips, or compile for fewer."
        )
    used = np.flatnonzero(layout.used_cores).tolist()
    if not used:
        return []
    cores: dict[int, Any] = {}
    for i in used:
        where = f"chip {i // CORES}, core {i % CORES}"
        cores[i] = _children(chips[i // CORES], "cores", CORES, where)[i % CORES]
    neurons = {i: _children(core, "neurons", NEURONS, f"chip {i // 4}, core {i % 4}") for i, core in cores.items()}
    rows = _Rows(layout, neurons[used[0]][0])
    writes: Writes = []
    for i in used:
        where = f"chip {i // CORES}, core {i % CORES}"
        writes += _bias_writes(_need(cores[i], "parameters", where), layout.codes[i], where)
        members = {int(layout.slot[n]): int(n) for n in np.flatnonzero(layout.core_index == i)}
        for slot, neuron in enumerate(neurons[i]):
            writes += rows.writes(neuron, members.get(slot), f"{where}, neuron {slot}")
    return writes


def _bias_writes(parameters: Any, codes: np.ndarray, where: str) -> Writes:
    """Coarse and fine of every bias that we own."""
    writes: Writes = []
    for row, (coarse, fine) in zip(PARAMETERS.values(), codes.tolist(), strict=True):
        try:
            parameter = parameters[row.bias]
        except (KeyError, IndexError, TypeError) as error:
            raise ConfigurationError(
                f"{where}: the configuration has no bias {row.bias!r}. Nothing was written. "
                "Check that it is one for DYNAP-SE2."
            ) from error
        for name, value in (("coarse_value", coarse), ("fine_value", fine)):
            _need(parameter, name, f"{where}, bias {row.bias}")
            writes.append((parameter, name, value))
    return writes


class _Rows:
    """The CAM and SRAM rows of a Layout as objects of the configuration's own classes; equal rows are one object."""

    def __init__(self, layout: Layout, prototype: Any) -> None:
        where = "first neuron of the first used core"
        synapse = _children(prototype, "synapses", layout.cam.shape[1], where)[0]
        destination = _children(prototype, "destinations", layout.sram.shape[1], where)[0]
        for thing, names in ((synapse, SYNAPSE_FIELDS), (destination, DESTINATION_FIELDS)):
            for name in names:
                _need(thing, name, where)
        try:
            dendrites = [type(synapse.dendrite)(value) for value in DENDRITE_VALUES]
            unused = type(synapse)(), type(destination)()
            self.synapses = _cam_rows(layout, partial(_synapse, type(synapse), dendrites))
            self.destinations = _sram_rows(layout, partial(_destination, type(destination)))
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"a row of class {type(synapse).__name__} or {type(destination).__name__} cannot be made ({error}). "
                "Nothing was written. Give a samna.dynapse2.Dynapse2Configuration, or none at all."
            ) from error
        self.unused = [unused[0]] * layout.cam.shape[1], [unused[1]] * layout.sram.shape[1]
        self.latches = layout.latches.tolist()

    def writes(self, neuron: Any, n: int | None, where: str) -> Writes:
        """Assignments to one neuron of the configuration; `n` is our neuron there, None where there is none."""
        for name in ("synapses", "destinations", *LATCH_NAMES.values()):
            _need(neuron, name, where)
        if n is None:
            return [(neuron, "synapses", self.unused[0]), (neuron, "destinations", self.unused[1])]
        latches = [(neuron, LATCH_NAMES[name], bool(self.latches[n] >> bit & 1)) for bit, name in enumerate(LATCHES)]
        return [(neuron, "synapses", self.synapses[n]), (neuron, "destinations", self.destinations[n]), *latches]


def _cam_rows(layout: Layout, make: Callable[[int, int, int, int], T]) -> list[list[T]]:
    """`make(tag, dendrite, mask, flags)` for every CAM row, called once per distinct row."""
    return _distinct(cam_words(layout.cam), cam_from_words, make)


def _sram_rows(layout: Layout, make: Callable[[int, int, int, int], T]) -> list[list[T]]:
    """`make(tag, cores, x_hop, y_hop)` for every SRAM row, called once per distinct row."""
    return _distinct(sram_words(layout.sram), sram_from_words, make)


def _distinct(words: np.ndarray, decode: Callable[[np.ndarray], np.ndarray], make: Callable[..., T]) -> list[list[T]]:
    unique, inverse = np.unique(words, return_inverse=True)
    made = [make(*row) for row in decode(unique).tolist()]
    return [[made[i] for i in row] for row in inverse.reshape(words.shape).tolist()]


def _bits(value: int, count: int) -> list[bool]:
    return [bool(value >> i & 1) for i in range(count)]


def _synapse(kind: Callable[[], Any], dendrites: list[Any], tag: int, dendrite: int, mask: int, flags: int) -> Any:
    row = kind()
    row.tag, row.dendrite, row.weight = tag, dendrites[dendrite], _bits(mask, 4)
    row.stp, row.precise_delay, row.mismatched_delay = _bits(flags, 3)
    return row


def _destination(kind: Callable[[], Any], tag: int, cores: int, x_hop: int, y_hop: int) -> Any:
    row = kind()
    row.core, row.x_hop, row.y_hop, row.tag = _bits(cores, 4), x_hop, y_hop, tag
    return row


def _apply(writes: Writes) -> None:
    """Make all assignments; where one is refused, take back those made before."""
    done: Writes = []
    for thing, name, value in writes:
        try:
            before = getattr(thing, name)
            setattr(thing, name, value)
        except (AttributeError, TypeError, ValueError) as error:
            for earlier, earlier_name, earlier_value in reversed(done):
                setattr(earlier, earlier_name, earlier_value)
            raise ConfigurationError(
                f"{type(thing).__name__}.{name} refuses its value ({error}). The configuration was left as it was. "
                "Check that it is one for DYNAP-SE2."
            ) from error
        done.append((thing, name, before))


# -- JSON text --------------------------------------------------------------------------------------------------------


def write_config_json(layout: Layout, path: str | os.PathLike[str]) -> None:
    """Write a Layout as samna's JSON text (cereal form, camelCase), gzipped where the name ends in .gz.

    Meant for exchange and inspection, and read again by `from_samna`: sections that a Layout does not own (shared and
    global parameters, converters, sensor interface, bioamps, other biases) are left out, so a real samna takes its
    configuration from `to_samna` only. Streamed in bounded memory to a temporary name, then renamed; equal Layouts give
    equal bytes. ConfigurationError where the file cannot be written. Form: facts/samna_dynapse2_contract.md §4c.
    """
    _check_values(layout)
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if target.name.endswith(".gz"):
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                    packed.writelines(chunk.encode("ascii") for chunk in _config_text(layout))
            else:
                file.writelines(chunk.encode("ascii") for chunk in _config_text(layout))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{target}: cannot be written ({getattr(error, 'strerror', None) or error}). "
            "Choose a folder that exists and is writable."
        ) from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """Remove a file that may or may not be there, or not even be possible."""
    try:
        path.unlink(missing_ok=True)
    except (OSError, ValueError):
        return


def _config_text(layout: Layout) -> Iterator[str]:
    """The JSON text in pieces of one neuron each."""
    synapses = _cam_rows(layout, _synapse_text)
    destinations = _sram_rows(layout, _destination_text)
    unused = _neuron_text([_synapse_text()] * 64, [_destination_text()] * 4, 0)
    place = zip(layout.chip.tolist(), layout.core.tolist(), layout.slot.tolist(), strict=True)
    neurons = {key: n for n, key in enumerate(place)}
    yield '{"value0":{"chips":['
    for chip in range(layout.n_chips):
        yield f'{"," if chip else ""}{{"cores":{{'
        for core in range(CORES):
            yield f'{"," if core else ""}"value{core}":{{"neurons":{{'
            for slot in range(NEURONS):
                n = neurons.get((chip, core, slot))
                text = unused if n is None else _neuron_text(synapses[n], destinations[n], int(layout.latches[n]))
                yield f'{"," if slot else ""}"value{slot}":{text}'
            i = chip * CORES + core
            biases = _biases_text(layout.codes[i]) if layout.used_cores[i] else ""
            yield f'}},"neuronMonitoringOn":false,"monitoredNeuron":0,"parameters":[{biases}]}}'
        yield "}}"
    yield "]}}\n"


def _boolean(value: object) -> str:
    return "true" if value else "false"


def _list_text(texts: list[str]) -> str:
    """A list in cereal's form: an object with keys value0, value1, …"""
    return "{" + ",".join([f'"value{i}":{text}' for i, text in enumerate(texts)]) + "}"


def _synapse_text(tag: int = 0, dendrite: int = -1, mask: int = 0, flags: int = 0) -> str:
    stp, precise, mismatched = (_boolean(bit) for bit in _bits(flags, 3))
    return (
        f'{{"tag":{tag},"dendrite":{DENDRITE_VALUES[dendrite]},'
        f'"weight":{_list_text([_boolean(bit) for bit in _bits(mask, 4)])},'
        f'"stp":{stp},"preciseDelay":{precise},"mismatchedDelay":{mismatched}}}'
    )


def _destination_text(tag: int = 0, cores: int = 0, x_hop: int = 0, y_hop: int = 0) -> str:
    mask = _list_text([_boolean(bit) for bit in _bits(cores, 4)])
    return f'{{"core":{mask},"xHop":{x_hop},"yHop":{y_hop},"tag":{tag}}}'


def _neuron_text(synapses: list[str], destinations: list[str], latches: int) -> str:
    ours = [
        f'"{_camel(LATCH_NAMES[name])}":{_boolean(bit)}'
        for name, bit in zip(LATCHES, _bits(latches, len(LATCHES)), strict=True)
    ]
    others = [f'"{_camel(name)}":false' for name in OTHER_LATCHES]
    return (
        f'{{"synapses":{_list_text(synapses)},"destinations":{_list_text(destinations)},{",".join([*ours, *others])}}}'
    )


def _biases_text(codes: np.ndarray) -> str:
    return ",".join(
        f'{{"key":"{row.bias}","value":{{"coarseValue":{coarse},"fineValue":{fine},"type":{ord(row.transistor)}}}}}'
        for row, (coarse, fine) in zip(PARAMETERS.values(), codes.tolist(), strict=True)
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
