"""NIR graph → Network and back: values survive, order does not matter, and every bad graph says what is wrong."""

from __future__ import annotations

import itertools
import random
import re
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nir_dynapse.errors import DynapseError, Finding, ParameterRangeError, UnsupportedGraphError
from nir_dynapse.export.nir_graph import to_nir
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network import Network, Population, Port, Projection
from nir_dynapse.primitives import PRIMITIVES, graph


def lif(n: int, shape: Any = None, **values: Any) -> Any:
    shape = (n,) if shape is None else shape
    f = {"tau": 0.02, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | values
    make: Any = nir.LIF
    return make(**{k: np.broadcast_to(np.asarray(v, float), shape).copy() for k, v in f.items()})


def cubalif(n: int, **values: Any) -> Any:
    f = {"tau_mem": 0.02, "tau_syn": 0.01, "r": 20.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, "w_in": 10.0}
    f |= values
    make: Any = nir.CubaLIF
    return make(**{k: np.broadcast_to(np.asarray(v, float), (n,)).copy() for k, v in f.items()})


def port_in(*shape: Any) -> Any:
    """An Input node; of unknown shape for None."""
    return nir.Input(input_type={"input": None if shape == (None,) else np.array(shape)})  # pyright: ignore


def port_out(*shape: Any) -> Any:
    """An Output node; of unknown shape for None."""
    return nir.Output(output_type={"output": None if shape == (None,) else np.array(shape)})  # pyright: ignore


def weight(n_out, n_in, seed=0):
    return np.random.default_rng(seed).normal(size=(n_out, n_in))


def linear(n_out, n_in, seed=0) -> Any:
    return nir.Linear(weight=weight(n_out, n_in, seed))


def affine(n_out, n_in, seed=0) -> Any:
    return nir.Affine(weight=weight(n_out, n_in, seed), bias=weight(1, n_out, seed + 100)[0])


def small(**changes: Any) -> Any:
    """in(3) -> fc -> hidden(4) -> out; nodes replaced or added by name, edges by `edges`."""
    edges = changes.pop("edges", [("in", "fc"), ("fc", "hidden"), ("hidden", "out")])
    nodes = {"in": port_in(3), "fc": linear(4, 3), "hidden": lif(4), "out": port_out(4), **changes}
    return graph({k: v for k, v in nodes.items() if v is not None}, edges, {"dt": 1e-3})


def read(g, **options):
    return from_nir(g, **{"dt": 1e-3, **options})


def refused(g: Any, error: type[DynapseError] = UnsupportedGraphError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        read(g, **options)
    assert caught.value.findings
    assert all(isinstance(f, Finding) and f.severity == "error" for f in caught.value.findings)
    return str(caught.value)


def values_of(array: Any) -> np.ndarray:
    assert array is not None
    return array


def codes(network, severity="warning"):
    return {f.code for f in network.findings if f.severity == severity}


def same(a: Network, b: Network, nodes=True) -> bool:
    """Equal by value; `nodes=False` forgets which linear nodes were folded."""
    if nodes:
        return a.digest() == b.digest()

    def bare(n):
        links = (Projection(q.source, q.target, q.pre, q.post, q.weight, q.bias, (), q.dendrite) for q in n.projections)
        return Network(n.populations, tuple(links), n.inputs, n.outputs, n.dt)

    return bare(a).digest() == bare(b).digest()


# --- reading ---------------------------------------------------------------------------------------------------------


def test_feed_forward_values_arrive_unchanged():
    g = small(fc=affine(4, 3), hidden=cubalif(4, tau_mem=[0.01, 0.02, 0.03, 0.04], r=5.0))
    net = read(g)
    assert [p.name for p in net.populations] == ["hidden"]
    np.testing.assert_array_equal(net["hidden"].tau_mem, [0.01, 0.02, 0.03, 0.04])
    np.testing.assert_array_equal(values_of(net["hidden"].w_in), np.full(4, 10.0))
    (q,) = net.projections
    assert (q.source, q.target, q.nodes, q.name) == ("in", "hidden", ("fc",), "fc")
    np.testing.assert_array_equal(q.dense(3, 4), g.nodes["fc"].weight)
    np.testing.assert_array_equal(values_of(q.bias), g.nodes["fc"].bias)
    assert net.inputs == (Port("in", (3,)),)
    assert net.outputs == (Port("out", (4,), "hidden"),)
    assert net.dt == 1e-3
    assert net.origin == {
        "source": "nir.NIRGraph",
        "sha256": None,
        "nir_version": nir.version,
        "frontend": "spec",
        "time_unit": "s",
        "time_scale": 1.0,
    }
    assert net.metadata == {"dt": 1e-3}
    assert net.findings == ()


def test_flat_recurrence():
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "w_rec"), ("w_rec", "hidden"), ("hidden", "out")]
    net = read(small(w_rec=affine(4, 4), edges=edges))
    assert [(q.source, q.nodes) for q in net.projections] == [("in", ("fc",)), ("hidden", ("w_rec",))]


def nested(inner_edges, **more):
    nodes = {"input": port_in(4), "lif": lif(4), "w_rec": linear(4, 4, 5), "output": port_out(4), **more}
    return graph({k: v for k, v in nodes.items() if v is not None}, inner_edges)


