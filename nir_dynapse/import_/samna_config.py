"""samna configuration → Layout: from an object (ours, samna's, or one shaped alike) or from the JSON text of one.

Objects are read by attribute only, so nothing is imported that wrote them. Names come from the Layout that was written
(`names`), and are invented where there are none (facts/samna_dynapse2_contract.md §4, §5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.import_.json_stream import JsonStream
from nir_dynapse.import_.samna_rows import (
    CHIPS,
    CORES,
    JSON,
    NEURONS,
    OBJECT,
    SHAPE_ERRORS,
    Bits,
    refuse,
    unreadable,
    where,
)
from nir_dynapse.layout import Layout
from nir_dynapse.network import Port
from nir_dynapse.rows import INPUT_DTYPE, has_rows, monitor_rows

__all__ = ["from_samna"]

INVENTED_DT = 1e-3


def from_samna(config: Any, *, names: Any = None) -> Layout:
    """Read a configuration back into a Layout.

    `config` is a configuration object (ours, samna's, or one shaped alike) or a path to JSON text, gzipped or not.
    `names` says which node every neuron, channel and tag belongs to: the Layout that was written, a path to its
    `layout.json`, or the `names` that `to_samna` leaves on a plain configuration (found there by itself). With them
    the result equals the Layout that was written. Without, every neuron with a CAM row or a destination counts, and
    populations (one per core), input channels (tags that nobody on the chips sends), outputs (monitored neurons) and
    projections get invented names, a dt of 1 ms and a warning. All rows are kept, parallel and unheard ones too.

    ConfigurationError: a value that no chip can hold (with chip, core and neuron), something of another shape, a
    damaged file, or names and bits that disagree about which neurons exist.
    """
    if isinstance(config, (str, os.PathLike)):
        bits = _read_json(config)
    else:
        bits = _read_object(config)
        known = getattr(config, "names", None)
        names = known if names is None and isinstance(known, dict) else names
    return _invented(bits) if names is None else _named(bits, names)


# -- reading ----------------------------------------------------------------------------------------------------------


def _read_object(config: Any) -> Bits:
    bits = Bits()
    chips = _list((), config, "chips", 1, CHIPS)
    bits.n_chips = len(chips)
    for h, chip in enumerate(chips):
        for c, core in enumerate(_list((h,), chip, "cores", CORES)):
            try:
                parameters = core.parameters
            except SHAPE_ERRORS as error:
                unreadable((h, c), error)
            bits.put_biases(OBJECT, (h, c), parameters)
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
    for key in _section(stream, "neurons", "parameters"):
        if key == "neurons":
            for slot in _numbered(stream, "neurons", NEURONS, NEURONS):
                bits.put_neuron(JSON, (*place, slot), stream.value())
            continue
        pairs = stream.value()
        try:
            biases = {pair["key"]: pair["value"] for pair in pairs}
        except SHAPE_ERRORS as error:
            unreadable(place, error)
        bits.put_biases(JSON, place, biases)


def _section(stream: JsonStream, *names: str) -> Iterator[str]:
    """The members `names` of the object that comes next, each exactly once; others are skipped."""
    waiting = set(names)
    for key in stream.members():
        if key in waiting:
            waiting.remove(key)
            yield key
        elif key in names:
            stream.fail(f"{key!r} stands twice in one object")
        else:
            stream.value()
    if waiting:
        stream.fail(f"{', '.join(sorted(waiting))} is missing")


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


# -- names ------------------------------------------------------------------------------------------------------------


def _named(bits: Bits, names: Any) -> Layout:
    """The Layout that `names` describe, with the bits of the configuration."""
    skeleton, silent = _skeleton(names)
    if skeleton.n_chips > bits.n_chips:
        raise ConfigurationError(
            f"the names are for {skeleton.n_chips} chips, the configuration has {bits.n_chips}. "
            "Give the names that belong to this configuration."
        )
    place = _flat(skeleton)
    exists = bits.exists()
    unnamed, expected = exists.copy(), np.ones(skeleton.n_neurons, bool)
    unnamed[place], expected[silent] = False, False
    lost = place[expected & ~exists[place]]
    for which, what in ((np.flatnonzero(unnamed), "in the configuration but not in"), (lost, "without rows but in")):
        if len(which):
            raise ConfigurationError(
                f"{where(_place(int(which[0])))}: this neuron is {what} the names ({len(which)} such neurons). "
                "Give the names that belong to this configuration, or none."
            )
    rows = (skeleton.chip, skeleton.core, skeleton.slot)
    return replace(
        skeleton,
        latches=bits.latches[rows],
        cam=bits.cam[rows],
        sram=bits.sram[rows],
        codes=bits.codes_of(skeleton.used_cores),
    )


def _skeleton(names: Any) -> tuple[Layout, list[int]]:
    """A Layout with the right names, places and used cores, and the neurons that have no rows."""
    if isinstance(names, (str, os.PathLike)):
        names = Layout.load(names)
    elif isinstance(names, dict) and "used_cores" not in names:
        names = Layout.from_dict(names)
    if isinstance(names, Layout):
        return names, np.flatnonzero(~has_rows(names.cam, names.sram)).tolist()
    try:
        places = [[*place, 0] for place in names["neurons"]]
        layout = Layout.from_dict({**names, "neurons": places, "cam": [], "sram": [], "cores": {}})
        used = np.zeros(layout.n_chips * CORES, bool)
        used[np.array(names["used_cores"], np.int64)] = True
        silent = [range(layout.n_neurons)[i] for i in names["silent"]]
    except SHAPE_ERRORS as error:
        raise ConfigurationError(
            f"the names are damaged ({type(error).__name__}: {error}). Give a Layout, or the path of a layout.json."
        ) from error
    if not used[_flat(layout) // NEURONS].all():
        raise ConfigurationError("the names place a neuron in a core that is not used. Give the Layout instead.")
    return replace(layout, used_cores=used), silent


def _flat(layout: Layout) -> np.ndarray:
    """(chip·4 + core)·256 + slot of every neuron."""
    return layout.core_index * NEURONS + layout.slot


def _place(flat: int) -> tuple[int, int, int]:
    return flat // (CORES * NEURONS), flat // NEURONS % CORES, flat % NEURONS


# -- names where there are none ---------------------------------------------------------------------------------------


def _invented(bits: Bits) -> Layout:
    """A Layout of all neurons that have rows, with names made from their places."""
    flat = np.flatnonzero(bits.exists())
    core_of, slot = flat // NEURONS, flat % NEURONS
    chip, core = core_of // CORES, core_of % CORES
    cam, sram = bits.cam[chip, core, slot], bits.sram[chip, core, slot]
    used = np.bincount(core_of, minlength=bits.n_chips * CORES)
    populations = {i: (f"core_{i // CORES}_{i % CORES}", int(used[i])) for i in np.flatnonzero(used).tolist()}
    monitored = core_of[monitor_rows(sram, chip).any(axis=1)]
    listening, sending = _listening(core_of, cam), _sending(core_of, sram, bits.n_chips)
    rows = _input_rows(listening, sending)
    channels = int(rows["channel"].max()) + 1 if len(rows) else 0
    return Layout(
        n_chips=bits.n_chips,
        populations=tuple((name, "CubaLIF", (size,)) for name, size in populations.values()),
        chip=chip,
        core=core,
        slot=slot,
        latches=bits.latches[chip, core, slot],
        cam=cam,
        sram=sram,
        codes=bits.codes_of(used > 0),
        used_cores=used > 0,
        inputs=(Port("input", (channels,)),) if channels else (),
        outputs=tuple(
            Port(f"output_{populations[i][0]}", (populations[i][1],), populations[i][0])
            for i in np.unique(monitored).tolist()
        ),
        input_rows=rows,
        projections=_projections({i: name for i, (name, _) in populations.items()}, listening, sending, rows),
        dt=INVENTED_DT,
        origin={"source": "samna configuration"},
        findings=(
            Finding(
                "warning",
                "names-invented",
                "the configuration comes without names: populations, input channels and outputs are named by place, "
                f"dt is taken as {INVENTED_DT} s.",
                hint="Give the layout.json that belongs to it as names.",
            ),
        ),
    )


def _listening(core_of: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """(core, tag) of every address that a CAM row with a dendrite waits for, sorted, (n, 2)."""
    neuron, row = np.nonzero(cam["dendrite"] >= 0)
    pairs = np.stack([core_of[neuron], cam["tag"][neuron, row].astype(np.int64)], axis=1)
    return np.unique(pairs, axis=0)


def _sending(core_of: np.ndarray, sram: np.ndarray, n_chips: int) -> np.ndarray:
    """(source core, core, tag) of every address that events of on-chip neurons reach, sorted, (n, 3)."""
    neuron, row = np.nonzero(sram["cores"])
    found = sram[neuron, row]
    chip = core_of[neuron] // CORES + found["x_hop"]
    inside = (chip >= 0) & (chip < n_chips) & (found["y_hop"] == 0)
    which, core = np.nonzero((found["cores"][inside][:, None] >> np.arange(CORES)) & 1)
    triples = np.stack(
        [
            core_of[neuron][inside][which],
            chip[inside][which] * CORES + core,
            found["tag"][inside][which].astype(np.int64),
        ],
        axis=1,
    )
    return np.unique(triples, axis=0)


def _input_rows(listening: np.ndarray, sending: np.ndarray) -> np.ndarray:
    """One input channel per (chip, tag) that cores listen to and no neuron sends there, of INPUT_DTYPE."""
    served = set(map(tuple, sending[:, 1:].tolist()))
    cores: dict[tuple[int, int], int] = {}
    for i, tag in listening.tolist():
        if (i, tag) not in served:
            key = i // CORES, tag
            cores[key] = cores.get(key, 0) | 1 << i % CORES
    rows = [(channel, chip, cores[chip, tag], tag) for channel, (chip, tag) in enumerate(sorted(cores))]
    return np.array(rows, INPUT_DTYPE)


def _projections(
    names: dict[int, str], listening: np.ndarray, sending: np.ndarray, rows: np.ndarray
) -> tuple[tuple[str, str, str], ...]:
    """(source, target, name) of every pair of populations, or input and population, that is connected."""
    waiting = set(map(tuple, listening.tolist()))
    pairs = {("input", names[chip * CORES + i]) for _, chip, cores, _ in rows.tolist() for i in _cores(cores)}
    pairs |= {(names[source], names[i]) for source, i, tag in sending.tolist() if (i, tag) in waiting}
    return tuple((source, target, f"{source}_to_{target}") for source, target in sorted(pairs))


def _cores(mask: int) -> list[int]:
    return [i for i in range(CORES) if mask >> i & 1]
