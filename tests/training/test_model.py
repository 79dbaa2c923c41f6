"""A training loop of one's own: `trainable` and the pure functions of `Trainable`, as a user calls them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import enable_x64

import nir_dynapse as nd
from given_bits import assert_same
from nir_dynapse.chip.device import GABA
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.network.network import Network, Port, Projection
from small_networks import population
from tuning_cases import DT, SPREAD, data, network, shared_compilation, with_readout

OPTIONS = nd.TrainingOptions(rows=2, fit=False)
LOSS = nd.Counts(DT)
INPUTS = 100
"""Of the network whose neurons have more of them than CAM rows."""


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


@cache
def small() -> nd.Trainable:
    return nd.trainable(network(2), mismatch=SPREAD, options=OPTIONS)


def moved(model: nd.Trainable, size: float = 0.1, seed: int = 0) -> Any:
    """The numbers of `model` after a random step."""
    rng = np.random.default_rng(seed)
    change = jax.tree_util.tree_map(lambda leaf: rng.normal(0, size, leaf.shape).astype(np.float32), model.start)
    return model.bounded(jax.tree_util.tree_map(jnp.add, model.start, change))


@cache
def wide() -> tuple[Network, nd.Data, nd.Trainable]:
    """A network of 8 hidden neurons with 100 inputs each, and what is trained of it."""
    rng = np.random.default_rng(0)
    layers = (
        Projection.from_dense("in", "hidden", rng.normal(0.02, 0.03, (8, INPUTS)), nodes=("fc1",)),
        Projection.from_dense("hidden", "out", rng.normal(0.1, 0.1, (2, 8)), nodes=("fc2",)),
    )
    populations = (population("hidden", 8), population("out", 2))
    net = Network(populations, layers, (Port("in", (INPUTS,)),), (Port("output", (2,), "out"),), DT)
    y = np.arange(32) % 2
    busy = np.where(y[:, None, None] == np.arange(INPUTS) // (INPUTS // 2), 0.1, 0.05)
    samples = nd.Data((rng.random((32, 20, INPUTS)) < busy).astype(np.uint8), y, DT)
    return net, samples, nd.trainable(net, samples, mismatch=SPREAD, options=OPTIONS)


# --- gradients --------------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences() -> None:
    """In the smoothed model, in which they are exact, through chip, run, output, loss and both kinds of penalties."""
    smooth = nd.Surrogate(smooth=True, timing=True, slope=5.0)
    options = nd.TrainingOptions(rows=2, fit=False, rounded=False, surrogate=smooth)
    model = nd.trainable(network(2), mismatch=SPREAD, options=options)
    samples = data(3, bins=12)
    chip = jax.tree_util.tree_map(np.asarray, model.chip(jax.random.key(3)))
    penalty = nd.Penalty(activity=0.3, wanted=4.0, operations=0.2, sparsity=0.01)
    with enable_x64():
        numbers = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float64), model.start)

        @jax.jit
        def value(numbers: Any) -> Any:
            return model.loss(numbers, samples.x, samples.y, chip, loss=LOSS, penalty=penalty)

        slope = jax.jit(jax.grad(value))(numbers)
        rng, step = np.random.default_rng(0), 1e-5
        for part in ("weight", "base", "bias"):
            along = jax.tree_util.tree_map(lambda leaf: jnp.zeros_like(leaf), numbers)
            draw = jax.tree_util.tree_map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), getattr(numbers, part))
            along = along._replace(**{part: draw})
            ends = [jax.tree_util.tree_map(lambda n, a, s=s: n + s * step * a, numbers, along) for s in (1, -1)]
            wanted = float(value(ends[0]) - value(ends[1])) / (2 * step)
            products = jax.tree_util.tree_map(lambda g, a: float((g * a).sum()), slope, along)
            found = sum(jax.tree_util.tree_leaves(products))
            if part == "base":  # without rounding the levels are not used
                assert found == wanted == 0
            else:
                assert abs(wanted) > 1e-3
                assert found == pytest.approx(wanted, rel=1e-4), part


def test_rounding_is_straight_through() -> None:
    model, numbers = small(), moved(small())

    def total(numbers: Any) -> Any:
        params = model.on_chip(numbers)
        sign = np.where(params.topology.dendrite == GABA, -1.0, 1.0)
        return (params.weight * sign).sum() / model.chart.unit

    slope = jax.grad(total)(numbers)
    np.testing.assert_allclose(slope.weight, 1.0, rtol=1e-5)  # as if nothing were rounded
    assert (np.asarray(slope.base) > 0).all()  # more current in every bit that a mask takes
    exact = nd.trainable(network(2), options=nd.TrainingOptions(rows=2, fit=False, rounded=False))
    pairs = zip(*(m.on_chip(numbers).bias.values() for m in (model, exact)), strict=True)
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in pairs)


# --- bits -------------------------------------------------------------------------------------------------------------


def test_what_is_rounded_in_the_loop_is_what_compile_writes() -> None:
    model, net = small(), network(2)
    numbers = moved(model)
    params = model.params(numbers)
    layout = nd.compile(net, params=params)
    assert_same(layout_to_params(layout), params)
    traced, rows = jax.jit(model.on_chip)(numbers), model.topology.n_synapses
    weight = np.asarray(traced.weight[:rows]).copy()  # rows whose sign is free come twice, with either sign
    weight[model.chart.free_rows] += np.asarray(traced.weight[rows:])
    np.testing.assert_allclose(weight, params.row_currents(), rtol=1e-6)
    for name, value in traced.bias.items():
        np.testing.assert_allclose(value, params.per_neuron(name), rtol=1e-6, err_msg=name)
    samples = data(8)
    inside = np.asarray(model.spikes(numbers, samples.x)).sum()
    outside = sum(value.sum() for value in nd.simulate(layout, samples.x, record=("spikes",)).spikes.values())
    assert inside > 50
    assert abs(inside - outside) <= 0.01 * inside  # ties at the threshold


def test_operations_are_events_times_the_rows_of_the_layout() -> None:
    model, samples = small(), data(6)
    numbers = moved(model, 0.3)
    spikes = model.spikes(numbers, samples.x)
    t = layout_to_params(nd.compile(network(2), params=model.params(numbers))).topology
    assert t.mask is not None
    rows = np.bincount(t.pre[t.mask > 0], minlength=t.n_sources)
    assert rows.sum() < model.topology.n_synapses  # some masks are 0
    events = np.concatenate([samples.x.sum(1), np.zeros((6, 1)), np.asarray(spikes).sum(1)], axis=1)
    np.testing.assert_array_equal(model.operations(numbers, samples.x, spikes), events @ rows)


# --- chips ------------------------------------------------------------------------------------------------------------


def test_a_call_draws_a_chip() -> None:
    model = small()
    keys = jax.random.split(jax.random.key(5), 300)
    chips, again = (jax.vmap(model.chip)(keys) for _ in range(2))
    np.testing.assert_array_equal(chips.row, again.row)
    factor = np.exp(np.asarray(chips.row, float))
    assert factor.mean() == pytest.approx(1, abs=0.01)
    assert factor.std() == pytest.approx(0.2, rel=0.03)
    half = model.chip(keys[0], nd.Mismatch.uniform(0.4), 0.5)
    np.testing.assert_allclose(half.row, model.chip(keys[0]).row, rtol=1e-5)
    assert not np.asarray(model.chip(keys[0], nd.Mismatch.none()).bias).any()
    x = data(4).x
    both = jax.vmap(model.spikes, (None, None, 0))(model.start, x, jax.vmap(model.chip)(keys[:2]))
    np.testing.assert_array_equal(both[1], model.spikes(model.start, x, model.chip(keys[1])))
    assert (np.asarray(both[0]) != np.asarray(both[1])).any()


def test_what_a_board_sent_takes_the_place_of_spikes() -> None:
    model, samples = small(), data(4)
    sent = np.asarray(model.spikes(model.start, samples.x, model.chip(jax.random.key(9))))

    def value(numbers: Any) -> Any:
        return LOSS(model.output(model.spikes(numbers, samples.x, recorded=sent)), samples.y).mean()

    assert value(model.start) == pytest.approx(float(LOSS(model.output(sent), samples.y).mean()))
    assert np.abs(jax.grad(value)(model.start).weight).max() > 0


# --- loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [network(2), pytest.param(with_readout(), marks=pytest.mark.long)])
def test_an_optimiser_of_ones_own_learns(net: Network) -> None:
    model = nd.trainable(net, mismatch=SPREAD, options=OPTIONS)
    loss, samples = nd.Counts(DT, ratio=0.0) if net.readout.populations else LOSS, data()

    def cost(numbers: Any, keys: Any) -> Any:
        on_one = jax.vmap(lambda key: model.loss(numbers, samples.x, samples.y, model.chip(key), loss=loss))
        return on_one(keys).mean()

    @jax.jit
    def step(numbers: Any, keys: Any) -> Any:
        value, slope = jax.value_and_grad(cost)(numbers, keys)
        return model.bounded(jax.tree_util.tree_map(lambda n, g: n - 0.02 * jnp.sign(g), numbers, slope)), value

    numbers, values = model.start, []
    for k in range(12):
        numbers, value = step(numbers, jax.random.split(jax.random.key(k), 4))
        values.append(float(value))
    assert np.mean(values[-3:]) < 0.9 * np.mean(values[:3]), values
    params = model.params(numbers)
    nd.compile(net, params=params)
    again = nd.trainable(params)  # goes on from its own bits; masks of one level may stand for each other
    np.testing.assert_allclose(again.params(again.start).row_currents(), params.row_currents(), rtol=1e-5)


def test_the_budget_of_rows_is_kept_while_rows_move() -> None:
    net, samples, model = wide()
    t = model.topology
    most = np.bincount(t.post, minlength=t.n_neurons)
    assert most.max() == 64 < INPUTS
    numbers, pre = moved(model), t.pre
    state = jax.tree_util.tree_map(jnp.ones_like, numbers)
    slope = None
    if model.rewires:

        def value(probe: Any) -> Any:
            x, y = samples.x[:8], samples.y[:8]
            return model.loss(numbers, x, y, loss=LOSS, wiring=model.wired(t.pre), probe=probe)

        slope = np.asarray(jax.grad(value)(model.silent_probe()))
        assert slope.shape[1:] == (t.n_sources, t.n_neurons)
        assert np.abs(slope).max() > 0
    new, state, pre = model.rewired(numbers, state, t.pre, 0.3, seed=1, slope=slope)
    gone = pre != t.pre
    hidden = np.bincount(t.post, gone, t.n_neurons)[:8]
    np.testing.assert_array_equal(hidden, np.round(0.3 * most[:8]))
    weight = np.abs(np.asarray(numbers.weight))
    for neuron in range(8):  # the smallest went, and no input is heard twice
        mine = t.post == neuron
        assert weight[mine & gone].max() <= weight[mine & ~gone].min()
        assert len(np.unique(pre[mine])) == mine.sum()
        if slope is not None:
            gain = np.abs(slope[0, :INPUTS, neuron])
            silent = np.setdiff1d(np.arange(INPUTS), np.r_[pre[mine], t.pre[mine]])
            assert gain[pre[mine & gone]].min() >= gain[silent].max(initial=0)
    assert not np.asarray(new.weight)[gone].any()
    assert not np.asarray(state.weight)[gone].any()
    assert np.asarray(state.weight)[~gone].all()
    params = model.params(new, pre)
    layout = nd.compile(net, params=params)
    assert_same(layout_to_params(layout), params)
    if model.rewires:
        x = samples.x[:4]
        found = [model.spikes(new, x, wiring=model.wired(pre)), model.hearing(pre).spikes(new, x)]
        np.testing.assert_array_equal(*found)


# --- losses and penalties ---------------------------------------------------------------------------------------------


def test_penalties_on_activity_and_operations() -> None:
    count = np.array([[1.0, 3.0], [4.0, 0.0]])
    spikes = np.zeros((2, 6, 2), np.float32)
    for (b, n), many in np.ndenumerate(count):
        spikes[b, : int(many), n] = 1
    assert float(nd.Penalty(activity=2.0, wanted=5.0)(spikes)) == 2 * (2 - 5) ** 2
    assert float(nd.Penalty(operations=0.5)(spikes, np.array([3.0, 5.0]))) == 2
    assert not nd.Penalty()
    assert nd.Penalty(operations=1.0)
    assert nd.Penalty(activity=1.0)
    model, samples = small(), data(4)
    of_loss, whole = (
        model.loss(model.start, samples.x, samples.y, loss=LOSS, penalty=penalty)
        for penalty in (None, nd.Penalty(operations=1.0))
    )
    spikes = model.spikes(model.start, samples.x)
    each = float(model.operations(model.start, samples.x, spikes).mean()) / model.topology.n_synapses
    assert float(whole - of_loss) == pytest.approx(each, rel=1e-5)
    with pytest.raises(nd.ParameterRangeError, match=r"Penalty: operations is -1"):
        nd.Penalty(operations=-1.0)


@pytest.mark.long
def test_fine_tune_fires_as_much_as_the_penalty_wants(tmp_path: Path) -> None:
    quiet, busy = nd.Penalty(operations=3.0), nd.Penalty(activity=3.0, wanted=9.0)
    fired = []
    for penalty in (quiet, nd.Penalty(), busy):
        options = nd.TrainingOptions(
            batch=16, rate=0.05, held_out=1, check_every=20, ramp=0.0, rows=2, fit=False, distil=0.0, penalty=penalty
        )
        params = nd.fine_tune(network(2), data(), mismatch=SPREAD, devices=2, steps=20, options=options)
        fired.append(nd.simulate(params, data(seed=9).x).spikes["hidden"].sum(1).mean())
    assert fired[0] < 0.9 * fired[1]
    assert abs(fired[2] - 9) < 0.5 * abs(fired[1] - 9)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_it_refuses() -> None:
    model = small()
    with pytest.raises(nd.ParameterRangeError, match=r"x has shape \(2, 20\), needed is \(samples, bins, 4\)"):
        model.spikes(model.start, np.zeros((2, 20)))
    with pytest.raises(nd.ConfigurationError, match=r"thing is a str\. Give a Network, Params or a Layout"):
        nd.trainable("net.nir")  # type: ignore[arg-type]
    with pytest.raises(nd.ConfigurationError, match=r"has 100 synapses and 64 CAM rows\. Give data"):
        nd.trainable(wide()[0])
    with pytest.raises(nd.ParameterRangeError, match=r"trainable: bits is 5"):
        nd.trainable(network(2), bits=5)
    with pytest.raises(nd.ConfigurationError, match=r"trainable: the data is a list"):
        nd.trainable(network(2), [])  # type: ignore[arg-type]
    with pytest.raises(nd.ParameterRangeError, match=r"share is 2"):
        model.rewired(model.start, (), model.topology.pre, 2.0, seed=0)
    assert "4 bits" in repr(model)
    assert hash(model) != hash(nd.trainable(network(2), options=OPTIONS))


def test_a_loss_of_times_is_given_times_or_refused() -> None:
    model, samples, loss = small(), data(8), nd.FirstSpikeTime(DT)
    times, _ = model.first_spikes(model.start, samples.x)
    wanted = float(np.mean(loss(times[:, -2:], jnp.asarray(samples.y))))
    assert float(model.loss(model.start, samples.x, jnp.asarray(samples.y), loss=loss)) == pytest.approx(
        wanted, rel=1e-5
    )
    hosted = nd.trainable(with_readout(), mismatch=SPREAD, options=OPTIONS)
    with pytest.raises(nd.ParameterRangeError, match="which populations of the chip have"):
        hosted.loss(hosted.start, samples.x, samples.y, loss=loss)
    with pytest.raises(nd.ParameterRangeError, match=r"needed is \(samples, bins, 4\)"):
        model.first_spikes(model.start, samples.x[0])
