"""The bits of a samna configuration, checked while they are read, whatever form they come in (object or JSON)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from operator import attrgetter, index, itemgetter
from typing import Any, NoReturn

import numpy as np

from nir_dynapse.chip.biasgen import off_codes
from nir_dynapse.chip.device import DELAYS, DENDRITE_VALUES, LATCH_NAMES, LATCHES, PARAMETERS
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.import_.rows_once import MOST_KEPT, SHAPE_ERRORS, RowsOnce
from nir_dynapse.layout.rows import CAM_DTYPE, SRAM_DTYPE, has_rows

__all__ = ["CHIPS", "CORES", "JSON", "NEURONS", "OBJECT", "OTHER_LATCHES", "Bits", "Form"]

CHIPS, CORES, NEURONS, CAM_ROWS, SRAM_ROWS = 8, 4, 256, 64, 4
DENDRITES = {value: -1 if value == 0 else index for index, value in enumerate(DENDRITE_VALUES)}
"""samna's dendrite value → our dendrite index (-1: none)."""
MASKS = {tuple(bool(value >> i & 1) for i in range(4)): value for value in range(16)}
"""Four booleans → mask; the key also equals four numbers 0 or 1."""
FLAGS = {tuple(bool(value >> i & 1) for i in range(3)): value for value in range(8)}

LATCH = {(False,): 0, (True,): 1}
OTHER_LATCHES = (
    "latch_soif_kill",
    "latch_coho_ca_mem",
    "latch_ho_enable",
    "latch_ho_active",
    "latch_ho_so_de",
    "latch_deam_ampa",
    "latch_de_conductance",
    "latch_deam_alpha",
    "latch_denm_alpha",
    "latch_de_mux",
)
"""Latches that a Layout does not hold, in the order of their bits in `Bits.others`; where one is missing it is off."""
OURS = frozenset(row.bias for row in PARAMETERS.values())

Place = tuple[int, ...]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


_KEYS = tuple(f"value{i}" for i in range(CAM_ROWS))
_FOUR = itemgetter(*_KEYS[:4])


def json_items(value: Any) -> list[Any]:
    """The members of a list in cereal's form (an object with keys value0, value1, …) or of a plain JSON array."""
    if not isinstance(value, dict):
        return list(value)
    return list(_FOUR(value)) if len(value) == 4 else [value[f"value{i}"] for i in range(len(value))]


class Form:
    """How to read a form: `items` of a list; `others` are the latches of a neuron that are not ours, off where missing;
    `unused` is what all CAM rows, and all SRAM rows, of a neuron without any look like (None: look at each). The rest
    turns a neuron, a row or a bias into the tuple of its fields.
    """

    def __init__(
        self,
        items: Callable[[Any], list[Any]],
        pick: Callable[..., Callable[[Any], tuple[Any, ...]]],
        others: Callable[[Any], tuple[Any, ...]],
        unused: tuple[Any, Any] | None = None,
    ) -> None:
        self.items, self.others = items, others
        self.unused = unused or (object(), object())  # equal to nothing
        self.neuron = pick("synapses", "destinations", *(LATCH_NAMES[name] for name in LATCHES))
        self.synapse = pick("tag", "dendrite", "weight", "stp", "precise_delay", "mismatched_delay")
        self.destination = pick("tag", "core", "x_hop", "y_hop")
        self.bias = pick("coarse_value", "fine_value")


_OTHER_KEYS = tuple(map(_camel, OTHER_LATCHES))
_NO_MASK = dict.fromkeys(_KEYS[:4], False)
_NO_SYNAPSE = {"tag": 0, "dendrite": 0, "weight": _NO_MASK}
_NO_SYNAPSE |= {"stp": False, "preciseDelay": False, "mismatchedDelay": False}
_NO_DESTINATION = {"core": _NO_MASK, "xHop": 0, "yHop": 0, "tag": 0}
OBJECT = Form(list, attrgetter, lambda neuron: tuple(getattr(neuron, name, False) for name in OTHER_LATCHES))
JSON = Form(
    json_items,
    lambda *names: itemgetter(*map(_camel, names)),
    lambda neuron: tuple(neuron.get(key, False) for key in _OTHER_KEYS),
    (dict.fromkeys(_KEYS, _NO_SYNAPSE), dict.fromkeys(_KEYS[:SRAM_ROWS], _NO_DESTINATION)),
)
OFF = (False,) * len(OTHER_LATCHES)

