"""Training steps: the gradient of the loss on many virtual chips at once, and what an optimiser (optax) makes of it.

Every chip of a step sees samples of its own; chips are spread over all JAX devices of all processes, as in `evaluate`.
All randomness of a step follows from its key, so that a run can stop anywhere and go on as if it had not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nir_dynapse.circuit.copies import mean
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.files.numbers import SIZE, WEIGHT, Real, Whole
from nir_dynapse.sim.native.run import Wiring
from nir_dynapse.training.losses import Loss, Penalty
from nir_dynapse.training.model import Trainable
from nir_dynapse.training.task import read_spikes
from nir_dynapse.training.trainable import Chart, Factors, Latent

__all__ = [
    "Attack",
    "Batch",
    "Recipe",
    "flag_slopes",
    "held_out",
    "mesh_of",
    "place",
    "train_step",
    "wire_slopes",
]

Array = Any
CHIPS = PartitionSpec("chips")
EVERYWHERE = PartitionSpec()


@dataclass(frozen=True)
class Attack:
    """An adversary in the space of currents (Büchel, Faber and Muir 2022), added to the loss with weight `beta`.

    θ* starts at θ·e^(`start`·n) and takes `steps` steps of `size`/`steps` along the sign of the gradient of the divergence
    between the outputs of the nominal chip and of the attacked one, in ln θ of every bias current of every neuron and every
    row. That divergence (Kullback-Leibler of the softmax, squared distance for trajectories) is what is added.
    """

    size: float = 0.1
    steps: int = 3
    start: float = 1e-3
    beta: float = 0.25

    def __post_init__(self) -> None:
        limits = {"size": SIZE, "steps": Whole(1, 1000), "start": Real(0, 1), "beta": WEIGHT}
        for name, limit in limits.items():
            limit.check("Attack", name, getattr(self, name))


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a step is compiled for; static under jit (compared by identity).

    `drop` (N,) are probabilities of neurons to be silent on a chip of training; `read` slices of the neurons that the loss
    sees (`readout`: it sees the values of the readout on the host), of which in each slice as many as `copies` says count
    as one, by their mean (none: one each);
    `worst` is the share of the chips that count; chips have 1 − `mixed` to 1 times the mismatch, drawn evenly.
    """

    model: Trainable
    loss: Loss
    read: tuple[tuple[int, int], ...]
    penalty: Penalty = field(default_factory=Penalty)
    drop: np.ndarray | None = None
    worst: float = 1.0
    mixed: float = 0.0
    attack: Attack | None = None
    readout: bool = False
    copies: tuple[int, ...] = ()
    follow: float = 0.0

    @property
    def chart(self) -> Chart:
        """What the numbers that are trained mean."""
        return self.model.chart


class Batch(NamedTuple):
    """Samples of every chip: counts `x` (M, B, T, C), targets `y` (M, B, ...), `keys` (M,) of the chips.

    Where a board ran the samples, `spikes` (M, B, T, N) are what it sent and `chip` what it is taken for (None: nominal);
    `counts` (M, B, n) are spikes that neurons of the network should fire.
    """

    x: Array
    y: Array
    keys: Array
    spikes: Array | None = None
    counts: Array | None = None
    chip: Factors | None = None


def mesh_of(chips: int) -> Mesh:
    """All JAX devices, or as many of them as divide `chips` (one process), in the order of their numbers."""
    devices = jax.devices()
    if jax.process_count() == 1:
        count = max(k for k in range(1, len(devices) + 1) if chips % k == 0)
        devices = devices[:count]
    elif chips % len(devices):
        raise ParameterRangeError(
            f"fine_tune: {chips} virtual chips cannot be shared among the {len(devices)} JAX devices. Make "
            f"devices and held_out multiples of {len(devices)}."
        )
    return Mesh(np.array(devices), ("chips",))


