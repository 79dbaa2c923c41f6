"""Read a network, see what became of each node, compile it, read the report; and what is said of networks that do not fit.

    python3 -m uv run python examples/03_check_and_compile.py [-o out]

On the way from a NIR graph to a chip nothing is dropped in silence: what had to be approximated is a finding, and what
cannot be done is an error that carries all findings at once, each with the NIR node, the number and the limit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nir
import numpy as np

import nir_dynapse as nd

HERE = Path(__file__).resolve().parent


def graph(n_in: int, n: int, *between: nir.NIRNode) -> nir.NIRGraph:
    """input -> linear -> (what is between) -> lif -> output, with random weights."""
    weight = np.random.default_rng(0).normal(5, 20, (n, n_in)) / n_in
    lif = nir.LIF(tau=np.full(n, 20e-3), r=np.ones(n), v_leak=np.zeros(n), v_threshold=np.ones(n))
    return nir.NIRGraph.from_list(
        nir.Input({"input": np.array([n_in])}),
        nir.Linear(weight),
        *between,
        lif,
        nir.Output({"output": np.array([n])}),
    )


def refused(title: str, source: nir.NIRGraph, error: type[nd.DynapseError]) -> nd.DynapseError:
    """Show what is said of `source`; anything else than this error ends the script."""
    try:
        nd.compile(nd.from_nir(source, dt=1e-3))
    except error as refusal:
        print(f"\n{title}: {type(refusal).__name__}")
        for finding in refusal.findings:
            print(f"  {finding}")
        return refusal
    sys.exit(f"{title}: not refused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("out"), help="folder for layout and report (default out)"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    # Check: reading repairs what frontends write and says what became of each node.
    network = nd.from_nir(HERE / "networks" / "digits_recurrent.nir")
    print(network)
    for node in network.conversion:
        print(f"  {node.node:<15} {node.kind:<8} -> {node.becomes} ({node.verdict})")

    # Compile: bias groups to cores, neurons to places, weights to base currents and masks, events to tags.
    layout = nd.compile(network)
    print(layout)
    print(f"  hidden neuron 0 is at chip, core, place {layout.neuron_map['hidden.lif', 0]}")
    (core,) = layout.weight_errors["cores"].values()
    print(f"  rounding to 4 bits: RMS error {core['nrmse']:.1%} of the RMS weight, {core['lost']} weights became 0")
    for finding in layout.findings:
        print(f"  {finding.severity}: {finding}")

    # The report says all of that and more; the page has pictures and needs nothing else.
    layout.save(args.out / "digits.layout.json")
    nd.report(layout, asked=network).save(args.out / "digits.html")
    print(f"  written: {args.out / 'layout.json'}, {args.out / 'report.html'}")

    # What does not fit: where, how much, how much there is, and what to do.
    many = refused("100 inputs for each neuron", graph(100, 30), nd.CapacityError)
    (finding,) = many.findings
    assert (finding.node, finding.used, finding.limit) == ("lif", 100, 64)
    pruned = nd.compile(nd.from_nir(graph(100, 30), dt=1e-3), fan_in="prune")
    print(f"  with fan_in='prune': {next(f for f in pruned.findings if f.code == 'fan-in')}")

    refused("1 500 neurons", graph(40, 1500), nd.CapacityError)
    refused("a delay in ms for s", graph(40, 30, nir.Delay(np.full(30, 5.0))), nd.UnsupportedGraphError)
    slow = graph(40, 30)
    slow.nodes["lif"].tau[7] = 500.0
    refused("a time constant of 500 s", slow, nd.ParameterRangeError)


if __name__ == "__main__":
    main()
