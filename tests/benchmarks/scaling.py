"""How seconds and memory of a run grow with neurons, simulated time and virtual chips, each case in a process of its own.

    python3 -m uv run python tests/benchmarks/scaling.py [--quick] [--write]

`simulate`: the networks of `full_chip` (64 CAM rows per neuron), 64 inputs at 250 Hz, bins of 1 ms, one sample; the second
of two runs. `evaluate`: the Yin-Yang example on 20 samples. `ns` are per neuron and ms, or per neuron, ms, sample and chip;
MB is what the resident set grows by at its peak in the first run (the counts of all neurons, a byte per ms each, belong to
it). `to`: the same run with its recording in a folder, after a short one there. --write puts the tables into
docs/development.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from full_chip import network

import nir_dynapse as nd
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.sim.native.play import _KERNELS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "development.md"
BEGIN, END = "<!-- scaling of tests/benchmarks/scaling.py -->", "<!-- end of scaling -->"
NEURONS, SECONDS, CHIPS = (64, 256, 1024, 4096, 8192), (0.1, 1.0, 10.0, 100.0), (10, 100, 1000, 10000)
LONG = ((1024, 10.0), (1024, 40.0), (8192, 10.0), (8192, 40.0))
MOST = 8192 * 10
"""Neurons times seconds at most: beyond it the counts alone take more than 80 MB."""


class Growth:
    """MB that the resident set is larger by at its peak than at the beginning (Linux)."""

    mb = 0.0

    def __enter__(self) -> Growth:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.before = self._status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.mb = self._status("VmHWM") - self.before

    @staticmethod
    def _status(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def simulated(neurons: int, seconds: float) -> tuple[float, float]:
    """Seconds of the second run, and MB that the first one took."""
    params = nd.to_params(network(neurons, min(neurons, 600)))
    x = np.random.default_rng(0).poisson(0.25, (1, round(seconds * 1e3), 64)).astype(np.uint8)
    nd.simulate(params, x[:, :10])
    with Growth() as grown:
        nd.simulate(params, x)
    began = time.perf_counter()
    nd.simulate(params, x)
    return time.perf_counter() - began, grown.mb


def streamed(neurons: int, seconds: float) -> tuple[float, float, float]:
    """Seconds of a run whose recording goes to a folder, MB that memory grew by, and MB there."""
    params = nd.to_params(network(neurons, min(neurons, 600)))
    x = np.random.default_rng(0).poisson(0.25, (1, round(seconds * 1e3), 64)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        nd.simulate(params, x[:, :10], to=f"{folder}/short")
        began = time.perf_counter()
        with Growth() as grown:
            nd.simulate(params, x, to=f"{folder}/run")
        took = time.perf_counter() - began
        return took, grown.mb, sum(path.stat().st_size for path in Path(folder, "run").iterdir()) / 2**20


def evaluated(chips: int) -> tuple[float, float]:
    """Seconds of an evaluation, and MB that it took."""
    layout = nd.compile(nd.from_nir(ROOT / "examples" / "networks" / "yin_yang.nir"))
    data = nd.Data.load(ROOT / "examples" / "data" / "yin_yang_test.npz")
    data = nd.Data(data.x[:20], data.y[:20], data.dt)
    nd.evaluate(layout, data, devices=2)
    began = time.perf_counter()
    with Growth() as grown:
        nd.evaluate(layout, data, devices=chips)
    return time.perf_counter() - began, grown.mb


def apart(*case: str) -> tuple[float, ...]:
    made = subprocess.run(
        [sys.executable, __file__, "--case", *case], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return tuple(json.loads(made[-1]))


def tables(quick: bool) -> str:
    neurons, times, chips = (NEURONS[:3], SECONDS[:2], CHIPS[:2]) if quick else (NEURONS, SECONDS, CHIPS)
    lines = ["| neurons | simulated s | s | ns | MB |", "|---|---|---|---|---|"]
    for n in neurons:
        for seconds in times:
            if n * seconds <= MOST:
                took, grown = apart(str(n), str(seconds))
                lines.append(f"| {n} | {seconds:g} | {took:.3g} | {took / n / seconds * 1e6:.1f} | {grown:.0f} |")
                print(lines[-1], flush=True)
    lines += ["", "| to a folder: neurons | simulated s | s | MB | MB there |", "|---|---|---|---|---|"]
    for n, seconds in LONG[:1] if quick else LONG:
        took, grown, there = apart(str(n), str(seconds), "to")
        lines.append(f"| {n} | {seconds:g} | {took:.3g} | {grown:.0f} | {there:.0f} |")
        print(lines[-1], flush=True)
    lines += ["", "| chips | s | ns | MB |", "|---|---|---|---|"]
    for count in chips:
        took, grown = apart(str(count))
        each = took / count / 20 / 63 / 60 * 1e9
        lines.append(f"| {count} | {took:.3g} | {each:.1f} | {grown:.0f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases only")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/development.md")
    parser.add_argument("--case", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        for kernel in ("play", "play_all"):
            _KERNELS.choose(kernel, np.inf)  # not NumPy, which does the first half second of a process
        first, *others = given.case
        run = {0: evaluated, 1: simulated, 2: streamed}[len(others)]
        print(json.dumps(run(int(first), *map(float, others[:1]))))
        return
    text = tables(given.quick)
    if given.write:
        before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            sys.exit(f"{PAGE.name} lacks the markers {BEGIN} and {END}")
        write_atomically(PAGE, f"{before}{BEGIN}\n{text}\n{END}{after}".encode())


if __name__ == "__main__":
    main()
