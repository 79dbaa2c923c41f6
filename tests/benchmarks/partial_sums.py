"""Whether neurons that add up a part of a layer each (partial sums) are worth their place beside copies: they are not.

    python3 -m uv run python tests/benchmarks/partial_sums.py [--network dense_digits]

The output neurons of a dense network hear 256 hidden neurons, four times what a neuron has rows for. Compared, as NIR
defines it and as a circuit with exact currents, without training: the dense output; its 64 strongest rows; four partial
sums of 64 hidden neurons each in front of every output neuron, for several thresholds; four copies of every output
neuron that hear 64 each (`spend`).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import nir_dynapse as nd
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.network.network import Network, Projection
from nir_dynapse.training.first_rows import first_rows, heard_on

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
from _dense import DENSE

ROWS = 64


def with_partial_sums(network: Network, threshold: float) -> Network:
    """Every output neuron behind neurons that each hear 64 hidden ones and send what they got in units of `threshold`."""
    out, last = network.populations[-1], network.projections[-1]
    hidden = {p.name: p.size for p in network.populations}[last.source]
    parts = -(-hidden // ROWS)
    repeated = {
        name: np.repeat(value, parts)
        for name in ("tau_mem", "r", "v_leak", "v_threshold", "v_reset", "tau_syn", "w_in")
        if (value := getattr(out, name)) is not None
    }
    repeated["v_threshold"] = repeated["v_threshold"] * threshold
    partial = replace(out, name="partial", shape=(out.size * parts,), **repeated)
    into = replace(last, target="partial", post=last.post * parts + last.pre // ROWS, via=(), nodes=("into",))
    which = np.arange(out.size * parts)
    # A spike of a partial sum stands for what made it: its threshold.
    onward = Projection("partial", out.name, which, which // parts, repeated["v_threshold"].copy(), nodes=("onward",))
    populations = (*network.populations[:-1], partial, out)
    return replace(network, populations=populations, projections=(*network.projections[:-1], into, onward))


def strongest(network: Network) -> Network:
    """The 64 largest weights of every output neuron."""
    last = network.projections[-1]
    order = np.lexsort((-np.abs(last.weight), last.post))
    rank = np.arange(len(order)) - np.searchsorted(last.post[order], last.post[order])
    keep = np.sort(order[rank < ROWS])
    less = replace(last, pre=last.pre[keep], post=last.post[keep], weight=last.weight[keep], via=())
    return replace(network, projections=(*network.projections[:-1], less))


def copies(network: Network, data: nd.Data) -> nd.Params:
    """Four copies of every output neuron, each with 64 rows."""
    name = network.populations[-1].name
    circuit = to_params(network)
    made = with_copies(circuit, {name: 4})
    limit = np.full(made.topology.n_neurons, 10**9)
    limit[made.topology.slices()[name]] = ROWS
    return first_rows(made, limit, heard_on(circuit, made.topology, data.x, nd.DYNAPSE2), 0.2).params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="dense_digits", choices=sorted(DENSE))
    args = parser.parse_args()
    task = DENSE[args.network]
    network, train, test = task.network(), task.data("train"), task.data("test")

    def row(name: str, thing: Any, neurons: int) -> None:
        circuit = nd.simulate(thing, test.x).accuracy(test.y)
        ideal = ""
        if isinstance(thing, Network):
            ideal = f"{100 * nd.simulate(thing, test.x, ideal=True).accuracy(test.y):.1f}"
        print(f"| {name} | {neurons} | {ideal} | {100 * circuit:.1f} |", flush=True)

    out = network.populations[-1].size
    print("| output neurons | of the chip | ideal, % | circuit, % |\n|---|---|---|---|")
    row("dense (does not fit)", network, out)
    row("64 strongest rows", strongest(network), out)
    for threshold in (0.25, 0.5, 1.0, 2.0):
        row(f"four partial sums each, threshold x {threshold:g}", with_partial_sums(network, threshold), 5 * out)
    row("four copies with 64 rows each", copies(network, train), 4 * out)


if __name__ == "__main__":
    main()
