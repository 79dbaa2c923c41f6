"""`fine_tune`: re-trains a network in the model of the circuits so that it works on chips that it has never seen."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.board.board import Board
from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch, check_mismatch
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.data.data import Data
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.evaluation.evaluate import kept
from nir_dynapse.files.numbers import KEY, MINUTES, PER_STEP, STEPS, Whole
from nir_dynapse.files.places import check_apart
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.quant.spending import Spend
from nir_dynapse.training.begin import check_bits, trainable
from nir_dynapse.training.in_the_loop import InTheLoop
from nir_dynapse.training.losses import Loss
from nir_dynapse.training.model import Trainable
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.run import CHECKS, Run
from nir_dynapse.training.state import Checkpoint
from nir_dynapse.training.steps import Recipe
from nir_dynapse.training.task import Task, task_of
from nir_dynapse.training.trainer import Trainer

__all__ = ["USUAL", "Amount", "fine_tune"]

Progress = Callable[[str, float], None]


class Amount(NamedTuple):
    """How much a training takes: virtual chips of a step, samples on each, steps, and those between checks."""

    devices: int
    batch: int
    steps: int
    check_every: int


MOST_ELEMENTS = 1 << 34
"""Counts of a step of training: some 16 GiB in their smallest form."""
USUAL = Amount(2, 8, 3000, 300)
"""What is trained on unless it is said: few chips and samples in many steps, which is worth more than more of them in few
(docs/fine_tuning.md, `tests/benchmarks/defaults.py`)."""
APART = ("model", "drop", "patience", "chart", "start", "origin", "candidates", "rewires", "hidden")
"""What a training does not depend on, or what its identity tells otherwise."""


def fine_tune(
    thing: Network | Params | Layout,
    data: Data,
    *,
    mismatch: Mismatch | None = None,
    devices: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    loss: str | Loss | None = None,
    teacher: Network | bool | None = None,
    board: Board | None = None,
    bits: int | None = 4,
    key: int = 0,
    spend: Spend = "none",
    start: Params | None = None,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    validation: Data | None = None,
    log: str | os.PathLike[str] | None = None,
    options: TrainingOptions | None = None,
    device: Device = DYNAPSE2,
) -> Params:
    """`thing` with weights and biases that work on chips it has never seen, trained on `devices` virtual chips per step.

    It starts from the circuit of the network, which is first fitted to `data` (`fit_to_data`; `start` says which other one
    to begin with), with a core per population (a Params that is quantised, from itself) and trains what the chip lets one
    set: masks and base currents of `bits` bits (None: weights without rounding) and the biases of
    each core, within their ranges. Rounding comes first and mismatch after it, log-normal as `mismatch` says (that of the
    device by default) and redrawn in every step. The result compiles as it is: `compile(net, params=…)` makes a Layout of
    just these currents.

    Neurons with more synapses than CAM rows get those rows that let them follow the sum of all synapses best on `data`
    (`options.rewiring` can move them while training). With `spend` several neurons of the chip stand for one: "chip" takes
    as many as fit, a number or a dictionary of numbers by node says how many; they hear different copies and rows. Unless
    given, `devices` and `steps` are 2 and 3000 (docs/fine_tuning.md says how they were chosen). `minutes` instead of
    `steps`: as many as fit in that time, all included, with twenty checks; `progress` is told how many they are, and the
    same call with `steps` gives the same result (a `checkpoint` keeps them).

    `loss`: "counts" (classes by spike counts), "first-spike", "first-spike-time", "max-over-time", "trajectory" (where
    `data.y` is (sample, time, output)), or a `losses.Loss`. With `teacher` (True: the network's own ideal run; or another
    Network, with the same populations or one that `thing` has copies of, see `replicate`) labels are not looked at:
    filtered spikes of all populations follow the teacher's. With a `board` the samples run on that chip, and the model
    supplies the gradients (in the loop), those of a circuit like this chip, which its spikes tell; `devices` is 1 then. In
    the end the board holds the best (`board.layout`): placed elsewhere, the same bits meet other neurons.

    `validation` (default: `data`) is seen by held-out virtual chips; the best state on them, the start included, is
    returned. `checkpoint` names an .npz file from which the same call goes on, bit for bit; `log` a .csv file.
    `progress(what, fraction)` is told after the second step and at every check, with the time until all is done.
    Deterministic by `key` on one machine. Raises ConfigurationError, ParameterRangeError or CapacityError.
    """
    options = TrainingOptions() if options is None else options
    if not isinstance(options, TrainingOptions):
        raise ConfigurationError(f"fine_tune: options is a {type(options).__name__}. Give TrainingOptions(...).")
    called = time.monotonic()
    if board is not None and options.gradient != "surrogate":
        raise ConfigurationError(
            f"fine_tune: gradient is {options.gradient!r}, and of a board spikes per bin are known, not times. Leave it at "
            "'surrogate', or train without a board."
        )
    _checked(devices, steps, bits, key, minutes)
    check_mismatch("fine_tune", mismatch)
    mismatch = device.mismatch if mismatch is None else mismatch
    check_apart({"checkpoint": checkpoint, "log": log}, {})
    task_of(thing, as_params(thing, device), data, validation, loss, teacher, run=False)  # what does not fit, at once
    said = {"mismatch": mismatch, "bits": bits, "key": key, "spend": spend, "start": start}
    model = trainable(thing, data, **said, options=options, device=device)
    t, first = model.topology, model.start
    devices, steps = USUAL.devices if devices is None else devices, USUAL.steps if steps is None else steps
    known = None if minutes is None or checkpoint is None else Checkpoint.length(checkpoint)
    if known is not None:
        minutes, steps = None, known[0]
        options = replace(options, check_every=known[1])
    asked, tell = options.check_every, progress or (lambda what, fraction: None)
    batch, every = options.batch or USUAL.batch, options.check_every or USUAL.check_every
    options = replace(options, batch=batch, check_every=every)
    task = task_of(thing, model.origin, data, validation, loss, teacher, options.distil)
    _check_size(devices if board is None else 1, options, task, t)

    if options.follow is None:
        options = replace(options, follow=1.0 if model.candidates else 0.0)
    recipe = _recipe(model, task, options)
    if board is not None:
        devices = 1
    trainer = Trainer(
        recipe,
        devices=devices,
        held_out=options.held_out,
        steps=steps,
        key=key,
        rate=options.rate,
        trained=options.moved,
        bias_rate=options.bias_rate,
        clip=options.clip,
        transformation=options.optimiser,
        check_mismatch=options.check_mismatch,
        rewires=bool(model.candidates) and options.rewiring.method != "none" and model.rewires and not task.loss.timed,
    )
    run = Run(trainer, task, options, steps, key, rewired=board is None)
    if board is not None:
        run.loop = InTheLoop(board, thing, model.chart, first, device)
    if minutes is not None:
        steps = trainer.steps = run.steps = run.choose_steps(first, called + 60 * minutes)
        every = run.every = asked or -(-steps // CHECKS)
        options = run.options = replace(options, check_every=every)
        tell(f"{steps} steps in {minutes:g} min; the same again with steps={steps}, check_every={every}", 0.0)
    store = None
    if checkpoint is not None:
        what = (
            _identity(recipe),
            _identity(model),
            _identity(options),
            devices,
            steps,
            key,
            _which(board),
            task[:4],
            first,
            model.origin,
            model.chart.free,
            (model.chart.bits, model.chart.unit, model.chart.base_range, model.chart.ranges),
        )
        store = Checkpoint(checkpoint, what, (steps, every))
    with kept(None if store is None else store.path):
        best = run.go(first, store, log, tell)
        if run.loop is not None:
            run.loop.leave(best)
    return replace(model.params(best, run.pre), findings=run.findings)


def _which(board: Board | None) -> str:
    """What tells boards apart as far as can be known: their kind, and the number of a virtual one."""
    return "" if board is None else f"{type(board).__name__} {getattr(board, 'seed', '')}"


def _identity(options: Any) -> str:
    """What a training depends on beside its arrays; optax transformations and schedules by their names only."""
    values = {k: v for k, v in vars(options).items() if k not in APART}
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


def _recipe(model: Trainable, task: Task, options: TrainingOptions) -> Recipe:
    drop = None
    if options.dropout:
        drop = np.zeros(model.topology.n_neurons)
        drop[task.hidden] = options.dropout
    return Recipe(
        model=model,
        loss=task.loss,
        read=task.read,
        penalty=options.penalty,
        drop=drop,
        worst=options.worst,
        mixed=options.mixed,
        attack=options.attack,
        readout=task.readout,
        copies=task.copies,
        follow=(options.follow or 0.0) if task.counts is not None else 0.0,
    )


def _checked(devices: int | None, steps: int | None, bits: int | None, key: int, minutes: float | None) -> None:
    if minutes is not None:
        if steps is not None:
            raise ConfigurationError(
                f"fine_tune: steps is {steps} and minutes is {minutes}. Give one of them: how many steps, or how long."
            )
        MINUTES.check("fine_tune", "minutes", minutes)
    for name, value, limit in (
        ("devices", devices, PER_STEP),
        ("steps", steps, Whole(0, STEPS.high)),
        ("key", key, KEY),
    ):
        if value is not None or name == "key":
            limit.check("fine_tune", name, value)
    check_bits("fine_tune", bits)


def _check_size(devices: int, options: TrainingOptions, task: Task, topology: Topology) -> None:
    """ParameterRangeError where what a step, or a check, holds at once would not fit into any memory."""
    bins, each = task.x.shape[1], topology.n_channels + topology.n_neurons
    checked = min(options.validation_size, len(task.check_x))
    for what, chips, samples_ in (("devices", devices, options.batch or 1), ("held_out", options.held_out, checked)):
        if chips * samples_ * bins * each > MOST_ELEMENTS:
            raise ParameterRangeError(
                f"fine_tune: {what} is {chips}, with {samples_} samples of {bins} bins for {each} channels and neurons on "
                f"each chip; allowed are {MOST_ELEMENTS} counts at once. Choose fewer chips or samples (batch, "
                "validation_size)."
            )
