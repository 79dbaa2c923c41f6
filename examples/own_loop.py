"""A training loop of one's own: Yin-Yang trained under mismatch with JAX and optax, and tried on chips it has never seen.

    python3 -m uv run python examples/own_loop.py [--steps 300] [-o out]

`nd.trainable` makes of a network the start of a training, a PyTree of numbers (`model.start`), and pure functions of them.
What lies between is the user's: chips, batches, loss, optimiser. docs/own_loop.md says what all the functions are.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import nir_dynapse as nd

HERE = Path(__file__).resolve().parent
MISMATCH, CHIPS, BATCH = nd.Mismatch.uniform(0.2), 2, 32


def trained(network: nd.Network, train: nd.Data, steps: int) -> nd.Params:
    """`network` after so many steps, each on chips and samples of its own."""
    model = nd.trainable(network, train, mismatch=MISMATCH, bits=4, spend=4)  # four neurons of the chip for each
    loss, adam = nd.Counts(train.dt), optax.adam(optax.cosine_decay_schedule(0.01, steps))

    def cost(numbers: Any, keys: Any, size: Any, x: Any, y: Any) -> Any:
        def on_one(key: Any, x: Any, y: Any) -> Any:
            return model.loss(numbers, x, y, model.chip(key, size=size), loss=loss)

        return jax.vmap(on_one)(keys, x, y).mean()

    @jax.jit
    def step(numbers: Any, state: Any, keys: Any, size: Any, x: Any, y: Any) -> Any:
        value, slope = jax.value_and_grad(cost)(numbers, keys, size, x, y)
        change, state = adam.update(slope, state, numbers)
        return model.bounded(optax.apply_updates(numbers, change)), state, value

    numbers, state, rng = model.start, adam.init(model.start), np.random.default_rng(0)
    for k in range(steps):
        some = rng.integers(len(train), size=(CHIPS, BATCH))
        keys = jax.random.split(jax.random.key(k), CHIPS)
        size = min(1.0, 2 * (k + 1) / steps)  # of the mismatch, which grows in the first half
        numbers, state, value = step(numbers, state, keys, size, train.x[some], train.y[some])
        if k % 50 == 0 or k == steps - 1:
            print(f"  step {k}, loss {value:.3f}")
    return model.params(numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of training (default 300)")
    parser.add_argument("--chips", type=int, default=100, help="to try it on (default 100)")
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder for the results (default out)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    network = nd.from_nir(HERE / "networks" / "yin_yang.nir")
    train, test = (nd.Data.load(HERE / "data" / f"yin_yang_{part}.npz") for part in ("train", "test"))

    before = nd.evaluate(nd.compile(network), test, devices=args.chips, mismatch=MISMATCH, key=1000)
    layout = nd.compile(network, params=trained(network, train, args.steps))  # just these bits
    layout.save(args.out / "own_loop.json")
    after = nd.evaluate(layout, test, devices=args.chips, mismatch=MISMATCH, key=1000)
    for when, found in (("before", before), ("after", after)):
        nominal, median, worst = (100 * part for part in (found.nominal, found.median, found.minimum))
        print(f"{when}: {nominal:.1f} % without mismatch;", end=" ")
        print(f"{args.chips} unseen chips: median {median:.1f} %, worst {worst:.1f} %")


if __name__ == "__main__":
    main()
