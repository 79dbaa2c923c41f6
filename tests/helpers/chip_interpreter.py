"""What the bits of a chip configuration do, followed event by event. Shares no code with nir_dynapse (NumPy only).

Two front ends make the same `Bits`: `read_object` from a configuration object with samna's names, `read_arrays` from the
raw arrays of a Layout. `follow` sends one event of every source through the stack and says where it acts:

    wiring = follow(read_object(config, layout.input_map))      # or follow(read_arrays(layout))
    wiring.connections()                                        # (source, target) -> [(dendrite, A, gain A, leak A), …]
    sources, targets, plus, minus = wiring.effective()          # signed fractions of the threshold per event

A place is chip·1024 + core·256 + slot. A source is the place of a neuron, or `INPUT` + the number of an input channel.
Facts: shared/facts/samna_dynapse2_contract.md (routing), DESIGN.md §4 and nir_dynapse/chip/biasgen_currents.csv (currents).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from places import PACKAGE

__all__ = [
    "INPUT",
    "MINUS",
    "PLUS",
    "Bits",
    "Wiring",
    "charge_per_ampere",
    "current",
    "follow",
    "read_arrays",
    "read_object",
]

CORES, SLOTS, ROWS, TAGS, FARTHEST = 4, 256, 64, 2048, 7
INPUT = 1 << 16
"""First source number of the input channels."""
AMPA, NMDA, GABA, SHUNT = range(4)
DENDRITE_OF_VALUE = {0: -1, 1024: AMPA, 256: NMDA, 512: GABA, 128: SHUNT}
PLUS, MINUS = (AMPA, NMDA), (GABA, SHUNT)

# Name of a bias -> geometry of its mirror, in the order of the columns of `Layout.codes` (data of device.PARAMETERS).
BIASES = {
    "SOIF_LEAK_N": "N5.6x6",
    "SOIF_GAIN_N": "Ns3",
    "SOIF_SPKTHR_P": "Ps2",
    "SOIF_REFR_N": "Ns3",
    "SOIF_DC_P": "Ps2",
    "DEAM_ETAU_P": "P3x1",
    "DEAM_EGAIN_P": "P1x2",
    "DENM_ETAU_P": "P3x1",
    "DENM_EGAIN_P": "P1x2",
    "DEGA_ITAU_P": "P3x1",
    "DEGA_IGAIN_P": "P1x2",
    "DESC_ITAU_P": "P3x1",
    "DESC_IGAIN_P": "P1x2",
    "DENM_NMREV_N": "Ns3",
    "SYPD_EXT_N": "Ns2",
    "SYAM_W0_P": "P1.92x1",
    "SYAM_W1_P": "P1.92x1",
    "SYAM_W2_P": "P1.92x1",
    "SYAM_W3_P": "P1.92x1",
    "SOAD_TAU_P": "P3x1",
    "SOAD_GAIN_P": "P1x2",
    "SOAD_W_N": "Ns2",
    "SOAD_PWTAU_N": "Ns2",
    "SYPD_DLY1_P": "P2x1",
    "SYPD_DLY2_P": "Ps.25",
}
LEAKS = ("DEAM_ETAU_P", "DENM_ETAU_P", "DEGA_ITAU_P", "DESC_ITAU_P")
GAINS = ("DEAM_EGAIN_P", "DENM_EGAIN_P", "DEGA_IGAIN_P", "DESC_IGAIN_P")
BASES = ("SYAM_W0_P", "SYAM_W1_P", "SYAM_W2_P", "SYAM_W3_P")

# Factors of the mirrors at these currents of the bias generator (data of parameters.SCALES), linear between them in log I.
KNOTS = (1.9e-12, 36e-12, 0.69e-9, 13e-9, 0.25e-6, 10e-6)
FACTORS = {
    "P3x1": (0.756, 0.198, 0.153, 0.142, 0.129, 0.113),
    "P1x2": (0.907, 0.692, 0.676, 0.673, 0.668, 0.694),
    "P1.92x1": (1.03, 0.254, 0.211, 0.202, 0.192, 0.181),
    "N5.6x6": (0.744, 0.615, 0.612, 0.631, 0.611, 0.547),
    "Ps2": (0.82, 0.40, 0.37, 0.36, 0.35, 0.34),
    "Ns3": (1.01, 1.05, 1.06, 1.06, 1.07, 1.02),
    "Ns2": (0.98, 0.92, 0.91, 0.91, 0.91, 0.97),
    "P2x1": (1.03, 0.247, 0.204, 0.195, 0.184, 0.174),
    "Ps.25": (1.6,) * 6,
}

# Circuit constants: F, V, no unit.
C_MEM, C_PULSE, C_DENDRITE = 3e-12, 0.5e-12, (24.5e-12, 25e-12, 25e-12, 24.5e-12)
U_T, V_TH, KAPPA = 25e-3, 0.7, (0.75 + 0.66) / 2


def _table() -> dict[tuple[str, int], tuple[list[float], float]]:
    """(transistor, coarse) -> eight branch currents and the leak, in A."""
    path = PACKAGE / "chip" / "biasgen_currents.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["transistor"], int(row["coarse"])): ([float(row[f"bit{k}_A"]) for k in range(8)], float(row["leak_A"]))
        for row in rows
    }


TABLE = _table()


def current(bias: str, coarse: int, fine: int) -> float:
    """Current in A of a bias at its codes."""
    branches, total = TABLE[bias[-1], coarse]
    for k in range(8):
        if fine & (1 << k):
            total += branches[k]
    factor = FACTORS[BIASES[bias]]
    if total <= KNOTS[0]:
        return total * factor[0]
    for k in range(len(KNOTS) - 1):
        if total <= KNOTS[k + 1]:
            share = math.log(total / KNOTS[k]) / math.log(KNOTS[k + 1] / KNOTS[k])
            return total * (factor[k] + share * (factor[k + 1] - factor[k]))
    return total * factor[-1]


class Bits(NamedTuple):
    """Everything that a configuration holds, place by place (P = chips·1024 places, K = chips·4 cores).

    CAM (P, 64): `tag`, `dendrite` (-1: none), `mask`, `flags`. `sram` (P, 4, 4): tag, core mask, x_hop, y_hop. `currents`:
    bias name -> (K,) in A. `inputs` (R, 4): channel, chip, core mask, tag.
    """

    n_chips: int
    tag: np.ndarray
    dendrite: np.ndarray
    mask: np.ndarray
    flags: np.ndarray
    sram: np.ndarray
    currents: dict[str, np.ndarray]
    inputs: np.ndarray


def _number(bits: Iterable[bool]) -> int:
    return sum(1 << k for k, bit in enumerate(bits) if bit)


def read_object(config: Any, input_map: Mapping[Any, Iterable[tuple[int, int, int]]]) -> Bits:
    """From a configuration object; `input_map` lists the destinations (chip, core mask, tag) of each input channel."""
    cam: list[list[tuple[int, int, int, int]]] = []
    sram: list[list[tuple[int, int, int, int]]] = []
    currents: dict[str, list[float]] = {name: [] for name in BIASES}
    seen: dict[
        int, tuple[Any, tuple[int, int, int, int]]
    ] = {}  # rows are often one object: read each once, keep it alive

    def synapse(row: Any) -> tuple[int, int, int, int]:
        if id(row) not in seen:
            dendrite = DENDRITE_OF_VALUE[int(getattr(row.dendrite, "value", row.dendrite))]
            flags = _number((row.stp, row.precise_delay, row.mismatched_delay))
            seen[id(row)] = row, (row.tag, dendrite, _number(row.weight), flags)
        return seen[id(row)][1]

    def destination(row: Any) -> tuple[int, int, int, int]:
        if id(row) not in seen:
            seen[id(row)] = row, (row.tag, _number(row.core), row.x_hop, row.y_hop)
        return seen[id(row)][1]

    for chip in config.chips:
        assert len(chip.cores) == CORES
        for core in chip.cores:
            assert len(core.neurons) == SLOTS
            for neuron in core.neurons:
                cam.append([synapse(row) for row in neuron.synapses])
                sram.append([destination(row) for row in neuron.destinations])
            for name, values in currents.items():
                parameter = core.parameters[name]
                values.append(current(name, parameter.coarse_value, parameter.fine_value))
    inputs = [(channel, *where) for channel, places in enumerate(input_map.values()) for where in places]
    tag, dendrite, mask, flags = np.moveaxis(np.array(cam, int).reshape(-1, ROWS, 4), -1, 0)
    return Bits(
        n_chips=len(config.chips),
        tag=tag,
        dendrite=dendrite,
        mask=mask,
        flags=flags,
        sram=np.array(sram, int).reshape(-1, 4, 4),
        currents={name: np.array(values) for name, values in currents.items()},
        inputs=np.array(inputs, int).reshape(-1, 4),
    )


def read_arrays(layout: Any) -> Bits:
    """From the arrays `n_chips`, `chip`, `core`, `slot`, `cam`, `sram`, `codes`, `used_cores`, `input_rows`.

    Of two neurons at one place only the last is written, as into a configuration.
    """
    place = (layout.chip.astype(int) * CORES + layout.core) * SLOTS + layout.slot
    n = layout.n_chips * CORES * SLOTS
    cam = {name: np.full((n, ROWS), -1 if name == "dendrite" else 0) for name in ("tag", "dendrite", "mask", "flags")}
    for name, rows in cam.items():
        rows[place] = layout.cam[name]
    sram = np.zeros((n, 4, 4), int)
    for k, name in enumerate(("tag", "cores", "x_hop", "y_hop")):
        sram[place, :, k] = layout.sram[name]
    codes = np.where(layout.used_cores[:, None, None], layout.codes, 0).tolist()
    currents = {name: np.array([current(name, *core[k]) for core in codes]) for k, name in enumerate(BIASES)}
    inputs = np.stack([layout.input_rows[name].astype(int) for name in ("channel", "chip", "cores", "tag")], 1)
    return Bits(n_chips=layout.n_chips, sram=sram, currents=currents, inputs=inputs, **cam)


def charge_per_ampere(currents: Mapping[str, np.ndarray]) -> np.ndarray:
    """Signed fraction of the threshold that one event moves I_mem by in all, per A of weight current, (cores, dendrites).

    The event adds (I_gain/I_tau)·I_w·(1 - exp(-t_pulse/tau)) to the current of the dendrite, which decays with tau; the
    membrane in its linear regime then climbs by that current·tau·I_gain_mem·kappa/(C_mem·U_T), over the threshold.
    """
    result = []
    for d, (leak, gain) in enumerate(zip(LEAKS, GAINS, strict=True)):
        tau = C_DENDRITE[d] * U_T / (KAPPA * currents[leak])
        jump = currents[gain] / currents[leak] * (1 - np.exp(-V_TH * C_PULSE / currents["SYPD_EXT_N"] / tau))
        climb = jump * tau * currents["SOIF_GAIN_N"] * KAPPA / (C_MEM * U_T) / currents["SOIF_SPKTHR_P"]
        result.append(climb if d in PLUS else -climb)
    return np.stack(result, 1)


class Wiring(NamedTuple):
    """Where the events act, one entry per CAM row that an event meets, and what happens to the others.

    `key` is core·2048 + tag of the meeting. `recorded`: (chip, tag) as the host decodes them -> places of the neurons.
    `idle`: (source, core, tag) of events at cores where no row listens. `broken`: what no chip could do.
    """

    source: np.ndarray
    target: np.ndarray
    row: np.ndarray
    key: np.ndarray
    dendrite: np.ndarray
    current: np.ndarray
    gain: np.ndarray
    leak: np.ndarray
    charge: np.ndarray
    recorded: dict[tuple[int, int], list[int]]
    idle: list[tuple[int, int, int]]
    broken: list[str]

    def connections(self) -> dict[tuple[int, int], list[tuple[int, float, float, float]]]:
        """(source, target) -> list of (dendrite, weight current, gain current, leak current)."""
        result: dict[tuple[int, int], list[tuple[int, float, float, float]]] = {}
        columns = (self.source, self.target, self.dendrite, self.current, self.gain, self.leak)
        for source, target, *row in zip(*(column.tolist() for column in columns), strict=True):
            result.setdefault((source, target), []).append((row[0], row[1], row[2], row[3]))
        return result

    def effective(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Source, target, and the sums of positive and of negative charges of every connected pair, sorted."""
        pair, where = np.unique(self.source * (INPUT // 2) + self.target, return_inverse=True)
        plus = np.bincount(where, np.maximum(self.charge, 0), len(pair))
        minus = np.bincount(where, np.minimum(self.charge, 0), len(pair))
        return pair // (INPUT // 2), pair % (INPUT // 2), plus, minus


def _events(bits: Bits) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], list[int]], list[str]]:
    """(source, core·2048 + tag) of every arrival at a core, what the host records, and what is broken."""
    place, row = np.nonzero(bits.sram[..., 1])
    tag, cores, x_hop, y_hop = bits.sram[place, row].T
    chip = place // (CORES * SLOTS)
    there = chip + x_hop
    broken = [
        f"place {p}, SRAM row {r}: {what}"
        for what, bad in (
            (f"hops outside ±{FARTHEST}", (np.abs(x_hop) > FARTHEST) | (np.abs(y_hop) > FARTHEST)),
            ("leaves the row of chips to the north or south", (y_hop != 0) & (there >= 0)),
            ("leaves the stack to the east", there >= bits.n_chips),
            ("a tag of more than 11 bits", tag >= TAGS),
        )
        for p, r in zip(place[bad].tolist(), row[bad].tolist(), strict=True)
    ]
    recorded: dict[tuple[int, int], list[int]] = {}
    for k in np.flatnonzero(there < 0).tolist():  # to the host, whatever y_hop
        # x_hop grows by one per chip crossed, `chip` + 1 of them; the host takes x_hop + 6 for the chip.
        recorded.setdefault((int(x_hop[k] + chip[k] + 1 + 6), int(tag[k])), []).append(int(place[k]))
    inside = (there >= 0) & (there < bits.n_chips) & (y_hop == 0)
    channel, first, mask, label = bits.inputs.T
    source = np.concatenate([place[inside], INPUT + channel])
    where = np.concatenate([there[inside], first])
    mask, label = np.concatenate([cores[inside], mask]), np.concatenate([tag[inside], label])
    if (bad := (where >= bits.n_chips) | (label >= TAGS)).any():
        broken.append(
            f"{int(bad.sum())} destinations of inputs are outside the stack or have tags of more than 11 bits"
        )
    event, core = np.nonzero((mask[:, None] >> np.arange(CORES)) & 1)
    return source[event], (where[event] * CORES + core) * TAGS + label[event], recorded, broken


