"""`FitResult`: what a fit changed, population by population, and what it gained; as findings and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nir_dynapse.errors import Finding

__all__ = ["CODE", "FitResult", "PopulationFit"]

CODE = "fitted"
"""Of the findings that say what was fitted."""
WORDS = {
    "excitation": "excitation",
    "inhibition": "inhibition",
    "tau_mem": "membrane time constant",
    "tau_exc": "time constant of excitation",
    "tau_inh": "time constant of inhibition",
    "refractory": "refractory period",
}
NOTABLE = 0.02
"""Relative change from which a factor is worth a word."""


@dataclass(frozen=True)
class PopulationFit:
    """What was fitted at node `name`, and its rates in Hz: ideal, of the closed form, and of the fitted circuit.

    `factors` multiply what the closed form gives (see `scales.FACTORS`); "tonic" is a constant input as the fraction of
    the threshold that the membrane settles at. `correlation_before` and `correlation_after` are those of the rates of its
    neurons with the ideal ones (NaN where either are all alike). All on samples that the fit did not see.
    """

    name: str
    factors: dict[str, float]
    rate_ideal: float
    rate_before: float
    rate_after: float
    correlation_before: float
    correlation_after: float

    def __str__(self) -> str:
        changed = [
            f"{word} x {self.factors[key]:.2f}"
            for key, word in WORDS.items()
            if abs(self.factors.get(key, 1.0) - 1) > NOTABLE
        ]
        if self.factors.get("tonic", 0.0) > NOTABLE / 2:
            changed.append(f"constant input of {self.factors['tonic']:.2f} of the threshold")
        if self.factors.get("reset", 0.0) > NOTABLE:
            changed.append(f"a spike inhibits its neuron, reset x {self.factors['reset']:.2f}")
        return ", ".join(changed) or "nothing changed"


@dataclass(frozen=True)
class FitResult:
    """A fit to `samples` samples of `steps` bins; `held_out` of others judged it.

    `kept` says whether the fitted circuit is nearer to the ideal run there than the closed form (else the closed form was
    kept, `reason` says why); `distance_*` are distances (see `fitting.distance`), `agreement_*` the share of the held-out
    samples with the ideal run's class.
    """

    populations: tuple[PopulationFit, ...]
    kept: bool
    samples: int
    held_out: int
    steps: int
    distance_before: float
    distance_after: float
    agreement_before: float
    agreement_after: float
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    def described(self) -> str:
        """In a line: what it was fitted to, and what that gained."""
        what = f"{self.samples} samples of {self.steps} bins, judged on {self.held_out}"
        if not self.kept:
            return f"{what}: closed form kept ({self.reason})"
        return f"{what}: distance from the ideal run {self.distance_before:.2f} -> {self.distance_after:.2f}"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """An info per population that was fitted, or one that says why the closed form was kept."""
        if not self.kept:
            return (Finding("info", CODE, f"the closed-form circuit was kept: {self.reason}."),)
        found = []
        for p in self.populations:
            rates = ""
            if p.rate_ideal > 0:
                before, after = p.rate_before / p.rate_ideal, p.rate_after / p.rate_ideal
                rates = f"; rates {before:.2f}x -> {after:.2f}x of the ideal ones"
            found.append(Finding("info", CODE, f"fitted to data: {p}{rates}.", node=p.name))
        return tuple(found)
