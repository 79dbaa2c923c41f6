"""From `Params` to what the steps of the dynamics need: constants and weights; no JAX here (Lava runs this in NumPy)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.chip.device import DENDRITES, Mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.sim.dynamics import Constants, Group, State, Structure, keep, step
from nir_dynapse.sim.wiring import ROWS_FROM, Weights, drive, groups_of, summable, tau_of, weights_of

__all__ = [
    "RECORDABLE",
    "TRACES",
    "Disturbance",
    "constants",
    "currents_for",
    "end_currents",
    "further_spikes",
    "internal_step",
    "observe",
    "prepare",
    "run_bin",
    "structure_of",
    "tonic_events",
    "traces_of",
    "with_tonic",
]

RECORDABLE = ("spikes", "i_mem", *(f"i_{name}" for name in DENDRITES), "i_ahp")
"""What the steps of a run can record: spikes, and currents in A at the ends of bins."""
TRACES = (*RECORDABLE, "v_mem")
"""What `simulate` can record: also the membrane voltage in V, which follows from its current (`Circuit.v_mem`)."""
MAX_STEP = 1e-3
"""Longest internal step in s: the scheme's spike counts stay within 2 % of the converged ones up to here."""
MAX_SUBSTEPS = 64
MOST_SPIKES = 255
"""Most spikes of a neuron in a bin: what a byte holds."""
MOST_EVENTS = 16.0
"""Events of an input in a bin up to which sums of weights are exact; more where the data has more."""

Array = Any


class Disturbance(NamedTuple):
    """What differs from run to run: see `device.Mismatch`; `seed` fixes the draws."""

    noise: float = 0.0
    loss: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, mismatch: Mismatch | None, seed: int) -> Disturbance:
        """The noise and the lost events of virtual chip `seed`."""
        return cls() if mismatch is None else cls(mismatch.noise, mismatch.spike_loss, seed)

    @property
    def word(self) -> np.uint32:
        """The seed as the 32 bits that draws are keyed by."""
        return np.uint32(self.seed & 0xFFFFFFFF)


def internal_step(params: Params, dt: float) -> int:
    """Number of internal steps per bin of `dt` s: none longer than `MAX_STEP` or half the shortest membrane time constant
    (a quarter of it where a soma is exponential); at most `MAX_SUBSTEPS`.

    Refractory periods do not matter: where one ends within a step, its neuron goes on (`dynamics.settle`).
    """
    membrane = params.circuit.tau("i_tau_mem", np.asarray(params.bias["i_tau_mem"]))
    parts = 4 if params.topology.has_latch("exponential").any() else 2
    longest = min(MAX_STEP, float(np.min(membrane)) / parts)
    return int(min(np.ceil(dt / longest * (1 - 1e-6)), MAX_SUBSTEPS))


