"""`fine_tune(minutes=…)`: as many steps as fit, and the same result again with their number."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.training.run import Run
from nir_dynapse.training.trainable import Latent
from tuning_cases import SPREAD, data, network, same, shared_compilation, short

SMALL: dict[str, Any] = {"batch": 8, "held_out": 2, "validation_size": 16, "check_every": None}


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


def trained(told: list[str] | None = None, options: Any = None, **length: Any) -> nd.Params:
    options = short(**SMALL) if options is None else options
    tell = None if told is None else lambda what, fraction: told.append(what)
    return nd.fine_tune(network(2), data(), mismatch=SPREAD, devices=2, options=options, progress=tell, **length)


def chosen(told: list[str]) -> tuple[int, int]:
    """Steps and steps between checks that were told."""
    (found,) = [m for what in told if (m := re.search(r"the same again with steps=(\d+), check_every=(\d+)", what))]
    return int(found[1]), int(found[2])


def test_the_same_again_with_the_number_of_steps(tmp_path: Path) -> None:
    told: list[str] = []
    first = trained(told, minutes=0.1, checkpoint=tmp_path / "so_far.npz")
    steps, every = chosen(told)
    assert every == -(-steps // 20)
    options = short(**{**SMALL, "check_every": every})
    assert same(first, trained(options=options, steps=steps))
    again: list[str] = []  # from the checkpoint: its steps are the ones, whatever fits now
    assert same(first, trained(again, minutes=5.0, checkpoint=tmp_path / "so_far.npz"))
    assert not any("the same again" in what for what in again)


class Paced(Run):
    """A training on a clock of its own: a step takes 2 s, a check 3 s, the first of each 10 s more."""

    def __init__(self) -> None:
        self.now, self.seen = 0.0, set()
        self.rewires, self.loop = False, None
        rows = SimpleNamespace(pre=None)
        self.trainer: Any = SimpleNamespace(
            recipe=SimpleNamespace(chart=SimpleNamespace(rows=rows)), start=lambda _: None
        )

    def _pass(self, what: str, seconds: float) -> None:
        self.now += seconds if what in self.seen else seconds + 10
        self.seen.add(what)

    def _step(self, state: Any) -> Any:
        self._pass("step", 2.0)
        return state

    def _found(self, latent: Any) -> np.ndarray:
        self._pass("check", 3.0)
        return np.zeros(1)


@pytest.mark.parametrize(("until", "steps"), [(20.0, 1), (36.0 + 60.0, 1), (36.0 + 1000.0, (950 - 63) // 2)])
def test_steps_are_what_fits_beside_the_checks(until: float, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run, latent = Paced(), Latent({}, np.zeros(1), np.zeros(1))
    monkeypatch.setattr(time, "monotonic", lambda: run.now)
    assert run.choose_steps(latent, until) == steps
    assert run.now == 36.0  # five steps, two checks


def test_one_of_both() -> None:
    with pytest.raises(nd.ConfigurationError, match=r"steps is 3 and minutes is 2\. Give one of them"):
        trained(steps=3, minutes=2)
    with pytest.raises(nd.ParameterRangeError, match=r"minutes is 0, allowed are numbers above 0 up to 10000 min"):
        trained(minutes=0)
