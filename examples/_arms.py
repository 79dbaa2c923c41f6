"""The experiments behind the README's results: tasks, arms and what one run of each measures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import _networks
import _tasks
import nir
import numpy as np

import nir_dynapse as nd
from nir_dynapse.sim.surrogate import FAST_SIGMOID
from nir_dynapse.training.losses import Counts
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.steps import Attack

LEVELS = (0.1, 0.2, 0.3)
CHIPS, FIRST_CHIP = 100, 1
"""Test chips per level, the same for all arms and tasks; training never sees them (its factors come from another
generator)."""
ARMS = ("none", "noise 10 %", "matched", "ensemble", "adversarial", "adversarial + ensemble")


@dataclass(frozen=True)
class Setting:
    """A task, its untrained network, and how it is trained: `chips` per step with `batch` samples each, mismatch `cv`."""

    task: Callable[[], _tasks.Task]
    network: Callable[[int], nir.NIRGraph]
    steps: int
    chips: int
    batch: int
    cv: float
    whole: bool = False  # counts a chip as right where all samples are
    check: int = 500


SETTINGS = {
    "frozen noise, 2 patterns": Setting(
        lambda: _tasks.frozen_noise(2), _networks.frozen_noise_pair, 4000, 32, 2, 0.3, whole=True
    ),
    "frozen noise, 4 patterns": Setting(
        lambda: _tasks.frozen_noise(4), lambda key: _networks.frozen_noise(4, key), 400, 16, 4, 0.25
    ),
    "frozen noise, 8 patterns": Setting(
        lambda: _tasks.frozen_noise(8), lambda key: _networks.frozen_noise(8, key), 400, 8, 8, 0.25
    ),
    "frozen noise, 16 patterns": Setting(
        lambda: _tasks.frozen_noise(16), lambda key: _networks.frozen_noise(16, key), 400, 4, 16, 0.25
    ),
    "Yin-Yang": Setting(_tasks.yin_yang, _networks.yin_yang, 2000, 16, 16, 0.2),
    "temporal XOR": Setting(
        lambda: _tasks.temporal_xor(2000, 200, 150), _networks.temporal_xor, 400, 8, 8, 0.25, check=100
    ),
    "digits": Setting(_tasks.digits, _networks.digits, 600, 16, 16, 0.2),
}


def trained(
    name: str,
    arm: str,
    key: int,
    say: Callable[[str], None] = lambda line: None,
    bits: int | None = 4,
    steps: int | None = None,
    **changes: Any,
) -> tuple[nd.Network, nd.Params, float]:
    """The untrained network of a task, what an arm makes of it, and the seconds that took.

    All arms see as many samples per step, with the same optimiser, loss, rows and rounding.
    """
    setting = SETTINGS[name]
    task, network = setting.task(), nd.from_nir(setting.network(key), dt=_networks.DT)
    chips, batch, cv, attack = setting.chips, setting.batch, setting.cv, None
    if arm in ("none", "noise 10 %", "matched", "adversarial"):
        chips, batch = 1, setting.chips * setting.batch
    if arm in ("none", "adversarial"):
        cv = 0.0
    if arm == "noise 10 %":
        cv = 0.1
    if arm.startswith("adversarial"):
        attack = Attack()
    steps = setting.steps if steps is None else steps
    options = TrainingOptions(
        batch=batch,
        attack=attack,
        check_every=max(1, steps // 10),
        validation_size=setting.check,
        held_out=16 if cv else 1,
        rate=0.02,  # this and the surrogate: the defaults when most of the table was measured
        surrogate=FAST_SIGMOID,
    )
    options = replace(options, **changes)
    began = time.monotonic()
    params = nd.fine_tune(
        network,
        task.train,
        validation=task.validation,
        mismatch=nd.Mismatch.uniform(cv),
        devices=chips,
        steps=steps,
        loss=Counts(_networks.DT, ratio=4.0),
        bits=bits,
        key=key,
        progress=lambda what, fraction: say(f"{name}, {arm}, key {key}: {what}"),
        options=options,
    )
    return network, params, time.monotonic() - began


def measured(name: str, thing: Any, chips: int = CHIPS) -> dict[str, Any]:
    """Accuracy on the test set: nominal, and on `chips` unseen virtual chips per level (everything perturbed)."""
    setting = SETTINGS[name]
    test = setting.task().test
    result: dict[str, Any] = {}
    for level in LEVELS:
        found = nd.evaluate(thing, test, devices=chips, mismatch=nd.Mismatch.uniform(level), key=FIRST_CHIP)
        result["nominal"] = found.nominal
        result[f"{level:g}"] = {
            "median": found.median,
            "low": found.quantile(0.25),
            "high": found.quantile(0.75),
            "q5": found.quantile(0.05),
            "minimum": found.minimum,
            "all right": float((found.accuracy == 1).mean()),
        }
    return result


def run(name: str, arm: str, key: int, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Train, compile and measure the Layout: what the chip would hold."""
    network, params, seconds = trained(name, arm, key, say)
    layout = nd.compile(network, params=params)
    began = time.monotonic()
    result = {"task": name, "arm": arm, "key": key, "seconds": round(seconds, 1), **measured(name, layout)}
    test = SETTINGS[name].task().test
    same = nd.simulate(params, test.x[:64]).counts()
    result["same as Layout"] = bool(np.array_equal(same, nd.simulate(layout, test.x[:64]).counts()))
    return {**result, "seconds of test": round(time.monotonic() - began, 1)}


def float_nominal(name: str, key: int, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """The ideal: trained without mismatch and without rounding, measured so."""
    _, params, seconds = trained(name, "none", key, say, bits=None)
    test = SETTINGS[name].task().test
    right = (nd.simulate(params, test.x).counts().argmax(1) == test.y).mean()
    return {
        "task": name,
        "arm": "float, no mismatch",
        "key": key,
        "seconds": round(seconds, 1),
        "nominal": float(right),
    }
