"""Real seconds: units, the time step where nobody gave one, and time constants that the chip cannot reach.

real seconds = value · unit · time_scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.errors import Finding, ParameterRangeError
from nir_dynapse.files.numbers import TIME_SCALE
from nir_dynapse.import_.checks import like_snntorch, several
from nir_dynapse.import_.frontends import Profile, agreed, untold_step
from nir_dynapse.network.network import Population
from nir_dynapse.network.primitives import as_array

__all__ = [
    "TIME_UNITS",
    "Clock",
    "check_step",
    "check_taus",
    "clock",
    "gain_step",
    "positive",
    "rescaled",
    "seconds_per_unit",
]

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
SHORTEST = 100e-6
"""Time constants below this are within the chip's currents but not its purpose: more likely a wrong time unit."""
DEFAULT_DT = 1e-3
_ROUNDING = 0.01  # what the codes of a bias may give beyond the range
_DISAGREE = 0.01  # relative: of a step that was given and what the gains tell
_NOISE = 1e-6  # relative: float32 and products of units


def positive(name: str, value: Any) -> float:
    """`value` as a float, a time scale or a step before it is scaled; raises `ParameterRangeError` otherwise."""
    return TIME_SCALE.check("from_nir", name, value, "Give seconds.")


def seconds_per_unit(time_unit: str, time_scale: float) -> float:
    """Real seconds per time unit of the file; raises `ParameterRangeError` for an unknown unit or a scale ≤ 0."""
    if not isinstance(time_unit, str) or time_unit not in TIME_UNITS:
        what = f"time_unit is {time_unit!r}, known units are {', '.join(map(repr, TIME_UNITS))}."
        hint = 'Choose one of them; a file in time steps is read with time_scale=(seconds per step) and time_unit="s".'
        raise ParameterRangeError(Finding("error", "argument", what, hint=hint))
    return TIME_UNITS[time_unit] * positive("time_scale", time_scale)


@dataclass(frozen=True)
class Clock:
    """The exporter's step in units of the file, real seconds per unit, and real seconds per step.

    `gains` are the real seconds per step that the gains tell of, None where they tell of none, or need not agree.
    """

    file: float
    seconds: float
    real: float
    gains: float | None = None


def clock(
    profile: Profile,
    dt: float | None,
    metadata: Mapping[str, Any],
    populations: list[Population],
    unit: float,
    scale: float,
    findings: list[Finding],
) -> Clock:
    """The time step: as given, else from the metadata, else from the gains, else the profile's, else 1 ms.

    `dt` is in seconds before `scale`, metadata["dt"] and `populations` are in units of the file, of which each is `unit`
    s before `scale`. In a profile whose clock counts steps, `dt` and metadata["dt"] are the real length of a step in s.
    """
    found = profile.step(populations) if profile.name != "spec" else gain_step(populations)
    noted = _noted(metadata, found is not None, findings)
    if not profile.usual(populations):
        what = f"the gains r are not those that {profile.name} writes ({profile.gains}); it was read as if they were."
        hint = f'Was the file written by another framework? Pass its name, or frontend="spec", instead of "{profile.name}".'
        findings.append(Finding("warning", "gain", what, hint=hint))
    if profile.clock == "steps":
        if found is None and noted is not None and profile.step_noted:
            found = noted
        h = found or profile.default_step or 1.0
        real = dt if dt is not None else noted if noted is not None else h * unit
        if dt is None and noted is None and h == 1.0:
            real = DEFAULT_DT
            what = f"{profile.name} counts time in steps; {DEFAULT_DT:g} s per step was assumed."
            findings.append(Finding("warning", "dt", what, used=DEFAULT_DT, unit="s", hint="Pass dt=... in seconds."))
        elif dt is None and noted is None and scale == 1:
            said = "wrote" if found is not None else "writes by default"
            what = f"{profile.name} counts time in steps, and its exporter {said} {real:g} s for one; read as that."
            findings.append(
                Finding(
                    "warning", "dt", what, used=real, unit="s", hint="Pass dt=... in seconds, the length of your bins."
                )
            )
        if found is None and profile.step_noted and any(p.leaky for p in populations):
            findings.append(untold_step(populations, h, dt))
        return Clock(h, real * scale / h, real * scale)
    seconds = unit * scale
    gains = None if found is None else found * seconds
    given = dt / unit if dt is not None else noted
    if given is not None:
        if found is not None and abs(given - found) > _DISAGREE * found:
            findings.append(_contradiction(profile, populations, given, found, unit, scale, dt is None))
        return Clock(given, seconds, given * seconds if dt is None else dt * scale, gains)
    inferred = found if found is not None else _from_gains(populations) if profile.name == "spec" else None
    if inferred is not None:
        why = "r = tau_mem/dt, w_in = tau_syn/dt" if profile.name == "spec" else f"as {profile.name} writes them"
        what = f"dt {inferred * seconds:.4g} s was inferred from the gains ({why})."
        sure = found is not None
        hint = "" if sure else "One ratio is no evidence: pass dt=... in seconds."
        findings.append(
            Finding("info" if sure else "warning", "dt", what, None, None, inferred * seconds, None, "s", hint)
        )
        return Clock(inferred, seconds, inferred * seconds, gains)
    if profile.default_step is not None:
        what = f"dt = {profile.default_step:g} s, the default of {profile.name}, was assumed; the file does not say."
        hint = "Pass dt=... in seconds: time constants and gains depend on it."
        findings.append(Finding("warning", "dt", what, used=profile.default_step, unit="s", hint=hint))
        return Clock(profile.default_step / unit, seconds, profile.default_step * scale)
    what = f"nothing says which time step the network was made for; dt = {DEFAULT_DT:g} s was assumed."
    findings.append(Finding("warning", "dt", what, used=DEFAULT_DT, unit="s", hint="Pass dt=... in seconds."))
    return Clock(DEFAULT_DT / seconds, seconds, DEFAULT_DT)


