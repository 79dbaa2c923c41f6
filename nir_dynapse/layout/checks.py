"""A Layout as it stands in a file: its parts, checked before anything is made of them, and whether they fit together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, fields
from itertools import chain
from typing import Any

import numpy as np

from nir_dynapse.chip.biasgen import off_codes
from nir_dynapse.chip.constants import SETS
from nir_dynapse.chip.device import DELAYS, PARAMETERS, Circuit
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.files.numbers import COPIES, STEP, TIME_SCALE

__all__ = [
    "MOST_NEURONS",
    "SPIKING",
    "check_together",
    "checked_delays",
    "checked_errors",
    "constants_of",
    "copies_of",
    "core_codes",
    "integer_rows",
    "membrane_slots",
    "name_of",
    "numbered",
    "read_circuit",
    "rows_of",
    "rows_once",
    "seconds_of",
    "shape_of",
    "slots_of",
]

SPIKING = ("LIF", "CubaLIF", "IF", "Threshold")
"""Kinds of populations."""
AGAIN = "Compile the network again."

MOST_NEURONS = 1 << 20
"""Of a shape, and of all input channels: a stack of eight chips has 8192 neurons and 65 536 addresses."""
MOST_NAME = 1000
"""Characters of a name, which stands in messages, reports and pictures."""


def name_of(value: Any) -> str:
    """A name as a file holds it."""
    if not isinstance(value, str) or len(value) > MOST_NAME:
        raise ValueError(f"name {str(value)[:40]!r}, allowed is text of at most {MOST_NAME} characters")
    return value


def shape_of(sizes: Any) -> tuple[int, ...]:
    """A shape of at most MOST_NEURONS entries, all of them whole numbers from 0."""
    shape = tuple(sizes)
    if len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) > MOST_NEURONS:
        raise ValueError(f"shape {str(sizes)[:60]}, allowed are whole numbers of at most {MOST_NEURONS} entries")
    return shape


def seconds_of(name: str, value: Any) -> float:
    """A step or a period as a file holds it."""
    return STEP.check("Layout", name, value, AGAIN, ConfigurationError)


def copies_of(data: dict[str, Any], populations: int) -> tuple[int, ...]:
    """How many neurons stand for one of each population, as a file holds it; those before version 6 have none."""
    if data["version"] < 7 and ("copies" in data) != (data["version"] == 6):
        raise ConfigurationError(f"Layout: version {data['version']} has 'copies' from 6 on only. {AGAIN}")
    copies = tuple(data.get("copies", (1,) * populations))
    if len(copies) != populations or any(type(c) is not int or not COPIES.holds(c) for c in copies):
        raise ConfigurationError(
            f"Layout: 'copies' are {str(copies)[:60]}, allowed is a whole number ({COPIES}) for each of its "
            f"{populations} populations. {AGAIN}"
        )
    return copies


def checked_errors(data: Any, n_neurons: int) -> dict[str, Any]:
    """What `quant.rounding.weight_errors` made, or nothing; anything else is refused."""
    if data == {}:
        return {}
    counts = [
        n for core in data["cores"].values() for n in (core["weights"], core["rows"], core["lost"], *core["bins"])
    ]
    counts += [n for _, _, *pair, _ in data["projections"] for n in pair]
    errors = [core["nrmse"] for core in data["cores"].values()] + [row[-1] for row in data["projections"]]
    sound = (
        len(data["neurons"]) == n_neurons
        and len(data["borders"]) > 1
        and all(isinstance(n, int) and n >= 0 for n in counts)
        and all(isinstance(e, (int, float)) and 0 <= e < np.inf for e in (*errors, *data["neurons"]))
        and all(isinstance(border, (int, float)) and abs(border) < np.inf for border in data["borders"])
        and all(len(core["bins"]) == len(data["borders"]) - 1 for core in data["cores"].values())
        and all(isinstance(name, str) for *names, _, _, _ in data["projections"] for name in names)
        and all(len(row) == 5 for row in data["projections"])
    )
    if not sound:
        raise ConfigurationError("Layout: 'weight_errors' does not fit its neurons. Compile the network again.")
    return dict(data)


def checked_delays(data: Any) -> dict[str, Any]:
    """What `quant.delays.delay_errors` made, or nothing; anything else is refused."""
    if data == {}:
        return {}

    def seconds(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < np.inf

    lines = [line for rows in data["nodes"].values() for line in rows]
    sound = (
        all(len(line) == 5 and all(map(seconds, line)) and isinstance(line[1], int) for line in lines)
        and all(len(pair) == 2 and all(v is None or seconds(v) for v in pair) for pair in data["cores"].values())
        and all(len(name) <= MOST_NAME for name in (*data["nodes"], *data["cores"]))
        and isinstance(data["lost"], int)
        and data["lost"] >= 0
    )
    if not sound or len(data) > 3:
        raise ConfigurationError(f"Layout: 'delays' are not what compile says of them. {AGAIN}")
    return dict(data)


def constants_of(circuit: Circuit) -> str | dict[str, float]:
    """Circuit constants as a file holds them: the name of a set, or all of them."""
    return asdict(circuit) if circuit.name == "other" else circuit.name


def read_circuit(data: Any) -> Circuit:
    """What `constants_of` wrote (ValueError for a set or a constant that nobody knows, or one that no circuit has)."""
    if isinstance(data, str) and data in SETS:
        return Circuit.named(data)
    names = {f.name for f in fields(Circuit)}
    if not isinstance(data, dict) or set(data) != names:
        raise ValueError(f"circuit constants {str(data)[:80]}, needed is a name of {', '.join(SETS)} or all constants")
    for name, value in data.items():
        lowest = -math.inf if name == "buffer_offset" else 0.0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest < value < math.inf:
            raise ValueError(
                f"circuit constant {name} is {str(value)[:40]}, allowed are finite numbers above {lowest:g}"
            )
    return Circuit(**{name: float(value) for name, value in data.items()})


def slots_of(membranes: np.ndarray) -> dict[str, int]:
    """Core index → monitored slot, where there is one."""
    return {str(i): slot for i, slot in enumerate(membranes.tolist()) if slot != -1}


def membrane_slots(data: Any, n_cores: int) -> np.ndarray:
    """The inverse: the monitored slot of every core (cores,), -1 where there is none."""
    membranes = np.full(n_cores, -1)
    rows = integer_rows("membranes", [[c, slot] for c, slot in numbered("membranes", data, n_cores)], 2, (n_cores, 256))
    membranes[rows[:, 0]] = rows[:, 1]
    return membranes


def rows_of(array: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Neuron, row and fields of every row of a structured `array` (N, rows) where `used`, as a file holds them."""
    places, rows = np.nonzero(used), array[used]
    return np.column_stack([*places, *(rows[name].astype(np.int64) for name in rows.dtype.names or ())])


