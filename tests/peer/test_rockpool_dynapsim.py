"""Rockpool's DynapSim as a peer: the same circuits agree where its equations are sound, and where they are not ours are.

    PYTHONPATH=.:tests/helpers python -m pytest -q tests/peer        (in an environment with rockpool and jax)

Both get the same bias currents. DynapSim subtracts the leak twice, so its DC input gets one leak more; its membrane always
has the positive feedback, so ours has the exponential soma; it has one excitatory synapse, ours uses AMPA.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from frontend_models import framework
from nir_dynapse.chip.device import CURRENTS, PARAMETERS, Circuit
from nir_dynapse.circuit.params import Params, Topology, latch_bits
from nir_dynapse.network.network import Port
from nir_dynapse.sim.engine import spike_counts
from nir_dynapse.sim.simulation import run_circuit

jax = framework("jax")
logging.disable(logging.WARNING)  # the peer warns through the root logger that samna is missing
dynapse = framework("rockpool.devices.dynapse")
logging.disable(logging.NOTSET)

pytestmark = pytest.mark.peer

CIRCUIT = Circuit()
I_O = CIRCUIT.i_o
FINE = 1e-4
SCALE = 1e-8
"""The peer's I_scale: weight current in A of a weight of 1."""

DEFAULTS = {
    "i_tau_mem": CIRCUIT.tau("i_tau_mem", 20e-3),
    "i_gain_mem": 4 * CIRCUIT.tau("i_tau_mem", 20e-3),
    "i_tau_ampa": CIRCUIT.tau("i_tau_ampa", 10e-3),
    "i_gain_ampa": 100 * CIRCUIT.tau("i_tau_ampa", 10e-3),
    "i_spkthr": 1e-7,
    "i_ref": CIRCUIT.width("i_ref", 1e-3),
    "i_dc": I_O,
    "i_pulse": CIRCUIT.width("i_pulse", 10e-6),
    "i_tau_ahp": CIRCUIT.tau("i_tau_ahp", 50e-3),
    "i_gain_ahp": CIRCUIT.tau("i_tau_ahp", 50e-3),
    "i_pulse_ahp": CIRCUIT.width("i_pulse_ahp", 1e-6),
    "i_w_ahp": 0.0,
}
THEIRS = {
    "i_tau_mem": "Itau_mem",
    "i_gain_mem": "Igain_mem",
    "i_tau_ampa": "Itau_syn",
    "i_gain_ampa": "Igain_syn",
    "i_spkthr": "Ispkthr",
    "i_ref": "Iref",
    "i_dc": "Idc",
    "i_pulse": "Ipulse",
    "i_tau_ahp": "Itau_ahp",
    "i_gain_ahp": "Igain_ahp",
    "i_pulse_ahp": "Ipulse_ahp",
    "i_w_ahp": "Iw_ahp",
}


