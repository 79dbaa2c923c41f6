"""Delays of a NIR graph on the chip: bits, report, files, copies, cores that must be shared, and the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import COLUMN, DELAYS, DYNAPSE2
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params_file import load_params, save_params
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.layout.decoding import layout_to_params, matches, to_network
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.primitives import graph
from nir_dynapse.quant.groups import merge_groups
from nir_graphs import lif, port_in, port_out

MS = 1e-3


def late_graph(delay: np.ndarray, *, tau: Any = 0.02, n_in: int = 4, seed: int = 0) -> Any:
    n = len(delay)
    weight = np.random.default_rng(seed).uniform(1, 8, (n, n_in))
    nodes = {"in": port_in(n_in), "fc": nir.Linear(weight), "wait": nir.Delay(delay), "hidden": lif(n, tau=tau)}
    nodes |= {"out": port_out(n)}
    return graph(nodes, list(pairwise(nodes)))


@pytest.fixture(scope="module")
def net() -> nd.Network:
    """20 neurons, 1 to 20 ms late."""
    return nd.from_nir(late_graph(np.arange(1, 21) * MS), dt=MS)


@pytest.fixture(scope="module")
def layout(net: nd.Network) -> Layout:
    return nd.compile(net)


def seconds_of_rows(layout: Layout) -> dict[tuple[int, int], float]:
    """(channel, neuron) -> delay in s, from codes and flags alone."""
    found = {}
    for source, neuron, row in zip(*matches(layout), strict=True):
        flags = int(layout.cam["flags"][neuron, row]) >> 1
        total = 0.0
        for k, name in enumerate(DELAYS):
            codes = layout.codes[layout.core_index[neuron], COLUMN[name]]
            total += (flags >> k & 1) * 0.7 * 0.5e-12 / float(biasgen.current(name, *codes))
        found[int(source), int(neuron)] = total
    return found


def test_the_report_says_what_the_bits_do(net: nd.Network, layout: Layout) -> None:
    """Every delay from 1 to 20 ms with its error in ms, in text and JSON, as flags and codes say it."""
    bits = seconds_of_rows(layout)
    assert len(bits) == 80
    stated = nd.report(layout).to_dict()["delays"]
    assert (stated["lost"], list(stated["nodes"])) == (0, ["wait"])
    assert [line[:2] for line in stated["nodes"]["wait"]] == [[pytest.approx(k * MS), 4] for k in range(1, 21)]
    for k, (asked, _, got, error, _) in enumerate(stated["nodes"]["wait"]):
        mine = [bits[channel, k] for channel in range(4)]
        assert got == pytest.approx(np.mean(mine), rel=1e-9)
        assert error == pytest.approx(max(abs(m - asked) for m in mine), rel=1e-9)
        assert error < 2.6 * MS, "five delays share a core"
    errors = [line[3] for line in stated["nodes"]["wait"]]
    assert np.sqrt(np.mean(np.square(errors))) < 1.4 * MS
    text = nd.report(layout).text()
    for asked, _, got, error, _ in stated["nodes"]["wait"]:
        cells = ["wait", f"{1e3 * asked:.4g}", "4", f"{1e3 * got:.3g}", f"{1e3 * error:.2g}"]
        assert any(line.split()[:5] == cells for line in text.splitlines())
    assert "the delays of each core" in nd.report(layout).html()
    (said,) = (f for f in layout.findings if f.code == "delays")
    assert said.node == "wait"


def test_neurons_of_alike_delays_share_cores(layout: Layout) -> None:
    """The four cores hold runs of neighbours, but for the shortest, which a mismatched delay may serve anywhere."""
    assert int(layout.used_cores.sum()) == 4
    for core in np.unique(layout.core_index):
        here = np.flatnonzero(layout.core_index == core)
        late = here[here >= 3]
        assert (np.diff(late) == 1).all()


def test_few_delays_are_exact_but_for_the_code() -> None:
    layout = nd.compile(nd.from_nir(late_graph(np.repeat([0.0, 3, 5, 20], 5) * MS), dt=MS))
    for asked, _, _, error, spread in layout.delays["nodes"]["wait"]:
        assert error <= 0.012 * asked
        assert spread == pytest.approx(0.1 * asked, rel=0.02)
    assert not [f for f in layout.findings if f.code in ("delays", "delay-spread")]


def test_files_and_configurations_keep_them(net: nd.Network, layout: Layout, tmp_path: Any) -> None:
    layout.save(tmp_path / "layout.json")
    assert Layout.load(tmp_path / "layout.json") == layout
    params = layout_to_params(layout)
    read = nd.from_samna(nd.to_samna(layout))
    np.testing.assert_allclose(np.sort(layout_to_params(read).row_delays()), np.sort(params.row_delays()))
    save_params(params, tmp_path / "params.npz")
    np.testing.assert_array_equal(load_params(tmp_path / "params.npz").row_delays(), params.row_delays())
    plain = nd.compile(nd.from_nir(late_graph(np.zeros(3)), dt=MS))
    assert plain.delays == {}
    assert "delays" not in plain.to_dict()
    assert "delays" not in nd.report(plain).to_dict()


@pytest.mark.parametrize(
    "broken",
    [
        {"nodes": {"wait": [[1.0]]}, "lost": 0, "cores": {}},
        {"nodes": {"wait": [[1.0, 2, -1.0, 0.0, 0.0]]}, "lost": 0, "cores": {}},
        {"nodes": {}, "lost": -1, "cores": {}},
        {"nodes": {}, "lost": 0, "cores": {"0.0": [1.0]}},
        {"nodes": {}, "lost": 0},
        [],
    ],
)
def test_damaged_files_are_refused(layout: Layout, broken: Any) -> None:
    data = json.loads(json.dumps(layout.to_dict()))
    data["delays"] = broken
    with pytest.raises(ConfigurationError):
        Layout.from_dict(data)


def test_the_way_back_has_seconds(net: nd.Network, layout: Layout) -> None:
    """Layout -> Network -> NIR -> Network: delays as flags and codes have them, spikes of ideal runs the same."""
    bits, back = seconds_of_rows(layout), to_network(layout)
    (q,) = back.projections
    assert q.delay is not None
    for a, b, d in zip(q.pre, q.post, q.delay, strict=True):
        assert d == pytest.approx(bits[int(a), int(b)], abs=1e-11)
    again = nd.from_nir(nd.to_nir(back))
    x = (np.random.default_rng(1).random((2, 100, 4)) < 0.1).astype(np.uint8)
    one, other = (nd.simulate(n, x, ideal=True).spikes["hidden"] for n in (back, again))
    assert one.sum() > 50
    np.testing.assert_array_equal(one, other)


def test_spikes_come_late_on_the_circuit(net: nd.Network, layout: Layout) -> None:
    """One volley: the first spike of each neuron follows its delay within what the report says, and a step or two."""
    x = np.zeros((1, 60, 4), np.uint8)
    x[:, 5] = 30
    prompt = nd.compile(nd.from_nir(late_graph(np.zeros(20)), dt=MS))
    first, start = (nd.simulate(made, x).spikes["hidden"][0].argmax(0) for made in (layout, prompt))
    lines = layout.delays["nodes"]["wait"]
    got = np.array([line[2] for line in lines])
    assert np.abs((first - start) * MS - got).max() <= 2 * MS


def test_copies_have_the_delays_of_their_neuron(net: nd.Network) -> None:
    layout = nd.compile(net, spend=3)
    assert layout.delays["lost"] == 0
    assert [line[1] for line in layout.delays["nodes"]["wait"]] == [4] * 20
    bits = seconds_of_rows(layout)
    for k, line in enumerate(layout.delays["nodes"]["wait"]):
        mine = [bits[c, 3 * k + copy] for c in range(4) for copy in range(3)]
        assert min(abs(m - line[2]) for m in mine) < 1e-9
    whole = nd.compile(net, spend="chip")
    assert whole.copies_of["hidden"] > 40
    assert max(line[3] for line in whole.delays["nodes"]["wait"]) < 2.6 * MS


def test_bias_groups_that_share_cores_share_delays_anew() -> None:
    """Five time constants near one another on four cores, each with a delay of its own: none refuses it."""
    tau, late = np.repeat([0.02, 0.0201, 0.0202, 0.0203, 0.0204], 4), np.repeat([1.0, 20, 2, 9, 4.2], 4) * MS
    net = nd.from_nir(late_graph(late, tau=tau), dt=MS)
    params = to_params(net)
    with pytest.raises(nd.CapacityError):
        merge_groups(params, DYNAPSE2)
    layout = nd.compile(net)
    assert [f.severity for f in layout.findings if f.code == "delays-shared"] == ["warning"]
    lines = {round(1e3 * line[0]): line for line in layout.delays["nodes"]["wait"]}
    assert sorted(lines) == [1, 2, 4, 9, 20]
    assert sum(line[3] > 0.05 * line[0] for line in lines.values()) <= 2, "four cores, five delays"


def test_trained_flags_and_delays_are_taken_as_they_are(net: nd.Network) -> None:
    """Params with other flags and currents: compile writes those, and the report compares them with the network."""
    params = to_params(net)
    t = params.topology
    bias = {**params.bias, DELAYS[0]: params.circuit.width(DELAYS[0], np.full(t.n_groups, 4 * MS))}
    layout = nd.compile(net, params=replace(params, bias=bias, topology=replace(t, delay=np.ones(t.n_synapses, int))))
    np.testing.assert_allclose(layout_to_params(layout).row_delays(), 4 * MS, rtol=0.012)
    assert layout.delays["nodes"]["wait"][19][3] == pytest.approx(16 * MS, abs=0.1 * MS)


def test_many_delays_are_told_in_ranges() -> None:
    layout = nd.compile(nd.from_nir(late_graph(np.linspace(1, 20, 150) * MS), dt=MS))
    lines = layout.delays["nodes"]["wait"]
    assert len(lines) <= 64
    assert sum(line[1] for line in lines) == 600
    assert [line[0] for line in lines] == sorted(line[0] for line in lines)


def test_the_fan_in_counts_each_delay_of_a_pair() -> None:
    """What the report of a Network says before it is placed is what its Layout takes."""
    lines, wait = np.kron(np.eye(3), np.ones((2, 1))), np.tile([2.0, 20.0], 3) * MS
    nodes = {"in": port_in(3), "lines": nir.Linear(lines), "wait": nir.Delay(wait), "fc": nir.Linear(np.ones((2, 6)))}
    nodes |= {"hidden": lif(2), "out": port_out(2)}
    net = nd.from_nir(graph(nodes, list(pairwise(nodes))), dt=MS)
    fan_in = [nd.report(thing).nodes[0].fan_in.used for thing in (net, nd.compile(net))]
    assert fan_in == [6, 6]
