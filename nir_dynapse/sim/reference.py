"""NIR semantics of a Network, step by step: the teacher and the yardstick of every circuit simulation.

Forward Euler at the network's own dt; the current is updated before the voltage:

    CubaLIF  I ← (1 − dt/τ_syn)·I + w_in·dt/τ_syn·S      v ← (1 − dt/τ_mem)·v + dt/τ_mem·v_leak + r·dt/τ_mem·I
    LIF      the same with I = S;      IF  v ← v + r·dt·S;      Threshold  v ← S

A spike is v > v_threshold (strict). What NIR leaves open is explicit: how a population resets (`Population.reset`), and
when spikes act (`Network.stepping`): connections forward in the network's order act in the same step, those against it
(recurrence) one step later, unless that says otherwise. A delay adds round(delay/dt) steps to that, a half upwards; before
the first step all was silent, but constant inputs were there. Readouts (LI, CubaLI, I, Linear) are stepped with the rest.

`plan` splits a Network into what is static under jit (hashable: one compilation per structure and shape) and a PyTree of
arrays; `run_plan` is pure, batched and differentiable in these arrays (surrogate gradient at the threshold).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from nir_dynapse.errors import Finding, ParameterRangeError
from nir_dynapse.network.network import Network
from nir_dynapse.sim.derivatives import SLOPE
from nir_dynapse.sim.ideal_plan import Link, Node, Plan, plan
from nir_dynapse.sim.past import Past, beginning, heard, sent

__all__ = ["Ideal", "Plan", "plan", "reference_blocks", "run_plan", "run_reference"]

TRACES = ("v", "i_syn")
COMPILING = 0.3
"""Seconds of a run in NumPy that are worth loading JAX and compiling a program."""


class Ideal(NamedTuple):
    """What `run_plan` gives, each by node name and in shape (batch, time, n)."""

    spikes: dict[str, Any]
    traces: dict[str, dict[str, Any]]
    values: dict[str, Any]


class _State(NamedTuple):
    current: Any
    v: Any
    spikes: Any


_Carry = tuple[dict[str, _State], Past]
"""What goes from step to step."""


def _step(
    plan: Plan,
    arrays: dict[str, Any],
    indices: dict[str, Any],
    state: dict[str, _State],
    past: Past,
    x: Any,
    xp: Any,
    slope: float,
):
    """One step: the new state and past, and per node (emitted spikes or voltage, v, current)."""

    def arriving(link: Link, source: Any, node: Node) -> Any:
        weight = arrays["weight"][link.index]
        if not link.sparse:
            return source @ weight
        pre, post = indices[str(link.index)]
        if xp is np:
            return scipy.sparse.csr_array((weight, (post, pre)), (node.size, source.shape[1])).dot(source.T).T
        return xp.zeros((source.shape[0], node.size), source.dtype).at[:, post].add(source[:, pre] * weight)

    offsets = {name: slice(start, stop) for name, start, stop in plan.inputs}
    for name, part in offsets.items():
        past = sent(past, name, x[:, part], xp)
    new: dict[str, _State] = {}
    seen: dict[str, tuple[Any, Any, Any]] = {}
    for node in plan.nodes:
        total = arrays["bias"][node.name]
        for link in node.links:
            if link.lags and link.when != "after":
                total = total + arriving(link, heard(past, link.source, link.lags), node)
            elif link.when == "input":
                total = total + arriving(link, x[:, offsets[link.source]], node)
            elif link.when == "now":
                total = total + arriving(link, seen[link.source][0], node)
            elif link.when == "delayed":
                total = total + arriving(link, state[link.source].spikes, node)
        now = _euler(node, arrays["node"][node.name], state[node.name], total, xp, slope)
        new[node.name] = now
        past = sent(past, node.name, now.spikes if node.spiking else now.v, xp)
        late = plan.emission == "next-step"
        out = now.v if not node.spiking else state[node.name].spikes if late else now.spikes
        seen[node.name] = (out, now.v, now.current)
    for node in plan.nodes:
        for link in node.links:
            if link.when == "after":
                came = heard(past, link.source, link.lags) if link.lags else new[link.source].spikes
                kick = arriving(link, came, node)
                a, (current, v, spikes) = arrays["node"][node.name], new[node.name]
                if node.synapse:
                    new[node.name] = _State(current + a["syn_gain"] * kick, v, spikes)
                else:
                    new[node.name] = _State(current, v + a["gain"] * kick, spikes)
    return new, {**past, "": past[""] + 1} if past else past, seen


def _euler(node: Node, a: dict[str, Any], state: _State, total: Any, xp: Any, slope: float) -> _State:
    """One forward Euler step of a population under input `total` (batch, n)."""
    current, v, before = state
    decayed = a["syn_keep"] * current + a["syn_gain"] * total if node.synapse else total
    current = xp.broadcast_to(decayed, v.shape)
    v = a["keep"] * v + a["drift"] + a["gain"] * current
    if not node.spiking:
        return _State(current, v, before)
    fired = before if xp is np else _constant(before)
    above = (state.v > a["threshold"]).astype(v.dtype)  # after a reset by subtraction that was not enough
    if node.reset == "subtract-once":
        v = v - a["swing"] * above
    if node.reset == "value-late":
        v = xp.where(fired > 0, a["reset"], v)
    elif node.reset == "subtract-late":
        v = v - a["swing"] * fired
    if node.reset == "subtract-multiple":
        level = (v - a["reset"]) / a["swing"]
        spikes = xp.where(level >= 1, xp.floor(level), 0).astype(v.dtype)
        if xp is not np:  # straight through above half a threshold
            smooth = xp.where(level >= 0.5, level, 0)
            spikes = smooth + _constant(spikes - smooth)
    elif xp is np:
        spikes = (v > a["threshold"]).astype(v.dtype)
    else:
        from nir_dynapse.sim.surrogate import spike

        spikes = xp.where(v > a["threshold"], 1, 0).astype(v.dtype)
        slack = spike((v - a["threshold"]) / a["swing"], slope)
        spikes = slack + _constant(spikes - slack)  # the comparison decides, the surrogate has the gradient
    fired = spikes if xp is np else _constant(spikes)
    if node.reset == "value":
        v = xp.where(fired > 0, a["reset"], v)
    elif node.reset in ("subtract", "subtract-multiple"):
        v = v - a["swing"] * fired
    elif node.reset == "subtract-once":
        v = v - a["swing"] * (fired - above)
    return _State(current, v, spikes)


def _constant(values: Any) -> Any:
    """JAX's `values` without a gradient."""
    import jax

    return jax.lax.stop_gradient(values)


