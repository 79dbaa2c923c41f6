"""Two recorded sensors as event counts for the chip: Japanese Vowels (speech) and the exercises of seglearn (a smartwatch).

The recordings lie in the wheels of aeon and seglearn, which `wheel_file` takes from PyPI once; nothing of them is stored
here. Nothing but numpy and `nir_dynapse` is needed.

Every sample is spread over 100 bins of 1 ms, so that a circuit's time constants see a good part of it: an utterance of 7 to
29 frames of 6.4 ms about as fast as it was spoken, 2 s of a watch twenty times as fast as they were recorded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nir_dynapse import Data
from nir_dynapse.data.encoders import delta, rate

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "out" / "sensors"
DT, STEPS = 1e-3, 100
GOLDEN = (5**0.5 - 1) / 2  # multiples modulo 1: phases that differ most between neighbouring channels
HIGHEST, WIDTH = 200.0, 0.6  # Hz at the centre of a channel, and the deviation of its Gaussian in distances of centres
MOST = 3  # events of a channel of changes in a bin
PERIOD, WINDOW, HOP = 0.04, 50, 25  # of the watch: s between frames (two of its samples), and frames
TEST_SUBJECTS = (8, 9, 10)

Signals = list[np.ndarray]
"""Samples (frame, channel) in the unit of the sensor."""


class Recorded(NamedTuple):
    """Samples and classes to train and to test with, and who each sample is of (vowels: its class)."""

    train: Signals
    train_y: np.ndarray
    test: Signals
    test_y: np.ndarray
    test_of: np.ndarray


class Sensor(NamedTuple):
    """A task: `places` Gaussian rates per channel, changes by `threshold` (of the range; 0: none), `epochs` of training."""

    name: str
    recorded: Callable[[], Recorded]
    varied: Callable[[Signals, np.random.Generator], Signals]
    places: int
    threshold: float
    epochs: int
    times: int  # varied samples of each one in an epoch


def wheel_file(package: str, file: str) -> Path:
    """A file that comes with a package (`name==version`), which pip or uv puts beside the results where it is not there."""
    folder = KEPT / package
    if not (folder / file).exists():
        what = ["--quiet", "--no-deps", "--target", str(folder), package]
        uv = os.environ.get("UV")  # set by `uv run`, whose environments have no pip
        here = [uv, "pip", "install", "--python"] if uv else []
        subprocess.run([*here, sys.executable, *([] if uv else ["-m", "pip", "install"]), *what], check=True)
    return folder / file


def parsed(text: str) -> tuple[Signals, np.ndarray]:
    """Samples (frame, channel) and classes from 0 of a .ts file: a line each, channels between ":", values between ","."""
    signals, labels = [], []
    for line in text.split("@data")[1].split():
        *columns, label = line.split(":")
        signals.append(np.array([[float(v) for v in column.split(",")] for column in columns]).T)
        labels.append(int(label) - 1)
    return signals, np.array(labels)


def vowels() -> Recorded:
    """Japanese Vowels: 12 cepstral coefficients, 9 speakers; the official parts of 270 and 370 utterances."""
    name = "aeon/datasets/data/JapaneseVowels/JapaneseVowels_{}.ts"
    train, test = (parsed(wheel_file("aeon==1.6.0", name.format(part)).read_text()) for part in ("TRAIN", "TEST"))
    return Recorded(*train, *test, test[1])


def watch(test_subjects: tuple[int, ...] = TEST_SUBJECTS, of: tuple[int, ...] = tuple(range(1, 11))) -> Recorded:
    """Seven shoulder exercises: acceleration and rotation (6 channels) of windows of 2 s, half of one within the next.

    `test_subjects`: those that training does not see; `of`: all that are looked at.
    """
    # An array of objects: nothing but pickle reads it, and the package itself reads it so.
    held = np.load(wheel_file("seglearn==1.2.5", "seglearn/data/watch_dataset.npy"), allow_pickle=True).item()
    parts: tuple[tuple[Signals, list[int], list[int]], ...] = ([], [], []), ([], [], [])
    for signal, label, subject in zip(held["X"], held["y"], held["subject"], strict=True):
        if subject not in of:
            continue
        samples, labels, subjects = parts[subject in test_subjects]
        frames = signal[: len(signal) // 2 * 2].reshape(-1, 2, 6).mean(1)
        for first in range(0, len(frames) - WINDOW + 1, HOP):
            samples.append(frames[first : first + WINDOW])
            labels.append(int(label))
            subjects.append(int(subject))
    (train, train_y, _), (test, test_y, test_of) = parts
    return Recorded(train, np.array(train_y), test, np.array(test_y), np.array(test_of))


def resampled(signal: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A signal (frame, channel) between its frames, at times in frames."""
    return np.stack([np.interp(at, np.arange(len(signal)), column) for column in signal.T], 1)


