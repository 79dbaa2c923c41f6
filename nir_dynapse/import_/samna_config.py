"""samna configuration → Layout: from an object (ours, samna's, or one shaped alike) or from the JSON text of one.

Objects are read by attribute only, so nothing is imported that wrote them. Names come from the Layout that was written
(`samna_names`), and are invented where there are none (`samna_invented`; facts/samna_dynapse2_contract.md §4, §5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.import_.json_stream import JsonStream
from nir_dynapse.import_.samna_invented import invented
from nir_dynapse.import_.samna_names import beside, named
from nir_dynapse.import_.samna_rows import (
    CHIPS,
    CORES,
    JSON,
    LAST_LATCH,
    LEAST,
    NEURONS,
    OBJECT,
    SHAPE_ERRORS,
    SYNAPSES,
    Bits,
    refuse,
    show,
    unreadable,
)
from nir_dynapse.layout.layout import Layout

__all__ = ["from_samna"]

MOST_OTHERS = 1000
"""Members of an object that a Layout does not own: samna's have some dozens, millions would take minutes to pass over."""


def from_samna(config: Any, *, names: Any = None, dt: float | None = None) -> Layout:
    """Read a configuration back into a Layout.

    `config` is a configuration object (ours, samna's, or one shaped alike) or a path to JSON text, gzipped or not.
    `names` says which node every neuron, channel and tag belongs to: the Layout that was written, a path to its
    `layout.json`, or the `names` that `to_samna` leaves on a plain configuration. Where it is None, those of the object
    are taken, or of a file beside the text (`NAME.layout.json`, `layout.json`) whose neurons and wiring are the same;
    False looks for none. With names the result equals the Layout that was written.

    Without, every neuron with a CAM row, a destination or a monitored membrane counts, whoever made the configuration.
    Populations (one per core), input channels (tags that nobody on the chips sends), outputs (monitored neurons) and
    projections get invented names. All rows are kept, parallel and unheard ones too. `dt` in s is the step of a clocked
    network that does the same; None takes the one for which `compile` gives neurons this refractory time. Findings say
    what is a guess, and what the chip does that a Layout does not hold or that nobody can hear.

    ConfigurationError: a value that no chip can hold (with chip, core and neuron), something of another shape, a
    damaged file, or given names and bits that disagree about which neurons exist.
    """
    if not isinstance(config, (str, os.PathLike)):
        known = getattr(config, "names", None)
        names = known if names is None and isinstance(known, dict) else names
        return _layout(_read_object(config), names, dt)
    try:
        bits = _read_json(config)
        names, found = beside(config, bits) if names is None else (names, [])
        return _layout(bits, names, dt, found)
    except ConfigurationError as error:
        if str(error).startswith(f"{os.fspath(config)}: "):
            raise
        raise ConfigurationError(f"{os.fspath(config)}: {error}") from error


def _layout(bits: Bits, names: Any, dt: float | None, found: Iterable[Finding] = ()) -> Layout:
    if names is not None and names is not False:
        return named(bits, names)
    layout = invented(bits, dt)
    return replace(layout, findings=(*found, *layout.findings))


# -- reading ----------------------------------------------------------------------------------------------------------


def _read_object(config: Any) -> Bits:
    bits = Bits()
    chips = _list((), config, "chips", 1, CHIPS)
    bits.n_chips = len(chips)
    for h, chip in enumerate(chips):
        for c, core in enumerate(_list((h,), chip, "cores", CORES)):
            try:
                parameters, on, slot = core.parameters, core.neuron_monitoring_on, core.monitored_neuron
            except SHAPE_ERRORS as error:
                unreadable((h, c), error)
            bits.put_biases(OBJECT, (h, c), parameters)
            bits.put_monitor((h, c), on, slot)
            for slot, neuron in enumerate(_list((h, c), core, "neurons", NEURONS)):
                bits.put_neuron(OBJECT, (h, c, slot), neuron)
    return bits


def _list(place: tuple[int, ...], thing: Any, name: str, low: int, high: int | None = None) -> list[Any]:
    """A list attribute with `low` to `high` (`low` where None) members."""
    try:
        members = list(getattr(thing, name))
    except SHAPE_ERRORS as error:
        unreadable(place, error)
    if not low <= len(members) <= (high or low):
        refuse(place, f"the number of {name}", len(members), f"{low} to {high}" if high else f"exactly {low}")
    return members


def _read_json(path: str | os.PathLike[str]) -> Bits:
    bits = Bits()
    with JsonStream(path) as stream:
        for _ in _section(stream, "value0"):
            for _ in _section(stream, "chips"):
                for chip in _numbered(stream, "chips", 1, CHIPS):
                    bits.n_chips = max(bits.n_chips, chip + 1)
                    for _ in _section(stream, "cores"):
                        for core in _numbered(stream, "cores", CORES, CORES):
                            _read_core(stream, bits, (chip, core))
        stream.end()
    return bits


def _read_core(stream: JsonStream, bits: Bits, place: tuple[int, int]) -> None:
    monitor = {"neuronMonitoringOn": False, "monitoredNeuron": 0}
    for key in _section(stream, "neurons", "parameters", optional=tuple(monitor)):
        if key == "neurons":
            for slot in _numbered(stream, "neurons", NEURONS, NEURONS):
                text = stream.passage(SYNAPSES, LAST_LATCH, LEAST)
                if text and bits.put_text((*place, slot), text):
                    stream.skip(len(text))
                else:
                    bits.put_neuron(JSON, (*place, slot), stream.value())
        elif key == "parameters":
            pairs = stream.value()
            try:
                biases = {pair["key"]: pair["value"] for pair in pairs}
                if strange := [key for key in biases if not isinstance(key, str)]:
                    raise TypeError(f"a bias is named {show(strange[0])}")
            except SHAPE_ERRORS as error:
                unreadable(place, error)
            bits.put_biases(JSON, place, biases)
        else:
            monitor[key] = stream.value()
    bits.put_monitor(place, *monitor.values())


def _section(stream: JsonStream, *names: str, optional: tuple[str, ...] = ()) -> Iterator[str]:
    """The members `names` of the object that comes next, each once, and those of `optional` that it has; no others."""
    waiting, allowed, others = {*names, *optional}, {*names, *optional}, 0
    for key in stream.members():
        if key in waiting:
            waiting.remove(key)
            yield key
        elif key in allowed:
            stream.fail(f"{key!r} stands twice in one object")
        else:
            stream.value(f"the unknown entry {key[:40]!r}")
            others += 1
            if others > MOST_OTHERS:
                stream.fail(f"more than {MOST_OTHERS} entries beside {', '.join(sorted(allowed))}")
    if missing := waiting.difference(optional):
        stream.fail(f"{', '.join(sorted(missing))} is missing")


def _numbered(stream: JsonStream, what: str, low: int, high: int) -> Iterator[int]:
    """The indices of the list that comes next (keys value0, value1, … in any order), of `low` to `high` members."""
    numbers = {f"value{i}": i for i in range(high)}
    count = 0
    for key in stream.members():
        if key not in numbers:
            stream.fail(f"entry {key[:40]!r} of {what} is unknown, stands twice, or is more than the {high} allowed")
        yield numbers.pop(key)
        count += 1
    if count < low or any(i < count for i in numbers.values()):
        stream.fail(f"{what} has {count} entries, or gaps between them; needed are {low}")
