"""One time step of the chip's circuits, written once for NumPy and JAX (`xp` is the array module).

Currents are dimensionless: those that flow into the membrane in units of its leak current I_τ, the membrane current in
units of its gain current, y = I_mem/I_gain. The membrane of a DPI neuron (Chicca et al. 2014; the leak subtracted once)
then reads

    τ·(1 + 1/y)·dy/dt = A − L·(1 + y) + F,   A = I_in/I_τ,  L = I_leak/I_τ,  F = f(I_mem)/I_gain,

so that w = y + ln y obeys τ·dw/dt = A − L·(1 + y) + F. A step is an exponential one in w with the chord slope Δy/Δw:
exact for y ≪ 1 (growth from reset) and for y ≫ 1 (the linear regime of a LIF neuron), and always positive. The time at
which the threshold is crossed is interpolated, and the refractory period begins there; where it ends within the step, the
membrane goes on from its floor for what is left of it, and may fire again. So spike counts depend little on the step, and
no neuron's refractory period shortens the steps of all.

One number per neuron holds the membrane, `v`: y where it is positive; during the refractory period, when y rests at its
floor, minus the time that is left in s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = [
    "Constants",
    "Group",
    "Inflow",
    "State",
    "Structure",
    "advance",
    "again_and_again",
    "begin",
    "fed_back",
    "flowing",
    "halfway",
    "inflow",
    "initial_state",
    "land",
    "late",
    "opening",
    "reach",
    "rise",
    "settle",
    "step",
]

Array = Any
SHUNT, NMDA, GABA = 3, 1, 2
LARGEST = 1e10
"""Largest current in units of I_τ that is computed with: far above what a transistor carries, far below overflow."""


class Constants(NamedTuple):
    """What a step needs, per neuron (N,); dimensionless where no unit is given."""

    decay: tuple[Array, ...]  # (dendrites, N) per group: e^(−h/τ_s)
    ahp_decay: Array
    ahp_kick: Array  # adaptation current per spike; 0 where the latch is off
    rate: Array  # 1/τ of the membrane in 1/s
    floor: Array  # I_o/I_gain: the membrane at reset
    threshold: Array  # I_spkthr/I_gain
    refractory: Array  # s
    dc: Array  # I_dc/I_τ; 0 where the latch is off
    gate: Array  # I_f/I_gain of the NMDA gate; 0 where the latch is off (gate open)
    feedback: Array  # F·L/(y^p·(1 + y)); 0 where the soma is thresholded
    power: Array  # p = κ/(κ + 1), scalar
    noise: Array  # standard deviation of the noise current of a step
    loss: Array  # probability that an event of a neuron is lost, scalar
    h: Array  # s, scalar


class Group(NamedTuple):
    """Dendrites that one weight matrix drives, and the sources that it connects (None: all).

    Dendrites are numbered as in `device.DENDRITES`: AMPA, NMDA, GABA, SHUNT.
    """

    dendrites: tuple[int, ...]
    inputs: tuple[int, ...] | None = None
    neurons: tuple[int, ...] | None = None


class Structure(NamedTuple):
    """What the equations of a network contain; hashable, static under jit.

    `rows`: weights are tables of CAM rows, not matrices; `depth`: steps of past events that delays look back on;
    `inputs`: input channels and the tonic one; `again`: how often a neuron may fire once more in a step, 0 where no
    refractory period is shorter than it.
    """

    groups: tuple[Group, ...]
    gate: bool = False
    feedback: bool = False
    adaptation: bool = False
    noise: bool = False
    loss: bool = False
    rows: bool = False
    depth: int = 0
    inputs: int = 0
    again: int = 0


class State(NamedTuple):
    """State of a batch of networks.

    `dendrites` has (B, dendrites, N) per group: the mean synaptic currents of the last step; `ahp` (B, N) or None;
    `v` (B, N), see above; `spikes` (B, N), how many in the last step; `past` (B, depth, sources) or None: events still on
    the way.
    """

    dendrites: tuple[Array, ...]
    ahp: Array | None
    v: Array
    spikes: Array
    past: Array | None = None


class Inflow(NamedTuple):
    """What flows into and out of the membranes in a step (B, N): excitation minus GABA, gated NMDA, leak.

    `nmda` is None without a gate (it is then part of `current`), `leak` is None where nothing adds to I_τ.
    """

    current: Array
    nmda: Array | None
    leak: Array | None


def initial_state(batch: int, c: Constants, structure: Structure, xp: Any) -> State:
    """Silence: no synaptic current, I_mem = I_o, not refractory, no events on the way."""
    n, dtype = c.rate.shape[-1], c.rate.dtype
    zeros = xp.zeros((batch, n), dtype)
    return State(
        tuple(xp.zeros((batch, len(g.dendrites), n), dtype) for g in structure.groups),
        zeros if structure.adaptation else None,
        zeros + c.floor,
        zeros,
        xp.zeros((batch, structure.depth, structure.inputs + n), dtype) if structure.depth else None,
    )


def advance(state: State, drive: Sequence[Array], c: Constants) -> tuple[tuple, Array | None]:
    """Dendritic and adaptation currents of the next step; `drive` has (B, dendrites, N) per group."""
    dendrites = tuple(
        currents * decay + events for currents, decay, events in zip(state.dendrites, c.decay, drive, strict=True)
    )
    ahp = None if state.ahp is None else state.ahp * c.ahp_decay + state.spikes * c.ahp_kick
    return dendrites, ahp


def inflow(dendrites: Sequence[Array], ahp: Array | None, c: Constants, structure: Structure) -> Inflow:
    """Sum of the dendritic currents by what they do to the membrane."""
    current, nmda, leak = c.dc, None, None if ahp is None else 1 + ahp
    for group, currents in zip(structure.groups, dendrites, strict=True):
        for k, dendrite in enumerate(group.dendrites):
            part = currents[:, k]
            if dendrite == SHUNT:
                leak = 1 + part if leak is None else leak + part
            elif dendrite == NMDA and structure.gate:
                nmda = part
            else:
                current = current - part if dendrite == GABA else current + part
    return Inflow(current, nmda, leak)


def begin(v: Array, floor: Array, h: Array, xp: Any) -> tuple[Array, Array]:
    """y before a step, and the part of the step in s that is not refractory."""
    return xp.where(v < 0, floor, v), xp.maximum(h + xp.minimum(v, 0), 0)


def reach(y: Array, current: Array, leak: Array | float, span: Array, floor: Array, xp: Any) -> Array:
    """y after a step in which A and L are constant; `span` is the time in units of τ.

    With Δw = G·φ(s·L·span), G = (A − L·(1 + y))·span, φ(x) = (1 − e^(−x))/x, s = ȳ/(1 + ȳ) the chord slope at the mean
    of y; then y + ln y = w by one Newton step (downwards in ln y, so that y stays positive). φ is taken as
    1/(1 + x/2 + x²/12), exact to 0.1 % up to x = 1 and too small beyond: under a strong shunt the membrane falls more
    slowly, never too far. (Division comes last: then XLA computes all of it in one kernel.)
    """
    gain = (current - leak * (1 + y)) * span
    upper = xp.maximum(gain, 0) + y
    whole = 1 + upper
    mean = xp.maximum(y * whole + 0.5 * gain * upper, 0.5 * y * whole)
    slope = mean / (mean + whole)
    x = slope * (leak * span)
    change = gain / (1 + x * (0.5 + x * (1 / 12)))
    guess = xp.maximum(y + slope * change, 0.1 * floor)
    over = (y + change - guess - xp.log(guess / y)) / (1 + guess)
    down = xp.minimum(over, 0)
    return xp.maximum(guess * (1 + xp.maximum(over, 0)) / (1 - down * (1 - 0.5 * down)), floor)


def rise(v: Array, flow: Inflow, c: Constants, structure: Structure, xp: Any, noise: Array | float = 0.0) -> Array:
    """y at the end of a step, before the reset: a neuron fires where it is above the threshold."""
    return _climb(*begin(v, c.floor, c.h, xp), flow, c, structure, xp, noise)


def _climb(
    y: Array, active: Array, flow: Inflow, c: Constants, structure: Structure, xp: Any, noise: Array | float
) -> Array:
    """Where y leads in `active` s."""
    span = active * c.rate
    leak = 1.0 if flow.leak is None else xp.minimum(flow.leak, LARGEST)

    def go(gate: Array | float) -> Array:
        total = flow.current if flow.nmda is None else flow.current + flow.nmda * gate
        current = flowing(total, noise, xp)
        less = leak - _feedback(y, current, leak, span, c, xp) if structure.feedback else leak
        return reach(y, current, less, span, c.floor, xp)

    if flow.nmda is None:
        return go(1.0)
    return go(opening(y, go(y / (y + c.gate)), c.gate, c.threshold, xp))


def flowing(total: Array, noise: Array | float, xp: Any) -> Array:
    """The input current: never negative but for its noise."""
    return xp.minimum(xp.maximum(total, 0), LARGEST) + noise


def opening(y: Array, reached: Array, gate: Array, threshold: Array, xp: Any) -> Array:
    """How far the NMDA gate is open in the mean of a step: it opens while the membrane rises.

    By Simpson's rule, between y and where the opening at y would lead.
    """
    ahead = xp.minimum(reached, xp.maximum(threshold, y))
    middle = 0.5 * (y + ahead)
    return (y / (y + gate) + 4 * middle / (middle + gate) + ahead / (ahead + gate)) / 6


def keep(value: Array) -> Array:
    """`value`: what `hold` does where gradients pass."""
    return value


def late(y: Array, end: Array, active: Array, leak: Array | float, rate: Array, threshold: Array, xp: Any) -> Array:
    """Time in s from where the threshold is met to the end of a step, on an exponential that relaxes with the leak."""
    above = xp.maximum(threshold - y, 0)
    gone = xp.maximum(end - y, above + 1e-6)
    x = leak * (active * rate)
    crossing = above / (above + (gone - above) * (1 + x * (0.5 + x * (1 / 12))))
    return (1 - crossing) * active


def land(v: Array, end: Array, since: Array, refractory: Array, threshold: Array, h: Array, xp: Any) -> Array:
    """`v` after a step that came to `end`, `since` s after the spike if there was one."""
    left = xp.maximum(refractory - since, 1e-9)
    return xp.where(end > threshold, -left, xp.where(v + h < 0, v + h, end))


def settle(
    v: Array,
    end: Array,
    flow: Inflow,
    c: Constants,
    structure: Structure,
    xp: Any,
    noise: Array | float = 0.0,
    hold: Callable[[Array], Array] = keep,
    repeat: Callable[..., Any] | None = None,
) -> tuple[Array, Array | None]:
    """`v` after a step that began at `v` and came to `end`, and how often neurons fired once more (None: never).

    Reset and refractory period begin where the threshold is met; `hold` is applied to the time of that spike (JAX's
    stop_gradient cuts there). Where the period ends within the step, the membrane goes on from its floor, without a
    gradient; `repeat` does that (`again_and_again` in NumPy), at most `structure.again` times.
    """
    y, active = begin(v, c.floor, c.h, xp)
    leak = 1.0 if flow.leak is None else xp.minimum(flow.leak, LARGEST)
    since = hold(late(y, end, active, leak, c.rate, c.threshold, xp))
    after = land(v, end, since, c.refractory, c.threshold, c.h, xp)
    if not structure.again:
        return after, None

    def once_more(carry: tuple[Array, Array, Array], given: Any) -> tuple[Array, Array, Array]:
        left, now, more = carry
        flow, c, noise = given
        span, rest = xp.maximum(left, 0), xp.zeros_like(left)
        leak = 1.0 if flow.leak is None else xp.minimum(flow.leak, LARGEST)
        end = _climb(rest + c.floor, span, flow, c, structure, xp, noise)
        since = late(rest + c.floor, end, span, leak, c.rate, c.threshold, xp)
        fired = (left > 0) & (end > c.threshold)
        now = xp.where(left > 0, land(rest, end, since, c.refractory, c.threshold, c.h, xp), now)
        return xp.where(fired, since - c.refractory, 0), now, more + fired

    left, none = xp.where(end > c.threshold, since - c.refractory, 0), xp.zeros_like(after)
    _, resumed, more = (repeat or again_and_again)(once_more, (left, none, none), (flow, c, noise), structure.again)
    return xp.where(left > 0, resumed, after), more


def again_and_again(body: Callable[[Any, Any], Any], carry: Any, given: Any, most: int) -> Any:
    """`body` of `carry` and `given` until nothing is left of the step (the first of `carry`), `most` times at most."""
    for _ in range(most):
        if not (carry[0] > 0).any():
            break
        carry = body(carry, given)
    return carry


def _feedback(y: Array, current: Array, leak: Array, span: Array, c: Constants, xp: Any) -> Array:
    """F/(1 + y) = feedback·y^p/L of the exponential soma, at the mean of y over the step: it lowers the leak.

    The mean is that of a step with the feedback at its beginning.
    """
    at_start = fed_back(y, c.feedback, c.power, leak, xp)
    end = reach(y, current, leak - at_start, span, c.floor, xp)
    return fed_back(halfway(y, end, c.threshold, xp), c.feedback, c.power, leak, xp)


def fed_back(y: Array, feedback: Array, power: Array, leak: Array | float, xp: Any) -> Array:
    """What the feedback of the exponential soma takes off the leak at y."""
    return feedback * xp.exp(power * xp.log(y)) / leak


def halfway(y: Array, end: Array, threshold: Array, xp: Any) -> Array:
    """The mean of y over a step, without the upstroke of a spike."""
    return xp.minimum(0.5 * (y + end), xp.maximum(threshold, y))


def step(
    state: State,
    drive: Sequence[Array],
    c: Constants,
    structure: Structure,
    xp: Any,
    fire: Callable[[Array], Array],
    noise: Array | float = 0.0,
    kept: Array | float = 1.0,
    hold: Callable[[Array], Array] = keep,
    repeat: Callable[..., Any] | None = None,
) -> State:
    """One step of length `c.h`; `drive` (B, dendrites, N) per group is what the events at its beginning add.

    `fire` turns (I_mem − I_spkthr)/I_spkthr into spikes; `noise` is added to the input current, `kept` is 0 where events
    are lost; for `hold` and `repeat` see `settle`.
    """
    dendrites, ahp = advance(state, drive, c)
    flow = inflow(dendrites, ahp, c, structure)
    end = rise(state.v, flow, c, structure, xp, noise)
    v, more = settle(state.v, end, flow, c, structure, xp, noise, hold, repeat)
    spikes = fire(end / c.threshold - 1)
    return State(dendrites, ahp, v, (spikes if more is None else spikes + more) * kept, state.past)
