"""Small sound things whose files are damaged."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import nir_dynapse as nd
import small_networks
from nir_dynapse.reporting.training_log import TrainingLog
from random_layouts import random_layout

__all__ = ["DIGESTS", "chips_table", "params", "random_layout", "training", "training_log"]

DIGESTS = {name: f"{k:064x}" for k, name in enumerate(("thing", "data", "mismatch", "key", "device", "version"))}
"""Of `evaluation.PARTS`, which are not imported here: that takes a second."""


def params() -> dict[str, nd.Params]:
    """As computed from a network, with a readout, with delays, with masks."""
    from circuits import circuits

    plain = nd.to_params(small_networks.recurrent(0, 4, 6, 3, fan_in=3))
    finding = nd.Finding("warning", "a", "\u03c4 is long.", "node", 3, 0.5, 2, "s", "x")
    return {
        "plain": replace(plain, findings=(finding,)),
        "readout": nd.to_params(small_networks.with_readout()),
        "delays": circuits("dc", delays=True),
        "masks": nd.to_params(nd.compile(small_networks.recurrent(1, 4, 8, 3, fan_in=3), budget=0.1)),
    }


def training_log() -> TrainingLog:
    log = TrainingLog()
    for step in range(4):
        log = log.append({"step": step * 10, "loss": 1.0 / (step + 1), "accuracy": 0.5, "seconds": 0.1 * step})
    return log


@cache
def _state() -> Any:
    import optax

    from nir_dynapse.training.state import State
    from nir_dynapse.training.trainable import Latent

    rng = np.random.default_rng(0)
    bias: dict[str, Any] = {name: rng.normal(size=2).astype(np.float32) for name in ("i_tau_mem", "i_gain_ampa")}
    made: Any = Latent(bias, rng.normal(size=(2, 4)).astype(np.float32), rng.normal(size=5).astype(np.float32))  # pyright: ignore
    state = State.new(made, optax.adam(0.01).init(made))
    return state._replace(step=40, score=0.75, best_step=30, waited=1, seconds=1.5, log=training_log())


def training(path: Path) -> tuple[Any, Any]:
    """A checkpoint of `fine_tune` at `path`, and the state that it holds."""
    from nir_dynapse.training.state import Checkpoint

    return Checkpoint(path, "identity", (1, 1)), _state()


def chips_table(rows: int) -> np.ndarray:
    table = np.random.default_rng(rows).integers(0, 40, (rows, 3)).astype(np.int32)
    table[4:5] = -1
    return table
