"""A `Network` in the conventions of a reader of NIR files, with the same spikes in an ideal run.

What a reader cannot hold is moved to where it can, exactly and in this order (λ = dt/τ, g = r·dt/τ):

    v_reset      v ← v − v_reset: threshold and v_leak move along, the reset becomes 0
    v_leak       b ← b + λ·v_leak/g where v starts at its reset; behind a synapse the same in the steady state
    v_threshold  v ← v/v_threshold where a layer must have one threshold
    kinds        Threshold = LIF with τ = dt; IF = LIF with τ = 2^60·dt; LIF = CubaLIF with τ_syn = dt and w_in = 1
    gains        W ← W·g/g', b ← b·g/g' where the reader's gain is g'
    biases       those of several projections become one, of a projection that acts in the same step

The rest is a finding: a warning where the reader then runs something else, an error where it cannot run the file at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nir_dynapse.errors import Finding
from nir_dynapse.export.linear_nodes import split
from nir_dynapse.export.reader_links import Links
from nir_dynapse.network.network import LinearNode, Network, Population, Projection
from nir_dynapse.network.population import RESETS, STEPPING, Reset, Stepping

__all__ = ["Conventions", "Notes", "per_step", "plain", "prepared", "unit_r"]

Gains = Callable[[Population, float], tuple[np.ndarray, "np.ndarray | None"]]
FOREVER = 2.0**60
"""A time constant in steps that never forgets: 1 − 2^−60 is 1 in double precision."""
_SAME = 1e-6  # relative: what float32 exporters leave of one value


class Notes:
    """The findings of writing for `reader`."""

    def __init__(self, reader: str) -> None:
        self.reader = reader
        self.findings: list[Finding] = []

    def info(self, code: str, what: str, node: str | None = None) -> None:
        self.findings.append(Finding("info", code, what, node))

    def warning(self, code: str, what: str, node: str | None = None, hint: str = "") -> None:
        self.findings.append(Finding("warning", code, what, node, hint=hint))

    def error(self, code: str, what: str, node: str | None = None, hint: str = "") -> None:
        self.findings.append(Finding("error", code, what, node, hint=hint))


def per_step(p: Population, dt: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Gains of exactly 1 per step: r = τ_mem/dt, w_in = τ_syn/dt, and 1/dt for integrators."""
    if p.kind in ("IF", "I"):
        return np.full(p.size, 1 / dt), None
    return p.tau_mem / dt, None if p.tau_syn is None else p.tau_syn / dt


def unit_r(p: Population, dt: float) -> tuple[np.ndarray, np.ndarray | None]:
    """r = 1 for a LIF, gains of 1 per step for integrators, and those of a CubaLIF as they are."""
    if p.kind in ("LIF", "LI"):
        return np.ones(p.size), None
    return (p.r, p.w_in) if p.tau_syn is not None else per_step(p, dt)


@dataclass(frozen=True)
class Conventions:
    """What a reader's importer takes.

    `gains(p, dt)` are the r and w_in of a population in its files, `becomes(p, dt)` the kind that it is written as,
    `linear(node)` says whether it reads a linear node as NIR means it; `readouts` are the kinds without a threshold that it
    knows, `one` the values that all neurons of a layer must share. `own_leak(p)`: v_leak is read, and v starts there.
    `reset(p)` is how the imported neuron resets, `reset_hint` how to set another one there, where that can be done, and
    `stepping` when its spikes act.
    """

    gains: Gains
    linear: Callable[[LinearNode], bool]
    becomes: Callable[[Population, float], str]
    readouts: frozenset[str] = frozenset()
    one: tuple[str, ...] = ()
    own_leak: Callable[[Population], bool] = lambda p: False
    reset: Callable[[Population], Reset] = lambda p: "value"
    reset_hint: str = ""
    stepping: Stepping = STEPPING


def prepared(network: Network, rules: Conventions, notes: Notes) -> Network:
    """`network` as the conventions want it; what they cannot hold goes to `notes`."""
    return _Preparation(network, rules, notes).network()


