"""`calibrate`: what a board is really like, from spikes alone: a chip profile with scales, mismatch and bad rows.

Three steps, all through the `Board` protocol: constant currents on bare neurons give the membrane's biases; bursts on every
CAM row find the ones that fail; regular and rare events on one good row of every neuron give the synapses' biases. In each
of them the codes are set by what is known so far, so that in the end the core works where the model was made for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nir_dynapse.board.board import Board
from nir_dynapse.calibration.design import (
    CORES,
    SLOTS,
    Experiment,
    codes_for,
    experiments,
    one_row,
    probe_layout,
    probe_spikes,
)
from nir_dynapse.calibration.fit import FITTED, PRIOR, SLOPE, Response, log_scales, measure, response
from nir_dynapse.calibration.rows import Working, find_working, map_tags
from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, DELAYS, DYNAPSE2, WEIGHT_GAINS, Device, Mismatch
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.errors import HardwareError
from nir_dynapse.files.numbers import PROBES, Whole

__all__ = ["NOT_MEASURED", "calibrate"]

MOST_CHIPS = 7
"""Chips whose neurons can be monitored: from the eighth one seven hops west end on the first."""
ROUNDS = 7
ENOUGH = 0.005
"""Change of all log scales below which a round of steps was the last one."""
DRIVEN = 3.0
"""Rate in Hz under the strongest constant current below which a neuron does not work."""
NOT_MEASURED = (*DELAYS, "i_w_ahp")
"""Biases that keep the scale 1: the delays have no experiment, and adaptation shows only as gain times weight."""
HALF = 1024

Progress = Callable[[str, float], None]


class _Round(NamedTuple):
    """One pass over experiments: g of every neuron (cores, windows, 256) and the rounding rest (cores, windows, P)."""

    g: np.ndarray
    rest: np.ndarray


def calibrate(
    board: Board,
    *,
    chips: int = 1,
    probes: int = SLOTS,
    rows: bool = True,
    all_tags: bool = False,
    rounds: int = ROUNDS,
    device: Device = DYNAPSE2,
    mismatch: Mismatch | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[ChipProfile, ...]:
    """Measure chips 0 to `chips` − 1 of `board` and return a profile of each.

    A profile holds the `scales` of the biases per core (current that flows over nominal one; the mean of its neurons), the
    `factors` of single neurons, bad neurons and, unless `rows=False`, bad CAM rows for both halves of the tags and the tags
    among some 128 tried (`all_tags`: all 2 048) that do not reach a core. Of base weights and gains of dendrites only
    products show in spikes: the geometric mean of the four base weights is given the scale 1, the gains take the rest; in
    the same way adaptation's gain takes that of its weight. The delays are not measured. `measured` holds the standard
    error of every scale, and `misfit`, the root mean square of what is left in standard errors (about 1 for a good fit).

    `probes` neurons of each core, evenly spread, are asked for its biases: the fewer, the less is to be recorded and the
    larger the errors (like 1/√probes); all are asked for bad rows. `mismatch` is how much neurons are expected to differ
    (default: the device's). Some 250 runs of 1 to 6 s. ParameterRangeError for impossible numbers; HardwareError where the
    board fails, or no neuron of a core answers.
    """
    chips = Whole(1, MOST_CHIPS).check("calibrate", "chips", chips, "An eighth cannot be recorded.")
    probes = PROBES.check("calibrate", "probes", probes, "Take some 64 or more for 5 %.")
    rounds = Whole(1, 1000).check("calibrate", "rounds", rounds, f"Take the default of {ROUNDS}.")
    tell = progress or (lambda stage, share: None)
    tell("model", 0.0)
    answer = response(device, device.mismatch if mismatch is None else mismatch)
    bench = _Bench(board, chips, probes, answer, tell)

    x = np.zeros((bench.n_cores, len(FITTED)))
    bare = np.array([p.drive is None and "i_w_ahp" not in p.currents for p in bench.plan])
    x, last, _ = bench.rounds("membrane", x, bare, rounds)
    working = bench.alive(last, bare)
    if rows:
        logs = log_scales(x)
        found = find_working(board, chips, logs, tell=lambda share: tell("rows", share))
        if all_tags:
            found = map_tags(board, chips, logs, found, lambda share: tell("tags", share))
        working = found._replace(neurons=found.neurons & working.neurons)
    bench.working = working
    x, last, covariance = bench.rounds("synapses", x, np.ones(len(bench.plan), bool), rounds)
    scales, errors = _reported(x, covariance * np.maximum(1.0, bench.misfit)[:, None, None] ** 2)
    factors = bench.factors(last)
    tell("done", 1.0)
    label = name or getattr(getattr(board, "link", None), "name", "board")
    return tuple(
        ChipProfile(
            f"{label} chip {chip}" if chips > 1 else label,
            working.neurons[part],
            working.rows[part],
            working.tags[part],
            scales={key: value[part] for key, value in scales.items()},
            factors={key: value[part] for key, value in factors.items()},
            measured={
                "board": label,
                "errors": {key: value[part].round(4).tolist() for key, value in errors.items()},
                "probes": probes,
                "misfit": bench.misfit[part].round(3).tolist(),
                "not_measured": list(NOT_MEASURED),
            },
        )
        for chip in range(chips)
        for part in [slice(chip * CORES, (chip + 1) * CORES)]
    )


class _Bench:
    """A board with probes, and what is known of them."""

    def __init__(self, board: Board, chips: int, probes: int, answer: Response, tell: Progress) -> None:
        self.board, self.chips, self.answer, self.tell = board, chips, answer, tell
        self.probes = np.isin(np.arange(SLOTS), np.arange(probes) * SLOTS // probes)
        self.plan: list[Experiment] = experiments()
        self.n_cores = chips * CORES
        self.working = Working(
            np.ones((self.n_cores, SLOTS), bool),
            np.ones((self.n_cores, SLOTS, 64, 2), bool),
            np.ones((self.n_cores, 2048), bool),
            np.ones((self.n_cores, 2048), bool),
        )
        self.misfit = np.zeros(self.n_cores)

    def rounds(self, stage: str, x: np.ndarray, chosen: np.ndarray, most: int) -> tuple[np.ndarray, _Round, np.ndarray]:
        """Measure the `chosen` experiments and correct x until that changes little; the last measurement, covariance."""
        windows = chosen[self.answer.owner]
        last, covariance = _Round(np.zeros(0), np.zeros(0)), np.zeros(0)
        for turn in range(most):
            last = self.measured(
                x, np.flatnonzero(chosen), lambda share, turn=turn: self.tell(stage, (turn + share) / most)
            )
            mean, count = self.means(last.g)
            if not np.isfinite(mean[:, windows]).all():
                core = int(np.argwhere(~np.isfinite(mean[:, windows]))[0, 0])
                raise HardwareError(
                    f"chip {core // CORES}, core {core % CORES}: no neuron answers in stage {stage!r} of the calibration. "
                    "Check power and monitoring biases, or leave this chip out."
                )
            before = x
            x, covariance, self.misfit = self.answer.step(mean, count, x, last.rest, windows)
            if np.abs(x - before)[:, self.answer.slopes[windows].any(0)].max() < ENOUGH:
                break
        return x, last, covariance

    def measured(self, x: np.ndarray, numbers: np.ndarray, tell: Callable[[float], None]) -> _Round:
        """g and rounding rest of the experiments `numbers`, at codes set by log scales x (cores, P)."""
        logs, owner = log_scales(x), self.answer.owner
        g = np.full((self.n_cores, len(owner), SLOTS), np.nan)
        rest = np.zeros((self.n_cores, len(owner), len(FITTED)))
        row, tag = self.rows()
        for done, e in enumerate(numbers):
            plan = self.plan[e]
            codes, left = codes_for(plan.currents, logs)
            # What is not fitted shows as its product with a gain.
            left["i_gain_ahp"] = left["i_gain_ahp"] + left["i_w_ahp"]
            if plan.drive is not None and plan.drive.mask & 1:
                gain = WEIGHT_GAINS[plan.drive.dendrite]
                left[gain] = left[gain] + left["i_w0"]
            heard = np.tile(self.probes, self.n_cores)
            cam = one_row(np.where(heard, row.ravel(), -1), np.repeat(tag, SLOTS), plan.drive)
            tags = tag[None] if plan.drive else np.zeros((0, self.n_cores), int)
            self.board.apply(probe_layout(self.chips, codes, plan.latches, cam, tags, heard))
            time, neuron = probe_spikes(self.board.run(plan.events(), plan.duration))
            for w, (begin, end) in zip(np.flatnonzero(owner == e), plan.windows, strict=True):
                inside = slice(*np.searchsorted(time, (begin * 1e6, end * 1e6)))
                counts = np.bincount(neuron[inside], minlength=self.n_cores * SLOTS)
                g[:, w] = np.where(self.probes, measure(counts.reshape(self.n_cores, SLOTS), end - begin), np.nan)
                if plan.drive is not None:
                    g[:, w][row < 0] = np.nan
                rest[:, w] = np.stack([left[name] for name in FITTED], 1)
            tell((done + 1) / len(numbers))
        return _Round(g, rest)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """A CAM row of each neuron that works for high tags (cores, 256; -1: none), and a tag for each core (cores,)."""
        high = self.working.rows[..., 1]
        row = np.where(high.any(-1) & self.working.neurons, high.argmax(-1), -1)
        return row, HALF + self.working.proven[:, HALF:].argmax(1)

    def means(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean g (cores, windows) over working probes, and how many those are (cores,)."""
        seen = np.isfinite(g) & self.working.neurons[:, None]
        count = seen.sum(-1)
        mean = np.where(seen, g, 0.0).sum(-1) / np.maximum(count, 1)
        return np.where(count > 0, mean, np.nan), np.maximum((self.working.neurons & self.probes).sum(1), 1)

    def alive(self, last: _Round, bare: np.ndarray) -> Working:
        """Which neurons fire at all under a constant current; those that are no probes count as working."""
        rate = np.exp(last.g[:, bare[self.answer.owner]].max(1)) - SLOPE
        return self.working._replace(neurons=(rate > DRIVEN) | ~self.probes)

    def of_neurons(self, last: _Round) -> np.ndarray:
        """Log factors (cores, 256, P) of neurons, relative to the scales their codes were set by, from their own g."""
        core = self.answer.g + np.einsum("wp,cwp->cw", self.answer.slopes, last.rest)
        g = np.where(np.isfinite(last.g), last.g, core[..., None]) - core[..., None] + self.answer.g[:, None]
        return self.answer.factors(np.swapaxes(g, 1, 2))

    def factors(self, last: _Round) -> dict[str, np.ndarray]:
        """Factor of each neuron (cores, 256) by parameter, relative to the mean of its core.

        Only of parameters of which rates tell more than `TELLING` of the variance.
        """
        logs = self.of_neurons(last)
        here, found = self.working.neurons & self.probes, {}
        for k, name in enumerate(FITTED):
            if name in CURRENTS and self.answer.told[k] > TELLING:
                value = np.where(here, np.exp(logs[..., k]), 1.0)
                value /= (value * here).sum(1, keepdims=True) / np.maximum(here.sum(1, keepdims=True), 1)
                found[name] = np.where(here, value, 1.0)
        return found


TELLING = 0.3
"""Part of the variance of a neuron's factor that its rates must explain for it to be reported."""


def _reported(x: np.ndarray, covariance: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Scales (cores,) with the base weights' geometric mean at 1, and the standard errors of their logarithms."""
    n = len(FITTED)
    turn = np.eye(n + 1)  # values in the order of FITTED, then i_w0
    weights = [FITTED.index(name) if name in FITTED else n for name in BASE_WEIGHTS]
    for k in weights:
        turn[k, weights] -= 1 / len(weights)
    for gain in WEIGHT_GAINS:
        turn[FITTED.index(gain), weights] += 1 / len(weights)
    turn = turn[:, :n]
    logs, wide = x @ turn.T, np.einsum("pq,cqr,sr->cps", turn, covariance, turn)
    errors = np.sqrt(np.einsum("cpp->cp", wide))
    names = (*FITTED, BASE_WEIGHTS[0])
    scales = {name: np.exp(np.clip(logs[:, k], -3 * PRIOR, 3 * PRIOR)) for k, name in enumerate(names)}
    return scales, {name: errors[:, k] for k, name in enumerate(names)}
