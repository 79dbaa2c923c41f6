"""How well circuits follow their networks before and after `fit_to_data`: accuracy, rates, seconds.

    python3 -m uv run python tests/benchmarks/fitted_mapping.py [--write]

The example networks, dense ones too, and the three recurrent networks of tests/fitting/networks (`recurrent_networks.py`
trained them, with nothing made for the chip). Fitted to training samples without their labels, tested on others, in
circuits without mismatch. "4 bits" is what the bits of the Layout do, one CAM row per weight, on a chip with as many rows
as the neurons have synapses: what pruning costs is another matter. `--write` puts the table into docs/mapping.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import nir_dynapse as nd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from _dense import DENSE  # noqa: E402

PAGE = ROOT / "docs" / "mapping.md"
START, END = "<!-- table -->\n", "<!-- end of the table -->\n"
HEADER = (
    "network",
    "ideal",
    "closed form",
    "fitted",
    "4 bits",
    "rates, closed form",
    "rates, fitted",
    "correlation",
    "fit",
)


def cases() -> Iterator[tuple[str, nd.Network, nd.Data, nd.Data]]:
    examples, own = ROOT / "examples", ROOT / "tests" / "fitting" / "networks"
    for name in ("yin_yang", "digits_recurrent"):
        train, test = (nd.Data.load(examples / "data" / f"{name}_{part}.npz") for part in ("train", "test"))
        yield name, nd.from_nir(examples / "networks" / f"{name}.nir"), train, test
    for name, task in DENSE.items():
        yield name, task.network(), task.data("train"), task.data("test")
    for name in ("rows", "waves", "activity"):
        train, test = (nd.Data.load(own / f"{name}_{part}.npz") for part in ("train", "test"))
        yield name, nd.from_nir(own / f"{name}.nir", frontend="snntorch", dt=1e-3), train, test


def rounded(net: nd.Network, params: nd.Params, x: np.ndarray) -> nd.Recording:
    """What the bits do on a chip whose neurons have rows for all their synapses."""
    device = nd.Device(cam_rows=max(64, int(np.bincount(params.topology.post).max())))
    layout = nd.compile(net, params=params, device=device, spare_rows=False)
    return nd.simulate(layout, x, device=device)


def row(name: str, net: nd.Network, train: nd.Data, test: nd.Data) -> tuple[str, ...]:
    start = time.perf_counter()
    params, result = nd.fit_to_data(net, train)
    seconds = time.perf_counter() - start
    runs = [nd.simulate(net, test.x, ideal=True), nd.simulate(net, test.x), nd.simulate(params, test.x)]
    runs.append(rounded(net, params, test.x))
    right = [f"{100 * (run.counts().argmax(1) == test.y).mean():.1f} %" for run in runs]
    ratios, correlations = [[], []], []
    for node, spikes in runs[0].spikes.items():
        for k in (0, 1):
            ratios[k].append(f"{runs[k + 1].spikes[node].mean() / spikes.mean():.2f}")
        rates = [run.spikes[node].mean((0, 1)) for run in (runs[0], runs[2])]
        correlations.append(f"{np.corrcoef(*rates)[0, 1]:.2f}")
    fit = f"{seconds:.0f} s" + ("" if result.kept else ", closed form kept")
    return (f"`{name}`", *right, *(", ".join(r) for r in ratios), ", ".join(correlations), fit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/mapping.md")
    arguments = parser.parse_args()
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for case in cases():
        lines.append("| " + " | ".join(row(*case)) + " |")
        print(lines[-1], flush=True)
    if arguments.write:
        text = PAGE.read_text(encoding="utf-8")
        before, after = text.split(START)[0], text.split(END)[1]
        PAGE.write_text(f"{before}{START}\n" + "\n".join(lines) + f"\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
