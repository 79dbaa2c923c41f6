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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from nir_dynapse.errors import Finding, ParameterRangeError
from nir_dynapse.network.delays import LONGEST, lagged
from nir_dynapse.network.network import Network, Population, Projection
from nir_dynapse.sim.derivatives import SLOPE
from nir_dynapse.sim.past import Past, beginning, heard, sent

__all__ = ["Ideal", "Plan", "plan", "run_plan", "run_reference"]

TRACES = ("v", "i_syn")
DENSE_ELEMENTS = 4 * 2**20
"""Weights with more elements than this are stored sparse where at most one in `SPARSE_RATIO` is not zero."""
SPARSE_RATIO = 50
COMPILING = 0.3
"""Seconds of a run in NumPy that are worth loading JAX and compiling a program."""


@dataclass(frozen=True)
class _Link:
    """A projection by number: where its spikes come from and when they act."""

    index: int
    source: str
    when: str  # "input", "now", "delayed" or "after" (added at the end of the step)
    sparse: bool
    lags: tuple[int, ...] = ()
    """Where connections are late: how many steps ago what they hear was sent, for each part of the rows of the weight."""


@dataclass(frozen=True)
class _Node:
    name: str
    size: int
    reset: str
    spiking: bool
    synapse: bool
    links: tuple[_Link, ...]


@dataclass(frozen=True)
class Plan:
    """The structure of an ideal run, hashable."""

    nodes: tuple[_Node, ...]
    inputs: tuple[tuple[str, int, int], ...]
    emission: str
    start: str
    past: tuple[tuple[str, int, int], ...] = ()
    """Sources whose past is kept: name, neurons, steps."""


class Ideal(NamedTuple):
    """What `run_plan` gives, each by node name and in shape (batch, time, n)."""

    spikes: dict[str, Any]
    traces: dict[str, dict[str, Any]]
    values: dict[str, Any]


