"""Train a small network in snnTorch, export it with snnTorch's own exporter, and run the file here, bin by bin the same.

    UV_PROJECT_ENVIRONMENT=.venv-frontends python3 -m uv run --python 3.11 --no-default-groups --group frontends \\
        python examples/01_export_snntorch.py [-o out]

(UV_FIND_LINKS=... names a folder or page with the CPU build of torch; without it the default index has a large one.) Says
what to install and ends with code 3 where torch or snnTorch is missing.

A NIR file of snnTorch does not say how long a step is, nor how its neurons reset, which they do one step late, and by
subtraction unless they were told otherwise, as here. `frontend="snntorch"`, `dt=` and `reset=` say it. Read as plain NIR,
the same file is another network.
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
    import snntorch as snn
    import torch
    from snntorch.export_nir import export_to_nir
except ImportError as missing:
    sys.stderr.write(f"This example trains in snnTorch ({missing}): pip install torch snntorch nirtorch.\n")
    sys.exit(3)

DATA = Path(__file__).resolve().parent / "data"
SIZES = (5, 40, 3)  # inputs, hidden neurons, classes


def layer(n: int) -> snn.Synaptic:
    """Neurons with synapses of 10 ms, in steps of 1 ms; values of each neuron: the exporter refuses single numbers."""
    alpha, beta = torch.full((n,), 0.9), torch.full((n,), 0.95)
    return snn.Synaptic(alpha, beta, threshold=torch.ones(n), init_hidden=True, reset_mechanism="zero")


def run(net: torch.nn.Sequential, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Spikes (sample, time, neuron) of both layers, by the names that the exporter gives them."""
    hidden_weights, hidden, output_weights, output = net
    hidden.reset_mem()
    output.reset_mem()
    spikes: dict[str, list[torch.Tensor]] = {"1": [], "3": []}
    for t in range(x.shape[1]):
        spikes["1"].append(hidden(hidden_weights(x[:, t])))
        spikes["3"].append(output(output_weights(spikes["1"][-1])))
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

    # Train in snnTorch.
    n_in, n_hidden, n_out = SIZES
    net = torch.nn.Sequential(
        torch.nn.Linear(n_in, n_hidden, bias=False),
        layer(n_hidden),
        torch.nn.Linear(n_hidden, n_out, bias=False),
        layer(n_out),
    )
    torch.nn.init.normal_(net[0].weight, 0.12, 0.2)
    torch.nn.init.normal_(net[2].weight, 0.02, 0.05)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    x, y = torch.tensor(train.x, dtype=torch.float32), torch.tensor(train.y)
    for step in range(args.steps):
        pick = torch.randperm(len(y))[:100]
        loss = torch.nn.functional.cross_entropy(0.5 * run(net, x[pick])["3"].sum(1), y[pick])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    with torch.no_grad():
        theirs = {name: s.numpy() for name, s in run(net, torch.tensor(test.x, dtype=torch.float32)).items()}
    print(f"snnTorch: {(theirs['3'].sum(1).argmax(1) == test.y).mean():.1%} of the test samples right")

    # Export with snnTorch's exporter, and read the file here.
    path = args.out / "snntorch.nir"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what the exporter is built on
        nir.write(path, export_to_nir(net, torch.zeros(1, n_in), ignore_dims=[0]))
    network = nd.from_nir(path, frontend="snntorch", dt=train.dt, reset="value")
    print(f"written: {path}\n{network}")

    # The ideal run does what snnTorch did.
    ours = nd.simulate(network, test.x, ideal=True)
    differing = sum(int((ours.spikes[name] != spikes).sum()) for name, spikes in theirs.items())
    bins = sum(spikes.size for spikes in theirs.values())
    print(f"{differing} of {bins} bins differ from snnTorch's own run")
    plain = nd.simulate(nd.from_nir(path, dt=1e-4, time_scale=10), test.x, ideal=True)
    wrong = sum(int((plain.spikes[name] != spikes).sum()) for name, spikes in theirs.items())
    print(f"read as plain NIR, {wrong} bins differ")

    right = nd.simulate(nd.compile(network), test.x).accuracy(test.y)
    print(f"as a circuit without mismatch: {right:.1%} right (04_fine_tune.py trains for it)")
    if differing or not np.any(theirs["3"]):
        sys.exit("the two runs are not the same")


if __name__ == "__main__":
    main()
