"""Measured activity as integers, so that the search for places adds up the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nir_dynapse.circuit.params import Topology
from nir_dynapse.errors import ParameterRangeError

__all__ = ["source_activity"]

MOST = 1e12
"""Events per second that no source sends."""
RESOLUTION = 1000
"""Events that the mean source counts as."""


def source_activity(activity: Mapping[str, Any] | None, t: Topology) -> np.ndarray:
    """Relative number of events of every source (sources,) as int64.

    `activity` maps nodes to events per second, one number or one per neuron or channel. Nodes that are not
    named count as the mean of those that are; without `activity` all sources are alike (1). The tonic channel, which the
    host sends to whoever needs it, counts as 0. ParameterRangeError for unknown nodes and bad numbers.
    """
    sizes = {**{port.name: port.size for port in t.inputs}, "": 1, **t.node_sizes}
    if not activity:
        rates = np.ones(t.n_sources, np.int64)
        rates[t.tonic] = 0
        return rates
    parts = []
    known = [name for name in sizes if name]  # the tonic channel has none
    if unknown := sorted(set(activity) - set(known)):
        raise ParameterRangeError(
            f"activity: there is no node {unknown[0]!r}. Known nodes: {', '.join(map(repr, known))}."
        )
    for name, size in sizes.items():
        try:
            values = np.asarray(activity.get(name, np.nan), float).reshape(-1)
        except (TypeError, ValueError):
            values = np.zeros(0)
        if name in activity and (len(values) not in (1, size) or not (values < MOST).all() or (values < 0).any()):
            said = f"{len(values)} rates ({values.min()} to {values.max()} events/s)" if len(values) else "no numbers"
            raise ParameterRangeError(
                f"activity: node {name!r} has {said}, needed are 1 or {size} finite ones from 0, "
                f"below {MOST:g}. Give events per second."
            )
        parts.append(np.repeat(np.broadcast_to(values, size), t.copies_of.get(name, 1)))
    rates = np.concatenate(parts)
    given = ~np.isnan(rates)
    mean = float(rates[given].mean()) or 1.0
    rates = np.where(given, rates, mean) / mean * RESOLUTION
    rates[t.tonic] = 0
    return np.rint(rates).astype(np.int64)
