"""`evaluate`: the accuracy of a network on many virtual chips, and its statistics; checkpoints to go on after a stop."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch, check_mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.data import Data
from nir_dynapse.data.recording import Decision
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.evaluation.checks import check_data, check_decision, check_file, described, score
from nir_dynapse.files.bounds import read_arrays
from nir_dynapse.files.numbers import DEVICES, PART, SEED, Whole
from nir_dynapse.files.whole import locked, write_arrays
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network, freeze
from nir_dynapse.sim import ensemble

__all__ = ["Evaluation", "described", "digest", "evaluate", "kept"]

FORMAT = "nir_dynapse.evaluation 1"
PARTS = ("thing", "data", "mismatch", "key", "device", "version")
"""What a checkpoint belongs to, each with a digest; the number of chips may change from call to call."""
COLUMNS = ("correct", "ties", "silent")
TIMED = (*COLUMNS, "first_spike")
"""Columns where the first spike decides, too."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Accuracy (correct samples / samples) on each of many virtual chips, arrays in the order of their `seeds`.

    `ties` and `silent` count samples as `Accuracy` does; `nominal` is the accuracy of the circuit without mismatch.
    `first_spike` are the accuracies where the first spike decides, `nominal_first_spike` that without mismatch (None where
    they were not asked for).
    """

    accuracy: np.ndarray
    seeds: np.ndarray
    ties: np.ndarray
    silent: np.ndarray
    samples: int
    nominal: float
    first_spike: np.ndarray | None = None
    nominal_first_spike: float | None = None

    def __post_init__(self) -> None:
        for name, dtype in (("accuracy", np.float64), ("seeds", np.int64), ("ties", np.int64), ("silent", np.int64)):
            object.__setattr__(self, name, freeze(getattr(self, name), dtype))
        if self.first_spike is not None:
            object.__setattr__(self, "first_spike", freeze(self.first_spike, np.float64))

    def __repr__(self) -> str:
        low, middle = (
            (100 * float(np.quantile(self.accuracy, q)) for q in (0.0, 0.5)) if len(self) else (np.nan, np.nan)
        )
        return f"Evaluation({len(self)} chips, {self.samples} samples; median {middle:.1f} %, minimum {low:.1f} %)"

    def __len__(self) -> int:
        """Number of chips."""
        return len(self.seeds)

    def quantile(self, share: float) -> float:
        """The accuracy that `share` (0 to 1) of the chips stay below, linearly interpolated."""
        return float(np.quantile(self.accuracy, PART.check("Evaluation.quantile", "share", share)))

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    @property
    def quartiles(self) -> tuple[float, float]:
        return self.quantile(0.25), self.quantile(0.75)

    @property
    def minimum(self) -> float:
        return float(self.accuracy.min())

    @property
    def mean(self) -> float:
        return float(self.accuracy.mean())

    @property
    def worst(self) -> int:
        """Seed of the chip with the lowest accuracy, the first of them."""
        return int(self.seeds[self.accuracy.argmin()])

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary: the statistics, then every chip."""
        low, high = self.quartiles
        return {
            "devices": len(self),
            "samples": self.samples,
            "nominal": self.nominal,
            "median": self.median,
            "quartiles": [low, high],
            "quantile_5": self.quantile(0.05),
            "minimum": self.minimum,
            "mean": self.mean,
            "worst": self.worst,
            **{name: getattr(self, name).tolist() for name in ("seeds", "accuracy", "ties", "silent")},
            **self._by_first_spike(),
        }

    def _by_first_spike(self) -> dict[str, Any]:
        if self.first_spike is None:
            return {}
        return {
            "first_spike": {
                "nominal": self.nominal_first_spike,
                "median": float(np.median(self.first_spike)),
                "quantile_5": float(np.quantile(self.first_spike, 0.05)),
                "minimum": float(self.first_spike.min()),
                "accuracy": self.first_spike.tolist(),
            }
        }

    def __str__(self) -> str:
        def percent(value: float) -> str:
            return f"{100 * value:.1f} %"

        low, high = self.quartiles
        last = f" to {self.seeds[-1]}" if len(self) > 1 else ""
        rows = (
            ("median", percent(self.median)),
            ("quartiles", f"{percent(low)} to {percent(high)}"),
            ("5 % quantile", percent(self.quantile(0.05))),
            ("minimum", f"{percent(self.minimum)} (virtual:{self.worst})"),
            ("mean", percent(self.mean)),
            ("no mismatch", percent(self.nominal)),
            ("ties, silent", f"{percent(self._share(self.ties))}, {percent(self._share(self.silent))} of the samples"),
        )
        by_time = self._by_first_spike().get("first_spike")
        if by_time:
            low, middle, nominal = (percent(by_time[name]) for name in ("quantile_5", "median", "nominal"))
            rows += (("first spike", f"{middle} (median), {low} (5 % quantile), {nominal} (no mismatch)"),)
        chips = f"{len(self)} virtual chip{'s' if len(self) > 1 else ''} (virtual:{self.seeds[0]}{last})"
        return "\n".join(
            [f"Accuracy on {chips}, {self.samples} samples", *(f"  {name:<13} {value}" for name, value in rows)]
        )

    def _share(self, counts: np.ndarray) -> float:
        return float(counts.mean() / self.samples)


