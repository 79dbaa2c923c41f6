"""A NIR graph as an importer takes it: node types, axes of Flatten, and an order in which it steps the nodes as meant."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np

from nir_dynapse.export.reader_neurons import Notes
from nir_dynapse.export.reader_order import Edge, Order, depth_first, gaps, queued
from nir_dynapse.network.linear import make_node
from nir_dynapse.network.network import Network

__all__ = ["Drawing"]


class Drawing:
    """A NIR graph being changed: `nodes` by name, `edges` in order; `network` is what it was written from."""

    def __init__(self, graph: nir.NIRGraph, network: Network, notes: Notes) -> None:
        self.nodes: dict[str, Any] = dict(graph.nodes)
        self.edges: list[Edge] = [(str(a), str(b)) for a, b in graph.edges]
        self.metadata = dict(graph.metadata or {})
        self.populations = list(network.order())
        self.notes = notes
        for name, node in self.nodes.items():
            if isinstance(node, nir.Scale):
                what = f"it is a sum that other nodes read, or a Scale, which {notes.reader} does not know."
                notes.error("kind", what, name, "Let each node that reads it have its own weights.")

    def of(self, *kinds: type) -> list[str]:
        return [name for name, node in self.nodes.items() if isinstance(node, kinds)]

    def order(self) -> Order:
        order = Order(self.edges, self.of(nir.Input), self.populations, self.of(nir.Output))
        for name in order.mixed:
            what = f"one population takes what it gives in the same step, {self.notes.reader} in the next one."
            self.notes.warning("order", what, name, "Give each source a linear node of its own.")
        return order

    def fresh(self, name: str) -> str:
        """`name`, with '_' behind it until no node has it."""
        while name in self.nodes:
            name += "_"
        return name

    # --- nodes -------------------------------------------------------------------------------------------------------

    def affine(self) -> None:
        """Each Linear as an Affine with a bias of zeros."""
        for name in self.of(nir.Linear):
            node = self.nodes[name]
            bias = np.zeros(len(node.weight))
            self.nodes[name] = make_node("Affine", getattr(node, "metadata", None), weight=node.weight, bias=bias)

    def last_axes(self) -> None:
        """Flatten with its axes counted from the last one, which a batch axis in front of them does not move."""
        for name in self.of(nir.Flatten):
            node = self.nodes[name]
            shape = np.ravel(next(iter(node.input_type.values())))
            start, stop = (int(end) if end < 0 else int(end) - len(shape) for end in (node.start_dim, node.end_dim))
            metadata = getattr(node, "metadata", None)
            axes = {"input_type": {"input": shape}, "start_dim": start, "end_dim": stop}
            self.nodes[name] = make_node("Flatten", metadata, **axes)

    def one_sum(self) -> None:
        """A matrix of ones on the diagonal before an Output with several edges, which importers do not add up."""
        for name in self.of(nir.Output):
            into = [edge for edge in self.edges if edge[1] == name]
            shape = np.ravel(next(iter(self.nodes[name].output_type.values())))
            if len(into) > 1 and len(shape) == 1:
                self.between(into, name, np.eye(int(shape[0])), f"{name}_sum")

    def no_pairs(self) -> None:
        """A matrix of ones on the diagonal in each loop of a neuron and a matrix.

        snnTorch and Spyx take such a pair for a layer of their own; snnTorch's cannot be run.
        """
        there = set(self.edges)
        for name in self.of(nir.LIF, nir.CubaLIF):
            for matrix in self.of(nir.Linear, nir.Affine):
                if {(name, matrix), (matrix, name)} <= there:
                    n = len(self.nodes[matrix].weight)
                    self.between([(matrix, name)], name, np.eye(n), f"{matrix}_back")

    def between(self, edges: list[Edge], target: str, weight: np.ndarray, name: str) -> None:
        """A Linear in place of `edges` to `target`."""
        name = self.fresh(name)
        self.nodes[name] = make_node("Linear", None, weight=weight)
        at = self.edges.index(edges[0])
        rest = [edge for edge in self.edges if edge not in edges]
        self.edges = [*rest[:at], *((a, name) for a, _ in edges), (name, target), *rest[at:]]

    def split(self, name: str, first: Any, second: Any, suffix: str) -> None:
        """Two nodes in place of one: `first`, called name + suffix, feeds `second`."""
        front = self.fresh(name + suffix)
        self.nodes[name], self.nodes[front] = second, first
        self.edges = [(a, front if b == name else b) for a, b in self.edges]
        self.edges.append((front, name))
        if name in self.populations:  # what comes back to it comes to its front
            self.populations.insert(self.populations.index(name), front)

    # --- order -------------------------------------------------------------------------------------------------------

    def queue(self) -> None:
        """Names in whose alphabetical order nirtorch.nir_to_torch steps the graph as it is meant; kept if they do."""
        order = self.order()
        ports = self.of(nir.Input), self.of(nir.Output)
        if queued(sorted(self.nodes), self.edges, *ports) == order.late:
            self.arrange(order.names)
            return
        width = len(str(len(order.names)))
        new = {name: f"n{k:0{width}d}_{name}" for k, name in enumerate(order.names)}
        new |= {name: name for name in self.nodes if name not in new}
        self.nodes = {new[name]: node for name, node in self.nodes.items()}
        self.edges = [(new[a], new[b]) for a, b in self.edges]
        self.populations = [new[name] for name in self.populations]
        what = f"nodes have numbers before their names: {self.notes.reader} begins cycles at the first one by name."
        self.notes.info("names", what)
        old = {numbered: name for name, numbered in new.items()}
        found = queued(sorted(self.nodes), self.edges, self.of(nir.Input), self.of(nir.Output))
        if found is None:
            self.notes.error("order", f"{self.notes.reader} finds no order of its nodes.", hint="Remove a cycle.")
        else:
            self.wrong(sorted({(old[a], old[b]) for a, b in found} ^ order.late))
        self.arrange([new[name] for name in order.names])

    def depth(self) -> None:
        """Edges along which nirtorch.load meets each node behind those that it needs.

        Where no order of the edges does it, matrices of zeros lead from each node to the next one.
        """
        order = self.order()
        place = {name: k for k, name in enumerate(order.names)}
        on = order.leading(self.of(nir.Output))
        self.edges.sort(
            key=lambda edge: (place[edge[0]], edge[1] in on, place[edge[1]])
        )  # its result is the last node's
        (start,) = self.of(nir.Input)
        if wrong := self.out_of_order(start, order):
            links = gaps(order.names, self.edges)
            sizes = {name: self.size(name) for name in self.nodes}
            if any(sizes[a][1] is None or sizes[b][0] is None for a, b in links):
                self.wrong(sorted(wrong))
            else:
                chain = []
                for a, b in links:
                    name = self.fresh(f"{b}_after_{a}")
                    weight = np.zeros((sizes[b][0], sizes[a][1]))  # pyright: ignore
                    self.nodes[name] = make_node("Affine", None, weight=weight, bias=np.zeros(len(weight)))
                    chain += [(a, name), (name, b)]
                after = set(pairwise(order.names))
                first = [edge for edge in self.edges if edge in after]
                self.edges = [*chain, *first, *(edge for edge in self.edges if edge not in after)]
                what = f"matrices of zeros lead from node to node: {self.notes.reader} steps them along its edges."
                self.notes.info("order", what)
                if wrong := self.out_of_order(start, order):
                    self.wrong(sorted(wrong))
        self.arrange(depth_first(start, self.edges))

    def out_of_order(self, start: str, order: Order) -> set[Edge]:
        """The edges that nirtorch.load takes a step late and should not, or the other way round.

        It gives back what the last node gives, which must be the output.
        """
        met = depth_first(start, self.edges)
        place = {name: k for k, name in enumerate(met)}
        if not isinstance(self.nodes[met[-1]], nir.Output):
            return {edge for edge in self.edges if isinstance(self.nodes[edge[1]], nir.Output)}
        found = {(a, b) for a, b in self.edges if a in place and b in place and place[a] >= place[b]}
        return found ^ order.late

    def size(self, name: str) -> tuple[int | None, int | None]:
        """Values that a node takes and gives; None where they have several axes."""
        node = self.nodes[name]
        if isinstance(node, (nir.Linear, nir.Affine)):
            return node.weight.shape[1], node.weight.shape[0]
        if isinstance(node, (nir.Input, nir.Output)):
            types = node.input_type if isinstance(node, nir.Input) else node.output_type
            shape: Any = np.ravel(next(iter(types.values())))
        else:
            values = (getattr(node, key, None) for key in ("v_threshold", "tau", "tau_mem", "r"))
            shape = next((np.shape(v) for v in values if v is not None), (0, 0))
        n = int(shape[0]) if len(shape) == 1 else None
        return n, n

    def wrong(self, edges: list[Edge]) -> None:
        for a, b in edges:
            what = f"{self.notes.reader} steps it before {a!r}, so that what comes from there acts one step late."
            self.notes.warning("order", what, b, "Use a chain of layers, without connections past any of them.")

    def chain(self) -> None:
        """The chain of nodes from input to output that Spyx follows first; what is beside it is left out there."""
        order = self.order()
        late, place = order.late, {name: k for k, name in enumerate(order.names)}
        ahead = [(a, b) for a, b in self.edges if (a, b) not in late]
        longest: dict[str, int] = {}
        way: dict[str, str] = {}
        for name in reversed(order.names):
            ends = [(longest[b], b) for a, b in ahead if a == name and b in longest]
            if isinstance(self.nodes[name], nir.Output):
                longest[name] = 0
            elif ends:
                steps, way[name] = max(ends)
                longest[name] = steps + 1
        (name,) = self.of(nir.Input)
        path = [name]
        while path[-1] in way:
            path.append(way[path[-1]])
        on = set(pairwise(path))
        pairs = self.pairs(path)
        for a, b in self.edges:
            if (a, b) not in on and (a, b) not in pairs and not (a not in path and b in path and (b, a) in pairs):
                what = (
                    f"the edge to {b!r} is beside the one chain that {self.notes.reader} reads; it is left out there."
                )
                self.notes.warning("chain", what, a, "Use a chain of layers, without connections past any of them.")
        self.edges.sort(key=lambda edge: (edge not in on, place[edge[0]], place[edge[1]]))
        self.arrange(order.names)

    def pairs(self, path: list[str]) -> set[Edge]:
        """The edges of loops of one neuron node and one matrix."""
        found: set[Edge] = set()
        for name in path:
            if isinstance(self.nodes[name], (nir.LIF, nir.CubaLIF)):
                for matrix in self.of(nir.Linear, nir.Affine):
                    own = {edge for edge in self.edges if matrix in edge}
                    if own == {(name, matrix), (matrix, name)}:
                        found |= own
        return found

    def arrange(self, names: list[str]) -> None:
        self.nodes = {name: self.nodes[name] for name in (*names, *(n for n in self.nodes if n not in names))}
