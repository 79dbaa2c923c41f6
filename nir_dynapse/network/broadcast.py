"""Parameters with fewer axes than their layer, as (channel, 1, 1) behind a convolution, spread as torch broadcasts."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Shape", "broadcasts", "spread"]

Shape = tuple[int, ...]


def broadcasts(own: Shape, whole: Shape) -> bool:
    """Whether an array of shape `own` repeats along axes to fill `whole`, as torch broadcasts."""
    own = _ranked(own, len(whole))
    return len(own) <= len(whole) and all(n in (1, m) for n, m in zip(own[::-1], whole[::-1], strict=False))


def spread(values: np.ndarray, shape: Shape) -> np.ndarray:
    """`values` for every element of a node of `shape`, flat: in the same order where they are as many, else broadcast."""
    if values.size == math.prod(shape):
        return np.ravel(values)
    return np.ravel(np.broadcast_to(values.reshape(_ranked(values.shape, len(shape))), shape))


def _ranked(shape: Shape, rank: int) -> Shape:
    """`shape` without leading axes of size 1, down to `rank` axes."""
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape
