"""Recordings in which the events that a population received stand beside its own spikes, as jaxsnn writes them.

jaxsnn 0.3.0 (`to_nir_data`) records, under one count of index, what a layer received and what it sent, up to a number of
events that the simulation was given; that number, not the neurons, is `n_neurons` (0 for an input), and what is left over
has the index -1 at the time t_max or 2·t_max. Which event is whose the file does not say; the graph does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.network.network import Network

__all__ = ["Pairs", "has_no_neurons", "is_mixed", "own_spikes", "samples_of"]

Pairs = list[tuple[np.ndarray, np.ndarray]]
"""(index, time in s) of the events of each sample."""


def has_no_neurons(observable: Any) -> bool:
    """Whether event data holds events and says that it has no neurons, as jaxsnn writes that of an input."""
    index = np.asarray(getattr(observable, "idx", ()))
    return getattr(observable, "n_neurons", None) == 0 and index.dtype.kind in "iu" and bool((index >= 0).any())


def is_mixed(found: dict[str, dict[str, Any]]) -> bool:
    """Whether the recordings of nodes have the marks of jaxsnn's.

    These are an input without neurons; or, where none is held, as many neurons as places for events in every node, and
    finite times where no event is.
    """
    held = [o["spikes"] for o in found.values() if hasattr(o.get("spikes"), "idx") and hasattr(o["spikes"], "time")]
    if any(has_no_neurons(observable) for observable in held):
        return True
    arrays = [(np.asarray(o.idx), np.asarray(o.time), getattr(o, "n_neurons", None)) for o in held]
    regular = all(
        i.ndim == 2 and i.shape == t.shape and i.dtype.kind in "iu" and t.dtype.kind == "f" for i, t, _ in arrays
    )
    return (
        regular
        and all(index.shape[1] == neurons for index, _, neurons in arrays)
        and any(np.isfinite(time[index < 0]).any() for index, time, _ in arrays)
    )


def own_spikes(found: dict[str, dict[str, Any]], network: Network | None) -> tuple[dict[str, Pairs], list[Finding]]:
    """The own spikes of each node, and findings: what it received is what its sources in `network` sent.

    An event is taken off once for each that a source sent at the same time with the same index, so the number of spikes
    of every neuron and bin is right even where a neuron fires with an input of its index. ConfigurationError where
    the graph or the recording of a source is missing.
    """
    if network is None:
        raise ConfigurationError(
            "in this recording the events that a layer received stand beside its own spikes, with the same indices, as "
            "jaxsnn writes it; n_neurons is no number of neurons. Pass the network that was run: network=from_nir(...)."
        )
    sources: dict[str, list[str]] = {population.name: [] for population in network.populations}
    for projection in network.projections:
        if projection.source != projection.target and projection.source not in sources.get(projection.target, [""]):
            sources[projection.target].append(projection.source)
    sizes = {port.name: port.size for port in network.inputs} | {p.name: p.size for p in network.populations}
    own: dict[str, Pairs] = {}
    findings: list[Finding] = []
    for node in found:
        _tell_apart(node, found, sources, sizes, own, findings)
    return own, findings


def _tell_apart(
    node: str,
    found: dict[str, dict[str, Any]],
    sources: dict[str, list[str]],
    sizes: dict[str, int],
    own: dict[str, Pairs],
    findings: list[Finding],
) -> None:
    """Fill `own[node]`, and before it those of its sources."""
    if node in own:
        return
    if node not in sizes:
        raise ConfigurationError(
            f"node {node!r}: the network has no such population or input (it has {', '.join(sizes)}). Give the network "
            "that was recorded, with its own names."
        )
    held = found[node].get("spikes")
    if held is None:
        raise ConfigurationError(f"node {node!r}: it has no observable 'spikes'. Export it with its spikes.")
    samples = samples_of(node, held)
    own[node] = samples  # a loop ends here: what comes back around is taken for the node's own
    parts: list[Pairs] = []
    for source in sources.get(node, []):
        if source not in found:
            raise ConfigurationError(
                f"node {node!r}: what it received stands beside its spikes, and cannot be told from them without the "
                f"recording of {source!r}, which the data lacks. Export that node, too."
            )
        _tell_apart(source, found, sources, sizes, own, findings)
        parts.append(own[source])
    if any(len(part) != len(samples) for part in parts):
        raise ConfigurationError(f"node {node!r}: its source has another number of samples. Export one run.")
    own[node] = [_less(events, [part[i] for part in parts]) for i, events in enumerate(samples)]
    for index, _ in own[node]:
        if index.max(initial=-1) >= sizes[node]:
            raise ConfigurationError(
                f"node {node!r}: after what its sources sent, an event of neuron {index.max()} is left, it has "
                f"{sizes[node]} neurons. Give the network and all recordings of one run."
            )
    full = [
        i for i, (index, _) in enumerate(samples) if node in sources and 0 < np.asarray(held.idx).shape[1] == len(index)
    ]
    if full:
        last = min(float(samples[i][1].max()) for i in full)
        what = (
            f"its recording is full in {len(full)} of {len(samples)} samples ({len(samples[full[0]][0])} events, received "
            f"ones included): what it sent after {last:g} s, until {float(held.t_max):g} s, may be missing."
        )
        findings.append(
            Finding(
                "warning",
                "recording-full",
                what,
                node=node,
                hint="Simulate more events for it (n_steps) and export again.",
            )
        )


def samples_of(node: str, held: Any) -> Pairs:
    """Index and time of the events of each sample, empty places left out; ConfigurationError where that is no EventData."""
    try:
        index, time = np.asarray(held.idx), np.asarray(held.time)
        if index.ndim != 2 or index.shape != time.shape or index.dtype.kind not in "iu" or time.dtype.kind != "f":
            raise ValueError(f"idx {index.dtype} {index.shape}, time {time.dtype} {time.shape}")
        return [(i[i >= 0].astype(np.int64), t[i >= 0]) for i, t in zip(index, time, strict=True)]
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"node {node!r}: 'spikes' is no EventData that can be read ({error}). Export it again."
        ) from error


def _less(events: tuple[np.ndarray, np.ndarray], taken: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """`events` without one for each of `taken` with the same time and index."""
    index, time = events
    pairs = np.concatenate([t.astype(np.float64) + 1j * i for i, t in (events, *taken)])
    number = np.unique(pairs, return_inverse=True)[1].reshape(-1)
    mine, others = number[: len(index)], np.bincount(number[len(index) :], minlength=int(number.max(initial=0)) + 1)
    order = np.argsort(mine, kind="stable")
    rank = np.arange(len(mine)) - np.searchsorted(mine[order], mine[order])
    kept = np.ones(len(mine), bool)
    kept[order] = rank >= others[mine[order]]
    return index[kept], time[kept]
