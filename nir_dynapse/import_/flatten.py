"""Nested NIR graphs made flat: dotted node names, inner ports turned into wires, missing ports added.

The caller's graph is never changed. Every repair is a finding.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import nir
import numpy as np

from nir_dynapse.errors import Finding
from nir_dynapse.network.primitives import Primitive, nearest, primitive_of

__all__ = ["FlatGraph", "FlatNode", "flatten", "natural"]

Role = Literal["input", "output", "wire", "linear", "population", "host", "refused"]
MAX_DEPTH = 32


def natural(name: str) -> tuple:
    """Sort key in which lif_2 comes before lif_10."""
    parts = re.split(r"(\d+)", name)
    digits = [part.lstrip("0") for part in parts]
    return tuple((len(d), d) if i % 2 else (0, p) for i, (p, d) in enumerate(zip(parts, digits, strict=True))), name


@dataclass
class FlatNode:
    """A node of the flat graph: its NIR node (None for a port that was added), table entry, and what it does here."""

    name: str
    node: Any
    role: Role
    entry: Primitive | None = None


@dataclass
class FlatGraph:
    """Nodes by flat name and edges between them, both without any order that the file or caller gave them."""

    nodes: dict[str, FlatNode] = field(default_factory=dict)
    edges: set[tuple[str, str]] = field(default_factory=set)

    def sort(self) -> None:
        """Index the edges; call it when nodes and edges are complete."""
        self.nodes = {name: self.nodes[name] for name in sorted(self.nodes, key=natural)}
        self._before, self._after = defaultdict(list), defaultdict(list)
        for a, b in sorted(self.edges, key=lambda e: (natural(e[0]), natural(e[1]))):
            self._before[b].append(a)
            self._after[a].append(b)

    def before(self, name: str) -> list[str]:
        """Nodes with an edge into `name`, in natural order."""
        return self._before.get(name, [])

    def after(self, name: str) -> list[str]:
        """Nodes that `name` has an edge to, in natural order."""
        return self._after.get(name, [])

    def of(self, *roles: Role) -> list[str]:
        """Names of the nodes with one of `roles`, in natural order."""
        return [name for name, node in self.nodes.items() if node.role in roles]

    def reach(self, start: Iterable[str], step, through: tuple[Role, ...] | None = None) -> set[str]:
        """Nodes reached from `start` by `step` (before or after), going on only through nodes of the roles given."""
        seen: set[str] = set()
        todo = [n for name in start for n in step(name)]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                if through is None or self.nodes[name].role in through:
                    todo += step(name)
        return seen


def flatten(graph: Any, findings: list[Finding]) -> FlatGraph:
    """`graph` without nesting; problems of its structure are added to `findings`."""
    flat = FlatGraph()
    _Flattener(flat, findings).add(graph, "", 0)
    flat.sort()
    _rewire(flat, findings)
    spurious = _escaping(flat, findings) | _doubled(flat, findings)
    if spurious:
        flat.edges -= spurious
        flat.sort()
    _refuse(flat, findings)
    _add_ports(flat, findings)
    return flat


def _rewire(flat: FlatGraph, findings: list[Finding]) -> None:
    """`x -> w_rec -> lif -> w_rec` means `x -> lif`: several exporters write the former for the latter.

    x is an Input, a linear node, or the Input of the nested graph that w_rec is in: what comes from other neurons may well
    run through shared weights.
    """

    def ends(name: str, step) -> set[str]:
        return {n for n in flat.reach([name], step, ("wire",)) if flat.nodes[n].role != "wire"}

    for name, node in flat.nodes.items():
        targets = (
            ends(name, flat.after) if node.entry is not None and node.entry.name in ("Linear", "Affine") else set()
        )
        if len(targets) != 1:
            continue
        (target,) = targets
        if flat.nodes[target].role != "population" or ends(target, flat.before) != {name}:
            continue
        moved, recurrent = [], False
        for a in flat.before(name):
            behind = {a} if flat.nodes[a].role != "wire" else ends(a, flat.before)
            inner = flat.nodes[a].role == "wire" and a.rpartition(".")[0] == name.rpartition(".")[0]
            if target in behind:
                recurrent = True
            elif inner or all(flat.nodes[n].role in ("input", "linear") for n in behind):
                moved.append(a)
            else:
                recurrent, moved = False, []
                break
        if recurrent and moved:
            owner = name.rpartition(".")[0] or target
            what = (
                f"the input of {owner!r} runs through these recurrent weights, as some exporters wrongly write; it was "
                f"connected to {target!r} directly."
            )
            hint = "Connect input -> neuron in the file to silence this."
            findings.append(Finding("warning", "repair", what, name, hint=hint))
            flat.edges -= {(a, name) for a in moved}
            flat.edges |= {(a, target) for a in moved}
            flat.sort()


def _escaping(flat: FlatGraph, findings: list[Finding]) -> set[tuple[str, str]]:
    """Edges X.w_rec -> y beside X.lif -> y: snnTorch's exporter adds them where a recurrent layer is the first one."""
    found = set()
    for name in flat.nodes:
        owner = name.removesuffix(".w_rec") + ".lif"
        if not name.endswith(".w_rec") or owner not in flat.after(name) or flat.before(name) != [owner]:
            continue
        for target in flat.after(name):
            if target != owner and target in flat.after(owner):
                found.add((name, target))
                what = f"its edge to {target!r} was dropped: {owner!r} feeds that already, these are recurrent weights."
                findings.append(
                    Finding("warning", "repair", what, name, hint="Remove the edge from the file to silence this.")
                )
    return found


