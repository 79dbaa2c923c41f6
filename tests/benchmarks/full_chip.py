"""Full chips, 1 024 neurons with 64 CAM rows each: seconds to compile, write and read back, and peak memory.

    python3 -m uv run python tests/benchmarks/full_chip.py [--growth]

`--growth` compiles 1, 2, 4 and 8 full chips instead (neighbours within 600 neurons, so that no neuron reaches more chips
than it has SRAM rows), after one small compile for the imports.
"""

from __future__ import annotations

import argparse
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

FAN_IN = 64


def network(n: int, reach: int) -> Network:
    """`n` recurrent neurons with 63 synapses from neighbours at most `reach`/2 away on a ring, and one input each."""
    rng = np.random.default_rng(0)
    one = np.ones(n)
    neurons = Population("p", "CubaLIF", 0.02 * one, 20 * one, 0 * one, one, 0 * one, 0.005 * one, 5 * one)
    near = np.argsort(rng.random((n, reach)), axis=1)[:, : FAN_IN - 1] - reach // 2
    pre = ((np.arange(n)[:, None] + near) % n).ravel()
    post = np.repeat(np.arange(n), FAN_IN - 1)
    recurrent = Projection("p", "p", pre, post, rng.normal(0, 0.02, len(pre)), nodes=("w_rec",))
    inputs = Projection("in", "p", rng.integers(0, 64, n), np.arange(n), 0.1 * one, nodes=("fc",))
    # No more outputs than the seven chips from which events can be recorded hold.
    outputs = (Port("out", (n,), "p"),) if n <= 7168 else ()
    return Network((neurons,), (inputs, recurrent), (Port("in", (64,)),), outputs, 1e-3)


def timed(name: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = work()
    print(f"{name:34} {time.perf_counter() - start:6.2f} s", flush=True)
    return result


def peak() -> float:
    """Peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def whole_way() -> None:
    net = network(1024, 1024)
    timed("compile, first use", lambda: nd.compile(net))
    layout = timed("compile again", lambda: nd.compile(net))
    config = timed("configuration object written", lambda: nd.to_samna(layout))
    same = [timed("configuration object read", lambda: nd.from_samna(config)) == layout]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json.gz"
        timed("config.json.gz written", lambda: write_config_json(layout, path))
        same.append(timed("config.json.gz read", lambda: nd.from_samna(path, names=layout)) == layout)
    print(f"both read back equal: {all(same)}; peak memory {peak():.2f} GiB")


def growth() -> None:
    nd.compile(network(100, 100))
    print(
        "| chips | neurons | CAM rows | seconds | seconds per chip | events between chips, index order | found | GiB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for chips in (1, 2, 4, 8):
        net = network(1024 * chips, 600)
        start = time.perf_counter()
        layout = nd.compile(net, device=nd.DYNAPSE2.stack(chips))
        seconds = time.perf_counter() - start
        rows = int((layout.cam["dendrite"] >= 0).sum())
        events = next(((f.limit, f.used) for f in layout.findings if f.code == "placement"), (0, 0))
        print(
            f"| {chips} | {layout.n_neurons} | {rows} | {seconds:.2f} | {seconds / chips:.2f} | {events[0]} | {events[1]} "
            f"| {peak():.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true")
    if parser.parse_args().growth:
        growth()
    else:
        whole_way()


if __name__ == "__main__":
    main()