SYNAPSES, LAST_LATCH = '{"synapses":{"value0":', '"latchDeMux":false}'
"""How the text of a neuron begins and ends where this package wrote it."""
LEAST = 8000
"""Characters that it has at least: what is shorter is laid out in another way."""
_TAG, _CORE, _DESTINATIONS, _LATCHES = '{"tag":', '{"core":', '}},"destinations":{"value0":', '}},"latch'
"""How rows begin in it, and what ends CAM rows and SRAM rows."""
_TAILS = tuple(f'}},"value{k}":' for k in range(1, CAM_ROWS))
_CUTS = tuple(slice(-len(tail)) for tail in _TAILS)
_TAGS = {str(tag): tag for tag in range(2048)}


def where(place: Place) -> str:
    """A place in words: (chip, core, neuron), as far as given."""
    return (
        ", ".join(f"{name} {i}" for name, i in zip(("chip", "core", "neuron"), place, strict=False)) or "configuration"
    )


def show(value: Any) -> str:
    """A value for a message, shortened."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def refuse(place: Place, what: str, value: Any, allowed: str) -> NoReturn:
    """Raise the ConfigurationError for a value that no chip can hold."""
    raise ConfigurationError(
        f"{where(place)}: {what} is {show(value)}, allowed: {allowed}. Correct the configuration, or write it again."
    )


def unreadable(place: Place, error: Exception) -> NoReturn:
    """Raise the ConfigurationError for something that is not shaped like samna's configuration."""
    raise ConfigurationError(
        f"{where(place)}: not shaped like samna's configuration ({type(error).__name__}: {str(error)[:80]}). "
        "Give a samna.dynapse2.Dynapse2Configuration or a file made by write_config_json."
    ) from error


def integer(value: Any, low: int, high: int, place: Place, what: str) -> int:
    """An integer in low ≤ value ≤ high."""
    try:
        number = index(value)
    except TypeError:
        refuse(place, what, value, f"integers from {low} to {high}")
    if isinstance(value, bool) or not low <= number <= high:
        refuse(place, what, value, f"integers from {low} to {high}")
    return number


def booleans(values: Any, table: dict[tuple[bool, ...], int], place: Place, what: str) -> int:
    """The number whose bits are the booleans `values`, by `table`."""
    try:
        return table[tuple(values)]
    except (KeyError, TypeError):
        refuse(place, what, values, f"{len(next(iter(table)))} booleans")


