"""Gradients through spike times: finite differences, solutions in closed form, the adjoint by hand, the surrogate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from circuits import circuits, relative
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params, latch_bits
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.sim.circuit import constants, structure_of
from nir_dynapse.sim.engine import first_spike_times, spike_counts
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.sim.wiring import synaptic_kick, tau_of
from small_networks import population

DT = 1e-3
root: Any = optimize.brentq
EXACT, MOVING = Surrogate(times=True), Surrogate(times=True, smooth=True)


def events(params: Params, steps: int = 40, rate: float = 0.5) -> np.ndarray:
    shape = (3, steps, params.topology.n_channels)
    return np.random.default_rng(1).poisson(rate, shape).astype(float)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delays", [False, pytest.param(True, marks=pytest.mark.long)])
def test_first_times_lie_in_the_bins_of_first_spikes(delays: bool) -> None:
    """Counts are those of every other way through the equations; a silent neuron has the end of the sample."""
    params = circuits(delays=delays)
    x, options = events(params), {"substeps": 2, "longest_delay": 8e-3}
    counts = np.asarray(spike_counts(params, x, DT, native=False, **options))
    for surrogate in (Surrogate(), EXACT):
        times, found = first_spike_times(params, x, DT, surrogate=surrogate, **options)
        assert (found == counts).all()
        fires = counts.any(1)
        assert 0.2 < fires.mean() < 1
        first = np.where(fires, (counts > 0).argmax(1), x.shape[1])
        assert (np.asarray(times) >= first * DT * (1 - 1e-6)).all()
        assert (np.asarray(times) <= (first + fires) * DT * (1 + 1e-6)).all()
        assert np.unique(np.asarray(times)[fires] % (DT / 2) > 1e-6).any()  # within a step, too


# --- finite differences -----------------------------------------------------------------------------------------------

NAMES = ("i_tau_mem", "i_gain_mem", "i_spkthr", "i_ref", "i_pulse", "i_tau_ampa", "i_gain_ampa")
EVERY = ("adaptation", "nmda_gate", "dc", "exponential")


def directions(params: Params) -> dict[str, Callable[[float], Params]]:
    """Relative changes of single bias currents, and of all weights in a random direction."""

    def bias(name: str) -> Callable[[float], Params]:
        return lambda e: replace(params, bias={**params.bias, name: params.bias[name] * (1 + e)})

    weight = np.asarray(params.weight)
    way = np.random.default_rng(3).normal(size=weight.shape)
    return {name: bias(name) for name in NAMES} | {"weight": lambda e: replace(params, weight=weight * (1 + e * way))}


@pytest.mark.parametrize(
    ("latches", "delays", "refractory"),
    [
        pytest.param((), False, 0.6e-3, id="recurrent"),
        pytest.param((), False, 3e-3, id="refractory", marks=pytest.mark.long),
        pytest.param((), True, 0.6e-3, id="delays", marks=pytest.mark.long),
        pytest.param(EVERY, True, 1.4e-3, id="everything", marks=pytest.mark.long),
    ],
)
@pytest.mark.usefixtures("double")
def test_gradients_are_those_of_finite_differences(latches: tuple[str, ...], delays: bool, refractory: float) -> None:
    """First spikes of recurrent networks, most of which follow other spikes; where events arrive when their times say."""
    params = circuits(*latches, dendrites=bool(latches), delays=delays, refractory=refractory)
    x, options = events(params), {"substeps": 2, "longest_delay": 8e-3, "dtype": float}

    def times(params: Params) -> jax.Array:
        return first_spike_times(params, x, DT, surrogate=MOVING, **options)[0]

    fired = np.asarray(times(params)) < x.shape[1] * DT
    assert fired.sum() >= 9
    target = np.random.default_rng(2).normal(size=fired.shape) * fired

    def loss(params: Params) -> jax.Array:
        return (times(params) * target).sum()

    gradient, value = jax.jit(jax.grad(loss))(params), jax.jit(loss)
    for name, change in directions(params).items():
        central = float(value(change(1e-6)) - value(change(-1e-6))) / 2e-6
        moved = jax.tree_util.tree_map(lambda a, b: (a - b) / 2e-3, change(1e-3), change(-1e-3))
        terms = jax.tree_util.tree_map(lambda g, d: float((g * d).sum()), gradient, moved)
        exact = sum(jax.tree_util.tree_leaves(terms))
        assert abs(exact) > 1e-5, name
        assert central == pytest.approx(exact, rel=1e-5), name


# --- solutions in closed form -----------------------------------------------------------------------------------------

ARRIVALS = (5e-3, 9e-3)
LINEAR = 1e4
"""How much smaller than in the closed form of a LIF neuron I_gain is: y is its voltage then, to 1e-6."""


def chain() -> Params:
    """Two inputs, each to a hidden neuron of its own, both to the output; one spike each."""
    layers = (
        Projection.from_dense("in", "hidden", np.diag([0.51, 0.425]), nodes=("first",)),
        Projection.from_dense("hidden", "output", np.array([[0.306, 0.238]]), nodes=("second",)),
    )
    populations = (population("hidden", 2), population("output", 1))
    params = to_params(Network(populations, layers, (Port("in", (2,)),), (Port("out", (1,), "output"),), DT))
    gain = np.asarray(params.bias["i_gain_mem"]) / LINEAR
    return replace(params, weight=np.asarray(params.weight) * LINEAR, bias={**params.bias, "i_gain_mem": gain})


def solved(params: Params, h: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times of the three spikes, and derivatives by the logarithms of the weights of the first and of the last one.

    A kick a at 0 makes v = a·τ_s/(τ − τ_s)·(e^(−t/τ) − e^(−t/τ_s)), which is solved for the threshold; with v' its slope at
    the spike, dt/da = −(∂v/∂a)/v', and a spike that arrives by δ later makes the next one later by its share of v' times δ.
    """
    c = constants(params, h, structure_of(params, h), np, float)
    fast, slow, threshold = float(tau_of(params, 0, np)[0]), float(1 / c.rate[0]), float(c.threshold[0])
    kick = float(np.asarray(synaptic_kick(params, h, np))[0, 0] * h / fast / -np.expm1(-h / fast))
    a = kick * np.asarray(params.weight)

    def v(t: Any, order: int = 0) -> Any:
        part = [np.exp(-t / tau) * (-1 / tau) ** order for tau in (slow, fast)]
        return np.where(t > 0, fast / (slow - fast) * (part[0] - part[1]), 0.0)

    peak = np.log(slow / fast) / (1 / fast - 1 / slow)
    hidden = np.array([t + root(lambda u, k=k: a[k] * v(u) - threshold, 0, peak) for k, t in enumerate(ARRIVALS)])
    sent = hidden + h  # a spike waits for the next step, or one step

    def total(t: float, order: int = 0) -> Any:
        return sum(a[2 + k] * v(t - sent[k], order) for k in (0, 1))

    last = root(lambda t: total(t) - threshold, sent[1], sent[1] + peak)
    since = hidden - np.array(ARRIVALS)
    first = -v(since) / v(since, 1)
    share = a[2:] * v(last - sent, 1) / total(last, 1)
    by_own = -a[2:] * v(last - sent) / total(last, 1)
    return np.r_[hidden, last], first, np.r_[share * first, by_own]


