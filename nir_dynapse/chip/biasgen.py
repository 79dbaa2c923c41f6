"""The bias generator: amperes ↔ (coarse, fine) codes, with the relative error.

I(coarse, fine) = s(I_ref)·I_ref with I_ref = leak + Σ_k bit_k(fine)·I_k(coarse): eight branch currents and a leak per
(transistor type, coarse). The branch currents are a fit to the public parameter-generator table (`biasgen_currents.csv`,
mean error under 1 %); s is the mirror's scale factor, which depends on the current (`parameters.SCALES`). The curve is not
monotone in the code, so the inverse searches all 6 × 256 codes by relative error.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files

import numpy as np

from nir_dynapse.chip.parameters import PARAMETERS, SCALE_CURRENTS, SCALES

__all__ = ["current", "grid", "nearest_codes", "off_codes", "reach"]


@lru_cache(maxsize=1)
def _branches() -> dict[str, np.ndarray]:
    """Transistor type → (6, 9): eight branch currents and the leak of each coarse value, in A."""
    text = (files("nir_dynapse.chip") / "biasgen_currents.csv").read_text()
    rows: dict[str, list[list[float]]] = {"N": [], "P": []}
    for row in csv.DictReader(text.splitlines()):
        rows[row["transistor"]].append([float(row[f"bit{k}_A"]) for k in range(8)] + [float(row["leak_A"])])
    return {key: np.array(value) for key, value in rows.items()}


@lru_cache(maxsize=len(PARAMETERS))
def grid(name: str) -> np.ndarray:
    """Current in A of parameter `name` at every code, shape (coarse 6, fine 256); read-only."""
    parameter = PARAMETERS[name]
    branches = _branches()[parameter.transistor]
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    reference = branches[:, 8:] + branches[:, :8] @ bits.T
    scale = np.interp(np.log(reference), np.log(SCALE_CURRENTS), SCALES[parameter.geometry])
    table = reference * scale
    table.flags.writeable = False
    return table


@lru_cache(maxsize=len(PARAMETERS))
def _sorted_grid(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Log-currents of all codes in ascending order, and the flat code of each."""
    flat = np.log(grid(name).ravel())
    order = np.argsort(flat, kind="stable")
    return flat[order], order


def current(name: str, coarse, fine) -> np.ndarray:
    """Current in A of parameter `name` at codes `coarse` (0..5) and `fine` (0..255), any broadcastable shapes."""
    return grid(name)[np.asarray(coarse), np.asarray(fine)]


def reach(name: str) -> tuple[float, float]:
    """Smallest and largest current in A that parameter `name` can be set to."""
    table = grid(name)
    return float(table.min()), float(table.max())


def nearest_codes(name: str, amperes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes nearest to `amperes` by relative error.

    Returns coarse, fine (integers) and the relative error (I_set − I_asked)/I_asked, all in the shape of `amperes`. A
    current of 0 gets the smallest current there is (its relative error is reported as 0: nothing was asked for).
    """
    asked = np.asarray(amperes, float)
    table, order = _sorted_grid(name)
    wanted = np.log(np.maximum(asked, 1e-18))
    above = np.clip(np.searchsorted(table, wanted), 1, len(table) - 1)
    pick = np.where(wanted - table[above - 1] <= table[above] - wanted, above - 1, above)
    coarse, fine = np.divmod(order[pick], 256)
    got = grid(name)[coarse, fine]
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(asked > 0, got / asked - 1.0, 0.0)
    return coarse, fine, error


def off_codes(name: str) -> tuple[int, int]:
    """(coarse, fine) nearest to the `off` current of parameter `name`."""
    coarse, fine, _ = nearest_codes(name, PARAMETERS[name].off)
    return int(coarse), int(fine)
