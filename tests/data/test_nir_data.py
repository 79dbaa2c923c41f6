"""Recordings as NIR's own data containers: out, in, and as input of a run."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.network.primitives import graph
from nir_graphs import lif, linear, port_in, port_out, read, small


@pytest.fixture(scope="module")
def run() -> tuple[nd.Network, np.ndarray, nd.Recording]:
    net = read(small(), dt=1e-3)
    x = np.random.default_rng(0).poisson(0.8, (3, 40, 3))
    return net, x, nd.simulate(net, x * 9, ideal=True, record=("spikes", "v", "i_syn"))


@pytest.mark.parametrize("events", [False, True])
def test_a_recording_comes_back(run: tuple, events: bool) -> None:
    _, _, recording = run
    data: Any = nd.to_nir_data(recording, events=events)
    assert isinstance(data.nodes["hidden"].observables["spikes"], nir.EventData if events else nir.TimeGriddedData)
    assert isinstance(data, nir.NIRGraphData)
    back = nd.from_nir_data(data, outputs=recording.outputs)
    assert back.dt == recording.dt
    assert recording.output.sum() > 10
    np.testing.assert_array_equal(back.output, recording.output)
    for name in ("v", "i_syn"):
        np.testing.assert_array_equal(back.states[name]["hidden"], recording.states[name]["hidden"])


def test_through_a_file(run: tuple, tmp_path) -> None:
    path = tmp_path / "spikes.nirdata"
    nir.write_data(path, nd.to_nir_data(run[2]))
    back = nd.from_nir_data(nir.read_data(path), outputs=run[2].outputs)
    np.testing.assert_array_equal(back.output, run[2].output)


def test_counts_above_one_stay_counts() -> None:
    spikes = np.array([[[0, 3], [1, 0]]], np.uint8)
    recording = nd.Recording({"a": spikes}, 1e-3, {"out": "a"})
    for events in (False, True):
        back = nd.from_nir_data(nd.to_nir_data(recording, events=events), dt=1e-3)
        np.testing.assert_array_equal(back.output, spikes)


def test_input_of_a_run_in_every_container(run: tuple) -> None:
    net, x, recording = run
    grid = nir.TimeGriddedData(x * 9, 1e-3)
    whole = nir.NIRGraphData({"in": nir.NIRNodeData({"spikes": grid})})
    for data in (grid, whole.nodes["in"], whole):
        np.testing.assert_array_equal(nd.simulate(net, data, ideal=True).output, recording.output)
    events = nir.EventData(np.array([[0, 2, -1]]), np.array([[0.0, 0.0071, np.inf]]), 3, 0.01)
    counts = np.zeros((1, 10, 3))
    counts[0, 0, 0] = counts[0, 7, 2] = 1
    np.testing.assert_array_equal(nd.simulate(net, events).output, nd.simulate(net, counts).output)


def test_what_does_not_fit_says_so(run: tuple) -> None:
    net, x, recording = run
    with pytest.raises(nd.ConfigurationError, match=r"bins of 0\.002 s, the network a step of 0\.001 s"):
        nd.simulate(net, nir.TimeGriddedData(x, 2e-3))
    wrong = nir.NIRGraphData({"input": nir.NIRNodeData({"spikes": nir.TimeGriddedData(x, 1e-3)})})
    with pytest.raises(nd.ConfigurationError, match="no 'spikes' of input node 'in'"):
        nd.simulate(net, wrong)
    with pytest.raises(nd.ConfigurationError, match="cannot read a dict"):
        nd.from_nir_data({"a": 1})
    events = nd.to_nir_data(nd.Recording(recording.spikes, 1e-3, recording.outputs), events=True)
    with pytest.raises(nd.ConfigurationError, match="Pass dt="):
        nd.from_nir_data(events)
    huge = nir.NIRNodeData({"spikes": nir.EventData(np.array([[0]]), np.array([[0.0]]), 10**9, 1e9)})
    with pytest.raises(nd.ConfigurationError, match="node 'a'"):
        nd.from_nir_data(nir.NIRGraphData({"a": huge}), dt=1e-3)


def test_data_goes_to_its_own_port_or_nowhere() -> None:
    nodes = {"a": port_in(2), "b": port_in(3), "wa": linear(4, 2), "wb": linear(4, 3), "n": lif(4), "out": port_out(4)}
    edges = [("a", "wa"), ("b", "wb"), ("wa", "n"), ("wb", "n"), ("n", "out")]
    net = read(graph(nodes, edges, {"dt": 1e-3}))

    def data(**sizes: int) -> nir.NIRGraphData:
        grids = {k: nir.TimeGriddedData(np.ones((1, 5, n)), 1e-3) for k, n in sizes.items()}
        return nir.NIRGraphData({k: nir.NIRNodeData({"spikes": grid}) for k, grid in grids.items()})

    assert nd.simulate(net, data(a=2, b=3), ideal=True).output.shape == (1, 5, 4)
    with pytest.raises(nd.ConfigurationError, match=r"'a' has shape \(1, 5, 3\)"):
        nd.simulate(net, data(a=3, b=2))


def test_spikes_that_are_none(run: tuple) -> None:
    for value, words in (
        (0.5, "receives whole events"),
        (-1.0, "allowed are 0 to 16777216"),
        (np.nan, "holds nan events"),
    ):
        values = np.full((1, 4, 3), value)
        with pytest.raises(nd.ConfigurationError, match=f"node 'n': sample 0, bin 0, channel 0 .*{words}"):
            nd.from_nir_data(nir.NIRGraphData({"n": nir.NIRNodeData({"spikes": nir.TimeGriddedData(values, 1e-3)})}))
    early = nir.EventData(np.array([[0]]), np.array([[-2e-3]]), 3, 5e-3)
    with pytest.raises(nd.ConfigurationError, match="before the beginning"):
        nd.from_nir_data(nir.NIRGraphData({"n": nir.NIRNodeData({"spikes": early})}), dt=1e-3)
    late = nir.EventData(np.array([[0]]), np.array([[5.3e-3]]), 3, 5.4e-3)
    back = nd.from_nir_data(nir.NIRGraphData({"n": nir.NIRNodeData({"spikes": late})}), dt=1e-3)
    assert back.spikes["n"][0, 5, 0] == 1
