r"""Train a small recurrent digit classifier with snnTorch, export it to NIR, repair the export and check the file.

Task: scikit-learn's 8 x 8 digits, shown from the top, two rows at a time for 16 ms; each of the 16 input channels is a
pixel of the two rows and spikes 0 to 4 times, evenly spaced, in proportion to it. A tail of 10 ms follows. Ten output
neurons vote with their spike counts over the 74 ms. Network: 16 -> 46 neurons with all-to-all recurrence (RSynaptic)
-> 10 (Synaptic), so that a hidden neuron has 62 inputs and an output neuron 46.

    UV_FIND_LINKS=... python3 -m uv run --python 3.11 --no-default-groups --group frontends \
        python examples/train_digits.py

(``UV_FIND_LINKS``: a folder or page with the CPU build of torch; leave it out to take torch from the default index.)

Writes networks/digits_recurrent.nir and data/digits_recurrent_{test,train}.npz beside this script.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import nir
import numpy as np
import snntorch
import torch
from _hardware_aware import DRAWS, Dynamics, Layer, NoisyLinear, above, below, limit_outliers, noisy_thresholds, unroll
from _nir_euler import DATA, NETWORKS, TestSet, report, write
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from snntorch.export_nir import export_to_nir

DT = 1e-3
SLOT, TAIL = 16, 10  # steps
N_STEPS = 4 * SLOT + TAIL
MOST_SPIKES = 4  # per pixel
N_INPUT, N_HIDDEN, N_CLASSES = 16, 46, 10
TAU_MEM, TAU_SYN = 20e-3, 8e-3
ALPHA, BETA = 1 - DT / TAU_SYN, 1 - DT / TAU_MEM
R = TAU_MEM / DT  # the current that NIR's r * I means, per snnTorch's ``syn``


def encode(images: np.ndarray) -> np.ndarray:
    """Spikes (samples, steps, channels) of images (samples, 8, 8) with pixels 0..16."""
    levels = np.rint(images.reshape(-1, 4, N_INPUT) / 16 * MOST_SPIKES).astype(int)
    x = np.zeros((len(images), N_STEPS, N_INPUT), np.uint8)
    for n in range(1, MOST_SPIKES + 1):
        offsets = np.floor((np.arange(n) + 0.5) * SLOT / n).astype(int)
        sample, slot, channel = np.nonzero(levels == n)
        x[sample[:, None], slot[:, None] * SLOT + offsets, channel[:, None]] = 1
    return x


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images, test images, training labels, test labels."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split(images.reshape(-1, 8, 8), labels, test_size=1 / 3, random_state=0, stratify=labels)


def jittered(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some of the images moved by one pixel to a random side, all with some contrast and pixel noise."""
    moved = images.copy()
    for k in np.flatnonzero(rng.random(len(images)) < 0.3):
        shift, axis = rng.choice((-1, 1)), rng.integers(2)
        moved[k] = np.roll(images[k], shift, axis)
        moved[k][(slice(None),) * axis + (0 if shift == 1 else -1,)] = 0
    contrast = rng.uniform(0.85, 1.15, (len(images), 1, 1))
    return np.clip(moved * contrast + rng.normal(0, 1, images.shape) * (moved > 0), 0, 16)


