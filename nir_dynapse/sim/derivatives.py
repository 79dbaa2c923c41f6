"""Derivatives by hand, of a spike and of a step of the membrane, for arrays and for compiled loops alike."""

from __future__ import annotations

from typing import Any

from nir_dynapse.sim.dynamics import LARGEST

__all__ = ["SHAPES", "SLOPE", "membrane_slopes"]

SLOPE = 10.0
"""Default steepness of the surrogate in units of the threshold (Zenke and Ganguli 2018, SuperSpike)."""

Array = Any


def fast_sigmoid(scaled: Any, xp: Any) -> Any:
    """1/(1 + k|x|)² of k|x|."""
    inverse = 1 / (1 + scaled)
    return inverse * inverse


def triangle(scaled: Any, xp: Any) -> Any:
    """max(1 − k|x|, 0) of k|x|."""
    return xp.maximum(1 - scaled, 0)


def gaussian(scaled: Any, xp: Any) -> Any:
    """e^(−(kx)²/2) of k|x|."""
    return xp.exp(-0.5 * scaled * scaled)


SHAPES = {"fast_sigmoid": fast_sigmoid, "triangle": triangle, "gaussian": gaussian}
"""The derivatives of a spike."""


def membrane_slopes(
    v: Array, y: Array, active: Array, inward: Array, outward: Array, rate: Array, floor: Array, xp: Any
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """y at the end of a step and its derivatives by input current, leak, `v`, span and floor.

    Those of `dynamics.begin` and `reach`, whose names are used; `inward` and `outward` are input current and leak before
    they are clipped.
    """
    span = active * rate
    current = xp.minimum(xp.maximum(inward, 0), LARGEST)
    leak = xp.minimum(outward, LARGEST)
    net = current - leak * (1 + y)
    gain = net * span
    lam = leak * span
    upper = xp.maximum(gain, 0) + y
    whole = 1 + upper
    bent = y * whole + 0.5 * gain * upper
    mean = xp.maximum(bent, 0.5 * y * whole)
    slope = mean / (mean + whole)
    x = slope * lam
    phi = 1 / (1 + x * (0.5 + x * (1 / 12)))
    change = gain * phi
    first = y + slope * change
    guess = xp.maximum(first, 0.1 * floor)
    inverse = 1 / (1 + guess)
    over = (y + change - guess - xp.log(guess / y)) * inverse
    up = xp.maximum(over, 0)
    down = xp.minimum(over, 0)
    divisor = 1 / (1 - down * (1 - 0.5 * down))
    newton = (1 + up) * divisor
    by_over = (1 - down) * divisor * divisor
    raw = guess * newton
    by_x = -change * phi * (0.5 + x * (1 / 6))  # ∂Δw/∂x = −G·φ²·d(1/φ)/dx
    # The chord slope is ȳ/(1 + ȳ) with ȳ = y + G·upper/(1 + upper)/2, or half of y where that is larger.
    part = 1 / whole
    rising = xp.where(gain > 0, 0.5 * gain * part * part, 0.0)
    curved = bent > 0.5 * y * whole
    mean_by_gain = xp.where(curved, 0.5 * upper * part + rising, 0.0)
    mean_by_y = xp.where(curved, 1 + 0.5 * gain * part * part, 0.5)
    flat = (1 - slope) * (1 - slope)
    # One Newton step leaves a little of the guess in its result.
    by_guess = xp.where(raw > floor, newton - by_over * (1 + over * guess * inverse), 0.0)
    left = xp.where(first > 0.1 * floor, by_guess, 0.0)
    share = xp.where(raw > floor, by_over * guess * inverse, 0.0)
    by_change = share + left * slope
    by_mean = (by_change * by_x * lam + left * change) * flat
    by_gain = by_change * phi + by_mean * mean_by_gain
    by_lam = by_change * by_x * slope
    by_current = span * by_gain
    by_leak = span * by_lam - (1 + y) * by_current
    by_y = share * (1 + 1 / y) + left + by_mean * mean_by_y - lam * by_gain
    by_span = by_lam * leak + net * by_gain
    by_floor = xp.where(raw > floor, 0.1 * (by_guess - left), 1.0) + xp.where(v < 0, by_y, 0.0)
    return (
        xp.maximum(raw, floor),
        xp.where((inward > 0) & (inward < LARGEST), by_current, 0.0),
        xp.where(outward < LARGEST, by_leak, 0.0),
        xp.where(v < 0, rate * by_span, by_y),
        by_span,
        by_floor,
    )