def run_plan(
    plan: Plan,
    arrays: dict[str, Any],
    indices: dict[str, Any],
    x: Any,
    *,
    record: tuple[str, ...] = (),
    slope: float = SLOPE,
) -> Ideal:
    """Run in JAX on counts (batch, time, channel), from silence: I = 0, v = v_reset or v_leak; pure.

    Differentiable in `arrays`, `slope` being that of the surrogate gradient. `record` may name "v" and "i_syn". Spikes are
    floats (batch, time, n).
    """
    import jax.numpy as jnp

    x = jnp.asarray(x)
    state = _initial(plan, arrays, x.shape[0], jnp)
    return _scan(plan, arrays, indices, x, (state, _silence(plan, state, x.shape[0], jnp)), record, slope)[0]


def _scan(
    plan: Plan, arrays: Any, indices: Any, x: Any, carry: _Carry, record: tuple[str, ...], slope: float
) -> tuple[Ideal, _Carry]:
    """From `carry` on, and what it is at the end."""
    import jax
    import jax.numpy as jnp

    def body(carry: _Carry, x_t: Any):
        state, past, seen = _step(plan, arrays, indices, *carry, x_t, jnp, slope)
        return (state, past), _pick(seen, record)

    carry, rows = jax.lax.scan(body, carry, jnp.swapaxes(x, 0, 1))
    return _unpack(plan, rows, record, jnp), carry


@cache
def _jitted() -> Any:
    """`_scan`, compiled by XLA."""
    import jax

    from nir_dynapse.sim import programs as _programs  # noqa: F401 - before any program is compiled

    return jax.jit(_scan, static_argnums=(0, 5, 6))


def run_reference(
    network: Network, counts: np.ndarray, *, record: Sequence[str] = ("spikes",), backend: str = "jax"
) -> Ideal:
    """Run `network` on event counts (batch, time, channel), one bin per step; NumPy arrays, spikes as uint8.

    "v" and "i_syn" in `record` give those traces too. Networks of the same structure share one compilation; what is over
    sooner in NumPy runs there.
    """
    return next(reference_blocks(network, [counts], counts.shape[1], record=record, backend=backend))


