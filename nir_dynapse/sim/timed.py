"""Runs that say when within a bin neurons fire: spikes as events in µs. NumPy, step by step.

The steps find the time at which a membrane meets its threshold anyway (`dynamics.late`), for reset and refractory period
begin there; here it is kept. At constant drive steps of 1 ms and of 0.1
ms are up to 35 µs off the exact time, steps of 10 µs up to 4 µs (tests/sim/test_timed.py); spikes still reach other neurons
with the next step.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from nir_dynapse.circuit.params import Params
from nir_dynapse.data.data import Events
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.sim.circuit import Disturbance, observe, prepare, step_boolean, with_tonic
from nir_dynapse.sim.disturbance import of_bin
from nir_dynapse.sim.dynamics import Structure, again_and_again, initial_state, step
from nir_dynapse.sim.wiring import drive

__all__ = ["run_timed"]

LEAST = 1e-8
"""s before the end of a step that a spike comes at least: what rounding does must not move it into the next one."""
MOST_SPIKES = 1 << 28
"""Most spikes of a run: their times are held in memory."""


def run_timed(
    params: Params,
    counts: np.ndarray,
    dt: float,
    by: tuple[Structure, int],
    disturbance: Disturbance,
    wanted: tuple[str, ...],
) -> tuple[np.ndarray, list[np.ndarray], tuple[Events, ...]]:
    """Spikes (batch, time, N) and the currents `wanted` of checked `counts`, and of each sample its spikes as Events.

    `by` are the structure of the equations and how many steps a bin has. Times are whole µs from the beginning of the
    sample, rounded down; all copies of a neuron have its index.
    """
    structure, n_sub = by
    batch, steps, _ = counts.shape
    h, n = dt / n_sub, params.topology.n_neurons
    x = with_tonic(counts.astype(np.float32), params, dt, np)
    weights, c = prepare(params, h, structure, float(x.max(initial=0)), disturbance)
    state = initial_state(batch, c, structure, np)
    spikes = np.zeros((batch, steps, n), np.uint8)
    extras = [np.zeros((batch, steps, n), np.float32) for _ in wanted]
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    held, refractory = 0, c.refractory.astype(float)
    for t in range(steps):
        disturb = of_bin(t, n_sub, disturbance.word, np.arange(batch), c, structure, np)
        for k in range(n_sub):
            received, state = drive(state, x[:, t] if k == 0 else None, weights, structure, np)
            left: list[np.ndarray] = []
            state = step(state, received, c, structure, np, step_boolean, *disturb(k), repeat=_noting(left))
            spikes[:, t] += state.spikes.astype(np.uint8)
            # What is left of the step after the refractory period: minus v where the period outlasts every step.
            for nth, rest in enumerate(left or [state.v]):
                sample, neuron = np.nonzero(state.spikes > nth)
                if not len(sample):
                    break
                since = np.maximum(refractory[neuron] + rest[sample, neuron], LEAST)
                found.append((sample, neuron, (t * n_sub + k + 1) * h - since))
                held += len(sample)
            if held > MOST_SPIKES:
                raise ParameterRangeError(
                    f"simulate: more than {MOST_SPIKES} spikes with times. Give fewer samples or bins, or leave times out."
                )
        for trace, name in zip(extras, wanted, strict=True):
            trace[:, t] = observe(name, state, c, structure, np)
    return spikes, extras, _events(params, batch, found)


def _noting(left: list[np.ndarray]) -> Callable[..., Any]:
    """`again_and_again` that notes what is left of the step (B, N) after the refractory period of each spike in it."""

    def repeat(body: Callable[..., Any], carry: Any, given: Any, most: int) -> Any:
        def noted(carry: Any, given: Any) -> Any:
            carry = body(carry, given)
            left.append(carry[0])
            return carry

        left.append(carry[0])
        return again_and_again(noted, carry, given, most)

    return repeat


def _events(params: Params, batch: int, found: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[Events, ...]:
    """Events of each sample in order of time."""
    t = params.topology
    nodes = tuple(t.node_sizes)
    node, index = np.zeros(t.n_neurons, np.int64), np.zeros(t.n_neurons, np.int64)
    for k, (name, part) in enumerate(t.slices().items()):
        node[part], index[part] = k, np.arange(part.stop - part.start) // t.copies_of[name]
    none = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    sample, neuron, when = (np.concatenate(parts) for parts in zip(none, *found, strict=True))
    made = []
    order = np.lexsort((neuron, when, sample))
    ends = np.searchsorted(sample[order], np.arange(batch + 1))
    for first, last in pairwise(ends):
        here = order[first:last]
        us = np.floor(1e6 * when[here] + 1e-6).astype(np.int64)
        made.append(Events(us, node[neuron[here]], index[neuron[here]], nodes))
    return tuple(made)
