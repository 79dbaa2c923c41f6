"""Spike counts do not depend on the step: 1 ms against 10 µs over time constants, drives, dendrites and somas.

The grid is one neuron (one bias group) per point; `tests/benchmarks/convergence.py` runs the whole of it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from nir_dynapse.chip.device import CURRENTS, DENDRITES, PARAMETERS, Circuit
from nir_dynapse.circuit.closed_form import event_charge
from nir_dynapse.circuit.params import Params, Topology, latch_bits
from nir_dynapse.network.network import Port
from nir_dynapse.sim import adjoint, dynamics
from nir_dynapse.sim.circuit import internal_step
from nir_dynapse.sim.engine import spike_counts
from nir_dynapse.sim.simulation import run_circuit

pytestmark = pytest.mark.long

CIRCUIT = Circuit()
POWER = CIRCUIT.kappa / (CIRCUIT.kappa + 1)
REGIMES = {"closed form": (5e-12, 5e-9), "peer": (4 * float(CIRCUIT.tau("i_tau_mem", 20e-3)), 1e-7)}
"""I_gain and I_spkthr of the closed-form map and of the peer's defaults."""
DT = 1e-3
KINDS = ("ampa", "gaba", "shunt", "nmda", "ampa adapting", "dc", "dc adapting")
"""Excitation alone, with inhibition (GABA, SHUNT), half of it through the NMDA gate, with adaptation; constant drive."""
CONSTANT_RATES = (5.0, 15.0, 50.0, 150.0, 300.0)
SPREAD = (0.6, 0.8, 1.1, 1.5)
"""Relative weights of the input channels: events that are all alike add up what one marginal spike makes of each."""
AHP_TAU, AHP_KICK = 50e-3, 0.2
SHUNT_RATE = 100.0
"""Rate of inhibitory events in Hz at which the mean shunt equals the leak."""


@dataclass(frozen=True)
class Point:
    """One neuron. `drive`: height of an event's potential in units of the threshold, or the rate asked for in Hz (dc)."""

    regime: str
    tau_mem: float
    tau_syn: float
    kind: str
    drive: float

    @property
    def constant(self) -> bool:
        return self.kind.startswith("dc")


def grid(
    taus_mem: Sequence[float],
    taus_syn: Sequence[float],
    kinds: Sequence[str],
    heights: Sequence[float],
    regimes: Sequence[str] = tuple(REGIMES),
) -> list[Point]:
    """All points; constant drive has no synapse and five rates."""
    events = [kind for kind in kinds if not kind.startswith("dc")]
    constant = [kind for kind in kinds if kind.startswith("dc")]
    driven = [Point(*p) for p in product(regimes, taus_mem, taus_syn, events, heights)]
    return driven + [Point(r, m, 0.0, k, f) for r, m, k, f in product(regimes, taus_mem, constant, CONSTANT_RATES)]


def feedback_of(regime: str, tau_mem: float) -> float:
    gain, _ = REGIMES[regime]
    return (gain / CIRCUIT.i_o) ** POWER * CIRCUIT.i_o / float(CIRCUIT.tau("i_tau_mem", tau_mem))


def needed(regime: str, tau_mem: float, exponential: bool) -> tuple[np.ndarray, np.ndarray]:
    """y from reset to threshold, and the current/I_τ that holds it there."""
    gain, threshold = REGIMES[regime][0], REGIMES[regime][1] / REGIMES[regime][0]
    y = np.geomspace(CIRCUIT.i_o / gain, threshold, 10_000)
    y = np.unique(np.r_[y, threshold * (1 - np.geomspace(1e-7, 0.5, 5_000))])
    return y, (1 + y) * (1 - (feedback_of(regime, tau_mem) * y**POWER if exponential else 0))


def interval(current: float, regime: str, tau_mem: float, exponential: bool) -> float:
    """Time in s from reset to threshold at a constant current/I_τ, by quadrature."""
    y, holding = needed(regime, tau_mem, exponential)
    slowness = (1 + 1 / y) / (current - holding)
    return tau_mem * float(np.sum(0.5 * (slowness[1:] + slowness[:-1]) * np.diff(y)))


