"""Run a network on a virtual chip: simulated, and as a board with events in and out; then train with that chip in the loop.

    python3 -m uv run python examples/05_virtual_chip.py [--steps 60] [-o out]

A virtual chip is a number: its mismatch is fixed by place, as on silicon. `open_board("samna")` is the real one, with the
same calls. In the loop, every batch of the training runs on the board, and the model of the circuits supplies the
gradients: the network learns this one chip, whatever is wrong with it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nir_dynapse as nd

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="of training in the loop (default 60)")
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder for the results (default out)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    network = nd.from_nir(HERE / "networks" / "yin_yang.nir")
    train = nd.Data.load(HERE / "data" / "yin_yang_train.npz")
    test = nd.Data.load(HERE / "data" / "yin_yang_test.npz")[:500]
    layout = nd.compile(network)

    # The worst of 20 virtual chips.
    chips = nd.evaluate(layout, test, devices=20, key=1)
    number = chips.worst
    print(f"20 virtual chips: {chips.minimum:.1%} to {chips.accuracy.max():.1%}; virtual:{number} is the worst")

    # The same chip, simulated and as a board.
    simulated = nd.simulate(layout, test.x, mismatch=nd.DYNAPSE2.mismatch, key=number)
    with nd.open_board(f"virtual:{number}") as board:
        board.apply(layout)
        recorded = board.run_batch(test.x, test.dt)  # many samples, binned
        stimuli = nd.Events.from_counts(test.x[0], test.dt, "input")
        spikes = board.run(stimuli, duration=test.duration)  # one sample, events in µs
        spikes.save(args.out / "spikes.npz")
    same = (recorded.output == simulated.output).all()
    counted = spikes.to_counts("output_neurons", 3, test.dt, test.duration)
    print(f"board and simulation: {'the same' if same else 'NOT the same'} {simulated.output.sum()} output spikes")
    print(f"sample 0: {len(stimuli)} events in, {len(spikes)} out, {counted.sum(0)} per class (class {test.y[0]})")
    print(f"written: {args.out / 'spikes.npz'}")

    # In the loop: every batch runs on the board.
    with nd.open_board(f"virtual:{number}") as board:
        nd.fine_tune(
            network,
            train,
            board=board,
            steps=args.steps,
            key=0,
            options=nd.TrainingOptions(batch=64, check_every=max(1, args.steps // 4), validation_size=200),
            progress=lambda what, fraction: print(f"  {what}"),
        )
        best = board.layout  # the bits that did best, in their places
        after = board.run_batch(test.x, test.dt).accuracy(test.y)
    before = recorded.accuracy(test.y)
    if best is not None:
        best.save(args.out / "layout.json")
    print(f"virtual:{number}, test set: {before:.1%} before, {after:.1%} after {args.steps} steps in the loop")
    if not (same and (counted == simulated.output[0]).all() and after > before):
        sys.exit("something above is not as it should be")


if __name__ == "__main__":
    main()