@pytest.mark.parametrize(
    ("surrogate", "tolerance"),
    [(EXACT, 0.04), pytest.param(MOVING, 0.03, marks=pytest.mark.long)],
    ids=["exact", "moving"],
)
@pytest.mark.usefixtures("double")
def test_gradients_are_those_of_the_event_based_solution(surrogate: Surrogate, tolerance: float) -> None:
    """Linear neurons with exponential synapses (what EventProp and Fast & Deep solve), in steps of 25 µs."""
    params, substeps = chain(), 40
    x = np.zeros((1, 40, 2))
    for k, t in enumerate(ARRIVALS):
        x[0, round(t / DT), k] = 1
    weight = np.asarray(params.weight)

    def times(weight: Any) -> jax.Array:
        chip = replace(params, weight=weight)
        return first_spike_times(chip, x, DT, substeps=substeps, surrogate=surrogate, dtype=float)[0][0]

    found, slopes = times(weight), jax.jacrev(times)(weight) * weight
    wanted, first, last = solved(params, DT / substeps)
    assert np.abs(np.asarray(found) - wanted).max() < 2 * DT / substeps
    assert np.diag(slopes[:2, :2]) == pytest.approx(first, rel=tolerance)
    assert np.asarray(slopes[2]) == pytest.approx(last, rel=tolerance)
    assert np.asarray(slopes[0, 1:]) == pytest.approx(0.0, abs=1e-12)  # nothing comes before what causes it


