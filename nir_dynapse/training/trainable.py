"""What is trained: numbers without bounds (`Latent`) that stand for the bits of a network, and its circuits on chips.

A `Chart` says what the numbers mean. `quantised` makes the bits of them, `on_chip` the circuit of one chip: the bits first,
then the mismatch, as on silicon. Everything is differentiable; what is trained of it is a mask over the tree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, DEAD_THRESHOLD, GABA, Circuit, Mismatch
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.sim import programs as _programs  # noqa: F401 - before any program is compiled
from nir_dynapse.sim.mismatch import LARGEST
from nir_dynapse.training.transforms import bits_of, from_range, nearest_mask, on_grid, straight_through, to_range

__all__ = [
    "Bits",
    "Chart",
    "Factors",
    "Latent",
    "chart_of",
    "draw",
    "latent_of",
    "nominal",
    "on_chip",
    "projected",
    "quantised",
    "settled",
]

Array = Any


class Latent(NamedTuple):
    """The numbers that are trained.

    `bias[name]` (G,) and `base` (G, 4) without bounds, see `transforms.to_range`; `weight` (R,), signed, in units of
    `Chart.unit`: positive ones excite.
    """

    bias: dict[str, Array]
    base: Array
    weight: Array


class Bits(NamedTuple):
    """What the chip gets: bias currents (G,) and base currents (G, 4) in A on the grid, `mask` (R,), `current` (R,) in A.

    `current` is that of the mask, with the gradients of the base currents and, straight through, of the weight.
    """

    bias: dict[str, Array]
    base: Array
    mask: Array | None
    current: Array
    excites: Array


class Factors(NamedTuple):
    """Logarithms of the mismatch of one chip: `bias` (names, N) and `row` (R, 4), or (R, 1) where rows have no masks;
    `alive` (N,) is 0 for neurons that never spike."""

    bias: Array
    row: Array
    alive: Array


@dataclass(frozen=True, eq=False)
class Chart:
    """What the numbers of a `Latent` mean; static under jit (compared by identity).

    `rows` is the topology of the R CAM rows, with the dendrite of a positive weight; rows with `free` sign go to GABA
    where their weight is negative. `fixed` are the bias currents (G,) not in a Latent, on the grid. `ranges[name]` and
    `base_range` in A; `bits` is the number of base currents, 0 for weights that are not quantised.
    """

    rows: Topology
    free: np.ndarray
    fixed: dict[str, np.ndarray]
    ranges: dict[str, tuple[float, float]]
    base_range: tuple[float, float]
    unit: float
    bits: int
    circuit: Circuit

    @cached_property
    def free_rows(self) -> np.ndarray:
        """The rows whose sign is free."""
        return np.flatnonzero(self.free)

    @cached_property
    def row_group(self) -> np.ndarray:
        """Bias group (R,) of each row."""
        return self.rows.group[self.rows.post]

    def hearing(self, pre: np.ndarray) -> Chart:
        """The same with rows that hear the sources `pre` (R,)."""
        return replace(self, rows=replace(self.rows, pre=pre))

    @cached_property
    def grids(self) -> dict[str, np.ndarray]:
        """The currents in A that the bias generator can make for each parameter that is trained, ascending and positive."""
        return {name: (grid := np.unique(biasgen.grid(name)))[grid > 0] for name in (*self.ranges, BASE_WEIGHTS[0])}

    @cached_property
    def wires(self) -> Topology:
        """The topology that is simulated: one group per neuron, and every row of free sign twice, once per sign."""
        t, free = self.rows, self.free_rows
        twice = np.r_[np.arange(t.n_synapses), free]
        return replace(
            t,
            group=np.arange(t.n_neurons),
            pre=t.pre[twice],
            post=t.post[twice],
            row=t.row[twice],
            dendrite=np.r_[t.dendrite, np.full(len(free), GABA)],
            mask=None,
            delay=None if t.delay is None else t.delay[twice],
        )


def chart_of(params: Params, free: np.ndarray, trained: tuple[str, ...], bits: int, unit: float, ranges: dict) -> Chart:
    """The chart of `params`, whose synapses are the rows; `ranges[name]` are narrower ones than those of the chip."""
    known = {name: ranges.get(name, biasgen.reach(name)) for name in trained}
    fixed = {name: _exactly(name, params.bias[name]) for name in CURRENTS if name not in known}
    topology = replace(params.topology, mask=None)
    low, high = biasgen.reach(BASE_WEIGHTS[0])
    return Chart(topology, free, fixed, known, (max(low, unit * 1e-3), min(high, unit)), unit, bits, params.circuit)


def latent_of(chart: Chart, params: Params, base: np.ndarray, weight: np.ndarray) -> Latent:
    """The numbers that stand for the bias currents of `params`, base currents (G, 4) in A and signed weights (R,) in A."""
    bias = {name: _single(from_range(params.bias[name], *limits)) for name, limits in chart.ranges.items()}
    base = from_range(np.maximum(base, 1e-30), *chart.base_range)
    return Latent(bias, _single(base), _single(weight / chart.unit))


def _single(values: np.ndarray) -> Array:
    """In single precision; rounded by NumPy, which needs no program for that."""
    return jnp.asarray(np.asarray(values, np.float32))


def quantised(chart: Chart, latent: Latent, *, rounded: bool = True) -> Bits:
    """The bits that `latent` stands for; with `rounded=False` nothing is rounded."""
    kind = latent.weight.dtype
    bias = {name: to_range(latent.bias[name], *limits) for name, limits in chart.ranges.items()}
    base = to_range(latent.base, *chart.base_range)
    if rounded:
        bias = {name: on_grid(value, jnp.asarray(chart.grids[name], kind)) for name, value in bias.items()}
        base = on_grid(base, jnp.asarray(chart.grids[BASE_WEIGHTS[0]], kind))
    bias |= {name: jnp.asarray(value, kind) for name, value in chart.fixed.items()}
    # Unlike that of |w|, the gradient is not 0 where a weight is 0: it can leave from there.
    excites: Array = latent.weight >= 0
    size = jnp.where(excites, latent.weight, -latent.weight) * chart.unit
    if not chart.bits or not rounded:
        return Bits(bias, base, None, size, excites)
    used = base[:, : chart.bits]
    mask = nearest_mask(size, used, chart.row_group)
    chosen = (bits_of(mask, chart.bits) * used[chart.row_group]).sum(1)
    # Both gradients: that of the base currents through the mask, that of the weight straight through.
    return Bits(bias, base, mask, straight_through(size, chosen) + chosen - jax.lax.stop_gradient(chosen), excites)


def nominal(chart: Chart, kind: Any = jnp.float32) -> Factors:
    """The chip without mismatch."""
    n, r = chart.rows.n_neurons, chart.rows.n_synapses
    return Factors(jnp.zeros((len(CURRENTS), n), kind), jnp.zeros((r, max(chart.bits, 1)), kind), jnp.ones(n, kind))


def draw(chart: Chart, key: Array, mismatch: Mismatch, size: Array | float = 1.0, drop: Array | None = None) -> Factors:
    """Factors of one chip: log-normal with mean 1 and the CVs of `mismatch` times `size`; dead rows weigh nothing.

    `drop` (N,) is the probability of each neuron to be silent, beside those that `mismatch` says are dead.
    """
    n, r = chart.rows.n_neurons, chart.rows.n_synapses
    of_bias, of_row, of_dead, of_lost = jax.random.split(key, 4)
    cvs = dict(mismatch.cv)
    cv = jnp.asarray([cvs.get(name, 0.0) for name in CURRENTS], jnp.float32)[:, None] * size

    def log_normal(key: Array, shape: tuple[int, ...], cv: Array) -> Array:
        variance = jnp.log1p(cv * cv)
        return jnp.clip(jnp.sqrt(variance) * jax.random.normal(key, shape) - variance / 2, -LARGEST, LARGEST)

    row = log_normal(of_row, (r, max(chart.bits, 1)), mismatch.synapse * jnp.asarray(size, jnp.float32))
    if mismatch.dead_rows:
        row = jnp.where(jax.random.uniform(of_lost, (r, 1)) < mismatch.dead_rows, -jnp.inf, row)
    silent = jnp.zeros(n) if drop is None else jnp.asarray(drop, jnp.float32)
    silent = 1 - (1 - silent) * (1 - mismatch.dead_neurons)
    alive = (jax.random.uniform(of_dead, (n,)) >= silent).astype(jnp.float32)
    return Factors(log_normal(of_bias, (len(CURRENTS), n), cv), row, alive)


def on_chip(chart: Chart, bits: Bits, factors: Factors) -> Params:
    """The circuit of `bits` on a chip with `factors`: a `Params` with the topology `Chart.wires`."""
    group, spread = chart.rows.group, jnp.exp(factors.bias)
    bias = {name: bits.bias[name][group] * spread[k] for k, name in enumerate(CURRENTS)}
    bias["i_spkthr"] = jnp.where(factors.alive > 0, bias["i_spkthr"], DEAD_THRESHOLD)
    row = jnp.exp(factors.row)
    if bits.mask is None:
        current = bits.current * row.mean(1)
    else:
        on = bits_of(bits.mask, chart.bits)
        used = bits.base[:, : chart.bits][chart.row_group]
        real = (on * used * row).sum(1)
        whole = (on * used).sum(1)
        # What the mismatch adds to each bit, with its gradients, and the weight's own gradient times the mean factor.
        ratio = jax.lax.stop_gradient(jnp.where(whole > 0, real / jnp.where(whole > 0, whole, 1.0), row.mean(1)))
        own = bits.current - whole
        current = real + own * ratio
    excited: Any = jnp.where(bits.excites, current, 0.0)
    free: Any = jnp.asarray(chart.free)
    first = jnp.where(free, excited, current)
    inhibited = jnp.where(bits.excites, 0.0, current)[chart.free_rows]
    return Params(bias, jnp.concatenate([first, inhibited]), None, chart.wires, chart.circuit)


def projected(chart: Chart, latent: Latent) -> Latent:
    """`latent` with weights that the largest level reaches; those of rows without a free sign are not negative."""
    bits = quantised(chart, latent, rounded=False)
    top = (bits.base[:, : chart.bits].sum(1) if chart.bits else 4 * bits.base.max(1)) / chart.unit
    top = top[chart.row_group]
    lowest: Any = jnp.where(chart.free, -top, 0.0)
    weight = jnp.clip(latent.weight, lowest, top)
    return latent._replace(weight=weight)


_quantised: Any = jax.jit(quantised, static_argnums=(0,))
"""As one program, where nothing around it is compiled."""


def settled(chart: Chart, latent: Latent) -> Params:
    """The `Params` that `latent` stands for, with NumPy arrays: masks and base currents on the grid where quantised."""
    bits = jax.tree_util.tree_map(np.asarray, _quantised(chart, latent))
    t = chart.rows
    dendrite = np.where(chart.free & ~bits.excites, GABA, t.dendrite)
    bias = {name: _exactly(name, bits.bias[name]) for name in CURRENTS}
    if not chart.bits:
        topology = replace(t, dendrite=dendrite)
        return Params(bias, bits.current.astype(float), None, topology, chart.circuit).check()
    base = np.stack([_exactly(name, bits.base[:, b]) for b, name in enumerate(BASE_WEIGHTS)], 1)
    return Params(bias, None, base, replace(t, dendrite=dendrite, mask=bits.mask), chart.circuit).check()


def _exactly(name: str, value: np.ndarray) -> np.ndarray:
    """The nearest current on the grid in double precision."""
    coarse, fine, _ = biasgen.nearest_codes(name, np.asarray(value, float))
    return np.asarray(biasgen.current(name, coarse, fine), float)
