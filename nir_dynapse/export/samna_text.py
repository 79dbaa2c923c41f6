"""Layout → samna's JSON text (cereal form, camelCase), streamed neuron by neuron."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""Deflated, no name, no time, unknown system."""

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
            file.writelines(_gzipped(_config_text(layout)))
        else:
            file.writelines(_config_text(layout))


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The gzip form of a text, byte for byte that of `gzip`: a thread packs each piece while the next one is made."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    packing: Future[bytes] | None = None
    check, size = 0, 0
    yield GZIP_HEADER
    with ThreadPoolExecutor(1) as pool:
        for piece in pieces:
            if packing is not None:
                yield packing.result()
            packing = pool.submit(deflate.compress, piece)
            # The check releases the interpreter, so that the thread begins.
            check, size = zlib.crc32(piece, check), size + len(piece)
        if packing is not None:
            yield packing.result()
    yield deflate.flush() + struct.pack("<LL", check, size & 0xFFFFFFFF)


def _config_text(layout: Layout) -> Iterator[bytes]:
    """The JSON text in pieces of one core each."""
    synapses = cam_rows(cam_words(layout.cam), lambda *row: _synapse_text(*row).encode())
    destinations = sram_rows(sram_words(layout.sram), lambda *row: _destination_text(*row).encode())
    latches = [_latches_text(bits) for bits in layout.latches.tolist()]
    held = [[*cam, *sram, end] for cam, sram, end in zip(synapses, destinations, latches, strict=True)]
    neurons = dict(zip((layout.core_index * NEURONS + layout.slot).tolist(), held, strict=True))
    unused = [*[_synapse_text().encode()] * 64, *[_destination_text().encode()] * 4, _latches_text(0)]
    yield b'{"value0":{"chips":['
    for i in range(layout.n_chips * CORES):
        chip, core = divmod(i, CORES)
        start = f'{"," if chip else ""}{{"cores":{{' if core == 0 else ","
        parts: list[bytes] = [f'{start}"value{core}":{{"neurons":{{'.encode()]
        for slot, begin in enumerate(_BEGIN[:NEURONS]):
            texts = _NEURON.copy()
            texts[0], texts[1::2] = begin, neurons.get(i * NEURONS + slot, unused)
            parts += texts
        biases = _biases_text(layout.codes[i]) if layout.used_cores[i] else ""
        slot = int(layout.membranes[i])
        monitor = f'"neuronMonitoringOn":{_boolean(slot >= 0)},"monitoredNeuron":{max(slot, 0)}'
        parts.append(f'}},{monitor},"parameters":[{biases}]}}{"}}" if core == CORES - 1 else ""}'.encode())
        yield b"".join(parts)  # one copy of the three million characters
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
_BETWEEN = f'{{"synapses":{_list_text([_ROWS] * 64)},"destinations":{_list_text([_ROWS] * 4)},'.encode().split(
    _ROWS.encode()
)
"""The text of a neuron between its rows, up to its latches."""
_NEURON = [text for part in _BETWEEN for text in (part, b"")]
"""The same with places for the rows and the latches."""
_BEGIN = [f'{"," if slot else ""}"value{slot}":'.encode() + _NEURON[0] for slot in range(NEURONS)]
"""How the neurons of a core begin."""


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