RECURRENT = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]


def in_nested(inner):
    return small(hidden=None, rnn=inner, edges=[("in", "fc"), ("fc", "rnn"), ("rnn", "out")])


def test_nested_graph_becomes_dotted_names():
    net = read(in_nested(nested(RECURRENT)))
    assert [(q.source, q.target, q.nodes) for q in net.projections] == [
        ("in", "rnn.lif", ("fc",)),
        ("rnn.lif", "rnn.lif", ("rnn.w_rec",)),
    ]
    assert net.outputs[0].source == "rnn.lif"
    assert codes(net) == set()


def test_nested_graph_of_a_single_node_and_of_two_levels():
    single = graph({"lif": lif(4)}, [])
    assert [p.name for p in read(in_nested(single)).populations] == ["rnn.lif"]
    edges = [("input", "a"), ("a", "output")]
    outer = graph({"input": port_in(4), "a": nested(RECURRENT), "output": port_out(4)}, edges)
    assert [p.name for p in read(in_nested(outer)).populations] == ["rnn.a.lif"]


def test_wrong_wiring_through_the_recurrent_weights_is_repaired_and_reported():
    wrong = [("input", "w_rec"), ("w_rec", "lif"), ("lif", "w_rec"), ("lif", "output")]
    net = read(in_nested(nested(wrong)))
    assert net.digest() == read(in_nested(nested(RECURRENT))).digest()
    (finding,) = [f for f in net.findings if f.code == "repair"]
    assert finding.node == "rnn.w_rec"
    assert "repair" in codes(net)
    assert "recurrent weights" in refused(in_nested(nested(wrong)), strict=True)


def test_inner_edges_that_name_a_missing_node_mean_the_lonely_one():
    inner = nested([("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")], lif=None, lif1=lif(4))
    net = read(in_nested(inner))
    assert [p.name for p in net.populations] == ["rnn.lif1"]
    assert len(net.projections) == 2
    assert codes(net) == {"repair"}


def test_inner_ports_with_a_wrong_shape_are_ignored_and_reported():
    net = read(in_nested(nested(RECURRENT, input=port_in(17))))
    assert net["rnn.lif"].size == 4
    (finding,) = net.findings
    assert (finding.severity, finding.node) == ("info", "rnn.input")
    assert "17" in str(finding)


def test_nested_graph_with_two_inputs_takes_dotted_edges_only():
    inner = graph(
        {"a": port_in(3), "b": port_in(2), "fa": linear(4, 3), "fb": linear(4, 2), "lif": lif(4), "o": port_out(4)},
        [("a", "fa"), ("b", "fb"), ("fa", "lif"), ("fb", "lif"), ("lif", "o")],
    )
    nodes = {"x": port_in(3), "y": port_in(2), "sub": inner, "out": port_out(4)}
    net = read(graph(nodes, [("x", "sub.a"), ("y", "sub.b"), ("sub", "out")]))
    assert [(q.source, q.nodes) for q in net.projections] == [("x", ("sub.fa",)), ("y", ("sub.fb",))]
    text = refused(graph(nodes, [("x", "sub"), ("y", "sub.b"), ("sub", "out")]))
    assert "node 'sub'" in text
    assert "2 inputs" in text
    assert "sub.a, sub.b" in text


def test_chains_fold_by_matrix_product_and_push_biases_through():
    a, b, s = affine(5, 3, 1), affine(4, 5, 2), nir.Scale(scale=np.array([1.0, 2.0, -3.0, 0.5]))
    edges = [("in", "a"), ("a", "b"), ("b", "s"), ("s", "hidden"), ("hidden", "out")]
    (q,) = read(small(fc=None, a=a, b=b, s=s, edges=edges)).projections
    np.testing.assert_allclose(q.dense(3, 4), np.diag(s.scale) @ b.weight @ a.weight, rtol=1e-14)
    np.testing.assert_allclose(values_of(q.bias), s.scale * (b.weight @ a.bias + b.bias), rtol=1e-14)
    assert q.nodes == ("a", "b", "s")


def test_shared_linear_node_applies_to_both_sources_but_its_bias_once():
    fc = affine(4, 3)
    nodes = {"x": port_in(3), "y": port_in(3), "fc": fc, "lif": lif(4), "out": port_out(4)}
    net = read(graph(nodes, [("x", "fc"), ("y", "fc"), ("fc", "lif"), ("lif", "out")]))
    assert [q.source for q in net.projections] == ["x", "y"]
    for q in net.projections:
        np.testing.assert_array_equal(q.dense(3, 4), fc.weight)
    np.testing.assert_array_equal(net.bias("lif"), fc.bias)


