"""Values that no neuron can have (NaN, τ ≤ 0, threshold below reset, …) and gains that look like another convention."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from nir_dynapse.errors import Finding
from nir_dynapse.import_.flatten import FlatGraph, FlatNode
from nir_dynapse.import_.frontends import PROFILES, SPIKINGJELLY_STEP
from nir_dynapse.network.network import Population
from nir_dynapse.network.primitives import parameter

__all__ = [
    "check_cycles",
    "check_gains",
    "check_origin",
    "check_values",
    "like_snntorch",
    "likely",
    "used_resets",
]

UNITS = {"tau": "s", "tau_mem": "s", "tau_syn": "s"}


def check_values(flat: FlatGraph, seconds: float, findings: list[Finding]) -> set[str]:
    """Check every parameter, weight and bias; returns the nodes whose values are not usable.

    `seconds` is the number of real seconds per time unit of the file: messages speak of seconds.
    """
    broken: set[str] = set()
    for node in flat.nodes.values():
        if node.entry is None or node.role in ("input", "output", "wire"):
            continue
        for key in (*node.entry.fields, *node.entry.optional):
            if key in node.entry.whole or (node.role == "refused" and not key.startswith("tau")):
                continue  # sizes and options are checked where they are used
            values = _numeric(node, key, findings)
            if values is None or not _finite(node, key, values, findings):
                broken.add(node.name)
            elif key in UNITS or key in ("r", "w_in"):
                _positive(node, key, values * (seconds if key in UNITS else 1.0), findings)
    return broken


def several(mask: np.ndarray, others: str = "neurons") -> tuple[int, str]:
    """Index of the first True, and ` (and n more …)` where there are more."""
    count = int(mask.sum())
    return int(np.argmax(mask)), f" (and {count - 1} more {others})" if count > 1 else ""


def _numeric(node: FlatNode, key: str, findings: list[Finding]) -> np.ndarray | None:
    """The field as floats; an empty array where an optional one is not there, None where it is not numeric."""
    entry = node.entry
    default = entry.optional.get(key) if entry is not None else None
    try:
        value = parameter(node.node, key, default)
    except (RuntimeError, TypeError, ValueError):
        value = np.array(object)
    if value is None:
        if entry is not None and key in entry.optional:
            return np.zeros(0)
        what, hint = f"{key} is missing.", "Export the network again."
    elif value.dtype.kind not in "biuf":
        what, hint = f"{key} is of type {value.dtype}, not numeric.", "Store it as an array of real numbers."
    else:
        return np.asarray(value, float)
    findings.append(Finding("error", "type", what, node=node.name, hint=hint))
    return None


def _finite(node: FlatNode, key: str, values: np.ndarray, findings: list[Finding]) -> bool:
    bad = ~np.isfinite(values)
    if not bad.any():
        return True
    first, more = several(bad.ravel(), "values")
    index = tuple(int(i) for i in np.unravel_index(first, values.shape))
    place = f"{key}[{', '.join(map(str, index))}]" if len(index) > 1 else key
    findings.append(
        Finding(
            "error",
            "not-finite",
            f"{place} is {values.ravel()[first]}{more}, allowed are finite numbers.",
            node=node.name,
            index=index[0] if index else None,
            used=str(values.ravel()[first]),
            limit="finite",
            hint=_ENDLESS if key in UNITS else "Look for a diverged training or a division by zero in the export.",
        )
    )
    return False


def _positive(node: FlatNode, key: str, values: np.ndarray, findings: list[Finding]) -> None:
    unit = UNITS.get(key, "")
    bad = np.ravel(values <= 0)
    if not bad.any():
        return
    first, more = several(bad)
    value = float(np.ravel(values)[first])
    findings.append(
        Finding(
            "error",
            "not-positive",
            f"{key} is {value:.4g}{' ' + unit if unit else ''}{more}, it must be above 0.",
            node=node.name,
            index=first if np.ndim(values) else None,
            used=value,
            limit=0.0,
            unit=unit,
            hint=_POSITIVE_HINT.get(key, "Turn the sign into the weights: they may be negative, a gain may not."),
        )
    )


_ENDLESS = (
    "A decay of 1 (beta = 1) has no time constant: keep it below 1 in training, or write the node as an IF. Otherwise look "
    "for a diverged training."
)
_POSITIVE_HINT = dict.fromkeys(
    UNITS,
    "Constrain the decay during training to between 0 and 1 (tau = dt/(1 − beta) is negative for beta > 1), "
    "and export again.",
)


def used_resets(populations: Iterable[Population], findings: list[Finding]) -> list[Population]:
    """`populations` with a v_reset that is not used, for the reset is another, at 0 where it is no reset; refuse others.

    A reset to a value at or above the threshold would fire without end. One by subtraction takes away v_threshold −
    v_reset, v_reset being 0 in all frontends that subtract: at or above the threshold it says nothing.
    """
    result = []
    for p in populations:
        bad = p.v_threshold <= p.v_reset
        if p.spiking and p.reset not in ("value", "value-late") and np.any(bad & (p.v_reset != 0)):
            first, more = several(bad)
            what = f"v_reset is {p.v_reset[first]:.4g}{more}, at or above v_threshold; it was read as 0"
            why = "does not use it" if p.reset == "none" else "subtracts v_threshold"
            findings.append(Finding("info", "repair", f"{what}, for its reset ({p.reset}) {why}.", p.name, first))
            p = replace(p, v_reset=np.zeros(p.size))
            bad = p.v_threshold <= 0
        if p.spiking and bad.any():
            first, more = several(bad)
            used, limit = float(p.v_threshold[first]), float(p.v_reset[first])
            word = "v_reset, " if limit else ""
            key = "threshold" if p.kind == "Threshold" else "v_threshold"
            what = f"{key} is {used:.4g}{more}, it must be above {word}{limit:.4g}."
            hint = "The neuron would fire without end: raise v_threshold" + (" or lower v_reset." if limit else ".")
            findings.append(Finding("error", "threshold", what, p.name, first, used, limit, "", hint))
        result.append(p)
    return result


def like_snntorch(populations: Iterable[Population]) -> bool:
    """Whether values (in units of the file) are those of snnTorch's exporter: a step of 0.1 ms, v_reset 0."""
    leaky = [p for p in populations if p.leaky and p.spiking]
    return bool(leaky) and all(np.allclose(p.r * 1e-4, p.tau_mem, rtol=1e-4) and not np.any(p.v_reset) for p in leaky)


