"""What a step of training costs by the rows that neurons keep: 784 inputs, 512 hidden neurons, 10 outputs.

`python3 -m uv run python tests/benchmarks/sparse_step.py [--rows 16 32 64 128 784] [--repeat 12]`: the dense network and
ones with fewer rows for each neuron take turns, in one process; medians and ratios to the dense one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np

import nir_dynapse as nd
from nir_dynapse.network.network import Network, Population, Port, Projection
from nir_dynapse.training import fine_tune as module
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.run import Run

SIZES = (784, 512, 10)
BINS, DT, RATE = 40, 1e-3, 0.03


def network(seed: int = 0) -> Network:
    """Dense layers of LIF neurons with weights of both signs, which fire at some 30 Hz."""
    rng = np.random.default_rng(seed)
    _, hidden, out = SIZES
    populations = []
    for name, n in (("hidden", hidden), ("out", out)):
        one, none = np.ones(n), np.zeros(n)
        populations.append(Population(name, "LIF", 20e-3 * one, one, none, one, none))
    layers = (
        Projection.from_dense("in", "hidden", rng.normal(0.02, 0.25, (hidden, SIZES[0])), nodes=("fc1",)),
        Projection.from_dense("hidden", "out", rng.normal(0.02, 0.2, (out, hidden)), nodes=("fc2",)),
    )
    return Network(tuple(populations), layers, (Port("in", (SIZES[0],)),), (Port("output", (out,), "out"),), DT)


class Started(Exception):
    """Thrown where the training would begin: what it was about to run."""

    def __init__(self, run: Run, first: object) -> None:
        super().__init__()
        self.run, self.first = run, first


def stepper(rows: int, data: nd.Data) -> Callable[[], None]:
    """A call that makes a step of training with so many CAM rows for each neuron."""

    def caught(self: Run, first: object, *rest: object) -> None:
        raise Started(self, first)

    go, Run.go = Run.go, caught  # type: ignore[method-assign]
    try:
        device = replace(nd.DYNAPSE2, cam_rows=rows)
        module.fine_tune(network(), data, devices=4, steps=100, options=TrainingOptions(batch=16), device=device)
    except Started as found:
        run, first = found.run, found.first
    finally:
        Run.go = go  # type: ignore[method-assign]
    if run.candidates:
        run.trainer.wire(run.trainer.recipe.chart.rows.pre)
    state = [first, run.trainer.start(first), 0]

    def step() -> None:
        x, y = run._batch(state[2])
        latent, opt, _ = run.trainer.step(state[0], state[1], state[2], x, y, None, 1.0)
        state[:] = latent, opt, state[2] + 1
        jax.block_until_ready(latent)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 32, 64, 128, SIZES[0]])
    parser.add_argument("--repeat", type=int, default=12)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    data = nd.Data((rng.random((128, BINS, SIZES[0])) < RATE).astype(np.uint8), rng.integers(0, 10, 128), DT)
    steps = {rows: stepper(rows, data) for rows in args.rows}
    for step in steps.values():
        step()
    seconds: dict[int, list[float]] = {rows: [] for rows in steps}
    for _ in range(args.repeat):
        for rows, step in steps.items():
            begun = time.perf_counter()
            step()
            seconds[rows].append(time.perf_counter() - begun)
    dense = np.array(seconds[max(steps)])
    print("| rows of a neuron at most | s a step | against the most rows |\n|---|---|---|")
    for rows, found in seconds.items():
        print(f"| {rows} | {np.median(found):.3f} | x {np.median(np.array(found) / dense):.2f} |")


if __name__ == "__main__":
    main()
