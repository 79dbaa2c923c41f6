"""Delays that are trained: which rows may be late, what they begin with, and how their flags move.

A core has a precise and a mismatched delay, which go down the gradient like its other currents; a row has one of them or
none, its flag. Flags are no numbers with a gradient: every now and then the rows by which the loss would fall most, to
first order, get another one, as rows of dense networks get other sources (RigL: Evci et al. 2020).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import CURRENTS, DELAYS, Circuit, Device
from nir_dynapse.circuit.params import Topology
from nir_dynapse.training.rewiring import cleared
from nir_dynapse.training.start import Start
from nir_dynapse.training.trainable import Chart, Latent

__all__ = ["KINDS", "MAY_BE_LATE", "LateRows", "begun_late", "delay_ranges", "kept_flags", "one_of_each", "reflagged"]

MAY_BE_LATE = ("keep", "none", "inputs", "all")
"""What may be done with delays: keep those of the network, take them off, train those of rows that hear input channels, or
those of all rows."""
KINDS = 1 + len(DELAYS)
"""A row is late by none of the delays of its core, or by one of them."""
SHORTEST = 0.5
"""The shortest delay that is trained, in internal steps."""
FIRST_DELAYS = 0.2
"""Part of a sample's length that delays begin within and, three times of it, are trained within."""


class LateRows(NamedTuple):
    """`start` with flags and delays to begin with, which rows (R,) may change theirs (None: none), and the longest delay
    in s that is trained."""

    start: Start
    late: np.ndarray | None
    longest: float


def kept_flags(start: Start, delays: str) -> Start:
    """`start` as it is, or without delays where they are to be "none"."""
    t = start.params.topology
    if delays != "none" or t.delay is None:
        return start
    params = replace(start.params, topology=replace(t, delay=None), delay_factor=None)
    return Start(params, start.weight, start.free, start.base)


def begun_late(
    start: Start,
    device: Device,
    delays: str,
    step: float,
    duration: float,
    longest: float | None,
    cores: bool,
    key: int,
) -> LateRows:
    """The beginning of a training of delays ("inputs" or "all") in internal steps of `step` s, for samples of `duration` s.

    Where there are several rows for a connection they begin with different flags, else flags are drawn by `key`; rows that
    are late already stay so. Populations are dealt to as many cores as the chips that are needed have (`cores`), each with
    delays of its own, which begin evenly spaced.
    """
    t = start.params.topology
    late = start.free & ((t.pre < t.tonic) if delays == "inputs" else (t.pre != t.tonic))
    if not late.any():
        return LateRows(start, None, 0.0)
    first = FIRST_DELAYS * duration
    longest = min(3 * first, _reached(start.params.circuit)) if longest is None else longest
    first = min(first, longest / 1.1)
    if cores:
        start = _dealt(start, late, device)
    params, t = start.params, start.params.topology
    had = np.zeros(t.n_synapses, int) if t.delay is None else np.asarray(t.delay)
    flags = np.where(late & (had == 0), _flags(t, late, key), had)
    if had.any():  # a network that has delays begins with what it has
        flags = had
    groups = t.n_groups
    heard = np.unique(t.group[t.post[late]])
    rank = np.zeros(groups)
    rank[heard] = np.arange(len(heard))
    bias = {name: np.asarray(value, float).copy() for name, value in params.bias.items()}
    for k, name in enumerate(DELAYS):
        used = np.bincount(t.group[t.post[(had >> k) & 1 > 0]], minlength=groups) > 0
        # The mismatched ones are the shorter: what they spread by grows with them.
        part = (rank + 1 + (1 - k) * len(heard)) / (2 * len(heard))
        width = params.circuit.width(name, bias[name])
        wanted = np.where(used, width, np.maximum(first * part, 3 * SHORTEST * step))
        bias[name] = params.circuit.width(name, wanted)
    params = replace(params, bias=bias, topology=replace(t, delay=flags), delay_factor=None)
    return LateRows(Start(params, start.weight, start.free, start.base), late, float(longest))


