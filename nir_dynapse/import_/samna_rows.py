"""The bits of a samna configuration, checked while they are read, whatever form they come in (object or JSON)."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter, index, itemgetter
from typing import Any, NoReturn

import numpy as np

from nir_dynapse.biasgen import off_codes
from nir_dynapse.device import DELAYS, DENDRITE_VALUES, LATCH_NAMES, LATCHES, PARAMETERS
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.rows import SRAM_DTYPE, UNUSED_CAM, has_rows

__all__ = ["CHIPS", "CORES", "JSON", "NEURONS", "OBJECT", "Bits", "Form"]

CHIPS, CORES, NEURONS, CAM_ROWS, SRAM_ROWS = 8, 4, 256, 64, 4
DENDRITES = {value: -1 if value == 0 else index for index, value in enumerate(DENDRITE_VALUES)}
"""samna's dendrite value → our dendrite index (-1: none)."""
MASKS = {tuple(bool(value >> i & 1) for i in range(4)): value for value in range(16)}
"""Four booleans → mask; the key also equals four numbers 0 or 1."""
FLAGS = {tuple(bool(value >> i & 1) for i in range(3)): value for value in range(8)}

LATCH = {(False,): 0, (True,): 1}

Place = tuple[int, ...]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def json_items(value: Any) -> list[Any]:
    """The members of a list in cereal's form (an object with keys value0, value1, …) or of a plain JSON array."""
    return [value[f"value{i}"] for i in range(len(value))] if isinstance(value, dict) else list(value)


class Form:
    """How to read a form: `items` of a list; the others turn a neuron, a row or a bias into the tuple of its fields."""

    def __init__(
        self, items: Callable[[Any], list[Any]], pick: Callable[..., Callable[[Any], tuple[Any, ...]]]
    ) -> None:
        self.items = items
        self.neuron = pick("synapses", "destinations", *(LATCH_NAMES[name] for name in LATCHES))
        self.synapse = pick("tag", "dendrite", "weight", "stp", "precise_delay", "mismatched_delay")
        self.destination = pick("tag", "core", "x_hop", "y_hop")
        self.bias = pick("coarse_value", "fine_value")


OBJECT = Form(list, attrgetter)
JSON = Form(json_items, lambda *names: itemgetter(*map(_camel, names)))


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


SHAPE_ERRORS = (AttributeError, KeyError, IndexError, TypeError, ValueError)


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

    `latches` (8, 4, 256), `cam` (8, 4, 256, 64), `sram` (8, 4, 256, 4), `codes` (32, parameters, 2); `n_chips` were
    read; `missing` names the first bias that a core does not have.
    """

    def __init__(self) -> None:
        self.n_chips = 0
        self.latches = np.zeros((CHIPS, CORES, NEURONS), "u1")
        self.cam = np.full((CHIPS, CORES, NEURONS, CAM_ROWS), UNUSED_CAM)
        self.sram = np.zeros((CHIPS, CORES, NEURONS, SRAM_ROWS), SRAM_DTYPE)
        self.codes = np.zeros((CHIPS * CORES, len(PARAMETERS), 2), "u1")
        self.missing: dict[int, str] = {}

    def exists(self) -> np.ndarray:
        """Which neurons have a CAM row that is not unused or an SRAM row with a core bit, flat (n_chips·1024,)."""
        return has_rows(self.cam, self.sram)[: self.n_chips].reshape(-1)

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
            synapses, destinations = form.items(synapses), form.items(destinations)
        except SHAPE_ERRORS as error:
            unreadable(place, error)
        for rows, count, what in ((synapses, CAM_ROWS, "synapses"), (destinations, SRAM_ROWS, "destinations")):
            if len(rows) != count:
                refuse(place, f"the number of {what}", len(rows), f"exactly {count}")
        try:
            _store(self.cam, place, synapses, lambda row: _cam_row(form, place, row))
            _store(self.sram, place, destinations, lambda row: _sram_row(form, place, row))
        except SHAPE_ERRORS as error:
            unreadable(place, error)
        for bit, (name, latch) in enumerate(zip(LATCHES, latches, strict=True)):
            self.latches[place] |= booleans((latch,), LATCH, place, LATCH_NAMES[name]) << bit


def _store(array: np.ndarray, place: Place, rows: list[Any], decode: Callable[[Any], tuple[int, ...]]) -> None:
    """Decode rows into `array[place]`; an object that stands in several rows (as the unused one does) only once."""
    known: dict[int, tuple[int, ...]] = {}
    for row in rows:
        if id(row) not in known:
            known[id(row)] = decode(row)
    if set(known.values()) != {array[place][0].item()}:  # the arrays begin with unused rows
        array[place] = [known[id(row)] for row in rows]


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
