"""`Params` and its `Topology`: a network as an analog circuit, currents in amperes.

What is wired to what is `Topology`, static under jit; what flows is `Params`: bias currents per bias group and weight
currents per synapse. A bias group is a set of neurons that share all biases (on the chip: the neurons of one core, or of
several cores set alike). A sample of mismatch is again a `Params`, with one group per neuron.

NumPy holds the leaves unless JAX made them. `Params` is a PyTree as soon as JAX is loaded, which takes longer to import
than most networks take to compile (`pytree`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, DELAYS, DENDRITES, DYNAPSE2, LATCHES, MAY_BE_ZERO, Circuit
from nir_dynapse.circuit.pytree import pytree
from nir_dynapse.errors import Finding, ParameterRangeError
from nir_dynapse.network.network import NO_READOUT, Port, Readout, freeze

__all__ = ["Params", "Topology", "latch_bits"]


def latch_bits(**latches: bool) -> int:
    """Latches by name as a bit field: bit i is `LATCHES[i]`."""
    return sum(1 << LATCHES.index(name) for name, on in latches.items() if on)


@dataclass(frozen=True, eq=False)
class Topology:
    """What is wired to what; NumPy, immutable, equal by value and hashable (static under jit).

    Sources are numbered: input channels (all ports in order), then the tonic channel, then the neurons (all populations
    in order). Per synapse (S,): `pre` source, `post` neuron, `dendrite` index into DENDRITES, `row` CAM row, `mask` the 4
    mask bits where weights are quantised, `delay` flags (bit b adds `device.DELAYS[b]`; None where no synapse has any).
    Per neuron (N,): `group`, `latches` (see `latch_bits`), `place` (N, 3) = chip, core, slot. `tonic_period` in s
    is the spacing of the events that the host sends on the tonic channel. `readout` is what the host computes from the
    spikes. `kinds` and `shapes` of the populations and (source, target, NIR node) of the `projections` are names, for
    the way back to a Network. `copies` of each population (empty: one each) is how many neurons here stand for one of the
    NIR node: those of neuron i are i·copies … i·copies + copies − 1; `populations` counts all of them, `shapes` those of
    the node. The host hears their mean.
    """

    inputs: tuple[Port, ...]
    populations: tuple[tuple[str, int], ...]
    outputs: tuple[Port, ...]
    dt: float
    group: np.ndarray
    latches: np.ndarray
    place: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    dendrite: np.ndarray
    row: np.ndarray
    mask: np.ndarray | None = None
    tonic_period: float | None = None
    readout: Readout = NO_READOUT
    kinds: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    projections: tuple[tuple[str, str, str], ...] = ()
    delay: np.ndarray | None = None
    copies: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"Topology({self.described}; {len(self.pre)} synapses; dt {1e3 * self.dt:g} ms)"

    def __post_init__(self) -> None:
        for name in ("group", "latches", "place", "pre", "post", "dendrite", "row", "mask", "delay"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, freeze(value, np.int32))
        ends = (("pre", self.n_sources), ("post", self.n_neurons), ("dendrite", len(DENDRITES)))
        for name, limit in ends:
            value = getattr(self, name)
            if len(value) and (value.min() < 0 or value.max() >= limit):
                raise ParameterRangeError(f"Topology: {name} index {value.max()} is outside 0..{limit - 1}.")
        if self.delay is not None:
            self._check_delay(self.delay)
        if all(count == 1 for count in self.copies):
            object.__setattr__(self, "copies", ())
        elif len(self.copies) != len(self.populations) or any(
            count < 1 or size % count for count, (_, size) in zip(self.copies, self.populations, strict=False)
        ):
            sizes = ", ".join(str(size) for _, size in self.populations)
            raise ParameterRangeError(
                f"Topology: copies are {self.copies} of populations with {sizes} neurons. Give each a number that divides "
                "its neurons."
            )

    def _check_delay(self, flags: np.ndarray) -> None:
        highest = (1 << len(DELAYS)) - 1
        if flags.shape != (self.n_synapses,):
            raise ParameterRangeError(
                f"Topology: delay has shape {flags.shape}, needed is ({self.n_synapses},). Give flags for every synapse."
            )
        if not flags.any():
            object.__setattr__(self, "delay", None)
        elif flags.min() < 0 or flags.max() > highest:
            worst = int(np.argmax((flags < 0) | (flags > highest)))
            raise ParameterRangeError(
                f"Topology: the delay flags of synapse {worst} are {flags[worst]}, allowed are 0 to {highest}. "
                f"Set bit 0 for {DELAYS[0]}, bit 1 for {DELAYS[1]}."
            )

    @property
    def n_channels(self) -> int:
        return sum(port.size for port in self.inputs)

    @property
    def n_neurons(self) -> int:
        return sum(size for _, size in self.populations)

    @property
    def n_sources(self) -> int:
        return self.n_channels + 1 + self.n_neurons

    @property
    def n_synapses(self) -> int:
        return len(self.pre)

    @property
    def tonic(self) -> int:
        """Source index of the tonic channel."""
        return self.n_channels

    @property
    def n_groups(self) -> int:
        return int(self.group.max()) + 1 if len(self.group) else 0

    @cached_property
    def one_group_each(self) -> bool:
        """Whether every neuron is a bias group of its own, in order, as on a chip with mismatch."""
        return np.array_equal(self.group, np.arange(self.n_neurons))

    @property
    def described(self) -> str:
        """Populations and their neurons in words, with copies as "n × copies"."""
        copies = self.copies_of
        return ", ".join(
            f"{name} {n}" + (f" × {copies[name]}" if copies[name] > 1 else "") for name, n in self.node_sizes.items()
        )

    @property
    def copies_of(self) -> dict[str, int]:
        """Population name → how many neurons here stand for one of the NIR node."""
        return dict(
            zip((name for name, _ in self.populations), self.copies or (1,) * len(self.populations), strict=True)
        )

    @property
    def node_sizes(self) -> dict[str, int]:
        """Population name → neurons of the NIR node (without copies)."""
        return {name: size // self.copies_of[name] for name, size in self.populations}

    def slices(self) -> dict[str, slice]:
        """Population name → slice of the flat neuron order."""
        ends = np.cumsum([0, *(size for _, size in self.populations)])
        return {name: slice(int(a), int(a) + size) for (name, size), a in zip(self.populations, ends, strict=False)}

    def name_of(self, neuron: int) -> tuple[str, int]:
        """NIR node of a neuron, and its index there; that of all its copies."""
        name, inside = next((name, neuron - part.start) for name, part in self.slices().items() if neuron < part.stop)
        return name, inside // self.copies_of[name]

    def where(self, neuron: int) -> dict[str, Any]:
        """Where a neuron is, as a Finding says it: node, index and, where there are several, copy."""
        node, index = self.name_of(neuron)
        copies = self.copies_of[node]
        copy = None if copies == 1 else (neuron - self.slices()[node].start) % copies
        return {"node": node, "index": index, "copy": copy}

    def has_latch(self, name: str) -> np.ndarray:
        """Boolean (N,): which neurons have latch `name` set."""
        return (self.latches >> LATCHES.index(name)) & 1 == 1

    def has_delay(self, name: str) -> np.ndarray:
        """Boolean (S,): which synapses have the flag of delay `name` (one of `device.DELAYS`) set."""
        flags = np.zeros(self.n_synapses, np.int32) if self.delay is None else self.delay
        return (flags >> DELAYS.index(name)) & 1 == 1

    @cached_property
    def _key(self) -> str:
        names = (self.inputs, self.populations, self.outputs, self.kinds, self.shapes, self.projections)
        more = (self.copies,) if self.copies else ()
        h = hashlib.sha256(repr((names, self.dt, self.tonic_period, self.readout.digest(), *more)).encode())
        per_neuron, per_synapse = (self.group, self.latches, self.place), (self.pre, self.post, self.dendrite, self.row)
        for value in (*per_neuron, *per_synapse, self.mask, self.delay):
            h.update(b"-" if value is None else value.tobytes())
        return h.hexdigest()

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self._key == other._key


@pytree
@dataclass(frozen=True)
class Params:
    """Currents of a network in amperes.

    `bias[name]` (G,) for every name in `device.CURRENTS`; then either `weight` (S,), the weight current of each
    synapse, or, where weights are quantised, `base` (G, 4), the base currents that the masks select from:
    I_w = Σ_b bit_b·base_b. `delay_factor` (S,) multiplies the delay of each row (None: 1). `topology`, `circuit` and
    `findings` are static.
    """

    bias: dict[str, Any]
    weight: Any
    base: Any
    topology: Topology = field(metadata={"static": True})
    circuit: Circuit = field(default=DYNAPSE2.circuit, metadata={"static": True})
    findings: tuple[Finding, ...] = field(default=(), metadata={"static": True})
    delay_factor: Any = None

    def __repr__(self) -> str:
        t = self.topology
        weights = "a weight current each" if t.mask is None else "masks of 4 bits"
        groups = len(np.unique(t.group))
        return (
            f"Params({t.described}; {groups} bias groups; {t.n_synapses} synapses with {weights}; dt {1e3 * t.dt:g} ms)"
        )

    def row_currents(self, xp: Any = np) -> Any:
        """Weight current I_w of each synapse, shape (S,), in A."""
        if self.topology.mask is None:
            return xp.asarray(self.weight)
        bits = (self.topology.mask[:, None] >> np.arange(4)) & 1
        return (xp.asarray(self.base)[self.topology.group[self.topology.post]] * bits).sum(-1)

    def row_delays(self, xp: Any = np) -> Any:
        """Delay of each synapse in s, shape (S,): the sum of V_th·C/I over its flags, times `delay_factor`; else 0."""
        t = self.topology
        delay = xp.zeros(t.n_synapses)
        for name in DELAYS:
            if (flagged := t.has_delay(name)).any():
                width = self.circuit.width(name, self.per_neuron(name, xp)[t.post])
                delay = delay + xp.where(flagged, width, 0.0)
        return delay if self.delay_factor is None else delay * xp.asarray(self.delay_factor)

    def per_neuron(self, name: str, xp: Any = np) -> Any:
        """Bias current `name` of each neuron, shape (N,), in A."""
        value = xp.asarray(self.bias[name])
        return value if self.topology.one_group_each else value[self.topology.group]

    def numpy(self) -> Params:
        """The same with NumPy float64 arrays (for Lava, files and the compiler)."""

        def plain(leaf: Any) -> Any:
            return None if leaf is None else np.asarray(leaf, np.float64)

        bias = {name: plain(value) for name, value in self.bias.items()}
        leaves = {name: plain(getattr(self, name)) for name in ("weight", "base", "delay_factor")}
        return replace(self, bias=bias, **leaves)

    def check(self) -> Params:
        """Itself, after checking that every current is finite and positive where it must be (ParameterRangeError)."""
        findings = [] if self.topology.mask is None else self._wrong_bits(self.topology.mask)
        for name in CURRENTS:
            value = np.asarray(self.bias[name])
            lowest = 0.0 if name in MAY_BE_ZERO else np.nextafter(0.0, 1.0)
            bad = ~np.isfinite(value) | (value < lowest)
            if bad.any():
                worst = int(np.argmax(bad))
                findings.append(
                    Finding(
                        "error",
                        "bias-range",
                        f"bias current {name} of bias group {worst} is {value[worst]} A; it must be finite and "
                        f"{'not negative' if lowest == 0.0 else 'positive'}.",
                        used=float(value[worst]),
                        unit="A",
                        hint="Check the parameters of the network that it was computed from.",
                    )
                )
        if findings:
            raise ParameterRangeError(findings)
        return self

    def _wrong_bits(self, mask: np.ndarray) -> list[Finding]:
        """An error for masks of more than 4 bits, and one for base currents that are missing, negative or not finite."""
        findings = []
        most = (1 << len(BASE_WEIGHTS)) - 1
        shape = (len(np.asarray(self.bias[CURRENTS[0]])), len(BASE_WEIGHTS))
        if mask.shape != (self.topology.n_synapses,) or ((mask < 0) | (mask > most)).any():
            what = (
                f"masks of shape {mask.shape} are {mask.min(initial=0)} to {mask.max(initial=0)}; needed is one from 0 to "
                f"{most} for each of the {self.topology.n_synapses} synapses."
            )
            findings.append(Finding("error", "masks", what, hint="Give the mask bits of the CAM rows."))
        base = np.zeros((0, 0)) if self.base is None else np.asarray(self.base, float)
        if base.shape != shape or not (np.isfinite(base) & (base >= 0)).all():
            got = f"of shape {base.shape} from {base.min():g} to {base.max():g} A" if base.size else "missing"
            what = (
                f"base currents are {got}; where synapses have masks, needed are finite ones from 0 A of shape {shape}."
            )
            findings.append(Finding("error", "base-range", what, hint="Give four for each bias group."))
        return findings
