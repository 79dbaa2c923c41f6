"""Delays in the data model: parameters, flags of synapses, compile and back, bias groups, configurations."""

from __future__ import annotations

import re
from dataclasses import replace
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import CURRENTS, DELAYS, DYNAPSE2, PARAMETERS, Circuit, Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import CapacityError, ConfigurationError, ParameterRangeError
from nir_dynapse.export.samna_config import to_samna, write_config_json
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.quant.compiler import compile, to_network
from nir_dynapse.quant.groups import merge_groups
from nir_dynapse.sim.mismatch import fabricate

FIVE_MS = float(Circuit().width("i_delay_precise", 5e-3))  # A; the law is its own inverse


@pytest.fixture(scope="module")
def net(networks: ModuleType) -> Network:
    return networks.recurrent(4, 10, 40, 6)


@pytest.fixture(scope="module")
def delayed(net: Network) -> Params:
    """Every combination of the flags, 5 ms and 20 ms."""
    params = to_params(net)
    flags = np.arange(params.topology.n_synapses) % 4
    bias = {**params.bias, "i_delay_precise": params.bias["i_delay_precise"] * 0 + FIVE_MS}
    bias["i_delay_mismatched"] = bias["i_delay_precise"] / 4
    return replace(params, bias=bias, topology=replace(params.topology, delay=flags))


def test_the_table() -> None:
    assert [PARAMETERS[name].bias for name in DELAYS] == ["SYPD_DLY1_P", "SYPD_DLY2_P"]
    assert CURRENTS[-2:] == DELAYS, "elements are numbered in this order: new ones come last"
    for name in DELAYS:
        assert DYNAPSE2.circuit.width(name, PARAMETERS[name].off) < 5e-6
        low, high = biasgen.reach(name)
        assert DYNAPSE2.circuit.width(name, high) < 1e-6
        assert DYNAPSE2.circuit.width(name, low) > 0.05
        assert biasgen.current(name, *biasgen.off_codes(name)) == pytest.approx(PARAMETERS[name].off, rel=0.02)


def test_flags_compare_by_value(delayed: Params) -> None:
    t = delayed.topology
    same = replace(t, delay=np.array(t.delay))
    none, zeros = replace(t, delay=None), replace(t, delay=np.zeros(t.n_synapses, int))
    assert (same, hash(same)) == (t, hash(t))
    assert (none, hash(none)) == (zeros, hash(zeros))
    assert zeros.delay is None
    assert len({t, same, none, zeros}) == 2
    with pytest.raises(ParameterRangeError, match="delay flags of synapse 1 are 4, allowed are 0 to 3"):
        replace(t, delay=np.where(np.arange(t.n_synapses) == 1, 4, 0))
    with pytest.raises(ParameterRangeError, match=r"shape \(3,\)"):
        replace(t, delay=np.ones(3, int))


def test_row_delays(net: Network, delayed: Params) -> None:
    flags = np.arange(delayed.topology.n_synapses) % 4
    np.testing.assert_allclose(delayed.row_delays(), np.array([0, 5e-3, 20e-3, 25e-3])[flags])
    assert (to_params(net).row_delays() == 0).all()
    factor = np.random.default_rng(0).uniform(0.5, 2.0, len(flags))
    np.testing.assert_allclose(replace(delayed, delay_factor=factor).row_delays(), factor * delayed.row_delays())


def test_gradients_reach_the_currents_and_the_factor(delayed: Params) -> None:
    weight = np.linspace(1.0, 2.0, delayed.topology.n_synapses)
    delayed = replace(delayed, delay_factor=np.full(len(weight), 1.5))

    def loss(params: Params) -> jax.Array:
        return (params.row_delays(jnp) * weight).sum()

    grad = jax.jit(jax.grad(loss))(delayed)
    for name in DELAYS:
        # t = c/I, so I·dL/dI of one group is minus what its delays contribute to L.
        on = delayed.topology.has_delay(name)
        width = delayed.circuit.width(name, delayed.per_neuron(name)[delayed.topology.post])
        expected = -np.bincount(delayed.topology.group[delayed.topology.post], on * width * 1.5 * weight)
        np.testing.assert_allclose(grad.bias[name] * delayed.bias[name], expected, rtol=1e-4)
    np.testing.assert_allclose(grad.delay_factor, delayed.row_delays() / 1.5 * weight, rtol=1e-5)
    assert (grad.bias["i_spkthr"] == 0).all()


