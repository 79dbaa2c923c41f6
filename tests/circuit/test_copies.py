"""Copies of neurons: what they hear, that they do what the network does, and the way back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nir_dynapse as nd
from circuits import circuits
from nir_dynapse.circuit.closed_form import event_charge, to_params
from nir_dynapse.circuit.copies import copied, fold, folded, mean, with_copies
from nir_dynapse.circuit.params import Params
from nir_dynapse.circuit.params_file import load_params, save_params
from nir_dynapse.errors import Finding
from nir_dynapse.layout.decoding import layout_to_params, to_network
from nir_dynapse.network.network import Network, Port, Projection
from small_networks import population, recurrent, with_readout


def dense(net: Network) -> dict[tuple[str, str], np.ndarray]:
    sizes = {p.name: p.size for p in (*net.inputs, *net.populations)}
    return {(q.source, q.target): q.dense(sizes[q.source], sizes[q.target]) for q in net.projections}


def imaged() -> Network:
    """Populations of shapes (2, 3) and (2, 2), both of them outputs, with constant inputs that differ."""
    rng = np.random.default_rng(5)
    first = replace(population("first", 6, v_leak=0.2), shape=(2, 3), v_leak=rng.uniform(0, 0.4, 6))
    second = replace(population("second", 4), shape=(2, 2))
    return Network(
        (first, second),
        (
            Projection.from_dense("in", "first", rng.normal(0.1, 0.1, (6, 4))),
            Projection.from_dense("first", "second", rng.normal(0.1, 0.1, (4, 6))),
            Projection.from_dense("second", "first", rng.normal(0, 0.05, (6, 4))),
        ),
        (Port("in", (2, 2)),),
        (Port("a", (2, 3), "first"), Port("b", (2, 2), "second")),
        1e-3,
    )


NETWORKS = {"recurrent": lambda: recurrent(0, 8, 12, 3), "readout": with_readout, "images": imaged}


def events(net: Network, samples: int = 2, steps: int = 60) -> np.ndarray:
    return (np.random.default_rng(1).random((samples, steps, net.n_inputs)) < 0.4).astype(np.uint8)


def test_one_copy_of_everything_is_the_same_object() -> None:
    params = to_params(recurrent(0, 4, 6, 2))
    assert with_copies(params, {}) is params
    assert with_copies(params, (1, 1)) is params


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 3))
def test_every_copy_hears_what_its_neuron_hears(hidden: int, output: int, key: int) -> None:
    params = to_params(recurrent(1, 5, 9, 4, fan_in=4))
    t = params.topology
    made = copied(params, {"hidden": hidden, "output": output}, key=key)
    c = made.params.topology
    each = np.repeat([hidden, output], [9, 4])
    first = np.cumsum(each) - each
    # Fan-in, weights and dendrites of each copy are those of the neuron.
    for n in range(t.n_neurons):
        mine = t.post == n
        for copy in range(each[n]):
            here = c.post == first[n] + copy
            assert made.origin[here].tolist() == np.flatnonzero(mine).tolist()
            np.testing.assert_array_equal(np.asarray(made.params.weight)[here], np.asarray(params.weight)[mine])
            np.testing.assert_array_equal(c.dendrite[here], t.dendrite[mine])
    owner = np.repeat(np.arange(t.n_neurons), each)
    inner = c.pre > c.tonic
    np.testing.assert_array_equal(owner[c.pre[inner] - c.tonic - 1], t.pre[made.origin[inner]] - t.tonic - 1)
    np.testing.assert_array_equal(c.pre[~inner], t.pre[made.origin[~inner]])
    # The copies of a source are heard alike: by the copies of a neuron as far as they can, else over all its targets.
    for s in range(t.n_synapses):
        if t.pre[s] > t.tonic:
            source = t.pre[s] - t.tonic - 1
            heard = np.bincount(c.pre[made.origin == s] - c.tonic - 1 - first[source], minlength=each[source])
            assert heard.max() - heard.min() <= 1
    for source in range(t.n_neurons):
        for name, part in t.slices().items():
            here = inner & (c.pre - c.tonic - 1 >= first[source]) & (c.pre - c.tonic - 1 < first[source] + each[source])
            here &= (t.post[made.origin] >= part.start) & (t.post[made.origin] < part.stop)
            heard = np.bincount(c.pre[here] - c.tonic - 1 - first[source], minlength=each[source])
            assert heard.max() - heard.min() <= 1, (name, heard)
    assert c.node_sizes == {"hidden": 9, "output": 4}
    assert c.copies_of == {"hidden": hidden, "output": output}
    np.testing.assert_array_equal(c.group, t.group[owner])
    assert copied(params, (hidden, output), key=key).params.topology == c


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("copies", [(3, 3), (2, 5), (4, 1)])
def test_alike_copies_spike_alike(name: str, copies: tuple[int, int]) -> None:
    """Without mismatch all copies hear the same, so sums are multiples and means are what one neuron does."""
    net = NETWORKS[name]()
    params, x = to_params(net), events(net)
    one, many = (
        nd.simulate(params, x, backend="numpy"),
        nd.simulate(with_copies(params, copies, key=2), x, backend="numpy"),
    )
    assert sum(int(v.sum()) for v in one.spikes.values()) > 50
    for (node, spikes), c in zip(one.spikes.items(), copies, strict=True):
        np.testing.assert_array_equal(many.spikes[node], c * spikes.astype(int))
        assert many.spikes[node].dtype == np.uint8
    for node, values in one.values.items():
        np.testing.assert_array_equal(many.values[node], values)
    np.testing.assert_array_equal(many.counts(), one.counts())
    assert many.copies == {node: c for node, c in zip(one.spikes, copies, strict=True) if c > 1}
    for port in net.outputs:
        assert many.of(port.name).shape == one.of(port.name).shape


@pytest.mark.parametrize("name", NETWORKS)
def test_numpy_and_jax_agree_under_mismatch(name: str) -> None:
    net = NETWORKS[name]()
    params, x = with_copies(to_params(net), (3, 2)), events(net)
    runs = [
        nd.simulate(params, x, backend=backend, mismatch=nd.DYNAPSE2.mismatch, key=3, record=("spikes", "i_mem"))
        for backend in ("numpy", "jax")
    ]
    for node in runs[0].spikes:
        np.testing.assert_array_equal(runs[0].spikes[node], runs[1].spikes[node])
        assert runs[0].states["i_mem"][node].shape[2] == dict(params.topology.populations)[node]
    for node in runs[0].values:
        np.testing.assert_array_equal(runs[0].values[node], runs[1].values[node])
    uneven = runs[0].spikes[next(iter(runs[0].spikes))] % 3
    assert uneven.any(), "copies on a chip with mismatch differ"


def test_finer_bins_are_read_out_as_means() -> None:
    """Sums of shorter bins are gathered before the mean is taken: nothing is rounded twice."""
    net = with_readout()
    params, x = to_params(net), events(net, 1, 40)
    fine = np.zeros((1, 80, net.n_inputs), np.uint8)
    fine[:, ::2] = x
    one = nd.simulate(params, fine, dt=net.dt / 2, backend="numpy")
    many = nd.simulate(with_copies(params, (3, 3)), fine, dt=net.dt / 2, backend="numpy")
    for node, values in one.values.items():
        np.testing.assert_array_equal(many.values[node], values)


@pytest.mark.parametrize("name", NETWORKS)
def test_back_to_the_network(name: str) -> None:
    """Folded weights are those of the circuit without copies, whoever hears whom."""
    params = to_params(NETWORKS[name]())
    plain, back = to_network(params), to_network(with_copies(params, (3, 2), key=1))
    assert [(p.name, p.shape) for p in back.populations] == [(p.name, p.shape) for p in plain.populations]
    for a, b in zip(plain.populations, back.populations, strict=True):
        np.testing.assert_allclose(b.v_leak, a.v_leak, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(b.tau_mem, a.tau_mem, rtol=1e-12)
    want, got = dense(plain), dense(back)
    assert want.keys() == got.keys()
    for ends, matrix in want.items():
        np.testing.assert_allclose(got[ends], matrix, rtol=1e-9, atol=1e-15)


def test_every_unlike_part_goes_along() -> None:
    """Dendrites, delays, latches and their factors."""
    params = circuits("adaptation", "dc", delays=True)
    params = replace(params, delay_factor=np.linspace(0.9, 1.1, params.topology.n_synapses))
    x = (np.random.default_rng(1).random((2, 50, 6)) < 0.4).astype(np.uint8)
    many = copied(params, (2, 3))
    np.testing.assert_array_equal(np.asarray(many.params.delay_factor), params.delay_factor[many.origin])
    one, more = nd.simulate(params, x, backend="numpy"), nd.simulate(many.params, x, backend="numpy")
    for (node, spikes), c in zip(one.spikes.items(), (2, 3), strict=True):
        np.testing.assert_array_equal(more.spikes[node], c * spikes.astype(int))


# --- more synapses than rows ------------------------------------------------------------------------------------------


def wide(n_in: int = 30) -> Params:
    rng = np.random.default_rng(4)
    net = recurrent(0, n_in, 4, 2, fan_in=n_in)
    weights = rng.uniform(0.02, 0.1, (4, n_in)) * rng.choice([-1, 1], (4, n_in))
    projections = (Projection.from_dense("in", "hidden", weights), *net.projections[1:])
    return to_params(replace(net, projections=projections))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(6, 40))
def test_too_many_synapses_are_dealt(copies: int, rows: int) -> None:
    params = wide()
    t = params.topology
    fan_in = np.bincount(t.post, minlength=t.n_neurons)
    made = copied(params, {"hidden": copies}, rows=rows)
    c, charge = made.params.topology, made.params.row_currents() * event_charge(made.params)
    own = params.row_currents() * event_charge(params)
    for n in range(4):
        mine = np.flatnonzero(t.post == n)
        heard = np.zeros(t.n_synapses, int)
        for copy in range(copies):
            here = c.post == n * copies + copy
            assert here.sum() == min(rows, fan_in[n])
            assert len(np.unique(made.origin[here])) == here.sum()
            heard[made.origin[here]] += 1
            for d in np.unique(c.dendrite[here]).tolist():
                total = own[mine][t.dendrite[mine] == d].sum()
                np.testing.assert_allclose(charge[here & (c.dendrite == d)].sum(), total, rtol=1e-9)
        assert heard[mine].max() - heard[mine].min() <= 1
        if copies * rows < fan_in[n]:
            strongest = mine[np.argsort(-own[mine], kind="stable")][: copies * rows]
            assert set(np.flatnonzero(heard)) == set(strongest.tolist())
        assert made.unheard[n] == max(0, fan_in[n] - copies * rows)
    assert made.dealt.tolist() == [n < 4 and bool(fan_in[n] > rows) for n in range(6)]
    assert np.asarray(made.params.weight).max() <= nd.DYNAPSE2.weight_top * (1 + 1e-9)


def test_constant_inputs_are_heard_by_all() -> None:
    net = imaged()
    params = to_params(net)
    assert params.topology.tonic_period is not None
    made = with_copies(params, (3, 1), rows=3).topology
    tonic = np.bincount(made.post[made.pre == made.tonic], minlength=made.n_neurons)
    assert (
        tonic[:18] == np.repeat(np.bincount(params.topology.post[params.topology.pre == params.topology.tonic])[:6], 3)
    ).all()
    assert np.bincount(made.post)[:18].max() <= 3


# --- files and folds --------------------------------------------------------------------------------------------------


def test_params_with_copies_in_a_file(tmp_path: Path) -> None:
    params = with_copies(to_params(imaged()), (3, 2))
    save_params(params, tmp_path / "p.npz")
    read = load_params(tmp_path / "p.npz")
    assert read.topology == params.topology
    assert read.topology.copies == (3, 2)
    np.testing.assert_array_equal(read.weight, params.weight)


def test_sums_and_means() -> None:
    t = with_copies(to_params(recurrent(0, 4, 3, 2)), (2, 3)).topology
    spikes = np.arange(24, dtype=np.uint8).reshape(2, 12)
    by_node = folded(t, spikes)
    np.testing.assert_array_equal(by_node["hidden"], spikes[:, :6:2].astype(int) + spikes[:, 1:6:2])
    np.testing.assert_array_equal(by_node["output"], spikes[:, 6:].reshape(2, 2, 3).sum(2))
    in_jax = folded(t, jnp.asarray(spikes))
    for node, values in by_node.items():
        np.testing.assert_array_equal(np.asarray(in_jax[node]), values)
    assert fold(spikes, 1) is spikes
    assert mean(spikes, 1) is spikes
    np.testing.assert_array_equal(mean(spikes, 3), spikes.reshape(2, 4, 3).mean(2))


def test_sums_above_255_are_whole() -> None:
    """Many copies that fire several times in a bin."""
    net = recurrent(0, 4, 3, 2)
    params = with_copies(to_params(net), (1, 600))
    x = np.full((1, 40, 4), 30, np.uint8)
    one, many = nd.simulate(to_params(net), x, backend="numpy"), nd.simulate(params, x, backend="numpy")
    assert one.spikes["output"].max() >= 1
    np.testing.assert_array_equal(many.spikes["output"], 600 * one.spikes["output"].astype(int))


@pytest.mark.parametrize(
    ("copies", "words"),
    [
        ({"hidden": 0}, "copies of 'hidden' is 0"),
        ({"hidden": 1.5}, "copies of 'hidden' is 1.5"),
        ({"hidden": True}, "copies of 'hidden' is True"),
        ({"none": 2}, "there is no population 'none', known are 'hidden', 'output'"),
        ((2,), "1 numbers of copies for 2 populations"),
    ],
)
def test_refusals(copies: Any, words: str) -> None:
    with pytest.raises(nd.ParameterRangeError, match=words):
        with_copies(to_params(recurrent(0, 4, 3, 2)), copies)


def test_copies_of_copies_and_of_bits_are_refused() -> None:
    params = to_params(recurrent(0, 4, 3, 2))
    with pytest.raises(nd.ParameterRangeError, match="have copies already"):
        with_copies(with_copies(params, (2, 2)), (2, 2))
    given = layout_to_params(nd.compile(recurrent(0, 4, 3, 2)))
    with pytest.raises(nd.ParameterRangeError, match="have masks of 4 bits"):
        with_copies(given, (2, 2))


def test_topology_says_which_copy() -> None:
    t = with_copies(to_params(recurrent(0, 4, 3, 2)), (2, 3)).topology
    assert t.name_of(5) == ("hidden", 2)
    assert t.where(5) == {"node": "hidden", "index": 2, "copy": 1}
    finding = Finding("error", "x", "y.", **t.where(5))
    assert finding.where == "node 'hidden', neuron 2, copy 1"
    assert Finding.from_dict(finding.to_dict()) == finding
