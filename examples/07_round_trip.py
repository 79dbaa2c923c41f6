"""From a chip configuration back to NIR: configuration -> Layout -> Network -> NIR file, with and without the names.

    python3 -m uv run python examples/07_round_trip.py [-o out]

What is on a chip can be read again, whoever wrote it. With the names of the Layout that it was written from, what comes
back is that Layout; without them the bits are the same, and populations, inputs and outputs get names that are made up.
Either way a Network and a NIR file of what the bits really do follow from it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nir

import nir_dynapse as nd

HERE = Path(__file__).resolve().parent


def check(what: str, holds: bool) -> None:
    """Say it, and end the script where it is not so."""
    print(f"{what}: {'yes' if holds else 'NO'}")
    if not holds:
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder for the files (default out)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config, names, model = (args.out / f"round_trip.{end}" for end in ("json.gz", "layout.json", "nir"))

    network = nd.from_nir(HERE / "networks" / "yin_yang.nir")
    test = nd.Data.load(HERE / "data" / "yin_yang_test.npz")[:200]
    layout = nd.compile(network)
    layout.save(names)
    nd.write_config_json(layout, config)
    print(f"{layout}\nwritten: {config} ({config.stat().st_size / 1024:.0f} KiB)")

    # Configuration -> Layout, with the names.
    back = nd.from_samna(config, names=names)
    check("the Layout that comes back equals the one that was written", back == layout)

    # Layout -> Network -> NIR: what the bits do, as a network of its own that any simulator can run.
    nir.write(model, nd.to_nir(back))
    rounded = nd.from_nir(model)
    print(f"written: {model}\n{rounded}")
    for what, thing in (("as it was trained", network), ("after rounding to 4 bits", rounded)):
        right = nd.simulate(thing, test.x, ideal=True).accuracy(test.y)
        print(f"  ideal run of the network {what}: {right:.1%} right")

    # And to a chip again: nearly the same bits, so nearly the same spikes.
    first = nd.simulate(layout, test.x)
    same = (nd.simulate(nd.compile(rounded), test.x).output == first.output).mean()
    check(f"compiled again, {same:.2%} of the bins hold the same output spikes, more than 98 %", same > 0.98)

    # Without names: somebody else's configuration. Tags and places tell which neuron is which.
    stranger = nd.from_samna(config, names=False)
    print(f"without names: {stranger}")
    for finding in stranger.findings:
        print(f"  {finding}")
    second = nd.simulate(stranger, test.x, dt=test.dt)
    equal = []
    for tag, (node, index) in layout.output_map.items():
        invented, number = stranger.output_map[tag]
        print(f"  {node} {index} is {invented} {number}")
        equal.append((first.spikes[node][..., index] == second.spikes[invented][..., number]).all())
    check("its output spikes are the same in every bin", all(equal))


if __name__ == "__main__":
    main()
