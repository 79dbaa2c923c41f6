"""Small NIR graphs that together hold every primitive, as seeds for damage."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np

from nir_dynapse.network.primitives import graph
from nir_graphs import affine, cubalif, lif, linear, nested, port_in, port_out


def _full(cls: Any, shape: Any, **values: float) -> Any:
    return cls(**{key: np.full(shape, value) for key, value in values.items()})


def conv2d(weight: np.ndarray, size: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups=1) -> Any:
    make: Any = nir.Conv2d
    return make(size, weight, stride, padding, dilation, groups, np.zeros(len(weight)))


def conv1d(weight: np.ndarray, size: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups=1) -> Any:
    make: Any = nir.Conv1d
    return make(size, weight, stride, padding, dilation, groups, np.zeros(len(weight)))


def convolutional() -> Any:
    """Convolutions, pools and a readout in a row."""
    rng = np.random.default_rng(1)
    two = np.array([2, 2])
    nodes = {
        "in": port_in(1, 6, 6),
        "conv": conv2d(rng.normal(size=(2, 1, 3, 3)), (6, 6), padding=(1, 1)),
        "if": _full(nir.IF, (2, 6, 6), r=1000.0, v_threshold=1.0, v_reset=0.0),
        "sum": nir.SumPool2d(two, two, np.zeros(2, int)),
        "thr": nir.Threshold(np.full((2, 3, 3), 0.5)),
        "avg": nir.AvgPool2d(two, np.array([1, 1]), np.zeros(2, int)),
        "flat": nir.Flatten({"input": np.array([2, 2, 2])}, 0, -1),
        "fc": affine(3, 8),
        "lif": lif(3),
        "li": _full(nir.LI, 3, tau=0.02, r=20.0, v_leak=0.0),
        "out": port_out(3),
    }
    names = list(nodes)
    return graph(nodes, list(pairwise(names)), {"dt": 1e-3})


def recurrent() -> Any:
    """A nested recurrent graph, two inputs and three outputs, metadata of several kinds."""
    rng = np.random.default_rng(2)
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    nodes = {
        "x": port_in(2, 8),
        "y": port_in(4),
        "conv": conv1d(rng.normal(size=(2, 1, 3)), 8, stride=3, groups=2),
        "scale": nir.Scale(np.arange(1.0, 5)),
        "wire": nir.Delay(np.zeros(4)),
        "rnn": nested(edges, lif=cubalif(4)),
        "cli": _full(nir.CubaLI, 4, tau_syn=0.005, tau_mem=0.02, r=20.0, v_leak=0.0, w_in=5.0),
        "sum": linear(2, 4),
        "i": _full(nir.I, 2, r=1000.0),
        "a": port_out(4),
        "b": port_out(2),
        "c": port_out(2),
    }
    nodes["rnn"].nodes["lif"].metadata = {"reset": "subtract", "shape": np.array([2, 2])}
    nodes["sum"].metadata = {"dendrite": "shunt", "deep": {"note": "x", "list": np.arange(3)}}
    links = [("x", "conv"), ("conv", "rnn"), ("y", "scale"), ("scale", "wire"), ("wire", "rnn"), ("rnn", "a")]
    links += [("rnn", "cli"), ("cli", "sum"), ("sum", "b"), ("sum", "i"), ("i", "c")]
    return graph(nodes, links, {"dt": 1e-3, "by": "me", "recurrence": "same-step"})


ZOO = {"convolutional": convolutional, "recurrent": recurrent}
