"""A step of `sim.dynamics`, compiled, with the same bits: NumPy takes 1 µs for each of fifty operations.

Every operation of the membranes is the one that NumPy does, in float32 and in the same order (no fused products); the
logarithm is NumPy's own, between two compiled loops. Sums of weights are exact in any order (`wiring.summable`), so only
the rows of what sends events are added: a product of matrices reads all of them, on threads that the other processes need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np

from nir_dynapse.sim.dynamics import LARGEST, Constants, Inflow, Structure

__all__ = ["add_events", "applies", "compiled", "fixed_rows", "membranes", "plain"]

F = np.float32
_NONE = np.zeros(0, F)


def applies(structure: Structure, c: Constants) -> bool:
    """Whether the compiled loops compute what these equations contain; without Numba nothing is compiled."""
    beyond = structure.gate or structure.feedback or structure.noise or structure.loss
    return not beyond and c.rate.dtype == F and compiled() is not None


def fixed_rows(c: Constants) -> np.ndarray:
    """Rate, floor, threshold and refractory period of each neuron, (4, N)."""
    return np.array(np.broadcast_arrays(c.rate, c.floor, c.threshold, c.refractory), F)


def membranes(v: np.ndarray, flow: Inflow, fixed: np.ndarray, h: Any, again: int) -> tuple[np.ndarray, np.ndarray]:
    """`v` (1, N) and the spikes (1, N) after a step of `h` s: what `rise`, `settle` and firing give.

    `fixed` (4, N) are those of `fixed_rows`, `again` is how many more spikes a neuron may fire in the step.
    """
    loops = compiled()
    if loops is None or flow.nmda is not None:
        raise RuntimeError("the compiled loops do not compute these equations")
    begin, finish, *_ = loops
    n = v.shape[1]
    before = plain(v[0])
    current = plain(flow.current[0] if flow.current.shape == v.shape else np.broadcast_to(flow.current, v.shape)[0])
    leak = _one(n) if flow.leak is None else plain(np.broadcast_to(flow.leak, v.shape)[0])
    work, result = np.empty((6, n), F), np.empty((2, n), F)
    begin(before, _NONE, current, leak, fixed, h, work)
    np.log(work[5], out=work[5])
    unfinished = finish(before, fixed, h, work, result)
    if again and unfinished:
        _go_on(unfinished, work[0], result, current, leak, fixed, h, again)
    return result[:1], result[1:]


def _go_on(
    count: int,
    left: np.ndarray,
    found: np.ndarray,
    current: np.ndarray,
    leak: np.ndarray,
    fixed: np.ndarray,
    h: Any,
    most: int,
) -> None:
    """Membranes and spikes `found` (2, N) of the `count` neurons for which something is `left` (N,) of the step.

    As `dynamics.settle`.
    """
    loops = compiled()
    if loops is None:
        return
    begin, finish, _, gather, scatter = loops
    for _ in range(most):
        place, parts = np.empty(count, np.int64), np.empty((7, count), F)
        gather(left, current, leak, fixed, place, parts)
        rest, work, result = np.zeros(count, F), np.empty((6, count), F), np.empty((2, count), F)
        begin(rest, parts[0], parts[1], parts[2], parts[3:], h, work)
        np.log(work[5], out=work[5])
        finish(rest, parts[3:], F(0), work, result)
        count = scatter(place, work, result, left, found)
        if not count:
            return


def add_events(events: np.ndarray, weights: np.ndarray, total: np.ndarray) -> None:
    """Add `events` (sources,) times `weights` (sources, columns) to `total` (columns,)."""
    if (loops := compiled()) is None:
        raise RuntimeError("the compiled loops are not there")
    loops[2](plain(events), weights, total)


@lru_cache(maxsize=8)
def _one(n: int) -> np.ndarray:
    return np.ones(n, F)


def plain(values: np.ndarray) -> np.ndarray:
    """`values` as the compiled loops take them: float32, contiguous, writable."""
    return values if values.flags.carray and values.dtype == F else np.array(values, F)


@cache
def compiled() -> tuple[Callable[..., Any], ...] | None:
    """The compiled loops, or None where Numba is not installed; to be called before Lava forks its workers."""
    try:
        import numba
    except ImportError:
        return None
    row, number, table = numba.float32[::1], numba.float32, numba.float32[:, ::1]  # few: each takes time to hand over
    signatures = (
        (row, row, row, row, table, number, table),
        (row, table, number, table, table),
        (row, table, row),
        (row, row, row, table, numba.int64[::1], table),
        (numba.int64[::1], table, table, row, table),
    )

    def compile_(function: Callable[..., None], signature: tuple[Any, ...], keep: bool) -> Any:
        return numba.njit([signature], cache=keep, error_model="numpy", boundscheck=False)(function)

    loops = tuple(zip((_begin, _finish, _add, _gather, _scatter), signatures, strict=True))
    try:
        return tuple(compile_(function, signature, True) for function, signature in loops)
    except RuntimeError:  # no folder to keep compiled code in
        return tuple(compile_(function, signature, False) for function, signature in loops)


def _gather(left: Any, current: Any, leak: Any, fixed: Any, place: Any, parts: Any) -> None:
    """Where something is left, `place` (count,), and the values there, `parts` (7, count)."""
    count = 0
    for k in range(len(left)):
        if left[k] > F(0):
            place[count] = k
            parts[0, count], parts[1, count], parts[2, count] = left[k], current[k], leak[k]
            for row in range(4):
                parts[3 + row, count] = fixed[row, k]
            count += 1


def _scatter(place: Any, work: Any, result: Any, left: Any, found: Any) -> Any:
    """Put what was computed of those back, and what is then left; for how many neurons that is anything."""
    count = 0
    for j in range(work.shape[1]):
        k = place[j]
        left[k], found[0, k] = work[0, j], result[0, j]
        if result[0, j] < F(0):
            found[1, k] += F(1)
        if left[k] > F(0):
            count += 1
    return count


def _add(events: Any, weights: Any, total: Any) -> None:
    for source in range(len(events)):
        if events[source] != F(0):
            for k in range(len(total)):
                total[k] += events[source] * weights[source, k]


def _begin(v: Any, left: Any, current: Any, leak: Any, fixed: Any, h: Any, work: Any) -> None:
    """`work` gets y, active, the leak, guess, y + change − guess, and guess/y, as in `dynamics.reach`.

    From the floor, for what is `left` of the step, where that is not empty.
    """
    rate, floor = fixed[0], fixed[1]
    zero, half, one, twelfth, tenth = F(0), F(0.5), F(1), F(1 / 12), F(0.1)
    largest = F(LARGEST)
    for k in range(len(v)):
        y = floor[k] if v[k] < zero else v[k]
        active = max(h + min(v[k], zero), zero)
        if len(left):
            y, active = floor[k], left[k]
        span = active * rate[k]
        lost = min(leak[k], largest)
        gain = (min(max(current[k], zero), largest) - lost * (one + y)) * span
        upper = max(gain, zero) + y
        whole = one + upper
        mean = max(y * whole + half * gain * upper, half * y * whole)
        slope = mean / (mean + whole)
        x = slope * (lost * span)
        change = gain / (one + x * (half + x * twelfth))
        guess = max(y + slope * change, tenth * floor[k])
        work[0, k], work[1, k], work[2, k], work[3, k] = y, active, lost, guess
        work[4, k] = y + change - guess
        work[5, k] = guess / y


def _finish(v: Any, fixed: Any, h: Any, work: Any, result: Any) -> Any:
    """The rest of `dynamics.reach`, then `late`, `land` and firing: membranes and spikes, `result` (2, N).

    work[0] gets what is left of the step after that; returns for how many neurons that is anything.
    """
    rate, floor, threshold, refractory = fixed[0], fixed[1], fixed[2], fixed[3]
    after, spikes = result[0], result[1]
    zero, half, one, twelfth, least, tiny = F(0), F(0.5), F(1), F(1 / 12), F(1e-9), F(1e-6)
    for k in range(len(v)):
        y, active, lost, guess = work[0, k], work[1, k], work[2, k], work[3, k]
        over = (work[4, k] - work[5, k]) / (one + guess)
        down = min(over, zero)
        end = max(guess * (one + max(over, zero)) / (one - down * (one - half * down)), floor[k])
        above = max(threshold[k] - y, zero)
        gone = max(end - y, above + tiny)
        x = lost * (active * rate[k])
        crossing = above / (above + (gone - above) * (one + x * (half + x * twelfth)))
        since = (one - crossing) * active
        left = max(refractory[k] - since, least)
        work[0, k] = since - refractory[k] if end > threshold[k] else zero
        if end > threshold[k]:
            after[k] = -left
        elif v[k] + h < zero:
            after[k] = v[k] + h
        else:
            after[k] = end
        spikes[k] = one if end / threshold[k] - one > zero else zero
    count = 0
    for k in range(len(v)):
        if work[0, k] > zero:
            count += 1
    return count
