"""The currents that CAM rows can make from the base currents of a core, and how well they fit a set of weights.

One row selects some of the base currents and a dendrite; parallel rows add. A level is therefore a table of counts: how
often each base current acts through each dendrite. What a set of weights costs at given base currents needs only sums over
the sorted weights (prefix sums at the borders between levels), so it takes as long for 100 weights as for 100 000.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import lru_cache

import numpy as np

__all__ = ["Codebook", "Fit", "WeightClass", "codebook", "nearest_levels", "row_masks"]


class Codebook:
    """Levels that up to some number of CAM rows make: `counts` (L, dendrites, n_base), those with few rows first.

    `by_dendrite` (dendrites, L, n_base) and `by_base` (n_base, L, dendrites) are the same.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts
        self.by_dendrite, self.by_base = (
            np.ascontiguousarray(counts.transpose(axes)) for axes in ((1, 0, 2), (2, 0, 1))
        )

    def levels(self, base: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Σ_d gain_d·Σ_b count_db·base_b for starts `base` (R, n_base), `gains` (R, dendrites): (R, L)."""
        products = (gains[:, :, None] * base[:, None, :]).reshape(len(base), -1)
        return products @ self.counts.reshape(len(self.counts), -1).T


@lru_cache(maxsize=32)
def codebook(n_base: int, rows: int, dendrites: tuple[int, ...], n_dendrites: int) -> Codebook:
    """All levels of up to `rows` parallel CAM rows through any of `dendrites`, of which there are `n_dendrites` in all.

    A dendrite with counts c takes max(c) rows: row r selects the base currents whose count exceeds r.
    """
    single = np.stack(np.meshgrid(*[np.arange(rows + 1)] * n_base, indexing="ij"), -1).reshape(-1, n_base)
    counts, used = np.zeros((1, n_dendrites, n_base)), np.zeros(1, int)
    for d in dendrites:
        first, second = np.divmod(np.arange(len(counts) * len(single)), len(single))
        merged, total = counts[first], used[first] + single.max(1)[second]
        merged[:, d] = single[second]
        counts, used = merged[total <= rows], total[total <= rows]
    counts = counts[np.argsort(used, kind="stable")]  # of equal levels the one with fewer rows is taken
    counts.flags.writeable = False
    return Codebook(counts)


def _weighed(factors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums Σ_k factor_k·count_k.. (R, L, n) for `factors` (R, K) and `counts` (K, L, n)."""
    return np.dot(factors, counts.reshape(len(counts), -1)).reshape(len(factors), *counts.shape[1:])


def row_masks(counts: np.ndarray, rows: int) -> np.ndarray:
    """Masks (n, rows) of the parallel rows that make `counts` (n, n_base): bit b of row r is set where count_b > r."""
    bits = counts[:, None, :] > np.arange(rows)[None, :, None]
    return (bits * (1 << np.arange(counts.shape[1]))).sum(-1)


def nearest_levels(weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Index of the level nearest to each weight; on a tie the smaller one, of equal levels the first."""
    order = np.argsort(levels, kind="stable")
    ranked = levels[order]
    first = np.r_[True, ranked[1:] > ranked[:-1]]  # of equal levels keep the first: it takes fewest rows
    order, ranked = order[first], ranked[first]
    return order[np.searchsorted((ranked[1:] + ranked[:-1]) / 2, weights, side="left")]


class WeightClass:
    """Weights (n,) with importance (n,) that may use the levels of one codebook: their prefix sums."""

    def __init__(self, weights: np.ndarray, importance: np.ndarray, book: Codebook) -> None:
        order = np.argsort(weights, kind="stable")
        order = order[importance[order] > 0]  # what counts for nothing must not set the scale of the starts
        self.book = book
        self.x = weights[order]
        c = importance[order]
        self.count = np.r_[0.0, np.cumsum(c)]
        self.first = np.r_[0.0, np.cumsum(c * self.x)]
        self.second = float(np.sum(c * self.x**2))

    def with_book(self, book: Codebook) -> WeightClass:
        """The same weights with other levels."""
        other = copy(self)
        other.book = book
        return other

    def collect(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Importance and weighted sum of the weights that are nearest to each of the levels (R, L)."""
        starts, many = levels.shape
        # Places in the flat array: indexing along an axis costs several times what it finds.
        order = np.argsort(levels, axis=1, kind="stable") + many * np.arange(starts)[:, None]
        ranked = levels.ravel()[order]
        edge = np.zeros((starts, many + 1), int)
        edge[:, 1:-1] = np.searchsorted(self.x, (ranked[:, 1:] + ranked[:, :-1]) / 2, side="right")
        edge[:, -1] = len(self.x)
        count, first = np.empty_like(levels), np.empty_like(levels)
        for sums, found in ((self.count, count), (self.first, first)):
            at_edge = sums[edge]
            found.reshape(-1)[order] = at_edge[:, 1:] - at_edge[:, :-1]
        return count, first


class Fit:
    """How well base currents and gains fit several classes of weights together; R starts at once."""

    def __init__(self, classes: list[WeightClass]) -> None:
        self.classes = [c for c in classes if len(c.x) and c.count[-1] > 0]
        self.top = max((float(c.x[-1]) for c in self.classes), default=1.0)
        self.total = sum(float(c.count[-1]) for c in self.classes)

    def error(self, base: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Weighted squared error of each start (R,)."""
        result = np.zeros(len(base))
        for c in self.classes:
            levels = c.book.levels(base, gains)
            count, first = c.collect(levels)
            result += c.second - 2 * (levels * first).sum(1) + (levels**2 * count).sum(1)
        return np.maximum(result, 0.0)

    def improve_base(self, base: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Nearest level for every weight, then the base currents that fit this assignment best (least squares, ≥ 0)."""
        return self._least_squares(base, gains, base, lambda book: _weighed(gains, book.by_dendrite))

    def improve_gains(self, base: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Nearest level for every weight, then the gains that fit this assignment best (least squares, ≥ 0)."""
        return self._least_squares(base, gains, gains, lambda book: _weighed(base, book.by_base))

    def _least_squares(
        self, base: np.ndarray, gains: np.ndarray, old: np.ndarray, features_of: Callable[[Codebook], np.ndarray]
    ) -> np.ndarray:
        """What takes the place of `old` (R, n), in which levels are linear with the features (R, L, n) of their counts."""
        n = old.shape[1]
        matrix, target = np.zeros((len(old), n, n)), np.zeros((len(old), n))
        for c in self.classes:
            count, first = c.collect(c.book.levels(base, gains))
            features = features_of(c.book)
            matrix += np.matmul((features * count[..., None]).transpose(0, 2, 1), features)
            target += np.matmul(first[:, None, :], features)[:, 0]
        # A value that no weight selects is undetermined: the ridge keeps it where it is.
        ridge = 1e-9 * max(self.total, 1e-30)
        matrix += ridge * np.eye(n)
        return np.maximum(np.linalg.solve(matrix, (target + ridge * old)[..., None])[..., 0], 0.0)
