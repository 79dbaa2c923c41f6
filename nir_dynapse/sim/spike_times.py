"""Runs in which a spike is what it is, an event at a time: gradients through when, not whether, neurons fire.

A neuron fires at t, where its membrane y meets the threshold. By the implicit function theorem dt/dθ = −(∂y/∂θ)/(dy/dt);
that of the interpolated crossing is what is differentiated (`dynamics.late`). From there on the time acts exactly: reset
and refractory period begin at t, and an event that comes later by δ leaves behind currents that are moved by δ. Events are
handed over where steps of h s begin, so one that is moved by δ is taken for 1 − δ/h events in its step and δ/h events in
the next one: charge is kept, and its centre moves by δ, however fast a synapse is. Values stay those of the chip, whose
spikes wait for the next step (δ is zero, its derivative is not).

With `Surrogate(smooth=True, times=True)` spikes wait one step from t on, whatever t is, and gradients are those of finite
differences; as h shrinks both become those of event-based rules (Wunderlich and Pehle 2021, Göltz et al. 2021). Neurons
that stay silent have no time to move: see `first_times`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nir_dynapse.sim.dynamics import (
    LARGEST,
    Constants,
    Inflow,
    State,
    Structure,
    advance,
    begin,
    inflow,
    late,
    rise,
    settle,
)
from nir_dynapse.sim.loops import repeat
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.sim.wiring import Weights, drive

__all__ = ["GRAZING", "Moving", "first_times", "membrane", "run_bin", "still"]

Array = Any
GRAZING = 0.1
"""Slope of the membrane at a spike, in thresholds per membrane time constant, below which dt/dθ grows no further: the time
of a spike that barely happens has no bound on its derivative."""


class Moving(NamedTuple):
    """The state of a batch between steps, and by how much (B, N) of a step the spikes before the last one come later."""

    state: State
    moved: Array


def still(state: State) -> Moving:
    """The state before the first step, in which nothing moves."""
    return Moving(state, jnp.zeros_like(state.v))


def run_bin(
    moving: Moving,
    x: Array,
    c: Constants,
    weights: Weights,
    structure: Structure,
    n_sub: int,
    surrogate: Surrogate,
    disturb: Callable[[Any], tuple[Array | float, Array | float]],
) -> tuple[Moving, Array, Array]:
    """`circuit.run_bin`, and the time in s (B, N) from the beginning of the bin to a neuron's first spike, its end without
    one. With `surrogate.times` spikes are passed on by their time; without, by the surrogate."""

    def one(k: Any, moving: Moving, events: Array | None) -> tuple[Moving, Array, Array]:
        moving, spikes, when = _step(moving, events, c, weights, structure, surrogate, *disturb(k))
        return moving, spikes, jnp.where(spikes > 0, k * c.h + when, n_sub * c.h)

    def later(carry: tuple[Moving, Array, Array], k: Any) -> tuple[tuple[Moving, Array, Array], None]:
        moving, count, first = carry
        moving, spikes, when = one(k, moving, None)
        return (moving, count + spikes, jnp.where(count > 0, first, when)), None

    carry = one(0, moving, x)
    if n_sub <= 4:
        for k in range(1, n_sub):
            carry, _ = later(carry, k)
        return carry
    return jax.lax.scan(later, carry, jnp.arange(1, n_sub))[0]


def _step(
    moving: Moving,
    events: Array | None,
    c: Constants,
    weights: Weights,
    structure: Structure,
    surrogate: Surrogate,
    noise: Array | float,
    kept: Array | float,
) -> tuple[Moving, Array, Array]:
    """The state after a step, the spikes (B, N) in it, and the time in s of the first from its beginning."""
    received, state = drive(moving.state, events, weights, structure, jnp)
    dendrites, ahp = advance(state, received, c)
    flow = inflow(dendrites, ahp, c, structure)
    v, spikes, when = membrane(state.v, flow, c, structure, surrogate, noise)
    spikes = spikes * kept
    sent, moved = spikes, moving.moved
    if surrogate.times:
        part = when / c.h
        part = part if surrogate.smooth else part - jax.lax.stop_gradient(part)
        sent = jax.lax.stop_gradient(spikes)
        moved = jnp.where(sent > 0, part, 0.0)
        sent = sent - moved + moving.moved
    return Moving(State(dendrites, ahp, v, sent, state.past), moved), spikes, when


def membrane(
    v: Array, flow: Inflow, c: Constants, structure: Structure, surrogate: Surrogate, noise: Array | float = 0.0
) -> tuple[Array, Array, Array]:
    """`v` after a step, the spikes in it with the surrogate's derivative, and the time in s of the first from its beginning
    (of no meaning without one)."""
    end = rise(v, flow, c, structure, jnp, noise)
    y, active = begin(v, c.floor, c.h, jnp)
    leak = 1.0 if flow.leak is None else jnp.minimum(flow.leak, LARGEST)
    exact = surrogate.times
    bounded = _bounded(end - y, active * c.rate, c.threshold) if exact and not surrogate.smooth else 1.0

    def hold(value: Array) -> Array:
        if not exact:
            return surrogate.hold(value)
        fixed = jax.lax.stop_gradient(value)
        return fixed + bounded * (value - fixed)

    since = hold(late(y, end, active, leak, c.rate, c.threshold, jnp))
    after, more = settle(v, end, flow, c, structure, jnp, noise, hold, repeat)
    spikes = surrogate._replace(smooth=surrogate.smooth and not exact)(end / c.threshold - 1)
    return after, spikes if more is None else spikes + more, c.h - since


def _bounded(risen: Array, span: Array, threshold: Array) -> Array:
    """1, or less where the membrane grazes the threshold, so that the time's derivative stays bounded."""
    slope = risen / (jnp.maximum(span, 1e-9) * threshold)
    return jax.lax.stop_gradient(jnp.clip(slope / GRAZING, 0, 1))


def first_times(counts: Array, first: Array, dt: float, surrogate: Surrogate) -> Array:
    """Time in s (B, N) of the first spike of each neuron in a sample of T bins of `dt` s, its end T·dt without one.

    `counts` (B, T, N) are spikes, `first` the times of the first ones from the beginning of each bin. With
    `surrogate.times` the gradient is that of the time; a neuron that stays silent has the surrogate's instead, by which it
    is pulled to the threshold: −(T − j)·dt for each bin j. Without, all have the surrogate's, that of
    dt·Σ_k Π_{j≤k} (1 − s_j).
    """
    steps = counts.shape[1]
    fixed = jax.lax.stop_gradient(counts)
    start = dt * jnp.arange(steps, dtype=counts.dtype)[:, None]
    exact = jnp.where(fixed > 0, start + first, steps * dt).min(1)
    if surrogate.times:
        left = dt * jnp.arange(steps, 0, -1, dtype=counts.dtype)[:, None]
        unfired: Any = jnp.where(fixed > 0, 0.0, counts)
        pulled = -(unfired * left).sum(1)
        silent = ~(fixed > 0).any(1)
        return jnp.where(silent, exact + pulled - jax.lax.stop_gradient(pulled), exact)
    spikes = counts + jnp.clip(fixed, 0, 1) - fixed  # a gradient at 0 and at 1, where that of clip is a half
    binned = dt * jnp.sum(jnp.cumprod(1 - spikes, axis=1), axis=1)
    return jax.lax.stop_gradient(exact) + binned - jax.lax.stop_gradient(binned)
