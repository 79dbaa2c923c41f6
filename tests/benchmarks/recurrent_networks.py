"""Train the three recurrent networks of tests/fitting/networks with snnTorch, as its tutorials do, and export them to NIR.

    .venv-frontends/bin/python tests/benchmarks/recurrent_networks.py [rows waves activity]

Nothing of them is made for the chip: weights start with mean zero (PyTorch's own start) and nothing is asked of rates,
membranes or inhibition. The tests need only their files; this script says where those come from.

* rows: scikit-learn's 8 x 8 digits, a row at a time for 8 steps, a channel per column that spikes 0 to 4 times.
  100 RLeaky, reset by subtraction, no biases -> 10 Leaky.
* waves: one-dimensional templates (as in MNIST-1D), shifted, scaled and noisy, one value per step, seen by 16 channels
  that each spike for values near their own. 64 RLeaky, reset by subtraction, biases -> Linear, read by the host.
* activity: six sensor axes of five kinds of movement (rest, walking, running, cycling, jumping), as events up and down.
  128 RLeaky, reset by subtraction, biases -> 5 Leaky.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

import nir
import numpy as np
import snntorch
import torch
from snntorch.export_nir import export_to_nir

FOLDER = Path(__file__).resolve().parents[1] / "fitting" / "networks"
DT = 1e-3
TEST = 300


def rows(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    level = np.rint(images[order].reshape(-1, 8, 8) / 4).astype(int)
    x = np.zeros((len(order), 8, 8, 8), np.uint8)
    for n in range(1, 5):
        for step in np.floor((np.arange(n) + 0.5) * 8 / n).astype(int):
            x[:, :, step, :][level == n] = 1
    return x.reshape(len(order), 64, 8), labels[order]


def waves(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    knots = np.random.default_rng(5).normal(size=(6, 9))
    n, steps = 1800, 80
    labels = rng.integers(6, size=n)
    t = np.linspace(0, 1, steps)
    x = np.zeros((n, steps, 16), np.uint8)
    centres = np.linspace(-2.2, 2.2, 16)
    for k, label in enumerate(labels):
        warped = (t - 0.5) * rng.uniform(0.85, 1.15) + 0.5 + rng.uniform(-0.1, 0.1)
        wave = np.interp(warped, np.linspace(0, 1, 9), knots[label]) * rng.uniform(0.8, 1.2)
        wave = wave + 0.25 * rng.normal(size=steps)
        x[k] = np.abs(wave[:, None] - centres) < 0.3
    return x, labels


def activity(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    kinds = np.random.default_rng(7)
    rhythm = np.array([0.3, 2.0, 3.0, 1.5, 2.4])  # Hz
    strength = np.abs(kinds.normal(1, 0.4, (5, 6))) * np.array([0.15, 0.8, 1.2, 0.7, 1.2])[:, None]
    phase, second = kinds.uniform(0, 2 * np.pi, (5, 6)), kinds.uniform(0.1, 0.7, (5, 6))
    n, steps, hz = 1800, 100, 40.0
    labels = rng.integers(5, size=n)
    t = np.arange(steps) / hz
    x = np.zeros((n, steps, 12), np.uint8)
    for k, label in enumerate(labels):
        base = 2 * np.pi * rhythm[label] * rng.uniform(0.65, 1.35) * t + rng.uniform(0, 2 * np.pi)
        angle = base[:, None] + phase[label] + rng.normal(0, 0.8, 6)
        wave = strength[label] * rng.uniform(0.4, 1.5) * (np.sin(angle) + second[label] * np.sin(2 * angle))
        wave = wave + 0.15 * rng.normal(size=wave.shape)
        level = wave[0].copy()
        for step in range(1, steps):
            up, down = wave[step] > level + 0.2, wave[step] < level - 0.2
            level = np.where(up | down, wave[step], level)
            x[k, step, 0::2], x[k, step, 1::2] = up, down
    return x, labels


class Net(torch.nn.Module):
    """Input -> recurrent LIF -> LIF, or Linear alone: `forward` is a step, `run` a sample."""

    def __init__(self, sizes: tuple[int, int, int], beta: float, reset: str, bias: bool, spiking: bool) -> None:
        super().__init__()
        n_in, n, n_out = sizes
        self.fc = torch.nn.Linear(n_in, n, bias=bias)
        self.hidden = snntorch.RLeaky(
            beta=torch.full((n,), beta),
            threshold=torch.ones(n),
            linear_features=n,
            reset_mechanism=reset,
            spike_grad=snntorch.surrogate.fast_sigmoid(slope=25),
        )
        self.hidden.recurrent = torch.nn.Linear(n, n, bias=bias)
        self.fc_out = torch.nn.Linear(n, n_out, bias=bias)
        if spiking:
            self.out = snntorch.Leaky(
                beta=torch.full((n_out,), beta),
                threshold=torch.ones(n_out),
                reset_mechanism=reset,
                spike_grad=snntorch.surrogate.fast_sigmoid(slope=25),
            )
        self.spiking, self.sizes = spiking, sizes

    def forward(self, x: Any) -> Any:
        spikes, _ = self.hidden(self.fc(x), torch.zeros(len(x), self.sizes[1]), torch.zeros(len(x), self.sizes[1]))
        out = self.fc_out(spikes)
        return self.out(out, torch.zeros(len(x), self.sizes[2]))[0] if self.spiking else out

    def run(self, x: Any) -> tuple[Any, Any]:
        """Hidden spikes and outputs (time, samples, n) of x (time, samples, channels)."""
        spikes = mem = torch.zeros(x.shape[1], self.sizes[1])
        v = torch.zeros(x.shape[1], self.sizes[2])
        hidden, outputs = [], []
        for now in x:
            spikes, mem = self.hidden(self.fc(now), spikes, mem)
            out = self.fc_out(spikes)
            if self.spiking:
                out, v = self.out(out, v)
            hidden.append(spikes)
            outputs.append(out)
        return torch.stack(hidden), torch.stack(outputs)


TASKS: dict[str, tuple[Any, tuple[tuple[int, int, int], float, str, bool, bool], int]] = {
    "rows": (rows, ((8, 100, 10), 0.9, "subtract", False, True), 40),
    "waves": (waves, ((16, 64, 6), 0.95, "subtract", True, False), 20),
    "activity": (activity, ((12, 128, 5), 0.9, "subtract", True, True), 8),
}


def main(name: str) -> None:
    task, options, epochs = TASKS[name]
    torch.manual_seed(1)
    torch.set_num_threads(1)
    x, y = task(np.random.default_rng(3))
    train_x, train_y = torch.from_numpy(x[TEST:]).float().transpose(0, 1), torch.from_numpy(y[TEST:]).long()
    net = Net(*options)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    start = time.time()
    for epoch in range(epochs):
        right = 0.0
        for index in torch.randperm(len(train_y)).split(100):
            hidden, out = net.run(train_x[:, index])
            votes = 0.3 * out.sum(0) if net.spiking else 4 * out.mean(0)
            loss = torch.nn.functional.cross_entropy(votes, train_y[index])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            right += float((votes.argmax(1) == train_y[index]).float().sum())
        if epoch % 5 == 4:
            print(f"{name} epoch {epoch + 1}: {right / len(train_y):.3f} ({time.time() - start:.0f} s)", flush=True)
    with torch.no_grad():
        hidden, out = net.run(torch.from_numpy(x[:TEST]).float().transpose(0, 1))
    print(f"{name}: test {(out.sum(0).argmax(1).numpy() == y[:TEST]).mean():.3f}, hidden {hidden.mean():.3f} per step")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        graph = export_to_nir(net, torch.zeros(1, x.shape[2]), ignore_dims=[0])
    FOLDER.mkdir(parents=True, exist_ok=True)
    nir.write(FOLDER / f"{name}.nir", graph)
    np.savez_compressed(FOLDER / f"{name}_test.npz", x=x[:TEST], y=y[:TEST].astype(np.int64), dt=np.float64(DT))
    np.savez_compressed(
        FOLDER / f"{name}_train.npz", x=x[TEST : 2 * TEST], y=y[TEST : 2 * TEST].astype(np.int64), dt=DT
    )


if __name__ == "__main__":
    for chosen in sys.argv[1:] or TASKS:
        main(chosen)
