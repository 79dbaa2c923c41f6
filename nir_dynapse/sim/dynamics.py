"""One time step of the chip's circuits, written once for NumPy and JAX (`xp` is the array module).

Currents are dimensionless, in units of the dark current I_o. Per neuron the state is the four dendritic currents, the
adaptation current, u = ln(I_mem/I_o), the time left of the refractory period and the spikes of the last step.

The membrane of a DPI neuron (Chicca et al. 2014; the leak subtracted once) with y = I_mem/I_gain reads

    τ·(1 + 1/y)·dy/dt = A − L·(1 + y) + F,   A = I_in/I_τ,  L = I_leak/I_τ,  F = f(I_mem)/I_gain

so that w = y + ln y obeys τ·dw/dt = A − L·(1 + y) + F. A step is an exponential one in w with the chord slope
s = Δy/Δw of a predictor: exact for y ≪ 1 (growth from reset) and for y ≫ 1 (the linear regime of a LIF neuron), and
always positive. The crossing of the threshold is found on that exponential, so spike counts depend little on dt.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Constants", "State", "initial_state", "step"]

Array = Any


class Constants(NamedTuple):
    """What a step needs, per neuron (N,) or per dendrite and neuron (4, N); dimensionless, times in s.

    Dendrites are in the order of `device.DENDRITES` (AMPA, NMDA, GABA, SHUNT).
    """

    decay: Array  # (4, N) e^(−h/τ_s)
    mean: Array  # (4, N) mean of e^(−t/τ_s) over the step
    kick: Array  # (4, N) g_s·(1 − e^(−t_pulse/τ_s)): synaptic current per unit of weight current
    ahp_decay: Array
    ahp_mean: Array
    ahp_kick: Array  # adaptation current per spike; 0 where the latch is off
    tau: Array  # membrane time constant in s
    leak: Array  # I_τ of the membrane
    gain: Array  # I_gain of the membrane
    threshold: Array  # I_spkthr
    refractory: Array  # s
    dc: Array  # 0 where the latch is off
    gate: Array  # I_f of the NMDA gate; 0 where the latch is off (gate open)
    feedback: Array  # 1 where the soma is exponential, else 0
    feedback_power: float  # κ/(κ + 1)
    h: float  # s


class State(NamedTuple):
    """State of a batch of networks: `dendrites` (B, 4, N), the others (B, N)."""

    dendrites: Array
    ahp: Array
    u: Array
    timer: Array
    spikes: Array


def initial_state(batch: int, n: int, xp: Any, dtype: Any) -> State:
    """Silence: no synaptic current, I_mem = I_o, not refractory."""
    zeros = xp.zeros((batch, n), dtype)
    return State(xp.zeros((batch, 4, n), dtype), zeros, zeros, zeros, zeros)


def _omega(w: Array, xp: Any) -> Array:
    """The solution y of y + ln y = w (Wright's omega function), two iterations of Fritsch, Shafer and Crowley (1973)."""
    near = 1 + (w - 1) / 2 + (w - 1) ** 2 / 16
    large = xp.maximum(w, 3.0)
    guess = xp.where(w < -1.0, xp.exp(xp.minimum(w, 0.0)), xp.where(w < 3.0, near, large - xp.log(large)))
    y = xp.maximum(guess, 1e-30)
    for _ in range(2):
        z = w - y - xp.log(y)
        q = 2 * (1 + y) * (1 + y + 2 * z / 3)
        y = xp.maximum(y * (1 + z / (1 + y) * (q - z) / (q - 2 * z)), 1e-30)
    return y


def _advance(rate: Array, slope: Array, h: Array, xp: Any) -> Array:
    """Δw after time h of dw/dt = rate − slope·(w − w0): rate·h·φ(−slope·h) with φ(x) = (e^x − 1)/x."""
    x = slope * h
    safe = xp.maximum(x, 1e-6)
    return rate * h * xp.where(x > 1e-4, -xp.expm1(-safe) / safe, 1 - x / 2)


def step(state: State, drive: Array, c: Constants, xp: Any) -> State:
    """One step of length `c.h`; `drive` (B, 4, N) is the sum of weight currents of the events at its beginning.

    At most one spike per neuron and step, so h must not exceed the refractory period (the simulation sees to that).
    """
    dendrites = state.dendrites + drive * c.kick
    mean = dendrites * c.mean
    ahp_mean = state.ahp * c.ahp_mean

    i_mem = xp.exp(state.u)
    y0 = i_mem / c.gain
    w0 = y0 + state.u - xp.log(c.gain)
    gate = i_mem / (i_mem + c.gate)
    current = xp.maximum(mean[:, 0] + mean[:, 1] * gate - mean[:, 2] + c.dc, 0.0)
    leak = (c.leak + ahp_mean + mean[:, 3]) / c.leak
    feedback = c.feedback * i_mem**c.feedback_power * (1 + y0) / (leak * c.leak)
    rate = (current / c.leak - leak * (1 + y0) + feedback) / c.tau
    active = xp.maximum(c.h - state.timer, 0.0)

    # Predictor with the slope at the start, corrector with the chord.
    ahead = _advance(rate, leak * y0 / (1 + y0) / c.tau, active, xp)
    y_ahead = _omega(w0 + ahead, xp)
    chord = xp.where(xp.abs(ahead) > 1e-3, (y_ahead - y0) / xp.where(ahead == 0, 1.0, ahead), y0 / (1 + y0))
    slope = leak * xp.clip(chord, 0.0, 1.0) / c.tau
    moved = _advance(rate, slope, active, xp)

    y_threshold = c.threshold / c.gain
    distance = xp.maximum(y_threshold + xp.log(y_threshold) - w0, 0.0)
    fired = (moved > distance) & (active > 0)
    ratio = xp.where(fired, distance / xp.where(moved > 0, rate, 1.0), 0.0)
    bend = xp.minimum(slope * ratio, 1 - 1e-6)
    crossing = xp.minimum(xp.where(bend > 1e-4, -xp.log1p(-bend) / xp.maximum(slope, 1e-9), ratio), active)

    u = xp.maximum(xp.log(_omega(w0 + moved, xp) * c.gain), 0.0)
    held = active > 0
    return State(
        dendrites * c.decay,
        state.ahp * c.ahp_decay + xp.where(fired, c.ahp_kick, 0.0),
        xp.where(fired, 0.0, xp.where(held, u, state.u)),
        xp.where(fired, xp.maximum(c.refractory - (active - crossing), 0.0), xp.maximum(state.timer - c.h, 0.0)),
        fired.astype(state.spikes.dtype),
    )
