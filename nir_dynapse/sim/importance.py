"""What each synapse is worth to the output on some data: first-order Taylor of a loss in its weight current.

Without a synapse a loss L changes by −I_w·∂L/∂I_w to first order; the root of the mean square of that over the data is its
importance (Molchanov et al. 2019, "Importance estimation for neural network pruning", eq. 8, whose root it is).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.circuit import internal_step
from nir_dynapse.sim.engine import spike_counts

__all__ = ["taylor_importance"]

Array = Any

GROUP = 16
"""Samples whose gradients are taken together."""


def taylor_importance(params: Params, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """Root of the mean over groups of `GROUP` samples of (I_w·∂L/∂I_w)², one value per synapse (S,), from 0.

    `x` are event counts (sample, time, channel). With classes `y` (sample,) L is the cross-entropy of spike counts c,
    logits 4·ln(1 + c); without, the network's own answer stands for the class. The output must be neurons of the chip.
    """
    t = params.topology
    part = t.slices()[str(t.outputs[0].source)]
    substeps = internal_step(params, t.dt)
    weight = jnp.asarray(params.row_currents())
    total = np.zeros(t.n_synapses)
    groups = max(1, len(x) // GROUP)
    for index in np.array_split(np.arange(groups * min(GROUP, len(x))), groups):
        target = None if y is None else jnp.asarray(np.asarray(y)[index])
        gradient = _gradient(
            params, weight, jnp.asarray(x[index], jnp.float32), target, substeps, (part.start, part.stop)
        )
        total += np.asarray(gradient, np.float64) ** 2
    return np.sqrt(total / groups)


@partial(jax.jit, static_argnums=(4, 5))
def _gradient(params: Params, weight: Array, x: Array, y: Array | None, substeps: int, part: tuple[int, int]) -> Array:
    """I_w·∂L/∂I_w of every synapse (S,)."""

    def loss(scale: Array) -> Array:
        there = replace(params, weight=weight * scale)
        count = spike_counts(there, x, substeps=substeps)[:, :, part[0] : part[1]].sum(1)
        logits = 4 * jnp.log(1 + jnp.maximum(count, 0))
        target = jax.nn.one_hot(jnp.argmax(count, 1) if y is None else y, count.shape[1])
        return -(target * jax.nn.log_softmax(logits)).sum()

    return jax.grad(loss)(jnp.ones_like(weight))
