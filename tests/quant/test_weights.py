# IMPORT
"""The quantiser against exact references for small sets, its invariances, and whole cores recomputed from their codes."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import BASE_WEIGHTS, DENDRITES, DYNAPSE2
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.quant.core_weights import CoreProblem, CoreWeights, importance_of, quantise_core
from nir_dynapse.quant.weights import quantise_weights
from shortened import shortened

GRID = np.unique(biasgen.grid("i_w0"))
KINDS = ("normal", "laplace", "lognormal", "sparse")
AMPA, NMDA, GABA, SHUNT = range(4)
UNIT = np.array([2.5e14, 1.2e14, 2e14, 3e14])
"""Charge per A² that makes weights of some 0.1 of gains of some 10 nA."""
seeds = st.integers(0, 2**32 - 1)


def bits(n_base: int = 4) -> np.ndarray:
    return ((np.arange(1 << n_base)[:, None] >> np.arange(n_base)) & 1).astype(float)


def draw(kind: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, n])
    if kind == "sparse":
        return np.abs(rng.normal(size=n)) * (rng.permutation(n) < max(n // 10, 1))
    return np.abs(getattr(rng, kind)(size=n))


def some(seed: int, n: int) -> np.ndarray:
    return draw(KINDS[seed % 3], n, seed)


def error(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sqrt(np.mean((values - weights) ** 2) / np.mean(weights**2)))


# --- exact references ------------------------------------------------------------------------------------------------


def best_of(choices: np.ndarray, weights: np.ndarray) -> float:
    """Error of the best row of `choices` (R, n_base), each weight at its nearest level."""
    off = np.inf
    for part in np.array_split(choices, max(len(choices) // 4000, 1)):
        levels = part @ bits(choices.shape[1]).T
        off = min(off, float((np.abs(levels[:, :, None] - weights).min(1) ** 2).mean(1).min()))
    return float(np.sqrt(off / np.mean(weights**2)))


@pytest.mark.parametrize("seed", shortened(range(12), 3))
def test_no_worse_than_all_choices_from_a_coarse_grid(seed: int) -> None:
    """24 currents, all combinations of 4: free base currents and those of the bias generator, which holds the 24."""
    weights = some(seed, 5 + seed % 8)
    grid = GRID * (weights.max() / GRID.max())
    coarse = np.unique(np.r_[grid[:: len(grid) // 12][:12], grid[-600::50]])
    assert len(coarse) == 24
    exact = best_of(coarse[list(combinations_with_replacement(range(24), 4))], weights)
    assert quantise_weights(weights).nrmse(weights) <= 1.01 * exact
    assert quantise_weights(weights, grid=grid).nrmse(weights) <= 1.01 * exact


@pytest.mark.parametrize("n_base", [2, 3])
@pytest.mark.parametrize("seed", range(16))
def test_no_worse_than_all_assignments(seed: int, n_base: int) -> None:
    """The global optimum: least squares for every assignment of sorted weights to levels in each order these can have."""
    weights = np.sort(some(seed, 5 + seed % (8 if n_base == 2 else 4)))
    orders = [[0, 1, 2, 3]] if n_base == 2 else [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 4, 3, 5, 6, 7]]
    least = np.inf
    for order in orders:
        chosen = bits(n_base)[order][np.array(list(combinations_with_replacement(range(1 << n_base), len(weights))))]
        matrix = chosen.transpose(0, 2, 1) @ chosen + 1e-12 * np.eye(n_base)
        base = np.linalg.solve(matrix, chosen.transpose(0, 2, 1) @ weights[:, None])
        off = (((chosen @ base)[..., 0] - weights) ** 2).mean(1)
        least = min(least, off[(base > -1e-9).all((1, 2))].min())
    exact = np.sqrt(least / np.mean(weights**2))
    assert quantise_weights(weights, n_base=n_base).nrmse(weights) <= 1.01 * exact + 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", shortened([100, 1000]))
def test_no_worse_than_many_random_restarts(kind: str, n: int) -> None:
    """Plain alternating minimisation, written out here, from 200 random starts: ours is at most 1 % above its best."""
    weights = draw(kind, n, 0)
    kept, masks = weights[weights > 0], bits()
    rng, best = np.random.default_rng(1), np.inf
    for _ in range(200):
        base, last = rng.uniform(0, kept.max() / 2, 4), None
        for _ in range(60):
            chosen = np.abs(kept[:, None] - masks @ base).argmin(1)
            if last is not None and (chosen == last).all():
                break
            last = chosen
            count, total = np.bincount(chosen, minlength=16), np.bincount(chosen, kept, 16)
            base = np.maximum(np.linalg.pinv((masks.T * count) @ masks) @ (masks.T @ total), 0)
        best = min(best, error(np.abs(kept[:, None] - masks @ base).min(1) + kept, kept))
    assert quantise_weights(weights).nrmse(weights) <= 1.01 * best


@pytest.mark.parametrize("seed", range(4))
def test_no_choice_of_codes_nearby_is_better(seed: int) -> None:
    weights = some(seed, 100)
    grid = GRID * (weights.max() / GRID.max())
    result = quantise_weights(weights, grid=grid)
    assert np.isin(result.base, grid).all()
    near = [grid[np.clip(np.arange(k - 2, k + 3), 0, len(grid) - 1)] for k in np.searchsorted(grid, result.base)]
    choices = np.stack(np.meshgrid(*near, indexing="ij"), -1).reshape(-1, 4)
    assert result.nrmse(weights) <= 1.01 * best_of(choices, weights)


# --- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.long
@given(seeds, st.integers(1, 6), st.integers(1, 60))
@settings(max_examples=30)
def test_values_are_what_masks_and_base_make(seed: int, n_base: int, n: int) -> None:
    weights = some(seed, n)
    for rows in (1, 2) if n_base < 5 else (1,):
        result = quantise_weights(weights, n_base=n_base, rows=rows)
        masks = result.masks.reshape(n, -1)
        assert masks.shape == (n, rows)
        assert ((masks >= 0) & (masks < 1 << n_base)).all()
        assert np.allclose((bits(n_base)[masks] @ result.base).sum(1), result.values)
        assert (np.diff(result.base) >= 0).all()
        assert (result.base >= 0).all()


@pytest.mark.long
def test_more_base_currents_are_better_and_one_is_the_best_threshold() -> None:
    weights = np.sort(draw("normal", 200, 3))
    errors = [quantise_weights(weights, n_base=n).nrmse(weights) for n in range(1, 7)]
    assert all(fine < 0.6 * coarse for coarse, fine in pairwise(errors))
    one = [error(np.where(np.arange(200) < cut, 0, weights[cut:].mean()), weights) for cut in range(200)]
    assert errors[0] == pytest.approx(min(one), rel=1e-6)


@pytest.mark.long
@given(seeds, st.integers(5, 100), st.integers(-60, 60))
@settings(max_examples=20)
def test_scale_and_order_do_not_matter(seed: int, n: int, exponent: int) -> None:
    weights, order = some(seed, n), np.random.default_rng(seed).permutation(n)
    plain, scaled, shuffled = map(quantise_weights, (weights, weights * 2.0**exponent, weights[order]))
    assert (scaled.masks == plain.masks).all()
    assert (scaled.base == plain.base * 2.0**exponent).all()
    assert (shuffled.masks == plain.masks[order]).all()
    assert (shuffled.base == plain.base).all()
    other = quantise_weights(weights * 10.0 ** (exponent / 5))
    assert other.nrmse(weights * 10.0 ** (exponent / 5)) == pytest.approx(plain.nrmse(weights), rel=1e-6, abs=1e-9)


@pytest.mark.long
@given(seeds, st.integers(5, 100), st.booleans())
@settings(max_examples=20)
def test_more_rows_are_never_worse(seed: int, n: int, on_grid: bool) -> None:
    """Up to 0.1 % of the RMS weight: where few weights are met almost exactly, fewer rows may meet them closer."""
    weights = some(seed, n)
    grid = GRID * (weights.max() / GRID.max()) if on_grid else None
    errors = [quantise_weights(weights, rows=rows, grid=grid).nrmse(weights) for rows in (1, 2, 3)]
    assert errors[1] <= errors[0] + 1e-3
    assert errors[2] <= errors[1] + 1e-3


@pytest.mark.long
@given(seeds, st.integers(5, 100))
@settings(max_examples=20)
def test_zero_stays_zero_and_moves_nothing(seed: int, n: int) -> None:
    weights = some(seed, n)
    mixed = np.zeros(3 * n)
    mixed[::3] = weights
    with_zeros, without = quantise_weights(mixed), quantise_weights(weights)
    assert (with_zeros.masks[mixed == 0] == 0).all()
    assert (with_zeros.values[mixed == 0] == 0).all()
    assert (with_zeros.base == without.base).all()
    nothing = quantise_weights(np.zeros(n), grid=GRID, rows=2)
    assert (nothing.masks == 0).all()
    assert (nothing.values == 0).all()
    assert np.isin(nothing.base, GRID).all()
    assert nothing.nrmse(np.zeros(n)) == 0
    assert quantise_weights(np.zeros(0)).values.shape == (0,)


@given(seeds, st.integers(5, 100))
@settings(max_examples=20)
def test_a_weight_of_great_importance_is_met(seed: int, n: int) -> None:
    weights, which = some(seed, n), seed % n
    importance = np.where(np.arange(n) == which, 1e6, 1.0)
    values = quantise_weights(weights, importance=importance).values
    assert abs(values[which] - weights[which]) <= 1e-3 * np.sqrt(np.mean(weights**2))


@pytest.mark.long
@given(seeds, st.integers(5, 100), st.sampled_from([0.5, 1.0, 30.0, 1e6]))
@settings(max_examples=20)
def test_a_weight_of_no_importance_does_not_matter(seed: int, n: int, size: float) -> None:
    """However large it is."""
    weights = some(seed, n)
    more = np.r_[weights, size * weights.max()]
    result = quantise_weights(more, importance=np.r_[np.ones(n), 0])
    alone = quantise_weights(weights)
    assert error(result.values[:-1], weights) <= 1.01 * alone.nrmse(weights) + 1e-6
    levels, met = bits() @ result.base, result.values[-1]
    assert np.abs(levels - met).min() <= 1e-6 * met
    nearest = np.abs(levels - more[-1]).min()  # two may be equally near
    assert abs(met - more[-1]) == pytest.approx(nearest, rel=1e-6, abs=1e-6 * met)


def test_importance_weighs_errors() -> None:
    """Twice in the list is the same as an importance of 2."""
    weights = draw("laplace", 80, 0)
    importance = np.r_[np.full(40, 2.0), np.ones(40)]
    twice = quantise_weights(np.r_[weights, weights[:40]])
    assert np.allclose(quantise_weights(weights, importance=importance).base, twice.base, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1, -2]}, "weights[1] is -2.0, allowed are finite values from 0. Signs belong to the dendrite."),
        ({"weights": [np.nan]}, "weights[0] is nan, allowed are finite values from 0."),
        ({"weights": [1, np.inf]}, "weights[1] is inf, allowed are finite values from 0."),
        ({"importance": [1, -1]}, "importance[1] is -1.0, allowed are finite values from 0."),
        ({"importance": [1, 1, 1]}, "3 values of importance for 2 weights. Give one for each."),
        ({"grid": [np.nan]}, "grid[0] is nan"),
        ({"grid": []}, "the grid is empty. Give the currents that a base can be set to."),
        ({"rows": 0}, "rows is 0, allowed are 1 to 4. Choose one of them."),
        ({"rows": 5}, "rows is 5, allowed are 1 to 4. Choose one of them."),
        ({"n_base": 0}, "n_base is 0, allowed are 1 to 8. Choose one of them."),
        ({"n_base": 9}, "n_base is 9, allowed are 1 to 8. Choose one of them."),
    ],
)
def test_wrong_input_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterRangeError) as caught:
        quantise_weights(**{"weights": [1.0, 2.0], **arguments})
    assert str(caught.value).startswith("quantise_weights: ")
    assert message in str(caught.value)


# --- one core --------------------------------------------------------------------------------------------------------


def problem(seed: int, neurons: int = 6, spare: Any = 0, *, shares=(0.5, 0.2, 0.3, 0.0), **more: Any) -> CoreProblem:
    """Weights of 1 to 20 synapses per neuron over dendrites with `shares`, some of them zero."""
    rng = np.random.default_rng(seed)
    neuron = np.repeat(np.arange(neurons), rng.integers(1, 21, neurons))
    charge = 0.1 * np.abs(rng.normal(size=len(neuron))) * (rng.random(len(neuron)) > 0.05)
    dendrite = rng.choice(4, len(neuron), p=shares)
    room = np.broadcast_to(np.asarray(spare, int), neurons)
    return CoreProblem(charge, dendrite, neuron, importance_of(charge), room, UNIT, **more)


def core_error(result: CoreWeights, p: CoreProblem, dendrite: int) -> float:
    here = p.dendrite == dendrite
    return error(result.values[here], p.charge[here])


@pytest.mark.long
@given(seeds, st.booleans())
@settings(max_examples=12)
def test_a_core_is_what_its_codes_and_rows_make(seed: int, second_range: bool) -> None:
    """Base currents and gains that can be set, rows within the budget of each neuron, dendrites kept."""
    rng = np.random.default_rng(seed)
    shares = (0.7, 0.0, 0.2, 0.1) if second_range else (0.4, 0.2, 0.3, 0.1)
    p = problem(seed, 6, rng.integers(0, 25, 6), shares=shares, second_range=second_range)
    result = quantise_core(p, DYNAPSE2, seed % 7)
    for b, name in enumerate(BASE_WEIGHTS):
        assert result.base[b] in biasgen.grid(name)
    assert set(result.dendrite[result.mask > 0].tolist()) <= set(result.gain_codes)
    made = np.zeros(len(p.charge))
    for which, dendrite, mask in zip(result.which, result.dendrite, result.mask, strict=True):
        own = p.dendrite[which]
        assert dendrite == own or (second_range and own == AMPA and dendrite == NMDA)
        if mask:
            gain = biasgen.current(f"i_gain_{DENDRITES[dendrite]}", *result.gain_codes[int(dendrite)])
            made[which] += UNIT[dendrite] * gain * sum(result.base[b] for b in range(4) if mask >> b & 1)
    assert np.allclose(result.values, made, rtol=1e-9, atol=0)
    rows = np.bincount(result.which, minlength=len(p.charge))
    assert (rows >= 1).all()
    assert (np.bincount(p.neuron, rows - 1, len(p.spare)) <= p.spare).all()
    assert (result.values[p.charge == 0] == 0).all()
    assert (rows[p.charge == 0] == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_second_range_makes_excitatory_weights_finer(seed: int) -> None:
    """Weights over three decades: NMDA as the coarse or the fine range of AMPA."""
    rng = np.random.default_rng(seed)
    charge = np.exp(rng.uniform(np.log(1e-4), np.log(0.1), 200))
    dendrite, neuron = np.where(np.arange(200) % 4, AMPA, GABA), np.arange(200) // 20
    p = CoreProblem(charge, dendrite, neuron, importance_of(charge), np.zeros(10, int), UNIT)
    one, two = quantise_core(p, DYNAPSE2), quantise_core(p._replace(second_range=True), DYNAPSE2)
    assert NMDA not in one.gain_codes
    assert NMDA in two.gain_codes
    here = dendrite == AMPA

    def cost(result: CoreWeights) -> float:
        return float(np.sum(p.importance[here] * (result.values - charge)[here] ** 2))

    assert cost(two) < 0.6 * cost(one)


@pytest.mark.parametrize("seed", range(3))
def test_gains_of_dendrites_adapt(seed: int) -> None:
    """Inhibition ten times weaker (or stronger) than excitation is as accurate as of the same size."""
    rng = np.random.default_rng(seed)
    size, dendrite = 0.1 * np.abs(rng.normal(size=400)), np.where(rng.random(400) < 0.5, AMPA, GABA)

    def solved(factor: float) -> tuple[float, float]:
        charge = size * np.where(dendrite == GABA, factor, 1)
        importance = np.where(dendrite == GABA, 1 / factor**2, 1)
        p = CoreProblem(charge, dendrite, np.arange(400) // 40, importance, np.zeros(10, int), UNIT)
        result = quantise_core(p, DYNAPSE2)
        return core_error(result, p, AMPA), core_error(result, p, GABA)

    same = solved(1.0)
    for factor in (0.1, 10.0):
        assert solved(factor) == pytest.approx(same, rel=0.1)


@pytest.mark.parametrize("values", [(0.05,), (0.02, 0.05, 0.08, 0.11)])
def test_few_different_weights_take_one_row_each(values: tuple[float, ...]) -> None:
    charge = np.tile(values, 120 // len(values))
    neuron = np.arange(120) // 12
    p = CoreProblem(charge, np.full(120, AMPA), neuron, importance_of(charge), np.full(10, 20), UNIT)
    result = quantise_core(p, DYNAPSE2)
    assert result.which.tolist() == list(range(120))
    assert np.allclose(result.values, charge, rtol=0.01)


@pytest.mark.long
def test_spare_rows_make_a_core_finer() -> None:
    errors = []
    for spare in (0, 4, 20):
        p = problem(5, 10, spare, shares=(0.6, 0.0, 0.4, 0.0))
        errors.append(error(quantise_core(p, DYNAPSE2).values, p.charge))
    assert errors[2] < 0.7 * errors[1] < 0.49 * errors[0]


@pytest.mark.long
def test_a_core_is_deterministic_by_key() -> None:
    p = problem(3, 8, 5)
    first, again, other = (quantise_core(p, DYNAPSE2, key) for key in (4, 4, 5))
    assert first.gain_codes == again.gain_codes
    for name in ("base", "which", "dendrite", "mask", "values"):
        assert (getattr(first, name) == getattr(again, name)).all()
    assert error(other.values, p.charge) == pytest.approx(error(first.values, p.charge), rel=0.2)


def test_a_core_of_nothing_and_of_zeros() -> None:
    for n in (0, 3):
        p = CoreProblem(
            np.zeros(n), np.full(n, GABA), np.zeros(n, int), importance_of(np.zeros(n)), np.ones(1, int), UNIT
        )
        result = quantise_core(p, DYNAPSE2)
        assert result.which.tolist() == list(range(n))
        assert (result.mask == 0).all()
        assert (result.values == 0).all()
        assert np.isin(result.base, GRID).all()
