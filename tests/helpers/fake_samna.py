"""A fake of `samna.dynapse2`'s configuration classes: the contract's names, types, ranges and value semantics.

Unlike our plain classes it validates every assignment, takes no arguments, copies the rows that it is given, has four
chips by default, the sections that a Layout does not own, and a dendrite enum that is no integer (as pybind's are).
"""

from __future__ import annotations

import copy
from enum import Enum
from typing import Any


class Dendrite(Enum):
    none = 0
    shunt = 128
    nmda = 256
    gaba = 512
    ampa = 1024


def _integer(low: int, high: int):
    def check(value: Any) -> int:
        if not isinstance(value, int) or not low <= value <= high:
            raise TypeError(f"incompatible value {value!r}")
        return int(value)

    return check


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"incompatible value {value!r}")
    return value


def _booleans(value: Any) -> list[bool]:
    if not isinstance(value, list) or len(value) != 4:
        raise TypeError("four booleans are needed")
    return [_boolean(v) for v in value]


def _dendrite(value: Any) -> Dendrite:
    if not isinstance(value, Dendrite):
        raise TypeError(f"incompatible dendrite {value!r}")
    return value


class _Checked:
    """Attributes are those of `RULES`, each with the check that every assignment goes through."""

    __slots__ = ()
    RULES: dict[str, tuple[Any, Any]] = {}  # noqa: RUF012 - name -> (default, check)

    def __init__(self) -> None:
        for name, (default, _) in self.RULES.items():
            object.__setattr__(self, name, copy.copy(default))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.RULES:
            raise AttributeError(f"{type(self).__name__} object has no attribute {name!r}")
        object.__setattr__(self, name, self.RULES[name][1](value))


class Dynapse2Synapse(_Checked):
    RULES = {  # noqa: RUF012
        "tag": (0, _integer(0, 2047)),
        "dendrite": (Dendrite.none, _dendrite),
        "weight": ([False] * 4, _booleans),
        "stp": (False, _boolean),
        "precise_delay": (False, _boolean),
        "mismatched_delay": (False, _boolean),
    }
    __slots__ = tuple(RULES)


class Dynapse2Destination(_Checked):
    RULES = {  # noqa: RUF012
        "core": ([False] * 4, _booleans),
        "x_hop": (0, _integer(-7, 7)),
        "y_hop": (0, _integer(-7, 7)),
        "tag": (0, _integer(0, 2047)),
    }
    __slots__ = tuple(RULES)


class Dynapse2Parameter(_Checked):
    RULES = {  # noqa: RUF012
        "coarse_value": (1, _integer(0, 5)),
        "fine_value": (80, _integer(0, 255)),
        "type": ("P", str),
    }
    __slots__ = tuple(RULES)


LATCHES = (
    "latch_so_dc latch_so_adaptation latch_soif_kill latch_soif_type latch_coho_ca_mem latch_ho_enable latch_ho_active "
    "latch_ho_so_de latch_denm_nmda latch_deam_ampa latch_de_conductance latch_deam_alpha latch_denm_alpha latch_de_mux"
)


def _rows(kind: type, count: int):
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != count or not all(type(row) is kind for row in value):
            raise TypeError(f"a list of {count} {kind.__name__} is needed")
        return tuple(_copies(value))

    return check


def _copies(rows: Any) -> list[Any]:
    """Copies of rows, as pybind makes them at every crossing (one per distinct object, to be quick)."""
    known = {id(row): row for row in rows}
    known = {key: copy.copy(row) for key, row in known.items()}
    return [known[id(row)] for row in rows]


UNUSED = (Dynapse2Synapse(),) * 64, (Dynapse2Destination(),) * 4


class Dynapse2Neuron(_Checked):
    RULES = {  # noqa: RUF012
        "_synapses": (UNUSED[0], _rows(Dynapse2Synapse, 64)),
        "_destinations": (UNUSED[1], _rows(Dynapse2Destination, 4)),
        **dict.fromkeys(LATCHES.split(), (False, _boolean)),
    }
    __slots__ = tuple(RULES)

    @property
    def synapses(self) -> list[Dynapse2Synapse]:
        return _copies(getattr(self, "_synapses"))  # noqa: B009 - a slot made from RULES

    @property
    def destinations(self) -> list[Dynapse2Destination]:
        return _copies(getattr(self, "_destinations"))  # noqa: B009

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(f"_{name}" if name in ("synapses", "destinations") else name, value)


BIASES = (
    "SOIF_GAIN_N SOIF_LEAK_N SOIF_REFR_N SOIF_DC_P SOIF_SPKTHR_P SOIF_CC_N SOAD_PWTAU_N SOAD_GAIN_P SOAD_TAU_P SOAD_W_N "
    "SOAD_CASC_P SOCA_W_N SOCA_GAIN_P SOCA_TAU_P SOHO_VB_P SOHO_VH_P SOHO_VREF_P SOHO_VREF_L_P SOHO_VREF_M_P "
    "SOHO_VREF_H_P SOHO_VRST_P DEAM_ETAU_P DEAM_EGAIN_P DEAM_ITAU_P DEAM_IGAIN_P DEAM_REV_N DEAM_VRES_P DEAM_HRES_P "
    "DEAM_NRES_P DENM_ETAU_P DENM_EGAIN_P DENM_ITAU_P DENM_IGAIN_P DENM_REV_N DENM_NMREV_N DEGA_ITAU_P DEGA_IGAIN_P "
    "DEGA_REV_P DESC_ITAU_P DESC_IGAIN_P SYAM_W0_P SYAM_W1_P SYAM_W2_P SYAM_W3_P SYAM_STDW_N SYAW_STDSTR_N SYPD_EXT_N "
    "SYPD_DLY0_P SYPD_DLY1_P SYPD_DLY2_P SYSA_VRES_N SYSA_VB_P"
)


class Dynapse2Core:
    __slots__ = ("enable_syaw_stdbuf_an", "monitored_neuron", "neuron_monitoring_on", "neurons", "parameters")

    def __init__(self) -> None:
        self.neurons = [Dynapse2Neuron() for _ in range(256)]
        self.parameters = {name: Dynapse2Parameter() for name in BIASES.split()}
        self.neuron_monitoring_on, self.monitored_neuron, self.enable_syaw_stdbuf_an = False, 0, False


class Dynapse2Chip:
    __slots__ = ("cores", "global_parameters", "shared_parameters01")

    def __init__(self) -> None:
        self.cores = [Dynapse2Core() for _ in range(4)]
        self.global_parameters = {name: Dynapse2Parameter() for name in ("R2R_BUFFER_AMPB", "R2R_BUFFER_CCB")}
        self.shared_parameters01 = {name: Dynapse2Parameter() for name in ("PG_BUF_N", "LBWR_VB_P")}


class Dynapse2Configuration:
    __slots__ = ("chips",)

    def __init__(self) -> None:
        self.chips = [Dynapse2Chip() for _ in range(4)]


def snapshot(thing: Any, known: dict[int, Any] | None = None) -> Any:
    """Everything in a configuration as nested tuples, to compare before and after."""
    known = {} if known is None else known
    if id(thing) not in known:
        if isinstance(thing, (list, tuple)):
            known[id(thing)] = tuple(snapshot(v, known) for v in thing)
        elif isinstance(thing, dict):
            known[id(thing)] = tuple((key, snapshot(v, known)) for key, v in thing.items())
        else:
            slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
            fields = tuple((name, snapshot(getattr(thing, name), known)) for name in slots)
            known[id(thing)] = fields if slots else thing
    return known[id(thing)]
