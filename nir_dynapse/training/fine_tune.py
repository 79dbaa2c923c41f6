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
from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch, check_mismatch
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.data.data import Data
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.evaluation.checks import check_params
from nir_dynapse.evaluation.evaluate import kept
from nir_dynapse.files.numbers import KEY, MINUTES, PER_STEP, STEPS, Whole
from nir_dynapse.files.places import check_apart
from nir_dynapse.fitting.fit import fit_to_data
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.quant.groups import by_population
from nir_dynapse.quant.spending import Spend, plans
from nir_dynapse.sim.engine import has_kernels
from nir_dynapse.training.first_rows import first_rows, heard_on, rows_of
from nir_dynapse.training.in_the_loop import InTheLoop
from nir_dynapse.training.losses import Loss
from nir_dynapse.training.options import TrainingOptions
from nir_dynapse.training.rewiring import Candidates
from nir_dynapse.training.run import CHECKS, Run
from nir_dynapse.training.start import start_of
from nir_dynapse.training.state import Checkpoint
from nir_dynapse.training.steps import Recipe
from nir_dynapse.training.task import Task, task_of
from nir_dynapse.training.trainable import chart_of, latent_of, settled
from nir_dynapse.training.trainer import Trainer

__all__ = ["COPIED", "USUAL", "Amount", "fine_tune"]

Progress = Callable[[str, float], None]


class Amount(NamedTuple):
    """How much a training takes: virtual chips of a step, samples on each, steps, and those between checks."""

    devices: int
    batch: int
    steps: int
    check_every: int


STEP = 1e-3
"""Longest internal step of training in s."""
MOST_ELEMENTS = 1 << 34
"""Counts of a step of training: some 16 GiB in their smallest form."""
USUAL, COPIED = Amount(16, 16, 1000, 50), Amount(2, 8, 3000, 300)
"""What is trained on unless it is said: with copies, whose errors average out, few chips and samples in many steps."""
LEAST_REFRACTORY, LEAST_MEMBRANE = 1.5, 2.5
"""Shortest refractory period and membrane time constant in internal steps of training."""


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
    given, `devices` and `steps` are 16 and 1000; with copies, whose errors average out, 2 and 3000. `minutes` instead of
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
    circuit = _begun(thing, start, data, device, key, options)
    circuit, candidates = _on_rows(circuit, data, device, spend, mismatch, key)
    amount = COPIED if circuit.topology.copies else USUAL
    devices, steps = amount.devices if devices is None else devices, amount.steps if steps is None else steps
    known = None if minutes is None or checkpoint is None else Checkpoint.length(checkpoint)
    if known is not None:
        minutes, steps = None, known[0]
        options = replace(options, check_every=known[1])
    asked, tell = options.check_every, progress or (lambda what, fraction: None)
    batch, every = options.batch or amount.batch, options.check_every or amount.check_every
    options = replace(options, batch=batch, check_every=every)
    task = task_of(thing, circuit, data, validation, loss, teacher, options.distil)
    _check_size(devices if board is None else 1, options, task, circuit.topology)

    width = circuit.topology.dt / (options.substeps or int(np.ceil(circuit.topology.dt / STEP - 1e-6)))
    substeps = round(circuit.topology.dt / width)
    begun = start_of(circuit, device, options.rows, key, LEAST_REFRACTORY * width, bits or 4)
    limits = {
        "i_tau_mem": (reach("i_tau_mem")[0], float(circuit.circuit.tau("i_tau_mem", LEAST_MEMBRANE * width))),
        "i_ref": (reach("i_ref")[0], float(circuit.circuit.width("i_ref", LEAST_REFRACTORY * width))),
    }
    names = tuple(name for name in options.trained if name not in ("weight", "base"))
    chart = chart_of(begun.params, begun.free, names, bits or 0, device.weight_top, limits)
    first = latent_of(chart, begun.params, begun.base, begun.weight)
    if options.follow is None:
        options = replace(options, follow=1.0 if candidates else 0.0)
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
        rewires=bool(candidates)
        and options.rewiring.method != "none"
        and not task.loss.timed
        and has_kernels(settled(chart, first), substeps, recipe.surrogate, recipe.longest_delay),
    )
    run = Run(trainer, task, options, steps, key, candidates if board is None else ())
    if board is not None:
        run.loop = InTheLoop(board, thing, chart, first, device)
    if minutes is not None:
        steps = trainer.steps = run.steps = run.choose_steps(first, called + 60 * minutes)
        every = run.every = asked or -(-steps // CHECKS)
        options = run.options = replace(options, check_every=every)
        tell(f"{steps} steps in {minutes:g} min; the same again with steps={steps}, check_every={every}", 0.0)
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
            begun.params,
            begun.free,
            (chart.bits, chart.unit, chart.base_range, chart.ranges),
        )
        store = Checkpoint(checkpoint, what, (steps, every))
    with kept(None if store is None else store.path):
        best = run.go(first, store, log, tell)
        if run.loop is not None:
            run.loop.leave(best)
    return settled(chart if run.pre is None else chart.hearing(run.pre), best)


