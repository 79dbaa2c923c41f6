r"""Train networks with more inputs per neuron than the chip has CAM rows, and export them by the frontends' own exporters.

    UV_FIND_LINKS=... UV_PROJECT_ENVIRONMENT=.venv-frontends python3 -m uv run --python 3.11 --no-default-groups \
        --group frontends python examples/train_dense.py dense_digits

(``UV_FIND_LINKS``: a folder or page with the CPU build of torch; leave it out to take torch from the default index.)

The files are the exporters' own, unrepaired: `_dense.py` says what `from_nir` must be told to read them. Classes are the
largest spike counts of the output neurons. Training asks for moderate rates and membranes that are not far below reset,
where a circuit cannot follow. Writes networks/NAME.nir and data/NAME_{train,test}.npz beside this script.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import nir
import numpy as np
import snntorch
import torch
from _dense import DENSE, DT, digits_split
from _nir_euler import TestSet, accuracy, write
from _tasks import encoded_digits
from snntorch.export_nir import export_to_nir
from train_digits import jittered

import nir_dynapse as nd

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Spikes and membranes (time, sample, neuron) of each layer."""


class Recipe(NamedTuple):
    """How a network is made: `run(net, x)` takes (sample, time, channel)."""

    build: Callable[[], torch.nn.Module]
    run: Callable[[torch.nn.Module, torch.Tensor], Layers]
    export: Callable[[torch.nn.Module], nir.NIRGraph]
    sets: Callable[[], tuple[TestSet, TestSet]]
    fresh: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]  # training samples of an epoch
    least: float = 1.0  # spikes per sample that each hidden neuron is asked for, and
    most: float = 2.8
    epochs: int = 40


# --- snnTorch --------------------------------------------------------------------------------------------------------


def leaky(n: int, tau: float) -> snntorch.Leaky:
    """Neurons that reset to zero; values of each neuron: the exporter refuses single numbers."""
    return snntorch.Leaky(
        torch.full((n,), 1 - DT / tau),
        threshold=torch.ones(n),
        init_hidden=True,
        reset_mechanism="zero",
        spike_grad=snntorch.surrogate.fast_sigmoid(slope=4),
    )


def linear(n_in: int, n_out: int, mean: float, spread: float) -> torch.nn.Linear:
    layer = torch.nn.Linear(n_in, n_out, bias=False)
    torch.nn.init.normal_(layer.weight, mean, spread)
    return layer


def run_snntorch(net: torch.nn.Module, x: torch.Tensor) -> Layers:
    cells = [layer for layer in net.children() if hasattr(layer, "reset_mem")]
    for cell in cells:
        cell.reset_mem()
    rows: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in cells]
    for t in range(x.shape[1]):
        now, k = x[:, t], 0
        for layer in net.children():
            now = layer(now)
            if hasattr(layer, "reset_mem"):
                rows[k].append((now, layer.mem))
                k += 1
    return [(torch.stack([s for s, _ in row]), torch.stack([v for _, v in row])) for row in rows]


def export_snntorch(net: torch.nn.Module) -> nir.NIRGraph:
    n_in = next(layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)).in_features
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what the exporter is built on
        return export_to_nir(net, torch.zeros(1, n_in), ignore_dims=[0])


# --- digits ----------------------------------------------------------------------------------------------------------


def build_digits() -> torch.nn.Module:
    return torch.nn.Sequential(
        linear(64, 256, 0.01, 0.08), leaky(256, 20e-3), linear(256, 10, 0.0, 0.05), leaky(10, 20e-3)
    )


def digits_sets() -> tuple[TestSet, TestSet]:
    train_images, train_labels, test_images, test_labels = digits_split()
    return TestSet(encoded_digits(train_images), train_labels, DT), TestSet(
        encoded_digits(test_images), test_labels, DT
    )


