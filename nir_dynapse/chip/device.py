"""The chip as data: limits, circuit constants, the table of analog parameters and their mismatch.

Everything that another part needs to know about DYNAP-SE2 is here. A chip parameter is one row of `PARAMETERS`;
a device is an instance (`DYNAPSE2`), another size is another instance (`DYNAPSE2.stack(4)`).

Sources: circuit constants as `chip.constants` says of each, bias names from Rockpool's documentation of DynapSim; limits
from the public users of `samna.dynapse2`; scale factors from the public parameter-generator measurements (51-point tables,
condensed to six points of log10 current); mismatch from the raw data of Büchel et al. 2021 (Sci Rep 11:23376).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import numpy as np

from nir_dynapse.chip.constants import CONSTANTS, RECORDED_NOISE, SETS
from nir_dynapse.chip.parameters import (
    AMPA,
    BASE_WEIGHTS,
    COLUMN,
    CURRENTS,
    DEAD_THRESHOLD,
    DELAYS,
    DENDRITE_VALUES,
    DENDRITES,
    GABA,
    LATCH_NAMES,
    LATCHES,
    MAY_BE_ZERO,
    NMDA,
    PARAMETERS,
    SHUNT,
    WEIGHT_GAINS,
    Parameter,
)
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.errors import ConfigurationError, ParameterRangeError, nearest
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


@dataclass(frozen=True)
class Circuit:
    """Constants of the circuits in SI units, with their sources in `chip.constants`.

    Named sets: `Circuit.published`, which `Circuit()` is, and `Circuit.recorded2026`, what recordings of the chip say where
    they contradict it (`nir-dynapse show constants`). Choose one with `DYNAPSE2.with_circuit("recorded2026")`.
    """

    published: ClassVar[Circuit]
    recorded2026: ClassVar[Circuit]

    c_mem: float = CONSTANTS["c_mem"].value
    c_ampa: float = CONSTANTS["c_ampa"].value
    c_nmda: float = CONSTANTS["c_nmda"].value
    c_gaba: float = CONSTANTS["c_gaba"].value
    c_shunt: float = CONSTANTS["c_shunt"].value
    c_ahp: float = CONSTANTS["c_ahp"].value
    c_pulse: float = CONSTANTS["c_pulse"].value
    c_ref: float = CONSTANTS["c_ref"].value
    c_delay: float = CONSTANTS["c_delay"].value
    kappa_n: float = CONSTANTS["kappa_n"].value
    kappa_p: float = CONSTANTS["kappa_p"].value
    u_t: float = CONSTANTS["u_t"].value
    v_th: float = CONSTANTS["v_th"].value
    i_o: float = CONSTANTS["i_o"].value
    buffer_gain: float = CONSTANTS["buffer_gain"].value
    buffer_offset: float = CONSTANTS["buffer_offset"].value

    def __repr__(self) -> str:
        if self.name != "other":
            return f"Circuit({self.name})"
        given = ((f.name, getattr(self, f.name)) for f in fields(self))
        changed = [f"{name} {value:g}" for name, value in given if value != CONSTANTS[name].value]
        return f"Circuit(published, but {', '.join(changed)})"

    @property
    def name(self) -> str:
        """The name of the set that these constants are, "other" where they are none."""
        return next((name for name in SETS if self == getattr(Circuit, name)), "other")

    @classmethod
    def named(cls, name: str) -> Circuit:
        """The set of this name (ParameterRangeError for others)."""
        if name not in SETS:
            raise ParameterRangeError(
                f"Circuit: no set of constants is called {shown(name)}. {nearest(str(name), SETS)}"
            )
        return getattr(cls, name)

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

    def v_mem(self, i_mem):
        """Membrane voltage in V behind its buffer at a membrane current `i_mem` in A, 0 V at reset with the usual buffer.

        V = buffer_offset + buffer_gain·(U_T/κ_n)·ln(I_mem/I_o): I_mem flows through an n-type transistor in subthreshold
        whose gate is the membrane (Chicca et al. 2014, Proc. IEEE 102:1367), so κ is κ_n.
        """
        return self.buffer_offset + self.buffer_gain * (self.u_t / self.kappa_n) * np.log(i_mem / self.i_o)


for _name, _rows in SETS.items():
    setattr(Circuit, _name, Circuit(**{row.name: row.value for row in _rows.values()}))


@dataclass(frozen=True)
class Mismatch:
    """How much the analog elements of one chip differ: one CV (std / mean) per parameter, log-normal with mean 1.

    The defaults are those of `PARAMETERS`, which follow measurements of 256 neurons per bias setting (Büchel et al.
    2021): membrane time constant 0.18–0.21, height of a synaptic potential 0.15–0.27 (robust estimates) as the product
    of gain, leak, pulse and weight transistors. `cv` overrides single parameters by name; `synapse` is the CV of each
    transistor of a CAM row. The CVs of `DELAYS` (assumed) act on the delay of each CAM row.

    Off unless asked for: `noise`, the standard deviation of the stationary fluctuation of the membrane as a fraction of
    the threshold (recordings support 0.0002 to 0.001; `Mismatch.recorded2026` is the default with 0.0005); `spike_loss`,
    the probability that an event of a neuron is lost; `dead_neurons` and `dead_rows`, the fractions of neurons that never
    spike and of CAM rows without weight, fixed by place like every factor.
    """

    recorded2026: ClassVar[Mismatch]

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
        hint = "Give the standard deviation as a fraction of the threshold, e.g. 0.0005."
        NOISE.check("Mismatch", "noise", self.noise, hint)
        for name in ("spike_loss", "dead_neurons", "dead_rows"):
            PART.check("Mismatch", name, getattr(self, name), "Give a fraction, e.g. 0.01 for one in a hundred.")

    @classmethod
    def uniform(cls, cv: float, **others: float) -> Mismatch:
        """The same CV for every parameter and every weight transistor, for comparison with the literature.

        `others` are further fields, e.g. `Mismatch.uniform(0.2, noise=0.0005)`.
        """
        return cls(**{"cv": tuple((name, cv) for name in CURRENTS), "synapse": cv, **others})

    @classmethod
    def none(cls) -> Mismatch:
        """No mismatch: the nominal chip."""
        return cls.uniform(0.0)


Mismatch.recorded2026 = Mismatch(noise=RECORDED_NOISE.value)


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
    circuit: Circuit = Circuit.published
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
        usual |= {"mismatch": Mismatch()}
        changed = [f"other {name}" for name, value in usual.items() if getattr(self, name) != value]
        if self.circuit.name != "other":
            changed = [f"circuit {self.circuit.name}" if what == "other circuit" else what for what in changed]
        return f"Device({'; '.join([self.name, chips, *([f'profiles {known}'] if known else []), *changed])})"

    def stack(self, n_chips: int) -> Device:
        """The same device with `n_chips` chips in a row (1 to 8)."""
        return replace(self, n_chips=n_chips)

    def with_circuit(self, circuit: Circuit | str) -> Device:
        """The same device with other circuit constants, or those of a named set ("published", "recorded2026")."""
        return replace(self, circuit=Circuit.named(circuit) if isinstance(circuit, str) else circuit)

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
