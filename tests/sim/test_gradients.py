"""Gradients: exact on the smoothed model, the adjoint equal to autodiff, checkpoints, virtual chips, the threshold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import small_networks
from circuits import circuits, relative
from nir_dynapse.chip.device import CURRENTS, DELAYS, Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim import adjoint, engine, wiring
from nir_dynapse.sim.circuit import internal_step, structure_of
from nir_dynapse.sim.dynamics import initial_state
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.surrogate import Surrogate
from shortened import shortened

DT = 1e-3
MEMBRANE = ("i_tau_mem", "i_gain_mem", "i_spkthr", "i_ref", "i_pulse")
AHP = ("i_tau_ahp", "i_gain_ahp", "i_w_ahp", "i_pulse_ahp")
DPI = tuple(f"i_{kind}_{name}" for name in ("ampa", "nmda", "gaba", "shunt") for kind in ("tau", "gain"))


def masked(params: Params, seed: int = 0) -> Params:
    """The same with masks and base weight currents."""
    mask = np.random.default_rng(seed).integers(1, 16, params.topology.n_synapses)
    base = np.array([[1.0, 0.5, 0.25, 0.125]]) * 1.5 * np.mean(params.weight)
    base = np.repeat(base, params.topology.n_groups, 0)
    return replace(params, weight=None, base=base, topology=replace(params.topology, mask=mask))


# --- finite differences -----------------------------------------------------------------------------------------------


def directions(params: Params, names: tuple[str, ...]) -> dict[str, Callable[[float], Params]]:
    """Relative changes: of each bias current, of the weights or base currents in a random direction and one by one."""

    def bias(name: str) -> Callable[[float], Params]:
        return lambda e: replace(params, bias={**params.bias, name: params.bias[name] * (1 + e)})

    found = {name: bias(name) for name in names}
    rng = np.random.default_rng(5)
    field = "weight" if params.base is None else "base"
    value = np.asarray(getattr(params, field))
    signs = [rng.normal(size=value.shape)] + [np.eye(value.size)[k].reshape(value.shape) for k in (0, value.size - 1)]
    for k, d in enumerate(signs):
        found[f"{field} {k}"] = lambda e, d=d: replace(params, **{field: value * (1 + e * d)})
    if params.topology.delay is not None:
        late = rng.normal(size=params.topology.n_synapses)
        found["delay_factor"] = lambda e: replace(params, delay_factor=np.asarray(params.delay_factor) * (1 + e * late))
    return found


def everything() -> Params:
    """All latches, delays with factors of their own, masks; a refractory period that takes one internal step per bin."""
    params = masked(circuits("adaptation", "nmda_gate", "dc", "exponential", delays=True, refractory=1.4e-3))
    return replace(params, delay_factor=np.ones(params.topology.n_synapses))


FAST = ("fast", *MEMBRANE, *DPI, *AHP, "i_f_nmda", "i_dc")
ALL = ("everything", *FAST[1:], *DELAYS)


@pytest.mark.long
@pytest.mark.parametrize(
    ("names", "shape", "slope"),
    shortened(
        [(FAST, "fast_sigmoid", 3.0), (FAST, "triangle", 1.0), (FAST, "gaussian", 3.0), (ALL, "fast_sigmoid", 3.0)]
    ),
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
@pytest.mark.usefixtures("double")
def test_gradients_are_those_of_finite_differences(names: tuple[str, ...], shape: Any, slope: float) -> None:
    """Every current that acts, on the smoothed model; two steps agree, so no reset flips within them."""
    fast = names is FAST
    assert fast or {*names[1:]} == {*CURRENTS}
    params = circuits("adaptation", "nmda_gate", "dc") if fast else everything()
    rng = np.random.default_rng(1)
    x, target = rng.poisson(0.5, (2, 40, 6)).astype(float), rng.normal(size=(2, 40, 14))
    options: dict[str, Any] = {"substeps": 2 if fast else 1, "surrogate": Surrogate(shape, slope, True, True)}
    options["longest_delay"] = 8e-3

    def loss(params: Params) -> jax.Array:
        return (engine.spike_counts(params, x, DT, dtype=float, **options) * target).sum()

    gradient, value = jax.jit(jax.grad(loss))(params), jax.jit(loss)
    for name, change in directions(params, names[1:]).items():
        central = [float(value(change(e)) - value(change(-e))) / (2 * e) for e in (1e-5, 5e-6)]
        moved = jax.tree_util.tree_map(lambda a, b: (a - b) / 2e-3, change(1e-3), change(-1e-3))
        terms = jax.tree_util.tree_map(lambda g, d: float((g * d).sum()), gradient, moved)
        exact = sum(jax.tree_util.tree_leaves(terms))
        assert abs(exact) > 1e-6, name
        assert central[0] == pytest.approx(central[1], rel=1e-4), f"{name}: a reset flips, choose another seed"
        assert central[1] == pytest.approx(exact, rel=1e-4), name


# --- adjoint ----------------------------------------------------------------------------------------------------------


def split(params: Params) -> Params:
    """Sources side by side that drive one dendrite only: inputs 0 to 3 and neurons 0 to 5 AMPA, the others GABA."""
    t = params.topology
    excites = (t.pre < 4) | ((t.pre >= 7) & (t.pre < 13))
    return replace(params, topology=replace(t, dendrite=np.where(excites, 0, 2)))


LATCHES = ("adaptation", "dc")
NAMES = ("decay", "ahp_decay", "ahp_kick", "rate", "floor", "threshold", "refractory", "dc")


@pytest.mark.parametrize(
    ("latches", "dendrites", "n_sub", "batch", "steps", "patches"),
    shortened(
        [
            ((), False, 1, 1, 37, {"refractory": 0.6e-3}),
            ((), False, 1, 3, 24, {"SPLIT_FROM": 0}),
            (("dc",), True, 1, 2, 31, {"BLOCK": 100, "SMALL": 0}),
            (LATCHES, True, 2, 5, 24, {"BLOCK": 500, "TINY": 0}),
        ]
    ),
    ids=["long steps", "split", "prime", "blocks"],
)
@pytest.mark.usefixtures("double")
def test_the_adjoint_is_the_gradient_of_the_scan(
    latches: tuple[str, ...],
    dendrites: bool,
    n_sub: int,
    batch: int,
    steps: int,
    patches: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights, constants, input, to rounding; and the spikes themselves are equal."""
    patches = dict(patches)
    refractory = patches.pop("refractory", 1.2e-3 / n_sub)
    for name, value in patches.items():
        monkeypatch.setattr(wiring if name == "SPLIT_FROM" else adjoint, name, value)
    params = circuits(*latches, dendrites=dendrites, scale=1.5, refractory=refractory)
    params = split(params) if "SPLIT_FROM" in patches else params
    structure = structure_of(params, DT / n_sub)
    assert len(structure.groups) == (2 if "SPLIT_FROM" in patches else 1)
    weights, c = engine.lower(params, DT / n_sub, structure, None, jnp, float)
    rng = np.random.default_rng(steps)
    events, target = rng.poisson(1.0, (steps, batch, 7)).astype(float), rng.normal(size=(steps, batch, 14))
    program = engine.Program(structure, n_sub, Surrogate(slope=3.0))

    def gradients(way: Callable[..., Any], *more: Any) -> Any:
        def loss(weights: Any, values: dict[str, Any], events: Any) -> Any:
            constants = c._replace(**values)
            spikes = way(weights, constants, initial_state(batch, constants, structure, jnp), events, program, *more)
            return (spikes * target).sum(), spikes

        run = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
        (_, spikes), found = run(weights, {name: getattr(c, name) for name in NAMES}, events)
        return spikes, found

    spikes, exact = gradients(engine._scan, 0, None)
    fast_spikes, found = gradients(engine._fast)
    assert (spikes == fast_spikes).all()
    assert spikes.sum() > 5 * batch
    used = [leaf for leaf in jax.tree_util.tree_leaves(exact) if np.abs(leaf).max(initial=0)]
    assert len(used) >= 8
    assert relative(found, exact) < 1e-11


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("late", "native"), [(False, False), (True, False), (False, True)])
@pytest.mark.usefixtures("double")
def test_checkpoints_need_memory_like_the_root_of_time(late: bool, native: bool) -> None:
    """The same gradient; 16 times the time takes about 4 times the memory (besides input and output), else 16 times."""
    params, batch = circuits(delays=late, dendrites=False, refractory=1.2e-3), 8
    options: dict[str, Any] = {"substeps": 1, "longest_delay": 7e-3, "dtype": float, "native": native}

    def gradient(checkpoint: bool, steps: int) -> tuple[float, Any]:
        def loss(weight: Any, x: Any) -> Any:
            chip = replace(params, weight=weight)
            return engine.spike_counts(chip, x, DT, checkpoint=checkpoint, **options)[:, -1].sum()

        weight, x = jnp.asarray(params.weight), np.random.default_rng(0).poisson(1.0, (batch, steps, 6)).astype(float)
        run = jax.jit(jax.grad(loss)).lower(weight, x).compile()
        linear = 8 * steps * batch * (7 + 14)
        memory: Any = run.memory_analysis()
        return memory.temp_size_in_bytes - linear, run(weight, x) if steps < 300 else None

    short, long = (gradient(True, steps) for steps in (256, 16 * 256))
    assert 1.5 < long[0] / short[0] < 6
    whole = gradient(False, 256)
    assert whole[0] > (1.2 if native else 4) * short[0]  # the kernels keep every 16th state only
    assert float(jnp.abs(whole[1]).max()) > 0
    assert relative(short[1], whole[1]) < 1e-9
    if late or native:  # XLA's adjoint cuts time into blocks, whose memory does not grow
        assert gradient(False, 16 * 256)[0] > 12 * whole[0]


