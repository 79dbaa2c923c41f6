"""What the chip in the loop is like: the factors of its currents and CAM rows, estimated from the spikes that it sends.

The model of every neuron is driven by what the chip's neurons sent, membranes are reset where the chip's were
(`injection`): neurons do not depend on each other, and every bin says of each whether it fired where its membrane came to.
With the logarithms θ of the factors, log-normal as the mismatch says, the estimate goes down the gradient of

    Σ softplus(∓k·ln(I_mem/I_spkthr)) + B/n·Σ (θ + σ²/2)²/(2σ²)

(− where the neuron fired), the negative logarithm of their posterior for a batch of B of the n samples so far, one step of
Adam per batch. Gradients of the training then are those of a circuit that is like the chip, not of the nominal one.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nir_dynapse.chip.device import CURRENTS
from nir_dynapse.training.injection import driven
from nir_dynapse.training.steps import Recipe
from nir_dynapse.training.trainable import Bits, Chart, Factors, Latent, nominal, on_chip, quantised

__all__ = ["Twin", "new_twin", "observed"]

Array = Any
SHARPNESS = 10.0
"""k: slope of the logarithm of the odds of a spike in ln(I_mem/I_spkthr)."""
OPTIMISER = optax.adam(0.03)
LOWEST, HIGHEST = 1e-3, 1e3
"""I_mem/I_spkthr beyond which a neuron is as sure to be silent, or to fire, as can be."""


class Twin(NamedTuple):
    """What a chip is taken for, from `samples` samples; `opt` is the optimiser's state."""

    factors: Factors
    opt: Any
    samples: Array


def new_twin(chart: Chart) -> Twin:
    """A chip that nothing is known of: without mismatch."""
    plain = nominal(chart)
    return Twin(plain, OPTIMISER.init((plain.bias, plain.row)), jnp.zeros((), jnp.float32))


@partial(jax.jit, static_argnames=("recipe",))
def observed(twin: Twin, latent: Latent, x: Array, spikes: Array, *, recipe: Recipe) -> Twin:
    """The twin once the chip, with the bits of `latent`, sent `spikes` (B, T, N) for counts `x` (B, T, C)."""
    samples = twin.samples + x.shape[0]
    found = (twin.factors.bias, twin.factors.row)
    slope = _slope(found, quantised(recipe.chart, latent), x.astype(jnp.float32), spikes, x.shape[0] / samples, recipe)
    change, opt = OPTIMISER.update(slope, twin.opt)
    moved: Any = optax.apply_updates(found, change)  # pyright: ignore[reportArgumentType]
    return Twin(twin.factors._replace(bias=moved[0], row=moved[1]), opt, samples)


def _slope(found: tuple[Array, Array], bits: Bits, x: Array, spikes: Array, share: Array, recipe: Recipe) -> Any:
    """Gradient of the posterior's negative logarithm per sample in `found`; 0 for what has no mismatch."""
    chart, cv = recipe.chart, dict(recipe.model.mismatch.cv)
    alive = nominal(chart).alive
    widths = np.array([cv.get(name, 0.0) for name in CURRENTS])[:, None], np.full((1, 1), recipe.model.mismatch.synapse)
    variances = [np.log1p(width**2) for width in widths]

    def cost(found: tuple[Array, Array]) -> Array:
        _, reached = driven(
            on_chip(chart, bits, Factors(*found, alive)), x, spikes, longest_delay=recipe.model.longest_delay
        )
        odds = SHARPNESS * jnp.log(jnp.clip(reached, LOWEST, HIGHEST))
        surprise = jax.nn.softplus(jnp.where(spikes > 0, -odds, odds)).sum()
        prior = jnp.zeros(())
        for part, s in zip(found, variances, strict=True):
            prior += jnp.sum(jnp.where(s > 0, (part + s / 2) ** 2, 0.0) / np.where(s > 0, 2 * s, 1.0))
        return (surprise + share * prior) / x.shape[0]

    slope = jax.grad(cost)(found)
    return tuple(jnp.where(jnp.isfinite(g) & (s > 0), g, 0.0) for g, s in zip(slope, variances, strict=True))