def like_spikingjelly(names: Iterable[str], populations: Iterable[Population]) -> bool:
    """Whether names are those that SpikingJelly's exporter gives the parts of a Sequential, and values those it writes.

    torch.fx calls a Sequential's input input_1 and its parts _0, _1, …; in a module's own forward(x) they are x and
    block_0, block_1, …. Norse's next release will do so, too, but for the input (input_tensor).
    """
    names, spiking = set(names), [p for p in populations if p.spiking]
    named = bool(names & {"input_1", "x"}) and any(
        re.fullmatch(r"\w*_\d+(_\w+)?", name) for name in names - {"input_1"}
    )
    return named and bool(spiking) and all(_spikingjelly_values(p) for p in spiking)


def likely(names: Iterable[str], populations: Iterable[Population]) -> str | None:
    """The profile of the exporter whose files, among those with a step of their own, look like this one."""
    populations = list(populations)
    if like_spikingjelly(names, populations):
        return "spikingjelly"
    return "snntorch" if like_snntorch(populations) else None


def _spikingjelly_values(p: Population) -> bool:
    if p.kind == "LIF":
        return bool(np.all((p.r >= 1) & (p.v_leak == p.v_reset)))
    if p.kind == "CubaLIF":
        return bool(np.all((p.r >= 1) & (p.v_leak == 0)) and p.w_in is not None and np.all(p.w_in >= 1))
    return p.kind == "IF"


def check_origin(names: Iterable[str], populations: Iterable[Population], h: float, findings: list[Finding]) -> None:
    """Say where a file (in its own units, read with step `h`) looks like SpikingJelly's or snnTorch's."""
    populations = list(populations)
    origin = likely(names, populations)
    if origin == "spikingjelly":
        found = PROFILES["spikingjelly"].step(populations)
        known = SPIKINGJELLY_STEP if found is None else found
        what = (
            "names like input_1, _0 and block_0 and these gains are what SpikingJelly's exporter writes. It fires at "
            "v ≥ v_threshold, not only above it"
        )
        other = abs(h - known) > 1e-3 * known
        if other:
            told = "its default dt is" if found is None else "by its gains its dt was"
            what += f", and {told} {known:g} s, the file was read with steps of {h:g} s"
        hint = 'If the network comes from it, pass frontend="spikingjelly", where dt is the real length of a step.'
        findings.append(Finding("warning" if other else "info", "frontend", f"{what}.", hint=hint))
    elif origin == "snntorch":
        what = (
            "r = tau_mem/0.0001 s and v_reset = 0 in every neuron are what snnTorch writes, whatever its neurons do; read "
            "as reset to 0."
        )
        hint = 'If they reset by subtraction (its default) or one step late, pass frontend="snntorch".'
        findings.append(Finding("info", "frontend", what, hint=hint))


