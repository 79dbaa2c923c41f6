"""What a calibration does to a chip: experiments that together tell the biases of a core apart, by spike rates alone.

Every neuron of every core is a probe: it gets a constant current or regular events, and its spikes are counted. What an
experiment is sensitive to is noted with it. Currents are those asked for; which codes make them is decided when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nir_dynapse.chip.biasgen import current, nearest_codes
from nir_dynapse.chip.device import AMPA, COLUMN, DENDRITES, DYNAPSE2, GABA, NMDA, PARAMETERS, SHUNT
from nir_dynapse.circuit.params import latch_bits
from nir_dynapse.data.data import Events
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import INPUT_DTYPE, MONITOR_HOP, SRAM_DTYPE, UNUSED_CAM
from nir_dynapse.network.network import Port

__all__ = [
    "DRIVE",
    "STEP",
    "Drive",
    "Experiment",
    "codes_for",
    "experiments",
    "loud",
    "off_currents",
    "one_row",
    "probe_layout",
    "probe_spikes",
]

STEP = 1e-3
"""Time resolution in s of all experiments."""
DRIVE, PROBE = "drive", "probe"
"""Names of the input node and of the population of probes."""
SETTLE = 0.2
"""s after which rates are counted."""
CORES, SLOTS, ROWS = 4, 256, 64

CIRCUIT = DYNAPSE2.circuit
GAIN, THRESHOLD, TAU = 1e-11, 2e-9, 20e-3
"""The working point: membrane gain and threshold in A, membrane time constant in s (below 10 pA codes are far apart)."""
LEAK = float(CIRCUIT.tau("i_tau_mem", TAU))
RHEOBASE = LEAK * THRESHOLD / GAIN
"""Constant input current in A at which a nominal probe begins to fire."""
PULSE = 1e-4
"""Width of the synaptic pulse in s."""
WEIGHT = 2e-8
"""A of a base current."""


@dataclass(frozen=True)
class Drive:
    """Events every `period` s on one CAM row of every probe: dendrite and mask."""

    dendrite: int
    mask: int
    period: float


@dataclass(frozen=True)
class Experiment:
    """`currents` in A by parameter, what is not named is off; `windows` in s in which spikes are counted; latches."""

    name: str
    currents: dict[str, float]
    windows: tuple[tuple[float, float], ...]
    drive: Drive | None = None
    latches: int = 0

    @property
    def duration(self) -> float:
        """Length in s."""
        return max(end for _, end in self.windows)

    def times(self) -> np.ndarray:
        """Times of the events in µs."""
        if self.drive is None:
            return np.zeros(0, np.int64)
        return np.round(np.arange(0, self.duration - 1e-9, self.drive.period) * 1e6).astype(np.int64)

    def events(self) -> Events:
        """The events as a Board takes them."""
        times = self.times()
        return Events(times, np.zeros(len(times)), np.zeros(len(times)), (DRIVE,))


@dataclass
class _Plan:
    found: list[Experiment] = field(default_factory=list)

    def add(
        self,
        name: str,
        drive: Drive | None = None,
        windows: Sequence[tuple[float, float]] = ((SETTLE, 1.2),),
        latch: str = "",
        **currents: float,
    ) -> None:
        base = {"i_tau_mem": LEAK, "i_gain_mem": GAIN, "i_spkthr": THRESHOLD, "i_ref": CIRCUIT.width("i_ref", 3e-3)}
        latches = latch_bits(**{name: True for name in ("dc" if "i_dc" in currents else "", latch) if name})
        self.found.append(Experiment(name, {**base, **currents}, tuple(windows), drive, latches))


def _synapse(dendrite: int, level: float, period: float, tau: float, pulse: float = PULSE) -> dict[str, Any]:
    """Currents of a synapse whose mean (in units of the rheobase) is `level` under events every `period` s.

    Mean current: (I_gain/I_τ)·I_w·(1 − e^(−t_pulse/τ))·τ/period.
    """
    name = DENDRITES[dendrite]
    leak = float(CIRCUIT.tau(f"i_tau_{name}", tau))
    weight = WEIGHT / 20 if dendrite == SHUNT else WEIGHT  # else its gain would be near the least there is
    gain = level * RHEOBASE * leak * period / (weight * -np.expm1(-pulse / tau) * tau)
    found = {f"i_tau_{name}": leak, f"i_gain_{name}": float(gain), "i_pulse": CIRCUIT.width("i_pulse", pulse)}
    return {**found, **{f"i_w{bit}": weight for bit in range(4)}}


def experiments() -> list[Experiment]:
    """All experiments; together they fix 22 of the 25 biases (see `calibration`)."""
    plan = _Plan()
    # The membrane: near the rheobase the rate depends on I_τ, far above it on I_dc·I_gain/I_spkthr alone.
    for times in (1.6, 2.5, 5.0, 12.0):
        plan.add(f"dc {times:g}", i_dc=times * RHEOBASE)
    # So strong an input that only the refractory period is left.
    plan.add("refractory", i_dc=100 * RHEOBASE, i_ref=CIRCUIT.width("i_ref", 15e-3))
    # Far below the gain the membrane grows exponentially: the time to threshold counts e-folds from I_o.
    for fold in (8.0, 160.0):
        plan.add(f"growth {fold:g}", i_spkthr=fold * CIRCUIT.i_o, i_gain_mem=20 * GAIN, i_dc=3 * LEAK)
    plan.add("gain", i_gain_mem=10 * GAIN, i_dc=0.4 * RHEOBASE)
    plan.add("slow", i_tau_mem=LEAK / 2, i_dc=1.2 * RHEOBASE)

    steady, slow, decay = 5e-3, 0.25, 40e-3
    pulses = ((0.0, 1.25),)
    for bit in range(4):
        plan.add(f"w{bit}", Drive(AMPA, 1 << bit, steady), **_synapse(AMPA, 6.0, steady, 30e-3))
    for dendrite in (AMPA, NMDA):
        label = DENDRITES[dendrite]
        if dendrite == NMDA:
            plan.add(label, Drive(NMDA, 1, steady), **_synapse(NMDA, 6.0, steady, 30e-3))
        # Rare strong events: the probe fires at its highest rate for τ·ln(ΔI/rheobase).
        for times in (15.0, 60.0):
            name = f"{label} decay {times:g}"
            ref = CIRCUIT.width("i_ref", 5e-3)
            level = times * decay / slow
            plan.add(name, Drive(dendrite, 1, slow), pulses, **_synapse(dendrite, level, slow, decay), i_ref=ref)
    # A pulse as long as the time constant saturates the synapse.
    long = 20e-3
    plan.add("pulse", Drive(AMPA, 1, steady), **_synapse(AMPA, 6.0, steady, 10e-3, pulse=long))
    # Fast synapses, so that the short pulse is told from the long one.
    plan.add("short pulse", Drive(AMPA, 1, steady), **_synapse(AMPA, 6.0, steady, 10e-3))
    for dendrite in (GABA, SHUNT):
        label = DENDRITES[dendrite]
        # Shunts add to the leak: in units of it they are weaker than what adds to the input by threshold/gain.
        unit = THRESHOLD / GAIN if dendrite == SHUNT else 1.0
        slow = 0.15
        for level, dc in ((3.0, 5.0), (1.5, 5.0)):
            currents = _synapse(dendrite, level / unit, steady, 30e-3)
            plan.add(f"{label} {level:g}", Drive(dendrite, 1, steady), i_dc=dc * RHEOBASE, **currents)
        for times in (30.0, 120.0) if dendrite == GABA else (8.0, 25.0):
            name, peak = f"{label} decay {times:g}", times / unit * decay / slow
            currents = _synapse(dendrite, peak, slow, decay)
            plan.add(name, Drive(dendrite, 1, slow), pulses, i_dc=5 * RHEOBASE, **currents)
    # The gate of NMDA is half open where the membrane is at a tenth of its threshold: it opens while it rises.
    gated = _synapse(NMDA, 6.0, steady, 30e-3)
    plan.add("gate", Drive(NMDA, 1, steady), latch="nmda_gate", i_f_nmda=0.1 * THRESHOLD, **gated)

    # Adaptation: the rate at the beginning and when it has settled, for a short and a saturating pulse.
    early = ((0.0, 0.08), (0.08, 0.25), (0.6, 1.2))
    tau = 0.12
    leak = float(CIRCUIT.tau("i_tau_ahp", tau))
    ways = (
        ("adaptation", 1e-4, 1e-9, 0.5),
        ("strong adaptation", 1e-4, 1e-9, 1.5),
        ("adaptation, long pulse", 0.35, 5e-12, 0.5),
    )
    for name, pulse, weight, strength in ways:
        gain = strength * LEAK * leak / (weight * -np.expm1(-pulse / tau))
        plan.add(
            name,
            None,
            early,
            "adaptation",
            i_dc=12 * RHEOBASE,
            i_tau_ahp=leak,
            i_gain_ahp=float(gain),
            i_w_ahp=weight,
            i_pulse_ahp=CIRCUIT.width("i_pulse_ahp", pulse),
        )
    return plan.found


def loud(events: int) -> dict[str, float]:
    """Currents by which a burst of a few events on one full CAM row makes any working neuron fire, and not for long."""
    tau, syn = 10e-3, 4e-3
    leak = float(CIRCUIT.tau("i_tau_ampa", syn))
    peak = 40 / events * float(CIRCUIT.tau("i_tau_mem", tau)) * THRESHOLD / GAIN
    return {
        "i_tau_mem": float(CIRCUIT.tau("i_tau_mem", tau)),
        "i_gain_mem": GAIN,
        "i_spkthr": THRESHOLD,
        "i_ref": CIRCUIT.width("i_ref", 3e-3),
        "i_pulse": CIRCUIT.width("i_pulse", PULSE),
        "i_tau_ampa": leak,
        "i_gain_ampa": float(peak * leak / (4 * WEIGHT * -np.expm1(-PULSE / syn))),
        **{f"i_w{bit}": WEIGHT for bit in range(4)},
    }


def probe_layout(
    n_chips: int,
    codes: np.ndarray,
    latches: int,
    cam: np.ndarray,
    tags: np.ndarray,
    probes: np.ndarray | None = None,
) -> Layout:
    """A Layout of all neurons of `n_chips` chips with CAM rows `cam` (N, 64), and `probes` (N,) monitored (None: all).

    Channel k of the input sends `tags[k, c]` to core c of the stack; `codes` (cores, parameters, 2). Neurons that are no
    probes have no latches either.
    """
    n = n_chips * CORES * SLOTS
    place = np.arange(n)
    heard = np.ones(n, bool) if probes is None else np.asarray(probes, bool)
    sram = np.zeros((n, 4), SRAM_DTYPE)
    sram["tag"][:, 0], sram["cores"][:, 0], sram["x_hop"][:, 0] = place % (CORES * SLOTS), 15, MONITOR_HOP
    sram[~heard] = np.zeros((), SRAM_DTYPE)
    rows = [
        (channel, chip, sum(1 << int(c) for c in np.flatnonzero(sent == tag)), tag)
        for channel, of_channel in enumerate(np.asarray(tags, int).reshape(-1, n_chips, CORES))
        for chip, sent in enumerate(of_channel)
        for tag in np.unique(sent).tolist()
    ]
    channels = len(tags)
    return Layout(
        n_chips=n_chips,
        populations=((PROBE, "LIF", (n,)),),
        chip=place // (CORES * SLOTS),
        core=place // SLOTS % CORES,
        slot=place % SLOTS,
        latches=np.where(heard, latches, 0),
        cam=cam,
        sram=sram,
        codes=codes,
        used_cores=np.ones(n_chips * CORES, bool),
        inputs=(Port(DRIVE, (channels,)),) if channels else (),
        outputs=(Port("output", (n,), PROBE),),
        input_rows=np.array(rows, INPUT_DTYPE),
        projections=((DRIVE, PROBE, "rows"),) if channels else (),
        dt=STEP,
        origin={"source": "calibration"},
    )


def probe_spikes(heard: Events) -> tuple[np.ndarray, np.ndarray]:
    """Time in µs and number of the neuron of every spike of a probe, in order of time."""
    if heard.nodes == (PROBE,):
        return heard.time, heard.index
    mine = heard.node == (heard.nodes.index(PROBE) if PROBE in heard.nodes else -1)
    return heard.time[mine], heard.index[mine]


def one_row(row: np.ndarray, tag: np.ndarray, drive: Drive | None) -> np.ndarray:
    """CAM rows (N, 64) with a single one in use, number `row` (N,) of each neuron (-1: none), that hears `tag` (N,)."""
    cam = np.repeat(UNUSED_CAM, len(row) * ROWS).reshape(-1, ROWS)
    if drive is not None:
        here = np.flatnonzero(row >= 0)
        used = cam[here, row[here]]
        used["tag"], used["dendrite"], used["mask"] = tag[here], drive.dendrite, drive.mask
        cam[here, row[here]] = used
    return cam


def codes_for(currents: dict[str, float], logs: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Codes (cores, parameters, 2) that give `currents` in A on cores whose log scales are `logs` (cores,), and the
    logarithm of what they really give over what was asked for (0 for what is off).
    """
    n_cores = len(next(iter(logs.values())))
    codes, rest = np.zeros((n_cores, len(PARAMETERS), 2), np.uint8), {}
    for name, k in COLUMN.items():
        asked = currents.get(name, PARAMETERS[name].off)
        coarse, fine, _ = nearest_codes(name, asked / np.exp(logs[name]))
        codes[:, k, 0], codes[:, k, 1] = coarse, fine
        given = np.log(current(name, coarse, fine)) + logs[name]
        rest[name] = given - np.log(asked) if name in currents and asked > 0 else np.zeros(n_cores)
    return codes, rest


def off_currents() -> dict[str, float]:
    """The current of every parameter that an experiment does not name."""
    return {name: row.off for name, row in PARAMETERS.items()}
