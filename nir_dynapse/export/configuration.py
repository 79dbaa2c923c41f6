"""Plain configuration classes with the attribute names of `samna.dynapse2`, for machines without samna.

Names, ranges and the 52 core biases follow the users of samna (facts/samna_dynapse2_contract.md §4); only what a chip
needs to compute is here (no monitors, converters, sensor interface). Bias defaults are not public: they start at (0, 0).
Assign complete lists of rows, as with samna: unused rows of a fresh neuron are one shared object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

__all__ = [
    "CORE_BIASES",
    "Dendrite",
    "Dynapse2Chip",
    "Dynapse2Configuration",
    "Dynapse2Core",
    "Dynapse2Destination",
    "Dynapse2Neuron",
    "Dynapse2Parameter",
    "Dynapse2Synapse",
]

CORES, NEURONS, CAM_ROWS, SRAM_ROWS = 4, 256, 64, 4

BLOCKS: dict[str, tuple[str, ...]] = {
    "SOIF": ("GAIN_N", "LEAK_N", "REFR_N", "DC_P", "SPKTHR_P", "CC_N"),
    "SOAD": ("PWTAU_N", "GAIN_P", "TAU_P", "W_N", "CASC_P"),
    "SOCA": ("W_N", "GAIN_P", "TAU_P"),
    "SOHO": ("VB_P", "VH_P", "VREF_P", "VREF_L_P", "VREF_M_P", "VREF_H_P", "VRST_P"),
    "DEAM": ("ETAU_P", "EGAIN_P", "ITAU_P", "IGAIN_P", "REV_N", "VRES_P", "HRES_P", "NRES_P"),
    "DENM": ("ETAU_P", "EGAIN_P", "ITAU_P", "IGAIN_P", "REV_N", "NMREV_N"),
    "DEGA": ("ITAU_P", "IGAIN_P", "REV_P"),
    "DESC": ("ITAU_P", "IGAIN_P"),
    "SYAM": ("W0_P", "W1_P", "W2_P", "W3_P", "STDW_N"),
    "SYAW": ("STDSTR_N",),
    "SYPD": ("EXT_N", "DLY0_P", "DLY1_P", "DLY2_P"),
    "SYSA": ("VRES_N", "VB_P"),
}
CORE_BIASES: tuple[str, ...] = tuple(f"{block}_{name}" for block, names in BLOCKS.items() for name in names)
"""The names of all biases of a core (52)."""


class Dendrite(IntEnum):
    """Where a CAM row injects its current; the value is the bit in the CAM word."""

    none = 0
    shunt = 128
    nmda = 256
    gaba = 512
    ampa = 1024


@dataclass(slots=True)
class Dynapse2Synapse:
    """A CAM row: tag 0..2047, dendrite, weight mask (4 booleans, bit i selects SYAM_Wi_P), STP and the two delay flags."""

    tag: int = 0
    dendrite: Dendrite = Dendrite.none
    weight: list[bool] = field(default_factory=lambda: [False] * 4)
    stp: bool = False
    precise_delay: bool = False
    mismatched_delay: bool = False


@dataclass(slots=True)
class Dynapse2Destination:
    """An SRAM row: core mask (4 booleans), hops -7..7, tag 0..2047."""

    core: list[bool] = field(default_factory=lambda: [False] * 4)
    x_hop: int = 0
    y_hop: int = 0
    tag: int = 0


@dataclass(slots=True)
class Dynapse2Parameter:
    """A bias: coarse 0..5, fine 0..255, transistor type "N" or "P"."""

    coarse_value: int = 0
    fine_value: int = 0
    type: str = "P"


@dataclass(slots=True)
class Dynapse2Neuron:
    """64 CAM rows, 4 SRAM rows and the 14 latches of a neuron."""

    synapses: list[Dynapse2Synapse] = field(default_factory=lambda: [Dynapse2Synapse()] * CAM_ROWS, repr=False)
    destinations: list[Dynapse2Destination] = field(
        default_factory=lambda: [Dynapse2Destination()] * SRAM_ROWS, repr=False
    )
    latch_so_dc: bool = False
    latch_so_adaptation: bool = False
    latch_soif_kill: bool = False
    latch_soif_type: bool = False
    latch_coho_ca_mem: bool = False
    latch_ho_enable: bool = False
    latch_ho_active: bool = False
    latch_ho_so_de: bool = False
    latch_denm_nmda: bool = False
    latch_deam_ampa: bool = False
    latch_de_conductance: bool = False
    latch_deam_alpha: bool = False
    latch_denm_alpha: bool = False
    latch_de_mux: bool = False


def _neurons() -> list[Dynapse2Neuron]:
    return [Dynapse2Neuron() for _ in range(NEURONS)]


def _parameters() -> dict[str, Dynapse2Parameter]:
    return {name: Dynapse2Parameter(type=name[-1]) for name in CORE_BIASES}


@dataclass(slots=True)
class Dynapse2Core:
    """256 neurons, the biases by name, and which neuron's membrane is monitored."""

    neurons: list[Dynapse2Neuron] = field(default_factory=_neurons, repr=False)
    parameters: dict[str, Dynapse2Parameter] = field(default_factory=_parameters, repr=False)
    neuron_monitoring_on: bool = False
    monitored_neuron: int = 0


@dataclass(slots=True)
class Dynapse2Chip:
    """Four cores."""

    cores: list[Dynapse2Core] = field(default_factory=lambda: [Dynapse2Core() for _ in range(CORES)])

    def __repr__(self) -> str:
        return f"Dynapse2Chip({len(self.cores)} cores)"


@dataclass(slots=True, init=False)
class Dynapse2Configuration:
    """`n_chips` chips in a row; `names` is what `to_samna` leaves for `from_samna` (None: nothing known)."""

    chips: list[Dynapse2Chip]
    names: dict[str, Any] | None

    def __init__(self, n_chips: int = 1) -> None:
        self.chips = [Dynapse2Chip() for _ in range(n_chips)]
        self.names = None

    def __repr__(self) -> str:
        return f"Dynapse2Configuration({len(self.chips)} chips, {'with' if self.names else 'without'} names)"
