"""Accuracies on many virtual chips in a report: the numbers of each run side by side, and their distributions as text.

A run is a dictionary as `Evaluation.to_dict` gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nir_dynapse.errors import ConfigurationError
from nir_dynapse.reporting.conversion_table import Table
from nir_dynapse.reporting.plots import distribution_text

__all__ = ["checked_chips", "chips_change", "chips_table", "chips_text", "chips_title"]

NUMBERS = ("median", "quantile_5", "minimum", "nominal")
NEEDED = (*NUMBERS, "quartiles", "devices", "samples", "accuracy", "seeds")

Runs = Mapping[str, Mapping[str, Any]]


def checked_chips(runs: Runs) -> dict[str, dict[str, Any]]:
    """`runs` as plain dictionaries; ConfigurationError where one lacks a number, or its accuracies are no shares."""
    for name, run in runs.items():
        missing = [key for key in NEEDED if key not in run] if isinstance(run, Mapping) else [type(run).__name__]
        if missing:
            raise ConfigurationError(
                f"virtual_chips: {name!r} lacks {', '.join(missing)}. Give what Evaluation.to_dict returns."
            )
        values = np.asarray(run["accuracy"], float)
        if values.ndim != 1 or not len(values) == len(run["seeds"]) == run["devices"] > 0:
            raise ConfigurationError(
                f"virtual_chips: {name!r} has accuracies of shape {values.shape} and {len(run['seeds'])} seeds of "
                f"{run['devices']} chips. Give what Evaluation.to_dict returns."
            )
        if not ((values >= 0) & (values <= 1)).all():
            raise ConfigurationError(
                f"virtual_chips: accuracies of {name!r} are {values.min():g} to {values.max():g}, allowed are 0 to 1. "
                "Give what Evaluation.to_dict returns."
            )
    return {name: dict(run) for name, run in runs.items()}


def chips_title(runs: Runs) -> str:
    """The heading: with the number of chips where all runs have the same."""
    numbers = {run["devices"] for run in runs.values()}
    if len(numbers) > 1:
        return "On virtual chips"
    (number,) = numbers
    return f"On {number} virtual chip{'' if number == 1 else 's'}"


def chips_table(runs: Runs) -> Table:
    """The numbers of each run."""
    header = ("run", "chips", "samples", "median", "quartiles", "5 % quantile", "minimum", "no mismatch")
    cells = (
        (
            name,
            str(run["devices"]),
            str(run["samples"]),
            _percent(run["median"]),
            " to ".join(_percent(value) for value in run["quartiles"]),
            *(_percent(run[key]) for key in NUMBERS[1:]),
        )
        for name, run in runs.items()
    )
    return Table(header, tuple(cells), "<>>>>>>>")


def chips_text(runs: Runs, width: int = 100) -> str:
    """The numbers of each run, what the last is better than the first on the same chips, and the histograms."""
    parts = [chips_table(runs).text]
    if change := chips_change(runs):
        parts.append("  " + change.replace(" points; of ", " points;\n  of "))
    parts.append("\n" + distribution_text({name: run["accuracy"] for name, run in runs.items()}, width=width))
    return "\n".join(parts)


def chips_change(runs: Runs) -> str:
    """What the last run is better than the first, chip by chip where they are the same; nothing for a single one."""
    if len(runs) < 2:
        return ""
    (first, before), *_, (last, after) = runs.items()
    median, low = (100 * (after[key] - before[key]) for key in ("median", "quantile_5"))
    text = f"{last} against {first}: median {median:+.1f}, 5 % quantile {low:+.1f} percentage points"
    if list(before["seeds"]) != list(after["seeds"]) or before["samples"] != after["samples"]:
        return text  # other chips, or other data: nothing to compare one by one
    gains = np.asarray(after["accuracy"], float) - np.asarray(before["accuracy"], float)
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    return f"{text}; of {len(gains)} chips {better} are better, {worse} worse, {len(gains) - better - worse} equal"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
