"""Weights to masks: error and time against plain random restarts, stated bounds, a full core, and Rockpool's autoencoder.

    python tests/benchmarks/quantiser.py [--seeds 5] [--parts a,b,c,d]

With this repository on PYTHONPATH. Errors are NRMSE: RMS error over RMS of the weights' absolute values. Times of ours
are the best of three. Part d wants an environment with rockpool and is left out elsewhere: the peer's graph, mapper and
defaults as documented, on drawn weights, against ours on the bias grid in the same amperes. The peer compiles anew in
every call; jax says how long, counting nested traces twice, so that the peer's time without it is rather too short.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.quant.core_weights import CoreProblem, importance_of, quantise_core
from nir_dynapse.quant.weights import quantise_weights

GRID = np.unique(biasgen.grid("i_w0"))
BITS = ((np.arange(16)[:, None] >> np.arange(4)) & 1).astype(float)

# What is quantised are absolute values; the Gaussian has a mean, so that it is not the half-normal again.
SETS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "Gaussian": lambda rng, n: np.abs(rng.normal(0.3, 1, n)),
    "Laplace": lambda rng, n: np.abs(rng.laplace(size=n)),
    "log-normal": lambda rng, n: rng.lognormal(size=n),
    "sparse": lambda rng, n: np.abs(rng.normal(size=n)) * (rng.permutation(n) < n // 10),
    "half-normal": lambda rng, n: np.abs(rng.normal(size=n)),
}


def restarts(weights: np.ndarray, base: np.ndarray, rounds: int = 300) -> np.ndarray:
    """NRMSE of every start `base` (R, 4) after nearest level and least squares in turns, until none gets better."""
    x = np.sort(weights)
    sums, power = np.r_[0, np.cumsum(x)], float(x @ x)
    best = np.full(len(base), np.inf)
    for _ in range(rounds):
        level = base @ BITS.T
        equal = (level[:, :, None] == level[:, None, :]) & (np.arange(16)[:, None] > np.arange(16))
        level[equal.any(2)] = 1e30  # a base current of 0: of equal levels the first takes the weights
        order = level.argsort(1)
        level = np.take_along_axis(level, order, 1)
        edge = np.searchsorted(x, (level[:, 1:] + level[:, :-1]) / 2)
        edge = np.pad(edge, ((0, 0), (1, 1)), constant_values=((0, 0), (0, len(x))))
        count, total = np.diff(edge), np.diff(sums[edge])
        error = power + (level * (count * level - 2 * total)).sum(1)
        if (error >= best * (1 - 1e-10)).all():
            break
        best = np.minimum(best, error)
        bits = BITS[order]
        matrix = np.einsum("rlb,rl,rlc->rbc", bits, count, bits)
        solved = np.linalg.pinv(matrix, hermitian=True) @ np.einsum("rlb,rl->rb", bits, total)[..., None]
        base = np.maximum(solved[..., 0], 0)
    return np.sqrt(np.maximum(best, 0) / power)


def plain(weights: np.ndarray, base: np.ndarray) -> float:
    """The same for one start, written as it is said."""
    best = np.inf
    for _ in range(300):
        mask = np.abs(weights[:, None] - BITS @ base).argmin(1)
        best = min(best, float(np.sum((BITS[mask] @ base - weights) ** 2)))
        base = np.maximum(np.linalg.lstsq(BITS[mask], weights, rcond=None)[0], 0)
    return float(np.sqrt(best / np.sum(weights**2)))


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return result, best


def row(*cells: Any, head: str = "") -> None:
    line = "| " + " | ".join(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells) + " |"
    print(f"\n{head}\n\n{line}\n|{' --- |' * len(cells)}" if head else line, flush=True)


def against_restarts(seeds: int) -> None:
    weights, base = np.abs(np.random.default_rng(0).normal(size=40)), np.random.default_rng(1).uniform(0, 1.5, (20, 4))
    off = np.abs(restarts(weights, base) - [plain(weights, b) for b in base]).max()
    print(f"The fast reference against the plain one, 20 starts on 40 weights: largest difference {off:.1e}.")
    title = f"a. Against the best of 1 000 random restarts, {seeds} seeds each (required: ratio <= 1.01)"
    row("weights", "n", "NRMSE ours", "NRMSE restarts", "worst ratio", "ms ours", head=title)
    worst = 0.0
    for name, draw in SETS.items():
        for n in (100, 1000, 16384, 65536):
            found = []
            for seed in range(seeds):
                weights = draw(rng := np.random.default_rng([seed, n]), n)
                theirs = restarts(weights[weights > 0], rng.uniform(0, weights.max() / 2, (1000, 4))).min()
                ours, seconds = timed(lambda weights=weights: quantise_weights(weights).nrmse(weights))
                found.append((ours, theirs, ours / theirs, 1e3 * seconds))
            (ours, theirs, _, ms), ratios = np.median(found, axis=0).tolist(), [item[2] for item in found]
            worst = max(worst, *ratios)
            row(name, n, ours, theirs, f"{max(ratios):.4f}", f"{ms:.1f}")
    print(f"\nWorst ratio: {worst:.4f}")


def stated_bounds(_: int, seeds: int = 20) -> None:
    columns = [f"{rows}, {grid}" for rows in ("1 row", "2 rows") for grid in ("grid", "free")]
    title = f"b. Half-normal, RandomState(0) and median of {seeds} (required of 0: 1 row <= bound, 2 rows < half of 1)"
    row("n", "bound", *columns, *(f"median {name}" for name in columns), "in the bound", "highest", head=title)
    for n, bound in ((120, 0.044), (1000, 0.054), (16384, 0.060)):
        found = np.zeros((seeds, 4))
        for seed in range(seeds):
            weights = np.abs(np.random.RandomState(seed).randn(n))
            ways = [(rows, grid) for rows in (1, 2) for grid in (GRID * (weights.max() / GRID.max()), None)]
            found[seed] = [quantise_weights(weights, rows=rows, grid=grid).nrmse(weights) for rows, grid in ways]
        inside, middle = f"{(found[:, 0] <= bound).sum()} of {seeds}", np.median(found, axis=0).tolist()
        row(n, bound, *found[0].tolist(), *middle, inside, float(found[:, 0].max()))


def full_core(_: int) -> None:
    title = "c. One core of 16 384 CAM rows, Gaussian weights of both signs (required: < 1 s; NRMSE of all weights)"
    row("neurons x weights", "spare rows", "importance", "NRMSE", "rows per weight", "s", head=title)
    for n_weights, spare in ((64, 0), (48, 16), (32, 32)):
        weights = 0.05 * np.random.default_rng(0).normal(size=256 * n_weights)
        size, dendrite = np.abs(weights), np.where(weights > 0, 0, 2)
        for name, importance in (("default", importance_of(size)), ("equal", np.ones_like(size))):
            neuron = np.repeat(np.arange(256), n_weights)
            # Charge per A²: gains of about 10 nA make these weights of currents up to 0.4 uA.
            problem = CoreProblem(size, dendrite, neuron, importance, np.full(256, spare), np.full(4, 2.5e14))
            result, seconds = timed(lambda problem=problem: quantise_core(problem, DYNAPSE2))
            nrmse = float(np.sqrt(np.mean((result.values - size) ** 2) / np.mean(size**2)))
            row(f"256 x {n_weights}", spare, name, nrmse, f"{len(result.which) / len(size):.2f}", f"{seconds:.3f}")


def drawn(seed: int) -> np.ndarray:
    """Weights (62, 2) as in the peer's frozen-noise example, not its own: |w| of mean 4.12, most 15; 27.5 % positive."""
    size = np.abs((rng := np.random.default_rng(seed)).normal(size=124))
    power = brentq(lambda power: np.mean((size / size.max()) ** power) - 4.12 / 15, 0.1, 10)
    sign = np.where(rng.permutation(124) < round(0.275 * 124), 1, -1)
    return (sign * 15 * (size / size.max()) ** power).reshape(62, 2)


