"""A chip with defects: its list of bad neurons, CAM rows and tags, a Layout around them, and what it costs not to know.

    python3 -m uv run python examples/09_profile_bad_rows.py [--profile examples/data/worn_chip.csv] [-o out]

On real chips some CAM rows do not answer and some tags do not arrive. A profile says which, as CSV or as the labs' JSON, or
as `nd.calibrate` measures it on a board. What is bad has no effect on a virtual chip of that profile, known or not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import nir_dynapse as nd

HERE = Path(__file__).resolve().parent


def hits(layout: nd.Layout, profile: nd.ChipProfile) -> int:
    """CAM rows in use that are bad: the row, its neuron, its tag on this core, or just that combination."""
    neuron, row = np.nonzero(layout.cam["dendrite"] >= 0)
    return int(profile.hits(layout.core[neuron], layout.slot[neuron], row, layout.cam["tag"][neuron, row]).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path, default=HERE / "data" / "worn_chip.csv", help="a CSV or JSON file")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("out"), help="folder for layout and report (default out)"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    profile = nd.ChipProfile.load(args.profile)
    print(
        f"{args.profile.name}: {int((~profile.neurons).sum())} bad neurons, {(~profile.rows).mean():.1%} bad CAM rows"
    )
    worn = nd.DYNAPSE2.with_profiles(profile)

    network = nd.from_nir(HERE / "networks" / "yin_yang.nir")
    test = nd.Data.load(HERE / "data" / "yin_yang_test.npz")[:500]
    blind, aware = nd.compile(network), nd.compile(network, device=worn)
    print(f"compiled without the profile: {hits(blind, profile)} bad CAM rows in use; with it: {hits(aware, profile)}")
    moved = sum(blind.neuron_map[name] != place for name, place in aware.neuron_map.items())
    print(f"{moved} of {len(aware.neuron_map)} neurons are in other places")
    aware.save(args.out / "worn.layout.json")
    nd.report(aware, device=worn, asked=network).save(args.out / "worn.html")
    print(f"written: {args.out / 'worn.layout.json'}, {args.out / 'worn.html'}")

    # On virtual chips with these defects, each with its own mismatch.
    found = {}
    for name, layout in (("without", blind), ("with", aware)):
        found[name] = nd.evaluate(layout, test, devices=20, key=1, device=worn)
        print(
            f"{name} the profile, 20 worn chips: median {found[name].median:.1%}, no mismatch {found[name].nominal:.1%}"
        )

    # And one of them as a board.
    with nd.open_board("virtual:7", device=worn) as board:
        board.apply(aware)
        right = board.run_batch(test.x, test.dt).accuracy(test.y)
    print(f"virtual:7 with these defects, as a board: {right:.1%}")

    as_evaluated = found["with"].accuracy[list(found["with"].seeds).index(7)]
    better = found["with"].median > found["without"].median
    if hits(aware, profile) or not better or right != as_evaluated:
        sys.exit("something above is not as it should be")


if __name__ == "__main__":
    main()
