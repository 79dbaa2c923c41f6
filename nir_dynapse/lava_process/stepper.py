"""A circuit that is run bin by bin in NumPy, with its currents in amperes: what the process models step.

The same equations in the same order as `simulate(..., backend="numpy")`, so the spikes are bit-equal. Nothing of JAX runs
here: Lava forks its workers, and JAX hangs in a forked child.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.chip.device import CURRENTS, DENDRITES
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.lava_process.kernel import add_events, applies, fixed_rows, membranes
from nir_dynapse.sim.circuit import (
    RECORDABLE,
    Disturbance,
    end_currents,
    internal_step,
    observe,
    prepare,
    run_bin,
    structure_of,
    tonic_events,
)
from nir_dynapse.sim.disturbance import of_bin
from nir_dynapse.sim.dynamics import Group, State, advance, inflow, initial_state
from nir_dynapse.sim.wiring import Rows, drive, pick

__all__ = ["STATES", "Stepper"]

RECORDED = RECORDABLE[1:]
STATES: tuple[str, ...] = (*RECORDED, "refractory")
"""Currents in A, and the time in s that is left of the refractory period, of each neuron."""


class Stepper:
    """A network on one chip, one sample at a time, in bins of `dt` s.

    `disturbance` (noise, lost events) draws for sample number `sample`, which `reset` counts up, as a batch of `simulate`
    does. `most` is the largest number of events of an input in a bin up to which sums of weights are exact; `rows` asks for
    tables of CAM rows, not matrices.
    """

    def __init__(
        self,
        params: Params,
        dt: float,
        disturbance: Disturbance | None = None,
        most: float = 16.0,
        *,
        rows: bool = False,
    ) -> None:
        self.dt, self.most, self.rows = dt, most, rows
        self.disturbance = disturbance or Disturbance()
        self.sample, self.bin = 0, 0
        self._lower(params)
        self.state: State = initial_state(1, self.c, self.structure, np)

    def _lower(self, params: Params) -> None:
        self.params = params
        self.n_sub = internal_step(params, self.dt)
        h = self.dt / self.n_sub
        self.structure = structure_of(params, h, self.disturbance, substeps=self.n_sub)
        if self.rows and not self.structure.rows:
            used = tuple(sorted({d for group in self.structure.groups for d in group.dendrites}))
            self.structure = self.structure._replace(groups=(Group(used),), rows=True)
        self.weights, self.c = prepare(params, h, self.structure, self.most, self.disturbance)
        self.compiled = applies(self.structure, self.c)
        if self.compiled:
            self.fixed, self.h = fixed_rows(self.c), np.float32(self.c.h)
        self.amperes = {name: value.astype(np.float32) for name, value in end_currents(params, h).items()}

    def step(self, events: np.ndarray) -> np.ndarray:
        """Spike counts (N,) of a bin with `events` (C,) of the input channels at its beginning."""
        x = np.zeros((1, len(events) + 1), np.float32)
        x[0, :-1] = events
        if self.params.topology.tonic_period:
            x[0, -1] = tonic_events(self.params.topology.tonic_period, 1, self.dt, first=self.bin)[0]
        c, structure = self.c, self.structure
        if self.compiled:
            self.bin += 1
            return self._step(x)
        sample = np.array([self.sample])
        disturb = of_bin(np.int64(self.bin), self.n_sub, self.disturbance.word, sample, c, structure, np)
        self.state, counts = run_bin(self.state, x, c, self.weights, structure, self.n_sub, np, disturb=disturb)
        self.bin += 1
        return counts[0]

    def _step(self, x: np.ndarray) -> np.ndarray:
        """What `run_bin` does, with the membranes compiled."""
        state, c, structure = self.state, self.c, self.structure
        count: np.ndarray | None = None
        for k in range(self.n_sub):
            received, state = self._received(state, None if k else x)
            dendrites, ahp = advance(state, received, c)
            v, spikes = membranes(state.v, inflow(dendrites, ahp, c, structure), self.fixed, self.h, structure.again)
            state = State(dendrites, ahp, v, spikes, state.past)
            count = spikes if count is None else count + spikes
        self.state = state
        return np.zeros(len(c.rate), np.float32) if count is None else count[0]

    def _received(self, state: State, x: np.ndarray | None) -> tuple[tuple[np.ndarray, ...], State]:
        """What `drive` does, events by events."""
        if isinstance(self.weights, Rows):
            return drive(state, x, self.weights, self.structure, np)
        received = []
        for group, matrix in zip(self.structure.groups, self.weights, strict=True):
            total = np.zeros((1, len(group.dendrites), len(self.c.rate)), np.float32)
            for events, names, weights in (
                (x, group.inputs, matrix.inputs),
                (state.spikes, group.neurons, matrix.neurons),
            ):
                if events is not None and weights.size:
                    add_events(pick(events, names)[0], weights, total.reshape(-1))
            received.append(total)
        return tuple(received), state

    def reset(self) -> None:
        """Silence, at time 0 of the next sample."""
        self.state, self.bin = initial_state(1, self.c, self.structure, np), 0
        self.sample += 1

    def states(self) -> dict[str, np.ndarray]:
        """`STATES` at the end of the last bin, (N,) each: the currents that `simulate` records."""
        found = {
            name: observe(name, self.state, self.c, self.structure, np)[0] * self.amperes[name] for name in RECORDED
        }
        return {**found, "refractory": np.maximum(-self.state.v[0], 0)}

    def set_state(self, name: str, value: np.ndarray) -> None:
        """Set one of `STATES` (N,). Dendrites that no row drives, and adaptation that no neuron has, stay at 0."""
        if not np.isfinite(value).all() or (value < 0).any():
            raise ParameterRangeError(
                f"{name} is set to {value.min():g} … {value.max():g}; it must be finite and not negative. Give A (s for "
                "refractory)."
            )
        value = np.asarray(value, np.float32)
        v, c = self.state.v[0], self.c
        if name == "refractory":
            y = np.where(v < 0, c.floor, v)
            self.state = self.state._replace(v=np.where(value > 0, -value, y)[None])
        elif name == "i_mem":
            y = np.maximum(value / self.amperes[name], c.floor)
            self.state = self.state._replace(v=np.where(v < 0, v, y)[None])
        elif name == "i_ahp":
            if self.state.ahp is not None:
                before = value / self.amperes[name] - self.state.spikes[0] * c.ahp_kick
                self.state = self.state._replace(ahp=(before / c.ahp_decay)[None])
        else:
            d, groups = DENDRITES.index(name[2:]), list(self.state.dendrites)
            for k, group in enumerate(self.structure.groups):
                if d in group.dendrites:
                    groups[k] = groups[k].copy()
                    groups[k][0, group.dendrites.index(d)] = value / self.amperes[name]
            self.state = self.state._replace(dendrites=tuple(groups))

    def set_parameters(self, bias: dict[str, np.ndarray], weight: np.ndarray | None) -> None:
        """New bias currents (N,) and weight currents of the CAM rows (S,), in A; all currents that flow go on flowing.

        ParameterRangeError for values that no circuit can have, and for delays that no longer fit the memory of events.
        """
        held = {name: np.asarray(self.params.per_neuron(name), float) for name in CURRENTS}
        rows = np.asarray(self.params.row_currents(), float) if weight is None else np.asarray(weight, float)
        if not np.isfinite(rows).all() or (rows < 0).any():
            raise ParameterRangeError(
                f"weight is set to {rows.min():g} … {rows.max():g} A; it must be finite and not negative. The sign of a "
                "connection is its dendrite."
            )
        topology = replace(self.params.topology, group=np.arange(self.params.topology.n_neurons), mask=None)
        changed = replace(self.params, bias={**held, **bias}, weight=rows, base=None, topology=topology)
        now = self.states()
        past, spikes, structure = self.state.past, self.state.spikes, self.structure
        self._lower(changed.check())
        if self.structure.depth != structure.depth:
            raise ParameterRangeError(
                "a delay grew beyond the memory of past events of this run. Start the run with the longer delay, or set "
                "the delay currents higher."
            )
        self.state = initial_state(1, self.c, self.structure, np)._replace(spikes=spikes, past=past)
        for name in STATES:
            self.set_state(name, now[name])
