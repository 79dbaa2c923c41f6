"""Calibration of virtual boards with hidden scales, bad rows, bad neurons and tags that do not reach their core.

    python3 -m uv run python tests/benchmarks/calibration.py [--chips 6] [--board green] [--all-tags]

One chip after another: how many scales are found within 5 %, the worst one, planted bad rows found and false alarms, bad
neurons, tags, and how well the factors of single neurons are known (correlation with the true ones). Biases are off by
0.65 to 1.55 per core; neurons differ by the default mismatch.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

import nir_dynapse as nd
from nir_dynapse.calibration.calibrate import NOT_MEASURED
from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, DYNAPSE2, PARAMETERS, WEIGHT_GAINS
from nir_dynapse.chip.profile import BOARDS
from nir_dynapse.sim.mismatch import factors

PLACE = np.stack(np.meshgrid([0], np.arange(4), np.arange(256), indexing="ij"), -1).reshape(-1, 3)


def hidden(seed: int, board: str) -> nd.ChipProfile:
    rng = np.random.default_rng(seed)
    scales = {
        name: np.exp(rng.uniform(np.log(0.65), np.log(1.55), 4)) for name in PARAMETERS if name not in NOT_MEASURED
    }
    return replace(nd.ChipProfile.synthetic(seed, board=board, restrict_tags=True), scales=scales)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=6)
    parser.add_argument("--board", choices=[*BOARDS, "each"], default="each")
    parser.add_argument("--all-tags", action="store_true")
    args = parser.parse_args()
    print(
        "| chip | board | scales within 5 % | worst | bad rows found | false alarms | neurons wrong | tags found | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    everything: dict[str, list[np.ndarray]] = {}
    known: dict[str, list[float]] = {}
    for seed in range(args.chips):
        board = list(BOARDS)[seed % len(BOARDS)] if args.board == "each" else args.board
        truth = hidden(seed, board)
        start = time.perf_counter()
        with nd.open_board(f"virtual:{seed}", device=DYNAPSE2.with_profiles(truth)) as chip:
            (found,) = nd.calibrate(chip, all_tags=args.all_tags)
        seconds = time.perf_counter() - start
        common = np.mean([np.log(truth.scales[name]) for name in BASE_WEIGHTS], 0)
        off = {
            name: np.log(scale)
            - np.log(truth.scales[name])
            - common * (name in WEIGHT_GAINS)
            + common * (name in BASE_WEIGHTS)
            for name, scale in found.scales.items()
        }
        for name, value in off.items():
            everything.setdefault(name, []).append(value)
        size = np.abs(np.concatenate(list(off.values())))
        both = truth.neurons & found.neurons
        # A row is of no use for a half of the tags that does not reach its core.
        reached = truth.tags.reshape(4, 2, 1024).any(2)[np.nonzero(both)[0]][:, None, :]
        planted, called = ~(truth.rows[both] & reached), ~(found.rows[both] & reached)
        for name, value in found.factors.items():
            true = factors(seed, PLACE, CURRENTS.index(name), PARAMETERS[name].cv).reshape(4, 256)
            known.setdefault(name, []).append(float(np.corrcoef(np.log(true[both]), np.log(value[both]))[0, 1]))
        dead, told = ~truth.tags, ~found.tags
        print(
            f"| {seed} | {board} | {(size < 0.05).sum()} of {len(size)} | {100 * size.max():.1f} % | "
            f"{100 * called[planted].mean():.2f} % of {planted.sum()} | {100 * called[~planted].mean():.2f} % | "
            f"{(truth.neurons != found.neurons).sum()} of 1024 | {(told & dead).sum()} of {dead.sum()}, "
            f"{(told & ~dead).sum()} wrongly | {seconds:.0f} |",
            flush=True,
        )
    print(
        "\n| bias | scale off: mean, standard deviation, worst | correlation of the neurons' factors |\n|---|---|---|"
    )
    for name, values in everything.items():
        v = 100 * np.concatenate(values)
        corr = f"{np.mean(known[name]):.2f}" if name in known else "not reported"
        print(f"| {name} | {v.mean():+.1f} %, {v.std():.1f} %, {np.abs(v).max():.1f} % | {corr} |")


if __name__ == "__main__":
    main()
