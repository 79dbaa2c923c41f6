"""What a user sees who prints an object of the package, or asks for a signature: a line, not arrays or tables."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from places import ROOT


@pytest.fixture(scope="module")
def network() -> nd.Network:
    return nd.from_nir(ROOT / "examples" / "networks" / "yin_yang.nir")


def test_network(network: nd.Network) -> None:
    words = "hidden 60 CubaLIF, output_neurons 3 CubaLIF; 480 synapses; input 5 -> output 3; dt 1 ms"
    assert repr(network) == str(network) == f"Network({words})"


def test_params(network: nd.Network) -> None:
    params = nd.to_params(network)
    groups = len(np.unique(params.topology.group))
    words = "480 synapses with a weight current each; dt 1 ms"
    assert repr(params) == f"Params(hidden 60, output_neurons 3; {groups} bias groups; {words})"


def test_layout_and_the_circuit_of_its_bits(network: nd.Network) -> None:
    layout = nd.compile(network, spare_rows=False)
    rows = int((layout.cam["dendrite"] >= 0).sum())
    assert rows == 480
    words = "480 CAM rows; 1 of 4 cores of DYNAP-SE2; dt 1 ms"
    assert repr(layout) == f"Layout(hidden 60, output_neurons 3; {words})"
    assert "480 synapses with masks of 4 bits" in repr(nd.to_params(layout))


def test_recording(network: nd.Network) -> None:
    x = np.zeros((2, 7, 5))
    words = "2 samples of 7 bins of 1 ms"
    assert repr(nd.simulate(network, x, ideal=True)) == f"Recording(hidden 60, output_neurons 3; {words})"
    with_currents = nd.simulate(network, x, record=("spikes", "i_mem"), backend="numpy")
    assert repr(with_currents) == f"Recording(hidden 60, output_neurons 3; i_mem; {words})"
    assert repr(nd.Recording({}, 1e-3)) == "Recording(; 0 samples of 0 bins of 1 ms)"


def test_data_and_events() -> None:
    counts = np.zeros((4, 7, 5), int)
    counts[0, 3, 1] = 2
    assert repr(nd.Data(counts, np.array([0, 1, 1, 0]), 2e-3)) == (
        "Data(4 samples of 7 bins of 2 ms, 5 channels, 2 classes)"
    )
    assert repr(nd.Data(counts, np.zeros((4, 7, 3)), 1e-3)).endswith("5 channels, 3 trajectories)")
    assert repr(nd.Events.from_counts(counts[0], 1e-3, "input")) == "Events(2 of input)"
    assert repr(nd.Events(np.zeros(0), np.zeros(0), np.zeros(0), ())) == "Events(0 of no node)"


def test_accuracy_of_a_recording() -> None:
    spikes = np.zeros((3, 4, 2), np.int64)
    spikes[0, 1, 1] = spikes[1, :2, 0] = spikes[1, 3, 1] = 1  # class 1; class 0; nothing at all, which is class 0
    recording = nd.Recording({"out": spikes}, 1e-3, {"out": "out"})
    assert recording.accuracy([1, 0, 0]) == 1
    assert recording.accuracy([1, 1, 1]) == 1 / 3
    with pytest.raises(nd.ConfigurationError, match=r"shape \(2,\), the recording has 3 samples"):
        recording.accuracy([1, 0])


def one_line(thing: Any, most: int = 300) -> str:
    text = repr(thing)
    assert "\n" not in text
    assert len(text) <= most, text
    return text


@pytest.mark.parametrize("name", nd.__all__)
def test_public_names_have_readable_signatures_and_representations(name: str) -> None:
    """No default prints as a table; `simulate` has one of the most used."""
    thing = getattr(nd, name)
    one_line(thing)
    if callable(thing):
        signature = str(inspect.signature(thing))
        assert len(signature) <= (600 if name == "simulate" else 1100), signature


def test_devices_and_mismatch_say_what_is_theirs() -> None:
    assert repr(nd.DYNAPSE2) == "Device(DYNAP-SE2; 1 chip)"
    assert repr(nd.DYNAPSE2.stack(3)) == "Device(DYNAP-SE2; 3 chips)"
    assert repr(replace(nd.DYNAPSE2, cam_rows=32)) == "Device(DYNAP-SE2; 1 chip; other cam_rows)"
    known = nd.ChipProfile.synthetic(1)
    assert one_line(nd.DYNAPSE2.stack(2).with_profiles(None, known)).endswith(f"profiles 1: {known.name!r})")
    assert repr(nd.Mismatch.uniform(0.2)) == "Mismatch(CV 0.2, synapse 0.2)"
    assert repr(nd.Mismatch(noise=0.01)) == "Mismatch(CV 0.08 to 0.5, synapse 0.1, noise 0.01)"
    assert repr(nd.TrainingOptions()) == "TrainingOptions()"
    assert repr(nd.TrainingOptions(batch=4)) == "TrainingOptions(batch=4)"


def test_what_holds_arrays_prints_as_one_line(network: nd.Network) -> None:
    x = np.zeros((2, 4, 5), int)
    data = nd.Data(x, np.array([0, 1]), 1e-3)
    layout = nd.compile(network)
    made = nd.deploy(ROOT / "examples" / "networks" / "yin_yang.nir", data, fit=False)
    whole = nd.to_samna(layout)
    things = [
        *(network.populations, network.projections, network.conversion, network.readout, network.findings),
        *(nd.to_params(layout).topology, layout, made, made.report, nd.evaluate(layout, data, devices=2)),
        *(nd.TrainingLog(), nd.open_board("virtual:1"), whole, whole.chips[0], whole.chips[0].cores[0].neurons[0]),
    ]
    for thing in things:
        for each in thing if isinstance(thing, tuple) else (thing,):
            one_line(each, 600)
    assert repr(network.populations[0]) == "Population(hidden: 60 CubaLIF)"
    assert repr(whole) == "Dynapse2Configuration(1 chips, with names)"
    assert str(made.report) == made.report.text()
