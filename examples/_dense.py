"""Three networks whose neurons have more inputs than a DYNAP-SE2 neuron has CAM rows, and their data.

`DENSE` lists them; `train_dense.py` makes the files. Nothing but numpy, scipy and `nir_dynapse` is needed here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import _tasks
import numpy as np

import nir_dynapse as nd

HERE = Path(__file__).resolve().parent
DT = 1e-3


class Dense(NamedTuple):
    """A stored network: what `from_nir` has to be told about its file, and what it is."""

    name: str
    frontend: str
    reading: dict[str, Any]
    fan_in: dict[str, int]  # most inputs of a neuron, for each population

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
    task.name: task for task in (Dense("dense_digits", "snntorch", {"dt": DT, "reset": "value"}, {"1": 64, "3": 256}),)
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