def reference_blocks(
    network: Network,
    blocks: Iterable[np.ndarray],
    steps: float,
    *,
    record: Sequence[str] = ("spikes",),
    backend: str = "jax",
) -> Iterator[Ideal]:
    """`run_reference` of a run of so many `steps` that comes in blocks of time: the same bits."""
    for name in record:
        if name not in ("spikes", *TRACES):
            raise ParameterRangeError(
                f"simulate: cannot record {name!r} in an ideal run. Recordable are spikes, v, i_syn."
            )
    if backend not in ("jax", "numpy"):
        raise ParameterRangeError(f"simulate: unknown backend {backend!r}. Choose 'jax' or 'numpy'.")
    traces = tuple(name for name in TRACES if name in record)
    structure, arrays, indices = plan(network)
    names = [p.name for p in network.populations]  # JAX sorts dictionaries
    everywhere = (*names, *network.readout.names)
    carry: Any = None
    for counts in blocks:
        if carry is None:
            state = _initial(structure, arrays, len(counts), np)
            carry = state, _silence(structure, state, len(counts), np)
        if backend == "jax" and (indices or _seconds(network, len(counts), steps) > COMPILING):
            result, carry = _jitted()(structure, arrays, indices, counts, carry, traces, SLOPE)
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # what grows beyond all numbers is told below
                result, carry = _loop(structure, arrays, indices, counts, carry, traces)
        spikes = {name: _counts(name, np.asarray(result.spikes[name])) for name in names}
        kept = {key: {name: np.asarray(values[name]) for name in everywhere} for key, values in result.traces.items()}
        yield Ideal(spikes, kept, {name: np.asarray(result.values[name]) for name in network.readout.names})


def _seconds(network: Network, batch: int, steps: float) -> float:
    """What a run in NumPy takes, about."""
    everything = (*network.populations, *network.readout.populations)
    weights = sum(len(q.weight) for q in (*network.projections, *network.readout.projections))
    each = 1e-8 * sum(p.size for p in everything) + 2e-10 * weights
    return steps * (5e-5 * len(everything) + batch * each)


def _counts(name: str, spikes: np.ndarray) -> np.ndarray:
    """Spikes as uint8, or as int64 where a reset by subtraction gives more than 255 in a step."""
    if not np.all(np.isfinite(spikes)):
        what = (
            "its activity grows beyond all numbers in the ideal run: several spikes per step feed back on themselves."
        )
        hint = "Lower the recurrent weights, or read the network with another reset."
        raise ParameterRangeError(Finding("error", "runaway", what, node=name, hint=hint))
    return spikes.astype(np.uint8 if spikes.max(initial=0) < 256 else np.int64)


def _initial(plan: Plan, arrays: dict[str, Any], batch: int, xp: Any) -> dict[str, _State]:
    """Zero current, v = v_reset (or v_leak) and no spike for every population."""
    state = {}
    for node in plan.nodes:
        rest = xp.asarray(arrays["node"][node.name]["leak" if plan.start == "leak" and node.spiking else "reset"])
        zeros = xp.zeros((batch, node.size), rest.dtype)
        state[node.name] = _State(zeros, zeros + rest, zeros)
    return state


def _silence(plan: Plan, state: dict[str, _State], batch: int, xp: Any) -> Past:
    """Nothing sent in the steps before the first one."""
    return beginning(plan.past, batch, next(iter(state.values())).v.dtype, xp)


def _pick(seen: dict[str, tuple[Any, Any, Any]], traces: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    return {name: (value[0], *(value[1 + TRACES.index(t)] for t in traces)) for name, value in seen.items()}


def _unpack(plan: Plan, rows: dict[str, tuple[Any, ...]], traces: tuple[str, ...], xp: Any) -> Ideal:
    """Rows (time, batch, n) per node as an `Ideal`."""
    turned = {name: tuple(xp.swapaxes(value, 0, 1) for value in values) for name, values in rows.items()}
    spiking = {node.name for node in plan.nodes if node.spiking}
    return Ideal(
        {name: values[0] for name, values in turned.items() if name in spiking},
        {t: {name: values[1 + k] for name, values in turned.items()} for k, t in enumerate(traces)},
        {name: values[0] for name, values in turned.items() if name not in spiking},
    )


def _loop(
    plan: Plan, arrays: Any, indices: Any, x: np.ndarray, carry: _Carry, traces: tuple[str, ...]
) -> tuple[Ideal, _Carry]:
    (state, past), rows = carry, []
    for x_t in np.swapaxes(x, 0, 1):
        state, past, seen = _step(plan, arrays, indices, state, past, x_t, np, SLOPE)
        rows.append(_pick(seen, traces))
    count = 1 + len(traces)
    nothing = {node.name: np.zeros((0, x.shape[0], node.size), np.float32) for node in plan.nodes}
    stacked = {
        node.name: tuple(
            np.stack([row[node.name][k] for row in rows]) if rows else nothing[node.name] for k in range(count)
        )
        for node in plan.nodes
    }
    return _unpack(plan, stacked, traces, np), (state, past)