@pytest.mark.usefixtures("double")
def test_a_constant_current_has_the_time_of_a_logarithm() -> None:
    """From y' = (A − 1 − y)/τ: t = τ·ln((A − 1)/(A − 1 − θ)), differentiated by A and by θ."""
    params = chain()
    bias = dict(params.bias)
    c = constants(params, DT / 10, structure_of(params, DT / 10), np, float)
    threshold, tau = float(c.threshold[0]), float(1 / c.rate[0])
    bias["i_dc"] = 2.5 * threshold * np.asarray(bias["i_tau_mem"])
    t = params.topology
    params = replace(params, bias=bias, topology=replace(t, latches=t.latches | latch_bits(dc=True)))

    def time(scale: Any) -> jax.Array:
        chip = replace(params, bias={**bias, **{name: bias[name] * scale[name] for name in scale}})
        return first_spike_times(chip, np.zeros((1, 30, 2)), DT, substeps=10, surrogate=EXACT, dtype=float)[0][0, 0]

    names = ("i_dc", "i_spkthr")
    value, slope = jax.value_and_grad(time)(dict.fromkeys(names, 1.0))
    drive = 2.5 * threshold
    assert float(value) == pytest.approx(tau * np.log(drive / (drive - threshold)), rel=2e-3)
    assert float(slope["i_spkthr"]) == pytest.approx(tau * threshold / (drive - threshold), rel=0.02)
    assert float(slope["i_dc"]) == pytest.approx(-tau * threshold / (drive - threshold), rel=0.02)


# --- the adjoint by hand ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latches", "n_sub", "surrogate"),
    [
        pytest.param(("adaptation", "dc"), 2, EXACT, id="exact"),
        pytest.param((), 1, Surrogate(), id="surrogate", marks=pytest.mark.long),
        pytest.param(("dc",), 1, Surrogate(timing=True), id="timing", marks=pytest.mark.long),
    ],
)
@pytest.mark.usefixtures("double")
def test_the_adjoint_is_the_gradient_of_the_scan(latches: tuple[str, ...], n_sub: int, surrogate: Surrogate) -> None:
    """Weights, bias currents and input, of times and of counts, to rounding; checkpoints take the scan."""
    params = circuits(*latches, scale=1.2, refractory=1.6e-3)
    x, rng = events(params, 37), np.random.default_rng(2)
    of_times, of_counts = rng.normal(size=(3, 14)), 1e-3 * rng.normal(size=(3, 37, 14))

    def loss(params: Params, x: Any, checkpoint: bool) -> Any:
        times, counts = first_spike_times(
            params, x, DT, surrogate=surrogate, substeps=n_sub, dtype=float, checkpoint=checkpoint
        )
        return (times * of_times).sum() + (counts * of_counts).sum(), (times, counts)

    found = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    ((_, scanned), one), ((_, by_hand), other) = (found(params, x, way) for way in (True, False))
    assert relative(by_hand, scanned) == 0
    assert relative(other, one) < 1e-12
    assert float(scanned[1].sum()) > 30
    assert sum(float(np.abs(leaf).max()) > 0 for leaf in jax.tree_util.tree_leaves(one)) > 12