def further_spikes(params: Params, h: float, substeps: int = 1) -> int:
    """How often a neuron may fire once more in a step of `h` s, `substeps` of them per bin: never where no refractory
    period is shorter, otherwise at most `MOST_SPIKES` times per bin in all (also where `params` is traced by JAX)."""
    try:
        shortest = float(np.min(params.circuit.width("i_ref", np.asarray(params.bias["i_ref"])), initial=np.inf))
    except TypeError:  # what JAX raises where a tracer has no value
        shortest = 0.0
    return 0 if shortest >= h * (1 - 1e-6) else max(0, MOST_SPIKES // substeps - 1)


def structure_of(
    params: Params,
    h: float,
    disturbance: Disturbance | None = None,
    *,
    longest_delay: float | None = None,
    whole: bool = False,
    lists: bool = False,
    substeps: int = 1,
) -> Structure:
    """What the equations of `params` contain, at `substeps` internal steps of `h` s per bin; never looks at weights or
    bias currents, except for those of refractory periods (`further_spikes`) and of delays.

    The longest delay decides how far back the past is kept; give `longest_delay` in s where `params` is traced by JAX.
    `whole=True` keeps all four dendrites together, `lists=True` those in use: lists of synapses are not cut into groups.
    """
    t = params.topology
    used = tuple(d for d in range(len(DENDRITES)) if whole or (t.dendrite == d).any()) or (0,)
    depth, rows = 0, False
    if t.delay is not None:
        if longest_delay is None:
            try:
                longest_delay = float(np.max(np.asarray(params.row_delays(np)), initial=0.0))
            except TypeError as error:  # what JAX raises where a tracer has no value
                raise ParameterRangeError(
                    "the delays of traced Params are not known. Give longest_delay, in s."
                ) from error
        # Rounded up to a power of two, so that chips whose delays differ run in one program.
        depth, rows = 1 << (int(np.floor(longest_delay / h)) + 1).bit_length(), True
    dense = t.n_sources * len(used) * t.n_neurons
    rows = rows or (dense > ROWS_FROM and dense > 100 * t.n_synapses)
    disturbance = disturbance or Disturbance()
    return Structure(
        groups=(Group(used),) if rows or whole or lists else groups_of(params, used),
        gate=bool(t.has_latch("nmda_gate").any()) and 1 in used,
        feedback=bool(t.has_latch("exponential").any()),
        adaptation=bool(t.has_latch("adaptation").any()),
        noise=disturbance.noise > 0,
        loss=disturbance.loss > 0,
        rows=rows,
        depth=depth,
        inputs=t.n_channels + 1,
        again=further_spikes(params, h, substeps),
    )


def constants(
    params: Params, h: float, structure: Structure, xp: Any, dtype: Any, disturbance: Disturbance | None = None
) -> Constants:
    """Constants of one step of length `h` s for all neurons."""
    circuit, topology = params.circuit, params.topology

    def neuron(name: str) -> Any:
        return params.per_neuron(name, xp)

    def latch(name: str) -> Any:
        return xp.asarray(topology.has_latch(name), dtype)

    leak, gain = neuron("i_tau_mem"), neuron("i_gain_mem")
    tau = circuit.tau("i_tau_mem", leak)
    tau_ahp = circuit.tau("i_tau_ahp", neuron("i_tau_ahp"))
    ahp = neuron("i_gain_ahp") / neuron("i_tau_ahp") * neuron("i_w_ahp") / leak
    ahp = ahp * -xp.expm1(-circuit.width("i_pulse_ahp", neuron("i_pulse_ahp")) / tau_ahp)
    power = circuit.kappa / (circuit.kappa + 1)
    threshold = neuron("i_spkthr") / gain
    disturbance = disturbance or Disturbance()
    values = Constants(
        decay=tuple(
            xp.asarray(xp.stack([xp.exp(-h / tau_of(params, d, xp)) for d in group.dendrites]), dtype)
            for group in structure.groups
        ),
        ahp_decay=xp.exp(-h / tau_ahp),
        # A spike lies in the middle of its step on average, so its kick has decayed for half of it.
        ahp_kick=ahp * -xp.expm1(-h / tau_ahp) * tau_ahp / h * xp.exp(-h / tau_ahp / 2) * latch("adaptation"),
        rate=1 / tau,
        floor=circuit.i_o / gain,
        threshold=threshold,
        refractory=circuit.width("i_ref", neuron("i_ref")),
        dc=neuron("i_dc") / leak * latch("dc"),
        gate=neuron("i_f_nmda") / gain * latch("nmda_gate"),
        feedback=latch("exponential") * (gain / circuit.i_o) ** power * circuit.i_o / leak,
        power=power,
        # Held for a step, a current of this deviation makes y fluctuate by `noise` of the threshold (linear regime).
        noise=disturbance.noise * threshold / xp.sqrt(xp.tanh(h / (2 * tau))),
        loss=disturbance.loss,
        h=h,
    )
    return Constants(values.decay, *(xp.asarray(value, dtype) for value in values[1:]))


def end_currents(params: Params, h: float) -> dict[str, np.ndarray]:
    """Amperes per unit of the state after a step of `h` s, (N,) each: what is recorded are currents at its end."""
    leak = np.asarray(params.per_neuron("i_tau_mem"))

    def mean(tau: np.ndarray) -> np.ndarray:
        return -np.expm1(-h / tau) * tau / h

    taus = [tau_of(params, d, np) for d in range(len(DENDRITES))]
    found = {f"i_{name}": leak * np.exp(-h / tau) / mean(tau) for name, tau in zip(DENDRITES, taus, strict=True)}
    tau_ahp = params.circuit.tau("i_tau_ahp", params.per_neuron("i_tau_ahp"))
    return {**found, "i_ahp": leak / mean(tau_ahp), "i_mem": np.asarray(params.per_neuron("i_gain_mem"))}


def currents_for(record: Sequence[str]) -> tuple[str, ...]:
    """The currents of `RECORDABLE` that the steps must give for the traces `record` of `TRACES`."""
    needed = {*record} | ({"i_mem"} if "v_mem" in record else set())
    return tuple(name for name in RECORDABLE if name in needed and name != "spikes")


def traces_of(
    params: Params, record: Sequence[str], found: Sequence[np.ndarray], h: float
) -> dict[str, dict[str, np.ndarray]]:
    """The traces `record` by name and node, in A and V, of what steps of `h` s gave for `currents_for(record)` (..., N)."""
    names, slices = currents_for(record), params.topology.slices()
    amperes = end_currents(params, h) if names else {}
    traces = {name: values * amperes[name].astype(np.float32) for name, values in zip(names, found, strict=True)}
    if "v_mem" in record:
        traces["v_mem"] = params.circuit.v_mem(traces["i_mem"])
    wanted = (name for name in TRACES if name in record and name in traces)
    return {name: {node: traces[name][..., part] for node, part in slices.items()} for name in wanted}


def with_tonic(x: Array, params: Params, dt: float, xp: Any) -> Array:
    """`x` (batch, time, channel) with the events of the tonic channel as the last column."""
    events = xp.asarray(tonic_events(params.topology.tonic_period, x.shape[1], dt), x.dtype)
    return xp.concatenate([x, xp.broadcast_to(events[None, :, None], (*x.shape[:2], 1))], axis=2)


def tonic_events(period: float | None, steps: int, dt: float, first: int = 0) -> np.ndarray:
    """Events on the tonic channel in `steps` bins of `dt` s from bin `first` on: one every `period` s from time 0."""
    if not period:
        return np.zeros(steps, np.float32)
    edges = np.ceil(np.arange(first, first + steps + 1) * dt / period - 1e-9)
    return np.diff(edges).astype(np.float32)


def prepare(
    params: Params, h: float, structure: Structure, most: float, disturbance: Disturbance | None = None
) -> tuple[Weights, Constants]:
    """Weights and constants in float32 (NumPy), the same on every device; `most` events of an input per step at most."""
    weights = weights_of(params, h, structure, np, np.float64)
    return summable(weights, max(most, MOST_EVENTS)), constants(params, h, structure, np, np.float32, disturbance)


def step_boolean(x: Array) -> Array:
    """1 where x > 0, else 0: spikes without a gradient."""
    return (x > 0).astype(x.dtype)


def _python_loop(start: int, stop: int, body: Callable[[int, Any], Any], carry: Any) -> Any:
    """What `jax.lax.fori_loop` does, in Python (unrolled under jit)."""
    for k in range(start, stop):
        carry = body(k, carry)
    return carry


def run_bin(
    state: State,
    x: Array,
    c: Constants,
    weights: Weights,
    structure: Structure,
    n_sub: int,
    xp: Any,
    fire: Callable[[Array], Array] = step_boolean,
    disturb: Callable[[Any], tuple[Array | float, Array | float]] | None = None,
    loop: Callable[..., Any] = _python_loop,
    hold: Callable[[Array], Array] = keep,
    repeat: Callable[..., Any] | None = None,
) -> tuple[State, Array]:
    """One bin of `n_sub` internal steps: the new state and the spike counts (batch, N).

    `x` (batch, channels + 1) are the events of the bin, the tonic ones last; they arrive at its beginning. A spike
    reaches its targets in the next internal step. `disturb` gives the noise and the mask of kept events of internal step
    k of the bin. `loop` runs the internal steps after the first; for `repeat` see `dynamics.settle`.
    """

    def advance(k: Any, state: State, events: Array | None) -> State:
        received, state = drive(state, events, weights, structure, xp)
        noise, kept = (0.0, 1.0) if disturb is None else disturb(k)
        return step(state, received, c, structure, xp, fire, noise, kept, hold, repeat)

    def later(k: Any, carry: tuple[State, Array]) -> tuple[State, Array]:
        before, count = carry
        after = advance(k, before, None)
        return after, count + after.spikes

    state = advance(0, state, x)
    return loop(1, n_sub, later, (state, state.spikes))


def observe(name: str, state: State, c: Constants, structure: Structure, xp: Any) -> Any:
    """The current `name` of `RECORDABLE` (batch, N) at the end of a step, in the units of `dynamics`."""
    if name == "i_mem":
        return xp.where(state.v < 0, c.floor, state.v)
    if name == "i_ahp":
        if state.ahp is None:
            return xp.zeros_like(state.v)
        return state.ahp * c.ahp_decay + state.spikes * c.ahp_kick  # with the kick of a spike of this step
    dendrite = RECORDABLE.index(name) - 2
    for group, currents in zip(structure.groups, state.dendrites, strict=True):
        if dendrite in group.dendrites:
            return currents[:, group.dendrites.index(dendrite)]
    return xp.zeros_like(state.v)
