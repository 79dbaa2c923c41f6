"""The virtual chip: runs from bits, is fixed by its number, speaks in events."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from nir_dynapse.backend import open_board
from nir_dynapse.board.board import Board
from nir_dynapse.chip.device import CURRENTS, PARAMETERS, Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.data.data import Data, Events
from nir_dynapse.errors import ConfigurationError, HardwareError, ParameterRangeError
from nir_dynapse.layout.layout import Layout
from nir_dynapse.quant.compiler import compile
from nir_dynapse.sim.mismatch import fabricate, factors
from nir_dynapse.sim.simulation import run_circuit, simulate


@pytest.fixture(scope="module")
def layout(networks: ModuleType) -> Layout:
    return compile(networks.recurrent(4, 10, 40, 6))


def test_board_and_simulation_of_the_layout_agree(layout: Layout) -> None:
    x = np.random.default_rng(0).poisson(0.5, (3, 120, 10))
    with open_board("virtual:7") as board:
        assert isinstance(board, Board)
        board.apply(layout)
        spikes = board.run_batch(x, 1e-3)
        events = board.run(Events.from_counts(x[0], 1e-3, "in"), 0.12)
    same = simulate(layout, x, mismatch=Mismatch(), key=7)
    assert same.output.sum() > 50
    assert (spikes.output == same.output).all()
    assert set(spikes.spikes) == {"output"}, "hidden neurons are not monitored"
    assert (events.to_counts("output", 6, 1e-3, 0.12) == same.output[0]).all()


def test_a_chip_is_its_number_and_its_bits(layout: Layout) -> None:
    x = np.random.default_rng(0).poisson(0.5, (4, 120, 10))

    def run(name: str, thing: Layout = layout, mismatch: Mismatch | None = None) -> np.ndarray:
        with open_board(name, mismatch=mismatch) as board:
            board.apply(thing)
            return board.run_batch(x, 1e-3).output

    assert (run("virtual:7") == run("virtual:7")).all()
    assert (run("virtual:7") != run("virtual:8")).any()
    assert (run("virtual:7", mismatch=Mismatch.none()) == simulate(layout, x).output).all()
    # Names do not matter, bits do: clearing one CAM row's mask bits changes the run.
    cam = layout.cam.copy()
    cam["mask"][:, 0] = 0
    assert (run("virtual:7", replace(layout, cam=cam)) != run("virtual:7")).any()
    # Elsewhere on the same chip other elements are met.
    moved = replace(layout, slot=layout.slot + 100)
    assert (run("virtual:7", moved) != run("virtual:7")).any()


def test_mismatch_factors_are_log_normal_per_place() -> None:
    place = np.stack(np.meshgrid(np.arange(2), np.arange(4), np.arange(256), indexing="ij"), -1).reshape(-1, 3)
    f = factors(3, place, 5, 0.2)
    assert f.mean() == pytest.approx(1.0, abs=0.02)
    assert f.std() == pytest.approx(0.2, rel=0.06)
    assert abs(((np.log(f) - np.log(f).mean()) ** 3).mean() / np.log(f).std() ** 3) < 0.2
    assert (factors(3, place[:7], 5, 0.2) == f[:7]).all()
    assert abs(np.corrcoef(f, factors(3, place, 6, 0.2))[0, 1]) < 0.08
    assert abs(np.corrcoef(f, factors(4, place, 5, 0.2))[0, 1]) < 0.08
    assert (factors(3, place, 5, 0.0) == 1).all()
    with pytest.raises(ParameterRangeError, match="unknown parameter 'tau'"):
        Mismatch(cv=(("tau", 0.1),))
    with pytest.raises(ParameterRangeError, match=r"CV of i_tau_mem is -0\.1, allowed are numbers from 0"):
        Mismatch.uniform(-0.1)


def test_default_mismatch_has_the_measured_spread(networks: ModuleType) -> None:
    """Height of a synaptic potential and membrane time constant over 256 neurons (Büchel et al. 2021): 0.15–0.27, 0.2."""
    net = networks.feed_forward(np.full((256, 1), 0.05), tau_syn=2e-3)
    x = np.zeros((1, 120, 1), np.float32)
    x[0, 0] = 1
    for seed in range(3):
        chip = fabricate(to_params(net), Mismatch(), seed)
        tau = chip.circuit.tau("i_tau_mem", chip.bias["i_tau_mem"])
        assert 0.16 < tau.std() / tau.mean() < 0.25
        peak = run_circuit(chip, x, 1e-3, ("i_mem",)).states["i_mem"]["hidden"][0].max(0)
        assert 0.15 < peak.std() / peak.mean() < 0.27


def test_boards_refuse_clearly(layout: Layout) -> None:
    with pytest.raises(HardwareError, match="Known boards"):
        open_board("virtual:seven")
    board = open_board("virtual:1")
    with pytest.raises(HardwareError, match="apply"):
        board.run(Events.from_counts(np.ones((3, 10)), 1e-3, "in"), 0.01)
    board.apply(layout)
    with pytest.raises(ConfigurationError, match="input nodes are in"):
        board.run(Events.from_counts(np.ones((3, 10)), 1e-3, "input"), 0.01)
    with pytest.raises(ConfigurationError, match="channel 11"):
        board.run(Events.from_counts(np.ones((3, 12)), 1e-3, "in"), 0.01)
    board.close()
    board.close()
    with pytest.raises(HardwareError, match="closed"):
        board.apply(layout)


def test_events_and_counts_are_inverse() -> None:
    counts = np.random.default_rng(0).poisson(0.7, (50, 4))
    events = Events.from_counts(counts, 2e-3, "in")
    assert len(events) == counts.sum()
    assert (np.diff(events.time) >= 0).all()
    assert (events.to_counts("in", 4, 2e-3, 0.1) == counts).all()
    assert events.to_counts("other", 4, 2e-3, 0.1).sum() == 0


def test_data_files(tmp_path) -> None:
    data = Data(np.ones((3, 5, 2), np.uint8), np.array([0, 1, 1]), 1e-3)
    data.save(tmp_path / "d.npz")
    again = Data.load(tmp_path / "d.npz")
    assert (again.x == data.x).all()
    assert (again.y == data.y).all()
    assert again.dt == data.dt
    assert [p.name for p in tmp_path.iterdir()] == ["d.npz"]
    np.savez(tmp_path / "e.npz", x=np.array([object()]), y=[0], dt=1)
    np.savez(tmp_path / "f.npz", x=np.ones((3, 5, 2)), y=[0, 1], dt=1e-3)
    np.savez(tmp_path / "g.npz", x=np.ones((3, 5, 2)))
    (tmp_path / "h.npz").write_text("hello")
    for name, message in (("e", "cannot be read"), ("f", "3 samples"), ("g", "lacks y, dt"), ("h", "cannot be read")):
        with pytest.raises(ConfigurationError, match=message):
            Data.load(tmp_path / f"{name}.npz")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Data.load(tmp_path / "missing.npz")


def test_plugin_entry_point() -> None:
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="nir.backends", name="dynapse2")
    backend = entry.load()
    assert callable(backend.from_nir)
    assert callable(backend.to_nir)
    assert callable(backend.compile)
    assert callable(backend.simulate)


def test_factors_are_what_they_always_were(networks: ModuleType) -> None:
    """virtual:7 is a promise: new parameters and flaws must not renumber the elements that were there before."""
    place = np.array([[0, 0, 0], [1, 2, 3], [3, 3, 255]])
    reference = {
        "i_tau_mem": [1.2934079645277985, 0.6430007576629487, 0.8195482689036119],
        "i_pulse_ahp": [0.8508624471487009, 1.2652661760148856, 1.1064084938227778],
        "row 5": [0.9244551314546596, 0.7706489421256443, 0.7754045221131193],
    }
    elements = {"i_tau_mem": 0, "i_pulse_ahp": 18, "row 5": 1024 + 5 * 5}
    assert CURRENTS[0] == "i_tau_mem"
    assert CURRENTS[18] == "i_pulse_ahp"
    for name, element in elements.items():
        np.testing.assert_allclose(factors(7, place, element, 0.2), reference[name], rtol=1e-14)
    params = to_params(networks.recurrent(4, 10, 40, 6))
    old, t = fabricate(params, Mismatch(), 7), params.topology
    for k, name in enumerate(CURRENTS[:19]):
        expected = params.per_neuron(name) * factors(7, t.place, k, PARAMETERS[name].cv)
        assert (old.bias[name] == expected).all()


def test_dead_neurons_and_rows_are_fixed_by_place(networks: ModuleType) -> None:
    net = networks.feed_forward(np.full((256, 8), 0.3))
    params = to_params(net)
    healthy = fabricate(params, Mismatch(), 5)
    sick = Mismatch(dead_neurons=0.2, dead_rows=0.1)
    chip = fabricate(params, sick, 5)
    silent, lost = chip.bias["i_spkthr"] != healthy.bias["i_spkthr"], chip.weight == 0
    assert 0.1 < silent.mean() < 0.3
    assert 0.07 < lost.mean() < 0.13
    assert (chip.weight[~lost] == healthy.weight[~lost]).all()
    assert np.isfinite(chip.bias["i_spkthr"]).all()
    chip.check()
    spikes = run_circuit(chip, np.ones((1, 100, 8), np.float32), 1e-3, ("spikes",)).output[0].sum(0)
    assert (spikes[silent] == 0).all()
    assert (spikes[~silent] > 0).mean() > 0.95
    # More flaws of the same chip contain the fewer ones; all of them is all.
    more = fabricate(params, replace(sick, dead_neurons=0.4, dead_rows=0.3), 5)
    assert (more.bias["i_spkthr"][silent] == chip.bias["i_spkthr"][silent]).all()
    assert (more.weight[lost] == 0).all()
    assert (fabricate(params, replace(sick, dead_rows=1.0), 5).weight == 0).all()
    assert (fabricate(params, Mismatch(), 5).weight > 0).all()


@pytest.mark.parametrize("cv", [0.2, 5.0, 1e3, 1e200])
def test_any_spread_is_positive_and_finite(networks: ModuleType, cv: float) -> None:
    params = to_params(networks.recurrent(4, 10, 40, 6))
    params = replace(params, topology=replace(params.topology, delay=np.full(params.topology.n_synapses, 3)))
    for seed in range(3):
        chip = fabricate(params, Mismatch.uniform(cv, dead_neurons=0.1), seed).check()
        assert chip.delay_factor is not None
        for values in (chip.weight, chip.delay_factor, chip.row_delays(), *chip.bias.values()):
            assert np.isfinite(values).all()
            assert (np.asarray(values, np.float32) >= 0).all()
        assert (np.asarray(chip.delay_factor, np.float32) > 0).all()


def test_mismatch_says_what_is_wrong() -> None:
    assert Mismatch.uniform(0.2, noise=0.02) == replace(Mismatch.uniform(0.2), noise=0.02)
    assert Mismatch.none() == Mismatch.uniform(0.0)
    assert hash(Mismatch(spike_loss=0.1)) != hash(Mismatch())
    for value in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ParameterRangeError, match=f"noise is {value}, allowed are numbers from 0 up to 1000. Give"):
            Mismatch(noise=value)
    for name in ("spike_loss", "dead_neurons", "dead_rows"):
        for value in (-0.1, 1.1, float("nan")):
            with pytest.raises(
                ParameterRangeError, match=f"{name} is {value}, allowed are numbers from 0 up to 1. Give"
            ):
                Mismatch.uniform(0.1, **{name: value})