# --- virtual chips ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
def test_gradients_through_vmapped_chips_are_the_mean_over_chips() -> None:
    """Weights shared before fabrication; each chip multiplies them by factors of its own."""
    params = circuits("adaptation", dendrites=False)
    chips = [fabricate(params, Mismatch.uniform(0.2), seed) for seed in range(3)]
    substeps = max(internal_step(chip, DT) for chip in chips)
    factor = [np.asarray(chip.weight) / np.asarray(params.weight) for chip in chips]
    x = np.random.default_rng(0).poisson(1.0, (2, 40, 6)).astype(np.float32)

    def loss(weight: Any, chip: Params, factor: Any) -> Any:
        counts = engine.spike_counts(replace(chip, weight=weight * factor), x, DT, substeps=substeps, dtype=float)
        return (counts.sum((0, 1)) ** 2).mean()

    scaled = jax.tree_util.tree_map(lambda *leaves: np.stack(leaves), *chips)

    def mean(weight: Any, chips: Params, factors: Any) -> Any:
        return jax.vmap(loss, in_axes=(None, 0, 0))(weight, chips, factors).mean()

    weight = jnp.asarray(params.weight)
    found = jax.jit(jax.grad(mean))(weight, scaled, np.stack(factor))
    single = jax.jit(jax.grad(loss))
    alone = [single(weight, chip, f) for chip, f in zip(chips, factor, strict=True)]
    assert all(jnp.linalg.norm(a) > 0 for a in alone)
    assert relative(alone[0], alone[1]) > 0.01
    assert relative(found, sum(alone) / 3) < 1e-9


