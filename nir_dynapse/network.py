"""`Network`: a NIR graph flattened and checked, in SI seconds, with the NIR node name that everything came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nir_dynapse.device import DENDRITES
from nir_dynapse.errors import Finding, UnsupportedGraphError

__all__ = ["Network", "Population", "Port", "Projection", "freeze"]

Kind = Literal["LIF", "CubaLIF"]


def freeze(value, dtype=None) -> np.ndarray:
    """A read-only NumPy array (a copy where the input could be written through)."""
    array = np.array(value, dtype=dtype)
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons of one NIR node.

    LIF:      τ_mem·dv/dt = (v_leak − v) + r·I;   CubaLIF adds  τ_syn·dI/dt = −I + w_in·S.
    A spike is v > v_threshold, after which v := v_reset. Arrays have shape (n,); times in s, voltages and gains without
    unit; `tau_syn` is None for LIF. `shape` is the node's own (possibly multi-dimensional) shape.
    """

    name: str
    kind: Kind
    tau_mem: np.ndarray
    r: np.ndarray
    v_leak: np.ndarray
    v_threshold: np.ndarray
    v_reset: np.ndarray
    tau_syn: np.ndarray | None = None
    w_in: np.ndarray | None = None
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for key in ("tau_mem", "r", "v_leak", "v_threshold", "v_reset", "tau_syn", "w_in"):
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, freeze(value, float).reshape(-1))
        if not self.shape:
            object.__setattr__(self, "shape", (self.size,))

    @property
    def size(self) -> int:
        return len(self.tau_mem)


@dataclass(frozen=True, eq=False)
class Projection:
    """Weighted connections between two populations (or an input port and a population), sparse.

    `weight[k]` connects neuron `pre[k]` of `source` to neuron `post[k]` of `target`; `bias` (n_target,) is the constant
    current that an Affine node adds. `nodes` are the NIR nodes that were folded into it, in order of signal flow; it is
    empty for a direct edge. `dendrite` forces one of AMPA, NMDA, GABA, SHUNT; None lets the sign decide (AMPA or GABA).
    """

    source: str
    target: str
    pre: np.ndarray
    post: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None = None
    nodes: tuple[str, ...] = ()
    dendrite: str | None = None

    def __post_init__(self) -> None:
        for key, dtype in (("pre", np.int64), ("post", np.int64), ("weight", float), ("bias", float)):
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, freeze(value, dtype).reshape(-1))
        if self.dendrite is not None and self.dendrite not in DENDRITES:
            raise UnsupportedGraphError(
                f"projection {self.name!r}: unknown dendrite {self.dendrite!r}. Choose one of {', '.join(DENDRITES)}."
            )

    @property
    def name(self) -> str:
        """NIR node name of the projection (the last folded node), or `source->target` for a direct edge."""
        return self.nodes[-1] if self.nodes else f"{self.source}->{self.target}"

    def dense(self, n_pre: int, n_post: int) -> np.ndarray:
        """Weights as a matrix (n_post, n_pre), NIR's orientation."""
        matrix = np.zeros((n_post, n_pre))
        np.add.at(matrix, (self.post, self.pre), self.weight)
        return matrix

    @classmethod
    def from_dense(cls, source: str, target: str, matrix, **kwargs: Any) -> Projection:
        """From a matrix (n_post, n_pre); zeros are no connections."""
        matrix = np.asarray(matrix, float)
        post, pre = np.nonzero(matrix)
        return cls(source, target, pre, post, matrix[post, pre], **kwargs)


@dataclass(frozen=True)
class Port:
    """Where events enter or leave: a NIR Input or Output node; an output port reads population `source`."""

    name: str
    shape: tuple[int, ...]
    source: str | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) if self.shape else 1


