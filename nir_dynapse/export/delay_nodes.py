"""A projection whose connections are late, as a chain of NIR nodes: NIR delays channels, not connections."""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.network.linear import MAX_ELEMENTS, make_node
from nir_dynapse.network.network import Projection

__all__ = ["late_chain"]


def late_chain(q: Projection, n_pre: int, n_post: int, note: dict[str, Any]) -> list[tuple[str, Any]]:
    """(suffix of a name, node) in order of signal flow; the matrix has no suffix. `note` goes to the last node.

    A Delay in front of the matrix where all connections of a source are as late, behind it where all those of a target are;
    else a matrix that copies each source onto a line for each of its delays, these lines delayed, and the matrix from them.
    """
    delay = np.zeros(len(q.pre)) if q.delay is None else q.delay
    own, target = _one_each(q.pre, delay, n_pre), _one_each(q.post, delay, n_post)
    if own is not None:
        wire = q.bias is None and n_pre == n_post and np.array_equal(q.pre, q.post) and bool(np.all(q.weight == 1))
        if wire and np.array_equal(np.sort(q.pre), np.arange(n_pre)):
            return [("_delay", make_node("Delay", note, delay=own))]
        return [("_delay", make_node("Delay", delay=own)), ("", _matrix(q, q.pre, n_pre, n_post, note))]
    if target is not None:
        return [("", _matrix(q, q.pre, n_pre, n_post)), ("_delay", make_node("Delay", note, delay=target))]
    lines, line = np.unique(np.stack([q.pre, delay], 1), axis=0, return_inverse=True)
    _check(q, len(lines), n_pre)
    copies = np.zeros((len(lines), n_pre))
    copies[np.arange(len(lines)), lines[:, 0].astype(int)] = 1
    return [
        ("_lines", make_node("Linear", weight=copies)),
        ("_delay", make_node("Delay", delay=lines[:, 1].copy())),
        ("", _matrix(q, line.reshape(-1), len(lines), n_post, note)),
    ]


def _one_each(index: np.ndarray, delay: np.ndarray, n: int) -> np.ndarray | None:
    """The one delay of the connections of each of `n` neurons, 0 of those without any; None where one has several."""
    found = np.zeros(n)
    found[index] = delay
    return found if np.array_equal(found[index], delay) else None


def _matrix(q: Projection, pre: np.ndarray, n_pre: int, n_post: int, note: dict[str, Any] | None = None) -> Any:
    _check(q, n_pre, n_post)
    weight = np.zeros((n_post, n_pre))
    np.add.at(weight, (q.post, pre), q.weight)
    if q.bias is None:
        return make_node("Linear", note, weight=weight)
    return make_node("Affine", note, weight=weight, bias=np.array(q.bias))


def _check(q: Projection, rows: int, columns: int) -> None:
    if rows * columns > MAX_ELEMENTS:
        what = f"with its delays it is a matrix of {rows} × {columns} values, too many to write."
        hint = "Write the network as it was read, or with fewer different delays."
        raise UnsupportedGraphError(Finding("error", "size", what, node=q.name, hint=hint))
