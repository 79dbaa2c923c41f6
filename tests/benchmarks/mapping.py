"""How the two free numbers of the closed-form map were chosen: fidelity of three networks over a grid of both.

    python3 -m uv run python tests/benchmarks/mapping.py

Prints, for each pair (GABA stretch, refractory period in steps), the accuracy of the two example networks as circuits and
with 4 bits, and the cosine on the NIR paper's Braille network where its files are beside the repository.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import nir_dynapse as nd
from nir_dynapse.circuit import closed_form

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT.parent / "shared" / "data" / "nir_reference"


def main() -> None:
    examples = {
        name: (
            nd.from_nir(ROOT / "examples" / "networks" / f"{name}.nir"),
            nd.Data.load(ROOT / "examples" / "data" / f"{name}_test.npz"),
        )
        for name in ("yin_yang", "digits_recurrent")
    }
    for name, (net, data) in examples.items():
        ideal = (nd.simulate(net, data.x, ideal=True).counts().argmax(1) == data.y).mean()
        print(f"{name}: ideal {ideal:.3f}")
    for stretch in (1.0, 1.25, 1.5):
        for refractory in (0.4, 0.6, 0.8, 1.0):
            closed_form.INHIBITION_STRETCH, closed_form.REFRACTORY = stretch, refractory
            words = [f"stretch {stretch:.2f} refractory {refractory:.1f}"]
            for name, (net, data) in examples.items():
                runs = [nd.simulate(thing, data.x).counts().argmax(1) for thing in (net, nd.compile(net))]
                words.append(f"{name} " + " / ".join(f"{(run == data.y).mean():.3f}" for run in runs))
            if REFERENCE.exists():
                words.append("braille " + " / ".join(f"{value:.3f}" for value in braille()))
            print("   ".join(words), flush=True)


def braille() -> list[float]:
    golden = np.load(REFERENCE / "braille_bias_zero_golden.npz")
    published = golden["hidden__noDelay_bias_zero__snntorch"].mean(0)
    net = nd.from_nir(REFERENCE / "braille_noDelay_bias_zero.nir", dt=1e-4, time_scale=50)
    means = [nd.simulate(t, golden["input_256x12"]).spikes["lif1.lif"][0].mean(0) for t in (net, nd.compile(net))]
    return [float(m @ published / np.linalg.norm(m) / np.linalg.norm(published)) for m in means]


if __name__ == "__main__":
    main()
