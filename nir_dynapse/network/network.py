"""`Network`: a NIR graph flattened and checked, in SI seconds, with the NIR node name that everything came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse

from nir_dynapse.chip.device import DENDRITES
from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.files.numbers import STEP
from nir_dynapse.network.delays import Way
from nir_dynapse.network.population import RESETS, STEPPING, Population, Reset, Stepping, freeze

__all__ = [
    "NO_READOUT",
    "RESETS",
    "Conversion",
    "LinearNode",
    "Network",
    "Population",
    "Port",
    "Projection",
    "Readout",
    "Stepping",
    "check_readout",
    "freeze",
]


@dataclass(frozen=True, eq=False)
class LinearNode:
    """A linear NIR node as it was read: class name, fields (NumPy values) and the shapes on both sides."""

    name: str
    kind: str
    fields: Mapping[str, Any]
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Projection:
    """Weighted connections between two populations (or an input port and a population), sparse.

    `weight[k]` connects neuron `pre[k]` of `source` to neuron `post[k]` of `target`; `bias` (n_target,) is the constant
    current that an Affine node adds. `delay[k]` in s is how late a spike acts (None: none is; pairs may stand several
    times with different delays). `nodes` are the NIR nodes that were folded into it, in order of signal flow; it is
    empty for a direct edge. `dendrite` forces one of AMPA, NMDA, GABA, SHUNT; None lets the sign decide (AMPA or GABA).
    `via` holds those nodes themselves where they are known, so that `to_nir` can write a convolution as one again.
    """

    source: str
    target: str
    pre: np.ndarray
    post: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None = None
    nodes: tuple[str, ...] = ()
    dendrite: str | None = None
    via: tuple[LinearNode, ...] = ()
    delay: np.ndarray | None = None

    def __post_init__(self) -> None:
        kinds = {"pre": np.int64, "post": np.int64, "weight": float, "bias": float, "delay": float}
        for key, dtype in kinds.items():
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, freeze(value, dtype).reshape(-1))
        lengths = {len(self.pre), len(self.post), len(self.weight)}
        if len(lengths) > 1 or not np.all(np.isfinite(self.weight)):
            what = (
                "weights that are not finite"
                if len(lengths) == 1
                else f"pre, post and weight of lengths {sorted(lengths)}"
            )
            raise UnsupportedGraphError(f"projection {self.name!r} has {what}. Give one finite weight per connection.")
        late = self.delay
        if late is not None and not (len(late) == len(self.pre) and np.all(np.isfinite(late) & (late >= 0))):
            what = f"{len(late)} delays from {late.min(initial=0):g} s"
            raise UnsupportedGraphError(f"projection {self.name!r} has {what}. Give one from 0 s per connection.")
        if late is not None and not late.any():
            object.__setattr__(self, "delay", None)
        if self.dendrite is not None and self.dendrite not in DENDRITES:
            raise UnsupportedGraphError(
                f"projection {self.name!r}: unknown dendrite {self.dendrite!r}. Choose one of {', '.join(DENDRITES)}."
            )

    def __repr__(self) -> str:
        folded = f" through {', '.join(self.nodes)}" if self.nodes else ""
        late = "" if self.delay is None else f", {1e3 * self.delay.min():.3g} to {1e3 * self.delay.max():.3g} ms late"
        further = (
            (", with bias" if self.bias is not None else "") + late + (f", {self.dendrite}" if self.dendrite else "")
        )
        return f"Projection({self.source} -> {self.target}{folded}: {len(self.weight)} synapses{further})"

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

    @classmethod
    def from_matrix(cls, source: str, target: str, matrix: Any, **kwargs: Any) -> Projection:
        """From a matrix (n_post, n_pre), NumPy or scipy.sparse; zeros are no connections."""
        if not scipy.sparse.issparse(matrix):
            return cls.from_dense(source, target, matrix, **kwargs)
        entries = matrix.tocsr()
        entries.sum_duplicates()
        entries = entries.tocoo()
        keep = entries.data != 0
        return cls(source, target, entries.col[keep], entries.row[keep], entries.data[keep], **kwargs)

    @classmethod
    def from_way(cls, source: str, target: str, way: Way, size: int, **kwargs: Any) -> Projection:
        """From a chain of linear nodes into `size` neurons, in order of target, delay and source."""
        if way.matrix is None:
            index = np.arange(size)
            return cls(source, target, index, index, np.ones(size), **kwargs)
        made = cls.from_matrix(source, target, way.matrix, **kwargs)
        if way.target is None or way.delay is None:
            return made
        return replace(made, post=way.target[made.post], delay=way.delay[made.post])

    def update(self, h: Any) -> None:
        """Feed everything that decides behaviour into the hash `h`."""
        h.update(f"{self.source}|{self.target}|{self.nodes}|{self.dendrite}".encode())
        for value in (self.pre, self.post, self.weight, self.bias):
            h.update(b"-" if value is None else value.tobytes())
        h.update(b"" if self.delay is None else self.delay.tobytes())


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
class Readout:
    """What the host computes from output spikes: the nodes without threshold (LI, CubaLI, I, Linear) behind the neurons.

    `populations` in order of evaluation; `projections` lead into them from spiking populations or earlier ones.
    """

    populations: tuple[Population, ...] = ()
    projections: tuple[Projection, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.populations)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.populations)

    def sources(self) -> tuple[str, ...]:
        """The spiking populations that it reads."""
        own = set(self.names)
        return tuple(dict.fromkeys(q.source for q in self.projections if q.source not in own))

    def digest(self) -> str:
        """SHA-256 of everything that decides behaviour."""
        h = hashlib.sha256()
        for part in (*self.populations, *self.projections):
            part.update(h)
        return h.hexdigest()


NO_READOUT = Readout()
"""Of a network whose outputs are spikes."""


@dataclass(frozen=True)
class Conversion:
    """What reading did to one NIR node: `changes` holds (field, value in the file, value here) as text.

    `verdict`: "exact" (an ideal run does what the frontend does), "approximate" or "unsupported"; `note` says why.
    """

    node: str
    kind: str
    becomes: str
    verdict: Literal["exact", "approximate", "unsupported"]
    changes: tuple[tuple[str, str, str], ...] = ()
    note: str = ""


@dataclass(frozen=True, eq=False)
class Network:
    """A spiking network, flat and checked.

    `dt` is the step in real seconds at which the source framework defines the network (its NIR semantics are exact
    there). `readout` is what the host computes from the spikes. `origin` describes where it came from (file, hash,
    frontend, options); `findings` are the repairs and approximations of reading, `conversion` what became of each node.
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    dt: float
    origin: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    readout: Readout = NO_READOUT
    stepping: Stepping = STEPPING
    conversion: tuple[Conversion, ...] = ()

    def __post_init__(self) -> None:
        parts = (*self.inputs, *self.populations, *self.readout.populations)
        sizes = {p.name: p.size for p in parts}
        if len(sizes) != len(parts):
            raise UnsupportedGraphError("two nodes of the network have the same name; rename one of them.")
        hint = "Give the step of the source framework in real seconds."
        STEP.check("Network", "dt", self.dt, hint, UnsupportedGraphError)
        for spiking, where, here in (
            (False, "the readout", self.populations),
            (True, "populations", self.readout.populations),
        ):
            if stray := [p for p in here if p.spiking == spiking]:
                raise UnsupportedGraphError(
                    f"node {stray[0].name!r}: a {stray[0].kind} belongs to {where} of a Network."
                )
        targets = {p.name for p in self.populations}
        inputs = {port.name for port in self.inputs}
        for projection in self.projections:
            _check_projection(projection, targets | inputs, targets, sizes)
        check_readout(self.readout, self.outputs, {p.name: p.size for p in self.populations})

    def __repr__(self) -> str:
        nodes = ", ".join(f"{p.name} {p.size} {p.kind}" for p in (*self.populations, *self.readout.populations))
        synapses = sum(len(q.weight) for q in self.projections)
        ends = (", ".join(f"{port.name} {port.size}" for port in ports) for ports in (self.inputs, self.outputs))
        return f"Network({nodes}; {synapses} synapses; {' -> '.join(ends)}; dt {1e3 * self.dt:g} ms)"

    @property
    def n_neurons(self) -> int:
        return sum(p.size for p in self.populations)

    @property
    def n_inputs(self) -> int:
        return sum(p.size for p in self.inputs)

    def __getitem__(self, name: str) -> Population:
        for population in (*self.populations, *self.readout.populations):
            if population.name == name:
                return population
        raise KeyError(name)

    @property
    def read_out(self) -> tuple[str, ...]:
        """The spiking populations whose spikes must leave the chip: for an output, or for the readout on the host."""
        wanted = {*(str(port.source) for port in self.outputs), *self.readout.sources()}
        return tuple(p.name for p in self.populations if p.name in wanted)

    def with_semantics(
        self,
        *,
        reset: Reset | None = None,
        recurrence: Literal["delayed", "same-step"] | None = None,
        emission: Literal["same-step", "next-step"] | None = None,
        start: Literal["reset", "leak"] | None = None,
    ) -> Network:
        """The same network with another reset (of all populations) or `Stepping` in ideal runs."""
        populations = tuple(p if reset is None else replace(p, reset=reset) for p in self.populations)
        old = self.stepping
        stepping = Stepping(recurrence or old.recurrence, emission or old.emission, start or old.start)
        return replace(self, populations=populations, stepping=stepping)

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
        h = hashlib.sha256(repr((self.dt, self.stepping)).encode())
        for part in (*self.populations, *self.projections):
            part.update(h)
        h.update(self.readout.digest().encode())
        for port in (*self.inputs, *self.outputs):
            h.update(f"{port.name}|{port.shape}|{port.source}".encode())
        return h.hexdigest()


