"""Networks that were trained in frontends, and their data: those that the defaults of training were chosen by, and others.

Some are stored in the repository; `frontend_networks.py` makes conv, noise, two_layers and images, `sensors.py` vowels and
watch (`--arms ideal`), both in the environment of the frontends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nir_dynapse as nd

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))
from _dense import DENSE  # noqa: E402
from _sensors import SENSORS  # noqa: E402
from _sensors import data as sensor_data  # noqa: E402

STORED, MADE = ROOT / "tests" / "fitting" / "networks", ROOT / "out" / "frontends"
DT = 1e-3
STEPS: dict[str, Any] = {"frontend": "snntorch", "dt": DT}
VALUE = {**STEPS, "reset": "value"}
PART = 0.8  # of the training data that the search trains on; it judges by the rest


class Task(NamedTuple):
    """A network's file, what `from_nir` is told about it, and its training and test data."""

    name: str
    about: str
    file: Path
    reading: dict[str, Any]
    sets: Callable[[], tuple[nd.Data, nd.Data]]

    def network(self) -> nd.Network:
        if not self.file.exists():
            who = "sensors.py --arms ideal" if self.file.parent.name == "sensors" else "frontend_networks.py"
            raise SystemExit(
                f"{self.file} is not there: run tests/benchmarks/{who} in the environment of the frontends"
            )
        return nd.from_nir(self.file, **self.reading)


def _pair(folder: Path, name: str) -> Callable[[], tuple[nd.Data, nd.Data]]:
    def sets() -> tuple[nd.Data, nd.Data]:
        train, test = (nd.Data.load(folder / f"{name}_{part}.npz") for part in ("train", "test"))
        return train, test

    return sets


def _example(name: str, about: str, reading: dict[str, Any] | None = None) -> Task:
    given = reading if reading is not None else {"frontend": DENSE[name].frontend, **DENSE[name].reading}
    return Task(name, about, EXAMPLES / "networks" / f"{name}.nir", given, _pair(EXAMPLES / "data", name))


def _stored(name: str, about: str) -> Task:
    return Task(name, about, STORED / f"{name}.nir", STEPS, _pair(STORED, name))


def _made(name: str, about: str, reading: dict[str, Any]) -> Task:
    return Task(name, about, MADE / f"{name}.nir", reading, _pair(MADE, name))


def _sensor(name: str, about: str, more: int) -> Task:
    sensor, file = SENSORS[name], ROOT / "out" / "sensors" / f"{name}_0.nir"
    return Task(name, about, file, VALUE, lambda: sensor_data(sensor, sensor.recorded(), more))


NORSE = {"frontend": "norse"}
SEARCH = {
    task.name: task
    for task in (
        _example("yin_yang", "Norse, 5-60-3 CubaLIF", {}),
        _example("dense_vowels", "snnTorch, 60-128-9 LIF, recurrent"),
        _made("conv", "snnTorch, Conv2d 8x8 (216)-10 LIF", VALUE),
        _stored("waves", "snnTorch, 16-64 LIF, recurrent, read out by the host"),
        _example("dense_digits", "snnTorch, 64-256-10 LIF"),
        _made("noise", "Norse, 60-48-24-8 CubaLIF", NORSE),
        _example("digits_recurrent", "snnTorch, 16-46-10 CubaLIF, recurrent", {}),
    )
}
"""The networks of the search."""
OTHERS = {
    task.name: task
    for task in (
        _made("two_layers", "Norse, 64-96-48-10 CubaLIF", NORSE),
        _made("images", "snnTorch, Conv2d 14x14 (128)-10 CubaLIF", VALUE),
        _stored("rows", "snnTorch, 8-100-10 LIF, recurrent"),
        _stored("activity", "snnTorch, 12-128-5 LIF, recurrent"),
        _sensor("vowels", "snnTorch, 60-128-9 CubaLIF", 8),
        _sensor("watch", "snnTorch, 60-128-7 CubaLIF", 2),
    )
}
"""Networks that the search never saw."""


def divided(data: nd.Data) -> tuple[nd.Data, nd.Data]:
    """The training data as the part to train on and the part to judge by."""
    order = np.random.default_rng(5).permutation(len(data))
    count = round(PART * len(data))
    first, rest = (nd.Data(data.x[k], data.y[k], data.dt) for k in (order[:count], order[count:]))
    return first, rest