def integer_rows(
    name: str, rows: Any, width: int, high: tuple[int, ...], low: tuple[int, ...] | None = None
) -> np.ndarray:
    """A list of rows, or an array (n, any), of integers as (n, width), each column within low ≤ v < high."""
    values, even = np.zeros((0, width), np.int64), set(map(type, rows)) <= {list} and set(map(len, rows)) <= {width}
    if isinstance(rows, np.ndarray) and rows.shape[1] == width:
        values, even = rows, True
    elif len(rows):
        try:
            found = np.fromiter(chain.from_iterable(rows), np.int64) if even else np.array(rows, dtype=np.int64)
        except (TypeError, ValueError, OverflowError):  # lists in lists; NumPy says what is wrong
            found = np.array(rows, dtype=np.int64)
        values = found.reshape(-1, width)
    if not even and any(len(row) != width for row in rows):
        raise ConfigurationError(f"Layout: a row of {name!r} does not have {width} numbers. Compile the network again.")
    lowest = np.zeros(width, np.int64) if low is None else np.array(low)
    bad = (values < lowest) | (values >= np.array(high))
    if bad.any():
        r, c = (int(v) for v in np.argwhere(bad)[0])
        raise ConfigurationError(
            f"Layout: row {r} of {name!r} has {values[r, c]} in column {c}, allowed are {lowest[c]} to {high[c] - 1}. "
            "Compile the network again."
        )
    return values


