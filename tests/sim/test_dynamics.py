"""The circuits: analytic limits, dt independence, NumPy = JAX, and the peer's defects that we do not have."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from nir_dynapse.chip.device import Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params, latch_bits
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.sim.dynamics import reach
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.simulation import run_circuit, simulate
from shortened import shortened

DT = 1e-3


def with_bias(params: Params, latch: str = "", **currents: float) -> Params:
    """The same circuit with some bias currents set for all groups, and a latch."""
    bias = {**params.bias, **{name: np.full_like(params.bias[name], value) for name, value in currents.items()}}
    topology = params.topology
    if latch:
        topology = replace(topology, latches=topology.latches | latch_bits(**{latch: True}))
    return replace(params, bias=bias, topology=topology)


def trace(params: Params, counts: np.ndarray, name: str, dt: float = DT) -> np.ndarray:
    return run_circuit(params, counts[None].astype(np.float32), dt, ("spikes", name)).states[name]["hidden"][0]


def one_spike(steps: int, channel: int, channels: int = 2) -> np.ndarray:
    x = np.zeros((steps, channels))
    x[0, channel] = 1
    return x


def test_a_driven_membrane_never_gets_stuck() -> None:
    """It rises wherever the input exceeds the leak, from whatever floor, in steps however fine, and never overshoots."""
    y, drive, span = np.meshgrid(np.logspace(-5, 3, 60), np.logspace(-2, 4, 60), np.logspace(-4, -0.3, 20))
    current = 1 + y + drive
    end = reach(y, current, 1.0, span, 1e-6, np)
    assert (end > y).all()
    assert (end <= np.maximum(current - 1, y) * 1.02).all()


@pytest.mark.parametrize("tau_syn", [2e-3, 10e-3, 50e-3])
def test_synapses_decay_exponentially_each_with_its_own_state(networks: ModuleType, tau_syn: float) -> None:
    net = networks.feed_forward(np.array([[0.01, -0.01]]), tau_syn=tau_syn)
    params = to_params(net)
    for channel, name in ((0, "ampa"), (1, "gaba")):
        current = trace(params, one_spike(40, channel), f"i_{name}")[:, 0]
        tau = float(params.circuit.tau(f"i_tau_{name}", params.bias[f"i_tau_{name}"][0]))
        expected = current[0] * np.exp(-np.arange(40) * DT / tau)
        assert np.allclose(current, expected, rtol=2e-4)
        assert current[0] > 0
    assert trace(params, one_spike(40, 0), "i_gaba").max() == 0


def test_steady_state_is_the_dpi_gain(networks: ModuleType) -> None:
    """I_mem settles at I_gain·(I_dc − I_τ)/I_τ: the leak is subtracted once."""
    params = to_params(networks.feed_forward(np.array([[0.01, -0.01]])))
    leak, gain = float(params.bias["i_tau_mem"][0]), float(params.bias["i_gain_mem"][0])
    for factor in (2.0, 10.0, 300.0):
        driven = with_bias(params, "dc", i_dc=factor * leak)
        level = trace(driven, np.zeros((600, 2)), "i_mem")[-1, 0]
        assert level == pytest.approx(gain * (factor - 1), rel=2e-3)


def test_membrane_follows_the_difference_of_exponentials(networks: ModuleType) -> None:
    """Linear regime (I_mem ≫ I_gain): the response to one event is ∝ e^(−t/τ_mem) − e^(−t/τ_syn)."""
    params = to_params(networks.feed_forward(np.array([[0.02, -0.02]]), tau_syn=8e-3))
    lifted = with_bias(params, "dc", i_dc=0.4 * 1000 * float(params.bias["i_tau_mem"][0]))  # rest at 0.4 of threshold
    x = np.zeros((700, 2))
    rest = trace(lifted, x, "i_mem")[600:, 0]
    for channel, sign in ((0, 1), (1, -1)):
        kicked = x.copy()
        kicked[600, channel] = 1
        response = sign * (trace(lifted, kicked, "i_mem")[600:, 0] - rest)
        name = ("ampa", "gaba")[channel]
        tau_s = float(params.circuit.tau(f"i_tau_{name}", params.bias[f"i_tau_{name}"][0]))
        tau_m = float(params.circuit.tau("i_tau_mem", params.bias["i_tau_mem"][0]))
        t = DT * np.arange(1, 101)
        shape = (np.exp(-t / tau_m) - np.exp(-t / tau_s)) * tau_s / (tau_m - tau_s)
        scale = float(response @ shape / (shape @ shape))
        assert np.abs(response - scale * shape).max() < 0.02 * response.max()
        # Closed form: the whole charge of an event of weight w is k·w of the threshold, k = w_in·r·dt/τ_mem = τ_syn/dt.
        charge = 8e-3 / DT * 0.02 * float(params.bias["i_spkthr"][0])
        assert scale * tau_s / tau_m == pytest.approx(charge, rel=0.02)


def test_inhibition_one_bin_after_excitation_changes_the_response(networks: ModuleType) -> None:
    params = to_params(networks.feed_forward(np.array([[0.05, -0.05]])))
    excited = one_spike(60, 0)
    inhibited = excited.copy()
    inhibited[1, 1] = 1
    assert trace(params, inhibited, "i_mem").max() < 0.8 * trace(params, excited, "i_mem").max()


def test_refractory_period_bounds_the_rate(networks: ModuleType) -> None:
    params = to_params(networks.feed_forward(np.array([[0.5, -0.5]])))
    driven = with_bias(params, "dc", i_dc=5e-7, i_ref=params.circuit.width("i_ref", 5e-3))
    counts = run_circuit(driven, np.zeros((1, 1000, 2), np.float32), DT, ("spikes",)).counts()[0, 0]
    assert 190 <= counts <= 200
    unbounded = with_bias(params, "dc", i_dc=5e-7, i_ref=params.circuit.width("i_ref", 1e-7))
    spikes = run_circuit(unbounded, np.zeros((1, 100, 2), np.float32), DT, ("spikes",)).output
    assert np.isfinite(spikes).all()
    assert spikes.max() <= 64


@pytest.mark.parametrize("tau_mem", [5e-3, 20e-3, 100e-3])
@pytest.mark.parametrize("tau_syn", [2e-3, 10e-3, 50e-3])
def test_one_millisecond_gives_the_counts_of_a_fortieth_of_it(
    networks: ModuleType, tau_mem: float, tau_syn: float
) -> None:
    """Poisson excitation and inhibition at 1 kHz, three strengths: within 2 % or one spike."""
    rng = np.random.default_rng(1)
    strength = DT / tau_mem * DT / tau_syn
    weights = np.array([[s, -0.2 * s] for s in (1.5 * strength, 3 * strength, 7 * strength)]) * tau_mem / DT
    params = to_params(networks.feed_forward(weights, tau_mem=tau_mem, tau_syn=tau_syn))
    x = rng.poisson(1.0, (1, 500, 2)).astype(np.float32)
    fine = np.zeros((1, 20_000, 2), np.float32)
    fine[0, ::40] = x[0]
    coarse = run_circuit(params, x, DT, ("spikes",)).counts()[0]
    exact = run_circuit(params, fine, DT / 40, ("spikes",)).counts()[0]
    assert exact.max() > 20
    assert (np.abs(coarse - exact) <= np.maximum(1, 0.02 * exact)).all(), (coarse, exact)


def test_numpy_and_jax_agree(networks: ModuleType) -> None:
    net = networks.recurrent(0, 12, 64, 8)
    x = np.random.default_rng(0).poisson(0.4, (250, 12))
    a = simulate(net, x, backend="numpy").spikes["hidden"]
    b = simulate(net, x, backend="jax").spikes["hidden"]
    assert a.sum() > 1000
    assert (a != b).mean() < 1e-3


def test_adaptation_slows_down_shunt_and_gate_act(networks: ModuleType) -> None:
    params = to_params(networks.feed_forward(np.array([[0.05, -0.05]])))
    driven = with_bias(params, "dc", i_dc=3 * 1000 * float(params.bias["i_tau_mem"][0]))
    silent = np.zeros((1, 500, 2), np.float32)
    free = run_circuit(driven, silent, DT, ("spikes",)).counts()[0, 0]
    slow = params.circuit.tau("i_tau_ahp", 0.1)
    adapted = with_bias(driven, "adaptation", i_tau_ahp=slow, i_gain_ahp=50 * slow, i_w_ahp=2e-10, i_pulse_ahp=3.5e-9)
    assert 0 < run_circuit(adapted, silent, DT, ("spikes",)).counts()[0, 0] < 0.8 * free
    exponential = with_bias(driven, "exponential")
    assert run_circuit(exponential, silent, DT, ("spikes",)).counts()[0, 0] > free

    x = one_spike(50, 1)[None].astype(np.float32)
    shunted = replace(params, topology=replace(params.topology, dendrite=np.array([0, 3])))
    shunted = with_bias(shunted, i_tau_shunt=8.7e-11, i_gain_shunt=8.7e-9)
    both = x.copy()
    both[0, 0, 0] = 1
    with_shunt = run_circuit(shunted, both, DT, ("spikes", "i_mem")).states["i_mem"]["hidden"].max()
    without = run_circuit(shunted, one_spike(50, 0)[None].astype(np.float32), DT, ("spikes", "i_mem"))
    assert with_shunt < 0.9 * without.states["i_mem"]["hidden"].max()

    nmda = replace(params, topology=replace(params.topology, dendrite=np.array([1, 2])))
    nmda = with_bias(nmda, i_tau_nmda=8.7e-11, i_gain_nmda=8.7e-9)
    gated = with_bias(nmda, "nmda_gate", i_f_nmda=5e-9)
    alone = one_spike(50, 0)
    assert trace(gated, alone, "i_mem").max() < 0.5 * trace(nmda, alone, "i_mem").max()


@pytest.mark.parametrize("cv", shortened([0.2, 0.5]))
def test_never_nan_under_strong_mismatch(networks: ModuleType, cv: float) -> None:
    params = to_params(networks.recurrent(1, 12, 48, 8))
    x = np.random.default_rng(0).poisson(1.0, (1, 300, 12)).astype(np.float32)
    for seed in range(4):
        chip = fabricate(params, Mismatch.uniform(cv), seed)
        assert all((np.asarray(v) > 0).all() for k, v in chip.bias.items() if k not in ("i_dc", "i_f_nmda", "i_w_ahp"))
        run = run_circuit(chip, x, DT, ("spikes", "i_mem", "i_ampa"))
        assert np.isfinite(run.states["i_mem"]["hidden"]).all()
        assert np.isfinite(run.states["i_ampa"]["hidden"]).all()
        assert run.output.max() <= 64


def test_clear_errors_for_wrong_input(networks: ModuleType) -> None:
    net = networks.feed_forward(np.array([[0.1, -0.1]]))
    with pytest.raises(ConfigurationError, match=r"expects \(batch, time, 2\)"):
        simulate(net, np.zeros((5, 3)))
    with pytest.raises(ConfigurationError, match="bin 0, channel 0 of the data holds nan events, allowed are 0 to"):
        simulate(net, np.full((5, 2), np.nan))
    with pytest.raises(ParameterRangeError, match=r"its own step of 0\.001 s"):
        simulate(net, np.zeros((5, 2)), ideal=True, dt=1e-4)
    with pytest.raises(ParameterRangeError, match="Recordable are"):
        simulate(net, np.zeros((5, 2)), record=("voltage",))
