"""Comparing a model that another framework runs with what `from_nir` reads from the file that the framework wrote."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.import_.frontends import PROFILES

SIZES = [(4, 6, 3), (12, 38, 7), (32, 64, 10)]
"""Inputs, hidden neurons and outputs of the small, the middle and the large stack."""
BATCH, STEPS = 4, 200
ROUNDING = 1e-5
"""How far from the threshold, relative to it, float32 arithmetic in another order may move a membrane."""


def framework(name: str) -> Any:
    """The module `name`, whatever it warns of when imported; where it is not installed, the test module is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def input_spikes(channels: int, seed: int = 0, rate: float = 0.2, steps: int = STEPS) -> np.ndarray:
    """Random spikes, float32 (batch, time, channel)."""
    return (np.random.default_rng(seed).random((BATCH, steps, channels)) < rate).astype(np.float32)


class Draw:
    """Random parameters as float32 arrays, one after the other from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def weight(self, n_out: int, n_in: int, drive: float) -> np.ndarray:
        """(out, in), of both signs and excitatory on average; `drive` sets the size of the summed input."""
        return (self.rng.normal(0.3, 1, (n_out, n_in)) * drive / np.sqrt(n_in)).astype(np.float32)

    def recurrent(self, n: int, drive: float) -> np.ndarray:
        return (self.rng.normal(0, 1, (n, n)) * drive / np.sqrt(n)).astype(np.float32)

    def between(self, low: float, high: float, *shape: int) -> np.ndarray:
        return self.rng.uniform(low, high, shape).astype(np.float32)


def read_back(graph: Any, path: Path, frontend: str, **options: Any) -> nd.Network:
    """What `from_nir` makes of the file that `nir.write` makes of `graph`, whose types are those of the profile."""
    types = {type(node).__name__ for node in graph.nodes.values()}
    assert types <= {"Input", "Output", *PROFILES[frontend].writes}
    nir.write(path, graph)
    return nd.from_nir(path, frontend=frontend, **options)


def assert_active(trains: Mapping[str, np.ndarray], least: float = 0.01) -> None:
    """Some bins of every layer have spikes, but by far not all: a comparison of them says something."""
    for name, train in trains.items():
        share = float((train > 0).mean())
        assert least < share < 0.9, f"{name}: spikes in {share:.1%} of the bins"


def assert_same(net: nd.Network, x: np.ndarray, trains: Mapping[str, np.ndarray]) -> nd.Recording:
    """The ideal run of `net` has the spikes `trains` (batch, time, n) in every bin of every layer."""
    assert set(trains) == {p.name for p in net.populations}
    assert_active(trains)
    result = nd.simulate(net, x.reshape(*x.shape[:2], -1), ideal=True)
    for name, train in trains.items():
        differing = int((result.spikes[name] != train.reshape(*train.shape[:2], -1)).sum())
        assert differing == 0, f"{name}: {differing} of {train.size} bins differ"
    return result


def assert_same_but_for_rounding(
    net: nd.Network, x: np.ndarray, trains: Mapping[str, np.ndarray], v: Mapping[str, np.ndarray]
) -> int:
    """Where a sample differs at all, the first bin that does is a membrane on the threshold; how many samples do.

    `v` are the framework's own membranes (batch, time, n) as it compares them with the threshold. `trains` is in order
    of signal flow, so that what comes first within a step is known too; what follows is a consequence.
    """
    assert_active(trains, least=0.001)
    ours = nd.simulate(net, x, ideal=True, backend="numpy").spikes
    flipped = 0
    for sample in range(len(x)):
        first = {name: np.flatnonzero((ours[name][sample] != train[sample]).any(1)) for name, train in trains.items()}
        steps = {name: int(found[0]) for name, found in first.items() if len(found)}
        if not steps:
            continue
        flipped += 1
        step = min(steps.values())
        name = next(name for name in trains if steps.get(name) == step)
        at = np.flatnonzero(ours[name][sample, step] != trains[name][sample, step])
        threshold = net[name].v_threshold[at]
        level = v[name][sample, step, at] / threshold
        off = np.abs(level - np.maximum(np.round(level), 1))  # several spikes per step: the nearest whole threshold
        assert np.all(off < ROUNDING), f"{name}, step {step}: {off.max():.2g} of the threshold away from it"
    return flipped
