"""The conversion report: what became of each NIR node, its values in the file and here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nir_dynapse.errors import Finding
from nir_dynapse.import_.flatten import FlatGraph, FlatNode
from nir_dynapse.import_.shapes import Shapes
from nir_dynapse.network.delays import rounded
from nir_dynapse.network.linear import parameter
from nir_dynapse.network.network import Conversion, Population, Projection
from nir_dynapse.network.neurons import neuron_fields
from nir_dynapse.network.population import RESETS

__all__ = ["conversions"]

_UNITS = {"tau": " s", "tau_mem": " s", "tau_syn": " s"}
_BECOMES = {
    "input": "input port",
    "output": "output port",
    "wire": "wire",
    "population": "neurons",
    "host": "readout on the host",
    "linear": "synapses",
    "refused": "nothing",
}


def conversions(
    populations: Mapping[str, tuple[Population, Population]],
    flat: FlatGraph,
    shapes: Shapes,
    findings: Sequence[Finding],
    more: Sequence[Finding] = (),
    *,
    links: Iterable[Projection] | None = None,
    seconds: float | None = None,
) -> tuple[Conversion, ...]:
    """One `Conversion` per node of the flat graph, in natural order of names.

    `populations` holds each population as in the file and as in the Network; `links` are the folded projections,
    None where reading stopped before, and `seconds` the real ones per time unit of the file.
    """
    notes: dict[str, list[Finding]] = {}
    for finding in (*findings, *more):
        if finding.node is not None:
            notes.setdefault(finding.node, []).append(finding)
    synapses: dict[str, int] = {}
    if links is not None:
        synapses = dict.fromkeys((name for name, node in flat.nodes.items() if node.role == "linear"), 0)
    for q in links or ():
        for name in dict.fromkeys(q.nodes):
            synapses[name] = synapses.get(name, 0) + len(q.weight)
    result = []
    for name, node in flat.nodes.items():
        found = notes.get(name, [])
        failed = [f for f in found if f.severity == "error"] or node.role == "refused"
        doubtful = [f for f in found if f.severity == "warning"]
        changes = _changes(node, populations.get(name), shapes, synapses.get(name), seconds)
        result.append(
            Conversion(
                name,
                node.entry.name if node.entry is not None else type(node.node).__name__,
                "nothing" if failed else _becomes(node, synapses.get(name)),
                "unsupported" if failed else "approximate" if doubtful else "exact",
                changes,
                " ".join(f.what for f in found if f.severity != "info" or f.code == "repair"),
            )
        )
    return tuple(result)


def _becomes(node: FlatNode, synapses: int | None) -> str:
    if node.role == "linear" and node.entry is not None and node.entry.name in ("Flatten", "Delay"):
        delay = parameter(node.node, "delay")
        return f"{synapses} late synapses" if synapses and delay is not None and np.any(delay) else "wire"
    return f"{synapses} synapses" if synapses else _BECOMES[node.role]


def _changes(
    node: FlatNode,
    pair: tuple[Population, Population] | None,
    shapes: Shapes,
    synapses: int | None,
    seconds: float | None,
) -> tuple[tuple[str, str, str], ...]:
    if pair is not None:
        return _neuron_changes(node, *pair)
    weight = parameter(node.node, "weight") if node.role == "linear" else None
    weight = weight if weight is not None and weight.dtype.kind in "biuf" else None
    before, after = shapes.before.get(node.name), shapes.after.get(node.name)
    changes = []
    delay = parameter(node.node, "delay") if node.role == "linear" else None
    if delay is not None and seconds is not None and np.any(delay):
        changes.append(("delay", _summary(delay), _summary(rounded(seconds * np.asarray(delay, float))) + " s"))
    if weight is not None:
        many = "" if synapses is None else f", {synapses or 'no'} synapses"
        changes.append(("weight", f"{weight.shape}", _summary(weight) + many))
    if node.role in ("input", "output") or before != after:
        changes.append(("shape", str(before), str(after)))
    return tuple(changes)


def _neuron_changes(node: FlatNode, raw: Population, read: Population) -> tuple[tuple[str, str, str], ...]:
    """(field, value in the file, value here) for each parameter, and the reset where it is not NIR's."""
    changes = []
    for key, attribute in neuron_fields(raw.kind).items():
        stored = parameter(node.node, key)
        after = getattr(read, attribute)
        before = "-" if stored is None else _summary(np.asarray(stored, float))
        changes.append((key, before, _summary(after) + _UNITS.get(key, "")))
    if read.reset != "value":
        changes.append(("reset", "-", f"{read.reset}: {RESETS[read.reset]}"))
    return tuple(changes)


def _summary(values: np.ndarray) -> str:
    """One number where all are equal, else the range."""
    flat = np.ravel(values)
    if not len(flat):
        return "-"
    low, high = float(np.min(flat)), float(np.max(flat))
    return f"{low:.5g}" if f"{low:.5g}" == f"{high:.5g}" else f"{low:.5g} … {high:.5g}"
