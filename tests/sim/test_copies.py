"""Copies on boards, many virtual chips, in Lava's stepping and in files: all speak of the network's neurons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.board.link import LinkedBoard, stimuli
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.data.nir_data import to_nir_data
from nir_dynapse.evaluation.checks import score
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.network.network import Network, Port
from nir_dynapse.sim.simulation import run_circuit
from nir_dynapse.sim.virtual.board import VirtualBoard
from shortened import shortened
from small_networks import recurrent, with_readout


def two_outputs() -> Network:
    net = recurrent(0, 6, 8, 4)
    outputs = (Port("second", (2, 2), "output"), Port("first", (8,), "hidden"))
    return replace(net, outputs=outputs)


NETWORKS = {"outputs": two_outputs, "readout": with_readout}


def events(net: Network, samples: int = 2, steps: int = 50, rate: float = 0.3) -> np.ndarray:
    return (np.random.default_rng(1).random((samples, steps, net.n_inputs)) < rate).astype(np.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_virtual_board_gives_what_simulate_does(name: str) -> None:
    net = NETWORKS[name]()
    layout, x = nd.compile(net, spend=3), events(NETWORKS[name]())
    expected = nd.simulate(layout, x, mismatch=nd.DYNAPSE2.mismatch, key=4)
    with nd.open_board("virtual:4") as board:
        board.apply(layout)
        got = board.run_batch(x, net.dt)
    assert got.spikes.keys() == {p.source for p in net.outputs if p.source in layout.sizes} | set(net.readout.sources())
    for node, spikes in got.spikes.items():
        np.testing.assert_array_equal(spikes, expected.spikes[node])
        assert spikes.shape[2] == net[node].size
    for port in net.outputs:
        np.testing.assert_array_equal(got.of(port.name), expected.of(port.name))
    np.testing.assert_array_equal(got.counts(), expected.counts())
    assert got.copies == dict.fromkeys(got.spikes, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_events_of_a_board_are_those_of_the_networks_neurons(name: str) -> None:
    """Over the bus (times in µs, one event each) the same counts arrive, summed over the copies."""
    net = NETWORKS[name]()
    layout, x = nd.compile(net, spend=3), events(NETWORKS[name](), 1, 80, 0.9)
    with VirtualBoard(4) as board:
        board.apply(layout)
        whole = board.run_batch(x, net.dt)
        heard = board.run(stimuli(layout, x[0], net.dt), x.shape[1] * net.dt)
        linked = LinkedBoard.run_batch(board, x, net.dt)
    total = 0
    for node in whole.spikes:
        counts = heard.to_counts(node, net[node].size, net.dt, x.shape[1] * net.dt)
        np.testing.assert_array_equal(counts, linked.spikes[node][0])
        total += int(counts.sum())
        assert abs(int(counts.sum()) - int(whole.spikes[node].sum())) <= 0.1 * max(10, counts.sum())  # of the bus
    assert total > 20
    assert linked.copies == whole.copies
    assert linked.output.shape == whole.output.shape


@pytest.mark.parametrize("name", shortened(NETWORKS))
def test_many_virtual_chips_count_as_simulate_does(name: str) -> None:
    net = NETWORKS[name]()
    params, x = with_copies(to_params(net), (3, 2)), events(NETWORKS[name](), 8)
    wanted = []
    labels = np.arange(8) % net[str(net.outputs[0].source)].size
    for key in (0, 1):
        counts = nd.simulate(params, x, mismatch=nd.DYNAPSE2.mismatch, key=key).counts()
        wanted.append(score("", counts, labels).correct / 8)
    found = nd.evaluate(params, nd.Data(x, labels, net.dt), devices=2)
    assert found.accuracy.tolist() == wanted
    layout = nd.compile(net, spend={"output": 2})
    assert len(nd.evaluate(layout, nd.Data(x, labels, net.dt), devices=1)) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_lava_steps_give_sums_and_means(name: str) -> None:
    """What the process models step, bin by bin (the processes themselves: tests/lava)."""
    circuit_module = pytest.importorskip("nir_dynapse.lava_process.circuit")
    net = NETWORKS[name]()
    params, x = with_copies(to_params(net), (3, 2)), events(NETWORKS[name](), 1)
    expected = nd.simulate(params, x, backend="numpy", mismatch=nd.DYNAPSE2.mismatch, key=2)
    circuit = circuit_module.circuit_of(params, None, nd.DYNAPSE2.mismatch, 2, nd.DYNAPSE2)
    stepper, outputs = circuit.stepper(), circuit.outputs()
    got = np.stack([outputs.step(stepper.step(sample)) for sample in x[0]])
    wanted = np.concatenate([expected.of(port.name)[0] for port in net.outputs], axis=1)
    np.testing.assert_array_equal(got, wanted)
    assert circuit.n_out == wanted.shape[1]
    opened = circuit_module.open_dendrites(circuit, "hidden")
    assert opened.n_out == net["hidden"].size
    assert opened.params.topology.copies_of == {"hidden": 3}


def test_counts_compare_with_the_ideal_run() -> None:
    net = recurrent(0, 8, 12, 3)
    x = events(net, 3, 80)
    ideal, many = nd.simulate(net, x, ideal=True), nd.simulate(nd.compile(net, spend=4), x)
    assert many.spikes["output"].sum() > 2 * ideal.spikes["output"].sum()
    assert 0.5 < many.counts().sum() / ideal.counts().sum() < 2
    assert np.issubdtype(many.counts().dtype, np.floating)
    assert np.issubdtype(nd.simulate(net, x).counts().dtype, np.integer)
    row = score("x", many.counts(), np.zeros(3, int), spikes=many.of_spikes)
    assert row.rate == pytest.approx(float(many.counts().mean()))


def test_currents_are_those_of_each_copy() -> None:
    net = recurrent(0, 8, 6, 3)
    params, x = with_copies(to_params(net), (2, 3)), events(net)
    found = nd.simulate(params, x, record=("spikes", "i_mem"))
    assert found.states["i_mem"]["hidden"].shape == (2, 50, 12)
    data: Any = to_nir_data(found)
    node = data.nodes["hidden"].observables if hasattr(data, "nodes") else {}
    assert {np.asarray(o.data).shape[2] for o in node.values()} == {6}


def test_single_copies_for_those_who_need_them() -> None:
    net = with_readout()
    layout = nd.compile(net, spend=3)
    alone = layout.single()
    assert (alone.sizes, alone.copies) == (layout.sizes, ())
    assert [(port.source, port.size) for port in alone.outputs] == [("output", 9)]
    for name in ("cam", "sram", "codes", "chip", "core", "slot"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(layout, name))
    x = events(net).astype(np.float32)
    each = run_circuit(layout_to_params(alone), x, net.dt, ("spikes",)).spikes
    summed = nd.simulate(layout, x).spikes
    for node, spikes in each.items():
        np.testing.assert_array_equal(spikes.reshape(*spikes.shape[:2], -1, 3).sum(3), summed[node])
    plain = nd.compile(net)
    assert plain.single() is plain
