"""Chip profiles for the tests."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nir_dynapse.chip.device import PARAMETERS
from nir_dynapse.chip.profile import ChipProfile


def changed(name="changed", pairs=(), **defects) -> ChipProfile:
    """A perfect chip but for the places named: {"rows": [(index, ...)]}."""
    arrays = {}
    for key, places in defects.items():
        arrays[key] = np.array(getattr(ChipProfile.perfect(), key))
        for place in places:
            arrays[key][place] = False
    return ChipProfile(name, pairs=np.array(pairs, int).reshape(-1, 4), **arrays)


def measured(key: int = 0, low: float = 0.6, high: float = 1.6, names: Iterable[str] = PARAMETERS) -> ChipProfile:
    """A chip whose currents are off by a random scale for each of the parameters and cores."""
    rng = np.random.default_rng(key)
    return ChipProfile(
        f"chip {key}", scales={name: np.exp(rng.uniform(np.log(low), np.log(high), 4)) for name in names}
    )


def spread_out(key: int = 0, sigma: float = 0.1, names: Iterable[str] = PARAMETERS) -> dict[str, np.ndarray]:
    """Random factors of all neurons for each of the parameters."""
    rng = np.random.default_rng(key)
    return {name: np.exp(rng.normal(0, sigma, (4, 256))) for name in names}
