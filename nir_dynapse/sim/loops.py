"""Loops of `circuit.run_bin` as JAX runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["loop_for", "repeat"]


def loop_for(n_sub: int) -> dict[str, Any]:
    """How `run_bin` runs `n_sub` internal steps: few run faster unrolled, many compile faster as a loop."""
    return {"repeat": repeat} if n_sub <= 4 else {"repeat": repeat, "loop": _counted}


def _counted(start: int, stop: int, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`fori_loop` as a scan, which has a gradient."""
    return jax.lax.scan(lambda inner, k: (body(k, inner), None), carry, jnp.arange(start, stop))[0]


def repeat(body: Callable[[Any, Any], Any], carry: Any, given: Any, most: int) -> Any:
    """`dynamics.again_and_again`, without a gradient."""
    carry, given = jax.tree_util.tree_map(jax.lax.stop_gradient, (carry, given))
    first = jnp.zeros((), jnp.int32)

    def goes_on(state: tuple[Any, Any]) -> Any:
        return (state[0] < most) & (state[1][0] > 0).any()

    return jax.lax.while_loop(goes_on, lambda state: (state[0] + 1, body(state[1], given)), (first, carry))[1]
