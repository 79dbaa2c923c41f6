"""Runs of `simulation` step by step by XLA: spikes, and what is recorded of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.sim.circuit import observe, run_bin
from nir_dynapse.sim.disturbance import of_bin
from nir_dynapse.sim.dynamics import Constants, State, Structure, initial_state
from nir_dynapse.sim.engine import Program, run
from nir_dynapse.sim.loops import loop_for
from nir_dynapse.sim.wiring import Weights

__all__ = ["in_jax", "stretch_in_jax"]


def in_jax(
    weights: Weights,
    c: Constants,
    x: np.ndarray,
    seed: np.uint32,
    sample: np.ndarray,
    by: tuple[Structure, int],
    wanted: tuple[str, ...],
) -> tuple[Any, tuple[Any, ...]]:
    """Spikes (batch, time, N) of `x` (batch, time, channel + tonic) in so many steps of this structure; and traces."""
    if wanted:
        return stretch_in_jax(weights, c, x, seed, sample, by, wanted, None)[0]
    with jax.default_matmul_precision("highest"):  # GPUs would round the weights to 11 bits
        return _spikes(weights, c, x, seed, sample, Program(*by)), ()


def stretch_in_jax(
    weights: Weights,
    c: Constants,
    x: np.ndarray,
    seed: np.uint32,
    sample: np.ndarray,
    by: tuple[Structure, int],
    wanted: tuple[str, ...],
    carry: Any,
) -> tuple[tuple[Any, tuple[Any, ...]], Any]:
    """`in_jax` of some bins of a run, as where currents are recorded, and what the next ones go on from (None: silence)."""
    with jax.default_matmul_precision("highest"):
        carry = (initial_state(len(x), c, by[0], np), np.int32(0)) if carry is None else carry
        return _stretch(weights, c, x, seed, sample, Program(*by), wanted, carry)


@partial(jax.jit, static_argnums=(5,))
def _spikes(weights: Weights, c: Constants, x: Any, seed: Any, sample: Any, program: Program) -> Any:
    return run(weights, c, jnp.asarray(x), program, seed, sample).astype(jnp.uint8)


@partial(jax.jit, static_argnums=(5, 6))
def _stretch(
    weights: Weights,
    c: Constants,
    x: Any,
    seed: Any,
    sample: Any,
    program: Program,
    wanted: tuple[str, ...],
    begin: Any,
) -> tuple[tuple[Any, tuple[Any, ...]], Any]:
    return _scan(weights, c, x, seed, sample, program, wanted, begin)


def _scan(
    weights: Weights,
    c: Constants,
    x: Any,
    seed: Any,
    sample: Any,
    program: Program,
    wanted: tuple[str, ...],
    begin: Any,
) -> tuple[tuple[Any, tuple[Any, ...]], Any]:
    structure, n_sub = program.structure, program.substeps
    c = jax.tree_util.tree_map(jnp.asarray, c)

    def body(carry: tuple[State, Any], x_t: Any) -> Any:
        state, t = carry

        disturb = of_bin(t, n_sub, seed, sample, c, structure, jnp)
        state, count = run_bin(state, x_t, c, weights, structure, n_sub, jnp, disturb=disturb, **loop_for(n_sub))
        return (state, t + 1), (count, tuple(observe(name, state, c, structure, jnp) for name in wanted))

    carry, (counts, extra) = jax.lax.scan(body, begin, jnp.swapaxes(jnp.asarray(x), 0, 1))
    return (jnp.swapaxes(counts, 0, 1), tuple(jnp.swapaxes(e, 0, 1) for e in extra)), carry
