"""`fine_tune`: re-trains a network in the model of the circuits so that it works on chips that it has never seen."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import jax
import numpy as np

from nir_dynapse.board.board import Board
from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch, check_mismatch
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.data.data import Data
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.evaluation.evaluate import kept
from nir_dynapse.files.numbers import KEY, PER_STEP, STEPS, Whole
from nir_dynapse.files.places import check_apart
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.training.clock import Clock
from nir_dynapse.training.in_the_loop import InTheLoop
from nir_dynapse.training.losses import Loss
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.start import start_of
from nir_dynapse.training.state import Checkpoint, State
from nir_dynapse.training.steps import Recipe
from nir_dynapse.training.task import Task, task_of
from nir_dynapse.training.trainable import Latent, chart_of, latent_of, settled
from nir_dynapse.training.trainer import Trainer, is_first_process

__all__ = ["fine_tune"]

Progress = Callable[[str, float], None]
STEP = 1e-3
"""Longest internal step of training in s."""
MOST_ELEMENTS = 1 << 34
"""Counts of a step of training: some 16 GiB in their smallest form."""
LEAST_REFRACTORY, LEAST_MEMBRANE = 1.5, 2.5
"""Shortest refractory period and membrane time constant in internal steps of training."""


def fine_tune(
    thing: Network | Params | Layout,
    data: Data,
    *,
    mismatch: Mismatch | None = None,
    devices: int = 16,
    steps: int = 1000,
    loss: str | Loss | None = None,
    teacher: Network | bool | None = None,
    board: Board | None = None,
    bits: int | None = 4,
    key: int = 0,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    validation: Data | None = None,
    log: str | os.PathLike[str] | None = None,
    options: TrainingOptions | None = None,
    device: Device = DYNAPSE2,
) -> Params:
    """`thing` with weights and biases that work on chips it has never seen, trained on `devices` virtual chips per step.

    It starts from the closed-form circuit with a core per population (a Params that is quantised, from itself) and trains
    what the chip lets one set: masks and base currents of `bits` bits (None: weights without rounding) and the biases of
    each core, within their ranges. Rounding comes first and mismatch after it, log-normal as `mismatch` says (that of the
    device by default) and redrawn in every step. The result compiles as it is: `compile(net, params=…)` makes a Layout of
    just these currents.

    `loss`: "counts" (classes by spike counts), "first-spike", "max-over-time", "trajectory" (where `data.y` is (sample,
    time, output)), or a `losses.Loss`. With `teacher` (True: the network's own ideal run; or another Network, with the
    same populations or one that `thing` has copies of, see `replicate`) labels are not looked at: filtered spikes of all
    populations follow the teacher's. With a `board` the samples run on that chip, and the model supplies the gradients (in
    the loop); `devices` is 1 then.

    `validation` (default: `data`) is seen by held-out virtual chips; the best state on them, the start included, is
    returned. `checkpoint` names an .npz file from which the same call goes on, bit for bit; `log` a .csv file.
    `progress(what, fraction)` is told after the second step and at every check, with the time until all is done.
    Deterministic by `key` on one machine. Raises ConfigurationError, ParameterRangeError or CapacityError.
    """
    options = TrainingOptions() if options is None else options
    if not isinstance(options, TrainingOptions):
        raise ConfigurationError(f"fine_tune: options is a {type(options).__name__}. Give TrainingOptions(...).")
    _checked(devices, steps, bits, key)
    check_mismatch("fine_tune", mismatch)
    mismatch = device.mismatch if mismatch is None else mismatch
    circuit = as_params(thing, device)
    task = task_of(thing, circuit, data, validation, loss, teacher)
    _check_size(devices if board is None else 1, options, task, circuit.topology)
    check_apart({"checkpoint": checkpoint, "log": log}, {})

    width = circuit.topology.dt / (options.substeps or int(np.ceil(circuit.topology.dt / STEP - 1e-6)))
    substeps = round(circuit.topology.dt / width)
    start = start_of(circuit, device, options.rows, key, LEAST_REFRACTORY * width, bits or 4)
    limits = {
        "i_tau_mem": (reach("i_tau_mem")[0], float(circuit.circuit.tau("i_tau_mem", LEAST_MEMBRANE * width))),
        "i_ref": (reach("i_ref")[0], float(circuit.circuit.width("i_ref", LEAST_REFRACTORY * width))),
    }
    names = tuple(name for name in options.trained if name not in ("weight", "base"))
    chart = chart_of(start.params, start.free, names, bits or 0, device.weight_top, limits)
    first = latent_of(chart, start.params, start.base, start.weight)
    recipe = _recipe(chart, task, mismatch, substeps, options)
    if board is not None:
        devices = 1
    trainer = Trainer(
        recipe,
        devices=devices,
        held_out=options.held_out,
        steps=steps,
        key=key,
        rate=options.rate,
        trained=options.trained,
        bias_rate=options.bias_rate,
        clip=options.clip,
        transformation=options.optimiser,
        check_mismatch=options.check_mismatch,
    )
    run = _Run(trainer, task, options, steps, key)
    if board is not None:
        run.loop = InTheLoop(board, thing, chart, first, device)
    store = None
    if checkpoint is not None:
        what = (
            _identity(recipe),
            _identity(options),
            devices,
            steps,
            key,
            _which(board),
            task[:4],
            first,
            start.params,
            start.free,
            (chart.bits, chart.unit, chart.base_range, chart.ranges),
        )
        store = Checkpoint(checkpoint, what)
    with kept(None if store is None else store.path):
        best = run.go(first, store, log, progress or (lambda what, fraction: None))
    return settled(chart, best)


def _which(board: Board | None) -> str:
    """What tells boards apart as far as can be known: their kind, and the number of a virtual one."""
    return "" if board is None else f"{type(board).__name__} {getattr(board, 'seed', '')}"


def _identity(options: Any) -> str:
    """What a training depends on beside its arrays; optax transformations and schedules by their names only."""
    values = {k: v for k, v in vars(options).items() if k not in ("chart", "drop", "patience")}
    return re.sub(r" at 0x[0-9a-f]+", "", _whole(values))


def _whole(value: Any) -> str:
    """All that `value` holds as text; what dataclasses print of themselves may be less."""
    if type(value) is dict:
        return "{" + ", ".join(f"{key!r}: {_whole(each)}" for key, each in value.items()) + "}"
    if type(value) is tuple:
        return "(" + ", ".join(map(_whole, value)) + (",)" if len(value) == 1 else ")")
    if is_dataclass(value) and not isinstance(value, type):
        listed = ", ".join(f"{f.name}={_whole(getattr(value, f.name))}" for f in fields(value) if f.repr)
        return f"{type(value).__qualname__}({listed})"
    return repr(value)


def _recipe(chart: Any, task: Task, mismatch: Mismatch, substeps: int, options: TrainingOptions) -> Recipe:
    drop = None
    if options.dropout:
        drop = np.zeros(chart.rows.n_neurons)
        drop[task.hidden] = options.dropout
    delays = None
    if chart.rows.delay is not None:
        delays = 3.0 * float(np.max(_delays(chart)))  # three times as long on the slowest row of a chip
    return Recipe(
        chart=chart,
        loss=task.loss,
        mismatch=mismatch,
        substeps=substeps,
        read=task.read,
        penalty=options.penalty,
        penalised=tuple(task.hidden.tolist() or range(chart.rows.n_neurons)),
        drop=drop,
        worst=options.worst,
        mixed=options.mixed,
        attack=options.attack,
        surrogate=options.surrogate,
        readout=task.readout,
        copies=task.copies,
        longest_delay=delays,
        rounded=options.rounded and bool(chart.bits),
    )


def _delays(chart: Any) -> np.ndarray:
    bias = {**chart.fixed, **{name: np.full(chart.rows.n_groups, low) for name, (low, _) in chart.ranges.items()}}
    return Params(bias, np.zeros(chart.rows.n_synapses), None, chart.rows, chart.circuit).row_delays()


def _checked(devices: int, steps: int, bits: int | None, key: int) -> None:
    for name, value, limit in (
        ("devices", devices, PER_STEP),
        ("steps", steps, Whole(0, STEPS.high)),
        ("key", key, KEY),
    ):
        limit.check("fine_tune", name, value)
    if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 4):
        raise ParameterRangeError(f"fine_tune: bits is {bits!r}, a CAM row has 4. Choose 1 to 4, or None.")


def _check_size(devices: int, options: TrainingOptions, task: Task, topology: Topology) -> None:
    """ParameterRangeError where what a step, or a check, holds at once would not fit into any memory."""
    bins, each = task.x.shape[1], topology.n_channels + topology.n_neurons
    checked = min(options.validation_size, len(task.check_x))
    for what, chips, samples_ in (("devices", devices, options.batch), ("held_out", options.held_out, checked)):
        if chips * samples_ * bins * each > MOST_ELEMENTS:
            raise ParameterRangeError(
                f"fine_tune: {what} is {chips}, with {samples_} samples of {bins} bins for {each} channels and neurons on "
                f"each chip; allowed are {MOST_ELEMENTS} counts at once. Choose fewer chips or samples (batch, "
                "validation_size)."
            )


class _Run:
    """One training: its steps, checks, checkpoint and log."""

    def __init__(self, trainer: Trainer, task: Task, options: TrainingOptions, steps: int, key: int) -> None:
        self.trainer, self.task, self.options, self.steps, self.key = trainer, task, options, steps, key
        self.loop: InTheLoop | None = None

    def go(self, first: Latent, store: Checkpoint | None, log: Any, tell: Progress) -> Latent:
        """The best latent of a training that starts at `first`, or where its checkpoint left off."""
        state = State.new(first, self.trainer.start(first))
        if store is not None:
            state = store.load(state)
        begun, clock = time.monotonic(), Clock(self.steps, self.options.check_every, self._work(), state.step)
        early = state.step + 2  # the first step compiles
        while state.step < self.steps and not self._done(state):
            state = self._step(state)
            due = state.step % self.options.check_every == 0 or state.step == self.steps
            if due or early - 1 <= state.step <= early:
                jax.block_until_ready(state.latent)
                clock.stepped(state.step)
            if state.step == early and not due:
                tell(f"step {state.step}, {clock.left():.0f} s left", state.step / self.steps)
            if due:
                state = self._check(state, time.monotonic() - begun)
                if store is not None:
                    store.save(state)
                if log is not None and is_first_process():
                    state.log.save(log)
                clock.checked()
                tell(f"{self._said(state)}, {clock.left():.0f} s left", state.step / self.steps)
        if log is not None and is_first_process():
            state.log.save(log)
        if state.best_step < 0:
            return state.latent
        if self._score(self._found(first)) > state.score:  # too few steps, or too large ones
            tell("no better than the start on held-out chips: the start is kept; try more steps, or a lower rate", 1.0)
            return first
        return state.best

    def _work(self) -> float:
        """Runs (chips times samples) of a check per run of a step."""
        samples_ = min(len(self.task.check_x), self.options.validation_size)
        return self.trainer.held_out * samples_ / (self.trainer.devices * self.options.batch)

    def _step(self, state: State) -> State:
        task, devices = self.task, self.trainer.devices
        size = devices * self.options.batch
        index = samples(self.key, state.step * size, size, len(task.x)).reshape(devices, -1)
        x, spikes = task.x[index], None
        if self.loop is not None:
            spikes = self.loop.run(state.latent, x[0])[None]
        ramp = self.options.ramp * self.steps
        grown = min(1.0, (state.step + 1) / ramp) if ramp else 1.0
        latent, opt, said = self.trainer.step(state.latent, state.opt, state.step, x, task.y[index], spikes, grown)
        return state._replace(latent=latent, opt=opt, step=state.step + 1, recent=(*state.recent, said))

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
            "learning_rate": float(self.trainer.rate(state.step)),
            "seconds": state.seconds + seconds - state.since,
        }
        state = state._replace(log=state.log.append(row), recent=(), seconds=row["seconds"], since=seconds)
        # States before the mismatch has grown to its full size do not count. A tie goes to the later one.
        if state.step < self.options.ramp * self.steps:
            return state
        if score >= state.score:
            waited = 0 if score > state.score else state.waited + 1
            return state._replace(best=state.latent, score=score, best_step=state.step, waited=waited)
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
        return self.options.patience is not None and state.waited >= self.options.patience

    def _said(self, state: State) -> str:
        log = state.log
        classes = self.task.loss.supervised == "classes"
        value = f"{100 * log.held_out[-1]:.1f} %" if classes else f"{log.held_out[-1]:.4g}"
        return f"step {state.step}, loss {log.loss[-1]:.3g}, held out {value}"


def samples(key: int, first: int, count: int, n: int) -> np.ndarray:
    """Numbers (count,) of the samples `first`, `first` + 1, … of a stream of shuffled passes through `n` of them."""
    result, done = np.empty(count, np.int64), 0
    while done < count:
        epoch, inside = divmod(first + done, n)
        order = np.random.default_rng((key, epoch)).permutation(n)[inside : inside + count - done]
        result[done : done + len(order)] = order
        done += len(order)
    return result