def test_compile_writes_the_flags_and_decoding_reads_them(net: Network, delayed: Params) -> None:
    layout = compile(net, params=delayed)
    again = layout_to_params(layout)
    t, asked = again.topology, delayed.topology
    assert t.delay is not None
    got = set(zip(t.pre.tolist(), t.post.tolist(), t.delay.tolist(), strict=True))  # a weight may take several rows
    flags = asked.delay.tolist() if asked.delay is not None else []
    assert got == set(zip(asked.pre.tolist(), asked.post.tolist(), flags, strict=True))
    for flag, delay in ((1, 5e-3), (2, 20e-3), (3, 25e-3)):
        np.testing.assert_allclose(again.row_delays()[t.delay == flag], delay, rtol=0.02)
    assert not any(f.code == "row-flags" for f in again.findings)
    assert (compile(net).cam["flags"] == 0).all()
    # Short-term plasticity, and only it, is still a warning; it is no delay.
    cam = layout.cam.copy()
    cam["flags"] |= np.where(cam["dendrite"] >= 0, 1, 0).astype("u1")
    plastic = layout_to_params(replace(layout, cam=cam))
    assert plastic.topology == t
    (warning,) = (f for f in plastic.findings if f.code == "row-flags")
    assert "short-term plasticity" in warning.what


def test_pruned_rows_take_their_delays_along(networks: ModuleType) -> None:
    net = networks.feed_forward(np.linspace(0.01, 0.1, 70)[None])
    params = to_params(net)
    flags = np.arange(70) % 4
    params = replace(params, topology=replace(params.topology, delay=flags), delay_factor=np.arange(70.0))
    t = layout_to_params(compile(net, params=params, fan_in="prune")).topology
    assert t.delay is not None
    assert len(t.delay) == 64
    np.testing.assert_array_equal(t.delay, flags[t.pre])


def test_a_network_has_the_delays_of_its_synapses(net: Network, delayed: Params) -> None:
    back, t = to_network(delayed), delayed.topology
    expected = {
        (int(a), int(b)): d for a, b, d in zip(t.pre, t.post, [0, 5e-3, 20e-3, 25e-3] * t.n_synapses, strict=False)
    }
    seen = 0
    for q, pre, post in back.synapses():
        assert q.delay is not None
        for a, b, d in zip(pre, post, q.delay, strict=True):
            source = a + 1 if a >= back.n_inputs else a  # the tonic channel stands between
            assert d == pytest.approx(expected[int(source), int(b)], rel=1e-9)
            seen += 1
    assert seen == t.n_synapses
    assert not [f for f in back.findings if f.code == "no-nir-counterpart"]
    assert all(q.delay is None for q in to_network(compile(net)).projections)


def _five_groups(networks: ModuleType) -> tuple[Network, Params]:
    """Five populations for four cores, the first two nearly equal but for the currents of their delays."""
    names, spread = [f"p{k}" for k in range(5)], (1.0, 1.001, 1.02, 1.05, 1.1)
    net = Network(
        tuple(networks.population(name, 2, tau_mem=20e-3 * scale) for name, scale in zip(names, spread, strict=True)),
        tuple(Projection.from_dense("in", name, np.full((2, 2), 0.1), nodes=(name,)) for name in names),
        (Port("in", (2,)),),
        (Port("out", (2,), names[0]),),
        1e-3,
    )
    params = to_params(net)
    assert params.topology.n_groups == 5
    bias = {**params.bias, "i_delay_precise": FIVE_MS * 10.0 ** np.array([2, -1, 0, 1, -2])}
    return net, replace(params, bias=bias)


def test_unused_delays_do_not_keep_groups_apart(networks: ModuleType) -> None:
    net, params = _five_groups(networks)
    merged, (finding,) = merge_groups(params, DYNAPSE2)
    assert finding.severity == "warning"
    assert finding.used < 1e-3  # type: ignore[operator]
    assert merged.topology.n_groups == 4
    # One group with a delay: whoever shares its core gets its current, and it keeps it.
    t = params.topology
    one = replace(params, topology=replace(t, delay=np.where(t.group[t.post] == 1, 1, 0)))
    merged, (finding,) = merge_groups(one, DYNAPSE2)
    assert finding.used < 1e-3  # type: ignore[operator]
    own = t.group == 1
    assert merged.per_neuron("i_delay_precise")[own] == pytest.approx(params.per_neuron("i_delay_precise")[own])
    delays = layout_to_params(compile(net, params=one)).row_delays()
    np.testing.assert_allclose(np.unique(delays[delays > 0]), 50e-3, rtol=0.02)


