"""The adjoint of `kernels.run`: of weights, first state, constants and events, from what the run kept.

What is below the first ruler is compiled together with that of `run.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.sim.derivatives import fast_sigmoid, gaussian, membrane_slopes, triangle
from nir_dynapse.sim.dynamics import GABA, SHUNT, begin, late
from nir_dynapse.sim.native.kernels.events import exchange, listed, soon
from nir_dynapse.sim.native.kernels.run import (
    clear,
    copy,
    fill,
    fixed_of,
    kind,
    most,
    one,
    soonest,
    state_of,
    stretch,
    work_of,
    zero,
)
from nir_dynapse.sim.native.memory import fused, loop, summed
from nir_dynapse.sim.native.names import (
    ADAPTATION,
    AHP_DECAY,
    AHP_KICK,
    DC,
    FLOOR,
    LEAK,
    N_CONSTANTS,
    N_HEAD,
    RATE,
    REFRACTORY,
    SHAPE,
    SLOPE,
    STEP,
    STRETCH,
    SUBSTEPS,
    THRESHOLD,
    TILE,
    U,
)
from nir_dynapse.sim.native.scalar import absolute, minimum

# ----------------------------------------------------------------------------------------------------------------------


@fused
def to_end(v: Any, end: Any, threshold: Any, h: Any, spike: Any, g_v: Any, g_spike: Any) -> Any:
    """Adjoint of y before the reset: along the membrane unless it fired or rests, and through the spike."""
    return (g_v if end <= threshold and not v + h < zero else zero) + spike * g_spike


@loop
def pull(
    v: Any,
    current: Any,
    leak: Any,
    rate: Any,
    floor: Any,
    threshold: Any,
    h: Any,
    slope: Any,
    g_v: Any,
    g_spike: Any,
    g_in: Any,
    g_leak: Any,
) -> None:
    """`differentiate`, `bump` and `through` in one, for the fast sigmoid and without adjoints of constants."""
    for k in range(v.shape[0]):
        y, active = begin(v[k], floor[k], h, None)
        end, by_current, by_leak, by_v, _, _ = membrane_slopes(
            v[k], y, active, current[k], leak[k], rate[k], floor[k], None
        )
        spike = fast_sigmoid(slope * absolute(end / threshold[k] - one), None) / threshold[k]
        g_end = to_end(v[k], end, threshold[k], h, spike, g_v[k], g_spike[k])
        g_in[k] = by_current * g_end
        g_leak[k] = by_leak * g_end
        g_v[k] = by_v * g_end + (g_v[k] if v[k] + h < zero else zero)


@loop
def differentiate(v: Any, current: Any, leak: Any, rate: Any, floor: Any, h: Any, end: Any, by: Any) -> None:
    """y at the end and its derivatives by current, leak, `v`, span and floor, `by` (5, cells)."""
    for k in range(v.shape[0]):
        y, active = begin(v[k], floor[k], h, None)
        found = membrane_slopes(v[k], y, active, current[k], leak[k], rate[k], floor[k], None)
        end[k], by[0, k], by[1, k], by[2, k], by[3, k], by[4, k] = found


@loop
def bump(end: Any, threshold: Any, slope: Any, shape: Any, spike: Any) -> None:
    """Derivative of a spike by y."""
    for k in range(end.shape[0]):
        spike[k] = slope * absolute(end[k] / threshold[k] - one)
    if shape == 0:
        for k in range(end.shape[0]):
            spike[k] = fast_sigmoid(spike[k], None) / threshold[k]
    elif shape == 1:
        for k in range(end.shape[0]):
            spike[k] = triangle(spike[k], None) / threshold[k]
    else:
        for k in range(end.shape[0]):
            spike[k] = gaussian(spike[k], None) / threshold[k]


@loop
def fixed(
    v: Any,
    end: Any,
    leak: Any,
    rate: Any,
    floor: Any,
    threshold: Any,
    refractory: Any,
    h: Any,
    spike: Any,
    by: Any,
    g_v: Any,
    g_spike: Any,
    found: Any,
) -> None:
    """Adjoints of the constants of the membrane, added to `found` (constants, cells); before `through`."""
    for k in range(v.shape[0]):
        y, active = begin(v[k], floor[k], h, None)
        g_end = to_end(v[k], end[k], threshold[k], h, spike[k], g_v[k], g_spike[k])
        found[RATE, k] += active * by[3, k] * g_end
        found[FLOOR, k] += by[4, k] * g_end
        found[THRESHOLD, k] -= spike[k] * end[k] / threshold[k] * g_spike[k]
        since = late(y, end[k], active, minimum(leak[k], most), rate[k], threshold[k], None)
        found[REFRACTORY, k] -= g_v[k] if end[k] > threshold[k] and refractory[k] - since > soonest else zero
        found[DC, k] += by[0, k] * g_end


@loop
def through(
    v: Any, end: Any, threshold: Any, h: Any, spike: Any, by: Any, g_v: Any, g_spike: Any, g_in: Any, g_leak: Any
) -> None:
    """Adjoints through the membrane: of input current and leak, and (in place) of `v` before."""
    for k in range(v.shape[0]):
        g_end = to_end(v[k], end[k], threshold[k], h, spike[k], g_v[k], g_spike[k])
        g_in[k] = by[0, k] * g_end
        g_leak[k] = by[1, k] * g_end
        g_v[k] = by[2, k] * g_end + (g_v[k] if v[k] + h < zero else zero)


@loop
def to_dendrites(adjoint: Any, kinds: Any, g_in: Any, g_leak: Any) -> None:
    """Add the adjoints of input current and leak to those of the dendrites (groups, cells)."""
    for g in range(adjoint.shape[0]):
        if kinds[g] == SHUNT:
            for k in range(g_leak.shape[0]):
                adjoint[g, k] += g_leak[k]
        elif kinds[g] == GABA:
            for k in range(g_in.shape[0]):
                adjoint[g, k] -= g_in[k]
        else:
            for k in range(g_in.shape[0]):
                adjoint[g, k] += g_in[k]


@loop
def fade(adjoint: Any, decay: Any) -> None:
    """A step back of the dendrites."""
    for g in range(adjoint.shape[0]):
        for k in range(adjoint.shape[1]):
            adjoint[g, k] *= decay[g, k]


@summed
def collect(
    w: Any,
    adjoint: Any,
    g: Any,
    low: Any,
    high: Any,
    source: Any,
    less: Any,
    rows: Any,
    wires: Any,
    work: Any,
    result: Any,
    wide: Any,
) -> None:
    """result[sample·wide + source − less] += Σ_m w[line, m]·adjoint[g, sample·n + m], lines `low` to `high`."""
    n, count = wires.n, high - low
    if count == 0:
        return
    if wires.sparse or rows * n * count < 4096:
        for b in range(rows):
            for line in range(low, high):
                total = zero
                if wires.sparse:
                    for k in range(U(wires.ends[U(line)]), U(wires.ends[U(line + 1)])):
                        total += w[0, k] * adjoint[g, U(b * n) + U(wires.post[k])]
                else:
                    for k in range(n):
                        total += w[U(line), U(k)] * adjoint[g, U(b * n) + U(k)]
                result[U(b * wide + source[U(line)] - less)] += total
        return
    found = work[: rows * count].reshape(rows, count)
    np.dot(adjoint[g, : rows * n].reshape(rows, n), w[low:high].T, found)
    first = source[low] - less
    if source[high - 1] - source[low] == count - 1:  # lines are in the order of their sources: these lie side by side
        for b in range(rows):
            for k in range(count):
                result[U(b * wide + first) + U(k)] += found[U(b), U(k)]
        return
    for b in range(rows):
        for line in range(count):
            result[U(b * wide + source[U(low + line)] - less)] += found[U(b), U(line)]


@loop
def sources_of(wires: Any, groups: Any) -> Any:
    """The source of every line, and where the lines of a group's inputs and of its neurons begin (and the last end)."""
    source, split = np.zeros(wires.lines.shape[0], np.int64), np.zeros(2 * groups + 1, np.int64)
    for s in range(wires.first.shape[0] - 1):
        for q in range(wires.first[s], wires.first[s + 1]):
            source[wires.lines[q]] = s
    for line in range(wires.lines.shape[0]):
        split[2 * wires.group[line] + (1 if source[line] < wires.inputs else 2)] += 1
    for k in range(1, 2 * groups + 1):
        split[k] += split[k - 1]
    return source, split