def check_readout(readout: Readout, outputs: tuple[Port, ...], spiking: dict[str, int]) -> None:
    """UnsupportedGraphError where the readout or an output reads what is not there; `spiking` are sizes by name."""
    sizes = dict(spiking)
    for p in readout.populations:  # in order of evaluation
        for q in readout.projections:
            if q.target == p.name:
                _check_projection(q, set(sizes), {p.name}, {**sizes, p.name: p.size})
        if p.name in sizes:
            raise UnsupportedGraphError(f"node {p.name!r} is there twice; rename one of them.")
        sizes[p.name] = p.size
    if stray := [q.name for q in readout.projections if q.target not in readout.names]:
        raise UnsupportedGraphError(f"projection {stray[0]!r} of the readout ends in no readout. Correct its target.")
    names = [port.name for port in outputs]
    if len(set(names)) != len(names):
        raise UnsupportedGraphError("two outputs of the network have the same name; rename one of them.")
    for port in outputs:
        if port.source not in sizes:
            raise UnsupportedGraphError(
                f"node {port.name!r}: this output reads {port.source!r}, which is no population and no readout."
            )


def _check_projection(q: Projection, sources: set[str], targets: set[str], sizes: dict[str, int]) -> None:
    """UnsupportedGraphError where a projection has no source or target, or does not fit them."""
    if q.source not in sources or q.target not in targets:
        raise UnsupportedGraphError(
            f"projection {q.name!r} connects {q.source!r} to {q.target!r}, one of which does not exist there. "
            "Declare both as populations (or the source as an input, or as an earlier readout)."
        )
    for index, end in ((q.pre, q.source), (q.post, q.target)):
        if len(index) and (index.min() < 0 or index.max() >= sizes[end]):
            raise UnsupportedGraphError(
                f"projection {q.name!r} names neuron {index.max()} of {end!r}, which has {sizes[end]}."
            )
    if q.bias is not None and len(q.bias) != sizes[q.target]:
        raise UnsupportedGraphError(
            f"projection {q.name!r} has {len(q.bias)} biases for the {sizes[q.target]} neurons of {q.target!r}. "
            "Give one for each."
        )


def _offsets(items) -> dict[str, int]:
    start = np.cumsum([0, *(item.size for item in items)])
    return {item.name: int(first) for item, first in zip(items, start[:-1], strict=True)}
