"""What pruning a dense network costs, by what weighs a synapse: its charge, with measured activity, by Taylor.

python3 -m uv run python tests/benchmarks/pruning.py

The example data on dense networks, trained here by NIR's equations (surrogate gradients) without a limit on their fan-in.
Each cell is the accuracy of the circuit with exact currents on the test data, in %, mean over the seeds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import nir_dynapse as nd
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.deployment.activity import measured_charge
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.network.population import Population
from nir_dynapse.quant.fan_in import limit_fan_in
from nir_dynapse.sim.importance import taylor_importance
from nir_dynapse.sim.reference import plan, run_plan

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
TASKS = {  # data, hidden neurons, recurrent, how often each channel is repeated, size of the first weights
    "Yin-Yang, 5-200-3": ("yin_yang", 200, False, 1, 40.0),
    "digits, 16-120 recurrent-10": ("digits_recurrent", 120, True, 1, 12.0),
    "digits, 96-150-10": ("digits_recurrent", 150, False, 6, 12.0),
}


def population(name: str, n: int) -> Population:
    ones = np.ones(n)
    tau = {"tau_mem": 20e-3 * ones, "tau_syn": 10e-3 * ones, "w_in": ones}
    return Population(name, "CubaLIF", r=ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones, **tau)


def dense(seed: int, n_in: int, hidden: int, n_out: int, recurrent: bool, gain: float) -> Network:
    rng = np.random.default_rng(seed)

    def link(source: str, target: str, post: int, pre: int, size: float) -> Projection:
        return Projection.from_dense(source, target, size * (0.3 + rng.normal(size=(post, pre))))

    links = [link("in", "hidden", hidden, n_in, gain / np.sqrt(n_in))]
    links += [link("hidden", "hidden", hidden, hidden, 4 / np.sqrt(hidden))] if recurrent else []
    links += [link("hidden", "out", n_out, hidden, 25 / np.sqrt(hidden))]
    populations = (population("hidden", hidden), population("out", n_out))
    return Network(populations, tuple(links), (Port("in", (n_in,)),), (Port("o", (n_out,), "out"),), 1e-3)


def trained(net: Network, data: nd.Data, steps: int, seed: int) -> Network:
    """`net` after `steps` steps of Adam on the cross-entropy of its spike counts."""
    structure, arrays, indices = plan(net)
    optimiser = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    size = [float(np.abs(w).mean()) for w in arrays["weight"]]
    scaled = [w / s for w, s in zip(arrays["weight"], size, strict=True)]

    def loss(scaled, x, y):
        weight = [w * s for w, s in zip(scaled, size, strict=True)]
        count = run_plan(structure, {**arrays, "weight": weight}, indices, x).spikes["out"].sum(1)
        return optax.softmax_cross_entropy_with_integer_labels(4 * jnp.log(1 + count), y).mean()

    @jax.jit
    def step(scaled, state, x, y):
        update, state = optimiser.update(jax.grad(loss)(scaled, x, y), state)
        return optax.apply_updates(scaled, update), state

    state, rng = optimiser.init(scaled), np.random.default_rng(seed)
    for _ in range(steps):
        some = rng.integers(0, len(data), 64)
        scaled, state = step(scaled, state, jnp.asarray(data.x[some], jnp.float32), jnp.asarray(data.y[some]))
    found = [np.asarray(w) * s for w, s in zip(scaled, size, strict=True)]
    links = [Projection.from_dense(q.source, q.target, w.T) for q, w in zip(net.projections, found, strict=True)]
    return replace(net, projections=tuple(links))


def accuracy(run: nd.Recording, data: nd.Data) -> float:
    return 100 * float((run.counts().argmax(1) == data.y).mean())


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--steps", type=int, default=300)
    words.add_argument("--samples", type=int, default=256, help="of the training data that importance is measured on")
    args = words.parse_args()
    print("| network | ideal | circuit | rows | charge | charge × rate | Taylor, output | Taylor, labels |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (file, hidden, recurrent, times, gain) in TASKS.items():
        parts = [nd.Data.load(DATA / f"{file}_{part}.npz") for part in ("train", "test")]
        train, test = (nd.Data(np.repeat(part.x, times, 2), part.y, part.dt) for part in parts)
        rows = {limit: [] for limit in (64, 32, 16)}
        first = []
        for seed in range(args.seeds):
            net = dense(seed, train.x.shape[2], hidden, int(train.y.max()) + 1, recurrent, gain)
            net = trained(net, train, args.steps, seed)
            params = to_params(net, nd.DYNAPSE2)
            some = np.random.default_rng(seed).permutation(len(train))[: args.samples]
            few = nd.Data(train.x[some], train.y[some], train.dt)
            ways = [
                None,
                measured_charge(params, net, few),
                taylor_importance(params, few.x),
                taylor_importance(params, few.x, few.y),
            ]
            first.append(
                [accuracy(nd.simulate(net, test.x, ideal=True), test), accuracy(nd.simulate(params, test.x), test)]
            )
            for limit, found in rows.items():
                chip = replace(nd.DYNAPSE2, cam_rows=limit)
                pruned = [limit_fan_in(params, chip, "prune", way)[0] for way in ways]
                found.append([accuracy(nd.simulate(each, test.x), test) for each in pruned])
        told = [f"{v:.1f}" for v in np.mean(first, 0)]
        for limit, found in rows.items():
            print(
                f"| {name} | {' | '.join(told)} | {limit} | {' | '.join(f'{v:.1f}' for v in np.mean(found, 0))} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
