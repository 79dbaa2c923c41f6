"""One training: its steps, checks, checkpoint and log, and what the rows hear on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from nir_dynapse.errors import Finding
from nir_dynapse.training.clock import Clock, left_text
from nir_dynapse.training.in_the_loop import InTheLoop
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.state import Checkpoint, State
from nir_dynapse.training.task import Task
from nir_dynapse.training.trainable import Latent
from nir_dynapse.training.trainer import Trainer, is_first_process
from nir_dynapse.training.twin import new_twin
from nir_dynapse.training.watch import course_findings, watched

__all__ = ["CHECKS", "Run", "samples"]

Progress = Callable[[str, float], None]


TIMED = 4
"""Steps that tell how long one takes."""
CHECKS = 20
"""Checks of a training whose time is given."""
SURE = 0.95
"""The part of that time that is used: what comes after the last step takes some, too."""


class Run:
    """One training of `steps` steps; `rewired` says whether rows may move, where the network has more
    inputs than rows and the options want it."""

    def __init__(
        self,
        trainer: Trainer,
        task: Task,
        options: TrainingOptions,
        steps: int,
        key: int,
        rewired: bool = True,
    ) -> None:
        self.trainer, self.task, self.options, self.steps, self.key = trainer, task, options, steps, key
        self.rewires = rewired and bool(trainer.recipe.model.candidates) and options.rewiring.method != "none"
        self.batch, self.every = options.batch or 1, options.check_every or 1
        self.loop: InTheLoop | None = None
        self.pre: np.ndarray | None = None
        self.findings: tuple[Finding, ...] = ()

    def go(self, first: Latent, store: Checkpoint | None, log: Any, tell: Progress) -> Latent:
        """The best latent of a training that starts at `first`, or where its checkpoint left off.

        `pre` (R,) is then what its rows hear, None where they hear what they did; `findings` are what kept it from more.
        """
        rows = self.trainer.recipe.chart.rows
        state = State.new(first, self._start(first), rows.pre if self.rewires else None)
        if store is not None:
            state = store.load(state)
        if state.pre is not None:
            self.trainer.wire(state.pre)
        begun, clock = time.monotonic(), Clock(self.steps, self.every, self._work(), state.step)
        early = state.step + 2  # the first step compiles
        while state.step < self.steps and not self._done(state):
            state = self._reflagged(self._rewired(self._step(state)))
            due = state.step % self.every == 0 or state.step == self.steps
            if due or early - 1 <= state.step <= early:
                jax.block_until_ready(state.latent)
                clock.stepped(state.step)
            if state.step == early and not due:
                tell(f"step {state.step}, {left_text(clock.left())}", state.step / self.steps)
            if due:
                state = self._check(state, time.monotonic() - begun)
                if store is not None:
                    store.save(state)
                if log is not None and is_first_process():
                    state.log.save(log)
                if len(state.log) == 1:
                    self._look(state.latent, state.pre, tell, state.step / self.steps)
                clock.checked()
                tell(f"{self._said(state)}, {left_text(clock.left())}", state.step / self.steps)
        if log is not None and is_first_process():
            state.log.save(log)
        best, self.pre = self._best(state, first)
        self._look(best, self.pre, lambda what, share: None, 1.0)
        self.findings += course_findings(
            state.log, state.best_step, best is not first, self.steps, _finite(state.latent)
        )
        for finding in self.findings:
            tell(str(finding), 1.0)
        return best

    def _best(self, state: State, first: Latent) -> tuple[Latent, np.ndarray | None]:
        """The best latent, the start where no other is better, and what its rows hear."""
        if state.best_step < 0:
            return (state.latent, state.pre) if _finite(state.latent) else (first, None)
        if state.pre is not None:
            self.trainer.wire(self.trainer.recipe.chart.rows.pre)
        if self._score(self._found(first)) > state.score:  # too few steps, or too large ones
            return first, None
        return state.best, state.best_pre

    def _look(self, latent: Latent, pre: np.ndarray | None, tell: Progress, share: float) -> None:
        """What `latent` does on the samples of the checks, as `findings`; told at once."""
        self.findings = ()
        if _finite(latent):
            self.findings = watched(self.trainer.recipe.model, latent, self.task.check_x, pre)
        for finding in self.findings:
            tell(str(finding), share)

    def choose_steps(self, first: Latent, until: float) -> int:
        """As many steps as fit until then (`time.monotonic`), by what the first ones and a check take, which are then done
        anew: it may stop a little earlier or later, the result is that of a training of so many steps."""
        rows = self.trainer.recipe.chart.rows
        state = self._step(State.new(first, self._start(first), rows.pre if self.rewires else None))
        jax.block_until_ready(state.latent)  # compiled
        begun = time.monotonic()
        for _ in range(TIMED):
            state = self._step(state)
        jax.block_until_ready(state.latent)
        step = (time.monotonic() - begun) / TIMED
        self._found(state.latent)  # compiled
        begun = time.monotonic()
        self._found(state.latent)
        now = time.monotonic()
        left = (until - now) * SURE - (CHECKS + 1) * (now - begun)
        steps = np.int32(max(1, int(left / step)))
        return int(steps if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(steps))

    def _start(self, first: Latent) -> Any:
        """The optimiser's state before the first step; on a board, and what is known of its chip."""
        opt = self.trainer.start(first)
        if self.loop is None:
            return opt
        return opt, new_twin(self.trainer.recipe.chart) if self.options.twin else None

    def _rewired(self, state: State) -> State:
        """`state` with rows that hear other sources, when it is time."""
        how = self.options.rewiring
        share = how.due(state.step, self.steps) if state.pre is not None else 0.0
        if not share or state.pre is None:
            return state
        model, slope = self.trainer.recipe.model, None
        if how.method == "gradient" and self.trainer.rewires:
            x, y = self._batch(state.step)
            slope = self.trainer.slopes(state.latent, state.step, x, y, self._grown(state.step))
        seed = (self.key, state.step, 11)
        moved = model.rewired(
            state.latent, state.opt, state.pre, share, seed=seed, slope=slope, deep=how.method == "deep"
        )
        latent, opt, pre = moved
        self.trainer.wire(pre)
        return state._replace(latent=latent, opt=opt, pre=pre)

    def _reflagged(self, state: State) -> State:
        """`state` with rows of other delay flags, when it is time."""
        share = self.options.reflagging.due(state.step, self.steps) if state.latent.flag is not None else 0.0
        if not share or self.loop is not None:
            return state
        x, y = self._batch(state.step)
        slope = self.trainer.flag_slopes(state.latent, state.step, x, y, self._grown(state.step))
        latent, opt = self.trainer.recipe.model.reflagged(state.latent, state.opt, slope, share)
        return state._replace(latent=latent, opt=opt)

    def _work(self) -> float:
        """Runs (chips times samples) of a check per run of a step."""
        samples_ = min(len(self.task.check_x), self.options.validation_size)
        return self.trainer.held_out * samples_ / (self.trainer.devices * self.batch)

    def _step(self, state: State) -> State:
        x, y = self._batch(state.step)
        grown, counts, spikes, opt, twin = self._grown(state.step), None, None, state.opt, None
        if self.loop is not None:
            spikes = self.loop.run(state.latent, x[0])[None]
            opt, twin = opt
            if twin is not None:
                twin = self.trainer.observed(twin, state.latent, x[0], spikes[0])
        if self.trainer.recipe.follow and self.task.counts is not None:
            counts = self.task.counts[self._samples(state.step)]
        chip = None if twin is None else twin.factors
        latent, opt, said = self.trainer.step(state.latent, opt, state.step, x, y, spikes, grown, counts, chip)
        opt = opt if self.loop is None else (opt, twin)
        return state._replace(latent=latent, opt=opt, step=state.step + 1, recent=(*state.recent, said))

    def _batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Counts (M, B, T, C) and targets of a step."""
        index = self._samples(step)
        return self.task.x[index], self.task.y[index]

    def _samples(self, step: int) -> np.ndarray:
        """Numbers (M, B) of the samples of a step."""
        size = self.trainer.devices * self.batch
        return samples(self.key, step * size, size, len(self.task.x)).reshape(self.trainer.devices, -1)

    def _grown(self, step: int) -> float:
        """The part of its size that the mismatch has grown to."""
        ramp = self.options.ramp * self.steps
        return min(1.0, (step + 1) / ramp) if ramp else 1.0

    def _check(self, state: State, seconds: float) -> State:
        """The state with a row of the log, and the best latent so far."""
        found = self._found(state.latent)
        score = self._score(found)
        recent = np.array([[float(loss), float(right)] for loss, right in state.recent])
        row = {
            "step": state.step,
            "loss": recent[:, 0].mean(),
            "accuracy": recent[:, 1].mean() if self.task.loss.supervised == "classes" else np.nan,
            "held_out": float(found.mean()),
            "held_out_low": float(np.quantile(found, 0.05)),
            "score": score if state.step >= self.options.ramp * self.steps else np.nan,
            "learning_rate": self.trainer.rate(state.step),
            "seconds": state.seconds + seconds - state.since,
        }
        state = state._replace(log=state.log.append(row), recent=(), seconds=row["seconds"], since=seconds)
        # States before the mismatch has grown to its full size do not count. A tie goes to the later one.
        if state.step < self.options.ramp * self.steps:
            return state
        if score >= state.score:
            waited = 0 if score > state.score else state.waited + 1
            return state._replace(
                best=state.latent, best_pre=state.pre, score=score, best_step=state.step, waited=waited
            )
        return state._replace(waited=state.waited + 1)

    def _found(self, latent: Latent) -> np.ndarray:
        """What each held-out chip, or the board, makes of the validation samples."""
        task, most = self.task, self.options.validation_size
        x, y = task.check_x[:most], task.check_y[:most]
        if self.loop is not None:
            return np.array([self.loop.score(latent, x, y, task)])
        return self.trainer.check(latent, x, y)

    def _score(self, found: np.ndarray) -> float:
        """The mean of the worst part of the held-out chips, by which states are chosen."""
        count = max(1, round(self.options.worst * len(found)))
        return float(np.sort(found)[:count].mean())

    def _done(self, state: State) -> bool:
        """Whether nothing more can be won: `patience` is at its end, or numbers are none (seen at checks)."""
        if not state.recent and len(state.log) and not _finite(state.latent):
            return True
        return self.options.patience is not None and state.waited >= self.options.patience

    def _said(self, state: State) -> str:
        log = state.log
        classes = self.task.loss.supervised == "classes"
        value = f"{100 * log.held_out[-1]:.1f} %" if classes else f"{log.held_out[-1]:.4g}"
        if classes and self.loop is None:
            value += f" (5 % quantile of the chips {100 * log.held_out_low[-1]:.1f} %)"
        return f"step {state.step}, loss {log.loss[-1]:.3g}, held out {value}"


def _finite(latent: Latent) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree_util.tree_leaves(latent))


def samples(key: int, first: int, count: int, n: int) -> np.ndarray:
    """Numbers (count,) of the samples `first`, `first` + 1, … of a stream of shuffled passes through `n` of them."""
    result, done = np.empty(count, np.int64), 0
    while done < count:
        epoch, inside = divmod(first + done, n)
        order = np.random.default_rng((key, epoch)).permutation(n)[inside : inside + count - done]
        result[done : done + len(order)] = order
        done += len(order)
    return result
