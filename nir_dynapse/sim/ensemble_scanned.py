"""Many virtual chips at once by XLA: their circuits stacked, vmapped, and sharded over all JAX devices of all processes.

Every device runs programs of one shape, chosen from the memory that one program may take and from nothing else: so
many chips, so many samples, the last ones padded. What a chip computes then depends neither on the number of devices or
processes nor on the other chips, and the numbers are the same bit by bit on any number of devices of one kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nir_dynapse.chip.device import DELAYS, Mismatch
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.sim import programs as _programs  # noqa: F401 - before any program is compiled
from nir_dynapse.sim.circuit import (
    Disturbance,
    further_spikes,
    internal_step,
    prepare,
    run_bin,
    structure_of,
    tonic_events,
)
from nir_dynapse.sim.disturbance import of_bin
from nir_dynapse.sim.dynamics import Structure, initial_state
from nir_dynapse.sim.ensemble_native import NOMINAL
from nir_dynapse.sim.first_output import counted, taken
from nir_dynapse.sim.loops import loop_for
from nir_dynapse.sim.mismatch import fabricate

__all__ = ["scanned_counts"]

MOST_CHIPS = 8
"""Chips of one program at most: more of them gain little and make more padding."""
STATE_BYTES = 256
"""Memory in bytes per chip, sample and neuron: the state and what one step keeps beside it."""


class Kind(NamedTuple):
    """What chips that one program runs have in common: internal steps per bin and the structure of the circuit."""

    n_sub: int
    structure: Structure


class Program(NamedTuple):
    """What is static in a program: the kind of its chips, the `taken` slices of neurons, and whether their spikes are
    wanted per bin (for a readout on the host) or summed over time.
    """

    kind: Kind
    taken: tuple[tuple[int, int], ...]
    per_bin: bool


# --- the simulation: all that knows how a circuit is computed ---------------------------------------------------------


def _chip_counts(arrays: Any, x: Any, sample: Any, program: Program) -> Any:
    """Spikes of the taken neurons of one chip for counts `x` (time, sample, channel + tonic).

    (sample, neuron) int32 summed over time, or (time, sample, neuron) uint8.
    """
    (weights, c), seed = arrays
    n_sub, structure = program.kind
    state = initial_state(x.shape[1], c, structure, jnp)
    total = jnp.zeros((x.shape[1], sum(stop - start for start, stop in program.taken)), jnp.int32)

    def body(carry: Any, x_t: Any) -> Any:
        state, total, t = carry

        disturb = of_bin(t, n_sub, seed, sample, c, structure, jnp)
        x_t = x_t.astype(jnp.float32)
        state, count = run_bin(state, x_t, c, weights, structure, n_sub, jnp, disturb=disturb, **loop_for(n_sub))
        seen = jnp.concatenate([count[:, start:stop] for start, stop in program.taken], axis=1)
        if program.per_bin:
            return (state, total, t + 1), seen.astype(jnp.uint8)
        return (state, total + seen.astype(jnp.int32), t + 1), None

    with jax.default_matmul_precision("highest"):  # GPUs would round the weights to 11 bits
        (_, total, _), seen = jax.lax.scan(body, (state, total, jnp.zeros((), jnp.int32)), x)
    return seen if program.per_bin else total


class _Chips:
    """The virtual chips by number: what they are compiled for, and their arrays."""

    def __init__(self, params: Params, mismatch: Mismatch, dt: float, most: float) -> None:
        self.params, self.mismatch, self.dt, self.most = params, mismatch, dt, most

    def kind(self, number: int) -> Kind:
        """Internal steps per bin, the same number as in `simulate`, and the structure, the same for all but delays."""
        none, t = np.zeros(0, np.int32), self.params.topology
        mask = None if t.mask is None else none
        bare = replace(t, pre=none, post=none, dendrite=none, row=none, mask=mask, delay=None)
        weight = None if self.params.weight is None else np.zeros(0)
        params = replace(self.params, weight=weight, delay_factor=None, topology=bare)
        made = self._made(params, number, ("i_ref", "i_tau_mem"))
        n_sub = internal_step(made, self.dt)
        chip = self.params if t.delay is None else self._made(self.params, number, DELAYS)
        asked = Disturbance(self.mismatch.noise, self.mismatch.spike_loss)
        h, again = self.dt / n_sub, further_spikes(made, self.dt / n_sub, n_sub)
        return Kind(n_sub, structure_of(chip, h, asked)._replace(again=again))

    def arrays(self, number: int, kind: Kind) -> Any:
        """A chip as a tree of arrays of shapes that do not depend on the chip."""
        n_sub, structure = kind
        disturbance = Disturbance.of(self._spread(number), number)
        chip = self._made(self.params, number)
        return prepare(chip, self.dt / n_sub, structure, self.most, disturbance), disturbance.word

    def _made(self, params: Params, number: int, names: tuple[str, ...] | None = None) -> Params:
        """The chip; with mismatch of the currents `names` alone where given, which takes less time."""
        spread = self._spread(number)
        if names is not None:
            spread = replace(spread, cv=tuple(pair for pair in spread.cv if pair[0] in names))
        return fabricate(params, spread, number)

    def _spread(self, number: int) -> Mismatch:
        return Mismatch.none() if number == NOMINAL else self.mismatch


# --- the ensemble -----------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(2, 3))
def _run(stack: Any, part: tuple[Any, Any], program: Program, mesh: Mesh) -> Any:
    chips, all_ = PartitionSpec("chips"), PartitionSpec()
    run = jax.vmap(lambda arrays, part: _chip_counts(arrays, part[0], part[1], program), in_axes=(0, None))
    sharded: Any = jax.shard_map(run, mesh=mesh, in_specs=(chips, all_), out_specs=chips, check_vma=False)
    return sharded(stack, part)


@dataclass(frozen=True)
class _Plan:
    """How an ensemble is cut: `chips` and `samples` per program and device, numbers of one round after the other."""

    mesh: Mesh
    chips: int
    samples: int
    rounds: tuple[tuple[Kind, tuple[int, ...]], ...]


def scanned_counts(
    params: Params,
    x: np.ndarray,
    dt: float,
    mismatch: Mismatch,
    numbers: Sequence[int],
    memory: int,
    timed: bool = False,
) -> Iterator[dict[int, np.ndarray]]:
    """`ensemble.output_counts`; `memory` in bytes is what one program may take on a device. Two are in flight at a time,
    and one chip is never cut."""
    topology = params.topology
    slices, per_bin = taken(topology, timed)
    tonic = tonic_events(topology.tonic_period, x.shape[1], dt)
    chips = _Chips(params, mismatch, dt, float(max(x.max(initial=0), tonic.max(initial=0))))
    plan = _plan(chips, x, numbers, memory, sum(stop - start for start, stop in slices) * per_bin)
    parts = _Parts(x, tonic, plan, memory)
    waiting: tuple[tuple[int, ...], list[Any]] | None = None
    for kind, round_ in plan.rounds:
        program = Program(kind, slices, per_bin)
        stack = _stacked(chips, kind, round_, plan)
        # Computing goes on in the background while the next round is fabricated.
        started = (round_, [_run(stack, part, program, plan.mesh) for part in parts])
        if waiting is not None:
            yield _fetched(*waiting, topology, dt, len(x), timed)
        waiting = started
    if waiting is not None:
        yield _fetched(*waiting, topology, dt, len(x), timed)


def _plan(made: _Chips, x: np.ndarray, numbers: Sequence[int], memory: int, per_bin: int) -> _Plan:
    """Cut the ensemble; chips of one kind run together, as each of them runs alone."""
    samples, steps, channels = x.shape
    arrays = jax.tree_util.tree_leaves(made.arrays(NOMINAL, made.kind(NOMINAL)))
    per_chip = sum(array.nbytes for array in arrays)
    per_pair = STATE_BYTES * made.params.topology.n_neurons + steps * per_bin
    per_sample = 4 * (steps + 1) * (channels + 1)
    chips = (memory - samples * per_sample) // (per_chip + samples * per_pair)
    if chips < 1:
        samples = max(1, min(samples, (memory - per_chip) // (per_pair + per_sample)))

    groups: dict[Kind, list[int]] = {}
    for number in numbers:
        groups.setdefault(made.kind(number), []).append(number)
    chips = int(min(max(chips, 1), MOST_CHIPS))
    devices = jax.devices()
    if jax.process_count() == 1:  # devices that would only compute padding are left alone
        devices = devices[: max(-(-len(group) // chips) for group in groups.values()) if groups else 1]
    size = chips * len(devices)
    rounds = [
        (kind, tuple(group[first : first + size] + group[:1] * (first + size - len(group))))
        for kind, group in sorted(groups.items())
        for first in range(0, len(group), size)
    ]
    return _Plan(Mesh(np.array(devices), ("chips",)), chips, int(samples), tuple(rounds))


class _Parts:
    """The input on the devices, cut into parts of equal size (time, sample, channel + tonic); uploaded once if it fits."""

    def __init__(self, x: np.ndarray, tonic: np.ndarray, plan: _Plan, memory: int) -> None:
        self.x, self.tonic, self.plan = x, tonic, plan
        highest = max(x.max(initial=0), tonic.max(initial=0))
        self.dtype = np.uint8 if highest <= 255 and np.array_equal(x, np.floor(x)) else np.float32
        fits = x.size * np.dtype(self.dtype).itemsize <= memory
        self.kept = [self._part(first) for first in self._firsts()] if fits else None

    def _firsts(self) -> range:
        return range(0, len(self.x), self.plan.samples)

    def _part(self, first: int) -> Any:
        part = np.swapaxes(self.x[first : first + self.plan.samples], 0, 1)
        whole = np.zeros((part.shape[0], self.plan.samples, part.shape[2] + 1), self.dtype)
        whole[:, : part.shape[1], :-1] = part
        whole[:, :, -1] = self.tonic[:, None]
        numbers = np.arange(first, first + self.plan.samples, dtype=np.uint32)
        everywhere = NamedSharding(self.plan.mesh, PartitionSpec())
        return tuple(
            jax.make_array_from_callback(values.shape, everywhere, lambda index, values=values: values[index])
            for values in (whole, numbers)
        )

    def __iter__(self) -> Iterator[Any]:
        yield from self.kept or map(self._part, self._firsts())


def _stacked(chips: _Chips, kind: Kind, numbers: tuple[int, ...], plan: _Plan) -> Any:
    """The chips of a round as a tree of arrays, the chips outermost; each process fabricates those of its devices."""
    devices = list(plan.mesh.devices.flat)
    made: dict[int, Any] = {}
    shards: list[list[Any]] = []
    structure: Any = None
    for k, device in enumerate(devices):
        if device.process_index != jax.process_index():
            continue
        own = numbers[k * plan.chips : (k + 1) * plan.chips]
        for number in own:
            if number not in made:
                made[number] = chips.arrays(number, kind)
        stack = jax.tree_util.tree_map(lambda *leaves: np.stack(leaves), *(made[number] for number in own))
        leaves, structure = jax.tree_util.tree_flatten(stack)
        shards.append([jax.device_put(leaf, device) for leaf in leaves])
    sharding = NamedSharding(plan.mesh, PartitionSpec("chips"))
    whole = [
        jax.make_array_from_single_device_arrays((len(numbers), *parts[0].shape[1:]), sharding, list(parts))
        for parts in zip(*shards, strict=True)
    ]
    return jax.tree_util.tree_unflatten(structure, whole)


def _fetched(
    numbers: tuple[int, ...], parts: list[Any], topology: Topology, dt: float, samples: int, timed: bool
) -> dict[int, np.ndarray]:
    """What the first output counted, for the chips of this process."""
    result: dict[int, np.ndarray] = {}
    for shards in zip(*(part.addressable_shards for part in parts), strict=True):
        first = shards[0].index[0].start or 0
        values = [np.asarray(shard.data) for shard in shards]
        for k in range(len(values[0])):
            if numbers[first + k] not in result:
                result[numbers[first + k]] = _counts([value[k] for value in values], topology, dt, samples, timed)
    return result


def _counts(shards: list[np.ndarray], topology: Topology, dt: float, samples: int, timed: bool) -> np.ndarray:
    """One chip's (sample, output) from its spikes; a readout on the host runs here."""
    spikes = np.concatenate(shards, axis=-2)[..., :samples, :]
    return counted(spikes[:, None] if spikes.ndim == 2 else np.swapaxes(spikes, 0, 1), topology, dt, timed)
