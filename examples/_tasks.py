"""Benchmark tasks with fixed generators: frozen noise, Yin-Yang, temporal XOR and digits, as event counts for the chip.

Every generator gives the same arrays for the same arguments, on every machine and with every numpy (its legacy
RandomState never changes). Nothing but numpy and ``nir_dynapse`` is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import hypot
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nir_dynapse import Data
from nir_dynapse.data.encoders import latency, rate

DIGITS = Path(__file__).resolve().parent / "data" / "digits.npz"
GOLDEN = (5**0.5 - 1) / 2  # multiples modulo 1: phases that differ most between neighbouring channels


class Task(NamedTuple):
    """A task: three sets of labelled event counts."""

    name: str
    train: Data
    validation: Data
    test: Data


class Xor(NamedTuple):
    """Analog form of the temporal XOR."""

    signal: np.ndarray  # (sample, time)
    target: np.ndarray  # (sample, time)
    y: np.ndarray  # (sample,)
    decision_window: np.ndarray  # (sample, 2): first bin, and the bin after the last one


def frozen_noise(
    patterns: int = 2,
    *,
    channels: int = 60,
    steps: int = 500,
    rate: float = 50.0,
    dt: float = 1e-3,
    seed: int = 2022,
) -> Task:
    """Poisson patterns to be told apart (Cakal et al.): ``x[b, t, c] ~ Poisson(rate dt)``, class b; all sets are the same.

    rate in Hz, dt in s.
    """
    x = np.random.RandomState(seed).poisson(rate * dt, (patterns, steps, channels))
    data = Data(x.astype(np.uint8), np.arange(patterns), dt)
    return Task("frozen_noise", data, data, data)


def which_class(x: float, y: float) -> int:
    """Class of a point of the Yin-Yang sign: 2 in a dot, 1 in the upper half with the left head, else 0."""
    right, left = hypot(x - 0.75, y - 0.5), hypot(x - 0.25, y - 0.5)
    if right < 0.1 or left < 0.1:
        return 2
    return int(right <= 0.1 or 0.1 < left <= 0.25 or (y > 0.5 and right > 0.25))


def yin_yang_points(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The published set (Kriener et al., 2022): points (sample, 2) of the unit square and classes (sample,)."""
    rng = np.random.RandomState(seed)
    points, labels = np.zeros((n, 2)), np.zeros(n, int)
    for i in range(n):
        labels[i] = rng.randint(3)
        while True:
            x, y = rng.random_sample(2).tolist()
            if hypot(x - 0.5, y - 0.5) <= 0.5 and which_class(x, y) == labels[i]:
                break
        points[i] = x, y
    return points, labels


def yin_yang(
    *,
    seeds: Sequence[int] = (42, 41, 40),
    sizes: Sequence[int] = (5000, 1000, 1000),
    steps: int = 60,
    dt: float = 1e-3,
    earliest: float = 5e-3,
    latest: float = 45e-3,
    phase: float = 0.25,
) -> Task:
    """Yin-Yang: 5 channels carry (x, y, 1 - x, 1 - y, 0) by the time of one spike, the last one as a bias.

    seeds, sizes: of the training, validation and test set. earliest, latest: times of the values 0 and 1 in s, dt in s.
    phase: of the rounding to bins, see ``latency``.
    """
    sets = []
    for n, seed in zip(sizes, seeds, strict=True):
        points, y = yin_yang_points(n, seed)
        values = np.concatenate([points, 1 - points, np.zeros((n, 1))], 1)
        sets.append(Data(latency(values, steps, dt, earliest=earliest, latest=latest, phase=phase), y, dt))
    return Task("yin_yang", *sets)


def _smooth(x: np.ndarray, sigma: float) -> np.ndarray:
    """Every row convolved with a normalised Gaussian (``sigma`` in steps)."""
    reach = int(np.ceil(5 * sigma))
    kernel = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    kernel /= kernel.sum()
    return np.array([np.convolve(row, kernel)[reach:-reach] for row in x]).reshape(x.shape)


def temporal_xor_signals(n: int, seed: int | Sequence[int], *, steps: int = 1000) -> Xor:
    """Temporal XOR: two bumps of sign +-1, one after the other; the target after them is 1 if the signs differ, else -1.

    Within a sample of length T = ``steps`` bins (the published T is 1 s; all times scale with it) the bumps last
    ``d ~ U(T / 15, T / 6)``, the first ends at ``U(d1, 4 T / 9 - d2 - T / 10)`` and the second begins between T / 10
    after that and ``4 T / 9 - d2``; sigma of the smoothing is 0.01 T. The target is +-1 from 0.05 T to 0.3 T after the
    second bump (the decision window), smoothed with 0.02 T, its peak 1.

    Returns signal and target (sample, time), class y (sample,) and decision_window (sample, 2) in bins.
    """
    rng = np.random.RandomState(seed)
    first_length, second_length = rng.uniform(1 / 15, 1 / 6, (2, n))
    # The published draw of the end runs 0.1 T further, where no place is left for the second bump: redrawing those
    # samples and not drawing them is the same.
    first_end = rng.uniform(first_length, 4 / 9 - second_length - 0.1)
    second_start = rng.uniform(first_end + 0.1, 4 / 9 - second_length)
    second_end = second_start + second_length
    signs = rng.choice([-1, 1], (2, n))
    y = (signs[0] != signs[1]).astype(int)

    time = (np.arange(steps) + 0.5) / steps

    def between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return ((start[:, None] <= time) & (time < end[:, None])).astype(float)

    bumps = signs[0][:, None] * between(first_end - first_length, first_end)
    bumps += signs[1][:, None] * between(second_start, second_end)
    window = np.rint(np.stack([second_end + 0.05, second_end + 0.3], 1) * steps).astype(int)
    target = _smooth(between(*(window.T / steps)), 0.02 * steps)
    target *= (2 * y - 1)[:, None] / target.max(1, keepdims=True)
    return Xor(_smooth(bumps, 0.01 * steps), target, y, window)