class Network(torch.nn.Module):
    """:meth:`forward` is one step (what the exporter traces), :meth:`run` a whole sample."""

    def __init__(self, slope: float = 5.0) -> None:
        super().__init__()
        self.slope = slope

        def vectors(n: int) -> dict[str, torch.Tensor]:  # the exporter cannot write scalars
            return {"alpha": torch.full((n,), ALPHA), "beta": torch.full((n,), BETA), "threshold": torch.ones(n)}

        self.fc_hidden = NoisyLinear(N_INPUT, N_HIDDEN, bias=False)
        self.hidden = snntorch.RSynaptic(linear_features=N_HIDDEN, reset_mechanism="zero", **vectors(N_HIDDEN))
        self.hidden.recurrent = NoisyLinear(N_HIDDEN, N_HIDDEN, bias=False)
        self.fc_output = NoisyLinear(N_HIDDEN, N_CLASSES, bias=False)
        self.output_neurons = snntorch.Synaptic(reset_mechanism="zero", **vectors(N_CLASSES))
        self.linears = (self.fc_hidden, self.hidden.recurrent, self.fc_output)
        torch.nn.init.normal_(self.fc_hidden.weight, 0.01, 0.05)
        torch.nn.init.normal_(self.hidden.recurrent.weight, 0.0, 0.015)
        torch.nn.init.normal_(self.fc_output.weight, 0.004, 0.03)

    def set_thresholds(self, n_samples: int, cv: float) -> None:
        """Noisy ones for training; all 1 with ``cv`` 0."""
        for cell in (self.hidden, self.output_neurons):
            n = cell.beta.numel()
            cell.threshold = noisy_thresholds(n_samples, n, cv) if cv else torch.ones(n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes, _, _ = self.hidden(self.fc_hidden(x), *(torch.zeros(len(x), N_HIDDEN) for _ in range(3)))
        spikes, _, _ = self.output_neurons(self.fc_output(spikes), *(torch.zeros(len(x), N_CLASSES) for _ in range(2)))
        return spikes

    def run(self, x: torch.Tensor, circuit: torch.Tensor) -> tuple[Layer, Layer]:
        """Both populations on ``x`` (time, samples, channels).

        snnTorch resets in the step after a spike, which costs that step's input, and RSynaptic's ``reset_delay=False``
        has no effect in 1.0.0. The membrane is therefore kept outside the cell and reset before it goes into the next
        step, as NIR has it.
        """

        def hidden_step(now: torch.Tensor, v: torch.Tensor, state: Any) -> tuple:
            spk, syn = state or (torch.zeros_like(v), torch.zeros_like(v))
            spk, syn, before = self.hidden(now, spk, syn, v)
            return spk, before, syn, (spk, syn)

        def output_step(now: torch.Tensor, v: torch.Tensor, syn: Any) -> tuple:
            spk, syn, before = self.output_neurons(now, torch.zeros_like(v) if syn is None else syn, v)
            return spk, before, syn, syn

        recurrent = self.hidden.recurrent.noisy if self.training else None
        dynamics = [Dynamics(ALPHA, BETA, 1.0, step, self.slope) for step in (hidden_step, output_step)]
        hidden = unroll(self.fc_hidden(x), self.hidden.threshold, circuit, dynamics[0], recurrent)
        return hidden, unroll(self.fc_output(hidden.spikes), self.output_neurons.threshold, circuit, dynamics[1])


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).float().transpose(0, 1)


@torch.no_grad()
def spikes(net: Network, x: np.ndarray) -> torch.Tensor:
    """Output spikes (time, samples, classes) without noise, as NIR defines the network."""
    net.eval()
    net.set_thresholds(len(x), 0.0)
    return net.run(tensor(x), torch.tensor(0.0))[-1].spikes


