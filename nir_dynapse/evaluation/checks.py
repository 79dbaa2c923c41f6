"""What `deploy`, `evaluate` and `fine_tune` ask of data and of places for files, and how they score an answer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from nir_dynapse.circuit.params import Params
from nir_dynapse.data.counts import check_values
from nir_dynapse.data.data import Data
from nir_dynapse.data.images import check_image
from nir_dynapse.data.recording import DECISIONS
from nir_dynapse.errors import ConfigurationError, Finding, ParameterRangeError
from nir_dynapse.files.whole import check_target
from nir_dynapse.import_.checks import likely
from nir_dynapse.import_.frontends import profile_of
from nir_dynapse.import_.timing import TIME_UNITS, gain_step, rescaled
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.names import own_names
from nir_dynapse.network.network import Network
from nir_dynapse.reporting.tables import Accuracy, steps

__all__ = [
    "check_data",
    "check_decision",
    "check_file",
    "check_output",
    "check_params",
    "described",
    "earliest",
    "losses",
    "score",
]

LOST = 0.05
"""Share of the samples that a stage may lose without a word, unless it is within two standard errors."""
FINE_TUNE = "Fine-tune it in the model of the circuits (--train TRAIN.npz, deploy(train=...))"
TRAIN_ROWS = (
    "--train TRAIN.npz (deploy(train=...)) trains onto the rows that the chip has, and chooses them by that data"
)
STAGES = {
    "pooled": (
        "adding up input channels",
        "Add up fewer, or train the network on what is left (--train TRAIN.npz)",
        "",
    ),
    "circuit": (
        "the mapping to circuits",
        FINE_TUNE,
        "What maps best has synapses with a time constant of their own, resets to zero, inhibition that comes together "
        "with excitation, and little constant input.",
    ),
    "pruned": ("pruning alone, to the CAM rows of each neuron,", TRAIN_ROWS, ""),
    "copied": ("sharing synapses between copies", FINE_TUNE, ""),
    "quantised": (
        "rounding to masks and codes",
        FINE_TUNE,
        "Fewer different weights per core cost less; so does --second-range.",
    ),
    "on this chip": (
        "the mismatch of this chip",
        FINE_TUNE,
        "Training under mismatch makes a network work on most chips.",
    ),
}
"""Steps of the accuracy table: what takes accuracy away from the row before, what wins it back, and what else helps."""


def score(
    name: str,
    counts: np.ndarray,
    labels: np.ndarray,
    ideal: np.ndarray | None = None,
    spikes: bool | None = None,
    first: np.ndarray | None = None,
) -> Accuracy:
    """Accuracy of output spike counts (sample, class) against labels (sample,); `ideal` are the counts to agree with.

    For a readout on the host they are its values summed over time; `spikes` says which they are (None: spikes are whole
    numbers, as they are where one neuron of the chip stands for one of the network). `first` (sample, class) are times of
    first spikes in s, by which another accuracy is told.
    """
    spikes = not np.issubdtype(counts.dtype, np.floating) if spikes is None else spikes
    chosen = counts.argmax(1)
    most = counts.max(1)
    return Accuracy(
        name,
        correct=int((chosen == labels).sum()),
        total=len(labels),
        agreement=float((chosen == (counts if ideal is None else ideal).argmax(1)).mean()),
        ties=int((((counts == most[:, None]).sum(1) > 1) & (counts != 0).any(1)).sum()),
        silent=int((counts == 0).all(1).sum()),
        rate=float(counts.mean()) if spikes else float("nan"),
        first_spike=None if first is None else int((earliest(first, counts) == labels).sum()),
    )


def check_decision(who: str, decide: Any, thing: Network | Params | Layout) -> None:
    """ConfigurationError where `decide` is none of `DECISIONS`, or the host reads out what should spike first."""
    if decide not in DECISIONS:
        raise ConfigurationError(f"{who}: decide is {decide!r}. Choose one of {', '.join(DECISIONS)}.")
    known: Any = described(thing) if isinstance(thing, Params) else thing
    source = str(known.outputs[0].source)
    if decide == "first-spike" and source in known.readout.names:
        raise ConfigurationError(
            f"{who}: output {source!r} is a readout on the host, which has no first spike. Let counts decide "
            '(decide="counts", --decide counts).'
        )


def earliest(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The class (sample,) that spikes first by the times `first` (sample, class); of several the one with most spikes."""
    return np.where(first <= first.min(1, keepdims=True), counts, -1).argmax(1)


