"""Derivatives of a step of the membrane by hand, for many steps at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from nir_dynapse.sim.dynamics import LARGEST, Constants, Inflow
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
    """The derivatives of `dynamics.rise`, `reach` and `settle`, whose names are used; the time of a spike is held."""
    y = jnp.where(v < 0, c.floor, v)
    active = jnp.maximum(c.h + jnp.minimum(v, 0), 0)
    span = active * c.rate
    counts = (flow.current > 0) & (flow.current < LARGEST)
    current = jnp.clip(flow.current, 0, LARGEST)
    leak = 1.0 if flow.leak is None else jnp.minimum(flow.leak, LARGEST)
    net = current - leak * (1 + y)
    gain, lam = net * span, leak * span
    upper = jnp.maximum(gain, 0) + y
    whole = 1 + upper
    bent = y * whole + 0.5 * gain * upper
    mean = jnp.maximum(bent, 0.5 * y * whole)
    slope = mean / (mean + whole)
    x = slope * lam
    phi = 1 / (1 + x * (0.5 + x * (1 / 12)))
    change = gain * phi
    first = y + slope * change
    guess = jnp.maximum(first, 0.1 * c.floor)
    inverse: Any = 1 / (1 + guess)
    over = (y + change - guess - jnp.log(guess / y)) * inverse
    up, down = jnp.maximum(over, 0), jnp.minimum(over, 0)
    divisor = 1 / (1 - down * (1 - 0.5 * down))
    newton, by_over = (1 + up) * divisor, (1 - down) * divisor * divisor
    end = guess * newton
    moves = end > c.floor
    end = jnp.maximum(end, c.floor)
    by_x = -change * phi * (0.5 + x * (1 / 6))  # ∂Δw/∂x = −G·φ²·d(1/φ)/dx
    # The chord slope is ȳ/(1 + ȳ) with ȳ = y + G·upper/(1 + upper)/2, or half of y where that is larger.
    curved, part = bent > 0.5 * y * whole, 1 / whole
    mean_by_gain = jnp.where(curved, 0.5 * upper * part + jnp.where(gain > 0, 0.5 * gain * part * part, 0.0), 0.0)
    mean_by_y = jnp.where(curved, 1 + 0.5 * gain * part * part, 0.5)
    flat = (1 - slope) * (1 - slope)
    # One Newton step leaves a little of the guess in its result.
    left = jnp.where(moves & (first > 0.1 * c.floor), newton - by_over * (1 + over * guess * inverse), 0.0)
    share = jnp.where(moves, by_over * guess * inverse, 0.0)
    by_change = share + left * slope
    by_mean = (by_change * by_x * lam + left * change) * flat
    by_gain = by_change * phi + by_mean * mean_by_gain
    by_lam = by_change * by_x * slope
    by_current = span * by_gain
    by_leak = span * by_lam - (1 + y) * by_current
    by_y = share * (1 + 1 / y) + left + by_mean * mean_by_y - lam * by_gain
    by_v = jnp.where(v < 0, c.rate * (by_lam * leak + net * by_gain), by_y)
    return Slopes(
        along=(end <= c.threshold).astype(v.dtype),
        spike=surrogate.derivative(end / c.threshold - 1) / c.threshold,
        current=by_current * counts,
        leak=None if flow.leak is None else by_leak * (flow.leak < LARGEST),
        v=by_v,
        rest=(v + c.h < 0).astype(v.dtype),
    )