def plan(network: Network, dtype: Any = np.float32) -> tuple[Plan, dict[str, Any], dict[str, Any]]:
    """(structure, arrays, indices) of an ideal run of `network`.

    `arrays["weight"][k]` is the weight of projection k, (n_pre, n_post) or sparse (n_synapses,) with `indices[k]` = pre,
    post; n_pre counts a source once for each delay where connections are late (`lagged`). `arrays["bias"][node]` (n,) is
    the constant current; `arrays["node"][node]` the decays, gains, threshold and reset.
    """
    everything = (*network.projections, *network.readout.projections)
    sizes = {p.name: p.size for p in (*network.inputs, *network.populations, *network.readout.populations)}
    ports = {port.name for port in network.inputs}
    weights, indices, late = [], {}, []
    for k, q in enumerate(everything):
        lags, pre = lagged(q.pre, q.delay, network.dt, sizes[q.source])
        late.append(lags)
        elements = sizes[q.source] * max(1, len(lags)) * sizes[q.target]
        if elements > DENSE_ELEMENTS and len(q.weight) * SPARSE_RATIO <= elements:
            indices[str(k)] = (pre.astype(np.int32), q.post.astype(np.int32))
            weights.append(q.weight.astype(dtype))
        else:
            weights.append(replace(q, pre=pre).dense(elements // sizes[q.target], sizes[q.target]).T.astype(dtype))
    nodes, seen, depth = [], set(), {}
    for name in (*network.order(), *network.readout.names):
        links = []
        for k, q in enumerate(everything):
            if q.target == name:
                when = _when(q, ports, seen, network)
                lags = tuple(lag + (when == "delayed") for lag in late[k])
                links.append(_Link(k, q.source, when, str(k) in indices, lags))
                if lags:
                    depth[q.source] = max(depth.get(q.source, 0), max(lags) + 1)
        seen.add(name)
        p = network[name]
        nodes.append(_Node(name, p.size, p.reset, p.spiking, p.tau_syn is not None, tuple(links)))
    first = network.input_offsets()
    inputs = tuple((port.name, first[port.name], first[port.name] + port.size) for port in network.inputs)
    values = {name: _arrays(network[name], network.dt, dtype) for name in sizes if name not in ports}
    bias = {name: _bias(name, everything, sizes[name]).astype(dtype) for name in values}
    arrays = {"weight": weights, "bias": bias, "node": values}
    past = tuple((source, sizes[source], _checked(steps, source, network.dt)) for source, steps in depth.items())
    return Plan(tuple(nodes), inputs, network.stepping.emission, network.stepping.start, past), arrays, indices


def _checked(depth: int, source: str, dt: float) -> int:
    """`depth`, which must not be more than is kept (ParameterRangeError)."""
    if depth > LONGEST + 2:
        what = f"connections from it are up to {(depth - 1) * dt:.4g} s late, {depth - 1} steps of {1e3 * dt:.3g} ms."
        hint = "Give shorter delays, or a longer dt."
        raise ParameterRangeError(Finding("error", "delay", what, source, None, depth - 1, LONGEST, "", hint))
    return depth


def _when(q: Projection, ports: set[str], seen: set[str], network: Network) -> str:
    if q.source in ports:
        return "input"
    if q.source in seen:
        hosted = q.source in network.readout.names  # a voltage, not an emitted spike
        return "now" if hosted or network.stepping.emission == "same-step" else "delayed"
    return "delayed" if network.stepping.recurrence == "delayed" else "after"


def _bias(name: str, projections: Sequence[Projection], size: int) -> np.ndarray:
    return sum((q.bias for q in projections if q.target == name and q.bias is not None), np.zeros(size))


def _arrays(p: Population, dt: float, dtype: Any) -> dict[str, np.ndarray]:
    gains = p.step_gains(dt)
    values = {"keep": 1 - gains.leak, "drift": gains.leak * p.v_leak, "gain": gains.gain, "reset": p.v_reset}
    values["leak"] = p.v_leak
    if p.spiking:
        values |= {"threshold": p.v_threshold, "swing": p.v_threshold - p.v_reset}
    if gains.syn_leak is not None and gains.syn_gain is not None:
        values |= {"syn_keep": 1 - gains.syn_leak, "syn_gain": gains.syn_gain}
    return {key: np.asarray(value, dtype) for key, value in values.items()}


class _State(NamedTuple):
    current: Any
    v: Any
    spikes: Any


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

    def arriving(link: _Link, source: Any, node: _Node) -> Any:
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


def _euler(node: _Node, a: dict[str, Any], state: _State, total: Any, xp: Any, slope: float) -> _State:
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
    import jax
    import jax.numpy as jnp

    x = jnp.asarray(x)
    state = _initial(plan, arrays, x.shape[0], jnp)
    past = beginning(plan.past, x.shape[0], next(iter(state.values())).v.dtype, jnp)

    def body(carry: tuple[dict[str, _State], Past], x_t: Any):
        state, past, seen = _step(plan, arrays, indices, *carry, x_t, jnp, slope)
        return (state, past), _pick(seen, record)

    return _unpack(plan, jax.lax.scan(body, (state, past), jnp.swapaxes(x, 0, 1))[1], record, jnp)


@cache
def _jitted() -> Any:
    """`run_plan`, compiled by XLA."""
    import jax

    from nir_dynapse.sim import programs as _programs  # noqa: F401 - before any program is compiled

    def run(plan: Plan, arrays: Any, indices: Any, x: Any, record: tuple[str, ...]) -> Ideal:
        return run_plan(plan, arrays, indices, x, record=record)

    return jax.jit(run, static_argnums=(0, 4))


def run_reference(
    network: Network, counts: np.ndarray, *, record: Sequence[str] = ("spikes",), backend: str = "jax"
) -> Ideal:
    """Run `network` on event counts (batch, time, channel), one bin per step; NumPy arrays, spikes as uint8.

    "v" and "i_syn" in `record` give those traces too. Networks of the same structure share one compilation; what is over
    sooner in NumPy runs there.
    """
    for name in record:
        if name not in ("spikes", *TRACES):
            raise ParameterRangeError(
                f"simulate: cannot record {name!r} in an ideal run. Recordable are spikes, v, i_syn."
            )
    if backend not in ("jax", "numpy"):
        raise ParameterRangeError(f"simulate: unknown backend {backend!r}. Choose 'jax' or 'numpy'.")
    traces = tuple(name for name in TRACES if name in record)
    structure, arrays, indices = plan(network)
    if backend == "jax" and (indices or _seconds(network, counts) > COMPILING):
        result = _jitted()(structure, arrays, indices, counts, traces)
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # what grows beyond all numbers is told below
            result = _loop(structure, arrays, indices, counts, traces)
    names = [p.name for p in network.populations]  # JAX sorts dictionaries
    spikes = {name: _counts(name, np.asarray(result.spikes[name])) for name in names}
    everywhere = (*names, *network.readout.names)
    kept = {key: {name: np.asarray(values[name]) for name in everywhere} for key, values in result.traces.items()}
    return Ideal(spikes, kept, {name: np.asarray(result.values[name]) for name in network.readout.names})


def _seconds(network: Network, counts: np.ndarray) -> float:
    """What a run in NumPy takes, about."""
    batch, steps, _ = counts.shape
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


def _loop(plan: Plan, arrays: dict[str, Any], indices: dict[str, Any], x: np.ndarray, traces: tuple[str, ...]) -> Ideal:
    state, rows = _initial(plan, arrays, x.shape[0], np), []
    past = beginning(plan.past, x.shape[0], np.float32, np)
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
    return _unpack(plan, stacked, traces, np)
