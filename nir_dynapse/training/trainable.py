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
from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, DEAD_THRESHOLD, DELAYS, GABA, Circuit, Mismatch
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
    "offered",
    "on_chip",
    "projected",
    "quantised",
    "settled",
]

Array = Any


class Latent(NamedTuple):
    """The numbers that are trained.

    `bias[name]` (G,) and `base` (G, 4) without bounds, see `transforms.to_range`; `weight` (R,), signed, in units of
    `Chart.unit`: positive ones excite. `flag` (R,), where rows may change it, is the delay flag of each row as a whole
    number (`Topology.delay`), which no gradient moves: `Trainable.reflagged` does.
    """

    bias: dict[str, Array]
    base: Array
    weight: Array
    flag: Array | None = None


class Bits(NamedTuple):
    """What the chip gets: bias currents (G,) and base currents (G, 4) in A on the grid, `mask` (R,), `current` (R,) in A.

    `current` is that of the mask, with the gradients of the base currents and, straight through, of the weight; `flag` (R,)
    are delay flags where they change.
    """

    bias: dict[str, Array]
    base: Array
    mask: Array | None
    current: Array
    excites: Array
    flag: Array | None = None


class Factors(NamedTuple):
    """Logarithms of the mismatch of one chip: `bias` (names, N) and `row` (R, 4), or (R, 1) where rows have no masks;
    `alive` (N,) is 0 for neurons that never spike; `delay` (R, 2) those of the two delays of each row, None for none."""

    bias: Array
    row: Array
    alive: Array
    delay: Array | None = None


@dataclass(frozen=True, eq=False)
class Chart:
    """What the numbers of a `Latent` mean; static under jit (compared by identity).

    `rows` is the topology of the R CAM rows, with the dendrite of a positive weight; rows with `free` sign go to GABA
    where their weight is negative. `fixed` are the bias currents (G,) not in a Latent, on the grid. `ranges[name]` and
    `base_range` in A; `bits` is the number of base currents, 0 for weights that are not quantised. `late` (R,) says which
    rows may change their delay flag (None: none).
    """

    rows: Topology
    free: np.ndarray
    fixed: dict[str, np.ndarray]
    ranges: dict[str, tuple[float, float]]
    base_range: tuple[float, float]
    unit: float
    bits: int
    circuit: Circuit
    late: np.ndarray | None = None

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
        """The topology that is simulated: one group per neuron, and every row of free sign twice, once per sign.

        Rows that may change their flag have that of the precise delay: `Params.delay_factor` makes theirs of it.
        """
        t, twice = self.rows, self.twice
        return replace(
            t,
            group=np.arange(t.n_neurons),
            pre=t.pre[twice],
            post=t.post[twice],
            row=t.row[twice],
            dendrite=np.r_[t.dendrite, np.full(len(self.free_rows), GABA)],
            mask=None,
            delay=self.flags[twice] if self.flags.any() else None,
        )

    @cached_property
    def twice(self) -> np.ndarray:
        """The row of each synapse of `wires`."""
        return np.r_[np.arange(self.rows.n_synapses), self.free_rows]

    @cached_property
    def flags(self) -> np.ndarray:
        """Delay flags (R,) of the rows in `wires`."""
        own = np.zeros(self.rows.n_synapses, np.int32) if self.rows.delay is None else self.rows.delay
        return own if self.late is None else np.where(self.late, 1, own)


def chart_of(params: Params, free: np.ndarray, trained: tuple[str, ...], bits: int, unit: float, ranges: dict) -> Chart:
    """The chart of `params`, whose synapses are the rows; `ranges[name]` are narrower ones than those of the chip."""
    known = {name: ranges.get(name, biasgen.reach(name)) for name in trained}
    fixed = {name: _exactly(name, params.bias[name]) for name in CURRENTS if name not in known}
    topology = replace(params.topology, mask=None)
    low, high = biasgen.reach(BASE_WEIGHTS[0])
    return Chart(topology, free, fixed, known, (max(low, unit * 1e-3), min(high, unit)), unit, bits, params.circuit)


def latent_of(chart: Chart, params: Params, base: np.ndarray, weight: np.ndarray) -> Latent:
    """The numbers that stand for the bias currents of `params`, base currents (G, 4) in A and signed weights (R,) in A."""
    flag = None
    if chart.late is not None:
        flag = _single(np.zeros(len(weight)) if chart.rows.delay is None else chart.rows.delay)
    bias = {name: _single(from_range(params.bias[name], *limits)) for name, limits in chart.ranges.items()}
    base = from_range(np.maximum(base, 1e-30), *chart.base_range)
    return Latent(bias, _single(base), _single(weight / chart.unit), flag)


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
    flag = None if latent.flag is None else jnp.rint(jax.lax.stop_gradient(latent.flag)).astype(jnp.int32)
    if not chart.bits or not rounded:
        return Bits(bias, base, None, size, excites, flag)
    used = base[:, : chart.bits]
    mask = nearest_mask(size, used, chart.row_group)
    chosen = (bits_of(mask, chart.bits) * used[chart.row_group]).sum(1)
    # Both gradients: that of the base currents through the mask, that of the weight straight through.
    current = straight_through(size, chosen) + chosen - jax.lax.stop_gradient(chosen)
    return Bits(bias, base, mask, current, excites, flag)


