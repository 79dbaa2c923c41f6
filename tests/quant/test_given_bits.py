"""Params that are quantised already: `compile` writes their rows as they are, `Rewriter` changes them in place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chip_profiles import changed, measured
from given_bits import (
    CASES,
    assert_runs_alike,
    assert_same,
    base_of,
    case,
    codes_of,
    crowded,
    hand_made,
    nearest,
    rows_of,
    twins,
)
from nir_dynapse.chip.device import CURRENTS, DYNAPSE2, PARAMETERS
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import CapacityError, ParameterRangeError
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.rewriting import Rewriter
from nir_dynapse.quant.compiler import compile
from nir_dynapse.reporting.report import report
from random_networks import build
from shortened import shortened

cases = pytest.mark.parametrize("name", shortened(CASES, 3))


@cases
def test_nothing_is_lost(name):
    net, params = case(name)
    layout = compile(net, params=params)
    assert_same(layout_to_params(layout), params)
    assert_runs_alike(net, layout, params)
    assert compile(net, params=params) == layout
    again = compile(net, params=layout_to_params(layout))
    assert (codes_of(again) == codes_of(layout)).all()
    assert not [f for f in layout.findings if f.code.startswith(("bias-", "weight-"))]


def test_rows_keep_their_order():
    net, params = hand_made(5)
    t = params.topology
    layout = compile(net, params=params)
    assert (layout.cam["mask"][t.post, t.row] == t.mask).all()
    assert (layout.cam["dendrite"][t.post, t.row] == t.dendrite).all()
    assert ((layout.cam["dendrite"] >= 0).sum(1) == np.bincount(t.post, minlength=t.n_neurons)).all()
    order = np.random.default_rng(0).permutation(t.n_synapses)
    parts = {name: getattr(t, name)[order] for name in ("pre", "post", "dendrite", "row", "mask", "delay")}
    mixed = compile(net, params=replace(params, topology=replace(t, **parts)))
    for field in ("dendrite", "mask", "flags"):
        assert (mixed.cam[field] == layout.cam[field]).all()


@pytest.mark.parametrize("options", [{"spare_rows": False}, {"second_range": True}, {"monitor": "all", "seed": 3}])
def test_options_leave_the_bits_alone(options):
    net, params = hand_made(6)
    assert_same(layout_to_params(compile(net, params=params, **options)), params)


def test_errors_and_report():
    net, params = hand_made(0)
    layout = compile(net, params=params)
    cores = layout.weight_errors["cores"]
    assert all(core["nrmse"] == 0 and core["lost"] == 0 for core in cores.values())
    assert sum(core["rows"] for core in cores.values()) == params.topology.n_synapses
    assert "Rounding of the weights" in str(report(layout))
    assert compile(net, params=params, strict=True) == layout


def test_a_large_group_takes_several_cores():
    net = build("sparse", 7, 600, output="last")
    params = layout_to_params(compile(net))
    device = DYNAPSE2.stack(2)
    layout = compile(net, params=params, device=device)
    assert_same(layout_to_params(layout, device), params)
    one = replace(
        params,
        bias={name: value[:1] for name, value in params.bias.items()},
        base=params.base[:1],
        topology=replace(params.topology, group=np.zeros(600, int)),
    )
    layout = compile(net, params=one)
    assert layout.used_cores.sum() == 3
    assert len(np.unique(layout.codes[layout.used_cores], axis=0)) == 1
    assert_same(layout_to_params(layout), one)


def test_equal_groups_share_cores_only_where_they_must():
    net, params = hand_made(8, groups=1)
    t = params.topology

    def split(groups: int) -> Params:
        bias = {name: np.repeat(value, groups) for name, value in params.bias.items()}
        group = np.arange(t.n_neurons) % groups
        return replace(params, bias=bias, base=np.repeat(params.base, groups, 0), topology=replace(t, group=group))

    assert compile(net, params=split(3)).used_cores.sum() == 3
    assert compile(net, params=split(7)).used_cores.sum() == 1
    other = split(7)
    base = other.base.copy()
    base[:, 1] = nearest("i_w1", np.linspace(1e-8, 2e-8, 7))
    with pytest.raises(CapacityError, match="7 different sets of bias and base currents take 7 cores") as caught:
        compile(net, params=replace(other, base=base))
    assert "stack(2)" in str(caught.value)
    assert "weights in place of masks" in str(caught.value)
    stack = DYNAPSE2.stack(2)
    layout = compile(net, params=replace(other, base=base), device=stack)
    assert_same(layout_to_params(layout, stack), replace(other, base=base))


def test_bias_groups_without_neurons_are_left_out():
    net, params = hand_made(1, groups=2)
    bias = {name: np.r_[value[0], value] for name, value in params.bias.items()}
    moved = replace(params.topology, group=params.topology.group + 1)
    more = replace(params, bias=bias, base=np.r_[params.base[:1], params.base], topology=moved)
    assert_same(layout_to_params(compile(net, params=more)), params)


def test_off_the_grid_the_nearest_codes():
    net, params = hand_made(1)
    bias, base = dict(params.bias), params.base.copy()
    bias["i_tau_mem"] = bias["i_tau_mem"] * (1 + 1e-4)
    base[1, 2] *= 1 + 2e-4
    layout = compile(net, params=replace(params, bias=bias, base=base))
    assert_same(layout_to_params(layout), params)
    (finding,) = [f for f in layout.findings if f.code == "bias-rounding"]
    assert "membrane leak" in finding.what
    assert "mask bit 2" in finding.what
    nearly = {name: value * (1 + 1e-7) for name, value in params.bias.items()}
    assert not [f for f in compile(net, params=replace(params, bias=nearly)).findings if f.code == "bias-rounding"]
    base[1, 2] = 1.0
    layout = compile(net, params=replace(params, base=base))
    (finding,) = [f for f in layout.findings if f.code == "bias-saturation"]
    assert "base current" in finding.hint
    assert max(core["nrmse"] for core in layout.weight_errors["cores"].values()) > 0.5


@pytest.mark.parametrize("wrong", ["mask", "base", "nan", "none", "shape"])
def test_impossible_bits(wrong):
    net, params = hand_made(1)
    t = params.topology
    if wrong == "mask":
        params = replace(params, topology=replace(t, mask=np.asarray(t.mask) + 1))
    else:
        bad = {"base": -params.base, "nan": params.base * np.nan, "none": None, "shape": params.base[:, :3]}
        params = replace(params, base=bad[wrong])
    with pytest.raises(ParameterRangeError, match="masks of shape" if wrong == "mask" else "base currents are"):
        compile(net, params=params)


def test_too_many_rows():
    net, params = crowded(70)
    with pytest.raises(CapacityError, match="stores 64"):
        compile(net, params=params)
    pruned = compile(net, params=params, fan_in="prune")
    kept = rows_of(layout_to_params(pruned))
    assert kept.total() == 64 + 3
    assert not kept - rows_of(params)
    lost = rows_of(params) - kept
    assert max(current for *_, current in lost) <= min(current for _, neuron, *_, current in kept if neuron == 0)
    assert any(f.code == "fan-in" for f in pruned.findings)


def test_bad_rows():
    net, params = hand_made(2, fan_in=16)
    profile = changed(
        rows=[(core, slot, row) for core in range(4) for slot in range(256) for row in (0, 2, 5)],
        neurons=[(0, 0), (1, 3)],
        pairs=[(core, slot, 7, 1024 + slot % 8) for core in range(4) for slot in range(50)],
    )
    device = DYNAPSE2.with_profiles(profile)
    layout = compile(net, params=params, device=device)
    assert_same(layout_to_params(layout, device), params)
    assert not (layout.cam["dendrite"][:, [0, 2, 5]] >= 0).any()
    t = params.topology
    # Parallel rows are in order: the bits written again stay where they are.
    assert (Rewriter(layout, t, device).layout(params).cam == layout.cam).all()
    worse = DYNAPSE2.with_profiles(changed(rows=[(c, s, r) for c in range(4) for s in range(256) for r in range(54)]))
    with pytest.raises(CapacityError):
        compile(net, params=params, device=worse)
    left = rows_of(layout_to_params(compile(net, params=params, device=worse, fan_in="prune"), worse))
    assert not left - rows_of(params)
    assert left.total() < t.n_synapses


def test_measured_scales():
    net, params = hand_made(3)
    device = DYNAPSE2.with_profiles(measured(3, 0.8, 1.25))
    layout = compile(net, params=params, device=device)
    got = layout_to_params(layout, device)
    for name in CURRENTS:
        want = params.per_neuron(name)
        matters = want != PARAMETERS[name].off
        assert got.per_neuron(name)[matters] == pytest.approx(want[matters], rel=0.02), name
    assert base_of(got) == pytest.approx(base_of(params), rel=0.02)
    assert got.row_currents().sum() == pytest.approx(params.row_currents().sum(), rel=0.02)
    assert 0 < max(core["nrmse"] for core in layout.weight_errors["cores"].values()) < 0.05
    assert_same(layout_to_params(compile(net, params=got, device=device), device), got)
    assert any(f.code == "bias-scales" for f in layout.findings)


def test_sources_share_rows_only_with_equal_masks():
    base = nearest("i_w0", np.full((1, 4), 2e-8))
    for masks, tags in (((5, 5), 1), ((1, 2), 2), ((3, 0), 2)):
        net, params = twins(masks, base)
        layout = compile(net, params=params, share_tags=True)
        assert len(np.unique(layout.input_rows["tag"])) == tags
        assert_same(layout_to_params(layout), params)


def test_perfect_profile_changes_nothing():
    net, params = hand_made(2)
    device = DYNAPSE2.with_profiles(ChipProfile.perfect())
    assert_same(layout_to_params(compile(net, params=params, device=device), device), params)
