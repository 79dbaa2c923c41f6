"""NumPy and JAX run the same equations: the same spikes, up to ties at the threshold."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import small_networks
from nir_dynapse.chip.device import Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim import circuit
from nir_dynapse.sim.circuit import internal_step, structure_of
from nir_dynapse.sim.dynamics import initial_state
from nir_dynapse.sim.loops import loop_for
from nir_dynapse.sim.simulation import simulate
from shortened import shortened

DT = 1e-3


def poisson(steps: int, channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.4, (1, steps, channels)).astype(np.float32)


def recurrent(seed: int, strength: float = 1.0) -> Params:
    """64 neurons, 56 of them recurrent; at a `strength` of 0.1 small differences die out."""
    params = to_params(small_networks.recurrent(seed, 12, 56, 8))
    inside = params.topology.pre > params.topology.tonic
    return replace(params, weight=np.asarray(params.weight) * np.where(inside, strength, 1.0))


@pytest.mark.parametrize("seed", shortened([0, 1, 2]))
@pytest.mark.parametrize("mismatch", [None, Mismatch()])
def test_numpy_and_jax_agree_over_a_second(seed: int, mismatch: Mismatch | None) -> None:
    params, x = recurrent(seed, 0.1), poisson(1000, 12, seed=seed)
    a, b = (
        simulate(params, x, mismatch=mismatch, key=seed, backend=name).spikes["hidden"] for name in ("numpy", "jax")
    )
    assert a.sum() > 1000
    assert (a != b).mean() < 1e-3


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_numpy_and_jax_agree_in_every_step_of_a_chaotic_network(seed: int) -> None:
    """Where one tie changes all that follows: JAX takes each of 1 000 steps from the state that NumPy came to."""
    params, x = recurrent(seed), poisson(1000, 12, seed=seed)[0]
    n_sub = internal_step(params, DT)
    structure = structure_of(params, DT / n_sub)
    weights, c = circuit.prepare(params, DT / n_sub, structure, 1.0)
    state, states, spikes = initial_state(1, c, structure, np), [], []
    for x_t in np.c_[x, np.zeros(1000, np.float32)]:
        states.append(state)
        state, count = circuit.run_bin(state, x_t[None], c, weights, structure, n_sub, np)
        spikes.append(count[0])
    together = jax.tree_util.tree_map(lambda *leaves: np.concatenate(leaves), *states)
    step = jax.jit(lambda s, x: circuit.run_bin(s, x, c, weights, structure, n_sub, jnp, **loop_for(n_sub))[1])
    got = step(together, np.c_[x, np.zeros(1000, np.float32)])
    assert np.sum(spikes) > 5000
    assert (np.asarray(got) != np.array(spikes)).mean() < 1e-3
