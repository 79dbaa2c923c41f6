"""What the options of `compile` do to the bits, and whether what it says about its approximations is what the bits do."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip.device import DYNAPSE2, PARAMETERS
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.circuit.closed_form import event_charge, to_params
from nir_dynapse.errors import CapacityError, ParameterRangeError
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network, Population, Port, Projection
from nir_dynapse.quant.compiler import compile
from nir_dynapse.reporting.report import report
from random_networks import build
from small_networks import feed_forward, population, recurrent
from synapse_check import complaints

DT = 1e-3


def with_taus(p: Population, tau_mem: np.ndarray, tau_syn: np.ndarray | None = None) -> Population:
    p = replace(p, tau_mem=tau_mem, r=tau_mem / DT)
    return p if tau_syn is None else replace(p, tau_syn=tau_syn, w_in=tau_syn / DT)


def varied(tau_mem: np.ndarray, tau_syn: np.ndarray | None = None, fan_in: int = 3) -> Network:
    """Neurons with these time constants and equal weights, every other one with an inhibiting input."""
    n = len(tau_mem)
    weight = np.full((n, fan_in), 0.05)
    weight[::2, 0] = -0.02
    p = with_taus(population("p", n), tau_mem, tau_syn)
    link = Projection.from_dense("in", "p", weight, nodes=("fc",))
    return Network((p,), (link,), (Port("in", (fan_in,)),), (Port("out", (n,), "p"),), DT)


def finding(layout: Layout, code: str) -> Any:
    (found,) = (f for f in layout.findings if f.code == code)
    return found


def errors(net: Network, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Connections (source, neuron, inhibits), the charge asked for and the charge that the bits make."""
    found = []
    for params in (to_params(net), layout_to_params(layout)):
        t = params.topology
        keys, where = np.unique(np.stack([t.pre, t.post, t.dendrite > 1], 1), axis=0, return_inverse=True)
        found.append((keys, np.bincount(where.reshape(-1), params.row_currents() * event_charge(params))))
    (keys, asked), (same, got) = found
    np.testing.assert_array_equal(same, keys)
    return keys, asked, got


def rms(off: np.ndarray, asked: np.ndarray) -> float:
    return float(np.sqrt(np.sum(off**2) / np.sum(asked**2)))


# --- bias groups -----------------------------------------------------------------------------------------------------


def stated(what: str) -> dict[str, tuple[float, float]]:
    """Bias -> largest and mean change as parts of one, from the words of a finding."""
    found = re.findall(r"\(([A-Z0-9_]+)\) (?:changes by up to|by) ([\d.]+) % \(mean ([\d.]+) %\)", what)
    return {bias: (float(worst) / 100, float(mean) / 100) for bias, worst, mean in found}


def changes(net: Network, layout: Layout) -> dict[str, np.ndarray]:
    """Bias -> relative change of the current of each neuron that uses it, from time constants of the decoded bits."""
    asked, got = to_params(net), layout_to_params(layout)
    t, tau, result = asked.topology, asked.circuit.tau, {}
    for name in ("i_tau_mem", "i_tau_ampa", "i_tau_gaba"):
        change = np.abs(tau(name, asked.per_neuron(name)) / tau(name, got.per_neuron(name)) - 1)
        dendrite = {"i_tau_mem": t.dendrite, "i_tau_ampa": 0, "i_tau_gaba": 2}[name]
        used = np.bincount(t.post[t.dendrite == dendrite], minlength=t.n_neurons) > 0
        result[PARAMETERS[name].bias] = np.where(used, change, 0.0)
    return result


@pytest.mark.parametrize(("tau", "tolerance"), [(5e-3, 0.25), (5e-3, 0.6), (28e-3, 0.25)])
def test_what_sharing_biases_costs_is_what_the_bits_do(tau: float, tolerance: float) -> None:
    rng, wide = np.random.default_rng(2), 1 + tolerance
    net = varied(tau * rng.uniform(1, wide, 60), 2e-3 * rng.uniform(1, wide, 60))
    layout = compile(net, tolerance=tolerance, spare_rows=False)
    said = finding(layout, "bias-groups")
    assert (said.severity, said.limit) == ("warning", tolerance)
    assert 0.02 < said.used <= tolerance
    numbers = stated(said.what)
    assert set(numbers) == {"SOIF_LEAK_N", "DEAM_ETAU_P", "DEGA_ITAU_P"}
    assert said.used == pytest.approx(max(worst for worst, _ in numbers.values()), abs=1e-3)
    codes = " ".join(f.what for f in layout.findings if f.code == "bias-rounding")  # comes on top
    for bias, change in changes(net, layout).items():
        worst, mean = numbers.get(bias, (0.0, 0.0))
        most = re.search(rf"\({bias}\) ([\d.]+) %", codes)
        rounding = 0.012 if most is None else float(most[1]) / 100 + 0.001
        assert abs(change.max() - worst) <= rounding * (1 + worst), bias
        assert abs(change.mean() - mean) <= rounding, bias