def losses(accuracy: Sequence[Accuracy], *, trained: bool) -> tuple[Finding, ...]:
    """A warning for every step between two runs that costs accuracy, with what helps; `trained`: by fine-tuning.

    The step that costs most comes first and says so. What pruning costs is told however little it is.
    """
    found = []
    for before, after in steps(accuracy):
        if after.name not in STAGES:
            continue
        had, has = before.share, after.share
        error = (max(had * (1 - had), has * (1 - has)) * 2 / max(after.total, 1)) ** 0.5
        lost = had - has >= max(LOST, 2 * error)
        if not lost and after.name != "pruned":
            continue
        cause, remedy, hint = STAGES[after.name]
        if trained and after.name not in ("pooled", "pruned"):
            remedy = "More steps of training, on more chips, may win more of it back"
        what = f"{cause} takes the accuracy from {had:.1%} ({before.name}) to {has:.1%} ({after.name})."
        severity, code = ("warning", "accuracy-lost") if lost else ("info", "pruning")
        hint = f"{remedy}. {hint}".strip()
        found.append((had - has, Finding(severity, code, what, used=round(has, 4), limit=round(had, 4), hint=hint)))
    found.sort(key=lambda pair: -pair[0])
    findings = [finding for _, finding in found]
    if sum(finding.severity == "warning" for finding in findings) > 1:
        findings[0] = replace(findings[0], what=f"{findings[0].what} No other step costs more.")
    return tuple(findings)


def check_data(
    data: Data, thing: Network | Params | Layout, *, labels: bool = True, whole: bool = True
) -> tuple[Finding, ...]:
    """Findings about what `data` means for `thing`; raises ConfigurationError or ParameterRangeError if it does not fit.

    Channels, step, whole event counts (`whole=False`: for an ideal run, which takes values, too) and, unless
    `labels=False`, classes within the output size are checked.
    """
    known: Any = described(thing) if isinstance(thing, Params) else thing
    ports = ", ".join(f"{port.name!r} ({port.size})" for port in known.inputs)
    channels = sum(port.size for port in known.inputs)
    if data.x.size == 0:
        raise ConfigurationError(
            f"the data is empty: x has shape {data.x.shape}. Give at least one sample and one bin."
        )
    check_image(data.shape, known.inputs)
    if data.x.shape[2] != channels:
        raise ConfigurationError(
            f"the data has {data.x.shape[2]} channels (x has shape {data.x.shape}), the network expects {channels} at "
            f"input node {ports}. Give x as (sample, time, {channels})."
        )
    if abs(data.dt - known.dt) > 1e-6 * known.dt:
        raise _step_mismatch(data, known)
    if whole:  # else `Data` has checked what there is to check
        check_values("data", data.x, [(port.name, port.size) for port in known.inputs])
    if not known.outputs:
        raise ConfigurationError(
            "the network has no output node, so there is no accuracy. Mark a population as output."
        )
    output = known.outputs[0]
    size = _output_size(known)
    if labels and data.y.ndim != 1:
        raise ConfigurationError(
            f"the data has trajectories (y has shape {data.y.shape}), an accuracy needs classes. Give y as (sample,), one "
            "integer class for each sample."
        )
    if labels and not 0 <= data.y.min() <= data.y.max() < size:
        wrong = int(data.y.max() if data.y.max() >= size else data.y.min())
        raise ConfigurationError(
            f"the data has class {wrong}, node {output.source!r} has {size} output neurons for classes 0 to {size - 1}. "
            "Check that the data belongs to this network."
        )
    if len(known.outputs) == 1:
        return ()
    others = ", ".join(repr(port.name) for port in known.outputs[1:])
    what = f"the accuracy is that of output node {output.name!r}, the first one; {others} do not count."
    return (Finding("info", "several-outputs", what, node=output.name),)


def described(params: Params) -> Any:
    """What `check_data` asks of a network, of a circuit."""
    t = params.topology
    return SimpleNamespace(
        inputs=t.inputs, outputs=t.outputs, dt=t.dt, origin={}, node_sizes=t.node_sizes, readout=t.readout
    )


def _output_size(thing: Network | Layout) -> int:
    """Neurons of the population that the first output reads."""
    source = str(thing.outputs[0].source)
    if isinstance(thing, Network):
        return thing[source].size
    return thing.node_sizes.get(source) or next(p.size for p in thing.readout.populations if p.name == source)


