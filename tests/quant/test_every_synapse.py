"""Compiled networks of every shape, read from the bits by an interpreter of its own: every synapse is there, and no other.

`synapse_check` says what is wrong with a Layout; the last section damages one in every way and sees that it does.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chip_interpreter as chip
from chip_interpreter import INPUT, follow, read_arrays, read_object
from layout_damage import DAMAGE
from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import DYNAPSE2, PARAMETERS
from nir_dynapse.circuit.closed_form import event_charge
from nir_dynapse.errors import CapacityError
from nir_dynapse.export.samna_config import to_samna
from nir_dynapse.layout.decoding import layout_to_params, to_network
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.quant.compiler import compile
from random_networks import FAMILIES, Case, build, cases, obstacles
from shortened import shortened
from synapse_check import SAME, asked, complaints, key_of, places, wrong_sharing, wrong_synapses

BOUND = {"normal": 0.16, "uniform": 0.12, "lognormal": 0.32}
"""Largest RMS error over RMS weight of the weights of one core, in charges per event, by how they are distributed.

The worst of a thousand networks with one CAM row for each connection: 14, 9 and 28 %; heavy tails take the levels."""
OPTIONAL = {"spare_rows": (True, False), "second_range": (False, True), "share_tags": (None, True, False)}
"""Options that `compile` has or may get; each is drawn where it is there."""
OPTIONS = inspect.signature(compile).parameters


def found(case: Case, net: Network, layout: Layout) -> list[str]:
    return complaints(net, layout, case.monitor, BOUND[str(case.options.get("weights", "normal"))])


def package_charges(layout: Layout, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of (source, target) and charge per event as the package decodes them."""
    params = layout_to_params(layout)
    t = params.topology
    sign = np.array([1.0, 1.0, -1.0, -1.0])[t.dendrite]
    source = np.where(t.pre <= t.tonic, INPUT + t.pre, place[np.maximum(t.pre - t.tonic - 1, 0)])
    key, where = np.unique(key_of(source, place[t.post], np.zeros(1, int)), return_inverse=True)
    return key, np.bincount(where.reshape(-1), sign * params.row_currents() * event_charge(params), len(key))


