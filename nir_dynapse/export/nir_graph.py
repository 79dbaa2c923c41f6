"""`to_nir`: a `Network` → an `nir.NIRGraph` that other tools can run, and that reads back as the same Network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, count
from typing import Any

import nir
import numpy as np

from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.network import Network, Port, Projection
from nir_dynapse.primitives import PRIMITIVES, graph

__all__ = ["to_nir"]


def to_nir(network: Network) -> nir.NIRGraph:
    """`network` as a flat `nir.NIRGraph` in real seconds, with metadata["dt"] in s.

    Nodes have the names of the Network ('/', which nir cannot read back, becomes '_'). A projection becomes a Linear, or
    an Affine where it has a bias, with the dense weight (out, in), named after the last node that was folded into it; a
    direct edge stays an edge. Populations and ports are written flat; several axes are noted in their node's metadata
    "shape", a forced dendrite in "dendrite". Raises `UnsupportedGraphError` for a CubaLIF without tau_syn.
    """
    names = _Names()
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    own: dict[str, str] = {}
    for port in network.inputs:
        own[port.name] = names.take(port.name)
        nodes[own[port.name]] = nir.Input(input_type={"input": np.array([port.size])}, metadata=_note(port))
    for population in network.populations:
        if population.kind == "CubaLIF" and population.tau_syn is None:
            what = "a CubaLIF without tau_syn."
            raise UnsupportedGraphError(Finding("error", "value", what, population.name, hint="Make it a LIF."))
        own[population.name] = names.take(population.name)
        write = PRIMITIVES[population.kind].write
        nodes[own[population.name]] = write(population) if write is not None else None
    outputs = [(names.take(port.name), port) for port in network.outputs]  # before projections: ports keep their names
    folded: dict[str, str] = {}
    for name, group in _groups(network, names):
        if name is None:
            edges.append((own[group[0].source], own[group[0].target]))
            continue
        nodes[name] = _linear(network, group)
        edges += [(own[source], name) for source in dict.fromkeys(q.source for q in group)]
        edges += [(name, own[target]) for target in dict.fromkeys(q.target for q in group)]
        if len(group[0].nodes) > 1:
            folded[name] = ", ".join(group[0].nodes)
    for name, port in outputs:
        source = str(port.source)  # a Network has no output without one
        nodes[name] = nir.Output(output_type={"output": np.array([network[source].size])}, metadata=_note(port))
        edges.append((own[source], name))
    return graph(nodes, edges, _metadata(network, folded))


class _Names:
    """Names for nodes, each once, that nir can write and read back."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def take(self, *candidates: str) -> str:
        """The first candidate that is still free, made readable for nir; the last one with a number if none is."""
        clean = [c.replace("/", "_") if c not in ("", ".") else "node" for c in candidates]
        numbered = (f"{clean[-1]}_{k}" for k in count(1))
        name = next(name for name in chain(clean, numbered) if name not in self.taken)
        self.taken.add(name)
        return name


def _note(port: Port) -> dict[str, Any]:
    return {"shape": np.array(port.shape)} if len(port.shape) > 1 else {}


def _sizes(network: Network) -> dict[str, int]:
    return {p.name: p.size for p in (*network.inputs, *network.populations)}


def _dense(network: Network, q: Projection) -> np.ndarray:
    sizes = _sizes(network)
    return q.dense(sizes[q.source], sizes[q.target])


def _direct(network: Network, q: Projection) -> bool:
    """Whether a projection is a plain edge: no node, no bias, each neuron to its own with weight 1."""
    if q.nodes or q.bias is not None or q.dendrite is not None:
        return False
    n = network[q.target].size
    same = (
        np.array_equal(q.pre, q.post) and np.array_equal(np.sort(q.pre), np.arange(n)) and bool(np.all(q.weight == 1))
    )
    return same and _sizes(network)[q.source] == n


def _groups(network: Network, names: _Names) -> Iterator[tuple[str | None, list[Projection]]]:
    """(node name, projections written as that one node); (None, [projection]) for a direct edge."""
    shared: dict[Any, list[Projection]] = {}
    for k, q in enumerate(network.projections):
        shared.setdefault((q.nodes, q.dendrite) if q.nodes else k, []).append(q)
    groups = [g for group in shared.values() for g in ([group] if _one_node(network, group) else [[q] for q in group])]
    last = Counter(group[0].nodes[-1] for group in groups if group[0].nodes)
    edges: set[tuple[str, str]] = set()
    for group in groups:
        q = group[0]
        if _direct(network, q) and (q.source, q.target) not in edges:
            edges.add((q.source, q.target))
            yield None, group
        elif not q.nodes or last[q.name] == 1:
            yield names.take(q.name, f"{q.source}->{q.target}"), group
        else:
            yield names.take(".".join(q.nodes), f"{q.name}:{q.source}->{q.target}"), group


def _one_node(network: Network, group: list[Projection]) -> bool:
    """Whether projections with the same folded nodes are one linear node with several sources or targets.

    They are if every source goes to every target once with the same matrix, and each target has the same bias once.
    """
    if len(group) == 1:
        return True
    pairs = {(q.source, q.target) for q in group}
    sources, targets = {s for s, _ in pairs}, {t for _, t in pairs}
    if not len(group) == len(pairs) == len(sources) * len(targets):
        return False
    matrix = _dense(network, group[0])
    if any(not np.array_equal(_dense(network, q), matrix) for q in group[1:]):
        return False
    biases = [[q.bias for q in group if q.target == t and q.bias is not None] for t in sorted(targets)]
    same_number = {len(b) for b in biases} in ({0}, {1})
    return same_number and all(np.array_equal(b, biases[0]) for b in biases)


def _linear(network: Network, group: list[Projection]) -> Any:
    """The Linear or Affine node of a group of projections."""
    bias = next((q.bias for q in group if q.bias is not None), None)
    dendrite = group[0].dendrite
    entry = PRIMITIVES["Linear" if bias is None else "Affine"]
    metadata = {} if dendrite is None else {"dendrite": dendrite}
    return entry.write(_dense(network, group[0]), bias, metadata) if entry.write is not None else None


def _metadata(network: Network, folded: dict[str, str]) -> dict[str, Any]:
    """dt, the scalars and texts of the network's own metadata, and which nodes a folded one stands for."""
    kept = {k: v for k, v in network.metadata.items() if isinstance(v, (str, bool, int, float)) and k != "dt"}
    note = {"folded": "; ".join(f"{name} = {nodes}" for name, nodes in folded.items())} if folded else {}
    return {**kept, **note, "dt": float(network.dt)}