def check_cycles(flat: FlatGraph, findings: list[Finding]) -> None:
    """Warn of cycles that are no recurrent layer of snnTorch's, X.lif with X.w_rec: its exporter makes them by itself."""
    names = list(flat.nodes)
    place = {name: i for i, name in enumerate(names)}
    edges = np.array([(place[a], place[b]) for a, b in flat.edges], int).reshape(-1, 2)
    matrix = scipy.sparse.coo_array((np.ones(len(edges)), edges.T), shape=(len(names), len(names)))
    count, label = connected_components(matrix, connection="strong")
    alone = {a for a, b in flat.edges if a == b}
    members: list[list[str]] = [[] for _ in range(count)]
    for name, k in zip(names, label, strict=True):
        members[k].append(name)
    for cycle in members:
        if len(cycle) == 1 and cycle[0] not in alone:
            continue
        own = {name.removesuffix(".lif").removesuffix(".w_rec") for name in cycle}
        if len(cycle) == 2 and len(own) == 1 and any(name.endswith(".w_rec") for name in cycle):
            continue
        listed = ", ".join(map(repr, cycle[:6])) + (", …" if len(cycle) > 6 else "")
        what = (
            f"a cycle of {listed} was read as recurrence, with a step of delay. snnTorch's exporter merges a module that "
            "is called twice in one step into one node, which gives such a cycle too; the file cannot tell which it is."
        )
        hint = (
            "If a module is used twice, give every use a module of its own (copy.deepcopy) before exporting; if it is "
            "recurrent, compare an ideal run with snnTorch."
        )
        findings.append(Finding("warning", "recurrence", what, cycle[0], hint=hint))


def check_gains(populations: Iterable[Population], dt: float, findings: list[Finding]) -> None:
    """Warn where r and w_in look like those of a frontend that does not follow NIR's equations."""
    populations = list(populations)
    cuba = [p for p in populations if p.tau_syn is not None and p.w_in is not None]
    leaky = [p for p in populations if p.leaky]
    if cuba and all(np.all(p.r == 1) and np.all(p.w_in == 1) for p in cuba):
        step = min(float(np.min(dt / p.tau_syn)) for p in cuba if p.tau_syn is not None)
        if step < 0.5:
            what = (
                f"r and w_in are 1 in every {cuba[0].kind}: by NIR's equations a spike then adds only "
                f"w_in·dt/tau_syn = {step:.3g} to the input current. Norse (LIFCell) and Rockpool write 1 "
                "where their own neurons add 1 per spike."
            )
            hint = 'If the network comes from one of them, pass frontend="norse" or frontend="rockpool".'
            findings.append(Finding("warning", "gain", what, node=cuba[0].name, hint=hint))
    for p in populations:
        if p.kind in ("IF", "I") and np.all(p.r * dt < 0.5):
            what = (
                f"r is {p.r[0]:.4g}: by NIR's equations a spike then adds only r·dt = {p.r[0] * dt:.3g} to the membrane. "
                "Norse, Sinabs and Spyx write 1 where their own neurons add 1 per spike."
            )
            hint = 'If the network comes from one of them, pass frontend="norse", "sinabs" or "spyx".'
            findings.append(Finding("warning", "gain", what, p.name, 0, float(p.r[0]), 1 / dt, "", hint))
    for p in leaky:
        low = (p.r > 0) & (p.r < 1)
        if low.any():
            first, more = several(low)
            value = float(p.r[first])
            what = (
                f"r is {value:.4g}{more}, below 1: by NIR's equations a spike then adds only "
                f"r·dt/tau = {value * dt / p.tau_mem[first]:.3g} to the membrane. Spyx writes its decay beta here."
            )
            hint = 'If the network comes from Spyx, pass frontend="spyx".'
            findings.append(Finding("warning", "gain", what, p.name, first, value, 1.0, "", hint))
