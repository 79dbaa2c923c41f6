"""What training moves and what the chip gets: ranges, grids of codes and masks, all with a gradient.

Unbounded numbers become currents inside their range through a bijection; currents become those of the nearest code, and
weights the nearest of the levels that the base currents make, both straight through (the gradient is that of the identity:
Bengio et al. 2013).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["bits_of", "from_range", "levels", "nearest_mask", "on_grid", "straight_through", "to_range"]

Array = Any
MARGIN = 1e-3
"""Currents at an end of their range start so far inside of it (in the logarithm): there the bijection is flat."""


def to_range(z: Array, low: float, high: float) -> Array:
    """A current between `low` and `high` (A) for any real z: low·(high/low)^σ(z), σ the logistic function."""
    return low * jnp.exp(jax.nn.sigmoid(z) * float(np.log(high / low)))


def from_range(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """The inverse of `to_range`; values outside of the range count as its ends."""
    inside = np.clip(np.asarray(value, float), low, high)
    part = np.clip(np.log(inside / low) / np.log(high / low), MARGIN, 1 - MARGIN)
    return np.log(part / (1 - part))


def straight_through(value: Array, becomes: Array) -> Array:
    """`becomes`, with the gradient of `value`."""
    return value + jax.lax.stop_gradient(becomes - value)


def on_grid(value: Array, grid: Array) -> Array:
    """The nearest of the ascending positive `grid` (n,) by ratio, for each value; straight through."""
    fixed = jax.lax.stop_gradient(value)
    above = jnp.clip(jnp.searchsorted(grid, fixed), 1, grid.shape[0] - 1)
    low, high = grid[above - 1], grid[above]
    return straight_through(value, jnp.where(fixed * fixed < low * high, low, high))


def bits_of(masks: Array, n_bits: int) -> Array:
    """Bits (n, n_bits) as 0 and 1 of masks (n,)."""
    return (masks[:, None] >> np.arange(n_bits)) & 1


def levels(base: Array) -> Array:
    """(G, 2^bits): the sums of base currents (G, bits) that masks select; level m is that of mask m."""
    n_bits = base.shape[1]
    return base @ jnp.asarray(bits_of(np.arange(1 << n_bits), n_bits).T, base.dtype)


def nearest_mask(size: Array, base: Array, group: np.ndarray) -> Array:
    """Mask (S,) whose level is nearest to each size (S,) for base currents (G, bits) of the group (S,) of each."""
    found = jnp.abs(jax.lax.stop_gradient(levels(base))[group] - jax.lax.stop_gradient(size)[:, None])
    return jnp.argmin(found, axis=1)
