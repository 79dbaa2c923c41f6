"""Learned sparsity: which sources the CAM rows of a neuron hear is chosen while training.

A neuron has fewer rows than a dense layer has sources. Every now and then the rows that matter least are dropped, and as
many are grown where the gradient of the loss with respect to wires that are not there is largest (RigL: Evci et al. 2020),
or at random (deep rewiring: Bellec et al. 2018; sparse evolutionary training: Mocanu et al. 2018). The number of rows of
every neuron stays as it is, so that the network fits the chip at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.chip.device import AMPA
from nir_dynapse.circuit.params import Topology
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.files.numbers import PART, STEPS
from nir_dynapse.training.trainable import Latent

__all__ = ["Candidates", "Rewiring", "cleared", "excitatory", "movable", "newborn", "pulled", "rewired_rows"]

METHODS = ("gradient", "random", "deep", "none")
PULL, NEWBORN = 0.01, 0.03
"""What deep rewiring takes from every weight each time, and the weight of new rows, in parts of the largest weight."""


@dataclass(frozen=True)
class Rewiring:
    """How rows move: every `every` steps, during the first `until` of the steps, a `share` of them that falls by a cosine.

    `method`: "gradient" grows where the gradient is largest, "random" anywhere; "deep" pulls all weights towards 0, drops
    those that got there, and grows anywhere with either sign; "none" keeps the first choice.
    """

    method: Literal["gradient", "random", "deep", "none"] = "gradient"
    every: int = 25
    share: float = 0.3
    until: float = 0.7

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ParameterRangeError(
                f"Rewiring: method is {self.method!r}, allowed are {', '.join(METHODS)}. Choose one of them."
            )
        STEPS.check("Rewiring", "every", self.every)
        for name in ("share", "until"):
            PART.check("Rewiring", name, getattr(self, name))

    def due(self, step: int, steps: int) -> float:
        """Share of the rows that move after `step` of `steps`; 0 for none."""
        last = self.until * steps
        if self.method == "none" or step % self.every or step >= last:
            return 0.0
        return 0.5 * self.share * (1 + float(np.cos(np.pi * step / last)))


@dataclass(frozen=True, eq=False)
class Candidates:
    """The sources that each row could hear: `sources` of a population's neurons, `neurons` (n,) whose rows move and
    `allowed` (n, sources) the connections that the network has."""

    neurons: np.ndarray
    sources: np.ndarray
    allowed: np.ndarray


def movable(t: Topology, free: np.ndarray, candidates: Candidates, pre: np.ndarray) -> np.ndarray:
    """Table (n, k) of the rows of the candidates' neurons that may move (-1 where a neuron has fewer); they hear `pre`."""
    rows = np.flatnonzero(free & (pre != t.tonic) & np.isin(t.post, candidates.neurons))
    rows = rows[np.argsort(t.post[rows], kind="stable")]
    count = np.bincount(t.post[rows], minlength=t.n_neurons)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    table = np.full((len(candidates.neurons), int(count.max(initial=0))), -1)
    order = np.full(t.n_neurons, -1)
    order[candidates.neurons] = np.arange(len(candidates.neurons))
    table[order[t.post[rows]], place] = rows
    return table


def rewired_rows(
    weight: np.ndarray,
    pre: np.ndarray,
    table: np.ndarray,
    candidates: Candidates,
    gain: np.ndarray | None,
    share: float | np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """New sources (R,) of all rows, and which rows (R,) are new.

    Of each neuron's rows (`table`) a `share` (one, or (n,)) with the smallest `weight` (R,) hears those candidates instead
    whose `gain` (n, sources), where given, is largest; else ones drawn by `rng`.
    """
    present = table >= 0
    size = np.where(present, np.abs(weight)[table], np.inf)
    count = present.sum(1)
    # As many as there is something else to hear.
    heard = np.zeros(candidates.allowed.shape, bool)
    position = np.searchsorted(candidates.sources, pre[table])
    position = np.minimum(position, len(candidates.sources) - 1)
    here = present & (candidates.sources[position] == pre[table])
    heard[np.nonzero(here)[0], position[here]] = True
    open_ = candidates.allowed & ~heard
    many = np.minimum(np.round(share * count).astype(int), open_.sum(1))
    score = rng.random(open_.shape) if gain is None else np.abs(gain)
    score = np.where(open_, score, -1.0)
    most = int(many.max(initial=0))
    moved = np.zeros(len(pre), bool)
    if not most:
        return pre, moved
    dropped = np.argsort(size, axis=1, kind="stable")[:, :most]
    grown = np.argpartition(-score, min(most, score.shape[1] - 1), axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(score, grown, 1), axis=1, kind="stable")
    grown = np.take_along_axis(grown, order, 1)
    used = np.arange(most) < many[:, None]
    rows = np.take_along_axis(table, dropped, 1)[used]
    pre = pre.copy()
    pre[rows] = candidates.sources[grown[used]]
    moved[rows] = True
    return pre, moved


def cleared(latent: Latent, opt: Any, moved: np.ndarray, weight: np.ndarray | None = None) -> tuple[Latent, Any]:
    """`latent` and the optimiser's state with rows that start anew: no memory of gradients, no weight (or `weight`)."""
    gone = jnp.asarray(moved)

    def clear(leaf: Any) -> Any:
        return jnp.where(gone, jnp.zeros_like(leaf), leaf) if getattr(leaf, "shape", None) == moved.shape else leaf

    # Of all that an optimiser keeps only what belongs to the weights has a number per row.
    begun = clear(latent.weight) if weight is None else jnp.asarray(weight, latent.weight.dtype)
    return latent._replace(weight=begun), jax.tree_util.tree_map(clear, opt)


def pulled(weight: np.ndarray, table: np.ndarray, top: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (R,) that deep rewiring has pulled towards 0, and the share (n,) of each neuron's rows that got there."""
    rows = table[table >= 0]
    weight = weight.copy()
    weight[rows] = np.sign(weight[rows]) * np.maximum(np.abs(weight[rows]) - PULL * top, 0.0)
    gone = (table >= 0) & (weight[table] == 0)
    return weight, gone.sum(1) / np.maximum((table >= 0).sum(1), 1)


def newborn(weight: np.ndarray, moved: np.ndarray, top: float, rng: np.random.Generator) -> np.ndarray:
    """Weights (R,) in which new rows have a small one of either sign."""
    sign = rng.choice([-1.0, 1.0], len(weight))
    return np.where(moved, NEWBORN * top * sign, weight)


def excitatory(slopes: np.ndarray, t: Topology) -> np.ndarray:
    """Of the gradients (dendrites in use, sources, N) those of wires that excite (or of the first dendrite): (N, sources).

    A new wire starts without weight, where one that excites and one that inhibits differ in sign only.
    """
    used = np.unique(t.dendrite).tolist()
    return np.asarray(slopes)[used.index(AMPA) if AMPA in used else 0].T
