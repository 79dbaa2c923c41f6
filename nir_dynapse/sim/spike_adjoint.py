"""The adjoint of `spike_times` by hand, for circuits without NMDA gate, exponential soma, delays, noise and lost events.

As in `sim.adjoint`, the derivatives of a block of steps are computed at once, each neuron's for itself; what is left for
the loop backwards are a few multiplications and one matrix product per step. In the manner of EventProp (Wunderlich and
Pehle 2021) a spike sends back how the adjoint of its synapses' currents changes around it: with g_k the adjoint of an event
that is sent in step k, the adjoint of the time of a spike in step k is (g_(k+1) − g_k)/h.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nir_dynapse.sim.adjoint import (
    Static,
    block_length,
    cut,
    instantiate,
    outer,
    padded,
    signs_of,
    spread,
    times,
    to_neurons,
)
from nir_dynapse.sim.dynamics import Constants, Inflow, State, Structure, advance, inflow, initial_state
from nir_dynapse.sim.spike_times import membrane
from nir_dynapse.sim.wiring import Matrices, pick

__all__ = ["spiking"]

Array = Any
CELL = ("rate", "floor", "threshold", "refractory")
"""Constants that a step of the membrane needs."""


def spiking(weights: tuple[Matrices, ...], c: Constants, x: Array, static: Static, n_sub: int) -> tuple[Array, Array]:
    """Counts and times of the first spikes in each bin (time, batch, N) of events `x` (time, batch, sources) from silence,
    as `spike_times.run_bin` gives them for every bin of `n_sub` steps."""
    bins, batch, sources = x.shape
    n = c.rate.shape[-1]
    empty = jnp.zeros((bins, n_sub - 1, batch, sources), x.dtype)
    events = jnp.concatenate([x[:, None], empty], axis=1).reshape(n_sub * bins, batch, sources)
    more = padded(n_sub * bins, batch, n) - n_sub * bins
    events = jnp.concatenate([events, jnp.zeros((more, batch, sources), x.dtype)])
    parts = tuple(pick(events, group.inputs) for group in static.structure.groups)
    found = _segment(weights, c, parts, static)
    spikes, when = (part[: n_sub * bins].reshape(bins, n_sub, batch, n) for part in found)
    since = c.h * jnp.arange(n_sub, dtype=c.rate.dtype)[:, None, None] + when
    return spikes.sum(1), jnp.where(spikes > 0, since, n_sub * c.h).min(1)


class _Residual(NamedTuple):
    """What the adjoint needs of every step: `v` before it, what flowed in, the other state before it, and spikes in it."""

    v: Array
    flow: Inflow
    dendrites: tuple[Array, ...]
    ahp: Array | None
    before: Array
    spikes: Array


def _forward(weights: Any, c: Constants, x: Any, static: Static) -> tuple[Array, Array, _Residual]:
    structure, surrogate = static
    steps, batch, _ = x[0].shape
    n = c.rate.shape[-1]
    length = block_length(steps, batch, n)

    def body(state: State, events: tuple[Array, ...]) -> tuple[State, Any]:
        received = tuple(
            (e + times(pick(state.spikes, g.neurons), w.neurons)).reshape(batch, len(g.dendrites), n)
            for g, w, e in zip(structure.groups, weights, events, strict=True)
        )
        dendrites, ahp = advance(state, received, c)
        flow = inflow(dendrites, ahp, c, structure)
        v, spikes, when = membrane(state.v, flow, c, structure, surrogate)
        kept = _Residual(state.v, flow, state.dendrites, state.ahp, state.spikes, spikes)
        return State(dendrites, ahp, v, spikes), (when, kept)

    def block(state: State, parts: tuple[Array, ...]) -> tuple[State, Any]:
        events = tuple(
            (part.reshape(length * batch, -1) @ w.inputs).reshape(length, batch, -1)
            for part, w in zip(parts, weights, strict=True)
        )
        return jax.lax.scan(body, state, events)

    _, stacked = jax.lax.scan(block, initial_state(batch, c, structure, jnp), cut(x, length))
    when, kept = jax.tree_util.tree_map(lambda a: a.reshape(steps, *a.shape[2:]), stacked)
    return kept.spikes, when, kept


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _segment(weights: Any, c: Constants, x: Any, static: Static) -> tuple[Array, Array]:
    """Spikes and the time of the first from the beginning of its step (T, B, N)."""
    return _forward(weights, c, x, static)[:2]


def _segment_forward(weights: Any, c: Constants, x: Any, static: Static) -> Any:
    spikes, when, kept = _forward(weights, c, x, static)
    return (spikes, when), (weights, c, x, kept)


class _Carry(NamedTuple):
    """Adjoints of the state after a step, of the events that it sends, and of those that the next one sends."""

    dendrites: tuple[Array, ...]
    ahp: Array | None
    v: Array
    sent: Array
    later: Array


def _segment_backward(static: Static, saved: Any, cotangents: Any) -> Any:
    structure, surrogate = static
    weights, c, x, kept = saved
    out = tuple(instantiate(part) for part in cotangents)
    steps, batch, n = kept.spikes.shape
    length = block_length(steps, batch, n)
    transposed = [w.neurons.T for w in weights]
    signs = [signs_of(g.dendrites, c.rate.dtype) for g in structure.groups]
    fires = (kept.spikes > 0).astype(c.rate.dtype)

    def body(carry: _Carry, inputs: Any) -> tuple[_Carry, Any]:
        by_v, by_current, by_leak, fired, (g_spikes, g_when) = inputs
        if surrogate.times:
            g_when = g_when + fired * (carry.later - carry.sent) / c.h
        else:
            g_spikes = g_spikes + carry.sent
        sent = (carry.v, g_spikes, g_when)
        g_current = _dot(by_current, sent)
        g_leak = None if by_leak is None else _dot(by_leak, sent)
        dendrites = tuple(
            later + spread(sign, g_current, g_leak) for later, sign in zip(carry.dendrites, signs, strict=True)
        )
        ahp = None if carry.ahp is None else carry.ahp + g_leak
        before = to_neurons(dendrites, transposed, structure, n)
        before = before if ahp is None else before + ahp * c.ahp_kick
        earlier = _Carry(
            tuple(g * decay for g, decay in zip(dendrites, c.decay, strict=True)),
            None if ahp is None else ahp * c.ahp_decay,
            _dot(by_v, sent),
            before,
            carry.sent,
        )
        return earlier, (dendrites, ahp, g_current, sent)

    def block(carry: Any, inputs: Any) -> Any:
        adjoint, g_weights, g_c = carry
        parts, kept_b, fired_b, out_b = inputs
        slopes = _slopes(kept_b.v, kept_b.flow, c, static)
        adjoint, (g_dendrites, g_ahp, g_current, sent) = jax.lax.scan(
            body, adjoint, (*slopes, fired_b, out_b), reverse=True
        )
        flat = [g.reshape(length, batch, -1) for g in g_dendrites]
        g_weights = tuple(
            Matrices(w.inputs + outer(part, own), w.neurons + outer(pick(kept_b.before, g.neurons), own))
            for w, g, part, own in zip(g_weights, structure.groups, parts, flat, strict=True)
        )
        found = _constants(kept_b, g_dendrites, g_ahp, g_current, sent, c, static)
        g_x = tuple(f @ w.inputs.T for f, w in zip(flat, weights, strict=True))
        return (adjoint, g_weights, jax.tree_util.tree_map(jnp.add, g_c, found)), g_x

    zero = initial_state(batch, c, structure, jnp)
    nothing = jnp.zeros_like(zero.spikes)
    begin = (
        _Carry(zero.dendrites, zero.ahp, nothing, nothing, nothing),
        *jax.tree_util.tree_map(jnp.zeros_like, (weights, c)),
    )
    (first, g_weights, g_c), g_x = jax.lax.scan(block, begin, cut((x, kept, fires, out), length), reverse=True)
    g_c = g_c._replace(floor=g_c.floor + first.v.sum(0))  # where membranes begin
    return g_weights, g_c, tuple(g.reshape(part.shape) for g, part in zip(g_x, x, strict=True))


def _dot(slopes: tuple[Array, ...], adjoints: tuple[Array, ...]) -> Array:
    return sum(a * b for a, b in zip(slopes, adjoints, strict=True))  # type: ignore[return-value]


def _cell(static: Static) -> Callable[[Array, Inflow, Constants], tuple[Array, ...]]:
    """`v`, spikes and times after a step; what follows a reset within the step has no gradient."""
    once: Structure = static.structure._replace(again=0)
    return lambda v, flow, c: membrane(v, flow, c, once, static.surrogate)


def _slopes(v: Array, flow: Inflow, c: Constants, static: Static) -> tuple[Any, Any, Any]:
    """Derivatives of `v`, spikes and times after a step by `v` before it, input current and leak; elementwise."""
    cell = _cell(static)

    def along(name: str) -> Any:
        if name == "v":
            return jax.jvp(lambda v: cell(v, flow, c), (v,), (jnp.ones_like(v),))[1]
        value = getattr(flow, name)
        if value is None:
            return None
        return jax.jvp(lambda a: cell(v, flow._replace(**{name: a}), c), (value,), (jnp.ones_like(value),))[1]

    return along("v"), along("current"), along("leak")


def _constants(
    kept: _Residual, g_dendrites: Any, g_ahp: Any, g_current: Array, sent: Any, c: Constants, static: Static
) -> Constants:
    """Adjoints of the constants by a block of steps: of the linear parts directly, of the membrane by autodiff."""
    cell = _cell(static)

    def by(*values: Array) -> tuple[Array, ...]:
        return cell(kept.v, kept.flow, c._replace(**dict(zip(CELL, values, strict=True))))

    found = jax.vjp(by, *(getattr(c, name) for name in CELL))[1](sent)
    g_c = jax.tree_util.tree_map(jnp.zeros_like, c)._replace(**dict(zip(CELL, found, strict=True)))
    decay = tuple((g * m).sum((0, 1)) for g, m in zip(g_dendrites, kept.dendrites, strict=True))
    g_c = g_c._replace(decay=decay, dc=g_current.sum((0, 1)))
    if g_ahp is None:
        return g_c
    return g_c._replace(ahp_decay=(g_ahp * kept.ahp).sum((0, 1)), ahp_kick=(g_ahp * kept.before).sum((0, 1)))


_segment.defvjp(_segment_forward, _segment_backward)
