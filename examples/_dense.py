"""Three networks whose neurons have more inputs than a DYNAP-SE2 neuron has CAM rows, and their data.

`DENSE` lists them; `train_dense.py` makes the files. Nothing but numpy, scipy and `nir_dynapse` is needed here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import _tasks
import numpy as np
from scipy import ndimage

import nir_dynapse as nd
from nir_dynapse.data.encoders import latency, rate

HERE = Path(__file__).resolve().parent
DT = 1e-3


class Dense(NamedTuple):
    """A stored network: what `from_nir` has to be told about its file, and what it is."""

    name: str
    frontend: str
    reading: dict[str, Any]
    fan_in: dict[str, int]  # most inputs of a neuron, for each population
    accuracy: float  # of the ideal run on the test data

    @property
    def network_file(self) -> Path:
        return HERE / "networks" / f"{self.name}.nir"

    def data_file(self, part: str) -> Path:
        return HERE / "data" / f"{self.name}_{part}.npz"

    def network(self) -> nd.Network:
        """The network, read as its frontend means it."""
        return nd.from_nir(self.network_file, frontend=self.frontend, **self.reading)

    def data(self, part: str) -> nd.Data:
        """The samples of part "train" or "test"."""
        return nd.Data.load(self.data_file(part))


DENSE = {
    task.name: task
    for task in (
        Dense("dense_digits", "snntorch", {"dt": DT, "reset": "value"}, {"1": 64, "3": 256}, 0.981),
        Dense("dense_images", "norse", {}, {"1": 784, "3": 128}, 0.972),
        Dense("dense_vowels", "snntorch", {"dt": DT, "reset": "value"}, {"1.lif": 188, "3": 128}, 0.951),
    )
}
"""The networks by name."""


def digits_split(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's digits: training images (1437, 64) with pixels 0..16 and labels, test images (360, 64) and labels.

    Every class has its share in both parts.
    """
    images, labels = _tasks.digit_images()
    order = _tasks.stratified(labels, seed)
    train, test = order[:1437], order[1437:]
    return images[train], labels[train], images[test], labels[test]


def enlarged(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images (sample, 28, 28) of images (sample, 8, 8), each a little turned, sheared, scaled and moved; values 0..1."""
    large = np.zeros((len(images), 28, 28))
    for k, image in enumerate(images / 16):
        turn, shear = rng.normal(0, 0.05), rng.normal(0, 0.05)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[1, shear], [0, 1]]
        matrix = matrix * rng.uniform(0.94, 1.08) * 8 / 28
        centre = np.full(2, 3.5) + rng.uniform(-1, 1, 2) * 8 / 28
        ndimage.affine_transform(image, matrix, centre - matrix @ np.full(2, 13.5), (28, 28), large[k], order=1)
    return np.clip(large, 0, 1)


def encoded_images(images: np.ndarray, *, steps: int = 30, least: float = 0.4) -> np.ndarray:
    """Event counts (sample, time, 784) of images (sample, 28, 28): one event where the pixel is `least` or more.

    The brightest, 1, come after 1 ms, the darkest after 15 ms, in 8 steps of 2 ms.
    """
    v = images.reshape(len(images), 784)
    late = np.rint(np.clip((1 - v) / (1 - least), 0, 1) * 7) / 7
    return latency(late, steps, DT, earliest=DT, latest=15 * DT) * (v >= least)[:, None]


def encoded_vowels(frames: list[np.ndarray], low: np.ndarray, high: np.ndarray, *, steps: int = 50) -> np.ndarray:
    """Event counts (sample, time, 60) of utterances (frame, 12): 5 channels for each cepstral coefficient.

    A frame lasts 1.6 ms, in place of 6.4 ms. The rate of a channel is a Gaussian of the coefficient around one of five
    values, evenly spaced from `low` to `high` (12,), 200 Hz at its centre.
    """
    values = np.zeros((len(frames), steps, 12, 5))
    for k, utterance in enumerate(frames):
        length = min(int(1.6 * len(utterance)), steps)
        at = np.linspace(0, len(utterance) - 1, length)
        x = np.stack([np.interp(at, np.arange(len(utterance)), column) for column in utterance.T], 1)
        place = 4 * (x - low) / (high - low)
        values[k, :length] = np.exp(-((np.clip(place, 0, 4)[..., None] - np.arange(5)) ** 2) / (2 * 0.6**2))
    phases = _tasks.GOLDEN * np.arange(60) % 1
    return rate(values.reshape(len(frames), steps, 60), steps, DT, 200.0, phase=phases)