def beside_the_peer(seeds: int) -> None:
    logging.disable(logging.WARNING)  # the peer tells of samna that it is missing
    warnings.simplefilter("ignore")
    try:
        import jax
        import rockpool
        from rockpool.devices.dynapse import DynapSim, autoencoder_quantization, mapper
        from rockpool.nn.combinators import Sequential
        from rockpool.nn.modules import LinearJax
    except ImportError as error:
        return print(f"\nd. Left out: rockpool is not installed here ({error}).")
    compiling: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiling.append(seconds) if event.startswith("/jax/core/compile/") else None
    )
    title = f"d. Beside Rockpool {rockpool.__version__}, jax {jax.__version__} (required: NRMSE 4 x, time 10 x ours)"
    names = ("NRMSE peer", "NRMSE ours", "ratio", "s peer", "of it compiling", "ms ours", "ratio", "without compiling")
    row("seed", *names, head=title)
    table = []
    for seed in range(seeds):
        weights = drawn(seed).astype(np.float32)
        linear = LinearJax((60, 2), has_bias=False, weight=weights[:60])
        spec = mapper(Sequential(linear, DynapSim((2, 2), has_rec=True, w_rec=weights[60:])).as_graph())
        np.random.seed(seed)  # noqa: NPY002 - the autoencoder starts from numpy's global generator
        compiling.clear()
        start = time.perf_counter()
        coded = autoencoder_quantization(**spec)
        seconds, compiled = time.perf_counter() - start, sum(compiling)
        masks = np.vstack([coded["weights_in"][0], coded["weights_rec"][0]]).astype(int)
        amperes = BITS[masks] @ [float(coded[f"Iw_{b}"][0]) for b in range(4)]
        target = np.abs(weights).ravel().astype(float) * spec["Iscale"]
        theirs = float(np.sqrt(np.mean((amperes.ravel() - target) ** 2) / np.mean(target**2)))
        ours, own = timed(lambda target=target: quantise_weights(target, grid=GRID).nrmse(target))
        ratios = (seconds / own, (seconds - compiled) / own)
        table.append((theirs, ours, theirs / ours, seconds, compiled, 1e3 * own, *ratios))
        row(seed, *table[-1])
    return row("median", *np.median(table, axis=0).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="draws in parts a and d")
    parser.add_argument("--parts", default="a,b,c,d")
    options = parser.parse_args()
    print(f"numpy {np.__version__}, {os.cpu_count()} CPUs")
    for part in options.parts.split(","):
        {"a": against_restarts, "b": stated_bounds, "c": full_core, "d": beside_the_peer}[part](options.seeds)


if __name__ == "__main__":
    main()
