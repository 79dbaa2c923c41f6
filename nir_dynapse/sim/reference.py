"""NIR semantics of a Network, step by step: the teacher and the yardstick of every circuit simulation.

Forward Euler at the network's own dt; the current is updated before the voltage; a spike is v > v_threshold (strict),
after which v := v_reset in the same step; connections forward in the network's order act in the same step, those
against it (recurrence) one step later:

    CubaLIF  I ← I + dt/τ_syn·(−I + w_in·S)      v ← v + dt/τ_mem·(v_leak − v + r·I)
    LIF      v ← v + dt/τ_mem·(v_leak − v + r·S)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.network import Network, Population

__all__ = ["run_reference"]

Step = Callable[[dict[str, Any], Any], tuple[dict[str, Any], dict[str, tuple[Any, Any, Any]]]]


def run_reference(
    network: Network, counts: np.ndarray, *, record: Sequence[str] = ("spikes",), backend: str = "jax"
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Run `network` on event counts (batch, time, channel), one bin per step.

    Returns spikes[node] (batch, time, neuron) and, for "v" and "i_syn" in `record`, those traces in the same shape.
    """
    for name in record:
        if name not in ("spikes", "v", "i_syn"):
            raise ParameterRangeError(
                f"simulate: cannot record {name!r} in an ideal run. Recordable are spikes, v, i_syn."
            )
    traces = tuple(name for name in ("v", "i_syn") if name in record)
    xp: Any = jnp if backend == "jax" else np
    step = _make_step(network, xp)
    state = _initial(network, counts.shape[0], xp)
    if backend == "jax":
        values = _scan(step, state, jnp.swapaxes(jnp.asarray(counts), 0, 1), traces)
    else:
        values = _loop(step, state, np.swapaxes(counts, 0, 1), traces)
    spikes = {name: np.asarray(np.swapaxes(v[0], 0, 1), np.uint8) for name, v in values.items()}
    kept = {
        trace: {name: np.asarray(np.swapaxes(v[1 + k], 0, 1)) for name, v in values.items()}
        for k, trace in enumerate(traces)
    }
    return spikes, kept


def _initial(network: Network, batch: int, xp: Any) -> dict[str, Any]:
    """Zero current, v = v_reset and no spike for every population."""
    state = {}
    for p in network.populations:
        v = xp.broadcast_to(xp.asarray(np.asarray(p.v_reset, np.float32)), (batch, p.size))
        zeros = xp.zeros((batch, p.size), np.float32)
        state[p.name] = (zeros, v, zeros)
    return state


def _make_step(network: Network, xp: Any) -> Step:
    sizes = {p.name: p.size for p in (*network.inputs, *network.populations)}
    offsets = network.input_offsets()
    dense = [
        (q, xp.asarray(q.dense(sizes[q.source], sizes[q.target]).T.astype(np.float32))) for q in network.projections
    ]
    bias = {p.name: xp.asarray(network.bias(p.name).astype(np.float32)) for p in network.populations}
    order = [network[name] for name in network.order()]

    def step(state: dict[str, Any], x_t: Any):
        new, seen = dict(state), {}
        for p in order:
            total = bias[p.name]
            for q, matrix in dense:
                if q.target != p.name:
                    continue
                if q.source in offsets:
                    source = x_t[:, offsets[q.source] : offsets[q.source] + sizes[q.source]]
                else:
                    source = seen[q.source][0] if q.source in seen else state[q.source][2]
                total = total + source @ matrix
            current, v, spikes = _euler(p, network.dt, state[p.name], total, xp)
            new[p.name] = (current, v, spikes)
            seen[p.name] = (spikes, v, current)
        return new, seen

    return step


def _euler(p: Population, dt: float, state: tuple[Any, Any, Any], total: Any, xp: Any) -> tuple[Any, Any, Any]:
    """One forward Euler step of a population under input `total` (batch, n): current, voltage, spikes."""

    def constant(value: np.ndarray) -> Any:
        return xp.asarray(value.astype(np.float32))

    current, v, _ = state
    if p.tau_syn is not None and p.w_in is not None:
        current = current + constant(dt / p.tau_syn) * (constant(p.w_in) * total - current)
    else:
        current = xp.broadcast_to(total, v.shape)
    v = v + constant(dt / p.tau_mem) * (constant(p.v_leak) - v + constant(p.r) * current)
    spikes = v > constant(p.v_threshold)
    v = xp.where(spikes, constant(p.v_reset), v)
    return current, v, spikes.astype(np.float32)


def _pick(seen: dict[str, tuple[Any, Any, Any]], traces: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    index = {"v": 1, "i_syn": 2}
    return {name: (value[0], *(value[index[t]] for t in traces)) for name, value in seen.items()}


def _scan(step: Step, state: dict[str, Any], x: Any, traces: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    @jax.jit
    def run(state: dict[str, Any], x: Any):
        def body(carry: dict[str, Any], x_t: Any):
            carry, seen = step(carry, x_t)
            return carry, _pick(seen, traces)

        return jax.lax.scan(body, state, x)[1]

    return run(state, x)


def _loop(step: Step, state: dict[str, Any], x: np.ndarray, traces: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    rows = []
    for x_t in x:
        state, seen = step(state, x_t)
        rows.append(_pick(seen, traces))
    return {
        name: tuple(np.stack([row[name][k] for row in rows]) for k in range(1 + len(traces)))
        for name in (p for p in state)
    }
