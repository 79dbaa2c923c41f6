"""A Network built by hand: what contradicts itself is refused where it is made."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.network.network import Network, Population, Port, Projection, Readout, freeze
from nir_dynapse.network.primitives import graph
from nir_graphs import lif, linear, port_in, port_out, read, small

ONE = np.ones(3)


def population(name: str = "p", kind: Any = "LIF", **changes: Any) -> Population:
    values = {"tau_mem": 0.02 * ONE, "r": ONE, "v_leak": 0 * ONE, "v_threshold": ONE, "v_reset": 0 * ONE}
    return Population(name, kind, **{**values, **changes})


def link(pre: int = 0, weight: float = 1.0, bias: Any = None) -> Projection:
    return Projection("x", "p", np.array([pre]), np.array([0]), np.array([weight]), bias=bias)


def network(**changes: Any) -> Network:
    straight = Projection("x", "p", np.arange(3), np.arange(3), ONE)
    whole = Network((population(),), (straight,), (Port("x", (3,)),), (Port("y", (3,), "p"),), 1e-3)
    return replace(whole, **changes)


def readout(name: str = "li", source: str = "p") -> Readout:
    p = population(name, "LI", v_threshold=np.full(3, np.inf))
    return Readout((p,), (Projection(source, name, np.arange(3), np.arange(3), ONE),))


BAD = {
    "lengths of a population": lambda: population(r=np.ones(2)),
    "shape": lambda: population(shape=(7,)),
    "CubaLIF without tau_syn": lambda: population(kind="CubaLIF"),
    "LIF with tau_syn": lambda: population(tau_syn=ONE),
    "reset": lambda: population(reset="sometimes"),
    "lengths of a projection": lambda: Projection("x", "p", np.arange(2), np.arange(3), ONE),
    "NaN weight": lambda: link(weight=np.nan),
    "dt": lambda: network(dt=-1.0),
    "two outputs of a name": lambda: network(outputs=(Port("y", (3,), "p"), Port("y", (3,), "p"))),
    "output of nothing": lambda: network(outputs=(Port("y", (3,), "q"),)),
    "bias": lambda: network(projections=(link(bias=np.ones(1)),)),
    "neuron that is not there": lambda: network(projections=(link(pre=3),)),
    "readout of an input": lambda: network(readout=readout(source="x")),
    "readout of itself": lambda: network(readout=readout(source="li")),
    "readout of a later one": lambda: network(
        readout=Readout(
            (*readout("a", "b").populations, *readout("b").populations),
            (*readout("a", "b").projections, *readout("b").projections),
        )
    ),
    "stepping": lambda: network().with_semantics(recurrence="foo"),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_contradictions_are_refused(make: Any) -> None:
    network(readout=readout())
    with pytest.raises(nd.UnsupportedGraphError):
        make()


def test_an_error_keeps_its_conversion_when_pickled() -> None:
    with pytest.raises(nd.DynapseError) as caught:
        read(small(hidden=lif(4, tau=-1.0)))
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.conversion == caught.value.conversion != ()
    assert again.findings == caught.value.findings


@pytest.mark.parametrize("tau", [1.0, 1.001, 1.005, 1.009, 1.02, 3.0])
def test_weights_come_back_on_both_sides_of_a_step(tau: float) -> None:
    net = read(small(hidden=lif(4, tau=tau * 1e-3, r=tau)))
    back = nd.to_network(nd.to_params(net))
    before, after = (n.projections[0].dense(3, 4) * n["hidden"].step_gains(1e-3).gain[0] for n in (net, back))
    np.testing.assert_allclose(after, before, rtol=0.02)


def test_dead_ends_and_deep_nesting_end_at_once() -> None:
    """Ways back that no input leads to double at every step of this ladder."""
    nodes: dict[str, Any] = {"in": port_in(1), "fc": linear(1, 1), "hidden": lif(1), "out": port_out(1)}
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "out")]
    for k in range(40):
        nodes |= {f"a{k}": linear(1, 1, k), f"b{k}": linear(1, 1, k)}
        if k:
            edges += [(f"{x}{k - 1}", f"{y}{k}") for x in "ab" for y in "ab"]
    net = read(graph(nodes, [*edges, ("a39", "hidden"), ("b39", "hidden")], {"dt": 1e-3}))
    assert len(net.projections) == 1
    inner: Any = {"input": port_in(1), "output": port_out(1)}
    wires = {f"g{k:04}": graph(dict(inner), [("input", "output")]) for k in range(1500)}
    names = ["in", *wires, "hidden", "out"]
    chain = list(itertools.pairwise(names))
    deep = {"in": port_in(1), **wires, "hidden": lif(1), "out": port_out(1)}
    with pytest.raises(nd.UnsupportedGraphError, match="chain of more than"):
        read(graph(deep, chain, {"dt": 1e-3}))


def test_runaway_activity_is_an_error_not_garbage() -> None:
    g = small(
        w=linear(4, 4), edges=[("in", "fc"), ("fc", "hidden"), ("hidden", "w"), ("w", "hidden"), ("hidden", "out")]
    )
    g.nodes["w"] = nir.Linear(np.full((4, 4), 9.0))
    g.nodes["hidden"] = lif(4, r=20.0)
    net = read(g).with_semantics(reset="subtract-multiple")
    with pytest.raises(nd.ParameterRangeError, match="grows beyond all numbers"):
        nd.simulate(net, np.ones((1, 400, 3)), ideal=True)


def test_what_is_frozen_is_shared_and_nothing_else() -> None:
    mine = np.arange(4.0)
    frozen = freeze(mine)
    mine[0] = 7
    assert frozen[0] == 0
    assert freeze(frozen) is frozen
    window = mine[:]
    window.flags.writeable = False  # it can still be written through
    for other in (freeze(window), freeze(frozen, np.float32)):
        assert not other.flags.writeable
        mine[1] = 7
        assert other[1] == 1
        mine[1] = 1
