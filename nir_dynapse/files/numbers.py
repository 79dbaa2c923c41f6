"""Numbers that somebody asks for, with limits on both sides: one table for the command line and for calls.

`Whole` and `Real` say in words what is allowed and refuse the rest: text, booleans, NaN, infinity, complex numbers. Nothing
heavy is imported, so that the command line answers wrong usage at once.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nir_dynapse.errors import ParameterRangeError

__all__ = [
    "BATCH",
    "CLIP",
    "COMPARED",
    "COPIES",
    "CV",
    "DEVICES",
    "DROPOUT",
    "DURATION",
    "KEY",
    "LEARNING_RATE",
    "MINUTES",
    "NOISE",
    "PART",
    "PER_STEP",
    "PLACE_SECONDS",
    "PROBES",
    "SEED",
    "SIZE",
    "SLOPE",
    "STEP",
    "STEPS",
    "TIME_SCALE",
    "TOLERANCE",
    "WEIGHT",
    "WORST",
    "Real",
    "Whole",
    "shown",
]

CHOOSE = "Choose one of them."


@dataclass(frozen=True)
class Whole:
    """The whole numbers from `low` to `high`."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"whole numbers from {self.low} to {self.high}"

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of them: an int or a NumPy integer, no boolean."""
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            return False
        return self.low <= int(value) <= self.high

    def check(
        self,
        who: str,
        name: str,
        value: Any,
        hint: str = CHOOSE,
        error: Callable[[str], Exception] = ParameterRangeError,
    ) -> int:
        """`value` as an int; `error` "who: name is …, allowed are …" for anything else."""
        number = _plain(value)
        if not self.holds(number):
            raise error(f"{who}: {name} is {shown(value)}, allowed are {self}. {hint}".rstrip())
        return int(number)


@dataclass(frozen=True)
class Real:
    """The numbers from `low` (or, with `above`, above it) up to `high`, in `unit`."""

    low: float
    high: float
    unit: str = ""
    above: bool = False

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"numbers {'above' if self.above else 'from'} {self.low:g} up to {self.high:g}{unit}"

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of them: an int, a float or a number of NumPy, no boolean."""
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            return False
        try:
            number = float(value)
        except OverflowError:  # an integer beyond float64
            return False
        return (self.low < number if self.above else self.low <= number) and number <= self.high

    def check(
        self,
        who: str,
        name: str,
        value: Any,
        hint: str = CHOOSE,
        error: Callable[[str], Exception] = ParameterRangeError,
    ) -> float:
        """`value` as a float; `error` "who: name is …, allowed are …" for anything else."""
        number = _plain(value)
        if not self.holds(number):
            raise error(f"{who}: {name} is {shown(value)}, allowed are {self}. {hint}".rstrip())
        return float(number)


def _plain(value: Any) -> Any:
    """What a scalar array of NumPy or JAX holds; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def shown(value: Any) -> str:
    """A value as it may stand in a message: on one line, and not for pages."""
    try:
        text = repr(float(value)) if isinstance(value, float) else repr(value)
    except ValueError:
        text = "an integer of thousands of digits"
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


SEED = Whole(0, 2**62)
"""Seeds: of virtual chips, of everything random."""
KEY = Whole(0, 2**31 - 1)
"""Seeds of a training: JAX makes its keys of 32 bits."""
STEP = Real(1e-9, 1e3, "s")
"""Widths of a bin and steps of a network: a nanosecond to some minutes."""
DURATION = Real(0, 2000, "s", above=True)
"""Length of a run: a board tells timestamps apart up to half of its 32-bit clock in µs."""
TIME_SCALE = Real(1e-12, 1e12)
"""Real seconds per second of a file."""
DEVICES = Whole(1, 10**7)
"""Virtual chips of an evaluation."""
PER_STEP = Whole(1, 10**6)
"""Virtual chips of a step of training."""
STEPS = Whole(1, 10**9)
"""Steps of training, steps between two checks, checks without a better one."""
MINUTES = Real(0, 10_000, "min", above=True)
"""How long a training may take."""
BATCH = Whole(1, 10**6)
"""Samples that each chip sees in a step of training."""
PLACE_SECONDS = Real(0, 1e6, "s", above=True)
"""Time for finding better places."""
CV = Real(0, 1e300)
"""A standard deviation over its mean: factors are positive and finite at any."""
NOISE = Real(0, 1e3)
"""A standard deviation as a fraction of the threshold."""
TOLERANCE = Real(0, 1e3)
"""The largest relative change of a bias."""
PART = Real(0, 1)
"""Shares and probabilities."""
LEARNING_RATE = Real(0, 1e3, above=True)
"""Learning rates."""
SLOPE = Real(1e-3, 1e6)
"""Slope of a surrogate."""
CLIP = Real(0, 1e9, above=True)
"""Norm at which gradients are cut."""
COMPARED = Whole(0, DEVICES.high)
"""Virtual chips of a comparison; 0 for none."""
COPIES = Whole(1, 1024)
"""Neurons of the chip that stand for one of a network: at most what a chip holds."""
PROBES = Whole(1, 256)
"""Neurons of each core that a calibration asks."""
DROPOUT = Real(0, 0.95)
"""Share of the hidden neurons that is silent."""
WORST = Real(1e-9, 1)
"""Share of the chips that counts."""
WEIGHT = Real(0, 1e6)
"""What a part of a loss is weighed by."""
SIZE = Real(0, 10, above=True)
"""Size of an attack, relative."""
