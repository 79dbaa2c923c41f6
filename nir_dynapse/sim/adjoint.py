"""The fast run by XLA, for any device, and its hand-written adjoint: few residuals, few small operations per step.

Backward through a step, the derivatives of the membrane depend on what was stored only, not on what comes from later
steps. So they are computed for a whole block of steps at once, and what is left for the loop are a few multiplications,
additions and one matrix product. Weight gradients are one matrix product per block. Gradients end at a reset (Zenke and
Vogels 2021): they pass through the membrane between spikes, through the length of the refractory period and through the
surrogate of the spikes that leave the neuron.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.sim.dynamics import GABA, SHUNT, Constants, Inflow, State, Structure, advance, inflow, rise, settle
from nir_dynapse.sim.loops import repeat
from nir_dynapse.sim.slopes import Slopes, slopes_of
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.sim.wiring import Matrices, pick

__all__ = [
    "Static",
    "block_length",
    "cut",
    "instantiate",
    "outer",
    "padded",
    "segment",
    "signs_of",
    "spread",
    "times",
    "to_neurons",
]

Array = Any
SMALL = 512
"""Multiplications of a matrix product up to which a sum over a broadcast product is faster than a call to a kernel."""
SERIAL, TINY = 2**13, 2**7
"""Elements (batch·N) between which a step is better computed by one thread; far below, all of it is one kernel anyway."""
BLOCK = 2**16
"""Elements of a block of steps (block·batch·N): long enough to be shared by threads, short enough for a cache."""


class Static(NamedTuple):
    """What a run is compiled for."""

    structure: Structure
    surrogate: Surrogate


class Residual(NamedTuple):
    """What the adjoint needs of every step: `v` before it and what flowed in; where constants are differentiated also the
    other state before it."""

    v: Array
    flow: Inflow
    dendrites: tuple[Array, ...] | None
    ahp: Array | None
    spikes: Array | None


def times(a: Array, b: Array) -> Array:
    """a @ b, as a sum where both are tiny: XLA then makes it part of the kernel around it."""
    if a.shape[0] * b.size <= SMALL:
        return (a[:, :, None] * b[None]).sum(1)
    return a @ b


def block_length(steps: int, batch: int, n: int) -> int:
    """Steps per block: the longest divisor of `steps` that keeps a block below `BLOCK` elements (`padded` makes one)."""
    most = max(1, BLOCK // max(1, batch * n))
    return max(k for k in range(1, min(most, steps) + 1) if steps % k == 0)


def padded(steps: int, batch: int, n: int) -> int:
    """`steps`, or a few more where blocks of a good length do not divide them."""
    most = max(1, BLOCK // max(1, batch * n))
    if 2 * block_length(steps, batch, n) >= min(most, steps):
        return steps
    blocks = -(-steps // most)
    return blocks * -(-steps // blocks)


def _forward(
    weights: tuple[Matrices, ...], c: Constants, start: State, x: tuple[Array, ...], static: Static, keep: str
) -> tuple[State, Array, Residual | None]:
    """Run all steps of `x`. `keep`: "" nothing, "flow" what weights need, "all" what constants need."""
    structure, fire = static
    steps, (batch, n) = len(x[0]), start.v.shape
    length = block_length(steps, batch, n)
    shelf = _Shelf.of(start.v, c)
    c_loop = shelf.spread(c)

    def body(carry: tuple[State, Any], events: tuple[Array, ...]):
        state, held = carry
        received = tuple(
            (e + times(pick(state.spikes, g.neurons), w.neurons)).reshape(batch, len(g.dendrites), n)
            for g, w, e in zip(structure.groups, weights, events, strict=True)
        )
        dendrites, ahp = advance(state, received, c)
        flow = inflow(dendrites, ahp, c, structure)
        end, held = shelf.pass_by(rise(state.v, flow, c_loop, structure, jnp), held)
        v, more = settle(state.v, end, flow, c_loop, structure, jnp, repeat=repeat)
        spikes = fire(end / c_loop.threshold - 1)
        spikes = spikes if more is None else spikes + more
        kept = None
        if keep:
            everything = (state.dendrites, state.ahp, state.spikes) if keep == "all" else (None, None, None)
            kept = Residual(state.v, flow, *everything)
        return (State(dendrites, ahp, v, spikes), held), (spikes, kept)

    def block(carry: tuple[State, Any], x_block: tuple[Array, ...]):
        events = tuple(
            (part.reshape(length * batch, -1) @ w.inputs).reshape(length, batch, -1)
            for part, w in zip(x_block, weights, strict=True)
        )
        return jax.lax.scan(body, carry, events)

    begin = (start, shelf.empty)
    if length == steps:
        (end, _), (spikes, kept) = block(begin, x)
    else:
        (end, _), stacked = jax.lax.scan(block, begin, cut(x, length))
        spikes, kept = jax.tree_util.tree_map(lambda a: a.reshape(steps, *a.shape[2:]), stacked)
    return end, spikes, kept


class _Shelf(NamedTuple):
    """A detour through a buffer that keeps XLA from splitting small kernels between threads, which costs more than it
    saves: kernels that write into a part of a buffer stay whole, and so do those that read much for what they compute.

    The place to read from is the place that was written to, plus a zero that XLA does not know.
    """

    small: bool
    zero: Any
    empty: Any

    @classmethod
    def of(cls, v: Array, c: Constants) -> _Shelf:
        if v.size > SERIAL or v.size <= TINY:
            return cls(False, None, ())
        zero = jnp.asarray(jnp.isnan(c.h), jnp.int32)
        return cls(True, zero, (jnp.zeros((2, *v.shape), v.dtype), jnp.zeros((), jnp.int32)))

    def spread(self, c: Constants) -> Constants:
        """Constants per neuron as arrays of the size of the state."""
        if not self.small:
            return c
        shape = self.empty[0].shape[1:]
        names = ("rate", "floor", "threshold", "refractory")
        return c._replace(**{name: jnp.broadcast_to(getattr(c, name), shape) for name in names})

    def pass_by(self, value: Array, held: Any) -> tuple[Array, Any]:
        """`value`, by way of the buffer."""
        if not self.small:
            return value, held
        buffer, turn = held
        buffer = jax.lax.dynamic_update_index_in_dim(buffer, value, turn, 0)
        value = jax.lax.dynamic_index_in_dim(buffer, turn + self.zero, 0, keepdims=False)
        return value, (buffer, 1 - turn)


def cut(tree: Any, length: int) -> Any:
    return jax.tree_util.tree_map(lambda a: a.reshape(a.shape[0] // length, length, *a.shape[1:]), tree)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def segment(
    weights: tuple[Matrices, ...], c: Constants, start: State, x: tuple[Array, ...], static: Static
) -> tuple[State, Array]:
    """The last state and the spikes (T, B, N) from `start`; `x` holds the input events of every internal step that reach
    each group (T, B, inputs)."""
    end, spikes, _ = _forward(weights, c, start, x, static, "")
    return end, spikes


class _Saved(NamedTuple):
    weights: tuple[Matrices, ...]
    c: Constants
    first: Array  # spikes before the first step
    x: tuple[Array, ...]
    spikes: Array
    residual: Residual | None
    x_wanted: tuple[()] | None


def _segment_forward(weights: Any, c: Any, start: Any, x: Any, static: Static):
    is_primal = lambda leaf: hasattr(leaf, "perturbed")  # noqa: E731
    perturbed = [any(p.perturbed for p in jax.tree_util.tree_leaves(tree, is_leaf=is_primal)) for tree in (c, x)]
    weights, c, start, x = jax.tree_util.tree_map(lambda p: p.value, (weights, c, start, x), is_leaf=is_primal)
    end, spikes, residual = _forward(weights, c, start, x, static, "all" if perturbed[0] else "flow")
    return (end, spikes), _Saved(weights, c, start.spikes, x, spikes, residual, () if perturbed[1] else None)


class _Carry(NamedTuple):
    """Adjoints of the state after a step: of the dendrites, adaptation, `v` and spikes."""

    dendrites: tuple[Array, ...]
    ahp: Array | None
    v: Array
    spikes: Array


def _segment_backward(static: Static, saved: _Saved, cotangents: Any):
    structure, surrogate = static
    weights, c, first, x, spikes, residual, x_wanted = saved
    if residual is None:
        raise AssertionError("a run for gradients keeps what its adjoint needs")
    cotangents = jax.tree_util.tree_map(instantiate, cotangents, is_leaf=_is_zero)
    end, out = cotangents
    steps, batch, n = spikes.shape
    length = block_length(steps, batch, n)
    transposed = [w.neurons.T for w in weights]
    signs = [signs_of(g.dendrites, c.rate.dtype) for g in structure.groups]
    all_wanted = residual.dendrites is not None

    def body(carry: _Carry, inputs: tuple[Slopes, Array]):
        slopes, out_t = inputs
        g_spike = carry.spikes + out_t
        g_end = slopes.along * carry.v + slopes.spike * g_spike
        g_current = slopes.current * g_end
        g_leak = None if slopes.leak is None else slopes.leak * g_end
        dendrites = tuple(
            later + spread(sign, g_current, g_leak) for later, sign in zip(carry.dendrites, signs, strict=True)
        )
        ahp = None if carry.ahp is None else carry.ahp + g_leak
        before = to_neurons(dendrites, transposed, structure, n)
        if ahp is not None:
            before = before + ahp * c.ahp_kick
        earlier = _Carry(
            tuple(g * decay for g, decay in zip(dendrites, c.decay, strict=True)),
            None if ahp is None else ahp * c.ahp_decay,
            slopes.v * g_end + slopes.rest * carry.v,
            before,
        )
        constants = (ahp, carry.v, g_spike, g_current) if all_wanted else None
        return earlier, (dendrites, constants)

    def block(carry: Any, inputs: Any):
        adjoint, following, g_weights, g_c = carry
        x_b, spikes_b, residual_b, out_b = inputs
        slopes = slopes_of(residual_b.v, residual_b.flow, c, surrogate)
        adjoint, (g_dendrites, extra) = jax.lax.scan(body, adjoint, (slopes, out_b), reverse=True)
        flat = [g.reshape(length, batch, -1) for g in g_dendrites]
        shifted = [jnp.concatenate([g[1:], f[None]]) for g, f in zip(flat, following, strict=True)]
        g_weights = tuple(
            Matrices(
                w.inputs + outer(part, own),
                w.neurons + outer(pick(spikes_b, g.neurons), next_),
            )
            for w, g, part, own, next_ in zip(g_weights, structure.groups, x_b, flat, shifted, strict=True)
        )
        if all_wanted:
            g_c = jax.tree_util.tree_map(jnp.add, g_c, _constant_gradients(residual_b, g_dendrites, extra, c, static))
        g_x = None
        if x_wanted is not None:
            g_x = tuple(f @ w.inputs.T for f, w in zip(flat, weights, strict=True))
        return (adjoint, [f[0] for f in flat], g_weights, g_c), g_x

    zeros = jax.tree_util.tree_map(jnp.zeros_like, (weights, c))
    nothing = [jnp.zeros((batch, w.neurons.shape[1]), c.rate.dtype) for w in weights]
    begin = (_Carry(end.dendrites, end.ahp, end.v, end.spikes), nothing, *zeros)
    inputs = (x, spikes, residual, out)
    if length == steps:
        (adjoint, following, g_weights, g_c), g_x = block(begin, inputs)
    else:
        (adjoint, following, g_weights, g_c), g_x = jax.lax.scan(block, begin, cut(inputs, length), reverse=True)
        g_x = None if g_x is None else tuple(g.reshape(part.shape) for g, part in zip(g_x, x, strict=True))
    g_weights = tuple(
        w._replace(neurons=w.neurons + pick(first, g.neurons).T @ f)
        for w, g, f in zip(g_weights, structure.groups, following, strict=True)
    )
    return g_weights, g_c, State(*adjoint), tuple(jnp.zeros_like(part) for part in x) if g_x is None else g_x


def _is_zero(leaf: Any) -> bool:
    return type(leaf).__name__ == "SymbolicZero"


def instantiate(leaf: Any) -> Any:
    """A cotangent as an array where JAX knows that it is zero."""
    return jnp.zeros(leaf.shape, leaf.dtype) if _is_zero(leaf) else leaf


def outer(a: Array, b: Array) -> Array:
    """Σ over steps and samples of a ⊗ b."""
    rows = a.shape[0] * a.shape[1]  # not -1: a group may have no sources
    left, right = (v.reshape(rows, v.shape[-1]) for v in (a, b))
    return jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())))


def signs_of(dendrites: tuple[int, ...], dtype: Any) -> tuple[Array | None, Array | None]:
    """How the adjoints of input current and leak act on each dendrite, (dendrites, 1) each; None where on none."""
    current = [0.0 if d == SHUNT else -1.0 if d == GABA else 1.0 for d in dendrites]
    leak = [1.0 if d == SHUNT else 0.0 for d in dendrites]
    made = [jnp.asarray(np.array(v)[:, None], dtype) if any(v) else None for v in (current, leak)]
    return made[0], made[1]


def spread(signs: tuple[Any, Any], *adjoints: Array | None) -> Array:
    """Adjoints of the dendrites (B, dendrites, N) of those of input current and leak (B, N)."""
    return sum(g[:, None] * sign for g, sign in zip(adjoints, signs, strict=True) if g is not None and sign is not None)  # type: ignore[return-value]


def to_neurons(dendrites: tuple[Array, ...], transposed: list[Array], structure: Structure, n: int) -> Array:
    """Adjoints of the spikes (B, N) of those of the dendrites that they reached."""
    batch = dendrites[0].shape[0]
    parts = [times(g.reshape(batch, -1), w) for g, w in zip(dendrites, transposed, strict=True)]
    if len(parts) == 1 and structure.groups[0].neurons is None:
        return parts[0]
    source = [g.neurons if g.neurons is not None else tuple(range(n)) for g in structure.groups]
    joined = jnp.concatenate(parts, axis=-1)
    flat = [i for part in source for i in part]
    if flat == list(range(n)):
        return joined
    place = np.full(n, len(flat))
    place[flat] = np.arange(len(flat))
    return jnp.concatenate([joined, jnp.zeros((batch, 1), joined.dtype)], axis=-1)[:, place]


def _constant_gradients(
    residual: Residual, g_dendrites: tuple[Array, ...], extra: Any, c: Constants, static: Static
) -> Constants:
    """Adjoints of the constants by a block of steps: of the linear parts directly, of the membrane by autodiff."""
    structure, surrogate = static
    g_ahp, g_v, g_spike, g_current = extra
    names = ["rate", "floor", "threshold", "refractory"]
    once = structure._replace(again=0)  # what follows a reset within a step has no gradient

    def cell(*values: Array) -> tuple[Array, Array]:
        changed = c._replace(**dict(zip(names, values, strict=True)))
        end = rise(residual.v, residual.flow, changed, structure, jnp)
        v, _ = settle(residual.v, end, residual.flow, changed, once, jnp, hold=jax.lax.stop_gradient)
        return v, surrogate._replace(smooth=False)(end / changed.threshold - 1)

    found = jax.vjp(cell, *(getattr(c, name) for name in names))[1]((g_v, g_spike))
    g_c = jax.tree_util.tree_map(jnp.zeros_like, c)._replace(**dict(zip(names, found, strict=True)))
    decay = tuple((g * m).sum((0, 1)) for g, m in zip(g_dendrites, residual.dendrites or (), strict=True))
    g_c = g_c._replace(decay=decay, dc=g_current.sum((0, 1)))
    if g_ahp is None:
        return g_c
    return g_c._replace(ahp_decay=(g_ahp * residual.ahp).sum((0, 1)), ahp_kick=(g_ahp * residual.spikes).sum((0, 1)))


segment.defvjp(_segment_forward, _segment_backward, symbolic_zeros=True)