def fresh_digits(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    images, labels, _, _ = digits_split()
    return encoded_digits(jittered(images.reshape(-1, 8, 8), rng).reshape(-1, 64)), labels


RECIPES = {
    "dense_digits": Recipe(build_digits, run_snntorch, export_snntorch, digits_sets, fresh_digits),
}


# --- training --------------------------------------------------------------------------------------------------------


def train(net: torch.nn.Module, recipe: Recipe, a: argparse.Namespace) -> None:
    rng = np.random.default_rng(a.seed)
    epochs = a.epochs or recipe.epochs
    x, y = recipe.fresh(rng)
    optimiser = torch.optim.AdamW(net.parameters(), a.lr, weight_decay=a.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, a.lr, total_steps=epochs * (len(y) // a.batch), pct_start=0.1
    )
    for epoch in range(epochs):
        start, total = time.time(), np.zeros(4)
        x, y = recipe.fresh(rng)
        for index in np.array_split(rng.permutation(len(y))[: len(y) // a.batch * a.batch], len(y) // a.batch):
            layers = recipe.run(net, torch.from_numpy(x[index]).float())
            target = torch.from_numpy(y[index])
            votes = layers[-1][0].sum(0)
            label = torch.nn.functional.cross_entropy(a.temperature * votes, target, label_smoothing=0.05)
            mean = [s.sum(0).mean(0) for s, _ in layers[:-1]]  # spikes per sample of each hidden neuron
            rates = sum((torch.relu(m - recipe.most) ** 2 + torch.relu(recipe.least - m) ** 2).mean() for m in mean)
            rates = rates + 0.1 * sum(torch.relu(s.sum(0) - 8).square().mean() for s, _ in layers)
            rates = rates + 0.02 * torch.relu(6 - votes.gather(1, target[:, None])).square().mean()
            low = sum(torch.relu(-0.5 - v).square().mean() for _, v in layers)
            loss = label + a.rates * rates + a.low * low
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            right = (votes.argmax(1) == target).float().mean()
            total += [float(v.detach()) for v in (label, rates, low, right)]
        m = total / (len(y) // a.batch)
        print(
            f"epoch {epoch + 1:3d}: label {m[0]:.3f} rates {m[1]:.3f} low {m[2]:.3f} train {100 * m[3]:.2f} % "
            f"({time.time() - start:.1f} s)",
            flush=True,
        )


@torch.no_grad()
def spikes(net: torch.nn.Module, recipe: Recipe, x: np.ndarray) -> list[np.ndarray]:
    """Spikes (sample, time, neuron) of every layer, by the frontend itself."""
    return [s.transpose(0, 1).numpy() for s, _ in recipe.run(net, torch.from_numpy(x).float())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--epochs", type=int, help="default: the network's own")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=6e-3)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--rates", type=float, default=0.3)
    parser.add_argument("--low", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)

    recipe, task = RECIPES[arguments.name], DENSE[arguments.name]
    net = recipe.build()
    train(net, recipe, arguments)
    write(recipe.export(net), task.network_file)
    for part, data in zip(("train", "test"), recipe.sets(), strict=True):
        data.save(task.data_file(part))
        theirs = spikes(net, recipe, data.x)
        recording = nd.simulate(task.network(), data.x, ideal=True)
        ours = [recording.spikes[name] for name in task.fan_in]
        differing = sum(int((a != b).sum()) for a, b in zip(ours, theirs, strict=True))
        steps = data.x.shape[1]
        hertz = ", ".join(f"{name} {s.mean() / DT:.0f} Hz" for name, s in zip(task.fan_in, theirs, strict=True))
        print(
            f"{part}: {100 * accuracy(theirs[-1].sum(1), data.y):.2f} % of {len(data.y)} samples of {steps} bins right "
            f"in {task.frontend}, {100 * recording.accuracy(data.y):.2f} % here; {differing} bins differ; {hertz}; "
            f"most {max(int(s.sum(1).max()) for s in theirs)} spikes; "
            f"{sum(int((s.sum((0, 1)) == 0).sum()) for s in theirs)} silent neurons; "
            f"{task.data_file(part).stat().st_size / 1e3:.0f} kB"
        )
    print(task.network(), f"{task.network_file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