def test_too_different_time_constants_are_refused_up_to_the_tolerance() -> None:
    net = varied(np.geomspace(4e-3, 200e-3, 40))
    with pytest.raises(CapacityError, match=r"SOIF_LEAK_N.*by up to [\d.]+ %.*allowed are 25 %.*--chips") as caught:
        compile(net)
    needed = float(caught.value.findings[0].used or 0)
    assert needed > 0.25
    layout = compile(net, tolerance=1.05 * needed)
    assert float(finding(layout, "bias-groups").used) <= 1.05 * needed
    own = varied(np.repeat([2e-3, 4e-3, 5e-3, 8e-3], 30))  # a core for each: nothing to merge, nothing changes
    layout = compile(own, tolerance=0.0, spare_rows=False)
    assert not any(f.code == "bias-groups" for f in layout.findings)
    assert changes(own, layout)["SOIF_LEAK_N"].max() < 0.02


def test_a_thousand_time_constants_on_one_chip() -> None:
    """Cores are cut along the time constant: the best for four is a quarter of the span each, in logarithms."""
    tau = np.random.default_rng(0).permutation(np.geomspace(15e-3, 30e-3, 1000))
    net = varied(tau, fan_in=1)
    layout = compile(net, spare_rows=False)
    assert changes(net, layout)["SOIF_LEAK_N"].max() < 2**0.125 - 1 + 0.02
    assert float(finding(layout, "bias-groups").used) < 0.1
    spans = sorted((tau[layout.core == core].min(), tau[layout.core == core].max()) for core in range(4))
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_what_a_group_does_not_use_does_not_count() -> None:
    """Eight groups for four cores: pairs with the same membrane, one only excited (5 ms), one only inhibited (30 ms)."""
    n = 24
    inhibited = np.arange(n) % 2 == 1
    tau = np.array([2e-3, 4e-3, 6e-3, 8e-3])[np.arange(n) // 2 % 4]
    p = with_taus(population("p", n), tau, np.where(inhibited, 30e-3, 5e-3))
    weight = np.where(inhibited, -0.05, 0.05)
    link = Projection("in", "p", np.zeros(n, int), np.arange(n), weight, nodes=("fc",))
    net = Network((p,), (link,), (Port("in", (1,)),), (Port("out", (n,), "p"),), DT)
    assert len(set(to_params(net).topology.group.tolist())) == 8
    layout = compile(net, tolerance=0.0, spare_rows=False)
    assert float(finding(layout, "bias-groups").used) == 0
    assert all(change.max() < 0.02 for change in changes(net, layout).values())


# --- fan-in and importance -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_importance", [False, True])
def test_pruning_drops_the_least_important(by_importance: bool) -> None:
    rng = np.random.default_rng(5)
    weight = rng.permutation(np.geomspace(0.004, 0.08, 80)) * rng.choice([-1, 1], 80)
    importance = rng.permutation(80) + 1.0 if by_importance else None
    net = feed_forward(weight[None])
    layout = compile(net, fan_in="prune", importance=importance)
    kept = {channel for (_, channel), where in layout.input_map.items() if where}
    strength = np.abs(weight) if importance is None else importance
    assert kept == set(np.argsort(strength)[16:].tolist())
    said = finding(layout, "fan-in")
    assert "16 synapses were dropped to fit 64 CAM rows" in said.what
    assert (said.node, said.index, said.count) == ("hidden", 0, 1)
    dropped = np.abs(weight)[[c for c in range(80) if c not in kept]].sum() / np.abs(weight).sum()
    assert f"up to {100 * dropped:.2g} % of the sum of its weights" in said.what


def test_constant_input_is_never_pruned() -> None:
    base = feed_forward(np.random.default_rng(1).uniform(0.02, 0.1, (2, 64)))
    leaky = replace(base, populations=(replace(base.populations[0], v_leak=np.array([0.1, 0.3])),))
    t = to_params(leaky).topology
    with pytest.raises(CapacityError, match=r"64 incoming synapses and a constant input \(65 CAM rows\)"):
        compile(leaky)
    layout = compile(leaky, fan_in="prune", importance=np.where(t.pre == t.tonic, 0.0, 1.0))
    got = layout_to_params(layout).topology
    assert sorted(got.post[got.pre == got.tonic].tolist()) == [0, 1]
    assert (np.bincount(got.post) == 64).all()


def test_importance_decides_which_weights_are_exact() -> None:
    weight = np.abs(np.random.default_rng(7).normal(0, 0.05, 60))
    net, chosen = feed_forward(weight[None]), np.array([4, 30, 51])
    important = np.full(60, 1.0)
    important[chosen] = 1e4
    off = {}
    for name, importance in (("equal", np.ones(60)), ("chosen", important)):
        keys, asked, got = errors(net, compile(net, importance=importance, spare_rows=False))
        off[name] = np.abs(got - asked)[np.isin(keys[:, 0], chosen)] / asked.max()
    assert off["chosen"].max() < 0.01
    assert off["chosen"].max() < off["equal"].max() / 3


# --- activity and places ---------------------------------------------------------------------------------------------

SMALL = replace(DYNAPSE2, neurons_per_core=1, n_chips=2)  # two chips of four neurons


def ring(n: int, size: int = 1) -> Network:
    """`n` populations in a ring, each fully connected to the next."""
    pops = tuple(population(f"p{k}", size) for k in range(n))
    full = np.full((size, size), 0.3)
    links = [Projection.from_dense(f"p{k}", f"p{(k + 1) % n}", full, nodes=(f"w{k}",)) for k in range(n)]
    first = Projection.from_dense("in", "p0", full[:, :1], nodes=("in",))
    return Network(pops, (first, *links), (Port("in", (1,)),), (Port("out", (size,), "p0"),), DT)


@pytest.mark.parametrize("quiet", range(4))
def test_the_busy_connections_stay_on_a_chip(quiet: int) -> None:
    """A ring of eight on two chips must be cut twice: where activity says that least passes."""
    rates = np.full(8, 100.0)
    rates[[quiet, quiet + 4]] = 1.0
    activity = {f"p{k}": rate for k, rate in enumerate(rates)}
    layout = compile(ring(8), device=SMALL, activity=activity, spare_rows=False)
    crosses = layout.chip != np.roll(layout.chip, -1)
    assert np.flatnonzero(crosses).tolist() == [quiet, quiet + 4]


@pytest.mark.parametrize("busy", [0, 1])
def test_activity_of_single_neurons_and_of_a_node(busy: int) -> None:
    rates = {f"p{k}": 500.0 if k % 2 == busy else np.array([1.0, 2.0]) for k in range(4)}
    chip = compile(ring(4, 2), device=SMALL, activity=rates, spare_rows=False).chip.reshape(4, 2)
    assert (chip[:, 0] == chip[:, 1]).all()
    assert chip[busy, 0] == chip[busy + 1, 0] != chip[(busy + 2) % 4, 0]


BAD_RATES = [
    ({"hiden": 3.0}, "no node 'hiden'. Known nodes: 'in', 'hidden'"),
    ({"": 3.0}, "no node ''"),
    ({"hidden": [1.0, 2.0]}, "node 'hidden' has 2 rates .* needed are 1 or 3"),
    ({"in": -1.0}, "node 'in' has 1 rates .*from 0"),
    ({"hidden": [1.0, np.nan, 1.0]}, "node 'hidden' .*finite"),
    ({"hidden": np.inf}, "node 'hidden' .*finite"),
    ({"in": []}, "node 'in' has no numbers"),
]


@pytest.mark.parametrize(("activity", "words"), BAD_RATES)
def test_activity_must_fit(activity: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterRangeError, match=words):
        compile(feed_forward(np.full((3, 2), 0.05)), activity=activity)


@pytest.mark.parametrize("bad", [np.ones(5), np.full(6, np.nan), np.r_[-1.0, np.ones(5)], np.full(6, np.inf)])
def test_importance_must_fit(bad: np.ndarray) -> None:
    with pytest.raises(ParameterRangeError, match=r"importance has \d values.* 6 synapses"):
        compile(feed_forward(np.full((3, 2), 0.05)), importance=bad)


def outputs(n: int, monitored: int) -> Network:
    """`n` neurons with one input each; the last `monitored` ones are outputs, some driven by one of the others."""
    sizes, own = {"a": n - monitored, "b": monitored}, np.arange(n - monitored)
    links = [Projection("a", "b", own, own, np.full(len(own), 0.05), nodes=("ab",))]
    for name, k in sizes.items():
        links.append(Projection("in", name, np.arange(k) % 4, np.arange(k), np.full(k, 0.05), nodes=(name,)))
    pops = tuple(population(name, k) for name, k in sizes.items())
    return Network(pops, tuple(links), (Port("in", (4,)),), (Port("out", (monitored,), "b"),), DT)


@pytest.mark.long
def test_eight_full_chips_with_as_many_outputs_as_seven_hold() -> None:
    net = outputs(8192, 7168)
    layout = compile(net, device=DYNAPSE2.stack(8), spare_rows=False)
    assert (np.bincount(layout.chip, minlength=8) == 1024).all()
    assert layout.chip[1024:].max() == 6  # chip 7 is too far for its events to be recorded
    assert len(layout.output_map) == 7168
    assert complaints(net, layout, "outputs", 0.1) == []
    with pytest.raises(CapacityError, match=r"7169 monitored neurons.*7 chips"):
        compile(outputs(8192, 7169), device=DYNAPSE2.stack(8))


def fan_out(targets: int, groups: int) -> Network:
    """A neuron that reaches `targets` of `groups` neurons, each in a bias group (and core) of its own."""
    pops = (population("s", 1, 3e-3), with_taus(population("p", groups), np.geomspace(5e-3, 300e-3, groups)))
    weight = np.where(np.arange(groups) < targets, 0.05, 0.0)[:, None]
    links = (
        Projection.from_dense("in", "s", np.full((1, 1), 0.3), nodes=("x",)),
        Projection.from_dense("s", "p", weight, nodes=("y",)),
    )
    return Network(pops, links, (Port("in", (1,)),), (Port("out", (groups,), "p"),), DT)


@pytest.mark.long
def test_targets_on_too_many_chips() -> None:
    """20 targets in 20 cores are on five chips at least, a neuron has four destinations."""
    with pytest.raises(CapacityError) as caught:
        compile(fan_out(20, 20), device=DYNAPSE2.stack(6))
    (said,) = caught.value.findings
    assert (said.code, said.node, said.index, said.limit) == ("fan-out", "s", 0, 4)
    assert said.used in (5, 6)
    assert f"its targets lie on {said.used} chips, a neuron has 4 SRAM rows" in said.what
    assert compile(fan_out(9, 20), device=DYNAPSE2.stack(6), spare_rows=False).n_neurons == 21


@pytest.mark.long
def test_targets_that_fill_four_chips() -> None:
    """16 targets in 16 cores fit on four chips, and the five other neurons on the two that are left."""
    compile(fan_out(16, 20), device=DYNAPSE2.stack(6))


@pytest.mark.long
def test_the_same_seed_gives_the_same_layout() -> None:
    net, device = recurrent(3, 3, 6, 2, fan_in=2), SMALL
    first, other, again = (compile(net, device=device, seed=seed, spare_rows=False) for seed in (4, 5, 4))
    assert again == first
    assert (first.origin["seed"], other.origin["seed"]) == (4, 5)


# --- rounding --------------------------------------------------------------------------------------------------------


def test_one_row_per_weight_without_spare_rows() -> None:
    net = recurrent(1, 6, 40, 5)
    plain, fine = compile(net, spare_rows=False), compile(net)
    off = [rms(got - asked, asked) for _, asked, got in (errors(net, plain), errors(net, fine))]
    weights = to_params(net).topology.n_synapses
    assert (plain.cam["dendrite"] >= 0).sum() == weights < (fine.cam["dendrite"] >= 0).sum()
    assert off[1] < off[0] / 2


def test_a_second_range_makes_full_neurons_finer_and_they_spike_the_same() -> None:
    rng = np.random.default_rng(0)
    net = feed_forward(np.exp(rng.normal(0, 1, (40, 64))) * 0.02)
    x = (rng.random((4, 300, 64)) < 0.02).astype(np.uint8)
    ideal = nd.simulate(to_params(net), x).counts().astype(float)  # some 40 spikes each
    off, difference = [], []
    for layout in (compile(net), compile(net, second_range=True)):
        _, asked, got = errors(net, layout)
        off.append(rms(got - asked, asked))
        difference.append(np.abs(nd.simulate(layout, x).counts() - ideal).mean() / ideal.mean())
    assert off[1] < off[0] / 2
    assert difference[1] < min(0.03, difference[0])


@pytest.mark.parametrize("family", ["sparse", "recurrent", "parallel"])
def test_a_second_range_is_refused_nowhere(family: str) -> None:
    net = build(family, 3, 60, groups="halves", leak="random", weights="lognormal", zeros=0.1)
    device = DYNAPSE2.with_profiles(ChipProfile.synthetic(1, "green"))
    assert complaints(net, compile(net, device=device, second_range=True, spare_rows=False), "outputs", 0.32) == []


def test_neurons_that_use_nmda_themselves_keep_it() -> None:
    rng = np.random.default_rng(1)

    def link(target: str, dendrite: str | None, k: int) -> Projection:
        weight = np.exp(rng.normal(0, 1, 20 * k)) * 0.02
        pre, post = np.tile(np.arange(k), 20), np.repeat(np.arange(20), k)
        return Projection("in", target, pre, post, weight, nodes=(f"{target}{k}",), dendrite=dendrite)

    pops = (population("a", 20), population("b", 20, 60e-3))
    links = (link("a", None, 40), link("a", "nmda", 4), link("b", None, 40))
    net = Network(pops, links, (Port("in", (40,)),), (Port("out", (20,), "b"),), DT)
    layout = compile(net, second_range=True)
    got, asked = layout_to_params(layout), to_params(net)
    (own, last), (wanted, _) = (
        (set(zip(t.pre[here].tolist(), t.post[here].tolist(), strict=True)), t.post[here].max())
        for t in (got.topology, asked.topology)
        for here in [t.dendrite == 1]
    )
    assert {pair for pair in own if pair[1] < 20} == wanted
    assert last >= 20
    nmda, ampa = (got.circuit.tau(name, got.per_neuron(name)) for name in ("i_tau_nmda", "i_tau_ampa"))
    np.testing.assert_allclose(nmda[20:], ampa[20:], rtol=0.02)
    np.testing.assert_allclose(got.per_neuron("i_tau_nmda")[:20], asked.per_neuron("i_tau_nmda")[:20], rtol=0.02)


@pytest.mark.parametrize("spare_rows", [False, True])
def test_stated_weight_errors_are_those_of_the_bits(spare_rows: bool) -> None:
    net = build("recurrent", 5, 90, groups="interleaved", weights="lognormal", zeros=0.0)
    layout = compile(net, spare_rows=spare_rows)
    keys, asked, got = errors(net, layout)
    off, post = got - asked, keys[:, 1]
    stated_errors = layout.weight_errors
    core = layout.core[post]
    assert set(stated_errors["cores"]) == {f"0.{c}" for c in np.unique(core)}
    lost = (got == 0) & (asked > 0)
    for c in np.unique(core).tolist():
        said, here = stated_errors["cores"][f"0.{c}"], core == c
        assert said["nrmse"] == pytest.approx(rms(off[here], asked[here]), rel=2e-3)
        assert (said["weights"], said["lost"]) == (here.sum(), lost[here].sum())
        assert said["rows"] == (layout.cam["dendrite"][layout.core == c] >= 0).sum()
        assert sum(said["bins"]) == here.sum()
    names = ["in"] * net.n_inputs + ["tonic"] + [name for name, *_ in layout.names]
    pairs = np.array([f"{names[s]}>{names[net.n_inputs + 1 + n]}" for s, n, _ in keys])
    assert len(stated_errors["projections"]) == len(set(pairs.tolist())) >= 3
    for source, target, weights, vanished, nrmse in stated_errors["projections"]:
        here = pairs == f"{source}>{target}"
        assert (weights, vanished) == (here.sum(), lost[here].sum())
        assert nrmse == pytest.approx(rms(off[here], asked[here]), rel=2e-3)
    neurons = [rms(off[post == n], asked[post == n]) if n in post else 0.0 for n in range(layout.n_neurons)]
    np.testing.assert_allclose(stated_errors["neurons"], neurons, rtol=2e-3, atol=1e-6)
    assert report(layout).to_dict()["weight_errors"] == stated_errors


def test_weights_rounded_to_nothing_are_counted_and_told() -> None:
    weight = np.full((8, 20), 0.08) * np.random.default_rng(2).uniform(0.5, 1, (8, 20))
    weight[:, 15:] = 1e-5
    net = feed_forward(weight)
    layout = compile(net, spare_rows=False)
    _, asked, got = errors(net, layout)
    assert int(((got == 0) & (asked > 0)).sum()) == 40
    assert layout.weight_errors["cores"]["0.0"]["lost"] == 40
    assert finding(layout, "weight-vanished").to_dict()["used"] == 40
    text = report(layout).text()
    assert re.search(r"fc +in +hidden +160 +[\d.]+ % +40", text)
