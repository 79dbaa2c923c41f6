"""The options of `fine_tune` beyond its signature, checked."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from nir_dynapse.chip.device import CURRENTS, DELAYS, Mismatch
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.files import numbers
from nir_dynapse.files.numbers import Real, Whole, shown
from nir_dynapse.sim.derivatives import SHAPES
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.training.late_rows import MAY_BE_LATE
from nir_dynapse.training.losses import Penalty
from nir_dynapse.training.rewiring import Rewiring
from nir_dynapse.training.start import MOST_ROWS
from nir_dynapse.training.steps import Attack

__all__ = ["GRADIENTS", "TRAINED", "TrainingOptions"]

WIDE = Surrogate(slope=5.0)
"""What training takes unless it is said: twice as wide as what gradients of `spike_counts` have by default."""
GRADIENTS = ("surrogate", "spike-times")
"""What gradients may go through: whether a neuron fires, by a surrogate, or when, exactly (docs/gradients.md)."""

TRAINED: tuple[str, ...] = (
    "weight",
    "base",
    "i_tau_mem",
    *(f"i_{part}_{dendrite}" for part in ("tau", "gain") for dendrite in ("ampa", "gaba")),
)
"""What is trained unless asked otherwise: weights, base currents, the membrane leak, leaks and gains of AMPA and GABA."""
LIMITS: dict[str, Whole | Real] = {
    "batch": numbers.BATCH,
    "rows": Whole(1, 64),
    "check_every": numbers.STEPS,
    "held_out": numbers.PER_STEP,
    "validation_size": Whole(1, 10**9),
    "patience": numbers.STEPS,
    "substeps": Whole(1, 1000),
    "ramp": numbers.PART,
    "dropout": numbers.DROPOUT,
    "mixed": numbers.PART,
    "distil": numbers.PART,
    "follow": numbers.WEIGHT,
    "worst": numbers.WORST,
    "bias_rate": numbers.LEARNING_RATE,
    "clip": numbers.CLIP,
    "rate": numbers.LEARNING_RATE,
    "longest_delay": Real(1e-6, 0.6),
}
"""What the numbers among the options may be."""
OTHERS = dict.fromkeys(("batch", "check_every", "follow", "longest_delay", "patience", "substeps"), "None") | {
    "rate": "an optax schedule"
}
"""What some may be besides."""


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    `batch` samples on each chip of a step (None: 8); `rate` the learning rate at the start (weights: per
    step, in parts of the largest weight), which falls to a hundredth of it by a cosine, or an optax schedule; `bias_rate`
    is the rate of base and bias currents in units of it, `clip` the norm at which gradients are cut; `optimiser` an optax
    transformation instead of Adam; `trained` names what is trained: "weight", "base" and bias currents. `rows` CAM rows
    per connection at most.

    `ramp` is the part of the steps in which the mismatch grows to its full size; with `mixed` above 0 each chip has
    1 − `mixed` to 1 times of it, so that good chips count, too. `dropout` is the share of hidden neurons that is silent
    on a chip of training, `worst` the share of the chips, those with the largest losses, that count (a
    CVaR; 1: all). `substeps` per bin of the data; `rounded=False` trains without rounding and rounds at the end.

    Every `check_every` steps (None: 300) `held_out` virtual chips, never trained on, see `validation_size`
    samples at most; the best state on them is what is returned, and after `patience` checks without a better one training
    stops. Those chips have the spread `check_mismatch` (that of training where None). `rewiring` is how the rows of
    neurons with more inputs than CAM rows move while training; by default they stay (docs/fits.md compares). `distil` is
    the share that the answers of the network's own ideal run have in a loss of classes (`losses.Distilled`) where they are
    right; `follow` weighs how far the mean spike counts of all neurons are from those of that run (None: 1 where rows are
    chosen, else 0). With `fit` the circuit of a Network is fitted to the data before it is trained. `gradient` goes through
    whether a neuron fires ("surrogate") or exactly through the times of spikes ("spike-times"; XLA's way, slower).
    `delays` of CAM rows: "keep" those of the network, "none", or train them: "inputs" of rows that hear input channels,
    "all" of all rows; up to `longest_delay` in s (None: 60 % of a sample). Their flags move as `reflagging` says.
    On a board the gradients are those of a circuit like its chip, whose factors are estimated from the spikes on the way
    (`twin=False`: those of the nominal circuit).
    """

    batch: int | None = None
    rate: Any = 0.01
    bias_rate: float = 0.3
    clip: float = 10.0
    optimiser: Any = None
    trained: tuple[str, ...] = TRAINED
    rows: int = MOST_ROWS
    ramp: float = 0.2
    penalty: Penalty = field(default_factory=Penalty)
    dropout: float = 0.0
    worst: float = 1.0
    mixed: float = 0.0
    attack: Attack | None = None
    check_every: int | None = None
    held_out: int = 16
    validation_size: int = 500
    patience: int | None = None
    check_mismatch: Mismatch | None = None
    rewiring: Rewiring = field(default_factory=lambda: Rewiring("none"))
    surrogate: Surrogate = WIDE
    gradient: Literal["surrogate", "spike-times"] = "surrogate"
    substeps: int | None = None
    rounded: bool = True
    fit: bool = True
    distil: float = 0.5
    follow: float | None = None
    twin: bool = True
    delays: Literal["keep", "none", "inputs", "all"] = "keep"
    longest_delay: float | None = None
    reflagging: Rewiring = field(default_factory=lambda: Rewiring(every=25, share=0.02))

    def __repr__(self) -> str:
        usual = {f.name: f.default if f.default is not MISSING else f.default_factory() for f in fields(self)}  # pyright: ignore[reportCallIssue]
        changed = [f"{name}={getattr(self, name)!r}" for name, value in usual.items() if getattr(self, name) != value]
        return f"TrainingOptions({', '.join(changed)})"

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            value, other = getattr(self, name), OTHERS.get(name)
            if not (value is None and other == "None") and not (callable(value) and name == "rate"):
                hint = f"Choose one of them{f', or {other}' if other else ''}."
                object.__setattr__(self, name, limit.check("fine_tune", name, value, hint))
        for name, kind in (
            ("penalty", Penalty),
            ("surrogate", Surrogate),
            ("rewiring", Rewiring),
            ("reflagging", Rewiring),
        ):
            if not isinstance(getattr(self, name), kind):
                raise _wrong(name, getattr(self, name), f"{kind.__name__}(...)")
        if self.surrogate.shape not in SHAPES:
            raise _wrong("surrogate.shape", self.surrogate.shape, ", ".join(SHAPES))
        if not isinstance(self.gradient, str) or self.gradient not in GRADIENTS:
            raise _wrong("gradient", self.gradient, ", ".join(GRADIENTS))
        if not isinstance(self.delays, str) or self.delays not in MAY_BE_LATE:
            raise _wrong("delays", self.delays, ", ".join(MAY_BE_LATE))
        if self.reflagging.method not in ("gradient", "none"):
            raise _wrong("reflagging.method", self.reflagging.method, "gradient, none")
        numbers.SLOPE.check("fine_tune", "surrogate.slope", self.surrogate.slope)
        for name, kind in (("attack", Attack), ("check_mismatch", Mismatch)):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), kind):
                raise _wrong(name, getattr(self, name), f"None and {kind.__name__}(...)")
        if not isinstance(self.trained, (tuple, list)):
            raise _wrong("trained", self.trained, "tuples of names")
        strange = [name for name in self.trained if name not in ("weight", "base", *CURRENTS)]
        if strange:
            raise _wrong("trained", strange[0], f"weight, base, {', '.join(CURRENTS)}")

    @property
    def moved(self) -> tuple[str, ...]:
        """What is `trained`, and the delays of cores where rows may be late."""
        late = DELAYS if self.delays in ("inputs", "all") else ()
        return tuple(dict.fromkeys((*self.trained, *late)))


def _wrong(name: str, value: Any, allowed: str) -> ParameterRangeError:
    return ParameterRangeError(f"fine_tune: {name} is {shown(value)}, allowed are {allowed}. Choose one of them.")
