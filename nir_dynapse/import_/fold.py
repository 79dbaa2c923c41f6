"""Linear nodes between populations folded into projections, and the structural checks this rests on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nir_dynapse.chip.device import DENDRITES
from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.import_.flatten import FlatGraph
from nir_dynapse.import_.shapes import Shapes
from nir_dynapse.network.delays import ENDLESS, Way, rounded
from nir_dynapse.network.linear import LinearMap, note_of, too_big
from nir_dynapse.network.network import LinearNode, Projection
from nir_dynapse.network.primitives import fold_node, linear_node

__all__ = ["Folder", "check_structure"]

MAX_PATHS = 4096
MAX_CHAIN = 256


def check_structure(flat: FlatGraph, findings: list[Finding]) -> None:
    """Refuse graphs without neurons or input and cycles without neurons; warn about parts without effect."""

    def find(severity, code: str, name: str | None, what: str, hint: str) -> None:
        findings.append(Finding(severity, code, what, node=name, hint=hint))

    neurons, refused = flat.of("population"), flat.of("refused")
    if not flat.of("population", "linear", "host", "refused", "wire"):
        find("error", "empty", None, "the graph is empty: it has no nodes but inputs and outputs.", "Export it again.")
        return
    if not neurons and not refused:
        hint = "The chip computes with spikes only: put a LIF or CubaLIF behind the linear nodes."
        find("error", "no-neurons", None, "the graph has no spiking population.", hint)
        return
    _check_cycles(flat, find)
    fed = flat.reach(flat.of("input"), flat.after)
    used = flat.reach(flat.of("output"), flat.before)
    if neurons and not fed.intersection(neurons) and not refused:
        find("error", "no-input", None, "no input reaches any population.", "Connect an Input node to the network.")
    for name in flat.of("population", "linear", "host", "input"):
        role = flat.nodes[name].role
        word = {"population": "population", "linear": "linear node", "host": "readout", "input": "input"}[role]
        if role != "input" and name not in fed:
            find("warning", "unreached", name, f"no path from an input leads to this {word}.", "Connect or remove it.")
        if name not in used:
            what = f"this {word} feeds nothing: no path leads from it to an output."
            find("warning", "unused", name, what, "Connect or remove it.")
    if neurons and not flat.of("output"):
        find("warning", "no-output", None, "the graph has no output: nothing is read out.", "Add an Output node.")


def _check_cycles(flat: FlatGraph, find) -> None:
    """Refuse cycles made only of linear nodes: they have no time step in them."""
    inner = set(flat.of("linear", "wire"))
    degree = {name: sum(b in inner for b in flat.before(name)) for name in flat.nodes if name in inner}
    ready = [name for name, n in degree.items() if not n]
    while ready:
        for b in flat.after(ready.pop()):
            if b in degree:
                degree[b] -= 1
                if not degree[b]:
                    ready.append(b)
    left = [name for name, n in degree.items() if n]
    cycle = [n for n in left if n in flat.reach([n], flat.after, ("linear", "wire"))]
    if cycle:
        listed = ", ".join(map(repr, cycle[:8]))
        what = f"a cycle of linear nodes only ({listed}): no neuron is in it."
        find("error", "cycle", cycle[0], what, "Put a spiking population into the cycle, or solve it beforehand.")


@dataclass
class _Path:
    """One way from a source to a target."""

    source: str
    way: Way
    bias: np.ndarray | None
    nodes: tuple[str, ...]


class Folder:
    """Folds the linear nodes of a graph without errors; each node is turned into a matrix once."""

    def __init__(self, flat: FlatGraph, shapes: Shapes, seconds: float = 1.0) -> None:
        """`seconds` are the real ones of a time unit of the file."""
        self.flat, self.shapes, self.seconds = flat, shapes, seconds
        self.linear: dict[str, LinearNode] = {}
        sources = flat.of("population", "input", "host")
        self.alive = flat.reach(sources, flat.after) | set(sources)
        """Nodes that a source leads to; the others are dead ends, of which there may be very many ways back."""
        self.maps: dict[str, LinearMap] = {}

    def into(self, node: str, target: str, size: int) -> list[Projection]:
        """The projections into `target` (of `size` values), one per source and path that leads into `node`.

        Along a path y = W_n·(…(W_1·x + b_1)…) + b_n; where several sources share a linear node its bias is counted once,
        with the first of them. Raises `UnsupportedGraphError` where the folding would grow beyond all bounds.
        """
        paths = [p for a in self.flat.before(node) for p in self.walk(a, Way(), ())]
        if sum(bool(p.nodes) for p in paths) > MAX_PATHS:
            raise too_big(node, f"{len(paths)} paths of linear nodes lead into it, allowed are {MAX_PATHS}.")
        return [self.projection(path, target, size) for path in paths]

    def all_into(self, targets: Iterable[str]) -> list[Projection]:
        """The projections into each of the nodes `targets`."""
        sizes = {name: math.prod(self.shapes.before[name] or ()) for name in targets}
        return [q for name, size in sizes.items() for q in self.into(name, name, size)]

    def walk(self, name: str, way: Way, nodes: tuple[str, ...], depth: int = 0) -> list[_Path]:
        """All paths from a population or input through `name`, `way` being what lies between it and the target."""
        node = self.flat.nodes[name]
        if node.role in ("population", "input", "host"):
            return [_Path(name, way, None, nodes)]
        if name not in self.alive:
            return []
        if len(nodes) > MAX_CHAIN or depth > 2 * MAX_CHAIN:
            raise too_big(name, f"it begins a chain of more than {MAX_CHAIN} linear nodes or nested ports.")
        own = None
        if node.role == "linear":
            own, nodes = self.map(name), (name, *nodes)
        before = way if own is None else way.behind(own, name)
        paths = []
        for a in self.flat.before(name):
            paths += self.walk(a, before, nodes, depth + 1)
            if nodes and len(paths) > MAX_PATHS:
                raise too_big(name, f"more than {MAX_PATHS} paths of linear nodes lead through it.")
        if own is not None and own.bias is not None and paths:
            pushed = way.constant(own.bias)
            total = pushed if paths[0].bias is None else paths[0].bias + pushed
            if not np.all(np.isfinite(total)):
                raise too_big(name, "folding its bias overflows the range of numbers.")
            paths[0].bias = total
        return paths

    def map(self, name: str) -> LinearMap:
        """The matrix and bias of a linear node."""
        if name not in self.maps:
            before, after = self.shapes.before.get(name) or (), self.shapes.after.get(name) or ()
            node = linear_node(name, self.flat.nodes[name].node, before, after)
            if "delay" in node.fields:
                node = replace(node, fields={**node.fields, "delay": self._seconds(name, node.fields["delay"])})
            self.linear[name] = node
            self.maps[name] = fold_node(self.linear[name])
        return self.maps[name]

    def _seconds(self, name: str, delay: Any) -> np.ndarray:
        """Delays in s (UnsupportedGraphError for what is none)."""
        late = np.asarray(delay, float) * self.seconds
        longest = float(np.max(late, initial=0.0))
        if longest > ENDLESS:
            what = f"its delay is {longest:.4g} s, taken are values up to {ENDLESS:.0e} s."
            hint = "Check the unit of time (time_unit=, time_scale=)."
            raise UnsupportedGraphError(
                Finding("error", "delay", what, name, None, longest, ENDLESS, "s", hint),
            )
        return rounded(late)

    def projection(self, path: _Path, target: str, size: int) -> Projection:
        dendrite = None
        if path.nodes:
            note = note_of(self.flat.nodes[path.nodes[-1]].node, "dendrite")
            dendrite = note if isinstance(note, str) and note in DENDRITES else None
        via = tuple(self.linear[name] for name in path.nodes)
        rest = {"bias": path.bias, "nodes": path.nodes, "dendrite": dendrite, "via": via}
        return Projection.from_way(path.source, target, path.way, size, **rest)
