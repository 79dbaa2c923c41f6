"""The stored dense networks: sizes, accuracy of the ideal run, data, and that they do not fit as they are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

import nir_dynapse as nd
from places import EXAMPLES

NAMES = ("dense_digits", "dense_images", "dense_vowels")
LEAST = {"dense_digits": 0.97, "dense_images": 0.965, "dense_vowels": 0.93}


@pytest.fixture(scope="module")
def dense() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("_dense")
    for name in ("_dense", "_tasks"):
        sys.modules.pop(name, None)


def test_all_of_them_are_in_the_index(dense: ModuleType) -> None:
    assert tuple(dense.DENSE) == NAMES
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name, task in dense.DENSE.items():
        (row,) = (line for line in index.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"| {100 * task.accuracy:.1f} % |" in row
        assert f"train_dense.py {name}" in index


@pytest.mark.parametrize("name", NAMES)
def test_the_ideal_run_is_as_accurate_as_they_say(dense: ModuleType, name: str) -> None:
    task = dense.DENSE[name]
    test = task.data("test")
    recording = nd.simulate(task.network(), test.x, ideal=True)
    assert round(recording.accuracy(test.y), 3) == task.accuracy >= LEAST[name]
    for spikes in recording.spikes.values():
        assert 15 < spikes.mean() / test.dt < 80  # Hz
        assert spikes.sum(1).max() < 0.3 / 1e-3 * test.x.shape[1] * test.dt + 5  # 300 Hz


@pytest.mark.parametrize("name", NAMES)
def test_neurons_have_more_inputs_than_the_chip_has_rows(dense: ModuleType, name: str) -> None:
    task = dense.DENSE[name]
    network = task.network()
    inputs = {p.name: np.zeros(p.size, int) for p in network.populations}
    for projection in network.projections:
        np.add.at(inputs[projection.target], projection.post, 1)
    for node, most in task.fan_in.items():
        assert inputs[node].max() == most
        assert (inputs[node] == most).mean() > 0.95  # dense
    with pytest.raises(nd.CapacityError, match=f"up to {max(task.fan_in.values())} incoming synapses") as refused:
        nd.compile(network)
    assert {finding.node for finding in refused.value.findings} >= {n for n, most in task.fan_in.items() if most > 64}


@pytest.mark.parametrize("name", NAMES)
def test_data_is_small_and_has_all_classes(dense: ModuleType, name: str) -> None:
    task = dense.DENSE[name]
    assert task.network_file.stat().st_size < 600e3
    for part in ("train", "test"):
        data = task.data(part)
        assert task.data_file(part).stat().st_size < 1e6
        assert 25 <= data.x.shape[1] <= 50
        assert data.dt == 1e-3
        assert data.x.max() == 1
        share = np.bincount(data.y) / len(data)
        assert share.min() > (
            0.06 if name == "dense_vowels" and part == "test" else 0.09
        )  # its official test part is not balanced


def test_digits_come_from_their_generators(dense: ModuleType) -> None:
    train_images, train_labels, test_images, test_labels = dense.digits_split()
    assert len(train_images) == 1437
    assert len(test_images) == 360
    rng = np.random.default_rng(28)
    for part, images, labels in (("train", train_images, train_labels), ("test", test_images, test_labels)):
        stored = dense.DENSE["dense_digits"].data(part)
        assert np.array_equal(stored.x[: len(images)], dense._tasks.encoded_digits(images))
        assert np.array_equal(stored.y[: len(images)], labels)
        assert len(stored) == len(images) * (4 if part == "train" else 1)  # three epochs of varied ones follow
        stored = dense.DENSE["dense_images"].data(part)
        made = dense.encoded_images(dense.enlarged(images.reshape(-1, 8, 8), rng))
        first = stored.x[: len(images)]
        assert (first != made).sum() < 1e-3 * first.sum()  # interpolation: another scipy may round otherwise
        assert np.array_equal(stored.y[: len(images)], labels)
        assert len(stored) == len(images) * (2 if part == "train" else 1)
        assert stored.x.sum(1).max() == 1


def test_vowels_have_a_gaussian_rate_for_each_value(dense: ModuleType) -> None:
    frames = [np.linspace(-1, 1, 20)[:, None] * np.ones(12), np.ones((7, 12))]
    x = dense.encoded_vowels(frames, -np.ones(12), np.ones(12))
    assert x.shape == (2, 50, 60)
    assert not x[0, 32:].any()
    assert not x[1, 11:].any()
    counts = x[1].reshape(50, 12, 5).sum((0, 1))
    assert counts[4] == pytest.approx(12 * 0.2 * 11, abs=6)  # 200 Hz for 11 ms
    assert counts[:2].sum() <= 24  # a phase may be just before its event
    ramp = x[0].reshape(50, 12, 5).sum(1)
    middle = (ramp * np.arange(50)[:, None]).sum(0) / ramp.sum(0)
    assert np.all(np.diff(middle) > 0)
