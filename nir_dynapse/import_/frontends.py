"""Frontend profiles: what each framework's exporter writes, turned into NIR's equations with the same step.

A profile knows three things that no NIR file says: what the time unit is, what the gains stand for, and how the neurons
reset. Each adapts a population, still in the units of the file, so that forward Euler at the exporter's step `h` does
exactly what the framework does:

    snntorch  V ← β·V + I:                           τ = h/(1−β) is in the file; r = τ/h, w_in = τ_syn/h
    norse     LIFCell: i ← i + x, v ← v + h/τ·(v_leak − v + i), i ← i − h/τ_syn·i:  w_in = τ_syn/h; 1.1.0 writes h·τ for τ
    sinabs    V ← α·V + (1−α)·x, α = e^(−1/τ):       τ ← 1/(1−α) steps; ExpLeak has no (1−α): r = τ
    spyx      V ← β·V + x, spikes one step late:     τ = h/(1−β), r = β in the file; r = τ/h, w_in = τ_syn/h
    rockpool  I ← β·(I + x), V ← α·V + I, α = e^(−h/τ): r = τ·α/h in the file; τ ← h/(1−α), r = τ/h, w_in·h/τ_syn = β
    spikingjelly  V ← V + (x − (V − V_reset))/τ, or + x: τ·h and r = 1, or r = τ (steps), which is NIR's; fires at V ≥ θ

Measured against the released packages (snnTorch 1.0.0, Norse 1.1.0, Sinabs 3.1.3, Spyx 1.0.0, Rockpool 3.1.0,
SpikingJelly 2.0.0). Those that fire at V ≥ θ get the largest float32 number below θ for their threshold: what an ideal run
compares are float32 numbers, of which those above it are those from θ on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nir_dynapse.circuit.closed_form import decode_tau
from nir_dynapse.errors import Finding, ParameterRangeError
from nir_dynapse.network.network import Population, Stepping
from nir_dynapse.network.population import STEPPING, Reset

__all__ = ["PROFILES", "Profile", "agreed", "just_below", "profile_of", "untold_step"]

SNNTORCH_STEP = 1e-4
NORSE_STEP = 1e-3
SPIKINGJELLY_STEP = 1e-4


@dataclass(frozen=True)
class Profile:
    """One frontend's conventions.

    `clock` is what a unit of time in the file is: "time" (multiplied with time_unit and time_scale) or "steps" (only the
    ratio to the step counts; real time comes from dt). `step(populations)` is the exporter's step in units of the file,
    None where the file does not tell; `default_step` stands in for it, or metadata["dt"] where `step_noted`.
    `adapt(population, h, everything)` gives NIR's equations at step `h`, `everything` being all populations of the file.
    `reset`, `reset_late` and `multiple` (several spikes per step) are its default reset, `writes_reset` whether its files
    hold no other; `at_threshold` says that v = v_threshold fires; `gains` says in words what it writes for r and `usual`
    whether that is what the file holds; `assumed` says what the file leaves open. `writes` are the primitives that the
    exporter of `release` writes, beside Input and Output (read in its source).
    """

    name: str
    clock: Literal["time", "steps"]
    adapt: Callable[[Population, float, list[Population]], Population]
    step: Callable[[list[Population]], float | None]
    default_step: float | None = None
    reset: Literal["value", "subtract"] = "value"
    reset_late: bool = False
    multiple: bool = False
    at_threshold: bool = False
    writes_reset: bool = False
    step_noted: bool = False
    stepping: Stepping = STEPPING
    gains: str = ""
    usual: Callable[[list[Population]], bool] = lambda populations: True
    assumed: str = ""
    release: str = ""
    writes: tuple[str, ...] = ()

    @property
    def default_reset(self) -> str:
        """Its default reset in words."""
        how = "by subtraction" if self.reset == "subtract" else "to v_reset"
        several = ", several spikes per step" if self.multiple else ""
        return how + several + (", one step late" if self.reset_late else "")

    def reset_of(self, p: Population, recurrent: bool, asked: str | None, late: bool | None) -> Reset:
        """How population `p` resets: as asked for, else as the framework does by default."""
        if not p.spiking:
            return "value"
        if asked is None and self.name == "spec":
            return _LATE.get(p.reset, p.reset) if late else _SOON.get(p.reset, p.reset) if late is False else p.reset
        how = asked or self.reset
        if how == "none":
            return "none"
        late = self.reset_late if late is None else late
        if how == "subtract":
            if self.multiple and asked is None:
                return "subtract-multiple"
            if self.name == "spyx" and p.kind == "CubaLIF":
                return "subtract"  # before the decay, which is the same as in the step of the spike
            if late:
                return "subtract-late"
            return "subtract-once" if self.name == "snntorch" else "subtract"
        # Leaky resets before it decays, which is the same as in the step of the spike; the others end at zero.
        return "value-late" if late and (recurrent or p.kind == "CubaLIF") else "value"

    def firing(self, p: Population) -> Population:
        """`p` (with its reset) with thresholds that v > v_threshold passes where v passes them in the framework."""
        if not (self.at_threshold and p.spiking) or p.reset == "subtract-multiple":  # which compares so by itself
            return p
        return replace(p, v_threshold=just_below(p.v_threshold))


def just_below(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 numbers below `threshold` as float32: v > just_below(θ) is v ≥ θ for float32 values."""
    met = np.asarray(threshold, np.float32)
    below = np.nextafter(met, np.float32(-np.inf))
    # a processor that counts denormals as 0 would compare 0 > 0
    return np.where(met == 0, -np.finfo(np.float32).tiny, below).astype(float)


