"""`Report`: what a Layout (or Network) holds, how well it works and what was approximated: text, JSON, a page."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from nir_dynapse.chip.device import DENDRITES, DYNAPSE2, LATCHES, Device
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import ConfigurationError, Finding, sort_findings
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.layout.decoding import circuit_of, core_currents
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.utilisation import (
    ChipUse,
    CoreUse,
    NodeUse,
    Use,
    bias_groups,
    chip_use,
    core_use,
    layout_nodes,
    layout_projections,
    network_nodes,
)
from nir_dynapse.network.network import Conversion, Network
from nir_dynapse.reporting.chips_table import checked_chips, chips_text, chips_title
from nir_dynapse.reporting.conversion_table import conversion_dict, conversion_text, table
from nir_dynapse.reporting.delay_table import delays_text
from nir_dynapse.reporting.page import html_page
from nir_dynapse.reporting.provenance import provenance_of
from nir_dynapse.reporting.rounding_table import projection_table, rounding_text
from nir_dynapse.reporting.tables import (
    Accuracy,
    accuracy_table,
    chip_table,
    core_table,
    current_table,
    node_table,
    points,
)

__all__ = ["Accuracy", "ChipUse", "CoreUse", "NodeUse", "Report", "Use", "report", "report_suffix", "table"]

FORMAT, VERSION = "nir_dynapse.report", 1
SUFFIXES = (".html", ".json", ".txt")
COSTLY = (
    "accuracy-lost",
    "dt",
    "delay-range",
    "delays",
    "gain",
    "frontend",
    "recurrence",
    "fan-in",
    "reset",
    "tau-below-step",
    "leak-below-reset",
)
"""Codes of warnings in the order of what they may cost; others follow, then what rounding costs."""
ROUNDING = ("weight-rounding", "weight-vanished", "bias-rounding")
"""Codes of info findings that are approximations all the same: every quantised network has them."""


@dataclass(frozen=True)
class Report:
    """Everything that is worth knowing about a Layout or Network; `text()` and `html()` to read, `to_dict()` to process.

    `approximations` are the warnings and what every mapping to this chip changes; `findings` are all findings as they
    came; `checks` says in words what was verified; `weight_errors` what rounding cost (`Layout.weight_errors`);
    `virtual_chips` the accuracies on many chips, run -> what `Evaluation.to_dict` returns. The page alone draws from
    `layout` and `device`, what the Layout was `asked` to be, and `samples`, run -> what it did in one sample.
    """

    title: str
    provenance: dict[str, Any]
    nodes: tuple[NodeUse, ...]
    projections: tuple[tuple[str, str, str, int], ...]
    accuracy: tuple[Accuracy, ...] = ()
    cores: tuple[CoreUse, ...] = ()
    chips: tuple[ChipUse, ...] = ()
    approximations: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()
    checks: tuple[str, ...] = ()
    conversion: tuple[Conversion, ...] = ()
    weight_errors: dict[str, Any] = field(default_factory=dict)
    virtual_chips: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layout: Layout | None = field(default=None, repr=False, compare=False)
    device: Device | None = field(default=None, repr=False, compare=False)
    asked: Network | Params | None = field(default=None, repr=False, compare=False)
    samples: Mapping[str, Recording] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "virtual_chips", checked_chips(self.virtual_chips))

    def __repr__(self) -> str:
        rows = [f"{row.name} {100 * row.share:.1f} %" for row in self.accuracy]
        found = f"{len(self.approximations)} approximations"
        return f"Report({'; '.join([self.title, f'{len(self.nodes)} nodes', *rows, found])})"

    @property
    def delays(self) -> dict[str, Any]:
        """What the delays of the network became in the Layout (`Layout.delays`)."""
        return {} if self.layout is None else self.layout.delays

    @property
    def notes(self) -> tuple[Finding, ...]:
        """Findings that are no approximations: repairs and remarks."""
        return tuple(f for f in self.findings if f not in self.approximations)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; currents in A, times in s."""
        step = points(self.accuracy)
        return {
            "format": FORMAT,
            "version": VERSION,
            "title": self.title,
            "provenance": self.provenance,
            "accuracy": [{**_plain(row), "accuracy": row.share, **_step(step.get(row.name))} for row in self.accuracy],
            "nodes": [_plain(row) for row in self.nodes],
            "projections": [
                {"node": node, "source": source, "target": target, "synapses": n}
                for node, source, target, n in self.projections
            ],
            "cores": [_plain(row) for row in self.cores],
            "chips": [_plain(row) for row in self.chips],
            "approximations": [f.to_dict() for f in self.approximations],
            "findings": [f.to_dict() for f in self.findings],
            "checks": list(self.checks),
            "conversion": conversion_dict(self.conversion),
            "weight_errors": self.weight_errors,
            **({"delays": self.delays} if self.delays else {}),
            "virtual_chips": dict(self.virtual_chips),
        }

    def __str__(self) -> str:
        return self.text()

    def html(self) -> str:
        """One HTML page that needs nothing else: no script, nothing that is loaded."""
        return html_page(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page (.html), the dictionary (.json) or the text (.txt), all of it or nothing (ConfigurationError)."""
        makers = {".html": self.html, ".json": lambda: json.dumps(self.to_dict(), indent=1), ".txt": self.text}
        write_atomically(path, makers[report_suffix(path)]().encode(errors="replace"))

    def text(self, width: int = 100) -> str:
        """Plain text with aligned tables; sentences are wrapped at `width` characters.

        What costs accuracy comes first; findings that differ in the neuron only are one line with their number.
        """
        parts = [f"{self.title}\n{'=' * min(len(self.title), width)}"]
        parts += [_section("Accuracy", accuracy_table(self.accuracy).text)] if self.accuracy else []
        if self.virtual_chips:
            parts.append(_section(chips_title(self.virtual_chips), chips_text(self.virtual_chips, width)))
        nothing = "  none" if self.cores else "  none in reading; nothing has been mapped to the chip yet"
        parts.append(_section("Approximations", _sentences(map(str, counted(self.approximations)), width) or nothing))
        parts += [_section("Conversion", conversion_text(self.conversion))] if self.conversion else []
        parts += [_section("Nodes", node_table(self.nodes).text)] if self.nodes else []
        if self.projections:
            parts.append(_section("Projections", projection_table(self.projections, self.weight_errors).text))
        if self.cores:
            parts.append(_section("Cores (used/available)", core_table(self.cores).text))
            parts.append(_section("Base currents of the weights", current_table(self.cores).text))
            parts.append(_section("Chips (used/available)", chip_table(self.chips).text))
        if self.delays:
            parts.append(_section("Delays", delays_text(self.delays)))
        if self.weight_errors:
            names = [
                f"{node.name}[{i}]" + (f" copy {c}" if node.copies > 1 else "")
                for node in self.nodes
                for i in range(node.neurons)
                for c in range(node.copies)
            ]
            parts.append(_section("Rounding of the weights", rounding_text(self.weight_errors, names)))
        parts += [_section("Notes", _sentences(map(str, counted(self.notes)), width))] if self.notes else []
        parts += [_section("Checks", _sentences(self.checks, width))] if self.checks else []
        origin = [(key, "-" if value is None else str(value)) for key, value in self.provenance.items()]
        parts.append(_section("Provenance", table((), origin, "<<")))
        return "\n\n".join(parts) + "\n"


def costly(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """`findings`, those first that cost the most accuracy."""

    def rank(f: Finding) -> tuple[int, int, float]:
        known = COSTLY.index(f.code) if f.code in COSTLY else len(COSTLY)
        lost = float(f.used) - float(f.limit) if f.code == "accuracy-lost" and f.used and f.limit else 0.0
        return int(f.code in ROUNDING), known, lost

    return tuple(sorted(findings, key=rank))


def counted(findings: Iterable[Finding]) -> list[Finding]:
    """`findings`, of which those that say the same of several neurons of a node are one: the worst, with their number."""
    alike: dict[Any, list[Finding]] = {}
    for k, f in enumerate(findings):
        alike.setdefault((f.severity, f.code, f.node) if f.index is not None and f.node is not None else k, []).append(
            f
        )
    groups = [(max(group, key=lambda f: f.overrun), sum(f.count or 1 for f in group)) for group in alike.values()]
    return [replace(worst, count=n if n > 1 else worst.count) for worst, n in groups]


def report_suffix(path: str | os.PathLike[str]) -> str:
    """How a report of this name is written: ".html", ".json" or ".txt" (ConfigurationError for others)."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigurationError(
            f"{path}: a report cannot be written as '{suffix}', known are {', '.join(SUFFIXES)}. Choose one of them."
        )
    return suffix


