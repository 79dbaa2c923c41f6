"""Writing for a reader: the same spikes in other conventions, and a finding for what a reader cannot do."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
import reader_models as models
from frontend_models import input_spikes
from nir_dynapse import backend
from nir_dynapse.errors import Finding
from nir_dynapse.export.reader_neurons import Notes, prepared
from nir_dynapse.export.reader_order import Order, depth_first, queued
from nir_dynapse.export.readers import READERS
from nir_graphs import port_in, port_out
from shortened import shortened


def written_for(network: Any, reader: str = "spec", **more: Any) -> tuple[Any, tuple[Finding, ...]]:
    """Of any type, because nodes are looked into."""
    return backend.written_for(network, reader, **more)


NETWORKS: dict[str, Callable[[], nd.Network]] = {
    "LIF": lambda: models.layers("LIF", bias=True, one=True),
    "CubaLIF, recurrent with bias": lambda: models.layers("CubaLIF", recurrent=True, bias=True, one=True),
    "IF": lambda: models.layers("IF", v_reset=lambda n, draw: draw.between(-0.3, 0.2, n)),
    "Threshold": lambda: models.layers("Threshold"),
    "v_leak and v_reset": lambda: models.layers(
        "LIF", one=True, v_leak=lambda n, d: d.between(-0.2, 0.3, n), v_reset=lambda n, d: d.between(-0.3, 0.2, n)
    ),
    "connections past layers": lambda: models.skip(one=True),
    "a loop of two": lambda: models.loop(one=True),
    "convolution": lambda: models.convolution(pool="AvgPool2d", one=True),
    "several ports": lambda: models.several_ports(one=True),
}
EXACT = {"norse": {}, "snntorch": {"time_scale": 10.0}, "spikingjelly": {}, "spyx": {}}
"""Readers whose files are NIR as it is defined, in the time of `time_scale`; Sinabs' e^(−1/τ) is not."""


def coded(findings: tuple[Finding, ...], severity: str = "warning") -> list[tuple[str, str | None]]:
    return sorted({(f.code, f.node) for f in findings if f.severity == severity}, key=str)


def as_bytes(graph: Any) -> bytes:
    buffer: Any = io.BytesIO()
    nir.write(buffer, graph)
    return buffer.getvalue()


@pytest.mark.parametrize("name", shortened(NETWORKS, 3))
def test_what_is_written_has_the_same_spikes(name: str) -> None:
    network = NETWORKS[name]()
    x = input_spikes(network.n_inputs, steps=60)
    want = models.ideal(network, x)
    for reader, options in EXACT.items():
        rules = READERS[reader].rules
        assert rules is not None
        if network.populations[0].kind == "IF" and rules.becomes(network.populations[0], models.DT) == "LIF":
            moved = prepared(network, rules, Notes(reader))  # a LIF that never forgets, which from_nir refuses
            np.testing.assert_array_equal(models.ideal(moved, x), want, err_msg=reader)
            continue
        graph, findings = written_for(network, reader)
        assert not coded(findings, "error")
        read = nd.from_nir(io_round_trip(graph), **options)
        assert read.dt == pytest.approx(models.DT)
        np.testing.assert_array_equal(models.ideal(read, x), want, err_msg=reader)


def io_round_trip(graph: Any) -> Any:
    """The graph as it comes back from a file: nodes by name."""
    return nir.read(io.BytesIO(as_bytes(graph)))  # pyright: ignore[reportArgumentType]


def test_sinabs_decays_by_e_to_the_minus_one_over_tau() -> None:
    network = models.layers("LIF", bias=True)
    graph, findings = written_for(network, "sinabs")
    assert coded(findings) == [("reset", "l1"), ("reset", "l2")]
    assert not any(isinstance(node, nir.Linear) for node in graph.nodes.values())
    tau = network["l1"].tau_mem / models.DT
    np.testing.assert_allclose(np.exp(-1 / graph.nodes["l1"].tau), 1 - 1 / tau, rtol=1e-12)
    read = nd.from_nir(io_round_trip(graph), frontend="sinabs", dt=models.DT, reset="value")
    x = input_spikes(12, steps=60)
    np.testing.assert_array_equal(models.ideal(read, x), models.ideal(network, x))


