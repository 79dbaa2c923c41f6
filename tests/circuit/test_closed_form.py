"""Network → Params → what it does: ideal semantics, closed-form mapping, published rasters."""

from __future__ import annotations

from types import ModuleType

import nir
import numpy as np
import pytest

from nir_dynapse.chip.device import CURRENTS
from nir_dynapse.circuit.closed_form import decode_tau, effective_tau, to_params
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.network import Network, Population, Port, Projection
from nir_dynapse.network.primitives import graph
from nir_dynapse.quant.compiler import compile, to_network
from nir_dynapse.sim.simulation import simulate
from nir_graphs import port_in, port_out
from places import REFERENCE


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_ideal_run_is_forward_euler_with_the_choices_of_the_design(networks: ModuleType) -> None:
    """Current before voltage, strict >, reset in the same step, recurrence one step late: an independent loop agrees."""
    net = networks.recurrent(3, 6, 20, 4)
    x = np.random.default_rng(1).poisson(0.6, (150, 6))
    w = {
        q.name: q.dense(*(n for n in ({"in": 6, "hidden": 20}[q.source], net[q.target].size))) for q in net.projections
    }
    hidden, output = net["hidden"], net["output"]
    i, v, s = (np.zeros(20) for _ in range(3))
    io, vo = np.zeros(4), np.zeros(4)
    rows = []
    for x_t in x:
        i = i + net.dt / hidden.tau_syn * (hidden.w_in * (w["fc"] @ x_t + w["w_rec"] @ s) - i)
        v = v + net.dt / hidden.tau_mem * (hidden.r * i - v)
        s = (v > 1) * 1.0
        v = np.where(v > 1, 0.0, v)
        io = io + net.dt / output.tau_syn * (output.w_in * (w["readout"] @ s) - io)
        vo = vo + net.dt / output.tau_mem * (output.r * io - vo)
        so = vo > 1
        vo = np.where(so, 0.0, vo)
        rows.append(so)
    for backend in ("numpy", "jax"):
        run = simulate(net, x, ideal=True, backend=backend)
        assert (run.output[0] == np.array(rows)).all()
    assert np.array(rows).sum() > 20


def test_lif_reproduces_the_published_voltage(networks: ModuleType) -> None:
    """NIR paper, 01_lif: forward Euler with reset to zero reproduces Norse's trace and all four spikes."""
    folder = REFERENCE
    if not folder.exists():
        pytest.skip("the reference files are not part of the repository")
    table = np.loadtxt(folder / "lif_norse.csv", delimiter=",")
    net = from_nir(folder / "lif_norse.nir", dt=1e-4)
    run = simulate(net, table[:, :1], ideal=True, record=("spikes", "v"))
    assert np.flatnonzero(run.output[0, :, 0]).tolist() == [460, 510, 710, 760]
    voltage = next(iter(run.states["v"].values()))[0, :, 0]
    assert np.abs(voltage - table[:, 1]).max() < 1e-6


@pytest.fixture(scope="module")
def braille(networks: ModuleType) -> tuple[Network, np.ndarray, np.ndarray]:
    folder = REFERENCE
    if not folder.exists():
        pytest.skip("the reference files are not part of the repository")
    golden = np.load(folder / "braille_bias_zero_golden.npz")
    net = from_nir(folder / "braille_noDelay_bias_zero.nir", dt=1e-4, time_scale=50)
    return net, golden["input_256x12"], golden["hidden__noDelay_bias_zero__snntorch"]


def test_braille_ideal_differs_in_no_bin(braille: tuple[Network, np.ndarray, np.ndarray]) -> None:
    net, x, published = braille
    for backend in ("numpy", "jax"):
        run = simulate(net, x, ideal=True, backend=backend)
        assert int((run.spikes["lif1.lif"][0] != published).sum()) == 0
        assert run.counts()[0].argmax() == 1


def test_braille_circuit_and_four_bits(braille: tuple[Network, np.ndarray, np.ndarray]) -> None:
    """The mapping alone, without training: cosine of the mean hidden activity to the published raster, and the label."""
    net, x, published = braille
    circuit = simulate(net, x)
    assert cosine(circuit.spikes["lif1.lif"][0].mean(0), published.mean(0)) >= 0.97
    assert circuit.counts()[0].argmax() == 1
    layout = compile(net)
    quantised = simulate(layout, x)
    assert cosine(quantised.spikes["lif1.lif"][0].mean(0), published.mean(0)) >= 0.96
    assert quantised.counts()[0].argmax() == 1


def test_effective_time_constants_keep_the_decay_per_step() -> None:
    tau = np.array([2e-3, 5e-3, 50e-3])
    assert np.allclose(np.exp(-1e-3 / effective_tau(tau, 1e-3)), 1 - 1e-3 / tau)
    assert np.allclose(decode_tau(effective_tau(tau, 1e-3), 1e-3), tau)


