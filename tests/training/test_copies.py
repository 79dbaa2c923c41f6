"""`fine_tune` of a circuit with copies: what the loss sees are means, and a board gives the spikes of every copy."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.training.task import read_spikes, task_of
from tuning_cases import DT, SPREAD, data, network, short, with_readout

BRIEF: dict[str, Any] = {"mismatch": SPREAD, "devices": 2, "steps": 2}


def brief(thing: Any, samples: nd.Data, **more: Any) -> nd.Params:
    options = short(batch=8, held_out=2, check_every=2, validation_size=16)
    return nd.fine_tune(thing, samples, **BRIEF, options=options, **more)


def test_the_loss_sees_the_mean_over_the_copies() -> None:
    params = with_copies(to_params(network(2)), (2, 3))
    task = task_of(params, params, data(), None, None, None)
    assert task.read == ((12, 18),)
    assert task.copies == (3,)
    spikes = np.random.default_rng(0).poisson(1.0, (4, 20, 18)).astype(np.float32)
    (seen,) = read_spikes(spikes, task.read, task.copies)
    np.testing.assert_array_equal(seen, spikes[..., 12:].reshape(4, 20, 2, 3).mean(3))
    (in_jax,) = read_spikes(jnp.asarray(spikes), task.read, task.copies)
    np.testing.assert_allclose(np.asarray(in_jax), seen, rtol=1e-6)
    plain = to_params(network(2))
    assert task_of(plain, plain, data(), None, None, None).copies == (1,)


def test_a_teacher_is_compared_with_the_networks_neurons() -> None:
    net = network(2)
    params = with_copies(to_params(net), (2, 3))
    unlabelled = nd.Data(data().x, np.zeros(32, int), DT)
    task = task_of(params, params, unlabelled, None, None, net)
    assert task.y.shape[2] == 8
    assert (task.read, task.copies) == (((0, 12), (12, 18)), (2, 3))
    with pytest.raises(nd.ConfigurationError, match=r"the network 'hidden' \(6\), 'out' \(2\)"):
        task_of(params, params, unlabelled, None, None, network(n_hidden=5))


@pytest.mark.long
@pytest.mark.parametrize("make", [lambda: network(2), with_readout])
def test_training_keeps_the_copies(make: Any) -> None:
    params = with_copies(to_params(make()), [2] * len(make().populations))
    trained = brief(params, data())
    assert trained.topology.copies == params.topology.copies
    layout = nd.compile(make(), params=trained)
    assert layout.copies == params.topology.copies
    assert nd.simulate(layout, data(4).x).output.shape[2] == 2
    with nd.open_board("virtual:3", mismatch=SPREAD) as board:
        assert brief(params, data(), board=board).topology.copies == params.topology.copies


@pytest.mark.long
def test_a_teacher_of_copies_on_a_board() -> None:
    net = network(2)
    unlabelled = nd.Data(data().x, np.zeros(32, int), DT)
    params = with_copies(to_params(net), (2, 3))
    with nd.open_board("virtual:3", mismatch=SPREAD) as board:
        assert brief(params, unlabelled, teacher=net, board=board).topology.copies == (2, 3)