def test_sinabs_gets_a_cubalif_as_two_nodes() -> None:
    graph, _ = written_for(models.layers("CubaLIF", recurrent=True), "sinabs")
    assert [type(graph.nodes[n]).__name__ for n in ("l1_synapse", "l1", "l2_synapse", "l2")] == ["LI", "LIF"] * 2
    assert {("fc_l1", "l1_synapse"), ("l1_rec", "l1_synapse"), ("l1_synapse", "l1"), ("l1", "l1_rec")} < set(
        graph.edges
    )


def test_spec_is_what_to_nir_always_wrote() -> None:
    network = models.convolution()
    graph, findings = written_for(network, "spec")
    assert findings == ()
    assert as_bytes(graph) == as_bytes(nd.to_nir(network)) == as_bytes(nd.to_nir(network, reader="spec"))


@pytest.mark.parametrize(("reader", "r"), [("norse", 1.0), ("snntorch", None), ("spikingjelly", None), ("spyx", None)])
def test_gains_are_in_the_weights(reader: str, r: float | None) -> None:
    network = models.layers("LIF", one=True)
    graph, findings = written_for(network, reader)
    step = 1e-4 if reader == "snntorch" else models.DT
    node = graph.nodes["l1"]
    np.testing.assert_allclose(node.r, r or node.tau / step)
    np.testing.assert_allclose(node.tau / step, network["l1"].tau_mem / models.DT)
    assert ("gain", "l1") in coded(findings, "info")
    weight = network.projections[0].dense(12, 38)
    scale = 2.0 if reader == "norse" else 2.0 / 12
    if reader in ("snntorch", "spikingjelly"):  # one threshold
        scale = scale / network["l1"].v_threshold[:, None]
    np.testing.assert_allclose(graph.nodes["fc_l1"].weight, weight * scale)


def test_what_fits_already_is_left_as_it_is() -> None:
    """Networks whose gains are 1 per step keep every weight bit by bit."""
    n = 5
    neurons = nir.LIF(np.full(n, 0.01), np.full(n, 0.01 / models.DT), np.zeros(n), np.ones(n), v_reset=np.zeros(n))
    weight = np.random.default_rng(0).normal(size=(n, 3))
    nodes = {"input": port_in(3), "fc": nir.Linear(weight), "lif": neurons, "output": port_out(n)}
    names = list(nodes)
    network = nd.from_nir(nir.NIRGraph(nodes, list(pairwise(names))), dt=models.DT)
    for reader in ("snntorch", "spikingjelly", "spyx"):
        graph, findings = written_for(network, reader)
        assert not coded(findings, "info")
        assert np.array_equal(graph.nodes["fc"].weight, weight)
        assert list(graph.nodes) == names


def test_spikingjelly_fires_at_the_threshold() -> None:
    """v ≥ θ' with the next number above θ is v > θ in single precision."""
    graph, _ = written_for(models.layers("IF"), "spikingjelly")
    theta = graph.nodes["l1"].v_threshold
    assert np.all(np.nextafter(np.float32(1), np.float32(2)) == theta.astype(np.float32))


# --- what cannot be had ----------------------------------------------------------------------------------------------


def test_resets() -> None:
    network = models.layers("CubaLIF", one=True)
    subtract = network.with_semantics(reset="subtract")
    for reader, code in (
        ("norse", True),
        ("snntorch", True),
        ("spikingjelly", True),
        ("sinabs", True),
        ("spyx", False),
    ):
        told = {c for c, node in coded(written_for(subtract, reader)[1]) if node == "l1"}
        assert told == ({"reset"} if code else set()), reader
    several = replace(network, populations=tuple(replace(p, reset="subtract-multiple") for p in network.populations))
    assert coded(written_for(several, "sinabs")[1]) == []
    (finding, *_) = written_for(subtract, "norse")[1]
    assert "reset_subtract" in finding.hint


def test_norse_gets_a_lif_that_subtracts_as_a_cubalif() -> None:
    """Only that takes its reset_method."""
    network = models.layers("LIF").with_semantics(reset="subtract")
    node = written_for(network, "norse")[0].nodes["l1"]
    assert isinstance(node, nir.CubaLIF)
    np.testing.assert_array_equal(node.tau_syn, models.DT)


