"""The weights of one core: base currents, gains of its dendrites, and the CAM rows that make each weight.

All synapses of a core share four base currents, but each dendrite has a gain of its own, and where a neuron has rows
to spare a weight can be made of several of them. All three are fitted together: many starts on a relaxed problem (every
weight gets its share of the spare rows), then in turns the rows that pay most and least squares, then the codes of the
gains, and at last the base currents on the grid of the bias generator, with the gains that the codes really give.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import AMPA, BASE_WEIGHTS, DENDRITES, NMDA, WEIGHT_GAINS, Device
from nir_dynapse.quant.levels import Fit, WeightClass, codebook, nearest_levels, row_masks
from nir_dynapse.quant.weights import descend, starts, to_grid

__all__ = ["CoreProblem", "CoreWeights", "importance_of", "quantise_core"]

NOMINAL = np.ones(len(DENDRITES))
NOMINAL.flags.writeable = False
SHY = 0.97
"""Part of the reach of a base current that is aimed at where cores are scaled: the rest is for the last fit."""
MOST_ROWS = 3
"""Parallel CAM rows of one weight at most: three make 256 levels, far finer than the mismatch between rows."""
WORTH = 0.01
"""Part of a weight (of a tenth of the RMS weight, if that is more) that a further row must take off its error."""
TURNS = 3


class CoreProblem(NamedTuple):
    """Weights (n,) of one core as charge per event, with their `dendrite`, `neuron` (0..m-1) and `importance`.

    `spare` (m,) are the CAM rows that each neuron has beyond one per weight; `unit` (4,) is the charge per event of each
    dendrite per A of gain current and A of weight current. `second_range` lets AMPA weights use the NMDA dendrite too.
    `base_scale` (4,) and `gain_scale` (4,) of the dendrites: currents that flow over the nominal ones of their codes.
    """

    charge: np.ndarray
    dendrite: np.ndarray
    neuron: np.ndarray
    importance: np.ndarray
    spare: np.ndarray
    unit: np.ndarray
    second_range: bool = False
    base_scale: np.ndarray = NOMINAL
    gain_scale: np.ndarray = NOMINAL


class CoreWeights(NamedTuple):
    """Base currents (4,) in A as they flow, code (coarse, fine) of the gain of each dendrite in use, and the CAM rows.

    Row k makes a part of weight `which[k]` through `dendrite[k]` with `mask[k]`; every weight has at least one row.
    `values` (n,) is what the rows make of each weight, as charge per event.
    """

    base: np.ndarray
    gain_codes: dict[int, tuple[int, int]]
    which: np.ndarray
    dendrite: np.ndarray
    mask: np.ndarray
    values: np.ndarray


def importance_of(charge: np.ndarray) -> np.ndarray:
    """How much an error of each weight counts by default: relative and absolute error in one.

    1/(w + 0.02·max w): with absolute errors alone a few large weights take all the levels.
    """
    return 1 / (charge + 0.02 * charge.max(initial=0.0) + 1e-300)


def quantise_core(problem: CoreProblem, device: Device, key: int = 0) -> CoreWeights:
    """Base currents, gain codes and rows with the least error Σ importance·(value − charge)². Deterministic.

    Weights take further rows only where fewer leave some weight off by more than `WORTH`.
    """
    room = 1 + int(problem.spare.max(initial=0))
    # Two ranges and three rows would be thousands of levels.
    most = min(room, 2 if problem.second_range else MOST_ROWS)
    present = problem.charge > 0
    size = np.round(np.log(problem.charge[present]) / WORTH / 2)
    different = max((len(np.unique(size[problem.dendrite[present] == d])) for d in range(len(DENDRITES))), default=0)
    # So many levels cannot do what so many different weights need.
    fewest = next((r for r in range(1, most) if (r + 1) ** len(BASE_WEIGHTS) > different), most)
    found = []
    for rows in range(fewest, most + 1):
        core = _Core(problem, device, rows)
        found.append(core.solve(key))
        if core.settled(found[-1][1]):
            break
    return min(found, key=lambda item: item[0])[1]


class _OnGrid(NamedTuple):
    """What the bias generator can make: base currents in A and codes of the gains, and the rows of each weight (n,); `base`
    and `gains` are both in the units of the fit.
    """

    amperes: np.ndarray
    codes: dict[int, tuple[int, int]]
    rows: np.ndarray
    base: np.ndarray
    gains: np.ndarray


class _Core:
    def __init__(self, problem: CoreProblem, device: Device, most_rows: int) -> None:
        self.problem, self.device, self.most_rows = problem, device, most_rows
        # One row for each base current; all four have the same transistors.
        self.grid = np.unique(biasgen.grid(BASE_WEIGHTS[0])) * problem.base_scale[:, None]
        self.scaled = bool((problem.base_scale != 1).any())
        self.size = float(problem.charge.max(initial=0.0)) or 1.0
        self.x = problem.charge / self.size
        self.present = self.x > 0
        used = {int(d) for d in np.unique(problem.dendrite)}
        self.through = {d: (d, NMDA) if problem.second_range and d == AMPA else (d,) for d in used}
        self.dendrites = sorted({d for ways in self.through.values() for d in ways})
        self.only: Fit | None = None
        self.rms = float(np.sqrt(np.mean(self.x[self.present] ** 2))) if self.present.any() else 1.0

    def book(self, dendrite: int, rows: int):
        ways = tuple(self.dendrites.index(d) for d in self.through[dendrite])
        return codebook(len(BASE_WEIGHTS), rows, ways, len(self.dendrites))

    def fit(self, shares: list[np.ndarray]) -> Fit:
        """The fit in which weight n may use r + 1 rows with the share `shares[r][n]` of its importance."""
        if self.most_rows == 1:  # then all shares are 1
            self.only = self.only or self._fit(shares)
            return self.only
        return self._fit(shares)

    def _fit(self, shares: list[np.ndarray]) -> Fit:
        classes = []
        for d in self.through:
            for r, share in enumerate(shares):
                here = self.present & (self.problem.dendrite == d) & (share > 0)
                if here.any():
                    importance = self.problem.importance[here] * share[here]
                    classes.append(WeightClass(self.x[here], importance, self.book(d, r + 1)))
        return Fit(classes)

    def relaxed(self) -> list[np.ndarray]:
        """Shares that spread the spare rows of each neuron evenly over its weights."""
        p = self.problem
        count = np.bincount(p.neuron, minlength=len(p.spare))
        extra = np.minimum((p.spare / np.maximum(count, 1))[p.neuron], self.most_rows - 1)
        rows = np.arange(self.most_rows)[:, None]
        return list(np.maximum(0.0, 1 - np.abs(extra - rows)))

    def allot(self, base: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Rows of each weight (n,): one, and the spare rows of its neuron where they take most off the error."""
        if self.most_rows == 1:
            return np.ones(len(self.x), int)
        p = self.problem
        error = np.zeros((self.most_rows, len(self.x)))
        for d in self.through:
            here = p.dendrite == d
            for r in range(self.most_rows):
                levels = self.book(d, r + 1).levels(base[None], gains[None])[0]
                error[r, here] = (levels[nearest_levels(self.x[here], levels)] - self.x[here]) ** 2
        saved = np.maximum(error[:-1] - error[1:], 0.0)
        worth = saved >= (WORTH * np.maximum(self.x, 0.1 * self.rms)) ** 2
        gain = np.minimum.accumulate(np.where(worth & self.present, saved * p.importance, 0.0), axis=0)
        # The best first within each neuron; a second row of a weight stands before its third.
        flat, neuron = gain.ravel(), np.tile(p.neuron, len(gain))
        order = np.lexsort((-flat, neuron))
        order = order[flat[order] > 0]
        first = np.searchsorted(neuron[order], neuron[order])
        taken = order[np.arange(len(order)) - first < p.spare[neuron[order]]]
        return 1 + np.bincount(taken % max(len(self.x), 1), minlength=len(self.x))

    def shares(self, rows: np.ndarray) -> list[np.ndarray]:
        return [(rows == r + 1).astype(float) for r in range(self.most_rows)]

    def settled(self, solution: CoreWeights) -> bool:
        """Whether no weight is off by so much that a further row would be worth it."""
        error = np.abs(solution.values / self.size - self.x)
        return bool((error <= WORTH * np.maximum(self.x, 0.1 * self.rms)).all())

    def solve(self, key: int) -> tuple[float, CoreWeights]:
        """Weighted squared error and the solution."""
        if not self.present.any():
            base = self.grid[:, 0].copy()
            none = np.zeros(len(self.x), int)
            return 0.0, CoreWeights(base, {}, np.arange(len(self.x)), self.problem.dendrite, none, none.astype(float))
        move = len(self.dendrites) > 1
        shares = self.relaxed()
        fit = self.fit(shares)
        mean_rows = 1 + float(sum(r * share.mean() for r, share in enumerate(shares)))
        rows = int(np.clip(round(mean_rows), 1, self.most_rows))
        first = starts(fit.top, len(BASE_WEIGHTS), rows, key)
        base, gains, error = descend(fit, first, self._gain_starts(len(first), key), move_gains=move)
        candidates = [(base[k], gains[k]) for k in np.argsort(error, kind="stable")[:4]]
        if self.most_rows > 1:
            candidates = [self._take_turns(b, g, move) for b, g in candidates[:2]]
        return self._best([self._on_grid(b, g) for b, g in candidates])

    def _best(self, found: list[_OnGrid]) -> tuple[float, CoreWeights]:
        """The one with the least weighted squared error: that error, and its rows."""
        p, errors, values = self.problem, [], []
        for one in found:
            values.append(np.einsum("ndb,d,b->n", self._counts(one), one.gains, one.base) * self.size)
            errors.append(float(np.sum(p.importance * (values[-1] / self.size - self.x) ** 2)))
        k = int(np.argmin(errors))
        return errors[k], self._rows(found[k], values[k])

    def _take_turns(self, base: np.ndarray, gains: np.ndarray, move: bool) -> tuple[np.ndarray, np.ndarray]:
        """Allot the rows and fit what they can make, in turns."""
        for _ in range(TURNS):
            fit = self.fit(self.shares(self.allot(base, gains)))
            found, found_gains, _ = descend(fit, base[None], gains[None], move_gains=move, rounds=8)
            base, gains = found[0], found_gains[0]
        return base, gains

    def _gain_starts(self, n: int, key: int) -> np.ndarray:
        """Gains (n, dendrites) to start from: in the ratio of the RMS or of the largest weights, give or take."""
        rng = np.random.default_rng((key, 1))
        ways = np.ones((2, len(self.dendrites)))
        for k, d in enumerate(self.dendrites):
            mine = self.x[self.present & (self.problem.dendrite == d)]
            if len(mine):
                ways[:, k] = np.sqrt(np.mean(mine**2)), mine.max()
            elif d == NMDA:  # the second range: coarse beside fine
                ways[:, k] = 0.25 * self.x.max()
        gains = ways[rng.integers(0, 2, n)] * np.exp(rng.uniform(-0.5, 0.5, (n, len(self.dendrites))))
        gains[:1] = ways[1]
        return gains / gains.max(1, keepdims=True)

    def _on_grid(self, base: np.ndarray, gains: np.ndarray) -> _OnGrid:
        """Codes for the gains, base currents on the grid, and how many rows each weight gets."""
        p, names = self.problem, [WEIGHT_GAINS[d] for d in self.dendrites]
        unit, scale = p.unit[self.dendrites], p.gain_scale[self.dendrites]
        if self.scaled:  # the largest for the one that reaches furthest
            base = np.sort(base)[np.argsort(np.argsort(p.base_scale, kind="stable"))]
        # Amperes per unit of base: the largest level is `weight_top`, lower where a gain would fall below its reach.
        amperes = self.device.weight_top / max(float(base.sum()), 1e-300)
        lowest = np.array([biasgen.reach(name)[0] for name in names]) * scale
        with np.errstate(divide="ignore"):
            amperes = min(amperes, float(np.min(np.where(gains > 0, gains * self.size / (unit * lowest), np.inf))))
        if self.scaled:
            amperes = min(amperes, SHY * float(np.min(self.grid[:, -1] / np.maximum(base, 1e-300))))
        codes, real = {}, np.zeros(len(gains))
        for k, name in enumerate(names):
            coarse, fine, _ = biasgen.nearest_codes(name, gains[k] * self.size / (unit[k] * amperes) / scale[k])
            codes[self.dendrites[k]] = int(coarse), int(fine)
            real[k] = float(biasgen.current(name, coarse, fine)) * scale[k] * unit[k] * amperes / self.size
        grid = self.grid / amperes
        fit = self.fit(self.shares(self.allot(base, real)))
        found, _, _ = descend(fit, base[None], real[None], rounds=8)
        index, _ = to_grid(fit, found[0], real, grid)
        index = index if self.scaled else np.sort(index)
        chosen = np.arange(len(index)), index
        return _OnGrid(self.grid[chosen], codes, self.allot(grid[chosen], real), grid[chosen], real)

    def _counts(self, found: _OnGrid) -> np.ndarray:
        """How often each base current acts for each weight through each dendrite (n, dendrites, n_base)."""
        counts = np.zeros((len(self.x), len(self.dendrites), len(found.base)), int)
        for d in self.through:
            for r in range(1, self.most_rows + 1):
                here = np.flatnonzero(self.present & (self.problem.dendrite == d) & (found.rows == r))
                book = self.book(d, r)
                levels = book.levels(found.base[None], found.gains[None])[0]
                counts[here] = book.counts[nearest_levels(self.x[here], levels)]
        return counts

    def _rows(self, found: _OnGrid, values: np.ndarray) -> CoreWeights:
        """The CAM rows that make each weight: those of its nearest level, one with mask 0 where that is nothing."""
        p, counts = self.problem, self._counts(found)
        masks = np.stack([row_masks(counts[:, k], self.most_rows) for k in range(len(self.dendrites))], 1)
        which, k, r = np.nonzero(masks)
        mask, dendrite = masks[which, k, r], np.array(self.dendrites)[k]
        nothing = np.flatnonzero(~masks.any((1, 2)))
        order = np.argsort(np.r_[which, nothing], kind="stable")
        return CoreWeights(
            found.amperes,
            found.codes,
            np.r_[which, nothing][order],
            np.r_[dendrite, p.dendrite[nothing]][order],
            np.r_[mask, np.zeros(len(nothing), int)][order],
            values,
        )
