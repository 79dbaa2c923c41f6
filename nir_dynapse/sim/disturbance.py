"""Membrane noise and lost events: draws keyed by (seed, step, sample, neuron), the same in NumPy and JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nir_dynapse.sim.dynamics import Constants, Structure

__all__ = ["disturbances", "of_bin"]

Array = Any


def _mix(x: Array) -> Array:
    """Bijective mixing of 32 bits (Wellons, "lowbias32", 2018)."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(16))


def _uniform(key: Array, number: int, dtype: Any) -> Array:
    """Uniform draws in (0, 1) from 32-bit keys."""
    return ((_mix(key ^ np.uint32(number)) >> np.uint32(8)).astype(dtype) + 0.5) * 2.0**-24


def disturbances(
    step: Array, seed: Array, sample: Array, c: Constants, structure: Structure, xp: Any
) -> tuple[Array | float, Array | float]:
    """Noise currents (B, N) of internal step number `step`, and the mask (B, N) of events that are kept.

    `sample` (B,) numbers the samples, so that a sample meets the same draws in whatever batch it runs.
    """
    if not (structure.noise or structure.loss):
        return 0.0, 1.0
    n, dtype = c.rate.shape[-1], c.rate.dtype
    with np.errstate(over="ignore"):
        key = _mix(xp.asarray(seed, xp.uint32) + np.uint32(0x9E3779B9))
        key = _mix(key ^ xp.asarray(step, xp.uint32))
        key = _mix(key ^ xp.asarray(sample, xp.uint32))[:, None]
        key = _mix(key ^ xp.arange(n, dtype=xp.uint32))
        noise: Array | float = 0.0
        kept: Array | float = 1.0
        if structure.noise:
            radius = xp.sqrt(-2 * xp.log(_uniform(key, 1, dtype)))  # Box–Muller
            noise = c.noise * radius * xp.cos(2 * np.pi * _uniform(key, 2, dtype))
        if structure.loss:
            kept = (_uniform(key, 3, dtype) >= c.loss).astype(dtype)
    return noise, kept


def of_bin(
    number: Array, n_sub: int, seed: Array, sample: Array, c: Constants, structure: Structure, xp: Any
) -> Callable[[Any], tuple[Array | float, Array | float]]:
    """`disturbances` of internal step k of bin `number`, as a function of k: what `circuit.run_bin` asks for."""

    def disturb(k: Any) -> tuple[Array | float, Array | float]:
        return disturbances(number * n_sub + k, seed, sample, c, structure, xp)

    return disturb
