"""The stored dense networks, run by the frameworks that trained them and here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

import nir_dynapse as nd
from frontend_models import framework
from places import EXAMPLES

NAMES = ("dense_digits", "dense_images", "dense_vowels")


@pytest.fixture(scope="module")
def training() -> Iterator[ModuleType]:
    for name in ("torch", "snntorch", "norse.torch", "sklearn"):
        framework(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("train_dense")
    for name in ("train_dense", "train_digits", "_dense", "_tasks", "_nir_euler", "_hardware_aware"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", NAMES)
def test_they_decide_as_in_their_framework(training: ModuleType, name: str) -> None:
    task = training.DENSE[name]
    test = task.data("test")
    net = training.stored(name)
    theirs = dict(zip(task.fan_in, training.spikes(net, training.RECIPES[name], test.x), strict=True))
    ours = nd.simulate(task.network(), test.x, ideal=True)
    output = [*theirs][-1]
    assert np.array_equal(ours.counts().argmax(1), theirs[output].sum(1).argmax(1))
    assert round(training.accuracy(theirs[output].sum(1), test.y), 3) == task.accuracy
    for node, spikes in theirs.items():  # a membrane within rounding of its threshold, and what follows from it
        assert (ours.spikes[node] != spikes).sum() <= 1e-5 * spikes.size
    if task.frontend == "snntorch":
        assert all(np.array_equal(ours.spikes[node], spikes) for node, spikes in theirs.items())


def test_an_export_of_the_stored_weights_is_the_stored_file(training: ModuleType) -> None:
    task = training.DENSE["dense_vowels"]
    again = training.RECIPES["dense_vowels"].export(training.stored("dense_vowels"))
    net, kept = nd.from_nir(again, frontend=task.frontend, **task.reading), task.network()
    for a, b in zip(net.projections, kept.projections, strict=True):
        assert (a.source, a.target) == (b.source, b.target)
        assert np.array_equal(a.weight, b.weight)
    for a, b in zip(net.populations, kept.populations, strict=True):
        assert (a.name, a.reset) == (b.name, b.reset)
        assert np.array_equal(a.tau_mem, b.tau_mem)
