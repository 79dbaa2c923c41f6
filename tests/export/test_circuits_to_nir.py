"""Params and Layouts as NIR: names and edges as in the network, chip extras in metadata that nothing needs."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.network.primitives import graph
from nir_graphs import affine, cubalif, lif, linear, port_in, port_out

X = (np.random.default_rng(1).random((3, 60, 3)) < 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> nd.Network:
    """in → fc → a (CubaLIF, recurrent, biased) → fc2 → b (LIF) → out, and a → tap."""
    nodes = {
        "in": port_in(3),
        "fc": nir.Linear(np.abs(np.random.default_rng(0).normal(0.5, 0.2, (6, 3)))),
        "a": cubalif(6),
        "a.rec": affine(6, 6),
        "fc2": linear(2, 6),
        "b": lif(2, tau=0.01, r=10.0),
        "out": port_out(2),
        "tap": port_out(6),
    }
    pairs = "in-fc fc-a a-a.rec a.rec-a a-fc2 fc2-b b-out a-tap"
    edges = [(a, b) for a, b in (pair.split("-") for pair in pairs.split())]
    return nd.from_nir(graph(nodes, edges, {"dt": 1e-3}))


@pytest.fixture(params=["params", "layout", "virtual chip"])
def circuit(request: pytest.FixtureRequest, network: nd.Network) -> Any:
    if request.param == "layout":
        return nd.compile(network)
    params = nd.to_params(network)
    if request.param == "params":
        return params
    from nir_dynapse.sim.mismatch import fabricate

    return fabricate(params, nd.Mismatch(), 3)


def test_names_and_edges_survive(network: nd.Network, circuit: Any) -> None:
    g, whole = nd.to_nir(circuit), nd.to_nir(network)
    assert set(g.nodes) == set(whole.nodes)
    assert sorted(g.edges) == sorted(whole.edges)
    assert {name: type(node) for name, node in g.nodes.items() if name in ("a", "b")} == {
        "a": nir.CubaLIF,
        "b": nir.LIF,
    }
    assert g.metadata["dt"] == 1e-3


def test_parameters_come_back_from_exact_currents(network: nd.Network) -> None:
    back = nd.from_nir(nd.to_nir(nd.to_params(network)))
    np.testing.assert_allclose(back["a"].tau_mem, network["a"].tau_mem, rtol=1e-6)
    np.testing.assert_allclose(back["b"].tau_mem, network["b"].tau_mem, rtol=1e-6)
    for q in network.projections:
        same = next(p for p in back.projections if p.name == q.name)
        size = (network[q.target].size, 3 if q.source == "in" else network[q.source].size)
        a, b = (p.dense(size[1], size[0]) for p in (q, same))
        gain = network[q.target].step_gains(1e-3)
        per_step = gain.gain * (
            1.0 if gain.syn_gain is None or gain.syn_leak is None else gain.syn_gain / gain.syn_leak
        )
        now = back[q.target].step_gains(1e-3)
        after = now.gain * (1.0 if now.syn_gain is None or now.syn_leak is None else now.syn_gain / now.syn_leak)
        np.testing.assert_allclose(b * after[:, None], a * per_step[:, None], rtol=1e-5, atol=1e-9)


def test_the_graph_runs_without_its_metadata(circuit: Any, tmp_path) -> None:
    g = nd.to_nir(circuit)
    nir.write(tmp_path / "x.nir", g)
    with_extras = nir.read(tmp_path / "x.nir")
    extras = with_extras.nodes["a"].metadata["dynapse2"]
    assert extras["slot"].shape == (6,)
    assert set(with_extras.metadata["dynapse2"]["bias_a"]) >= {"i_tau_mem", "i_spkthr"}
    for node in g.nodes.values():
        node.metadata = {}
    bare = nd.from_nir(graph(g.nodes, g.edges), dt=1e-3)
    full = nd.from_nir(tmp_path / "x.nir")
    a, b = (nd.simulate(net, X, ideal=True) for net in (bare, full))
    assert a.output.sum() > 5
    np.testing.assert_array_equal(a.output, b.output)


def test_a_round_trip_is_stable(circuit: Any) -> None:
    net = nd.from_nir(nd.to_nir(circuit))
    again = nd.from_nir(nd.to_nir(net))
    assert again.digest() == net.digest()


def test_weights_that_are_all_zero_keep_their_connection() -> None:
    nodes = {"in": port_in(3), "w": nir.Linear(np.zeros((4, 3))), "a": cubalif(4), "out": port_out(4)}
    net = nd.from_nir(graph(nodes, [("in", "w"), ("w", "a"), ("a", "out")], {"dt": 1e-3}))
    g = nd.to_nir(nd.compile(net))
    assert ("in", "w") in g.edges
    assert nd.from_nir(g).n_neurons == 4


@pytest.mark.parametrize("node", [nir.IF(np.full(4, 500.0), np.ones(4)), lif(4, tau=0.312, r=312.0)], ids=["IF", "LIF"])
def test_the_longest_membranes_can_be_read_back(node: Any) -> None:
    nodes = {"in": port_in(3), "w": linear(4, 3), "a": node, "out": port_out(4)}
    net = nd.from_nir(graph(nodes, [("in", "w"), ("w", "a"), ("a", "out")], {"dt": 1e-3}))
    back = nd.from_nir(nd.to_nir(nd.compile(net)))
    np.testing.assert_allclose(back["a"].tau_mem, 0.313, rtol=0.02)
    assert nd.compile(back).n_neurons == 4
