"""The table of analog parameters of a core and the names of what a neuron has; `chip.device` hands them on.

A chip parameter is one row of `PARAMETERS`: adding one there is all that reading, writing, mismatch and reports need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AMPA",
    "BASE_WEIGHTS",
    "COLUMN",
    "CURRENTS",
    "DEAD_THRESHOLD",
    "DELAYS",
    "DENDRITES",
    "DENDRITE_VALUES",
    "GABA",
    "LATCHES",
    "LATCH_NAMES",
    "MAY_BE_ZERO",
    "NMDA",
    "PARAMETERS",
    "SCALES",
    "SCALE_CURRENTS",
    "SHUNT",
    "WEIGHT_GAINS",
    "Parameter",
]

DENDRITES: tuple[str, ...] = ("ampa", "nmda", "gaba", "shunt")
"""The four dendritic DPI synapses; the index in this tuple is the dendrite code used in arrays."""

AMPA, NMDA, GABA, SHUNT = range(len(DENDRITES))

WEIGHT_GAINS: tuple[str, ...] = tuple(f"i_gain_{name}" for name in DENDRITES)
"""The gains of the dendrites: what a core sets for its own weights, whatever its bias group."""

DENDRITE_VALUES: tuple[int, ...] = (1024, 256, 512, 128, 0)
"""samna's value of each dendrite in the order of `DENDRITES`; the last one (index -1) is an unused row."""

LATCH_NAMES: dict[str, str] = {
    "dc": "latch_so_dc",
    "adaptation": "latch_so_adaptation",
    "nmda_gate": "latch_denm_nmda",
    "exponential": "latch_soif_type",
}
"""The per-neuron latches of the model and samna's names for them."""

LATCHES: tuple[str, ...] = tuple(LATCH_NAMES)
"""The latches in the order of their bits."""

# Reference currents (A) at which the mirror scale factors below were measured.
SCALE_CURRENTS = (1.9e-12, 36e-12, 0.69e-9, 13e-9, 0.25e-6, 10e-6)
# Mirror geometry -> factor of the bias generator's current at each of SCALE_CURRENTS: the factor is not a constant.
SCALES: dict[str, tuple[float, ...]] = {
    "P3x1": (0.756, 0.198, 0.153, 0.142, 0.129, 0.113),
    "P1x2": (0.907, 0.692, 0.676, 0.673, 0.668, 0.694),
    "P1.92x1": (1.03, 0.254, 0.211, 0.202, 0.192, 0.181),
    "N5.6x6": (0.744, 0.615, 0.612, 0.631, 0.611, 0.547),
    "Ps2": (0.82, 0.40, 0.37, 0.36, 0.35, 0.34),
    "Ns3": (1.01, 1.05, 1.06, 1.06, 1.07, 1.02),
    "Ns2": (0.98, 0.92, 0.91, 0.91, 0.91, 0.97),
    "P2x1": (1.03, 0.247, 0.204, 0.195, 0.184, 0.174),
    "Ps.25": (1.6, 1.6, 1.6, 1.6, 1.6, 1.6),
}

Kind = Literal["tau", "gain", "pulse", "current", "weight"]


@dataclass(frozen=True)
class Parameter:
    """One analog parameter of a core.

    `kind` says what the current means: `tau` a leak (τ = C·U_T/(κ·I)), `gain` the gain current that goes with the leak
    of the same name (g = I_gain/I_τ), `pulse` a width (t = V_th·C/I), `current` itself, `weight` a base weight current.
    `capacitor` names the field of `Circuit` for `tau` and `pulse`. `off` is the current in A that disables the circuit
    (used where a network does not ask for it). `cv` is the default mismatch (std / mean).
    """

    name: str
    bias: str
    geometry: str
    kind: Kind
    meaning: str
    off: float
    cv: float
    capacitor: str = ""

    @property
    def transistor(self) -> Literal["N", "P"]:
        """Transistor type of the bias generator branch: the last letter of the bias name."""
        return "N" if self.bias.endswith("N") else "P"