def test_a_diamond_of_linear_nodes_counts_every_bias_once_per_path():
    a, b, c, d = affine(3, 3, 1), affine(3, 3, 2), affine(3, 3, 3), affine(4, 3, 4)
    edges = [("in", "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "hidden"), ("hidden", "out")]
    net = read(small(fc=None, a=a, b=b, c=c, d=d, edges=edges))
    x = np.array([0.3, -1.0, 2.0])
    y = a.weight @ x + a.bias
    expected = d.weight @ ((b.weight @ y + b.bias) + (c.weight @ y + c.bias)) + d.bias
    total = sum((q.dense(3, 4) @ x for q in net.projections), np.zeros(4))
    np.testing.assert_allclose(total + net.bias("hidden"), expected, rtol=1e-12)


def test_direct_edges_and_several_projections_into_one_population():
    nodes = {"x": port_in(4), "y": port_in(2), "fc": linear(4, 2), "lif": lif(4), "o1": port_out(4), "o2": port_out(4)}
    edges = [("x", "lif"), ("y", "fc"), ("fc", "lif"), ("lif", "o1"), ("lif", "o2")]
    net = read(graph(nodes, edges))
    direct = net.projections[0]
    assert (direct.source, direct.nodes, direct.bias) == ("x", (), None)
    np.testing.assert_array_equal(direct.dense(4, 4), np.eye(4))
    assert [o.name for o in net.outputs] == ["o1", "o2"]


def test_flatten_is_the_identity_and_an_output_may_read_through_it():
    flat = nir.Flatten(input_type={"input": np.array([2, 3])}, start_dim=0)
    out = nir.Flatten(input_type={"input": np.array([2, 2])}, start_dim=0)
    edges = [("in", "flat"), ("flat", "fc"), ("fc", "hidden"), ("hidden", "f2"), ("f2", "out")]
    net = read(small(**{"in": port_in(2, 3)}, flat=flat, fc=linear(4, 6), f2=out, edges=edges))
    assert net.projections[0].nodes == ("flat", "fc")
    np.testing.assert_array_equal(net.projections[0].dense(6, 4), linear(4, 6).weight)
    assert net.inputs[0].shape == (2, 3)
    assert net.outputs[0].source == "hidden"


def test_populations_come_in_order_of_depth_then_natural_name():
    names = ["lif_10", "lif_2", "lif_1"]
    nodes = {"in": port_in(2), **{n: lif(2) for n in names}, "first": lif(2), "out": port_out(2)}
    edges = [("in", "first"), *[("first", n) for n in names], ("lif_1", "out"), ("lif_2", "lif_1"), ("lif_10", "lif_1")]
    net = read(graph(nodes, edges))
    assert [p.name for p in net.populations] == ["first", "lif_1", "lif_2", "lif_10"]


class Tensor:
    """Like a torch parameter: refuses to become an array before `detach`."""

    def __init__(self, value, attached=True):
        self.value, self.attached, self.shape = np.asarray(value), attached, np.shape(value)

    def detach(self):
        return Tensor(self.value, attached=False)

    def cpu(self):
        return self

    def __array__(self, dtype=None, copy=None):
        if self.attached:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.value if dtype is None else self.value.astype(dtype)


def test_tensors_scalars_and_missing_v_reset():
    g = small()
    fc, hidden = g.nodes["fc"], g.nodes["hidden"]
    fc.weight = Tensor(fc.weight)
    for key in ("tau", "r", "v_leak", "v_threshold"):
        setattr(hidden, key, Tensor(getattr(hidden, key)[0]))
    del hidden.v_reset
    net = read(g)
    assert net.digest() == read(small()).digest()
    (finding,) = net.findings
    assert finding.severity == "info"
    assert "one value for all 4 neurons" in str(finding)
    assert isinstance(hidden.tau, Tensor), "the caller's graph must stay as it was"


def test_scalars_take_the_size_of_the_next_node_where_nothing_comes_before():
    g = small(fc=None, hidden=lif(1, shape=()), out=port_out(5), post=linear(5, 3), last=lif(5))
    g.edges = [("in", "hidden"), ("hidden", "post"), ("post", "last"), ("last", "out")]
    g.nodes["in"] = port_in(None)
    net = read(g)
    assert net["hidden"].size == 3
    assert net.inputs[0].shape == (3,)
    g.nodes["post"] = lif(1, shape=())
    g.nodes["last"] = lif(1, shape=())
    g.nodes["out"] = port_out(None)
    assert "size is not known" in refused(g)


def test_missing_ports_are_added_to_a_copy_and_reported():
    g = small(**{"in": None, "out": None}, edges=[("fc", "hidden")])
    net = read(g)
    assert (net.inputs, net.outputs) == ((Port("input", (3,)),), (Port("output", (4,), "hidden"),))
    assert sorted(g.nodes) == ["fc", "hidden"]
    assert g.edges == [("fc", "hidden")]
    assert [f.severity for f in net.findings] == ["info", "info"]


def test_missing_ports_around_a_recurrent_population():
    g = graph({"lif": lif(4), "w": linear(4, 4)}, [("lif", "w"), ("w", "lif")])
    net = read(g)
    assert [q.source for q in net.projections] == ["input", "lif"]
    assert net.outputs == (Port("output", (4,), "lif"),)


def test_a_single_node_is_a_network():
    net = read(lif(3))
    assert [p.name for p in net.populations] == ["lif"]
    assert (net.inputs[0].size, net.outputs[0].source) == (3, "lif")


@pytest.mark.parametrize("key", ["input", "output", "anything"])
def test_leading_axes_of_one_are_dropped(key):
    out = nir.Output(output_type={"output": np.array([1, 1, 4])})
    g = small(**{"in": nir.Input(input_type={"input": np.array([1, 3])})}, out=out)
    g.nodes["in"].input_type = {key: np.array([1, 3])}
    net = read(g)
    assert (net.inputs[0].shape, net.outputs[0].shape) == ((3,), (4,))
    assert [f.node for f in net.findings] == ["in", "out"]
    assert {f.severity for f in net.findings} == {"info"}


def test_duplicate_edges_count_once():
    edges = [("in", "fc"), ("fc", "hidden"), ("fc", "hidden"), ("hidden", "out")]
    net = read(small(edges=edges))
    assert net.digest() == read(small()).digest()
    assert codes(net) == {"edge"}


# --- time ------------------------------------------------------------------------------------------------------------


def test_time_unit_and_scale():
    net = from_nir(small(hidden=lif(4, tau=20.0)), dt=1e-3, time_unit="ms", time_scale=2.0)
    np.testing.assert_allclose(net["hidden"].tau_mem, 0.04)
    assert net.dt == 2e-3
    assert (net.origin["time_unit"], net.origin["time_scale"]) == ("ms", 2.0)
    net = from_nir(small(hidden=cubalif(4, tau_mem=20.0, tau_syn=5.0)), dt=1e-3, time_unit="ms", time_scale=2.0)
    np.testing.assert_allclose(net["hidden"].tau_mem, 0.04)
    np.testing.assert_allclose(values_of(net["hidden"].tau_syn), 0.01)


def test_dt_argument_beats_metadata_beats_gains_beats_default():
    g = small(hidden=cubalif(4, tau_mem=[0.02, 0.03, 0.04, 0.05], r=[4.0, 6.0, 8.0, 10.0], w_in=2.0))
    assert from_nir(g, dt=2e-3).dt == 2e-3
    assert from_nir(g).dt == 1e-3
    assert from_nir(g, time_scale=3.0).dt == pytest.approx(3e-3)
    g.metadata = {}
    net = from_nir(g)
    assert net.dt == pytest.approx(5e-3, rel=1e-12)
    assert [(f.severity, f.code) for f in net.findings] == [("info", "dt")]
    g.nodes["hidden"].w_in = np.full(4, 3.0)  # tau_syn/w_in disagrees
    net = from_nir(g)
    assert net.dt == 1e-3
    assert [(f.severity, f.code) for f in net.findings] == [("warning", "dt")]
    assert "dt=" in refused(g, ParameterRangeError, dt=None, strict=True)


@pytest.mark.parametrize("bad", [0, -1e-3, float("nan"), float("inf"), "soon", [1, 2]])
def test_bad_time_arguments(bad):
    assert "dt is" in refused(small(), ParameterRangeError, dt=bad)
    assert "time_scale is" in refused(small(), ParameterRangeError, time_scale=bad)
    net = from_nir(graph(small().nodes, small().edges, {"dt": bad}))
    assert (net.dt, codes(net)) == (1e-3, {"dt"})


def test_unknown_unit_and_frontend_list_the_known_ones():
    assert "'s', 'ms', 'us'" in refused(small(), ParameterRangeError, time_unit="steps")
    assert "'spec'" in refused(small(), ParameterRangeError, frontend="brian")


@pytest.mark.parametrize(
    ("tau", "unit", "remedy", "result"),
    [
        (20.0, "s", 'time_unit="ms"', "0.02 s"),
        (20.0, "ms", None, None),
        (2e4, "ms", 'time_unit="us"', "0.02 s"),
        (1e-5, "s", "time_scale=1000", "0.01 s"),
        (0.02, "ms", 'time_unit="s"', "0.02 s"),
        (0.002, "ms", 'time_unit="s"', "0.002 s"),
        (200.0, "us", None, None),
        (20.0, "us", 'time_unit="ms"', "0.02 s"),
        (0.5, "us", 'time_unit="ms"', "0.0005 s"),
        (5e7, "s", "time_scale=...", None),
    ],
)
def test_time_unit_off_by_a_thousand(tau, unit, remedy, result):
    g = small(hidden=lif(4, tau=[tau, 1.0, 1.0, 1.0] if tau > 1e6 else tau))
    if remedy is None:
        assert from_nir(g, dt=1e-5, time_unit=unit).n_neurons == 4
        return
    text = refused(g, ParameterRangeError, time_unit=unit, dt=1e-5)
    assert "node 'hidden', neuron 0: tau is" in text
    assert ("the chip reaches at most" in text) == (tau > 1 and unit != "us")
    assert remedy in text
    assert result is None or result in text
    suggested = re.search(r'time_unit="(\w+)"', text)
    if suggested:  # the remedy works
        assert from_nir(g, dt=1e-6, time_unit=suggested[1]).n_neurons == 4


def test_dt_against_tau():
    assert "forward Euler diverges" in refused(small(hidden=lif(4, tau=5e-4)), ParameterRangeError, dt=1e-3)
    assert codes(read(small(hidden=lif(4, tau=8e-4)))) == {"dt"}
    assert codes(read(small(hidden=lif(4, tau=0.2)), dt=1e-5)) == {"dt"}
    assert codes(read(small(hidden=lif(4, tau=1e-3)))) == set()


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset", "w_in"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_parameters(field, value):
    node = cubalif(4)
    getattr(node, field)[2:] = value
    text = refused(small(hidden=node), ParameterRangeError)
    assert f"node 'hidden', neuron 2: {field} is {value} (and 1 more" in text


def test_not_finite_weight_and_bias():
    fc = affine(4, 3)
    fc.weight[3, 1], fc.bias[0] = np.nan, np.inf
    text = refused(small(fc=fc), ParameterRangeError)
    assert "node 'fc', neuron 3: weight[3, 1] is nan, allowed are finite numbers." in text
    assert "bias is inf" in text


@pytest.mark.parametrize("field", ["tau_mem", "tau_syn", "r", "w_in"])
@pytest.mark.parametrize("value", [0.0, -0.01])
def test_not_positive_parameters(field, value):
    node = cubalif(4)
    getattr(node, field)[[1, 3]] = value
    text = refused(small(hidden=node), ParameterRangeError)
    unit = " s" if field.startswith("tau") else ""
    assert f"node 'hidden', neuron 1: {field} is {value:.4g}{unit} (and 1 more neurons), it must be above 0." in text


def test_negative_tau_is_told_in_real_seconds():
    text = refused(small(hidden=lif(4, tau=-10.0)), ParameterRangeError, time_unit="ms")
    assert "tau is -0.01 s" in text


def test_threshold_at_or_below_reset():
    text = refused(small(hidden=lif(4, v_threshold=[1, 1, 0.5, 1], v_reset=0.5)), ParameterRangeError)
    assert "node 'hidden', neuron 2: v_threshold is 0.5, it must be above v_reset, 0.5." in text


def test_negative_reset_is_an_approximation():
    net = read(small(hidden=lif(4, v_reset=-0.5)))
    assert codes(net) == {"v_reset"}
    assert "approximate" in str(net.findings[0])
    assert "v_reset" in refused(small(hidden=lif(4, v_reset=-0.5)), ParameterRangeError, strict=True)


def test_weights_and_biases_that_do_not_fit():
    assert "its weight (4, 5) takes 5 values, 'in' delivers 3" in refused(small(fc=linear(4, 5)))
    assert "transposed" in refused(small(fc=linear(3, 4)))
    assert "it has 7 neurons, 'fc' delivers 4 values" in refused(small(hidden=lif(7), out=port_out(7)))
    assert "node 'out'" in refused(small(out=port_out(9)))
    fc = affine(4, 3)
    fc.bias = np.zeros(3)
    assert "bias has shape (3,)" in refused(small(fc=fc))
    fc = linear(4, 3)
    fc.weight = np.zeros(3)
    assert "weight has shape (3,), expected (out, in)" in refused(small(fc=fc))
    text = refused(small(**{"in": port_in(32, 3)}))
    assert "batch or time axis" in text
    node = lif(4)
    node.r = np.ones(3)
    assert "tau (4,)" in refused(small(hidden=node))
    assert "whole numbers" in refused(small(**{"in": port_in(-3)}))
    assert "allowed are" in refused(
        small(fc=None, hidden=lif(1, shape=()), **{"in": port_in(10**9)}, edges=EDGES_DIRECT)
    )


EDGES_DIRECT = [("in", "hidden"), ("hidden", "out")]


def test_values_that_are_not_numbers():
    fc = linear(4, 3)
    fc.weight = np.array([["a", "b", "c"]] * 4)
    assert "node 'fc': weight is of type <U1, not numeric" in refused(small(fc=fc))
    node = lif(4)
    node.tau = None
    assert "node 'hidden': tau is missing" in refused(small(hidden=node))
    fc = linear(4, 3)
    fc.weight = np.full((4, 3), 1j)
    assert "complex128" in refused(small(fc=fc))


def test_empty_and_neuronless_graphs():
    assert "empty" in refused(graph({}, []))
    assert "empty" in refused(graph({"in": port_in(3), "out": port_out(3)}, [("in", "out")]))
    edges = [("in", "fc"), ("fc", "out")]
    assert "no spiking population" in refused(small(hidden=None, edges=edges))


def test_no_input_reaches_anything():
    text = refused(small(edges=[("fc", "hidden"), ("hidden", "out")]))
    assert "no input reaches any population" in text


def test_a_readout_must_end_in_a_spiking_population():
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "ro"), ("ro", "out")]
    text = refused(small(ro=linear(2, 4), out=port_out(2), edges=edges))
    assert "node 'out': it reads the linear node 'ro': a readout must end in a spiking population for now" in text
    li = nir.LI(tau=np.full(4, 0.02), r=np.ones(4), v_leak=np.zeros(4))
    text = refused(small(ro=li, edges=edges))
    assert "node 'ro': LI is not supported" in text
    assert "readout" in text


