"""A training as a caller sees it: NumPy arrays in and out, keys, devices and the optimiser inside."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from nir_dynapse.chip.device import Mismatch
from nir_dynapse.sim.ensemble import is_first_process
from nir_dynapse.training.optimiser import course, optimiser
from nir_dynapse.training.steps import (
    CHIPS,
    EVERYWHERE,
    Batch,
    Recipe,
    flag_slopes,
    held_out,
    mesh_of,
    place,
    train_step,
    wire_slopes,
)
from nir_dynapse.training.trainable import Latent
from nir_dynapse.training.twin import Twin, observed

__all__ = ["Trainer", "is_first_process", "leaves", "unflattened"]

CHECKS = 2**31 - 1
"""What the keys of the chips of checks are made of: no step has this number."""


class Trainer:
    """Steps and checks of one training on `devices` virtual chips per step and `held_out` ones per check.

    Everything follows from `key` and the number of the step; `steps` may change until the first one is counted. `rate` is a
    learning rate that falls by a cosine over `steps`, or an optax schedule; `transformation` an optax transformation in
    place of Adam; `rewires` whether what rows hear is data, which needs the compiled kernels.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        devices: int,
        held_out: int,
        steps: int,
        key: int,
        rate: Any,
        trained: tuple[str, ...],
        bias_rate: float,
        clip: float,
        transformation: Any = None,
        check_mismatch: Mismatch | None = None,
        rewires: bool = False,
    ) -> None:
        self.recipe, self.devices, self.held_out = recipe, devices, held_out
        self.steps = steps
        self._course = jax.jit(partial(course, rate))
        self.tx = optimiser(rate, trained, bias_rate, clip, transformation)
        self.key = jax.random.key(key)
        self.mesh, self.check_mesh = mesh_of(devices), mesh_of(held_out)
        checked = recipe.model if check_mismatch is None else replace(recipe.model, mismatch=check_mismatch)
        self.check_recipe = recipe if check_mismatch is None else replace(recipe, model=checked)
        self.rewires = rewires
        self.wiring: Any = None
        self.check_wiring: Any = None

    def wire(self, pre: np.ndarray) -> None:
        """From now on the rows hear the sources `pre` (R,): data for the compiled kernels, else compiled anew."""
        if self.rewires:
            found = self.recipe.model.wired(pre)
            self.wiring = place(found, self.mesh, EVERYWHERE)
            self.check_wiring = place(found, self.check_mesh, EVERYWHERE)
        else:
            recipes = (replace(recipe, model=recipe.model.hearing(pre)) for recipe in (self.recipe, self.check_recipe))
            self.recipe, self.check_recipe = recipes

    def slopes(self, latent: Latent, number: int, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
        """`steps.wire_slopes` (dendrites in use, sources, N) of counts `x` (M, B, T, C) on the chips of step `number`."""
        return self._slopes(wire_slopes, latent, number, x, y, size)

    def flag_slopes(self, latent: Latent, number: int, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
        """`steps.flag_slopes` (R, 3) of counts `x` (M, B, T, C) on the chips of step `number`."""
        return self._slopes(flag_slopes, latent, number, x, y, size)

    def _slopes(self, of: Any, latent: Latent, number: int, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
        keys = self._keys(number, self.devices, self.mesh)
        cut = [place(part, self.mesh, CHIPS) for part in (x, y)]
        latent, grown = (place(tree, self.mesh, EVERYWHERE) for tree in (latent, np.float32(size)))
        found = of(latent, Batch(cut[0], cut[1], keys), grown, self.wiring, recipe=self.recipe, mesh=self.mesh)
        return np.asarray(found)

    @property
    def _length(self) -> np.float32:
        return np.float32(max(1, self.steps))

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return float(self._course(step, self._length))

    def start(self, latent: Latent) -> Any:
        """The optimiser's state before the first step."""
        return self.tx.init(latent)

    def step(
        self,
        latent: Latent,
        opt: Any,
        number: int,
        x: np.ndarray,
        y: np.ndarray,
        spikes: np.ndarray | None,
        size: float,
        counts: np.ndarray | None = None,
        chip: Any = None,
    ) -> tuple[Latent, Any, tuple[Any, Any]]:
        """Latent and optimiser after step `number`, and its (loss, share of right answers), still being computed.

        Counts `x` (M, B, T, C) and targets `y` (M, B, ...); `spikes` (M, B, T, N) where a board ran them; `size` is the
        part of the mismatch that the chips have; `counts` (M, B, n) and `chip` as in `Batch`.
        """
        keys = self._keys(number, self.devices, self.mesh)
        cut = [None if part is None else place(part, self.mesh, CHIPS) for part in (x, y, spikes, counts)]
        latent, opt, grown = (place(tree, self.mesh, EVERYWHERE) for tree in (latent, opt, np.float32(size)))
        chip = None if chip is None else place(chip, self.mesh, EVERYWHERE)
        batch = Batch(cut[0], cut[1], keys, cut[2], cut[3], chip)
        fixed = {"recipe": self.recipe, "update": self.tx.update, "mesh": self.mesh}
        latent, opt, loss, right = train_step(latent, opt, batch, grown, self.wiring, length=self._length, **fixed)
        return latent, opt, (loss, right)

    def observed(self, twin: Twin, latent: Latent, x: np.ndarray, spikes: np.ndarray) -> Twin:
        """What the chip is taken for after counts `x` (B, T, C), for which it sent `spikes` (B, T, N)."""
        return observed(twin, latent, x, spikes, recipe=self.recipe)

    def check(self, latent: Latent, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Share of right answers (minus the loss, for trajectories) of samples `x` (B, T, C) on each held-out chip."""
        keys = self._keys(CHECKS, self.held_out, self.check_mesh)
        trees = [place(tree, self.check_mesh, EVERYWHERE) for tree in (latent, x, y)]
        answers, _ = held_out(
            trees[0], keys, *trees[1:], self.check_wiring, recipe=self.check_recipe, mesh=self.check_mesh
        )
        if jax.process_count() > 1:
            answers = multihost_utils.process_allgather(answers, tiled=True)
        return np.asarray(answers)

    def _keys(self, number: int, count: int, mesh: Any) -> Any:
        data = _key_data(self.key, np.uint32(number), count)
        return jax.random.wrap_key_data(place(data, mesh, CHIPS))


@partial(jax.jit, static_argnums=(2,))
def _key_data(key: Any, number: Any, count: int) -> Any:
    """What the keys of so many chips in step `number` are made of; one program."""
    return jax.random.key_data(jax.random.split(jax.random.fold_in(key, number), count))


def leaves(tree: Any) -> list[np.ndarray]:
    """The arrays of a tree, in order."""
    return [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(tree)]


def unflattened(tree: Any, arrays: list[np.ndarray]) -> Any:
    """A tree like `tree` of other arrays."""
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(tree), arrays)
