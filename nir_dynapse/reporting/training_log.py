"""`TrainingLog`: what a training run measured in every logged step; as arrays, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.files.bounds import LINE_ENDS, UnreadableError, read_text
from nir_dynapse.files.whole import write_atomically
from nir_dynapse.network.network import freeze
from nir_dynapse.reporting.plots import Panel, lines_svg

__all__ = ["TrainingLog"]

NEEDED = ("step", "loss")
LABELS = {"accuracy": "training", "held_out": "held-out chips", "held_out_low": "held-out chips, 5 % quantile"}
LOGARITHMIC = 20.0
"""Largest over smallest loss from which the picture has a logarithmic axis."""
MOST_BYTES, MOST_STEPS = 1 << 24, 1 << 18
"""Of a file: each step has some 100 bytes there, and a kilobyte while it is read."""
REMEDY = "Give a CSV file that TrainingLog.save wrote."


LARGEST_STEP = 2**53
"""Of a table, whose numbers are float64."""


def _none() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class TrainingLog:
    """One entry per logged step, arrays (steps,) in order; read-only, equal by value, empty unless told otherwise.

    `step` (int, ascending), `loss`, `accuracy` in training (a share, NaN where unknown), `held_out` and `held_out_low` the
    accuracy on held-out virtual chips and its 5 % quantile (NaN between checks), `score` what the best state was chosen by
    (the last of the highest; NaN where a state could not be chosen), `learning_rate`, `seconds` since the start. Raises
    ParameterRangeError for arrays of different length and steps that do not ascend.
    """

    step: np.ndarray = field(default_factory=_none)
    loss: np.ndarray = field(default_factory=_none)
    accuracy: np.ndarray = field(default_factory=_none)
    held_out: np.ndarray = field(default_factory=_none)
    held_out_low: np.ndarray = field(default_factory=_none)
    score: np.ndarray = field(default_factory=_none)
    learning_rate: np.ndarray = field(default_factory=_none)
    seconds: np.ndarray = field(default_factory=_none)

    def __repr__(self) -> str:
        return f"TrainingLog({len(self)} entries{f', to step {self.step[-1]}' if len(self) else ''})"

    def __post_init__(self) -> None:
        for name in COLUMNS:
            dtype = np.int64 if name == "step" else np.float64
            object.__setattr__(self, name, freeze(getattr(self, name), dtype).reshape(-1))
        others = {name: len(value) for name in COLUMNS if len(value := getattr(self, name)) != len(self)}
        if others:
            listed = ", ".join(f"{n} of {name}" for name, n in others.items())
            raise ParameterRangeError(f"TrainingLog: {len(self)} steps, but {listed}. Give one value per step.")
        falls = np.flatnonzero(np.diff(self.step) <= 0)
        if len(falls):
            before, after = self.step[falls[0] : falls[0] + 2]
            raise ParameterRangeError(f"TrainingLog: step {after} comes after step {before}. Give ascending steps.")

    def __len__(self) -> int:
        """Number of logged steps."""
        return len(self.step)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainingLog) and all(
            np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True) for name in COLUMNS
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType] - equal by value, and only for looking at

    def append(self, row: Mapping[str, Any]) -> TrainingLog:
        """The log with one more step: `step` and `loss`, and of the other columns those that are known, by name.

        Raises ParameterRangeError for names that are no columns, and where the step is not higher than the last.
        """
        unknown, missing = set(row) - set(COLUMNS), set(NEEDED) - set(row)
        if unknown or missing:
            got = f"holds {', '.join(map(repr, sorted(unknown)))}" if unknown else f"lacks {', '.join(sorted(missing))}"
            raise ParameterRangeError(f"TrainingLog: a row {got}. Give step, loss and any of {', '.join(COLUMNS[2:])}.")
        return TrainingLog(**{name: np.append(getattr(self, name), row.get(name, math.nan)) for name in COLUMNS})

    def table(self) -> np.ndarray:
        """Everything as one array (steps, 8) of float64, the columns in order."""
        return np.stack([getattr(self, name).astype(np.float64) for name in COLUMNS], 1)

    @classmethod
    def of(cls, table: np.ndarray) -> TrainingLog:
        """The inverse of `table` (ParameterRangeError for another shape)."""
        if table.ndim != 2 or table.shape[1] != len(COLUMNS) or table.dtype.kind not in "fiu":
            raise ParameterRangeError(
                f"TrainingLog: a table of {table.dtype} of shape {table.shape}, needed are numbers of shape "
                f"(steps, {len(COLUMNS)}). Give one that TrainingLog.table made."
            )
        strange = table[~((np.abs(table[:, 0]) <= LARGEST_STEP) & (table[:, 0] == np.floor(table[:, 0]))), 0]
        if len(strange):
            raise ParameterRangeError(f"TrainingLog: a table with step {strange[0]}. Give whole numbers.")
        return cls(**dict(zip(COLUMNS, table.T, strict=True)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as CSV with a header, complete or not at all; NaN is an empty field (ConfigurationError)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True):
            writer.writerow(["" if math.isnan(value) else repr(value) for value in row])
        write_atomically(path, text.getvalue().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainingLog:
        """Read what `save` wrote, bit for bit (ConfigurationError otherwise)."""
        try:
            text = read_text(path, MOST_BYTES)
            if (count := max(text.count(mark) for mark in LINE_ENDS)) > MOST_STEPS:
                raise UnreadableError(f"{count} lines, at most {MOST_STEPS} are read")
            lines = list(csv.reader(text.splitlines()))
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
        except (UnreadableError, csv.Error) as error:
            raise ConfigurationError(f"{path}: not a CSV file in UTF-8 ({error}). {REMEDY}") from error
        header = ",".join(lines[0]) if lines else ""
        if header != ",".join(COLUMNS):
            raise ConfigurationError(
                f"{path}: the first line is {header[:80]!r}, needed is {','.join(COLUMNS)!r}. {REMEDY}"
            )
        rows = [_row(f"{path}: line {number}", cells) for number, cells in enumerate(lines[1:], 2)]
        try:
            return cls(**{name: np.array([row[k] for row in rows]) for k, name in enumerate(COLUMNS)})
        except ParameterRangeError as error:
            raise ConfigurationError(f"{path}: {error} {REMEDY}") from error

    def plot(self, path: str | os.PathLike[str], *, title: str = "Training") -> None:
        """Write an SVG of the loss and the accuracies against the step (ConfigurationError where it cannot be written)."""
        losses = self.loss[np.isfinite(self.loss)]
        wide = bool(losses.size and losses.min() > 0 and losses.max() > LOGARITHMIC * losses.min())
        known = {label: v for name, label in LABELS.items() if np.isfinite(v := getattr(self, name)).any()}
        # Without classes a check has a score that is no share.
        share = all(np.nanmin(v) >= 0 and np.nanmax(v) <= 1 for v in known.values())
        panels = (
            Panel("loss", {"loss": (self.step, self.loss)}, log=wide),
            Panel("accuracy" if share else "score", {k: (self.step, v) for k, v in known.items()}, percent=share),
        )
        write_atomically(path, lines_svg(panels, title=title, x_label="step").encode())


COLUMNS = tuple(f.name for f in fields(TrainingLog))


def _row(where: str, cells: list[str]) -> list[int | float]:
    if len(cells) != len(COLUMNS):
        raise ConfigurationError(f"{where} has {len(cells)} fields, needed are {len(COLUMNS)}. {REMEDY}")
    try:
        step = int(cells[0])
        if abs(step) >= 2**63:
            raise ValueError("the step is out of range")
        return [step, *(math.nan if cell == "" else float(cell) for cell in cells[1:])]
    except ValueError as error:
        raise ConfigurationError(f"{where} is damaged ({error}). {REMEDY}") from error