@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("spec", "jaxsnn")])
def test_a_leak_behind_a_synapse(reader: str) -> None:
    network = models.layers("CubaLIF", one=True, v_leak=lambda n, draw: np.full(n, 0.3))
    graph, findings = written_for(network, reader)
    assert {("v_leak", "l1"), ("v_leak", "l2")} <= set(coded(findings))
    assert all(np.all(node.v_leak == 0) for node in graph.nodes.values() if hasattr(node, "v_leak"))
    if reader in ("norse", "spikingjelly"):  # in the steady state it is the same
        quiet = np.zeros((1, 300, 12), np.float32)
        v = [nd.simulate(n, quiet, ideal=True, record=("v",)).states["v"]["l1"] for n in (network, nd.from_nir(graph))]
        theta = [n["l1"].v_threshold for n in (network, nd.from_nir(graph))]
        np.testing.assert_allclose(v[1][0, -1] / theta[1], v[0][0, -1] / theta[0], rtol=1e-3)


def test_readouts_are_left_out_or_kept() -> None:
    draw = models.Draw(1)
    nodes = {"in": port_in(12), "fc": models.matrix(7, 12, draw, 8.0), "lif": models.neuron("LIF", 7, draw, one=True)}
    nodes |= {"w": models.matrix(3, 7, draw, 1.0), "read": nir.LI(np.full(3, 0.01), np.ones(3), np.zeros(3))}
    nodes["out"] = port_out(3)
    names = list(nodes)
    network = models.read(nodes, list(pairwise(names)))
    for reader in (name for name in READERS if name != "jaxsnn"):  # which reads no LIF
        graph, findings = written_for(network, reader)
        kinds = {type(node).__name__ for node in graph.nodes.values()}
        assert (("readout", "read") in coded(findings)) == (reader not in ("spec", "sinabs"))
        assert ("LI" in kinds) == (reader in ("spec", "sinabs"))
        assert reader == "sinabs" or len(nd.from_nir(graph, dt=models.DT).outputs) == 1


def test_time_constants_that_spikingjelly_cannot_mix() -> None:
    network = models.layers("LIF")
    _, findings = written_for(network, "spikingjelly")
    assert coded(findings, "error") == [("tau_mem", "l1"), ("tau_mem", "l2")]
    with pytest.raises(nd.UnsupportedGraphError, match=r"node 'l1': SpikingJelly 2.0.0 takes one tau_mem per layer"):
        nd.to_nir(network, reader="spikingjelly")


def test_spyx_reads_a_chain() -> None:
    _, findings = written_for(models.skip(), "spyx")
    assert {("chain", "in"), ("chain", "past1"), ("chain", "past2")} <= set(coded(findings))
    assert not any(code == "chain" for code, _ in coded(written_for(models.layers("LIF", recurrent=True), "spyx")[1]))
    late = models.layers("CubaLIF").with_semantics(emission="next-step", reset="subtract")
    assert coded(written_for(late, "spyx")[1]) == []
    assert ("emission", None) in coded(written_for(late, "norse")[1])


def test_jaxsnn_reads_cubalif_in_milliseconds_with_turned_weights() -> None:
    taus: dict[str, Any] = {"tau_mem": lambda n, d: np.full(n, 0.01), "tau_syn": lambda n, d: np.full(n, 0.005)}
    network = models.layers("CubaLIF", one=True, **taus)
    graph, findings = written_for(network, "jaxsnn")
    assert coded(findings) == [("step", None)]
    np.testing.assert_allclose(graph.nodes["l1"].tau_mem, 10)
    weight = network.projections[0].dense(12, 38)
    gain = network["l1"].r * network["l1"].w_in * models.DT / network["l1"].tau_syn / network["l1"].v_threshold
    np.testing.assert_allclose(graph.nodes["fc_l1"].weight, (weight * gain[:, None]).T)
    _, findings = written_for(models.layers("LIF", bias=True, one=True), "jaxsnn")
    assert {("kind", "l1"), ("bias", "fc_l1")} <= set(coded(findings, "error"))
    _, findings = written_for(models.layers("CubaLIF", recurrent=True, one=True), "jaxsnn")
    assert {code for code, _ in coded(findings)} == {"step", "recurrence", "tau_syn"}
    graph, _ = written_for(models.skip("CubaLIF", one=True), "jaxsnn")
    linear = [name for name, node in graph.nodes.items() if isinstance(node, nir.Linear)]
    assert all(sum(b == name for _, b in graph.edges) == 1 == sum(a == name for a, _ in graph.edges) for name in linear)
    assert all((a in linear) != (b in linear) or b == "out" for a, b in graph.edges)


