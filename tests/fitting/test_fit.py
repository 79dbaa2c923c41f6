# IMPORT
"""`fit_to_data`: known distortions are undone, nothing gets worse, odd data, keys; `compile(data=)`, `deploy`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.deployment.deploy import deploy
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.fitting.distance import distance, output_weights
from nir_dynapse.fitting.fit import fit_to_data
from nir_dynapse.fitting.result import CODE
from nir_dynapse.fitting.scales import FACTORS, Scales
from shortened import shortened

FOLDER = Path(__file__).parent / "networks"


def rates(recording: nd.Recording) -> dict[str, float]:
    return {name: float(spikes.mean()) for name, spikes in recording.spikes.items()}


@pytest.fixture(scope="module")
def one() -> nd.Network:
    """Input -> one population without recurrence."""
    from small_networks import feed_forward

    return feed_forward(np.random.default_rng(1).uniform(0.1, 0.5, (6, 8)) * 0.25)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return (np.random.default_rng(2).random((24, 40, 8)) < 0.25).astype(np.uint8)


def with_gain(params: nd.Params, name: str, factor: float) -> nd.Params:
    return replace(params, bias={**params.bias, name: params.bias[name] * factor})


@pytest.mark.parametrize(("name", "factor"), shortened([("i_gain_ampa", 2.0), ("i_gain_ampa", 0.5), ("i_spkthr", 2.0)]))
def test_a_known_distortion_is_undone(one: nd.Network, x: np.ndarray, name: str, factor: float) -> None:
    begin = with_gain(to_params(one), name, factor)
    params, result = fit_to_data(one, x, params=begin)
    ideal, got = rates(nd.simulate(one, x, ideal=True)), rates(nd.simulate(params, x))
    assert result.kept
    assert got["hidden"] == pytest.approx(ideal["hidden"], rel=0.1)
    assert result.distance_after < result.distance_before
    assert begin.bias[name] == pytest.approx(to_params(one).bias[name] * factor)  # nothing is edited in place


@pytest.mark.long
def test_the_same_by_key(one: nd.Network, x: np.ndarray) -> None:
    begin = with_gain(to_params(one), "i_gain_ampa", 2.0)
    (first, result), (second, again) = (fit_to_data(one, x, params=begin, key=3) for _ in range(2))
    assert result == again
    assert all(np.array_equal(first.bias[name], second.bias[name]) for name in first.bias)
    assert np.array_equal(first.weight, second.weight)


def test_what_follows_already_is_kept(one: nd.Network, x: np.ndarray) -> None:
    params, result = fit_to_data(one, x)
    assert not result.kept
    assert all(np.array_equal(params.bias[name], value) for name, value in to_params(one).bias.items())
    (finding,) = [f for f in params.findings if f.code == CODE]
    assert "kept" in finding.what


@pytest.mark.parametrize("data", shortened(["silent", "saturated", "one sample", "one bin"], 2))
def test_odd_data(networks: ModuleType, data: str) -> None:
    net = networks.recurrent(4, 6, 10, 3, fan_in=5)
    x = {
        "silent": np.zeros((5, 20, 6)),
        "saturated": np.full((4, 20, 6), 3),
        "one sample": np.random.default_rng(0).poisson(0.6, (30, 6)),
        "one bin": np.random.default_rng(0).poisson(0.6, (4, 1, 6)),
    }[data]
    params, result = fit_to_data(net, x.astype(np.uint8))
    assert result.distance_after <= result.distance_before
    assert all(np.isfinite(value).all() for value in params.bias.values())
    if data == "silent":
        assert not result.kept
        assert "no neuron spikes" in result.reason


def test_wrong_data_is_refused(one: nd.Network) -> None:
    for wrong in (np.zeros((2, 5, 3)), np.full((2, 5, 8), 0.5), np.zeros((0, 5, 8))):
        with pytest.raises(ConfigurationError):
            fit_to_data(one, wrong)
    with pytest.raises(ParameterRangeError, match="key"):
        fit_to_data(one, np.zeros((2, 5, 8)), key=-1)
    with pytest.raises(ConfigurationError, match="quantised"):
        fit_to_data(one, np.ones((2, 5, 8)), params=nd.to_params(nd.compile(one)))


def test_numbers_of_nothing_change_nothing(networks: ModuleType) -> None:
    net = networks.recurrent(4, 6, 10, 3, fan_in=5)
    scales = Scales.of(to_params(net), nd.DYNAPSE2)
    assert scales.owners == (("hidden",), ("output",)) or len(scales.owners) == len(net.populations)
    same = scales.settled(np.zeros_like(scales.low))
    for name, value in scales.plain.bias.items():
        assert np.allclose(same.bias[name], value, rtol=1e-12), name
    assert np.allclose(same.weight, scales.plain.weight)
    assert same.topology == scales.plain.topology


def test_excitation_and_time_constants_are_what_they_say(networks: ModuleType) -> None:
    from nir_dynapse.circuit.closed_form import event_charge

    net = networks.recurrent(4, 6, 10, 3, fan_in=5)
    scales = Scales.of(to_params(net), nd.DYNAPSE2)
    numbers = np.zeros_like(scales.low)
    numbers[:, FACTORS.index("excitation")], numbers[:, FACTORS.index("tau_exc")] = np.log(1.3), np.log(2.0)
    numbers[:, FACTORS.index("tonic")] = 0.25
    made, was = scales.settled(numbers), scales.plain
    charge, before = (p.row_currents() * event_charge(p) for p in (made, was))
    excites = was.topology.dendrite == 0
    assert np.allclose(charge[excites], 1.3 * before[excites], rtol=1e-6)
    assert np.allclose(charge[~excites], before[~excites])
    assert np.allclose(made.bias["i_tau_ampa"], was.bias["i_tau_ampa"] / 2.0)
    steady = made.bias["i_dc"] * made.bias["i_gain_mem"] / made.bias["i_tau_mem"] / made.bias["i_spkthr"]
    assert np.allclose(steady, 0.25)
    assert made.topology.has_latch("dc").all()


@pytest.mark.parametrize("xp", [np, jnp])
def test_the_distance_of_the_ideal_run_is_zero(xp: Any, networks: ModuleType) -> None:
    net = networks.with_readout()
    ideal = (np.random.default_rng(0).random((4, 30, net.n_neurons)) < 0.2).astype(np.float32)
    parts = tuple(to_params(net).topology.slices().values())
    output = np.concatenate(list(output_weights(net).values())).astype(np.float32)
    assert float(distance(ideal, ideal, parts, output, xp)) == pytest.approx(0, abs=1e-6)
    assert float(distance(np.roll(ideal, 3, 1), ideal, parts, output, xp)) > 0.01


@pytest.mark.long
def test_readouts_and_tonic_inputs(networks: ModuleType) -> None:
    net = networks.with_readout()
    q = net.projections[0]
    size = net[q.target].size
    tonic = replace(q, bias=np.linspace(-0.02, 0.05, size))
    net = replace(net, projections=(tonic, *net.projections[1:]))
    x = np.random.default_rng(0).poisson(0.5, (12, 30, 4)).astype(np.uint8)
    begin = to_params(net)
    assert begin.topology.tonic_period is not None
    params, result = fit_to_data(net, x, params=with_gain(begin, "i_gain_ampa", 2.5))
    assert params.topology.tonic_period == begin.topology.tonic_period
    assert result.distance_after <= result.distance_before


@pytest.fixture(scope="module")
def waves() -> tuple[nd.Network, nd.Data]:
    """A recurrent LIF network as snnTorch trains one, whose closed form does not follow."""
    return (
        nd.from_nir(FOLDER / "waves.nir", frontend="snntorch", dt=1e-3),
        nd.Data.load(FOLDER / "waves_train.npz"),
    )


WAVES_DEVICE = nd.Device(cam_rows=128)


@pytest.fixture(scope="module")
def fitted_waves(waves: tuple[nd.Network, nd.Data]) -> nd.Params:
    params, result = fit_to_data(*waves, device=WAVES_DEVICE)
    assert result.kept
    return params


def test_a_fitted_layout_tells(waves: tuple[nd.Network, nd.Data], fitted_waves: nd.Params) -> None:
    layout = nd.compile(waves[0], params=fitted_waves, device=WAVES_DEVICE)
    told = [f for f in layout.findings if f.code == CODE]
    assert [f.node for f in told] == ["hidden.lif"]
    assert "of the ideal ones" in told[0].what
    assert "fitted to data" in nd.report(layout, device=WAVES_DEVICE).text()


@pytest.mark.long
def test_compile_fits_to_data(waves: tuple[nd.Network, nd.Data], fitted_waves: nd.Params) -> None:
    net, train = waves
    layout = nd.compile(net, data=train, device=WAVES_DEVICE)
    assert any(f.code == CODE for f in layout.findings)
    assert layout == nd.compile(net, params=fitted_waves, device=WAVES_DEVICE)


def test_a_recurrent_network_follows(waves: tuple[nd.Network, nd.Data], fitted_waves: nd.Params) -> None:
    net, params = waves[0], fitted_waves
    test = nd.Data.load(FOLDER / "waves_test.npz")
    ideal, before, after = (nd.simulate(net, test.x, ideal=True), nd.simulate(net, test.x), nd.simulate(params, test.x))
    right = [float((run.counts().argmax(1) == test.y).mean()) for run in (ideal, before, after)]
    assert right[1] < 0.7
    assert right[2] > right[0] - 0.03
    assert rates(after)["hidden.lif"] == pytest.approx(rates(ideal)["hidden.lif"], rel=0.1)


def test_copies_are_compared_with_their_neuron(one: nd.Network, x: np.ndarray) -> None:
    from nir_dynapse.circuit.closed_form import row_numbers

    begin = with_gain(to_params(one), "i_gain_ampa", 2.0)
    t = begin.topology
    synapse = np.repeat(np.arange(t.n_synapses), 2)
    post = 2 * t.post[synapse] + np.tile([0, 1], t.n_synapses)
    twice = replace(
        t,
        populations=tuple((name, 2 * size) for name, size in t.populations),
        group=np.repeat(t.group, 2),
        latches=np.repeat(t.latches, 2),
        place=np.stack([np.zeros(2 * t.n_neurons), np.zeros(2 * t.n_neurons), np.arange(2 * t.n_neurons)], 1),
        pre=t.pre[synapse],
        post=post,
        dendrite=t.dendrite[synapse],
        row=row_numbers(post),
        copies=(2,),
    )
    params, result = fit_to_data(one, x, params=replace(begin, weight=begin.weight[synapse], topology=twice))
    assert params.topology.copies == (2,)
    assert result.kept
    spikes = nd.simulate(params, x).spikes["hidden"]
    ideal = nd.simulate(one, x, ideal=True).spikes["hidden"]
    assert spikes.mean() / 2 == pytest.approx(ideal.mean(), rel=0.1)  # recorded is what both copies fired


def test_deploy_fits_where_it_is_not_told_otherwise(one: nd.Network, x: np.ndarray, tmp_path: Path) -> None:
    import nir

    graph = nd.to_nir(one)
    nir.write(tmp_path / "one.nir", graph)
    data = nd.Data(x, np.zeros(len(x), int), one.dt)
    fitted = deploy(tmp_path / "one.nir", data, dt=one.dt)
    plain = deploy(tmp_path / "one.nir", data, dt=one.dt, fit=False)
    assert "fit" in fitted.report.provenance
    assert "fit" not in plain.report.provenance
    assert [row.name for row in plain.accuracy] == ["ideal", "circuit", "quantised", "on this chip"]
