"""`Population`: neurons of one NIR node, what one Euler step does to them, and the choices that NIR leaves open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from nir_dynapse.errors import UnsupportedGraphError

__all__ = ["RESETS", "STEPPING", "STEPPINGS", "Kind", "Population", "Reset", "StepGains", "Stepping", "freeze"]

Kind = Literal["LIF", "CubaLIF", "IF", "Threshold", "LI", "CubaLI", "I", "Linear"]
Reset = Literal["value", "value-late", "subtract", "subtract-late", "subtract-once", "subtract-multiple", "none"]
RESETS: dict[str, str] = {
    "value": "v := v_reset in the step of the spike (what NIR says)",
    "value-late": "v := v_reset at the end of the step after the spike, whatever came in",
    "subtract": "v := v − (v_threshold − v_reset) in the step of the spike",
    "subtract-late": "v_threshold − v_reset is subtracted in the step after the spike, after its decay",
    "subtract-once": "as subtract, but a neuron still above the threshold loses it before the comparison, and gets it back "
    "where it does not fire (snnTorch without reset_delay)",
    "subtract-multiple": "as many spikes in a step as v_threshold fits into v, each subtracting it; v = v_threshold fires",
    "none": "v goes on as if there had been no spike",
}
"""How a population resets; NIR knows the first only, frontends have all of them."""


_VALUES = ("tau_mem", "r", "v_leak", "v_threshold", "v_reset", "tau_syn", "w_in")


class StepGains(NamedTuple):
    """One Euler step: I ← (1−syn_leak)·I + syn_gain·x and v ← (1−leak)·v + leak·v_leak + gain·I; arrays (n,)."""

    leak: np.ndarray
    gain: np.ndarray
    syn_leak: np.ndarray | None
    syn_gain: np.ndarray | None


def freeze(value, dtype=None) -> np.ndarray:
    """A read-only NumPy array (a copy where the input could be written through)."""
    if type(value) is np.ndarray and value.base is None and not value.flags.writeable and dtype in (None, value.dtype):
        return value
    array = np.array(value, dtype=dtype)
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons of one NIR node, or the values of one that is read out.

    LIF:      τ_mem·dv/dt = (v_leak − v) + r·I;   CubaLIF adds  τ_syn·dI/dt = −I + w_in·S.
    IF:       dv/dt = r·I (τ_mem is inf);         Threshold: v = I, without memory (τ_mem is 0).
    A spike is v > v_threshold, after which v := v_reset, or as `reset` says (see `RESETS`). LI, CubaLI and I are LIF,
    CubaLIF and IF that never spike (v_threshold is inf, v_reset is where v starts), Linear is v = I: the host computes
    those (see `Readout`).
    Arrays have shape (n,); times in s, voltages and gains without unit; `tau_syn` is None but for CubaLIF and CubaLI.
    `shape` is the node's own (possibly multi-dimensional) shape.
    """

    name: str
    kind: Kind
    tau_mem: np.ndarray
    r: np.ndarray
    v_leak: np.ndarray
    v_threshold: np.ndarray
    v_reset: np.ndarray
    tau_syn: np.ndarray | None = None
    w_in: np.ndarray | None = None
    shape: tuple[int, ...] = ()
    reset: Reset = "value"

    def __post_init__(self) -> None:
        if self.reset not in RESETS:
            raise UnsupportedGraphError(
                f"node {self.name!r}: unknown reset {self.reset!r}. Choose one of {', '.join(RESETS)}."
            )
        for key in _VALUES:
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, freeze(value, float).reshape(-1))
        if not self.shape:
            object.__setattr__(self, "shape", (self.size,))
        self._check()

    def __repr__(self) -> str:
        shape = f" of shape {self.shape}" if len(self.shape) > 1 else ""
        reset = "" if self.reset == "value" or not self.spiking else f", reset {self.reset}"
        return f"Population({self.name}: {self.size} {self.kind}{shape}{reset})"

    def _check(self) -> None:
        sizes = {key: len(v) for key in _VALUES if (v := getattr(self, key)) is not None}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{key} {n}" for key, n in sizes.items())
            raise UnsupportedGraphError(
                f"node {self.name!r}: values of different length ({listed}). Give one per neuron."
            )
        if math.prod(self.shape) != self.size:
            raise UnsupportedGraphError(
                f"node {self.name!r}: shape {self.shape} does not hold its {self.size} neurons. Correct the shape."
            )
        if (self.tau_syn is not None) != (self.kind in ("CubaLIF", "CubaLI")):
            word = "needs tau_syn" if self.tau_syn is None else "has no tau_syn"
            raise UnsupportedGraphError(f"node {self.name!r}: a {self.kind} {word}. Correct its kind or its values.")

    @property
    def size(self) -> int:
        return len(self.tau_mem)

    @property
    def spiking(self) -> bool:
        """Whether it has a threshold; what has none is computed by the host."""
        return self.kind in ("LIF", "CubaLIF", "IF", "Threshold")

    @property
    def leaky(self) -> bool:
        """Whether its membrane has a time constant."""
        return self.kind in ("LIF", "CubaLIF", "LI", "CubaLI")

    def step_gains(self, dt: float) -> StepGains:
        """Decays and gains of one forward Euler step of `dt` s."""
        clocked = np.where(self.tau_mem > 0, self.tau_mem, dt)  # no memory: one step
        leak = dt / clocked
        gain = self.r * (dt if self.kind in ("IF", "I") else leak)
        if self.tau_syn is None:
            return StepGains(leak, gain, None, None)
        syn_leak = dt / self.tau_syn
        return StepGains(leak, gain, syn_leak, syn_leak * (1.0 if self.w_in is None else self.w_in))

    def update(self, h: Any) -> None:
        """Feed everything that decides behaviour into the hash `h`."""
        h.update(f"{self.name}|{self.kind}|{self.shape}|{self.reset}".encode())
        for value in (getattr(self, key) for key in _VALUES):
            h.update(b"-" if value is None else value.tobytes())


STEPPINGS = {
    "recurrence": ("delayed", "same-step"),
    "emission": ("same-step", "next-step"),
    "start": ("reset", "leak"),
}
"""The choices of a `Stepping`."""


@dataclass(frozen=True)
class Stepping:
    """When spikes act in an ideal run, and where it starts, which NIR leaves open.

    `recurrence`: spikes that go against the order of signal flow act in the next step ("delayed", what clocked frontends
    do), or are added to the current (to v where there is none) at the end of their own ("same-step"). `emission`: a
    spike leaves its population in the step in which v crosses the threshold ("same-step") or one later ("next-step",
    Spyx). `start`: v begins at v_reset ("reset") or at v_leak ("leak", Norse).
    """

    recurrence: Literal["delayed", "same-step"] = "delayed"
    emission: Literal["same-step", "next-step"] = "same-step"
    start: Literal["reset", "leak"] = "reset"

    def __post_init__(self) -> None:
        for key, known in STEPPINGS.items():
            if getattr(self, key) not in known:
                raise UnsupportedGraphError(f"unknown {key} {getattr(self, key)!r}. Choose one of {', '.join(known)}.")


STEPPING = Stepping()
"""What most clocked frontends do."""