def rows_once(name: str, rows: np.ndarray) -> np.ndarray:
    """`rows` whose first two columns, neuron and row, name no place twice: only one of two could be written."""
    wide = int(rows[:, 1].max(initial=0)) + 1
    count = np.bincount(rows[:, 0] * wide + rows[:, 1])
    if (count > 1).any():
        neuron, row = divmod(int((count > 1).argmax()), wide)
        raise ConfigurationError(f"Layout: {name!r} holds row {row} of neuron {neuron} twice. {AGAIN}")
    return rows


def numbered(name: str, items: dict[str, Any], count: int) -> Iterator[tuple[int, Any]]:
    """(number, value) of what a file holds by number, 0 to `count` - 1, written as `str` does."""
    known = {str(i): i for i in range(count)}
    for key, value in items.items():
        if key not in known:
            raise ConfigurationError(
                f"Layout: {name!r} holds number {str(key)[:40]!r}, allowed are 0 to {count - 1}. {AGAIN}"
            )
        yield known[key], value


def core_codes(core: int, values: dict[str, Any], version: int) -> np.ndarray:
    """Coarse and fine codes (parameters, 2) of a core; files before version 3 have none of the delays."""
    added = {} if version >= 3 else {name: off_codes(name) for name in DELAYS}
    given = {**added, **values}
    if set(given) != set(PARAMETERS):
        odd = ", ".join(sorted(set(given) ^ set(PARAMETERS)))[:200]
        raise ConfigurationError(f"Layout: codes of core {core} are missing or added: {odd}. {AGAIN}")
    return integer_rows(f"cores {core}", [given[name] for name in PARAMETERS], 2, (6, 256))


def check_together(layout: Any) -> Any:
    """`layout`; ConfigurationError, with every finding, where the parts of `layout` contradict each other."""
    if findings := [*_stray(layout), *_ends(layout)]:
        raise ConfigurationError(
            [Finding("error", "layout", f"Layout: {what}", *where, hint=AGAIN) for where, what in findings]
        )
    return layout


def _stray(layout: Any) -> Iterator[tuple[tuple[str | None, int | None], str]]:
    """Neurons in cores without codes, tonic events without a period, kinds that nobody knows."""
    here = np.flatnonzero(~layout.used_cores[layout.core_index])
    if len(here):
        chip, core = layout.chip[here[0]], layout.core[here[0]]
        what = f"{len(here)} neurons are in cores without bias codes, the first in core {core} of chip {chip}."
        yield layout.names[here[0]][:2], what
    if layout.tonic_period is None and (layout.input_rows["channel"] == layout.n_channels).any():
        yield (
            (None, None),
            f"channel {layout.n_channels} is that of tonic events, which have no period ('tonic_period_s').",
        )
    for name, kind, _ in layout.populations:
        if kind not in SPIKING:
            yield (name, None), f"kind {kind[:40]!r} does not spike, allowed are {', '.join(SPIKING)}."
    scale = layout.origin.get("time_scale")
    if scale is not None and not TIME_SCALE.holds(scale):
        yield (None, None), f"its time_scale is {str(scale)[:40]!r}, allowed are {TIME_SCALE}."


def _ends(layout: Any) -> Iterator[tuple[tuple[str | None, int | None], str]]:
    """Names that stand twice, outputs of another size than what they read, projections between nodes that are not there."""
    hosts = {p.name: p.size for p in layout.readout.populations}
    sources = [*(port.name for port in layout.inputs), *layout.sizes]
    for name in {name for name in (*sources, *hosts) if [*sources, *hosts].count(name) > 1}:
        yield (name, None), "two input nodes or populations have this name."
    sizes = {**layout.node_sizes, **hosts}
    for port in layout.outputs:
        if port.size != (size := sizes[str(port.source)]):
            yield (
                (port.name, None),
                f"this output has {port.size} neurons, {port.source!r}, which it reads, has {size}.",
            )
    for source, target, node in layout.projections:
        for end, known in ((source, {*sources, *hosts}), (target, sizes)):
            if end not in known:
                yield (node, None), f"this projection leads from {source!r} to {target!r}; there is no {end!r}."
                break
