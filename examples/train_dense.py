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
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nir
import norse.torch as norse
import numpy as np
import snntorch
import torch
from _dense import DENSE, DT, digits_split, encoded_images, encoded_vowels, enlarged
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
    lr: float = 6e-3
    decay: float = 0.05
    batch: int = 64
    more: int = 1  # epochs of them that are stored beside the training set


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


# --- digits of 28 x 28 pixels ----------------------------------------------------------------------------------------


def lif_cell(n: int, tau_mem: float, tau_syn: float) -> norse.LIFCell:
    """Neurons with synaptic currents; values of each neuron, so that the exporter writes vectors."""
    parameters = norse.LIFParameters(
        tau_syn_inv=torch.full((n,), 1 / tau_syn),
        tau_mem_inv=torch.full((n,), 1 / tau_mem),
        v_leak=torch.zeros(n),
        v_th=torch.ones(n),
        v_reset=torch.zeros(n),
        method="triangle",
        alpha=torch.tensor(0.3),
    )
    return norse.LIFCell(parameters, dt=DT)


def build_images() -> torch.nn.Module:
    return norse.SequentialState(
        linear(784, 128, 0.02, 0.25), lif_cell(128, 20e-3, 5e-3), linear(128, 10, 0.0, 0.5), lif_cell(10, 20e-3, 5e-3)
    )


def run_norse(net: torch.nn.Module, x: torch.Tensor) -> Layers:
    hidden_weights, hidden, output_weights, output = net
    first = second = None
    rows: tuple[list[tuple[torch.Tensor, torch.Tensor]], ...] = ([], [])
    for now in hidden_weights(x).transpose(0, 1):
        s, first = hidden(now, first)
        rows[0].append((s, first.v))
        s, second = output(output_weights(s), second)
        rows[1].append((s, second.v))
    return [(torch.stack([s for s, _ in row]), torch.stack([v for _, v in row])) for row in rows]


def export_norse(net: torch.nn.Module) -> nir.NIRGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what the exporter is built on
        return norse.to_nir(net, torch.zeros(784), dt=DT)


def images_sets() -> tuple[TestSet, TestSet]:
    train_images, train_labels, test_images, test_labels = digits_split()
    rng = np.random.default_rng(28)
    sets = []
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        sets.append(TestSet(encoded_images(enlarged(images.reshape(-1, 8, 8), rng)), labels, DT))
    return sets[0], sets[1]