class _Preparation:
    def __init__(self, network: Network, rules: Conventions, notes: Notes) -> None:
        self.source, self.rules, self.notes = network, rules, notes
        self.links, self.dt = Links(), network.dt
        self.scales: dict[str, np.ndarray] = {}
        self.more: dict[str, np.ndarray] = {}
        self.rank = {name: k for k, name in enumerate(network.order())}

    def network(self) -> Network:
        source = self.source
        populations = tuple(self.neuron(p) for p in source.populations)
        readouts = tuple(self.readout(p) for p in source.readout.populations)
        links = [
            self.links.scaled(self.prompt(q), self.scales[q.target])
            for q in (*source.projections, *source.readout.projections)
        ]
        for name in self.scales:
            links = self.one_bias(name, links)
        links = self.flattened(links)
        self.steps(links)
        hosts = set(source.readout.names)
        rest = tuple(q for q in links if q.target in hosts)
        return replace(
            source,
            populations=populations,
            projections=tuple(q for q in links if q.target not in hosts),
            readout=replace(source.readout, populations=readouts, projections=rest),
        )

    # --- neurons -----------------------------------------------------------------------------------------------------

    def neuron(self, p: Population) -> Population:
        self.scales[p.name] = np.ones(p.size)
        how = self.rules.reset(p)
        if p.reset != how:
            what = f"it resets as {p.reset!r} ({RESETS[p.reset]}), {self.notes.reader} as {how!r} ({RESETS[how]})."
            self.notes.warning("reset", what, p.name, self.rules.reset_hint)
        p = self.without_reset(p)
        p = self.without_leak(p)
        p = self.one_threshold(p)
        p = self.converted(p)
        p = self.shared(p)
        return self.geared(p)

    def readout(self, p: Population) -> Population:
        self.scales[p.name] = np.ones(p.size)
        if p.kind == "Linear":
            return p
        if np.any(p.v_reset != 0):
            what = f"its v starts at {p.v_reset[np.argmax(p.v_reset != 0)]:g}, in {self.notes.reader} at 0."
            self.notes.warning("start", what, p.name)
        return self.geared(self.converted(self.without_leak(replace(p, v_reset=np.zeros(p.size)))))

    def without_reset(self, p: Population) -> Population:
        """v − v_reset in place of v."""
        if np.all(p.v_reset == 0):
            return p
        self.notes.info("v_reset", "v_reset becomes 0; v_threshold and a v_leak move along.", p.name)
        o = p.v_reset
        leak = p.v_leak - o if p.leaky else p.v_leak
        return replace(p, v_reset=0 * o, v_leak=leak, v_threshold=p.v_threshold - o)

    def without_leak(self, p: Population) -> Population:
        """v_leak as a constant current."""
        late = self.source.stepping.start == "leak"
        if not p.leaky or np.all(p.v_leak == 0) or (late and self.rules.own_leak(p)):
            return p
        g = p.step_gains(self.dt)
        through = g.gain if g.syn_gain is None or g.syn_leak is None else g.gain * g.syn_gain / g.syn_leak
        current = g.leak * p.v_leak / np.where(through == 0, 1, through)
        if np.any((through == 0) & (p.v_leak != 0)):
            self.notes.error("v_leak", "its gain of 0 leaves no current that could stand for v_leak.", p.name)
        self.more[p.name] = current
        if g.syn_leak is not None and np.any((g.syn_leak != 1) & (p.v_leak != 0)):
            what = (
                f"v_leak is a constant current in {self.notes.reader}'s file, which its synapse lets rise with tau_syn: "
                "the first few tau_syn of a run differ."
            )
            self.notes.warning("v_leak", what, p.name, "Give v_leak and v_reset the same value.")
        else:
            self.notes.info("v_leak", "v_leak becomes a bias of its input.", p.name)
        if late:
            what = f"v starts at v_leak in this network, in {self.notes.reader} at the reset."
            self.notes.warning("start", what, p.name, "Give v_leak and v_reset the same value.")
        return replace(p, v_leak=0 * p.v_leak)

    def one_threshold(self, p: Population) -> Population:
        """v/v_threshold in place of v, where all neurons of a layer must have one threshold."""
        if "v_threshold" not in self.rules.one or np.all(p.v_threshold == p.v_threshold[0]):
            return p
        if np.any(p.v_threshold <= 0):
            what = f"{self.notes.reader} takes one threshold per layer, and some here are not above v_reset."
            self.notes.error("v_threshold", what, p.name, "Give all neurons of the node the same threshold.")
            return p
        self.notes.info("v_threshold", "its thresholds become 1, its weights are divided by them.", p.name)
        self.scales[p.name] = self.scales[p.name] / p.v_threshold
        return replace(p, v_leak=p.v_leak / p.v_threshold, v_threshold=np.ones(p.size))

    def converted(self, p: Population) -> Population:
        """The kind that the reader knows, with the same steps."""
        want, flat = self.rules.becomes(p, self.dt), np.ones(p.size)
        if p.kind == "Threshold" and want in ("LIF", "CubaLIF"):
            p = replace(p, kind="LIF", tau_mem=self.dt * flat)
        if p.kind in ("IF", "I") and want in ("LIF", "LI"):
            p = replace(p, kind=want, tau_mem=FOREVER * self.dt * flat, r=p.r * self.dt * FOREVER)
        if p.kind == "LIF" and want == "CubaLIF":
            p = replace(p, kind="CubaLIF", tau_syn=self.dt * flat, w_in=flat)
        return p

    def shared(self, p: Population) -> Population:
        """One time constant for all neurons, where they must share it."""
        for key in ("tau_mem", "tau_syn"):
            tau = getattr(p, key)
            if key not in self.rules.one or tau is None or np.all(tau == tau[0]):
                continue
            one = float(np.median(tau))
            if not np.allclose(tau, one, rtol=_SAME, atol=0):
                what = f"{self.notes.reader} takes one {key} per layer, here are {tau.min():g} s to {tau.max():g} s."
                hint = f"Give all neurons of the node the same {key}, or split it into nodes that have."
                self.notes.error(key, what, p.name, hint)
            else:
                p = replace(p, **{key: np.full(p.size, one)})
        return p

    def geared(self, p: Population) -> Population:
        """The reader's gains; what they lack goes into the weights."""
        r, w_in = self.rules.gains(p, self.dt)
        new = replace(p, r=r, w_in=None if p.tau_syn is None else w_in)
        before, after = (_through(q, self.dt) for q in (p, new))
        if np.any(after == 0) or not np.all(np.isfinite(before / np.where(after == 0, 1, after))):
            self.notes.error("gain", f"its gains r and w_in have no value that {self.notes.reader} could hold.", p.name)
            return p
        s = before / after
        if not np.allclose(s, 1, rtol=1e-12, atol=0):
            self.scales[p.name] = self.scales[p.name] * s
            low, high = f"{s.min():.4g}", f"{s.max():.4g}"
            factor = low if low == high else f"{low} to {high}"
            self.notes.info("gain", f"its gain is in the weights, which are multiplied by {factor}.", p.name)
        return new

    # --- projections -------------------------------------------------------------------------------------------------

    def late(self, q: Projection) -> bool:
        """Whether `q` goes against the order of signal flow."""
        return q.source in self.rank and q.target in self.rank and self.rank[q.source] >= self.rank[q.target]

    def prompt(self, q: Projection) -> Projection:
        """`q` without its delays, of which no importer knows."""
        if q.delay is None:
            return q
        late = f"{1e3 * q.delay.max():.4g} ms"
        what = f"connections up to {late} late are not late in {self.notes.reader}: it reads no Delay."
        self.notes.warning("delay", what, q.name, "Delay the data instead, or train without delays.")
        return self.links.undelayed(q)

    def one_bias(self, name: str, links: list[Projection]) -> list[Projection]:
        """Biases of recurrent projections into `name`, and the current for its v_leak, with one that acts at once.

        Importers have no output of a recurrent node before its first turn, so that its bias comes one step late; some
        leave it out. A population that only recurrence reaches gets an empty projection from the first input.
        """
        into = [q for q in links if q.target == name]
        late = [q for q in into if self.late(q)]
        soon = [q for q in into if not self.late(q)]
        more = self.more.get(name)
        if more is None and not any(q.bias is not None for q in late) and (soon or not late):
            return links
        total = sum((q.bias for q in into if q.bias is not None), np.zeros(len(self.scales[name])))
        total = total if more is None else total + more * self.scales[name]
        rest = [q for q in links if q.target != name]
        bare = [self.links.without_bias(q) for q in (*soon, *late)]
        if not soon and self.source.inputs:
            nothing = np.zeros(0)
            first = self.source.inputs[0].name
            bare.insert(0, Projection(first, name, nothing, nothing, nothing, nodes=(f"{first}_to_{name}",)))
        if np.any(total != 0) and bare:
            bare[0] = self.links.with_bias(bare[0], total)
        return [*rest, *bare]

    def flattened(self, links: list[Projection]) -> list[Projection]:
        """Linear nodes that the reader does not know as matrices; beside several axes all of them."""
        links = [replace(q, via=()) if not all(map(self.rules.linear, q.via)) else q for q in links]
        parts = (*self.source.inputs, *self.source.populations, *self.source.readout.populations)
        sizes = {p.name: p.size for p in parts}
        dense = [q for q in split(links)[1] if not plain(q, sizes[q.source], sizes[q.target])]
        if dense and any(node.kind not in ("Linear", "Affine", "Scale") for q in links for node in q.via):
            names = ", ".join(repr(q.name) for q in dense[:4])
            what = f"its convolutions and pools are written as matrices, for {names} cannot be written as it is."
            self.notes.info("matrices", what)
            return [replace(q, via=()) for q in links]
        return links

    def steps(self, links: list[Projection]) -> None:
        """What the reader does in another step than this network."""
        own, theirs = self.source.stepping, self.rules.stepping
        if own.recurrence != theirs.recurrence and any(self.late(q) for q in links):
            what = f"recurrent spikes act in the same step in this network, in {self.notes.reader} in the next one."
            self.notes.warning("recurrence", what)
        if own.emission != theirs.emission:
            here, there = ("at once", "one step late") if own.emission == "same-step" else ("one step late", "at once")
            what = f"spikes leave a population {here} in this network, {there} in {self.notes.reader}."
            self.notes.warning(
                "emission", what, hint="In a chain of layers that only shifts each of them by its number."
            )


def plain(q: Projection, n_source: int, n_target: int) -> bool:
    """Whether a projection is written as an edge: no node, no bias, each neuron to its own with weight 1."""
    if q.nodes or q.bias is not None or q.dendrite is not None or n_source != n_target:
        return False
    own = np.array_equal(q.pre, q.post) and np.array_equal(np.sort(q.pre), np.arange(n_target))
    return bool(own and np.all(q.weight == 1))


def _through(p: Population, dt: float) -> np.ndarray:
    """What v gains in the step in which 1 arrives."""
    g = p.step_gains(dt)
    return g.gain if g.syn_gain is None else g.gain * g.syn_gain
