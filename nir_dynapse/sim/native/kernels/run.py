"""Loops over events for CPUs: a run of the circuit for one virtual chip, to be compiled by Numba (`sim.native.build`).

Spikes are rare, so a step adds the weights of the sources that fired, row by row (`events.py`), instead of multiplying
matrices; what is left are a few loops over all neurons with the formulas of `sim.dynamics`, and those cells that fired
(`fired.py`). Samples are taken in tiles: the cells of a tile (sample·neuron) lie side by side in one vector and stay in
the cache.

Below the first ruler is the text of what is compiled, with the functions of the formulas before it and `kind` replaced.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.sim.dynamics import GABA, LARGEST, SHUNT, begin, flowing, land, late, reach
from nir_dynapse.sim.native.kernels.events import exchange, listed
from nir_dynapse.sim.native.kernels.fired import BLOCK, go_on
from nir_dynapse.sim.native.memory import loop
from nir_dynapse.sim.native.names import (
    ADAPTATION,
    AGAIN,
    AHP_DECAY,
    AHP_KICK,
    DC,
    FLOOR,
    LEAK,
    N_CONSTANTS,
    N_HEAD,
    PADDED,
    RATE,
    REFRACTORY,
    STEP,
    STRETCH,
    SUBSTEPS,
    THRESHOLD,
    TILE,
    U,
)
from nir_dynapse.sim.native.scalar import minimum

kind = np.float32

# ----------------------------------------------------------------------------------------------------------------------

zero, one, most, soonest = kind(0), kind(1), kind(LARGEST), kind(1e-9)


@loop
def tiled(row: Any, cells: Any) -> Any:
    """A value per neuron repeated for every sample of a tile, and on to the end of the vector."""
    result = np.empty(cells, kind)
    for k in range(cells):
        result[k] = row[k % row.shape[0]]
    return result


@loop
def copy(source: Any, target: Any) -> None:
    """target[:] = source."""
    for k in range(source.shape[0]):
        target[k] = source[k]


@loop
def fill(target: Any, value: Any) -> None:
    """target[:] = value."""
    for k in range(target.shape[0]):
        target[k] = value


@loop
def clear(values: Any) -> None:
    """values[:, :] = 0."""
    for g in range(values.shape[0]):
        for k in range(values.shape[1]):
            values[g, k] = zero


@loop
def absorb(drive: Any, decay: Any, events: Any, sign: Any, into: Any) -> None:
    """A step of one kind of dendrite, and what it adds to `into`; its events are used up."""
    for k in range(drive.shape[0]):
        now = drive[k] * decay[k] + events[k]
        drive[k] = now
        into[k] += sign * now
        events[k] = zero


@loop
def advance(
    v: Any,
    current: Any,
    leak: Any,
    rate: Any,
    floor: Any,
    threshold: Any,
    refractory: Any,
    h: Any,
    before: Any,
    spikes: Any,
) -> None:
    """A step of the membrane: `v` (and what it was `before`) and spikes; of cells that fired and whose refractory period
    ends within the step `v` is what is left of it (`fired.go_on`)."""
    for k in range(v.shape[0]):
        y, active = begin(v[k], floor[k], h, None)
        less = minimum(leak[k], most)
        reached = reach(y, flowing(current[k], zero, None), less, active * rate[k], floor[k], None)
        left = late(y, reached, active, less, rate[k], threshold[k], None) - refractory[k]
        stays = land(v[k], reached, zero, one, threshold[k], h, None)
        before[k] = v[k]
        spikes[k] = reached > threshold[k]
        v[k] = (left if left > zero else minimum(left, -soonest)) if reached > threshold[k] else stays


@loop
def count_spikes(spikes: Any, low: Any, high: Any, place: Any, afresh: Any, counts: Any) -> None:
    """Add the spikes of the cells of a tile to the counts of a bin."""
    n = counts.shape[2]
    for b in range(low, high):
        base = (b - low) * n
        if afresh:
            for m in range(n):
                counts[b, place, m] = spikes[U(base) + U(m)]
        else:
            for m in range(n):
                counts[b, place, m] += spikes[U(base) + U(m)]


@loop
def fixed_of(c: Any, first: Any, cells: Any) -> Any:
    """The constants of all cells of a tile: rate, floor, threshold, refractory, dc, ahp_decay, ahp_kick, and the decays,
    which are the rows from `first` on."""
    groups = c.shape[0] - first
    decay = np.empty((groups, cells), kind)
    for g in range(groups):
        copy(tiled(c[first + g], cells), decay[g])
    return (
        tiled(c[RATE], cells),
        tiled(c[FLOOR], cells),
        tiled(c[THRESHOLD], cells),
        tiled(c[REFRACTORY], cells),
        tiled(c[DC], cells),
        tiled(c[AHP_DECAY], cells),
        tiled(c[AHP_KICK], cells),
        decay,
    )


@loop
def state_of(groups: Any, cells: Any) -> Any:
    """Room for the state of a tile: drive, ahp, v, spikes."""
    return np.empty((groups, cells), kind), np.empty(cells, kind), np.empty(cells, kind), np.empty(cells, np.uint8)


@loop
def work_of(groups: Any, cells: Any, inputs: Any) -> Any:
    """What a step computes with: events, `v` before, input current, leak, cells that fired, inputs that
    sent, cells that go on, and a block of those."""
    return (
        np.zeros((groups, cells), kind),
        np.empty(cells, kind),
        np.zeros(cells, kind),
        np.ones(cells, kind),
        np.empty(cells + 1, np.int64),
        np.empty(inputs + 1, np.int64),
        np.empty(cells + 1, np.int64),
        np.empty((11, BLOCK), kind),
    )


@loop
def stretch(
    low: Any,
    high: Any,
    first: Any,
    last: Any,
    w: Any,
    plan: Any,
    wires: Any,
    h: Any,
    fixed: Any,
    x: Any,
    state: Any,
    work: Any,
    counts: Any,
    kept: Any,
) -> None:
    """Steps `first` to `last` of samples `low` to `high`, from and to `state`: drive (groups, cells), ahp, v, spikes.

    Spikes are added to `counts` where that is not empty. `kept` for the adjoint, where not empty: spikes as bytes (steps,
    cells); the membrane before, what flowed in and, if that varies, out (steps, 2 or 3, cells); the dendrites (steps,
    groups, cells) and the adaptation before.
    """
    rate, floor, threshold, refractory, dc, ahp_decay, ahp_kick, decay = fixed
    drive, ahp, v, spikes = state
    events, before, current, leak, sent, seen, waiting, block = work
    fired, flows, drives, ahps = kept
    substeps, size, cells = plan[SUBSTEPS], (high - low) * wires.n, v.shape[0]
    adaptation, leak_varies, kinds = plan[ADAPTATION] > 0, plan[LEAK] > 0, plan[N_HEAD:]
    count = listed(spikes, size, sent)
    for t in range(first, last):
        at, place = t - first, t // substeps
        afresh = t == place * substeps
        if drives.size > 0:
            for g in range(drive.shape[0]):
                copy(drive[g], drives[at, g])
            copy(ahp, ahps[at])
        if flows.size > 0:
            before, current = flows[at, 0], flows[at, 1]
            leak = flows[at, 2] if leak_varies else leak
        exchange(low, high, x, place, afresh, spikes, sent, count, wires, w, seen, events, False)
        if adaptation:
            for k in range(cells):
                ahp[k] = ahp[k] * ahp_decay[k] + kind(spikes[k]) * ahp_kick[k]
                leak[k] = one + ahp[k]
        elif leak_varies:
            fill(leak, one)
        copy(dc, current)
        for g in range(drive.shape[0]):
            if kinds[g] == SHUNT:
                absorb(drive[g], decay[g], events[g], one, leak)
            else:
                absorb(drive[g], decay[g], events[g], -one if kinds[g] == GABA else one, current)
        advance(v, current, leak, rate, floor, threshold, refractory, h, before, spikes)
        count = listed(spikes, size, sent)
        of_cells = (rate, floor, threshold, refractory)
        go_on(v, current, leak, of_cells, sent, count, plan[AGAIN], spikes, waiting, block)
        if fired.size > 0:
            copy(spikes, fired[at])
        if counts.size > 0:
            count_spikes(spikes, low, high, place, afresh, counts)


@loop
def run(
    w: Any,
    plan: Any,
    wires: Any,
    c: Any,
    start: Any,
    x: Any,
    counts: Any,
    state: Any,
    states: Any,
    part: Any,
    share: Any,
) -> None:
    """Spike counts (B, T, N) and the last state of events `x` (B, T, inputs).

    `start`, `state` (B, groups + 3, N): dendrites, adaptation, membrane, spikes; `states` (tiles, stretches, groups + 3,
    cells), where not empty, the same before every `STRETCH` steps, for the adjoint. Of the tiles every `share`th is run,
    from `part` on.
    """
    (batch, bins, n), groups, rows = counts.shape, c.shape[0] - N_CONSTANTS, plan[TILE]
    cells = (rows * n + PADDED - 1) // PADDED * PADDED
    fixed, work = fixed_of(c, N_CONSTANTS, cells), work_of(groups, cells, x.shape[2])
    drive, ahp, v, spikes = state_of(groups, cells)
    nothing = np.empty((0, groups, cells), kind)
    kept = (np.empty((0, cells), np.uint8), nothing, nothing, np.empty((0, cells), kind))
    steps = bins * plan[SUBSTEPS]
    for tile in range(part, (batch + rows - 1) // rows, share):
        low = tile * rows
        high = min(low + rows, batch)
        copy(fixed[1], v)
        fill(ahp, zero)
        fill(spikes, 0)
        clear(drive)
        for k in range((high - low) * n):
            b, m = low + k // n, k % n
            for g in range(groups):
                drive[g, k] = start[b, g, m]
            ahp[k], v[k], spikes[k] = start[b, groups, m], start[b, groups + 1, m], start[b, groups + 2, m]
        for first in range(0, steps, STRETCH):
            if states.size > 0:
                place = first // STRETCH
                for g in range(groups):
                    copy(drive[g], states[tile, place, g])
                copy(ahp, states[tile, place, groups])
                copy(v, states[tile, place, groups + 1])
                copy(spikes, states[tile, place, groups + 2])
            last = min(first + STRETCH, steps)
            now = (drive, ahp, v, spikes)
            stretch(low, high, first, last, w, plan, wires, c[STEP, 0], fixed, x, now, work, counts, kept)
        for k in range((high - low) * n):
            b, m = low + k // n, k % n
            for g in range(groups):
                state[b, g, m] = drive[g, k]
            state[b, groups, m], state[b, groups + 1, m], state[b, groups + 2, m] = ahp[k], v[k], spikes[k]