@pytest.mark.parametrize("tau_syn", [None, 5e-3])
def test_mean_rate_of_circuit_and_ideal_agree(networks: ModuleType, tau_syn: float | None) -> None:
    """LIF and CubaLIF under Poisson input, from a few to about 100 Hz: within 12 % and 3 Hz."""
    gain = 1.0 if tau_syn is None else 0.2
    weights = gain * np.linspace(0.04, 0.2, 12)[:, None] * np.array([[1.0, 1.0, -0.3]])
    net = networks.feed_forward(weights, tau_syn=tau_syn)
    x = np.random.default_rng(0).poisson(0.4, (8, 1000, 3))
    ideal = simulate(net, x, ideal=True).output.mean((0, 1)) * 1e3
    circuit = simulate(net, x).output.mean((0, 1)) * 1e3
    assert ideal.max() > 60
    assert (np.abs(circuit - ideal) <= 3 + 0.12 * ideal).all(), (ideal.round(), circuit.round())


def bias_network(bias: np.ndarray, v_leak: float = 0.0) -> Network:
    n = len(bias)
    tau_mem, tau_syn, one = np.full(n, 20e-3), np.full(n, 5e-3), np.ones(n)
    pop = Population("p", "CubaLIF", tau_mem, 20 * one, v_leak * one, one, 0 * one, tau_syn, 5 * one)
    projection = Projection.from_dense("in", "p", np.full((n, 1), 0.02), bias=bias, nodes=("fc",))
    return Network((pop,), (projection,), (Port("in", (1,)),), (Port("out", (n,), "p"),), 1e-3)


def test_equal_positive_biases_become_dc_and_different_ones_tonic_events() -> None:
    same, different = bias_network(np.full(4, 0.012)), bias_network(np.array([0.0, 0.004, 0.012, -0.01]))
    dc, tonic = to_params(same), to_params(different)
    assert dc.topology.tonic_period is None
    assert dc.topology.has_latch("dc").all()
    assert tonic.topology.tonic_period is not None
    assert sorted(tonic.topology.post[tonic.topology.pre == tonic.topology.tonic].tolist()) == [1, 2, 3]
    x = np.zeros((2000, 1))
    for net in (same, different, bias_network(np.zeros(4), v_leak=1.3)):
        ideal = simulate(net, x, ideal=True).counts()[0]
        assert ideal.max() > 15
        for thing in (net, compile(net)):
            got = simulate(thing, x).counts()[0]
            assert (np.abs(got - ideal) <= 2 + 0.2 * ideal).all(), (ideal, got)


def test_params_are_amperes_within_reach(networks: ModuleType) -> None:
    params = to_params(networks.recurrent(0, 8, 30, 5))
    assert set(params.bias) == set(CURRENTS)
    assert params.row_currents().max() <= 4.0e-7 * 1.01
    assert params.topology.n_groups == 1
    with pytest.raises(ParameterRangeError, match=r"node 'hidden'.*time_unit"):
        to_params(networks.feed_forward(np.array([[0.1]]), tau_mem=20.0))


def test_layout_comes_back_as_the_network_that_it_computes(networks: ModuleType) -> None:
    net = networks.recurrent(5, 10, 40, 6)
    back = to_network(compile(net))
    assert [(p.name, p.size, p.kind) for p in back.populations] == [(p.name, p.size, p.kind) for p in net.populations]
    x = np.random.default_rng(0).poisson(0.5, (300, 10))
    sizes = {"in": 10, "hidden": 40, "output": 6}
    for before, after in zip(net.projections, back.projections, strict=True):
        assert before.name == after.name
        a = before.dense(sizes[before.source], sizes[before.target])
        b = after.dense(sizes[after.source], sizes[after.target])
        assert ((a != 0) == (b != 0)).mean() > 0.99
        assert np.linalg.norm(a - b) < 0.2 * np.linalg.norm(a)
    for before, after in zip(net.populations, back.populations, strict=True):
        assert np.allclose(before.tau_mem, after.tau_mem, rtol=0.02)
    ideal, again = (simulate(n, x, ideal=True).spikes["hidden"].mean((0, 1)) for n in (net, back))
    assert cosine(ideal, again) > 0.98


@pytest.mark.parametrize("kind", ["IF", "Threshold"])
def test_neurons_without_leak_and_without_memory_keep_their_rates(kind: str) -> None:
    """Mean rates of the circuit, and of its 4 bits, against the ideal run; and what the bits say when read back."""
    rng = np.random.default_rng(0)
    weight = np.abs(rng.normal(0.2, 0.15, (8, 6))) * (2 if kind == "Threshold" else 1)
    node = nir.IF(np.full(8, 1000.0), np.ones(8)) if kind == "IF" else nir.Threshold(np.full(8, 0.5))
    nodes = {"in": port_in(6), "w": nir.Linear(weight), "n": node, "out": port_out(8)}
    net = from_nir(graph(nodes, [("in", "w"), ("w", "n"), ("n", "out")], {"dt": 1e-3}))
    layout = compile(net)
    assert {f.code for f in layout.findings} & {"no-leak", "tau-below-step"}
    x = (rng.random((4, 200, 6)) < 0.2).astype(float)
    ideal, *others = (simulate(net, x, ideal=True), simulate(net, x), simulate(layout, x))
    rate = ideal.output.mean((0, 1))
    assert 0.1 < rate.min() < rate.max() < 0.7
    for run in others:
        np.testing.assert_allclose(run.output.mean((0, 1)), rate, atol=0.06)
    back = simulate(to_network(layout), x, ideal=True)
    np.testing.assert_allclose(back.output.mean((0, 1)), rate, atol=0.06)