def temporal_xor(
    n_train: int = 2000,
    n_validation: int = 500,
    n_test: int = 500,
    *,
    seed: int = 0,
    dt: float = 1e-3,
    steps: int = 1000,
    channels: int = 4,
    highest: float = 200.0,
    key: int | None = None,
) -> Task:
    """Temporal XOR in spikes: ``channels`` ON channels fire at ``highest max(s, 0)``, as many OFF ones at -s; y = 1: XOR.

    The analog signals are those of ``temporal_xor_signals(n, (seed, k))``, k = 0, 1, 2 for training, validation, test.
    dt in s, highest in Hz; spikes are regular, shifted from channel to channel by 1 / channels of their distance, or
    Poisson if there is a ``key``.
    """
    sets = []
    for k, n in enumerate((n_train, n_validation, n_test)):
        signal, _, y, _ = temporal_xor_signals(n, (seed, k), steps=steps)
        values = np.clip(np.stack([signal, -signal], 2), 0, 1)
        x = np.zeros((n, steps, 2, channels), np.uint8)
        for c in range(channels):  # one at a time: all the values of all channels would be some 100 MB
            own = None if key is None else (3 * key + k) * channels + c
            x[..., c] = rate(values, steps, dt, highest, key=own, phase=(c + 0.5) / channels)
        sets.append(Data(x.reshape(n, steps, 2 * channels), y, dt))
    return Task("temporal_xor", *sets)


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: pixels 0..16 (1797, 64) and labels (1797,).

    They are the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, CC BY 4.0).
    """
    with np.load(DIGITS, allow_pickle=False) as file:
        return file["images"].reshape(-1, 64), file["labels"].astype(int)


def digits(
    *,
    seed: int = 0,
    sizes: Sequence[int] = (1078, 119, 600),
    coding: str = "rate",
    steps: int = 40,
    tail: int = 10,
    dt: float = 1e-3,
    spikes: int = 4,
) -> Task:
    """8 x 8 digits on 64 channels, one for each pixel, in a stratified split (sizes: training, validation, test).

    coding "rate": 0..``spikes`` evenly spaced spikes in proportion to the pixel within the first steps - tail bins,
    shifted from channel to channel; "latency": one spike, the brighter the earlier, none where the pixel is 0.
    dt: width of a bin in s. seed: of the split.
    """
    images, y = digit_images()
    if sum(sizes) > len(y):
        raise ValueError(f"sizes are {tuple(sizes)}, {sum(sizes)} together; there are {len(y)} images. Take fewer.")
    order = stratified(y, seed)
    x = encoded_digits(images, coding=coding, steps=steps, tail=tail, dt=dt, spikes=spikes)
    parts = [order[a:b] for a, b in pairwise(np.cumsum([0, *sizes]))]
    return Task("digits", *(Data(x[part], y[part], dt) for part in parts))


def encoded_digits(
    images: np.ndarray, *, coding: str = "rate", steps: int = 40, tail: int = 10, dt: float = 1e-3, spikes: int = 4
) -> np.ndarray:
    """Event counts (sample, time, 64) of images (sample, 64) with pixels 0..16, coded as `digits` says."""
    active = steps - tail
    x = np.zeros((len(images), steps, 64), np.uint8)
    if coding == "rate":
        values = np.rint(images / 16 * spikes) / max(spikes, 1)  # whole numbers of spikes, whatever the phase
        phases = GOLDEN * np.arange(64) % 1
        x[:, :active] = rate(values, active, dt, spikes / (active * dt), phase=phases)
    elif coding == "latency":
        x[:, :active] = latency(1 - images / 16, active, dt, earliest=0.0, latest=(active - 1) * dt)
        x *= (images > 0)[:, None]
    else:
        raise ValueError(f"coding is {coding!r}; it must be 'rate' or 'latency'.")
    return x


def stratified(y: np.ndarray, seed: int) -> np.ndarray:
    """An order of the samples in which every stretch has about the same share of every class."""
    rng = np.random.RandomState(seed)
    place = np.zeros(len(y))
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        place[members] = (np.arange(len(members)) + rng.random_sample()) / len(members)
    return np.argsort(place, kind="stable")
