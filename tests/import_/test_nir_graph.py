"""NIR graph → Network: values arrive unchanged, order does not matter, repairs are reported."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from nir_dynapse.export.nir_graph import to_nir
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.network import Port
from nir_dynapse.network.primitives import graph
from nir_graphs import (
    RECURRENT,
    affine,
    codes,
    cubalif,
    in_nested,
    lif,
    linear,
    nested,
    port_in,
    port_out,
    read,
    refused,
    small,
    values_of,
)


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


@pytest.mark.parametrize("through_fc", [True, False])
def test_wrong_wiring_of_a_flat_recurrence_is_repaired(through_fc: bool):
    """x -> w_rec -> hidden -> w_rec at the top: the input belongs to the neurons, not in front of W_rec."""
    rec, nodes = linear(4, 4, 1), {"in": port_in(4)}
    right = [("in", "hidden"), ("hidden", "w_rec"), ("w_rec", "hidden"), ("hidden", "out")]
    if through_fc:
        nodes["fc"] = linear(4, 4, 2)
        right = [("in", "fc"), ("fc", "hidden"), *right[1:]]
    else:
        nodes["fc"] = None
    first = right[0] if not through_fc else right[1]
    wrong = [edge for edge in right if edge != first] + [(first[0], "w_rec")]
    a, b = (read(small(**nodes, w_rec=rec, edges=edges)) for edges in (right, wrong))
    assert a.digest() == b.digest()
    assert [f.node for f in b.findings if "wrongly write" in f.what] == ["w_rec"]
    assert not a.findings


def test_weights_shared_by_another_population_are_left_alone():
    edges = [("in", "fc"), ("fc", "h2"), ("h2", "w"), ("hidden", "w"), ("w", "hidden"), ("hidden", "out")]
    net = read(small(h2=lif(4), w=linear(4, 4), edges=edges))
    assert {(q.source, q.target) for q in net.projections} == {("in", "h2"), ("h2", "hidden"), ("hidden", "hidden")}


def test_wrong_wiring_is_seen_through_the_ports_of_a_nested_graph():
    """in -> w_rec -> [lif] -> w_rec with the neurons in a graph of their own, as it was found by chance."""
    edges = [("in", "w_rec"), ("w_rec", "rnn"), ("rnn", "w_rec"), ("rnn", "out")]
    inner = graph({"input": port_in(4), "lif": lif(4), "output": port_out(4)}, [("input", "lif"), ("lif", "output")])
    nodes = {"in": port_in(4), "w_rec": linear(4, 4), "rnn": inner, "out": port_out(4)}
    net = from_nir(graph(nodes, edges, {"dt": 1e-3}))
    assert {(q.source, q.nodes) for q in net.projections} == {("in", ()), ("rnn.lif", ("w_rec",))}
    assert from_nir(to_nir(net)).digest() == net.digest()
