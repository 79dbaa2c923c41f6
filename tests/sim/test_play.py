"""Runs on the compiled kernels without XLA: the spikes of NumPy and of XLA, however they are cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import small_networks
from circuits import circuits
from nir_dynapse.chip.device import Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim import circuit, ensemble, simulation
from nir_dynapse.sim.circuit import RECORDABLE, Disturbance, internal_step, prepare, structure_of
from nir_dynapse.sim.disturbance import disturbances
from nir_dynapse.sim.native import here as native
from nir_dynapse.sim.native import play as native_play
from nir_dynapse.sim.native import synapses as native_synapses
from nir_dynapse.sim.native.synapses import Synapses, places_of, synapses_of
from nir_dynapse.sim.simulation import run_circuit, simulate
from nir_dynapse.sim.wiring import Rows

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels need a CPU backend and Numba")
DT = 1e-3
CURRENTS = RECORDABLE[1:]
EVERYTHING = ("nmda_gate", "exponential", "adaptation", "dc")
CASES: dict[str, tuple[Params, Disturbance]] = {
    "ampa": (circuits(dendrites=False, scale=1.5), Disturbance()),
    "adaptation": (circuits("adaptation", "dc", scale=1.5), Disturbance()),
    "gate": (circuits("nmda_gate", scale=1.5), Disturbance()),
    "soma": (circuits("exponential", scale=1.5), Disturbance()),
    "delays": (circuits(delays=True, scale=1.5), Disturbance()),
    "noise": (circuits(scale=1.5), Disturbance(0.05, 0.0, 3)),
    "loss": (circuits(scale=1.5), Disturbance(0.0, 0.3, 2**32 + 4)),
    "everything": (circuits(*EVERYTHING, delays=True, scale=1.5), Disturbance(0.05, 0.1, 5)),
}


def poisson(batch: int, steps: int, channels: int, rate: float = 1.0) -> np.ndarray:
    return np.random.default_rng(batch).poisson(rate, (batch, steps, channels))


def spikes_of(recording: simulation.Recording) -> np.ndarray:
    return np.concatenate(list(recording.spikes.values()), axis=2)


@pytest.fixture
def xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)


# --- against NumPy and XLA --------------------------------------------------------------------------------------------


def agree(params: Params, x: np.ndarray, disturbance: Disturbance, kernels: Any, other: Any) -> None:
    """The same spikes but for ties, currents within rounding."""
    a, b = spikes_of(kernels), spikes_of(other)
    assert a.sum() > 100
    assert (a != b).mean() < 1e-3
    for name in CURRENTS:
        for node, values in kernels.states[name].items():
            expected = other.states[name][node]
            assert np.quantile(np.abs(values - expected), 0.99) <= 1e-4 * expected.max(initial=1e-30), name


def hasty(params: Params) -> Params:
    """With refractory periods far shorter than a step."""
    return replace(params, bias={**params.bias, "i_ref": 8 * np.asarray(params.bias["i_ref"])})


@pytest.mark.parametrize("width", [DT, 2.5 * DT])
@pytest.mark.parametrize("name", CASES)
def test_the_same_as_numpy(name: str, width: float) -> None:
    """With one and with several internal steps per bin, and neurons that fire more than once in a step."""
    params, disturbance = CASES[name]
    params = hasty(params)
    steps = internal_step(params, width)
    assert (steps > 1) == (width > DT)
    x = 3 * poisson(3, 100, 6)
    runs = [run_circuit(params, x, width, CURRENTS, backend, disturbance) for backend in ("jax", "numpy")]
    agree(params, x, disturbance, *runs)
    assert spikes_of(runs[0]).max() > steps


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_the_same_as_xla(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params, disturbance = hasty(CASES[name][0]), CASES[name][1]
    x = 3 * poisson(3, 100, 6)
    kernels = run_circuit(params, x, DT, CURRENTS, "jax", disturbance)
    monkeypatch.setattr(native, "available", lambda: False)
    agree(params, x, disturbance, kernels, run_circuit(params, x, DT, CURRENTS, "jax", disturbance))


def test_tonic_input_and_no_input() -> None:
    params = circuits(dendrites=False, scale=1.5)
    tonic = np.where(params.topology.pre < 3, params.topology.tonic, params.topology.pre)
    params = replace(params, topology=replace(params.topology, pre=tonic, tonic_period=0.7e-3))
    x = np.zeros((2, 80, 6), bool)
    a, b = (spikes_of(run_circuit(params, x, DT, ("spikes",), backend)) for backend in ("jax", "numpy"))
    assert a.sum() > 50
    assert (a != b).mean() < 1e-3
    for shape in ((0, 10, 6), (2, 0, 6)):
        assert spikes_of(run_circuit(params, np.zeros(shape), DT, ("spikes",))).shape == (*shape[:2], 14)


def test_without_the_kernels_xla_does_it(xla: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "play", None)
    assert spikes_of(run_circuit(circuits(scale=1.5), poisson(1, 50, 6), DT, ("spikes",))).any()


# --- however it is cut ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ampa", "adaptation", "everything"])
def test_tiles_threads_and_stretches_of_time_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params, disturbance = CASES[name]
    x = poisson(7, 60, 6)
    whole = run_circuit(params, x, DT, CURRENTS, "jax", disturbance)
    assert spikes_of(whole).any()
    cuts = ({"CELLS": 1}, {"CELLS": 45, "threads": 3}, {"STRETCH": 7 * 6 * 11}, {"STRETCH": 1, "threads": 2})
    for cut in cuts:
        with monkeypatch.context() as patch:
            patch.setattr(native_play, "WORTHWHILE", 1)
            patch.setattr(native_play, "CELLS", cut.get("CELLS", 1024))
            threads = cut.get("threads", 1)
            patch.setattr(native_play, "cpus", lambda threads=threads: threads)
            patch.setattr(simulation, "STRETCH", cut.get("STRETCH", simulation.STRETCH))
            part = run_circuit(params, x, DT, CURRENTS, "jax", disturbance)
        for node, spikes in whole.spikes.items():
            assert (part.spikes[node] == spikes).all(), cut
            for current in CURRENTS:
                assert (part.states[current][node] == whole.states[current][node]).all(), cut


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("threads", [2, 3])
def test_neurons_that_hear_no_other_are_run_side_by_side(
    sparse: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, n = np.random.default_rng(5), 70
    weights = rng.normal(0.05, 0.1, (n, 40)) * (rng.random((n, 40)) < (0.1 if sparse else 1.0))
    own = to_params(small_networks.feed_forward(weights)).numpy()
    x = rng.poisson(0.3, (1, 60, 40))
    monkeypatch.setattr(native_play, "WORTHWHILE", 1)
    monkeypatch.setattr(native_synapses, "SPARSE_FROM", 1 if sparse else 1 << 40)
    found, parts = [], []
    split = native_play.Circuit.of_neurons
    monkeypatch.setattr(native_play.Circuit, "of_neurons", lambda self, *cut: (parts.append(cut), split(self, *cut))[1])
    for count in (1, threads):
        monkeypatch.setattr(native_play, "cpus", lambda count=count: count)
        found.append(spikes_of(run_circuit(own, x, 1e-3, ("spikes",))))
    assert len(parts) == threads
    assert found[0].sum() > 100
    np.testing.assert_array_equal(found[0], found[1])


def test_samples_do_not_depend_on_their_batch() -> None:
    params, disturbance = CASES["everything"]
    x = poisson(5, 60, 6)
    whole = spikes_of(run_circuit(params, x, DT, ("spikes",), "jax", disturbance))
    assert (spikes_of(run_circuit(params, x[:1], DT, ("spikes",), "jax", disturbance)) == whole[:1]).all()


@pytest.mark.parametrize("delays", [False, True])
def test_an_ensemble_is_simulate_chip_by_chip(delays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise and lost events, too."""
    params, x = circuits("adaptation", delays=delays, scale=1.5), poisson(5, 40, 6)
    mismatch = Mismatch.uniform(0.2, noise=0.02, spike_loss=0.1)
    found: dict[int, np.ndarray] = {}
    for part in ensemble.output_counts(params, x, DT, mismatch, [ensemble.NOMINAL, *range(3)], 2000):
        found |= part
    assert found[ensemble.NOMINAL].any()
    assert (found[ensemble.NOMINAL] == simulate(params, x, mismatch=Mismatch.none()).counts()).all()
    for key in range(3):
        assert (found[key] == simulate(params, x, mismatch=mismatch, key=key).counts()).all()