_LATE: dict[Reset, Reset] = {"value": "value-late", "subtract": "subtract-late"}
_SOON: dict[Reset, Reset] = {late: soon for soon, late in _LATE.items()}


def profile_of(name: str) -> Profile:
    """The profile called `name`; ParameterRangeError for any other."""
    if not isinstance(name, str) or name not in PROFILES:
        what = f"frontend is {name!r}, known profiles are {', '.join(map(repr, PROFILES))}."
        raise ParameterRangeError(Finding("error", "argument", what, hint="Choose one of them."))
    return PROFILES[name]


def _with(p: Population, **values: np.ndarray | None) -> Population:
    return replace(p, **{key: value for key, value in values.items() if value is not None})  # pyright: ignore


def agreed(values: Iterable[np.ndarray], digits: int = 6) -> float | None:
    """The one value that all share to 0.1 %, with so many digits, None if there is none."""
    parts = [np.ravel(v) for v in values]
    flat = np.concatenate(parts) if parts else np.zeros(0)
    if not len(flat) or not np.all(np.isfinite(flat) & (flat > 0)):
        return None
    middle = float(np.median(flat))
    # float32 exporters leave noise in the seventh digit
    return float(f"{middle:.{digits}g}") if np.allclose(flat, middle, rtol=1e-3, atol=0) else None


def _leaky(populations: Iterable[Population]) -> list[Population]:
    return [p for p in populations if p.leaky]


def _nothing(p: Population, h: float, everything: list[Population]) -> Population:
    return p


# --- each frontend ---------------------------------------------------------------------------------------------------


def _unit_gains(p: Population, h: float, everything: list[Population]) -> Population:
    """Gains of exactly 1 per step: r = τ/h, w_in = τ_syn/h, and 1/h for integrators."""
    if p.kind in ("IF", "I"):
        return _with(p, r=np.full(p.size, 1 / h))
    if p.kind in ("Threshold", "Linear"):
        return p
    return _with(p, r=p.tau_mem / h, w_in=None if p.tau_syn is None else p.tau_syn / h)


def _gain_step(populations: list[Population]) -> float | None:
    return agreed(p.tau_mem / p.r for p in _leaky(populations))


def _snntorch(p: Population, h: float, everything: list[Population]) -> Population:
    """snnTorch clamps its decays to at least 0, and writes them as they are: τ = h is the shortest."""
    if p.kind in ("IF", "I"):
        return p  # snnTorch writes neither
    if p.kind not in ("Threshold", "Linear"):
        p = _with(p, tau_mem=np.maximum(p.tau_mem, h), tau_syn=None if p.tau_syn is None else np.maximum(p.tau_syn, h))
    return _unit_gains(p, h, everything)


def _gains_of_one(populations: list[Population]) -> bool:
    return all(np.all(p.r == 1) for p in _leaky(populations))


def _norse_step(populations: list[Population]) -> float | None:
    """Norse writes r = 1, which tells nothing; a network that it did not train may tell."""
    return None if _gains_of_one(populations) else _gain_step(populations)