def _doubled(flat: FlatGraph, findings: list[Finding]) -> set[tuple[str, str]]:
    """Edges a -> c beside a -> Flatten -> c: exporters trace a Flatten that changes nothing both ways."""
    found = set()
    for name, node in flat.nodes.items():
        if node.entry is None or node.entry.name != "Flatten" or len(flat.before(name)) != 1:
            continue
        (source,) = flat.before(name)
        for target in flat.after(name):
            if target in flat.after(source):
                found.add((source, target))
                what = f"{source!r} also feeds {target!r} past this Flatten, which would count it twice; dropped."
                findings.append(
                    Finding("warning", "repair", what, name, hint="Remove one of the two ways from the file.")
                )
    return found


def _role(node: Any, entry: Primitive | None, nested: bool) -> Role:
    if entry is None or entry.verdict == "refused":
        return "refused"
    if entry.verdict == "port":
        return "wire" if nested else ("output" if entry.name == "Output" else "input")
    roles: dict[str, Role] = {"native": "population", "host": "host"}
    return roles.get(entry.verdict, "linear")


class _Flattener:
    def __init__(self, flat: FlatGraph, findings: list[Finding]) -> None:
        self.flat, self.findings = flat, findings
        self.ports: dict[str, tuple[list[str], list[str]]] = {}

    def find(self, severity, code: str, node: str | None, what: str, hint: str = "") -> None:
        self.findings.append(Finding(severity, code, what, node=node or None, hint=hint))

    def add(self, graph: Any, prefix: str, depth: int) -> None:
        """Put the nodes and edges of `graph` into the flat graph, every name behind `prefix`."""
        if depth > MAX_DEPTH:
            return self.find("error", "nesting", prefix[:-1], f"nested more than {MAX_DEPTH} deep.", "Flatten it.")
        nodes = {str(name): node for name, node in (graph.nodes or {}).items()}
        edges = self.pairs([] if graph.edges is None else graph.edges, prefix)
        if depth:
            edges = self.renamed(nodes, edges, prefix)
        for name, node in nodes.items():
            full = prefix + name
            if isinstance(node, nir.NIRGraph):
                self.ports[full] = ([], [])
                self.add(node, full + ".", depth + 1)
            elif full in self.flat.nodes:
                self.find("error", "name", full, "two nodes have this name once the graph is flat.", "Rename one.")
            else:
                entry = primitive_of(node)
                self.flat.nodes[full] = FlatNode(full, node, _role(node, entry, depth > 0), entry)
        if depth:
            self.ports[prefix[:-1]] = self.own_ports(nodes, edges, prefix)
        self.connect(nodes, edges, prefix)

    def pairs(self, edges: Any, prefix: str) -> list[tuple[str, str]]:
        """The edges as sorted pairs of names, each once."""
        count: Counter[tuple[str, str]] = Counter()
        for edge in edges:
            if isinstance(edge, str) or np.size(edge) != 2:
                self.find(
                    "error", "edge", prefix[:-1], f"the edge {edge!r} is not a pair of node names.", "Correct it."
                )
            else:
                count[str(edge[0]), str(edge[1])] += 1
        for a, b in sorted(edge for edge, n in count.items() if n > 1):
            self.find(
                "warning", "edge", prefix + b, f"the edge from {prefix + a!r} is there twice; it was counted once."
            )
        return sorted(count)

    def renamed(self, nodes, edges, prefix: str) -> list[tuple[str, str]]:
        """Inner edges that all miss the same name, and one inner node without edges: they mean each other."""
        ends = {end for edge in edges for end in edge}
        missing = {end for end in ends - nodes.keys() if end.split(".")[0] not in nodes}
        alone = nodes.keys() - ends
        if len(missing) != 1 or len(alone) != 1:
            return edges
        wrong, right = missing.pop(), alone.pop()
        self.find(
            "warning",
            "repair",
            prefix + right,
            f"the edges of {prefix[:-1]!r} name a missing node {wrong!r} and leave this one out; "
            "they were taken to mean it.",
        )
        return sorted((right if a == wrong else a, right if b == wrong else b) for a, b in edges)

    def own_ports(self, nodes, edges, prefix: str) -> tuple[list[str], list[str]]:
        """Where a nested graph's edges enter and leave: its Input and Output nodes, else its first and last nodes."""
        sides = []
        for cls, end, word in ((nir.Input, 1, "Input"), (nir.Output, 0, "Output")):
            found = sorted((prefix + n for n, node in nodes.items() if isinstance(node, cls)), key=natural)
            if not found and nodes:
                used = {edge[end] for edge in edges if edge[0] != edge[1]}
                ends = [n for n in nodes if n not in used] or (list(nodes) if len(nodes) == 1 else [])
                found = sorted((prefix + n for n in ends), key=natural)
                names = ", ".join(map(repr, found)) or "nothing"
                self.find("info", "repair", prefix[:-1], f"the nested graph has no {word}; {names} stands in for it.")
            sides.append(found)
        return sides[0], sides[1]

    def connect(self, nodes, edges, prefix: str) -> None:
        for a, b in edges:
            start, end = self.end(nodes, a, (a, b), prefix, 1), self.end(nodes, b, (a, b), prefix, 0)
            if start is None or end is None:
                continue
            if self.flat.nodes[start].role == "output" or self.flat.nodes[end].role == "input":
                odd = start if self.flat.nodes[start].role == "output" else end
                other = end if odd == start else start
                self.find(
                    "error",
                    "edge",
                    odd,
                    f"an {'Output feeds' if odd == start else 'Input is fed by'} {other!r}.",
                    "Connect the node behind it directly.",
                )
            else:
                self.flat.edges.add((start, end))

    def end(self, nodes, name: str, edge: tuple[str, str], prefix: str, side: int) -> str | None:
        """Flat name of one end of an edge; side 0 is where a nested graph is entered, 1 where it is left."""
        full = prefix + name
        if full in self.ports:
            ports = self.ports[full][side]
            if len(ports) == 1 and ports[0] not in self.ports:
                return ports[0]
            if len(ports) == 1:
                return self.end(nodes, ports[0][len(prefix) :], edge, prefix, side)
            word = ("inputs", "outputs")[side]
            self.find(
                "error",
                "edge",
                full,
                f"the edge {edge[0]!r} -> {edge[1]!r} does not say which of its {len(ports)} {word} it means.",
                f"Name one: {', '.join(ports[:4])}." if ports else "Give the nested graph Input and Output nodes.",
            )
            return None
        if full in self.flat.nodes:
            return full
        near = _nearest_name(name, nodes)
        self.find(
            "error",
            "edge",
            full,
            f"the edge {edge[0]!r} -> {edge[1]!r} names it, but there is no such node.",
            f"{near}Add the node or remove the edge.",
        )
        return None


