"""What went wrong or was approximated (`Finding`) and the error classes that carry findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

__all__ = [
    "CapacityError",
    "ConfigurationError",
    "DynapseError",
    "Finding",
    "HardwareError",
    "LavaRunError",
    "NotInstalledError",
    "ParameterRangeError",
    "ReaderWarning",
    "UnsupportedGraphError",
    "nearest",
    "raise_if_errors",
    "sort_findings",
    "strictly",
]

Severity = Literal["info", "warning", "error"]
_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Finding:
    """One thing that an arrow had to refuse (error), approximate (warning) or repair (info).

    `node` is the NIR node name, `index` the neuron or channel in it; `used` and `limit` are numbers in `unit`
    (or text where no number applies); `hint` says what to do about it. `count` is how many neurons of the node it is true
    of, where they are several: `index`, `used` and `limit` are those of the worst one then. `copy` is which of the neurons
    that stand for this one it is, where several do.
    """

    severity: Severity
    code: str
    what: str
    node: str | None = None
    index: int | None = None
    used: float | str | None = None
    limit: float | str | None = None
    unit: str = ""
    hint: str = ""
    count: int | None = None
    copy: int | None = None

    @property
    def where(self) -> str:
        """Where it happened, in the words of the user's graph."""
        if self.node is None:
            return ""
        if self.count is not None and self.count > 1:
            return f"{self.count} neurons of node {self.node!r}"
        place = f"node {self.node!r}"
        place += "" if self.index is None else f", neuron {self.index}"
        return place if self.copy is None else f"{place}, copy {self.copy}"

    @property
    def overrun(self) -> float:
        """used / limit where both are numbers, else 1: larger is worse."""
        if isinstance(self.used, (int, float)) and isinstance(self.limit, (int, float)) and self.limit:
            return abs(float(self.used) / float(self.limit))
        return 1.0

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; empty fields are left out, but for those that every finding has."""
        needed = ("severity", "code", "what")
        return {key: value for key, value in asdict(self).items() if key in needed or value not in (None, "")}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Finding:
        """The inverse of `to_dict`; TypeError or ValueError for what no finding holds."""
        made = cls(**data)
        kinds = {"node": (str, type(None)), "index": (int, type(None)), "count": (int, type(None))}
        kinds["copy"] = (int, type(None))
        kinds |= dict.fromkeys(("used", "limit"), (int, float, str, type(None)))
        for name, value in asdict(made).items():
            if isinstance(value, bool) or not isinstance(value, kinds.get(name, str)):
                raise ValueError(f"{name} of a finding is {str(value)[:40]!r}")
            if isinstance(value, int) and abs(value) >= 1 << 63:
                raise ValueError(f"{name} of a finding is a number of {value.bit_length()} bits")
        if made.severity not in _ORDER:
            raise ValueError(f"severity of a finding is {made.severity[:40]!r}, known are {', '.join(_ORDER)}")
        return made

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} {self.hint}".rstrip()


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then infos; within one severity the largest overrun first."""
    return tuple(sorted(findings, key=lambda f: (_ORDER[f.severity], -f.overrun)))


class DynapseError(Exception):
    """Root of all errors that a user can cause; `findings` holds every violation, worst first.

    `conversion` says what would have become of each NIR node, where reading a graph failed (see `network.Conversion`).
    """

    def __init__(self, findings: Finding | str | Sequence[Finding], *, conversion: tuple[Any, ...] = ()) -> None:
        if isinstance(findings, str):
            findings = Finding("error", "error", findings)
        if isinstance(findings, Finding):
            findings = (findings,)
        self.findings: tuple[Finding, ...] = sort_findings(findings)
        self.conversion = conversion
        super().__init__("\n".join(str(f) for f in self.findings))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.findings,), {"conversion": self.conversion}


class UnsupportedGraphError(DynapseError):
    """The NIR file cannot be read, or the graph contains something that has no counterpart on the chip."""


class ParameterRangeError(DynapseError):
    """A value that no bias of the chip can produce, or that has no meaning (negative time constant, NaN)."""


class CapacityError(DynapseError):
    """More neurons, CAM rows, SRAM rows, tags or bias groups than the device has."""


class ConfigurationError(DynapseError):
    """A Layout, a samna configuration or a data file that cannot be read, or that contradicts itself."""


class HardwareError(DynapseError):
    """The board is missing, refuses, or answered something unexpected."""


class NotInstalledError(HardwareError):
    """Something optional (samna for a board, Lava, matplotlib) that this Python does not have."""


class LavaRunError(DynapseError):
    """A Lava run that cannot start, or whose worker failed, died or did not answer in time.

    `traceback` is the text of the failed workers' tracebacks, empty where none is known.
    """

    def __init__(
        self, findings: Finding | str | Sequence[Finding], *, conversion: tuple[Any, ...] = (), traceback: str = ""
    ) -> None:
        super().__init__(findings, conversion=conversion)
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.findings,), {"conversion": self.conversion, "traceback": self.traceback}


class ReaderWarning(UserWarning):
    """What the reader that a NIR graph was written for runs otherwise; `finding` says it."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(str(finding))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.finding,)


def nearest(word: str, choices: Iterable[Any]) -> str:
    """A sentence with the choices most like `word`, or with all of them where none is like it."""
    known = [str(choice) for choice in choices]
    close = get_close_matches(word, known, n=3)
    return f"Did you mean {' or '.join(close)}?" if close else f"Choose from {', '.join(known)}."


def strictly(findings: Iterable[Finding]) -> list[Finding]:
    """`findings` with every warning turned into an error."""
    return [replace(f, severity="error") if f.severity == "warning" else f for f in findings]


def raise_if_errors(findings: Iterable[Finding], error: type[DynapseError]) -> None:
    """Raise `error` with all findings of severity error, if there is one."""
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise error(errors)
