r"""Train networks in snnTorch and Norse as their tutorials do, and let their own exporters write NIR files.

    UV_FIND_LINKS=... UV_PROJECT_ENVIRONMENT=.venv-frontends python3 -m uv run --python 3.11 --no-default-groups \
        --group frontends python tests/benchmarks/frontend_networks.py [conv noise two_layers images]

(``UV_FIND_LINKS``: a folder or page with the CPU build of torch; leave it out to take torch from the default index.)

Writes out/frontends/NAME.nir and NAME_{train,test}.npz. Nothing of them is made for the chip: cross-entropy of spike
counts, and a small cost where a population fires less than 1 or more than 15 spikes in a sample, so that it learns at all.
`_frontend_tasks.py` names them, beside networks that are stored in the repository.

* conv (snnTorch): 8 x 8 digits as rates, Conv2d of six 3 x 3 kernels (216 Leaky) -> 10 Leaky.
* noise (Norse): 8 patterns of frozen noise on 60 channels, some events lost and others added; 60-48-24-8 LIF.
* two_layers (Norse): 8 x 8 digits by the time of a spike (the brighter, the earlier); 64-96-48-10 LIF.
* images (snnTorch): 14 x 14 digits, turned and moved, a spike per bright pixel; Conv2d of eight 5 x 5 kernels in steps of 3
  (128 Synaptic) -> 10 Synaptic.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import nir
import norse.torch as norse
import numpy as np
import snntorch
import torch
from snntorch.export_nir import export_to_nir

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from _dense import digits_split, enlarged  # noqa: E402
from _tasks import encoded_digits, frozen_noise  # noqa: E402
from train_dense import lif_cell  # noqa: E402

FOLDER = ROOT / "out" / "frontends"
DT = 1e-3
Set = tuple[np.ndarray, np.ndarray]


# --- tasks -----------------------------------------------------------------------------------------------------------


def digits(coding: str) -> tuple[Set, Set]:
    images, labels, test_images, test_labels = digits_split()
    return (encoded_digits(images, coding=coding), labels), (encoded_digits(test_images, coding=coding), test_labels)


def noise() -> tuple[Set, Set]:
    patterns, rng = frozen_noise(8, steps=100).train.x, np.random.default_rng(8)

    def varied(n: int) -> Set:
        y = rng.integers(8, size=n)
        x = patterns[y] * (rng.random((n, *patterns.shape[1:])) >= 0.05)
        return (x + (rng.random(x.shape) < 0.0025)).astype(np.uint8), y

    return varied(800), varied(400)


def images() -> tuple[Set, Set]:
    """A spike of each pixel of 14 x 14 that is brighter than 0.3, at 1 to 16 ms, the brightest first."""
    train, labels, test, test_labels = digits_split()
    rng = np.random.default_rng(14)

    def encoded(images: np.ndarray) -> np.ndarray:
        small = enlarged(images.reshape(-1, 8, 8), rng).reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(len(images), -1)
        x = np.zeros((len(images), 30, 196), np.uint8)
        sample, pixel = np.nonzero(small > 0.3)
        x[sample, 1 + np.rint(15 * (1 - small[sample, pixel]) / 0.7).astype(int), pixel] = 1
        return x

    return (encoded(np.tile(train, (2, 1))), np.tile(labels, 2)), (encoded(test), test_labels)


# --- networks --------------------------------------------------------------------------------------------------------


def leaky(*shape: int) -> Any:
    return snntorch.Leaky(
        torch.full(shape, 0.95),
        threshold=torch.ones(shape),
        init_hidden=True,
        reset_mechanism="zero",
        spike_grad=snntorch.surrogate.fast_sigmoid(slope=10),
    )


def synaptic(*shape: int) -> Any:
    return snntorch.Synaptic(
        torch.full(shape, 0.8),
        torch.full(shape, 0.95),
        threshold=torch.ones(shape),
        init_hidden=True,
        reset_mechanism="zero",
        spike_grad=snntorch.surrogate.fast_sigmoid(slope=10),
    )


def scaled(layer: Any, by: float, shift: float = 0.0) -> Any:
    """PyTorch's own start, larger and towards excitation, where too few spikes would come."""
    with torch.no_grad():
        layer.weight.mul_(by).add_(shift)
    return layer


def dense(*sizes: int) -> Any:
    layers = []
    for k, (a, b) in enumerate(pairwise(sizes)):
        layers += [scaled(torch.nn.Linear(a, b, bias=False), 8.0, 0.35 if k == 0 else 0.15), lif_cell(b, 15e-3, 5e-3)]
    return norse.SequentialState(*layers)


