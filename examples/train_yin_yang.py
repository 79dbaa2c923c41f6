r"""Train a small Yin-Yang classifier with Norse, export it to NIR, repair the export and check the file.

Task (Kriener et al., 2022): a point of the unit square lies in the yin, the yang or one of the dots of the sign. Five
input channels carry (x, y, 1 - x, 1 - y) as the time of one spike each, between 5 and 45 ms, and a fixed bias spike at
5 ms; three output neurons vote with their spike counts over 60 ms. Network: 5 -> 60 -> 3 LIF neurons with synaptic
currents, no recurrence.

    UV_FIND_LINKS=... python3 -m uv run --python 3.11 --no-default-groups --group frontends \
        python examples/train_yin_yang.py

(``UV_FIND_LINKS``: a folder or page with the CPU build of torch; leave it out to take torch from the default index.)

Writes networks/yin_yang.nir and data/yin_yang_{test,train}.npz beside this script.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import torch
from _hardware_aware import (
    DRAWS,
    Dynamics,
    Layer,
    NoisyLinear,
    above,
    below,
    limit_outliers,
    noisy_thresholds,
    unroll,
)
from _nir_euler import DATA, NETWORKS, TestSet, accuracy, report, write
from norse.torch.functional.lif import LIFFeedForwardState

DT = 1e-3
N_STEPS = 60
T_EARLY, T_LATE, T_BIAS = 5.0, 45.0, 5.0  # ms
PHASE = 0.25  # bins: a spike at t ms is in bin floor(t + PHASE), so that x and 1 - x do not round at the same places
N_HIDDEN, N_CLASSES = 60, 3
TAU_MEM, TAU_SYN = 20e-3, 10e-3
GAIN = DT / TAU_MEM  # of the current on the membrane in one step


def which_class(x: float, y: float) -> int:
    d_right, d_left = np.hypot(x - 0.75, y - 0.5), np.hypot(x - 0.25, y - 0.5)
    if d_right < 0.1 or d_left < 0.1:
        return 2
    return int(d_right <= 0.1 or 0.1 < d_left <= 0.25 or (y > 0.5 and d_right > 0.25))


def yin_yang(n_samples: int, seed: int) -> TestSet:
    """The published data set: classes uniform, points by rejection; then spike times."""
    rng = np.random.RandomState(seed)
    points, labels = [], []
    for _ in range(n_samples):
        goal = rng.randint(3)
        while True:
            x, y = rng.rand(2)
            if np.hypot(x - 0.5, y - 0.5) <= 0.5 and which_class(x, y) == goal:
                break
        points.append((x, y, 1 - x, 1 - y))
        labels.append(goal)
    times = T_EARLY + np.array(points) * (T_LATE - T_EARLY)
    times = np.concatenate([times, np.full((n_samples, 1), T_BIAS)], 1)
    spikes = np.zeros((n_samples, N_STEPS, 5), np.uint8)
    bins = np.floor(times + PHASE).astype(int)
    spikes[np.arange(n_samples)[:, None], bins, np.arange(5)[None]] = 1
    return TestSet(spikes, np.array(labels), DT)


def lif(n: int) -> norse.LIFCell:
    """Vector parameters, so that the exporter writes vectors."""
    parameters = norse.LIFParameters(
        tau_syn_inv=torch.full((n,), 1 / TAU_SYN),
        tau_mem_inv=torch.full((n,), 1 / TAU_MEM),
        v_leak=torch.zeros(n),
        v_th=torch.ones(n),
        v_reset=torch.zeros(n),
    )
    return norse.LIFCell(parameters, dt=DT)


class Network(norse.SequentialState):
    """Norse's own sequence of layers, which the exporter traces; :meth:`run` takes the same cells through a sample."""

    def __init__(self, slope: float) -> None:
        super().__init__(
            NoisyLinear(5, N_HIDDEN, bias=False),
            lif(N_HIDDEN),
            NoisyLinear(N_HIDDEN, N_CLASSES, bias=False),
            lif(N_CLASSES),
        )
        self.slope = slope
        torch.nn.init.normal_(self[0].weight, 1.0, 1.8)
        torch.nn.init.normal_(self[2].weight, 0.15, 0.6)

    def set_thresholds(self, n_samples: int, cv: float) -> None:
        """Noisy ones for training; all 1 with ``cv`` 0."""
        for cell in (self[1], self[3]):
            n = cell.p.v_leak.numel()
            cell.p = cell.p._replace(v_th=noisy_thresholds(n_samples, n, cv) if cv else torch.ones(n))

    def run(self, x: torch.Tensor, circuit: torch.Tensor) -> tuple[Layer, Layer]:
        """Both populations on ``x`` (time, samples, channels)."""
        hidden = self._population(self[0], self[1], x, circuit)
        return hidden, self._population(self[2], self[3], hidden.spikes, circuit)

    def _population(
        self, linear: NoisyLinear, cell: norse.LIFCell, signal: torch.Tensor, circuit: torch.Tensor
    ) -> Layer:
        def step(now: torch.Tensor, v: torch.Tensor, i: Any) -> tuple:
            i = torch.zeros_like(v) if i is None else i
            current = i + now
            spikes, after = cell(now, LIFFeedForwardState(v=v, i=i))
            return spikes, v + GAIN * (current - v), current, after.i

        return unroll(
            linear(signal), cell.p.v_th, circuit, Dynamics(1 - DT / TAU_SYN, 1 - GAIN, GAIN, step, self.slope)
        )


def tensor(data: TestSet) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(data.x).float().transpose(0, 1), torch.from_numpy(data.y)


