"""The compiled kernels against XLA's adjoint on random networks, in float64: spikes and gradients.

python3 -m uv run python tests/benchmarks/kernels.py [seconds] [seed]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from test_native import both

from circuits import circuits, relative
from nir_dynapse.sim.native import run as native
from nir_dynapse.sim.surrogate import Surrogate
from precision import double_precision


def case(rng: np.random.Generator) -> tuple[bool, float]:
    """Whether the spikes of one network are equal, and the largest deviation of a gradient."""
    n_in, n_hidden, n_out = (int(rng.integers(1, most)) for most in (20, 60, 20))
    fan_in = int(rng.integers(1, min(n_in, n_hidden) + 1))
    threads, lists = int(rng.integers(1, 5)), rng.random() < 0.5
    native.CELLS, native.FEW_CELLS = int(rng.choice([20, 200, 1024])), int(rng.choice([1, 128]))
    native.SPARSE_FROM, native.SPARSE_BELOW = (0, 2.0) if lists else (2**14, 0.2)
    native.WORTHWHILE, native.threads = 1, lambda: threads
    latches = [name for name in ("adaptation", "dc") if rng.random() < 0.5]
    refractory = float(rng.choice([0.1e-3, 0.4e-3, 0.6e-3, 1.2e-3, 3e-3]))
    size = {"n_in": n_in, "n_hidden": n_hidden, "n_out": n_out, "fan_in": fan_in}
    params = circuits(*latches, scale=1.5, refractory=refractory, **size)
    shape = int(rng.integers(1, 12)), int(rng.integers(1, 40))
    x = rng.poisson(rng.choice([0.2, 1.0, 3.0]), (*shape, n_in)).astype(float)
    target = rng.normal(size=(*shape, params.topology.n_neurons))
    (spikes, found), (exact_spikes, exact) = both(params, x, target, Surrogate(slope=3.0), dtype=float)
    return bool((spikes == exact_spikes).all()), relative(found, exact)


def main() -> None:
    seconds, seed = (float(v) for v in (sys.argv[1:] + ["60", "0"][len(sys.argv) - 1 :]))
    rng, start, results = np.random.default_rng(int(seed)), time.perf_counter(), []
    with double_precision():
        while time.perf_counter() - start < seconds:
            results.append(case(rng))
    equal, worst = sum(same for same, _ in results), max(deviation for _, deviation in results)
    print(f"{len(results)} networks: spikes equal in {equal}, gradients within {worst:.1e}")


if __name__ == "__main__":
    main()
