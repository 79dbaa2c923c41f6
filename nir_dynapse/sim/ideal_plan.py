"""What of an ideal run is static, and what is data: see `sim.reference`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nir_dynapse.errors import Finding, ParameterRangeError
from nir_dynapse.network.delays import LONGEST, lagged
from nir_dynapse.network.network import Network, Population, Projection

__all__ = ["Link", "Node", "Plan", "plan"]

DENSE_ELEMENTS = 4 * 2**20
"""Weights with more elements than this are stored sparse where at most one in `SPARSE_RATIO` is not zero."""
SPARSE_RATIO = 50


@dataclass(frozen=True)
class Link:
    """A projection by number: where its spikes come from and when they act."""

    index: int
    source: str
    when: str  # "input", "now", "delayed" or "after" (added at the end of the step)
    sparse: bool
    lags: tuple[int, ...] = ()
    """Where connections are late: how many steps ago what they hear was sent, for each part of the rows of the weight."""


@dataclass(frozen=True)
class Node:
    name: str
    size: int
    reset: str
    spiking: bool
    synapse: bool
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Plan:
    """The structure of an ideal run, hashable."""

    nodes: tuple[Node, ...]
    inputs: tuple[tuple[str, int, int], ...]
    emission: str
    start: str
    past: tuple[tuple[str, int, int], ...] = ()
    """Sources whose past is kept: name, neurons, steps."""


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
                links.append(Link(k, q.source, when, str(k) in indices, lags))
                if lags:
                    depth[q.source] = max(depth.get(q.source, 0), max(lags) + 1)
        seen.add(name)
        p = network[name]
        nodes.append(Node(name, p.size, p.reset, p.spiking, p.tau_syn is not None, tuple(links)))
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