@loop
def back(
    w: Any,
    plan: Any,
    wires: Any,
    c: Any,
    start: Any,
    x: Any,
    states: Any,
    g_counts: Any,
    g_state: Any,
    g_w: Any,
    g_start: Any,
    g_c: Any,
    g_x: Any,
    part: Any,
    share: Any,
) -> None:
    """Adjoints of first state and weights (added), and of constants (added) and events where `g_c`, `g_x` are not empty.

    Gradients end at a reset, as in `sim.adjoint`.
    """
    batch, bins, n = g_counts.shape
    groups, rows, substeps = c.shape[0] - N_CONSTANTS, plan[TILE], plan[SUBSTEPS]
    adaptation, leak_varies, kinds = plan[ADAPTATION] > 0, plan[LEAK] > 0, plan[N_HEAD:]
    inputs, cells, c_wanted, steps = wires.inputs, states.shape[3], g_c.size > 0, bins * substeps
    source, split = sources_of(wires, groups)
    fixed_all, forward = fixed_of(c, N_CONSTANTS, cells), work_of(groups, cells, x.shape[2])
    rate, floor, threshold, refractory, _, ahp_decay, ahp_kick, decay = fixed_all
    h, slope = c[STEP, 0], c[SLOPE, 0]
    state = state_of(groups, cells)
    drive, ahp, v_now, now = state
    parts = STRETCH if c_wanted else 0
    ones, fired = np.ones(cells, kind), np.empty((STRETCH, cells), np.uint8)
    flows = np.empty((STRETCH, 3 if leak_varies else 2, cells), kind)
    drives, ahps = np.empty((parts, groups, cells), kind), np.empty((parts, cells), kind)
    uncounted = np.empty((0, 0, 0), kind)
    adjoint = np.empty((groups, cells), kind)
    end, spike, by = np.empty(cells, kind), np.empty(cells, kind), np.zeros((5, cells), kind)
    g_in, g_leak = np.empty(cells, kind), np.empty(cells, kind)
    g_v, g_spike, g_ahp = np.empty(cells, kind), np.empty(cells, kind), np.empty(cells, kind)
    found = np.zeros((c.shape[0], cells), kind)
    before, sent, seen = np.zeros(cells, np.uint8), forward[4], forward[5]
    work, g_inputs = np.empty(rows * (inputs + n), kind), np.empty(rows * inputs, kind)
    for tile in range(part, (batch + rows - 1) // rows, share):
        low = tile * rows
        high = min(low + rows, batch)
        size = (high - low) * n
        fill(g_ahp, zero)
        fill(g_v, zero)
        fill(g_spike, zero)
        clear(adjoint)
        for k in range(size):
            b, m = low + k // n, k % n
            for g in range(groups):
                adjoint[g, k] = g_state[b, g, m]
            g_ahp[k], g_v[k], g_spike[k] = g_state[b, groups, m], g_state[b, groups + 1, m], g_state[b, groups + 2, m]
        for t in range(steps - 1, -1, -1):
            at = t % STRETCH
            first = t - at
            if at == STRETCH - 1 or t == steps - 1:
                # The stretch once more, from where it began: memory that is new costs more than to compute this.
                began = states[tile, t // STRETCH]
                for g in range(groups):
                    copy(began[g], drive[g])
                copy(began[groups], ahp)
                copy(began[groups + 1], v_now)
                copy(began[groups + 2], now)
                kept = (fired, flows, drives, ahps)
                stretch(low, high, first, t + 1, w, plan, wires, h, fixed_all, x, state, forward, uncounted, kept)
            place = t // substeps
            for b in range(low, high):
                base = (b - low) * n
                soon(g_counts, b, place - 1)
                for m in range(n):
                    g_spike[U(base) + U(m)] += g_counts[b, place, m]
            v, current, leak = flows[at, 0], flows[at, 1], flows[at, 2] if leak_varies else ones
            if plan[SHAPE] == 0 and not c_wanted:
                pull(v, current, leak, rate, floor, threshold, h, slope, g_v, g_spike, g_in, g_leak)
            else:
                differentiate(v, current, leak, rate, floor, h, end, by)
                bump(end, threshold, slope, plan[SHAPE], spike)
                if c_wanted:
                    fixed(v, end, leak, rate, floor, threshold, refractory, h, spike, by, g_v, g_spike, found)
                through(v, end, threshold, h, spike, by, g_v, g_spike, g_in, g_leak)
            to_dendrites(adjoint, kinds, g_in, g_leak)
            if adaptation:
                for k in range(cells):
                    g_ahp[k] += g_leak[k]
                    g_spike[k] = g_ahp[k] * ahp_kick[k]
            else:
                fill(g_spike, zero)
            # What the events of this step reached, and the adjoints of the spikes that they were.
            for g in range(groups):
                low_line, high_line = split[2 * g + 1], split[2 * g + 2]
                collect(w, adjoint, g, low_line, high_line, source, inputs, high - low, wires, work, g_spike, n)
            if at > 0:
                copy(fired[at - 1], before)
            else:
                copy(states[tile, t // STRETCH, groups + 2], before)
            afresh, count = t == place * substeps, listed(before, size, sent)
            exchange(low, high, x, place, afresh, before, sent, count, wires, g_w, seen, adjoint, True)
            if afresh and g_x.size > 0:
                fill(g_inputs, zero)
                for g in range(groups):
                    low_line, high_line = split[2 * g], split[2 * g + 1]
                    collect(w, adjoint, g, low_line, high_line, source, 0, high - low, wires, work, g_inputs, inputs)
                for b in range(low, high):
                    for i in range(x.shape[2]):
                        g_x[b, place, i] = g_inputs[(b - low) * inputs + i]
            if c_wanted:
                for g in range(groups):
                    for k in range(cells):
                        found[N_CONSTANTS + g, k] += adjoint[g, k] * drives[at, g, k]
                for k in range(cells):
                    found[AHP_KICK, k] += g_ahp[k] * kind(before[k])
                    found[AHP_DECAY, k] += g_ahp[k] * ahps[at, k]
            fade(adjoint, decay)
            for k in range(cells):
                g_ahp[k] *= ahp_decay[k]
        for k in range(size):
            b, m = low + k // n, k % n
            for g in range(groups):
                g_start[b, g, m] = adjoint[g, k]
            g_start[b, groups, m], g_start[b, groups + 1, m], g_start[b, groups + 2, m] = g_ahp[k], g_v[k], g_spike[k]
    if c_wanted:
        for j in range(c.shape[0]):
            for k in range(rows * n):
                g_c[j, k % n] += found[j, k]
