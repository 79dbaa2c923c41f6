"""In the loop on a hidden chip: from a network trained without mismatch, by the gradients of the nominal circuit and of a
circuit like the chip, whose factors are estimated from its spikes.

    python3 -m uv run python tests/benchmarks/in_the_loop.py [--keys 0,1,2] [--epochs 4] [--cv 0.3]

Yin-Yang as in `examples/fine_tuning.py`; each key trains a network of its own (some 2 minutes on a core) and has a chip of
its own. Printed are accuracies on the test set: of the nominal chip, of the hidden one as it is, and after so many epochs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import nir_dynapse as nd
from nir_dynapse.training.losses import Counts

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import _arms
import _tasks

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description="Train in the loop, with and without an estimate of the chip.")
    parser.add_argument("--keys", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--cv", type=float, default=0.3)
    args = parser.parse_args()
    task = _tasks.yin_yang()
    test, steps = task.test, args.epochs * len(task.train) // BATCH
    print("| key | nominal | on the chip | nominal gradients | those of a circuit like it | s |", flush=True)
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for key in map(int, args.keys.split(",")):
        network, params, _ = _arms.trained("Yin-Yang", "none", key)
        cells = [_right(nd.simulate(params, test.x).counts(), test.y)]
        for twin in (False, True):
            with nd.open_board(f"virtual:{500 + key}", mismatch=nd.Mismatch.uniform(args.cv)) as board:
                board.apply(nd.compile(network, params=params, monitor="all", share_tags=False))
                before = _right(board.run_batch(test.x, test.dt).counts(), test.y)
                cells += [] if twin else [before]
                begun = time.monotonic()
                nd.fine_tune(
                    params,
                    task.train,
                    validation=task.validation[:500],
                    board=board,
                    steps=steps,
                    loss=Counts(test.dt, ratio=4.0),
                    key=key,
                    options=nd.TrainingOptions(batch=BATCH, rate=0.01, ramp=0.0, check_every=100, twin=twin),
                )
                cells.append(_right(board.run_batch(test.x, test.dt).counts(), test.y))
        print(
            f"| {key} | " + " | ".join(f"{100 * c:.1f}" for c in cells) + f" | {time.monotonic() - begun:.0f} |",
            flush=True,
        )


def _right(counts: np.ndarray, y: np.ndarray) -> float:
    return float((counts.argmax(1) == y).mean())


if __name__ == "__main__":
    main()
