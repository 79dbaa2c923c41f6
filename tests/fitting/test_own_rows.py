"""Resets by a synapse of every neuron onto itself: what they take, where they are allowed, that the bits make them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip.device import GABA
from nir_dynapse.circuit.closed_form import event_charge, to_params
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.fitting.fit import MISSED
from nir_dynapse.fitting.scales import FACTORS, RESET, Scales

FOLDER = Path(__file__).parent / "networks"


def own_of(params: nd.Params) -> np.ndarray:
    """The synapses of neurons onto themselves."""
    t = params.topology
    return np.flatnonzero(t.pre == t.tonic + 1 + t.post)


@pytest.fixture(scope="module")
def subtracting() -> nd.Network:
    """LIF with weights of mean zero and resets by subtraction, no recurrence."""
    from small_networks import feed_forward

    net = feed_forward(np.random.default_rng(0).normal(0.1, 0.6, (12, 16)))
    lif = [replace(p, kind="LIF", tau_syn=None, w_in=None, reset="subtract") for p in net.populations]
    return replace(net, populations=tuple(lif))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return (np.random.default_rng(3).random((40, 60, 16)) < 0.25).astype(np.uint8)


def numbers_with(scales: Scales, reset: float) -> np.ndarray:
    numbers = np.zeros_like(scales.low)
    numbers[:, RESET] = reset
    return numbers


def test_a_reset_takes_a_threshold(subtracting: nd.Network) -> None:
    scales = Scales.of(to_params(subtracting), nd.DYNAPSE2)
    made = scales.settled(numbers_with(scales, 0.75))
    own = own_of(made)
    assert np.array_equal(made.topology.post[own], np.arange(12))
    assert (made.topology.dendrite[own] == GABA).all()
    assert np.allclose((made.row_currents() * event_charge(made))[own], 0.75)
    before = scales.plain.topology.n_synapses
    assert np.array_equal(made.topology.pre[:before], scales.plain.topology.pre)
    assert np.allclose(made.weight[:before], scales.plain.weight)


def test_numbers_are_given_back_by_name(subtracting: nd.Network) -> None:
    scales = Scales.of(to_params(subtracting), nd.DYNAPSE2)
    start = scales.remembering(1.0, 1.0)
    assert start is not None
    number = dict(zip(FACTORS, start[0], strict=True))
    made, was, circuit = scales.settled(start), scales.plain, scales.plain.circuit
    for name in ("ampa", "gaba"):
        tau = circuit.tau(f"i_tau_{name}", made.bias[f"i_tau_{name}"])
        assert np.allclose(tau, circuit.tau("i_tau_mem", was.bias["i_tau_mem"]), rtol=1e-6)
    assert np.allclose(made.bias["i_tau_mem"], was.bias["i_tau_mem"] * np.exp(-number["tau_mem"]))
    assert number["reset"] == 1.0


def test_only_neurons_with_a_free_row_get_one(subtracting: nd.Network) -> None:
    begin = to_params(subtracting)
    for rows, allowed in ((15, True), (16, False), (17, True)):  # pruned anyway, full, room for one
        scales = Scales.of(begin, nd.Device(cam_rows=rows))
        assert (len(scales.own) > 0) is allowed
        assert (scales.remembering(1.0, 1.0) is not None) is allowed
    assert not len(Scales.of(begin, nd.DYNAPSE2, own_rows=False).own)


def test_membranes_without_memory_get_none(networks: ModuleType) -> None:
    net = networks.recurrent(4, 6, 10, 3, fan_in=5)
    fast = [replace(p, tau_mem=np.full(p.size, 1.5 * net.dt)) for p in net.populations]
    scales = Scales.of(to_params(replace(net, populations=tuple(fast))), nd.DYNAPSE2)
    assert scales.remembering(1.0, 1.0) is None


def test_a_network_that_subtracts_is_followed_and_its_bits_do_the_same(
    subtracting: nd.Network, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, without = nd.fit_to_data(subtracting, x)
    assert without.distance_after < MISSED
    assert not len(own_of(plain)), "no rows are spent where a circuit is near without them"
    monkeypatch.setattr("nir_dynapse.fitting.fit.MISSED", 0.0)
    monkeypatch.setattr("nir_dynapse.fitting.fit.ENOUGH", 0.0)
    monkeypatch.setattr("nir_dynapse.fitting.fit.ROW_PAYS", 100.0)
    assert not len(own_of(nd.fit_to_data(subtracting, x, own_rows=False)[0]))
    params, result = nd.fit_to_data(subtracting, x)
    assert len(own_of(params)) == 12
    assert "reset x" in str(result.populations[0])
    assert result.distance_after < MISSED
    layout = nd.compile(subtracting, params=params)
    bits = nd.to_params(layout)
    charge = bits.row_currents() * event_charge(bits)
    asked = (params.row_currents() * event_charge(params))[own_of(params)]
    got = np.bincount(bits.topology.post[own_of(bits)], charge[own_of(bits)])
    assert np.allclose(got, asked, rtol=0.1)
    ideal, chip = (nd.simulate(thing, x, ideal=thing is subtracting) for thing in (subtracting, layout))
    assert chip.spikes["hidden"].mean() == pytest.approx(ideal.spikes["hidden"].mean(), rel=0.1)


def test_each_copy_resets_itself(subtracting: nd.Network) -> None:
    scales = Scales.of(to_params(subtracting), nd.DYNAPSE2)
    copies = with_copies(scales.settled(numbers_with(scales, 1.0)), [3])
    assert np.array_equal(np.sort(copies.topology.post[own_of(copies)]), np.arange(36))
    layout = nd.compile(subtracting, params=scales.settled(numbers_with(scales, 1.0)), spend=3)
    assert set(nd.to_params(layout).topology.post[own_of(nd.to_params(layout))]) == set(range(36))


@pytest.mark.long
@pytest.mark.parametrize("name", ["rows", "waves", "activity"])
def test_recurrent_networks_lose_at_most_three_points(name: str) -> None:
    net = nd.from_nir(FOLDER / f"{name}.nir", frontend="snntorch", dt=1e-3)
    train, test = (nd.Data.load(FOLDER / f"{name}_{part}.npz") for part in ("train", "test"))
    params, result = nd.fit_to_data(net, train)
    assert result.kept
    ideal, got = nd.simulate(net, test.x, ideal=True), nd.simulate(params, test.x)
    assert got.accuracy(test.y) >= ideal.accuracy(test.y) - 0.03
    for node, spikes in ideal.spikes.items():
        assert got.spikes[node].mean() == pytest.approx(spikes.mean(), rel=0.1), node