def test_an_output_reads_one_population():
    edges = [("in", "fc"), ("fc", "hidden"), ("fc", "h2"), ("hidden", "out"), ("h2", "out")]
    assert "it reads 2 populations: 'h2', 'hidden'" in refused(small(h2=lif(4), edges=edges))
    net = read(small(o2=port_out(3), edges=[("in", "fc"), ("fc", "hidden"), ("hidden", "out"), ("in", "o2")]))
    assert [o.name for o in net.outputs] == ["out"]
    assert "output" in codes(net)


def test_dangling_edges():
    edges = [("in", "fc"), ("fc", "hiden"), ("hidden", "out")]
    text = refused(small(edges=edges))
    assert "node 'hiden': the edge 'fc' -> 'hiden' names it, but there is no such node. Did you mean 'hidden'?" in text
    assert "not a pair" in refused(small(edges=[("in", "fc", "x")]))


def test_edges_against_the_ports():
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "out")]
    assert "an Input is fed by 'hidden'" in refused(small(edges=[*edges, ("hidden", "in")]))
    assert "an Output feeds 'hidden'" in refused(small(edges=[*edges, ("out", "hidden")]))


def test_cycles_of_linear_nodes():
    edges = [("in", "a"), ("a", "b"), ("b", "a"), ("b", "hidden"), ("hidden", "out")]
    text = refused(small(fc=None, **{"in": port_in(4)}, a=linear(4, 4), b=linear(4, 4), edges=edges))
    assert "a cycle of linear nodes only ('a', 'b')" in text


