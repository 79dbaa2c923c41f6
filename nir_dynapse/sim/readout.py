"""The readout on the host in JAX, differentiable: what `network.readout.run_readout` computes, for training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from nir_dynapse.circuit.copies import mean
from nir_dynapse.circuit.params import Topology
from nir_dynapse.network.delays import lagged, shifted
from nir_dynapse.network.network import Population
from nir_dynapse.sim import programs as _programs  # noqa: F401 - before any program is compiled

__all__ = ["values_of"]

Array = Any


def values_of(topology: Topology, spikes: Array) -> Array:
    """Values (B, T, n) of the first output for spikes (B, T, N) in bins of the network's step.

    The population's own spikes where it is one of the chip's, the mean over the copies of each neuron.
    """
    source, copies = str(topology.outputs[0].source), topology.copies_of
    known = {name: mean(spikes[..., part], copies[name]) for name, part in topology.slices().items()}
    for p in topology.readout.populations:
        x = jnp.zeros((*spikes.shape[:2], p.size), spikes.dtype)
        for q in topology.readout.projections:
            if q.target == p.name:
                lags, pre = lagged(q.pre, q.delay, topology.dt, known[q.source].shape[2])
                heard = shifted(known[q.source], lags, jnp)
                matrix = jnp.zeros((heard.shape[2], p.size), spikes.dtype)
                x += heard @ matrix.at[pre, q.post].add(jnp.asarray(q.weight, spikes.dtype))
                x += 0.0 if q.bias is None else jnp.asarray(q.bias, spikes.dtype)
        known[p.name] = _filtered(p, x, topology.dt)
    return known[source]


def _filtered(p: Population, x: Array, dt: float) -> Array:
    gains = p.step_gains(dt)
    start = jnp.broadcast_to(jnp.asarray(p.v_reset, x.dtype), (x.shape[0], p.size))
    leak, gain = jnp.asarray(gains.leak, x.dtype), jnp.asarray(gains.gain, x.dtype)
    rest = jnp.asarray(gains.leak * p.v_leak, x.dtype)

    def step(carry: tuple[Array, Array], now: Array) -> tuple[tuple[Array, Array], Array]:
        v, current = carry
        if gains.syn_leak is None or gains.syn_gain is None:
            current = now
        else:
            current = (1 - jnp.asarray(gains.syn_leak, x.dtype)) * current + jnp.asarray(gains.syn_gain, x.dtype) * now
        v = (1 - leak) * v + rest + gain * current
        return (v, current), v

    _, out = jax.lax.scan(step, (start, jnp.zeros_like(start)), jnp.swapaxes(x, 0, 1))
    return jnp.swapaxes(out, 0, 1)
