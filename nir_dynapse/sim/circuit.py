"""From `Params` to what one step of the dynamics needs, and one bin of steps; no JAX here (Lava runs this in NumPy)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nir_dynapse.device import DENDRITES
from nir_dynapse.params import Params
from nir_dynapse.sim.dynamics import Constants, State, step

__all__ = ["constants", "internal_step", "run_bin", "tonic_events", "weight_matrix"]

MAX_STEP = 1e-3
"""Longest internal step in s: the scheme's spike counts stay within 2 % of the converged ones up to here."""
MAX_SUBSTEPS = 64


def internal_step(params: Params, dt: float) -> int:
    """Number of internal steps per bin of `dt` s: none longer than `MAX_STEP`, the shortest refractory period, or half
    the shortest membrane time constant.

    At most `MAX_SUBSTEPS`; a neuron then fires at most that often per bin.
    """
    refractory = params.circuit.width("i_ref", np.asarray(params.bias["i_ref"]))
    membrane = params.circuit.tau("i_tau_mem", np.asarray(params.bias["i_tau_mem"]))
    longest = min(MAX_STEP, float(np.min(refractory)), float(np.min(membrane)) / 2)
    return int(min(np.ceil(dt / longest * (1 - 1e-6)), MAX_SUBSTEPS))


def constants(params: Params, h: float, xp: Any, dtype: Any) -> Constants:
    """Constants of one step of length `h` s for all neurons (N,) and dendrites (4, N)."""
    circuit, topology = params.circuit, params.topology
    i_o = circuit.i_o

    def neuron(name: str) -> Any:
        return params.per_neuron(name, xp)

    def latch(name: str) -> Any:
        return xp.asarray(topology.has_latch(name), dtype)

    tau = xp.stack([circuit.tau(f"i_tau_{name}", neuron(f"i_tau_{name}")) for name in DENDRITES])
    gain = xp.stack([neuron(f"i_gain_{name}") / neuron(f"i_tau_{name}") for name in DENDRITES])
    tau_ahp = circuit.tau("i_tau_ahp", neuron("i_tau_ahp"))
    pulse_ahp = circuit.width("i_pulse_ahp", neuron("i_pulse_ahp"))
    ahp_kick = neuron("i_gain_ahp") / neuron("i_tau_ahp") * neuron("i_w_ahp") / i_o
    values = Constants(
        decay=xp.exp(-h / tau),
        mean=-xp.expm1(-h / tau) * tau / h,
        kick=gain * -xp.expm1(-circuit.width("i_pulse", neuron("i_pulse")) / tau),
        ahp_decay=xp.exp(-h / tau_ahp),
        ahp_mean=-xp.expm1(-h / tau_ahp) * tau_ahp / h,
        ahp_kick=ahp_kick * -xp.expm1(-pulse_ahp / tau_ahp) * latch("adaptation"),
        tau=circuit.tau("i_tau_mem", neuron("i_tau_mem")),
        leak=neuron("i_tau_mem") / i_o,
        gain=neuron("i_gain_mem") / i_o,
        threshold=neuron("i_spkthr") / i_o,
        refractory=circuit.width("i_ref", neuron("i_ref")),
        dc=neuron("i_dc") / i_o * latch("dc"),
        gate=neuron("i_f_nmda") / i_o * latch("nmda_gate"),
        feedback=latch("exponential"),
        feedback_power=circuit.kappa / (circuit.kappa + 1),
        h=h,
    )
    arrays = {name: xp.asarray(value, dtype) for name, value in values._asdict().items()}
    return values._replace(**arrays)


def weight_matrix(params: Params, xp: Any, dtype: Any) -> Any:
    """Weight currents in units of I_o as a matrix (sources, 4·N), the dendrite index outermost; parallel rows add."""
    t = params.topology
    values = xp.asarray(params.row_currents(xp) / params.circuit.i_o, dtype)
    column = t.dendrite * t.n_neurons + t.post
    shape = (t.n_sources, len(DENDRITES) * t.n_neurons)
    if xp is np:
        matrix = np.zeros(shape, dtype)
        np.add.at(matrix, (t.pre, column), values)
        return matrix
    return xp.zeros(shape, dtype).at[t.pre, column].add(values)


def tonic_events(period: float | None, steps: int, dt: float, first: int = 0) -> np.ndarray:
    """Events on the tonic channel in `steps` bins of `dt` s from bin `first` on: one every `period` s from time 0."""
    if not period:
        return np.zeros(steps, np.float32)
    edges = np.ceil(np.arange(first, first + steps + 1) * dt / period - 1e-9)
    return np.diff(edges).astype(np.float32)


def _python_loop(start: int, stop: int, body: Callable[[int, Any], Any], carry: Any) -> Any:
    """What `jax.lax.fori_loop` does, in Python (unrolled under jit)."""
    for k in range(start, stop):
        carry = body(k, carry)
    return carry


def run_bin(
    state: State, x_t: Any, c: Constants, matrix: Any, n_sub: int, xp: Any, loop: Callable[..., Any] = _python_loop
) -> tuple[State, Any]:
    """One bin of `n_sub` internal steps: the new state and the spike counts (batch, N).

    `x_t` (batch, channels + 1) are the events of the bin, the tonic ones last; they arrive at its beginning. A spike
    reaches its targets in the next internal step. `loop` runs the internal steps after the first.
    """
    channels = x_t.shape[-1]
    batch, n = state.u.shape

    def advance(state: State, drive: Any) -> State:
        return step(state, drive.reshape(batch, 4, n), c, xp)

    def later(_: Any, carry: tuple[State, Any]) -> tuple[State, Any]:
        before, count = carry
        after = advance(before, before.spikes @ matrix[channels:])
        return after, count + after.spikes

    state = advance(state, state.spikes @ matrix[channels:] + x_t @ matrix[:channels])
    return loop(1, n_sub, later, (state, state.spikes))
