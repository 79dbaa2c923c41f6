"""The model driven by what a chip sent: recorded spikes in place of its own, with its own gradients (in the loop).

A chip shows spikes only, at most one membrane per core. In each step the synapses get the recorded spikes and the membranes
are reset where the chip's were; the derivative of a spike is that of the model's membrane (Cramer et al. 2022).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.circuit import constants, structure_of, with_tonic
from nir_dynapse.sim.dynamics import State, advance, inflow, initial_state, land, rise, settle
from nir_dynapse.sim.loops import repeat
from nir_dynapse.sim.surrogate import FAST_SIGMOID, Surrogate
from nir_dynapse.sim.wiring import drive, weights_of

__all__ = ["driven", "injected_counts"]

Array = Any


def injected_counts(
    params: Params,
    x: Array,
    recorded: Array,
    surrogate: Surrogate = FAST_SIGMOID,
    longest_delay: float | None = None,
) -> Array:
    """`recorded` spikes (B, T, N), in bins of the network's step, with the gradients of the model that they drive.

    One internal step per bin; `x` (B, T, C) are the events that the chip got; `longest_delay` as in `spike_counts`.
    """
    return driven(params, x, recorded, surrogate, longest_delay)[0]


def driven(
    params: Params,
    x: Array,
    recorded: Array,
    surrogate: Surrogate = FAST_SIGMOID,
    longest_delay: float | None = None,
) -> tuple[Array, Array]:
    """`injected_counts`, and where the membrane came to in each bin, in units of the threshold (B, T, N)."""
    h = params.topology.dt
    structure = structure_of(params, h, longest_delay=longest_delay)
    kind = jnp.float32
    weights = weights_of(params, h, structure, jnp, kind)
    c = constants(params, h, structure, jnp, kind)
    events = with_tonic(jnp.asarray(x, kind), params, h, jnp)

    def body(state: State, now: tuple[Array, Array]) -> tuple[State, tuple[Array, Array]]:
        x_t, sent = now
        received, state = drive(state, x_t, weights, structure, jnp)
        dendrites, ahp = advance(state, received, c)
        flow = inflow(dendrites, ahp, c, structure)
        end = rise(state.v, flow, c, structure, jnp)
        own = surrogate(end / c.threshold - 1)
        spikes = own + jax.lax.stop_gradient(sent - own)
        # Where the chip fired and the model would not, the spike counts as one at the end of the step.
        fired = sent > 0
        reset = land(state.v, jnp.where(fired, 2 * c.threshold, jnp.minimum(end, 0.999 * c.threshold)), 0.0,
                     c.refractory, c.threshold, c.h, jnp)  # fmt: skip
        # Where both fire the membrane does what the model's does, which may go on within the step.
        settled, _ = settle(state.v, end, flow, c, structure, jnp, repeat=repeat)
        v = jnp.where(fired, jax.lax.stop_gradient(jnp.where(end > c.threshold, settled, reset)), reset)
        return State(dendrites, ahp, v, spikes, state.past), (spikes, end / c.threshold)

    start = initial_state(events.shape[0], c, structure, jnp)
    seen = (jnp.swapaxes(events, 0, 1), jnp.swapaxes(jnp.asarray(recorded, kind), 0, 1))
    spikes, reached = jax.lax.scan(body, start, seen)[1]
    return jnp.swapaxes(spikes, 0, 1), jnp.swapaxes(reached, 0, 1)
