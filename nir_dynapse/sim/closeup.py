"""One neuron's currents at a fine resolution, from silence to some time after one of its spikes; NumPy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import ConfigurationError, Finding, ParameterRangeError
from nir_dynapse.sim.circuit import (
    RECORDABLE,
    end_currents,
    internal_step,
    observe,
    prepare,
    step_boolean,
    structure_of,
    with_tonic,
)
from nir_dynapse.sim.dynamics import again_and_again, initial_state
from nir_dynapse.sim.dynamics import step as step_of
from nir_dynapse.sim.wiring import drive

__all__ = ["Closeup", "closeup"]

CURRENTS = RECORDABLE[1:]
MOST_STEPS = 200_000
"""Steps of a run at most: NumPy takes some 0.1 ms for each."""


@dataclass(frozen=True)
class Closeup:
    """What one neuron did in steps of `step` s: `time` (n,) in s, the ends of the steps, and `currents[name]` (n,) in A.

    `spikes` (k,) are the times in s at which the threshold was met, interpolated within a step. `threshold` I_spkthr and
    `floor` I_o are in A, `refractory` is in s, `exponential` says whether the soma has positive feedback.
    """

    step: float
    time: np.ndarray
    currents: dict[str, np.ndarray]
    spikes: np.ndarray
    threshold: float
    floor: float
    refractory: float
    exponential: bool


def closeup(
    params: Params, counts: np.ndarray, neuron: int, *, spike: int = 0, step: float = 1e-5, after: float = 5e-3
) -> tuple[Closeup, Closeup]:
    """Neuron `neuron` (of all) on the counts (time, channel) of one sample, until `after` s past its spike number `spike`.

    First in steps of about `step` s, then, to the end of the counts, in those that `simulate` takes. Events and spikes of
    other neurons arrive when they do in `simulate`, so that the two differ by nothing but the length of a step. Noise and
    lost events are left out. Raises ParameterRangeError where `step` is longer than a step of `simulate` or too many would
    be needed, and ConfigurationError where the neuron has no such spike.
    """
    dt = params.topology.dt
    usual = internal_step(params, dt)
    if not 0 < step <= dt / usual:
        raise ParameterRangeError(
            f"closeup: step is {step} s; it must be positive and at most {dt / usual:g} s, the step of simulate. "
            "Choose a shorter one."
        )
    finer = round(dt / usual / step)
    if len(counts) * usual * finer > MOST_STEPS:
        raise ParameterRangeError(
            f"closeup: {len(counts) * usual * finer} steps of {dt / usual / finer:g} s, allowed are {MOST_STEPS}. Give "
            f"fewer bins than {len(counts)}, or a longer step."
        )
    coarse, sent = _run(params, counts, neuron, usual)
    fine, _ = _run(params, counts, neuron, usual, finer, sent, spike, after)
    found = len(fine.spikes)
    if found <= spike:
        where = Finding("error", "closeup", "", **params.topology.where(neuron)).where
        are = "is" if found == 1 else "are"
        raise ConfigurationError(
            f"{where}: spike {spike} was asked for, but there {are} {found} in "
            f"{1e3 * len(counts) * dt:g} ms. Choose another neuron, spike or sample."
        )
    return fine, coarse


def _run(
    params: Params,
    counts: np.ndarray,
    neuron: int,
    usual: int,
    finer: int = 1,
    sent: np.ndarray | None = None,
    last: int | None = None,
    after: float = 0.0,
) -> tuple[Closeup, np.ndarray]:
    """`usual` times `finer` steps per bin, to the end of the counts, or to `after` s past spike number `last`.

    Also returns the spikes (step, neuron) of all neurons. `sent` are those of a run that was not finer: they reach the
    others in place of this run's own.
    """
    parts = usual * finer
    h = params.topology.dt / parts
    structure = structure_of(params, h, substeps=parts)
    x = with_tonic(counts[None].astype(np.float32), params, params.topology.dt, np)
    weights, c = prepare(params, h, structure, float(x.max(initial=0)))
    state, none = initial_state(1, c, structure, np), np.zeros_like(x[:, 0])
    silent = np.zeros_like(state.spikes)
    seen: list[list[float]] = []
    fired: list[np.ndarray] = []
    spikes: list[float] = []
    end = np.inf
    for k in range(x.shape[1] * parts):
        if k * h >= end:
            break
        bin_, part = divmod(k, parts)
        own = state.spikes
        if sent is not None:
            state = state._replace(spikes=silent if k == 0 or k % finer else sent[k // finer - 1][None])
        received, state = drive(state, none if part else x[:, bin_], weights, structure, np)
        left: list[float] = []
        state = step_of(
            state._replace(spikes=own), received, c, structure, np, step_boolean, repeat=_noting(left, neuron)
        )
        fired.append(state.spikes[0])
        seen.append([float(observe(name, state, c, structure, np)[0, neuron]) for name in CURRENTS])
        if state.spikes[0, neuron] > 0:
            # During the refractory period v is minus what is left of it.
            left = left if structure.again else [float(state.v[0, neuron])]
            for rest in left[: int(state.spikes[0, neuron])]:
                spikes.append((k + 1) * h - max(float(c.refractory[neuron]) + rest, 0.0))
                end = spikes[-1] + after if len(spikes) - 1 == last else end
    unit = end_currents(params, h)
    table = np.array(seen, float).reshape(-1, len(CURRENTS))
    made = Closeup(
        step=h,
        time=h * np.arange(1, len(table) + 1),
        currents={name: table[:, k] * unit[name][neuron] for k, name in enumerate(CURRENTS)},
        spikes=np.array(spikes),
        threshold=float(params.per_neuron("i_spkthr")[neuron]),
        floor=float(params.circuit.i_o),
        refractory=float(c.refractory[neuron]),
        exponential=bool(params.topology.has_latch("exponential")[neuron]),
    )
    return made, np.array(fired)


def _noting(left: list[float], neuron: int) -> Callable[..., Any]:
    """`again_and_again` that notes what is left of the step after the refractory period of each spike of `neuron`."""

    def repeat(body: Callable[..., Any], carry: Any, given: Any, most: int) -> Any:
        def noted(carry: Any, given: Any) -> Any:
            carry = body(carry, given)
            left.append(float(carry[0][0, neuron]))
            return carry

        left.append(float(carry[0][0, neuron]))
        return again_and_again(noted, carry, given, most)

    return repeat
