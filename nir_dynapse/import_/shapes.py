"""Shapes of all nodes of a flat graph, and whether what an edge delivers fits what its end takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.import_.flatten import FlatGraph, FlatNode
from nir_dynapse.network.broadcast import Shape, broadcasts
from nir_dynapse.network.linear import note_of
from nir_dynapse.network.primitives import as_array, parameter, port_shape

__all__ = ["Shapes", "infer", "noted"]

MAX_SIZE = 2**21
"""Most elements of one node, and neurons in all."""


@dataclass
class Shapes:
    """Input and output shape of every node where known, and the nodes that a finding was already written about."""

    before: dict[str, Shape | None] = field(default_factory=dict)
    after: dict[str, Shape | None] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)


def infer(flat: FlatGraph, broken: set[str], findings: list[Finding]) -> Shapes:
    """Shapes forwards along the edges, backwards where only the next node knows; misfits are added to `findings`.

    `broken` are nodes whose values cannot be used; nothing more is said about them.
    """
    shapes = Shapes(broken=set(broken) | set(flat.of("refused")))
    order = _order(flat)
    _forward(flat, shapes, order, findings)
    while _backward(flat, shapes):
        _forward(flat, shapes, order, findings)
    neurons = 0
    for name, node in flat.nodes.items():
        shape = shapes.after.get(name)
        size = 0 if shape is None else math.prod(shape)
        neurons += size if node.role in ("population", "host") else 0
        if size > MAX_SIZE or (size and neurons > MAX_SIZE):
            many = f"{size:.4g} elements" if size > MAX_SIZE else f"{neurons:.4g} neurons with those before it"
            what = f"its shape {shape} makes {many}, allowed are {MAX_SIZE}."
            findings.append(Finding("error", "size", what, node=name, hint="No chip could hold that."))
            shapes.broken.add(name)
    _broadcasts(flat, shapes, findings)
    _inner_ports(flat, shapes, findings)
    edges = [(a, b) for b in flat.nodes for a in flat.before(b)]
    transposed = {b for a, b in edges if _transposed(flat, shapes, a, b)}
    edges = [edge for edge in edges if edge[0] not in transposed]  # what that delivers is wrong too, and was said
    ports = {name: shapes.after.get(name) for name in (*flat.of("input"), *flat.of("output"))}
    for a, b in edges:
        _check_edge(flat, shapes, a, b, findings)
    changed = {name for name, shape in ports.items() if shapes.after.get(name) != shape}
    for a, b in edges:
        ends = shapes.after.get(a), shapes.before.get(b)
        if (a in changed or b in changed) and None not in ends and math.prod(ends[0] or ()) != math.prod(ends[1] or ()):
            _check_edge(flat, shapes, a, b, findings)
    return shapes


def _order(flat: FlatGraph) -> list[str]:
    """All nodes by distance from the inputs, so that what comes into a node is known when it is asked."""
    front = flat.of("input")
    order = dict.fromkeys(front)
    while front:
        front = [b for b in dict.fromkeys(b for a in front for b in flat.after(a)) if b not in order]
        order |= dict.fromkeys(front)
    return list(order | dict.fromkeys(flat.nodes))


def _forward(flat: FlatGraph, shapes: Shapes, todo: list[str], findings: list[Finding]) -> None:
    """Let every node say its shapes from what comes in, again whenever more is known."""
    todo = todo[::-1]
    while todo:
        name = todo.pop()
        node = flat.nodes[name]
        if name in shapes.broken:
            continue
        source = next((a for a in flat.before(name) if shapes.after.get(a)), None)
        incoming = shapes.before.get(name) if source is None else shapes.after[source]
        try:
            if node.role == "wire" or node.entry is None or node.entry.shape is None:
                before = after = incoming
            else:
                before, after = node.entry.shape(node.node, name, incoming)
                if incoming and after and source is not None and _repeats(node, flat.nodes[source], after, incoming):
                    before = after = incoming
        except UnsupportedGraphError as error:
            findings.extend(error.findings)
            shapes.broken.add(name)
            continue
        news = after is not None and shapes.after.get(name) is None
        shapes.before[name] = shapes.before.get(name) or before
        shapes.after[name] = shapes.after.get(name) or after
        if news:
            todo += [b for b in flat.after(name) if shapes.after.get(b) is None]


def _repeats(node: FlatNode, source: FlatNode, own: Shape, incoming: Shape) -> bool:
    """Whether a node repeats its values along axes of what comes in: in front of an Input's are batch and time.

    Where as many values arrive as it has, its shape stays: (1, n) behind a matrix, too.
    """
    by_value = node.role in ("population", "host") or (node.entry is not None and node.entry.name in ("Scale", "Delay"))
    fewer = 1 < math.prod(own) < math.prod(incoming)
    return by_value and fewer and source.role not in ("input", "wire") and broadcasts(own, incoming)


def _backward(flat: FlatGraph, shapes: Shapes) -> bool:
    """Give one node of unknown shape that of the node it feeds; False if there is none to give."""
    for name, node in flat.nodes.items():
        if name in shapes.broken or shapes.after.get(name) is not None or node.role == "output":
            continue
        following = (shapes.before.get(b) for b in flat.after(name) if b not in shapes.broken)
        shape = next((s for s in following if s is not None), None)
        if shape is not None and _keeps(node, shape):
            shapes.before[name] = shapes.after[name] = shape
            return True
    return False


def _keeps(node: FlatNode, shape: Shape) -> bool:
    """Whether a node delivers `shape` where `shape` comes in, as a window does not."""
    if node.role == "wire" or node.entry is None or node.entry.shape is None:
        return True
    try:
        return node.entry.shape(node.node, node.name, shape) == (shape, shape)
    except UnsupportedGraphError:
        return False


def _broadcasts(flat: FlatGraph, shapes: Shapes, findings: list[Finding]) -> None:
    """Say where one value, or one per channel or row, was taken for all neurons of a population or linear node."""
    for name in flat.of("population", "host", "linear"):
        node, shape = flat.nodes[name], shapes.after.get(name)
        if name in shapes.broken or node.entry is None or shape is None or math.prod(shape) == 1:
            continue
        keys = [key for key in node.entry.fields if node.role != "linear" or key == "scale"]
        scalar = [key for key in keys if as_array(getattr(node.node, key)).size == 1]
        fewer: dict[Shape, list[str]] = {}
        for key in (*keys, *(node.entry.optional if node.role != "linear" else ())):
            value = parameter(node.node, key)
            if value is not None and 1 < value.size < math.prod(shape):
                fewer.setdefault(value.shape, []).append(key)
        for own, names in fewer.items():
            what = f"{', '.join(names)}: shape {own} was broadcast to the {shape} of its layer."
            findings.append(Finding("info", "repair", what, node=name))
        bias = parameter(node.node, "bias") if "bias" in node.entry.optional else None
        scalar += ["bias"] if bias is not None and not bias.ndim else []
        if scalar:
            word = "values" if node.role == "linear" else "neurons"
            what = f"{', '.join(scalar)}: one value for all {math.prod(shape)} {word}."
            findings.append(Finding("info", "repair", what, node=name))


def _inner_ports(flat: FlatGraph, shapes: Shapes, findings: list[Finding]) -> None:
    """Say where the Input or Output of a nested graph is declared with another size than what runs through it."""
    for name in flat.of("wire"):
        shape = shapes.after.get(name)
        try:
            declared = port_shape(flat.nodes[name].node, name)
        except UnsupportedGraphError:
            declared = ()
        if shape is not None and declared is not None and math.prod(declared) != math.prod(shape):
            what = (
                f"its declared shape {declared} does not fit the {math.prod(shape)} values that pass; it was ignored."
            )
            findings.append(Finding("info", "repair", what, name))


def _check_edge(flat: FlatGraph, shapes: Shapes, a: str, b: str, findings: list[Finding]) -> None:
    """Compare what `a` delivers with what `b` takes; leading axes of size 1 are dropped from Input and Output."""
    if a in shapes.broken or b in shapes.broken:
        return
    got, want = shapes.after.get(a), shapes.before.get(b)
    for name, shape in ((a, got), (b, want)):
        if shape is None:
            hint = "Give its Input a shape, or its parameters one value per neuron."
            findings.append(
                Finding("error", "shape", "its size is not known from any node around it.", name, hint=hint)
            )
            shapes.broken.add(name)
    if got is None or want is None or got == want:
        return
    if math.prod(got) != math.prod(want):
        if flat.nodes[a].role == "input" and (rest := _without_batch(got, want)):
            port, whole = a, got
        elif flat.nodes[b].role == "output" and (rest := _without_batch(want, got)):
            port, whole = b, want
        else:
            findings.append(_misfit(flat, a, got, b, want))
            return
        shapes.before[port] = shapes.after[port] = rest
        what = f"its shape {whole} was read as {rest}: what is in front are batch or time axes of a sample."
        findings.append(
            Finding("warning", "repair", what, port, hint="Export with the shape of one step of one sample.")
        )
    elif (
        flat.nodes[a].role == "input"
        and _stripped(got, len(want)) == want
        and _nobody(flat.after(a), got, shapes.before)
    ):
        shapes.before[a] = shapes.after[a] = want
        findings.append(Finding("info", "repair", f"its shape {got} was read as {want}, without batch and time.", a))
    elif (
        flat.nodes[b].role == "output"
        and _stripped(want, len(got)) == got
        and _nobody(flat.before(b), want, shapes.after)
    ):
        shapes.before[b] = shapes.after[b] = got
        findings.append(Finding("info", "repair", f"its shape {want} was read as {got}, without batch and time.", b))
    elif flat.nodes[b].role not in ("wire", "output"):
        findings.append(Finding("info", "repair", f"shape {got} of {a!r} was read as {want}, in the same order.", b))


def _nobody(names: list[str], shape: Shape, shapes: dict[str, Shape | None]) -> bool:
    """Whether none of the nodes at the other ends of a port's edges has all axes of its `shape`."""
    return all(shapes.get(name) != shape for name in names)


