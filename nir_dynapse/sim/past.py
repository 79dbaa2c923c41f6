"""What sources of an ideal run sent in steps before, for connections that are late."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Past", "beginning", "heard", "sent"]

Past = dict[str, Any]
"""Source → ring (depth, batch, n) of what it sent, and "" → the number of the step; empty where nothing is late."""


def beginning(depths: tuple[tuple[str, int, int], ...], batch: int, dtype: Any, xp: Any) -> Past:
    """Silence of the sources (name, neurons, depth)."""
    if not depths:
        return {}
    rings = {name: xp.zeros((depth, batch, n), dtype) for name, n, depth in depths}
    return {"": xp.zeros((), np.int32) if xp is not np else 0, **rings}


def sent(past: Past, source: str, now: Any, xp: Any) -> Past:
    """The past with what `source` sends `now` (batch, n); a ring of NumPy is written in place."""
    if source not in past:
        return past
    ring = past[source]
    place = past[""] % len(ring)
    if xp is np:
        ring[place] = now
        return past
    return {**past, source: ring.at[place].set(now)}


def heard(past: Past, source: str, lags: tuple[int, ...]) -> Any:
    """What `source` sent `lags` steps ago, side by side (batch, lags·n)."""
    ring = past[source]
    parts = ring[(past[""] - np.array(lags)) % len(ring)]
    return parts.swapaxes(0, 1).reshape(parts.shape[1], -1)
