"""What a network costs per step in Lava, beside Lava's own Dense → LIF of the same size, in one run.

    python3 -m uv run python tests/benchmarks/lava_steps.py [--steps 1000]

Source → process → sink for 64, 256 and 1 024 neurons (64 CAM rows each): the network as one process, as a pair of synapses
and neurons, and Dense → LIF; the time per step and of the start, and ratios. The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import nir_dynapse.lava_process  # noqa: F401  (makes Lava importable on Python 3.11 and 3.12)

# isort: split
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF

from nir_dynapse.lava_process.process import DynapSE2, DynapSE2Network
from nir_dynapse.lava_process.runtime.runner import LavaRun
from nir_dynapse.network.network import Network, Population, Port, Projection

FAN_IN = 64


def network(n: int) -> Network:
    """64 input channels → n LIF neurons with current-based synapses."""
    rng, full = np.random.default_rng(0), np.full
    weights = rng.uniform(0, 0.1, (n, FAN_IN))
    population = Population(
        "lif",
        "CubaLIF",
        full(n, 20e-3),
        full(n, 20.0),
        full(n, 0.0),
        full(n, 1.0),
        full(n, 0.0),
        full(n, 5e-3),
        full(n, 5.0),
    )
    projection = Projection.from_dense("in", "lif", weights, nodes=("fc",))
    return Network((population,), (projection,), (Port("in", (FAN_IN,)),), (Port("out", (n,), "lif"),), 1e-3)


def ours(cls: type) -> Callable[[int], tuple[Any, Any, Any]]:
    def make(n: int) -> tuple[Any, Any, Any]:
        process = cls(thing=network(n))
        return process, process.s_in, process.s_out

    return make


def lavas(n: int) -> tuple[Any, Any, Any]:
    weights = np.random.default_rng(0).uniform(0, 0.1, (n, FAN_IN))
    dense, lif = Dense(weights=weights), LIF(shape=(n,), du=0.2, dv=0.05, vth=1.0)
    dense.a_out.connect(lif.a_in)
    return lif, dense.s_in, lif.s_out


def measured(make: Callable[[int], tuple[Any, Any, Any]], n: int, steps: int) -> tuple[float, float]:
    """Seconds to the end of the first step, and per step."""
    process, into, out = make(n)
    source = Source(data=(np.random.default_rng(1).random((FAN_IN, 100)) < 0.1).astype(float))
    sink = Sink(shape=(n,), buffer=100)
    source.s_out.connect(into)
    out.connect(sink.a_in)
    began = time.perf_counter()
    with LavaRun(process) as run:
        run(1)
        start = time.perf_counter() - began
        run(50)
        began = time.perf_counter()
        run(steps)
        return start, (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many (default 3)")
    args = parser.parse_args()
    kinds = {"Dense → LIF": lavas, "DynapSE2": ours(DynapSE2), "synapses + neurons": ours(DynapSE2Network)}
    for n in (64, 256, 1024):
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for _ in range(args.repeat):
            for name, make in kinds.items():
                found[name].append(measured(make, n, args.steps))
        best = {name: (min(s for s, _ in runs), min(t for _, t in runs)) for name, runs in found.items()}
        base = best["Dense → LIF"]
        for name, (start, step) in best.items():
            sys.stdout.write(
                f"{n:5d} neurons  {name:18s}  {1e3 * step:.3f} ms per step (×{step / base[1]:.2f})  "
                f"start {start:.2f} s ({start - base[0]:+.2f} s)\n"
            )


if __name__ == "__main__":
    main()