def _table() -> dict[str, Parameter]:
    dpi = {
        "ampa": ("DEAM_ETAU_P", "DEAM_EGAIN_P"),
        "nmda": ("DENM_ETAU_P", "DENM_EGAIN_P"),
        "gaba": ("DEGA_ITAU_P", "DEGA_IGAIN_P"),
        "shunt": ("DESC_ITAU_P", "DESC_IGAIN_P"),
    }
    fast_leak, no_gain = 1e-7, 1e-12  # a DPI with τ of 9 µs and next to no gain: an unused dendrite stays silent
    no_delay = 1e-7  # 3.5 µs
    rows = [
        Parameter("i_tau_mem", "SOIF_LEAK_N", "N5.6x6", "tau", "membrane leak", 5.3e-12, 0.20, "c_mem"),
        Parameter("i_gain_mem", "SOIF_GAIN_N", "Ns3", "gain", "membrane gain", 5e-12, 0.08),
        Parameter("i_spkthr", "SOIF_SPKTHR_P", "Ps2", "current", "spike threshold", 5e-9, 0.08),
        Parameter("i_ref", "SOIF_REFR_N", "Ns3", "pulse", "refractory period", 1.05e-9, 0.10, "c_ref"),
        Parameter("i_dc", "SOIF_DC_P", "Ps2", "current", "constant input current", 0.0, 0.15),
    ]
    for name, (tau, gain) in dpi.items():
        label = name.upper()
        rows.append(Parameter(f"i_tau_{name}", tau, "P3x1", "tau", f"{label} leak", fast_leak, 0.08, f"c_{name}"))
        rows.append(Parameter(f"i_gain_{name}", gain, "P1x2", "gain", f"{label} gain", no_gain, 0.10))
    rows += [
        Parameter("i_f_nmda", "DENM_NMREV_N", "Ns3", "current", "NMDA gate: half-opening membrane current", 0.0, 0.15),
        Parameter("i_pulse", "SYPD_EXT_N", "Ns2", "pulse", "synaptic pulse width", 3.5e-8, 0.08, "c_pulse"),
    ]
    rows += [
        Parameter(f"i_w{bit}", f"SYAM_W{bit}_P", "P1.92x1", "weight", f"base weight current, mask bit {bit}", 0.0, 0.10)
        for bit in range(4)
    ]
    rows += [
        Parameter("i_tau_ahp", "SOAD_TAU_P", "P3x1", "tau", "adaptation leak", fast_leak, 0.15, "c_ahp"),
        Parameter("i_gain_ahp", "SOAD_GAIN_P", "P1x2", "gain", "adaptation gain", no_gain, 0.15),
        Parameter("i_w_ahp", "SOAD_W_N", "Ns2", "current", "adaptation weight", 0.0, 0.15),
        Parameter("i_pulse_ahp", "SOAD_PWTAU_N", "Ns2", "pulse", "adaptation pulse width", 3.5e-7, 0.10, "c_pulse"),
    ]
    # Last, so that the numbers of the elements above (`sim.mismatch`) stay what they were. The law t = V_th·C/I and the
    # capacitor are an assumption by analogy with the pulse extender: no calibration of the delays is public. The base
    # delay SYPD_DLY0_P, which every row has, is not modelled.
    rows += [
        Parameter("i_delay_precise", "SYPD_DLY1_P", "P2x1", "pulse", "precise delay", no_delay, 0.10, "c_delay"),
        Parameter("i_delay_mismatched", "SYPD_DLY2_P", "Ps.25", "pulse", "mismatched delay", no_delay, 0.50, "c_delay"),
    ]
    return {row.name: row for row in rows}


PARAMETERS: dict[str, Parameter] = _table()
"""All analog parameters that the package models and writes, by name, in the order of the arrays of codes."""

COLUMN: dict[str, int] = {name: k for k, name in enumerate(PARAMETERS)}
"""The place of each parameter in arrays of codes."""

BASE_WEIGHTS: tuple[str, ...] = tuple(name for name, row in PARAMETERS.items() if row.kind == "weight")
"""The four base weight currents; bit b of a CAM row's mask selects `BASE_WEIGHTS[b]`."""

CURRENTS: tuple[str, ...] = tuple(name for name, row in PARAMETERS.items() if row.kind != "weight")
"""All bias currents but the base weights: what a bias group holds."""

MAY_BE_ZERO: tuple[str, ...] = ("i_dc", "i_f_nmda", "i_w_ahp")
"""The bias currents that may be 0 A; all others must be positive."""

DELAYS: tuple[str, ...] = ("i_delay_precise", "i_delay_mismatched")
"""The two delays; bit b of the delay flags of a CAM row adds `DELAYS[b]`."""

DEAD_THRESHOLD = 1.0
"""Threshold in A of a neuron that does not work: no membrane reaches it."""