def _nearest_name(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, list(names), n=2)
    return f"Did you mean {' or '.join(map(repr, close))}? " if close else ""


def _unused(flat: FlatGraph, name: str) -> str:
    candidate, k = name, 1
    while candidate in flat.nodes:
        candidate, k = f"{name}_{k}", k + 1
    return candidate


def _add_ports(flat: FlatGraph, findings: list[Finding]) -> None:
    """Give a graph without any Input (or Output) one for each node that nothing feeds (or that feeds nothing)."""
    sides: tuple[tuple[Role, Any, str], ...] = (("input", flat.before, "Input"), ("output", flat.after, "Output"))
    for role, step, word in sides:
        if flat.of(role):
            continue
        through: tuple[Role, ...] = ("wire", "linear", "refused")
        ends = []
        for name in flat.nodes:
            around = flat.reach([name], step, through)
            recurrent_only = flat.nodes[name].role == "population" and not any(
                n != name and (flat.nodes[n].role in ("population", "host") or not step(n)) for n in around
            )
            if flat.nodes[name].role not in ("input", "output") and (not step(name) or recurrent_only):
                ends.append(name)
        for name in ends:
            port = _unused(flat, role if len(ends) == 1 else f"{role}_{name}")
            flat.nodes[port] = FlatNode(port, None, role)
            flat.edges.add((port, name) if role == "input" else (name, port))
            findings.append(
                Finding("info", "repair", f"the graph has no {word} for it; {port!r} was added.", node=name)
            )
        flat.sort()


def _refuse(flat: FlatGraph, findings: list[Finding]) -> None:
    """One finding for each node of unknown type, one for each refused type, naming all its nodes."""
    for name, node in flat.nodes.items():
        if node.role == "refused" and node.entry is None:
            kind = type(node.node).__name__
            what, hint = f"unknown type {kind!r}.", nearest(kind)
            if node.node is None:
                what = "the exporter did not know this module, and left the node empty."
                hint = "Remove the module before exporting (a Dropout), or put the NIR node into the graph by hand."
            findings.append(Finding("error", "type", what, node=name, hint=hint))
    by_entry: dict[str, list[FlatNode]] = defaultdict(list)
    for node in flat.nodes.values():
        if node.role == "refused" and node.entry is not None:
            by_entry[node.entry.name].append(node)
    for kind, nodes in by_entry.items():
        entry = nodes[0].entry
        others = ", ".join(repr(n.name) for n in nodes[1:9]) + (" …" if len(nodes) > 9 else "")
        also = f" (likewise {others})" if others else ""
        if entry is not None:
            what = f"{kind} is not supported{also}: {entry.reason}."
            findings.append(Finding("error", "type", what, node=nodes[0].name, hint=entry.alternative))
