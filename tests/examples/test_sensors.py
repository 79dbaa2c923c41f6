"""The recorded sensors of the examples: reading, variations, encoding; the table in docs is of the kept results."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from places import EXAMPLES, ROOT


@pytest.fixture(scope="module")
def sensors() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("_sensors")
    sys.modules.pop("_sensors", None)


def waves(n: int, frames: int, channels: int) -> list[np.ndarray]:
    time = np.arange(frames)[:, None]
    return [np.sin(2 * np.pi * time / (10 + k + np.arange(channels))) for k in range(n)]


def test_a_line_is_a_sample(sensors: ModuleType) -> None:
    signals, labels = sensors.parsed("#a\n@dimensions 2\n@data\n1.5,2,3:4,5,6:2\n7,8:9,-1e-1:1\n")
    assert labels.tolist() == [1, 0]
    assert signals[0].tolist() == [[1.5, 4], [2, 5], [3, 6]]
    assert signals[1].tolist() == [[7, 9], [8, -0.1]]


def test_subjects_to_test_with_are_not_trained_on(
    sensors: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    subjects = [s for s in range(1, 11) for _ in range(2)]
    held = {
        "X": [np.full((230 + s, 6), float(s)) for s in subjects],
        "y": np.arange(20) % 7,
        "subject": np.array(subjects),
    }
    np.save(tmp_path / "watch.npy", np.array(held, dtype=object), allow_pickle=True)
    monkeypatch.setattr(sensors, "wheel_file", lambda package, file: tmp_path / "watch.npy")
    recorded = sensors.watch()
    assert {float(x[0, 0]) for x in recorded.train} == {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0}
    assert [float(x[0, 0]) for x in recorded.test] == recorded.test_of.tolist()
    assert set(recorded.test_of.tolist()) == {8, 9, 10}
    assert {x.shape for x in (*recorded.train, *recorded.test)} == {(50, 6)}
    assert len(recorded.train_y) == len(recorded.train) == 7 * 2 * 3  # 115 frames: windows from 0, 25 and 50
    fewer = sensors.watch((6, 7), (1, 6, 7))
    assert {float(x[0, 0]) for x in fewer.train} == {1.0}
    assert set(fewer.test_of.tolist()) == {6, 7}


@pytest.mark.parametrize(("name", "channels", "frames"), [("vowels", 12, 16), ("watch", 6, 50)])
def test_every_neuron_could_hear_all_channels(sensors: ModuleType, name: str, channels: int, frames: int) -> None:
    sensor, signals = sensors.SENSORS[name], waves(5, frames, channels)
    x = sensors.encoded(sensor, signals, *sensors.limits(signals))
    assert x.shape == (5, 100, 60)  # of 64 CAM rows
    assert x.max() <= sensors.MOST
    gaussian = x[..., : channels * sensor.places]
    assert gaussian.max() == 1  # 200 Hz
    per_sample = gaussian.sum(1).reshape(5, channels, sensor.places).sum(2)
    assert per_sample.min() > 20  # some centre is always near: 15 to 40 events in 100 ms
    assert x[..., channels * sensor.places :].any() == bool(sensor.threshold)


@pytest.mark.parametrize(("name", "channels", "frames"), [("vowels", 12, 16), ("watch", 6, 50)])
def test_varied_samples_are_like_theirs(sensors: ModuleType, name: str, channels: int, frames: int) -> None:
    sensor, signals = sensors.SENSORS[name], waves(4, frames, channels)
    varied = sensor.varied(signals, np.random.default_rng(1))
    again = sensor.varied(signals, np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(varied, again, strict=True))
    for before, after in zip(signals, varied, strict=True):
        assert after.shape[1] == channels
        assert not np.array_equal(before, after)
        assert np.abs(after).max() < 2 * np.abs(before).max()


def test_turning_keeps_lengths(sensors: ModuleType) -> None:
    turn = sensors._rotation(np.array([0.3, -0.2, 0.5]))
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert sensors._rotation(np.array([0, 0, np.pi / 2])) @ [1, 0, 0] == pytest.approx([0, 1, 0], abs=1e-6)


def test_the_table_is_of_the_kept_results() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
        benchmark = importlib.import_module("sensors")
    text = benchmark.PAGE.read_text(encoding="utf-8")
    assert benchmark.table(benchmark.load(benchmark.RESULTS)) in text
    sys.modules.pop("sensors", None)
    sys.modules.pop("_sensors", None)
