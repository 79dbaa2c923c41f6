"""The constants of the circuits, each with where it comes from and how certain it is; `chip.device.Circuit` takes them.

`PUBLISHED` are those of Rockpool's documentation of DynapSim and what had to be assumed beside them. `RECORDED_2026` are
those that public recordings of the chip contradict, as of November 2026 (docs/silicon.md): nothing else is changed.

Certainty: `high` known from physics, or by definition; `medium` published, or recorded on one chip, and nothing public
contradicts it; `low` published, but recordings or other publications contradict it or leave it open by a factor; `assumed`
nothing is public.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CONSTANTS", "PUBLISHED", "RECORDED_2026", "RECORDED_NOISE", "SETS", "Constant"]

Certainty = Literal["high", "medium", "low", "assumed"]


@dataclass(frozen=True)
class Constant:
    """One constant: its value in `unit` (SI), what it is, where it comes from and how certain that is."""

    name: str
    value: float
    unit: str
    meaning: str
    source: str
    certainty: Certainty


DOCUMENTED = "documentation of DynapSim (Rockpool)"

PUBLISHED: tuple[Constant, ...] = (
    Constant(
        "c_mem",
        3e-12,
        "F",
        "membrane capacitor",
        f"{DOCUMENTED}; Open Neuromorphic states 7.7 pF, recordings leave the time constant open by a factor of 1 to 13",
        "low",
    ),
    Constant(
        "c_ampa",
        24.5e-12,
        "F",
        "AMPA capacitor",
        f"{DOCUMENTED}; within a factor of 2 of what a laboratory notes",
        "medium",
    ),
    Constant("c_nmda", 25e-12, "F", "NMDA capacitor", f"{DOCUMENTED}; no recording tests it", "medium"),
    Constant("c_gaba", 25e-12, "F", "GABA capacitor", f"{DOCUMENTED}; no recording tests it", "medium"),
    Constant("c_shunt", 24.5e-12, "F", "SHUNT capacitor", f"{DOCUMENTED}; no recording tests it", "medium"),
    Constant("c_ahp", 40e-12, "F", "adaptation capacitor", f"{DOCUMENTED}; no recording tests it", "medium"),
    Constant(
        "c_pulse", 0.5e-12, "F", "capacitor of both pulse widths", f"{DOCUMENTED}; no recording tests it", "medium"
    ),
    Constant(
        "c_ref",
        1.5e-12,
        "F",
        "refractory capacitor",
        f"{DOCUMENTED}; highest rates of three recorded populations are half of what it gives",
        "low",
    ),
    Constant(
        "c_delay",
        0.5e-12,
        "F",
        "capacitor of both delays",
        "taken equal to c_pulse, no calibration is public",
        "assumed",
    ),
    Constant("kappa_n", 0.75, "", "slope factor of n-type transistors", DOCUMENTED, "medium"),
    Constant("kappa_p", 0.66, "", "slope factor of p-type transistors", DOCUMENTED, "medium"),
    Constant("u_t", 25e-3, "V", "thermal voltage, k·T/q at 17 °C", DOCUMENTED, "high"),
    Constant("v_th", 0.7, "V", "switching voltage of pulses, delays and the refractory period", DOCUMENTED, "medium"),
    Constant("i_o", 0.5e-12, "A", "dark current of a transistor: the membrane current at reset", DOCUMENTED, "medium"),
    Constant(
        "buffer_gain",
        1.0,
        "",
        "gain of the buffer that shows a membrane voltage to the outside",
        "what laboratories compute with; no measurement is public",
        "assumed",
    ),
    Constant(
        "buffer_offset",
        0.0,
        "V",
        "output of that buffer at a membrane voltage of 0 V",
        "differs from board to board, no measurement is public",
        "assumed",
    ),
)
"""Every constant of `Circuit`, as published or assumed."""

RECORDED_2026: tuple[Constant, ...] = (
    Constant(
        "c_ref",
        2.36 * 1.5e-12,
        "F",
        "refractory capacitor",
        "2.36 times the published one: F-I curves of 750 neurons at known codes, Aramatos/dynapse2_adaptation, F-I.ipynb; "
        "1.5 to 2.4 times if charging is slower, too",
        "medium",
    ),
)
"""The constants that recordings contradict, with the values that they ask for."""

RECORDED_NOISE = Constant(
    "noise",
    5e-4,
    "",
    "standard deviation of the membrane's fluctuation in thresholds (Mismatch.noise)",
    "0.0002 to 0.001 give the jitter of 16 us of first spikes in two runs of one network, Aramatos/dynapse2_adaptation, "
    "combined_data.csv",
    "medium",
)
"""Membrane noise that a recording supports; what `Mismatch.recorded2026` adds."""

CONSTANTS: dict[str, Constant] = {row.name: row for row in PUBLISHED}
"""`PUBLISHED` by name."""

SETS: dict[str, dict[str, Constant]] = {
    "published": CONSTANTS,
    "recorded2026": CONSTANTS | {row.name: row for row in RECORDED_2026},
}
"""Sets of constants by name: constant -> its row."""