def report(
    thing: Layout | Network,
    *,
    device: Device = DYNAPSE2,
    title: str | None = None,
    accuracy: Sequence[Accuracy] = (),
    checks: Sequence[str] = (),
    findings: Sequence[Finding] = (),
    conversion: Sequence[Conversion] = (),
    provenance: Mapping[str, Any] | None = None,
    virtual_chips: Mapping[str, Mapping[str, Any]] | None = None,
    asked: Network | Params | None = None,
    samples: Mapping[str, Recording] | None = None,
) -> Report:
    """What `thing` holds on `device`; the keywords add what only the caller knows (accuracy table, checks made, …).

    `conversion` is what became of each NIR node; a Network brings its own, a Layout has forgotten it.
    `virtual_chips` are accuracies on many chips by run, such as {"before": evaluate(...).to_dict(), "after": ...}; raises
    ConfigurationError where they are something else. `asked` is what a Layout was compiled from, `samples` are recordings
    by run, of which the first sample is shown; both are for the page.
    """
    origin = {**provenance_of(thing, device), **(provenance or {})}
    if isinstance(thing, Network):
        findings = (*findings, *_too_many_synapses(network_nodes(thing, device), device))
    source = origin.get("source") or "network"
    everything = sort_findings((*thing.findings, *findings))
    approximate = costly(f for f in everything if f.severity == "warning" or f.code in ROUNDING)
    if isinstance(thing, Network):
        title = title or f"{source}: {thing.n_neurons} neurons in {len(thing.populations)} nodes"
        return Report(
            title,
            origin,
            network_nodes(thing, device),
            tuple((q.name, q.source, q.target, int(np.count_nonzero(q.weight))) for q in thing.projections),
            tuple(accuracy),
            approximations=approximate,
            findings=everything,
            checks=tuple(checks),
            conversion=tuple(conversion) or thing.conversion,
            virtual_chips=virtual_chips or {},
        )
    held = f"{thing.n_neurons} neurons" + (f" for {sum(thing.node_sizes.values())}" if thing.copies else "")
    title = title or f"{source} on {thing.device}: {held} in {int(thing.used_cores.sum())} core(s)"
    groups = bias_groups(thing)
    cores = tuple(core_use(thing, device, int(c), groups[int(c)]) for c in np.flatnonzero(thing.used_cores))
    return Report(
        title,
        origin,
        layout_nodes(thing, device),
        layout_projections(thing),
        tuple(accuracy),
        cores,
        tuple(chip_use(device, chip, cores) for chip in range(thing.n_chips)),
        (*approximate, *_standing(thing, device)),
        everything,
        tuple(checks),
        tuple(conversion),
        thing.weight_errors,
        virtual_chips or {},
        thing,
        device,
        asked,
        samples or {},
    )