def gain_step(populations: Iterable[Population]) -> float | None:
    """The step for which all gains are 1 per step, r = tau_mem/dt and w_in = tau_syn/dt, in the unit of the populations.

    None where there is none, or where it may be chance.
    """
    populations = [p for p in populations if p.kind not in ("Threshold", "Linear")]
    step = _from_gains(populations)
    return step if step is not None and _evidence(populations, step) else None


def _contradiction(
    profile: Profile, populations: list[Population], given: float, found: float, unit: float, scale: float, noted: bool
) -> Finding:
    """A step that was given beside gains of another one, both in units of the file of `unit` s before `scale`."""
    step, told, ratio = given * unit, found * unit, given / found
    snntorch = profile.name == "spec" and like_snntorch(populations)
    who = "snntorch" if snntorch else "exporters" if profile.name == "spec" else profile.name
    written = profile.gains or "r = tau_mem/dt, w_in = tau_syn/dt"
    what = (
        f"{'metadata dt' if noted else 'dt'} is {step:.4g} s, the gains are those that {who} would write for steps of "
        f"{told:.4g} s ({written}): they contradict each other. Read by profile {profile.name!r} with {step:.4g} s, so "
        f"that what a spike adds is off by a factor of {ratio:.4g}."
    )
    if snntorch:
        hint = (
            f'If snnTorch wrote it, pass frontend="snntorch", and dt={step:.6g} if that is the real length of a step.'
        )
    else:
        first = f"Pass dt={told:.6g}" if noted else "Leave dt out"
        hint = f"{first}, and pass time_scale={scale * ratio:.6g} if a step is {step * scale:.4g} s of real time."
    return Finding("warning", "dt", what, None, None, step, told, "s", hint)


def _evidence(populations: list[Population], dt: float) -> bool:
    """Whether a step that all gains agree on is likely meant: several time constants do, or it is a round number."""
    taus = {float(f"{t:.4g}") for p in populations for v in (p.tau_mem, p.tau_syn) if v is not None for t in v}
    digits = f"{dt:.5e}".split("e")[0]
    return len(taus) > 1 or float(digits) in (1.0, 2.0, 2.5, 5.0)


def _noted(metadata: Mapping[str, Any], told: bool, findings: list[Finding]) -> float | None:
    """metadata["dt"], None (and a finding, if it is nonsense) where there is none."""
    if "dt" not in metadata:
        return None
    try:
        return positive("dt", as_array(metadata["dt"]).item())
    except (ParameterRangeError, TypeError, ValueError):
        what = f"metadata dt is {metadata['dt']!r}, which is no time step; it was ignored."
        hint = "The gains tell the step." if told else "Pass dt=... in seconds."
        findings.append(Finding("warning", "dt", what, hint=hint))
        return None


