"""Delays of connections: in seconds and in steps, and chains of linear nodes in which channels are delayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from nir_dynapse.errors import Finding, UnsupportedGraphError
from nir_dynapse.network.broadcast import Shape, broadcasts, spread
from nir_dynapse.network.linear import MAX_ENTRIES, LinearMap, as_array, compose, parameter, too_big

__all__ = [
    "DIGITS",
    "ENDLESS",
    "LONGEST",
    "Way",
    "delay_shape",
    "fold_delay",
    "in_steps",
    "lagged",
    "rounded",
    "shifted",
]

LONGEST = 4096
"""Most steps of an ideal run that a connection may be late by: the past is kept for as long."""
ENDLESS = 1e5
"""Delays in s from here on are no delays: a unit of time or a number is wrong."""
DIGITS = 12
"""Decimals of a delay in s: sums along a chain that differ by less than a picosecond are the same delay."""


def in_steps(delay: Any, dt: float) -> np.ndarray:
    """Delays in s as whole steps of an ideal run: round(delay/dt), a half step (to 10⁻⁶ of a step) becoming a whole one."""
    steps = np.floor(np.asarray(delay, float) / dt + 0.5 + 1e-6)
    return np.minimum(steps, 1 << 40).astype(np.int64)  # what is far beyond `LONGEST` stays so


def lagged(pre: np.ndarray, delay: np.ndarray | None, dt: float, n_pre: int) -> tuple[tuple[int, ...], np.ndarray]:
    """(lags, sources): the steps that connections from `pre` are late by, each once, and numbers lag index·n_pre + pre.

    Lags are () and sources `pre` where nothing is late.
    """
    if delay is None:
        return (), pre
    lags, which = np.unique(in_steps(delay, dt), return_inverse=True)
    return tuple(lags.tolist()), which.reshape(-1) * n_pre + pre


def shifted(values: Any, lags: tuple[int, ...], xp: Any = np) -> Any:
    """What (batch, time, n) was `lags` steps before, side by side (batch, time, lags·n); zeros before the first step."""
    steps = values.shape[1]
    parts = [
        xp.pad(values[:, : max(steps - lag, 0)], ((0, 0), (min(lag, steps), 0), (0, 0))) if lag else values
        for lag in lags
    ]
    return xp.concatenate(parts, 2) if lags else values


def rounded(delay: Any) -> np.ndarray:
    """Delays in s to `DIGITS` decimals."""
    return np.round(np.asarray(delay, float), DIGITS)


def delay_shape(node: Any, name: str, incoming: Shape | None) -> tuple[Shape | None, Shape | None]:
    """A Delay hands on the shape that comes in, or has that of its values; one below 0 is refused."""
    delay = parameter(node, "delay", 0.0)
    values = np.zeros(0) if delay is None else np.ravel(delay)
    if values.dtype.kind in "biuf" and np.any(values < 0):
        k = int(np.argmin(values))
        what = f"its delay is {float(values[k]):.4g}: nothing can act before it happens."
        hint = "Give delays from 0 on; delay the other connections where this one should be earlier."
        place = {"node": name, "index": k if len(values) > 1 else None}
        raise UnsupportedGraphError(
            Finding("error", "delay", what, used=float(values[k]), limit=0.0, hint=hint, **place)
        )
    own = delay.shape if delay is not None and delay.size > 1 else incoming
    own = incoming if own and incoming and 1 in own and broadcasts(own, incoming) else own
    return own, own


def fold_delay(node: Any, shape_in: Shape) -> LinearMap:
    """A wire whose channels are late by `delay` in s, which counts for all where it is one number."""
    delay = rounded(spread(np.asarray(as_array(node.delay), float), shape_in))
    return LinearMap(delay=delay if np.any(delay) else None)


@dataclass(frozen=True)
class Way:
    """What a chain of linear nodes does to its input x: y_j(t) = Σ_r Σ_k matrix[r, k]·x_k(t − delay[r]).

    The sum is over the rows r with target[r] = j. `matrix` (rows, n) is a NumPy or scipy.sparse array, None for the
    identity. Where nothing is delayed `target` and `delay` (in s) are None and row j is output j; `size` is the number of
    outputs where they are not.
    """

    matrix: Any = None
    target: np.ndarray | None = None
    delay: np.ndarray | None = None
    size: int = 0

    def behind(self, node: LinearMap, name: str) -> Way:
        """The way of what comes into `node`, which leads into this one; UnsupportedGraphError where that grows too big."""
        if node.delay is not None:
            return self._late(node.delay, name)
        return Way(compose(self.matrix, node.matrix, name), self.target, self.delay, self.size)

    def _late(self, delay: np.ndarray, name: str) -> Way:
        """One row for each output and delay: the rows before, parted by the delays of the channels that they hear."""
        n = len(delay)
        before = scipy.sparse.eye_array(n, format="coo") if self.matrix is None else self.matrix
        if not scipy.sparse.issparse(before):
            before = scipy.sparse.coo_array(before)
        before = before.tocoo()
        if before.nnz > MAX_ENTRIES:
            raise too_big(name, f"delaying {before.nnz} connections takes too much room, {MAX_ENTRIES} are taken.")
        row, column = before.row, before.col
        target = row if self.target is None else self.target[row]
        late = rounded(delay[column] + (0.0 if self.delay is None else self.delay[row]))
        pairs, new = np.unique(np.stack([target, late], 1), axis=0, return_inverse=True)
        matrix = scipy.sparse.coo_array((before.data, (new.reshape(-1), column)), shape=(len(pairs), n)).tocsr()
        size = self.size if self.target is not None else n if self.matrix is None else self.matrix.shape[0]
        return Way(matrix, pairs[:, 0].astype(np.int64), pairs[:, 1], size)

    def constant(self, bias: np.ndarray) -> np.ndarray:
        """What a constant input becomes at each output; it was there at all times, so no delay shows."""
        pushed = bias if self.matrix is None else self.matrix @ bias
        return pushed if self.target is None else np.bincount(self.target, pushed, minlength=self.size)