def _too_many_synapses(nodes: Iterable[NodeUse], device: Device) -> list[Finding]:
    """A warning for each node whose neurons have more synapses than CAM rows: as it is the network does not fit."""
    hint = (
        "With training data deploy --train TRAIN.npz (fine_tune) keeps as many as fit and chooses them by that data; "
        'without, --fan-in prune (fan_in="prune") drops the least important.'
    )
    return [
        Finding(
            "warning",
            "fan-in",
            f"up to {n.fan_in.used} synapses arrive at a neuron, a {device.name} neuron stores {n.fan_in.available}: as it "
            "is the network does not fit.",
            node=n.name,
            used=n.fan_in.used,
            limit=n.fan_in.available,
            hint=hint,
        )
        for n in nodes
        if n.fan_in.used > n.fan_in.available
    ]


# --- what the circuit always does differently ------------------------------------------------------------------------


def _standing(layout: Layout, device: Device) -> list[Finding]:
    """Approximations that come with the chip, as far as this Layout meets them."""
    step = f"{1e3 * layout.dt:.3g} ms"
    found = [_remark("refractory", f"a neuron fires at most once in about {step}, and not only at multiples of it.")]
    rows = layout.cam["dendrite"] >= 0
    inhibiting = layout.cam["dendrite"] == DENDRITES.index("gaba")
    if inhibiting.any():
        found.append(
            _remark(
                "inhibition",
                f"{int(inhibiting.sum())} of {int(rows.sum())} CAM rows inhibit (GABA, time constant "
                f"{_taus(layout, device, 'gaba', inhibiting)}). A membrane current cannot fall below its reset level, "
                "where v would go on falling.",
            )
        )
    first = 0
    for name, kind, _ in layout.populations:
        part = np.zeros(layout.n_neurons, bool)
        part[first : first + layout.sizes[name]] = True
        first += layout.sizes[name]
        exciting = (layout.cam["dendrite"] == DENDRITES.index("ampa")) & part[:, None]
        if kind == "LIF" and exciting.any():
            tau = _taus(layout, device, "ampa", exciting)
            what = f"the input of a LIF is instantaneous; its synapses here have a time constant of {tau}."
            found.append(_remark("fast-synapse", what, name))
    driven = int((layout.latches >> LATCHES.index("dc") & 1).sum())
    if driven:
        found.append(_remark("dc", f"the constant input of {driven} neurons is a DC current, one per core."))
    if layout.tonic_period:
        tonic = "constant input that differs between neurons arrives as events: the host sends one every"
        found.append(_remark("tonic", f"{tonic} {1e3 * layout.tonic_period:.3g} ms on an input channel of its own."))
    return found


