"""`compile` with copies: the bits wire them as asked, as many as fit, and what does not fit is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
import word_interpreter
from chip_profiles import changed
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.copies import with_copies
from nir_dynapse.circuit.params import Topology
from nir_dynapse.layout.decoding import layout_to_params, to_network
from nir_dynapse.layout.layout import cam_words, sram_words
from nir_dynapse.network.network import Network, Projection
from nir_dynapse.quant.compiler import copies_that_fit
from nir_dynapse.quant.spending import chips_needed, most_copies
from places import EXAMPLES
from shortened import shortened
from small_networks import population, recurrent, with_readout

EXAMPLE = ("small", "yin_yang", "digits_recurrent")
SMALL = replace(nd.DYNAPSE2, neurons_per_core=16)


def small() -> Network:
    return recurrent(0, 4, 5, 3)


def example(name: str) -> Network:
    if name == "small":
        return small()
    return nd.from_nir(EXAMPLES / "networks" / f"{name}.nir", dt=1e-3)


def wired(layout: nd.Layout) -> list[tuple[str, int, int, int]]:
    """What the words of `layout` connect."""
    places = list(zip(layout.chip.tolist(), layout.core.tolist(), layout.slot.tolist(), strict=True))
    cam, sram = cam_words(layout.cam).tolist(), sram_words(layout.sram).tolist()
    assert all(word_interpreter.rows_in_use(words) <= 64 for words in cam)
    assert len(set(places)) == len(places)
    return word_interpreter.synapses(places, cam, sram, layout.input_rows.tolist(), layout.n_chips)


def asked(t: Topology) -> Counter[tuple[str, int, int, int]]:
    """What a topology connects, in the words of `word_interpreter`."""
    source = [("channel", p) if p <= t.tonic else ("neuron", p - t.tonic - 1) for p in t.pre.tolist()]
    return Counter((*a, b, d) for a, b, d in zip(source, t.post.tolist(), t.dendrite.tolist(), strict=True))


@pytest.mark.parametrize("copies", [(3, 3), (2, 5), (7, 1)])
def test_the_words_wire_what_params_say(copies: tuple[int, int]) -> None:
    net = recurrent(0, 8, 20, 4)
    params = with_copies(to_params(net), copies, key=5)
    layout = nd.compile(net, params=params, spare_rows=False)
    assert layout.copies == copies
    assert Counter(wired(layout)) == asked(params.topology)
    assert layout_to_params(layout).topology.copies == copies
    with_spares = nd.compile(net, params=params)
    assert set(wired(with_spares)) == set(asked(params.topology))


def test_a_number_of_copies() -> None:
    net = recurrent(0, 8, 20, 4)
    layout = nd.compile(net, spend=3, seed=4)
    assert layout.copies_of == {"hidden": 3, "output": 3}
    assert layout.node_sizes == {"hidden": 20, "output": 4}
    assert layout.sizes == {"hidden": 60, "output": 12}
    drawn = with_copies(to_params(net), (3, 3), key=4)
    assert set(wired(layout)) == set(asked(drawn.topology))
    assert nd.compile(net, spend=3, seed=4) == layout
    assert nd.compile(net, spend=1) == nd.compile(net)
    assert nd.compile(net, spend={"output": 2}).copies_of == {"hidden": 1, "output": 2}
    x = (np.random.default_rng(1).random((2, 60, 8)) < 0.4).astype(np.uint8)
    plain = nd.compile(net, spare_rows=False)
    many = nd.compile(net, spend=3, spare_rows=False)
    one, three = nd.simulate(plain, x), nd.simulate(many, x)
    total = int(one.spikes["hidden"].sum())
    assert abs(int(three.spikes["hidden"].sum()) - 3 * total) < 0.05 * 3 * total, "rounding may differ, little else"


def test_maps_speak_of_the_networks_neurons(tmp_path: Path) -> None:
    net = recurrent(0, 8, 6, 4)
    layout = nd.compile(net, spend={"output": 3}, membranes=[("output", 2, 1)])
    assert ("hidden", 5) in layout.neuron_map
    assert ("output", 3, 2) in layout.neuron_map
    assert len(layout.neuron_map) == layout.n_neurons == 6 + 12
    assert Counter(layout.output_map.values()) == {("output", i): 3 for i in range(4)}
    chip, core, slot = layout.neuron_map["output", 2, 1]
    assert layout.membranes[4 * chip + core] == slot
    first = nd.compile(net, spend={"output": 3}, membranes=[("output", 2)])
    assert first.membranes[4 * chip + core] == first.neuron_map["output", 2, 0][2]
    with pytest.raises(nd.ParameterRangeError, match=r"membranes asks for its copy 3, allowed are 0 to 2"):
        nd.compile(net, spend={"output": 3}, membranes=[("output", 2, 3)])
    layout.save(tmp_path / "layout.json")
    assert nd.Layout.load(tmp_path / "layout.json") == layout
    assert layout.to_dict()["version"] == 6
    assert nd.compile(net).to_dict()["version"] == 5
    config = nd.to_samna(layout)
    assert nd.from_samna(config) == layout
    assert nd.from_samna(config, names=tmp_path / "layout.json").copies == (1, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"copies": [1]}, "'copies' are"),
        ({"copies": [1, 0]}, "'copies' are"),
        ({"copies": [1, 2.0]}, "'copies' are"),
        ({"copies": [1, True]}, "'copies' are"),
        ({"copies": [1, 4]}, "places for"),
        ({"version": 5}, "version 5 has 'copies' from 6 on only"),
    ],
)
def test_layouts_with_damaged_copies(change: dict[str, Any], words: str) -> None:
    data = nd.compile(recurrent(0, 8, 6, 4), spend={"output": 3}).to_dict()
    with pytest.raises(nd.ConfigurationError, match=words):
        nd.Layout.from_dict({**data, **change})
    data.pop("copies")
    with pytest.raises(nd.ConfigurationError, match="version 6 has 'copies' from 6 on only"):
        nd.Layout.from_dict(data)


@pytest.mark.parametrize("name", shortened(EXAMPLE))
def test_as_many_as_fit(name: str) -> None:
    net = example(name)
    device = SMALL if name == "small" else nd.DYNAPSE2
    layout = nd.compile(net, spend="chip", device=device)
    n = sum(p.size for p in net.populations)
    assert layout.n_neurons <= device.n_neurons
    assert min(layout.copies) >= 2 or n > device.n_neurons / 2
    # Not one copy more of anything fits beside what there is, as far as neurons and cores go.
    t = to_params(net).topology
    assert chips_needed(t, layout.copies_of, device) == 1
    for node in layout.copies_of:
        more = {**layout.copies_of, node: layout.copies_of[node] + 1}
        cores = chips_needed(t, more, device) > 1
        assert cores or sum(size * more[node] for node, size in t.populations) > device.n_neurons
    assert copies_that_fit(net, device) == layout.copies_of
    assert nd.compile(net, spend="chip", device=device) == layout
    assert set(wired(layout)) == set(asked(layout_to_params(layout).topology))


@pytest.mark.long
def test_bad_rows_take_copies_away() -> None:
    net = small()
    whole = most_copies(to_params(net).topology, nd.DYNAPSE2)
    rng = np.random.default_rng(0)
    dead = [(c, s) for c in range(4) for s in rng.choice(256, 200, replace=False).tolist()]
    rows = [(c, s, int(r)) for c in range(4) for s in range(256) for r in rng.choice(64, 6, replace=False)]
    device = nd.DYNAPSE2.with_profiles(changed(neurons=dead, rows=rows))
    layout = nd.compile(net, spend="chip", device=device)
    assert 1 < min(layout.copies) < whole
    assert layout.n_neurons <= 4 * (256 - 200)
    assert nd.compile(net, spend="chip", device=device) == layout
    wanted = [word_interpreter.rows_in_use(words) for words in cam_words(layout.cam).tolist()]
    assert max(wanted) <= 64
    assert not layout.findings or all(f.code != "bad-rows" for f in layout_to_params(layout, device).findings)
    usual = copies_that_fit(net, device)
    assert usual == layout.copies_of


def test_several_chips_hold_more() -> None:
    alone = most_copies(to_params(small()).topology, SMALL)
    assert min(nd.compile(small(), spend="chip", device=SMALL.stack(2)).copies) == 2 * alone


@pytest.mark.long
def test_two_whole_chips_hold_more() -> None:
    net = recurrent(0, 8, 20, 4)
    assert min(nd.compile(net, spend="chip", device=nd.DYNAPSE2.stack(2), budget=2.0).copies) > 70


def test_too_many_copies_are_refused() -> None:
    net = recurrent(0, 8, 20, 4)
    with pytest.raises(
        nd.CapacityError, match=r"100 copies of 24 neurons are 2400.*it would take 3 chips.*stack\(3\)"
    ) as error:
        nd.compile(net, spend=100)
    assert "42 of all fit (spend=42, --spend 42)" in str(error.value)
    t = to_params(net).topology
    assert most_copies(t, nd.DYNAPSE2) == 42
    assert chips_needed(t, {"hidden": 100, "output": 100}, nd.DYNAPSE2) == 3
    with pytest.raises(nd.CapacityError, match="A stack holds at most 8 chips: spend fewer copies"):
        nd.compile(net, spend=1000)


@pytest.mark.long
def test_as_many_as_are_said_to_fit() -> None:
    assert nd.compile(recurrent(0, 8, 20, 4), spend=42).copies == (42, 42)


@pytest.mark.parametrize("spend", [0, 1.5, "all", True, {"hidden": 0}, {"other": 2}, None])
def test_what_is_no_number_of_copies(spend: Any) -> None:
    with pytest.raises(nd.ParameterRangeError):
        nd.compile(recurrent(0, 8, 6, 4), spend=spend)


def test_params_bring_their_copies_or_their_bits() -> None:
    net = recurrent(0, 8, 6, 4)
    params = with_copies(to_params(net), (2, 2))
    with pytest.raises(nd.ParameterRangeError, match="the params have copies already"):
        nd.compile(net, params=params, spend=2)
    bits = layout_to_params(nd.compile(net, params=params))
    again = nd.compile(net, params=bits)
    assert again.copies == (2, 2)
    assert layout_to_params(again).topology.copies == (2, 2)
    with pytest.raises(nd.ParameterRangeError, match="have masks of 4 bits"):
        nd.compile(net, params=layout_to_params(nd.compile(net)), spend=2)
    with pytest.raises(
        nd.ConfigurationError, match=r"the params have populations 'hidden' \(6\).*the network 'hidden' \(7\)"
    ):
        nd.compile(recurrent(0, 8, 7, 4), params=params)


def dense_output(n_in: int = 10, hidden: int = 90) -> Network:
    rng = np.random.default_rng(0)
    return Network(
        (population("hidden", hidden), population("output", 3)),
        (
            Projection.from_dense("in", "hidden", rng.normal(0.1, 0.1, (hidden, n_in))),
            Projection.from_dense(
                "hidden", "output", rng.uniform(0.01, 0.05, (3, hidden)) * rng.choice([-1, 1, 1], (3, hidden))
            ),
        ),
        recurrent(0, n_in, 2, 2).inputs,
        (replace(recurrent(0, n_in, 2, 3).outputs[0]),),
        1e-3,
    )


def test_copies_share_what_one_cannot_hear() -> None:
    net = dense_output()
    with pytest.raises(nd.CapacityError, match="90 incoming synapses, a DYNAP-SE2 neuron stores 64"):
        nd.compile(net, spend=2)
    layout = nd.compile(net, spend={"output": 2}, fan_in="prune")
    (finding,) = (f for f in layout.findings if f.code == "fan-in")
    assert finding.severity == "warning"
    assert finding.count == 3
    assert (
        "the 2 copies hear them in turn, with weights scaled so that their sum stays. Every one is heard"
        in finding.what
    )
    first = layout.sizes["hidden"]
    heard = {
        t: {s for kind, s, target, _ in wired(layout) if kind == "neuron" and target == t}
        for t in range(first, first + 6)
    }
    assert all(len(sources) == 64 for sources in heard.values())
    for neuron in range(3):
        both = heard[first + 2 * neuron], heard[first + 2 * neuron + 1]
        assert both[0] | both[1] == set(range(90))
        assert len(both[0] & both[1]) == 2 * 64 - 90
    # The sums of the weights of each sign are those of the neuron, up to rounding.
    plain, folded = (
        next(q for q in n.projections if q.target == "output").dense(90, 3) for n in (net, to_network(layout))
    )
    for sign in (1, -1):
        sums = [np.maximum(sign * w, 0).sum(1) for w in (plain, folded)]
        np.testing.assert_allclose(sums[1] / sums[1].sum(), sums[0] / sums[0].sum(), rtol=0.05)
    lost = nd.compile(dense_output(hidden=150), spend={"output": 2}, fan_in="prune")
    (finding,) = (f for f in lost.findings if f.code == "fan-in")
    assert "The weakest 66 of all are heard by none." in finding.what


def test_readouts_and_importance_go_along() -> None:
    net = with_readout()
    params = to_params(net)
    layout = nd.compile(net, spend=4, importance=np.arange(params.topology.n_synapses), activity={"hidden": [1.0] * 6})
    assert layout.readout.digest() == net.readout.digest()
    x = (np.random.default_rng(1).random((2, 60, 4)) < 0.4).astype(np.uint8)
    got, ideal = nd.simulate(layout, x), nd.simulate(net, x)
    assert got.output.shape == ideal.output.shape
    assert np.abs(got.counts() - ideal.counts()).max() < 0.3 * np.abs(ideal.counts()).max()
