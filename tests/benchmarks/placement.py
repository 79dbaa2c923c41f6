"""What the partition over chips saves: events between chips in index order and after the search, and how long it takes.

    python3 -m uv run python tests/benchmarks/placement.py

A second table compares small networks with the exact optimum (HiGHS).
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.quant.partition import Wiring, partition
from partition_cases import FAMILIES, fewest_events, layered, small_case, small_world, wiring

CASES = 60


def networks() -> list[tuple[str, int, Wiring]]:
    rng = np.random.default_rng(0)
    rows = []
    for family in FAMILIES:
        rows.append((f"{family}, 4 layers of 1000", 4, layered(family, (1000,) * 4)))
        sizes = (900, 700, 600, 300, 100)
        rows.append((f"{family}, 900 to 100, shuffled, uneven", 4, layered(family, sizes, shuffle=True, uneven=True)))
    rows.append(("small world, 4096 x 20", 4, small_world(4096, 20, 0)))
    rows.append(("random, 4096 x 20", 4, wiring(4096, *rng.integers(0, 4096, (2, 4096 * 20)))))
    rows.append(("small world, 8192 x 64", 8, small_world(8192, 64, 0)))
    rows.append(("random, 8192 x 64", 8, wiring(8192, *rng.integers(0, 8192, (2, 8192 * 64)))))
    return rows


def main() -> None:
    print(f"{'network':42}{'chips':>6}{'index order':>13}{'found':>9}{'less':>7}{'hops':>18}{'s':>7}")
    for name, chips, w in networks():
        started = time.perf_counter()
        found = partition(w, DYNAPSE2.stack(chips), chips, budget=60.0)
        seconds = time.perf_counter() - started
        start, best = found.start, found.cost
        less = 1 - best.events / max(start.events, 1)
        hops = f"{start.hops} > {best.hops}"
        print(f"{name:42}{chips:6}{start.events:13}{best.events:9}{less:7.0%}{hops:>18}{seconds:7.1f}", flush=True)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB\n")
    ratios: list[float] = []
    seconds = []
    for seed in range(CASES):
        w, device = small_case(seed)
        started = time.perf_counter()
        events = partition(w, device, device.n_chips, budget=60.0).cost.events
        seconds.append(time.perf_counter() - started)
        least = fewest_events(w, device)
        if least is not None:
            ratios.append(events / least if least else 1.0 + events)
    print(f"{len(ratios)} small networks against the exact optimum: events / optimum mean {np.mean(ratios):.4f}, worst")
    print(f"{max(ratios):.3f}, equal in {sum(r == 1 for r in ratios)}; {np.mean(seconds):.2f} s each")


if __name__ == "__main__":
    main()
