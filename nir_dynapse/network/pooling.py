"""Pooling of input channels: neighbours that the host adds up before it sends them, and weights to match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nir_dynapse.errors import Finding, ParameterRangeError
from nir_dynapse.network.network import Network, Port, Projection

__all__ = ["pool_channels", "pooled_channel"]


def pooled_channel(
    size: int, factor: int | Sequence[int], shape: Sequence[int] | None = None
) -> tuple[np.ndarray, tuple[int, ...]]:
    """The pooled channel of each of `size` channels (size,), and the shape of the pooled ones.

    Channels have `shape` (default: in a row), the last axis fastest; `factor` neighbours along each of its last axes (one
    number: along the last two, or the one of a row) become one, fewer at the ends. ParameterRangeError for others.
    """
    shape = (size,) if shape is None else tuple(int(n) for n in shape)
    if int(np.prod(shape)) != size:
        raise ParameterRangeError(f"pool_channels: shape is {shape}, there are {size} channels. Give their shape.")
    given = (factor,) * min(2, len(shape)) if isinstance(factor, (int, np.integer)) else tuple(factor)
    if not 1 <= len(given) <= len(shape) or any(
        isinstance(f, bool) or not isinstance(f, (int, np.integer)) or f < 1 for f in given
    ):
        raise ParameterRangeError(
            f"pool_channels: factor is {factor!r}, allowed are whole numbers from 1, one for each of the last axes of "
            f"{shape}. Give e.g. 2."
        )
    steps = (1,) * (len(shape) - len(given)) + tuple(int(f) for f in given)
    smaller = tuple(-(-n // f) for n, f in zip(shape, steps, strict=True))
    index = np.indices(shape).reshape(len(shape), -1)
    pooled = np.ravel_multi_index(tuple(i // f for i, f in zip(index, steps, strict=True)), smaller)
    return np.asarray(pooled, np.int64), smaller


def pool_channels(
    network: Network, factor: int | Sequence[int], *, shape: Sequence[int] | None = None, port: str | None = None
) -> Network:
    """`network` for input whose neighbouring channels are added up into one (`data.pooling.pool_data` does it).

    A pooled channel has the mean of the weights that its channels had: w' = Σ_c w_c/n, so that Σ_c w_c·x_c becomes
    w'·Σ_c x_c, the same where the weights are alike. `port` names the input node (default: the only one), `shape` of its
    channels is that of the node unless given. Fewer channels are fewer synapses, tags and events; what they cost is the
    difference of the accuracies of two ideal runs. ParameterRangeError for a port, shape or factor that does not fit.
    """
    names = [p.name for p in network.inputs]
    if port is None and len(names) == 1:
        port = names[0]
    if port not in names:
        raise ParameterRangeError(f"pool_channels: port is {port!r}, the input nodes are {', '.join(names)}. Name one.")
    old = network.inputs[names.index(port)]
    where, smaller = pooled_channel(old.size, factor, old.shape if shape is None else shape)
    size = np.bincount(where)
    links = tuple(
        _pooled(q, where, size, network[q.target].size) if q.source == port else q for q in network.projections
    )
    inputs = tuple(Port(p.name, smaller, p.source) if p.name == port else p for p in network.inputs)
    what = f"{old.size} channels are added up into {len(size)} on the host; each has the mean of their weights."
    finding = Finding("warning", "pooled-channels", what, node=port, used=len(size), limit=old.size)
    return replace(network, projections=links, inputs=inputs, findings=(*network.findings, finding))


def _pooled(q: Projection, where: np.ndarray, size: np.ndarray, n_post: int) -> Projection:
    """The projection from the pooled channels; the linear NIR nodes behind it do not describe it any more."""
    key = where[q.pre] * n_post + q.post
    alike = key if q.delay is None else np.stack([key, q.delay], 1)
    _, first, index = np.unique(alike, axis=0, return_index=True, return_inverse=True)
    pre, post = key[first] // n_post, key[first] % n_post
    weight = np.bincount(index.reshape(-1), q.weight, len(first)) / size[pre]
    return replace(q, pre=pre, post=post, weight=weight, via=(), delay=None if q.delay is None else q.delay[first])