# --- threshold --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 0])
def test_the_gradient_of_the_threshold_is_of_the_order_of_the_counts(seed: int | None) -> None:
    """float32, nominal and at a CV of 0.5: dS/d ln I_spkthr is what the counts S really change by, to an order."""
    params = to_params(small_networks.feed_forward(np.random.default_rng(0).uniform(0.05, 0.15, (8, 6)) * 0.2))
    chip = params if seed is None else fabricate(params, Mismatch.uniform(0.5), seed)
    substeps = internal_step(chip, DT)
    x = np.random.default_rng(0).poisson(1.0, (1, 60, 6)).astype(np.float32)

    def counts(chip: Params) -> Any:
        return engine.spike_counts(chip, x, DT, substeps=substeps).sum()

    run = jax.jit(jax.value_and_grad(counts))
    total, gradient = run(chip)
    assert total.dtype == jnp.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree_util.tree_leaves((total, gradient)))
    slope = float((gradient.bias["i_spkthr"] * chip.bias["i_spkthr"]).sum())
    ends = [replace(chip, bias={**chip.bias, "i_spkthr": chip.bias["i_spkthr"] * f}) for f in (0.9, 1 / 0.9)]
    real = float(run(ends[1])[0] - run(ends[0])[0]) / (2 * np.log(1 / 0.9))
    assert total > 20
    assert real < 0
    assert 0.3 < slope / real < 3
