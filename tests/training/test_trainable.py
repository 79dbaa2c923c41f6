"""What training moves: from numbers to bits to circuits on chips, and where it starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import AMPA, BASE_WEIGHTS, CURRENTS, DEAD_THRESHOLD, DELAYS, DYNAPSE2, GABA, NMDA, Mismatch
from nir_dynapse.network.network import Network
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.training.options import TRAINED
from nir_dynapse.training.start import start_of
from nir_dynapse.training.trainable import (
    Chart,
    Latent,
    chart_of,
    draw,
    latent_of,
    nominal,
    on_chip,
    projected,
    quantised,
    settled,
)
from shortened import shortened
from small_networks import feed_forward
from tuning_cases import data, network, shared_compilation

CHIPS = 150
NAMES = tuple(name for name in TRAINED if name not in ("weight", "base"))


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


def started(net: Network | nd.Params, bits: int = 4, rows: int = 8) -> tuple[Chart, Latent]:
    """The chart and the first numbers of a training of `net`."""
    params = nd.to_params(net) if isinstance(net, Network) else net
    start = start_of(params, DYNAPSE2, rows, 0, 1.5e-3, bits or 4)
    chart = chart_of(start.params, start.free, NAMES, bits, DYNAPSE2.weight_top, {})
    return chart, latent_of(chart, start.params, start.base, start.weight)


def moved(chart: Chart, latent: Latent, seed: int = 0) -> Latent:
    """`latent` after a random step, kept inside its limits."""
    rng = np.random.default_rng(seed)
    tree = jax.tree_util.tree_map(lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32), latent)
    return projected(chart, tree)


def plain(params: nd.Params) -> nd.Params:
    return params.numpy()


def spikes(params: nd.Params) -> np.ndarray:
    recording = nd.simulate(params, data(12).x)
    return np.concatenate([recording.spikes[name] for name, _ in params.topology.populations], axis=2).astype(int)


def gated() -> Network:
    """A network whose hidden neurons excite through NMDA."""
    net = network()
    return replace(net, projections=(net.projections[0], replace(net.projections[1], dendrite="nmda")))


@cache
def large() -> tuple[Chart, Latent]:
    return started(network(n_hidden=40, recurrent=True), rows=4)


# --- bits and circuits ------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("bits", shortened([0, 1, 2, 4]))
def test_a_chip_without_mismatch_is_what_is_settled(bits: int) -> None:
    chart, latent = started(network(recurrent=True), bits)
    latent = moved(chart, latent)
    made = on_chip(chart, quantised(chart, latent), nominal(chart))
    final = settled(chart, latent)
    found = spikes(final)
    assert found.sum() > 100
    np.testing.assert_array_equal(spikes(plain(made)), found)
    assert (final.topology.mask is None) == (bits == 0)
    both = on_chip(chart, quantised(chart, latent, rounded=False), nominal(chart))
    assert len(both.weight) == chart.rows.n_synapses + len(chart.free_rows)


@pytest.mark.parametrize("bits", [2, 4])
def test_everything_lies_on_the_grid(bits: int) -> None:
    chart, latent = started(network(), bits)
    latent = moved(chart, latent, 1)
    params = settled(chart, latent)
    assert params.base is not None
    assert params.topology.mask is not None
    for name in CURRENTS:
        assert np.isin(params.bias[name], biasgen.grid(name)).all(), name
    for b, name in enumerate(BASE_WEIGHTS):
        assert np.isin(params.base[:, b], biasgen.grid(name)).all()
    assert params.topology.mask.max() < 1 << bits
    levels = np.array([[sum(g[b] for b in range(bits) if m >> b & 1) for m in range(1 << bits)] for g in params.base])
    size = np.abs(np.asarray(latent.weight, float)) * chart.unit
    error = np.abs(levels[chart.row_group] - size[:, None])
    np.testing.assert_allclose(error[np.arange(len(size)), params.topology.mask], error.min(1), atol=chart.unit * 1e-6)
    assert len(np.unique(params.topology.mask)) > 2


def test_signs_change_between_ampa_and_gaba_only() -> None:
    chart, latent = started(gated())
    of_nmda = chart.rows.dendrite == NMDA
    np.testing.assert_array_equal(chart.free, ~of_nmda)
    assert of_nmda.any()
    for sign, dendrite in ((1, AMPA), (-1, GABA)):
        turned = latent._replace(weight=sign * jnp.abs(latent.weight))
        settled_ = settled(chart, projected(chart, turned))
        np.testing.assert_array_equal(settled_.topology.dendrite, np.where(of_nmda, NMDA, dendrite))
        weight = np.asarray(projected(chart, turned).weight)
        assert (np.sign(weight[~of_nmda]) == sign).all()
        assert (weight[of_nmda] >= 0).all()
    beyond = projected(chart, latent._replace(weight=latent.weight * 1e4))
    top = np.asarray(quantised(chart, latent, rounded=False).base.sum(1))[chart.row_group] / chart.unit
    wanted = np.where(chart.free, np.sign(latent.weight) * top, np.maximum(np.sign(latent.weight), 0) * top)
    np.testing.assert_allclose(beyond.weight, wanted, rtol=1e-5)


@pytest.mark.long
def test_gradients_reach_every_number() -> None:
    chart, latent = started(gated())
    latent = moved(chart, latent)
    weight = np.asarray(latent.weight).copy()
    weight[::3] = 0  # from there, too
    latent = latent._replace(weight=jnp.asarray(weight))

    def total(latent: Latent) -> Any:
        made = on_chip(chart, quantised(chart, latent), draw(chart, jax.random.key(0), Mismatch.uniform(0.3)))
        sign = np.where(made.topology.dendrite == GABA, -1.0, 1.0)
        return (made.weight * sign).sum() / chart.unit + sum(jnp.log(v).sum() for v in made.bias.values())

    slope = jax.grad(total)(latent)
    assert (np.asarray(slope.weight) > 0).all()
    assert np.abs(slope.base).min() > 0
    assert all(np.abs(value).min() > 0 for value in slope.bias.values())


# --- mismatch ---------------------------------------------------------------------------------------------------------


def chips(chart: Chart, mismatch: Mismatch, **options: Any) -> Any:
    keys = jax.random.split(jax.random.key(1), CHIPS)
    return jax.jit(jax.vmap(lambda key: draw(chart, key, mismatch, **options)))(keys)


def spread(factors: np.ndarray) -> tuple[float, float]:
    factors = np.asarray(factors, float)
    return factors.mean(), factors.std() / factors.mean()


@pytest.mark.long
def test_factors_have_the_spread_of_their_parameter() -> None:
    chart, _ = large()
    cv = {name: 0.05 + 0.02 * (k % 11) for k, name in enumerate(CURRENTS)}
    found = chips(chart, Mismatch(cv=tuple(cv.items()), synapse=0.35))
    assert found.bias.shape == (CHIPS, len(CURRENTS), 42)
    assert found.row.shape == (CHIPS, chart.rows.n_synapses, 4)
    for k, name in enumerate(CURRENTS):
        if name in DELAYS:  # which spread by row
            assert not np.asarray(found.bias[:, k]).any()
            continue
        mean, deviation = spread(np.exp(found.bias[:, k]))
        assert mean == pytest.approx(1, abs=0.02), name
        assert deviation == pytest.approx(cv[name], rel=0.05), name
    for bit in range(4):
        assert spread(np.exp(found.row[..., bit])) == pytest.approx((1, 0.35), rel=0.03)
    together = np.corrcoef(np.asarray(found.row[:20]).reshape(-1, 4).T)
    assert np.abs(together - np.eye(4)).max() < 0.03
    assert np.abs(np.corrcoef(np.asarray(found.bias)[:, :6, 0].T) - np.eye(6)).max() < 0.35
    half = chips(chart, Mismatch(cv=tuple(cv.items()), synapse=0.35), size=0.5)
    assert spread(np.exp(half.row)) == pytest.approx((1, 0.175), rel=0.03)
    assert not np.asarray(chips(chart, Mismatch(), size=0.0).bias).any()


@pytest.mark.long
def test_chips_are_spread_like_fabricated_ones() -> None:
    chart, latent = large()
    mismatch, bits = Mismatch(), quantised(chart, latent)
    params = settled(chart, latent)
    drawn = jax.jit(jax.vmap(lambda f: on_chip(chart, bits, f)))(chips(chart, mismatch))
    first = np.arange(chart.rows.n_synapses)
    second = np.zeros(len(first), int)
    second[chart.free_rows] = len(first) + np.arange(len(chart.free_rows))
    weight = np.asarray(drawn.weight)
    weight = np.where(chart.free, weight[:, first] + weight[:, second], weight[:, first])
    made = [fabricate(params, mismatch, seed) for seed in range(CHIPS)]
    real = np.stack([p.weight for p in made])
    nominal_ = params.row_currents()
    on = nominal_ > 0
    assert on.mean() > 0.8
    assert not weight[:, ~on].any()
    for mask in range(1, 16):  # the masks of the rows decide
        rows = on & (params.topology.mask == mask)
        if rows.sum() > 30:
            mine, other = (spread((w / np.where(on, nominal_, 1))[:, rows]) for w in (weight, real))
            assert mine == pytest.approx(other, rel=0.04), mask
    for name in CURRENTS:
        if name in DELAYS or not params.per_neuron(name).any():
            continue
        mine = spread(np.asarray(drawn.bias[name]) / params.per_neuron(name))
        other = spread(np.stack([p.bias[name] for p in made]) / params.per_neuron(name))
        assert mine == pytest.approx(other, rel=0.05), name


@pytest.mark.long
def test_dead_rows_and_neurons() -> None:
    chart, latent = large()
    found = chips(chart, Mismatch.uniform(0.1, dead_rows=0.3, dead_neurons=0.2), drop=np.arange(42) / 84)
    dead = np.isneginf(found.row)
    assert dead.any(-1).mean() == pytest.approx(0.3, abs=0.01)
    assert (dead.any(-1) == dead.all(-1)).all()
    silent = 1 - np.asarray(found.alive)
    wanted = 1 - (1 - np.arange(42) / 84) * 0.8
    assert silent.mean() == pytest.approx(wanted.mean(), abs=0.02)
    assert np.abs(silent.mean(0) - wanted).max() < 0.16
    first = jax.tree_util.tree_map(lambda leaf: leaf[0], found)
    made = on_chip(chart, quantised(chart, latent), first)
    assert not np.asarray(made.weight)[: len(dead[0])][dead[0].any(-1)].any()
    np.testing.assert_array_equal(np.asarray(made.bias["i_spkthr"]) == np.float32(DEAD_THRESHOLD), silent[0] > 0)
    none = chips(chart, Mismatch.uniform(0.1))
    assert np.isfinite(none.row).all()
    assert np.asarray(none.alive).all()


# --- where it starts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [network, lambda: network(recurrent=True, n_hidden=12), gated])
def test_the_start_computes_what_the_circuit_does(make) -> None:
    params = nd.to_params(make())
    wanted = spikes(params)
    assert wanted.sum() > 100
    start = start_of(params, DYNAPSE2, 8, 0, 1e-6)
    t = start.params.topology
    signed = replace(t, dendrite=np.where(start.free & (start.weight < 0), GABA, t.dendrite))
    found = spikes(replace(start.params, weight=np.abs(start.weight), topology=signed))
    assert np.abs(found - wanted).sum() <= 2e-3 * wanted.sum()
    assert (np.bincount(t.post) <= 64).all()
    assert t.group.tolist() == [0] * (t.n_neurons - 2) + [1, 1]
    # What the training begins with: refractory periods that its steps resolve, the other biases on the grid.
    longer = np.minimum(params.bias["i_ref"], params.circuit.width("i_ref", 1.5e-3))
    wanted = spikes(replace(params, bias={**params.bias, "i_ref": longer})).sum(1)
    chart, latent = started(params)
    found = spikes(plain(on_chip(chart, quantised(chart, latent, rounded=False), nominal(chart)))).sum(1)
    assert np.abs(found - wanted).sum() <= 0.1 * wanted.sum()


def test_rows_per_connection() -> None:
    weights = np.random.default_rng(0).uniform(0.02, 0.1, (3, 20))
    weights[0, 10:] = 0
    for rows in (1, 4, 8):
        chart, _ = started(feed_forward(weights), rows=rows)
        count = np.bincount(chart.rows.post)
        assert count.tolist() == [min(64, 10 * rows), min(64, 20 * rows), min(64, 20 * rows)]
        each = np.unique(np.stack([chart.rows.pre, chart.rows.post]), axis=1, return_counts=True)[1]
        assert each.max() <= rows
        assert all(sorted(chart.rows.row[chart.rows.post == n]) == list(range(count[n])) for n in range(3))
    full = np.full((2, 64), 0.05)
    assert started(feed_forward(full))[0].rows.n_synapses == 128
    with pytest.raises(nd.CapacityError, match=r"65 incoming synapses, a DYNAP-SE2 neuron stores 64") as error:
        started(feed_forward(np.full((2, 65), 0.05)))
    assert "Params without masks: then the rows are chosen while training" in str(error.value)


@pytest.mark.parametrize("bits", shortened([1, 2, 3, 4], 2))
def test_levels_reach_the_weights_of_the_start(bits: int) -> None:
    chart, latent = started(network(n_hidden=20), bits)
    np.testing.assert_allclose(projected(chart, latent).weight, latent.weight, rtol=1e-5)
    made = quantised(chart, latent)
    size = np.abs(np.asarray(latent.weight)) * chart.unit
    error = np.sqrt(np.mean((np.asarray(made.current) - size) ** 2) / np.mean(size**2))
    assert error < {1: 0.7, 2: 0.3, 3: 0.15, 4: 0.1}[bits]


def test_what_is_quantised_starts_from_itself() -> None:
    chart, latent = started(network())
    params = settled(chart, moved(chart, latent))
    again, numbers = started(params)
    back = settled(again, numbers)
    assert params.topology.mask is not None
    assert back.topology.mask is not None
    np.testing.assert_array_equal(back.topology.mask, params.topology.mask)
    on = params.topology.mask != 0  # what weighs nothing has no sign
    np.testing.assert_array_equal(back.topology.dendrite[on], params.topology.dendrite[on])
    np.testing.assert_array_equal(back.base, params.base)
    for name in CURRENTS:
        np.testing.assert_array_equal(back.bias[name], params.bias[name], err_msg=name)
