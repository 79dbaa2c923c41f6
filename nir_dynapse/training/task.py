"""What a training learns: samples, targets and the loss, from labels or from a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from nir_dynapse.circuit.copies import mean
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.data.data import Data
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.evaluation.checks import check_data, described
from nir_dynapse.network.network import Network
from nir_dynapse.sim import programs as _programs  # noqa: F401 - before any program is compiled
from nir_dynapse.sim.simulation import simulate
from nir_dynapse.training.losses import Counts, Distilled, Loss, Trajectory, loss_named

__all__ = ["Task", "hidden_neurons", "read_spikes", "task_of"]

MOST_TAUGHT = 1 << 26
"""Bins times neurons of an ideal run at a time."""


class Task(NamedTuple):
    """What is learnt: samples and targets for training and for the checks, the loss, and which neurons it sees.

    `read` are slices of the neurons; in each as many in a row as `copies` says (one number per slice) count as one.
    `counts` (samples, n) are the spikes of the network's neurons in the ideal run of the training samples, if it teaches.
    """

    x: np.ndarray
    y: np.ndarray
    check_x: np.ndarray
    check_y: np.ndarray
    loss: Loss
    read: tuple[tuple[int, int], ...]
    readout: bool
    hidden: np.ndarray
    copies: tuple[int, ...] = ()
    counts: np.ndarray | None = None


def read_spikes(spikes: Any, read: tuple[tuple[int, int], ...], copies: tuple[int, ...]) -> list[Any]:
    """Spikes (..., N) of each slice of `read`, the mean over the copies of each neuron; NumPy and JAX arrays."""
    return [mean(spikes[..., a:b], c) for (a, b), c in zip(read, copies or (1,) * len(read), strict=True)]


def task_of(
    thing: Any,
    circuit: Params,
    data: Data,
    validation: Data | None,
    loss: str | Loss | None,
    teacher: Network | bool | None,
    distil: float = 0.0,
    *,
    run: bool = True,
) -> Task:
    """The task of `fine_tune` with these arguments; `circuit` is the circuit of `thing`. Raises what does not fit.

    With `distil` above 0 the answers of a Network's own ideal run have that share in a loss of classes. Without `run` no
    teacher runs: what it would say is not in the task.
    """
    if not isinstance(data, Data):
        raise ConfigurationError(f"fine_tune: the data is a {type(data).__name__}. Give Data(x, y, dt).")
    t, check = circuit.topology, data if validation is None else validation
    taught = teacher is not None and teacher is not False
    kind = loss_named(("trajectory" if taught else "counts") if loss is None else loss, t.dt)
    if loss in (None, "counts") and isinstance(kind, Counts) and not _counts_only(t):
        kind = Counts(t.dt, ratio=0.0)  # voltages have a sign, ratios do not
    slices = t.slices()
    source, hidden = str(t.outputs[0].source) if t.outputs else "", hidden_neurons(t)
    for part in (data, check):
        labels = not taught and kind.supervised == "classes" and part.y.ndim == 1  # the rank of y is looked at below
        check_data(part, described(circuit), labels=labels)
    if taught:
        if kind.supervised == "classes":
            raise ParameterRangeError("fine_tune: with a teacher the loss is 'trajectory'. Leave loss at None.")
        who = thing if teacher is True else teacher
        if not isinstance(who, Network):
            raise ConfigurationError(
                f"fine_tune: the teacher is a {type(who).__name__}. Give a Network, or fine-tune one."
            )
        copies = _copies(who, t)
        if isinstance(kind, Trajectory):
            kind = replace(kind, filter_target=True)
        y = _spikes(who, data.x) if run else data.y
        other = y if check is data or not run else _spikes(who, check.x)
        read = tuple((part.start, part.stop) for part in slices.values())
        return Task(data.x, y, check.x, other, kind, read, False, hidden, copies)
    if kind.timed and source not in slices:
        raise ParameterRangeError(
            f"fine_tune: loss {type(kind).__name__} is of times of spikes, output {source!r} has values on the host. "
            "Choose another loss."
        )
    wanted = 1 if kind.supervised == "classes" else 3
    size = next((p.size for p in t.readout.populations if p.name == source), t.node_sizes.get(source, 0))
    for part in (data, check):
        if part.y.ndim != wanted:
            raise ConfigurationError(
                f"fine_tune: y has shape {part.y.shape}, the loss {type(kind).__name__} needs "
                f"{'a class per sample' if wanted == 1 else '(sample, time, output)'}. Choose another loss."
            )
        if wanted == 3 and part.y.shape[1:] != (part.x.shape[1], size):
            raise ConfigurationError(
                f"fine_tune: y has shape {part.y.shape}, the samples have {part.x.shape[1]} bins, output {source!r} has "
                f"{size} neurons. Give y as ({len(part)}, {part.x.shape[1]}, {size})."
            )
    read = ((slices[source].start, slices[source].stop),) if source in slices else ((0, t.n_neurons),)
    copies = (t.copies_of.get(source, 1),) if source in slices else ()
    x, y, check_y, counts = data.x, data.y, check.y, None
    if distil and wanted == 1 and isinstance(thing, Network) and len(thing.outputs) == 1:
        y, counts = _taught(thing, data, kind)
        check_y, _ = (y, counts) if check is data else _taught(thing, check, kind)
        kind = Distilled(t.dt, kind, distil)
    return Task(x, y, check.x, check_y, kind, read, source not in slices, hidden, copies, counts)


def hidden_neurons(t: Topology) -> np.ndarray:
    """Neurons (n,) of the populations that no output reads, neither itself nor by a readout."""
    seen = {str(t.outputs[0].source) if t.outputs else "", *t.readout.sources()}
    parts = [np.arange(part.start, part.stop) for name, part in t.slices().items() if name not in seen]
    return np.concatenate([np.zeros(0, int), *parts])


def _taught(teacher: Network, data: Data, loss: Loss) -> tuple[np.ndarray, np.ndarray]:
    """Targets (samples, 1 + n), label and logits of the teacher's ideal run, and the spikes (samples, N) of its neurons."""
    size = max(1, MOST_TAUGHT // (data.x.shape[1] * max(1, teacher.n_neurons)))
    targets, counts = [], []
    logits_of = jax.jit(lambda out: loss.logits(out))
    for k in range(0, len(data), size):
        found = simulate(teacher, data.x[k : k + size], ideal=True)
        logits = np.asarray(logits_of(np.asarray(found.output, np.float32)))
        targets.append(np.concatenate([data.y[k : k + size, None], logits], axis=1).astype(np.float32))
        counts.append(np.concatenate([found.spikes[p.name].sum(1) for p in teacher.populations], axis=1))
    return np.concatenate(targets), np.concatenate(counts).astype(np.float32)


def _counts_only(t: Topology) -> bool:
    """Whether what the host reads out are sums of spikes: nothing is negative."""
    linear = all(p.kind == "Linear" for p in t.readout.populations)
    return linear and all((q.weight >= 0).all() and q.bias is None for q in t.readout.projections)


def _copies(teacher: Network, t: Topology) -> tuple[int, ...]:
    """How many neurons stand for one of the teacher in each population: its copies, times as many as `replicate` made."""
    names, sizes = [p.name for p in teacher.populations], t.node_sizes
    ratios = {sizes[name] / p.size for name, p in zip(names, teacher.populations, strict=True) if name in sizes}
    ratio = min(ratios, default=0.0)
    if names != list(sizes) or len(ratios) != 1 or ratio != int(ratio):
        his = ", ".join(f"{p.name!r} ({p.size})" for p in teacher.populations)
        ours = ", ".join(f"{name!r} ({size})" for name, size in sizes.items())
        raise ConfigurationError(
            f"fine_tune: the teacher has populations {his}, the network {ours}. Give a teacher with the same ones, or of "
            "which the network has copies (replicate)."
        )
    return tuple(int(ratio) * t.copies_of[name] for name in names)


def _spikes(teacher: Network, x: np.ndarray) -> np.ndarray:
    """Spikes (B, T, N) of all populations of the teacher's ideal run, in their order."""
    recording = simulate(teacher, x, ideal=True)
    return np.concatenate([recording.spikes[p.name] for p in teacher.populations], axis=2).astype(np.uint8)