def evaluate(
    thing: Network | Params | Layout,
    data: Data,
    *,
    devices: int = 100,
    mismatch: Mismatch | None = None,
    key: int = 0,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: Device = DYNAPSE2,
    memory: int = ensemble.BYTES,
    decide: Decision = "counts",
) -> Evaluation:
    """Accuracy of `thing` on `data` on the virtual chips `key`, `key` + 1, ..., one for each of `devices`.

    Chip k is that of `open_board("virtual:k")` and of `simulate(..., key=k)`; `mismatch` is the device's by default. Uses
    all JAX devices, of all processes under `jax.distributed` (call it in each with the same arguments); the numbers do
    not depend on how many there are. `memory` is what one program may take of a JAX device, in bytes.

    The class is the output neuron with the most spikes. With `decide="first-spike"` the accuracies where the first spike
    decides (`Recording.first_spikes`) are told beside these, for networks that were trained for it.

    `progress("chips", fraction)` is called at the start and after every round of chips. `checkpoint` names an .npz file
    that holds the chips so far; the same call goes on where it stopped, also with more `devices`. Raises
    ConfigurationError or ParameterRangeError where the data does not fit or the checkpoint is that of something else.
    """
    tell = progress or (lambda stage, fraction: None)
    devices, key = DEVICES.check("evaluate", "devices", devices), SEED.check("evaluate", "key", key)
    memory = Whole(1, 2**62).check("evaluate", "memory", memory, "Give bytes.")
    check_mismatch("evaluate", mismatch)
    mismatch = device.mismatch if mismatch is None else mismatch
    if not isinstance(data, Data):
        raise ConfigurationError(f"evaluate: the data is a {type(data).__name__}. Give Data(x, y, dt).")
    params = as_params(thing, device)
    check_data(data, thing)
    check_decision("evaluate", decide, thing)
    timed, columns = decide != "counts", COLUMNS if decide == "counts" else TIMED

    values = (params, data, mismatch, key, device, version("nir-dynapse"))
    digests = {name: digest(value) for name, value in zip(PARTS, values, strict=True)}
    path = None if checkpoint is None else Path(checkpoint)
    _same_everywhere((digests, devices, memory, path is None, timed))
    row = {ensemble.NOMINAL: 0, **{key + k: k + 1 for k in range(devices)}}
    with kept(path):
        stored = _resumed(path, digests, devices, len(data), columns)
        table = stored[: devices + 1]
        missing = [number for number, k in row.items() if table[k, 0] < 0]
        tell("chips", float((table[1:, 0] >= 0).mean()))
        for counted in ensemble.output_counts(params, data.x, data.dt, mismatch, missing, memory, timed):
            found = np.full_like(table, -1)
            for number, counts in counted.items():
                counts, first = (counts[..., 0], counts[..., 1]) if timed else (counts, None)
                result = score(f"virtual:{number}", counts, data.y, first=first)
                found[row[number]] = [getattr(result, name) for name in columns]
            np.maximum(table, ensemble.gather(found).max(0), out=table)
            if path is not None and ensemble.is_first_process():
                _save(path, digests, stored)
            tell("chips", float((table[1:, 0] >= 0).mean()))

    correct, ties, silent, *first_spike = table[1:].T
    seeds = key + np.arange(devices)
    found = Evaluation(correct / len(data), seeds, ties, silent, len(data), float(table[0, 0] / len(data)))
    if not timed:
        return found
    return replace(found, first_spike=first_spike[0] / len(data), nominal_first_spike=float(table[0, 3] / len(data)))