def _norse(p: Population, h: float, everything: list[Population]) -> Population:
    """Norse 1.1.0 writes h·τ for τ: no τ below h could be stepped, so one of them tells it for the whole file."""
    if p.kind in ("IF", "I"):
        return _with(p, r=np.full(p.size, 1 / h)) if np.all(p.r == 1) else p
    leaky = _leaky(everything)
    taus = [t for q in leaky for t in (q.tau_mem, q.tau_syn) if t is not None]
    if p.leaky and _gains_of_one(leaky) and any(np.any(t < h) for t in taus):
        p = _with(p, tau_mem=p.tau_mem / h, tau_syn=None if p.tau_syn is None else p.tau_syn / h)
    if p.tau_syn is not None and p.w_in is not None and np.all(p.w_in == 1):
        p = _with(p, w_in=p.tau_syn / h)
    return p


def _sinabs(p: Population, h: float, everything: list[Population]) -> Population:
    if p.kind not in ("LIF", "LI"):
        return p
    tau = decode_tau(p.tau_mem, h)
    return _with(p, tau_mem=tau, r=tau / h if p.kind == "LI" else p.r)  # ExpLeak has norm_input=False by default


def _spyx_step(populations: list[Population]) -> float | None:
    return agreed(p.tau_mem * (1 - p.r) for p in _leaky(populations))


def _rockpool_step(populations: list[Population]) -> float | None:
    """h from r = (τ/h)·e^(−h/τ): h/τ = W(1/r), with Lambert's W."""
    from scipy import special  # no other frontend needs it

    usable = [p for p in _leaky(populations) if np.all(p.r > 0)]
    return agreed(p.tau_mem * np.real(special.lambertw(1 / p.r)) for p in usable)


def _rockpool(p: Population, h: float, everything: list[Population]) -> Population:
    if not p.leaky:
        return p
    tau = decode_tau(p.tau_mem, h)
    gain = np.exp(-h / p.tau_mem) if p.kind == "LI" else np.ones(p.size)
    if p.tau_syn is None:
        return _with(p, tau_mem=tau, r=gain * tau / h)
    tau_syn = decode_tau(p.tau_syn, h)
    return _with(p, tau_mem=tau, r=tau / h, tau_syn=tau_syn, w_in=np.exp(-h / p.tau_syn) * tau_syn / h)


def _spikingjelly_told(populations: list[Population]) -> list[np.ndarray]:
    """Steps by the gains; r = 1 is that of decay_input=True, which tells none."""
    told = []
    for p in populations:
        if p.kind in ("IF", "I"):
            told.append(1 / p.r)
        elif p.tau_syn is not None and p.w_in is not None:
            told += [p.tau_mem / p.r, p.tau_syn / p.w_in]
        elif p.leaky:
            told.append((p.tau_mem / p.r)[p.r != 1])
    return [steps for steps in told if len(steps)]


def _spikingjelly_step(populations: list[Population]) -> float | None:
    return agreed(_spikingjelly_told(populations), digits=12)  # its exporter writes float64


def _spikingjelly_usual(populations: list[Population]) -> bool:
    """Gains of 1 or of one step for all; a τ of less than a step, which it refuses, would have r < 1."""
    told = _spikingjelly_told(populations)
    return (not told or agreed(told) is not None) and not any(np.any(p.r < 1 - 1e-6) for p in _leaky(populations))


def _spikingjelly(p: Population, h: float, everything: list[Population]) -> Population:
    """Time constants from the gains, which hold them in steps: h has been rounded."""
    if p.kind in ("IF", "I"):
        return _with(p, r=np.full(p.size, 1 / h))
    if not p.leaky or _spikingjelly_step(everything) is None:
        return p
    if p.tau_syn is not None and p.w_in is not None:
        return _with(p, tau_mem=p.r * h, tau_syn=p.w_in * h)
    return _with(p, tau_mem=np.where(p.r == 1, p.tau_mem, p.r * h))


def untold_step(populations: list[Population], h: float, dt: float | None) -> Finding:
    """That h of the exporter was taken, which the file does not tell; a warning where it could as well have been `dt`.

    SpikingJelly takes only τ above one step.
    """
    name = f"the file does not say with which dt SpikingJelly exported it; its default, {h:g} s, was taken"
    shortest = min((float(p.tau_mem.min()) for p in _leaky(populations)), default=h)
    what = f"{name}: the shortest tau is {shortest / h:.4g} steps."
    if shortest <= h:
        hint = f"SpikingJelly takes only tau above 1 step, so that dt was another: {_AGAIN}"
        return Finding("warning", "dt", what, used=h, unit="s", hint=hint)
    if dt is None or abs(dt - h) <= 1e-6 * h or shortest <= dt * (1 + 1e-6):
        return Finding("info", "dt", what, used=h, unit="s", hint=f"If it was exported with another dt, {_AGAIN}")
    hint = f"If it was exported with dt={dt:g}, that is {shortest / dt:.4g} steps: {_AGAIN}"
    return Finding("warning", "dt", what, used=h, unit="s", hint=hint)