def conv() -> Any:
    first = scaled(torch.nn.Conv2d(1, 6, 3, bias=False), 1.5, 0.1)
    return torch.nn.Sequential(
        first, leaky(6, 6, 6), torch.nn.Flatten(), scaled(torch.nn.Linear(216, 10, bias=False), 2.0), leaky(10)
    )


def conv_images() -> Any:
    first = scaled(torch.nn.Conv2d(1, 8, 5, 3, bias=False), 1.5, 0.05)
    return torch.nn.Sequential(
        first, synaptic(8, 4, 4), torch.nn.Flatten(), scaled(torch.nn.Linear(128, 10, bias=False), 2.0), synaptic(10)
    )


def run_snntorch(net: Any, x: Any) -> list[Any]:
    """Spikes (time, sample, ...) of each population for counts (sample, time, ...)."""
    cells = [layer for layer in net if hasattr(layer, "reset_mem")]
    for cell in cells:
        cell.reset_mem()
    spikes: list[list[Any]] = [[] for _ in cells]
    for now in x.transpose(0, 1):
        k = 0
        for layer in net:
            now = layer(now)
            if hasattr(layer, "reset_mem"):
                spikes[k].append(now)
                k += 1
    return [torch.stack(s) for s in spikes]


def run_norse(net: Any, x: Any) -> list[Any]:
    layers = list(net)
    states, spikes = [None] * (len(layers) // 2), [[] for _ in range(len(layers) // 2)]
    for now in x.transpose(0, 1):
        for k in range(len(states)):
            now, states[k] = layers[2 * k + 1](layers[2 * k](now), states[k])
            spikes[k].append(now)
    return [torch.stack(s) for s in spikes]


class Recipe(NamedTuple):
    sets: Callable[[], tuple[Set, Set]]
    build: Callable[[], Any]
    run: Callable[[Any, Any], list[Any]]
    shape: tuple[int, ...]
    epochs: int
    rate: float


RECIPES = {
    "conv": Recipe(lambda: digits("rate"), conv, run_snntorch, (1, 8, 8), 40, 1e-2),
    "noise": Recipe(noise, lambda: dense(60, 48, 24, 8), run_norse, (60,), 30, 2e-2),
    "two_layers": Recipe(lambda: digits("latency"), lambda: dense(64, 96, 48, 10), run_norse, (64,), 50, 1e-2),
    "images": Recipe(images, conv_images, run_snntorch, (1, 14, 14), 45, 1e-2),
}


def exported(recipe: Recipe, net: Any) -> nir.NIRGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what the exporters are built on
        if recipe.run is run_norse:
            return norse.to_nir(net, torch.zeros(*recipe.shape), dt=DT)
        return export_to_nir(net, torch.zeros(1, *recipe.shape), ignore_dims=[0])


def made(name: str) -> None:
    """Train network `name` and write its files."""
    recipe, start = RECIPES[name], time.time()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    (x, y), (test_x, test_y) = recipe.sets()
    net, rng = recipe.build(), np.random.default_rng(1)
    adam = torch.optim.AdamW(net.parameters(), recipe.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, recipe.rate, total_steps=recipe.epochs * (len(y) // 64))

    def populations(x: np.ndarray) -> list[Any]:
        return recipe.run(net, torch.from_numpy(x).float().reshape(len(x), x.shape[1], *recipe.shape))

    for epoch in range(recipe.epochs):
        right = 0.0
        for index in rng.permutation(len(y))[: len(y) // 64 * 64].reshape(-1, 64):
            found = populations(x[index])
            votes, target = found[-1].sum(0), torch.from_numpy(y[index]).long()
            loss = torch.nn.functional.cross_entropy(0.5 * votes, target)
            for spikes in found:
                mean = spikes.sum(0).mean()
                loss = loss + 0.1 * (torch.relu(1 - mean) ** 2 + torch.relu(mean - 15) ** 2)
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            adam.step()
            schedule.step()
            right += float((votes.argmax(1) == target).float().sum())
        if epoch % 5 == 4:
            print(
                f"{name} epoch {epoch + 1}: {right / (len(y) // 64 * 64):.3f} ({time.time() - start:.0f} s)", flush=True
            )
    with torch.no_grad():
        found = populations(test_x)
    mean = ", ".join(f"{float(s.sum(0).mean()):.1f}" for s in found)
    right = (found[-1].sum(0).argmax(1).numpy() == test_y).mean()
    print(f"{name}: test {100 * right:.1f} %, spikes of a neuron in a sample: {mean}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    nir.write(FOLDER / f"{name}.nir", exported(recipe, net))
    for part, of, labels in (("train", x, y), ("test", test_x, test_y)):
        np.savez_compressed(FOLDER / f"{name}_{part}.npz", x=of, y=labels.astype(np.int64), dt=np.float64(DT))


if __name__ == "__main__":
    for chosen in sys.argv[1:] or RECIPES:
        made(chosen)
