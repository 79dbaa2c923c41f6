"""The optimiser of a training, whose length is data: programs that were compiled serve trainings of any number of steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = ["course", "optimiser"]

Array = Any
LOWEST = 0.01
"""What the learning rate falls to, in units of itself."""


def optimiser(
    rate: optax.ScalarOrSchedule,
    trained: tuple[str, ...],
    bias_rate: float = 0.3,
    clip: float = 10.0,
    transformation: Any = None,
) -> Any:
    """Adam with the rate for weights, `bias_rate` times it for base and bias currents; what is not `trained` stays.

    `trained` names leaves of a Latent: "weight", "base" and bias currents. Gradients beyond a norm of `clip` are cut.
    A `transformation` of optax takes the place of Adam, for all that is trained. `update` takes the `length` of the
    training in steps.
    """

    def label(path: Any, _: Any) -> str:
        name = str(getattr(path[-1], "key", getattr(path[-1], "name", "")))
        if name not in trained:
            return "fixed"
        return "weight" if name == "weight" or transformation is not None else "current"

    kinds: dict[Any, Any] = {
        "weight": transformation or optax.chain(optax.scale_by_adam(), _scaled(rate, 1.0)),
        "current": optax.chain(optax.scale_by_adam(), _scaled(rate, bias_rate)),
        "fixed": optax.set_to_zero(),
    }
    labelled = partial(jax.tree_util.tree_map_with_path, label)
    return optax.chain(optax.clip_by_global_norm(clip), optax.multi_transform(kinds, labelled))


def _scaled(rate: optax.ScalarOrSchedule, part: float) -> Any:
    """Updates times minus the rate of the step."""

    def start(params: Any) -> Any:
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None, **given: Any) -> tuple[Any, Any]:
        size = -1.0 * part * course(rate, state.count, given["length"])
        updates = jax.tree_util.tree_map(lambda g: jnp.asarray(size, g.dtype) * g, updates)
        return updates, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(start, update)


def course(rate: optax.ScalarOrSchedule, step: Array, length: Array) -> Array:
    """The learning rate of a step: that of a schedule, or a rate that falls to a hundredth of itself by a cosine.

    rate·((1 − a)·½·(1 + cos(π·step/length)) + a) with a = 1/100 (Loshchilov and Hutter 2017).
    """
    if callable(rate):
        return rate(step)
    passed = jnp.minimum(jnp.asarray(step, jnp.float32), length)
    return rate * ((1 - LOWEST) * (0.5 * (1 + jnp.cos(jnp.pi * passed / length))) + LOWEST)
