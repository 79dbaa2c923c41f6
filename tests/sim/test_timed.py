"""Spikes at their times and membranes as voltages, against the equations solved by hand."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip.device import CURRENTS, PARAMETERS, Circuit, Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.circuit.params import Params, Topology, latch_bits
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.network.network import Port

LEAK, GAIN, THRESHOLD = 10e-12, 20e-12, 4e-9


def driven(dc: np.ndarray, refractory: float, n: int = 1, circuit: Circuit = Circuit.published) -> Params:
    """`n` neurons at each constant current `dc` in A, without synapses."""
    count, none = n * len(dc), np.zeros(0, int)
    bias = {name: np.full(len(dc), PARAMETERS[name].off) for name in CURRENTS}
    bias |= {"i_tau_mem": np.full(len(dc), LEAK), "i_gain_mem": np.full(len(dc), GAIN), "i_dc": np.asarray(dc, float)}
    bias |= {"i_spkthr": np.full(len(dc), THRESHOLD), "i_ref": np.full(len(dc), circuit.width("i_ref", refractory))}
    place = np.stack([np.zeros(count), np.zeros(count), np.arange(count)], 1)
    topology = Topology(
        (Port("in", (1,)),), (("cells", count),), (), 1e-3, np.repeat(np.arange(len(dc)), n),
        np.full(count, latch_bits(dc=True)), place, none, none, none, none,
    )  # fmt: skip
    return Params(bias, np.zeros(0), None, topology, circuit)


def silence(seconds: float, dt: float = 1e-3) -> np.ndarray:
    return np.zeros((1, round(seconds / dt), 1), np.uint8)


def rise_time(dc: np.ndarray, circuit: Circuit = Circuit.published) -> np.ndarray:
    """s from I_o to the threshold: ∫ τ·(1 + 1/y)/(a − y) dy with y = I_mem/I_gain and a = I_dc/I_τ − 1."""
    tau, a = circuit.tau("i_tau_mem", LEAK), dc / LEAK - 1
    y0, y1 = circuit.i_o / GAIN, THRESHOLD / GAIN
    return tau * (np.log(y1 * (a - y0) / (y0 * (a - y1))) / a + np.log((a - y0) / (a - y1)))


DC = np.array([2.5e-9, 4e-9, 8e-9, 20e-9])


@pytest.mark.parametrize(("dt", "off"), [(1e-3, 40), (1e-5, 5)])
def test_spikes_come_when_the_membrane_meets_the_threshold(dt: float, off: float) -> None:
    params = driven(DC, 5e-3)
    run = nd.simulate(params, silence(0.3 if dt == 1e-3 else 0.1, dt), dt=dt, times=True)
    expected = rise_time(DC)
    assert 1e6 * np.abs(run.latencies("cells")[0] - expected).max() < off
    events = run.events[0]
    for k, wanted in enumerate(expected):
        gaps = np.diff(events.time[events.index == k])
        assert len(gaps) > 2
        assert abs(gaps.mean() - 1e6 * (wanted + 5e-3)) < off
        assert np.var(gaps) / gaps.mean() ** 2 < 1e-4, "constant drive, equal intervals"


def test_several_spikes_of_one_step_have_times_of_their_own() -> None:
    dc, refractory = np.array([200e-9]), 5e-5
    run = nd.simulate(driven(dc, refractory), silence(0.05), times=True)
    gaps = np.diff(run.events[0].time)
    assert run.spikes["cells"].max() > 2, "several in a bin"
    assert len(gaps) + 1 == run.spikes["cells"].sum()
    assert gaps.mean() == pytest.approx(1e6 * (rise_time(dc)[0] + refractory), rel=0.05)
    assert gaps.min() > 0


def test_noise_makes_first_spikes_jitter_as_a_diffusion_does() -> None:
    """σ_t = σ·√(1 − e^(−2t/τ))/slope, with the slope of the noiseless membrane at the threshold."""
    dc, noise, n = np.array([3e-9]), 1e-3, 1500
    run = nd.simulate(
        driven(dc, 5e-3, n), silence(0.05), mismatch=Mismatch.uniform(0.0, noise=noise), key=3, times=True
    )
    tau, a, y = float(Circuit.published.tau("i_tau_mem", LEAK)), dc[0] / LEAK - 1, THRESHOLD / GAIN
    slope = (a - y) / (tau * (1 + 1 / y)) / y
    expected = noise * np.sqrt(1 - np.exp(-2 * rise_time(dc)[0] / tau)) / slope
    assert np.std(run.latencies("cells")) == pytest.approx(expected, rel=0.15)


def test_events_are_the_spikes_of_all_samples_one_by_one(networks: ModuleType) -> None:
    net = networks.recurrent(4, 10, 40, 6)
    x = np.random.default_rng(0).poisson(0.5, (3, 80, 10))
    timed = nd.simulate(net, x, mismatch=Mismatch(), key=2, times=True)
    plain = nd.simulate(net, x, mismatch=Mismatch(), key=2)
    assert plain.output.sum() > 50
    assert not plain.events
    for node, spikes in plain.spikes.items():
        assert (timed.spikes[node] == spikes).all()
        for sample, events in enumerate(timed.events):
            assert (events.to_counts(node, spikes.shape[2], 1e-3, 0.08) == spikes[sample]).all()
    assert all((np.diff(events.time) >= 0).all() for events in timed.events)


def test_copies_have_the_index_of_their_neuron(networks: ModuleType) -> None:
    params = to_params(networks.recurrent(4, 10, 20, 4))
    copied = with_copies(params, {"hidden": 1, "output": 3})
    x = np.random.default_rng(0).poisson(0.7, (1, 80, 10))
    run = nd.simulate(copied, x, times=True)
    assert run.spikes["output"].shape[2] == 4
    assert run.spikes["output"].sum() > 3
    assert (run.events[0].to_counts("output", 4, 1e-3, 0.08) == run.spikes["output"][0]).all()


def test_times_are_refused_where_a_run_has_none(networks: ModuleType, tmp_path: Path) -> None:
    net = networks.recurrent(4, 10, 20, 4)
    x = np.zeros((1, 5, 10))
    with pytest.raises(ParameterRangeError, match="ideal run fires at the ends of its steps"):
        nd.simulate(net, x, ideal=True, times=True)
    with pytest.raises(ParameterRangeError, match="recording in a folder has bins"):
        nd.simulate(net, x, times=True, to=tmp_path / "run")
    quiet = nd.simulate(net, x, times=True)
    assert np.isnan(quiet.latencies("output")).all()
    with pytest.raises(ConfigurationError, match="times=True"):
        nd.simulate(net, x).latencies("output")
    with pytest.raises(ConfigurationError, match="no spikes of a node 'nobody'"):
        quiet.latencies("nobody")


@pytest.mark.parametrize("backend", ["jax", "numpy"])
def test_a_membrane_below_threshold_rests_at_its_voltage(backend: str, tmp_path: Path) -> None:
    """I_mem = (I_gain/I_τ)·(I_dc − I_τ) = 1.98 nA, of which (25 mV/0.75)·ln(1.98 nA/0.5 pA) is 276.1 mV."""
    params = driven(np.array([1e-9]), 5e-3)
    run = nd.simulate(params, silence(1.0), record=("v_mem",), backend=backend)  # pyright: ignore[reportArgumentType]
    assert list(run.states) == ["v_mem"]
    assert run.states["v_mem"]["cells"][0, -1, 0] == pytest.approx(0.2761, abs=2e-4)
    args = (params, silence(1.0))
    folder = nd.simulate(*args, record=("v_mem",), backend=backend, to=tmp_path / "run")  # type: ignore[call-overload]
    assert (folder.states["v_mem"]["cells"] == run.states["v_mem"]["cells"]).all()


def test_a_refractory_membrane_shows_the_offset_of_its_buffer() -> None:
    circuit = Circuit(buffer_gain=0.5, buffer_offset=0.2)
    params = driven(np.array([8e-9]), 20e-3, circuit=circuit)
    run = nd.simulate(params, silence(0.2), record=("spikes", "i_mem", "v_mem"))
    volts, current = run.states["v_mem"]["cells"], run.states["i_mem"]["cells"]
    assert volts.min() == pytest.approx(0.2, abs=1e-6), "at reset"
    assert volts.max() < 0.2 + 0.5 / 30 * np.log(THRESHOLD / 0.5e-12)
    assert volts == pytest.approx(0.2 + 0.5 / 30 * np.log(current / 0.5e-12), abs=1e-6)


def test_a_board_shows_the_membranes_of_its_layout_and_no_others(networks: ModuleType) -> None:
    net = networks.recurrent(4, 10, 40, 6)
    shown = nd.compile(net, membranes=[("hidden", 3)])
    x = np.random.default_rng(0).poisson(0.5, (2, 60, 10))
    with nd.open_board("virtual:7") as board:
        board.apply(shown)
        recording = board.run_batch(x, 1e-3, record=("v_mem",))  # pyright: ignore[reportCallIssue]
        with pytest.raises(ParameterRangeError, match="no pin of the chip shows 'i_ampa'"):
            board.run_batch(x, 1e-3, record=("i_ampa",))  # pyright: ignore[reportCallIssue]
        board.apply(nd.compile(net))
        with pytest.raises(ParameterRangeError, match="shows no membrane"):
            board.run_batch(x, 1e-3, record=("v_mem",))  # pyright: ignore[reportCallIssue]
    same = nd.simulate(shown, x, mismatch=Mismatch(), key=7, record=("v_mem",)).states["v_mem"]["hidden"]
    volts = recording.states["v_mem"]["hidden"]
    assert list(recording.states["v_mem"]) == ["hidden"]
    assert (volts[..., 3] == same[..., 3]).all()
    assert volts[..., 3].max() > 0.05
    assert np.isnan(np.delete(volts, 3, axis=2)).all()
