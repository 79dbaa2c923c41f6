"""What rounding the weights cost, as text: per core with a histogram, per projection, per neuron."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nir_dynapse.reporting.conversion_table import Table, table

__all__ = ["histogram", "projection_table", "rounding_text"]

BLOCKS = " ▁▂▃▄▅▆▇█"
WORST = 3
"""Neurons that are named."""


def histogram(counts: Sequence[int]) -> str:
    """A line of blocks as high as the counts; what is there at all is seen."""
    most = max(counts, default=0) or 1
    return "".join(BLOCKS[-(-n * (len(BLOCKS) - 1) // most)] for n in counts)


def projection_table(rows: Iterable[tuple[str, str, str, int]], errors: dict[str, Any]) -> Table:
    """A line per projection; with `errors` also its RMS error over its RMS weight, and the weights rounded to nothing."""
    if not errors:
        cells = ((node, source, target, str(n)) for node, source, target, n in rows)
        return Table(("node", "from", "to", "synapses"), tuple(cells), "<<<>")
    known = {(source, target): (nrmse, lost) for source, target, _, lost, nrmse in errors["projections"]}
    lines = []
    for node, source, target, n in rows:
        nrmse, lost = known.get((source, target), (None, None))
        percent = "-" if nrmse is None else f"{100 * nrmse:.1f} %"
        lines.append((node, source, target, str(n), percent, "-" if lost is None else str(lost)))
    return Table(("node", "from", "to", "synapses", "error", "rounded to 0"), tuple(lines), "<<<>>>")


def rounding_text(errors: dict[str, Any], names: Sequence[str]) -> str:
    """A table of the cores and a sentence on the neurons, whose `names` are in flat order."""
    low, high = 100 * errors["borders"][0], 100 * errors["borders"][-1]
    cells = (
        (
            name,
            str(core["weights"]),
            str(core["rows"]),
            str(core["lost"]),
            f"{100 * core['nrmse']:.1f} %",
            f"|{histogram(core['bins'])}|",
        )
        for name, core in errors["cores"].items()
    )
    header = ("chip.core", "weights", "CAM rows", "rounded to 0", "error", f"errors {low:+.0f} to {high:+.0f} %")
    neurons = np.asarray(errors["neurons"], float)
    if not neurons.size:
        return table(header, cells, "<>>>><")
    worst = [k for k in np.argsort(-neurons, kind="stable")[:WORST].tolist() if neurons[k] > 0]
    listed = ", ".join(f"{names[k]} {100 * neurons[k]:.1f} %" for k in worst)
    counts, edges = np.histogram(100 * neurons, 12)
    spread = (
        f"  error per neuron: median {100 * np.median(neurons):.1f} %; worst {listed or 'none'}\n"
        f"  |{histogram(counts.tolist())}| neurons with {edges[0]:.1f} to {edges[-1]:.1f} %\n"
        "  (error: RMS error over RMS weight; the histograms of the cores count errors in units of the core's RMS weight)"
    )
    return table(header, cells, "<>>>><") + "\n" + spread