def test_unknown_and_refused_types_name_alternatives():
    class LIFF(nir.NIRNode):
        def __init__(self):
            pass

    text = refused(small(hidden=LIFF()))
    assert "node 'hidden': unknown type 'LIFF'. Did you mean" in text
    assert "LIF" in text
    assert "CubaLIF" in text
    delay = nir.Delay(delay=np.ones(4))
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "d"), ("d", "h2"), ("h2", "out")]
    text = refused(small(d=delay, h2=lif(4), edges=edges))
    assert text.startswith("node 'd': Delay is not supported")
    assert "no path" not in text


def test_subclasses_of_known_nodes_are_read():
    class MyLIF(nir.LIF):
        pass

    node = MyLIF(*(getattr(lif(4), key) for key in ("tau", "r", "v_leak", "v_threshold", "v_reset")))
    assert read(small(hidden=node)).digest() == read(small()).digest()


def test_all_problems_at_once_and_range_error_if_any_is_one():
    g = small(fc=linear(4, 5), hidden=lif(4, tau=-1), edges=[("in", "fc"), ("fc", "hidden"), ("hidden", "ghost")])
    with pytest.raises(ParameterRangeError) as caught:
        read(g)
    assert {"shape", "not-positive", "edge"} <= {f.code for f in caught.value.findings}