def delay_ranges(circuit: Circuit, step: float, longest: float) -> dict[str, tuple[float, float]]:
    """The currents in A between which delays are trained: from half an internal step to `longest` s."""
    found = {}
    for name in DELAYS:
        low, high = reach(name)
        ends = circuit.width(name, longest), circuit.width(name, SHORTEST * step)
        found[name] = max(low, float(ends[0])), min(high, float(ends[1]))
    return found


def _reached(circuit: Circuit) -> float:
    """The longest delay in s that both circuits reach."""
    return min(float(circuit.width(name, reach(name)[0])) for name in DELAYS)


def _flags(t: Topology, late: np.ndarray, key: int) -> np.ndarray:
    """Flags (R,): those of the rows of one connection in turn, from one that is drawn."""
    pair = t.pre.astype(np.int64) * t.n_neurons + t.post
    _, which, count = np.unique(np.where(late, pair, -1), return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    order = np.argsort(which, kind="stable")
    turn = np.empty(len(pair), int)
    turn[order] = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
    begin = np.random.default_rng((key, 13)).integers(KINDS, size=len(count))
    return (turn + begin[which]) % KINDS


def _dealt(start: Start, late: np.ndarray, device: Device) -> Start:
    """`start` with the neurons of each group that has late rows in as many groups as it gets cores, in turn."""
    params, t = start.params, start.params.topology
    size = np.bincount(t.group, minlength=t.n_groups)
    parts = -(-size // device.neurons_per_core)
    room = -(-int(parts.sum()) // device.cores_per_chip) * device.cores_per_chip
    heard = np.bincount(t.group[t.post[late]], minlength=t.n_groups) > 0
    for _ in range(min(room, device.n_cores) - int(parts.sum())):
        each = np.where(heard & (size > parts), size / np.maximum(parts, 1), 0.0)
        if not each.any():
            break
        parts[int(np.argmax(each))] += 1
    parts = np.where(heard, parts, np.minimum(parts, 1))
    if parts.max(initial=0) <= 1:
        return start
    group, before, count = np.empty(t.n_neurons, int), [], 0
    for g in range(t.n_groups):
        members = np.flatnonzero(t.group == g)
        group[members] = count + np.arange(len(members)) % max(int(parts[g]), 1)
        before += [g] * int(parts[g])
        count += int(parts[g])
    bias = {name: np.asarray(params.bias[name], float)[before] for name in CURRENTS}
    made = replace(params, bias=bias, topology=replace(t, group=group))
    return Start(made, start.weight, start.free, start.base[before])


def one_of_each(latent: Latent) -> Any:
    """(R, 3): 1 for the flag that each row has, 0 for the others."""
    flag = jnp.rint(jax.lax.stop_gradient(jnp.asarray(latent.flag)))
    return (flag[:, None] == jnp.arange(KINDS)).astype(jnp.float32)


def reflagged(chart: Chart, latent: Latent, state: Any, slopes: np.ndarray, share: float) -> tuple[Latent, Any]:
    """`latent` and the optimiser's state with other flags for the `share` of the late rows by which the loss falls most.

    With `slopes` (R, 3), the gradient with respect to what a row weighs with each flag (`offered`), it changes by the one
    of the new flag less that of the old one. What the optimiser remembers of a row that moved begins anew.
    """
    late = np.zeros(len(slopes), bool) if chart.late is None else chart.late
    flag = np.rint(np.asarray(latent.flag)).astype(int)
    movable = late & (flag < KINDS)
    here = np.take_along_axis(slopes, np.minimum(flag, KINDS - 1)[:, None], 1)[:, 0]
    gain = np.where(movable, here - slopes.min(1), 0.0)
    count = min(round(share * int(late.sum())), int((gain > 0).sum()))
    moved = np.zeros(len(gain), bool)
    moved[np.argsort(-gain, kind="stable")[:count]] = True
    found = np.where(moved, slopes.argmin(1), flag).astype(np.float32)
    latent, state = cleared(latent._replace(flag=None), state, moved, np.asarray(latent.weight))
    return latent._replace(flag=jnp.asarray(found)), state
