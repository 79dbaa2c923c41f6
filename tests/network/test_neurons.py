"""Neurons and readouts of every class: ideal runs against recurrences written out here; what outputs read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest

from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.network.network import Network
from nir_dynapse.network.primitives import graph
from nir_dynapse.sim.simulation import Recording, simulate
from nir_graphs import affine, lif, linear, port_in, port_out, read, small

DT, STEPS = 1e-3, 40


def run(net: Network, x: np.ndarray, backend: Any = "numpy") -> Recording:
    return simulate(net, x, ideal=True, backend=backend, record=("spikes", "v"))


def chain(*nodes: Any, shape: Any = (3,)) -> Any:
    """Input, the nodes as n0, n1, …, and an Output."""
    named = {"in": port_in(*shape), **{f"n{k}": node for k, node in enumerate(nodes)}, "out": port_out(None)}
    names = list(named)
    return graph(named, list(pairwise(names)), {"dt": DT})


def counts(n: int = 3, rate: float = 0.4) -> np.ndarray:
    return np.random.default_rng(11).poisson(rate, (2, STEPS, n))


def spread(low: float, high: float, n: int = 3) -> np.ndarray:
    return np.linspace(low, high, n)


def integrate(drive: np.ndarray, keep: Any, gain: Any, drift: Any = 0.0, threshold: Any = np.inf, reset: Any = 0.0):
    """v ← keep·v + drift + gain·drive, spikes at v > threshold, v := reset: (spikes, v)."""
    v = np.zeros(drive.shape[::2]) + reset
    spikes, trace = np.zeros(drive.shape, bool), np.zeros(drive.shape)
    for t in range(drive.shape[1]):
        v = keep * v + drift + gain * drive[:, t]
        spikes[:, t] = v > threshold
        v = np.where(spikes[:, t], reset, v)
        trace[:, t] = v
    return spikes, trace


def decayed(drive: np.ndarray, keep: Any, gain: Any) -> np.ndarray:
    """I ← keep·I + gain·drive."""
    return integrate(drive, keep, gain)[1]


# --- neurons ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("kind", ["LIF", "CubaLIF", "IF", "Threshold"])
def test_spiking_nodes(kind: str, backend: str) -> None:
    tau, tau_syn, r, leak = spread(5e-3, 30e-3), spread(2e-3, 9e-3), spread(8.0, 20.0), spread(-0.1, 0.3)
    threshold, reset, w_in = spread(0.7, 1.3), spread(0.0, 0.2), spread(3.0, 5.0)
    x, weight = counts(rate=0.2), np.random.default_rng(12).uniform(0.2, 1.0, (3, 3))
    drive = x @ weight.T
    if kind == "LIF":
        node: Any = nir.LIF(tau=tau, r=r, v_leak=leak, v_threshold=threshold, v_reset=reset)
        expected = integrate(drive, 1 - DT / tau, r * DT / tau, leak * DT / tau, threshold, reset)
    elif kind == "CubaLIF":
        node = nir.CubaLIF(
            tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=leak, v_threshold=threshold, v_reset=reset, w_in=w_in
        )
        current = decayed(drive, 1 - DT / tau_syn, w_in * DT / tau_syn)
        expected = integrate(current, 1 - DT / tau, r * DT / tau, leak * DT / tau, threshold, reset)
    elif kind == "IF":
        node = nir.IF(r=r * 30, v_threshold=threshold, v_reset=reset)
        expected = integrate(drive, 1.0, r * 30 * DT, 0.0, threshold, reset)
    else:
        node = nir.Threshold(threshold=threshold)
        expected = drive > threshold, None
    got = run(read(chain(nir.Linear(weight), node)), x, backend)
    assert 0.02 < expected[0].mean() < 0.9
    np.testing.assert_array_equal(got.spikes["n1"], expected[0])
    np.testing.assert_array_equal(got.output, expected[0])
    if expected[1] is not None:
        np.testing.assert_allclose(got.states["v"]["n1"], expected[1], rtol=2e-4, atol=1e-5)


def test_a_threshold_forgets_and_is_strict() -> None:
    x = np.array([[[0], [1], [2], [1], [0], [3]]])
    net = read(chain(nir.Threshold(np.array([1.0])), shape=(1,)))
    assert run(net, x).output[0, :, 0].tolist() == [0, 0, 1, 0, 0, 1]
    net = read(chain(nir.IF(r=np.array([1 / DT]), v_threshold=np.array([1.0])), shape=(1,)))
    assert run(net, x).output[0, :, 0].tolist() == [0, 0, 1, 0, 0, 1]


# --- readouts --------------------------------------------------------------------------------------------------------


def spiking(**more: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """in(3) -> lif(3), whose spikes are near the middle of all possible ones."""
    return {"in": port_in(3), "lif": lif(3, r=30.0), **more}, [("in", "lif")]


def spikes_of(x: np.ndarray) -> np.ndarray:
    spikes = integrate(x.astype(float), 0.95, 1.5, 0.0, 1.0)[0]
    assert 0.1 < spikes.mean() < 0.9
    return spikes.astype(float)


@pytest.mark.parametrize("kind", ["LI", "CubaLI", "I", "Linear"])
def test_readouts(kind: str) -> None:
    tau, tau_syn, r, leak = spread(5e-3, 30e-3, 2), spread(2e-3, 9e-3, 2), spread(8.0, 20.0, 2), spread(-0.1, 0.3, 2)
    x, fc = counts(), affine(2, 3)
    drive = spikes_of(x) @ fc.weight.T + fc.bias
    readout: dict[str, Any] = {
        "LI": nir.LI(tau=tau, r=r, v_leak=leak),
        "CubaLI": nir.CubaLI(tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=leak, w_in=spread(2.0, 3.0, 2)),
        "I": nir.I(r=r),
    }
    expected = {
        "LI": lambda: integrate(drive, 1 - DT / tau, r * DT / tau, leak * DT / tau)[1],
        "CubaLI": lambda: integrate(
            decayed(drive, 1 - DT / tau_syn, spread(2.0, 3.0, 2) * DT / tau_syn),
            1 - DT / tau,
            r * DT / tau,
            leak * DT / tau,
        )[1],
        "I": lambda: integrate(drive, 1.0, r * DT)[1],
        "Linear": lambda: drive,
    }[kind]()
    nodes, edges = spiking(fc=fc, out=port_out(2))
    if kind == "Linear":
        edges += [("lif", "fc"), ("fc", "out")]
    else:
        nodes["ro"] = readout[kind]
        edges += [("lif", "fc"), ("fc", "ro"), ("ro", "out")]
    net = read(graph(nodes, edges, {"dt": DT}))
    assert [(p.name, p.kind) for p in net.readout.populations] == [("fc" if kind == "Linear" else "ro", kind)]
    got = run(net, x)
    np.testing.assert_array_equal(got.spikes["lif"], spikes_of(x))
    np.testing.assert_allclose(got.output, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(net, x, "jax").output, expected, rtol=1e-4, atol=1e-5)


def test_a_linear_node_behind_an_integrator() -> None:
    x, fc, post = counts(), linear(2, 3, 1), affine(4, 2, 2)
    nodes, edges = spiking(fc=fc, ro=nir.LI(np.full(2, 0.01), np.full(2, 10.0), np.zeros(2)), post=post)
    nodes["out"] = port_out(4)
    edges += [("lif", "fc"), ("fc", "ro"), ("ro", "post"), ("post", "out")]
    net = read(graph(nodes, edges, {"dt": DT}))
    assert net.outputs[0].source == "post"
    assert net.read_out == ("lif",)
    v = integrate(spikes_of(x) @ fc.weight.T, 0.9, 1.0)[1]
    np.testing.assert_allclose(run(net, x).output, v @ post.weight.T + post.bias, rtol=1e-4, atol=1e-5)


def test_integrators_in_a_row() -> None:
    x = counts()
    nodes, edges = spiking(a=nir.LI(np.full(3, 0.02), np.full(3, 20.0), np.zeros(3)), b=nir.I(np.full(3, 100.0)))
    nodes["out"] = port_out(3)
    net = read(graph(nodes, [*edges, ("lif", "a"), ("a", "b"), ("b", "out")], {"dt": DT}))
    expected = integrate(integrate(spikes_of(x), 0.95, 1.0)[1], 1.0, 0.1)[1]
    np.testing.assert_allclose(run(net, x).output, expected, rtol=1e-4, atol=1e-5)


# --- outputs ---------------------------------------------------------------------------------------------------------


def test_several_outputs_read_spikes_voltages_and_sums() -> None:
    x, fc, other = counts(), linear(2, 3, 1), linear(2, 3, 4)
    nodes, edges = spiking(fc=fc, ro=nir.I(np.full(2, 1 / DT)), other=other)
    nodes |= {"spikes": port_out(3), "volts": port_out(2), "sum": port_out(2), "again": port_out(3)}
    edges += [("lif", "fc"), ("fc", "ro"), ("ro", "volts"), ("lif", "spikes"), ("lif", "again")]
    edges += [("lif", "other"), ("other", "sum")]
    net = read(graph(nodes, edges, {"dt": DT}))
    assert {port.name: port.source for port in net.outputs} == {
        "again": "lif", "spikes": "lif", "sum": "other", "volts": "ro"
    }  # fmt: skip
    got, spikes = run(net, x), spikes_of(x)
    np.testing.assert_array_equal(got.of("spikes"), spikes)
    np.testing.assert_array_equal(got.of("again"), spikes)
    np.testing.assert_allclose(got.of("volts"), np.cumsum(spikes @ fc.weight.T, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got.of("sum"), spikes @ other.weight.T, rtol=1e-4, atol=1e-5)


def test_an_output_that_two_populations_feed_is_their_sum() -> None:
    x, fc = counts(), linear(3, 3, 1)
    nodes, edges = spiking(thr=nir.Threshold(np.full(3, 0.5)), fc=fc, both=port_out(3), mixed=port_out(3))
    edges += [("in", "thr"), ("lif", "both"), ("thr", "both"), ("thr", "fc"), ("fc", "mixed"), ("lif", "mixed")]
    net = read(graph(nodes, edges, {"dt": DT}))
    assert {(p.name, p.kind) for p in net.readout.populations} == {("both", "Linear"), ("fc", "Linear")}
    got, first, second = run(net, x), spikes_of(x), (x > 0.5).astype(float)
    np.testing.assert_array_equal(got.of("both"), first + second)
    np.testing.assert_allclose(got.of("mixed"), second @ fc.weight.T + first, rtol=1e-4, atol=1e-5)


def test_a_linear_node_that_two_outputs_read() -> None:
    x, fc = counts(), affine(2, 3, 1)
    nodes, edges = spiking(fc=fc, a=port_out(2), b=port_out(2))
    edges += [("lif", "fc"), ("fc", "a"), ("fc", "b")]
    got = run(read(graph(nodes, edges, {"dt": DT})), x)
    for name in ("a", "b"):
        np.testing.assert_allclose(got.of(name), spikes_of(x) @ fc.weight.T + fc.bias, rtol=1e-4, atol=1e-5)


def test_values_for_all_neurons_at_once_and_per_place() -> None:
    x, threshold = counts(6), np.random.default_rng(12).uniform(0.5, 2.5, (2, 3))
    net = read(chain(nir.Threshold(threshold), shape=(2, 3)))
    assert net["n0"].shape == (2, 3)
    np.testing.assert_array_equal(run(net, x).output, x > threshold.ravel())
    net = read(chain(nir.Threshold(np.array(0.5)), shape=(2, 3)))
    np.testing.assert_array_equal(run(net, x).output, x > 0.5)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_threshold_must_be_above_zero(value: float) -> None:
    with pytest.raises(ParameterRangeError, match=r"threshold is .* it must be above 0"):
        read(small(hidden=nir.Threshold(threshold=np.full(4, value))))
