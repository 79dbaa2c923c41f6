"""Projections with other gains or biases, whose linear NIR nodes still stand for them where they can.

A gain that a reader does not know is moved into the weights: W ← diag(s)·W, b ← s·b, s being a value per target neuron.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nir_dynapse.export.linear_nodes import chain
from nir_dynapse.network.linear import LinearMap
from nir_dynapse.network.network import LinearNode, Projection
from nir_dynapse.network.primitives import fold_node

__all__ = ["Links"]

MATRICES, CONVOLUTIONS, POOLS = ("Linear", "Affine"), ("Conv1d", "Conv2d"), ("SumPool2d", "AvgPool2d")


class Links:
    """Makes new projections; a linear node that several of them share stays one node where it can."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, str, bytes], tuple[LinearNode, LinearNode]] = {}
        self.maps: dict[int, LinearMap] = {}

    def scaled(self, q: Projection, s: np.ndarray) -> Projection:
        """`q` with the input of target neuron n times s[n], shape (n,)."""
        if np.all(s == 1):
            return q
        weight = q.weight * s[q.post]
        bias = None if q.bias is None else q.bias * s
        via = self._scaled_via(q.via, s)
        if via is None:
            return replace(q, weight=weight, bias=bias, nodes=_name(q), via=())
        return self._folded(replace(q, bias=bias), via)

    def undelayed(self, q: Projection) -> Projection:
        """`q` with nothing late, along those of its nodes that are no Delay."""
        via = tuple(node for node in q.via if node.kind != "Delay")
        late = {node.name for node in q.via if node.kind == "Delay"}
        bare = replace(q, delay=None, nodes=tuple(name for name in q.nodes if name not in late), via=via)
        return self._folded(bare, via) if via else bare

    def without_bias(self, q: Projection) -> Projection:
        if q.bias is None and all("bias" not in node.fields for node in q.via):
            return q
        via = tuple(
            self._node(node, "without", b"", _fields(node, bias=None)) if "bias" in node.fields else node
            for node in q.via
        )
        return replace(q, bias=None, via=via)

    def with_bias(self, q: Projection, bias: np.ndarray) -> Projection:
        """`q`, which has none, with a bias (n,)."""
        if q.via and q.via[-1].kind in (*MATRICES, *CONVOLUTIONS):
            last = q.via[-1]
            own = bias if last.kind in MATRICES else per_channel(bias, last.shape_out)
            if own is not None:
                node = self._node(last, "bias", own.tobytes(), _fields(last, bias=own))
                node = replace(node, kind="Affine") if node.kind == "Linear" else node
                return replace(q, bias=np.array(bias), via=(*q.via[:-1], node))
        return replace(q, bias=np.array(bias), nodes=_name(q), via=())

    def _folded(self, q: Projection, via: tuple[LinearNode, ...]) -> Projection:
        """`q` along other nodes, with the weights that folding them gives."""
        for node in via:
            if id(node) not in self.maps:
                self.maps[id(node)] = fold_node(node)
        again = Projection.from_way(q.source, q.target, chain(via, self.maps), len(q.weight))
        return replace(q, pre=again.pre, post=again.post, weight=again.weight, delay=again.delay, via=via)

    def _scaled_via(self, via: Sequence[LinearNode], s: np.ndarray) -> tuple[LinearNode, ...] | None:
        """The nodes with the last one that has weights scaled; None where none of them can be.

        Behind a convolution the values of `s` must be the same within each channel; a pool hands them on.
        """
        for k in range(len(via) - 1, -1, -1):
            node = via[k]
            if node.kind in MATRICES:
                weight = np.asarray(node.fields["weight"], float) * s[:, None]
                return self._with(via, k, s, weight=weight)
            if node.kind == "Scale":
                scale = np.ravel(np.asarray(node.fields["scale"], float)) * s
                return self._with(via, k, s, scale=scale.reshape(node.shape_out))
            if node.kind in CONVOLUTIONS:
                own = per_channel(s, node.shape_out)
                if own is None:
                    return None
                weight = np.asarray(node.fields["weight"], float)
                return self._with(via, k, own, weight=weight * own.reshape(-1, *[1] * (weight.ndim - 1)))
            if node.kind in POOLS:
                own = per_channel(s, node.shape_out)
                if own is None:
                    return None
                s = np.repeat(own, math.prod(node.shape_in[1:]))
            elif math.prod(node.shape_in) != len(s):
                return None
        return None

    def _with(self, via: Sequence[LinearNode], k: int, s: np.ndarray, **fields: np.ndarray) -> tuple[LinearNode, ...]:
        """`via` with other fields of node k, its bias times `s` (a value per row or channel)."""
        node = via[k]
        if "bias" in node.fields:
            fields["bias"] = np.broadcast_to(np.asarray(node.fields["bias"], float), s.shape) * s
        return (*via[:k], self._node(node, "scaled", s.tobytes(), _fields(node, **fields)), *via[k + 1 :])

    def _node(self, node: LinearNode, how: str, key: bytes, fields: dict[str, Any]) -> LinearNode:
        found = self.made.get((id(node), how, key))
        if found is None:  # the old node is kept, too: its id is the key
            found = self.made[id(node), how, key] = (node, replace(node, fields=fields))
        return found[1]


def _name(q: Projection) -> tuple[str, ...]:
    """The name of the one node that stands for `q`."""
    return q.nodes[-1:] or (f"{q.source}_to_{q.target}",)


def per_channel(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """One of `values` (n,) for each channel of `shape` (channels, …) where they are the same within it, else None."""
    rows = values.reshape(shape[0], -1)
    return np.ascontiguousarray(rows[:, 0]) if np.all(rows == rows[:, :1]) else None


def _fields(node: LinearNode, **values: np.ndarray | None) -> dict[str, Any]:
    return {key: value for key, value in {**node.fields, **values}.items() if value is not None}