def test_used_delays_do(networks: ModuleType) -> None:
    _, params = _five_groups(networks)
    everywhere = replace(params, topology=replace(params.topology, delay=np.ones(params.topology.n_synapses, int)))
    with pytest.raises(CapacityError, match=r"precise delay \(SYPD_DLY1_P\) changes by up to"):
        merge_groups(everywhere, DYNAPSE2)
    # Equal delays merge, although others are nearer in everything else.
    equal = np.array([5e-3, 50e-3, 5e-3, 0.5e-3, 1e-3])
    bias = {**params.bias, "i_delay_precise": DYNAPSE2.circuit.width("i_delay_precise", equal)}
    merged, (finding,) = merge_groups(replace(everywhere, bias=bias), DYNAPSE2)
    assert finding.used < 0.02  # type: ignore[operator]
    np.testing.assert_allclose(merged.row_delays(), equal[params.topology.group[params.topology.post]])


def test_configurations_carry_the_delays(net: Network, delayed: Params, tmp_path) -> None:
    layout = compile(net, params=delayed)
    config = to_samna(layout)
    core = config.chips[0].cores[layout.core[0]]
    for name in DELAYS:
        bias = core.parameters[PARAMETERS[name].bias]
        current = biasgen.current(name, bias.coarse_value, bias.fine_value)
        assert current == pytest.approx(delayed.bias[name][0], rel=0.02)
    assert from_samna(config) == layout
    path = tmp_path / "config.json"
    write_config_json(layout, path)
    assert from_samna(path, names=layout) == layout


def test_json_text_from_before_the_delays_is_read(net: Network, tmp_path) -> None:
    layout, path = compile(net), tmp_path / "config.json"
    write_config_json(layout, path)
    text = re.sub(r',\{"key":"SYPD_DLY[12]_P","value":\{[^}]*\}\}', "", path.read_text())
    assert "SYPD_DLY" not in text
    path.write_text(text)
    assert from_samna(path, names=layout) == layout
    # An object of samna has all biases: there it is a fault.
    config = to_samna(layout)
    del config.chips[0].cores[layout.core[0]].parameters["SYPD_DLY1_P"]
    with pytest.raises(ConfigurationError, match="no bias 'SYPD_DLY1_P'"):
        from_samna(config)


def test_fabricated_delays(net: Network, delayed: Params) -> None:
    """The CVs of the delays act on every CAM row; the currents stay nominal, the other factors what they were."""
    chip = fabricate(delayed, Mismatch(), 7)
    t, flags = chip.topology, delayed.topology.delay
    assert flags is not None
    assert t == replace(delayed.topology, group=np.arange(t.n_neurons))
    factor = np.asarray(chip.delay_factor)
    assert (factor[flags == 0] == 1).all()
    for flag, cv in ((1, 0.10), (2, 0.50)):
        assert factor[flags == flag].mean() == pytest.approx(1.0, abs=0.1)
        assert factor[flags == flag].std() == pytest.approx(cv, rel=0.25)
    one = replace(delayed, topology=replace(delayed.topology, delay=flags & 1))
    two = replace(delayed, topology=replace(delayed.topology, delay=flags & 2))
    parts = [fabricate(part, Mismatch(), 7) for part in (one, two)]
    np.testing.assert_allclose(chip.row_delays(), parts[0].row_delays() + parts[1].row_delays())
    alike = [np.asarray(fabricate(part, Mismatch.uniform(0.2), 7).delay_factor)[flags == 3] for part in (one, two)]
    assert (alike[0] != alike[1]).all(), "the two delays of a row are two elements"
    plain = fabricate(to_params(net), Mismatch(), 7)
    assert plain.delay_factor is None
    for name in CURRENTS:
        if name not in DELAYS:
            assert (plain.bias[name] == chip.bias[name]).all()
    for name in DELAYS:
        assert (chip.bias[name] == delayed.per_neuron(name)).all()
    assert (fabricate(delayed, Mismatch(), 8).delay_factor != factor).any()
    nominal = fabricate(delayed, Mismatch.none(), 7)
    np.testing.assert_allclose(nominal.row_delays(), delayed.row_delays())


def test_delay_factors_belong_to_places(net: Network, delayed: Params) -> None:
    t = delayed.topology
    chip = fabricate(delayed, Mismatch(), 3)
    some = t.post < 5
    few = replace(
        delayed,
        weight=delayed.weight[some],
        topology=replace(
            t,
            **{name: getattr(t, name)[some] for name in ("pre", "post", "dendrite", "row", "delay")},
        ),
    )
    assert (fabricate(few, Mismatch(), 3).delay_factor == chip.delay_factor[some]).all()
    moved = replace(delayed, topology=replace(t, place=t.place + np.array([0, 1, 0])))
    assert (fabricate(moved, Mismatch(), 3).delay_factor != chip.delay_factor).any()
