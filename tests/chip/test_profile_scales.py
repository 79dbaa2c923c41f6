"""Measured currents in a chip profile: files, what the decoder makes of them, and codes that make up for them."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chip_profiles import changed, measured, spread_out
from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, DEAD_THRESHOLD, DYNAPSE2, PARAMETERS, Mismatch
from nir_dynapse.chip.profile import ChipProfile, load_profiles
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.layout.decoding import layout_to_params, to_network
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.quant.compiler import compile
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.simulation import simulate
from nir_dynapse.sim.virtual.board import VirtualBoard
from random_networks import build
from shortened import shortened
from small_networks import recurrent


def everything() -> ChipProfile:
    provenance = {"board": "green", "probes": 3, "errors": {"i_dc": 0.01}, "when": None, "sure": [True, 0.5]}
    return replace(measured(), factors=spread_out(1, names=["i_tau_mem", "i_w2"]), measured=provenance)


# --- the type and its files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["p.json", "p.json.gz"])
def test_files_are_the_identity(tmp_path, name):
    p = everything()
    p.save(tmp_path / name)
    q = ChipProfile.load(tmp_path / name)
    assert q == p
    assert q.measured == p.measured
    for key in ("scales", "factors"):
        ours, theirs = getattr(p, key), getattr(q, key)
        assert list(ours) == list(theirs) == sorted(ours)
        assert all((ours[k] == theirs[k]).all() for k in ours)
    q.save(tmp_path / f"again_{name}")
    assert (tmp_path / f"again_{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_files_name_only_what_was_measured(tmp_path):
    path = tmp_path / "p.json"
    ChipProfile.perfect().save(path)
    bare = json.loads(path.read_text())
    assert not {"scales", "factors", "measured"} & set(bare)
    assert ChipProfile.load(path).scales == ChipProfile.load(path).factors == ChipProfile.load(path).measured == {}
    size = path.stat().st_size
    replace(ChipProfile.perfect(), factors=spread_out()).save(path)
    assert path.stat().st_size < size + len(PARAMETERS) * 1024 * 10
    both = {"chips": [{"cams": bare["cams"], "scales": {"i_ref": [0.5, 1, 1, 2]}}, None]}
    path.write_text(json.dumps(both))
    first, second = load_profiles(path)
    assert first == ChipProfile(scales={"i_ref": np.array([0.5, 1, 1, 2])})
    assert second == ChipProfile.perfect()


def test_identity_counts_scales_and_factors_but_not_their_story():
    one, ones = {"i_ref": np.ones(4)}, {"i_ref": np.ones((4, 256))}
    other = ones["i_ref"].copy()
    other[3, 255] = 1.00001
    profiles = [
        ChipProfile.perfect(),
        ChipProfile(scales=one),
        ChipProfile(scales={"i_dc": np.ones(4)}),
        ChipProfile(scales={"i_ref": np.array([1, 1, 1, 1.00001])}),
        ChipProfile(scales={**one, "i_dc": np.ones(4)}),
        ChipProfile(factors=ones),
        ChipProfile(factors={"i_ref": other}),
        ChipProfile(scales=one, factors=ones),
    ]
    assert len({p.digest for p in profiles}) == len(profiles)
    assert ChipProfile(measured={"board": "red"}) == ChipProfile.perfect()
    assert ChipProfile(scales={"i_dc": np.ones(4), **one}) == ChipProfile(scales={**one, "i_dc": np.ones(4)})
    assert ChipProfile(scales={"i_ref": np.full(4, 0.123456789)}) == ChipProfile(scales={"i_ref": np.full(4, 0.123457)})
    assert ChipProfile(scales={"i_ref": np.full(4, 0.7, np.float32)}).scales["i_ref"].tolist() == [0.7] * 4
    assert all(p.flawless for p in profiles)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_are_equal_and_read_only(again):
    p = everything()
    q = again(p)
    assert q == p
    assert q.measured == p.measured
    for x in (*q.scales.values(), *q.factors.values()):
        assert not x.flags.writeable


def test_what_was_passed_is_copied():
    scale, story = np.ones(4), {"errors": [1]}
    p = ChipProfile(scales={"i_ref": scale}, measured=story)
    scale[0] = 2
    story["errors"].append(2)
    assert p.scales["i_ref"][0] == 1
    assert p.measured == {"errors": [1]}


def test_description():
    assert "scales" not in ChipProfile.perfect().describe()
    text = everything().describe()
    low, high = (f(min(x.min(), 1) if f is min else x.max() for x in everything().scales.values()) for f in (min, max))
    assert f"bias scales of {len(PARAMETERS)} parameters, {low:.3g} to {high:.3g}; factors of 2 parameters, " in text
    assert "bias scales of 1 parameter, 0.5 to 2" in ChipProfile(scales={"i_ref": np.array([0.5, 1, 1, 2])}).describe()


deep: list[Any] = []
for _ in range(20):
    deep = [deep]
WRONG = [
    ({"scales": [1, 1, 1, 1]}, "scales is a list, needed is a dictionary of up to 64 parameters"),
    ({"scales": {f"i_{k}": [1] * 4 for k in range(65)}}, "scales is of 65 names"),
    ({"scales": {"": [1] * 4}}, "scales names '', needed are names of parameters"),
    ({"scales": {"i w": [1] * 4}}, "scales names 'i w'"),
    ({"scales": {"i_ref": [1] * 3}}, "scales['i_ref'] is of shape (3,), needed are numbers of shape (4,)"),
    ({"scales": {"i_ref": [[1], [1, 2], 1, 1]}}, "scales['i_ref'] is no array of numbers"),
    ({"scales": {"i_ref": ["1"] * 4}}, "scales['i_ref'] is no array of numbers"),
    ({"scales": {"i_ref": [True] * 4}}, "scales['i_ref'] is no array of numbers"),
    ({"scales": {"i_ref": None}}, "scales['i_ref'] is no array of numbers"),
    ({"scales": {"i_ref": [1, 10**400, 1, 1]}}, "scales['i_ref'] is no array of numbers"),
    ({"scales": {"i_ref": [1, 1, 0, 1]}}, "scales['i_ref'][2] is 0, allowed are 0.001 to 1000"),
    ({"scales": {"i_ref": [1, 1, 1, -1]}}, "scales['i_ref'][3] is -1"),
    ({"scales": {"i_ref": [1, 1, 1, 1001]}}, "scales['i_ref'][3] is 1001"),
    ({"scales": {"i_ref": [float("nan")] * 4}}, "scales['i_ref'][0] is nan"),
    ({"scales": {"i_ref": [1, float("inf"), 1, 1]}}, "scales['i_ref'][1] is inf"),
    ({"factors": {"i_ref": [1] * 4}}, "factors['i_ref'] is of shape (4,), needed are numbers of shape (4, 256)"),
    ({"factors": {"i_ref": [[1] * 255 + [2000]] * 4}}, "factors['i_ref'][0, 255] is 2000"),
    ({"measured": 3}, "measured is 3, needed is a dictionary"),
    ({"measured": {"a": float("nan")}}, "measured holds nan, which no JSON file holds"),
    ({"measured": {"a": [10**30]}}, "measured holds 1000"),
    ({"measured": {"a": deep}}, "16 levels at most"),
    ({"measured": {"a": "x" * (1 << 20)}}, "characters as JSON, allowed are 1048576"),
]


@pytest.mark.parametrize(("arguments", "text"), shortened(WRONG, 7))
def test_wrong_values(tmp_path, arguments, text):
    with pytest.raises(ConfigurationError) as error:
        ChipProfile("mine", **arguments)
    assert str(error.value).startswith("ChipProfile mine: ")
    assert text in str(error.value)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"cams": np.zeros((4, 256, 64, 2), int).tolist(), **arguments}))
    with pytest.raises(ConfigurationError) as error:
        ChipProfile.load(path)
    assert str(error.value).startswith(f"{path}: ChipProfile mine: ")
    assert text in str(error.value)


@pytest.mark.parametrize("arguments", [{"scales": {3: np.ones(4)}}, {"measured": {1: 2}}, {"measured": {"a": {1}}}])
def test_values_that_no_file_has(arguments):
    with pytest.raises(ConfigurationError, match=r"names 3|holds \{1"):
        ChipProfile(**arguments)


# --- the device ------------------------------------------------------------------------------------------------------


def test_device_knows_the_currents_of_every_core_and_neuron():
    assert not DYNAPSE2.has_scales
    a, b = everything(), ChipProfile(scales={"i_ref": np.array([0.5, 1, 1, 2])})
    device = DYNAPSE2.stack(4).with_profiles(a, None, b)
    assert device.has_scales
    assert not DYNAPSE2.with_profiles(ChipProfile(factors=a.factors)).has_scales
    one = np.ones(4)
    assert device.scale("i_ref").tolist() == np.r_[a.scales["i_ref"], one, b.scales["i_ref"], one].tolist()
    assert device.scale("i_w2").tolist() == np.r_[a.scales["i_w2"], one, one, one].tolist()
    place = np.array([[0, 3, 255], [1, 3, 255], [2, 0, 0], [7, 0, 0], [0, 0, 1]])
    known = a.factors["i_w2"]
    assert device.factors("i_w2", place).tolist() == [known[3, 255], 1, 1, 1, known[0, 1]]
    assert device.factors("i_dc", place).tolist() == [1] * 5
    for ask in (lambda: DYNAPSE2.scale("i_w4"), lambda: device.factors("i_w4", place)):
        with pytest.raises(ParameterRangeError, match="unknown parameter 'i_w4'"):
            ask()


@pytest.mark.parametrize("key", ["scales", "factors"])
def test_device_refuses_unknown_parameters(key):
    shape = (4,) if key == "scales" else (4, 256)
    ratios: Any = {name: np.ones(shape) for name in ("i_w4", "i_w3", "I_REF")}
    p = replace(ChipProfile("mine"), **{key: ratios})
    with pytest.raises(ConfigurationError) as error:
        DYNAPSE2.stack(2).with_profiles(None, p)
    assert "chip 1: profile 'mine' has scales or factors of I_REF, i_w4, known parameters are i_tau_mem" in str(
        error.value
    )


# --- decoding --------------------------------------------------------------------------------------------------------


def two_chips(seed: int = 0) -> tuple[Network, Layout]:
    """Two bias groups, so two cores at least, and the Layout for nominal chips."""
    net = build("sparse", seed, 120, groups="halves", leak="equal")
    return net, compile(net, device=DYNAPSE2.stack(2), seed=seed)


def test_currents_are_those_of_the_codes_times_the_scale_of_their_core():
    _, layout = two_chips()
    device = DYNAPSE2.stack(2).with_profiles(measured(1), measured(2))
    nominal, real = layout_to_params(layout), layout_to_params(layout, device)
    used = np.flatnonzero(layout.used_cores)
    assert len(used) >= 2
    for name in CURRENTS:
        expected = np.asarray(nominal.bias[name]) * device.scale(name)[used]
        assert np.asarray(real.bias[name]).tolist() == expected.tolist()
    scales = np.stack([device.scale(name)[used] for name in BASE_WEIGHTS], 1)
    assert (np.asarray(real.base) == np.asarray(nominal.base) * scales).all()
    assert real.topology == nominal.topology
    # The same as a chip of which each current was changed by hand.
    t = nominal.topology
    tau = {p.name: p.tau_mem for p in to_network(layout, device).populations}
    expected = nominal.circuit.tau(
        "i_tau_mem", nominal.per_neuron("i_tau_mem") * device.scale("i_tau_mem")[used][t.group]
    )
    got = np.concatenate([tau[name] for name, _ in t.populations])
    assert np.allclose(got, -t.dt / np.expm1(-t.dt / expected))


def test_a_layout_may_have_more_chips_than_the_device():
    _, layout = two_chips()
    device = DYNAPSE2.with_profiles(measured(1))
    nominal, real = layout_to_params(layout), layout_to_params(layout, device)
    scale = np.r_[device.scale("i_ref"), np.ones(4)][layout.used_cores]
    assert np.asarray(real.bias["i_ref"]).tolist() == (np.asarray(nominal.bias["i_ref"]) * scale).tolist()


def small(seed: int = 0) -> Network:
    return recurrent(seed, 8, 20, 5, fan_in=6)


def counts(net: Network, seed: int = 0, batch: int = 4, steps: int = 120) -> np.ndarray:
    shape = batch, steps, sum(port.size for port in net.inputs)
    return (np.random.default_rng(seed).random(shape) < 0.15).astype(float)


def test_what_is_bad_has_no_effect():
    net = small()
    layout = compile(net)
    whole = layout_to_params(layout)
    t = whole.topology
    tag = layout.cam["tag"][t.post, t.row]
    at = np.stack([layout.core[t.post], layout.slot[t.post], t.row, tag], 1).astype(int)
    often = int(tag[np.argmax(np.bincount(tag)[tag])])
    row, pair = at[3], at[50]
    chip = changed(
        rows=[(*row[:3], int(row[3]) >> 10)], tags=[(int(layout.core[0]), often)], pairs=[tuple(pair.tolist())]
    )
    device = DYNAPSE2.with_profiles(chip)
    deaf = (at == row).all(1) | (at == pair).all(1) | (tag == often)
    real = layout_to_params(layout, device)
    assert 3 < deaf.sum() < len(deaf) / 2
    for name in ("pre", "post", "dendrite", "row", "mask"):
        assert getattr(real.topology, name).tolist() == getattr(t, name)[~deaf].tolist()
    (told,) = (f for f in real.findings if f.code == "bad-rows")
    assert (told.severity, told.used) == ("warning", int(deaf.sum()))
    n, r = int(t.post[deaf][0]), int(t.row[deaf][0])
    place = (
        f"chip 0, core {layout.core[n]}, neuron {layout.slot[n]}, CAM row {r}, tag {tag[deaf][0]} (profile 'changed')"
    )
    assert place in told.what
    assert told.node == layout.names[n][0]

    x = counts(net)
    by_hand = replace(whole, topology=real.topology)
    ours, theirs = simulate(layout, x, device=device), simulate(by_hand, x)
    for node in ours.spikes:
        assert (ours.spikes[node] == theirs.spikes[node]).all()
    assert (ours.spikes["hidden"] != simulate(layout, x).spikes["hidden"]).any()
    board = VirtualBoard(0, device, Mismatch.none())
    board.apply(layout)
    assert (board.run_batch(x, net.dt).spikes["output"] == ours.spikes["output"]).all()
    nodes = {q.nodes[0]: len(q.pre) for q in to_network(layout, device).projections}
    assert sum(nodes.values()) == len(np.unique(np.stack([t.pre, t.post])[:, ~deaf], axis=1).T)


def test_bad_neurons_never_spike():
    net = small()
    layout = compile(net)
    dead = [0, 1, 7]
    chip = changed(neurons=[(int(layout.core[n]), int(layout.slot[n])) for n in dead])
    device = DYNAPSE2.with_profiles(replace(chip, scales=measured(3).scales))
    whole, real = layout_to_params(layout, DYNAPSE2.with_profiles(measured(3))), layout_to_params(layout, device)
    threshold = whole.per_neuron("i_spkthr").copy()
    threshold[dead] = DEAD_THRESHOLD
    assert real.per_neuron("i_spkthr").tolist() == threshold.tolist()
    for name in CURRENTS:
        assert name == "i_spkthr" or real.per_neuron(name).tolist() == whole.per_neuron(name).tolist()
    assert real.row_currents().tolist() == whole.row_currents().tolist()
    (told,) = (f for f in real.findings if f.code == "bad-rows")
    assert told.what.startswith("3 neurons do not work and never spike, the first on chip 0, ")

    x = counts(net)
    spikes = simulate(layout, x, device=device).spikes["hidden"]
    assert spikes[..., dead].sum() == 0
    assert spikes.sum() > 100
    assert simulate(fabricate(real, Mismatch(), 3), x).spikes["hidden"][..., dead].sum() == 0
    all_dead = ChipProfile("dead", np.zeros((4, 256), bool))
    assert sum(s.sum() for s in simulate(layout, x, device=DYNAPSE2.with_profiles(all_dead)).spikes.values()) == 0


@pytest.mark.parametrize("board", ["green", "pink"])
def test_layouts_for_a_chip_use_nothing_bad(board):
    device = DYNAPSE2.with_profiles(ChipProfile.synthetic(2, board, restrict_tags=True))
    layout = compile(small(1), device=device)
    real, nominal = layout_to_params(layout, device), layout_to_params(layout)
    assert real.topology == nominal.topology
    assert real.findings == nominal.findings
    assert all((np.asarray(real.bias[name]) == np.asarray(nominal.bias[name])).all() for name in CURRENTS)
