"""A run forward only, for NumPy: all that `sim.dynamics` knows, on lists of input events and of synapses.

Tiles as in `run.py`. What fired is a list, and so is what it drives: an entry of a source is a place in `events` and either
one value (lists) or a value for each neuron of a dendrite (`length` of them, side by side). Delayed entries lie further
round a ring of the steps to come.

Below the ruler is the text of what is compiled, after those of `run.py` and `fired.py`; once with `ALL`, and once without
what few runs ask for (gate, soma, noise, lost events, states, traces), which takes half as long.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.sim.dynamics import GABA, NMDA, SHUNT, begin, fed_back, flowing, halfway, land, opening, reach
from nir_dynapse.sim.native.kernels.events import listed
from nir_dynapse.sim.native.kernels.fired import BLOCK, reset, resume, resumed_all
from nir_dynapse.sim.native.kernels.run import (
    absorb,
    copy,
    fill,
    fixed_of,
    kind,
    most,
    one,
    tiled,
    zero,
)
from nir_dynapse.sim.native.memory import loop
from nir_dynapse.sim.native.names import (
    DEPTH,
    FIRST_BIN,
    FIRST_PLACE,
    P_AGAIN,
    P_FEEDBACK,
    P_GATE,
    P_LENGTH,
    P_LOSS,
    P_NOISE,
    P_POWER,
    P_ROWS,
    P_SUBSTEPS,
    PADDED,
    PLAYED,
    SEED,
    STEP,
    WITH_AHP,
    WITH_FEEDBACK,
    WITH_GATE,
    WITH_LEAK,
    WITH_LOSS,
    WITH_NOISE,
    U,
)
from nir_dynapse.sim.native.scalar import bell, minimum, mixed, uniform

ALL = True

# ----------------------------------------------------------------------------------------------------------------------


@loop
def deliver(source: Any, by: Any, base: Any, shift: Any, wires: Any, events: Any) -> None:
    """Add `by` events of a source to what the sample at `base` gets, from the step at `shift` on."""
    first, target, w, length, ring = wires
    size = U(events.shape[0])
    begin, after, start = U(first[source]), U(first[source + 1]), U(base) + U(shift)
    if length == 1 and not ring:
        for q in range(begin, after):
            events[U(np.uint32(target[q])) + start] += by * w[q]
    elif length == 1:
        for q in range(begin, after):
            place = U(np.uint32(target[q])) + U(shift)
            events[(place - size if place >= size else place) + U(base)] += by * w[q]
    else:
        for q in range(begin, after):
            place = U(np.uint32(target[q])) + U(shift)
            place = (place - size if place >= size else place) + U(base)
            for n in range(length):
                events[place + U(n)] += by * w[q * U(length) + U(n)]


@loop
def draw_noise(key: Any, deviation: Any, base: Any, n: Any, noise: Any) -> None:
    """The noise of a sample: `disturbance.disturbances`."""
    for m in range(n):
        own = mixed(key ^ np.uint32(m))
        noise[U(base) + U(m)] = bell(deviation[m], uniform(own, np.uint32(1)), uniform(own, np.uint32(2)))


@loop
def draw_losses(key: Any, loss: Any, base: Any, n: Any, spikes: Any) -> None:
    """Events of a sample that are lost."""
    for m in range(n):
        own = uniform(mixed(key ^ np.uint32(m)), np.uint32(3))
        spikes[U(base) + U(m)] = spikes[U(base) + U(m)] if own >= loss else 0


@loop
def less_feedback(y: Any, leak: Any, feedback: Any, power: Any, less: Any) -> None:
    """The leak without what the feedback at y takes off."""
    for k in range(y.shape[0]):
        whole = minimum(leak[k], most)
        less[k] = whole - fed_back(y[k], feedback[k], power, whole, None)


@loop
def advance_plain(v: Any, current: Any, leak: Any, rate: Any, floor: Any, h: Any, end: Any) -> None:
    """A step of the membrane: `end` as it leaves v, which stays as it is."""
    for k in range(v.shape[0]):
        y, active = begin(v[k], floor[k], h, None)
        total = flowing(current[k], zero, None)
        end[k] = reach(y, total, minimum(leak[k], most), active * rate[k], floor[k], None)


@loop
def go(y: Any, current: Any, less: Any, active: Any, rate: Any, floor: Any, end: Any) -> None:
    """Where a step leads."""
    for k in range(y.shape[0]):
        end[k] = reach(y[k], current[k], less[k], active[k] * rate[k], floor[k], None)


@loop
def settle(v: Any, end: Any, threshold: Any, h: Any, spikes: Any) -> None:
    """Which cells fired, and `v` after the step where they did not; those that did are `reset` later."""
    for k in range(v.shape[0]):
        fired = end[k] > threshold[k]
        spikes[k] = fired
        v[k] = v[k] if fired else land(v[k], end[k], zero, one, threshold[k], h, None)


@loop
def advance_all(
    v: Any,
    current: Any,
    nmda: Any,
    leak: Any,
    noise: Any,
    fixed: Any,
    h: Any,
    power: Any,
    which: Any,
    work: Any,
    end: Any,
) -> None:
    """`advance_plain` with the NMDA gate, the exponential soma and noise, in several loops."""
    rate, floor, threshold, _, gate, feedback = fixed
    y, active, total, opened, less, middle = work[0], work[1], work[2], work[3], work[4], work[5]
    with_gate, with_feedback = which
    for k in range(v.shape[0]):
        y[k], active[k] = begin(v[k], floor[k], h, None)
        opened[k] = y[k] / (y[k] + gate[k])
        less[k] = minimum(leak[k], most)
    for again in range(2 if with_gate else 1):
        for k in range(v.shape[0]):
            flow = current[k] + nmda[k] * opened[k] if with_gate else current[k]
            total[k] = flowing(flow, noise[k], None)
        if with_feedback:
            less_feedback(y, leak, feedback, power, less)
            go(y, total, less, active, rate, floor, end)
            for k in range(v.shape[0]):
                middle[k] = halfway(y[k], end[k], threshold[k], None)
            less_feedback(middle, leak, feedback, power, less)
        go(y, total, less, active, rate, floor, end)
        if with_gate and again == 0:
            for k in range(v.shape[0]):
                opened[k] = opening(y[k], end[k], gate[k], threshold[k], None)


@loop
def observed(name: Any, v: Any, floor: Any, drive: Any, ahp: Any, decay: Any, kick: Any, spikes: Any, k: Any) -> Any:
    """What is recorded of cell k: group `name`, or -1 the membrane, -2 the adaptation, -3 nothing."""
    if name >= 0:
        return drive[name, k]
    if name == -1:
        return floor[k] if v[k] < zero else v[k]
    if name == -2:
        return ahp[k] * decay[k] + kind(spikes[k]) * kick[k]
    return zero


@loop
def hold(cell: Any, back: Any, drive: Any, ahp: Any, v: Any, spikes: Any, events: Any, shift: Any, k: Any) -> None:
    """Exchange the state of cell k with `cell` (rows): dendrites, adaptation, membrane, spike, events to come."""
    groups = drive.shape[0]
    for g in range(groups):
        if back:
            cell[g] = drive[g, k]
        else:
            drive[g, k] = cell[g]
    if back:
        cell[groups], cell[groups + 1], cell[groups + 2] = ahp[k], v[k], spikes[k]
    else:
        ahp[k], v[k], spikes[k] = cell[groups], cell[groups + 1], cell[groups + 2]
    for q in range(groups + 3, cell.shape[0]):
        place = ((q - groups - 3) * drive.shape[1] + shift) % events.shape[0] + k
        if back:
            cell[q] = events[place]
        else:
            events[place] = cell[q]


@loop
def play(
    first: Any,
    target: Any,
    w: Any,
    c: Any,
    plan: Any,
    kinds: Any,
    wanted: Any,
    tonic: Any,
    ends: Any,
    channel: Any,
    value: Any,
    sample: Any,
    column: Any,
    state: Any,
    total: Any,
    counts: Any,
    traces: Any,
    part: Any,
    share: Any,
) -> None:
    """Spikes of the neurons with a `column`, added to `total` (B, columns) and `counts` (B, ≥ T, columns; from a bin of
    the plan on), where those are not empty.

    Input events of bin t of sample b are ends[b·T + t] to ends[b·T + t + 1] of `channel` and `value`; `tonic` (T,) come
    on top. `state` (B, N, rows) is where the run begins and what it leads to, `traces` (names, B, ≥ T, N) what it
    records, where not empty. Of the tiles every `share`th is run, from `part` on.
    """
    batch, bins, n, groups = sample.shape[0], tonic.shape[0], c.shape[1], kinds.shape[0]
    rows, substeps, depth = plan[P_ROWS], plan[P_SUBSTEPS], plan[DEPTH]
    no_step = plan[P_ROWS] * 0
    offset = plan[FIRST_PLACE]
    special = plan[WITH_GATE] + plan[WITH_FEEDBACK] + plan[WITH_NOISE] > 0
    wires = (first, target, w, plan[P_LENGTH], depth > 1)
    inputs = first.shape[0] - 1 - n
    cells = (rows * n + PADDED - 1) // PADDED * PADDED
    rate, floor, threshold, refractory, dc, ahp_decay, ahp_kick, decay = fixed_of(c, PLAYED, cells)
    fixed = (rate, floor, threshold, refractory, tiled(c[P_GATE], cells), tiled(c[P_FEEDBACK], cells))
    h, power, loss, drive = c[STEP, 0], c[P_POWER, 0], c[P_LOSS, 0], np.zeros((groups, cells), kind)
    events = np.zeros(depth * groups * cells, kind)
    ahp, v, end = np.zeros(cells, kind), np.empty(cells, kind), np.empty(cells, kind)
    current, leak, nmda = np.zeros(cells, kind), np.ones(cells, kind), np.zeros(cells, kind)
    noise, work = np.zeros(cells, kind), np.empty((6, cells if special else 0), kind)
    spikes, sent, block = np.zeros(cells, np.uint8), np.empty(cells + 1, np.int64), np.empty((11, BLOCK), kind)
    for tile in range(part, (batch + rows - 1) // rows, share):
        low = tile * rows
        high = min(low + rows, batch)
        size, shift = (high - low) * n, no_step
        copy(floor, v)
        fill(ahp, zero)
        fill(spikes, 0)
        fill(events, zero)
        for g in range(groups):
            fill(drive[g], zero)
        if ALL:
            for k in range(size if state.size > 0 else 0):
                hold(state[low + k // n, k % n], False, drive, ahp, v, spikes, events, shift, k)
        count = listed(spikes, size, sent)
        for t in range(bins * substeps):
            place = t // substeps
            if t == place * substeps:
                for b in range(low, high):
                    base = (b - low) * n
                    for e in range(ends[b * bins + place], ends[b * bins + place + 1]):
                        deliver(np.int64(channel[e]), value[e], base, shift, wires, events)
                    if tonic[place] != zero:
                        deliver(inputs - 1, tonic[place], base, shift, wires, events)
            for j in range(count):
                m = sent[j] % n
                deliver(inputs + m, kind(spikes[sent[j]]), sent[j] - m, shift, wires, events)
            if plan[WITH_AHP]:
                for k in range(cells):
                    ahp[k] = ahp[k] * ahp_decay[k] + kind(spikes[k]) * ahp_kick[k]
                    leak[k] = one + ahp[k]
            elif plan[WITH_LEAK]:
                fill(leak, one)
            copy(dc, current)
            for g in range(groups):
                due = events[shift + g * cells : shift + (g + 1) * cells]
                if kinds[g] == SHUNT:
                    absorb(drive[g], decay[g], due, one, leak)
                elif kinds[g] == NMDA and plan[WITH_GATE]:
                    fill(nmda, zero)
                    absorb(drive[g], decay[g], due, one, nmda)
                else:
                    absorb(drive[g], decay[g], due, -one if kinds[g] == GABA else one, current)
            number = np.uint32(plan[FIRST_BIN] * substeps + t)
            key = mixed(mixed(np.uint32(plan[SEED]) + np.uint32(0x9E3779B9)) ^ number)
            if ALL:
                for b in range(low, high if plan[WITH_NOISE] else low):
                    draw_noise(mixed(key ^ sample[b]), c[P_NOISE], (b - low) * n, n, noise)
                if special:
                    which = (plan[WITH_GATE] > 0, plan[WITH_FEEDBACK] > 0)
                    advance_all(v, current, nmda, leak, noise, fixed, h, power, which, work, end)
                else:
                    advance_plain(v, current, leak, rate, floor, h, end)
            else:
                advance_plain(v, current, leak, rate, floor, h, end)
            settle(v, end, threshold, h, spikes)
            count = listed(spikes, size, sent)
            if ALL and special:
                for j in range(count):
                    k = sent[j]
                    which = (plan[WITH_GATE] > 0, plan[WITH_FEEDBACK] > 0)
                    of_cell = (rate[k], floor[k], threshold[k], refractory[k], fixed[4][k], fixed[5][k])
                    left = reset(v, end, leak, fixed, h, k)
                    v[k], more = resumed_all(
                        left, current[k], nmda[k], leak[k], noise[k], of_cell, power, which, plan[P_AGAIN]
                    )
                    spikes[k] += more
            else:
                plain = (rate, floor, threshold, refractory)
                resume(v, end, current, leak, plain, h, sent, count, plan[P_AGAIN], spikes, block)
            if ALL:
                for b in range(low, high if plan[WITH_LOSS] else low):
                    draw_losses(mixed(key ^ sample[b]), loss, (b - low) * n, n, spikes)
                if plan[WITH_LOSS]:
                    count = listed(spikes, size, sent)
            for j in range(count):
                b, m = low + sent[j] // n, sent[j] % n
                if column[m] >= 0:
                    if total.size > 0:
                        total[b, column[m]] += spikes[sent[j]]
                    if counts.size > 0:
                        counts[b, offset + place, column[m]] += spikes[sent[j]]
            shift += groups * cells
            shift = no_step if shift == events.shape[0] else shift
            if ALL:
                for i in range(wanted.shape[0] if t == (place + 1) * substeps - 1 else 0):
                    for k in range(size):
                        seen = observed(wanted[i], v, floor, drive, ahp, ahp_decay, ahp_kick, spikes, k)
                        traces[i, low + k // n, offset + place, k % n] = seen
        if ALL:
            for k in range(size if state.size > 0 else 0):
                hold(state[low + k // n, k % n], True, drive, ahp, v, spikes, events, shift, k)