# --- beside the surrogate ---------------------------------------------------------------------------------------------


def test_surrogate_and_exact_gradients_agree_in_sign() -> None:
    """More weight on the way to the output makes it earlier, by both; the exact one also says by how much."""
    params = chain()
    x = np.zeros((1, 40, 2), np.float32)
    for k, t in enumerate(ARRIVALS):
        x[0, round(t / DT), k] = 1
    weight = np.asarray(params.weight, np.float32)

    def last(weight: Any, surrogate: Surrogate) -> Any:
        return first_spike_times(replace(params, weight=weight), x, DT, substeps=1, surrogate=surrogate)[0][0, 2]

    slopes = {s.times: np.asarray(jax.grad(last)(weight, s)) * weight for s in (Surrogate(), EXACT)}
    assert (slopes[False] < 0).all()
    assert (slopes[True] < 0).all()
    more = float(last(weight * 1.05, EXACT) - last(weight * 0.95, EXACT)) / 0.1
    assert 0.5 < slopes[True].sum() / more < 2


def test_a_silent_neuron_is_pulled_to_its_threshold_and_grazing_is_bounded() -> None:
    """Without a spike the surrogate says what to do; a spike that barely happens does not blow the gradient up."""
    params = chain()
    x = np.zeros((1, 40, 2), np.float32)
    x[0, 5, 0] = 1
    weight = np.asarray(params.weight, np.float32)

    def first(factor: Any) -> Any:
        scaled = jnp.asarray(weight).at[0].multiply(factor)
        return first_spike_times(replace(params, weight=scaled), x, DT, substeps=1, surrogate=EXACT)[0][0, 0]

    run = jax.jit(jax.value_and_grad(first))
    low, high = 0.3, 1.0
    assert float(run(low)[0]) == pytest.approx(40 * DT)
    assert float(run(low)[1]) < 0
    for _ in range(22):  # to the weight at which it just fires
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float(run(middle)[0]) > 39.9 * DT else (low, middle)
    slope = float(run(high)[1])
    assert -2.0 < slope < 0  # 0.1 thresholds per time constant of 20 ms: at most 0.2 s, times the weight


# --- small circuits ---------------------------------------------------------------------------------------------------


def test_a_layer_that_nothing_comes_back_to_and_nothing_at_all() -> None:
    """No recurrence: gradients of XLA's ways are there, and those of the surrogate are the kernels'."""
    one = Projection.from_dense("in", "out", np.array([[0.4, 0.1], [0.2, 0.5], [0.3, 0.3]]), nodes=("fc",))
    net = Network((population("out", 3),), (one,), (Port("in", (2,)),), (Port("output", (3,), "out"),), DT)
    params = to_params(net)
    x = events(params)

    def loss(weight: Any, native: bool | None) -> Any:
        return spike_counts(replace(params, weight=weight), x, DT, substeps=1, native=native).sum()

    def late(weight: Any) -> Any:
        return first_spike_times(replace(params, weight=weight), x, DT, substeps=1, surrogate=EXACT)[0].sum()

    weight = jnp.asarray(params.weight, jnp.float32)
    xla, kernels = (jax.grad(loss)(weight, native) for native in (False, None))
    np.testing.assert_allclose(xla, kernels, rtol=1e-3)
    assert (np.asarray(jax.grad(late)(weight)) < 0).any()  # more weight, earlier
    for samples, steps in ((3, 0), (0, 4)):
        times, counts = first_spike_times(params, np.zeros((samples, steps, 2)), DT, substeps=1, surrogate=EXACT)
        assert times.shape == (samples, 3)
        assert (
            counts.shape
            == (samples, steps, 3)
            == spike_counts(params, np.zeros((samples, steps, 2)), DT, substeps=1, native=False).shape
        )
        assert np.allclose(times, steps * DT)