def assert_decoding_agrees(net: Network, layout: Layout) -> None:
    """The interpreter, the package's circuit and the package's Network of a Layout are one."""
    place = places(net, layout)
    source, target, plus, minus = follow(read_arrays(layout)).effective()
    key, charge = package_charges(layout, place)
    assert np.array_equal(key, key_of(source, target, np.zeros(1, int)))
    scale = np.abs(np.r_[plus, minus]).max(initial=1e-300)
    np.testing.assert_allclose(charge, plus + minus, rtol=SAME, atol=SAME * scale)
    back = asked(replace(to_network(layout), outputs=net.outputs), replace(layout, tonic_period=None), place)
    key, where = np.unique(back.key // 2, return_inverse=True)
    total = np.bincount(where.reshape(-1), back.charge, len(key))
    mine = plus + minus
    there = (source != INPUT + net.n_inputs) & (np.abs(mine) > SAME * scale)
    at = np.searchsorted(key, source[there] * 8192 + target[there])
    np.testing.assert_allclose(total[at], mine[there], rtol=1e-7, atol=SAME * scale)


def compile_case(case: Case, net: Network | None = None, **options: Any) -> Layout | None:
    """The Layout of a case; None where compile rightly says that it does not fit."""
    net = case.network() if net is None else net
    settings: dict[str, Any] = {"device": DYNAPSE2.stack(case.n_chips), "monitor": case.monitor, **options}
    if "budget" in OPTIONS:
        settings["budget"] = 1.0
    try:
        return compile(net, **settings)
    except CapacityError as error:
        if not obstacles(net, case.n_chips, case.monitor):
            raise AssertionError(f"{case} fits in index order") from error
        return None


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    return {name: draw(st.sampled_from(values)) for name, values in OPTIONAL.items() if name in OPTIONS}


# -- every synapse ----------------------------------------------------------------------------------------------------


def is_whole(case: Case, chosen: dict[str, Any]) -> None:
    net = case.network()
    layout = compile_case(case, net, **chosen)
    if layout is not None:
        assert found(case, net, layout) == []
        assert_decoding_agrees(net, layout)


@given(case=cases(most=120), chosen=options())
@settings(max_examples=12)
def test_some_small_networks(case: Case, chosen: dict[str, Any]) -> None:
    is_whole(case, chosen)


@pytest.mark.long
@given(case=cases(most=250), chosen=options())
@settings(max_examples=40)
def test_small_networks(case: Case, chosen: dict[str, Any]) -> None:
    is_whole(case, chosen)


@pytest.mark.long
@given(case=cases(most=1500, chips=4), chosen=options())
@settings(max_examples=12)
def test_networks_of_some_cores(case: Case, chosen: dict[str, Any]) -> None:
    net = case.network()
    layout = compile_case(case, net, **chosen)
    if layout is not None:
        assert found(case, net, layout) == []


BIG = (
    Case("layered", 1, 2048, {"output": "all"}, 2),
    Case("convolution", 2, 1900, {"weights": "lognormal"}, 2),
    Case("blocks", 3, 1800, {}, 2, "all"),
    Case("small_world", 5, 4096, {"groups": "halves", "zeros": 0.1}, 4),
    Case("parallel", 6, 4800, {"groups": "halves", "weights": "lognormal"}, 5),
    Case("sparse", 8, 7168, {}, 7, "all"),
    Case("recurrent", 9, 8192, {"output": "first"}, 8),
    Case("small_world", 10, 8192, {"output": "none"}, 8),
)


@pytest.mark.long
@pytest.mark.parametrize("case", BIG, ids=lambda case: f"{case.family}-{case.n}-{case.n_chips}")
def test_networks_of_many_chips(case: Case) -> None:
    net = case.network()
    assert obstacles(net, case.n_chips, case.monitor) == []
    layout = compile_case(case, net)
    assert layout is not None
    assert found(case, net, layout) == []
    assert_decoding_agrees(net, layout)


@pytest.mark.long
@given(case=cases(most=120), chosen=options(), seed=st.integers(0, 3))
@settings(max_examples=10)
def test_equal_seeds_make_equal_layouts(case: Case, chosen: dict[str, Any], seed: int) -> None:
    first, second = (compile_case(case, seed=seed, **chosen) for _ in range(2))
    assert first == second


# -- what does not fit ------------------------------------------------------------------------------------------------


def fan(n: int, pre: np.ndarray, post: np.ndarray, **kwargs: Any) -> Network:
    """`n` neurons of the family "sparse" with these connections among them, all of different weights."""
    net = build("sparse", 0, n, **kwargs)
    weight = np.random.default_rng(1).uniform(0.01, 0.1, len(pre))
    return replace(net, projections=(replace(net.projections[1], pre=pre, post=post, weight=weight),))


NONE = np.zeros(0, int)


def three_groups() -> Network:
    """300 neurons, 300 with another time constant and one with a third."""
    net = fan(601, NONE, NONE)
    tau = np.repeat([20e-3, 60e-3, 180e-3], [300, 300, 1])
    return replace(net, populations=(replace(net.populations[0], tau_mem=tau, r=tau / net.dt),))


TOO_MUCH: dict[str, tuple[Network, Case]] = {
    "65 weights into one neuron": (fan(66, np.arange(65), np.full(65, 65)), Case("", 0, 0, {})),
    "1025 neurons": (fan(1025, NONE, NONE), Case("", 0, 0, {})),
    "five cores of three groups": (three_groups(), Case("", 0, 0, {})),
    "4097 targets": (fan(8192, np.zeros(4097, int), np.arange(4097), output="none"), Case("", 0, 0, {}, 8)),
    "8192 monitored neurons": (fan(8192, NONE, NONE), Case("", 0, 0, {}, 8)),
}


@pytest.mark.parametrize("what", shortened(sorted(TOO_MUCH, key=lambda what: "4097" in what), len(TOO_MUCH) - 1))
def test_what_cannot_fit_is_refused(what: str) -> None:
    """No placement can help here: more weights than rows, more neurons than places, more targets than four chips hold."""
    net, case = TOO_MUCH[what]
    assert compile_case(case, net) is None


def test_a_full_neuron_and_a_full_chip_fit() -> None:
    full = fan(66, np.arange(64), np.full(64, 65))
    case = Case("", 0, 66, {"weights": "uniform"})
    layout = compile_case(case, full)
    assert layout is not None
    assert found(case, full, layout) == []
    assert (layout.cam["dendrite"][65] >= 0).all()
    halves = fan(1024, np.arange(1023), np.arange(1, 1024), groups="halves")
    layout = compile_case(case, halves)
    assert layout is not None
    assert found(case, halves, layout) == []


# -- the interpreter --------------------------------------------------------------------------------------------------


@pytest.mark.long
@given(case=cases(most=200, chips=2))
@settings(max_examples=5)
def test_both_front_ends_read_the_same_bits(case: Case) -> None:
    layout = compile_case(case)
    if layout is None:
        return
    bits, again = read_arrays(layout), read_object(to_samna(layout), layout.input_map)
    assert bits.n_chips == again.n_chips
    for name in ("tag", "dendrite", "mask", "flags", "sram", "inputs"):
        assert np.array_equal(getattr(bits, name), getattr(again, name)), name
    assert all(np.array_equal(bits.currents[name], again.currents[name]) for name in bits.currents)


def test_an_object_like_samnas_is_read(fake_samna: ModuleType) -> None:
    layout = compile_case(Case("recurrent", 0, 40, {}))
    assert layout is not None
    written = read_object(to_samna(layout, fake_samna.Dynapse2Configuration()), layout.input_map)
    assert follow(written).connections() == follow(read_arrays(layout)).connections()


def test_events_go_where_they_should_by_hand() -> None:
    """(0, 1, 5) sends tag 7 to cores 2 and 3 of chip 1 and is monitored; (1, 2, 9) listens to it with three rows."""
    bits = read_arrays(compile(build("sparse", 0, 1), device=DYNAPSE2.stack(2)))
    for name in ("tag", "mask", "flags", "sram"):
        getattr(bits, name)[:] = 0
    bits.dendrite[:] = -1
    source, target, other = 256 + 5, 1024 + 512 + 9, 1024 + 256 + 9
    bits.sram[source] = [[7, 0b1100, 1, 0], [1500, 15, -7, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    for row, dendrite, mask in ((0, chip.AMPA, 0b0011), (5, chip.AMPA, 0b1000), (63, chip.GABA, 0)):
        bits.tag[target, row], bits.dendrite[target, row], bits.mask[target, row] = 7, dendrite, mask
    bits.tag[other, 0], bits.dendrite[other, 0] = 7, chip.AMPA  # on core 1: not addressed
    inputs = np.array([[0, 1, 0b0010, 7]])
    values = {"DEAM_ETAU_P": 1e-11, "DEAM_EGAIN_P": 4e-11, "DEGA_ITAU_P": 1e-11, "DEGA_IGAIN_P": 1e-11}
    values |= {"SYPD_EXT_N": 3.5e-8, "SOIF_GAIN_N": 5e-12, "SOIF_SPKTHR_P": 5e-9}
    values |= {f"SYAM_W{bit}_P": 1e-9 * 2**bit for bit in range(4)}
    currents = {name: np.full(8, values.get(name, 1e-12)) for name in bits.currents}
    wiring = follow(bits._replace(inputs=inputs, currents=currents))
    connections = wiring.connections()
    assert set(connections) == {(source, target), (INPUT, other)}
    rows = [(0, 3e-9, 4e-11, 1e-11), (0, 8e-9, 4e-11, 1e-11), (2, 0.0, 1e-11, 1e-11)]
    np.testing.assert_allclose(sorted(connections[source, target]), rows, rtol=1e-12)
    assert wiring.recorded == {(0, 1500): [source]}
    assert [(s, core) for s, core, _ in wiring.idle] == [(source, 7)]
    assert wiring.broken == []
    # tau = 24.5 pF·25 mV/(0.705·10 pA) = 86.879 ms, pulse 10 us: 1 - exp = 1.15095e-4; a jump of 4·11 nA·that = 5.0642 pA,
    # times tau·5 pA·0.705/(3 pF·25 mV) = 4.08333, over 5 nA.
    plus, minus = (float(part[source == wiring.effective()[0]][0]) for part in wiring.effective()[2:])
    assert plus == pytest.approx(5.0642e-12 * 4.08333 / 5e-9, rel=1e-4)
    assert minus == 0.0


def test_the_bias_generator_is_the_packages() -> None:
    assert tuple(chip.BIASES) == tuple(row.bias for row in PARAMETERS.values())
    for name, row in PARAMETERS.items():
        mine = [[chip.current(row.bias, coarse, fine) for fine in range(0, 256, 3)] for coarse in range(6)]
        np.testing.assert_allclose(biasgen.grid(name)[:, ::3], mine, rtol=1e-12)


# -- the test can fail ------------------------------------------------------------------------------------------------

CASE = Case("recurrent", 2, 1300, {"groups": "halves", "output": "first"}, 2)


@pytest.fixture(scope="module")
def good() -> tuple[Network, Layout]:
    net = CASE.network()
    layout = compile_case(CASE, net, **({"spare_rows": False} if "spare_rows" in OPTIONS else {}))
    assert layout is not None
    assert found(CASE, net, layout) == []
    return net, layout


@pytest.mark.long
@pytest.mark.parametrize("what", [*DAMAGE])
def test_every_damage_is_noticed(good: tuple[Network, Layout], what: str) -> None:
    net, layout = good
    for seed in range(3):
        damaged = DAMAGE[what](layout, np.random.default_rng(seed))
        assert damaged != layout
        assert found(CASE, net, damaged), f"{what}, seed {seed}"


@pytest.mark.long
def test_other_layouts_that_do_the_same_are_accepted(good: tuple[Network, Layout]) -> None:
    """Every row in parts, tags of their own on each chip, the slots of every core turned round, rows in another order."""
    net, layout = good
    rows, sent, entries = np.array(layout.cam), np.array(layout.sram), np.array(layout.input_rows)
    for n in range(len(rows)):
        used = np.flatnonzero(rows["dendrite"][n] >= 0)
        room = 64 - len(used)
        for r in used[:room]:
            free = np.flatnonzero(rows["dendrite"][n] < 0)[-1]
            mask = rows["mask"][n, r]
            rows[n, free] = rows[n, r]
            rows["mask"][n, r], rows["mask"][n, free] = mask & 5, mask & 10
    rows["tag"] ^= np.where(rows["dendrite"] >= 0, layout.chip[:, None] + 5, 0).astype("u2")
    there = layout.chip[:, None].astype(int) + sent["x_hop"]
    inside = (there >= 0) & (sent["cores"] > 0)
    sent["tag"] ^= np.where(inside, there + 5, 0).astype("u2")
    entries["tag"] ^= entries["chip"] + 5
    same = replace(layout, cam=rows[:, ::-1], sram=sent[:, ::-1], input_rows=entries[::-1], slot=255 - layout.slot)
    assert found(CASE, net, same) == []
    assert_decoding_agrees(net, same)


def test_sharing_a_tag_is_only_for_sources_that_are_alike() -> None:
    """Two sources with one tag and one target, but weights that differ: no synapse is missing or extra, yet it is wrong."""
    pre, post = np.array([0, 1]), np.array([2, 2])
    net = fan(3, pre, post)
    case = Case("", 0, 3, {"weights": "lognormal"})
    layout = compile_case(case, net)
    assert layout is not None
    rows, sent = np.array(layout.cam), np.array(layout.sram)
    (row, *others) = np.flatnonzero(rows["dendrite"][2] >= 0).tolist()
    rows[2, others] = (0, -1, 0, 0)
    for n in (0, 1):
        sent["tag"][n][(sent["cores"][n] > 0) & (sent["x_hop"][n] > -7)] = rows["tag"][2, row]
    wiring = follow(read_arrays(replace(layout, cam=rows, sram=sent)))
    want = asked(net, layout, places(net, layout))
    assert wrong_synapses(wiring, want) == []
    assert len(wrong_sharing(wiring, want)) == 1
    alike = replace(net, projections=(replace(net.projections[0], weight=np.full(2, 0.05)),))
    assert wrong_sharing(wiring, asked(alike, layout, places(net, layout))) == []


@pytest.mark.parametrize("family", [*FAMILIES])
def test_the_generators_make_what_they_promise(family: str) -> None:
    for n in (1, 2, 50, 700):
        net = build(family, n, n)
        assert 1 <= net.n_neurons <= 1.3 * n + 6
        assert net.digest() == build(family, n, n).digest()
        rows = np.bincount(np.concatenate([post for _, _, post in net.synapses()]), minlength=net.n_neurons)
        assert rows.max() <= 64
