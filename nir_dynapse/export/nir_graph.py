"""`to_nir`: a `Network` → an `nir.NIRGraph` that other tools can run, and that reads back as the same Network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, count
from typing import Any

import nir
import numpy as np

from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.export.delay_nodes import late_chain
from nir_dynapse.export.linear_nodes import Kept, split
from nir_dynapse.network.linear import MAX_ELEMENTS, make_node
from nir_dynapse.network.names import file_names, own_names, writable
from nir_dynapse.network.network import Network, Population, Port, Projection
from nir_dynapse.network.neurons import write_neuron
from nir_dynapse.network.population import STEPPING
from nir_dynapse.network.primitives import graph, write_linear

__all__ = ["Extras", "to_nir"]


def to_nir(network: Network, extras: Extras | None = None) -> nir.NIRGraph:
    """`network` as a flat `nir.NIRGraph` in real seconds, with metadata["dt"] in s.

    Nodes have the names of the Network, but for those that nir cannot read back ('/' becomes '_'; `from_nir` says so in a
    finding). Linear nodes that a projection was
    read from are written as they were, as long as they still stand for its weights; any other projection becomes a
    Linear, or an Affine where it has a bias, with the dense weight (out, in), named after the last node that was folded
    into it; a direct edge stays an edge; delays that differ within it take a Delay in front of the matrix or behind it, or
    lines of their own between two. Populations and ports keep their shape beside convolutions and are flat beside
    matrices; what NIR cannot say (several axes, a forced dendrite, another reset, `extras`) is in the metadata, and the
    graph runs without. Raises `UnsupportedGraphError` for a CubaLIF without tau_syn.
    """
    return _Writer(network, extras or Extras()).graph()


@dataclass(frozen=True)
class Extras:
    """Metadata beside what a Network holds: for the graph, and for the nodes of populations and projections by name."""

    graph: Mapping[str, Any] = field(default_factory=dict)
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class _Writer:
    def __init__(self, network: Network, extras: Extras) -> None:
        self.network, self.extras = network, extras
        self.names = _Names(file_names(own_names(network)))
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.links = (*network.projections, *network.readout.projections)
        self.sizes = {p.name: p.size for p in (*network.inputs, *network.populations, *network.readout.populations)}

    def graph(self) -> nir.NIRGraph:
        network = self.network
        for p in (*network.populations, *network.readout.populations):
            if p.kind in ("CubaLIF", "CubaLI") and p.tau_syn is None:
                what = f"a {p.kind} without tau_syn."
                raise UnsupportedGraphError(Finding("error", "value", what, p.name, hint=f"Make it a {p.kind[4:]}."))
        kept, rest = split(self.links)
        whole = self.whole(kept, rest)
        fed = {q.source for q in self.links}
        sums = {p.name for p in network.readout.populations if p.kind == "Linear" and p.name not in fed}
        own: dict[str, str] = {}
        for port in network.inputs:
            own[port.name] = self.names.take(port.name)
            shape, note = _port_shape(port, port.size, port.name in whole)
            self.nodes[own[port.name]] = make_node("Input", note, input_type={"input": np.array(shape)})
        for p in (*network.populations, *network.readout.populations):
            if p.name not in sums:
                own[p.name] = self.names.take(p.name)
                self.nodes[own[p.name]] = self.neuron(p, p.name in whole)
        outputs = {port.name: self.names.take(port.name) for port in network.outputs}  # ports keep their names
        self.ends = {name: [new] for name, new in own.items()}
        self.ends |= {name: [outputs[o.name] for o in network.outputs if o.source == name] for name in sums}
        for group in kept:
            self.keep(group)
        folded = self.dense(rest)
        for port in network.outputs:
            source = str(port.source)  # a Network has no output without one
            shape, note = _port_shape(port, self.sizes[source], port.name in whole)
            self.nodes[outputs[port.name]] = make_node("Output", note, output_type={"output": np.array(shape)})
            if source not in sums:
                self.edges.append((own[source], outputs[port.name]))
        return graph(self.nodes, self.edges, {**_metadata(network, folded), **self.extras.graph})

    def neuron(self, p: Population, whole: bool) -> Any:
        shape = p.shape if whole or len(p.shape) == 1 else (p.size,)
        note = dict(self.extras.nodes.get(p.name, {}))
        if p.kind == "Linear":  # a sum that something else reads
            return make_node("Scale", note, scale=np.ones(shape))
        return write_neuron(p, shape, note)

    def whole(self, kept: list[Kept], rest: list[Projection]) -> set[str]:
        """Ports and populations with several axes whose neighbours have the same axes, directly or along plain edges."""
        shapes = {p.name: tuple(p.shape) for p in (*self.network.inputs, *self.network.populations)}
        shapes |= {p.name: tuple(p.shape) for p in self.network.readout.populations}
        readers: dict[str, list[Port]] = {}
        for port in self.network.outputs:
            readers.setdefault(str(port.source), []).append(port)
        found = set()
        for group in kept:
            for (kind, a), (other, b) in group.edges:
                if kind == "end" and other == "node" and shapes[a] == group.nodes[b].shape_in:
                    found.add(a)
                elif kind == "node" and other == "end" and shapes[b] == group.nodes[a].shape_out:
                    found.add(b)
        plain = [(q.source, q.target) for q in rest if self.direct(q)]
        plain += [(b, a) for a, b in plain]
        todo = list(found)
        while todo:
            name = todo.pop()
            new = {b for a, b in plain if a == name and shapes[b] == shapes[name]} - found
            found |= new
            todo += new
        found = {name for name in found if len(shapes[name]) > 1}
        return found | {port.name for name in found for port in readers.get(name, []) if port.shape == shapes[name]}

    def keep(self, group: Kept) -> None:
        """Write linear nodes as they were read."""
        own = {name: self.names.take(name) for name in group.nodes}
        for name, node in group.nodes.items():
            note = dict(self.extras.nodes.get(name, {}))
            if name in group.dendrites:
                note["dendrite"] = group.dendrites[name]
            self.nodes[own[name]] = write_linear(node, note)

        def ends(end: tuple[str, str]) -> list[str]:
            return [own[end[1]]] if end[0] == "node" else self.ends[end[1]]

        self.edges += [(a, b) for start, stop in group.edges for a in ends(start) for b in ends(stop)]

    def dense(self, rest: list[Projection]) -> dict[str, str]:
        """Write projections as matrices or plain edges; returns which nodes each stands for, where they are several."""
        folded: dict[str, str] = {}
        for q in (q for q in rest if q.delay is not None):
            self.late(q, folded)
        for name, group in self.groups([q for q in rest if q.delay is None]):
            if name is None:
                self.edges += [(a, b) for a in self.ends[group[0].source] for b in self.ends[group[0].target]]
                continue
            self.nodes[name] = self.linear(group)
            self.edges += [(a, name) for q in dict.fromkeys(q.source for q in group) for a in self.ends[q]]
            self.edges += [(name, b) for q in dict.fromkeys(q.target for q in group) for b in self.ends[q]]
            if len(group[0].nodes) > 1:
                folded[name] = ", ".join(group[0].nodes)
        return folded

    def late(self, q: Projection, folded: dict[str, str]) -> None:
        """Write a projection whose connections are late."""
        note = dict(self.extras.nodes.get(q.name, {})) | ({} if q.dendrite is None else {"dendrite": q.dendrite})
        base, before = q.nodes[-1] if q.nodes else f"{q.source}_to_{q.target}", self.ends[q.source]
        for suffix, node in late_chain(q, self.sizes[q.source], self.sizes[q.target], note):
            name = self.names.take(base + suffix)
            self.nodes[name] = node
            self.edges += [(a, name) for a in before]
            before = [name]
        self.edges += [(before[0], b) for b in self.ends[q.target]]
        if len(q.nodes) > 1:
            folded[before[0]] = ", ".join(q.nodes)

    def direct(self, q: Projection) -> bool:
        """Whether a projection is a plain edge: no node, bias or delay, each neuron to its own with weight 1."""
        if q.nodes or q.bias is not None or q.dendrite is not None or q.delay is not None:
            return False
        n = self.sizes[q.target]
        same = np.array_equal(q.pre, q.post) and np.array_equal(np.sort(q.pre), np.arange(n)) and np.all(q.weight == 1)
        return bool(same) and self.sizes[q.source] == n

    def matrix(self, q: Projection) -> np.ndarray:
        if self.sizes[q.source] * self.sizes[q.target] > MAX_ELEMENTS:
            what = f"as a matrix it has {self.sizes[q.target]} × {self.sizes[q.source]} values, too many to write."
            hint = "Write the network as it was read, with its convolutions."
            raise UnsupportedGraphError(Finding("error", "size", what, node=q.name, hint=hint))
        return q.dense(self.sizes[q.source], self.sizes[q.target])

    def linear(self, group: list[Projection]) -> Any:
        """The Linear or Affine node of a group of projections."""
        q = group[0]
        bias = next((q.bias for q in group if q.bias is not None), None)
        note = dict(self.extras.nodes.get(q.name, {}))
        if q.dendrite is not None:
            note["dendrite"] = q.dendrite
        if bias is None:
            return make_node("Linear", note, weight=self.matrix(q))
        return make_node("Affine", note, weight=self.matrix(q), bias=np.array(bias))

    def groups(self, rest: list[Projection]) -> Iterator[tuple[str | None, list[Projection]]]:
        """(node name, projections written as that one node); (None, [projection]) for a direct edge."""
        shared: dict[Any, list[Projection]] = {}
        for k, q in enumerate(rest):
            shared.setdefault((q.nodes, q.dendrite) if q.nodes else k, []).append(q)
        groups = [g for group in shared.values() for g in ([group] if self.one_node(group) else [[q] for q in group])]
        last = Counter(group[0].nodes[-1] for group in groups if group[0].nodes)
        edges: set[tuple[str, str]] = set()
        for group in groups:
            q = group[0]
            if self.direct(q) and (q.source, q.target) not in edges:
                edges.add((q.source, q.target))
                yield None, group
            elif not q.nodes or last[q.name] == 1:
                yield self.names.take(q.name, f"{q.source}->{q.target}"), group
            else:
                yield self.names.take(".".join(q.nodes), f"{q.name}:{q.source}->{q.target}"), group

    def one_node(self, group: list[Projection]) -> bool:
        """Whether projections with the same folded nodes are one linear node with several sources or targets.

        They are if every source goes to every target once with the same matrix, and each target has the same bias once.
        """
        if len(group) == 1:
            return True
        pairs = {(q.source, q.target) for q in group}
        sources, targets = {s for s, _ in pairs}, {t for _, t in pairs}
        if not len(group) == len(pairs) == len(sources) * len(targets):
            return False
        if len({(self.sizes[q.source], self.sizes[q.target]) for q in group}) > 1:
            return False
        matrix = self.matrix(group[0])
        if any(not np.array_equal(self.matrix(q), matrix) for q in group[1:]):
            return False
        biases = [[q.bias for q in group if q.target == t and q.bias is not None] for t in sorted(targets)]
        same_number = {len(b) for b in biases} in ({0}, {1})
        return same_number and all(np.array_equal(b, biases[0]) for b in biases)


class _Names:
    """Names for nodes, each once, that nir can write and read back."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known, self.taken = known, set[str]()

    def take(self, *candidates: str) -> str:
        """The first candidate that is still free, made readable for nir; the last one with a number if none is."""
        clean = [self.known.get(c) or writable(c) for c in candidates]
        numbered = (f"{clean[-1]}_{k}" for k in count(1))
        name = next(name for name in chain(clean, numbered) if name not in self.taken)
        self.taken.add(name)
        return name


def _port_shape(port: Port, size: int, whole: bool) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The shape that a port is written with, and the note about the one that it has."""
    if whole or len(port.shape) <= 1:
        return (tuple(port.shape) if whole else (size,)), {}
    return (size,), {"shape": np.array(port.shape)}


def _metadata(network: Network, folded: dict[str, str]) -> dict[str, Any]:
    """dt, the scalars and texts of the network's own metadata, how it steps, which nodes a folded one stands for."""
    kept = {k: v for k, v in network.metadata.items() if isinstance(v, (str, bool, int, float)) and k != "dt"}
    note = {"folded": "; ".join(f"{name} = {nodes}" for name, nodes in folded.items())} if folded else {}
    steps = {k: v for k, v in asdict(network.stepping).items() if v != getattr(STEPPING, k)}
    return {**kept, **note, **steps, "dt": float(network.dt)}
