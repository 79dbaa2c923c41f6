"""Where a training stands, and the file from which it goes on bit for bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.errors import ConfigurationError, DynapseError
from nir_dynapse.evaluation.checks import check_file
from nir_dynapse.evaluation.evaluate import digest
from nir_dynapse.files.bounds import read_arrays
from nir_dynapse.files.whole import write_arrays
from nir_dynapse.reporting.training_log import TrainingLog
from nir_dynapse.training.trainable import Latent
from nir_dynapse.training.trainer import is_first_process, leaves, unflattened

__all__ = ["Checkpoint", "State"]

FORMAT = "nir_dynapse.training 1"
NUMBERS = ("step", "score", "best_step", "waited", "seconds")


class State(NamedTuple):
    """A training after `step` steps: what is trained, the optimiser's state, the best so far with its `score`, the log.

    `recent` are (loss, share of right answers) of the steps since the last check; `seconds` of computing until then. `pre`
    (R,) are the sources that the rows hear where that is trained, `best_pre` those of the best.
    """

    latent: Latent
    opt: Any
    best: Latent
    step: int = 0
    score: float = -np.inf
    best_step: int = -1
    waited: int = 0
    seconds: float = 0.0
    since: float = 0.0
    log: TrainingLog = TrainingLog()  # immutable
    recent: tuple[Any, ...] = ()
    pre: np.ndarray | None = None
    best_pre: np.ndarray | None = None

    @classmethod
    def new(cls, latent: Latent, opt: Any, pre: np.ndarray | None = None) -> State:
        """The state before the first step."""
        return cls(latent, opt, latent, pre=pre, best_pre=pre)


class Checkpoint:
    """An .npz file with the state of one training, told from others by a digest of all that it depends on; `length` are
    its steps and those between two checks."""

    def __init__(self, path: str | os.PathLike[str], identity: Any, length: tuple[int, int]) -> None:
        self.path, self.identity, self._length = Path(path), digest(identity), np.array(length)
        check_file(self.path)

    @staticmethod
    def length(path: str | os.PathLike[str]) -> tuple[int, int] | None:
        """Steps of the training in the file, and those between two checks; None where no such file tells."""
        try:
            steps, every = read_arrays(Path(path))["length"].tolist()
            return (int(steps), int(every)) if min(steps, every) >= 1 else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, state: State) -> None:
        """Write the state, complete or not at all (by the first process)."""
        if not is_first_process():
            return
        arrays = {f"leaf{k}": leaf for k, leaf in enumerate(leaves((state.latent, state.opt, state.best)))}
        numbers = np.array([float(getattr(state, name)) for name in NUMBERS])
        text = {"format": np.array(FORMAT), "identity": np.array(self.identity)}
        if state.pre is not None:
            arrays |= {"pre": state.pre, "best_pre": np.asarray(state.best_pre)}
        write_arrays(self.path, **arrays, **text, numbers=numbers, log=state.log.table(), length=self._length)

    def load(self, state: State) -> State:
        """`state` where there is no file; ConfigurationError where it is not a checkpoint of this training."""
        if not self.path.exists():
            return state
        advice = "Give another file for the checkpoint, or delete this one to start anew."
        tree = (state.latent, state.opt, state.best)
        now = leaves(tree)
        try:
            arrays = read_arrays(self.path)
            made = (str(arrays.pop("format")), str(arrays.pop("identity")))
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{self.path}: not a checkpoint of fine_tune ({error}). {advice}") from error
        if made[0] != FORMAT:
            raise ConfigurationError(f"{self.path}: not a checkpoint of this version of fine_tune. {advice}")
        if made[1] != self.identity:
            raise ConfigurationError(
                f"{self.path}: the checkpoint of another training: network, data, options or key differ. {advice}"
            )
        known = [arrays.get(f"leaf{k}", np.zeros(0)) for k in range(len(now))]
        if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(known, now, strict=True)):
            raise ConfigurationError(f"{self.path}: a checkpoint whose arrays do not fit; it is damaged. {advice}")
        latent, opt, best = unflattened(tree, known)
        if not all(np.isfinite(leaf).all() for leaf in leaves((latent, best)) if leaf.dtype.kind == "f"):
            raise ConfigurationError(
                f"{self.path}: a checkpoint with numbers that are not finite; it is damaged. {advice}"
            )
        try:
            numbers = arrays["numbers"]
            if numbers.dtype != np.float64 or numbers.shape != (len(NUMBERS),):
                raise ValueError(f"numbers are {numbers.dtype} of shape {numbers.shape}")
            values: dict[str, Any] = dict(zip(NUMBERS, numbers.tolist(), strict=True))
            values |= {name: _count(name, values[name]) for name in ("step", "best_step", "waited")}
            log = TrainingLog.of(arrays["log"])
            if not -1 <= values["best_step"] <= values["step"] or min(values["step"], values["waited"]) < 0:
                raise ValueError(f"best step {values['best_step']} of {values['step']}, {values['waited']} waited")
            if np.isnan(values["score"]) or not 0 <= values["seconds"] < np.inf:
                raise ValueError(f"score {values['score']}, {values['seconds']} s")
            if log.step.max(initial=0) > values["step"]:
                raise ValueError(f"step {log.step.max()} in the log of {values['step']} steps")
            heard: dict[str, Any] = (
                {} if state.pre is None else {n: _sources(n, arrays[n], state.pre) for n in ("pre", "best_pre")}
            )
        except (KeyError, TypeError, ValueError, DynapseError) as error:
            raise ConfigurationError(f"{self.path}: a checkpoint that is damaged ({error}). {advice}") from error
        return State(
            latent,
            opt,
            best,
            **values,
            **heard,
            log=log,
        )


def _sources(name: str, found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Sources (R,) that rows of a checkpoint hear."""
    if found.shape != known.shape or found.dtype.kind not in "iu" or found.min(initial=0) < 0:
        raise ValueError(f"{name} is {found.dtype} of shape {found.shape}")
    return found.astype(known.dtype)


def _count(name: str, value: float) -> int:
    if not -1 <= value < 2**53 or value != int(value):
        raise ValueError(f"{name} is {value}")
    return int(value)
