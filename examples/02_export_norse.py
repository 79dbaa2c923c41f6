"""Train a small network in Norse, export it with Norse's own exporter, and run the file here, bin by bin the same.

    UV_PROJECT_ENVIRONMENT=.venv-frontends python3 -m uv run --python 3.11 --no-default-groups --group frontends \\
        python examples/02_export_norse.py [-o out]

(UV_FIND_LINKS=... names a folder or page with the CPU build of torch; without it the default index has a large one.) Says
what to install and ends with code 3 where torch or Norse is missing.

Norse's exporter writes time constants a thousand times too short and leaves out the gain of the synapses;
`frontend="norse"` repairs both, and `Network.conversion` shows each value before and after. The step is 1 ms in both.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import nir
import numpy as np

import nir_dynapse as nd

try:
    import norse.torch as norse
    import torch
except ImportError as missing:
    sys.stderr.write(f"This example trains in Norse ({missing}): pip install torch norse.\n")
    sys.exit(3)

DATA = Path(__file__).resolve().parent / "data"
SIZES = (5, 40, 3)  # inputs, hidden neurons, classes


def cell(n: int) -> norse.LIFCell:
    """Leaky neurons; values of each neuron, so that the exporter writes vectors."""
    return norse.LIFCell(
        norse.LIFParameters(
            tau_syn_inv=torch.full((n,), 1 / 10e-3),
            tau_mem_inv=torch.full((n,), 1 / 20e-3),
            v_leak=torch.zeros(n),
            v_th=torch.ones(n),
            v_reset=torch.zeros(n),
            method="triangle",  # the surrogate gradient
            alpha=torch.tensor(0.3),
        ),
        dt=1e-3,
    )


def run(net: norse.SequentialState, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Spikes (sample, time, neuron) of both layers, by the names that the exporter gives them."""
    hidden_weights, hidden, output_weights, output = net
    first = second = None
    spikes: dict[str, list[torch.Tensor]] = {"1": [], "3": []}
    for t in range(x.shape[1]):
        s, first = hidden(hidden_weights(x[:, t]), first)
        spikes["1"].append(s)
        s, second = output(output_weights(s), second)
        spikes["3"].append(s)
    return {name: torch.stack(steps, 1) for name, steps in spikes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150, help="of training (default 150)")
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder for the NIR file (default out)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, test = nd.Data.load(DATA / "yin_yang_train.npz"), nd.Data.load(DATA / "yin_yang_test.npz")[:200]

    # Train in Norse.
    n_in, n_hidden, n_out = SIZES
    net = norse.SequentialState(
        torch.nn.Linear(n_in, n_hidden, bias=False),
        cell(n_hidden),
        torch.nn.Linear(n_hidden, n_out, bias=False),
        cell(n_out),
    )
    torch.nn.init.normal_(net[0].weight, 1.0, 1.8)
    torch.nn.init.normal_(net[2].weight, 0.15, 0.6)
    optimiser = torch.optim.Adam(net.parameters(), 0.03)
    x, y = torch.tensor(train.x, dtype=torch.float32), torch.tensor(train.y)
    for step in range(args.steps):
        pick = torch.randperm(len(y))[:100]
        loss = torch.nn.functional.cross_entropy(0.5 * run(net, x[pick])["3"].sum(1), y[pick])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    with torch.no_grad():
        theirs = {name: s.numpy() for name, s in run(net, torch.tensor(test.x, dtype=torch.float32)).items()}
    print(f"Norse: {(theirs['3'].sum(1).argmax(1) == test.y).mean():.1%} of the test samples right")

    # Export with Norse's exporter, and read the file here.
    path = args.out / "norse.nir"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what the exporter is built on
        nir.write(path, norse.to_nir(net, torch.zeros(n_in), dt=1e-3))
    network = nd.from_nir(path, frontend="norse")
    print(f"written: {path}\n{network}")
    (hidden,) = (node for node in network.conversion if node.node == "1")
    for field, before, after in hidden.changes:
        if before != after:
            print(f"  hidden neurons, {field}: {before} in the file, read as {after}")

    # The ideal run does what Norse did.
    ours = nd.simulate(network, test.x, ideal=True)
    differing = sum(int((ours.spikes[name] != spikes).sum()) for name, spikes in theirs.items())
    bins = sum(spikes.size for spikes in theirs.values())
    print(f"{differing} of {bins} bins differ from Norse's own run")
    right = nd.simulate(nd.compile(network), test.x).accuracy(test.y)
    print(f"as a circuit without mismatch: {right:.1%} right (04_fine_tune.py trains for it)")
    if differing or not np.any(theirs["3"]):
        sys.exit("the two runs are not the same")


if __name__ == "__main__":
    main()
