"""The benchmark tasks of the examples: known facts about their generators, and that nothing in them can drift."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from nir_dynapse import Data
from places import EXAMPLES


@pytest.fixture(scope="module")
def tasks() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("_tasks", EXAMPLES / "_tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_tasks"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["_tasks"]


@pytest.fixture(scope="module")
def published() -> Callable[[float, float], int]:
    """`which_class` of the training script, which itself needs Norse to be imported."""
    tree = ast.parse((EXAMPLES / "train_yin_yang.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "which_class"]
    names: dict[str, Any] = {"np": np}
    exec(compile(tree, "train_yin_yang.py", "exec"), names)
    return names["which_class"]


def digest(data: Data) -> str:
    return hashlib.sha256(np.ascontiguousarray(data.x).tobytes() + data.y.astype("<i8").tobytes()).hexdigest()[:12]


def test_frozen_noise(tasks: ModuleType) -> None:
    task = tasks.frozen_noise()
    expected = np.random.RandomState(2022).poisson(0.05, (2, 500, 60))
    assert np.array_equal(task.train.x, expected)
    assert task.train.x.dtype == np.uint8
    assert task.train.y.tolist() == [0, 1]
    assert task.train.dt == 1e-3
    assert task.validation is task.train
    assert task.test is task.train
    many = tasks.frozen_noise(16, channels=10, steps=200, rate=100.0, seed=1).test
    assert many.x.shape == (16, 200, 10)
    assert many.x.mean() == pytest.approx(0.1, abs=0.01)


def test_yin_yang_is_the_set_of_the_training_script(tasks: ModuleType) -> None:
    task = tasks.yin_yang()
    for name, data in (("train", task.train), ("test", task.test)):
        stored = Data.load(EXAMPLES / "data" / f"yin_yang_{name}.npz")
        assert np.array_equal(data.x, stored.x)
        assert np.array_equal(data.y, stored.y)
        assert data.dt == stored.dt
    assert [data.x.shape for data in task[1:]] == [(5000, 60, 5), (1000, 60, 5), (1000, 60, 5)]


def test_yin_yang_points(tasks: ModuleType, published: Callable[[float, float], int]) -> None:
    points, y = tasks.yin_yang_points(2000, 42)
    assert np.array_equal(y, [published(*point) for point in points])
    assert np.all(np.hypot(*(points - 0.5).T) <= 0.5)
    assert np.bincount(y) / 2000 == pytest.approx([1 / 3] * 3, abs=0.03)
    again, _ = tasks.yin_yang_points(100, 42)
    assert np.array_equal(again, points[:100])


def test_yin_yang_class_rule(tasks: ModuleType, published: Callable[[float, float], int]) -> None:
    grid = np.linspace(0, 1, 81)
    assert all(tasks.which_class(x, y) == published(x, y) for x in grid for y in grid)


def test_yin_yang_spikes(tasks: ModuleType) -> None:
    data = tasks.yin_yang(sizes=(50, 1, 1)).train
    assert np.all(data.x.sum(1) == 1)
    times = data.x.argmax(1)
    assert times.min() >= 5
    assert times.max() <= 45
    assert np.all(times[:, 4] == 5)
    points, _ = tasks.yin_yang_points(50, 42)
    assert np.array_equal(times[:, :2], np.floor(5 + 40 * points + 0.25))


def lobes(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last bins of the stretches in which |s| > 1/2."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.abs(row) > 0.5, [False]]).astype(int)))
    return edges[::2], edges[1::2] - 1


def test_temporal_xor_signals(tasks: ModuleType) -> None:
    signal, target, y, window = tasks.temporal_xor_signals(300, 5)
    assert signal.shape == target.shape == (300, 1000)
    assert window.shape == (300, 2)
    assert np.abs(signal).max() <= 1 + 1e-9
    for s, goal, label, (start, end) in zip(signal, target, y, window, strict=True):
        first, last = lobes(s)
        assert len(first) == 2
        assert first[1] - last[0] >= 99
        lengths = last - first + 1
        assert lengths.min() >= 65
        assert lengths.max() <= 169
        assert last[1] <= 446
        assert label == (np.sign(s[first[0]]) != np.sign(s[first[1]]))
        assert np.sign(goal.sum()) == 2 * label - 1
        assert np.abs(goal).max() == pytest.approx(1)
        assert abs(start - last[1] - 50) <= 3
        assert abs(end - start - 250) <= 1
        assert abs(goal[start]) == pytest.approx(0.5, abs=0.03)
        assert abs(goal[start:end].mean()) > 0.9
    assert y.mean() == pytest.approx(0.5, abs=0.1)


def test_temporal_xor_scales_with_its_steps(tasks: ModuleType) -> None:
    signal, _, y, window = tasks.temporal_xor_signals(20, (1, 2), steps=200)
    longer, _, same, _ = tasks.temporal_xor_signals(20, (1, 2), steps=1000)
    assert signal.shape == (20, 200)
    assert np.array_equal(y, same)
    assert np.abs(signal - longer[:, 2::5]).mean() < 0.01
    assert window.max() < 200


def test_temporal_xor_spikes(tasks: ModuleType) -> None:
    task = tasks.temporal_xor(12, 6, 4, seed=3, channels=3)
    for k, (data, n) in enumerate(zip(task[1:], (12, 6, 4), strict=True)):
        signal, _, y, _ = tasks.temporal_xor_signals(n, (3, k))
        assert data.x.shape == (n, 1000, 6)
        assert np.array_equal(data.y, y)
        expected = 0.2 * np.stack([np.maximum(signal, 0), np.maximum(-signal, 0)], 1).sum(2)
        assert np.all(np.abs(data.x.sum(1).reshape(n, 2, 3) - expected[..., None]) <= 1)
        assert not np.any(data.x[..., :3][signal < -1e-6])
        assert not np.any(data.x[..., 3:][signal > 1e-6])
    assert not np.array_equal(task.train.x[..., 0], task.train.x[..., 1])
    again = tasks.temporal_xor(12, 6, 4, seed=3, channels=3)
    assert [digest(a) for a in again[1:]] == [digest(a) for a in task[1:]]
    noisy = tasks.temporal_xor(12, 6, 4, seed=3, channels=3, key=0)
    assert np.array_equal(noisy.test.y, task.test.y)
    assert not np.array_equal(noisy.test.x, task.test.x)


def test_digits(tasks: ModuleType) -> None:
    images, labels = tasks.digit_images()
    assert images.shape == (1797, 64)
    assert images.max() == 16
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    task = tasks.digits()
    assert [data.x.shape for data in task[1:]] == [(1078, 40, 64), (119, 40, 64), (600, 40, 64)]
    for data in task[1:]:
        share = np.bincount(data.y) / len(data)
        assert np.abs(share - np.bincount(labels) / 1797).max() * len(data) <= 2
    counts = np.concatenate([data.x.sum(1) for data in task[1:]])
    key = {tuple(row) for row in np.rint(images / 4).astype(int)}
    assert {tuple(row) for row in counts} == key
    assert not np.any(np.concatenate([data.x[:, 30:] for data in task[1:]]))


def test_digits_by_latency(tasks: ModuleType) -> None:
    task = tasks.digits(coding="latency", seed=1, sizes=(100, 50, 40))
    assert [len(data) for data in task[1:]] == [100, 50, 40]
    counts = task.train.x.sum(1)
    assert set(np.unique(counts)) == {0, 1}
    assert task.train.x[:, 0].any()
    assert not task.train.x[:, 30:].any()
    with pytest.raises(ValueError, match="coding is 'other'"):
        tasks.digits(coding="other")
    with pytest.raises(ValueError, match="1798 together; there are 1797"):
        tasks.digits(sizes=(1000, 700, 98))


def test_digits_are_those_of_scikit_learn(tasks: ModuleType) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    stored, names = tasks.digit_images()
    assert np.array_equal(stored, images)
    assert np.array_equal(names, labels)


DIGESTS = {
    "train": {
        "frozen_noise": "1cd55191fb2f",
        "temporal_xor": "5d2827255ab2",
        "digits": "82d8253139ce",
    },
    "validation": {
        "frozen_noise": "1cd55191fb2f",
        "temporal_xor": "daace5253e35",
        "digits": "944d74a7c236",
    },
    "test": {
        "frozen_noise": "1cd55191fb2f",
        "temporal_xor": "aba34f711133",
        "digits": "25274072a16f",
    },
}


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_generators_do_not_drift(tasks: ModuleType, part: str) -> None:
    found = {
        "frozen_noise": digest(getattr(tasks.frozen_noise(), part)),
        "temporal_xor": digest(getattr(tasks.temporal_xor(20, 10, 10), part)),
        "digits": digest(getattr(tasks.digits(), part)),
    }
    assert found == DIGESTS[part]