def test_warnings_about_parts_without_effect():
    edges = [
        ("in", "fc"),
        ("fc", "hidden"),
        ("hidden", "out"),
        ("alone", "hidden"),
        ("hidden", "dead"),
        ("hidden", "fd"),
    ]
    g = small(alone=lif(4), dead=lif(4), fd=linear(3, 4), spare=port_in(2), edges=edges)
    net = read(g)
    assert {(f.code, f.node) for f in net.findings} == {
        ("unreached", "alone"),
        ("unused", "dead"),
        ("unused", "fd"),
        ("unused", "spare"),
    }
    text = refused(g, strict=True)
    assert text.count("\n") == 3


def test_suspicious_gains():
    net = read(small(hidden=cubalif(4, r=1.0, w_in=1.0)))
    assert codes(net) == {"gain"}
    assert "Norse" in str(net.findings[0])
    assert "Rockpool" in str(net.findings[0])
    net = read(small(hidden=lif(4, r=0.8)))
    assert "Spyx" in str(net.findings[0])
    assert "gain" not in codes(read(small(hidden=cubalif(4))))


def test_two_nodes_of_one_flat_name():
    g = in_nested(nested(RECURRENT))
    g.nodes["rnn.lif"] = lif(4)
    assert "two nodes have this name" in refused(g)


def test_absurd_sizes_and_values_are_refused_without_warnings_from_numpy():
    big = nir.Linear(weight=np.full((4, 4), 1e300))
    edges = [("in", "a"), ("a", "b"), ("b", "hidden"), ("hidden", "out")]
    text = refused(small(fc=None, **{"in": port_in(4)}, a=big, b=big, edges=edges))
    assert "overflows" in text
    assert refused(small(hidden=lif(4, tau=1e308)), ParameterRangeError, time_scale=1e3)
    layers = {f"s{i:03}": nir.Scale(scale=np.ones(4)) for i in range(300)}
    names = ["fc", *layers, "hidden", "out"]
    edges = [("in", "fc"), *itertools.pairwise(names)]
    assert "chain of more than" in refused(small(**layers, edges=edges))


@pytest.mark.parametrize("thing", [None, 7, {"nodes": {}}, b"x.nir"])
def test_things_that_are_no_graph(thing):
    assert "from_nir cannot read a" in refused(thing)


