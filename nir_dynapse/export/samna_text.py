"""Layout → samna's JSON text (cereal form, camelCase), streamed neuron by neuron."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import lru_cache

import numpy as np

from nir_dynapse.chip.device import DENDRITE_VALUES, LATCH_NAMES, LATCHES, PARAMETERS
from nir_dynapse.export.configuration import Dynapse2Neuron
from nir_dynapse.export.samna_bits import CORES, NEURONS, bits, cam_rows, check_values, sram_rows
from nir_dynapse.files.whole import whole_file
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import cam_words, sram_words

__all__ = ["OTHER_LATCHES", "write_config_json"]

LEVEL = 3
"""Of zlib: a third of the time that 6 takes, for a quarter more bytes."""

OTHER_LATCHES = tuple(
    f.name for f in fields(Dynapse2Neuron) if f.name.startswith("latch_") and f.name not in LATCH_NAMES.values()
)
"""Latches that a Layout does not hold: left alone in objects, off in text."""


def write_config_json(layout: Layout, path: str | os.PathLike[str]) -> None:
    """Write a Layout as samna's JSON text (cereal form, camelCase), gzipped where the name ends in .gz.

    Meant for exchange and inspection, and read again by `from_samna`: sections that a Layout does not own (shared and
    global parameters, converters, sensor interface, bioamps, other biases) are left out, so a real samna takes its
    configuration from `to_samna` only. Streamed in bounded memory to a temporary name, then renamed; equal Layouts give
    equal bytes. ConfigurationError where the file cannot be written. Form: facts/samna_dynapse2_contract.md §4c.
    """
    check_values(layout)
    with whole_file(path) as file:
        if os.fspath(path).endswith(".gz"):
            with gzip.GzipFile("", "wb", compresslevel=LEVEL, fileobj=file, mtime=0) as packed:
                packed.writelines(_config_text(layout))
        else:
            file.writelines(_config_text(layout))


def _config_text(layout: Layout) -> Iterator[bytes]:
    """The JSON text in pieces of one neuron each."""
    synapses = cam_rows(cam_words(layout.cam), lambda *row: _synapse_text(*row).encode())
    destinations = sram_rows(sram_words(layout.sram), lambda *row: _destination_text(*row).encode())
    unused = _neuron_text([_synapse_text().encode()] * 64, [_destination_text().encode()] * 4, 0)
    place = zip(layout.chip.tolist(), layout.core.tolist(), layout.slot.tolist(), strict=True)
    neurons = {key: n for n, key in enumerate(place)}
    yield b'{"value0":{"chips":['
    for chip in range(layout.n_chips):
        yield f'{"," if chip else ""}{{"cores":{{'.encode()
        for core in range(CORES):
            yield f'{"," if core else ""}"value{core}":{{"neurons":{{'.encode()
            for slot in range(NEURONS):
                n = neurons.get((chip, core, slot))
                text = unused if n is None else _neuron_text(synapses[n], destinations[n], int(layout.latches[n]))
                yield f'{"," if slot else ""}"value{slot}":'.encode()
                yield text
            i = chip * CORES + core
            biases = _biases_text(layout.codes[i]) if layout.used_cores[i] else ""
            slot = int(layout.membranes[i])
            monitor = f'"neuronMonitoringOn":{_boolean(slot >= 0)},"monitoredNeuron":{max(slot, 0)}'
            yield f'}},{monitor},"parameters":[{biases}]}}'.encode()
        yield b"}}"
    yield b"]}}\n"


def _boolean(value: object) -> str:
    return "true" if value else "false"


def _list_text(texts: list[str]) -> str:
    """A list in cereal's form: an object with keys value0, value1, …"""
    return "{" + ",".join([f'"value{i}":{text}' for i, text in enumerate(texts)]) + "}"


def _synapse_text(tag: int = 0, dendrite: int = -1, mask: int = 0, flags: int = 0) -> str:
    return f'{{"tag":{tag},"dendrite":{DENDRITE_VALUES[dendrite]},"weight":{_mask_text(mask)},{_flags_text(flags)}}}'


@lru_cache
def _mask_text(mask: int) -> str:
    return _list_text([_boolean(bit) for bit in bits(mask, 4)])


@lru_cache
def _flags_text(flags: int) -> str:
    stp, precise, mismatched = (_boolean(bit) for bit in bits(flags, 3))
    return f'"stp":{stp},"preciseDelay":{precise},"mismatchedDelay":{mismatched}'


def _destination_text(tag: int = 0, cores: int = 0, x_hop: int = 0, y_hop: int = 0) -> str:
    return f'{{"core":{_mask_text(cores)},"xHop":{x_hop},"yHop":{y_hop},"tag":{tag}}}'


_ROWS = "%"
"""Stands for a row."""
_NEURON = tuple(
    part.encode()
    for part in f'{{"synapses":{_list_text([_ROWS] * 64)},"destinations":{_list_text([_ROWS] * 4)},'.split(_ROWS)
)
"""The text of a neuron between its rows, up to its latches."""


def _neuron_text(synapses: Iterable[bytes], destinations: Iterable[bytes], latches: int) -> bytes:
    parts: list[bytes] = [b""] * (2 * len(_NEURON) - 1)
    parts[::2], parts[1::2] = _NEURON, [*synapses, *destinations]
    return b"".join([*parts, _latches_text(latches)])  # one copy of the ten thousand characters


@lru_cache
def _latches_text(latches: int) -> bytes:
    ours = [
        f'"{_camel(LATCH_NAMES[name])}":{_boolean(bit)}'
        for name, bit in zip(LATCHES, bits(latches, len(LATCHES)), strict=True)
    ]
    others = [f'"{_camel(name)}":false' for name in OTHER_LATCHES]
    return (",".join([*ours, *others]) + "}").encode()


def _biases_text(codes: np.ndarray) -> str:
    return ",".join(
        f'{{"key":"{row.bias}","value":{{"coarseValue":{coarse},"fineValue":{fine},"type":{ord(row.transistor)}}}}}'
        for row, (coarse, fine) in zip(PARAMETERS.values(), codes.tolist(), strict=True)
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
