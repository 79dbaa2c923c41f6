"""What a report says first, how it counts neurons of one kind, and the rows that it knows before anything is placed."""

from __future__ import annotations

import nir
import numpy as np

import nir_dynapse as nd
from nir_dynapse.network.primitives import graph
from nir_dynapse.reporting.report import report
from nir_graphs import lif, port_in, port_out, read, small, weight


def firing() -> nd.Network:
    """Constant inputs that differ, most of which fire their neurons without events."""
    bias = np.linspace(0.0, 0.5, 40)
    nodes = {"in": port_in(3), "fc": nir.Affine(weight(40, 3), bias), "hidden": lif(40, r=20.0), "out": port_out(40)}
    return read(graph(nodes, [("in", "fc"), ("fc", "hidden"), ("hidden", "out")]))


def test_neurons_of_one_kind_are_counted_and_the_worst_is_told() -> None:
    layout = nd.compile(firing())
    (found,) = [f for f in layout.findings if f.code == "self-firing"]
    assert (found.count, found.index) == (36, 39)
    assert str(found).startswith("36 neurons of node 'hidden': constant input settles at up to 10 of the threshold")
    assert found.to_dict()["count"] == 36
    assert nd.Finding.from_dict(found.to_dict()) == found
    alike = [nd.Finding("warning", "x", f"too {n}.", "hidden", n, used=float(n), limit=1.0) for n in range(5)]
    made = report(layout, findings=[*alike, nd.Finding("warning", "x", "once.", "other", 3, used=2.0, limit=1.0)])
    lines = [line for line in made.text().splitlines() if "too " in line or "once." in line]
    assert lines == ["  - 5 neurons of node 'hidden': too 4.", "  - node 'other', neuron 3: once."]
    assert sum(f.code == "x" for f in made.findings) == 6  # the data has every one


def test_what_costs_accuracy_comes_first_and_in_order() -> None:
    layout = nd.compile(firing())
    costs = [nd.Finding("warning", code, f"{code}!") for code in ("stepping", "fan-in", "dt", "accuracy-lost")]
    made = report(layout, findings=costs)
    codes = [f.code for f in made.approximations]
    assert codes[:4] == ["accuracy-lost", "dt", "fan-in", "stepping"]
    assert codes.index("weight-rounding") > 3
    text = made.text()
    assert text.index("Approximations") < text.index("Nodes") < text.index("Notes")


def test_the_rows_of_a_constant_input_count_before_anything_is_placed() -> None:
    """What a network that has not been placed will need is what its Layout has."""
    net = firing()
    (before,), (after,) = report(net).nodes, report(nd.compile(net)).nodes
    assert (before.fan_in.used, before.tonic) == (after.fan_in.used, after.tonic) == (4, 1)
    (plain,) = report(read(small(hidden=lif(4, r=20.0)))).nodes
    assert (plain.fan_in.used, plain.tonic) == (3, 0)