def varied_vowels(signals: Signals, rng: np.random.Generator) -> Signals:
    """Each utterance cut by up to a tenth at both ends, stretched by up to 20 %, with an offset and noise."""
    spread, made = 4 * np.concatenate(signals).std(0), []
    for signal in signals:
        n = len(signal)
        first, last = rng.uniform(0, 0.1) * n, n - 1 - rng.uniform(0, 0.1) * n
        x = resampled(signal, np.linspace(first, last, max(6, int(n * rng.uniform(0.8, 1.2)))))
        made.append(x + (rng.normal(0, 0.04, (1, x.shape[1])) + rng.normal(0, 0.02, x.shape)) * spread)
    return made


def varied_watch(signals: Signals, rng: np.random.Generator) -> Signals:
    """Each window turned (0.2 rad a component), stronger or weaker by 10 %, and slower: 75 to 100 % of it."""
    made = []
    for signal in signals:
        turn = _rotation(rng.normal(0, 0.2, 3))
        x = np.concatenate([signal[:, :3] @ turn.T, signal[:, 3:] @ turn.T], 1)
        x *= np.repeat(rng.normal(1, 0.1, 2), 3)
        n = len(x)
        length = int(n * rng.uniform(0.75, 1))
        first = rng.integers(0, n - length + 1)
        made.append(resampled(x, np.linspace(first, first + length - 1, n)))
    return made


def _rotation(v: np.ndarray) -> np.ndarray:
    """The matrix that turns by |v| rad around v (Rodrigues)."""
    angle = float(np.linalg.norm(v)) + 1e-9
    x, y, z = v / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def limits(signals: Signals) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles 2 % and 98 % of each channel."""
    low, high = np.quantile(np.concatenate(signals), (0.02, 0.98), axis=0)
    return low, high


def encoded(sensor: Sensor, signals: Signals, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Event counts (sample, 100, channel): Gaussian rates of each channel around `places` values from `low` to `high`, then
    (with a threshold) ON and OFF events of what it changes by."""
    at = np.stack([resampled(s, np.linspace(0, len(s) - 1, STEPS)) for s in signals])
    place = (at - low) / (high - low)
    nearest = np.clip(place, 0, 1)[..., None] * (sensor.places - 1) - np.arange(sensor.places)
    values = np.exp(-(nearest**2) / (2 * WIDTH**2)).reshape(len(at), STEPS, -1)
    rates = rate(values, STEPS, DT, HIGHEST, phase=GOLDEN * np.arange(values.shape[2]) % 1)
    if not sensor.threshold:
        return rates
    return np.concatenate([rates, np.minimum(delta(place, sensor.threshold), MOST)], 2)


def data(sensor: Sensor, recorded: Recorded, more: int, key: int = 0) -> tuple[Data, Data]:
    """Training data (as recorded, and `more` varied ones of each sample) and test data."""
    low, high = limits(recorded.train)
    rng = np.random.default_rng((key, 11))
    samples = [*recorded.train, *(x for _ in range(more) for x in sensor.varied(recorded.train, rng))]
    train = Data(encoded(sensor, samples, low, high), np.tile(recorded.train_y, 1 + more), DT)
    return train, Data(encoded(sensor, recorded.test, low, high), recorded.test_y, DT)


SENSORS = {
    sensor.name: sensor
    for sensor in (
        Sensor("vowels", vowels, varied_vowels, 5, 0.0, 20, 4),
        Sensor("watch", watch, varied_watch, 8, 0.15, 12, 1),
    )
}
"""The tasks by name."""