class Bits:
    """All rows, latches and codes of up to eight chips, as dense arrays; unused rows are (0, -1, 0, 0) and zeros.

    `latches` and `others` (8, 4, 256), `cam` (8, 4, 256, 64), `sram` (8, 4, 256, 4), `codes` (32, parameters, 2),
    `membranes` (32,): the monitored slot or -1; `n_chips` were read; `missing` names the first bias that a core does not
    have, `biases` all that are not ours.
    """

    def __init__(self) -> None:
        self.n_chips = 0
        self.latches = np.zeros((CHIPS, CORES, NEURONS), "u1")
        self.others = np.zeros((CHIPS, CORES, NEURONS), "u2")
        shape = CHIPS, CORES, NEURONS
        self._cam = RowsOnce((*shape, CAM_ROWS), _cam_row, _cam_key, (0, -1, 0, 0))
        self._sram = RowsOnce((*shape, SRAM_ROWS), _sram_row, _sram_key, (0, 0, 0, 0))
        self.codes = np.zeros((CHIPS * CORES, len(PARAMETERS), 2), "u1")
        self.membranes = np.full(CHIPS * CORES, -1)
        self.missing: dict[int, str] = {}
        self.biases: set[str] = set()
        self._parts: dict[str, tuple[int, ...]] = {}
        """What texts say that are parts of many: rows without their tag, and all latches of a neuron."""

    @cached_property
    def cam(self) -> np.ndarray:
        """All CAM rows, once everything was read."""
        return self._cam.decoded(CAM_DTYPE)

    @cached_property
    def sram(self) -> np.ndarray:
        """All SRAM rows, once everything was read."""
        return self._sram.decoded(SRAM_DTYPE)

    def exists(self) -> np.ndarray:
        """Which neurons have a CAM row that is not unused or an SRAM row with a core bit, flat (n_chips·1024,)."""
        return has_rows(self.cam, self.sram)[: self.n_chips].reshape(-1)

    def shown(self) -> np.ndarray:
        """Which neurons have a monitored membrane, flat (n_chips·1024,)."""
        there = self.membranes[: self.n_chips * CORES, None]
        return (there == np.arange(NEURONS)).reshape(-1)

    def codes_of(self, used: np.ndarray) -> np.ndarray:
        """Codes (cores, parameters, 2) where `used` (cores,) and zero elsewhere; all biases of used cores are needed."""
        for i in np.flatnonzero(used).tolist():
            if i in self.missing:
                raise ConfigurationError(
                    f"{where((i // CORES, i % CORES))}: the configuration has no bias {self.missing[i]!r}. "
                    "Check that it is one for DYNAP-SE2."
                )
        return np.where(used[:, None, None], self.codes[: len(used)], 0).astype("u1")

    def put_biases(self, form: Form, place: tuple[int, int], biases: Any) -> None:
        """Store the biases of core (chip, core): a mapping from name to a thing with coarse and fine value.

        JSON text that this package wrote before it knew of delays lacks their biases: they are off.
        """
        core = place[0] * CORES + place[1]
        with suppress(*SHAPE_ERRORS):
            self.biases |= set(biases) - OURS
        for k, row in enumerate(PARAMETERS.values()):
            try:
                bias = biases[row.bias]
            except (KeyError, IndexError):
                if form is JSON and row.name in DELAYS:
                    self.codes[core, k] = off_codes(row.name)
                    continue
                self.missing.setdefault(core, row.bias)
                continue
            except SHAPE_ERRORS as error:
                unreadable(place, error)
            try:
                coarse, fine = form.bias(bias)
            except SHAPE_ERRORS as error:
                unreadable(place, error)
            self.codes[core, k, 0] = integer(coarse, 0, 5, place, f"the coarse value of bias {row.bias}")
            self.codes[core, k, 1] = integer(fine, 0, 255, place, f"the fine value of bias {row.bias}")

    def put_neuron(self, form: Form, place: tuple[int, int, int], neuron: Any) -> None:
        """Store the rows and latches of neuron (chip, core, slot)."""
        try:
            synapses, destinations, *latches = form.neuron(neuron)
            if synapses != form.unused[0]:
                rows = _counted(form.items(synapses), CAM_ROWS, place, "synapses")
                self._cam.put(form, place, rows, form is OBJECT)
            if destinations != form.unused[1]:
                rows = _counted(form.items(destinations), SRAM_ROWS, place, "destinations")
                self._sram.put(form, place, rows, form is OBJECT)
        except SHAPE_ERRORS as error:
            unreadable(place, error)
        self._put_latches(form, place, latches, neuron)

    def put_text(self, place: tuple[int, int, int], text: str) -> bool:
        """Store neuron (chip, core, slot) from its JSON text if that is laid out as `write_config_json` does; else False.

        The text of each row is decoded once. Whatever is unusual in it is left to `put_neuron`.
        """
        synapses, between, rest = text.partition(_DESTINATIONS)
        destinations, ends, latches = rest.partition(_LATCHES)
        cam, sram = _rows(synapses, SYNAPSES, _TAG, CAM_ROWS), _rows(destinations, "", _CORE, SRAM_ROWS)
        if not (between and ends and cam and sram):
            return False
        try:
            self._cam.put_texts(place, cam, self._cam_text)
            self._sram.put_texts(place, sram, self._sram_text)
            self.latches[place], self.others[place] = self._part(latches, lambda: _latch_text(place, latches))
        except (*SHAPE_ERRORS, RecursionError, ConfigurationError):
            return False
        return True

    def _cam_text(self, place: Place, text: str) -> tuple[int, ...]:
        """A CAM row from its text behind `_TAG`."""
        tag, _, rest = text.partition(",")
        return _TAGS[tag], *self._part(rest, lambda: _cam_row(JSON, place, _tagged(f"{{{rest}}}"))[1:])

    def _sram_text(self, place: Place, text: str) -> tuple[int, ...]:
        """An SRAM row from its text behind `_CORE`."""
        rest, _, tag = text.rpartition(',"tag":')
        return _TAGS[tag], *self._part(rest, lambda: _sram_row(JSON, place, _tagged(f"{_CORE}{rest}}}"))[1:])

    def _part(self, text: str, decode: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
        """What a text that is part of many says."""
        found = self._parts.get(text)
        if found is None:
            if len(self._parts) > MOST_KEPT:
                self._parts = {}
            found = self._parts[text] = decode()
        return found

    def _put_latches(self, form: Form, place: tuple[int, int, int], latches: Sequence[Any], neuron: Any) -> None:
        self.latches[place] = _latches(latches, tuple(LATCH_NAMES.values()), place)
        if (others := form.others(neuron)) != OFF:
            self.others[place] = _latches(others, OTHER_LATCHES, place)

    def put_monitor(self, place: tuple[int, int], on: Any, slot: Any) -> None:
        """Store which membrane core (chip, core) shows."""
        number = integer(slot, 0, NEURONS - 1, place, "monitored_neuron")
        if booleans((on,), LATCH, place, "neuron_monitoring_on"):
            self.membranes[place[0] * CORES + place[1]] = number


def _rows(text: str, first: str, begin: str, count: int) -> list[str]:
    """The texts of the `count` rows in `text` behind `begin`; nothing where it is laid out in another way."""
    head, *rows = text.split(begin)
    if head != first or len(rows) != count or not all(map(str.endswith, rows, _TAILS[: count - 1])):
        return []
    return [*map(str.__getitem__, rows, _CUTS[: count - 1]), rows[-1]]


def _tagged(text: str) -> dict[str, Any]:
    """A row from JSON text that must not hold its tag."""
    row = json.loads(text)
    if "tag" in row:
        raise ValueError("a second tag")
    return {**row, "tag": 0}


def _latch_text(place: Place, text: str) -> tuple[int, int]:
    """Our latches and the others from the text of a neuron behind `_LATCHES`."""
    neuron = json.loads(f'{{"latch{text}')
    if "synapses" in neuron or "destinations" in neuron:
        raise ValueError("rows behind the latches")
    _, _, *ours = JSON.neuron({"synapses": None, "destinations": None, **neuron})
    names = tuple(LATCH_NAMES.values())
    return _latches(ours, names, place), _latches(JSON.others(neuron), OTHER_LATCHES, place)


def _latches(values: Sequence[Any], names: tuple[str, ...], place: Place) -> int:
    """Latches as a number, in the order of their bits."""
    return sum(
        booleans((value,), LATCH, place, name) << bit
        for bit, (value, name) in enumerate(zip(values, names, strict=True))
    )


def _counted(rows: list[Any], count: int, place: Place, what: str) -> list[Any]:
    """`rows`, which must be `count`."""
    if len(rows) != count:
        refuse(place, f"the number of {what}", len(rows), f"exactly {count}")
    return rows


def _cam_key(form: Form, row: Any) -> tuple[Any, ...] | None:
    """What a CAM row holds; True is no tag though it equals 1."""
    tag, dendrite, weight, *flags = form.synapse(row)
    return (tag, dendrite, *form.items(weight), *flags) if type(tag) is int and len(weight) == 4 else None


def _sram_key(form: Form, row: Any) -> tuple[Any, ...] | None:
    """What an SRAM row holds."""
    tag, core, x_hop, y_hop = form.destination(row)
    whole = type(tag) is type(x_hop) is type(y_hop) is int and len(core) == 4
    return (tag, x_hop, y_hop, *form.items(core)) if whole else None


def _cam_row(form: Form, place: Place, row: Any) -> tuple[int, int, int, int]:
    """(tag, dendrite, mask, flags) of a CAM row."""
    tag, dendrite, weight, *flags = form.synapse(row)
    value = getattr(dendrite, "value", dendrite)
    try:
        code = DENDRITES[value]
    except (KeyError, TypeError):
        refuse(place, "the dendrite of a CAM row", value, "0 (none), 128 (shunt), 256 (nmda), 512 (gaba), 1024 (ampa)")
    return (
        integer(tag, 0, 2047, place, "the tag of a CAM row"),
        code,
        booleans(form.items(weight), MASKS, place, "the weight of a CAM row"),
        booleans(flags, FLAGS, place, "the flags (stp, precise delay, mismatched delay) of a CAM row"),
    )


def _sram_row(form: Form, place: Place, row: Any) -> tuple[int, int, int, int]:
    """(tag, cores, x_hop, y_hop) of an SRAM row."""
    tag, core, x_hop, y_hop = form.destination(row)
    return (
        integer(tag, 0, 2047, place, "the tag of an SRAM row"),
        booleans(form.items(core), MASKS, place, "the core mask of an SRAM row"),
        integer(x_hop, -7, 7, place, "x_hop of an SRAM row"),
        integer(y_hop, -7, 7, place, "y_hop of an SRAM row"),
    )
