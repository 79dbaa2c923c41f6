"""Weights as masks: four base currents per core, a 4-bit mask per CAM row.

A row's current is Σ_b bit_b·base_b, so the 16 levels of a core are the subset sums of its base currents. They are found
by alternating exact nearest-level assignment and weighted least squares over many starts. Only sums over the sorted
weights are needed (prefix sums at the 15 decision borders), so a start costs the same for 100 weights as for 100 000.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["QuantisedWeights", "assign_masks", "quantise_weights"]

STARTS = 192
ROUNDS = 40


class QuantisedWeights(NamedTuple):
    """Base currents (n_base,) ascending, mask of each weight (n,), and what it makes of each weight (n,)."""

    base: np.ndarray
    masks: np.ndarray
    values: np.ndarray

    def nrmse(self, weights: np.ndarray) -> float:
        """RMS error over RMS of the weights."""
        power = float(np.mean(np.square(weights))) if len(weights) else 0.0
        return float(np.sqrt(np.mean(np.square(self.values - weights)) / power)) if power else 0.0


def _bits(n_base: int) -> np.ndarray:
    """(2**n_base, n_base): the bits of every mask."""
    return ((np.arange(1 << n_base)[:, None] >> np.arange(n_base)) & 1).astype(float)


def assign_masks(weights: np.ndarray, base: np.ndarray) -> np.ndarray:
    """The mask whose sum of base currents is nearest to each weight (the smaller one on a tie)."""
    levels = _bits(len(base)) @ base
    order = np.argsort(levels, kind="stable")
    borders = (levels[order][1:] + levels[order][:-1]) / 2
    return order[np.searchsorted(borders, weights, side="left")]


class _Sums:
    """Prefix sums over the sorted weights: what least squares needs of any partition by borders."""

    def __init__(self, weights: np.ndarray, importance: np.ndarray) -> None:
        order = np.argsort(weights, kind="stable")
        self.x = weights[order]
        c = importance[order]
        self.count = np.r_[0.0, np.cumsum(c)]
        self.first = np.r_[0.0, np.cumsum(c * self.x)]
        self.second = float(np.sum(c * self.x**2))

    def partition(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For starts (R, L) of levels: order of the levels, importance and weighted sum that each level collects."""
        order = np.argsort(levels, axis=1, kind="stable")
        ranked = np.take_along_axis(levels, order, 1)
        cut = np.searchsorted(self.x, (ranked[:, 1:] + ranked[:, :-1]) / 2, side="right")
        edge = np.concatenate([np.zeros((len(levels), 1), int), cut, np.full((len(levels), 1), len(self.x))], axis=1)
        return order, np.diff(self.count[edge], axis=1), np.diff(self.first[edge], axis=1)

    def error(self, base: np.ndarray) -> np.ndarray:
        """Weighted squared error of each start's base currents (R, n_base)."""
        levels = base @ _bits(base.shape[1]).T
        order, count, first = self.partition(levels)
        ranked = np.take_along_axis(levels, order, 1)
        return self.second - 2 * (ranked * first).sum(1) + (ranked**2 * count).sum(1)


def _starts(sums: _Sums, n_base: int, key: int) -> np.ndarray:
    """Starting base currents: binary ladders and random sorted ones, all spanning the largest weight."""
    rng = np.random.default_rng(key)
    top = float(sums.x[-1])
    ladder = 2.0 ** np.arange(n_base)
    ladders = np.outer(np.linspace(0.4, 1.1, STARTS // 4), top * ladder / ladder.sum())
    random = np.sort(rng.dirichlet(np.full(n_base, 0.7), STARTS - len(ladders)), axis=1)
    return np.concatenate([ladders, random * top * rng.uniform(0.5, 1.2, (len(random), 1))])


def _least_squares(sums: _Sums, base: np.ndarray) -> np.ndarray:
    """One round: nearest level for every weight, then the base currents that fit this assignment best."""
    bits = _bits(base.shape[1])
    order, count, first = sums.partition(base @ bits.T)
    chosen = bits[order]
    matrix = np.einsum("rl,rli,rlj->rij", count, chosen, chosen)
    target = np.einsum("rl,rli->ri", first, chosen)
    # A base current that no weight selects is undetermined: the ridge keeps it where it is.
    ridge = 1e-9 * max(float(sums.count[-1]), 1e-30)
    matrix += ridge * np.eye(base.shape[1])
    return np.maximum(np.linalg.solve(matrix, (target + ridge * base)[..., None])[..., 0], 0.0)


def _to_grid(sums: _Sums, base: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Indices of the best base currents on the grid near `base`: nearest values, then coordinate descent."""
    index = np.clip(np.searchsorted(grid, base), 1, len(grid) - 1)
    index = np.where(base - grid[index - 1] < grid[index] - base, index - 1, index)
    best = float(sums.error(grid[index][None])[0])
    for width in (8, 3, 1):
        improved = True
        while improved:
            improved = False
            for b in range(len(base)):
                trial = np.repeat(index[None], 2 * width + 1, axis=0)
                trial[:, b] = np.clip(index[b] + np.arange(-width, width + 1), 0, len(grid) - 1)
                errors = sums.error(grid[trial])
                pick = int(np.argmin(errors))
                if errors[pick] < best * (1 - 1e-12) - 1e-300:
                    best, index, improved = float(errors[pick]), trial[pick], True
    return index


def quantise_weights(
    weights: np.ndarray,
    *,
    n_base: int = 4,
    importance: np.ndarray | None = None,
    grid: np.ndarray | None = None,
    key: int = 0,
) -> QuantisedWeights:
    """Base currents and masks with the least weighted squared error for non-negative `weights` (n,).

    `importance` (n,) weighs the errors, `grid` holds the currents that a base can be set to (ascending; any positive
    value where None), `key` seeds the starts. Zero weights get mask 0 and do not take part. Deterministic.
    """
    weights = np.asarray(weights, float).reshape(-1)
    importance = np.ones_like(weights) if importance is None else np.asarray(importance, float).reshape(-1)
    present = weights > 0
    if not present.any():
        base = np.zeros(n_base) if grid is None else np.full(n_base, np.min(grid))
        return QuantisedWeights(base, np.zeros(len(weights), int), np.zeros(len(weights)))
    scale = float(weights.max())
    sums = _Sums(weights[present] / scale, importance[present])
    base = _starts(sums, n_base, key)
    for _ in range(ROUNDS):
        base = _least_squares(sums, base)
    base = base[np.argsort(sums.error(base), kind="stable")[:4]]
    if grid is None:
        base = np.sort(base[0]) * scale
    else:
        ascending = np.unique(grid)
        index = np.stack([_to_grid(sums, candidate, ascending / scale) for candidate in base])
        best = int(np.argmin(sums.error(ascending[index] / scale)))
        base = ascending[np.sort(index[best])]
    masks = np.where(present, assign_masks(weights, base), 0)
    return QuantisedWeights(base, masks, _bits(n_base)[masks] @ base)