def fresh_images(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    images, labels, _, _ = digits_split()
    return encoded_images(enlarged(images.reshape(-1, 8, 8), rng)), labels


# --- Japanese Vowels -------------------------------------------------------------------------------------------------


def build_vowels() -> torch.nn.Module:
    beta, threshold = torch.full((128,), 1 - DT / 20e-3), torch.ones(128)
    hidden = snntorch.RLeaky(
        beta,
        linear_features=128,
        threshold=threshold,
        init_hidden=True,
        reset_mechanism="zero",
        spike_grad=snntorch.surrogate.fast_sigmoid(slope=4),
    )
    hidden.recurrent = linear(128, 128, 0.0, 0.03)
    return torch.nn.Sequential(linear(60, 128, 0.01, 0.08), hidden, linear(128, 9, 0.0, 0.05), leaky(9, 20e-3))


def utterances(part: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Utterances (frame, 12) and speakers 0..8 of part "TRAIN" or "TEST", from the wheel of aeon that WHEEL names."""
    frames, labels = [], []
    with zipfile.ZipFile(WHEEL[0]) as wheel:
        text = wheel.read(f"aeon/datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts").decode()
    for line in text.split("@data")[1].split():
        *columns, label = line.split(":")
        frames.append(np.array([[float(v) for v in column.split(",")] for column in columns]).T)
        labels.append(int(label) - 1)
    return frames, np.array(labels)


def limits() -> tuple[np.ndarray, np.ndarray]:
    """Quantiles 2 % and 98 % of each coefficient over the training set."""
    low, high = np.quantile(np.concatenate(utterances("TRAIN")[0]), (0.02, 0.98), axis=0)
    return low, high


def vowels_sets() -> tuple[TestSet, TestSet]:
    train_set, test_set = (TestSet(encoded_vowels(f, *limits()), y, DT) for f, y in map(utterances, ("TRAIN", "TEST")))
    return train_set, test_set


def fresh_vowels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each utterance four times, stretched by up to 20 %, cut short or shifted, with noise."""
    frames, labels = utterances("TRAIN")
    low, high = limits()
    drawn = []
    for utterance in frames * 4:
        n = len(utterance)
        first, last = rng.uniform(0, 0.1) * n, n - 1 - rng.uniform(0, 0.1) * n
        at = np.linspace(first, last, max(6, int(n * rng.uniform(0.8, 1.2))))
        x = np.stack([np.interp(at, np.arange(n), column) for column in utterance.T], 1)
        noise = rng.normal(0, 0.04, (1, 12)) + rng.normal(0, 0.02, x.shape)
        drawn.append(x + noise * (high - low))
    return encoded_vowels(drawn, low, high), np.tile(labels, 4)


WHEEL: list[Path] = []

RECIPES = {
    "dense_digits": Recipe(build_digits, run_snntorch, export_snntorch, digits_sets, fresh_digits, more=3),
    "dense_images": Recipe(
        build_images, run_norse, export_norse, images_sets, fresh_images, 0.75, 2.4, 70, 0.02, 0.01, 32
    ),
    "dense_vowels": Recipe(build_vowels, run_snntorch, export_snntorch, vowels_sets, fresh_vowels, 1.2, 3.5, 30),
}


# --- training --------------------------------------------------------------------------------------------------------


def train(net: torch.nn.Module, recipe: Recipe, a: argparse.Namespace) -> None:
    rng = np.random.default_rng(a.seed)
    epochs, batch = a.epochs or recipe.epochs, a.batch or recipe.batch
    x, y = recipe.fresh(rng)
    lr = a.lr or recipe.lr
    optimiser = torch.optim.AdamW(net.parameters(), lr, weight_decay=recipe.decay if a.decay is None else a.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=epochs * (len(y) // batch), pct_start=0.1)
    for epoch in range(epochs):
        start, total = time.time(), np.zeros(4)
        x, y = recipe.fresh(rng)
        for index in np.array_split(rng.permutation(len(y))[: len(y) // batch * batch], len(y) // batch):
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
        m = total / (len(y) // batch)
        print(
            f"epoch {epoch + 1:3d}: label {m[0]:.3f} rates {m[1]:.3f} low {m[2]:.3f} train {100 * m[3]:.2f} % "
            f"({time.time() - start:.1f} s)",
            flush=True,
        )


@torch.no_grad()
def spikes(net: torch.nn.Module, recipe: Recipe, x: np.ndarray) -> list[np.ndarray]:
    """Spikes (sample, time, neuron) of every layer, by the frontend itself."""
    return [s.transpose(0, 1).numpy() for s, _ in recipe.run(net, torch.tensor(x, dtype=torch.float32))]


def stored(name: str) -> torch.nn.Module:
    """The network in its framework, with the weights of the stored file."""
    net, graph = RECIPES[name].build(), nir.read(DENSE[name].network_file)
    for key, layer in net.named_children():
        for name_there, linear_layer in ((key, layer), (f"{key}.w_rec", getattr(layer, "recurrent", None))):
            if isinstance(linear_layer, torch.nn.Linear):
                linear_layer.weight.data = torch.from_numpy(np.array(graph.nodes[name_there].weight, np.float32))
    return net


def further(data: TestSet, recipe: Recipe) -> TestSet:
    """The training set with `recipe.more` epochs of the varied samples that the network was trained on."""
    rng = np.random.default_rng(11)
    drawn = [recipe.fresh(rng) for _ in range(recipe.more)]
    x = np.concatenate([data.x, *(x.astype(data.x.dtype) for x, _ in drawn)])
    return TestSet(x, np.concatenate([data.y, *(y for _, y in drawn)]), data.dt)


def check(name: str) -> None:
    """Prints how the stored network does in its framework and here, and how their spikes differ."""
    recipe, task, net = RECIPES[name], DENSE[name], stored(name)
    network = task.network()
    print(network, f"{task.network_file.stat().st_size / 1e3:.0f} kB")
    for part in ("train", "test"):
        data = task.data(part)
        theirs = dict(zip(task.fan_in, spikes(net, recipe, data.x), strict=True))
        output = [*theirs.values()][-1]
        ours = nd.simulate(network, data.x, ideal=True)
        differing = sum(int((ours.spikes[node] != s).sum()) for node, s in theirs.items())
        print(
            f"{part}: {len(data)} samples of {data.x.shape[1]} bins and {data.x.shape[2]} channels, "
            f"{data.x.sum((1, 2)).mean():.0f} events in a sample, {task.data_file(part).stat().st_size / 1e3:.0f} kB"
        )
        print(
            f"  {100 * accuracy(output.sum(1), data.y):.2f} % right in {task.frontend}, "
            f"{100 * ours.accuracy(data.y):.2f} % here; {differing} of {sum(s.size for s in theirs.values())} bins differ"
        )
        for node, s in theirs.items():
            print(
                f"  {node}: {s.mean() / DT:.0f} Hz, most {s.sum(1).max():.0f} spikes, {(s.sum((0, 1)) == 0).sum()} silent"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--check", action="store_true", help="train nothing; say what the stored files are")
    parser.add_argument("--data", action="store_true", help="train nothing; write the data again")
    parser.add_argument("--wheel", type=Path, help="of aeon, which holds the data of dense_vowels")
    parser.add_argument("--epochs", type=int, help="default: the network's own")
    parser.add_argument("--batch", type=int, help="default: the network's own")
    parser.add_argument("--lr", type=float, help="default: the network's own")
    parser.add_argument("--decay", type=float, help="default: the network's own")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--rates", type=float, default=0.3)
    parser.add_argument("--low", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    recipe, task = RECIPES[arguments.name], DENSE[arguments.name]
    if not arguments.check:
        if arguments.name == "dense_vowels":
            if arguments.wheel is None:
                parser.error("dense_vowels: --wheel must name the wheel of aeon, which holds the data")
            WHEEL.append(arguments.wheel)
        if not arguments.data:
            net = recipe.build()
            train(net, recipe, arguments)
            write(recipe.export(net), task.network_file)
        known, test = recipe.sets()
        further(known, recipe).save(task.data_file("train"))
        test.save(task.data_file("test"))
    check(arguments.name)


if __name__ == "__main__":
    main()
