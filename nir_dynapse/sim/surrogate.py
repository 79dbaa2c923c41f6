"""Spikes with a gradient: a step function whose derivative is a smooth bump around the threshold."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from nir_dynapse.sim import programs as _programs  # noqa: F401 - before any program is compiled
from nir_dynapse.sim.derivatives import SHAPES, SLOPE

__all__ = ["FAST_SIGMOID", "SLOPE", "Surrogate", "spike"]

Shape = Literal["fast_sigmoid", "triangle", "gaussian"]


class Surrogate(NamedTuple):
    """What stands for the derivative of a spike with respect to x = (I_mem − I_spkthr)/I_spkthr, with k = `slope`.

    `shape`: "fast_sigmoid" 1/(1 + k|x|)² (Zenke and Ganguli 2018), "triangle" max(1 − k|x|, 0) (Bellec et al. 2018),
    "gaussian" e^(−(kx)²/2).

    `timing=True` also differentiates the time within a step at which the threshold is met, and with it when a neuron wakes
    from its refractory period: exact, but lateness is then carried from spike to spike and gradients grow with every one;
    without it they end at a reset (Zenke and Vogels 2021). With `smooth=True` spikes are the antiderivative itself: a
    model for checking gradients, which are exact with `timing=True`, not the chip.

    With `times=True` spikes are passed on by their times, with exact gradients (`sim.spike_times`); the derivative above is
    then only that of spikes that a loss counts. With `smooth=True` events then arrive when their times say: a model for
    checking, too.
    """

    shape: Shape = "fast_sigmoid"
    slope: float = SLOPE
    smooth: bool = False
    timing: bool = False
    times: bool = False

    def hold(self, value: Any) -> Any:
        """The time of a spike, with a gradient if `timing`."""
        return value if self.timing else jax.lax.stop_gradient(value)

    def derivative(self, x: Any) -> Any:
        """Derivative of a spike with respect to x."""
        return SHAPES[self.shape](self.slope * jnp.abs(x), jnp)

    def antiderivative(self, x: Any) -> Any:
        """Its integral, 0 far below the threshold."""
        k, scaled = self.slope, self.slope * jnp.abs(x)
        if self.shape == "fast_sigmoid":
            return x / (1 + scaled) + 1 / k
        if self.shape == "triangle":
            inside = jnp.minimum(scaled, 1)
            return (0.5 + jnp.sign(x) * inside * (1 - 0.5 * inside)) / k
        return jnp.sqrt(jnp.pi / 2) / k * (1 + jax.scipy.special.erf(k * x / jnp.sqrt(2.0)))

    def __call__(self, x: Any) -> Any:
        """Spikes: 1 where x > 0, else 0 (their antiderivative in the smooth model)."""
        return self.antiderivative(x) if self.smooth else _fire(x, self)


FAST_SIGMOID = Surrogate()
"""The default surrogate."""


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _fire(x: Any, surrogate: Surrogate) -> Any:
    return (x > 0).astype(jnp.result_type(x))


@_fire.defjvp
def _fire_jvp(surrogate: Surrogate, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    (x,), (dx,) = primals, tangents
    return _fire(x, surrogate), dx * surrogate.derivative(x)


def spike(x: Any, slope: float = SLOPE) -> Any:
    """1 where x > 0 (strictly), else 0, shape and type of x; its derivative is taken as 1/(1 + slope·|x|)²."""
    return Surrogate(slope=slope)(x)
