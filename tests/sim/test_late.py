"""Late CAM rows by the kernels, level by level: the spikes and gradients of XLA, the spikes of NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nir_dynapse as nd
import small_networks
from nir_dynapse.chip.device import DELAYS, Mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.engine import spike_counts
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.native import late
from nir_dynapse.sim.native import run as native

SHAPE = (5, 40, 6)
CHECKED = ("i_delay_precise", "i_delay_mismatched", "i_tau_mem", "i_tau_ampa", "i_gain_gaba", "i_spkthr")


def delayed(net: nd.Network, flags: Any = None) -> Params:
    """A chip whose rows are late by none, 3.3 ms, 7.1 ms or both, in turn; or by `flags`."""
    params = nd.to_params(net)
    t = params.topology
    width = {name: params.circuit.width(name, s) for name, s in zip(DELAYS, (3.3e-3, 7.1e-3), strict=True)}
    bias = {**params.bias, **{name: np.full(t.n_groups, value) for name, value in width.items()}}
    flags = np.arange(t.n_synapses) % 4 if flags is None else flags(t)
    return fabricate(replace(params, bias=bias, topology=replace(t, delay=flags)), Mismatch.uniform(0.2), 3)


def events(seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(SHAPE) < 0.2).astype(np.float32)


@pytest.mark.skipif(not native.available(), reason="no compiled kernels here")
@pytest.mark.parametrize(("substeps", "listed"), [(1, False), (2, False), (1, True)])
def test_kernels_and_xla_agree_on_late_rows(substeps: int, listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spikes bin by bin, and gradients of weights, of delays of cores and of rows, and of other currents."""
    if listed:
        monkeypatch.setattr(late, "DENSE_BELOW", 0)
        monkeypatch.setattr(native, "SPARSE_BELOW", 2.0)
        monkeypatch.setattr(native, "SPARSE_FROM", 0)
    chip = jax.tree_util.tree_map(jnp.asarray, delayed(small_networks.dense(3, 6, 10, 4)))
    weigh = np.random.default_rng(1).normal(size=(*SHAPE[:2], 14)).astype(np.float32)

    def loss(params: Params, native: bool) -> tuple[Any, Any]:
        counts = spike_counts(params, events(), substeps=substeps, longest_delay=30e-3, native=native)
        return (counts * weigh).sum(), counts

    (_, ours), mine = jax.value_and_grad(loss, has_aux=True)(chip, True)
    (_, theirs), other = jax.value_and_grad(loss, has_aux=True)(chip, False)
    assert ours.sum() > 100
    np.testing.assert_array_equal(ours, theirs)
    pairs = [(mine.weight, other.weight), (mine.delay_factor, other.delay_factor)]
    for a, b in pairs + [(mine.bias[name], other.bias[name]) for name in CHECKED]:
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.skipif(not native.available(), reason="no compiled kernels here")
def test_kernels_and_numpy_agree_on_late_rows() -> None:
    chip = delayed(small_networks.dense(4, 6, 12, 5))
    found = np.asarray(spike_counts(chip, events(), native=True))
    run = nd.simulate(chip, events().astype(np.uint8), backend="numpy")
    wanted = np.concatenate([run.spikes[name] for name, _ in chip.topology.populations], 2)
    assert wanted.sum() > 100
    assert (found != wanted).mean() < 2e-3  # sums in another order


@pytest.mark.skipif(not native.available(), reason="no compiled kernels here")
def test_late_rows_into_a_loop_are_of_the_kernels_and_those_within_it_are_not() -> None:
    net = small_networks.recurrent(0, 6, 12, 4)
    into = delayed(net, lambda t: np.where(t.pre < t.tonic, 1, 0))
    assert late.has_levels(into.topology)
    ours = spike_counts(into, events(), native=True)
    np.testing.assert_array_equal(ours, spike_counts(into, events(), native=False))
    within = delayed(net, lambda t: np.where(t.pre < t.tonic, 0, 1))
    assert not late.has_levels(within.topology)
    with pytest.raises(nd.ParameterRangeError, match="delays within loops of neurons"):
        spike_counts(within, events(), native=True)
    assert np.asarray(spike_counts(within, events())).sum() > 0


def test_populations_in_any_order_are_levels_in_that_of_the_flow() -> None:
    net = small_networks.dense(3, 6, 10, 4)
    back = replace(net, populations=net.populations[::-1])
    for network, wanted in ((net, [0] * 10 + [1] * 4), (back, [1] * 4 + [0] * 10)):
        np.testing.assert_array_equal(late._levels(nd.to_params(network).topology), wanted)
    assert not late.has_levels(nd.to_params(net).topology), "nothing is late"
