"""The parts of a training: ranges and grids with gradients, losses, the readout in JAX, injected spikes, replicate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip import biasgen
from nir_dynapse.network.network import Network
from nir_dynapse.network.readout import run_readout
from nir_dynapse.network.redundancy import copies_mean, replicate
from nir_dynapse.sim.engine import spike_counts
from nir_dynapse.sim.readout import values_of
from nir_dynapse.training import transforms
from nir_dynapse.training.injection import injected_counts
from nir_dynapse.training.losses import (
    LOSSES,
    Counts,
    Distilled,
    FirstSpike,
    FirstSpikeTime,
    MaxOverTime,
    Penalty,
    Trajectory,
    filtered,
    loss_named,
)
from nir_dynapse.training.task import task_of
from tuning_cases import DT, data, network, shared_compilation, with_readout

RNG = np.random.default_rng(0)
SPIKES = (RNG.random((4, 15, 3)) < 0.3).astype(np.float32)
SPIKES[1, :, 1] = 0  # a silent neuron
CLASSES = np.array([0, 1, 2, 1])


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


# --- transforms -------------------------------------------------------------------------------------------------------


def test_ranges_are_bijections() -> None:
    low, high = 2e-12, 3e-8
    value = np.geomspace(low * 1.05, high / 1.05, 60)
    np.testing.assert_allclose(
        transforms.to_range(transforms.from_range(value, low, high), low, high), value, rtol=2e-5
    )
    inside = transforms.to_range(jnp.linspace(-50, 50, 101), low, high)
    assert low * (1 - 1e-5) <= inside.min() <= inside.max() <= high * (1 + 1e-5)
    assert (np.diff(inside) >= 0).all()
    ends = transforms.from_range(np.array([0.0, low / 9, low, high, 9 * high]), low, high)
    assert np.isfinite(ends).all()
    np.testing.assert_allclose(ends, ends[3] * np.array([-1, -1, -1, 1, 1]))
    slope = jax.vmap(jax.grad(lambda z: transforms.to_range(z, low, high)))(jnp.asarray(ends, jnp.float32))
    assert (slope > 0).all()


def test_nearest_of_a_grid_by_ratio() -> None:
    grid = np.unique(biasgen.grid("i_tau_mem"))
    grid = grid[grid > 0]
    value = np.exp(np.random.default_rng(1).uniform(np.log(grid[0] / 2), np.log(grid[-1] * 2), 400))
    wanted = grid[np.abs(np.log(value[:, None] / grid)).argmin(1)]
    found = np.asarray(transforms.on_grid(jnp.asarray(value, jnp.float32), jnp.asarray(grid, jnp.float32)))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    slope = jax.grad(lambda v: (3 * transforms.on_grid(v, jnp.asarray(grid, jnp.float32))).sum())(jnp.asarray(value))
    np.testing.assert_array_equal(slope, np.full(len(value), 3, np.float32))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_nearest_masks_are_those_of_brute_force(bits: int) -> None:
    rng = np.random.default_rng(bits)
    base = rng.uniform(0.1, 2, (3, bits)).astype(np.float32)
    size, group = rng.uniform(0, 5, 90).astype(np.float32), rng.integers(0, 3, 90)
    found = np.asarray(transforms.nearest_mask(size, jnp.asarray(base), group))
    sums = np.array([[sum(b for k, b in enumerate(row) if m >> k & 1) for m in range(1 << bits)] for row in base])
    error = np.abs(sums[group] - size[:, None])
    np.testing.assert_allclose(error[np.arange(90), found], error.min(1), atol=1e-6)
    np.testing.assert_allclose(transforms.levels(jnp.asarray(base)), sums, rtol=1e-6)
    chosen = (np.asarray(transforms.bits_of(found, bits)) * base[group]).sum(1)
    np.testing.assert_allclose(chosen, sums[group, found], rtol=1e-6)


def test_straight_through() -> None:
    value, slope = jax.value_and_grad(lambda v: transforms.straight_through(v, jnp.round(v)) ** 2)(1.7)
    assert (value, slope) == (4, 4)  # d(out²) = 2·out, as if `round` were the identity


# --- losses -----------------------------------------------------------------------------------------------------------


def cross_entropy(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(target)), target]


def by_loop(spikes: np.ndarray, tau: float) -> np.ndarray:
    out, f = np.zeros(spikes.shape), 0.0
    for t in range(spikes.shape[1]):
        f = f * np.exp(-DT / tau) + spikes[:, t]
        out[:, t] = f
    return out


def test_filtered_is_the_loop() -> None:
    np.testing.assert_allclose(filtered(SPIKES, 7e-3, DT), by_loop(SPIKES, 7e-3), rtol=1e-5)


def test_counts() -> None:
    c = SPIKES.sum(1)
    plain, ratio = Counts(DT, scale=0.5, ratio=0.0), Counts(DT, ratio=3.0, offset=2.0)
    np.testing.assert_allclose(plain(SPIKES, CLASSES), cross_entropy(0.5 * c, CLASSES), rtol=1e-5)
    np.testing.assert_allclose(ratio(SPIKES, CLASSES), cross_entropy(3 * np.log(2 + c), CLASSES), rtol=1e-5)
    for loss in (plain, ratio):
        np.testing.assert_array_equal(loss.answer(SPIKES), c.argmax(1))


def first_times(spikes: np.ndarray) -> np.ndarray:
    """Bins before the first spike; all of them where there is none."""
    return np.where(spikes.any(1), spikes.argmax(1), spikes.shape[1])


def test_first_spike() -> None:
    loss, times = FirstSpike(DT, tau=4e-3), first_times(SPIKES)
    assert times[1, 1] == 15
    np.testing.assert_allclose(loss(SPIKES, CLASSES), cross_entropy(-times * DT / 4e-3, CLASSES), rtol=1e-5)
    np.testing.assert_array_equal(loss.answer(SPIKES), times.argmin(1))
    assert loss.logits(SPIKES + (SPIKES > 0)).tolist() == loss.logits(SPIKES).tolist()  # two spikes in a bin

    # t = Σ_k Π_{j≤k} (1 − s_j): another spike at j would end what is left of the silence that begins there.
    slope = np.asarray(jax.grad(lambda s: FirstSpike(DT, tau=DT).logits(s).sum())(jnp.asarray(SPIKES)))
    wanted = np.zeros_like(SPIKES)
    for b, n in np.ndindex(4, 3):
        first = times[b, n]
        for j in range(15):
            others = np.delete(1 - SPIKES[b, :, n], j)
            wanted[b, j, n] = sum(np.prod(others[:k]) for k in range(j, 15))
        assert (slope[b, : first + 1, n] > 0).all()
        assert (slope[b, first + 1 :, n] == 0).all()
    np.testing.assert_allclose(slope, wanted, atol=1e-6)


def test_first_spike_time() -> None:
    """ln(1 + Σ e^(−(t_i − t_c)/τ)) + early·(e^(t_c/late) − 1); of spikes it takes the times of their bins."""
    loss = FirstSpikeTime(DT, tau=4e-3, early=0.1, late=10e-3)
    times = np.random.default_rng(0).uniform(1e-3, 15e-3, (4, 3))
    own = times[np.arange(4), CLASSES]
    others = [[times[b, i] - own[b] for i in range(3) if i != CLASSES[b]] for b in range(4)]
    wanted = np.log1p(np.exp(-np.array(others) / 4e-3).sum(1)) + 0.1 * np.expm1(own / 10e-3)
    np.testing.assert_allclose(loss(jnp.asarray(times), CLASSES), wanted, rtol=1e-5)
    np.testing.assert_array_equal(loss.answer(times), times.argmin(1))
    np.testing.assert_allclose(loss.times(jnp.asarray(SPIKES)), first_times(SPIKES) * DT, rtol=1e-6)
    assert Distilled(DT, loss).timed
    assert not Distilled(DT, Counts(DT)).timed


def test_max_over_time_and_trajectory() -> None:
    loss = MaxOverTime(DT, tau=8e-3, scale=2.0)
    np.testing.assert_allclose(
        loss(SPIKES, CLASSES), cross_entropy(2 * by_loop(SPIKES, 8e-3).max(1), CLASSES), rtol=1e-5
    )
    target = np.random.default_rng(2).normal(size=SPIKES.shape)
    found = 0.5 * by_loop(SPIKES, 6e-3) + 0.1
    wanted = ((found - target) ** 2).mean((1, 2)) / (target**2).mean()
    np.testing.assert_allclose(Trajectory(DT, 6e-3, False, 0.5, 0.1)(SPIKES, jnp.asarray(target)), wanted, rtol=1e-4)
    large = np.full(SPIKES.shape, 20, np.uint8)  # 20² is no uint8
    wanted = ((by_loop(SPIKES, 6e-3) - 20) ** 2).mean((1, 2)) / 400
    np.testing.assert_allclose(Trajectory(DT, 6e-3)(SPIKES, jnp.asarray(large)), wanted, rtol=1e-4)
    teacher = np.roll(SPIKES, 1, axis=0)
    goal = by_loop(teacher, 6e-3)
    wanted = ((by_loop(SPIKES, 6e-3) - goal) ** 2).mean((1, 2)) / (goal**2).mean()
    taught = Trajectory(DT, 6e-3, filter_target=True)
    np.testing.assert_allclose(taught(SPIKES, jnp.asarray(teacher.astype(np.uint8))), wanted, rtol=1e-4)
    np.testing.assert_allclose(taught(teacher, jnp.asarray(teacher)), np.zeros(4), atol=1e-9)


@pytest.mark.long
def test_each_part_of_a_trajectory_counts_alike() -> None:
    """A population that fires a hundred times as much must not be all that a student learns."""
    rng = np.random.default_rng(5)
    quiet, busy = rng.random((2, 20, 3)), 100 * rng.random((2, 20, 2))
    off = [jnp.asarray(1.1 * quiet), jnp.asarray(1.1 * busy)]
    target = jnp.concatenate([jnp.asarray(quiet), jnp.asarray(busy)], axis=2)
    loss = Trajectory(DT, 6e-3, filter_target=True, parts=((0, 3), (3, 5)))
    only_quiet = loss(jnp.concatenate([off[0], jnp.asarray(busy)], axis=2), target)
    only_busy = loss(jnp.concatenate([jnp.asarray(quiet), off[1]], axis=2), target)
    np.testing.assert_allclose([only_quiet.mean(), only_busy.mean()], 0.01 / 2, rtol=1e-3)
    whole = replace(loss, parts=())
    assert whole(jnp.concatenate([off[0], jnp.asarray(busy)], axis=2), target).mean() < 1e-5


def test_counts_of_voltages_are_not_compared_by_ratio() -> None:
    """Values of a leaky readout have a sign; sums of spikes do not."""
    for net, ratio in ((network(), 4.0), (replicate(network(), 2), 4.0), (with_readout("LI"), 0.0)):
        loss = task_of(net, nd.to_params(net), data(4), None, None, None).loss
        assert isinstance(loss, Counts)
        assert loss.ratio == ratio


def test_losses_by_name() -> None:
    assert {type(loss_named(name, 2e-3)) for name in LOSSES} == {
        Counts,
        FirstSpike,
        FirstSpikeTime,
        MaxOverTime,
        Trajectory,
    }
    assert loss_named("counts", 2e-3).dt == 2e-3
    mine = Counts(scale=9.0)
    assert loss_named(mine, DT) is mine
    with pytest.raises(nd.ParameterRangeError, match=r"loss is 'x'\. Choose one of counts, first-spike"):
        loss_named("x", DT)


def test_penalty() -> None:
    c = SPIKES.sum(1)
    assert not Penalty()
    assert Penalty(busy=1.0)
    wanted = {"sparsity": (c**2).mean(), "busy": (np.maximum(c - 4, 0) ** 2).mean()}
    wanted["quiet"] = (np.maximum(5 - c.mean(0), 0) ** 2).mean()
    for name, value in wanted.items():
        assert float(Penalty(**{name: 2.0}, least=5.0, most=4.0)(SPIKES)) == pytest.approx(2 * value, rel=1e-5)


# --- readout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LI", "CubaLI", "I", "Linear"])
def test_values_of_a_readout_are_those_of_the_host(kind: str) -> None:
    net = with_readout(kind)
    spikes = (np.random.default_rng(3).random((5, 25, 6)) < 0.2).astype(np.uint8)
    wanted = run_readout(net.readout, {"hidden": spikes}, DT)["sum"]
    found = values_of(nd.to_params(net).topology, jnp.asarray(spikes, jnp.float32))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_without_a_readout_the_output_spikes_are_the_values() -> None:
    spikes = np.random.default_rng(4).random((2, 5, 8)).astype(np.float32)
    np.testing.assert_array_equal(values_of(nd.to_params(network()).topology, jnp.asarray(spikes)), spikes[..., 6:])


# --- injected spikes --------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("recurrent", [False, True])
def test_injected_spikes(recurrent: bool) -> None:
    params = nd.to_params(network(recurrent=recurrent, n_hidden=10))
    params = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    x = np.random.default_rng(5).poisson(0.7, (3, 30, 4))
    w = np.random.default_rng(6).normal(size=(3, 30, 12)).astype(np.float32)

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def plain(p: nd.Params) -> tuple[jax.Array, jax.Array]:
        out = spike_counts(p, x, substeps=1, dtype=jnp.float32, native=False)
        return (w * out).sum(), out

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def injected(p: nd.Params, recorded: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = injected_counts(p, x, recorded)
        return (w * out).sum(), out

    (_, own), wanted = plain(params)
    own = np.asarray(own)
    assert min(own[..., :10].sum(), own[..., 10:].sum()) > 10
    other = (np.random.default_rng(7).random(own.shape) < 0.1).astype(np.float32)
    for recorded in (other, 2 * other, own):
        (_, sent), found = injected(params, recorded)
        np.testing.assert_array_equal(sent, recorded)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree_util.tree_leaves(found))
    np.testing.assert_allclose(found.weight, wanted.weight, rtol=2e-3, atol=2e-3 * np.abs(wanted.weight).max())
    moved = [name for name in wanted.bias if name != "i_ref" and np.abs(wanted.bias[name]).max() > 0]
    assert {"i_tau_mem", "i_gain_mem", "i_spkthr", "i_tau_ampa", "i_gain_ampa"} <= {*moved}
    for name in moved:
        scale = np.abs(wanted.bias[name]).max()
        np.testing.assert_allclose(found.bias[name], wanted.bias[name], rtol=2e-3, atol=2e-3 * scale, err_msg=name)


# --- replicate --------------------------------------------------------------------------------------------------------


def two_ports() -> Network:
    """An output of spikes and one of a readout on the host."""
    net, read = network(recurrent=True), with_readout()
    return replace(net, readout=read.readout, outputs=(*net.outputs, replace(read.outputs[0], name="values")))


@pytest.mark.parametrize("make", [network, lambda: network(recurrent=True), with_readout, two_ports])
def test_copies_do_what_the_network_does(make) -> None:
    net, x = make(), data(4).x
    many = replicate(net, 3, key=4)
    assert [p.size for p in many.populations] == [3 * p.size for p in net.populations]
    one, all_ = nd.simulate(net, x, ideal=True), nd.simulate(many, x, ideal=True)
    for name, spikes in one.spikes.items():
        assert spikes.any()
        np.testing.assert_array_equal(copies_mean(all_.spikes[name], 3), spikes)
    np.testing.assert_allclose(all_.output, one.output, atol=1e-5)
    for before, after in zip(net.projections, many.projections, strict=True):
        fan_in = np.bincount(after.post, minlength=3 * (before.post.max() + 1))
        np.testing.assert_array_equal(fan_in, np.repeat(np.bincount(before.post), 3))
    params = nd.to_params(many)
    recorded = np.concatenate([all_.spikes[p.name] for p in many.populations], 2).astype(np.float32)
    np.testing.assert_allclose(values_of(params.topology, jnp.asarray(recorded)), all_.output, atol=1e-5)


def test_copies_listen_to_different_ones() -> None:
    net = network()
    many, again = (replicate(net, 4, key=key).projections[1] for key in (0, 1))
    groups = many.pre.reshape(-1, 4) % 4
    assert all(sorted(row) == [0, 1, 2, 3] for row in groups.tolist())
    assert len({tuple(row) for row in groups.tolist()}) > 3
    assert (many.pre != again.pre).any()
    assert (replicate(net, 4, key=0).projections[1].pre == many.pre).all()
    biased = replace(net.projections[1], bias=np.array([0.1, 0.2]))
    with_bias = replicate(replace(net, projections=(net.projections[0], biased)), 2)
    assert with_bias.projections[1].bias is not None
    np.testing.assert_array_equal(with_bias.projections[1].bias, [0.1, 0.1, 0.2, 0.2])


def test_copies_are_whole_numbers() -> None:
    net = network()
    assert replicate(net, 1) is net
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(nd.ParameterRangeError, match=r"whole numbers from 1 to 1024\. Choose"):
            replicate(net, wrong)  # type: ignore[arg-type]


def test_a_population_that_has_the_name_of_a_mean_keeps_it() -> None:
    net = network()
    source = str(net.outputs[0].source)
    hidden = next(p.name for p in net.populations if p.name != source)
    named = {hidden: f"{source}_mean", source: source}
    net = replace(
        net,
        populations=tuple(replace(p, name=named[p.name]) for p in net.populations),
        projections=tuple(
            replace(q, source=named.get(q.source, q.source), target=named[q.target]) for q in net.projections
        ),
    )
    many = replicate(net, 2)
    (port,) = many.outputs
    assert port.source not in {p.name for p in many.populations}
    x = np.random.default_rng(0).poisson(0.7, (2, 40, net.inputs[0].size))
    np.testing.assert_allclose(
        nd.simulate(many, x, ideal=True).output, nd.simulate(net, x, ideal=True).output, atol=1e-6
    )
