"""A full chip, 1 024 neurons with 64 CAM rows each: seconds to compile, write and read back, and peak memory.

python3 -m uv run python tests/benchmarks/full_chip.py
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import nir_dynapse as nd
from nir_dynapse.export.samna_config import write_config_json
from nir_dynapse.network import Network, Population, Port, Projection

N, FAN_IN = 1024, 64


def network() -> Network:
    rng = np.random.default_rng(0)
    one = np.ones(N)
    neurons = Population("p", "CubaLIF", 0.02 * one, 20 * one, 0 * one, one, 0 * one, 0.005 * one, 5 * one)
    pre = np.concatenate([rng.choice(N, FAN_IN - 1, replace=False) for _ in range(N)])
    post = np.repeat(np.arange(N), FAN_IN - 1)
    recurrent = Projection("p", "p", pre, post, rng.normal(0, 0.02, len(pre)), nodes=("w_rec",))
    inputs = Projection("in", "p", rng.integers(0, 64, N), np.arange(N), 0.1 * one, nodes=("fc",))
    return Network((neurons,), (inputs, recurrent), (Port("in", (64,)),), (Port("out", (N,), "p"),), 1e-3)


def timed(name: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = work()
    print(f"{name:34} {time.perf_counter() - start:6.2f} s", flush=True)
    return result


def main() -> None:
    net = network()
    timed("compile, first use", lambda: nd.compile(net))
    layout = timed("compile again", lambda: nd.compile(net))
    config = timed("configuration object written", lambda: nd.to_samna(layout))
    same = [timed("configuration object read", lambda: nd.from_samna(config)) == layout]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json.gz"
        timed("config.json.gz written", lambda: write_config_json(layout, path))
        same.append(timed("config.json.gz read", lambda: nd.from_samna(path, names=layout)) == layout)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"both read back equal: {all(same)}; peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
