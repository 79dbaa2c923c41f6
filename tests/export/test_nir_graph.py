"""Network → NIR graph and back: names, edges and values survive; random graphs."""

from __future__ import annotations

import random
from dataclasses import replace

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nir_dynapse.errors import DynapseError, UnsupportedGraphError
from nir_dynapse.export.nir_graph import to_nir
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.network import Network, Population, Port, Projection
from nir_dynapse.network.primitives import graph
from nir_graphs import (
    RECURRENT,
    affine,
    in_nested,
    lif,
    linear,
    nested,
    port_in,
    port_out,
    read,
    same,
    small,
    values_of,
    weight,
)


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


def without_sources(net: Network) -> Network:
    """A network that forgot which nodes its projections were read from, as one made from a Layout."""
    return replace(net, projections=tuple(replace(q, via=()) for q in net.projections))


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
    assert set(g.nodes) == {"in", "fc", "s", "hidden", "out"}
    assert isinstance(g.nodes["s"], nir.Scale)
    assert sorted(g.edges) == sorted(chain)
    assert from_nir(g).digest() == net.digest()
    g = to_nir(without_sources(net))
    assert set(g.nodes) == {"in", "s", "hidden", "out"}
    assert g.metadata["folded"] == "s = fc, s"
    assert same(from_nir(g), net, nodes=False)


def test_weights_that_were_changed_are_written_as_they_are_now():
    net = read(small(fc=affine(4, 3)))
    q = net.projections[0]
    for change in ({"weight": q.weight * 2}, {"bias": np.ones(4)}, {"bias": None}):
        changed = replace(net, projections=(replace(q, **change),))
        back = from_nir(to_nir(changed))
        assert back.digest() == changed.digest() != net.digest()


def test_ambiguous_folded_names_get_distinct_nodes():
    nodes = {"x": port_in(3), "y": port_in(3), "a": affine(3, 3, 1), "b": affine(3, 3, 2), "c": affine(4, 3, 3)}
    nodes |= {"lif": lif(4), "out": port_out(4)}
    net = read(graph(nodes, [("x", "a"), ("y", "b"), ("a", "c"), ("b", "c"), ("c", "lif"), ("lif", "out")]))
    assert set(to_nir(net).nodes) == set(nodes)
    g = to_nir(without_sources(net))
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
    with pytest.raises(UnsupportedGraphError, match="'p'"):
        Population("p", "CubaLIF", one, one, one, one, one)


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


@pytest.mark.parametrize(
    ("name", "written"),
    [("module/lif", "module_lif"), (".", "node"), ("", "node"), ("a//b", "a__b"), ("/lif", "_lif"), ("a\0b", "a_b")],
)
def test_a_name_that_nir_cannot_read_back_is_said_and_written_as_another(name, written, tmp_path):
    net = read(small(hidden=None, **{name: lif(4)}, edges=[("in", "fc"), ("fc", name), (name, "out")]))
    (found,) = [f for f in net.findings if f.code == "name"]
    assert (found.severity, found.node) == ("info", name)
    assert repr(written) in found.what
    nir.write(tmp_path / "model.nir", to_nir(net))
    again = from_nir(tmp_path / "model.nir")
    assert [p.name for p in again.populations] == [written]
    assert not [f for f in again.findings if f.code == "name"]
    assert to_nir(again).nodes.keys() == to_nir(net).nodes.keys()


def test_a_name_that_is_replaced_takes_no_name_that_is_there(tmp_path):
    """'a/b' would become 'a_b', which another node has and keeps."""
    nodes = {"in": port_in(3), "fc/a": linear(4, 3), "a/b": lif(4), "fc_a": linear(4, 4), "a_b": lif(4, tau=0.03)}
    edges = [("in", "fc/a"), ("fc/a", "a/b"), ("a/b", "fc_a"), ("fc_a", "a_b"), ("a_b", "out")]
    net = read(graph({**nodes, "out": port_out(4)}, edges))
    said = {f.node: f.what for f in net.findings if f.code == "name"}
    assert said.keys() == {"a/b", "fc/a"}
    assert "'a_b_1'" in said["a/b"]
    assert "'fc_a_1'" in said["fc/a"]
    nir.write(tmp_path / "model.nir", to_nir(net))
    again = from_nir(tmp_path / "model.nir")
    assert [(p.name, p.tau_mem[0]) for p in again.populations] == [("a_b_1", 0.02), ("a_b", 0.03)]
    assert [q.nodes for q in again.projections] == [("fc_a_1",), ("fc_a",)]


@pytest.mark.parametrize("name", ["x/y", "x//y", "x/./y"])
def test_files_that_nir_wrote_with_slashes_are_read(name, tmp_path):
    """HDF5 makes groups of them, and drops what is empty; the edges keep the name."""
    nir.write(
        tmp_path / "model.nir", small(hidden=None, **{name: lif(4)}, edges=[("in", "fc"), ("fc", name), (name, "out")])
    )
    assert [p.name for p in from_nir(tmp_path / "model.nir").populations] == ["x/y"]