def train(net: Network, images: np.ndarray, labels: np.ndarray, a: argparse.Namespace) -> None:
    rng = np.random.default_rng(a.seed)
    batch = a.batch // DRAWS * DRAWS
    per_epoch = len(labels) // batch
    optimizer = torch.optim.Adam(net.parameters(), a.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, a.lr, total_steps=a.epochs * per_epoch, pct_start=0.1)
    for epoch in range(a.epochs):
        net.train()
        start, total = time.time(), np.zeros(5)
        ramp = min(1.0, epoch / (0.5 * a.epochs))
        x, y = tensor(encode(jittered(images, rng))), torch.from_numpy(labels)
        for index in torch.randperm(len(y))[: per_epoch * batch].split(batch):
            for linear in net.linears:
                linear.redraw(a.weight_noise * ramp, a.neuron_noise * ramp)
            net.set_thresholds(batch, a.threshold_noise * ramp)
            circuit = (torch.rand(batch, 1) < 0.5).float()
            (hidden, v_h, i_h), (output, v_o, i_o) = net.run(x[:, index], circuit)
            votes = output.sum(0)
            label = torch.nn.functional.cross_entropy(a.temperature * votes, y[index])
            negative = below(v_h) + below(v_o) + 0.1 * (below(R * i_h) + below(R * i_o))
            busy = (
                above(hidden.sum(0), 12.0)
                + above(output.sum(0), 12.0)
                + 0.1 * (above(R * i_h, 6.0) + above(R * i_o, 6.0))
            )
            idle = above(4.0 - votes.gather(1, y[index, None]), 0.0) + above(a.active - hidden.sum(0).mean(0), 0.0)
            small = sum((linear.weight * R).square().mean() for linear in net.linears[1:])
            loss = label + a.small * small + a.negative * ramp * negative + a.busy * busy + 0.1 * idle
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            for linear in net.linears:
                limit_outliers(linear.weight, 3.5)
            right = (votes.argmax(1) == y[index]).float().mean()
            total += [float(v.detach()) for v in (label, negative, busy, idle, right)]
        m = total / per_epoch
        print(
            f"epoch {epoch + 1:3d}: label {m[0]:.3f} negative {m[1]:.4f} busy {m[2]:.3f} idle {m[3]:.3f} "
            f"train (noisy) {100 * m[4]:.2f} % ({time.time() - start:.1f} s)",
            flush=True,
        )


def export(net: Network) -> nir.NIRGraph:
    """snnTorch's export, repaired so that a forward-Euler reading at DT seconds computes what snnTorch computes."""
    net.eval()
    net.set_thresholds(1, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        exported = export_to_nir(net, torch.zeros(1, N_INPUT), ignore_dims=[0])
    nodes: dict[str, nir.NIRNode] = {}
    for name, node in exported.nodes.items():
        if isinstance(node, nir.CubaLIF):
            # snnTorch 1.0.0 writes its time constants for steps of 1e-4 s, whatever the data's; r and w_in are ratios.
            values = {
                "tau_syn": node.tau_syn * DT / 1e-4,
                "tau_mem": node.tau_mem * DT / 1e-4,
                "r": node.r,
                "w_in": node.w_in,
                "v_leak": node.v_leak,
                "v_threshold": node.v_threshold,
                "v_reset": node.v_reset,
            }
            nodes[name] = nir.CubaLIF(**{key: np.asarray(value, np.float32) for key, value in values.items()})
        elif isinstance(node, nir.Linear):
            nodes[name] = nir.Linear(np.asarray(node.weight, np.float32))
    nodes["input"] = nir.Input({"input": np.array([N_INPUT])})
    nodes["output"] = nir.Output({"output": np.array([N_CLASSES])})
    return nir.NIRGraph(nodes, sorted(set(exported.edges)), metadata={"dt": DT, "source": "snntorch 1.0.0"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--weight-noise", type=float, default=0.1, help="of every weight")
    parser.add_argument(
        "--neuron-noise", type=float, default=0.1, help="of a neuron's excitation, and of its inhibition"
    )
    parser.add_argument("--threshold-noise", type=float, default=0.06)
    parser.add_argument("--negative", type=float, default=0.05)
    parser.add_argument("--busy", type=float, default=0.02)
    parser.add_argument("--active", type=float, default=2.0, help="spikes per sample asked of each hidden neuron")
    parser.add_argument("--small", type=float, default=0.02, help="cost of recurrent and output weights")
    parser.add_argument("--slope", type=float, default=8.0, help="of the surrogate gradient")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    train_images, test_images, train_labels, test_labels = split()
    net = Network(arguments.slope)
    start = time.time()
    train(net, train_images, train_labels, arguments)
    print(f"trained in {time.time() - start:.0f} s")

    network, data = NETWORKS / "digits_recurrent.nir", DATA / "digits_recurrent_test.npz"
    write(export(net), network)
    TestSet(encode(test_images), test_labels, DT).save(data)
    TestSet(encode(train_images), train_labels, DT).save(DATA / "digits_recurrent_train.npz")
    report(network, data, "output_neurons", spikes(net, encode(test_images)).transpose(0, 1).numpy().astype(np.uint8))


if __name__ == "__main__":
    main()
