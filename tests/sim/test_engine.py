"""The engine: NumPy = JAX, every way through gives the same spikes; delays, noise, faults, single circuits, many groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

import small_networks
from nir_dynapse.chip.device import DYNAPSE2, Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params, latch_bits
from nir_dynapse.data.data import Data
from nir_dynapse.evaluation.evaluate import evaluate
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.quant.compiler import compile
from nir_dynapse.sim import adjoint, circuit, ensemble, simulation, wiring
from nir_dynapse.sim.circuit import RECORDABLE, constants, internal_step, structure_of
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.simulation import run_circuit, simulate
from shortened import shortened

DT = 1e-3
BACKENDS: tuple[Any, ...] = ("numpy", "jax")


def changed(params: Params, *latches: str, dendrite: Any = None, delay: Any = None, **currents: float) -> Params:
    """The same circuit with other bias currents in all groups, latches, dendrites or flags of delays."""
    bias = {**params.bias, **{name: np.full_like(params.bias[name], value) for name, value in currents.items()}}
    t = params.topology
    bits = t.latches | latch_bits(**dict.fromkeys(latches, True))
    dendrite = t.dendrite if dendrite is None else dendrite
    delay = t.delay if delay is None else delay
    return replace(params, bias=bias, topology=replace(t, latches=bits, dendrite=dendrite, delay=delay))


def width(name: str, time: float) -> float:
    return float(DYNAPSE2.circuit.width(name, time))


def poisson(steps: int, channels: int, rate: float = 0.4, batch: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(rate, (batch, steps, channels)).astype(np.float32)


def first(steps: int, channels: int, *active: int) -> np.ndarray:
    """One event of each active channel in the first bin."""
    x = np.zeros((1, steps, channels), np.float32)
    x[0, 0, list(active)] = 1
    return x


def trace(params: Params, x: np.ndarray, name: str, dt: float = DT, backend: str = "numpy") -> np.ndarray:
    return run_circuit(params, x, dt, ("spikes", name), backend).states[name]["hidden"][0].astype(float)


def single(**kwargs: float) -> Params:
    """One neuron, an input that excites and one that inhibits, one internal step per bin of 1 ms."""
    params = to_params(small_networks.feed_forward(np.array([[0.05, -0.05]]), **kwargs))
    return changed(params, i_ref=width("i_ref", 1.2e-3))


@pytest.fixture
def afresh() -> Iterator[None]:
    """Nothing that was compiled before, nor what is compiled in the test afterwards."""
    jax.clear_caches()
    yield
    jax.clear_caches()


def dale() -> Params:
    """AMPA from the first half of the sources of a kind, GABA from the second: worth two groups."""
    params = to_params(small_networks.recurrent(0, 12, 40, 8))
    t = params.topology
    params = changed(params, dendrite=np.where((t.pre < 6) | ((t.pre >= 13) & (t.pre < 33)), 0, 2))
    return replace(params, weight=0.9 * np.asarray(params.weight))


def equal_counts(params: Params, before: np.ndarray, x: np.ndarray) -> None:
    for backend in BACKENDS:
        after = run_circuit(params, x, DT, ("spikes",), backend).spikes["hidden"]
        assert (after != before).mean() < 1e-3


@pytest.mark.usefixtures("afresh")
def test_rows_and_groups_are_the_same_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    params, x = dale(), poisson(200, 12, 0.8, batch=2)
    before = run_circuit(params, x, DT, ("spikes",)).spikes["hidden"]
    assert before.sum() > 500
    assert len(structure_of(params, DT).groups) == 1
    monkeypatch.setattr(wiring, "SPLIT_FROM", 0)
    assert len(structure_of(params, DT).groups) == 2
    equal_counts(params, before, x)
    monkeypatch.setattr(wiring, "SPLIT_FROM", 2**30)
    monkeypatch.setattr(
        simulation, "structure_of", lambda *args, **more: structure_of(*args, **more)._replace(rows=True)
    )
    equal_counts(params, before, x)


def test_large_sparse_networks_get_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    params = to_params(small_networks.recurrent(0, 3, 300, 2, fan_in=1))
    assert not structure_of(params, DT).rows
    matrices = run_circuit(params, poisson(40, 3, 3.0), DT, ("spikes",), "numpy").spikes["hidden"]
    monkeypatch.setattr(circuit, "ROWS_FROM", 0)
    assert structure_of(params, DT).rows
    assert (run_circuit(params, poisson(40, 3, 3.0), DT, ("spikes",), "numpy").spikes["hidden"] == matrices).all()


@pytest.mark.parametrize("sizes", [{"BLOCK": 300, "SMALL": 0}, {"BLOCK": 0, "TINY": 0}, {"SERIAL": 0, "SMALL": 2**30}])
@pytest.mark.usefixtures("afresh")
def test_blocks_and_detours_change_nothing(sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    params, x = dale(), poisson(60, 12, 1.0, batch=2)
    for name, value in sizes.items():
        monkeypatch.setattr(adjoint, name, value)
    equal_counts(params, run_circuit(params, x, DT, ("spikes",), "numpy").spikes["hidden"], x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_events_arrive_after_the_delay_of_their_row(backend: str) -> None:
    """Per row of one chip: the charge is the same, its centre is later by the delay; none, precise, mismatched, both."""
    n, h = 24, 0.5e-3
    params = to_params(small_networks.feed_forward(np.full((n, 1), 0.02)))
    late = changed(params, delay=np.arange(n) % 4)
    late = changed(late, i_delay_precise=width("i_delay_precise", 2.3e-3))
    late = changed(late, i_delay_mismatched=width("i_delay_mismatched", 7.1e-3))
    chip = fabricate(late, Mismatch((("i_delay_precise", 0.1), ("i_delay_mismatched", 0.5)), synapse=0.0), 4)
    base = chip.bias["i_delay_precise"] * np.linspace(0.8, 1.2, n)
    chip = replace(chip, bias={**chip.bias, "i_delay_precise": base})  # every neuron has its own current
    delays = chip.row_delays()[np.argsort(chip.topology.post)]
    assert len(np.unique(delays)) > n / 2
    assert internal_step(chip, h) == 1
    x, t = first(300, 1, 0), h * np.arange(300)[:, None]
    at_once, then = trace(params, x, "i_ampa", h, backend), trace(chip, x, "i_ampa", h, backend)
    np.testing.assert_allclose(then.sum(0), at_once.sum(0), rtol=1e-4)
    centre = (t * then).sum(0) / then.sum(0) - (t * at_once).sum(0) / at_once.sum(0)
    np.testing.assert_allclose(centre, delays, atol=0.01 * h)
    on_time = np.array([trace.argmax() for trace in then.T]) * h
    assert (np.abs(on_time - delays) < 1.01 * h).all(), "an event arrives in one piece, to interpolation"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dt", [1e-3, 2e-3])
def test_delays_of_whole_bins_shift_the_trace(backend: str, dt: float) -> None:
    """From an input and from a neuron, with one and with several internal steps per bin."""
    net = Network(
        (small_networks.population("hidden", 2),),
        (
            Projection.from_dense("in", "hidden", np.array([[1.0], [0.0]]), nodes=("fc",)),
            Projection.from_dense("hidden", "hidden", np.array([[0.0, 0.0], [0.1, 0.0]]), nodes=("rec",)),
        ),
        (Port("in", (1,)),),
        (Port("out", (2,), "hidden"),),
        1e-3,
    )
    params, x = to_params(net), first(60, 1, 0)
    assert internal_step(params, dt) == round(dt / 1e-3)
    plain = trace(params, x, "i_ampa", dt, backend)
    assert plain[:, 1].max() > 0
    for source, affected in ((0, (0, 1)), (2, (1,))):
        flags = np.where(params.topology.pre == source, 1, 0)
        late = changed(params, delay=flags, i_delay_precise=width("i_delay_precise", 3 * dt))
        shifted = trace(late, x, "i_ampa", dt, backend)
        for n in (0, 1):
            by = 3 if n in affected else 0
            error = np.abs(shifted[by:, n] - plain[: len(plain) - by, n]).max()
            assert error < 1e-3 * plain[:, n].max()
            assert np.abs(shifted[:by, n]).max(initial=0) < 1e-3 * plain[:, n].max()


@pytest.mark.long
def test_delayed_networks_run_everywhere() -> None:
    """Recurrence with delays on virtual chips: NumPy = JAX, `evaluate` counts what `simulate` does."""
    params = to_params(small_networks.recurrent(4, 6, 16, 3, fan_in=5))
    params = changed(params, delay=np.arange(params.topology.n_synapses) % 4)
    params = changed(params, i_delay_precise=width("i_delay_precise", 3e-3))
    params = changed(params, i_delay_mismatched=width("i_delay_mismatched", 5e-3))
    x, mismatch = poisson(60, 6, 0.8, batch=4), Mismatch.uniform(0.1)
    seen = {k: simulate(params, x, mismatch=mismatch, key=k) for k in range(3)}
    assert (simulate(params, x, mismatch=Mismatch.none()).spikes["hidden"] != seen[0].spikes["hidden"]).any()
    for part in ensemble.output_counts(params, x, DT, mismatch, range(3)):
        for k, counts in part.items():
            assert (counts == seen[k].counts()).all()
    again = simulate(params, x, mismatch=mismatch, key=1, backend="numpy")
    assert (again.spikes["hidden"] != seen[1].spikes["hidden"]).mean() < 1e-3
    labels = seen[0].counts().argmax(1)
    found = evaluate(params, Data(x.astype(np.uint8), labels, DT), devices=2, mismatch=mismatch)
    assert found.accuracy[0] + found.ties[0] / len(labels) >= 1.0


# --- noise and faults -------------------------------------------------------------------------------------------------


def test_noise_is_a_fraction_of_the_threshold() -> None:
    """A membrane at half the threshold: the mean stays, the standard deviation is `noise`, at any step."""
    params = to_params(small_networks.feed_forward(np.full((100, 1), 0.01)))
    leak, threshold = float(params.bias["i_tau_mem"][0]), float(params.bias["i_spkthr"][0])
    half = 0.5 * threshold / float(params.bias["i_gain_mem"][0]) + 1
    driven = changed(params, "dc", i_dc=half * leak, i_ref=width("i_ref", 2e-3))
    for dt in (DT, DT / 4):
        steps = int(0.6 / dt)
        assert internal_step(driven, dt) == 1
        mismatch = Mismatch.uniform(0.0, noise=0.04)
        run = simulate(driven, np.zeros((1, steps, 1)), dt=dt, mismatch=mismatch, record=("i_mem",))
        settled = run.states["i_mem"]["hidden"][0, steps // 3 :] / threshold
        assert settled.std() == pytest.approx(0.04, rel=0.1)
        assert settled.mean() == pytest.approx(0.5, rel=0.01)


def test_noise_belongs_to_sample_and_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    params, mismatch = to_params(small_networks.recurrent(0, 12, 56, 8)), Mismatch.uniform(0.0, noise=0.05)
    x = np.repeat(poisson(100, 12), 3, 0)

    def spikes(key: int, backend: Any = "jax") -> np.ndarray:
        return simulate(params, x, mismatch=mismatch, key=key, backend=backend).spikes["hidden"]

    a = spikes(1)
    assert (a == spikes(1)).all()
    assert (a[0] != a[1]).any()
    assert (a != spikes(2)).any()
    assert (a != spikes(1, "numpy")).mean() < 1e-3
    monkeypatch.setattr(simulation, "CHUNK_ELEMENTS", 1)
    assert (a == spikes(1)).all()
    assert (a != spikes(1, "numpy")).mean() < 1e-3


def test_lost_events() -> None:
    """Without recurrence those that remain are some of those that there were."""
    params, x = to_params(small_networks.feed_forward(np.full((50, 2), 0.2))), poisson(300, 2, 1.0, batch=2)
    whole = simulate(params, x, mismatch=Mismatch.none()).output
    assert whole.sum() > 3000
    for loss in (0.0, 0.3, 1.0):
        for backend in BACKENDS:
            left = simulate(params, x, mismatch=Mismatch.uniform(0.0, spike_loss=loss), backend=backend).output
            assert (left <= whole).all()
            assert 1 - left.sum() / whole.sum() == pytest.approx(loss, abs=0.03 if 0 < loss < 1 else 1e-9)


def test_dead_neurons_are_silent_and_dead_rows_without_effect() -> None:
    params, x = to_params(small_networks.feed_forward(np.full((60, 1), 0.4))), poisson(100, 1, 1.0)
    whole = simulate(params, x).output[0].sum(0)
    assert (whole > 0).all()
    for faults in ({"dead_neurons": 0.4}, {"dead_rows": 0.4}):
        mismatch = Mismatch.uniform(0.0, **faults)
        run = simulate(params, x, mismatch=mismatch, key=2, record=("spikes", "i_ampa"))
        chip = fabricate(params, mismatch, 2)
        rows = np.asarray(chip.weight)[np.argsort(chip.topology.post)] == 0
        silent = (np.asarray(chip.bias["i_spkthr"]) == 1.0) | rows
        assert 0.2 < silent.mean() < 0.6
        counts = run.output[0].sum(0)
        assert (counts[silent] == 0).all()
        assert (counts[~silent] == whole[~silent]).all()
        assert (run.states["i_ampa"]["hidden"][0, :, rows] == 0).all()
    for faults in ({"dead_neurons": 1.0}, {"dead_rows": 1.0}):
        assert simulate(params, x, mismatch=Mismatch.uniform(0.0, **faults)).output.sum() == 0


@pytest.mark.long
@pytest.mark.parametrize("cv", shortened([0.5, 2.0, 5.0]))
def test_positive_and_finite_at_any_mismatch(cv: float) -> None:
    params = to_params(small_networks.recurrent(1, 8, 24, 4))
    slow = float(params.circuit.tau("i_tau_ahp", 0.1))
    flags = np.arange(params.topology.n_synapses) % 4
    params = changed(params, "adaptation", "dc", "exponential", "nmda_gate", dendrite=flags, i_f_nmda=1e-9, i_dc=1e-11)
    values = {f"i_tau_{d}": 5e-11 for d in ("nmda", "shunt")} | {f"i_gain_{d}": 1e-9 for d in ("nmda", "shunt")}
    params = changed(params, i_tau_ahp=slow, i_gain_ahp=50 * slow, i_w_ahp=1e-10, i_pulse_ahp=3.5e-9, **values)
    for key in range(4):
        chip = fabricate(params, Mismatch.uniform(cv), key)
        run = run_circuit(chip, poisson(40, 8, 1.0), DT, RECORDABLE, "numpy" if key else "jax")
        for name, nodes in run.states.items():
            assert all(np.isfinite(values).all() and (values >= 0).all() for values in nodes.values()), name
        assert (run.states["i_mem"]["hidden"] > 0).all()
        assert run.spikes["hidden"].max() <= circuit.MAX_SUBSTEPS


# --- single circuits --------------------------------------------------------------------------------------------------


def test_adaptation_is_a_sum_of_exponentials() -> None:
    params = single()
    tau = 0.05
    leak = float(params.circuit.tau("i_tau_ahp", tau))
    dc = 3 * 1000 * float(params.bias["i_tau_mem"][0])
    values = {"i_tau_ahp": leak, "i_gain_ahp": 20 * leak, "i_w_ahp": 1e-10, "i_pulse_ahp": 3.5e-9, "i_dc": dc}
    params = changed(params, "adaptation", "dc", **values)
    assert internal_step(params, DT) == 1
    run = run_circuit(params, np.zeros((1, 200, 2), np.float32), DT, ("spikes", "i_ahp"), "numpy")
    spikes = run.spikes["hidden"][0, :, 0].astype(float)
    assert spikes.sum() > 5
    # A spike counts as one in the middle of its step.
    kick = 20 * 1e-10 * -np.expm1(-params.circuit.width("i_pulse_ahp", 3.5e-9) / tau) * np.exp(-DT / 2 / tau)
    kernel = kick * np.exp(-np.arange(200) * DT / tau)
    expected = np.convolve(spikes, kernel)[:200]
    np.testing.assert_allclose(run.states["i_ahp"]["hidden"][0, :, 0], expected, rtol=1e-4, atol=1e-6 * kick)


def test_shunt_shortens_the_time_constant() -> None:
    """Without input I_mem decays as e^(−L·t/τ), L = 1 + I_shunt/I_τ."""
    params = single(tau_syn=2e-3)
    leak = float(params.bias["i_tau_mem"][0])
    slow = float(params.circuit.tau("i_tau_shunt", 10.0))
    params = changed(params, dendrite=np.array([0, 3]), i_tau_shunt=slow, i_gain_shunt=slow * 15)
    tau = float(params.circuit.tau("i_tau_mem", leak))
    for scale in (0.0, 1.0, 2.0):
        active = replace(params, weight=np.asarray(params.weight) * np.where(params.topology.pre == 1, scale, 5.0))
        x = first(60, 2, 0, 1)
        decay = np.log(trace(active, x, "i_mem")[:, 0])
        factor = 1 + trace(active, x, "i_shunt")[:, 0] / leak
        slope = (decay[20] - decay[30]) / (10 * DT)
        assert slope * tau == pytest.approx(factor[20:30].mean(), rel=0.02)
        assert (factor[25] > 1.5) == (scale > 0)


def test_the_gate_is_half_open_at_its_current() -> None:
    """A small NMDA event on a membrane that rests at I_f_nmda has half the effect."""
    params = single()
    leak, gain = float(params.bias["i_tau_mem"][0]), float(params.bias["i_gain_mem"][0])
    leaks = {"i_tau_nmda": 8.7e-11, "i_gain_nmda": 8.7e-11}
    params = changed(params, "dc", dendrite=np.array([1, 2]), i_dc=301 * leak, i_f_nmda=300 * gain, **leaks)
    x = np.zeros((1, 500, 2), np.float32)
    x[0, 400, 0] = 1
    effect = []
    for circuit_ in (params, changed(params, "nmda_gate")):
        rest, kicked = trace(circuit_, 0 * x, "i_mem")[400:, 0], trace(circuit_, x, "i_mem")[400:, 0]
        assert rest[-1] == pytest.approx(300 * gain, rel=0.01)
        effect.append((kicked - rest).max() / rest[-1])
    assert 1e-4 < effect[0] < 0.1
    assert effect[1] / effect[0] == pytest.approx(0.5, rel=0.03)


def test_twice_the_pulse_is_twice_the_charge() -> None:
    params, x = single(), first(30, 2, 0)
    short = trace(params, x, "i_ampa")
    long = trace(changed(params, i_pulse=float(params.bias["i_pulse"][0]) / 2), x, "i_ampa")
    np.testing.assert_allclose(long, 2 * short, rtol=0.01)


def test_the_refractory_period_adds_to_every_interval() -> None:
    dc = 2 * 1000 * float(single().bias["i_tau_mem"][0])
    counts = []
    for refractory in (2e-3, 5e-3):
        driven = changed(single(), "dc", i_dc=dc, i_ref=width("i_ref", refractory))
        counts.append(float(run_circuit(driven, np.zeros((1, 3000, 2), np.float32), DT, ()).counts()[0, 0]))
    assert 3 / counts[1] - 3 / counts[0] == pytest.approx(3e-3, rel=0.03)


def test_the_exponential_soma_rests_where_its_feedback_says() -> None:
    """(1 + y)·(1 − f·y^p) = A at rest."""
    params = changed(single(), "exponential", "dc")
    leak, gain = float(params.bias["i_tau_mem"][0]), float(params.bias["i_gain_mem"][0])
    c = constants(params, DT, structure_of(params, DT), np, np.float64)
    f, p = float(c.feedback[0]), float(c.power)
    y = (0.3 / f) ** (1 / p)
    params = changed(params, i_dc=(1 + y) * 0.7 * leak)
    level = trace(params, np.zeros((1, 1500, 2), np.float32), "i_mem")[-1, 0]
    assert y * gain < float(params.bias["i_spkthr"][0])
    assert level == pytest.approx(y * gain, rel=0.01)


def test_any_number_of_groups_populations_and_chips() -> None:
    names = [f"p{k}" for k in range(7)]
    net = Network(
        tuple(small_networks.population(name, 3 + k, tau_mem=(10 + 5 * k) * DT) for k, name in enumerate(names)),
        tuple(
            Projection.from_dense("in", name, np.full((3 + k, 2), 0.2), nodes=(name,)) for k, name in enumerate(names)
        ),
        (Port("in", (2,)),),
        (Port("out", (3,), "p0"),),
        DT,
    )
    params, x = to_params(net), poisson(50, 2, 1.0)
    assert params.topology.n_groups == 7
    before = simulate(params, x).spikes
    assert all(before[name].shape == (1, 50, 3 + k) and before[name].sum() for k, name in enumerate(names))
    place = params.topology.place + np.arange(len(params.topology.place))[:, None] % 3 * np.array([1, 0, 0])
    elsewhere = replace(params, topology=replace(params.topology, place=place))
    after = simulate(elsewhere, x).spikes
    assert all((before[name] == after[name]).all() for name in names)
    chips = [simulate(p, x, mismatch=Mismatch()).spikes for p in (params, elsewhere)]
    assert any((chips[0][name] != chips[1][name]).any() for name in names)


def test_a_layout_on_two_chips() -> None:
    board = DYNAPSE2.stack(2)
    layout = compile(small_networks.feed_forward(np.full((1100, 1), 0.4)), device=board)
    assert {*layout.chip.tolist()} == {0, 1}
    spikes = simulate(layout, poisson(30, 1, 1.0), device=board, mismatch=Mismatch()).output[0].sum(0)
    assert spikes.shape == (1100,)
    assert (spikes > 0).mean() > 0.9
