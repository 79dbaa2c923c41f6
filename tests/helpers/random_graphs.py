"""A hypothesis strategy for NIR graphs over every primitive, and such a graph made flat by hand."""

from __future__ import annotations

import random
from typing import Any

import nir
import numpy as np
from hypothesis import strategies as st

from nir_dynapse.network.primitives import graph
from nir_graphs import port_in, port_out
from nir_zoo import conv1d, conv2d

SHAPES = [(1,), (3,), (4,), (1, 4), (2, 5), (1, 3, 3), (2, 4, 3), (1, 4, 4)]
NEURONS = ["LIF", "CubaLIF", "IF", "Threshold"]
STATES = (*NEURONS, "LI", "CubaLI", "I", "NIRGraph")
READOUTS = ["LI", "CubaLI", "I", "chain", "sum"]


class Builder:
    """A graph in the making: nodes, edges, and the shape that leaves each place where something can be connected."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**20)))
        self.nodes: dict[str, Any] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.ends: dict[str, tuple[int, ...]] = {}
        self.shared: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self.count = 0

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def add(self, word: str, node: Any) -> str:
        name = f"{word}_{7 + self.count}"  # from one digit to two: the order of names is natural
        self.count += 1
        self.nodes[name] = node
        return name

    def values(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        """One value per neuron; sometimes one for all, as an axis of 1."""
        return self.rng.uniform(low, high, shape if self.rng.random() < 0.8 else (1,) * len(shape))

    def neuron(self, kind: str, shape: tuple[int, ...]) -> Any:
        reset = self.rng.uniform(0.0, 0.3, shape)  # this one always has the full shape
        ranges = {"tau": (2e-3, 0.1), "tau_mem": (2e-3, 0.1), "tau_syn": (2e-3, 0.1), "r": (1.0, 30.0)}
        ranges |= {"v_leak": (-0.2, 0.4), "v_threshold": (0.4, 2.0), "threshold": (0.1, 2.0), "w_in": (1.0, 30.0)}
        keys = {
            "LIF": ["tau", "r", "v_leak", "v_threshold"],
            "CubaLIF": ["tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "w_in"],
            "IF": ["r", "v_threshold"],
            "LI": ["tau", "r", "v_leak"],
            "CubaLI": ["tau_syn", "tau_mem", "r", "v_leak", "w_in"],
        }.get(kind, [])
        if kind in ("Threshold", "I"):
            key = "threshold" if kind == "Threshold" else "r"
            return getattr(nir, kind)(**{key: self.rng.uniform(*ranges[key], shape)})
        values = {key: self.values(shape, *ranges[key]) for key in keys}
        node = object.__new__(getattr(nir, kind))  # nir's own check refuses axes of 1 beside others
        if kind in NEURONS:
            values["v_reset"] = reset
        else:
            values["v_leak"] = np.broadcast_to(values["v_leak"], shape).copy()
        types = {"input_type": {"input": np.array(shape)}, "output_type": {"output": np.array(shape)}}
        node.__dict__.update(values, metadata={}, **types)
        return node

    # --- linear nodes ---

    def linear(self, shape: tuple[int, ...]) -> tuple[str, Any, tuple[int, ...]]:
        """A linear node for what has `shape`: (word, node, shape behind it)."""
        rng, kinds = self.rng, ["scale", "one", "delay"]
        kinds += {1: ["linear", "affine", "linear", "affine"], 2: ["conv", "conv", "flat"]}.get(len(shape), [])
        kinds += ["conv", "conv", "sum", "avg", "avg", "flat"] if len(shape) == 3 else []
        kind = self.pick(*kinds)
        if kind == "scale":
            return kind, nir.Scale(rng.normal(size=shape)), shape
        if kind == "one":
            return kind, nir.Scale(rng.normal(size=(1,) * len(shape))), shape
        if kind == "delay":
            return kind, nir.Delay(np.zeros(shape)), shape
        if kind == "flat":
            start, end = self.pick((0, -1), (0, 1), (1, -1))
            merged = (int(np.prod(shape)),) if (start, end) != (0, 1) else (shape[0] * shape[1], *shape[2:])
            return kind, nir.Flatten({"input": np.array(shape)}, start, end), merged
        if kind in ("linear", "affine"):
            out = self.pick(1, 3, 4)
            weight = rng.normal(size=(out, *shape)) * (rng.random((out, *shape)) < 0.8)
            return kind, nir.Linear(weight) if kind == "linear" else nir.Affine(weight, rng.normal(size=out)), (out,)
        if kind in ("sum", "avg"):
            kernel, stride, padding = self.pick((3, 2, 1), *([(2, 2, 0), (2, 1, 1)] if min(shape[1:]) > 1 else []))
            make = nir.SumPool2d if kind == "sum" else nir.AvgPool2d
            pool = make(*(np.array([v, v]) for v in (kernel, stride, padding)))
            return kind, pool, (shape[0], *((n + 2 * padding - kernel) // stride + 1 for n in shape[1:]))
        return ("conv", *self.conv(shape))

    def conv(self, shape: tuple[int, ...], same: bool = False) -> tuple[Any, tuple[int, ...]]:
        """A convolution; `same` keeps the shape."""
        rng, rank, channels = self.rng, len(shape) - 1, shape[0]
        groups = self.pick(1, channels)
        out = channels if same else groups * self.pick(1, 2)
        kernel = tuple(int(k) for k in rng.integers(1, 4, rank))
        stride, padding, dilation = (
            (1, "same", 1)
            if same
            else self.pick((1, "same", 1), (1, "same", 2), (1, "valid", 1), (2, 1, 1), (1, 2, 2), (3, 0, 1))
        )
        if padding != "same" and any(n + 2 * (padding if padding != "valid" else 0) <= dilation * 2 for n in shape[1:]):
            kernel = (1,) * rank
        size = self.pick(shape[1:] if rank == 2 else shape[1], None)
        weight = rng.normal(size=(out, channels // groups, *kernel))
        make = conv1d if rank == 1 else conv2d
        node = make(weight, size, stride, padding, dilation, groups)
        node.bias = self.pick(None, rng.normal(size=out))
        if padding == "same":
            return node, (out, *shape[1:])
        pad = 0 if padding == "valid" else padding
        behind = ((n + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(shape[1:], kernel, strict=True))
        return node, (out, *behind)

    def chain(self, source: str, shape: tuple[int, ...], most: int = 3) -> tuple[str, tuple[int, ...]]:
        """Up to `most` linear nodes behind `source`: the last one and the shape behind it."""
        for _ in range(self.draw(st.integers(0, most))):
            word, node, behind = self.linear(shape)
            name = self.add(word, node)
            self.shared[name] = (shape, behind)
            self.edges[source, name] = None
            shape = behind
            source = name
        return source, shape

    def link(self, source: str, target: str) -> None:
        """Something that leads from one place to another of any shape."""
        shape, want = self.ends[source], self.ends[target]
        into = [(source, name) for name, (takes, _) in self.shared.items() if takes == shape]
        out_of = [(name, target) for name, (_, gives) in self.shared.items() if gives == want]
        if (into or out_of) and self.pick(True, False, False):
            self.edges[self.pick(*into, *out_of)] = None  # a linear node with several sources or targets
            return
        kind = self.pick("edge", "scale", "conv") if shape == want else "matrix"
        if kind == "matrix" or (kind == "conv" and len(shape) == 1):
            out, size = int(np.prod(want)), int(np.prod(shape))
            if len(shape) > 1:
                flat = self.add("flat", nir.Flatten({"input": np.array(shape)}, 0, -1))
                self.edges[source, flat] = None
                source = flat
            node = nir.Affine(self.rng.normal(size=(out, size)), self.rng.normal(size=out))
        elif kind == "edge":
            self.edges[source, target] = None
            return
        else:
            node = nir.Scale(self.rng.normal(size=shape)) if kind == "scale" else self.conv(shape, same=True)[0]
        name = self.add("w", node)
        self.edges[source, name] = self.edges[name, target] = None

    # --- what they lie between ---

    def population(self, shape: tuple[int, ...]) -> str:
        """A spiking population, perhaps nested with its own recurrence."""
        node = self.neuron(self.pick(*NEURONS), shape)
        for _ in range(self.pick(0, 0, 1, 2)):
            inner = {"input": port_in(*shape), "lif": node, "output": port_out(*shape)}
            edges = [("input", "lif"), ("lif", "output")]
            if not isinstance(node, nir.NIRGraph) and self.draw(st.booleans()):
                n = int(np.prod(shape))
                recurrent = nir.Linear(self.rng.normal(size=(n, n))) if len(shape) == 1 else self.conv(shape, True)[0]
                inner["w_rec"] = recurrent
                edges += [("lif", "w_rec"), ("w_rec", "lif")]
            node = graph(inner, edges)
        name = self.add("lif", node)
        self.ends[name] = shape
        return name

    def output(self, source: str, shape: tuple[int, ...]) -> None:
        """An Output behind spikes or a readout on the host."""
        kind = self.pick("spikes", "view", *READOUTS)
        if kind == "sum":
            others = [n for n, s in self.ends.items() if s == shape and n.startswith("lif") and n != source]
            out = self.add("out", port_out(*shape))
            for name in (source, *others[:1]):
                self.edges[name, out] = None
            return
        if kind == "view":
            view = self.add("view", nir.Flatten({"input": np.array(shape)}, 0, -1))
            self.edges[source, view] = None
            source, shape = view, (int(np.prod(shape)),)
        elif kind != "spikes":
            source, shape = self.chain(source, shape, 2)
            if kind != "chain":
                name = self.add("li", self.neuron(kind, shape))
                self.edges[source, name] = None
                source, shape = self.chain(name, shape, 1)
        out = self.add("out", port_out(*shape))
        self.edges[source, out] = None


@st.composite
def graphs(draw: Any) -> Any:
    """Inputs, populations behind chains of linear nodes, random links between any two of them, outputs."""
    b = Builder(draw)
    for _ in range(b.pick(1, 1, 2)):
        shape = b.pick(*SHAPES)
        b.ends[b.add("in", port_in(*shape))] = shape
    inputs = list(b.ends)
    for k in range(draw(st.integers(1, 3))):
        start = inputs[k] if k < len(inputs) else b.pick(*b.ends)
        last, shape = b.chain(start, b.ends[start])
        b.edges[last, b.population(shape)] = None
    spiking = [name for name in b.ends if name not in inputs]
    for _ in range(draw(st.integers(0, 3))):
        b.link(b.pick(*b.ends), b.pick(*spiking))
    for name in inputs[len(spiking) :]:
        b.link(name, b.pick(*spiking))
    for name in spiking:
        b.output(name, b.ends[name])
    return graph(b.nodes, list(b.edges), {"dt": 1e-3})


def shuffled(g: Any, rng: random.Random) -> Any:
    """The same graph with nodes and edges in another order, nested ones too."""
    nodes, edges = list(g.nodes.items()), list(g.edges)
    rng.shuffle(nodes)
    rng.shuffle(edges)
    return graph({k: shuffled(v, rng) if isinstance(v, nir.NIRGraph) else v for k, v in nodes}, edges, g.metadata)


def _view(g: Any, name: str) -> bool:
    """Whether a node is a Flatten between neurons and an Output, which needs none."""

    def ends(name: str, side: int, kinds: tuple[str, ...]) -> bool:
        around = [g.nodes[edge[1 - side]] for edge in g.edges if edge[side] == name]
        names = [edge[1 - side] for edge in g.edges if edge[side] == name]
        return all(
            type(node).__name__ in kinds or (isinstance(node, nir.Flatten) and ends(other, side, kinds))
            for node, other in zip(around, names, strict=True)
        )

    return isinstance(g.nodes[name], nir.Flatten) and ends(name, 0, ("Output",)) and ends(name, 1, STATES)


def flat(g: Any, prefix: str = "") -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """Nodes and edges without nesting; the ports of nested graphs, and views before outputs, are left out."""
    nodes: dict[str, Any] = {}
    edges = {(prefix + a, prefix + b) for a, b in g.edges}
    through = []
    for name, node in g.nodes.items():
        full = prefix + name
        if isinstance(node, nir.NIRGraph):
            inner, more = flat(node, full + ".")
            nodes |= inner
            edges |= more
            edges = {(f"{full}.output" if a == full else a, f"{full}.input" if b == full else b) for a, b in edges}
            through += [f"{full}.input", f"{full}.output"]
        else:
            nodes[full] = node
            through += [full] if _view(g, name) else []
    for name in through:
        before, after = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
        edges = {edge for edge in edges if name not in edge} | {(a, b) for a in before for b in after}
        del nodes[name]
    return nodes, edges
