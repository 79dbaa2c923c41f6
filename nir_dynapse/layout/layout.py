"""`Layout`: a network placed, routed and quantised. Integers only; equal by value; its own versioned JSON.

Bits and names are kept apart: the bits (CAM rows, SRAM rows, bias codes, latches) are what the chip gets, the names say
which NIR node every neuron, input channel and output tag belongs to.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.lib.recfunctions import unstructured_to_structured

from nir_dynapse.chip.device import LATCHES, PARAMETERS, Circuit
from nir_dynapse.errors import ConfigurationError, Finding, UnsupportedGraphError
from nir_dynapse.files.bounds import UnreadableError, read_text
from nir_dynapse.files.bulk import no_collector
from nir_dynapse.files.integer_tables import json_text, parse_tables
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.layout.checks import (
    MOST_NEURONS,
    check_together,
    checked_delays,
    checked_errors,
    constants_of,
    copies_of,
    core_codes,
    integer_rows,
    membrane_slots,
    name_of,
    numbered,
    read_circuit,
    rows_of,
    rows_once,
    seconds_of,
    shape_of,
    slots_of,
)
from nir_dynapse.layout.rows import (
    CAM_DTYPE,
    INPUT_DTYPE,
    MONITOR_HOP,
    SRAM_DTYPE,
    UNUSED_CAM,
    cam_from_words,
    cam_words,
    has_rows,
    monitor_rows,
    sram_from_words,
    sram_words,
)
from nir_dynapse.network.network import NO_READOUT, Port, Readout, check_readout, freeze
from nir_dynapse.network.readout import readout_from_dict, readout_to_dict

__all__ = [
    "CAM_DTYPE",
    "INPUT_DTYPE",
    "MONITOR_HOP",
    "SRAM_DTYPE",
    "UNUSED_CAM",
    "Layout",
    "cam_from_words",
    "cam_words",
    "has_rows",
    "monitor_rows",
    "sram_from_words",
    "sram_words",
]

FORMAT, READABLE = "nir_dynapse.layout", (1, 2, 3, 4, 5, 6, 7)
"""Version 2 added the readout on the host, 3 the bias codes of the delays (`off` in older files), 4 the weight errors,
5 the monitored membranes, 6 the copies, 7 circuit constants other than the published ones; each is written where needed."""
TABLES = *(ROWS := ("cam", "sram")), "neurons", "input_rows"
"""Parts that are long tables of integers."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What is written to the chip, and the names that belong to it.

    `populations`: (NIR node, kind, shape) in flat neuron order; per neuron (N,): `chip`, `core`, `slot`, `latches` (bit i
    is `device.LATCHES[i]`); `cam` (N, 64) of CAM_DTYPE, `sram` (N, 4) of SRAM_DTYPE; `codes` (n_chips·4, parameters, 2):
    coarse and fine per core in the order of `device.PARAMETERS`; `used_cores` (n_chips·4,) says which cores are written.
    `input_rows` of INPUT_DTYPE: where the events of each input channel go. `projections`: (source, target, NIR node).
    `readout`: what the host computes from the spikes. `weight_errors`: what rounding the weights cost
    (`quant.rounding.weight_errors`); empty where nobody knows, as in a Layout read from a configuration. `membranes`
    (n_chips·4,): the slot whose membrane each core shows to the outside, -1 for none (None: none at all). `copies` of each
    population (empty: one each): how many neurons of the chip stand for one of the node, see `params.Topology`. `delays`:
    what those of the network became (`quant.delays.delay_errors`), as `weight_errors`. `circuit`: constants it is made for.
    """

    n_chips: int
    populations: tuple[tuple[str, str, tuple[int, ...]], ...]
    chip: np.ndarray
    core: np.ndarray
    slot: np.ndarray
    latches: np.ndarray
    cam: np.ndarray
    sram: np.ndarray
    codes: np.ndarray
    used_cores: np.ndarray
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    input_rows: np.ndarray
    projections: tuple[tuple[str, str, str], ...]
    dt: float
    tonic_period: float | None = None
    device: str = "DYNAP-SE2"
    origin: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    readout: Readout = NO_READOUT
    weight_errors: dict[str, Any] = field(default_factory=dict)
    membranes: np.ndarray = None  # pyright: ignore[reportAssignmentType] - an array from __post_init__ on
    copies: tuple[int, ...] = ()
    delays: dict[str, Any] = field(default_factory=dict)
    circuit: Circuit = Circuit.published

    def __post_init__(self) -> None:
        if all(count == 1 for count in self.copies):
            object.__setattr__(self, "copies", ())
        if self.membranes is None:
            object.__setattr__(self, "membranes", np.full(self.n_chips * 4, -1))
        dtypes = {"chip": "u1", "core": "u1", "slot": "u1", "latches": "u1", "codes": "u1", "used_cores": "?"}
        dtypes |= {"cam": CAM_DTYPE, "sram": SRAM_DTYPE, "input_rows": INPUT_DTYPE, "membranes": "i2"}
        for name, dtype in dtypes.items():
            object.__setattr__(self, name, freeze(getattr(self, name), dtype))

    def __repr__(self) -> str:
        nodes = ", ".join(
            f"{name} {n}" + (f" × {c}" if c > 1 else "")
            for (name, n), c in zip(self.node_sizes.items(), self.copies_of.values(), strict=True)
        )
        rows, cores = int((self.cam["dendrite"] >= 0).sum()), int(self.used_cores.sum())
        where = f"{cores} of {4 * self.n_chips} cores of {self.device}"
        return f"Layout({nodes}; {rows} CAM rows; {where}; dt {1e3 * self.dt:g} ms)"

    @property
    def n_neurons(self) -> int:
        return len(self.chip)

    @property
    def n_channels(self) -> int:
        return sum(port.size for port in self.inputs)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Neurons of the chip of every population, in flat order."""
        return {name: n * self.copies_of[name] for name, n in self.node_sizes.items()}

    @cached_property
    def node_sizes(self) -> dict[str, int]:
        """Population name → neurons of the NIR node (without copies)."""
        return {name: int(np.prod(shape)) for name, _, shape in self.populations}

    @cached_property
    def copies_of(self) -> dict[str, int]:
        """Population name → how many neurons of the chip stand for one of the NIR node."""
        counts = self.copies or (1,) * len(self.populations)
        return {name: count for (name, _, _), count in zip(self.populations, counts, strict=True)}

    @cached_property
    def core_index(self) -> np.ndarray:
        """chip·4 + core of every neuron (N,): the row of `codes` and `used_cores` that it belongs to."""
        return self.chip.astype(np.int64) * 4 + self.core

    @cached_property
    def names(self) -> tuple[tuple[str, int] | tuple[str, int, int], ...]:
        """(NIR node, index) of every neuron in flat order, (NIR node, index, copy) where several stand for one."""
        copies = self.copies_of
        return tuple(
            (name, i) if copies[name] == 1 else (name, i, copy)
            for name, size in self.node_sizes.items()
            for i in range(size)
            for copy in range(copies[name])
        )

    def where(self, neuron: int) -> dict[str, Any]:
        """Where a neuron is, as a Finding says it: NIR node, index and, where several stand for one, copy."""
        return dict(zip(("node", "index", "copy"), (*self.names[neuron], None), strict=False))

    def place_of(self, neuron: int) -> str:
        """The same in words."""
        node, index, *copy = self.names[neuron]
        return f"node {node!r}, neuron {index}" + "".join(f", copy {k}" for k in copy)

    def single(self) -> Layout:
        """The same bits with every copy as a neuron of its own, for what needs the spikes of each; nothing is read out."""
        if not self.copies:
            return self
        populations = tuple((name, kind, (self.sizes[name],)) for name, kind, _ in self.populations)
        there = [port for port in self.outputs if port.source in self.sizes]
        outputs = tuple(Port(port.name, (self.sizes[str(port.source)],), port.source) for port in there)
        return replace(self, populations=populations, outputs=outputs, readout=NO_READOUT, copies=())

    @cached_property
    def channel_names(self) -> tuple[tuple[str, int], ...]:
        """(input node, channel) of every input channel in flat order."""
        return tuple((port.name, i) for port in self.inputs for i in range(port.size))

    @cached_property
    def neuron_map(self) -> dict[tuple[str, int] | tuple[str, int, int], tuple[int, int, int]]:
        """(NIR node, index), with the copy where several neurons stand for one → (chip, core, slot)."""
        places = zip(self.chip.tolist(), self.core.tolist(), self.slot.tolist(), strict=True)
        return dict(zip(self.names, places, strict=True))

    @cached_property
    def input_map(self) -> dict[tuple[str, int], list[tuple[int, int, int]]]:
        """(input node, channel) → destinations (chip, core mask, tag); ("tonic", 0) where there is a tonic channel."""
        result: dict[tuple[str, int], list[tuple[int, int, int]]] = {name: [] for name in self.channel_names}
        for channel, chip, cores, tag in self.input_rows.tolist():
            name = self.channel_names[channel] if channel < self.n_channels else ("tonic", 0)
            result.setdefault(name, []).append((chip, cores, tag))
        return result

    @cached_property
    def output_map(self) -> dict[tuple[int, int], tuple[str, int]]:
        """(chip, tag) of every monitored neuron → (NIR node, index), the same for all copies.

        Where two rows claim one key, one with x_hop `MONITOR_HOP` comes before others, then the first neuron.
        """
        neuron, row = np.nonzero(monitor_rows(self.sram, self.chip))
        sent = self.sram[neuron, row]
        order = np.argsort(sent["x_hop"] != MONITOR_HOP, kind="stable")
        keys = zip(self.chip[neuron][order].tolist(), sent["tag"][order].tolist(), strict=True)
        result: dict[tuple[int, int], tuple[str, int]] = {}
        for key, n in zip(keys, neuron[order].tolist(), strict=True):
            result.setdefault(key, self.names[n][:2])
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return False
        mine, theirs = self.to_dict(), other.to_dict()
        return mine == theirs or _text(mine) == _text(theirs)  # as text a NaN in a finding equals another

    def __hash__(self) -> int:
        return hash(_text(self.to_dict()))

    # -- JSON ---------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values; unused CAM and SRAM rows are left out."""
        data = self._to_dict()
        with no_collector():
            return {**data, **{name: data[name].tolist() for name in ROWS}}

    def _to_dict(self) -> dict[str, Any]:
        """`to_dict` with CAM and SRAM rows as arrays."""
        return {
            "format": FORMAT,
            "version": 7 if self.circuit != Circuit.published else 6 if self.copies else 5,
            "device": self.device,
            "n_chips": self.n_chips,
            "dt_s": self.dt,
            "tonic_period_s": self.tonic_period,
            "populations": [[name, kind, list(shape)] for name, kind, shape in self.populations],
            "inputs": [[port.name, list(port.shape)] for port in self.inputs],
            "outputs": [[port.name, list(port.shape), port.source] for port in self.outputs],
            "projections": [list(p) for p in self.projections],
            "neurons": np.c_[self.chip, self.core, self.slot, self.latches].tolist(),
            "cam": rows_of(self.cam, self.cam != UNUSED_CAM),
            "sram": rows_of(self.sram, self.sram != np.zeros((), SRAM_DTYPE)),
            "input_rows": [list(row) for row in self.input_rows.tolist()],
            "cores": {
                str(i): {name: self.codes[i, k].tolist() for k, name in enumerate(PARAMETERS)}
                for i in np.flatnonzero(self.used_cores).tolist()
            },
            "origin": self.origin,
            "findings": [f.to_dict() for f in self.findings],
            **({"readout": readout_to_dict(self.readout)} if self.readout else {}),
            **({"weight_errors": self.weight_errors} if self.weight_errors else {}),
            **({"delays": self.delays} if self.delays else {}),
            **({"membranes": membranes} if (membranes := slots_of(self.membranes)) else {}),
            **({"copies": list(self.copies)} if self.copies else {}),
            **({"circuit": constants_of(self.circuit)} if self.circuit != Circuit.published else {}),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Layout:
        """From `to_dict`; anything else is a ConfigurationError that says what is wrong."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ConfigurationError(f"this is not a Layout: its 'format' must be {FORMAT!r}. Make one with compile.")
        if data.get("version") not in READABLE:
            raise ConfigurationError(
                f"Layout version {str(data.get('version'))[:40]}, this package reads versions up to {READABLE[-1]}. "
                "Compile the network again, or install the version of nir_dynapse that wrote it."
            )
        try:
            return cls._from_dict(data)
        except ConfigurationError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            raise ConfigurationError(
                f"the Layout is damaged ({type(error).__name__}: {str(error)[:200]}). Compile the network again."
            ) from error

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> Layout:
        n_chips = data["n_chips"]
        if type(n_chips) is not int or not 1 <= n_chips <= 8:
            raise ConfigurationError(
                f"Layout: n_chips is {str(n_chips)[:40]}, allowed are 1 to 8. Compile the network again."
            )
        populations = tuple((name_of(n), name_of(k), shape_of(s)) for n, k, s in data["populations"])
        if len({name for name, _, _ in populations}) != len(populations):
            raise ConfigurationError("Layout: two populations have the same name. Compile the network again.")
        copies = copies_of(data, len(populations))
        total = sum(math.prod(shape) * c for (_, _, shape), c in zip(populations, copies, strict=True))
        if len(data["neurons"]) != total or total > n_chips * 1024:
            raise ConfigurationError(
                f"Layout: {len(data['neurons'])} places for {total} neurons on {n_chips} chips of 1024. "
                "Compile the network again."
            )
        neurons = integer_rows("neurons", data["neurons"], 4, (n_chips, 4, 256, 1 << len(LATCHES)))
        if len({tuple(place) for place in neurons[:, :3].tolist()}) != total:
            raise ConfigurationError("Layout: two neurons share one place. Compile the network again.")
        cam = np.full((total, 64), UNUSED_CAM)
        rows = rows_once(
            "cam", integer_rows("cam", data["cam"], 6, (total, 64, 2048, 4, 16, 8), low=(0, 0, 0, -1, 0, 0))
        )
        for k, name in enumerate(CAM_DTYPE.names or ()):
            cam[name][rows[:, 0], rows[:, 1]] = rows[:, 2 + k]
        sram = np.zeros((total, 4), SRAM_DTYPE)
        rows = rows_once(
            "sram", integer_rows("sram", data["sram"], 6, (total, 4, 2048, 16, 8, 8), low=(0, 0, 0, 0, -7, -7))
        )
        for k, name in enumerate(SRAM_DTYPE.names or ()):
            sram[name][rows[:, 0], rows[:, 1]] = rows[:, 2 + k]
        codes = np.zeros((n_chips * 4, len(PARAMETERS), 2), "u1")
        used = np.zeros(n_chips * 4, bool)
        for core, values in numbered("cores", data["cores"], n_chips * 4):
            used[core], codes[core] = True, core_codes(core, values, data["version"])
        inputs = tuple(Port(name_of(n), shape_of(s)) for n, s in data["inputs"])
        channels = sum(port.size for port in inputs)
        rows = integer_rows("input_rows", data["input_rows"], 4, (channels + 1, n_chips, 16, 2048))
        if channels > MOST_NEURONS:
            raise ConfigurationError(
                f"Layout: {channels} input channels, at most {MOST_NEURONS} are read. Compile the network again."
            )
        tonic = data["tonic_period_s"]
        outputs = tuple(Port(name_of(n), shape_of(s), name_of(p)) for n, s, p in data["outputs"])
        readout = readout_from_dict(data["readout"], data["dt_s"]) if "readout" in data else NO_READOUT
        try:
            check_readout(readout, outputs, {name: math.prod(shape) for name, _, shape in populations})
        except UnsupportedGraphError as error:
            raise ConfigurationError(f"Layout: {error} Compile the network again.") from error
        made = cls(
            n_chips=n_chips,
            populations=populations,
            chip=neurons[:, 0],
            core=neurons[:, 1],
            slot=neurons[:, 2],
            latches=neurons[:, 3],
            cam=cam,
            sram=sram,
            codes=codes,
            used_cores=used,
            inputs=inputs,
            outputs=outputs,
            input_rows=unstructured_to_structured(rows, INPUT_DTYPE),
            projections=tuple((name_of(a), name_of(b), name_of(c)) for a, b, c in data["projections"]),
            dt=seconds_of("dt_s", data["dt_s"]),
            tonic_period=None if tonic is None else seconds_of("tonic_period_s", tonic),
            device=name_of(data["device"]),
            origin=dict(data["origin"]),
            findings=tuple(Finding.from_dict(f) for f in data["findings"]),
            readout=readout,
            weight_errors=checked_errors(data.get("weight_errors", {}), total),
            membranes=membrane_slots(data.get("membranes", {}), n_chips * 4),
            delays=checked_delays(data.get("delays", {})),
            copies=copies,
            circuit=read_circuit(data.get("circuit", "published")),
        )
        return check_together(made)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, to a temporary name first, then renamed."""
        write_atomically(path, json_text(self._to_dict()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Layout:
        """Read what `save` wrote (ConfigurationError otherwise)."""
        try:
            data = parse_tables(read_text(path), TABLES)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
        except UnreadableError as error:
            raise ConfigurationError(f"{path}: not a JSON file ({error}). Give one made by compile.") from error
        try:
            return cls.from_dict(data)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error


_text = partial(json.dumps, sort_keys=True)
