"""Compiling for chips whose currents were measured, and circuits with the measured factors of their neurons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chip_profiles import measured, spread_out
from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import BASE_WEIGHTS, COLUMN, CURRENTS, DYNAPSE2, PARAMETERS, WEIGHT_GAINS, Device, Mismatch
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.circuit.closed_form import event_charge, to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.data import Data
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.evaluation.evaluate import evaluate
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.quant.compiler import compile
from nir_dynapse.reporting.report import report
from nir_dynapse.sim.mismatch import as_measured, fabricate
from nir_dynapse.sim.simulation import simulate
from random_networks import build
from shortened import shortened
from small_networks import feed_forward, population, recurrent


def small(seed: int = 0) -> Network:
    return recurrent(seed, 8, 20, 5, fan_in=6)


def counts(net: Network, seed: int = 0, batch: int = 4, steps: int = 120) -> np.ndarray:
    shape = batch, steps, sum(port.size for port in net.inputs)
    return (np.random.default_rng(seed).random(shape) < 0.15).astype(float)


# --- compiling -------------------------------------------------------------------------------------------------------


def charges(params: Params) -> np.ndarray:
    """Charge per event of each connection (sources, neurons), parallel rows together; inhibition is negative."""
    t = params.topology
    result = np.zeros((t.n_sources, t.n_neurons))
    sign = np.array([1, 1, -1, -1])[t.dendrite]
    np.add.at(result, (t.pre, t.post), sign * params.row_currents() * event_charge(params))
    return result


def error_of(net: Network, layout: Layout, device: Device) -> dict[str, float]:
    """RMS error over RMS weight of every core, from the decoded bits."""
    asked, got = charges(to_params(net)), charges(layout_to_params(layout, device))
    result = {}
    for core in np.unique(layout.core_index):
        here = layout.core_index == core
        off, power = np.sum((got - asked)[:, here] ** 2), np.sum(asked[:, here] ** 2)
        result[f"{core // 4}.{core % 4}"] = float(np.sqrt(off / power)) if power else 0.0
    return result


def nearest(name: str, amperes: float, scale: float) -> float:
    """The current nearest to `amperes` by relative error that any code gives on a core with this scale."""
    table = biasgen.grid(name).ravel() * scale
    return float(table[np.argmin(np.abs(np.log(table / max(amperes, 1e-18))))])


CASES = [
    ("layered", 0, {}, {}),
    ("sparse", 1, {"groups": "halves", "leak": "equal"}, {}),
    ("recurrent", 2, {"groups": "interleaved", "leak": "random"}, {"second_range": True}),
    ("blocks", 3, {}, {"spare_rows": False}),
]


@pytest.mark.parametrize(("family", "seed", "kind", "options"), shortened(CASES))
def test_codes_give_the_wanted_currents_on_the_measured_chips(family, seed, kind, options):
    net = build(family, seed, 130, **kind)
    device = DYNAPSE2.stack(2).with_profiles(measured(seed), measured(seed + 10))
    layout = compile(net, device=device, fan_in="prune", **options)
    perfect = DYNAPSE2.stack(2).with_profiles(ChipProfile.perfect(), ChipProfile.perfect())
    plain = compile(net, device=perfect, fan_in="prune", **options)
    asked, real = to_params(net), layout_to_params(layout, device)
    used = np.flatnonzero(layout.used_cores)
    for name in CURRENTS:
        if name in (*WEIGHT_GAINS, "i_dc") or (options and name == "i_tau_nmda"):
            continue
        for n in range(0, layout.n_neurons, 7):
            scale = device.scale(name)[layout.core_index[n]]
            wanted = asked.per_neuron(name)[n]
            got = real.per_neuron(name)[n]
            assert got == pytest.approx(nearest(name, wanted, scale), rel=1e-9)
            if wanted > 1e-11:  # below that the codes themselves are far apart
                assert got == pytest.approx(wanted, rel=0.02)
    steady = [p.per_neuron("i_dc") / p.per_neuron("i_tau_mem") * p.per_neuron("i_gain_mem") for p in (asked, real)]
    driven = np.asarray(asked.bias["i_dc"])[asked.topology.group] > 0
    assert driven.any() == (kind.get("leak") == "equal")
    assert (steady[1] / real.per_neuron("i_spkthr"))[driven] == pytest.approx(
        (steady[0] / asked.per_neuron("i_spkthr"))[driven], rel=0.03
    )
    # What the report says of the weights is what the bits do on the measured chips, and as good as on nominal ones.
    truth = error_of(net, layout, device)
    for core, said in layout.weight_errors["cores"].items():
        assert truth[core] == pytest.approx(said["nrmse"], rel=2e-3, abs=1e-6)
    assert max(truth.values()) < 1.3 * max(error_of(net, plain, DYNAPSE2).values()) + 0.01
    wrong = error_of(net, plain, device)
    assert min(wrong.values()) > 3 * max(truth.values())
    assert len(used) == len(truth)
    # Only codes and rows follow from the scales; places and tags do not.
    assert all((getattr(layout, k) == getattr(plain, k)).all() for k in ("chip", "core", "slot", "sram"))


@pytest.mark.long
def test_scales_of_one_change_nothing():
    net, perfect = build("sparse", 4, 120, groups="halves", leak="equal"), ChipProfile.perfect()
    plain = compile(net, device=DYNAPSE2.stack(2).with_profiles(perfect, perfect), seed=4)
    ones = ChipProfile(scales={name: np.ones(4) for name in PARAMETERS})
    layout = compile(net, device=DYNAPSE2.stack(2).with_profiles(ones, ones), seed=4)
    for name in ("codes", "cam", "sram", "input_rows"):
        assert (getattr(layout, name) == getattr(plain, name)).all()
    assert layout.weight_errors == plain.weight_errors
    said = [f for f in layout.findings if f.code == "bias-scales"]
    assert [f for f in layout.findings if f not in said] == list(plain.findings)
    only = DYNAPSE2.stack(2).with_profiles(ChipProfile(factors=spread_out()), perfect)
    assert compile(net, device=only, seed=4) == plain


@pytest.mark.long
def test_a_compensated_chip_behaves_like_the_nominal_one():
    net = recurrent(5, 16, 40, 8)
    device = DYNAPSE2.with_profiles(measured(7))
    nominal, layout = compile(net), compile(net, device=device)
    x = counts(net, batch=8, steps=200)
    wanted = simulate(nominal, x).output.sum(1).astype(float)
    apart = {}
    for name, thing in (("scaled", layout), ("nominal", nominal)):
        got = simulate(thing, x, device=device).output.sum(1)
        apart[name] = float(np.sqrt(np.sum((got - wanted) ** 2) / np.sum(wanted**2)))
    assert wanted.mean() > 5
    assert apart["scaled"] < 0.1
    assert apart["nominal"] > 5 * apart["scaled"]


@pytest.mark.parametrize("scale", [0.05, 0.3, 4.0])
def test_weights_beyond_the_reach_of_the_base_currents_take_more_gain(scale):
    net = recurrent(2, 16, 40, 8)
    device = DYNAPSE2.with_profiles(ChipProfile(scales={name: np.full(4, scale) for name in BASE_WEIGHTS}))
    layout = compile(net, device=device)
    plain = max(error_of(net, compile(net), DYNAPSE2).values())
    assert max(error_of(net, layout, device).values()) < 1.3 * plain + 0.01
    codes = layout.codes[layout.used_cores][:, [COLUMN[name] for name in BASE_WEIGHTS]]
    assert (codes[..., 0] < 6).all()


def test_one_weak_base_current_is_the_smallest():
    net = recurrent(2, 16, 40, 8)
    scales = {name: np.full(4, s) for name, s in zip(BASE_WEIGHTS, (1.5, 0.02, 0.7, 1.0), strict=True)}
    device = DYNAPSE2.with_profiles(ChipProfile(scales=scales))
    layout = compile(net, device=device)
    base = np.asarray(layout_to_params(layout, device).base)
    assert (np.argmin(base, 1) == 1).all()
    assert (
        max(error_of(net, layout, device).values()) < 1.3 * max(error_of(net, compile(net), DYNAPSE2).values()) + 0.01
    )


def test_what_is_out_of_reach_on_the_measured_chip_is_told():
    device = DYNAPSE2.with_profiles(ChipProfile(scales={"i_spkthr": np.full(4, 1e-3)}))
    layout = compile(small(), device=device)
    (told,) = {f.what for f in layout.findings if f.code == "bias-saturation" and "SOIF_SPKTHR_P" in f.what}
    asked = float(np.asarray(to_params(small()).bias["i_spkthr"])[0])
    high = biasgen.reach("i_spkthr")[1] * 1e-3
    assert f"should be {asked:.3g} A and becomes {high:.3g} A" in told
    assert f"to {high:.3g} A." in told


def test_the_report_says_for_which_chip():
    net = build("sparse", 0, 120, groups="halves", leak="equal")
    device = DYNAPSE2.stack(2).with_profiles(None, measured(2, names=["i_ref", "i_w0"]))
    layout = compile(net, device=device)
    told = [f for f in layout.findings if f.code == "bias-scales"]
    assert len(told) == (1 in layout.chip)  # only chips that are used count
    device = DYNAPSE2.stack(2).with_profiles(*(measured(2, names=["i_ref", "i_w0"]),) * 2)
    layout = compile(net, device=device)
    (finding,) = (f for f in layout.findings if f.code == "bias-scales")
    assert finding.what.count("bias scales of 2 parameters") == len(set(layout.chip.tolist()))
    result = report(layout, device=device)
    assert "codes are chosen for the bias currents that were measured" in result.text(1000)
    base = np.asarray(layout_to_params(layout, device).base)
    for k, core in enumerate(result.cores):
        for name, current in core.base_currents.items():
            assert current == base[k, BASE_WEIGHTS.index(name)]


# --- the neurons as measured -----------------------------------------------------------------------------------------


def test_as_measured_multiplies_every_current_by_the_factor_of_its_neuron():
    net = small()
    chip = replace(measured(1), factors=spread_out(2))
    device = DYNAPSE2.with_profiles(chip)
    layout = compile(net, device=device)
    mean = layout_to_params(layout, device)
    real = as_measured(mean, device)
    t = mean.topology
    assert real.topology.one_group_each
    core, slot = layout.core, layout.slot
    for name in CURRENTS:
        assert np.asarray(real.bias[name]).tolist() == (mean.per_neuron(name) * chip.factors[name][core, slot]).tolist()
    assert t.mask is not None
    weight = np.zeros(t.n_synapses)
    for bit, name in enumerate(BASE_WEIGHTS):
        on = (t.mask >> bit) & 1
        weight += on * np.asarray(mean.base)[t.group[t.post], bit] * chip.factors[name][core, slot][t.post]
    assert real.row_currents() == pytest.approx(weight, rel=1e-12)

    # Weights without masks: the mean of the four.
    free = replace(mean, weight=mean.row_currents(), base=None, topology=replace(t, mask=None))
    factor = np.mean([chip.factors[name][core, slot] for name in BASE_WEIGHTS], 0)[t.post]
    assert as_measured(free, device).row_currents() == pytest.approx(free.row_currents() * factor, rel=1e-12)


def test_as_measured_runs_like_a_chip():
    net = small()
    layout = compile(net)
    mean, x = layout_to_params(layout), counts(net)
    assert (simulate(as_measured(mean, DYNAPSE2), x).output == simulate(mean, x).output).all()
    device = DYNAPSE2.with_profiles(ChipProfile(factors=spread_out(2, 0.2)))
    real = as_measured(layout_to_params(layout, device), device)
    assert (simulate(real, x).output != simulate(mean, x).output).any()
    again = fabricate(real, Mismatch(), 3)
    assert again.per_neuron("i_ref") == pytest.approx(
        fabricate(mean, Mismatch(), 3).per_neuron("i_ref") * device.factors("i_ref", mean.topology.place), rel=1e-12
    )
    data = Data(x, np.arange(len(x)) % 5, net.dt)
    assert evaluate(real, data, devices=1, device=device).samples == len(x)


def test_a_checkpoint_knows_the_scales(tmp_path):
    net = small()
    layout = compile(net)
    data = Data(counts(net, batch=2, steps=20), np.array([0, 1]), net.dt)
    path = tmp_path / "evaluation.npz"
    device = DYNAPSE2.with_profiles(replace(measured(1), measured={"board": "a", "errors": {"i_dc": [0.1, None]}}))
    first = evaluate(layout, data, devices=1, device=device, checkpoint=path)
    assert (evaluate(layout, data, devices=1, device=device, checkpoint=path).accuracy == first.accuracy).all()
    with pytest.raises(ConfigurationError, match="another evaluation"):
        evaluate(layout, data, devices=1, device=DYNAPSE2.with_profiles(measured(2)), checkpoint=path)


def test_delays_are_encoded_for_the_measured_chip():
    p = population("p", 4)
    link = Projection("in", "p", np.arange(4), np.arange(4), np.full(4, 0.1), nodes=("w",))
    net = Network((p,), (link,), (Port("in", (4,)),), (Port("out", (4,), "p"),), 1e-3)
    asked = to_params(net)
    t = replace(asked.topology, delay=np.array([0, 1, 2, 1]))
    delayed = {"i_delay_precise": np.full(1, 2e-10), "i_delay_mismatched": np.full(1, 1e-10)}
    asked = replace(asked, bias={**asked.bias, **delayed}, topology=t)
    device = DYNAPSE2.with_profiles(measured(5))
    layout = compile(net, params=asked, device=device)
    assert layout_to_params(layout, device).row_delays()[1:] == pytest.approx(asked.row_delays()[1:], rel=0.02)


def test_feed_forward_without_weights():
    device = DYNAPSE2.with_profiles(measured(3))
    layout = compile(feed_forward(np.zeros((3, 2))), device=device)
    base = np.asarray(layout_to_params(layout, device).base)[0]
    low = [biasgen.reach(name)[0] * device.scale(name)[layout.core_index[0]] for name in BASE_WEIGHTS]
    assert base.tolist() == pytest.approx(low)