def follow(bits: Bits) -> Wiring:
    """Send one event of every source through the stack."""
    source, key, recorded, broken = _events(bits)
    listener, row = np.nonzero(bits.dendrite >= 0)
    heard = listener // SLOTS * TAGS + bits.tag[listener, row]
    order = np.argsort(heard, kind="stable")
    count = np.bincount(heard, minlength=bits.n_chips * CORES * TAGS)
    start = np.cumsum(count) - count  # the rows that listen to key k are order[start[k] : start[k] + count[k]]
    meets = count[key]
    event = np.repeat(np.arange(len(key)), meets)
    within = np.arange(len(event)) - np.repeat(np.cumsum(meets) - meets, meets)
    hit = order[start[key[event]] + within]
    target, row = listener[hit], row[hit]
    core, dendrite = target // SLOTS, bits.dendrite[target, row]
    base = np.stack([bits.currents[name] for name in BASES], 1)
    selected = (bits.mask[target, row][:, None] >> np.arange(4)) & 1
    amperes = (base[core] * selected).sum(1)
    lonely = np.flatnonzero(meets == 0)
    return Wiring(
        source[event],
        target,
        row,
        key[event],
        dendrite,
        amperes,
        np.stack([bits.currents[name] for name in GAINS], 1)[core, dendrite],
        np.stack([bits.currents[name] for name in LEAKS], 1)[core, dendrite],
        amperes * charge_per_ampere(bits.currents)[core, dendrite],
        recorded,
        [(int(source[k]), int(key[k]) // TAGS, int(key[k]) % TAGS) for k in lonely.tolist()],
        broken,
    )
