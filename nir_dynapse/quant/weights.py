"""Weights as masks: four base currents per core, a 4-bit mask per CAM row.

The levels of a core are sums of its base currents. They are found by alternating exact nearest-level assignment and
weighted least squares over many starts, then moved to the currents that the bias generator can make.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.quant.levels import Fit, WeightClass, codebook, nearest_levels, row_masks

__all__ = ["QuantisedWeights", "assign_masks", "best_start", "descend", "quantise_weights", "starts", "to_grid"]

STARTS = 192
ROUNDS = 40
FEW = 64
"""Weights below which more starts are worth their time: with few weights there are many local optima."""
MOST_LEVELS = 4096
SETTLED = 1e-7
"""Relative gain of a round below which the starts have settled."""


class QuantisedWeights(NamedTuple):
    """Base currents (n_base,) ascending, mask of each weight (n,), and what it makes of each weight (n,).

    With `rows` above 1 the masks are (n, rows): parallel CAM rows, whose currents add; a row that is not needed has mask 0.
    """

    base: np.ndarray
    masks: np.ndarray
    values: np.ndarray

    def nrmse(self, weights: np.ndarray) -> float:
        """RMS error over RMS of the weights."""
        power = float(np.mean(np.square(weights))) if len(weights) else 0.0
        return float(np.sqrt(np.mean(np.square(self.values - weights)) / power)) if power else 0.0


def assign_masks(weights: np.ndarray, base: np.ndarray) -> np.ndarray:
    """The mask whose sum of base currents is nearest to each weight (the smaller one on a tie)."""
    bits = (np.arange(1 << len(base))[:, None] >> np.arange(len(base))) & 1
    return nearest_levels(np.asarray(weights, float), bits @ np.asarray(base, float))


def starts(top: float, n_base: int, rows: int, key: int, times: int = 1, even: bool = False) -> np.ndarray:
    """Base currents (R, n_base) to start from: ladders and random sorted ones, which span the largest weight.

    The more rows, the more levels, the fewer starts are needed; `times` as many, and `even`ly drawn ones beside them.
    """
    rng = np.random.default_rng(key)
    n = STARTS // rows * times
    ladders = []
    # With r rows a count reaches r, so that the densest ladder has steps of r + 1.
    for ratio in sorted({2.0, float(rows + 1)}):
        ladder = ratio ** np.arange(n_base)
        ladders.append(np.outer(np.linspace(0.4, 1.1, n // 4), top * ladder / ladder.sum()))
    random = np.sort(rng.dirichlet(np.full(n_base, 0.7), n - n // 4), axis=1)
    spread = top * rng.uniform(0.5, 1.2, (len(random), 1))
    drawn = [top * rng.uniform(0, 0.5, (n, n_base))] if even else []
    return np.concatenate([*ladders, random * spread, *drawn]) / np.sqrt(rows)


def descend(
    fit: Fit, base: np.ndarray, gains: np.ndarray, *, move_gains: bool = False, rounds: int = ROUNDS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alternate assignment and least squares from starts (R, n_base), (R, D): base currents, gains and error of each.

    `move_gains` also fits the gains. Starts that fall far behind are dropped on the way.
    """
    last = np.inf
    for turn in range(rounds):
        base = fit.improve_base(base, gains)
        if move_gains:
            gains = fit.improve_gains(base, gains)
            size = np.maximum(
                gains.max(1, keepdims=True), 1e-300
            )  # the scale of base and gains is one freedom, not two
            base, gains = base * size, gains / size
        if turn % 8 == 7:
            error = fit.error(base, gains)
            keep = np.argsort(error, kind="stable")[: max(8, len(error) // 2)]
            base, gains = base[keep], gains[keep]
            if error[keep[-1]] > last * (1 - SETTLED) and len(keep) == 8:
                break
            last = error[keep[-1]]
    return base, gains, fit.error(base, gains)


def to_grid(fit: Fit, base: np.ndarray, gains: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, float]:
    """Indices (n_base,) of the best base currents on the ascending `grid` near `base` (n_base,), and their error.

    The grid is (size,), or (n_base, size) with one for each. Nearest values first, then coordinate descent with the gains
    (D,) as they are.
    """
    bits, size = np.arange(len(base)), grid.shape[-1]
    grid = np.broadcast_to(grid, (len(base), size))
    index = np.array([np.searchsorted(grid[b], base[b]) for b in bits])
    index = np.clip(index, 1, size - 1)
    index = np.where(base - grid[bits, index - 1] < grid[bits, index] - base, index - 1, index)
    best = float(fit.error(grid[bits, index][None], gains[None])[0])
    for width in (8, 3, 1):
        improved = True
        while improved:
            improved = False
            for b in range(len(base)):
                trial = np.repeat(index[None], 2 * width + 1, axis=0)
                trial[:, b] = np.clip(index[b] + np.arange(-width, width + 1), 0, size - 1)
                errors = fit.error(grid[bits, trial], np.repeat(gains[None], len(trial), axis=0))
                pick = int(np.argmin(errors))
                if errors[pick] < best * (1 - 1e-12) - 1e-300:
                    best, index, improved = float(errors[pick]), trial[pick], True
    return index, best


def quantise_weights(
    weights: np.ndarray,
    *,
    n_base: int = 4,
    importance: np.ndarray | None = None,
    grid: np.ndarray | None = None,
    key: int = 0,
    rows: int = 1,
) -> QuantisedWeights:
    """Base currents and masks with the least weighted squared error for non-negative `weights` (n,).

    min over base, masks of Σ_i importance_i·(weight_i − Σ_r Σ_b bit_irb·base_b)². `importance` (n,) weighs the errors,
    `grid` holds the currents that a base can be set to (any positive value where None), `key` seeds the starts, `rows` is
    the number of parallel CAM rows that a weight may take. Zero weights get mask 0 and do not take part. Deterministic.
    ParameterRangeError for weights or importance that are negative or not finite, for `n_base` or `rows` outside 1..8
    and 1..4, and for more than `MOST_LEVELS` levels.
    """
    weights = _checked("weights", weights)
    importance = np.ones_like(weights) if importance is None else _checked("importance", importance)
    if len(importance) != len(weights):
        raise ParameterRangeError(
            f"quantise_weights: {len(importance)} values of importance for {len(weights)} weights. Give one for each."
        )
    for name, value, most in (("n_base", n_base, 8), ("rows", rows, 4)):
        if not 1 <= value <= most:
            raise ParameterRangeError(
                f"quantise_weights: {name} is {value}, allowed are 1 to {most}. Choose one of them."
            )
    if (rows + 1) ** n_base > MOST_LEVELS:
        raise ParameterRangeError(
            f"quantise_weights: {n_base} base currents and {rows} rows make {(rows + 1) ** n_base} levels, allowed are "
            f"{MOST_LEVELS}. Choose fewer of either."
        )
    ascending = None if grid is None else np.unique(_checked("grid", grid))
    if ascending is not None and not len(ascending):
        raise ParameterRangeError("quantise_weights: the grid is empty. Give the currents that a base can be set to.")

    book = codebook(n_base, rows, (0,), 1)
    counts = np.zeros((len(weights), n_base), int)
    present = weights > 0
    if not present.any():
        base = np.zeros(n_base) if ascending is None else np.full(n_base, ascending[0])
    else:
        scale = float(weights.max())
        fit = Fit([WeightClass(weights[present] / scale, importance[present], book)])
        base = best_start(fit, n_base, rows, key, None if ascending is None else ascending / scale) * scale
        if ascending is not None:  # the division and multiplication by the scale may have moved the last bit
            base = ascending[np.abs(ascending[:, None] - base).argmin(0)]
        levels = book.levels(base[None], np.ones((1, 1)))[0]
        counts[present] = book.counts[nearest_levels(weights[present], levels), 0]
    masks = row_masks(counts, rows)
    return QuantisedWeights(base, masks[:, 0] if rows == 1 else masks, counts @ base)


def best_start(fit: Fit, n_base: int, rows: int, key: int, grid: np.ndarray | None) -> np.ndarray:
    """The best base currents (n_base,), ascending, of many starts for weights of one dendrite; on `grid` where given."""
    few = sum(len(c.x) for c in fit.classes) < FEW
    first = starts(fit.top, n_base, rows, key, times=4 if few else 1, even=True)
    if rows > 1:  # never worse than with a row less
        fewer = Fit([c.with_book(codebook(n_base, rows - 1, (0,), 1)) for c in fit.classes])
        first = np.concatenate([first, best_start(fewer, n_base, rows - 1, key, grid)[None]])
    base, gains, error = descend(fit, first, np.ones((len(first), 1)))
    order = np.argsort(error, kind="stable")[:4]
    if grid is None:
        return np.sort(base[order[0]])
    found = [to_grid(fit, base[k], gains[k], grid) for k in order]
    index, _ = min(found, key=lambda item: item[1])
    return np.sort(grid[index])


def _checked(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float).reshape(-1)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        n = int(np.argmax(bad))
        raise ParameterRangeError(
            f"quantise_weights: {name}[{n}] is {values[n]}, allowed are finite values from 0. Signs belong to the dendrite."
        )
    return values