# --- lists of synapses ------------------------------------------------------------------------------------------------


def dense(s: Synapses, used: int, n: int) -> np.ndarray:
    """Lists as matrices (lag, source, dendrite, neuron)."""
    source = np.repeat(np.arange(len(s.first) - 1), np.diff(s.first))
    found = np.zeros((int(s.lag.max(initial=0)) + 1, len(s.first) - 1, used, n), np.float32)
    for q in range(len(source)):
        post = slice(s.post[q], s.post[q] + s.length)
        found[s.lag[q], source[q], s.dendrite[q], post] += s.w[q * s.length : (q + 1) * s.length]
    return found


@pytest.mark.parametrize("lists", [False, True])
def test_lists_are_the_matrices_bit_by_bit(lists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_synapses, "SPARSE_FROM", 0 if lists else 2**30)
    monkeypatch.setattr(native_synapses, "SPARSE_BELOW", 2.0)
    params = circuits()
    t = params.topology
    doubled = {name: np.r_[getattr(t, name), getattr(t, name)[:9]] for name in ("pre", "post", "dendrite")}
    rows = np.r_[t.row, 50 + np.arange(9)].astype(t.row.dtype)
    params = replace(params, weight=np.r_[params.weight, np.linspace(1, 2, 9) * params.weight[:9]])
    params = replace(params, topology=replace(t, row=rows, **doubled))
    h = DT / internal_step(params, DT)
    structure = structure_of(params, h)
    weights, _ = prepare(params, h, structure, 20.0)
    s = synapses_of(params, h, structure, 20.0)
    assert (s.length == 1) == lists
    assert not isinstance(weights, Rows)
    (group,) = structure.groups
    found = dense(s, len(group.dendrites), t.n_neurons)[0].reshape(t.n_sources, -1)
    inputs = np.arange(t.n_channels + 1) if group.inputs is None else np.array(group.inputs)
    assert (found[inputs] == weights[0].inputs).all()
    assert (found[t.n_channels + 1 :] == weights[0].neurons).all()