def _step_mismatch(data: Data, thing: Any) -> ParameterRangeError:
    """The bins of the data are not the steps of the network: both values, and how to bring them together."""
    if isinstance(thing, Network) and "frontend" in thing.origin:
        hint = f"{read_again(thing, data.dt)}, or bin the data to {thing.dt:g} s."
    else:
        again = "compile" if isinstance(thing, Layout) else "make"
        hint = f"Bin the data to {thing.dt:g} s, or read the network for bins of {data.dt:g} s and {again} it again."
    finding = Finding(
        "error",
        "step",
        f"the data has bins of {data.dt:g} s, the network has a step of {thing.dt:g} s; they must be the same time.",
        used=data.dt,
        limit=thing.dt,
        unit="s",
        hint=hint,
    )
    return ParameterRangeError(finding)


def read_again(network: Network, dt: float) -> str:
    """How to read `network` from its file so that its step is `dt` s, without gains that mean another one."""
    scale = float(network.origin.get("time_scale") or 1.0)
    profile = profile_of(network.origin["frontend"])
    step = f"dt={dt / scale:.6g}"
    if profile.clock == "steps":
        return f"Read the network with {step}, the real length of a step"
    populations = [*network.populations, *network.readout.populations]
    unit = scale * TIME_UNITS.get(str(network.origin.get("time_unit")), 1.0)
    wrote = likely(own_names(network), [rescaled(p, 1 / unit) for p in populations]) if profile.name == "spec" else None
    if wrote is not None:
        what = f"Its values are those of {wrote}, in whose files dt is the real length of a step"
        return f'{what}: read the network with frontend="{wrote}" and {step}'
    told = gain_step(populations)
    if told is not None and abs(told - dt) <= 1e-3 * dt:
        return f"Its gains tell a step of {told:.6g} s: read the network with {step}"
    if told is not None:
        scaled = f"time_scale={scale * dt / told:.6g}"
        return f"Its gains tell a step of {told:.6g} s: if a step is {dt:g} s of real time, read it with {scaled} and no dt"
    return (
        f"Read the network with time_scale={scale * dt / network.dt:.6g} if its time constants are meant that much "
        f"{'longer' if dt > network.dt else 'shorter'}, with {step} if that is the step of the framework that it comes from"
    )


def check_params(params: Params, network: Network) -> None:
    """ConfigurationError where `params` are not the circuit of `network`: populations, inputs, outputs and step agree."""
    t = params.topology
    pairs: dict[str, tuple[Any, Any]] = {
        "populations": (list(t.node_sizes.items()), [(p.name, p.size) for p in network.populations]),
        "inputs": ([(p.name, p.size) for p in t.inputs], [(p.name, p.size) for p in network.inputs]),
        "outputs": ([p.source for p in t.outputs], [p.source for p in network.outputs]),
    }
    for what, (got, needed) in pairs.items():
        if got != needed:
            raise ConfigurationError(
                f"the Params have {what} {got}, the network has {needed}. Give the network that they were trained from."
            )
    if abs(t.dt - network.dt) > 1e-6 * network.dt:
        raise ParameterRangeError(
            f"the Params have a step of {t.dt:g} s, the network {network.dt:g} s. Read it as it was read for training."
        )


def check_file(path: Path) -> None:
    """ConfigurationError where `path` cannot become a file; nothing is made."""
    target = check_target(path)
    if not target.parent.is_dir():
        raise ConfigurationError(f"'{path}' cannot be written: there is no folder '{target.parent}'. Make it first.")
    check_output(target.parent, (target.name,))


def check_output(out_dir: str | os.PathLike[str], files: tuple[str, ...]) -> Path:
    """`out_dir` as a path after making sure that `files` can be written there; it is neither made nor changed."""
    out = Path(out_dir)
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(out)  # raises for names that no file can have
        if out.exists() and not out.is_dir():
            raise ConfigurationError(f"'{out}' is not a folder. Choose another place for the results.")
        for name in files:
            check_target(out / name)
        nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        if not nearest.is_dir():
            raise ConfigurationError(f"'{out}' cannot be made: '{nearest}' is not a folder. Choose another folder.")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"folder '{out}' cannot be written ({reason}). Choose another folder.") from error
    return out
