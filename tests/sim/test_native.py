"""The compiled kernels: the same spikes and gradients as XLA's way, whatever the tiles, threads and virtual chips."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import small_networks
from circuits import circuits, relative
from nir_dynapse.chip.device import Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.sim import circuit as circuit_module
from nir_dynapse.sim import dynamics, engine
from nir_dynapse.sim.circuit import internal_step, structure_of
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.native import run as native
from nir_dynapse.sim.surrogate import Surrogate

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels need a CPU backend and Numba")
DT = 1e-3


def circuit(*latches: str, refractory: float = 1.2e-3, **size: Any) -> Params:
    """A recurrent network that fires, in one internal step per bin."""
    return circuits(*latches, scale=1.5, refractory=refractory, **size)


def both(params: Params, x: Any, target: Any, surrogate: Surrogate, **options: Any) -> list[Any]:
    """Counts and gradients to every leaf of `params` and to `x`, of the kernels and of XLA."""
    substeps = internal_step(params, DT)

    def loss(params: Params, x: Any, use: bool) -> Any:
        spikes = engine.spike_counts(params, x, DT, substeps=substeps, surrogate=surrogate, native=use, **options)
        return (spikes * target).sum(), spikes

    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    return [(np.asarray(spikes), found) for (_, spikes), found in (run(params, x, use) for use in (True, False))]


LATCHES = ("adaptation", "dc")


@pytest.mark.long
@pytest.mark.parametrize(
    ("latches", "refractory", "batch", "patches", "threads"),
    (
        [
            ((), 1.2e-3, 1, {}, 1),
            (LATCHES, 1.2e-3, 7, {"CELLS": 30}, 1),
            (LATCHES, 0.1e-3, 5, {"CELLS": 14}, 3),
            (LATCHES, 0.1e-3, 5, {"CELLS": 30, "SPARSE_FROM": 0, "SPARSE_BELOW": 2.0}, 2),
            (("dc",), 1.2e-3, 150, {"CELLS": 4200}, 1),
        ]
    ),
    ids=["one", "tiles", "threads", "lists", "products"],
)
@pytest.mark.usefixtures("double")
def test_spikes_and_gradients_are_those_of_xla(
    latches: tuple[str, ...],
    refractory: float,
    batch: int,
    patches: dict[str, Any],
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights, all bias currents and the input, to rounding."""
    for name, value in {"FEW_CELLS": 1, "WORTHWHILE": 1, **patches}.items():
        monkeypatch.setattr(native, name, value)
    monkeypatch.setattr(native, "threads", lambda: threads)
    params = circuit(*latches, refractory=refractory)
    assert native.lines_of(params.topology).sparse == ("SPARSE_FROM" in patches)
    rng = np.random.default_rng(batch)
    x, target = rng.poisson(1.0, (batch, 24, 6)).astype(float), rng.normal(size=(batch, 24, 14))
    x = 6 * x if refractory < DT else x
    (spikes, found), (exact_spikes, exact) = both(params, x, target, Surrogate(slope=3.0), dtype=float)
    assert (spikes.max() > 1) == (refractory < DT), "several spikes in a step where the refractory period allows"
    assert (spikes == exact_spikes).all()
    assert spikes.sum() > 5 * batch
    used = [name for name, leaf in exact[0].bias.items() if np.abs(leaf).max() > 0]
    assert len(used) >= (14 if latches == LATCHES else 10), used
    assert relative(found, exact) < 1e-9


@pytest.mark.usefixtures("double")
def test_large_networks_that_are_tables_of_rows_run_on_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What XLA's way has as tables, here of a small network."""
    params = circuit()
    few = {name: getattr(params.topology, name)[::12] for name in ("pre", "post", "dendrite", "row")}
    params = replace(params, weight=4 * np.asarray(params.weight)[::12], topology=replace(params.topology, **few))
    rng = np.random.default_rng(6)
    x, target = rng.poisson(2.0, (3, 24, 6)).astype(float), rng.normal(size=(3, 24, 14))
    (spikes, found), (exact_spikes, exact) = both(params, x, target, Surrogate(slope=3.0), dtype=float)
    monkeypatch.setattr(circuit_module, "ROWS_FROM", 0)
    assert structure_of(params, DT).rows
    (rows_spikes, rows_found), (table_spikes, _) = both(params, x, target, Surrogate(slope=3.0), dtype=float)
    assert spikes.any()
    for others in (exact_spikes, rows_spikes, table_spikes):
        assert (spikes == others).all()
    assert relative(found, exact) < 1e-9
    assert relative(rows_found, found) == 0, "no way of their own"


