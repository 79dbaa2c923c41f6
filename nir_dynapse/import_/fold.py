"""Linear nodes between populations folded into projections, and the structural checks this rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nir_dynapse.device import DENDRITES
from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.import_.flatten import FlatGraph
from nir_dynapse.import_.shapes import Shapes
from nir_dynapse.network import Port, Projection
from nir_dynapse.primitives import LinearMap

__all__ = ["check_structure", "output_ports", "projections"]

MAX_ELEMENTS = 64 * 2**20
MAX_PATHS = 4096
MAX_CHAIN = 256


def check_structure(flat: FlatGraph, findings: list[Finding]) -> None:
    """Refuse graphs without neurons or input and cycles without neurons; warn about parts without effect."""

    def find(severity, code: str, name: str | None, what: str, hint: str) -> None:
        findings.append(Finding(severity, code, what, node=name, hint=hint))

    neurons, refused = flat.of("population"), flat.of("refused")
    if not flat.of("population", "linear", "refused", "wire"):
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
    for name in flat.of("population", "linear", "input"):
        role = flat.nodes[name].role
        word = {"population": "population", "linear": "linear node", "input": "input"}[role]
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
        what = f"a cycle of linear nodes only ({listed}): nothing delays the signal in it."
        find("error", "cycle", cycle[0], what, "Put a spiking population into the cycle, or solve it beforehand.")


def output_ports(flat: FlatGraph, shapes: Shapes, findings: list[Finding]) -> list[Port]:
    """One port for each Output node that reads exactly one population, directly or through a Flatten."""
    ports, failed = [], False
    for name in flat.of("output"):
        shape = shapes.before.get(name)
        sources, linear, raw = _read_by(flat, name)
        problem, severity = None, "error"
        if linear:
            problem = f"it reads the linear node {linear[0]!r}: a readout must end in a spiking population for now."
            hint = "Put a LIF or CubaLIF behind it, or end the graph before it and do the readout on the host."
        elif len(sources) > 1:
            problem = f"it reads {len(sources)} populations: {', '.join(map(repr, sources[:8]))}."
            hint = "Give each population an Output of its own."
        elif not sources and not raw:
            problem, severity = "it reads no population; it was left out.", "warning"
            hint = "Connect it to a spiking population, or remove it."
        if problem:
            failed = failed or severity == "error"
            findings.append(Finding(severity, "output", problem, node=name, hint=hint))  # pyright: ignore
        elif sources:
            ports.append(Port(name, shape or (), sources[0]))
        else:
            failed = True  # it reads a refused node, about which enough was said
    if flat.of("output") and not ports and not failed:
        hint = "Connect a spiking population to an Output node."
        findings.append(Finding("error", "output", "no output reads a spiking population.", hint=hint))
    return ports


def _read_by(flat: FlatGraph, output: str) -> tuple[list[str], list[str], list[str]]:
    """Populations, linear nodes and refused nodes that an Output reads through wires and Flattens."""
    found: dict[str, set[str]] = {"population": set(), "linear": set(), "refused": set()}
    todo, seen = list(flat.before(output)), set()
    while todo:
        name = todo.pop()
        node = flat.nodes[name]
        if name in seen:
            continue
        seen.add(name)
        if node.role == "wire" or (node.entry is not None and node.entry.name == "Flatten"):
            todo += flat.before(name)
        elif node.role in found:
            found[node.role].add(name)
    order = {name: i for i, name in enumerate(flat.nodes)}
    populations, linear, refused = (
        sorted(found[k], key=order.__getitem__) for k in ("population", "linear", "refused")
    )
    return populations, linear, refused


@dataclass
class _Path:
    """One way from a source to a target: matrix (target, source), None for the identity."""

    source: str
    matrix: np.ndarray | None
    bias: np.ndarray | None
    nodes: tuple[str, ...]


def projections(flat: FlatGraph, shapes: Shapes) -> list[Projection]:
    """One projection per target, source and path of linear nodes between them; call it on a graph without errors.

    Along a path y = W_n·(…(W_1·x + b_1)…) + b_n; where several sources share a linear node its bias is counted once,
    with the first of them. Raises `UnsupportedGraphError` where the folding would grow beyond all bounds.
    """
    maps: dict[str, LinearMap] = {}
    result = []
    for target in flat.of("population"):
        paths = [p for a in flat.before(target) for p in _walk(flat, shapes, maps, a, None, ())]
        if len(paths) > MAX_PATHS:
            raise _too_big(target, f"{len(paths)} paths of linear nodes lead into it, allowed are {MAX_PATHS}.")
        result += [_projection(flat, shapes, path, target) for path in paths]
    return result


def _too_big(name: str, what: str) -> UnsupportedGraphError:
    hint = "Multiply consecutive linear nodes into one before exporting."
    return UnsupportedGraphError(Finding("error", "size", what, node=name, hint=hint))


def _product(left: np.ndarray | None, right: np.ndarray | None, name: str) -> np.ndarray | None:
    """left @ right, None standing for the identity."""
    if left is None or right is None:
        return right if left is None else left
    if left.shape[0] * right.shape[1] > MAX_ELEMENTS:
        raise _too_big(name, f"folding it gives a matrix of {left.shape[0]} × {right.shape[1]}, too large to hold.")
    product = left @ right
    if not np.all(np.isfinite(product)):
        raise _too_big(name, "folding it with the next linear node overflows the range of numbers.")
    return product


def _walk(flat: FlatGraph, shapes: Shapes, maps, name: str, matrix, nodes: tuple[str, ...]) -> list[_Path]:
    """All paths from a population or input through node `name`, `matrix` being what lies between it and the target."""
    node = flat.nodes[name]
    if node.role in ("population", "input"):
        return [_Path(name, matrix, None, nodes)]
    if len(nodes) > MAX_CHAIN:
        raise _too_big(name, f"it begins a chain of more than {MAX_CHAIN} linear nodes.")
    own = None
    if node.role == "linear" and node.entry is not None and node.entry.fold is not None:
        if name not in maps:
            shape = shapes.before.get(name) or ()
            if node.entry.name == "Scale" and math.prod(shape) ** 2 > MAX_ELEMENTS:
                raise _too_big(name, f"it scales {math.prod(shape)} values one by one, too many to fold.")
            maps[name] = node.entry.fold(node.node, shape)
        own, nodes = maps[name], (name, *nodes)
    before = matrix if own is None else _product(matrix, own.matrix, name)
    paths = []
    for a in flat.before(name):
        paths += _walk(flat, shapes, maps, a, before, nodes)
        if len(paths) > MAX_PATHS:
            raise _too_big(name, f"more than {MAX_PATHS} paths of linear nodes lead through it.")
    if own is not None and own.bias is not None and paths:
        pushed = own.bias if matrix is None else matrix @ own.bias
        total = pushed if paths[0].bias is None else paths[0].bias + pushed
        if not np.all(np.isfinite(total)):
            raise _too_big(name, "folding its bias overflows the range of numbers.")
        paths[0].bias = total
    return paths


def _projection(flat: FlatGraph, shapes: Shapes, path: _Path, target: str) -> Projection:
    size = math.prod(shapes.before[target] or ())
    dendrite = None
    if path.nodes:
        note = getattr(flat.nodes[path.nodes[-1]].node, "metadata", None) or {}
        note = note.get("dendrite") if isinstance(note, dict) else None
        dendrite = note if note in DENDRITES else None
    if path.matrix is None:
        index = np.arange(size)
        return Projection(path.source, target, index, index, np.ones(size), path.bias, path.nodes, dendrite)
    return Projection.from_dense(path.source, target, path.matrix, bias=path.bias, nodes=path.nodes, dendrite=dendrite)
