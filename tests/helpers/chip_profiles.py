"""Chip profiles for the tests."""

from __future__ import annotations

import numpy as np

from nir_dynapse.profile import ChipProfile


def changed(name="changed", pairs=(), **defects) -> ChipProfile:
    """A perfect chip but for the places named: {"rows": [(index, ...)]}."""
    arrays = {}
    for key, places in defects.items():
        arrays[key] = np.array(getattr(ChipProfile.perfect(), key))
        for place in places:
            arrays[key][place] = False
    return ChipProfile(name, pairs=np.array(pairs, int).reshape(-1, 4), **arrays)
