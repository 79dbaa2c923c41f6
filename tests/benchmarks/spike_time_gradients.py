"""Yin-Yang by time to first spike: gradients by a surrogate and exactly through spike times, from the same random weights.

    python3 -m uv run python tests/benchmarks/spike_time_gradients.py [--keys 3] [--steps 500] [--rate 0.005 --rate 0.02]

5 -> `hidden` -> 3 neurons, whoever of the three fires first answers; trained with the loss "first-spike-time", 4 bits, on
chips with 20 % mismatch. Prints for two learning rates, every key and in the median the accuracy on 1 000 test samples,
without mismatch and in the median over 20 unseen chips of 20 %; the samples in which no output fires; spikes per sample of
all neurons; and CPU seconds per step (after compiling). `--speed`: instead CPU milliseconds of a value and its gradient by
all weights and bias currents, 128 samples on examples/networks/yin_yang.nir, by the compiled kernels and by XLA.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.chip.device import Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.data import Data
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.network import Network, Population, Port, Projection
from nir_dynapse.sim.circuit import internal_step
from nir_dynapse.sim.engine import first_spike_times, spike_counts
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.training.fine_tune import fine_tune
from nir_dynapse.training.losses import Penalty
from nir_dynapse.training.options import GRADIENTS, TrainingOptions

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "data"
SPREAD, CHIPS, FIRST, RATES = Mismatch.uniform(0.2), 20, 1000, (0.005, 0.02)


def network(hidden: int, key: int) -> Network:
    """LIF neurons with synaptic currents and random weights, most of them positive, so that most neurons fire."""
    rng = np.random.default_rng(key)

    def population(name: str, n: int) -> Population:
        ones = np.ones(n)
        return Population(name, "CubaLIF", 20e-3 * ones, 20 * ones, 0 * ones, ones, 0 * ones, 10e-3 * ones, 10 * ones)

    layers = (
        Projection.from_dense("in", "hidden", rng.normal(0.07, 0.07, (hidden, 5)), nodes=("first",)),
        Projection.from_dense("hidden", "out", rng.normal(0.5, 0.8, (3, hidden)) / hidden, nodes=("second",)),
    )
    populations = (population("hidden", hidden), population("out", 3))
    return Network(populations, layers, (Port("in", (5,)),), (Port("output", (3,), "out"),), 1e-3)


def trained(gradient: Any, rate: float, hidden: int, key: int, steps: int, data: Data) -> tuple[Params, float]:
    """What was trained, and CPU seconds per step."""
    begun: list[tuple[float, float]] = []

    def tell(what: str, _: float) -> None:
        begun.append((time.process_time(), float(what.split()[1].strip(","))))
        print(f"  {gradient}, rate {rate}, key {key}: {what}", file=sys.stderr, flush=True)

    options = TrainingOptions(
        gradient=gradient,
        rate=rate,
        batch=32,
        distil=0.0,
        follow=0.0,
        fit=False,
        held_out=2,
        validation_size=200,
        check_every=max(1, steps // 8),
        penalty=Penalty(quiet=0.05, least=0.3),
    )
    params = fine_tune(
        network(hidden, key),
        data,
        mismatch=SPREAD,
        devices=2,
        steps=steps,
        loss="first-spike-time",
        key=key,
        progress=tell,
        options=options,
    )
    (first, a), (last, b) = begun[1], begun[-1]
    return params, (last - first) / max(1.0, b - a)


def measured(params: Params, test: Data) -> np.ndarray:
    """Accuracy without mismatch, its median over unseen chips, the share of silent samples, and spikes per sample."""
    t = params.topology
    out, plain = t.slices()["out"], replace(t, mask=None, group=np.arange(t.n_neurons))
    chips = [fabricate(params, SPREAD, FIRST + k) for k in range(CHIPS)]
    x = jnp.asarray(test.x, jnp.float32)

    substeps = max(internal_step(chip, t.dt) for chip in (params, *chips))

    @jax.jit
    def run(bias: Any, weight: Any) -> Any:
        chip = replace(params, bias=bias, weight=weight, base=None, topology=plain)
        return first_spike_times(chip, x, substeps=substeps)

    def right(chip: Params) -> tuple[float, float, float]:
        bias = {name: chip.per_neuron(name) for name in chip.bias}
        times, counts = (np.asarray(part) for part in run(bias, chip.row_currents(np)))
        own, fired = times[:, out], counts[:, :, out].any((1, 2))
        return float((fired & (own.argmin(1) == test.y)).mean()), float(1 - fired.mean()), float(counts.sum() / len(x))

    nominal, silent, spikes = right(params)
    found = [right(chip)[0] for chip in chips]
    return np.array([100 * nominal, 100 * float(np.median(found)), 100 * silent, spikes])


def speed() -> None:
    """CPU ms, the least of several runs, of the surrogate on the kernels and by XLA, and of exact gradients by XLA."""
    params, data = (
        to_params(from_nir(FOLDER.parent / "networks" / "yin_yang.nir")),
        Data.load(FOLDER / "yin_yang_train.npz"),
    )
    x, unit = jnp.asarray(data.x[:128], jnp.float32), float(np.max(np.asarray(params.weight)))

    def run(weight: Any, bias: Any, way: str) -> Any:
        chip = replace(params, weight=weight * unit, bias=bias)
        if way == "kernels":
            return spike_counts(chip, x, substeps=1).sum()
        if way == "XLA":
            return spike_counts(chip, x, substeps=1, native=False).sum()
        return first_spike_times(chip, x, substeps=1, surrogate=Surrogate(times=way == "spike times"))[0].sum()

    for way in ("kernels", "XLA", "XLA, first spikes", "spike times"):
        step = jax.jit(jax.value_and_grad(partial(run, way=way), (0, 1)))
        taken = []
        for _ in range(16):
            begun = time.process_time()
            jax.block_until_ready(step(np.asarray(params.weight) / unit, dict(params.bias)))
            taken.append(time.process_time() - begun)
        print(f"{way:<18} {1e3 * min(taken[1:]):.1f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first key")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rate", type=float, action="append", help="of learning, at the start")
    parser.add_argument("--hidden", type=int, default=30)
    parser.add_argument("--gradient", choices=GRADIENTS, action="append")
    parser.add_argument("--speed", action="store_true")
    given = parser.parse_args()
    if given.speed:
        speed()
        return
    data, test = (Data.load(FOLDER / f"yin_yang_{part}.npz") for part in ("train", "test"))
    print(
        "| gradient | rate | key | nominal % | at 20 % | silent % | spikes | s/step |\n|---|---|---|---|---|---|---|---|"
    )
    for gradient, rate in product(given.gradient or GRADIENTS, given.rate or RATES):
        rows = []
        for key in range(given.first, given.first + given.keys):
            params, seconds = trained(gradient, rate, given.hidden, key, given.steps, data)
            rows.append(np.r_[measured(params, test), seconds])
            print(_row(gradient, rate, str(key), rows[-1]), flush=True)
        print(_row(gradient, rate, "median", np.median(rows, 0)), flush=True)


def _row(gradient: str, rate: float, key: str, found: np.ndarray) -> str:
    nominal, spread, silent, spikes, seconds = found
    return (
        f"| {gradient} | {rate} | {key} | {nominal:.1f} | {spread:.1f} | {silent:.1f} | {spikes:.1f} | {seconds:.3f} |"
    )


if __name__ == "__main__":
    main()
