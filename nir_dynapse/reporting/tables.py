"""The tables of a report that text and page share: accuracy step by step, nodes, cores, base currents, chips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nir_dynapse.chip.device import BASE_WEIGHTS, PARAMETERS
from nir_dynapse.layout.utilisation import ChipUse, CoreUse, NodeUse
from nir_dynapse.reporting.conversion_table import Table

__all__ = [
    "STEPS",
    "Accuracy",
    "accuracy_table",
    "amperes",
    "chip_table",
    "core_table",
    "current_table",
    "node_table",
    "points",
    "steps",
]

STEPS = ("ideal", "pooled", "circuit", "pruned", "copied", "quantised", "on this chip")
"""Rows of the accuracy table that follow from one another, each by one step: what it costs is their difference."""
UNTRAINED = ("ideal", "pooled", "untrained circuit", "untrained, pruned")
"""The same of the network before its training."""


@dataclass(frozen=True)
class Accuracy:
    """One run over labelled samples.

    The class of a sample is the output neuron with the most spikes, the first of them where several tie. `agreement` is
    the share of samples with the same class as the ideal run, `silent` the number without any output spike, `ties` the
    number of others where two or more neurons share the maximum, `rate` the mean number of spikes per sample and output
    neuron (NaN where the output is a readout on the host), `first_spike` the number of samples that are right where the
    first spike decides (of several in the same bin the neuron with the most spikes; None where it was not asked for).
    """

    name: str
    correct: int
    total: int
    agreement: float
    ties: int
    silent: int
    rate: float
    first_spike: int | None = None

    @property
    def share(self) -> float:
        """Correct samples / samples."""
        return self.correct / self.total if self.total else 0.0


def steps(rows: Iterable[Accuracy]) -> list[tuple[Accuracy, Accuracy]]:
    """(before, after) of every step between two of `rows`: `STEPS`, and `UNTRAINED` apart; steps not taken are skipped."""
    known = {row.name: row for row in rows}
    ways = ([known[name] for name in way if name in known] for way in (STEPS, UNTRAINED))
    return [pair for way in ways for pair in pairwise(way)]


def points(rows: Iterable[Accuracy]) -> dict[str, tuple[str, float]]:
    """Run → the run before it, and the accuracy that the step between them wins (a loss is negative), in points of %."""
    return {after.name: (before.name, 100 * (after.share - before.share)) for before, after in steps(rows)}


def accuracy_table(rows: Sequence[Accuracy]) -> Table:
    """A line per run; "step" is what the step from the run before costs or wins, in points of %."""
    header = ("run", "accuracy", "step", "correct", "same class as ideal", "spikes/neuron", "ties", "silent")
    timed = any(a.first_spike is not None for a in rows)
    step = points(rows)
    cells = (
        (
            a.name,
            f"{100 * a.share:.1f} %",
            f"{step[a.name][1]:+.1f}" if a.name in step else "-",
            f"{a.correct}/{a.total}",
            f"{100 * a.agreement:.1f} %",
            "-" if np.isnan(a.rate) else f"{a.rate:.2f}",
            str(a.ties),
            str(a.silent),
            *(() if not timed else ("-" if a.first_spike is None else f"{100 * a.first_spike / a.total:.1f} %",)),
        )
        for a in rows
    )
    return Table((*header, *(("by first spike",) if timed else ())), tuple(cells), "<>>>>>>>" + ">" * timed)


def node_table(rows: Iterable[NodeUse]) -> Table:
    """A line per spiking node."""
    cells = ((r.name, r.kind, _neurons(r), str(r.fan_in), str(r.tonic or "-"), " ".join(r.cores) or "-") for r in rows)
    return Table(("node", "kind", "neurons", "fan-in", "constant input", "chip.core"), tuple(cells), "<<>>><")


def _neurons(row: NodeUse) -> str:
    """The neurons of a node and, where several of the chip stand for each, how many."""
    return str(row.neurons) if row.copies == 1 else f"{row.neurons} × {row.copies}"


def core_table(rows: Iterable[CoreUse]) -> Table:
    """What every used core holds."""
    header = ("chip.core", "neurons", "CAM rows", "fan-in", "SRAM rows", "tags", "base currents", "bias group", "nodes")
    cells = (
        (
            f"{c.chip}.{c.core}",
            *map(str, (c.neurons, c.cam_rows, c.fan_in, c.sram_rows, c.tags)),
            f"{len(c.base_currents)}/{len(BASE_WEIGHTS)}",
            str(c.bias_group),
            ", ".join(f"{name} ({n})" for name, n in c.nodes.items()),
        )
        for c in rows
    )
    return Table(header, tuple(cells), "<>>>>>>><")


def current_table(rows: Iterable[CoreUse]) -> Table:
    """The four base currents of every used core; "-" for one that no weight mask selects."""
    cells = ((f"{c.chip}.{c.core}", *(amperes(c.base_currents.get(name)) for name in BASE_WEIGHTS)) for c in rows)
    return Table(("chip.core", *(PARAMETERS[name].bias for name in BASE_WEIGHTS)), tuple(cells), "<>>>>")


def chip_table(rows: Iterable[ChipUse]) -> Table:
    """Totals of every chip."""
    cells = (tuple(map(str, (c.chip, c.cores, c.neurons, c.cam_rows, c.sram_rows, c.bias_groups))) for c in rows)
    return Table(("chip", "cores", "neurons", "CAM rows", "SRAM rows", "bias groups"), tuple(cells), "<>>>>>")


def amperes(value: float | None) -> str:
    """A current with its prefix; "-" for one that is not used."""
    if value is None:
        return "-"
    for factor, unit in ((1e6, "uA"), (1e9, "nA"), (1e12, "pA")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value:.3g} A"
