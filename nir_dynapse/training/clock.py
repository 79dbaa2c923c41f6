"""How long a training goes on: its steps, its checks with what they write, and what comes after the last step."""

from __future__ import annotations

import re
import time

__all__ = ["Clock", "later", "left_text"]

LEFT = re.compile(r"(\d+) s left$")

BACKWARDS = 3.0
"""What a run with gradients costs, in runs without."""


class Clock:
    """Tells the s that are left of a training of `steps` steps with a check every `every` steps and one at the end.

    The first step and the first check compile, which measures none of the others. Before a second check was timed, a check
    is taken as the `work` that it is, in runs (chips times samples) of the step's own; once training is over, the start is
    checked for comparison, and what was found is written.
    """

    def __init__(self, steps: int, every: int, work: float, step: int = 0) -> None:
        self.steps, self.every, self.work, self.step = steps, every, work, step
        self.begun = self.since = time.monotonic()
        self.compiling = 0.0
        self.stepping, self.stepped_ = 0.0, 0
        self.checking, self.checks = 0.0, 0

    def stepped(self, step: int) -> None:
        """All steps up to number `step` are done, what they gave is there."""
        now = time.monotonic()
        if not self.compiling:
            self.compiling = now - self.since
        else:
            self.stepping, self.stepped_ = self.stepping + now - self.since, self.stepped_ + step - self.step
        self.step, self.since = step, now

    def checked(self) -> None:
        """A check is done, and everything that belongs to it is written."""
        now = time.monotonic()
        if self.checks == 1:
            self.checking = 0.0  # the first one compiled
        self.checking, self.checks = self.checking + now - self.since, self.checks + 1
        self.since = now

    @property
    def each_step(self) -> float:
        """s that a step takes; the first one, which compiled, stands in where it is the only one."""
        return self.stepping / self.stepped_ if self.stepped_ else self.compiling

    @property
    def each_check(self) -> float:
        """s that a check takes, with what it writes."""
        if self.checks > 1:
            return self.checking / (self.checks - 1)
        guess = self.each_step * self.work / BACKWARDS
        return min(guess, self.checking) if self.checks else guess

    def left(self) -> float:
        """s until all is written: steps, checks, and what compiles on the way."""
        checks = -(-self.steps // self.every) - self.step // self.every if self.step < self.steps else 0
        compiles = 0.0 if self.checks else max(self.compiling - self.each_step, 0.0)
        return self.each_step * (self.steps - self.step) + self.each_check * (checks + 1) + compiles

    def taken(self) -> float:
        """s since it began."""
        return time.monotonic() - self.begun


def left_text(seconds: float) -> str:
    """How a line of progress says what is left."""
    return f"{seconds:.0f} s left"


def later(line: str, seconds: float) -> str:
    """A line of progress of a training after which something else takes `seconds`: until all of it is done."""
    return LEFT.sub(lambda found: left_text(int(found[1]) + seconds), line)