def nominal(chart: Chart, kind: Any = jnp.float32) -> Factors:
    """The chip without mismatch."""
    n, r = chart.rows.n_neurons, chart.rows.n_synapses
    return Factors(jnp.zeros((len(CURRENTS), n), kind), jnp.zeros((r, max(chart.bits, 1)), kind), jnp.ones(n, kind))


def draw(chart: Chart, key: Array, mismatch: Mismatch, size: Array | float = 1.0, drop: Array | None = None) -> Factors:
    """Factors of one chip: log-normal with mean 1 and the CVs of `mismatch` times `size`; dead rows weigh nothing.

    The CVs of the delays act per row, as on silicon (`sim.mismatch.fabricate`). `drop` (N,) is the probability of each
    neuron to be silent, beside those that `mismatch` says are dead.
    """
    n, r = chart.rows.n_neurons, chart.rows.n_synapses
    of_bias, of_row, of_dead, of_lost = jax.random.split(key, 4)
    cvs = dict(mismatch.cv)
    per_neuron = [0.0 if name in DELAYS else cvs.get(name, 0.0) for name in CURRENTS]
    cv = jnp.asarray(per_neuron, jnp.float32)[:, None] * size

    def log_normal(key: Array, shape: tuple[int, ...], cv: Array) -> Array:
        variance = jnp.log1p(cv * cv)
        return jnp.clip(jnp.sqrt(variance) * jax.random.normal(key, shape) - variance / 2, -LARGEST, LARGEST)

    row = log_normal(of_row, (r, max(chart.bits, 1)), mismatch.synapse * jnp.asarray(size, jnp.float32))
    if mismatch.dead_rows:
        row = jnp.where(jax.random.uniform(of_lost, (r, 1)) < mismatch.dead_rows, -jnp.inf, row)
    silent = jnp.zeros(n) if drop is None else jnp.asarray(drop, jnp.float32)
    silent = 1 - (1 - silent) * (1 - mismatch.dead_neurons)
    alive = (jax.random.uniform(of_dead, (n,)) >= silent).astype(jnp.float32)
    delay = None
    if chart.flags.any():
        spread = jnp.asarray([cvs.get(name, 0.0) for name in DELAYS], jnp.float32) * size
        delay = log_normal(jax.random.fold_in(key, len(CURRENTS)), (r, len(DELAYS)), spread)
    return Factors(log_normal(of_bias, (len(CURRENTS), n), cv), row, alive, delay)


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
    weight, factor = jnp.concatenate([first, inhibited]), None
    if chart.flags.any():
        factor = _delay_factor(chart, bits, real_delays(chart, bits, factors))[chart.twice]
    return Params(bias, weight, None, chart.wires, chart.circuit, delay_factor=factor)


def real_delays(chart: Chart, bits: Bits, factors: Factors) -> Array:
    """The precise and the mismatched delay (R, 2) in s of each row on a chip, whether it has their flags or not."""
    width = jnp.stack([chart.circuit.width(name, bits.bias[name]) for name in DELAYS], 1)[chart.row_group]
    return width if factors.delay is None else width * jnp.exp(factors.delay)


def _delay_factor(chart: Chart, bits: Bits, real: Array) -> Array:
    """What the delays of rows with the flags of `wires` are multiplied by (R,): those that they really have by theirs."""
    plain = real_delays(chart, bits, nominal(chart))
    flag = chart.flags if bits.flag is None else bits.flag
    wanted = (bits_of(flag, len(DELAYS)) * real).sum(1)
    known = (bits_of(jnp.asarray(chart.flags), len(DELAYS)) * plain).sum(1)
    return jnp.where(known > 0, wanted / jnp.where(known > 0, known, 1.0), 1.0)


def offered(chart: Chart, bits: Bits, factors: Factors, part: Array) -> Params:
    """`on_chip` with every row that may change its flag there with each: a plain, a precise and a mismatched one.

    Their weights are those of the row times `part` (R, 3), so that the gradient of a loss with respect to `part`, at 1 for
    the flag that a row has and 0 for the others, tells what the loss would become with another one.
    """
    made, real = on_chip(chart, bits, factors), real_delays(chart, bits, factors)
    moves = np.flatnonzero(np.asarray(chart.late)[chart.twice])
    row, t = chart.twice[moves], chart.wires
    which = np.r_[np.arange(t.n_synapses), moves, moves]
    topology = replace(
        t, **{name: getattr(t, name)[which] for name in ("pre", "post", "row", "dendrite", "delay")}, mask=None
    )
    known = real_delays(chart, bits, nominal(chart))[row, :1]
    none = jnp.asarray(made.delay_factor).at[moves].set(0.0)
    factor = jnp.concatenate([none, *(real[row] / known).T])
    own = jnp.asarray(made.weight)
    prompt, *others = (own[moves] * part[row, k] for k in range(part.shape[1]))
    weight = [own.at[moves].set(prompt, unique_indices=True), *others]
    return replace(made, topology=topology, weight=jnp.concatenate(weight), delay_factor=factor)


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
    t = t if bits.flag is None else replace(t, delay=bits.flag)
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
