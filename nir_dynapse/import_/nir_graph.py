"""`from_nir`: a NIR graph or file → `Network`, flattened, checked and in real seconds."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import nir
import numpy as np

from nir_dynapse.errors import (
    DynapseError,
    Finding,
    ParameterRangeError,
    UnsupportedGraphError,
    sort_findings,
    strictly,
)
from nir_dynapse.import_.checks import (
    check_cycles,
    check_gains,
    check_origin,
    check_values,
    likely,
    used_resets,
)
from nir_dynapse.import_.conversion import conversions
from nir_dynapse.import_.delays import check_delays
from nir_dynapse.import_.flatten import FlatGraph, flatten, natural
from nir_dynapse.import_.fold import Folder, check_structure
from nir_dynapse.import_.frontends import PROFILES, Profile, profile_of
from nir_dynapse.import_.nir_file import read_nir, read_version
from nir_dynapse.import_.outputs import check_hosts, find_outputs, read_readout
from nir_dynapse.import_.shapes import Shapes, infer, noted
from nir_dynapse.import_.timing import check_step, check_taus, clock, positive, rescaled, seconds_per_unit
from nir_dynapse.network.names import renamed
from nir_dynapse.network.network import RESETS, Network, Population, Port, Projection, Stepping
from nir_dynapse.network.population import STEPPINGS
from nir_dynapse.network.primitives import as_array, graph

__all__ = ["FRONTENDS", "from_nir"]

FRONTENDS: tuple[str, ...] = tuple(PROFILES)
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
    reset: Literal["value", "subtract", "none"] | None = None,
    reset_delay: bool | None = None,
    strict: bool = False,
) -> Network:
    """The `Network` in a NIR file, an `nir.NIRGraph` or a single NIR node.

    Real seconds = value · `time_unit` ("s", "ms", "us") · `time_scale` (real seconds per file second). `dt` is the
    source framework's step in seconds before `time_scale`; without it metadata["dt"] counts, then what the gains say,
    then 1 ms. `frontend` names the framework whose exporter wrote the file (`FRONTENDS`): gains, time constants and reset
    are read as it means them; where its unit of time is a step (snntorch, sinabs, spyx, spikingjelly), `dt` is the real
    length of one.
    `reset` and `reset_delay` (the reset acts one step late) say what no NIR file says, where the neurons were not the
    framework's default; "subtract" is one spike per step, where Sinabs and Rockpool fire several by default. `strict`
    turns warnings into errors. The result does not depend on the order of nodes and edges.
    Raises `UnsupportedGraphError`, or `ParameterRangeError` where a value is among the problems, with all problems at
    once; the error's `conversion` says what would have become of each node.
    """
    profile = profile_of(frontend)
    if reset not in (None, "value", "subtract", "none"):
        what = f"reset is {reset!r}, known are 'value' (v := v_reset), 'subtract' and 'none'."
        raise ParameterRangeError(Finding("error", "argument", what, hint="Choose one of them."))
    unit = seconds_per_unit(time_unit, 1.0)
    scale = seconds_per_unit("s", time_scale)
    if dt is not None:
        dt = positive("dt", dt)
    root, findings, origin = _load(source)
    origin |= {"frontend": frontend, "time_unit": time_unit, "time_scale": float(time_scale)}
    origin |= {key: v for key, v in (("reset", reset), ("reset_delay", reset_delay)) if v is not None}

    flat = flatten(root, findings)
    shapes = infer(flat, check_values(flat, unit * scale if profile.clock == "time" else 1.0, findings), findings)
    check_structure(flat, findings)
    if frontend == "snntorch":
        check_cycles(flat, findings)
    check_hosts(flat, findings)
    outputs = find_outputs(flat, shapes, findings)
    metadata = _plain(getattr(root, "metadata", None) or {})
    metadata = metadata if isinstance(metadata, dict) else {}
    raw = _populations(flat, shapes)
    usable = _valid(raw)
    step = clock(profile, dt, metadata, usable, unit, scale, findings)
    read = used_resets([_adapted(p, flat, profile, step.file, reset, reset_delay, usable) for p in raw], findings)
    populations = [rescaled(p, step.seconds) for p in read]
    _tell_clamped(profile, raw, step.file, findings)
    _tell_firing(profile, raw, populations, findings)
    _tell_resets(profile, populations, (reset, reset_delay) != (None, None), findings)
    wrote = likely(flat.nodes, usable) if frontend == "spec" else None
    check_taus(populations, time_unit, float(time_scale), profile, findings, gains=step.gains, origin=wrote)
    wrong_unit = any(f.code == "time-unit" for f in findings)
    if not wrong_unit:  # it makes every step wrong too: one cause, one error
        check_step(populations, step.real, wrote, findings, step.gains)
    if frontend == "spec":
        check_gains(_valid(populations), step.real, findings)
        check_origin(flat.nodes, usable, step.file, findings)
    if strict:
        findings = strictly(findings)
    pairs = {before.name: (before, after) for before, after in zip(raw, populations, strict=True)}
    changed = (pairs, flat, shapes, findings)
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise _error_class(errors)(_placed(errors, origin), conversion=conversions(*changed))

    stepping = _stepping(metadata) if frontend == "spec" else profile.stepping
    try:
        folder = Folder(flat, shapes, step.seconds)
        links = folder.all_into(flat.of("population"))
        hosts = {p.name: p for p in populations if not p.spiking}
        if profile.stepping.start == "leak":  # a readout has no reset: v_reset is where it starts
            hosts = {name: replace(p, v_reset=p.v_leak) for name, p in hosts.items()}
        readout = read_readout(flat, folder, hosts, outputs)
        findings += check_delays((*links, *readout.projections), step.real, strict)
    except DynapseError as error:
        raise type(error)(error.findings, conversion=conversions(*changed, error.findings)) from None
    inputs = [Port(name, noted(flat, name, shapes.after[name])) for name in flat.of("input")]
    ports = [replace(port, shape=noted(flat, port.name, port.shape)) for port in outputs.ports]
    network = Network(
        *_in_order([p for p in populations if p.spiking], links, inputs),
        inputs=tuple(inputs),
        outputs=tuple(ports),
        dt=step.real,
        origin=origin,
        metadata={key: value for key, value in metadata.items() if key not in STEPPINGS},
        findings=sort_findings(findings),
        readout=readout,
        stepping=stepping,
        conversion=conversions(*changed, links=(*links, *readout.projections), seconds=step.seconds),
    )
    late = [*_delayed(network), *renamed(network)]
    return replace(network, findings=sort_findings((*network.findings, *late))) if late else network


def _delayed(network: Network) -> list[Finding]:
    """Which connections of a cycle of several populations act one step late, for nothing in NIR says."""
    rank = {name: i for i, name in enumerate(network.order())}
    back = {(q.source, q.target) for q in network.projections if rank.get(q.source, -1) > rank[q.target]}
    if not back:
        return []
    listed = ", ".join(f"{a!r} -> {b!r}" for a, b in sorted(back)[:6])
    what = f"in the cycles of populations these connections act one step late: {listed}; the others in the same step."
    hint = "Where the framework delays others, its spikes differ by a step: compare an ideal run with it."
    return [Finding("info", "recurrence", what, hint=hint)]


def _stepping(metadata: dict[str, Any]) -> Stepping:
    """What `to_nir` noted about steps, where NIR leaves them open."""
    found = {key: metadata.get(key) for key in STEPPINGS}
    kept: dict[str, Any] = {key: v for key, v in found.items() if isinstance(v, str) and v in STEPPINGS[key]}
    return Stepping(**kept)


def _adapted(
    p: Population,
    flat: FlatGraph,
    profile: Profile,
    h: float,
    reset: str | None,
    late: bool | None,
    usable: list[Population],
) -> Population:
    """A population as read, in the equations of NIR at step `h` of the file, with the reset that it has.

    `usable` are all populations whose values can be divided by; the others stay as they are.
    """
    recurrent = p.name in flat.reach([p.name], flat.after, ("linear", "wire"))
    adapted = profile.adapt(p, h, usable) if any(p is q for q in usable) else p
    return profile.firing(replace(adapted, reset=profile.reset_of(p, recurrent, reset, late)))


def _tell_clamped(profile: Profile, raw: list[Population], h: float, findings: list[Finding]) -> None:
    """Say which decays snnTorch would clamp."""
    for p in raw if profile.name == "snntorch" else ():
        for tau in (p.tau_mem, p.tau_syn):
            if tau is not None and p.kind in ("LIF", "CubaLIF") and np.any((tau > 0) & (tau < h * (1 - 1e-5))):
                n = int(np.argmax(tau < h * (1 - 1e-5)))
                what = f"a decay is {1 - h / tau[n]:.3g}, which snnTorch clamps to 0 when it runs; read as 0."
                findings.append(Finding("warning", "decay", what, p.name, n, float(1 - h / tau[n]), 0.0))


def _tell_resets(profile: Profile, populations: list[Population], asked: bool, findings: list[Finding]) -> None:
    """Say once how the neurons were taken to reset, where the file cannot say."""
    resets = list(dict.fromkeys(p.reset for p in populations if p.spiking))
    if profile.name == "spec" or not resets or asked or profile.writes_reset:
        return
    listed = "; ".join(f"{name}: {RESETS[name]}" for name in resets)
    if profile.assumed:
        hint = 'Pass reset="value" (and reset_delay) if they reset to a value.'
        findings.append(Finding("info", "reset", f"{profile.assumed}; read as its default ({listed}).", hint=hint))


def _tell_firing(profile: Profile, raw: list[Population], read: list[Population], findings: list[Finding]) -> None:
    """Say once that v = v_threshold fires, and by which thresholds it does here."""
    for before, after in zip(raw, read, strict=True):
        if np.any(after.v_threshold != before.v_threshold):
            value, below = float(before.v_threshold[0]), float(after.v_threshold[0])
            what = (
                f"{profile.name} fires at v ≥ v_threshold, NIR at v > v_threshold: each threshold is the float32 number "
                f"just below ({value:.9g} became {below:.9g}), which is the same in an ideal run."
            )
            hint = "A circuit does not meet a threshold exactly: weights that pass it clearly are safer there."
            findings.append(Finding("info", "threshold", what, used=below, limit=value, hint=hint))
            return


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


def _placed(errors: list[Finding], origin: dict[str, Any]) -> list[Finding]:
    """Errors of a graph from a file, of which those that name no node name the file."""
    if origin["sha256"] is None:
        return errors
    return [f if f.node else replace(f, what=f"file {origin['source']!r}: {f.what}") for f in errors]


def _error_class(findings: list[Finding]) -> type[DynapseError]:
    ranged = any(f.severity == "error" and f.code in _RANGE for f in findings)
    return ParameterRangeError if ranged else UnsupportedGraphError


def _populations(flat: FlatGraph, shapes: Shapes) -> list[Population]:
    """All populations and readouts whose values and shape are usable, as in the file, in natural order of their names."""
    result = []
    for name in flat.of("population", "host"):
        node, shape = flat.nodes[name], shapes.after.get(name)
        if name not in shapes.broken and shape is not None and node.entry is not None and node.entry.read is not None:
            result.append(node.entry.read(node.node, name, noted(flat, name, shape), 1.0))
    return result


def _valid(populations: list[Population]) -> list[Population]:
    """Populations without a time constant or gain at or below 0, for checks that divide by them."""

    def valid(p: Population) -> bool:
        memory = np.ones(1) if p.kind in ("Threshold", "Linear") else p.tau_mem
        return all(v is None or bool(np.all(v > 0)) for v in (memory, p.r, p.tau_syn, p.w_in))

    return [p for p in populations if valid(p)]


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
    try:
        array = as_array(value)
    except ValueError:  # lists of different length
        return str(value)
    return array.item() if array.ndim == 0 else np.array(array)