@pytest.mark.long
@pytest.mark.parametrize("shape", ["fast_sigmoid", "triangle", "gaussian"])
@pytest.mark.usefixtures("double")
def test_every_surrogate(shape: Any) -> None:
    rng = np.random.default_rng(1)
    x, target = rng.poisson(1.0, (2, 30, 6)).astype(float), rng.normal(size=(2, 30, 14))
    (_, found), (_, exact) = both(circuit(), x, target, Surrogate(shape, 2.0), dtype=float)
    assert relative(found, exact) < 1e-9


@pytest.mark.long
@pytest.mark.usefixtures("double")
def test_a_layer_without_recurrence() -> None:
    """Large enough that XLA's way splits it by dendrite: groups without neurons among their sources."""
    rng = np.random.default_rng(4)
    params = to_params(small_networks.feed_forward(rng.normal(0.05, 0.1, (63, 8))))
    t = params.topology
    params = replace(params, topology=replace(t, dendrite=np.where(t.pre < 4, 0, 2)))
    assert len(structure_of(params, DT).groups) == 2
    x, target = rng.poisson(1.0, (2, 30, 8)).astype(float), rng.normal(size=(2, 30, 63))
    (spikes, found), (exact_spikes, exact) = both(params, x, target, Surrogate(), dtype=float)
    assert spikes.sum() > 50
    assert (spikes == exact_spikes).all()
    assert relative(found, exact) < 1e-9


@pytest.mark.long
def test_in_single_precision_bins_differ_at_ties_only() -> None:
    rng = np.random.default_rng(2)
    x, target = rng.poisson(0.6, (8, 200, 6)).astype(np.float32), rng.normal(size=(8, 1, 14)).astype(np.float32)
    params = circuit(*LATCHES)
    (spikes, found), (exact_spikes, exact) = both(params, x, target, Surrogate())
    assert spikes.dtype == np.float32
    assert spikes.sum() > 500
    assert (spikes != exact_spikes).mean() < 1e-3
    assert relative(found[0].weight, exact[0].weight) < 0.02


@pytest.mark.long
@pytest.mark.usefixtures("double")
def test_threads_change_nothing_but_the_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "CELLS", 28)
    monkeypatch.setattr(native, "WORTHWHILE", 1)
    rng = np.random.default_rng(3)
    x, target = rng.poisson(1.0, (9, 20, 6)).astype(float), rng.normal(size=(9, 20, 14))
    results = []
    for threads in (1, 2, 16):
        monkeypatch.setattr(native, "threads", lambda threads=threads: threads)
        results.append(both(circuit(*LATCHES), x, target, Surrogate(), dtype=float)[0])
    for spikes, found in results[1:]:
        assert (spikes == results[0][0]).all()
        assert relative(found, results[0][1]) < 1e-12


