"""`fine_tune` on any number of JAX devices and processes, and after a kill; this file is also what those run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import nir_dynapse as nd
from jax_processes import finish, free_port, joined, several, start
from nir_dynapse.reporting.training_log import TrainingLog
from tuning_cases import SPREAD, data, network, same, shared_compilation, short

pytestmark = pytest.mark.long

TIMEOUT = 150
"""Seconds after which a process is killed."""


def tuned(folder: Path, checkpoint: bool = True, progress: Callable[[str, float], None] | None = None) -> nd.Params:
    """A training of 8 steps on 4 chips with 2 checks; its log is log.csv."""
    return nd.fine_tune(
        network(recurrent=True),
        data(),
        mismatch=SPREAD,
        devices=4,
        steps=8,
        key=3,
        checkpoint=folder / "so_far.npz" if checkpoint else None,
        log=folder / "log.csv",
        progress=progress,
        options=short(check_every=4, held_out=4, worst=0.5),
    )


def die(what: str, fraction: float) -> None:
    """At the first check: what is told before is the time that is left."""
    if "held out" in what:
        os.kill(os.getpid(), signal.SIGKILL)


def program(command: str, folder: str) -> None:
    """What each process does: `killed`, `devices`, or `process:N:PORT` as number N of two."""
    kind, number = joined(command)
    if kind == "killed":
        tuned(Path(folder), progress=die)
    result: dict[str, Any] = {"jax_devices": jax.device_count(), "refused": ""}
    here = Path(folder) / (kind + number)
    here.mkdir()
    params = tuned(here)
    result["written"] = sorted(path.name for path in here.iterdir())
    result["params"] = hashlib.sha256(b"".join(np.asarray(v).tobytes() for v in jax.tree.leaves(params))).hexdigest()
    if kind == "process":
        try:
            nd.fine_tune(network(), data(), devices=3, steps=1)
        except nd.ParameterRangeError as error:
            result["refused"] = str(error)
    sys.stdout.write(json.dumps(result) + "\n")


def environment(command: str, cache: Path, devices: int = 1) -> dict[str, str]:
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    if command == "killed":  # the very program that goes on
        return quick | {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return quick | several(devices)


class Known:
    """What one process on one JAX device makes without a stop."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "compiled"
        with shared_compilation(self.cache):
            self.params = tuned(folder, checkpoint=False)
        self.log = TrainingLog.load(folder / "log.csv")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    return Known(tmp_path_factory.mktemp("known"))


def untimed(log: TrainingLog) -> TrainingLog:
    return replace(log, seconds=np.zeros(len(log)))


def close(log: TrainingLog, known: TrainingLog) -> None:
    """Sums of floats in another order, and what follows from them."""
    np.testing.assert_allclose(log.loss, known.loss, rtol=2e-3)
    np.testing.assert_allclose(log.held_out, known.held_out, atol=0.05)


def test_goes_on_bit_for_bit_after_a_kill(known: Known, tmp_path: Path) -> None:
    finish([start(__file__, "killed", tmp_path, environment("killed", known.cache))], TIMEOUT, -signal.SIGKILL)
    # The lock ended with its process, what is left of it goes with the next run.
    assert sorted(path.name for path in tmp_path.iterdir()) == [".so_far.npz.lock", "log.csv", "so_far.npz"]
    first = TrainingLog.load(tmp_path / "log.csv")
    assert first.step.tolist() == [4]
    told: list[str] = []
    with shared_compilation(known.cache):
        params = tuned(tmp_path, progress=lambda what, fraction: told.append(what))
    checks = [what for what in told if "held out" in what]
    assert len(checks) == 1
    assert checks[0].startswith("step 8, ")
    assert same(params, known.params)
    log = TrainingLog.load(tmp_path / "log.csv")
    assert untimed(log) == untimed(known.log)
    assert log.seconds[0] == first.seconds[0]
    assert log.seconds[1] > log.seconds[0]


def test_chips_on_four_devices(known: Known, tmp_path: Path) -> None:
    (line,) = finish([start(__file__, "devices", tmp_path, environment("devices", known.cache, 4))], TIMEOUT)
    assert json.loads(line)["jax_devices"] == 4
    close(TrainingLog.load(tmp_path / "devices" / "log.csv"), known.log)


def test_chips_in_two_processes(known: Known, tmp_path: Path) -> None:
    port, place = free_port(), environment("process", known.cache)
    lines = finish([start(__file__, f"process:{k}:{port}", tmp_path, place) for k in range(2)], TIMEOUT)
    results = [json.loads(line) for line in lines]
    assert [result["jax_devices"] for result in results] == [2, 2]
    assert [result["written"] for result in results] == [["log.csv", "so_far.npz"], []], "only the first process writes"
    assert results[0]["params"] == results[1]["params"]
    close(TrainingLog.load(tmp_path / "process0" / "log.csv"), known.log)
    for result in results:
        assert "3 virtual chips cannot be shared among the 2 JAX devices" in result["refused"]
        assert "multiples of 2" in result["refused"]


if __name__ == "__main__":
    program(*sys.argv[1:])