def test_every_primitive_of_nir_is_in_the_table():
    known = {name for name in nir.ir.__all__ if isinstance(getattr(nir, name), type)} - {"NIRNode"}
    assert known == set(PRIMITIVES)
    for entry in PRIMITIVES.values():
        assert (entry.verdict == "refused") == bool(entry.reason and entry.alternative)
        assert entry.verdict != "native" or (entry.read and entry.write and entry.shape)
        assert entry.verdict != "folded" or (entry.fold and entry.shape)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_written_graph_passes_nirs_own_check_and_survives_a_file(tmp_path):
    net = read(in_nested(nested(RECURRENT, w_rec=affine(4, 4))), time_scale=2.0)
    g = to_nir(net)
    assert set(g.nodes) == {"in", "fc", "rnn.lif", "rnn.w_rec", "out"}
    assert isinstance(g.nodes["rnn.w_rec"], nir.Affine)
    assert isinstance(g.nodes["fc"], nir.Linear)
    assert g.metadata["dt"] == 2e-3
    nir.NIRGraph(g.nodes, g.edges)
    nir.write(tmp_path / "x.nir", g)
    for back in (from_nir(g), from_nir(tmp_path / "x.nir"), from_nir(nir.read(tmp_path / "x.nir"))):
        assert back.digest() == net.digest()
        assert back.findings == net.findings == ()


def test_shared_nodes_stay_one_node_and_folded_chains_become_one():
    nodes = {"x": port_in(3), "y": port_in(3), "fc": affine(4, 3), "a": lif(4), "b": lif(4)}
    nodes |= {"oa": port_out(4), "ob": port_out(4)}
    edges = [("x", "fc"), ("y", "fc"), ("fc", "a"), ("fc", "b"), ("a", "oa"), ("b", "ob")]
    net = read(graph(nodes, edges))
    assert len(net.projections) == 4
    g = to_nir(net)
    assert set(g.nodes) == set(nodes)
    assert sorted(g.edges) == sorted(edges)
    chain = [("in", "fc"), ("fc", "s"), ("s", "hidden"), ("hidden", "out")]
    net = read(small(fc=affine(4, 3), s=nir.Scale(scale=np.arange(1.0, 5)), edges=chain))
    g = to_nir(net)
    assert set(g.nodes) == {"in", "s", "hidden", "out"}
    assert g.metadata["folded"] == "s = fc, s"
    assert same(from_nir(g), net, nodes=False)


def test_ambiguous_folded_names_get_distinct_nodes():
    nodes = {"x": port_in(3), "y": port_in(3), "a": affine(3, 3, 1), "b": affine(3, 3, 2), "c": affine(4, 3, 3)}
    nodes |= {"lif": lif(4), "out": port_out(4)}
    net = read(graph(nodes, [("x", "a"), ("y", "b"), ("a", "c"), ("b", "c"), ("c", "lif"), ("lif", "out")]))
    g = to_nir(net)
    assert set(g.nodes) == {"x", "y", "a.c", "b.c", "lif", "out"}
    assert same(from_nir(g), net, nodes=False)


def hand_built(**changes):
    tau, r, leak, threshold, reset = (np.full(6, v) for v in (0.02, 1.0, 0.0, 1.0, 0.0))
    p = Population("a/b", "LIF", tau, r, leak, threshold, reset, shape=(2, 3))
    q = Projection.from_dense("in", "a/b", weight(6, 4), **changes)
    direct = Projection("a/b", "a/b", np.arange(6), np.arange(6), np.ones(6))
    meta = {"note": "x", "list": np.ones(3), "dt": 7.0}
    return Network((p,), (q, direct), (Port("in", (2, 2)),), (Port("out", (2, 3), "a/b"),), 1e-3, metadata=meta)


def test_hand_built_network_with_axes_slashes_and_a_dendrite(tmp_path):
    net = hand_built(nodes=("w/x",), dendrite="shunt", bias=np.arange(6.0))
    g = to_nir(net)
    nir.NIRGraph(g.nodes, g.edges)
    nir.write(tmp_path / "x.nir", g)
    back = from_nir(nir.read(tmp_path / "x.nir"))
    assert [p.name for p in back.populations] == ["a_b"]
    assert back["a_b"].shape == (2, 3)
    assert (back.inputs[0].shape, back.outputs[0].shape) == ((2, 2), (2, 3))
    assert [(q.nodes, q.dendrite) for q in back.projections] == [(("w_x",), "shunt"), ((), None)]
    assert back.metadata == {"note": "x", "dt": 1e-3}
    np.testing.assert_array_equal(values_of(back.projections[0].bias), np.arange(6.0))


def test_projection_without_nodes_that_is_no_identity_becomes_a_node():
    g = to_nir(hand_built())
    assert set(g.nodes) == {"in", "in->a_b", "a_b", "out"}
    assert same(from_nir(g), from_nir(to_nir(from_nir(g))))


def test_a_permutation_is_no_direct_edge():
    net = hand_built()
    crossed = Projection("a/b", "a/b", np.arange(6), np.arange(6)[::-1], np.ones(6))
    net = Network(net.populations, (net.projections[0], crossed), net.inputs, net.outputs, net.dt)
    back = from_nir(to_nir(net))
    np.testing.assert_array_equal(back.projections[1].dense(6, 6), np.eye(6)[::-1])