def _transposed(flat: FlatGraph, shapes: Shapes, a: str, b: str) -> bool:
    """Whether the weight of `b` fits what `a` delivers only the other way round."""
    got, want, after = shapes.after.get(a), shapes.before.get(b), shapes.after.get(b)
    if a in shapes.broken or b in shapes.broken or got is None or want is None or after is None:
        return False
    return flat.nodes[b].role == "linear" and math.prod(got) != math.prod(want) and math.prod(got) == math.prod(after)


def _without_batch(shape: Shape, other: Shape) -> Shape | None:
    """The last axes of a port's `shape` that hold as many values as the `other` side, None if there are none."""
    rests = (shape[k:] for k in range(1, len(shape)))
    return next((rest for rest in rests if math.prod(rest) == math.prod(other)), None)


def _stripped(shape: Shape, rank: int) -> Shape:
    """`shape` without leading axes of size 1, down to `rank` axes."""
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape


def _misfit(flat: FlatGraph, a: str, got: Shape, b: str, want: Shape) -> Finding:
    n_got, n_want = math.prod(got), math.prod(want)
    entry, node = flat.nodes[b].entry, flat.nodes[b].node
    hint = "Correct the sizes, or the edge between them."
    if entry is not None and parameter(node, "weight") is not None:
        what = f"its weight {as_array(node.weight).shape} takes {n_want} values, {a!r} delivers {n_got}."
        if as_array(node.weight).shape[0] == n_got:
            hint = "The weight looks transposed: NIR stores (out, in)."
    elif flat.nodes[b].role == "population":
        what = f"it has {n_want} neurons, {a!r} delivers {n_got} values"
        what += f": its shape {want} does not broadcast to {got}." if len(got) > 1 else "."
        if len(got) > 1:
            per_channel = (got[0], *[1] * (len(got) - 1))
            hint = f"Give every parameter shape {got}, or {per_channel} for one value per channel, or correct the edge."
    else:
        what = f"it takes shape {want} ({n_want} values), {a!r} delivers {got} ({n_got})."
    return Finding("error", "shape", what, node=b, hint=hint)


def noted(flat: FlatGraph, name: str, shape: Shape | None) -> Shape:
    """`shape`, or the shape of several axes that `to_nir` noted in a flat node's metadata, where it has the same size."""
    shape = shape or ()
    note = note_of(flat.nodes[name].node, "shape")
    if note is None or len(shape) != 1:
        return shape
    try:
        axes = np.ravel(as_array(note))
    except ValueError:  # lists of different length
        return shape
    fits = axes.dtype.kind in "iu" and bool(np.all(axes > 0)) and int(np.prod(axes, dtype=object)) == shape[0]
    return tuple(int(n) for n in axes) if fits else shape