@cache
def constant_drive(point: Point, refractory: float, exponential: bool) -> float:
    """I_dc/I_τ for the rate that is asked for, or what 0.1 % more than the smallest current gives."""
    least = float(needed(point.regime, point.tau_mem, exponential)[1].max())
    low, high = np.log(1e-3), np.log(1e6)
    for _ in range(30):
        middle = 0.5 * (low + high)
        current = least * (1 + np.exp(middle))
        slow = interval(current, point.regime, point.tau_mem, exponential) + refractory > 1 / point.drive
        low, high = (middle, high) if slow else (low, middle)
    return least * (1 + float(np.exp(low)))


def jump(point: Point, exponential: bool) -> float:
    """Current/I_τ that an event adds, for a potential of `drive` thresholds (of the smallest y that runs away)."""
    gain, current = REGIMES[point.regime]
    threshold = current / gain
    if exponential:
        threshold = min(threshold, feedback_of(point.regime, point.tau_mem) ** (-1 / POWER))
    t = np.linspace(0, 10 * max(point.tau_mem, point.tau_syn), 20_001)
    m, s = point.tau_mem, point.tau_syn * 1.001
    height = (s / (m - s) * (np.exp(-t / m) - np.exp(-t / s))).max()
    return point.drive * threshold / height


def circuit(points: list[Point], refractory: float, exponential: bool, spread: Sequence[float] = SPREAD) -> Params:
    """One excitatory and one inhibitory input channel per element of `spread`, the relative weight of its events."""
    n = len(points)
    bias = {name: np.full(n, PARAMETERS[name].off) for name in CURRENTS}
    tau_mem = np.array([p.tau_mem for p in points])
    tau_syn = np.array([p.tau_syn or 1e-2 for p in points])
    leak = CIRCUIT.tau("i_tau_mem", tau_mem)
    bias["i_tau_mem"] = leak
    bias["i_gain_mem"] = np.array([REGIMES[p.regime][0] for p in points])
    bias["i_spkthr"] = np.array([REGIMES[p.regime][1] for p in points])
    bias["i_ref"][:] = CIRCUIT.width("i_ref", refractory)
    for name in DENDRITES:
        bias[f"i_tau_{name}"] = CIRCUIT.tau(f"i_tau_{name}", tau_syn)
        bias[f"i_gain_{name}"] = 100 * bias[f"i_tau_{name}"]
    bias["i_dc"] = leak * [constant_drive(p, refractory, exponential) if p.constant else 0 for p in points]
    bias["i_f_nmda"] = 0.1 * bias["i_spkthr"]
    bias["i_tau_ahp"][:] = bias["i_gain_ahp"][:] = CIRCUIT.tau("i_tau_ahp", AHP_TAU)
    bias["i_pulse_ahp"][:] = CIRCUIT.width("i_pulse_ahp", 1e-5)
    bias["i_w_ahp"] = AHP_KICK * leak / -np.expm1(-1e-5 / AHP_TAU)

    rows = []  # (source, neuron, dendrite, jump of the current in I_τ)
    for k, p in enumerate(points):
        if p.constant:
            continue
        size = jump(p, exponential)
        share = 0.5 if p.kind == "nmda" else 1.0
        rows.append((0, k, 0, share * size))
        if p.kind == "nmda":
            rows.append((0, k, 1, share * size))
        elif p.kind == "gaba":
            rows.append((1, k, 2, 0.5 * size))
        elif p.kind == "shunt":
            rows.append((1, k, 3, 1 / (SHUNT_RATE * p.tau_syn)))
    pre, post, dendrite, size = (np.array(column) for column in zip(*rows, strict=True))
    latches = [
        latch_bits(dc=p.constant, exponential=exponential, adaptation="adapting" in p.kind, nmda_gate=p.kind == "nmda")
        for p in points
    ]
    index = np.arange(n)
    topology = Topology(
        inputs=(Port("in", (2 * len(spread),)),),
        populations=(("hidden", n),),
        outputs=(Port("out", (n,), "hidden"),),
        dt=1e-3,
        group=index,
        latches=np.array(latches),
        place=np.stack([index // 1024, index // 256 % 4, index % 256], 1),
        pre=pre.astype(int),
        post=post.astype(int),
        dendrite=dendrite.astype(int),
        row=np.zeros(len(pre), int),
    )
    params = Params(bias, np.ones(len(pre)), None, topology, CIRCUIT)
    # Charge in thresholds is (jump in I_τ)·(I_gain/I_spkthr)·τ_s/τ_m.
    per_jump = (bias["i_gain_mem"] / bias["i_spkthr"] * tau_syn / tau_mem)[topology.post]
    weight = size * per_jump / event_charge(params)
    return Params(bias, weight, None, topology, CIRCUIT).check()


def poisson(rates: Sequence[float], seconds: float, channels: int = 2 * len(SPREAD), seed: int = 0) -> np.ndarray:
    """Events (batch, time, channel) in bins of 1 ms: one sample per rate in Hz (all excitatory channels)."""
    shape = (len(rates), round(seconds / DT), channels)
    mean = np.asarray(rates)[:, None, None] * DT / (channels / 2)
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.float32)


def counts(params: Params, x: np.ndarray, substeps: int) -> np.ndarray:
    """Spikes (batch, N) in internal steps of 1 ms / substeps; events come at the beginning of their millisecond."""
    total = jax.jit(lambda events: spike_counts(params, events, substeps=substeps, checkpoint=True).sum(1))(x)
    return np.asarray(total, int)


def refined(x: np.ndarray, factor: int) -> np.ndarray:
    """The same events in finer bins, each at the beginning of its old bin."""
    fine = np.zeros((x.shape[0], x.shape[1] * factor, x.shape[2]), x.dtype)
    fine[:, ::factor] = x
    return fine


SECONDS, RATES = 2.0, (5.0, 20.0, 80.0, 300.0)
TAUS = (2e-3, 10e-3, 100e-3)
REFRACTORY = 1e-3
GATE = "the mean of the NMDA gate over a step of half of τ is taken from a prediction"
ENDS: dict[tuple[bool, str, float], str] = {(False, "nmda", TAUS[0]): GATE}
"""Where 2 % end: (exponential soma, kind, τ of the membrane) and why."""


class Run(NamedTuple):
    """Counts (rates, neurons) in steps of 1 ms and of 10 µs; `kept`: those between 5 and 300 Hz, constant drive once."""

    points: list[Point]
    params: Params
    x: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    kept: np.ndarray

    def chosen(self, kind: str, tau_mem: float | None = None) -> np.ndarray:
        """Which counts belong to `kind`."""
        wanted = [p.kind == kind and tau_mem in (None, p.tau_mem) for p in self.points]
        return self.kept & np.array(wanted)

    def off(self, coarse: np.ndarray) -> np.ndarray:
        """Counts that differ by more than 2 % and more than one spike."""
        return np.abs(coarse - self.fine) > np.maximum(1, 0.02 * self.fine)


def in_range(points: Sequence[Point], fine: np.ndarray, seconds: float) -> np.ndarray:
    """Counts (rates, neurons) of 5 to 300 Hz; constant drive is the same for all rates and counts once."""
    kept = (fine >= 5 * seconds) & (fine <= 300 * seconds)
    kept[1:, [p.constant for p in points]] = False
    return kept


@cache
def whole_run(exponential: bool) -> Run:
    points = grid(TAUS, TAUS, KINDS, (0.004, 0.03, 0.3, 4.0) if exponential else (0.1, 0.6, 4.0))
    params, x = circuit(points, REFRACTORY, exponential), poisson(RATES, SECONDS)
    assert internal_step(params, DT) == (2 if exponential else 1)
    coarse = run_circuit(params, x, DT, ("spikes",)).counts()
    fine = counts(params, x, 100)
    return Run(points, params, x, coarse.astype(int), fine, in_range(points, fine, SECONDS))


def cells() -> list[Any]:
    found = []
    for exponential, kind, tau_mem in product((False, True), KINDS, TAUS):
        name = f"{'exponential' if exponential else 'thresholded'}-{kind}-{tau_mem * 1e3:g}ms".replace(" ", "-")
        reason = ENDS.get((exponential, kind, tau_mem))
        marks = [pytest.mark.xfail(reason=reason)] if reason else []
        found.append(pytest.param(exponential, kind, tau_mem, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("exponential", "kind", "tau_mem"), cells())
def test_one_millisecond_gives_the_counts_of_ten_microseconds(exponential: bool, kind: str, tau_mem: float) -> None:
    run = whole_run(exponential)
    chosen = run.chosen(kind, tau_mem)
    assert chosen.sum() >= 4
    bad = np.argwhere(chosen & run.off(run.coarse))
    assert not len(bad), [(RATES[r], run.points[k], run.coarse[r, k], run.fine[r, k]) for r, k in bad]


@pytest.mark.parametrize("exponential", [False, True], ids=["thresholded", "exponential"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_grid_covers_5_to_300_hz(exponential: bool, kind: str) -> None:
    run = whole_run(exponential)
    rate = run.fine[run.chosen(kind)] / SECONDS
    assert rate.min() < 15
    assert rate.max() > 150


@pytest.mark.parametrize("exponential", [False, True], ids=["thresholded", "exponential"])
def test_ten_microseconds_are_converged(exponential: bool) -> None:
    """Constant drive against the quadrature of the membrane equation: within 0.5 % or one spike."""
    run = whole_run(exponential)
    compared = 0
    for k, p in enumerate(run.points):
        if p.kind == "dc":
            current = constant_drive(p, REFRACTORY, exponential)
            rise = interval(current, p.regime, p.tau_mem, exponential)
            exact = int((SECONDS - rise) / (rise + REFRACTORY)) + 1
            assert abs(run.fine[0, k] - exact) <= max(1, 0.005 * exact), p
            compared += 1
    assert compared == 30


def test_a_fine_raster_is_the_same_as_internal_steps() -> None:
    points = grid((2e-3, 100e-3), (10e-3,), ("ampa", "gaba"), (0.6, 4.0))
    params, x = circuit(points, REFRACTORY, False), poisson((100.0,), 0.3)
    fine = run_circuit(params, refined(x, 100), DT / 100, ("spikes",)).counts()
    assert fine.max() > 30
    assert np.abs(fine.astype(int) - counts(params, x, 100)).max() <= 1


@pytest.mark.parametrize(
    ("function", "name", "exponential", "kinds", "tau_mem"),
    [
        ("late", "crossing", False, ("ampa", "gaba", "shunt", "dc"), None),
        ("reach", "slope", True, ("ampa",), 100e-3),
    ],
    ids=["crossing", "slope"],
)
def test_the_grid_notices_a_missing_approximation(
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    name: str,
    exponential: bool,
    kinds: tuple[str, ...],
    tau_mem: float | None,
) -> None:
    """Without the interpolation of the crossing, or with the slope of the linear regime everywhere.

    The slope shows where a membrane runs away near I_gain: exponential soma, 100 ms. Elsewhere the drive is far above that,
    and the step of Newton's method makes up for a wrong slope.
    """
    run = whole_run(exponential)
    source, found = re.subn(rf"\b{name} = .*", f"{name} = 1.0", inspect.getsource(getattr(dynamics, function)))
    assert found == 1
    scope: dict[str, Any] = {}
    exec(source, dict(vars(dynamics)), scope)
    with monkeypatch.context() as patch:
        for module in (dynamics, adjoint):
            if hasattr(module, function):
                patch.setattr(module, function, scope[function])
        mutant = counts(run.params, run.x, 1)
    intact = counts(run.params, run.x, 1)
    for kind in kinds:
        chosen = run.chosen(kind, tau_mem)
        assert run.off(mutant)[chosen].mean() > 0.2, kind
        assert not run.off(intact)[chosen].any(), kind
