"""`from_nir`: a NIR graph or file → `Network`, flattened, checked and in real seconds."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np

from nir_dynapse.errors import (
    DynapseError,
    Finding,
    ParameterRangeError,
    UnsupportedGraphError,
    raise_if_errors,
    sort_findings,
)
from nir_dynapse.import_.checks import check_gains, check_values
from nir_dynapse.import_.flatten import FlatGraph, flatten, natural
from nir_dynapse.import_.fold import check_structure, output_ports, projections
from nir_dynapse.import_.nir_file import read_nir, read_version
from nir_dynapse.import_.shapes import Shapes, infer
from nir_dynapse.import_.timing import check_step, check_taus, positive, seconds_per_unit, time_step
from nir_dynapse.network import Network, Population, Port, Projection
from nir_dynapse.primitives import as_array, graph

__all__ = ["FRONTENDS", "from_nir"]

FRONTENDS: tuple[str, ...] = ("spec",)
"""Known frontend profiles; "spec" reads every value as NIR's equations define it."""

_RANGE = {"not-finite", "not-positive", "threshold", "time-unit", "dt", "gain", "v_reset"}


@np.errstate(all="ignore")  # absurd values become inf, which the checks name
def from_nir(
    source: Any,
    *,
    dt: float | None = None,
    time_unit: str = "s",
    time_scale: float = 1.0,
    frontend: str = "spec",
    strict: bool = False,
) -> Network:
    """The `Network` in a NIR file, an `nir.NIRGraph` or a single NIR node.

    Real seconds = value · `time_unit` ("s", "ms", "us") · `time_scale` (real seconds per file second). `dt` is the
    source framework's step in seconds before `time_scale`; without it metadata["dt"] counts, then what the gains say,
    then 1 ms. `frontend` names the convention of the gains; `strict` turns warnings into errors. The result does not
    depend on the order of nodes and edges. Raises `UnsupportedGraphError`, or `ParameterRangeError` where a value is
    among the problems, with all problems at once.
    """
    if frontend not in FRONTENDS:
        what = f"frontend is {frontend!r}, known profiles are {', '.join(map(repr, FRONTENDS))}."
        raise ParameterRangeError(Finding("error", "argument", what, hint="Choose one of them."))
    seconds = seconds_per_unit(time_unit, time_scale)
    if dt is not None:
        positive("dt", dt)
    root, findings, origin = _load(source)
    origin |= {"frontend": frontend, "time_unit": time_unit, "time_scale": float(time_scale)}

    flat = flatten(root, findings)
    shapes = infer(flat, check_values(flat, seconds, findings), findings)
    check_structure(flat, findings)
    outputs = output_ports(flat, shapes, findings)
    populations = _populations(flat, shapes, seconds)
    metadata = _plain(getattr(root, "metadata", None) or {})
    metadata = metadata if isinstance(metadata, dict) else {}
    check_taus(populations, time_unit, float(time_scale), findings)
    step = time_step(dt, metadata, _valid(populations), seconds, float(time_scale), findings)
    if not any(
        f.code == "time-unit" for f in findings
    ):  # a wrong unit makes every step wrong too: one cause, one error
        check_step(populations, step, findings)
    check_gains(_valid(populations), step, findings)
    if strict:
        findings = [replace(f, severity="error") if f.severity == "warning" else f for f in findings]
    raise_if_errors(findings, _error_class(findings))

    links = projections(flat, shapes)
    inputs = [Port(name, _noted(flat, name, shapes.after[name])) for name in flat.of("input")]
    outputs = [replace(port, shape=_noted(flat, port.name, port.shape)) for port in outputs]
    return Network(
        *_in_order(populations, links, inputs),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        dt=step,
        origin=origin,
        metadata=metadata,
        findings=sort_findings(findings),
    )


def _load(source: Any) -> tuple[Any, list[Finding], dict[str, Any]]:
    """The graph, what was repaired in reading it, and where it came from."""
    origin: dict[str, Any] = {"source": "nir.NIRGraph", "sha256": None, "nir_version": getattr(nir, "version", None)}
    findings: list[Finding] = []
    if isinstance(source, (str, os.PathLike)):
        root, findings, origin["sha256"] = read_nir(source)
        origin |= {"source": Path(os.fspath(source)).name, "file_version": read_version(source)}
    else:
        root = source
    if isinstance(root, nir.NIRNode) and not isinstance(root, nir.NIRGraph):
        root = graph({type(root).__name__.lower(): root}, [])
    if not isinstance(root, nir.NIRGraph):
        what = f"from_nir cannot read a {type(source).__name__}."
        hint = "Give the path of a .nir file, an nir.NIRGraph or a single NIR node."
        raise UnsupportedGraphError(Finding("error", "type", what, hint=hint))
    return root, findings, origin


def _error_class(findings: list[Finding]) -> type[DynapseError]:
    ranged = any(f.severity == "error" and f.code in _RANGE for f in findings)
    return ParameterRangeError if ranged else UnsupportedGraphError


def _populations(flat: FlatGraph, shapes: Shapes, seconds: float) -> list[Population]:
    """All populations whose values and shape are usable, in natural order of their names."""
    result = []
    for name in flat.of("population"):
        node, shape = flat.nodes[name], shapes.after.get(name)
        if name not in shapes.broken and shape is not None and node.entry is not None and node.entry.read is not None:
            result.append(node.entry.read(node.node, name, _noted(flat, name, shape), seconds))
    return result


def _valid(populations: list[Population]) -> list[Population]:
    """Populations without a time constant or gain at or below 0, for checks that divide by them."""

    def valid(p: Population) -> bool:
        values = (p.tau_mem, p.r, p.tau_syn, p.w_in)
        return all(v is None or bool(np.all(v > 0)) for v in values)

    return [p for p in populations if valid(p)]


def _noted(flat: FlatGraph, name: str, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """`shape`, or the shape of several axes that `to_nir` noted in a flat node's metadata, where it has the same size."""
    shape = shape or ()
    metadata = getattr(flat.nodes[name].node, "metadata", None)
    note = metadata.get("shape") if isinstance(metadata, dict) else None
    if note is None or len(shape) != 1:
        return shape
    axes = np.ravel(as_array(note))
    fits = axes.dtype.kind in "iu" and bool(np.all(axes > 0)) and int(np.prod(axes, dtype=object)) == shape[0]
    return tuple(int(n) for n in axes) if fits else shape


def _in_order(
    populations: list[Population], links: list[Projection], inputs: list[Port]
) -> tuple[tuple[Population, ...], tuple[Projection, ...]]:
    """Populations by distance from the inputs, then name; projections by target, source and nodes."""
    depth = {port.name: 0 for port in inputs}
    front = list(depth)
    while front:
        reached = sorted({q.target for q in links if q.source in front} - depth.keys())
        depth |= dict.fromkeys(reached, depth[front[0]] + 1)
        front = reached
    ordered = sorted(populations, key=lambda p: (depth.get(p.name, len(depth)), natural(p.name)))
    rank = {name: i for i, name in enumerate([port.name for port in inputs] + [p.name for p in ordered])}
    links = sorted(links, key=lambda q: (rank[q.target], rank[q.source], tuple(map(natural, q.nodes))))
    return tuple(ordered), tuple(links)


def _plain(value: Any) -> Any:
    """Metadata as plain Python values and NumPy arrays."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf8", "replace")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    array = as_array(value)
    return array.item() if array.ndim == 0 else np.array(array)
