"""The chip as data: limits, circuit constants, the table of analog parameters and their mismatch.

Everything that another part needs to know about DYNAP-SE2 is here. A chip parameter is one row of `PARAMETERS`;
a device is an instance (`DYNAPSE2`), another size is another instance (`DYNAPSE2.stack(4)`).

Sources: circuit constants and the bias names from Rockpool's documentation of DynapSim; limits from the public
users of `samna.dynapse2`; scale factors from the public parameter-generator measurements (51-point tables,
condensed to six points of log10 current); mismatch from the raw data of Büchel et al. 2021 (Sci Rep 11:23376).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np

from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.files.numbers import CV, NOISE, PART, shown

__all__ = [
    "AMPA",
    "BASE_WEIGHTS",
    "COLUMN",
    "CURRENTS",
    "DEAD_THRESHOLD",
    "DELAYS",
    "DENDRITES",
    "DENDRITE_VALUES",
    "DYNAPSE2",
    "GABA",
    "LATCHES",
    "LATCH_NAMES",
    "MAY_BE_ZERO",
    "NMDA",
    "PARAMETERS",
    "SHUNT",
    "WEIGHT_GAINS",
    "Circuit",
    "Device",
    "Mismatch",
    "Parameter",
    "check_mismatch",
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


@dataclass(frozen=True)
class Circuit:
    """Constants of the circuits: capacitors in F, I_o in A, U_T and V_th in V, κ without unit."""

    c_mem: float = 3e-12
    c_ampa: float = 24.5e-12
    c_nmda: float = 25e-12
    c_gaba: float = 25e-12
    c_shunt: float = 24.5e-12
    c_ahp: float = 40e-12
    c_pulse: float = 0.5e-12
    c_ref: float = 1.5e-12
    c_delay: float = 0.5e-12  # assumed equal to c_pulse, not measured
    kappa_n: float = 0.75
    kappa_p: float = 0.66
    u_t: float = 25e-3
    v_th: float = 0.7
    i_o: float = 0.5e-12

    @property
    def kappa(self) -> float:
        """κ = (κ_n + κ_p)/2."""
        return (self.kappa_n + self.kappa_p) / 2

    def tau(self, name: str, current):
        """Time constant in s of leak `name` at `current` in A: τ = C·U_T/(κ·I). Its own inverse."""
        return getattr(self, PARAMETERS[name].capacitor) * self.u_t / (self.kappa * current)

    def width(self, name: str, current):
        """Pulse, refractory or delay time in s of parameter `name` at `current` in A: t = V_th·C/I. Its own inverse."""
        return self.v_th * getattr(self, PARAMETERS[name].capacitor) / current


@dataclass(frozen=True)
class Mismatch:
    """How much the analog elements of one chip differ: one CV (std / mean) per parameter, log-normal with mean 1.

    The defaults are those of `PARAMETERS`, which follow measurements of 256 neurons per bias setting (Büchel et al.
    2021): membrane time constant 0.18–0.21, height of a synaptic potential 0.15–0.27 (robust estimates) as the product
    of gain, leak, pulse and weight transistors. `cv` overrides single parameters by name; `synapse` is the CV of each
    transistor of a CAM row. The CVs of `DELAYS` (assumed) act on the delay of each CAM row.

    Off unless asked for: `noise`, the standard deviation of the stationary fluctuation of the membrane as a fraction of
    the threshold; `spike_loss`, the probability that an event of a neuron is lost; `dead_neurons` and `dead_rows`, the
    fractions of neurons that never spike and of CAM rows without weight, fixed by place like every factor.
    """

    cv: tuple[tuple[str, float], ...] = tuple(
        (name, row.cv) for name, row in PARAMETERS.items() if row.kind != "weight"
    )
    synapse: float = PARAMETERS["i_w0"].cv
    noise: float = 0.0
    spike_loss: float = 0.0
    dead_neurons: float = 0.0
    dead_rows: float = 0.0

    def __repr__(self) -> str:
        spread = sorted({cv for _, cv in self.cv} or {0.0})
        others = (f.name for f in fields(self) if f.name != "cv")
        listed = [f"{name} {getattr(self, name):g}" for name in others if name == "synapse" or getattr(self, name)]
        cv = f"CV {spread[0]:g}" + (f" to {spread[-1]:g}" if len(spread) > 1 else "")
        return f"Mismatch({', '.join([cv, *listed])})"

    def __post_init__(self) -> None:
        if isinstance(self.cv, dict):
            object.__setattr__(self, "cv", tuple(self.cv.items()))
        for name, value in (*self.cv, ("synapse", self.synapse)):
            if name != "synapse" and name not in CURRENTS:
                raise ParameterRangeError(
                    f"Mismatch: unknown parameter {name!r}. Known parameters: {', '.join(CURRENTS)}."
                )
            CV.check("Mismatch", f"CV of {name}", value, "Give std / mean, e.g. 0.2.")
        hint = "Give the standard deviation as a fraction of the threshold, e.g. 0.02."
        NOISE.check("Mismatch", "noise", self.noise, hint)
        for name in ("spike_loss", "dead_neurons", "dead_rows"):
            PART.check("Mismatch", name, getattr(self, name), "Give a fraction, e.g. 0.01 for one in a hundred.")

    @classmethod
    def uniform(cls, cv: float, **others: float) -> Mismatch:
        """The same CV for every parameter and every weight transistor, for comparison with the literature.

        `others` are further fields, e.g. `Mismatch.uniform(0.2, noise=0.02)`.
        """
        return cls(**{"cv": tuple((name, cv) for name in CURRENTS), "synapse": cv, **others})

    @classmethod
    def none(cls) -> Mismatch:
        """No mismatch: the nominal chip."""
        return cls.uniform(0.0)


def check_mismatch(who: str, mismatch: Mismatch | None) -> None:
    """ConfigurationError where `mismatch` is neither None nor a Mismatch."""
    if mismatch is not None and not isinstance(mismatch, Mismatch):
        raise ConfigurationError(
            f"{who}: mismatch is a {type(mismatch).__name__}. Give a Mismatch, e.g. Mismatch.uniform(0.2)."
        )


@dataclass(frozen=True)
class Device:
    """Limits and geometry of a board: chips in a row, four cores each."""

    name: str = "DYNAP-SE2"
    n_chips: int = 1
    cores_per_chip: int = 4
    neurons_per_core: int = 256
    cam_rows: int = 64
    sram_rows: int = 4
    n_tags: int = 2048
    first_tag: int = 1024
    max_hop: int = 7
    max_stack: int = 8
    coarse_codes: int = 6
    fine_codes: int = 256
    weight_top: float = 4e-7
    circuit: Circuit = field(default_factory=Circuit)
    mismatch: Mismatch = field(default_factory=Mismatch)
    profiles: tuple[ChipProfile | None, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.n_chips, int) or not 1 <= self.n_chips <= self.max_stack:
            raise ParameterRangeError(
                f"Device {self.name}: {shown(self.n_chips)} chips asked for, a stack holds 1 to {self.max_stack} "
                f"(hops reach ±{self.max_hop}). Choose a number of chips in that range."
            )
        if len(self.profiles) > self.n_chips:
            raise ParameterRangeError(
                f"Device {self.name}: {len(self.profiles)} chip profiles for {self.n_chips} chip(s). Give one per chip, or "
                "use a stack of as many chips (DYNAPSE2.stack(n), --chips n)."
            )
        for chip, profile in self._known():
            if strange := sorted({*profile.scales, *profile.factors} - {*PARAMETERS}):
                raise ConfigurationError(
                    f"Device {self.name}, chip {chip}: profile '{profile.name}' has scales or factors of "
                    f"{', '.join(strange)}, known parameters are {', '.join(PARAMETERS)}. Rename or remove them."
                )

    def __repr__(self) -> str:
        chips = "1 chip" if self.n_chips == 1 else f"{self.n_chips} chips"
        known = ", ".join(f"{chip}: {profile.name!r}" for chip, profile in self._known())
        usual = {f.name: f.default for f in fields(Device) if f.name not in ("name", "n_chips", "profiles")}
        usual |= {"circuit": Circuit(), "mismatch": Mismatch()}
        changed = [f"other {name}" for name, value in usual.items() if getattr(self, name) != value]
        return f"Device({'; '.join([self.name, chips, *([f'profiles {known}'] if known else []), *changed])})"

    def stack(self, n_chips: int) -> Device:
        """The same device with `n_chips` chips in a row (1 to 8)."""
        return replace(self, n_chips=n_chips)

    def with_profiles(self, *profiles: ChipProfile | None) -> Device:
        """The same device with a profile of what works and what was measured for chip 0, 1, … (None: nominal)."""
        return replace(self, profiles=profiles)

    def profile(self, chip: int) -> ChipProfile | None:
        """The profile of a chip; None where everything works."""
        return self.profiles[chip] if chip < len(self.profiles) else None

    def usable_tags(self, chip: int) -> np.ndarray:
        """Boolean (cores, tags): the tags that each core of a chip can be reached by."""
        profile = self.profile(chip)
        return np.ones((self.cores_per_chip, self.n_tags), bool) if profile is None else profile.tags

    def _known(self) -> list[tuple[int, ChipProfile]]:
        """The chips that have a profile."""
        return [(chip, profile) for chip, profile in enumerate(self.profiles) if profile is not None]

    @property
    def has_scales(self) -> bool:
        """Whether the currents of some core are known to differ from those of the nominal bias generator."""
        return any(profile.scales for _, profile in self._known())

    def scale(self, name: str) -> np.ndarray:
        """(n_cores,): the current that flows over the nominal current of its code, for parameter `name`; 1 if unknown."""
        result, name = np.ones((self.n_chips, self.cores_per_chip)), _known_parameter(name)
        for chip, profile in self._known():
            result[chip] = profile.scales.get(name, 1.0)
        return result.reshape(-1)

    def factors(self, name: str, place: np.ndarray) -> np.ndarray:
        """(n,): current of parameter `name` in the neuron at `place` (n, 3) over the mean of its core; 1 if unknown."""
        result, name = np.ones(len(place)), _known_parameter(name)
        for chip, profile in self._known():
            if (known := profile.factors.get(name)) is not None:
                here = place[:, 0] == chip
                result[here] = known[place[here, 1], place[here, 2]]
        return result

    @property
    def n_cores(self) -> int:
        return self.n_chips * self.cores_per_chip

    @property
    def neurons_per_chip(self) -> int:
        return self.cores_per_chip * self.neurons_per_core

    @property
    def n_neurons(self) -> int:
        return self.n_chips * self.neurons_per_chip

    def tag_order(self) -> np.ndarray:
        """All tags in order of preference: from `first_tag` upwards, then from 0 (low tags fail more often on silicon)."""
        return np.r_[np.arange(self.first_tag, self.n_tags), np.arange(self.first_tag)]


def _known_parameter(name: str) -> str:
    if name not in PARAMETERS:
        raise ParameterRangeError(f"Device: unknown parameter {name!r}. Known parameters: {', '.join(PARAMETERS)}.")
    return name


DYNAPSE2 = Device()
"""One DYNAP-SE2 chip with nominal circuit constants and measured mismatch."""
