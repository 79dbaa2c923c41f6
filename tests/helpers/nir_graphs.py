"""Small NIR graphs for the tests, and what reading them gives."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

from nir_dynapse.errors import DynapseError, Finding, UnsupportedGraphError
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.network import Network, Projection
from nir_dynapse.network.primitives import graph


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


RECURRENT = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]


def nested(inner_edges, **more):
    nodes = {"input": port_in(4), "lif": lif(4), "w_rec": linear(4, 4, 5), "output": port_out(4), **more}
    return graph({k: v for k, v in nodes.items() if v is not None}, inner_edges)


def in_nested(inner):
    return small(hidden=None, rnn=inner, edges=[("in", "fc"), ("fc", "rnn"), ("rnn", "out")])
