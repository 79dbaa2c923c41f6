"""Spikes with a gradient: a step function whose derivative is a smooth bump around the threshold."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["SLOPE", "spike"]

SLOPE = 10.0
"""Default steepness of the surrogate in units of the threshold (Zenke and Ganguli 2018, SuperSpike)."""


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def spike(x: Any, slope: float = SLOPE) -> Any:
    """1 where x > 0 (strictly), else 0, shape and type of x; its derivative is taken as 1/(1 + slope·|x|)²."""
    return (x > 0).astype(jnp.result_type(x))


@spike.defjvp
def _spike_jvp(slope: float, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    (x,), (dx,) = primals, tangents
    return spike(x, slope), dx / (1 + slope * jnp.abs(x)) ** 2