def test_tables_of_rows_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """What large networks have, here of a small one."""
    params = circuits("adaptation", scale=1.5)
    x = poisson(2, 80, 6)
    monkeypatch.setattr(circuit, "ROWS_FROM", 0)
    t = params.topology
    few = replace(params, weight=np.asarray(params.weight)[:5], topology=t)
    names = ("pre", "post", "dendrite", "row")
    few = replace(few, topology=replace(t, **{name: getattr(t, name)[:5] for name in names}))
    assert structure_of(few, DT).rows
    runs = [spikes_of(run_circuit(few, x, DT, ("spikes",), backend)) for backend in ("jax", "numpy")]
    assert runs[0].any()
    assert (runs[0] != runs[1]).mean() < 1e-3


@pytest.mark.parametrize("near", [native_synapses.NEAR, 0.5])  # 0.5: no sum is far enough from a power of two
@pytest.mark.parametrize("delays", [False, True])
def test_lists_are_the_tables_of_rows_bit_by_bit(delays: bool, near: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "ROWS_FROM", 0)
    monkeypatch.setattr(native_synapses, "NEAR", near)
    params = circuits("adaptation", delays=delays, scale=1.5)
    t, few = params.topology, slice(None) if delays else slice(5)
    names = ("pre", "post", "dendrite", "row") + (("delay",) if delays else ())
    t = replace(t, **{name: getattr(t, name)[few] for name in names})
    weight = np.array(params.weight)[few]
    weight[1] = 0.0
    params = replace(params, weight=weight, topology=t)
    structure = structure_of(params, DT)
    weights, _ = prepare(params, DT, structure, 20.0)
    assert isinstance(weights, Rows)
    s = synapses_of(params, DT, structure, 20.0)
    kinds, n, width = weights.value.shape
    rows = np.zeros((int(s.lag.max(initial=0)) + 1, t.n_sources, kinds, n), np.float32)
    index = np.indices((kinds, n, width))
    there = weights.value != 0
    lag, source = np.divmod(weights.column[there], t.n_sources)
    np.add.at(rows, (lag, source, index[0][there], index[1][there]), weights.value[there])
    assert rows.any()
    assert (dense(s, kinds, n) == rows).all()


