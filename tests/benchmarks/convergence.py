"""How far spike counts depend on the step: 1 ms against 10 µs, over the grid of `tests/sim/test_convergence.py` and more.

    python3 -m uv run python tests/benchmarks/convergence.py [seconds]

Poisson events of 5 to 300 Hz in all, on channels of different weights or on one (events that are all alike); constant
drive; neurons that fire at 5 to 300 Hz in the converged run. Events come at the beginning of a bin. Columns: counts, those
of 100 spikes or more with their pooled, median and worst relative deviation, and how many of all differ by more than 2 %
and more than one spike.

First bins of 0.5 to 5 ms, each against 10 µs with the same bins, over all τ. `run_circuit` takes internal steps of 1 ms at
most, so wide bins are about as exact as bins of 1 ms; "step" forces an internal step as long as the bin, at a refractory
period of 5 ms: where the scheme itself ends. Then 1 ms per soma, refractory period, dendrites and both τ. Takes some 15
minutes on two cores for 5 s.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from test_convergence import KINDS, SPREAD, Point, circuit, grid, in_range, poisson

from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.circuit import internal_step
from nir_dynapse.sim.engine import spike_counts

TAUS_MEM = (2e-3, 5e-3, 20e-3, 100e-3)
TAUS_SYN = (2e-3, 10e-3, 30e-3, 100e-3)
HEIGHTS = tuple(np.geomspace(0.04, 6, 5))
RATES = (5.0, 20.0, 80.0, 300.0)
LEAST = 100


def run(params: Params, x: np.ndarray, width: float, substeps: int) -> np.ndarray:
    """Counts (batch, N) of bins of `width` s."""
    step = jax.jit(lambda e: spike_counts(params, e, width, substeps=substeps, checkpoint=True).sum(1))
    return np.asarray(step(x), int)


def rebinned(x: np.ndarray, width: float) -> tuple[np.ndarray, float]:
    """Events of bins of 0.5 ms in bins of `width` s."""
    factor = round(width / 5e-4)
    length = x.shape[1] // factor * factor
    return x[:, :length].reshape(x.shape[0], -1, factor, x.shape[2]).sum(2), length * 5e-4


class Score:
    """Deviations of some of the counts."""

    def __init__(self, coarse: np.ndarray, fine: np.ndarray, kept: np.ndarray) -> None:
        a, b = coarse[kept], fine[kept]
        self.n = len(a)
        self.off = int((np.abs(a - b) > np.maximum(1, 0.02 * b)).sum())
        many = b >= LEAST
        self.many = int(many.sum())
        self.pooled = (a - b)[many].sum() / max(1, b[many].sum())
        deviation = np.abs(a - b)[many] / b[many]
        self.median = float(np.median(deviation)) if self.many else float("nan")
        self.worst = float(deviation.max()) if self.many else float("nan")

    def __str__(self) -> str:
        numbers = f"{self.pooled:+8.2%} {self.median:7.2%} {self.worst:7.2%}" if self.many else " " * 24
        return f"{self.n:5d} {self.many:5d} {numbers} {self.off:5d}"


def selected(
    points: Sequence[Point], kind: str, tau_mem: float | None = None, tau_syn: float | None = None
) -> np.ndarray:
    chosen = [p.kind == kind and tau_mem in (None, p.tau_mem) and tau_syn in (None, p.tau_syn) for p in points]
    return np.array(chosen)


HEAD = f"{'n':>5} {'≥100':>5} {'pooled':>8} {'median':>7} {'worst':>7} {'>2%':>5}"


def by_time_constants(seconds: float) -> None:
    points = grid(TAUS_MEM, TAUS_SYN, KINDS, HEIGHTS)
    print(f"1 ms against 10 µs, {seconds:g} s\n{'':64}{HEAD}")
    for exponential, refractory, spread in product((False, True), (1e-3, 0.6e-3), (SPREAD, (1.0,))):
        if refractory < 1e-3 and len(spread) == 1:
            continue
        params = circuit(points, refractory, exponential, spread)
        x = poisson(RATES, seconds, 2 * len(spread))
        coarse, fine = (run(params, x, 1e-3, n) for n in (internal_step(params, 1e-3), 100))
        kept = in_range(points, fine, seconds)
        soma = f"{'exponential' if exponential else 'thresholded'} {refractory * 1e3:g} ms, {len(spread)} weights"
        for kind in KINDS:
            print(f"{soma:30} {kind:13} {'all':20}{Score(coarse, fine, kept & selected(points, kind))}")
        for kind, tau_mem in product(KINDS, TAUS_MEM):
            for tau_syn in (0.0,) if kind.startswith("dc") else TAUS_SYN:
                score = Score(coarse, fine, kept & selected(points, kind, tau_mem, tau_syn))
                taus = f"τ {tau_mem * 1e3:3g}, {tau_syn * 1e3:3g} ms"
                print(f"{soma:30} {kind:13} {taus:20}{score}", flush=True)


def by_step(seconds: float) -> None:
    points = grid(TAUS_MEM, TAUS_SYN[::2], KINDS, HEIGHTS[1::2])
    x = poisson(np.array(RATES) / 2, 2 * seconds)  # bins of 0.5 ms
    print(f"\nBins, all τ\n{'':64}{HEAD}")
    for exponential, width, forced in product((False, True), (5e-4, 1e-3, 2e-3, 5e-3), (False, True)):
        params = circuit(points, 5e-3 if forced else 1e-3, exponential)
        events, length = rebinned(x, width)
        fine = run(params, events, width, round(width / 1e-5))
        coarse = run(params, events, width, 1 if forced else internal_step(params, width))
        kept = in_range(points, fine, length)
        soma = f"{'exponential' if exponential else 'thresholded'}, {'step' if forced else 'bin'} of {width * 1e3:g} ms"
        for kind in KINDS:
            print(f"{soma:30} {kind:13} {'all':20}{Score(coarse, fine, kept & selected(points, kind))}", flush=True)


if __name__ == "__main__":
    duration = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    by_step(min(duration, 2.0))
    by_time_constants(duration)