def rescaled(p: Population, seconds: float) -> Population:
    """A population in units of `seconds` s, in seconds."""
    if p.kind in ("IF", "I"):
        return replace(p, r=p.r / seconds)
    return replace(p, tau_mem=p.tau_mem * seconds, tau_syn=None if p.tau_syn is None else p.tau_syn * seconds)


def _from_gains(populations: list[Population]) -> float | None:
    """The one dt for which all gains per step are 1, None if there is none."""
    steps, gains = [], []
    for p in populations:
        if p.kind in ("Threshold", "Linear"):
            continue
        gains.append(p.r)
        steps.append(1 / p.r if p.kind in ("IF", "I") else p.tau_mem / p.r)
        if p.tau_syn is not None and p.w_in is not None:
            steps.append(p.tau_syn / p.w_in)
    flat = np.concatenate(gains) if gains else np.ones(1)
    return None if np.any(flat < 1 - 1e-6) or np.allclose(flat, 1, rtol=1e-3) else agreed(steps)


def _taus(p: Population) -> list[tuple[str, np.ndarray, float]]:
    """Name in the NIR node, values in s and the longest that the chip reaches, for each time constant of a population."""
    if not p.leaky:
        return []
    name = "tau" if p.kind in ("LIF", "LI") else "tau_mem"
    taus = [(name, p.tau_mem, _longest("i_tau_mem"))]
    if p.tau_syn is not None:
        taus.append(("tau_syn", p.tau_syn, min(_longest("i_tau_ampa"), _longest("i_tau_gaba"))))
    return taus


def _longest(parameter: str) -> float:
    return float(DYNAPSE2.circuit.tau(parameter, biasgen.reach(parameter)[0]))


def check_taus(
    populations: Iterable[Population],
    time_unit: str,
    time_scale: float,
    profile: Profile,
    findings: list[Finding],
    *,
    gains: float | None = None,
    origin: str | None = None,
) -> None:
    """Refuse time constants out of the chip's reach, with the reading of the time unit under which they would fit.

    One cause, one finding: it names the first time constant that is too long (or too short) and lists the others. Where
    `gains` tell the step, or the file looks like those of the profile `origin`, only what leaves them right is recommended.
    """
    populations = list(populations)
    taus = [(p.name, *item) for p in populations if p.spiking for item in _taus(p)]
    for too_long, factor in ((True, 1e-3), (False, 1e3)):
        bad = []
        for name, key, tau, longest in taus:
            out = tau > longest * (1 + _ROUNDING) if too_long else (tau > 0) & (tau < SHORTEST * (1 - _NOISE))
            if out.any():
                bad.append((name, key, tau[out], *several(out), longest))
        if not bad:
            continue
        name, key, tau, first, more, longest = bad[0]
        limit = longest if too_long else SHORTEST
        word = "the chip reaches at most" if too_long else "taken are values of at least"
        others = ", ".join(f"{k} of {n!r}" for n, k, *_ in bad[1:6]) + (", ..." if len(bad) > 6 else "")
        value = float(tau[0])
        what = f"{key} is {value:.4g} s{more}, {word} {limit:.3g} s{f' (likewise {others})' if others else ''}."
        hint = _unit_hint(tau, factor, (SHORTEST, longest), time_unit, time_scale, value)
        if origin is not None:
            hint = _own_step(origin)
        elif profile.clock == "time" and gains is not None:
            hint = _scale_hint(tau, factor, (SHORTEST, longest), time_scale, gains)
        elif profile.name == "spec" and time_unit == "s" and time_scale == 1:
            hint = _likely(populations, too_long, hint)
        elif profile.clock == "steps" or profile.name == "norse":
            word = "smaller" if too_long else "larger"
            why = "" if profile.clock == "steps" else ", with which the file was exported"
            hint = f"It follows from dt, the length of a step{why}, which must be {word}: pass dt=... in seconds."
        findings.append(Finding("error", "time-unit", what, name, first, value, limit, "s", hint))


