"""Accuracy of the example networks: ideal, as a circuit, with 4 bits, and on virtual chips 0 to 19.

python3 -m uv run python tests/benchmarks/examples.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import nir_dynapse as nd

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def main() -> None:
    print("| network | ideal | circuit | 4 bits | 20 virtual chips: median (lowest to highest) |")
    print("|---|---|---|---|---|")
    for name in ("yin_yang", "digits_recurrent"):
        net = nd.from_nir(EXAMPLES / "networks" / f"{name}.nir")
        data = nd.Data.load(EXAMPLES / "data" / f"{name}_test.npz")
        layout = nd.compile(net)
        runs = [nd.simulate(net, data.x, ideal=True), nd.simulate(net, data.x), nd.simulate(layout, data.x)]
        cells = [f"{100 * float((run.counts().argmax(1) == data.y).mean()):.1f} %" for run in runs]
        chips = 100 * nd.evaluate(layout, data, devices=20).accuracy
        print(f"| {name} | {' | '.join(cells)} | {np.median(chips):.0f} % ({min(chips):.0f} to {max(chips):.0f} %) |")


if __name__ == "__main__":
    main()
