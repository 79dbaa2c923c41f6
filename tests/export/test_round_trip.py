"""Random graphs over every primitive: to_nir writes what from_nir read, also through a file and in any order."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nir_dynapse.export.nir_graph import to_nir
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.network import Network, Projection
from nir_dynapse.network.primitives import PRIMITIVES, graph
from nir_dynapse.sim.simulation import simulate
from nir_graphs import port_in, port_out
from random_graphs import flat, graphs, shuffled

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def few(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=SLOW)


def plain(value: Any) -> Any:
    """A field as something that compares by value."""
    return value if value is None or isinstance(value, str) else np.asarray(value)


def check_same_node(name: str, old: Any, new: Any) -> None:
    """The same class with the same values; one value for all neurons may have become one each."""
    assert type(old) is type(new), name
    entry = PRIMITIVES[type(old).__name__]
    for key in (*entry.fields, *entry.optional):
        if key in ("input_type", "shape", "input_shape"):
            continue  # what the neighbours say
        if key == "start_dim" and old.start_dim == 1 and len(old.input_type["input"]) + old.end_dim > 0:
            continue  # read as torch's, all axes but the batch, which NIR has not: written as all axes
        a, b = plain(getattr(old, key)), plain(getattr(new, key))
        if key == "bias" and a is None:
            a = np.zeros(len(old.weight))  # nir cannot write a convolution without
        if isinstance(a, str):
            assert a == b, (name, key)
        elif entry.verdict == "folded":
            assert np.array_equal(np.broadcast_to(a, np.shape(b)), b), (name, key)
        else:
            assert np.array_equal(np.broadcast_to(np.ravel(a), np.size(b)), np.ravel(b)), (name, key)


def check_written(g: Any) -> None:
    """The graph that is written is the one that was read."""
    net = from_nir(g)
    written = to_nir(net)
    assert from_nir(written).digest() == net.digest()
    assume(not any("wrongly write" in f.what for f in net.findings))  # repaired: other edges than in the file
    nodes, edges = flat(g)
    assert set(written.nodes) == set(nodes)
    for name, node in nodes.items():
        check_same_node(name, node, written.nodes[name])
    assert set(written.edges) == edges
    assert len(written.edges) == len(edges)
    assert to_nir(net).edges == written.edges


@few(50)
@given(graphs())
def test_the_written_graph_is_the_one_that_was_read(g: Any) -> None:
    check_written(g)


@pytest.mark.long
@few(180)
@given(graphs())
def test_many_written_graphs_are_those_that_were_read(g: Any) -> None:
    check_written(g)


@few(30)
@given(graphs())
def test_the_same_through_a_file(tmp_path_factory: Any, g: Any) -> None:
    net, path = from_nir(g), tmp_path_factory.mktemp("round") / "x.nir"
    nir.write(path, to_nir(net))
    assert from_nir(path).digest() == net.digest()


@pytest.mark.long
@few(80)
@given(graphs(), st.randoms(use_true_random=False))
def test_order_does_not_matter(g: Any, rng: random.Random) -> None:
    a, b = from_nir(g), from_nir(shuffled(g, rng))
    assert a.digest() == b.digest()
    assert a.findings == b.findings
    assert a.conversion == b.conversion
    assert from_nir(shuffled(to_nir(b), rng)).digest() == a.digest()


@few(50)
@given(graphs(), st.integers(0, 99))
def test_an_ideal_run_of_both_is_equal_in_every_bit(g: Any, seed: int) -> None:
    net = from_nir(g)
    x = np.random.default_rng(seed).poisson(0.7, (2, 10, net.n_inputs))
    runs = [simulate(n, x, ideal=True, backend="numpy", record=("v",)) for n in (net, from_nir(to_nir(net)))]
    for name, value in {**runs[0].spikes, **runs[0].values, **runs[0].states["v"]}.items():
        again = {**runs[1].spikes, **runs[1].values, **runs[1].states["v"]}[name]
        assert value.tobytes() == again.tobytes(), name


def sums(net: Network) -> tuple[dict[tuple[str, str], np.ndarray], dict[str, np.ndarray]]:
    """Weights between each two places and biases of each, however many projections they lie in."""
    sizes = {p.name: p.size for p in (*net.inputs, *net.populations, *net.readout.populations)}
    weights: dict[tuple[str, str], np.ndarray] = {}
    biases: dict[str, np.ndarray] = {}
    for q in (*net.projections, *net.readout.projections):
        dense = q.dense(sizes[q.source], sizes[q.target])
        weights[q.source, q.target] = weights.get((q.source, q.target), 0) + dense
        if q.bias is not None:
            biases[q.target] = biases.get(q.target, 0) + q.bias
    return weights, biases


def changed(q: Projection, rng: np.random.Generator) -> Projection:
    bias = None if q.bias is None else q.bias * rng.choice([1.0, 0.5])
    return replace(q, weight=q.weight * rng.uniform(0.5, 2.0), bias=bias)


def check_changed(g: Any, seed: int) -> None:
    net, rng = from_nir(g), np.random.default_rng(seed)
    share = rng.choice([0.3, 1.0])
    new = replace(net, projections=tuple(changed(q, rng) if rng.random() < share else q for q in net.projections))
    back = from_nir(to_nir(new))
    for ours, theirs in zip(sums(new), sums(back), strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            np.testing.assert_allclose(theirs[key], value, rtol=1e-12, atol=1e-14)  # pyright: ignore
    assert [(p.name, p.shape) for p in back.populations] == [(p.name, p.shape) for p in net.populations]
    assert (back.inputs, back.outputs) == (net.inputs, net.outputs)
    assert from_nir(to_nir(back)).digest() == back.digest()


@few(25)
@given(graphs(), st.integers(0, 999))
def test_changed_weights_are_written_as_they_are(g: Any, seed: int) -> None:
    check_changed(g, seed)


@pytest.mark.long
@few(80)
@given(graphs(), st.integers(0, 999))
def test_many_changed_weights_are_written_as_they_are(g: Any, seed: int) -> None:
    check_changed(g, seed)


ONE_FOR_ALL: dict[str, Any] = {
    "whole number": int,
    "0-d array": np.array,
    "one element": lambda v: np.array([v]),
    "NumPy scalar": np.int64,
    "pair": lambda v: (v, v),
}


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *((kind, form) for kind in ("SumPool2d", "AvgPool2d") for form in ONE_FOR_ALL),
        *((kind, form) for kind in ("Scale", "Delay") for form in ONE_FOR_ALL if form != "pair"),
        *(("Affine", form) for form in ONE_FOR_ALL if form not in ("pair", "one element")),
        *(("Conv2d", form) for form in ("whole number", "NumPy scalar", "pair")),
    ],
)
def test_one_number_for_all_is_written_as_an_array(kind: str, form: str, tmp_path: Path) -> None:
    """As exporters write pools, and as arrays without axes, of which nir makes no file."""
    make, both = ONE_FOR_ALL[form], kind in ("SumPool2d", "AvgPool2d", "Conv2d")
    rng = np.random.default_rng(0)
    nodes: dict[str, Any] = {
        "SumPool2d": lambda: nir.SumPool2d(make(2), make(2), make(0)),
        "AvgPool2d": lambda: nir.AvgPool2d(make(2), make(2), make(0)),
        "Conv2d": lambda: nir.Conv2d(
            (4, 4), rng.normal(size=(2, 2, 2, 2)), make(2), make(0), make(1), 1, np.array(0.5)
        ),
        "Scale": lambda: nir.Scale(np.asarray(make(2))),
        "Affine": lambda: nir.Affine(rng.normal(size=(8, 32)), np.asarray(make(1))),
        "Delay": lambda: nir.Delay(np.asarray(make(0))),
    }
    shape = (2, 4, 4) if both else (32,)
    count = 8 if kind in ("SumPool2d", "AvgPool2d", "Conv2d", "Affine") else 32
    lif = nir.LIF(*(np.full(count, v) for v in (0.02, 20.0, 0.0, 1.0)))
    nodes_here = {"in": port_in(*shape), "node": nodes[kind](), "flat": nir.Flatten({"input": np.array([2, 2, 2])}, 0)}
    nodes_here |= {"lif": lif, "out": port_out(count)}
    if not both:
        del nodes_here["flat"]
    net = from_nir(graph(nodes_here, list(pairwise(nodes_here))), dt=1e-3)
    path = tmp_path / "x.nir"
    nir.write(path, to_nir(net))
    again = nir.read(path)
    assert from_nir(again).digest() == net.digest()
    check_same_node("node", nodes_here["node"], again.nodes["node"])
    if "Pool" in kind:
        node: Any = again.nodes["node"]
        assert [np.shape(v) for v in (node.kernel_size, node.stride, node.padding)] == [(2,)] * 3


@pytest.mark.parametrize("inside", [False, True])
def test_a_leading_axis_stays_behind_a_matrix(inside: bool) -> None:
    """A LIF of shape (1, 3) behind an Affine of 3 values: nested, flat and written again the same."""
    lif = nir.LIF(*(np.full((1, 3), v) for v in (0.02, 20.0, 0.0, 1.0)))
    edges = [("input", "lif"), ("lif", "output")]
    nested = graph({"input": port_in(1, 3), "lif": lif, "output": port_out(1, 3)}, edges)
    nodes = {"in": port_in(4), "fc": nir.Affine(np.ones((3, 4)), np.zeros(3)), "lif": nested if inside else lif}
    net = from_nir(graph({**nodes, "out": port_out(1, 3)}, [("in", "fc"), ("fc", "lif"), ("lif", "out")]), dt=1e-3)
    assert net.populations[0].shape == (1, 3)
    assert from_nir(to_nir(net)).digest() == net.digest()
