"""Losses of output spikes, per sample, and what they take for the answer; penalties on activity.

A loss is a small value: `loss(out, target)` (B,) of spikes `out` (B, T, n) (or of the values of a readout on the host),
and `answer(out)` (B,) the class it chooses. Classes are whole numbers (B,), trajectories (B, T, n).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.files.numbers import PART, STEP, WEIGHT, Real
from nir_dynapse.training.transforms import straight_through

__all__ = [
    "LOSSES",
    "Counts",
    "Distilled",
    "FirstSpike",
    "FirstSpikeTime",
    "Loss",
    "MaxOverTime",
    "Penalty",
    "Trajectory",
    "filtered",
    "loss_named",
]

Array = Any
FIELDS = {"tau": Real(1e-9, 1e6, "s")} | {name: Real(-1e6, 1e6) for name in ("scale", "ratio", "gain")}
FIELDS |= {"offset": Real(-1e9, 1e9), "early": Real(0, 1e6), "late": Real(1e-9, 1e6, "s")}
"""What the numbers of losses may be."""
LONGEST = 20.0
"""Times constants up to which being late costs more and more."""


def filtered(spikes: Array, tau: float, dt: float) -> Array:
    """Spikes (B, T, n) through an exponential kernel of `tau` s: f ← f·e^(−dt/τ) + s, in bins of `dt` s."""
    spikes, decay = jnp.asarray(spikes, jnp.float32), float(np.exp(-dt / tau))

    def join(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return a[0] * b[0], a[1] * b[0] + b[1]

    decays = jnp.full((1, spikes.shape[1], 1), decay, spikes.dtype)
    return jax.lax.associative_scan(join, (decays, spikes), axis=1)[1]


def _cross_entropy(logits: Array, target: Array) -> Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], axis=1)[:, 0]


@dataclass(frozen=True)
class Loss(ABC):
    """What all losses have: `dt` is the width of a bin in s."""

    dt: float = 1e-3
    supervised = "classes"
    timed = False
    """Whether it is given the times in s (B, n) of first spikes in place of spikes."""

    def __post_init__(self) -> None:
        STEP.check(type(self).__name__, "dt", self.dt, "Give the width of a bin in seconds.")
        for name, limit in FIELDS.items():
            if hasattr(self, name):
                limit.check(type(self).__name__, name, getattr(self, name))

    @abstractmethod
    def logits(self, out: Array) -> Array:
        """(B, n): the larger, the more likely the class."""

    def answer(self, out: Array) -> Array:
        """The class (B,) that is chosen."""
        return jnp.argmax(self.logits(out), axis=1)

    def label(self, target: Array) -> Array:
        """The class (B,) that a target stands for."""
        return target

    def __call__(self, out: Array, target: Array) -> Array:
        return _cross_entropy(self.logits(out), target)


@dataclass(frozen=True)
class Distilled(Loss):
    """(1 − `share`)·L + `share`·H(p, q): `loss` L of the labels and the cross-entropy with a teacher's answers.

    p and q are the softmax of the logits of teacher and network (Hinton et al. 2015). A target (B, 1 + n) is the label and
    the teacher's logits; where the teacher is wrong, labels count alone.
    """

    loss: Loss = field(default_factory=lambda: Counts())
    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        PART.check("Distilled", "share", self.share)

    @property
    def timed(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.loss.timed

    def logits(self, out: Array) -> Array:
        return self.loss.logits(out)

    def answer(self, out: Array) -> Array:
        return self.loss.answer(out)

    def label(self, target: Array) -> Array:
        return target[:, 0].astype(jnp.int32)

    def __call__(self, out: Array, target: Array) -> Array:
        label, taught = self.label(target), jnp.asarray(target[:, 1:], jnp.float32)
        share = jnp.where(jnp.argmax(taught, axis=1) == label, self.share, 0.0)
        softened = -jnp.sum(jax.nn.softmax(taught) * jax.nn.log_softmax(self.logits(out)), axis=1)
        return (1 - share) * self.loss(out, label) + share * softened


@dataclass(frozen=True)
class Counts(Loss):
    """Cross-entropy of the softmax of spike counts c: logits `ratio`·ln(`offset` + c), or `scale`·c where `ratio` is 0.

    The first one asks for a ratio between the counts, whatever the number of spikes, and so does not care for factors that
    all neurons of a chip share: under mismatch it learns in fewer steps than the second, and more reliably.
    """

    scale: float = 0.3
    ratio: float = 4.0
    offset: float = 1.0

    def logits(self, out: Array) -> Array:
        count = out.sum(1)
        if not self.ratio:
            return self.scale * count
        return self.ratio * jnp.log(self.offset + jnp.maximum(count, 0))

    def answer(self, out: Array) -> Array:
        return jnp.argmax(out.sum(1), axis=1)


@dataclass(frozen=True)
class FirstSpike(Loss):
    """Cross-entropy of the softmax of −t/`tau`, t the time of the first spike (the end of the sample without one).

    t = dt·Σ_k Π_{j≤k} (1 − s_j): the time without a spike so far, with a gradient through every s up to the first spike.
    """

    tau: float = 5e-3

    def times(self, out: Array) -> Array:
        """Times (B, n) in s."""
        spikes = straight_through(out, jnp.clip(out, 0, 1))  # the gradient of clip is a half at 0 and at 1
        return self.dt * jnp.cumprod(1 - spikes, axis=1).sum(1)

    def logits(self, out: Array) -> Array:
        return -self.times(out) / self.tau


@dataclass(frozen=True)
class FirstSpikeTime(FirstSpike):
    """ln(1 + Σ_{i≠c} e^(−(t_i − t_c)/`tau`)) + `early`·(e^(t_c/`late`) − 1) of the times t of first spikes and the class c.

    The loss of Göltz et al. (2021), whose second part asks the right neuron to fire early. Times are where thresholds are
    met within a step (`sim.engine.first_spike_times`), so that t has a gradient of its own (`gradient="spike-times"`); a
    neuron that stays silent counts with the end of the sample and is pulled to its threshold by the surrogate. Of spikes
    (B, T, n), which a board or an ideal run gives, times are those of the bins.
    """

    tau: float = 3e-3
    early: float = 0.005
    late: float = 20e-3
    timed = True

    def times(self, out: Array) -> Array:
        return out if out.ndim == 2 else super().times(out)

    def __call__(self, out: Array, target: Array) -> Array:
        times = self.times(out)
        own = jnp.take_along_axis(times, target[:, None], axis=1)[:, 0]
        return _cross_entropy(-times / self.tau, target) + self.early * jnp.expm1(jnp.minimum(own / self.late, LONGEST))


@dataclass(frozen=True)
class MaxOverTime(Loss):
    """Cross-entropy of the softmax of `scale`·max_t f, f the spikes filtered with `tau` s (Cramer et al. 2022)."""

    tau: float = 20e-3
    scale: float = 1.0

    def logits(self, out: Array) -> Array:
        return self.scale * filtered(out, self.tau, self.dt).max(1)


@dataclass(frozen=True)
class Trajectory(Loss):
    """Mean squared distance of filtered spikes from `target`, relative to the mean square of the target.

    Targets are filtered alike where `filter_target` (spikes of a teacher); else they are trajectories of the filtered
    spikes themselves, with `offset` and `gain`: gain·f + offset. `parts` are slices of the outputs that count alike, each
    relative to its own mean square (a population that fires more than the others would be all that matters; empty: one).
    """

    tau: float = 10e-3
    filter_target: bool = False
    gain: float = 1.0
    offset: float = 0.0
    parts: tuple[tuple[int, int], ...] = ()
    supervised = "trajectory"

    def values(self, out: Array) -> Array:
        """What is compared with the target (B, T, n)."""
        return self.gain * filtered(out, self.tau, self.dt) + self.offset

    def logits(self, out: Array) -> Array:
        return out.sum(1)

    def __call__(self, out: Array, target: Array) -> Array:
        target = target.astype(out.dtype)
        wanted = filtered(target, self.tau, self.dt) if self.filter_target else target
        off = (self.values(out) - wanted) ** 2
        shares = []
        for a, b in self.parts or ((0, out.shape[2]),):
            power = jnp.mean(wanted[..., a:b] ** 2) + 1e-6
            shares.append(jnp.mean(off[..., a:b], axis=(1, 2)) / power)
        return sum(shares[1:], shares[0]) / len(shares)


LOSSES: dict[str, type[Loss]] = {
    "counts": Counts,
    "first-spike": FirstSpike,
    "first-spike-time": FirstSpikeTime,
    "max-over-time": MaxOverTime,
    "trajectory": Trajectory,
}
"""The losses by name."""


def loss_named(loss: str | Loss, dt: float) -> Loss:
    """A loss as it is, or by its name with bins of `dt` s (ParameterRangeError)."""
    if isinstance(loss, Loss):
        return loss
    if loss not in LOSSES:
        raise ParameterRangeError(f"fine_tune: loss is {loss!r}. Choose one of {', '.join(LOSSES)}, or give a Loss.")
    return LOSSES[loss](dt=dt)


@dataclass(frozen=True)
class Penalty:
    """What spikes cost, added to the loss: a sum of means over neurons and samples; c are the spikes of a neuron in one.

    `sparsity`·⟨c²⟩ (Cramer et al. 2022); `quiet`·⟨max(least − c̄, 0)²⟩ for neurons that hardly fire, c̄ the mean over the
    samples; `busy`·⟨max(c − most, 0)²⟩; `activity`·(⟨c⟩ − wanted)², an activity that all of them together shall have; and
    `operations`·s, s the synaptic operations of a sample per CAM row: how many events a row hears (Sorbaro et al. 2020).
    """

    sparsity: float = 0.0
    quiet: float = 0.0
    least: float = 0.5
    busy: float = 0.0
    most: float = 20.0
    activity: float = 0.0
    wanted: float = 5.0
    operations: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, WEIGHT.check("Penalty", f.name, getattr(self, f.name)))

    def __bool__(self) -> bool:
        return bool(self.sparsity or self.quiet or self.busy or self.activity or self.operations)

    def __call__(self, spikes: Array, operations: Array | None = None) -> Array:
        """A scalar of spikes (B, T, n), and of the synaptic operations (B,) per row where they cost something."""
        count = spikes.sum(1)
        total = self.sparsity * jnp.mean(count**2)
        total += self.quiet * jnp.mean(jnp.maximum(self.least - count.mean(0), 0) ** 2)
        total += self.busy * jnp.mean(jnp.maximum(count - self.most, 0) ** 2)
        if self.activity:
            total += self.activity * (jnp.mean(count) - self.wanted) ** 2
        return total if operations is None else total + self.operations * jnp.mean(operations)
