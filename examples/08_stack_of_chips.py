"""A network that is too large for one chip: compiled for a stack, where its neurons went, and what crosses between chips.

    python3 -m uv run python examples/08_stack_of_chips.py [-o out]

Six areas of 320 neurons; areas 0, 2 and 4 belong together, so do 1, 3 and 5, and a few connections go to the next area. The
compiler takes as few chips as hold the network, and places it so that few events have to leave a chip, by what an ideal run
says of how often each neuron fires. Events between chips find their way by the SRAM rows of the sender.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nir
import numpy as np

import nir_dynapse as nd

AREAS, SIZE, INPUTS, DT = 6, 320, 60, 1e-3
FROM_INPUT, FROM_KIN, FROM_NEXT = 8, 10, 1
"""Incoming connections of a neuron: from the input, from each area that belongs to its own, from the area before it."""


def areas() -> nir.NIRGraph:
    """input -> areas <-> areas -> output, sparse; the output is area 0."""
    rng = np.random.default_rng(0)

    def sparse(sources: int, each: int, mean: float) -> nir.Linear:
        weight = np.zeros((SIZE, sources))
        for row in weight:
            row[rng.choice(sources, each, replace=False)] = rng.normal(mean, 1.0, each)
        return nir.Linear(weight)

    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array([INPUTS])})}
    edges = []
    for k in range(AREAS):
        nodes[f"area_{k}"] = nir.LIF(
            tau=np.full(SIZE, 20e-3), r=np.ones(SIZE), v_leak=np.zeros(SIZE), v_threshold=np.ones(SIZE)
        )
        incoming = {"input": sparse(INPUTS, FROM_INPUT, 4.0)}
        incoming |= {f"area_{j}": sparse(SIZE, FROM_KIN, 0.0) for j in range(k % 2, AREAS, 2)}
        incoming[f"area_{(k - 1) % AREAS}"] = sparse(SIZE, FROM_NEXT, 0.0)
        for source, linear in incoming.items():
            nodes[f"{source}_to_{k}"] = linear
            edges += [(source, f"{source}_to_{k}"), (f"{source}_to_{k}", f"area_{k}")]
    nodes["output"] = nir.Output({"output": np.array([SIZE])})
    return nir.NIRGraph(nodes, [*edges, ("area_0", "output")], metadata={"dt": DT})


def crossing(network: nd.Network, chip: np.ndarray, rate: np.ndarray) -> float:
    """Events per second that neurons send to other chips, if neuron n is on chip `chip[n]`: one for each chip."""
    sent = np.zeros((network.n_neurons, chip.max() + 1), bool)
    for _, pre, post in network.synapses():  # pre counts the input channels first
        inside = pre >= network.n_inputs
        sent[pre[inside] - network.n_inputs, chip[post[inside]]] = True
    sent[np.arange(len(chip)), chip] = False
    return float((sent.sum(1) * rate).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("out"), help="folder for layout and report (default out)"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    network = nd.from_nir(areas())
    print(f"{network.n_neurons} neurons, {sum(len(q.weight) for q in network.projections)} synapses")
    try:
        nd.compile(network)
        sys.exit("one chip holds it?")
    except nd.CapacityError as error:
        print(f"one chip: {error}")

    # How often each neuron fires, from an ideal run.
    x = (np.random.default_rng(1).random((1, 200, INPUTS)) < 0.04).astype(np.uint8)
    ideal = nd.simulate(network, x, ideal=True)
    activity = {node: spikes.mean((0, 1)) / DT for node, spikes in ideal.spikes.items()}
    rate = np.concatenate(list(activity.values()))
    print(f"ideal run: {rate.mean():.1f} spikes per second and neuron")

    stack = nd.DYNAPSE2.stack(n_chips=2)
    layout = nd.compile(network, device=stack, activity=activity)
    print(layout)
    for chip in range(layout.n_chips):
        here = dict.fromkeys(layout.sizes, 0)
        for (name, _), (where, _, _) in layout.neuron_map.items():
            here[name] += where == chip
        print(f"  chip {chip}: " + ", ".join(f"{name} {n}" for name, n in here.items() if n))
    placed = crossing(network, layout.chip.astype(int), rate)
    in_order = crossing(network, np.arange(network.n_neurons) // 1024, rate)
    print(f"events between chips: {placed:.0f} per second; {in_order:.0f} if neurons were placed in their order")

    layout.save(args.out / "stack.layout.json")
    nd.report(layout, device=stack, asked=network).save(args.out / "stack.html")
    print(f"written: {args.out / 'stack.layout.json'}, {args.out / 'stack.html'}")

    # The virtual stack knows the bits only; the simulator gives the same spikes.
    simulated = nd.simulate(layout, x, mismatch=nd.Mismatch(), key=7)
    with nd.open_board("virtual:7") as board:
        board.apply(layout)
        recorded = board.run_batch(x, DT)
    same = bool((recorded.output == simulated.output).all())
    print(f"virtual:7 gives {recorded.output.sum()} output spikes, {'those' if same else 'NOT those'} of simulate")
    if not (same and recorded.output.any() and placed < in_order):
        sys.exit("something above is not as it should be")


if __name__ == "__main__":
    main()
