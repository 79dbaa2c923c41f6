"""Recordings that other tools wrote: events in any order, on the grid, at the end, padded; and jaxsnn's."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.network.primitives import graph
from nir_graphs import lif, linear, port_in, port_out, read

DT = 1e-3


def of(**events: Any) -> nir.NIRGraphData:
    return nir.NIRGraphData({node: nir.NIRNodeData({"spikes": held}) for node, held in events.items()})


def times(*values: float) -> np.ndarray:
    return np.array([values])


# -- nir's own gridding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dt", [1e-4, 1e-3, 5e-3, 2e-3, 0.1, 1 / 3, 1e-5])
@pytest.mark.parametrize("steps", [1, 29, 49, 59, 100, 1000])
def test_nir_grids_what_we_write_without_loss(dt: float, steps: int) -> None:
    spikes = np.ones((2, steps, 2), np.uint8)
    written: Any = nd.to_nir_data(nd.Recording({"a": spikes}, dt), events=True)
    gridded = written.nodes["a"].observables["spikes"].to_time_gridded(dt)
    np.testing.assert_array_equal(gridded.data, spikes)
    np.testing.assert_array_equal(nd.from_nir_data(written, dt=dt).spikes["a"], spikes)


# -- from any producer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("dt", [1e-4, 1e-3, 5e-3, 1 / 300])
def test_times_on_the_grid_are_in_their_bin(dt: float, kind: type) -> None:
    order = np.random.default_rng(0).permutation(3000)
    time = (np.arange(3000) * dt).astype(kind)[order][None]
    events = nir.EventData(np.zeros((1, 3000), int), time, 1, 3000 * dt)
    np.testing.assert_array_equal(nd.from_nir_data(of(a=events), dt=dt).spikes["a"], np.ones((1, 3000, 1)))


def test_an_event_at_the_end_is_in_the_last_bin_and_padding_is_none() -> None:
    index = np.array([[1, -1, 0], [-1, -1, -1]])
    time = np.array([[0.0051, np.inf, 0.01], [np.inf, 0.02, 0.01]])
    counts = nd.from_nir_data(of(a=nir.EventData(index, time, 2, 0.01)), dt=DT).spikes["a"]
    assert np.argwhere(counts).tolist() == [[0, 5, 1], [0, 9, 0]]


@pytest.mark.parametrize(
    ("index", "time", "says"),
    [
        (0, 0.0125, r"1 of 1 events lie after the end at 0\.01 s, one at 0\.0125 s"),
        (0, -1e-3, "1 of 1 events lie before the beginning"),
        (2, 0.005, "1 events of neuron 2 and above, n_neurons is 2"),
        (-2, 0.005, "index -2; -1 is no event"),
        (0, np.nan, "without a time"),
    ],
)
def test_no_event_is_lost_without_a_word(index: int, time: float, says: str) -> None:
    with pytest.raises(nd.ConfigurationError, match=says):
        nd.from_nir_data(of(a=nir.EventData(np.array([[index]]), times(time), 2, 0.01)), dt=DT)


def test_the_sizes_of_the_network_are_compared() -> None:
    with pytest.raises(nd.ConfigurationError, match=r"node 'hid'.*n_neurons is 5, the node has 2"):
        nd.from_nir_data(of(hid=nir.EventData(np.array([[0]]), times(0.0), 5, 0.01)), network=network())


# -- jaxsnn -----------------------------------------------------------------------------------------------------------


def network() -> nd.Network:
    nodes = {
        "input": port_in(3),
        "w1": linear(2, 3),
        "hid": lif(2),
        "w2": linear(2, 2),
        "out": lif(2),
        "end": port_out(2),
    }
    edges = [("input", "w1"), ("w1", "hid"), ("hid", "w2"), ("w2", "out"), ("out", "end")]
    return read(graph(nodes, edges, {"dt": DT}))


def jaxsnn() -> Any:
    """What `to_nir_data` of jaxsnn 0.3.0 gives for input -> hid (2 neurons) -> out (2), 8 and 12 events simulated."""

    def single(*values: float) -> np.ndarray:
        return np.array([values], np.float32)

    hid = nir.EventData(
        np.array([[0, 2, 0, 1, 0, 1, 0, 1]]),
        single(0.001, 0.003, 0.00336, 0.0038, 0.00485, 0.00569, 0.00711, 0.008),
        8,
        0.05,
    )
    out = nir.EventData(
        np.array([[0, 1, 1, 0, 0, 1, 1, 0, 0, 1, -1, -1]]),
        single(0.00336, 0.0038, 0.0046, 0.00485, 0.00489, 0.00545, 0.00569, 0.00711, 0.0072, 0.0074, 0.1, 0.05),
        12,
        0.05,
    )
    events = nir.EventData(np.array([[0, 2, 1, 1, -1]]), single(0.001, 0.003, 0.008, 0.012, 0.1), 0, 0.05)
    return of(hid=hid, input=events, out=out)


def test_own_spikes_of_jaxsnn_are_told_from_those_received() -> None:
    recording = nd.from_nir_data(jaxsnn(), network=network())
    assert {node: counts.shape for node, counts in recording.spikes.items()} == {
        "hid": (1, 50, 2),
        "input": (1, 50, 3),
        "out": (1, 50, 2),
    }
    assert recording.spikes["hid"].sum(1).tolist() == [[3, 2]]  # of 8 events, 3 were received
    assert np.argwhere(recording.spikes["hid"][0])[:, 0].tolist() == [3, 3, 4, 5, 7]
    assert recording.output.sum(1).tolist() == [[2, 3]]
    assert recording.spikes["input"].sum(1).tolist() == [[1, 2, 1]]
    (finding,) = recording.findings  # 'out' had places left
    assert (finding.code, finding.node) == ("recording-full", "hid")
    assert "0.008 s" in finding.what


def test_a_neuron_that_fires_with_an_input_of_its_index_keeps_its_spike() -> None:
    both = nir.EventData(np.array([[0, 0, -1]]), times(0.002, 0.002, 0.1), 3, 0.05)
    events = nir.EventData(np.array([[0]]), times(0.002), 0, 0.05)
    recording = nd.from_nir_data(of(hid=both, input=events), network=network())
    assert recording.spikes["hid"].sum(1).tolist() == [[1, 0]]


def test_the_input_of_jaxsnn_runs() -> None:
    net = network()
    counts = nd.from_nir_data(jaxsnn(), network=net).spikes["input"]
    expected = nd.simulate(net, counts, ideal=True)
    np.testing.assert_array_equal(nd.simulate(net, jaxsnn(), ideal=True).output, expected.output)
    np.testing.assert_array_equal(nd.data_from_nir(jaxsnn(), [1], net.inputs, DT).x, counts)


def test_what_cannot_be_told_apart_says_what_is_needed() -> None:
    with pytest.raises(nd.ConfigurationError, match=r"beside its own spikes.*network="):
        nd.from_nir_data(jaxsnn(), dt=DT)
    data = jaxsnn()
    del data.nodes["input"]
    with pytest.raises(nd.ConfigurationError, match="without the recording of 'input'"):
        nd.from_nir_data(data, network=network())
    stranger = of(
        **{"other": jaxsnn().nodes["hid"].observables["spikes"], "input": jaxsnn().nodes["input"].observables["spikes"]}
    )
    with pytest.raises(nd.ConfigurationError, match="node 'other': the network has no such population"):
        nd.from_nir_data(stranger, network=network())
    received = jaxsnn()
    received.nodes["input"].observables["spikes"].time[0, 1] = np.float32(0.0031)  # the input of another run
    with pytest.raises(nd.ConfigurationError, match=r"'hid'.*an event of neuron 2 is left, it has 2 neurons"):
        nd.from_nir_data(received, network=network())