def place(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Arrays on the devices of `mesh`: cut along the chips, or whole everywhere; works with several processes.

    What is there already is not waited for, so that a step is prepared while the one before is computed. On the same
    device by another kind of sharding is not there: programs would be traced anew for it.
    """
    sharding = NamedSharding(mesh, spec)

    def there(value: jax.Array) -> bool:
        if not value.is_fully_addressable:
            return True
        known = value.sharding
        return isinstance(known, NamedSharding) and known.mesh == mesh and known.is_equivalent_to(sharding, value.ndim)

    def put(value: Any) -> Any:
        if isinstance(value, jax.Array) and there(value):
            return value
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree_util.tree_map(put, tree)


# --- one chip ---------------------------------------------------------------------------------------------------------


class Ran(NamedTuple):
    """Spikes (B, T, N) of one chip, and the times (B, N) in s of the first ones where the loss asks for them."""

    spikes: Array
    times: Array | None = None


def run(
    recipe: Recipe,
    latent: Latent,
    x: Array,
    chip: Factors | None,
    recorded: Array | None = None,
    wiring: Wiring | None = None,
    probe: Array | None = None,
    offer: Array | None = None,
) -> Ran:
    """What one chip does; the arguments of `Trainable.spikes`."""
    if recipe.loss.timed and recorded is None:
        times, spikes = recipe.model.first_spikes(latent, x, chip, offer)
        return Ran(spikes, times)
    return Ran(recipe.model.spikes(latent, x, chip, recorded=recorded, wiring=wiring, probe=probe, offer=offer))


def seen(recipe: Recipe, ran: Ran) -> Array:
    """What the loss sees: spikes (B, T, n), values of the readout (B, T, n), or times of first spikes (B, n)."""
    if recipe.readout:
        return recipe.model.output(ran.spikes)
    out = ran.spikes if ran.times is None else ran.times
    return jnp.concatenate(read_spikes(out, recipe.read, recipe.copies), axis=-1)


def _divergence(recipe: Recipe, wanted: Array, found: Array) -> Array:
    """How far outputs (B, T, n) are from the `wanted` ones: a scalar."""
    loss = recipe.loss
    if loss.supervised == "trajectory":
        return jnp.mean((loss.values(found) - loss.values(wanted)) ** 2)  # pyright: ignore[reportAttributeAccessIssue]
    p, q = jax.nn.log_softmax(loss.logits(wanted)), jax.nn.log_softmax(loss.logits(found))
    return jnp.mean(jnp.sum(jnp.exp(p) * (p - q), axis=1))


def _attacked(
    recipe: Recipe, latent: Latent, x: Array, key: Array, attack: Attack, wiring: Wiring | None = None
) -> Array:
    """The divergence that the attack finds, with gradients through both runs and none through where it is."""
    plain = recipe.model.nominal()

    def off(latent: Latent, factors: Factors, reference: Array) -> Array:
        return _divergence(recipe, reference, seen(recipe, run(recipe, latent, x, factors, None, wiring)))

    reference = seen(recipe, run(recipe, latent, x, plain, None, wiring))
    # The search looks at values only: the kernels have no second derivative.
    fixed, goal = jax.lax.stop_gradient((latent, reference))
    first, second = jax.random.split(key)
    bias = attack.start * jax.random.normal(first, plain.bias.shape)
    row = attack.start * jax.random.normal(second, plain.row.shape)
    for _ in range(attack.steps):
        slope = jax.grad(lambda b, r: off(fixed, Factors(b, r, plain.alive), goal), (0, 1))(bias, row)
        bias, row = (v + attack.size / attack.steps * jnp.sign(g) for v, g in zip((bias, row), slope, strict=True))
    return off(latent, Factors(bias, row, plain.alive), reference)


# --- many chips -------------------------------------------------------------------------------------------------------


def _objective(
    latent: Latent,
    recipe: Recipe,
    batch: Batch,
    size: Array,
    axis: str,
    wiring: Wiring | None = None,
    probe: Array | None = None,
    offer: Array | None = None,
) -> tuple[Array, tuple[Array, Array]]:
    """This device's part of the loss, and (losses, share of right answers) of its chips."""
    model = recipe.model

    def one(key: Array, x: Array, recorded: Array | None) -> Ran:
        if recorded is not None:
            return run(recipe, latent, x, batch.chip, recorded, offer=offer)
        part = size * (1 - recipe.mixed * jax.random.uniform(jax.random.fold_in(key, 1)))
        chip = model.chip(key, size=part, drop=recipe.drop)
        return run(recipe, latent, x, chip, None, wiring, probe, offer)

    ran = jax.vmap(one)(batch.keys, batch.x, batch.spikes)
    spikes, out = ran.spikes, jax.vmap(partial(seen, recipe))(ran)
    per_chip = jax.vmap(recipe.loss)(out, batch.y).mean(1)
    right = jnp.zeros_like(per_chip)
    if recipe.loss.supervised == "classes":
        right = (jax.vmap(recipe.loss.answer)(out) == jax.vmap(recipe.loss.label)(batch.y)).mean(1)

    every = jax.lax.all_gather(jax.lax.stop_gradient(per_chip), axis, tiled=True)
    count = max(1, round(recipe.worst * every.shape[0]))
    least = jnp.sort(every)[-count]
    counts = (jax.lax.stop_gradient(per_chip) >= least) / jnp.sum(every >= least)
    value = jnp.sum(counts * per_chip)
    parts = jax.lax.psum(1, axis)
    if batch.counts is not None:
        value += recipe.follow * _off(recipe, spikes.sum(2), batch.counts) / parts
    if recipe.penalty:
        x, all_ = (of_chips.reshape(-1, *of_chips.shape[2:]) for of_chips in (batch.x, spikes))
        value += model.penalty(recipe.penalty, latent, x, all_, wiring) / parts
    if recipe.attack is not None:
        value += (
            recipe.attack.beta * _attacked(recipe, latent, batch.x[0], batch.keys[0], recipe.attack, wiring) / parts
        )
    return value, (per_chip, right)


def _off(recipe: Recipe, spikes: Array, wanted: Array) -> Array:
    """Mean squared distance of the counts (M, B, N) of neurons, the mean over their copies, from the `wanted` (M, B, n)."""
    t, start, total = recipe.chart.rows, 0, jnp.zeros(())
    for name, part in t.slices().items():
        found = mean(spikes[..., part], t.copies_of[name])
        goal = wanted[..., start : start + found.shape[-1]]
        start += found.shape[-1]
        total += jnp.mean((found - goal) ** 2) / (jnp.mean(goal**2) + 1e-3)
    return total / len(t.populations)


@partial(jax.jit, static_argnames=("recipe", "update", "mesh"))
def train_step(
    latent: Latent,
    opt: Any,
    batch: Batch,
    size: Array,
    wiring: Wiring | None = None,
    *,
    length: Array,
    recipe: Recipe,
    update: Callable,
    mesh: Mesh,
) -> tuple[Latent, Any, Array, Array]:
    """Latent and state of the optimiser after one step, the mean loss over the chips and the share of right answers.

    `length` is how many steps the training has, `wiring` says what the rows hear where that changes on the way.
    """

    def part(latent: Latent, batch: Batch, size: Array, wiring: Wiring | None) -> tuple[Any, Array, Array]:
        loss_of = jax.value_and_grad(_objective, has_aux=True)
        (_, (losses, right)), slope = loss_of(latent, recipe, batch, size, "chips", wiring)
        return jax.lax.psum(slope, "chips"), jax.lax.pmean(losses.mean(), "chips"), jax.lax.pmean(right.mean(), "chips")

    same: Any = EVERYWHERE
    dealt: Any = Batch(CHIPS, CHIPS, CHIPS, CHIPS, CHIPS, same)
    sharded: Any = jax.shard_map(
        part, mesh=mesh, in_specs=(EVERYWHERE, dealt, EVERYWHERE, EVERYWHERE), out_specs=EVERYWHERE, check_vma=False
    )
    slope, loss, right = sharded(latent, batch, size, wiring)
    slope = jax.tree_util.tree_map(lambda g: jnp.where(jnp.isfinite(g), g, 0.0), slope)
    change, opt = update(slope, opt, latent, length=length)
    moved: Any = optax.apply_updates(latent, change)  # pyright: ignore[reportArgumentType]
    return recipe.model.bounded(moved), opt, loss, right


@partial(jax.jit, static_argnames=("recipe", "mesh"))
def wire_slopes(latent: Latent, batch: Batch, size: Array, wiring: Wiring, *, recipe: Recipe, mesh: Mesh) -> Array:
    """The gradient of the loss with respect to what an event of any source would add to any neuron, wired or not.

    (dendrites in use, sources, N), in I_τ; what RigL (Evci et al. 2020) chooses new connections by.
    """

    given = latent, batch, size, wiring
    return _slopes("probe", lambda _: recipe.model.silent_probe(), given, recipe, mesh)


@partial(jax.jit, static_argnames=("recipe", "mesh"))
def flag_slopes(
    latent: Latent, batch: Batch, size: Array, wiring: Wiring | None = None, *, recipe: Recipe, mesh: Mesh
) -> Array:
    """The gradient of the loss (R, 3) with respect to what each row weighs with each delay flag (`Trainable.offer`)."""

    return _slopes("offer", recipe.model.offer, (latent, batch, size, wiring), recipe, mesh)


def _slopes(
    name: str,
    at: Callable[[Latent], Array],
    given: tuple[Latent, Batch, Array, Wiring | None],
    recipe: Recipe,
    mesh: Mesh,
) -> Array:
    """The gradient of the loss over all chips with respect to the argument `name` of `_objective`, at `at(latent)`."""

    def part(latent: Latent, batch: Batch, size: Array, wiring: Wiring | None) -> Array:
        def loss(value: Array) -> Array:
            return _objective(latent, recipe, batch, size, "chips", wiring, **{name: value})[0]

        return jax.lax.psum(jax.grad(loss)(at(latent)), "chips")

    sharded: Any = jax.shard_map(
        part, mesh=mesh, in_specs=(EVERYWHERE, CHIPS, EVERYWHERE, EVERYWHERE), out_specs=EVERYWHERE, check_vma=False
    )
    return sharded(*given)


@partial(jax.jit, static_argnames=("recipe", "mesh"))
def held_out(
    latent: Latent, keys: Array, x: Array, y: Array, wiring: Wiring | None = None, *, recipe: Recipe, mesh: Mesh
) -> tuple[Array, Array]:
    """Share of right answers (M,) and loss (M,) of samples `x` (B, T, C) on the chips `keys` (M,)."""

    def part(latent: Latent, keys: Array, x: Array, y: Array, wiring: Wiring | None) -> tuple[Array, Array]:
        def one(key: Array) -> tuple[Array, Array]:
            out = seen(recipe, run(recipe, latent, x, recipe.model.chip(key), None, wiring))
            loss = recipe.loss(out, y).mean()
            right = recipe.loss.supervised == "classes"
            return (recipe.loss.answer(out) == recipe.loss.label(y)).mean() if right else -loss, loss

        return jax.lax.map(one, keys)

    sharded: Any = jax.shard_map(
        part, mesh=mesh, in_specs=(EVERYWHERE, CHIPS, *(EVERYWHERE,) * 3), out_specs=CHIPS, check_vma=False
    )
    return sharded(latent, keys, x, y, wiring)
