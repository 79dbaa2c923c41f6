"""A readout of one's own behind the chip: hidden neurons on DYNAP-SE2, an Equinox network on the host, trained together.

    python3 -m uv run python examples/own_readout.py [--steps 200] [-o out]

The chip sends the spikes of its hidden neurons; a small perceptron on the host makes classes of their counts. Gradients go
through both, and mismatch is in the loop, so that one readout serves all chips. Any library whose networks are trees of
arrays does (Flax, Haiku); Equinox, the group `equinox` of pyproject.toml, brings the least.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import nir_dynapse as nd

try:
    import equinox as eqx
except ImportError:
    sys.stderr.write("This example runs in Equinox: pip install equinox.\n")
    sys.exit(3)

HERE = Path(__file__).resolve().parent
MISMATCH, CHIPS, BATCH = nd.Mismatch.uniform(0.2), 4, 32


class Readout(eqx.Module):
    """Logits (B, 3) of the spikes (B, T, n) of the hidden neurons."""

    layers: eqx.nn.MLP

    def __call__(self, spikes: Any) -> Any:
        return jax.vmap(self.layers)(spikes.sum(1) / 5)


def trained(network: nd.Network, train: nd.Data, steps: int) -> tuple[nd.Params, Readout]:
    """What the chip gets, and the readout, after so many steps with chips and samples of their own."""
    model = nd.trainable(network, train, mismatch=MISMATCH)
    first, size = network.populations[0].name, network.populations[0].size
    hidden = model.topology.slices()[first]
    readout = Readout(eqx.nn.MLP(size, 3, 32, 1, key=jax.random.key(1)))
    adam = optax.adam(optax.cosine_decay_schedule(0.01, steps))

    def cost(both: Any, keys: Any, x: Any, y: Any) -> Any:
        numbers, readout = both

        def on_one(key: Any, x: Any, y: Any) -> Any:
            spikes = model.spikes(numbers, x, model.chip(key))[..., hidden]
            return optax.softmax_cross_entropy_with_integer_labels(readout(spikes), y).mean()

        return jax.vmap(on_one)(keys, x, y).mean()

    @eqx.filter_jit
    def step(both: Any, state: Any, keys: Any, x: Any, y: Any) -> Any:
        value, slope = eqx.filter_value_and_grad(cost)(both, keys, x, y)
        change, state = adam.update(slope, state)
        numbers, readout = eqx.apply_updates(both, change)
        return (model.bounded(numbers), readout), state, value

    both: Any = (model.start, readout)
    state, rng = adam.init(eqx.filter(both, eqx.is_array)), np.random.default_rng(0)
    for k in range(steps):
        some = rng.integers(len(train), size=(CHIPS, BATCH))
        keys = jax.random.split(jax.random.key(k), CHIPS)
        both, state, value = step(both, state, keys, train.x[some], train.y[some])
        if k % 50 == 0 or k == steps - 1:
            print(f"  step {k}, loss {value:.3f}")
    return model.params(both[0]), both[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of training (default 200)")
    parser.add_argument("--chips", type=int, default=20, help="to try it on (default 20)")
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder for the results (default out)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    network = nd.from_nir(HERE / "networks" / "yin_yang.nir")
    train, test = (nd.Data.load(HERE / "data" / f"yin_yang_{part}.npz") for part in ("train", "test"))

    params, readout = trained(network, train, args.steps)
    layout = nd.compile(network, params=params, monitor="all")  # the chip sends the hidden neurons' spikes, too
    layout.save(args.out / "own_readout.json")
    eqx.tree_serialise_leaves(args.out / "own_readout.eqx", readout)
    right = []
    for chip in range(1000, 1000 + args.chips):  # none of them was seen in training
        spikes = nd.simulate(layout, test.x, mismatch=MISMATCH, key=chip).spikes[network.populations[0].name]
        right.append(100 * float((np.argmax(readout(spikes), axis=1) == test.y).mean()))
    print(f"readout behind the chip: {np.median(right):.1f} % on the median of {args.chips} unseen chips, ", end="")
    print(f"{min(right):.1f} % on the worst")


if __name__ == "__main__":
    main()
