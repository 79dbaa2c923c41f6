"""Derivatives of a step of the membrane by hand, for JAX."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from nir_dynapse.sim.derivatives import membrane_slopes
from nir_dynapse.sim.dynamics import Constants, Inflow, begin
from nir_dynapse.sim.surrogate import Surrogate

__all__ = ["Slopes", "slopes_of"]

Array = Any


class Slopes(NamedTuple):
    """Derivatives of a step of the membrane, elementwise. With g1 = along·ḡ_v + spike·ḡ_s (adjoint of y before reset):
    adjoint of the input current = current·g1, of the leak = leak·g1, of v before = v·g1 + rest·ḡ_v."""

    along: Array
    spike: Array
    current: Array
    leak: Array | None
    v: Array
    rest: Array


def slopes_of(v: Array, flow: Inflow, c: Constants, surrogate: Surrogate) -> Slopes:
    """The derivatives of `dynamics.rise` and `settle`; the time of a spike is held."""
    y, active = begin(v, c.floor, c.h, jnp)
    leak = jnp.ones_like(v) if flow.leak is None else flow.leak
    end, by_current, by_leak, by_v, _, _ = membrane_slopes(v, y, active, flow.current, leak, c.rate, c.floor, jnp)
    return Slopes(
        along=(end <= c.threshold).astype(v.dtype),
        spike=surrogate.derivative(end / c.threshold - 1) / c.threshold,
        current=by_current,
        leak=None if flow.leak is None else by_leak,
        v=by_v,
        rest=(v + c.h < 0).astype(v.dtype),
    )
