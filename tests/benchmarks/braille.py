"""Fidelity on the NIR paper's Braille network: ideal, circuit, 4 bits, virtual chips, against the published raster.

    python3 -m uv run python tests/benchmarks/braille.py [FOLDER]

FOLDER holds braille_noDelay_bias_zero.nir and braille_bias_zero_golden.npz (default: ../shared/data/nir_reference beside
the repository).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import nir_dynapse as nd

DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "data" / "nir_reference"


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def main(folder: Path) -> None:
    golden = np.load(folder / "braille_bias_zero_golden.npz")
    x, published = golden["input_256x12"], golden["hidden__noDelay_bias_zero__snntorch"]
    net = nd.from_nir(folder / "braille_noDelay_bias_zero.nir", dt=1e-4, time_scale=50)
    layout = nd.compile(net)

    def row(name: str, run: nd.Recording) -> float:
        hidden = run.spikes["lif1.lif"][0]
        value = cosine(hidden.mean(0), published.mean(0))
        differing = int((hidden != published).sum())
        print(
            f"{name:28} cosine {value:.3f}   label {run.counts()[0].argmax()}   differing bins {differing} of {hidden.size}"
        )
        return value

    row("ideal", nd.simulate(net, x, ideal=True))
    row("circuit", nd.simulate(net, x))
    row("4 bits, no mismatch", nd.simulate(layout, x))
    values = [
        cosine(nd.simulate(layout, x, mismatch=nd.Mismatch(), key=k).spikes["lif1.lif"][0].mean(0), published.mean(0))
        for k in range(20)
    ]
    print(
        f"{'4 bits, 20 chips':28} cosine median {np.median(values):.3f}, 5 % quantile {np.quantile(values, 0.05):.3f}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
