"""Learned sparsity: what rows hear at first, how they move, and the compiled kernels that take it as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nir_dynapse as nd
import small_networks
from nir_dynapse.chip.device import GABA
from nir_dynapse.circuit.closed_form import event_charge, to_params
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.sim.engine import spike_counts
from nir_dynapse.sim.native import run as native
from nir_dynapse.sim.native.run import wiring_of
from nir_dynapse.sim.wiring import synaptic_values
from nir_dynapse.training.first_rows import first_rows, heard_on
from nir_dynapse.training.losses import Counts, Distilled
from nir_dynapse.training.rewiring import Candidates, Rewiring, cleared, movable, rewired_rows
from nir_dynapse.training.trainable import Latent
from shortened import shortened
from tuning_cases import SPREAD, same, shared_compilation, short

RNG = np.random.default_rng(4)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


def dense(n_in: int = 96, n_out: int = 6, twins: bool = False) -> nd.Network:
    """A layer with more inputs than rows; with `twins` channels 2k and 2k + 1 are to be fed alike."""
    return small_networks.feed_forward(np.random.default_rng(1).normal(0.1, 0.4, (n_out, n_in)))


def events(n_in: int = 96, twins: bool = False, samples: int = 6) -> np.ndarray:
    x = np.random.default_rng(2).random((samples, 60, n_in // 2 if twins else n_in)) < 0.05
    return np.repeat(x, 2, axis=2).astype(np.uint8) if twins else x.astype(np.uint8)


# --- the first choice -------------------------------------------------------------------------------------------------


def chosen(x: np.ndarray, limit: int = 64, cv: float = 0.2, key: int = 0) -> Any:
    params = to_params(dense())
    t = params.topology
    return first_rows(params, np.full(t.n_neurons, limit), heard_on(params, t, x, nd.DYNAPSE2), cv, key)


@pytest.mark.parametrize("limit", shortened([1, 7, 63, 64], 2))
def test_no_neuron_hears_more_than_its_rows_and_only_what_it_heard(limit: int) -> None:
    found = chosen(events(), limit)
    t, before = found.params.topology, to_params(dense()).topology
    assert np.bincount(t.post).max() <= limit
    pairs = set(zip(before.pre.tolist(), before.post.tolist(), strict=True))
    mine = list(zip(t.pre.tolist(), t.post.tolist(), strict=True))
    assert set(mine) <= pairs
    assert len(set(mine)) == len(mine)
    assert np.isfinite(found.params.row_currents()).all()
    assert (found.params.row_currents() >= 0).all()
    (candidates,) = found.candidates
    assert candidates.allowed.all()


def test_what_fits_stays_as_it_is() -> None:
    params = to_params(dense(64))
    x = events(64)
    found = first_rows(params, np.full(6, 64), heard_on(params, params.topology, x, nd.DYNAPSE2), 0.2)
    assert found.params is params
    assert not found.candidates


def test_redundant_sources_are_replaced_without_loss() -> None:
    """Channels that fire alike in pairs: half of the rows say all, if one row has the weight of both."""
    x = events(twins=True)
    found = chosen(x, 48, cv=0.0)
    assert found.follows[next(iter(found.follows))] > 0.99
    full = nd.simulate(to_params(dense()), x)
    kept = nd.simulate(found.params, x)
    assert kept.counts().sum() == pytest.approx(full.counts().sum(), rel=0.1)
    signed = np.where(found.params.topology.dendrite == GABA, -1, 1) * found.params.row_currents()
    charge = np.bincount(found.params.topology.post, signed * event_charge(found.params))
    params = to_params(dense())
    signed = np.where(params.topology.dendrite == GABA, -1, 1) * params.row_currents()
    np.testing.assert_allclose(charge, np.bincount(params.topology.post, signed * event_charge(params)), rtol=0.1)


def test_with_a_spread_the_weights_are_smaller() -> None:
    power = {cv: float(np.square(chosen(events(), 40, cv).params.row_currents()).sum()) for cv in (0.0, 0.5)}
    assert power[0.5] < power[0.0]


def test_the_same_key_the_same_rows() -> None:
    a, b = chosen(events(), 40), chosen(events(), 40)
    np.testing.assert_array_equal(a.params.topology.pre, b.params.topology.pre)
    np.testing.assert_array_equal(a.params.row_currents(), b.params.row_currents())


@pytest.mark.parametrize("x", [np.zeros((3, 20, 96), np.uint8), events()[:1, :1]], ids=["silence", "one bin"])
def test_data_that_says_little(x: np.ndarray) -> None:
    found = chosen(x)
    assert np.isfinite(found.params.row_currents()).all()
    assert np.bincount(found.params.topology.post).max() <= 64


def test_channels_that_nobody_hears() -> None:
    found = chosen(events(), 3)
    layout = nd.compile(dense(), params=found.params)
    (told,) = (f for f in layout.findings if f.code == "unheard-channels")
    assert told.used == 96 - len(np.unique(found.params.topology.pre))


# --- rows that move ---------------------------------------------------------------------------------------------------


def table_of(n: int, rows: int, sources: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Candidates]:
    pre = np.concatenate([np.random.default_rng(k).permutation(sources)[:rows] for k in range(n)])
    table = np.arange(n * rows).reshape(n, rows)
    weight = np.random.default_rng(9).normal(0, 1, n * rows)
    return weight, pre, table, Candidates(np.arange(n), np.arange(sources), np.ones((n, sources), bool))


def test_the_weakest_rows_hear_what_the_gradient_asks_for() -> None:
    weight, pre, table, candidates = table_of(5, 16, 40)
    gain = np.random.default_rng(3).normal(0, 1, (5, 40))
    after, moved = rewired_rows(weight, pre, table, candidates, gain, 0.25, RNG)
    assert moved.reshape(5, 16).sum(1).tolist() == [4] * 5
    for n in range(5):
        rows = table[n]
        assert set(rows[moved[rows]]) == set(rows[np.argsort(np.abs(weight[rows]))[:4]])
        free = np.setdiff1d(np.arange(40), pre[rows])
        assert set(after[rows][moved[rows]]) == set(free[np.argsort(-np.abs(gain[n, free]))[:4]])
        assert len(set(after[rows])) == 16
    assert (after[~moved] == pre[~moved]).all()


def test_random_growth_hears_only_what_is_allowed() -> None:
    weight, pre, table, candidates = table_of(5, 16, 40)
    allowed = np.random.default_rng(5).random((5, 40)) < 0.5
    for n in range(5):
        allowed[n, pre[table[n]]] = True
    candidates = Candidates(candidates.neurons, candidates.sources, allowed)
    for share in (0.0, 0.3, 1.0):
        after, _ = rewired_rows(weight, pre, table, candidates, None, share, np.random.default_rng(0))
        assert all(allowed[n, after[table[n]]].all() and len(set(after[table[n]])) == 16 for n in range(5))


def test_nothing_moves_where_everything_is_heard() -> None:
    weight, pre, table, candidates = table_of(3, 16, 16)
    after, moved = rewired_rows(weight, pre, table, candidates, None, 0.5, RNG)
    assert not moved.any()
    assert (after == pre).all()


def test_neurons_with_fewer_rows_and_the_tonic_input_stay() -> None:
    params = to_params(dense())
    t = params.topology
    free = np.ones(t.n_synapses, bool)
    pre = t.pre.copy()
    pre[t.post == 2] = np.where(np.arange(96) < 40, t.tonic, pre[t.post == 2])
    table = movable(t, free, Candidates(np.array([1, 2]), np.arange(96), np.ones((2, 96), bool)), pre)
    assert (table >= 0).sum(1).tolist() == [96, 56]
    assert (pre[table[1][table[1] >= 0]] != t.tonic).all()


def test_new_rows_start_without_weight_and_memory() -> None:
    latent = Latent({"i_tau_mem": jnp.ones(2)}, jnp.ones((2, 4)), jnp.arange(1.0, 7.0))
    moved = np.array([False, True, False, False, True, False])
    after, opt = cleared(latent, {"mu": jnp.ones(6), "count": jnp.ones(()), "other": jnp.ones(2)}, moved)
    np.testing.assert_array_equal(after.weight, [1, 0, 3, 4, 0, 6])
    np.testing.assert_array_equal(opt["mu"], ~moved)
    assert opt["other"].tolist() == [1, 1]
    assert after.bias is latent.bias


@pytest.mark.parametrize("wrong", [{"method": "greedy"}, {"every": -1}, {"share": 1.5}, {"until": "all"}])
def test_refusals(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterRangeError):
        Rewiring(**wrong)


def test_when_rows_move() -> None:
    how = Rewiring(every=10, share=0.4, until=0.5)
    shares = [how.due(step, 100) for step in range(1, 101)]
    assert [k + 1 for k, share in enumerate(shares) if share] == [10, 20, 30, 40]
    assert 0.4 > shares[9] > shares[19] > shares[39] > 0


# --- the kernels ------------------------------------------------------------------------------------------------------


def moved_circuit() -> tuple[nd.Params, np.ndarray, nd.Params]:
    """A circuit, other sources for its synapses, and the circuit that has them."""
    params = to_params(small_networks.recurrent(0, 12, 20, 4))
    t = params.topology
    pre = np.random.default_rng(8).integers(0, t.n_sources, t.n_synapses)
    pre[pre == t.tonic] = 0
    return params, pre, replace(params, topology=replace(t, pre=pre))


def test_sources_as_data_are_sources_of_the_topology() -> None:
    params, pre, other = moved_circuit()
    x = (np.random.default_rng(1).random((3, 80, 12)) < 0.2).astype(np.float32)
    wiring = wiring_of(params.topology, pre)

    def total(weight: Any, thing: nd.Params, **how: Any) -> Any:
        counts = spike_counts(replace(thing, weight=weight), x, **how)
        return (counts * jnp.cos(jnp.arange(counts.size).reshape(counts.shape))).sum(), counts

    grad = jax.value_and_grad(total, has_aux=True)
    weight = jnp.asarray(params.weight, jnp.float32)
    (_, counts), slope = jax.jit(lambda w, wires: grad(w, params, wiring=wires))(weight, wiring)
    (_, wanted), expected = grad(weight, other)
    assert wanted.sum() > 50
    np.testing.assert_array_equal(counts, wanted)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-3 * float(jnp.abs(expected).max()))


def test_a_probe_has_the_gradient_of_wires_that_are_not_there() -> None:
    """The same as that of what an event adds through rows that do exist, wherever one does."""
    params, pre, other = moved_circuit()
    t = params.topology
    x = (np.random.default_rng(1).random((3, 80, 12)) < 0.2).astype(np.float32)
    used = np.unique(t.dendrite)
    shape = (len(used), t.n_sources, t.n_neurons)

    def total(probe: Any) -> Any:
        counts = spike_counts(params, x, substeps=1, wiring=wiring_of(t, pre), probe=probe)
        return (counts * jnp.cos(jnp.arange(counts.size).reshape(counts.shape))).sum()

    def by_weight(weight: Any) -> Any:
        counts = spike_counts(replace(other, weight=weight), x, substeps=1)
        return (counts * jnp.cos(jnp.arange(counts.size).reshape(counts.shape))).sum()

    slopes = np.asarray(jax.grad(total)(jnp.zeros(shape)))
    weight = jnp.asarray(params.weight, jnp.float32)
    expected = np.asarray(jax.grad(by_weight)(weight))
    per_ampere = np.asarray(synaptic_values(other, t.dt, np)) / np.asarray(params.weight)
    found = slopes[np.searchsorted(used, t.dendrite), pre, t.post] * per_ampere
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert np.abs(slopes).sum() > np.abs(slopes[np.searchsorted(used, t.dendrite), pre, t.post]).sum()


# --- trainings --------------------------------------------------------------------------------------------------------


ROWS = 16
DEVICE = nd.Device(cam_rows=ROWS)
"""Neurons with few rows, which less has to be computed for."""


def classes(samples: int = 32, n_in: int = 24, seed: int = 1) -> nd.Data:
    """Class 0: the first half of the inputs is the busier one; class 1: the other."""
    y = np.arange(samples) % 2
    rates = np.where(y[:, None] == np.arange(n_in) // (n_in // 2), 0.12, 0.03) * 96 / n_in
    x = np.random.default_rng(seed).random((samples, 20, n_in)) < rates[:, None]
    return nd.Data(x.astype(np.uint8), y, 1e-3)


def layers(n_in: int = 24, n_hidden: int = 20) -> nd.Network:
    """Dense on both sides: 24 inputs for each hidden neuron, 20 for each output."""
    return small_networks.dense(0, n_in, n_hidden, 2)


def tuned(path: Any = None, steps: int = 6, **changes: Any) -> nd.Params:
    options = short(rewiring=Rewiring(**{"every": 2, "until": 1.0, **changes.pop("rewiring", {})}), **changes)
    how = {"steps": steps, "devices": 2, "mismatch": SPREAD, "device": DEVICE}
    return nd.fine_tune(layers(), classes(), checkpoint=path, options=options, **how)


@pytest.mark.long
def test_a_dense_network_is_trained_onto_the_rows_and_compiles() -> None:
    params = tuned()
    t = params.topology
    assert np.bincount(t.post).max() == ROWS
    assert np.bincount(t.post).min() == ROWS
    layout = nd.compile(layers(), params=params, device=DEVICE)
    again = layout_to_params(layout).topology
    assert sorted(zip(t.pre, t.post, t.dendrite, strict=True)) == sorted(
        zip(again.pre, again.post, again.dendrite, strict=True)
    )
    x = classes(8, seed=5).x
    np.testing.assert_array_equal(nd.simulate(layout, x).output, nd.simulate(params, x).output)


@pytest.mark.long
def test_rows_do_move() -> None:
    found = {method: tuned(rewiring={"method": method}) for method in ("gradient", "random", "none")}
    heard = {method: frozenset(zip(p.topology.pre, p.topology.post, strict=True)) for method, p in found.items()}
    assert len(set(heard.values())) == 3


@pytest.mark.long
def test_a_training_goes_on_with_what_its_rows_hear(tmp_path: Any) -> None:
    whole, path = tuned(), tmp_path / "half.npz"

    def stop(what: str, fraction: float) -> None:
        if fraction > 0.6:
            raise KeyboardInterrupt

    how = {"steps": 6, "devices": 2, "mismatch": SPREAD, "checkpoint": path, "device": DEVICE}
    options = short(rewiring=Rewiring(every=2, until=1.0))
    with pytest.raises(KeyboardInterrupt):
        nd.fine_tune(layers(), classes(), options=options, progress=stop, **how)
    assert same(nd.fine_tune(layers(), classes(), options=options, **how), whole)


@pytest.mark.long
def test_without_the_kernels_rows_move_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    params = tuned(steps=4, rewiring={"every": 2})
    assert np.bincount(params.topology.post).max() == ROWS


def test_copies_hear_different_sources() -> None:
    params = nd.fine_tune(layers(96, 20), classes(n_in=96), steps=0, devices=2, spend=3, options=short())
    t = params.topology
    assert t.copies == (3, 3)
    heard = [frozenset(t.pre[t.post == n]) for n in range(3)]
    assert len(set(heard)) == 3


def test_the_teacher_of_a_distilled_loss_counts_where_it_is_right() -> None:
    loss = Distilled(1e-3, Counts(1e-3), 0.5)
    out = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 10, 3)))
    taught = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    target = jnp.asarray(np.c_[[1, 1], taught])
    found, plain = loss(out, target), Counts(1e-3)(out, jnp.array([1, 1]))
    p, q = np.exp(taught[0]) / np.exp(taught[0]).sum(), jax.nn.log_softmax(Counts(1e-3).logits(out))[0]
    np.testing.assert_allclose(found[0], 0.5 * plain[0] - 0.5 * (p * q).sum(), rtol=1e-5)
    np.testing.assert_allclose(found[1], plain[1], rtol=1e-5)