def test_a_cubalif_without_synapse_is_refused():
    one = np.ones(2)
    p = Population("p", "CubaLIF", one, one, one, one, one)
    with pytest.raises(UnsupportedGraphError, match="'p'"):
        to_nir(Network((p,), (), (), (), 1e-3))


# --- random graphs ---------------------------------------------------------------------------------------------------

values = st.floats(0.1, 4.0)


@st.composite
def populations(draw, n):
    many = st.lists(values, min_size=n, max_size=n).map(np.array)
    tau = draw(many) * 0.05
    threshold = draw(many)
    common = {"r": draw(many), "v_leak": draw(many) - 1.0, "v_threshold": threshold, "v_reset": np.zeros(n)}
    if draw(st.booleans()):
        return nir.LIF(tau=tau, **common)
    return nir.CubaLIF(tau_mem=tau, tau_syn=draw(many) * 0.05, w_in=draw(many), **common)


@st.composite
def graphs(draw, chains=True):
    """Inputs, populations in a row with random links between any two (also backwards and to themselves), outputs."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    nodes, edges, ends = {}, [], {}
    for k in range(draw(st.integers(1, 2))):
        ends[f"in_{k}"] = draw(st.integers(1, 4))
        nodes[f"in_{k}"] = port_in(ends[f"in_{k}"])
    inputs = list(ends)
    for k, n in enumerate(sizes):
        name = f"lif_{7 + k}"
        node = draw(populations(n))
        if draw(st.booleans()):
            inner = {"input": port_in(n), "lif": node, "w_rec": linear(n, n, k), "output": port_out(n)}
            node = graph(inner, RECURRENT)
        nodes[name], ends[name] = node, n
    links = [(draw(st.sampled_from(inputs)), "lif_7")]
    names = list(ends)
    links += [(names[len(inputs) + k], names[len(inputs) + k + 1]) for k in range(len(sizes) - 1)]
    targets = st.sampled_from([n for n in names if n not in inputs])
    links += draw(st.lists(st.tuples(st.sampled_from(names), targets), max_size=4))
    for k, (a, b) in enumerate(dict.fromkeys(links)):
        seed = draw(st.integers(0, 99))
        kinds = ["linear", "affine", *(["edge", "scale"] if ends[a] == ends[b] else []), *(["chain"] if chains else [])]
        kind = draw(st.sampled_from(kinds))
        if kind == "edge":
            edges.append((a, b))
            continue
        make = {"linear": linear, "affine": affine, "chain": affine}.get(kind)
        nodes[f"w{k}"] = make(ends[b], ends[a], seed) if make else nir.Scale(scale=weight(1, ends[a], seed)[0])
        edges += [(a, f"w{k}"), (f"w{k}", b)]
        if kind == "chain":
            nodes[f"v{k}"] = affine(ends[b], ends[b], seed + 1)
            edges[-1:] = [(f"w{k}", f"v{k}"), (f"v{k}", b)]
    for k, name in enumerate(n for n in names if n not in inputs):
        nodes[f"out_{k}"] = port_out(ends[name])
        edges.append((name, f"out_{k}"))
    return graph(nodes, edges, {"dt": 1e-3})


@settings(max_examples=60, deadline=None)
@given(graphs(chains=False))
def test_round_trip_is_equal_by_value(g):
    net = from_nir(g)
    assert from_nir(to_nir(net)).digest() == net.digest()


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_round_trip_with_chains_is_equal_but_for_the_folded_names(g):
    net = from_nir(g)
    written = to_nir(net)
    assert same(from_nir(written), net, nodes=False)
    nir.NIRGraph(dict(written.nodes), list(written.edges))  # nir's own type check


def shuffled(g, rng):
    nodes = list(g.nodes.items())
    rng.shuffle(nodes)
    edges = list(g.edges)
    rng.shuffle(edges)
    return graph({k: shuffled(v, rng) if isinstance(v, nir.NIRGraph) else v for k, v in nodes}, edges, g.metadata)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_order_of_nodes_and_edges_does_not_matter(g, rng: random.Random):
    a, b = from_nir(g), from_nir(shuffled(g, rng))
    assert a.digest() == b.digest()
    assert a.findings == b.findings


@settings(max_examples=60, deadline=None)
@given(graphs(), st.data())
def test_a_damaged_graph_raises_our_errors_only(g, data):
    name = data.draw(st.sampled_from(sorted(g.nodes)))
    what = data.draw(st.sampled_from(["drop", "nan", "shape", "text", "none"]))
    fields = [k for k, v in vars(g.nodes[name]).items() if isinstance(v, np.ndarray)]
    if what == "drop" or not fields:
        del g.nodes[name]
    else:
        key = data.draw(st.sampled_from(fields))
        value = getattr(g.nodes[name], key)
        wrong = {"nan": value * np.nan, "shape": value[:-1], "text": "x", "none": None}[what]
        setattr(g.nodes[name], key, wrong)
    try:
        net = from_nir(g)
    except DynapseError as error:
        text = str(error)
    else:
        text = net.digest()
    assert text