def _likely(populations: list[Population], too_long: bool, hint: str) -> str:
    """`hint`, and the frontend that writes time constants and gains like these, the likelier of both first."""
    leaky = [p for p in populations if p.leaky]
    if not leaky:
        return hint
    if too_long and all(np.mean((p.r > 0) & (p.r < 1)) > 0.5 for p in leaky):
        told = "Time constants in steps with r < 1 are what Spyx writes (r = beta): pass"
        return f'{told} frontend="spyx", and dt=... in seconds per step. Else: {hint}'
    if not too_long and all(np.all(p.r == 1) for p in leaky):
        told = "Time constants multiplied by the step with r = 1 are what Norse 1.1.0 writes: pass"
        return f'{told} frontend="norse", and dt=... in seconds. Else: {hint}'
    if too_long and all(np.all(p.r == 1) and p.tau_syn is None and np.all(p.tau_mem >= 1) for p in leaky):
        told = "If Sinabs wrote it, they are in steps, with several spikes per step: pass"
        return f'{hint} {told} frontend="sinabs", and dt=... in seconds per step.'
    return hint


def _unit_hint(tau, factor: float, limits: tuple[float, float], unit: str, scale: float, value: float) -> str:
    """How to read the file so that `tau` fits."""
    units = list(TIME_UNITS)
    where = units.index(unit) + (1 if factor < 1 else -1)
    if np.all((tau * factor >= limits[0]) & (tau * factor <= limits[1])):
        result = f"which makes it {value * factor:.4g} s"
        scaling = f"time_scale={scale * factor:.6g}"
        if 0 <= where < len(units):
            return f'The time unit is likely off by 1000: pass time_unit="{units[where]}" (or {scaling}), {result}.'
        return f"The time unit is likely off by 1000: pass {scaling}, {result}."
    return (
        f"If the time unit is off by another factor, pass time_scale=... (now {scale:g}), the real seconds per second of "
        "the file; else retrain with a time constant within that limit."
    )


def _scale_hint(tau, factor: float, limits: tuple[float, float], scale: float, gains: float) -> str:
    """How to read a file so that `tau` fits and its gains stay those of its step, `gains` s at the present `scale`."""
    fits = np.all((tau * factor >= limits[0]) & (tau * factor <= limits[1]))
    number = f"{scale * factor:.6g}" if fits else "..."
    return (
        f"The gains tell a step of {gains:.4g} s: leave dt out, and pass time_scale={number} (now {scale:g}), real seconds "
        "per second of the file, which stretches step and time constants alike."
    )


def _own_step(origin: str) -> str:
    """What to do with a file that looks like one of `origin`, a profile with a step of its own."""
    said = "SpikingJelly writes 0.0001 s by default" if origin == "spikingjelly" else "snnTorch writes 0.0001 s"
    return f'{said} for every step: pass frontend="{origin}", where dt is its real length.'


def check_step(
    populations: Iterable[Population],
    dt: float,
    origin: str | None,
    findings: list[Finding],
    gains: float | None = None,
) -> None:
    """Refuse a dt at which forward Euler diverges (dt ≥ 2τ); warn where τ/dt is outside 1 … 10⁴.

    `origin`: the profile ("snntorch", "spikingjelly") whose files look like this one, which is read as the specification
    says. `gains`: the step that they tell.
    """
    for p in populations:
        for key, tau, _ in _taus(p):
            if not np.all(tau > 0):
                continue
            first = int(np.argmin(tau))
            low, high = float(tau[first]), float(tau.max())
            hint = "Pass the dt of the source framework in seconds (dt=...), and check time_unit and time_scale."
            if gains is not None:
                hint = (
                    f"The gains tell a step of {gains:.4g} s: leave dt out; time_scale stretches step and times alike."
                )
            if origin is not None:
                hint = _own_step(origin)
            if dt >= 2 * low:
                what = f"{key} is {low:.4g} s, half of dt = {dt:.4g} s or less: forward Euler diverges."
                findings.append(Finding("error", "dt", what, p.name, first, dt, 2 * low, "s", hint))
            elif dt > low * (1 + 1e-6):
                what = f"{key} is {low:.4g} s, shorter than dt = {dt:.4g} s: forward Euler overshoots."
                findings.append(Finding("warning", "dt", what, p.name, first, dt, low, "s", hint))
            elif high > 1e4 * dt:
                what = f"{key} is {high:.4g} s, more than 10000 steps of dt = {dt:.4g} s."
                findings.append(Finding("warning", "dt", what, p.name, int(np.argmax(tau)), dt, high / 1e4, "s", hint))