_AGAIN = 'export it without dt=, or note it: graph.metadata["dt"] = ... before nir.write.'


def _steady(step: Callable[[list[Population]], float | None]) -> Callable[[list[Population]], bool]:
    """Whether the gains of all leaky populations are those of one step."""
    return lambda populations: not _leaky(populations) or step(populations) is not None


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("spec", "time", _nothing, lambda populations: None),
        Profile(
            "snntorch",
            "steps",
            _snntorch,
            _gain_step,
            SNNTORCH_STEP,
            reset="subtract",
            reset_late=True,
            gains="tau_mem/dt, the same dt for all",
            usual=_steady(_gain_step),
            assumed="snnTorch writes v_reset = 0 whatever the neuron does",
            release="snnTorch 1.0.0",
            writes=("Linear", "Affine", "Conv2d", "AvgPool2d", "Flatten", "LIF", "CubaLIF"),
        ),
        Profile(
            "norse",
            "time",
            _norse,
            _norse_step,
            NORSE_STEP,
            stepping=Stepping(start="leak"),
            gains="1",
            usual=_gains_of_one,
            assumed="Norse writes neither v_reset (read as 0) nor its reset method",
            release="Norse 1.1.0",
            writes=("Affine", "Conv2d", "LIF", "CubaLIF", "IF", "LI"),
        ),
        Profile(
            "sinabs",
            "steps",
            _sinabs,
            lambda populations: 1.0,
            1.0,
            reset="subtract",
            multiple=True,
            at_threshold=True,
            gains="1",
            usual=_gains_of_one,
            assumed="Sinabs writes neither its reset, nor tau_syn and min_v_mem (read as none), nor norm_input (read as "
            "True for LIF, False for ExpLeak)",
            release="Sinabs 3.1.3",
            writes=("Affine", "Conv1d", "Conv2d", "SumPool2d", "Flatten", "LIF", "IF", "LI"),
        ),
        Profile(
            "spyx",
            "steps",
            _unit_gains,
            _spyx_step,
            1.0,
            reset="subtract",
            reset_late=True,
            stepping=Stepping(emission="next-step"),
            gains="beta = 1 − dt/tau_mem",
            usual=_steady(_spyx_step),
            assumed="Spyx writes no reset, and its spikes leave one step late",
            release="Spyx 1.0.0",
            writes=(
                "NIRGraph",
                "Linear",
                "Affine",
                "Conv2d",
                "SumPool2d",
                "Flatten",
                "LIF",
                "CubaLIF",
                "IF",
                "LI",
                "Threshold",
            ),
        ),
        Profile(
            "rockpool",
            "time",
            _rockpool,
            _rockpool_step,
            NORSE_STEP,
            reset="subtract",
            multiple=True,
            at_threshold=True,
            gains="tau_mem/dt·exp(−dt/tau_mem)",
            usual=_steady(_rockpool_step),
            assumed="Rockpool writes neither its reset, nor the bias of its neurons, nor recurrent weights",
            release="Rockpool 3.1.0",
            writes=("Linear", "Affine", "LIF", "CubaLIF", "LI"),
        ),
        Profile(
            "spikingjelly",
            "steps",
            _spikingjelly,
            _spikingjelly_step,
            SPIKINGJELLY_STEP,
            at_threshold=True,
            writes_reset=True,
            step_noted=True,
            gains="1 or tau_mem/dt (decay_input), the same dt for all",
            usual=_spikingjelly_usual,
            assumed="SpikingJelly does not write its dt, which gains of 1 do not tell (read as its default, 0.0001 s)",
            release="SpikingJelly 2.0.0",
            writes=("Linear", "Affine", "Conv1d", "Conv2d", "AvgPool2d", "Flatten", "LIF", "CubaLIF", "IF"),
        ),
    )
}
"""Known frontends by name; "spec" reads every value as NIR's equations define it."""