def digest(value: Any) -> str:
    h = hashlib.sha256()
    _feed(h, value)
    return h.hexdigest()


def _feed(h: Any, value: Any) -> None:
    """Everything that the numbers depend on, in order; findings and cached values are left out."""
    if is_dataclass(value):
        h.update(f"{type(value).__name__}(".encode())
        for field in fields(value):
            if field.name != "findings":
                h.update(field.name.encode())
                _feed(h, getattr(value, field.name))
        h.update(b")")
    elif isinstance(value, dict):
        _feed(h, tuple(sorted(value.items())))
    elif isinstance(value, (tuple, list)):
        h.update(f"[{len(value)}".encode())
        for item in value:
            _feed(h, item)
    elif value is None or isinstance(value, (str, int, float, bool)):
        h.update(f"{type(value).__name__}:{value!r};".encode())
    else:
        array = np.ascontiguousarray(np.asarray(value))
        h.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())


def _same_everywhere(arguments: Any) -> None:
    """ConfigurationError on every process where the processes were called with different arguments."""
    digests = ensemble.gather(np.frombuffer(bytes.fromhex(digest(arguments)), np.uint8))
    other = np.flatnonzero((digests != digests[0]).any(1))
    if len(other):
        raise ConfigurationError(
            f"evaluate: process {other[0]} was called with other arguments than process 0. Call it with the same network, "
            "data and options in every process."
        )


@contextmanager
def kept(path: Path | None) -> Iterator[None]:
    """Keeps other runs from a checkpoint, of which the last would win; ConfigurationError in all processes of this one."""
    with ExitStack() as stack:
        refused = None
        if path is not None and ensemble.is_first_process():
            try:
                check_file(path)
                stack.enter_context(locked(path))
            except ConfigurationError as error:
                refused = error
        if ensemble.gather(np.array([refused is not None], np.int32))[0, 0]:
            raise refused or ConfigurationError(f"process 0 refused the checkpoint {path}. See its message.")
        yield


def _resumed(
    path: Path | None, digests: dict[str, str], devices: int, samples: int, columns: tuple[str, ...]
) -> np.ndarray:
    """The table (chip, column) so far, -1 where nothing is known; row 0 is the nominal chip. Process 0 reads the file."""
    table, refused = np.full((devices + 1, len(columns)), -1, np.int32), None
    if path is not None and ensemble.is_first_process():
        try:
            known = _load(path, digests, samples, columns)
            table = np.concatenate([known, table[len(known) :]])
        except ConfigurationError as error:
            refused = error
    if ensemble.gather(np.array([refused is not None], np.int32))[0, 0]:
        raise refused or ConfigurationError(f"evaluate: process 0 refused the checkpoint {path}. See its message.")
    table[: devices + 1] = ensemble.gather(table[: devices + 1])[0]
    return table


def _load(path: Path, digests: dict[str, str], samples: int, columns: tuple[str, ...]) -> np.ndarray:
    """The table of a checkpoint, empty where there is none; ConfigurationError where it is not that of this call."""
    check_file(path)
    if not path.exists():
        return np.zeros((0, len(columns)), np.int32)
    advice = "Give another file for the checkpoint, or delete this one to start anew."
    try:
        arrays = read_arrays(path)
        table, made, format_ = arrays["table"], arrays["digests"], str(arrays["format"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{path}: not a checkpoint of evaluate ({error}). {advice}") from error
    sound = (
        format_ == FORMAT
        and made.shape == (len(PARTS),)
        and table.dtype == np.int32
        and table.shape[1:] in ((len(COLUMNS),), (len(TIMED),))
        and ((table >= 0) | (table == -1)).all()
        and ((table < 0).all(1) == (table < 0).any(1)).all()
    )
    if not sound:
        raise ConfigurationError(f"{path}: not a checkpoint of this version of evaluate. {advice}")
    other = [name for name, digest in zip(PARTS, made, strict=True) if digest != digests[name]]
    other += [] if table.shape[1] == len(columns) else ["decide"]
    if other:
        raise ConfigurationError(
            f"{path}: the checkpoint of another evaluation; it was made with another {', '.join(other)}. {advice}"
        )
    if table.max(initial=0) > samples:
        raise ConfigurationError(f"{path}: counts {table.max()} of {samples} samples; it is damaged. {advice}")
    return table


def _save(path: Path, digests: dict[str, str], table: np.ndarray) -> None:
    write_arrays(path, table=table, digests=np.array(list(digests.values())), format=np.array(FORMAT))