def test_to_nir_warns_and_strict_refuses() -> None:
    network = models.layers("LIF").with_semantics(reset="subtract")
    with pytest.warns(nd.ReaderWarning, match=r"node 'l\d': it resets as 'subtract'") as caught:
        nd.to_nir(network, reader="snntorch")
    told = [w.message.finding.code for w in caught if isinstance(w.message, nd.ReaderWarning)]
    assert told == ["reset", "reset"]
    assert caught[0].filename == __file__
    with pytest.raises(nd.UnsupportedGraphError, match="node 'l2': it resets"):
        nd.to_nir(network, reader="snntorch", strict=True)
    with pytest.raises(nd.ParameterRangeError, match=r"'nose'.*Did you mean norse\?"):
        nd.to_nir(network, reader="nose")


def test_circuits_and_layouts_are_written_for_readers_too() -> None:
    network = models.layers("CubaLIF", one=True)
    layout = nd.compile(network, fan_in="prune")
    graph = nd.to_nir(layout, reader="norse")
    assert "dynapse2" in graph.metadata
    assert {type(node).__name__ for node in graph.nodes.values()} >= {"CubaLIF"}


# --- names and order -------------------------------------------------------------------------------------------------


def test_names_that_torch_refuses() -> None:
    graph, findings = written_for(models.several_ports(), "spikingjelly")
    (said,) = [f.what for f in findings if f.code == "names"]
    assert "'train' is 'train_1'" in said
    assert all(name.isidentifier() and name != "train" for name in graph.nodes)
    both = {"fc.1": models.matrix(3, 2, models.Draw(0), 1.0), "fc_1": models.matrix(2, 3, models.Draw(0), 1.0)}
    assert {"fc_1", "fc_1_1"} <= set(written_for(two_layers(both), "norse")[0].nodes)


def two_layers(matrices: dict[str, Any]) -> nd.Network:
    draw, (first, second) = models.Draw(2), matrices
    nodes = {"x": port_in(2), first: matrices[first], "l1": models.neuron("LIF", 3, draw)}
    nodes |= {second: matrices[second], "l2": models.neuron("LIF", 2, draw), "y": port_out(2)}
    return models.read(nodes, list(pairwise(nodes)))


def test_cycles_begin_where_ours_do() -> None:
    """nirtorch begins a cycle at the first name behind that of the input: here 'z', where an ideal run begins with 'a'."""
    network = models.loop(one=True)
    graph, findings = written_for(network, "spikingjelly")
    assert ("names", None) in coded(findings, "info")
    names = sorted(graph.nodes)
    late = queued(names, graph.edges, [n for n in names if n.endswith("_x")], [n for n in names if n.endswith("_y")])
    assert network.order() == ("a", "z")
    assert late is not None
    assert {(a[3:], b[3:]) for a, b in late} == {("there", "a")}


def test_the_queue_and_the_search() -> None:
    edges = [("i", "f"), ("f", "n"), ("n", "r"), ("r", "n"), ("n", "o")]
    assert queued(["f", "i", "n", "o", "r"], edges, ["i"], ["o"]) == {("r", "n")}
    assert queued(["i", "n", "o", "r"], edges[1:], ["i"], ["o"]) is None  # nothing but itself reaches n
    assert depth_first("i", edges) == ["i", "f", "n", "r", "o"]
    order = Order(edges, ["i"], ["n"], ["o"])
    assert order.names == ["i", "f", "n", "r", "o"]
    assert order.late == {("r", "n")}


def test_norse_meets_every_node_behind_those_that_it_needs() -> None:
    network = models.skip()
    graph, findings = written_for(network, "norse")
    assert coded(findings) == []
    place = {name: k for k, name in enumerate(depth_first("in", graph.edges))}
    assert all(place[a] < place[b] for a, b in graph.edges)
    added = [name for name in graph.nodes if "_after_" in name]
    assert added
    assert not any(np.any(graph.nodes[name].weight) for name in added)