def test_places_are_found_once_per_wiring() -> None:
    params = circuits(scale=1.5)
    t, structure = params.topology, structure_of(params, DT, lists=True)
    places = places_of(t, structure)
    assert places_of(replace(t, group=t.group[::-1]), structure) is places  # the same arrays, which nobody writes to
    other = places_of(replace(t, post=t.post[::-1]), structure)
    assert not np.array_equal(other.column, places.column)


@pytest.mark.long
def test_a_large_network() -> None:
    params = to_params(small_networks.recurrent(0, 64, 3100, 8, fan_in=30))
    assert structure_of(params, DT).rows
    x = poisson(1, 40, 64, 0.5)
    runs = [spikes_of(run_circuit(params, x, DT, ("spikes",), backend)) for backend in ("jax", "numpy")]
    assert runs[0].sum() > 100
    assert (runs[0] != runs[1]).mean() < 1e-3


# --- functions of numbers ---------------------------------------------------------------------------------------------


def test_draws_are_those_of_the_arrays() -> None:
    """Lost events bit by bit, noise to rounding."""
    import numba

    from nir_dynapse.sim.native.scalar import bell, mixed, uniform

    seed, step, n = 2**32 - 5, 70, 5000

    @numba.njit
    def draws(seed: Any, step: Any, sample: Any, n: Any) -> Any:
        key = mixed(mixed(mixed(np.uint32(seed) + np.uint32(0x9E3779B9)) ^ np.uint32(step)) ^ np.uint32(sample))
        found = np.empty((2, n), np.float32)
        for m in range(n):
            own = mixed(key ^ np.uint32(m))
            found[0, m] = bell(np.float32(1), uniform(own, np.uint32(1)), uniform(own, np.uint32(2)))
            found[1, m] = uniform(own, np.uint32(3))
        return found

    params, _ = CASES["noise"]
    structure = structure_of(params, DT, Disturbance(0.1, 0.3))
    _, c = prepare(params, DT, structure, 1.0, Disturbance(0.1, 0.3))
    c = c._replace(rate=np.zeros(n, np.float32), noise=np.ones(n, np.float32))
    noise, kept = disturbances(np.uint32(step), np.uint32(seed), np.array([6]), c, structure, np)
    found = draws(seed, step, 6, n)
    assert ((found[1] >= c.loss) == np.asarray(kept)[0]).all()
    assert np.abs(found[0] - np.asarray(noise)[0]).max() < 3e-6
    assert abs(found[0].std() - 1) < 0.03


def test_exponential_and_cosine_are_exact_to_rounding() -> None:
    import numba

    from nir_dynapse.sim.native.scalar import cos_float32, exp_float32

    x = np.linspace(-79, 79, 100_001).astype(np.float32)
    each = numba.njit(lambda x: np.array([exp_float32(v) for v in x]))
    np.testing.assert_allclose(each(x), np.exp(x.astype(float)), rtol=2e-7)
    turn = np.linspace(0, 2 * np.pi, 100_001).astype(np.float32)
    other = numba.njit(lambda x: np.array([cos_float32(v) for v in x]))
    np.testing.assert_allclose(other(turn), np.cos(turn.astype(float)), atol=2e-7)
