"""Which NIR nodes projections are written as: the linear nodes that they were read from, or one dense matrix each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from nir_dynapse.network.delays import Way
from nir_dynapse.network.linear import LinearMap
from nir_dynapse.network.network import LinearNode, Projection
from nir_dynapse.network.primitives import fold_node

__all__ = ["Kept", "chain", "split"]

MAX_PATHS = 4096


@dataclass(frozen=True)
class Kept:
    """Linear nodes that still stand for their projections, and the edges between them and their sources and targets."""

    nodes: dict[str, LinearNode]
    edges: tuple[tuple[tuple[str, str], tuple[str, str]], ...]
    """((kind, name), (kind, name)), kind being "node" for a linear node, "end" for a source or target."""
    dendrites: dict[str, str]


def split(projections: Sequence[Projection]) -> tuple[list[Kept], list[Projection]]:
    """Groups of projections whose linear nodes can be written as they were read, and the other projections.

    A group is all projections that share linear nodes. It is kept where folding its nodes again gives exactly its
    weights and biases, and its paths are the projections and no others.
    """
    kept, rest = [], []
    maps: dict[int, LinearMap] = {}
    for group in _groups(projections):
        found = _kept(group, maps)
        if found is None:
            rest += group
        else:
            kept.append(found)
    place = {id(q): i for i, q in enumerate(projections)}
    return kept, sorted(rest, key=lambda q: place[id(q)])


def _groups(projections: Iterable[Projection]) -> list[list[Projection]]:
    """Projections connected by linear nodes of the same name, each without any on its own."""
    groups: list[tuple[set[str], list[Projection]]] = []
    for q in projections:
        names, members = set(q.nodes), [q]
        rest = []
        for other, others in groups:
            if names & other:
                names |= other
                members = others + members
            else:
                rest.append((other, others))
        groups = [*rest, (names, members)]
    return [members for _, members in groups]


def _kept(group: list[Projection], maps: dict[int, LinearMap]) -> Kept | None:
    nodes: dict[str, LinearNode] = {}
    for q in group:
        if not q.nodes or tuple(node.name for node in q.via) != q.nodes:
            return None
        for node in q.via:
            if nodes.setdefault(node.name, node) is not node:
                return None
    for node in nodes.values():
        if id(node) not in maps:
            maps[id(node)] = fold_node(node)
    edges: dict[tuple[tuple[str, str], tuple[str, str]], None] = {}
    for q in group:
        ends = [("end", q.source), *(("node", name) for name in q.nodes), ("end", q.target)]
        edges |= dict.fromkeys(pairwise(ends))
    dendrites = {}
    for q in group:
        if dendrites.setdefault(q.name, q.dendrite) != q.dendrite:
            return None
    if not _same_paths(group, list(edges)) or not all(_same_weights(q, maps) for q in group):
        return None
    if not _same_biases(group, maps):
        return None
    return Kept(nodes, tuple(edges), {name: d for name, d in dendrites.items() if d is not None})


def _same_paths(group: list[Projection], edges: list) -> bool:
    """Whether the edges hold each projection once and no other path."""
    after: dict[Any, list] = defaultdict(list)
    for a, b in edges:
        after[a].append(b)
    want = {(q.source, q.nodes, q.target) for q in group}
    if len(want) != len(group):
        return False
    paths = 0
    for source in {q.source for q in group}:
        todo: list[tuple[Any, tuple[str, ...]]] = [(b, ()) for b in after["end", source] if b[0] == "node"]
        while todo:
            (_, name), nodes = todo.pop()
            nodes = (*nodes, name)
            for kind, end in after["node", name]:
                if kind == "node":
                    todo.append(((kind, end), nodes))
                elif (source, nodes, end) not in want:
                    return False
                else:
                    paths += 1
            if len(todo) > MAX_PATHS:
                return False
    return paths == len(group)


def chain(via: Sequence[LinearNode], maps: dict[int, LinearMap]) -> Way:
    """What a chain of nodes in order of signal flow does; multiplied as when it was read."""
    way = Way()
    for node in reversed(via):
        way = way.behind(maps[id(node)], node.name)
    return way


def _same_weights(q: Projection, maps: dict[int, LinearMap]) -> bool:
    again = Projection.from_way(q.source, q.target, chain(q.via, maps), len(q.weight))
    if (q.delay is None) != (again.delay is None):
        return False
    keys = ("pre", "post", "weight", *(() if q.delay is None else ("delay",)))
    return all(np.array_equal(getattr(q, key), getattr(again, key)) for key in keys)


def _same_biases(group: list[Projection], maps: dict[int, LinearMap]) -> bool:
    """Whether the biases of the nodes, each pushed once along every way to a target, are those of the projections."""
    for target in {q.target for q in group}:
        into = [q for q in group if q.target == target]
        have = [q.bias for q in into if q.bias is not None]
        want, seen = [], set()
        for q in into:
            for k, node in enumerate(q.via):
                bias = maps[id(node)].bias
                if bias is not None and (way := q.nodes[k:]) not in seen:
                    seen.add(way)
                    want.append(chain(q.via[k + 1 :], maps).constant(bias))
        if bool(have) != bool(want):
            return False
        if have:
            scale = max(float(np.abs(b).max(initial=0)) for b in want)
            if not np.allclose(sum(have), sum(want), rtol=1e-9, atol=1e-12 * scale):
                return False
    return True
