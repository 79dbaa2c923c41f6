"""Inference now and at an earlier commit, alternating in one run: `evaluate` as a command, `simulate` of large networks.

    python3 -m uv run python tests/benchmarks/inference.py COMMIT [--turns 5] [--only evaluate,1024,8192]

The commit is checked out in a temporary folder and runs in this environment. Printed are the medians of the seconds (wall
and CPU) of both and of the ratio of each turn; every program runs once before, so that compiled kernels are on the disk.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from commits import ROOT, at, environment

EVALUATE = [
    *("-m", "nir_dynapse", "evaluate", "examples/networks/yin_yang.nir", "-q"),
    *("--data", "examples/data/yin_yang_test.npz", "--devices", "100"),
]
SIMULATE = """
import sys, time, numpy as np
sys.path.insert(0, "tests/benchmarks")
import full_chip
import nir_dynapse as nd
params = nd.to_params(full_chip.network({n}, 600))
x = np.random.default_rng(0).poisson(0.25, (1, 1000, 64)).astype(np.uint8)
nd.simulate(params, x)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    nd.simulate(params, x)
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""


def command(folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one `evaluate`."""
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *EVALUATE], cwd=folder, env=environment(folder), check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Server:
    """A process that simulates once per line."""

    def __init__(self, folder: Path, n: int) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", SIMULATE.format(n=n)], cwd=folder, env=environment(folder), stdin=pipe, stdout=pipe
        )

    def turn(self) -> tuple[float, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        wall, cpu = self.process.stdout.readline().split()
        return float(wall), float(cpu)

    def close(self) -> None:
        self.process.communicate()


def report(name: str, pairs: list[tuple[tuple[float, float], tuple[float, float]]]) -> None:
    def median(values: list[float]) -> float:
        return statistics.median(values)

    for k, what in enumerate(("wall", "CPU")):
        then, now = median([old[k] for old, _ in pairs]), median([new[k] for _, new in pairs])
        ratio = median([old[k] / new[k] for old, new in pairs])
        print(f"{name:28} {what:4}  then {then:8.3f} s  now {now:8.3f} s  ratio {ratio:6.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("commit")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", default="evaluate,1024,8192")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    with at(arguments.commit) as then:
        if "evaluate" in wanted:
            for place in (then, ROOT):
                command(place)
            report("evaluate, 100 chips", [(command(then), command(ROOT)) for _ in range(arguments.turns)])
        for n in (int(name) for name in wanted if name.isdigit()):
            old, new = Server(then, n), Server(ROOT, n)
            for server in (old, new):
                server.turn()
            report(f"simulate, {n} neurons, 1 s", [(old.turn(), new.turn()) for _ in range(arguments.turns)])
            for server in (old, new):
                server.close()


if __name__ == "__main__":
    main()