def _taus(layout: Layout, device: Device, dendrite: str, rows: np.ndarray) -> str:
    """Time constants of `dendrite` in the cores of the CAM rows (N, 64) selected by `rows`, in words."""
    name, cores = f"i_tau_{dendrite}", np.unique(layout.core_index[rows.any(1)])
    tau = 1e3 * circuit_of(layout, device).tau(name, core_currents(layout, name, cores, device))
    low, high = f"{tau.min():.3g}", f"{tau.max():.3g}"
    return f"{low} ms" if low == high else f"{low} to {high} ms"


def _remark(code: str, what: str, node: str | None = None) -> Finding:
    return Finding("info", code, what, node=node)


# --- text ------------------------------------------------------------------------------------------------------------


def _section(title: str, body: str) -> str:
    return f"{title}\n{body}"


def _sentences(items: Iterable[str], width: int) -> str:
    fill = textwrap.TextWrapper(max(width, 40), initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(fill.fill(item) for item in items)


def _step(step: tuple[str, float] | None) -> dict[str, Any]:
    """The step to a run: the run `before` it, and what it wins (a loss is negative), in `points` of %."""
    return {} if step is None else {"before": step[0], "points": round(step[1], 4)}


def _plain(row: Any) -> dict[str, Any]:
    """A dataclass as JSON-ready values: a `Use` becomes {"used": …, "available": …}."""
    values = {f.name: getattr(row, f.name) for f in fields(row)}
    values = {key: None if isinstance(v, float) and np.isnan(v) else v for key, v in values.items()}
    values = {key: v for key, v in values.items() if (key, v) not in (("copies", 1), ("first_spike", None))}
    return {key: value._asdict() if isinstance(value, Use) else value for key, value in values.items()}
