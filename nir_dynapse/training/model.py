"""`Trainable`: what is trained of a network, as pure functions of its numbers, for any training loop.

    numbers ──chip(key)──▶ on_chip: Params ──▶ spikes ──▶ output ──▶ loss          model.params(numbers) ──▶ compile

`fine_tune` is one such loop. Everything between goes through `jit`, `vmap` and `grad`; `begin.trainable` makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from nir_dynapse.chip.device import Mismatch
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.files.numbers import PART
from nir_dynapse.sim.circuit import tonic_events
from nir_dynapse.sim.engine import first_spike_times, has_kernels, spike_counts
from nir_dynapse.sim.native.run import Wiring, wiring_of
from nir_dynapse.sim.readout import values_of
from nir_dynapse.sim.surrogate import FAST_SIGMOID, Surrogate
from nir_dynapse.training.injection import injected_counts
from nir_dynapse.training.late_rows import one_of_each, reflagged
from nir_dynapse.training.losses import Loss, Penalty
from nir_dynapse.training.rewiring import Candidates, cleared, excitatory, movable, newborn, pulled, rewired_rows
from nir_dynapse.training.task import hidden_neurons
from nir_dynapse.training.trainable import (
    Chart,
    Factors,
    Latent,
    draw,
    nominal,
    offered,
    on_chip,
    projected,
    quantised,
    settled,
)

__all__ = ["Trainable"]

Array = Any


@dataclass(frozen=True, eq=False)
class Trainable:
    """A network whose `start` is to be trained: a PyTree of numbers without bounds, a `trainable.Latent`.

    `Latent.weight` (R,) are the signed weights of the CAM rows in parts of the largest one, `Latent.base` (G, 4) and
    `Latent.bias[name]` (G,) stand for base and bias currents of the bias groups, as the logit of where ln I lies in its
    range. Every method is a pure function of such a tree, of arrays and of what does not change, and may be called under
    `jit`, `vmap` and `grad` unless it says NumPy. Rounding is that of the chip, straight through: 4-bit masks of rows, and
    codes of biases; with `rounded=False` nothing is rounded before `params` does it.

    The number of rows of every neuron is fixed, and never more than it has on the chip; `rewired` moves what they hear.
    `origin` is the circuit that the start was made from, its synapses are those rows; `mismatch` is what `chip` draws,
    unless told otherwise; `substeps` internal steps make a bin. Hashable (by identity): it may be static under `jit`.
    """

    chart: Chart
    start: Latent
    origin: Params
    mismatch: Mismatch
    substeps: int
    surrogate: Surrogate = FAST_SIGMOID
    longest_delay: float | None = None
    rounded: bool = True
    candidates: tuple[Candidates, ...] = ()

    def __repr__(self) -> str:
        bits = f"{self.chart.bits} bits" if self.chart.bits else "weights that are not rounded"
        return f"Trainable({self.topology.described}; {self.topology.n_synapses} CAM rows, {bits})"

    @property
    def topology(self) -> Topology:
        """What is wired to what: the synapses are the CAM rows, in the order of `Latent.weight`."""
        return self.chart.rows

    @cached_property
    def hidden(self) -> np.ndarray:
        """Neurons (n,) that no output reads; all where there are none: what a `Penalty` is about."""
        found = hidden_neurons(self.topology)
        return found if len(found) else np.arange(self.topology.n_neurons)

    # --- chips --------------------------------------------------------------------------------------------------------

    def chip(
        self, key: Array, mismatch: Mismatch | None = None, size: Array | float = 1.0, drop: Array | None = None
    ) -> Factors:
        """A virtual chip by a JAX `key`: factors e^(σz − σ²/2), σ² = ln(1 + (size·CV)²), of every bias of every neuron and
        every transistor of every row, the same for the same key; `jax.vmap(model.chip)(keys)` makes many.

        `size` scales the CVs of `mismatch` and may be traced; `drop` (N,) are probabilities of neurons to be silent.
        """
        return draw(self.chart, key, self.mismatch if mismatch is None else mismatch, size, drop)

    def nominal(self) -> Factors:
        """The chip without mismatch."""
        return nominal(self.chart)

    def on_chip(self, numbers: Latent, chip: Factors | None = None, offer: Array | None = None) -> Params:
        """The circuit of `numbers` on `chip` (None: without mismatch) as `Params`: currents in A after rounding, a bias
        group per neuron; rows of either sign come twice, on AMPA and on GABA, and one of the two has no weight. With an
        `offer` rows whose delay flag may change come with each flag, see `offer`."""
        bits = quantised(self.chart, numbers, rounded=self.rounded)
        chip = self.nominal() if chip is None else chip
        return on_chip(self.chart, bits, chip) if offer is None else offered(self.chart, bits, chip, offer)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def spikes(
        self,
        numbers: Latent,
        x: Array,
        chip: Factors | None = None,
        *,
        recorded: Array | None = None,
        wiring: Wiring | None = None,
        probe: Array | None = None,
        offer: Array | None = None,
    ) -> Array:
        """Spikes (B, T, N) of all neurons for event counts `x` (B, T, channels) in bins of the network's step.

        Where `recorded` (B, T, N) are what a board sent for `x`, they are what is returned, with the gradients of the model
        that they drive. `wiring` says what the rows hear instead, see `wired`; the gradient with respect to `probe`, see
        `silent_probe`, tells what rows would do that are not there, and that with respect to `offer`, see there, what they
        would do with another delay. ParameterRangeError where `x` does not fit.
        """
        params, x = self.on_chip(numbers, chip, offer), self._counts(x)
        if recorded is not None:
            return injected_counts(params, x, recorded, self.surrogate, self.longest_delay)
        return spike_counts(
            params,
            x,
            substeps=self.substeps,
            surrogate=self.surrogate,
            longest_delay=self.longest_delay,
            wiring=wiring,
            probe=probe,
        )

    def first_spikes(
        self, numbers: Latent, x: Array, chip: Factors | None = None, offer: Array | None = None
    ) -> tuple[Array, Array]:
        """Times (B, N) in s of the first spikes (`sim.engine.first_spike_times`), and the `spikes` (B, T, N)."""
        return first_spike_times(
            self.on_chip(numbers, chip, offer),
            self._counts(x),
            substeps=self.substeps,
            surrogate=self.surrogate,
            longest_delay=self.longest_delay,
        )

    def _counts(self, x: Array) -> Array:
        """`x` in single precision; ParameterRangeError where it does not fit."""
        if np.ndim(x) != 3 or np.shape(x)[2] != self.topology.n_channels:
            raise ParameterRangeError(
                f"Trainable: x has shape {np.shape(x)}, needed is (samples, bins, {self.topology.n_channels}), one column "
                "for each input channel. Give event counts like Data.x; map over further axes with jax.vmap."
            )
        return jnp.asarray(x, jnp.float32)

    def output(self, spikes: Array) -> Array:
        """What losses see (B, T, n) of spikes (B, T, N): those of the first output, the mean over copies of a neuron, or
        the values of its readout on the host."""
        if not self.topology.outputs:
            raise ConfigurationError("Trainable: the network has no output. Add an Output node, or use the spikes.")
        return values_of(self.topology, spikes)

    def operations(self, numbers: Latent, x: Array, spikes: Array, wiring: Wiring | None = None) -> Array:
        """Synaptic operations (B,) of a sample: Σ over sources of their events times the CAM rows that hear them.

        Rows with a mask of 0 are none. Differentiable in `spikes`, not in which rows there are.
        """
        t, bits = self.topology, quantised(self.chart, numbers, rounded=self.rounded)
        pre = t.pre if wiring is None else wiring.pre[: t.n_synapses]
        written = bits.current > 0 if bits.mask is None else bits.mask > 0
        heard = jnp.zeros(t.n_sources, jnp.float32).at[pre].add(written.astype(jnp.float32))
        tonic = float(tonic_events(t.tonic_period, np.shape(x)[1], t.dt).sum())
        sent = jnp.asarray(x, jnp.float32).sum(1)
        events = jnp.concatenate([sent, jnp.full((len(sent), 1), tonic), spikes.sum(1)], axis=1)
        return events @ heard

    def loss(
        self,
        numbers: Latent,
        x: Array,
        y: Array,
        chip: Factors | None = None,
        *,
        loss: Loss | Callable[[Array, Array], Array],
        penalty: Penalty | None = None,
        wiring: Wiring | None = None,
        probe: Array | None = None,
        offer: Array | None = None,
    ) -> Array:
        """A scalar: the mean over samples `x` (B, T, channels), `y` (B, ...) of `loss(output, y)`, and the `penalty`.

        A loss that is `timed` gets the times of first spikes; `wiring` and `probe` are for the others
        (ParameterRangeError). `offer` as in `spikes`.
        """
        if getattr(loss, "timed", False):
            if wiring is not None or probe is not None or self.topology.outputs[0].source not in self.topology.slices():
                raise ParameterRangeError(
                    f"Trainable: loss {type(loss).__name__} is of times of spikes, which populations of the chip have, "
                    "by XLA. Give neither wiring nor probe, or choose another loss where the host reads out."
                )
            times, spikes = self.first_spikes(numbers, x, chip, offer)
            out = self.output(times[:, None])[:, 0]
        else:
            spikes = self.spikes(numbers, x, chip, wiring=wiring, probe=probe, offer=offer)
            out = self.output(spikes)
        value = jnp.mean(loss(out, y))
        return value if not penalty else value + self.penalty(penalty, numbers, x, spikes, wiring)

    def penalty(
        self, penalty: Penalty, numbers: Latent, x: Array, spikes: Array, wiring: Wiring | None = None
    ) -> Array:
        """A scalar: what spikes (B, T, N) for `x` cost: those of the `hidden` neurons, and operations per row."""
        operations = None
        if penalty.operations:
            operations = self.operations(numbers, x, spikes, wiring) / max(self.topology.n_synapses, 1)
        return penalty(spikes[..., self.hidden], operations)

    # --- after a step, and after the last one -------------------------------------------------------------------------

    def bounded(self, numbers: Latent) -> Latent:
        """`numbers` with weights that the largest mask reaches, and not below 0 where the sign of a row is not free; to be
        called after every step of an optimiser."""
        return projected(self.chart, numbers)

    def params(self, numbers: Latent, pre: np.ndarray | None = None) -> Params:
        """What the chip gets, in NumPy: `Params` with masks and currents on the grid, for
        `compile(net, params=…)`, `simulate` and `evaluate`; rows hear `pre` (R,) where given."""
        return settled(self.chart if pre is None else self.chart.hearing(pre), numbers)

    # --- what rows hear -----------------------------------------------------------------------------------------------

    @cached_property
    def rewires(self) -> bool:
        """Whether what rows hear can be data of a compiled program (`wired`): on CPUs, where kernels run the circuit."""
        return has_kernels(self.params(self.start), self.substeps, self.surrogate, self.longest_delay)

    def hearing(self, pre: np.ndarray) -> Trainable:
        """The same network with rows that hear the sources `pre` (R,), numbered as in `Topology`; compiled anew."""
        return replace(self, chart=self.chart.hearing(pre))

    def wired(self, pre: np.ndarray) -> Wiring:
        """That rows hear `pre` (R,), as arrays for `spikes` and `loss`: nothing is compiled anew. Where it `rewires`."""
        return wiring_of(self.chart.wires, np.r_[pre, pre[self.chart.free_rows]])

    def silent_probe(self) -> Array:
        """Zeros (dendrites in use, sources, N): currents in A that an event of any source would add to any neuron."""
        t = self.chart.wires
        return jnp.zeros((len(np.unique(t.dendrite)), t.n_sources, t.n_neurons), jnp.float32)

    def offer(self, numbers: Latent) -> Array:
        """(R, 3): 1 for the delay flag (none, precise, mismatched) that each row has, 0 for the others.

        The gradient of a loss with respect to it, at this point, tells what the loss would change by if the row weighed as
        much with that flag, too; `reflagged` takes it. ConfigurationError where no delays are trained.
        """
        if numbers.flag is None:
            raise ConfigurationError(
                "Trainable: no row may change its delay. Make it with TrainingOptions(delays='inputs') or 'all'."
            )
        return one_of_each(numbers)

    def reflagged(self, numbers: Latent, state: Any, slope: Array, share: float) -> tuple[Latent, Any]:
        """`numbers` and optimiser's `state` after the `share` of late rows by which the loss falls most got other flags.

        `slope` (R, 3) is the gradient of the loss with respect to an `offer` (NumPy).
        """
        PART.check("Trainable", "share", share)
        return reflagged(self.chart, numbers, state, np.asarray(slope), share)

    def rewired(
        self,
        numbers: Latent,
        state: Any,
        pre: np.ndarray,
        share: float,
        *,
        seed: Any,
        slope: Array | None = None,
        deep: bool = False,
    ) -> tuple[Latent, Any, np.ndarray]:
        """`numbers`, optimiser's `state` and what rows hear, after some rows were given away (NumPy).

        Of every neuron with more inputs than rows the `share` with the smallest weights hears other inputs that the network
        has: those with the largest gradients `slope` (as of `silent_probe`; RigL, Evci et al. 2020), or any, drawn by
        `seed` (SET, Mocanu et al. 2018). With `deep` all weights are pulled towards 0 and those that got there are drawn
        anew (Bellec et al. 2018). Whatever in `state` belongs to a moved row begins at 0. The number of rows stays.
        """
        PART.check("Trainable", "share", share)
        chart, rng = self.chart, np.random.default_rng(seed)
        gains = None if slope is None else excitatory(slope, chart.wires)
        weight, moved = np.asarray(numbers.weight), np.zeros(len(pre), bool)
        for part in self.candidates:
            table = movable(chart.rows, chart.free, part, pre)
            gain = None if gains is None else gains[np.ix_(part.neurons, part.sources)]
            many: float | np.ndarray = share
            if deep:
                weight, many = pulled(weight, table, float(np.abs(weight).max()))
            pre, new = rewired_rows(weight, pre, table, part, gain, many, rng)
            moved |= new
        begun = newborn(weight, moved, float(np.abs(weight).max()), rng) if deep else None
        numbers, state = cleared(numbers, state, moved, begun)
        return numbers, state, pre