def _begun(thing: Any, start: Params | None, data: Data, device: Device, key: int, options: TrainingOptions) -> Params:
    """The circuit that training begins with: `start`, that of `thing`, or of a Network one that follows it on `data`."""
    if start is not None:
        if not isinstance(thing, Network):
            raise ConfigurationError(
                "fine_tune: start is the circuit of a Network. Give the Network, or leave start out."
            )
        check_params(start, thing)
        return start
    if not isinstance(thing, Network) or not options.fit:
        return as_params(thing, device)
    return fit_to_data(thing, data, device=device, key=key, tried=1, own_rows=False)[0]


def _on_rows(
    circuit: Params, data: Data, device: Device, spend: Spend, mismatch: Mismatch, key: int
) -> tuple[Params, tuple[Candidates, ...]]:
    """`circuit` with copies as `spend` says and no more synapses than rows, and what those rows may hear."""
    if circuit.topology.mask is not None:
        return circuit, ()
    circuit = by_population(circuit, device)
    copies = _copies(circuit, device, spend)
    made = with_copies(circuit, copies, key=key)
    t = made.topology
    limit = np.full(t.n_neurons, rows_of(device, t.n_neurons))
    if (np.bincount(t.post, minlength=t.n_neurons) <= limit).all():
        return made, ()
    spikes = heard_on(circuit, t, data.x, device)
    found = first_rows(made, limit, spikes, mismatch.synapse, key)
    return found.params, found.candidates


def _copies(circuit: Params, device: Device, spend: Spend) -> dict[str, int]:
    """Copies of each population; of those that fit the first for which every core has a tag for all that could be heard."""
    t = circuit.topology
    heard = [np.unique(t.pre[(t.post >= part.start) & (t.post < part.stop)]) for part in t.slices().values()]
    copies: dict[str, int] = {}
    for copies in plans(spend, circuit, device):
        each = np.concatenate([np.ones(t.tonic + 1, int), *(np.full(n, copies[name]) for name, n in t.populations)])
        if all(each[sources].sum() <= device.n_tags for sources in heard):
            break
    return copies


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
        surrogate=options.surrogate._replace(times=options.gradient == "spike-times"),
        readout=task.readout,
        copies=task.copies,
        longest_delay=delays,
        rounded=options.rounded and bool(chart.bits),
        follow=(options.follow or 0.0) if task.counts is not None else 0.0,
    )


def _delays(chart: Any) -> np.ndarray:
    bias = {**chart.fixed, **{name: np.full(chart.rows.n_groups, low) for name, (low, _) in chart.ranges.items()}}
    return Params(bias, np.zeros(chart.rows.n_synapses), None, chart.rows, chart.circuit).row_delays()


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
    if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 4):
        raise ParameterRangeError(f"fine_tune: bits is {bits!r}, a CAM row has 4. Choose 1 to 4, or None.")


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