@pytest.mark.long
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.usefixtures("double")
def test_virtual_chips_by_vmap(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two axes of chips, weights shared by one of them, input by both: as one after the other."""
    for name, value in {"FEW_CELLS": 1, "WORTHWHILE": 1, "threads": lambda: threads}.items():
        monkeypatch.setattr(native, name, value)
    params = circuit("adaptation")
    chips = [[fabricate(params, Mismatch.uniform(0.2), 2 * a + b) for b in range(2)] for a in range(2)]
    substeps = max(internal_step(chip, DT) for pair in chips for chip in pair)
    x = np.random.default_rng(0).poisson(1.0, (3, 30, 6)).astype(float)

    def loss(weight: Any, chip: Params) -> Any:
        counts = engine.spike_counts(replace(chip, weight=weight), x, DT, substeps=substeps, dtype=float, native=True)
        return (counts.sum((0, 1)) ** 2).mean()

    stacked = jax.tree_util.tree_map(
        lambda *leaves: np.stack(leaves).reshape(2, 2, *np.shape(leaves[0])), *(chip for pair in chips for chip in pair)
    )
    weights = jnp.asarray(np.stack([np.asarray(params.weight), 1.1 * np.asarray(params.weight)]))

    def total(weights: Any, stacked: Params) -> Any:
        inner = jax.vmap(loss, in_axes=(None, 0))
        return jax.vmap(inner, in_axes=(0, 0))(weights, stacked).sum()

    value, found = jax.jit(jax.value_and_grad(total))(weights, stacked)
    single = jax.jit(jax.value_and_grad(loss))
    alone = [[single(weights[a], chips[a][b]) for b in range(2)] for a in range(2)]
    assert float(value) == pytest.approx(float(sum(v for row in alone for v, _ in row)), rel=1e-12)
    assert relative(found, jnp.stack([row[0][1] + row[1][1] for row in alone])) < 1e-9


def test_what_the_kernels_leave_out_goes_another_way() -> None:
    x = np.ones((1, 5, 6), np.float32)
    gated = circuit("nmda_gate")
    assert engine.spike_counts(gated, x, DT).shape == (1, 5, 14)
    with pytest.raises(ParameterRangeError, match="NMDA gate"):
        engine.spike_counts(gated, x, DT, native=True)


def test_without_the_kernels_xla_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).poisson(1.0, (1, 50, 6)).astype(np.float32)
    with_them = np.asarray(engine.spike_counts(circuit(), x, DT))
    monkeypatch.setattr(native, "available", lambda: False)
    assert with_them.sum() > 0
    assert (np.asarray(engine.spike_counts(circuit(), x, DT)) == with_them).mean() > 0.999
    with pytest.raises(ParameterRangeError, match="Numba"):
        engine.spike_counts(circuit(), x, DT, native=True)


def test_nothing_to_run() -> None:
    params = circuit()
    assert engine.spike_counts(params, np.zeros((2, 0, 6), np.float32), DT, native=True).shape == (2, 0, 14)
    silent = np.zeros((3, 40, 6), np.float32)
    assert not np.asarray(engine.spike_counts(params, silent, DT, native=True)).any()


def test_formulas_are_those_of_the_arrays() -> None:
    """What is compiled for numbers gives what `dynamics` gives for arrays, to float32's rounding of sums that cancel."""
    import numba

    from nir_dynapse.sim.native.build import source
    from nir_dynapse.sim.native.front import module_of

    reach = module_of(source("run", "float32").split("@numba.cfunc")[0]).reach
    rng = np.random.default_rng(0)
    draws = [np.exp(rng.normal(-2, 3, 4000)), np.exp(rng.normal(0, 3, 4000)), 1 + np.exp(rng.normal(0, 2, 4000))]
    y, current, leak = (draw.astype(np.float32) for draw in draws)
    span, floor = rng.uniform(0, 0.1, 4000).astype(np.float32), np.full(4000, 1e-5, np.float32)

    @numba.njit
    def each(y: Any, current: Any, leak: Any, span: Any, floor: Any, found: Any) -> None:
        for k in range(len(y)):
            found[k] = reach(y[k], current[k], leak[k], span[k], floor[k], None)

    found = np.empty_like(y)
    each(np.maximum(y, floor), current, leak, span, floor, found)
    exact = dynamics.reach(np.maximum(y, floor), current, leak, span, floor, np)
    assert exact.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=2e-5)


def test_the_logarithm_is_exact_to_rounding() -> None:
    import numba

    from nir_dynapse.sim.native.scalar import log_float32

    each = numba.njit(lambda x: np.array([log_float32(v) for v in x]))
    x = np.concatenate([np.logspace(-37, 38, 20000), 1 + np.linspace(-0.5, 0.5, 20001)]).astype(np.float32)
    exact = np.log(x.astype(float))
    assert (np.abs(each(x) - exact) <= 1e-7 * np.abs(exact) + 1e-9).all()


def test_other_formulas_are_other_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled is kept under a name made of its text, so it cannot be out of date."""
    from nir_dynapse.sim.native import build as native_build

    def reach(y: Any, current: Any, leak: Any, span: Any, floor: Any, xp: Any) -> Any:
        return xp.maximum(y + (current - leak * (1 + y)) * span, floor)

    text = native_build.source("run", "float32")
    assert native_build.source("run", "float32") == text
    assert native_build.source("run", "float64") != text
    assert "kind(1 / 12)" not in text
    assert "kind(1) / kind(12)" in text
    formulas = tuple(reach if f is dynamics.reach else f for f in native_build.FORMULAS)
    monkeypatch.setattr(native_build, "FORMULAS", formulas)
    assert native_build.source("run", "float32") != text
