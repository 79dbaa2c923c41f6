"""After a step: cells that fired go on where their refractory period ends within it, as in `dynamics.settle`.

Below the ruler is the text of what is compiled after that of `run.py`.
"""

from __future__ import annotations

from typing import Any

from nir_dynapse.sim.dynamics import begin, fed_back, flowing, halfway, land, late, opening, reach
from nir_dynapse.sim.native.kernels.run import fill, most, one, soonest, zero
from nir_dynapse.sim.native.memory import loop
from nir_dynapse.sim.native.names import U
from nir_dynapse.sim.native.scalar import maximum, minimum

# ----------------------------------------------------------------------------------------------------------------------

BLOCK = 16
"""Cells that fired and go on side by side: those of a vector."""


@loop
def side_by_side(work: Any, again: Any) -> None:
    """A block of cells goes on: `v` of those with time left (`afters`) and how often each has fired (`times`)."""
    rates, floors, thresholds, periods, flows = work[0], work[1], work[2], work[3], work[4]
    lesses, lefts, afters, reached, rests = work[5], work[6], work[7], work[8], work[9]
    times = work[10]
    fill(times, one)
    for _ in range(again):
        waiting = 0
        for i in range(BLOCK):
            waiting += lefts[i] > zero
        if waiting == 0:
            break
        for i in range(BLOCK):
            span = maximum(lefts[i], zero) * rates[i]
            reached[i] = reach(floors[i], flows[i], lesses[i], span, floors[i], None)
        for i in range(BLOCK):
            since = late(floors[i], reached[i], lefts[i], lesses[i], rates[i], thresholds[i], None)
            rests[i] = since - periods[i]
        for i in range(BLOCK):
            after = minimum(rests[i], -soonest) if reached[i] > thresholds[i] else reached[i]
            afters[i] = after if lefts[i] > zero else afters[i]
        for i in range(BLOCK):
            lefts[i] = lefts[i] if reached[i] > thresholds[i] else zero
        for i in range(BLOCK):
            times[i] += one if lefts[i] > zero else zero
        for i in range(BLOCK):
            lefts[i] = rests[i] if lefts[i] > zero else zero


@loop
def go_on(
    v: Any,
    current: Any,
    leak: Any,
    fixed: Any,
    sent: Any,
    count: Any,
    again: Any,
    spikes: Any,
    waiting: Any,
    work: Any,
) -> None:
    """Those of the first `count` cells in `sent` go on whose `v` is time left of the step (not negative): as in
    `dynamics.settle`. `fixed`: rate, floor, threshold, refractory; `work` (11, BLOCK)."""
    rates, floors, thresholds, periods, flows = work[0], work[1], work[2], work[3], work[4]
    lesses, lefts, afters, times = work[5], work[6], work[7], work[10]
    more = 0
    for j in range(count):
        waiting[U(more)] = sent[U(j)]
        more += v[U(sent[U(j)])] > zero
    for low in range(0, more, BLOCK):
        for i in range(BLOCK):
            k = U(waiting[U(min(low + i, more - 1))])
            rates[i], floors[i], thresholds[i], periods[i] = fixed[0][k], fixed[1][k], fixed[2][k], fixed[3][k]
            flows[i], lesses[i], lefts[i], afters[i] = current[k], leak[k], v[k], -soonest
        for i in range(BLOCK):
            flows[i] = flowing(flows[i], zero, None)
        for i in range(BLOCK):
            lesses[i] = minimum(lesses[i], most)
        side_by_side(work, again)
        for i in range(min(BLOCK, more - low)):
            k = U(waiting[U(low + i)])
            v[k], spikes[k] = afters[i], times[i]


@loop
def resume(
    v: Any,
    end: Any,
    current: Any,
    leak: Any,
    fixed: Any,
    h: Any,
    sent: Any,
    count: Any,
    again: Any,
    spikes: Any,
    work: Any,
) -> None:
    """`v` of the first `count` cells in `sent`, which fired, after the step, and how often they did: as `dynamics.settle`.

    `fixed`: rate, floor, threshold, refractory; `work` (11, BLOCK). Cells are taken by the block,
    one vector, filled up with the last of them.
    """
    rates, floors, thresholds, periods, flows = work[0], work[1], work[2], work[3], work[4]
    lesses, lefts, afters, reached, times = work[5], work[6], work[7], work[8], work[10]
    for low in range(0, count, BLOCK):
        for i in range(BLOCK):
            k = U(sent[U(min(low + i, count - 1))])
            rates[i], floors[i], thresholds[i], periods[i] = fixed[0][k], fixed[1][k], fixed[2][k], fixed[3][k]
            flows[i], lesses[i], afters[i], reached[i] = current[k], leak[k], v[k], end[k]
        for i in range(BLOCK):
            flows[i] = flowing(flows[i], zero, None)
        for i in range(BLOCK):
            lesses[i] = minimum(lesses[i], most)
        for i in range(BLOCK):
            y, active = begin(afters[i], floors[i], h, None)
            lefts[i] = late(y, reached[i], active, lesses[i], rates[i], thresholds[i], None) - periods[i]
        for i in range(BLOCK):
            afters[i] = minimum(lefts[i], -soonest)
        side_by_side(work, again)
        for i in range(min(BLOCK, count - low)):
            k = U(sent[U(low + i)])
            v[k], spikes[k] = afters[i], times[i]


@loop
def reset(v: Any, end: Any, leak: Any, fixed: Any, h: Any, k: Any) -> Any:
    """What is left of the step for a cell that fired after its refractory period (negative: of that)."""
    y, active = begin(v[k], fixed[1][k], h, None)
    since = late(y, end[k], active, minimum(leak[k], most), fixed[0][k], fixed[2][k], None)
    return since - fixed[3][k]


@loop
def arrived(left: Any, reached: Any, leak: Any, rate: Any, floor: Any, threshold: Any, refractory: Any) -> Any:
    """`v` of a cell that came from its floor to `reached` in what was `left` of a step, and what is left after that."""
    since = late(floor, reached, left, leak, rate, threshold, None)
    v = land(zero, reached, since, refractory, threshold, zero, None)
    return v, since - refractory if reached > threshold else zero


@loop
def resumed_all(
    left: Any, current: Any, nmda: Any, leak: Any, noise: Any, fixed: Any, power: Any, which: Any, again: Any
) -> Any:
    """`v` of one cell that fired after the step, and how often it fired once more, from what is `left` of the step after
    its refractory period (negative: of that), for all that `advance_all` knows."""
    rate, floor, threshold, refractory, gate, feedback = fixed
    with_gate, with_feedback = which
    v, more, whole = minimum(left, -soonest), 0, minimum(leak, most)
    for _ in range(again):
        if not left > zero:
            break
        opened, reached = floor / (floor + gate), zero
        for twice in range(2 if with_gate else 1):
            flow = flowing(current + nmda * opened if with_gate else current, noise, None)
            less, span = whole, left * rate
            if with_feedback:
                less = whole - fed_back(floor, feedback, power, whole, None)
                middle = halfway(floor, reach(floor, flow, less, span, floor, None), threshold, None)
                less = whole - fed_back(middle, feedback, power, whole, None)
            reached = reach(floor, flow, less, span, floor, None)
            if with_gate and twice == 0:
                opened = opening(floor, reached, gate, threshold, None)
        v, left = arrived(left, reached, whole, rate, floor, threshold, refractory)
        more += reached > threshold
    return v, more