@dataclass(frozen=True, eq=False)
class Network:
    """A spiking network, flat and checked.

    `dt` is the step in real seconds at which the source framework defines the network (its NIR semantics are exact
    there). `origin` describes where it came from (file, hash, frontend, options); `findings` are the repairs and
    approximations of reading.
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    dt: float
    origin: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        sizes = {p.name: p.size for p in (*self.inputs, *self.populations)}
        if len(sizes) != len(self.inputs) + len(self.populations):
            raise UnsupportedGraphError("two nodes of the network have the same name; rename one of them.")
        targets = {p.name for p in self.populations}
        for projection in self.projections:
            if projection.source not in sizes or projection.target not in targets:
                raise UnsupportedGraphError(
                    f"projection {projection.name!r} connects {projection.source!r} to {projection.target!r}, "
                    "one of which does not exist. Declare both as populations (or the source as an input)."
                )
            for index, size, end in (
                (projection.pre, sizes[projection.source], projection.source),
                (projection.post, sizes[projection.target], projection.target),
            ):
                if len(index) and (index.min() < 0 or index.max() >= size):
                    raise UnsupportedGraphError(
                        f"projection {projection.name!r} names neuron {index.max()} of {end!r}, which has {size}."
                    )
        for port in self.outputs:
            if port.source not in targets:
                raise UnsupportedGraphError(
                    f"node {port.name!r}: this output reads {port.source!r}, which is not a spiking population."
                )

    @property
    def n_neurons(self) -> int:
        return sum(p.size for p in self.populations)

    @property
    def n_inputs(self) -> int:
        return sum(p.size for p in self.inputs)

    def __getitem__(self, name: str) -> Population:
        for population in self.populations:
            if population.name == name:
                return population
        raise KeyError(name)

    def offsets(self) -> dict[str, int]:
        """First neuron index of each population in the flat order of all neurons."""
        return _offsets(self.populations)

    def input_offsets(self) -> dict[str, int]:
        """First channel index of each input port in the flat order of all input channels."""
        return _offsets(self.inputs)

    def bias(self, name: str) -> np.ndarray:
        """Summed constant input current of population `name`, shape (n,)."""
        total = np.zeros(self[name].size)
        for projection in self.projections:
            if projection.target == name and projection.bias is not None:
                total += projection.bias
        return total

    def synapses(self) -> Iterator[tuple[Projection, np.ndarray, np.ndarray]]:
        """Projections with flat indices: pre counts input channels first, then neurons; post counts neurons."""
        neurons, channels = self.offsets(), self.input_offsets()
        for p in self.projections:
            first = channels[p.source] if p.source in channels else self.n_inputs + neurons[p.source]
            yield p, p.pre + first, p.post + neurons[p.target]

    def order(self) -> tuple[str, ...]:
        """Populations in order of signal flow; edges against this order are the recurrent ones (one step late).

        Populations whose sources are all placed come first; where a cycle leaves none, the one nearest to an input.
        """
        sources = {p.name: {q.source for q in self.projections if q.target == p.name} for p in self.populations}
        depth = {port.name: 0 for port in self.inputs}
        for _ in self.populations:
            for name, feeding in sources.items():
                known = [depth[s] for s in feeding if s in depth]
                if known and min(known) + 1 < depth.get(name, len(sources) + 1):
                    depth[name] = min(known) + 1
        placed: list[str] = []
        waiting = [p.name for p in self.populations]
        while waiting:
            done = {*placed, *(port.name for port in self.inputs)}
            free = [n for n in waiting if sources[n] - {n} <= done]
            pick = min(free or waiting, key=lambda n: (depth.get(n, len(sources) + 1), waiting.index(n)))
            placed.append(pick)
            waiting.remove(pick)
        return tuple(placed)

    def digest(self) -> str:
        """SHA-256 of everything that decides behaviour: names, parameters, weights, ports and dt."""
        h = hashlib.sha256(repr(self.dt).encode())
        for p in self.populations:
            h.update(f"{p.name}|{p.kind}|{p.shape}".encode())
            for value in (p.tau_mem, p.r, p.v_leak, p.v_threshold, p.v_reset, p.tau_syn, p.w_in):
                h.update(b"-" if value is None else value.tobytes())
        for q in self.projections:
            h.update(f"{q.source}|{q.target}|{q.nodes}|{q.dendrite}".encode())
            for value in (q.pre, q.post, q.weight, q.bias):
                h.update(b"-" if value is None else value.tobytes())
        for port in (*self.inputs, *self.outputs):
            h.update(f"{port.name}|{port.shape}|{port.source}".encode())
        return h.hexdigest()


def _offsets(items) -> dict[str, int]:
    start = np.cumsum([0, *(item.size for item in items)])
    return {item.name: int(first) for item, first in zip(items, start[:-1], strict=True)}