@torch.no_grad()
def spikes(net: Network, data: TestSet, circuit: bool = False) -> torch.Tensor:
    """Output spikes (time, samples, classes) without noise."""
    net.eval()
    net.set_thresholds(len(data.y), 0.0)
    return net.run(tensor(data)[0], torch.tensor(float(circuit)))[-1].spikes


def evaluate(net: Network, data: TestSet, circuit: bool) -> float:
    return accuracy(spikes(net, data, circuit).sum(0).numpy(), data.y)


def train(net: Network, train_set: TestSet, val_set: TestSet, a: argparse.Namespace) -> None:
    x, y = tensor(train_set)
    batch = a.batch // DRAWS * DRAWS
    per_epoch = len(y) // batch
    optimizer = torch.optim.Adam(net.parameters(), a.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, a.lr, total_steps=a.epochs * per_epoch, pct_start=0.1)
    for epoch in range(a.epochs):
        net.train()
        start, total = time.time(), np.zeros(5)
        ramp = min(1.0, max(0.0, (epoch / a.epochs - 0.15) / 0.45))  # first the task, then the noise
        for index in torch.randperm(len(y))[: per_epoch * batch].split(batch):
            net[0].redraw(a.weight_noise * ramp, a.neuron_noise * ramp)
            net[2].redraw(a.weight_noise * ramp, a.neuron_noise * ramp)
            net.set_thresholds(batch, a.threshold_noise * ramp)
            circuit = (torch.rand(batch, 1) < 0.5).float()
            (hidden, v_h, i_h), (output, v_o, i_o) = net.run(x[:, index], circuit)
            votes = output.sum(0)
            label = torch.nn.functional.cross_entropy(a.temperature * votes, y[index])
            negative = below(v_h) + below(v_o) + 0.1 * (below(i_h) + below(i_o))
            busy = above(hidden.sum(0), 6.0) + above(output.sum(0), a.most) + 0.1 * (above(i_h, 6.0) + above(i_o, 6.0))
            idle = above(4.0 - votes.gather(1, y[index, None]), 0.0) + above(0.3 - hidden.sum(0).mean(0), 0.0)
            loss = label + a.negative * ramp * negative + a.busy * busy + 0.1 * idle
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            for linear in (net[0], net[2]):
                limit_outliers(linear.weight, 3.0)
            right = (votes.argmax(1) == y[index]).float().mean()
            total += [float(value.detach()) for value in (label, negative, busy, idle, right)]
        m = total / per_epoch
        print(
            f"epoch {epoch + 1:3d}: label {m[0]:.3f} negative {m[1]:.4f} busy {m[2]:.3f} idle {m[3]:.3f} train (noisy) "
            f"{100 * m[4]:.2f} % validation {100 * evaluate(net, val_set, False):.2f} % circuit "
            f"{100 * evaluate(net, val_set, True):.2f} % ({time.time() - start:.1f} s)",
            flush=True,
        )


def export(net: Network) -> nir.NIRGraph:
    """Norse's export, repaired so that a forward-Euler reading at DT seconds computes what Norse computes."""
    net.eval()
    net.set_thresholds(1, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        exported = norse.to_nir(net, torch.zeros(5), dt=DT)
    names = {
        "input": "input",
        "0": "fc_hidden",
        "1": "hidden",
        "2": "fc_output",
        "3": "output_neurons",
        "output": "output",
    }

    def vector(x: torch.Tensor) -> np.ndarray:
        return x.detach().numpy().astype(np.float32)

    nodes: dict[str, nir.NIRNode] = {}
    for old, node in exported.nodes.items():
        if isinstance(node, nir.CubaLIF):
            # Norse 1.1.0 writes dt * tau; and its synapse jumps by the weight, which w_in = tau_syn / dt says in NIR.
            tau_syn, tau_mem = vector(node.tau_syn) / np.float32(DT), vector(node.tau_mem) / np.float32(DT)
            nodes[names[old]] = nir.CubaLIF(
                tau_syn=tau_syn,
                tau_mem=tau_mem,
                r=vector(node.r),
                v_leak=vector(node.v_leak),
                v_threshold=vector(node.v_threshold),
                v_reset=np.zeros_like(tau_mem),
                w_in=tau_syn / np.float32(DT),
            )
        elif isinstance(node, nir.Affine):
            nodes[names[old]] = nir.Affine(vector(node.weight), vector(node.bias))
    nodes["input"] = nir.Input({"input": np.array([5])})
    nodes["output"] = nir.Output({"output": np.array([N_CLASSES])})
    edges = sorted((names[a], names[b]) for a, b in exported.edges)
    return nir.NIRGraph(nodes, edges, metadata={"dt": DT, "source": "norse 1.1.0"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1.5e-2)
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--weight-noise", type=float, default=0.06, help="of every weight")
    parser.add_argument(
        "--neuron-noise", type=float, default=0.08, help="of a neuron's excitation, and of its inhibition"
    )
    parser.add_argument("--threshold-noise", type=float, default=0.04)
    parser.add_argument("--negative", type=float, default=0.03)
    parser.add_argument("--busy", type=float, default=0.02)
    parser.add_argument("--most", type=float, default=15.0)
    parser.add_argument("--slope", type=float, default=5.0, help="of the surrogate gradient")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    train_set, val_set, test_set = yin_yang(5000, 42), yin_yang(1000, 41), yin_yang(1000, 40)
    net = Network(arguments.slope)
    start = time.time()
    train(net, train_set, val_set, arguments)
    print(f"trained in {time.time() - start:.0f} s")

    network, data = NETWORKS / "yin_yang.nir", DATA / "yin_yang_test.npz"
    write(export(net), network)
    test_set.save(data)
    train_set.save(DATA / "yin_yang_train.npz")
    report(network, data, "output_neurons", spikes(net, test_set).transpose(0, 1).numpy().astype(np.uint8))


if __name__ == "__main__":
    main()
