"""jaxsnn's conventions: milliseconds, weights (in, out), and the equations solved in continuous time, event by event."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from nir_dynapse.export.reader_graph import Drawing
from nir_dynapse.export.reader_neurons import Conventions
from nir_dynapse.network.linear import make_node
from nir_dynapse.network.network import Network, Population

__all__ = ["JAXSNN", "finish"]

MS = 1e3
RATIOS = (1.0, 2.0)
"""tau_mem/tau_syn for which jaxsnn finds the time of the next spike in closed form; it rounds any other to one of them."""
_NEAR = 1e-3  # relative


def _gains(p: Population, dt: float) -> tuple[np.ndarray, np.ndarray | None]:
    """A spike adds its weight to the current, which drives v with r = 1."""
    return np.ones(p.size), None if p.tau_syn is None else p.tau_syn / dt


JAXSNN = Conventions(
    _gains,
    lambda node: False,  # one matrix between two populations, whatever there was
    becomes=lambda p, dt: p.kind,
    one=("v_threshold", "tau_mem", "tau_syn"),
)


def finish(drawing: Drawing, network: Network) -> None:
    notes = drawing.notes
    for p in network.populations:
        if p.kind != "CubaLIF" or p.tau_syn is None:
            notes.error("kind", f"it is a {p.kind}; {notes.reader} reads CubaLIF only.", p.name, "Give it a synapse.")
            continue
        ratio = float(p.tau_mem[0] / p.tau_syn[0])
        if min(abs(ratio / known - 1) for known in RATIOS) > _NEAR:
            what = f"tau_mem is {ratio:.3g} times tau_syn; {notes.reader} solves for 1 and 2 and rounds to them."
            notes.warning("tau_syn", what, p.name, "Train with tau_mem = tau_syn or 2·tau_syn.")
    dt = f"{1e3 * network.dt:g} ms"
    what = f"{notes.reader} solves the equations without a step: spikes come at other times than in steps of {dt}."
    notes.warning("step", what, hint="Compare spike counts; the shorter the step of the network, the closer they are.")
    if drawing.order().late:
        what = f"recurrent spikes act one step late in this network, at once in {notes.reader}."
        notes.warning("recurrence", what)
    _matrices(drawing)
    for name in drawing.of(nir.CubaLIF):
        node = drawing.nodes[name]
        node.tau_mem, node.tau_syn = node.tau_mem * MS, node.tau_syn * MS
    drawing.metadata["dt"] = network.dt * MS
    drawing.arrange(drawing.order().names)


def _matrices(drawing: Drawing) -> None:
    """One Linear (weights transposed) between every two nodes that are connected, none before an Output."""
    notes, ends = drawing.notes, set(drawing.of(nir.Output))
    linear = drawing.of(nir.Linear, nir.Affine)
    edges = [(a, b) for a, b in drawing.edges if a not in linear and b not in linear and b in ends]
    new: dict[str, Any] = {}
    for a, b in drawing.edges:
        if a not in linear and b not in linear and b not in ends:
            size = drawing.size(b)[0] or 0
            _add(drawing, new, edges, (a, b), f"{a}_to_{b}", np.eye(size))
    for name in linear:
        node = drawing.nodes.pop(name)
        if np.any(getattr(node, "bias", 0) != 0):
            notes.error(
                "bias", f"{notes.reader} knows no bias.", name, "Train without, or use an input that is always on."
            )
        into = [a for a, b in drawing.edges if b == name]
        out = [b for a, b in drawing.edges if a == name]
        if ends & set(out):
            notes.error("readout", f"{notes.reader} ends with spikes, not with a matrix.", name, "Read the spikes.")
        pairs = [(a, b) for a in into for b in out]
        for k, pair in enumerate(pairs):
            _add(drawing, new, edges, pair, name if k == 0 else f"{name}_{k}", node.weight)
    drawing.nodes |= new
    drawing.edges = edges


def _add(drawing: Drawing, new: dict[str, Any], edges: list[Any], pair: Any, name: str, weight: np.ndarray) -> None:
    while name in new or name in drawing.nodes:
        name += "_"
    new[name] = make_node("Linear", None, weight=np.ascontiguousarray(weight.T))
    edges += [(pair[0], name), (name, pair[1])]