def ours(
    weight: np.ndarray,
    dt: float,
    adaptation: bool = False,
    exponential: bool = True,
    i_o: float = I_O,
    **currents: Any,
) -> Params:
    """Weights (inputs, neurons), positive on AMPA and negative on GABA; one bias group per neuron."""
    n_in, n = weight.shape
    bias = {name: np.full(n, PARAMETERS[name].off) for name in CURRENTS}
    for name, value in {**DEFAULTS, **currents}.items():
        bias[name] = np.broadcast_to(np.asarray(value, float), n)
    pre, post = np.nonzero(weight)
    sign = np.where(weight[pre, post] > 0, 0, 2)
    bias["i_tau_gaba"], bias["i_gain_gaba"] = bias["i_tau_ampa"], bias["i_gain_ampa"]
    index = np.arange(n)
    topology = Topology(
        inputs=(Port("in", (n_in,)),),
        populations=(("hidden", n),),
        outputs=(Port("out", (n,), "hidden"),),
        dt=dt,
        group=index,
        latches=np.full(n, latch_bits(dc=True, exponential=exponential, adaptation=adaptation)),
        place=np.stack([index // 1024, index // 256 % 4, index % 256], 1),
        pre=pre,
        post=post,
        dendrite=sign,
        row=np.zeros(len(pre), int),
    )
    return Params(bias, np.abs(weight[pre, post]) * SCALE, None, topology, replace(CIRCUIT, i_o=i_o)).check()


def peer(n: int, dt: float, i_o: float = I_O, **currents: Any) -> Any:
    """A DynapSim without recurrence and with the same currents, its second leak given back through the DC input."""
    values = {name: np.broadcast_to(np.asarray(v, np.float32), n) for name, v in {**DEFAULTS, **currents}.items()}
    values["i_dc"] = values["i_dc"] + values["i_tau_mem"]
    named = {THEIRS[name]: value for name, value in values.items()}
    return dynapse.DynapSim((n, n), has_rec=False, dt=dt, Io=np.full(n, i_o, np.float32), **named)


def run_ours(params: Params, x: np.ndarray, dt: float, *record: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Spikes (batch, time, n) and the recorded currents."""
    run = run_circuit(params, x.astype(np.float32), dt, ("spikes", *record))
    return run.spikes["hidden"].astype(int), [run.states[name]["hidden"] for name in record]


def run_peer(module: Any, weight: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Spikes and everything that the peer records."""
    spikes, _, record = module((x @ weight).astype(np.float32), record=True)
    return np.asarray(spikes), {name: np.asarray(value) for name, value in record.items()}


def both(
    weight: np.ndarray, x: np.ndarray, dt: float = FINE, adaptation: bool = False, **currents: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Spike counts (batch, n) of ours and of the peer for the same events."""
    a, _ = run_ours(ours(weight, dt, adaptation, **currents), x, dt)
    b, _ = run_peer(peer(weight.shape[1], dt, **currents), weight, x)
    return a.sum(1), b.sum(1)


def poisson(rate: float | list[float], seconds: float, channels: int, dt: float = FINE, seed: int = 0) -> np.ndarray:
    """Events (batch, time, channel): one sample per rate in Hz."""
    rates = np.atleast_1d(rate)[:, None, None]
    return np.random.default_rng(seed).poisson(rates * dt, (len(rates), round(seconds / dt), channels))


def refine(x: np.ndarray, factor: int) -> np.ndarray:
    """The same events in finer bins, each at the start of its old bin."""
    fine = np.zeros((x.shape[0], x.shape[1] * factor, x.shape[2]), x.dtype)
    fine[:, ::factor] = x
    return fine


def assert_counts_agree(a: np.ndarray, b: np.ndarray, share: float, least: int = 20) -> None:
    assert a.max() >= least
    assert (np.abs(a - b) <= np.maximum(2, share * b)).all(), (a, b)


@pytest.mark.parametrize("tau", [2e-3, 10e-3, 50e-3])
def test_synaptic_currents_agree(tau: float) -> None:
    """Ours is recorded at the end of the bin, the peer's at its beginning; its idle floor is the only other difference."""
    weight, x = np.array([[0.3, 1.0, 2.0, 5.0]]), poisson(200.0, 0.5, 1)
    currents = {"i_tau_ampa": CIRCUIT.tau("i_tau_ampa", tau), "i_gain_ampa": 100 * CIRCUIT.tau("i_tau_ampa", tau)}
    _, (mine,) = run_ours(ours(weight, FINE, **currents), x, FINE, "i_ampa")
    _, record = run_peer(peer(4, FINE, **currents), weight, x)
    decay = np.exp(-FINE / tau)
    theirs = record["isyn"] * decay
    floor = I_O * (
        -np.expm1(-10e-6 / tau) / -np.expm1(-FINE / tau) + np.exp(-np.arange(1, x.shape[1] + 1) * FINE / tau)
    )
    assert mine.max() > 1e3 * I_O
    assert (np.abs(theirs - mine) <= 2e-4 * mine + 1.01 * floor[None, :, None]).all()


def test_membrane_currents_agree() -> None:
    """Below threshold, driven by events on a DC level; the peer keeps I_ahp and I_syn above I_o, so I_o is made small.

    The growth from I_o on is left out: there Euler's method is off by its order, 13 % at 10 µs and 27 % at 20 µs.
    """
    dt, weight, leak = 1e-5, np.array([[0.01, 0.05, 0.2]]), CIRCUIT.tau("i_tau_mem", 2e-3)
    x = refine(poisson(300.0, 0.2, 1), 10)
    currents = {"i_tau_mem": leak, "i_gain_mem": 4 * leak, "i_dc": 1.5 * leak, "i_spkthr": 1e-5, "i_o": 0.01 * I_O}
    spikes, (mine,) = run_ours(ours(weight, dt, **currents), x, dt, "i_mem")
    _, record = run_peer(peer(3, dt, **currents), weight, x)
    assert spikes.sum() == 0
    assert mine.max() > 20 * mine[0, 3000:].min()
    error = mine[0, 3000:] / record["imem"][0, 3000:] - 1
    assert np.abs(error).max() < 0.01
    assert np.abs(error.mean(0)).max() < 1e-3


def test_steady_states_agree() -> None:
    """With the equation's own fixed point, feedback included, as the third."""
    leak = CIRCUIT.tau("i_tau_mem", 2e-3)
    factor = np.array([1.2, 2.0, 5.0, 20.0])
    currents = {"i_tau_mem": leak, "i_gain_mem": leak, "i_dc": factor * leak, "i_spkthr": 1e-5, "i_o": 0.01 * I_O}
    weight, x = np.ones((1, 4)), np.zeros((1, 5000, 1))
    _, (mine,) = run_ours(ours(weight, FINE, **currents), x, FINE, "i_mem")
    _, record = run_peer(peer(4, FINE, **currents), weight, x)
    level = mine[0, -1]
    power = CIRCUIT.kappa / (CIRCUIT.kappa + 1)
    feedback = (0.01 * I_O) ** (1 - power) * level**power / leak
    assert np.allclose(level, record["imem"][0, -1], rtol=1e-3)
    assert np.allclose(level, leak * (factor - 1) + feedback * (level + leak), rtol=1e-3)


def test_counts_agree_over_rates_and_weights() -> None:
    """Four rates, five weights: within 3 % or two spikes at 0.1 ms."""
    weight = np.array([[0.01, 0.03, 0.1, 0.3, 1.0]])
    a, b = both(weight, poisson([50.0, 100.0, 200.0, 400.0], 1.0, 1))
    assert_counts_agree(a, b, 0.03)


def test_counts_agree_over_refractory_periods() -> None:
    weight = np.full((1, 4), 1.0)
    a, b = both(
        weight, poisson([200.0, 400.0], 1.0, 1), i_ref=CIRCUIT.width("i_ref", np.array([5e-4, 2e-3, 5e-3, 2e-2]))
    )
    assert (a[:, 0] > 1.3 * a[:, -1]).all()
    assert_counts_agree(a, b, 0.03)


def test_feed_forward_network_agrees() -> None:
    """The size of the peer's own demonstration: 60 inputs, two neurons, the positive part of random weights."""
    weight = np.maximum(np.random.default_rng(3).normal(0, 0.05, (60, 2)), 0)
    a, b = both(weight, poisson([5.0, 10.0, 20.0, 40.0], 1.0, 60))
    assert_counts_agree(a, b, 0.03)


def adapting(drive: float, gain: float, weight: float) -> dict[str, Any]:
    leak = DEFAULTS["i_tau_mem"]
    pulse = CIRCUIT.width("i_pulse_ahp", 1e-5)
    return {"i_dc": drive * leak, "i_gain_mem": gain, "i_w_ahp": weight, "i_pulse_ahp": pulse}


def test_adaptation_currents_agree() -> None:
    """The same jump per spike and the same decay; the peer's comes one bin later and is never below I_o."""
    currents = adapting(20.0, 4e-9, 1e-8)
    weight, x = np.ones((1, 1)), np.zeros((1, 5000, 1))
    mine_spikes, (mine,) = run_ours(ours(weight, FINE, True, **currents), x, FINE, "i_ahp")
    peer_spikes, record = run_peer(peer(1, FINE, **currents), weight, x)
    jump, decay = 1e-8 * -np.expm1(-1e-5 / 50e-3), np.exp(-FINE / 50e-3)

    def expected(spikes: np.ndarray) -> np.ndarray:
        current = np.zeros(len(spikes))
        for t, count in enumerate(spikes):
            current[t] = current[t - 1] * decay + jump * count
        return current

    assert mine.max() > 2 * jump
    assert np.allclose(mine[0, :, 0], expected(mine_spikes[0, :, 0]), rtol=1e-3, atol=1e-3 * jump)
    theirs = record["iahp"][0, 1:, 0]
    assert (np.abs(theirs - expected(peer_spikes[0, :-1, 0])) <= 1e-3 * theirs + 1.01 * I_O).all()


@pytest.mark.parametrize(("drive", "gain", "weight", "share"), [(5.0, 1e-7, 1e-9, 0.05), (5.0, 1e-7, 1e-7, 0.1)])
def test_counts_agree_with_adaptation(drive: float, gain: float, weight: float, share: float) -> None:
    """Weak, and so strong that it alone sets the rate."""
    silent = np.zeros((1, 20_000, 1))
    a, b = both(np.ones((1, 1)), silent, adaptation=True, **adapting(drive, gain, weight))
    assert_counts_agree(a, b, share)


def test_adaptation_slows_a_neuron_down() -> None:
    """The peer counts the adaptation in the time constant as well, so that at a strong drive it speeds the neuron up."""
    silent = np.zeros((1, 10_000, 1))
    free = both(np.ones((1, 1)), silent, adaptation=True, **adapting(20.0, 4e-9, 0.0))
    adapted = both(np.ones((1, 1)), silent, adaptation=True, **adapting(20.0, 4e-9, 1e-8))
    assert adapted[0] < 0.85 * free[0]
    assert adapted[1] > 1.2 * free[1]


def test_inhibition_acts_one_bin_later() -> None:
    """Defect 1: a negative weighted sum leaves no trace in the peer."""
    weight, x = np.array([[1.0], [-1.0]]), np.zeros((2, 400, 2))
    x[:, ::100, 0] = 1
    x[1, 1::100, 1] = 1
    spikes, (gaba,) = run_ours(ours(weight, 1e-3), x, 1e-3, "i_gaba")
    assert gaba[0].max() == 0
    assert gaba[1].max() > 100 * I_O
    assert spikes[1].sum() < 0.5 * spikes[0].sum()
    theirs, record = run_peer(peer(1, 1e-3), weight, x)
    assert theirs[0].sum() == spikes[0].sum() > 0
    assert np.array_equal(record["isyn"][0], record["isyn"][1])
    assert np.array_equal(theirs[0], theirs[1])


STEP_WEIGHT = np.array([[0.3, 1.0, 3.0]])


def counts_by_step(factor: int, exponential: bool, **currents: Any) -> tuple[np.ndarray, np.ndarray]:
    """Counts of ours and the peer in steps of 1 ms / factor; the events come at the start of a whole millisecond."""
    x, dt = refine(poisson([50.0, 100.0, 200.0, 300.0], 1.0, 1, 1e-3), factor), 1e-3 / factor
    a, _ = run_ours(ours(STEP_WEIGHT, dt, exponential=exponential, **currents), x, dt)
    b, _ = run_peer(peer(3, dt, **currents), STEP_WEIGHT, x)
    return a.sum(1), b.sum(1)


def test_one_millisecond_gives_the_counts_of_a_fine_step() -> None:
    """Defect 13: ours within 2 % or one spike of 25 µs, thresholded soma; the peer loses more than a tenth."""
    (coarse, theirs), (fine, converged) = (counts_by_step(f, False, i_spkthr=5e-9) for f in (1, 40))
    assert fine.max() > 100
    assert (np.abs(coarse - fine) <= np.maximum(1, 0.02 * fine)).all(), (coarse, fine)
    lost = 1 - theirs / converged
    assert lost[-1].max() > 0.1


def test_one_millisecond_gives_the_counts_of_a_fine_step_exponential_soma() -> None:
    (coarse, _), (fine, _) = (counts_by_step(f, True) for f in (1, 40))
    assert (np.abs(coarse - fine) <= np.maximum(1, 0.02 * fine)).all(), (coarse, fine)


def test_idle_synaptic_current_is_defined() -> None:
    """Defect 14: without events ours is 0 for every step; the peer's is a floor that depends on the step."""
    idle = {}
    for dt in (1e-3, 1e-4):
        x = np.zeros((1, round(0.3 / dt), 1))
        _, (mine,) = run_ours(ours(np.ones((1, 1)), dt), x, dt, "i_ampa")
        assert (mine == 0).all()
        idle[dt] = float(run_peer(peer(1, dt), np.ones((1, 1)), x)[1]["isyn"][0, -1, 0])
    assert idle[1e-3] < 0.02 * I_O
    assert idle[1e-4] == pytest.approx(10 * idle[1e-3], rel=0.1)


def test_refractory_clamps_the_membrane() -> None:
    """Defect 14: during the refractory period ours stays at reset, the peer's grows with the peak's feedback."""
    leak, dt = CIRCUIT.tau("i_tau_mem", 0.1), 1e-3
    currents = {"i_tau_mem": leak, "i_gain_mem": 4 * leak, "i_ref": CIRCUIT.width("i_ref", 20e-3)}
    weight, x = np.ones((1, 1)), poisson(300.0, 0.4, 1, dt)
    spikes, (mine,) = run_ours(ours(weight, dt, **currents), x, dt, "i_mem")
    theirs, record = run_peer(peer(1, dt, **currents), weight, x)
    held = []
    for train, current in ((spikes, mine), (theirs, record["imem"])):
        first = int(np.flatnonzero(train[0, :, 0])[0])
        held.append(current[0, first : first + 19, 0] / I_O)
    assert np.allclose(held[0], 1.0, rtol=1e-5)
    assert held[1].max() > 1.2


def peer_gradient(name: str, x: np.ndarray) -> float:
    """d(spikes)/d(ln current) of the peer."""
    module = peer(1, 1e-3)
    drive = jax.numpy.asarray(x, "float32")
    value = getattr(module, name)
    gradient = jax.grad(lambda v: module.set_attributes({name: v})(drive)[0].sum())(value)
    return float((gradient * value)[0])


def test_the_peer_does_not_train_biases() -> None:
    """Defect 15: no bias is a parameter, none of the threshold's gradient comes through, the rest is in 1/A."""
    x = poisson(200.0, 0.3, 1, 1e-3)
    module = peer(1, 1e-3)
    assert module.parameters() == {}
    assert np.asarray(module(x.astype(np.float32))[0]).sum() > 5
    assert peer_gradient("Ispkthr", x) == 0
    assert peer_gradient("Iref", x) == 0
    assert 0 < abs(peer_gradient("Igain_syn", x)) < 1e-3


def test_biases_have_gradients() -> None:
    """Defect 15, ours: gradients of every bias that acts, of the order of counts per relative change."""
    x = poisson(200.0, 0.3, 1, 1e-3).astype(np.float32)
    params = ours(np.ones((1, 1)), 1e-3)

    def total(params: Params) -> Any:
        return spike_counts(params, x, 1e-3, substeps=1).sum()

    count = float(total(params))
    gradient = jax.grad(total)(params)
    assert count > 5
    per_log = {name: float((gradient.bias[name] * params.bias[name])[0]) for name in params.bias}
    assert all(np.isfinite(value) for value in per_log.values())
    for name in ("i_tau_mem", "i_gain_mem", "i_tau_ampa", "i_gain_ampa", "i_dc", "i_ref", "i_spkthr"):
        assert per_log[name] != 0, name
    assert -100 * count < per_log["i_spkthr"] < -0.01 * count
    assert per_log["i_gain_ampa"] > 0.01 * count
