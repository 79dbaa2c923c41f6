"""The kernel `kernels.play` in NumPy, bit by bit: for runs that are over sooner than LLVM is loaded or a kernel compiled.

The equations are those of `sim.dynamics`; logarithms, exponentials and draws are computed as `scalar` does it, in single
precision, and sums of weights are exact in any order. Only what fired is reset.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.sim.circuit import RECORDABLE, observe
from nir_dynapse.sim.disturbance import disturbances
from nir_dynapse.sim.dynamics import (
    Constants,
    Group,
    Inflow,
    State,
    Structure,
    advance,
    inflow,
    initial_state,
    rise,
    settle,
)
from nir_dynapse.sim.native.names import (
    DEPTH,
    FIRST_BIN,
    FIRST_PLACE,
    P_AGAIN,
    P_CONSTANTS,
    P_LENGTH,
    P_ROWS,
    P_SUBSTEPS,
    PADDED,
    PLAYED,
    SEED,
    WITH_AHP,
    WITH_FEEDBACK,
    WITH_GATE,
    WITH_LOSS,
    WITH_NOISE,
)

__all__ = ["CELLS", "play", "seconds"]

CELLS = 24_000
"""Most cells (sample·neuron) of a tile, about: arrays of them are worth a call of NumPy, stay in the cache, and are shorter
than those that the C library asks the system for, one by one (128 KiB)."""
STEP_SECONDS, CELL_SECONDS = 2e-4, 3e-8
"""What a step of a tile takes, about, and what each of its cells adds."""

Array = np.ndarray
F, J = np.float32, np.int32
_NAMES = {-1: "i_mem", -2: "i_ahp", -3: None}
"""What is recorded by the codes that are no row of the dendrites (`play._codes`)."""


def seconds(batch: int, n: int, steps: int) -> float:
    """What so many samples of n neurons take on one CPU, about."""
    rows = max(1, min(batch, CELLS // n))
    return steps * (-(-batch // rows) * STEP_SECONDS + batch * n * CELL_SECONDS)


# --- functions of `scalar`, for arrays --------------------------------------------------------------------------------


def _log(x: Array) -> Array:
    """`scalar.log_float32`."""
    bits = x.view(J)
    e = (bits - J(0x3F3504F3)) >> J(23)
    m = (bits - (e << J(23))).view(F) - F(1)
    z = m * m
    p = m * F(7.0376836292e-2)
    p -= F(1.1514610310e-1)
    for sign, value in _LOG:
        p *= m
        p = np.add(p, value, p) if sign else np.subtract(p, value, p)
    f = e.astype(F)
    p *= m
    p *= z
    p -= f * F(2.12194440e-4)
    p -= z * F(0.5)
    m += p
    f *= F(0.693359375)
    m += f
    return m


_LOG = (
    (True, F(1.1676998740e-1)),
    (False, F(1.2420140846e-1)),
    (True, F(1.4249322787e-1)),
    (False, F(1.6668057665e-1)),
    (True, F(2.0000714765e-1)),
    (False, F(2.4999993993e-1)),
    (True, F(3.3333331174e-1)),
)


def _exp(x: Array) -> Array:
    """`scalar.exp_float32`."""
    x = np.minimum(np.maximum(x, F(-80)), F(80))
    n = (x * F(1.44269504088896341) + F(128.5)).astype(J) - J(128)
    f = n.astype(F)
    r = x - f * F(0.693359375)
    r = r + f * F(2.12194440e-4)
    p = r * F(1.9875691500e-4) + F(1.3981999507e-3)
    for value in (8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = p * r + F(value)
    return (p * (r * r) + r + F(1)) * ((n + J(127)) << J(23)).view(F)


def _cos(x: Array) -> Array:
    """`scalar.cos_float32`."""
    j = ((x * F(1.27323954473516)).astype(J) + J(1)) & J(-2)
    f = j.astype(F)
    r = ((x - f * F(0.78515625)) - f * F(2.4187564849853515625e-4)) - f * F(3.77489497744594108e-8)
    z = r * r
    c = z * F(2.443315711809948e-5) - F(1.388731625493765e-3)
    c = (c * z + F(4.166664568298827e-2)) * (z * z) - F(0.5) * z + F(1)
    s = z * F(-1.9515295891e-4) + F(8.3321608736e-3)
    s = (s * z - F(1.6666654611e-1)) * (z * r) + r
    quarter = (j >> J(1)) & J(3)
    found = np.where(quarter & J(1) != 0, s, c)
    return np.where((quarter == 1) | (quarter == 2), -found, found)


XP = SimpleNamespace(
    **{
        name: getattr(np, name)
        for name in ("arange", "asarray", "maximum", "minimum", "sqrt", "uint32", "where", "zeros_like")
    },
    log=_log,
    exp=_exp,
    cos=_cos,
)
"""The array module for `sim.dynamics` and `sim.disturbance`."""


# --- the run ----------------------------------------------------------------------------------------------------------


class _Wires(NamedTuple):
    """Entries of the synapses as `play` gets them, and where what they add lies: (depth · dendrites, cells)."""

    first: Array
    target: Array
    w: Array
    length: int
    cells: int

    def deliver(self, b: Array, source: Array, by: Array, n: int, shift: int, events: Array) -> None:
        """Add `by` events of the sources of samples b to `events` (flat), from the step at `shift` on."""
        count = self.first[source + 1] - self.first[source]
        b, by = np.repeat(b, count), np.repeat(by, count)
        q = np.arange(len(by)) + np.repeat(self.first[source] - (np.cumsum(count) - count), count)
        if self.length > 1:
            self._rows(b, q, by, n, shift, events)
            return
        place = self.target[q] + shift
        place[place >= len(events)] -= len(events)
        place += b * n
        by = by * self.w[q]
        if 8 * len(place) < len(events):
            np.add.at(events, place, by)
        else:
            events += np.bincount(place, by, len(events)).astype(F)

    def _rows(self, b: Array, q: Array, by: Array, n: int, shift: int, events: Array) -> None:
        """The same where an entry is a row of all neurons: as products of matrices, one for each dendrite."""
        used, at = np.unique(q, return_inverse=True)
        where, w = (self.target[used] + shift) // self.cells, self.w.reshape(-1, n)
        rows = int(b.max(initial=-1)) + 1
        x = np.bincount(b * len(used) + at, by, rows * len(used)).astype(F).reshape(rows, len(used))
        for dendrite in np.unique(where):
            mine = where == dendrite
            due = events[dendrite * self.cells : dendrite * self.cells + rows * n].reshape(rows, n)
            due += x[:, mine] @ w[used[mine]]


def play(
    first: Array,
    target: Array,
    w: Array,
    c: Array,
    plan: Array,
    kinds: Array,
    wanted: Array,
    tonic: Array,
    ends: Array,
    channel: Array,
    value: Array,
    sample: Array,
    column: Array,
    state: Array,
    total: Array,
    counts: Array,
    traces: Array,
    part: int,
    share: int,
) -> None:
    """`kernels.play.play`: the same arguments, the same bits."""
    batch, bins, n, groups = len(sample), len(tonic), c.shape[1], len(kinds)
    rows, substeps, depth, offset = (int(plan[k]) for k in (P_ROWS, P_SUBSTEPS, DEPTH, FIRST_PLACE))
    inputs = len(first) - 1 - n
    cells = -(-rows * n // PADDED) * PADDED
    wires = _Wires(first.astype(np.int64), target.astype(np.int64), w, int(plan[P_LENGTH]), cells)
    structure = Structure(
        tuple(Group((int(kind),)) for kind in kinds),
        gate=bool(plan[WITH_GATE]),
        feedback=bool(plan[WITH_FEEDBACK]),
        adaptation=bool(plan[WITH_AHP]),
        noise=bool(plan[WITH_NOISE]),
        loss=bool(plan[WITH_LOSS]),
        again=int(plan[P_AGAIN]),
    )
    numbers = {name: c[k] for k, name in enumerate(P_CONSTANTS)}
    numbers |= {name: c[P_CONSTANTS.index(name), 0] for name in ("h", "power", "loss")}
    fixed = Constants(decay=tuple(c[PLAYED + g][None] for g in range(groups)), **numbers)
    seen = [_NAMES[int(code)] if code < 0 else RECORDABLE[2 + kinds[code]] for code in wanted]
    for tile in range(part, -(-batch // rows), share):
        low, high = tile * rows, min((tile + 1) * rows, batch)
        b = np.arange(high - low)
        events = np.zeros(depth * groups * cells, F)
        now, shift = initial_state(high - low, fixed, structure, np), 0
        if state.size:
            now = _held(state[low:high], now, events, cells, groups)
        sent = np.flatnonzero(now.spikes)
        for t in range(bins * substeps):
            place = t // substeps
            if t == place * substeps:
                edges = ends[(b + low) * bins + place], ends[(b + low) * bins + place + 1]
                many = edges[1] - edges[0]
                if many.any():
                    e = np.arange(many.sum()) + np.repeat(edges[0] - (np.cumsum(many) - many), many)
                    wires.deliver(np.repeat(b, many), channel[e].astype(np.int64), value[e], n, shift, events)
                if tonic[place] != 0:
                    wires.deliver(b, np.full_like(b, inputs - 1), np.full(len(b), tonic[place]), n, shift, events)
            if len(sent):
                wires.deliver(sent // n, inputs + sent % n, now.spikes.reshape(-1)[sent], n, shift, events)
            due = events[shift : shift + groups * cells].reshape(groups, cells)[:, : (high - low) * n]
            drive = [each.reshape(high - low, 1, n) for each in due]
            dendrites, ahp = advance(now, drive, fixed)
            due[:] = 0
            flow = inflow(dendrites, ahp, fixed, structure)
            step = (int(plan[FIRST_BIN]) * substeps + t) & 0xFFFFFFFF
            noise, heard = disturbances(step, int(plan[SEED]), sample[low:high], fixed, structure, XP)
            v, spikes, sent = _membrane(now.v, flow, fixed, structure, noise)
            if structure.loss:
                spikes *= heard
                sent = np.flatnonzero(spikes)
            now = State(dendrites, ahp, v, spikes)
            if len(sent):
                to = column[sent % n]
                times = spikes.reshape(-1)[sent[to >= 0]]
                where = sent[to >= 0] // n, to[to >= 0]
                if total.size:
                    np.add.at(total[low:high], where, times.astype(np.int32))
                if counts.size:
                    np.add.at(counts[low:high, offset + place], where, times.astype(np.uint8))
            shift = (shift + groups * cells) % len(events)
            if len(wanted) and t == (place + 1) * substeps - 1:
                for k, name in enumerate(seen):
                    traces[k, low:high, offset + place] = (
                        0 if name is None else observe(name, now, fixed, structure, np)
                    )
        if state.size:
            _keep(state[low:high], now, events, shift, cells, groups)


def _membrane(v: Array, flow: Inflow, c: Constants, structure: Structure, noise: Any) -> tuple[Array, Array, Array]:
    """v after a step, how often the neurons fired, and the cells that did."""
    end = rise(v, flow, c, structure, XP, noise)
    sent = np.flatnonzero(end > c.threshold)
    waits = v + c.h
    after, spikes = np.where(waits < 0, waits, end), np.zeros(v.shape, F)
    if len(sent):
        fired = np.divmod(sent, v.shape[1])
        m = fired[1]
        names = ("rate", "floor", "threshold", "refractory", "gate", "feedback")
        cell = c._replace(**{name: getattr(c, name)[m] for name in names})
        parts = (None if part is None else np.broadcast_to(part, v.shape)[fired] for part in flow)
        own = noise[fired] if np.ndim(noise) else noise
        reset, more = settle(v[fired], end[fired], Inflow(*parts), cell, structure, XP, own)
        after[fired], spikes[fired] = reset, 1 if more is None else 1 + more
    return after, spikes, sent


def _held(cell: Array, now: State, events: Array, cells: int, groups: int) -> State:
    """The state that a run begins with, from `cell` (B, N, rows): dendrites, adaptation, membrane, spikes, events."""
    flat = cell.reshape(-1, cell.shape[2])
    for q in range(groups + 3, flat.shape[1]):
        events[(q - groups - 3) * cells :][: len(flat)] = flat[:, q]
    dendrites = tuple(cell[:, None, :, g].copy() for g in range(groups))
    ahp = None if now.ahp is None else cell[..., groups].copy()
    return State(dendrites, ahp, cell[..., groups + 1].copy(), cell[..., groups + 2].copy())


def _keep(cell: Array, now: State, events: Array, shift: int, cells: int, groups: int) -> None:
    """The state that a run ended with, into `cell`."""
    flat = cell.reshape(-1, cell.shape[2])
    for g, dendrite in enumerate(now.dendrites):
        cell[..., g] = dendrite[:, 0]
    cell[..., groups] = 0 if now.ahp is None else now.ahp
    cell[..., groups + 1], cell[..., groups + 2] = now.v, now.spikes
    for q in range(groups + 3, flat.shape[1]):
        flat[:, q] = events[((q - groups - 3) * cells + shift) % len(events) :][: len(flat)]
