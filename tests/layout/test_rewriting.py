"""`Rewriter`: other bits in the rows of a Layout, and nothing else changes."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from chip_profiles import measured
from given_bits import (
    CASES,
    assert_runs_alike,
    assert_same,
    case,
    codes_of,
    hand_made,
    nearest,
    trained,
    twins,
)
from nir_dynapse.chip.device import AMPA, DYNAPSE2, GABA
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rewriting import Rewriter
from nir_dynapse.quant.compiler import compile
from nir_dynapse.reporting.report import report
from random_networks import build

cases = pytest.mark.parametrize("name", CASES)
SAME_FIELDS = ("chip", "core", "slot", "latches", "sram", "used_cores", "input_rows", "membranes")


@cases
def test_rewriting(name):
    net, params = case(name)
    layout = compile(net, params=params, share_tags=False)
    rewriter = Rewriter(layout, params.topology)
    same = rewriter.layout(params)
    assert (same.cam == layout.cam).all()
    assert (same.codes == layout.codes).all()
    for seed in (1, 2):
        other = trained(params, seed)
        written = rewriter.layout(other)
        for field in SAME_FIELDS:
            assert (getattr(written, field) == getattr(layout, field)).all(), field
        for field in ("tag", "flags"):
            assert (written.cam[field] == layout.cam[field]).all()
        assert ((written.cam["dendrite"] < 0) == (layout.cam["dendrite"] < 0)).all()
        assert written.weight_errors == {}
        assert written.findings == layout.findings
        assert_same(layout_to_params(written), other)
    assert_runs_alike(net, written, compile(net, params=other))
    assert Layout.from_dict(written.to_dict()) == written
    assert "1 core" in str(report(written)) or "cores" in str(report(written))


def test_rewriting_takes_synapses_in_any_order():
    net, params = hand_made(3)
    layout = compile(net, params=params)
    decoded = layout_to_params(layout)
    rewriter = Rewriter(layout, params.topology)
    assert (rewriter.layout(decoded).cam == layout.cam).all()
    assert (Rewriter(layout, decoded.topology).layout(params).codes == layout.codes).all()
    t = params.topology
    # Rows are numbered by whoever made them: only their order counts.
    other = trained(replace(params, topology=replace(t, row=10 * t.row + 3)), 4)
    written = rewriter.layout(other)
    assert (written.cam["mask"][t.post, t.row] == other.topology.mask).all()


def test_rewriting_with_measured_scales():
    net, params = hand_made(4, groups=2)
    device = DYNAPSE2.stack(2).with_profiles(None, measured(5, 0.8, 1.25))
    far = DYNAPSE2.with_profiles(measured(5, 0.8, 1.25))
    for chips in (device, far):
        layout = compile(net, params=params, device=chips)
        other = trained(params, 1)
        written = Rewriter(layout, params.topology, chips).layout(other)
        anew = compile(net, params=other, device=chips)
        assert (codes_of(written) == codes_of(anew)).all()
        assert (written.cam["mask"] == anew.cam["mask"]).all()


def test_rewriting_says_what_is_off():
    net, params = hand_made(1)
    rewriter = Rewriter(compile(net, params=params), params.topology)
    bias = {**params.bias, "i_tau_mem": params.bias["i_tau_mem"] * (1 + 1e-4)}
    (finding,) = rewriter.layout(replace(params, bias=bias)).findings
    assert finding.severity == "info"
    assert "1 parameters are off" in finding.what
    (finding,) = rewriter.layout(replace(params, base=params.base + 1.0)).findings
    assert (finding.severity, finding.code) == ("warning", "bias-saturation")


def test_rewriting_does_not_go_synapse_by_synapse():
    """In the loop with a board it comes before every run: as many calls for four times as many neurons."""

    def calls(neurons: int) -> tuple[int, int]:
        net = build("recurrent", 1, neurons, output="all")
        params = layout_to_params(compile(net))
        rewriter = Rewriter(compile(net, params=params), params.topology)
        counted = []
        sys.setprofile(lambda frame, event, what: counted.append(event))
        try:
            rewriter.layout(params)
        finally:
            sys.setprofile(None)
        return len(counted), params.topology.n_synapses

    (few, synapses), (many, more) = calls(50), calls(200)
    assert more > 4 * synapses
    assert many < 1.2 * few


def test_what_rewriting_refuses():
    net, params = hand_made(1)
    layout, t = compile(net, params=params), params.topology
    rewriter = Rewriter(layout, t)

    def refused(match: str, **changes) -> None:
        for attempt in (rewriter.layout, lambda p: Rewriter(layout, p.topology).layout(p)):
            with pytest.raises(ConfigurationError, match=match):
                attempt(replace(params, **changes))

    pre = t.pre.copy()
    pre[3] = t.tonic
    refused("synapses do not fit .* 1 rows have no synapse and 1 synapses no row", topology=replace(t, pre=pre))
    fewer = {name: getattr(t, name)[1:] for name in ("pre", "post", "dendrite", "row", "mask", "delay")}
    refused("1 rows have no synapse and 0 synapses no row", topology=replace(t, **fewer))
    refused("delay flags", topology=replace(t, delay=(np.asarray(t.delay) + 1) % 4))
    refused("latches", topology=replace(t, latches=t.latches ^ 1))
    refused("period of the tonic", topology=replace(t, tonic_period=1.0))
    names = tuple((f"x{name}", size) for name, size in t.populations)
    refused("the neurons are", topology=replace(t, populations=names))
    refused("a core has one of each", topology=replace(t, group=1 - t.group[::-1] ** 2 * (np.arange(len(t.group)) > 2)))
    refused("weights, needed are masks", weight=params.row_currents(), topology=replace(t, mask=None))
    with pytest.raises(ParameterRangeError):
        rewriter.layout(replace(params, base=-params.base))


def test_sources_that_share_rows_are_rewritten_alike():
    net, params = twins((5, 5), nearest("i_w0", np.full((1, 4), 2e-8)))
    rewriter = Rewriter(compile(net, params=params, share_tags=True), params.topology)
    alike = replace(params, topology=replace(params.topology, mask=np.array([3, 3, 6, 6])))
    assert_same(layout_to_params(rewriter.layout(alike)), alike)
    for changes in ({"mask": np.array([3, 4, 6, 6])}, {"dendrite": np.array([AMPA, GABA, AMPA, AMPA])}):
        with pytest.raises(ConfigurationError, match="several sources share this row"):
            rewriter.layout(replace(params, topology=replace(params.topology, **changes)))
