"""Train a network so that it works on chips that it has never seen, and compare before and after on virtual chips.

    python3 -m uv run python examples/04_fine_tune.py [--steps 300] [-o out]

The neurons of a real chip differ. A network that was trained on a computer loses its accuracy on most chips; `fine_tune`
re-trains it in the model of the circuits, with new virtual chips in every step and with weights of 4 bits. The chips that
count here are others, which no step of the training has seen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nir_dynapse as nd

HERE = Path(__file__).resolve().parent
CHIPS, FIRST = 20, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of training (default 300)")
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder for the results (default out)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    network = nd.from_nir(HERE / "networks" / "yin_yang.nir")
    train = nd.Data.load(HERE / "data" / "yin_yang_train.npz")
    test = nd.Data.load(HERE / "data" / "yin_yang_test.npz")[:500]

    before = nd.evaluate(nd.compile(network), test, devices=CHIPS, key=FIRST)
    print(f"Before training. {before}")

    params = nd.fine_tune(
        network,
        train,
        devices=8,  # new virtual chips in every step, with the measured mismatch of the device
        steps=args.steps,
        key=0,
        log=args.out / "training.csv",
        options=nd.TrainingOptions(batch=32, check_every=max(1, args.steps // 6), held_out=8, validation_size=200),
        progress=lambda what, fraction: print(f"  {what}"),
    )
    nd.TrainingLog.load(args.out / "training.csv").plot(args.out / "training.svg")
    nd.save_params(params, args.out / "tuned.npz")

    layout = nd.compile(network, params=params)  # just these bits: nothing is fitted again
    after = nd.evaluate(layout, test, devices=CHIPS, key=FIRST)
    print(f"After training. {after}")
    print(f"written: {args.out / 'tuned.npz'}, {args.out / 'training.svg'}")
    gain = 100 * (after.median - before.median)
    print(f"The median chip gained {gain:.1f} points, the worst one {100 * (after.minimum - before.minimum):.1f}.")
    if gain <= 0:
        sys.exit("training did not help")


if __name__ == "__main__":
    main()
