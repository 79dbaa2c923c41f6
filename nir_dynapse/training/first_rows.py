"""Which sources the rows of a neuron hear at first, where a network has more than a neuron has rows.

Rows are chosen and weighed so that what they add up to follows the sum over all synapses on data, with the spread of rows
on chips in mind: orthogonal matching pursuit (Pati et al. 1993) on the filtered spikes of the sources, with a ridge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nir_dynapse.chip.device import AMPA, GABA, Device
from nir_dynapse.circuit.closed_form import event_charge
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.network.network import NO_READOUT
from nir_dynapse.quant.sharing import keep_synapses
from nir_dynapse.sim.simulation import simulate
from nir_dynapse.training.losses import filtered
from nir_dynapse.training.rewiring import Candidates

__all__ = ["FirstRows", "first_rows", "heard_on", "rows_of"]

AT_ONCE = 8
"""Rows that are chosen at a time."""
MOST_SAMPLES, MOST_BINS = 64, 8192
"""Samples, and bins of all of them together, on which sources are compared."""
PARTLY = 0.5
"""Share of the sources that a copy chooses among, drawn anew for each copy; more where it has rows for more."""


class FirstRows(NamedTuple):
    """`params` with as many synapses as there are rows, and for each population whose rows were chosen what they may hear.

    `follows` is, by population, the share of the power of what all synapses add up to that the rows follow, chips' spread
    included.
    """

    params: Params
    candidates: tuple[Candidates, ...]
    follows: dict[str, float]


def first_rows(params: Params, limit: np.ndarray, spikes: np.ndarray, cv: float, key: int = 0) -> FirstRows:
    """At most `limit` (N,) synapses of every neuron of `params` (which may have copies), where it has more chosen ones.

    `spikes` (B, T, sources) of all sources on data; `cv` is the spread of a row's current on chips.
    """
    t = params.topology
    count = np.bincount(t.post, minlength=t.n_neurons)
    if (count <= limit).all():
        return FirstRows(params, (), {})
    charge = params.row_currents() * event_charge(params)
    unit = event_charge(params)
    keep, new = np.ones(t.n_synapses, bool), np.asarray(params.row_currents(), float).copy()
    candidates, follows = [], {}
    rng = np.random.default_rng((key, 7))
    # Copies of one source spike alike as far as their inputs do: what a row hears is told by the source alone.
    for name, part in t.slices().items():
        if (count[part] <= limit[part]).all():
            continue
        synapses = np.flatnonzero((t.post >= part.start) & (t.post < part.stop))
        free = np.isin(t.dendrite[synapses], (AMPA, GABA)) & (t.pre[synapses] != t.tonic)
        n = part.stop - part.start
        room = np.maximum(limit[part] - np.bincount(t.post[synapses[~free]] - part.start, minlength=n), 0)
        synapses = synapses[free]
        sources, column = np.unique(t.pre[synapses], return_inverse=True)
        row = t.post[synapses] - part.start
        full = np.zeros((n, len(sources)), np.float32)
        sign = np.where(t.dendrite[synapses] == GABA, -1.0, 1.0)
        np.add.at(full, (row, column), sign * charge[synapses])
        allowed = np.zeros((n, len(sources)), bool)
        allowed[row, column] = True
        tau = float(np.median(params.circuit.tau("i_tau_mem", params.per_neuron("i_tau_mem"))[part]))
        gram = _gram(spikes[..., sources], tau, t.dt)
        chosen, value, share = _pursuit(full, allowed, gram, room, cv, rng, bool(t.copies_of[name] > 1))
        follows[name] = share
        candidates.append(Candidates(np.arange(part.start, part.stop), sources, allowed))
        picked = np.zeros(full.shape, bool)
        valid = chosen >= 0
        neuron = np.broadcast_to(np.arange(n)[:, None], chosen.shape)[valid]
        picked[neuron, chosen[valid]] = True
        fitted = np.zeros(full.shape, np.float32)
        fitted[neuron, chosen[valid]] = value[valid]
        keep[synapses] = picked[row, column]
        wanted = fitted[row, column]
        as_is = np.sign(wanted) == sign  # a row that would change its sign starts without weight
        new[synapses] = np.where(as_is, np.abs(wanted) / unit[synapses], 0.0)
    kept = np.flatnonzero(keep)
    return FirstRows(keep_synapses(params, kept, new[kept]), tuple(candidates), follows)


def _gram(spikes: np.ndarray, tau: float, dt: float) -> np.ndarray:
    """Mean products (n, n) of the filtered spikes of sources, none of them silent."""
    z = np.asarray(filtered(spikes, tau, dt)).reshape(-1, spikes.shape[2])
    gram = z.T @ z / len(z)
    # A source that never spikes on this data may do so later: as if it had the smallest rate that it could have.
    floor = 0.01 * float(np.mean(np.diag(gram))) + 1e-12
    return gram + floor * np.eye(len(gram), dtype=np.float32)


def _pursuit(
    full: np.ndarray,
    allowed: np.ndarray,
    gram: np.ndarray,
    room: np.ndarray,
    cv: float,
    rng: np.random.Generator,
    differ: bool,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Sources (n, k) that rows hear (-1: none), their charges, and the share of the power that they follow.

    Minimises E|Σ_all q·z − Σ_rows w·(1 + cv·ε)·z|² over the charges w: (G + cv²·diag G)·w = G·q on what is chosen.
    """
    n, sources = full.shape
    most = int(min(room.max(), sources))
    spread = gram + np.float32(cv * cv) * np.diag(np.diag(gram))
    size = np.diag(spread)
    goal = full @ gram
    open_ = allowed.copy()
    if differ:  # copies that all hear the same would all err alike
        fewest = np.maximum(PARTLY * allowed.sum(1), 1.25 * room)
        lot = np.where(allowed, rng.random(full.shape), np.inf)
        open_ &= np.argsort(np.argsort(lot, axis=1), axis=1) < fewest[:, None]
    chosen, value = np.full((n, most), -1), np.zeros((n, most), np.float32)
    weights = np.zeros(full.shape, np.float32)
    rest = goal.copy()
    for start in range(0, most, AT_ONCE):
        width = min(AT_ONCE, most - start)
        score = np.where(open_, rest**2 / size, -1.0)
        best = np.argpartition(-score, width - 1, axis=1)[:, :width] if width < sources else np.argsort(-score, axis=1)
        usable = (np.take_along_axis(score, best, 1) >= 0) & (start + np.arange(width) < room[:, None])
        chosen[:, start : start + width] = np.where(usable, best, -1)
        np.put_along_axis(open_, best, False, axis=1)
        value = _solved(chosen[:, : start + width], goal, spread)
        weights = np.zeros(full.shape, np.float32)
        held = chosen[:, : start + width] >= 0
        at = np.nonzero(held)[0], chosen[:, : start + width][held]
        weights[at] = value[held]
        rest = goal - weights @ gram
    power = float(np.sum(full * goal))
    error = power - 2 * float(np.sum(weights * goal)) + float(np.sum((weights @ spread) * weights))
    return chosen, value, 1 - error / max(power, 1e-30)


def _solved(chosen: np.ndarray, goal: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Charges (n, k) of the chosen sources (n, k; -1: none)."""
    at = np.maximum(chosen, 0)
    missing = chosen < 0
    value = np.zeros(chosen.shape, np.float32)
    for low in range(0, len(chosen), 256):  # the systems of so many neurons at a time
        part = slice(low, low + 256)
        matrix = spread[at[part][:, :, None], at[part][:, None, :]].astype(np.float64)
        gone = missing[part]
        matrix[gone[:, :, None] | gone[:, None, :]] = 0.0
        k = np.arange(chosen.shape[1])
        matrix[:, k, k] += np.where(gone, 1.0, 1e-9 * np.abs(matrix[:, k, k]))
        right = np.where(gone, 0.0, np.take_along_axis(goal[part], at[part], 1))
        value[part] = np.linalg.solve(matrix, right[..., None])[..., 0]
    return value


def heard_on(params: Params, t: Topology, x: np.ndarray, device: Device) -> np.ndarray:
    """Spikes (B, T, sources of `t`) of every source while the circuit `params` runs `x` (B, T, C), evenly chosen samples.

    `t` is its topology with copies, each of which does what its neuron does here.
    """
    x = x[np.linspace(0, len(x) - 1, min(len(x), MOST_SAMPLES)).astype(int)]
    x = x[:, : max(1, MOST_BINS // len(x))]
    before = params.topology
    if before.copies:  # each one's own spikes, not those of its neuron
        params = replace(params, topology=replace(before, copies=(), shapes=(), outputs=(), readout=NO_READOUT))
    spikes = simulate(params, x, device=device).spikes
    own = [np.repeat(spikes[name], copies // before.copies_of[name], axis=2) for name, copies in t.copies_of.items()]
    return np.concatenate([x, np.zeros((*x.shape[:2], 1)), *own], axis=2).astype(np.float32)


def rows_of(device: Device, neurons: int) -> int:
    """CAM rows that each of so many neurons can count on: all of them, or what profiles of the chips leave."""
    if not device.profiles:
        return device.cam_rows
    usable = []
    for chip in range(device.n_chips):
        profile = device.profile(chip)
        rows = np.full((device.cores_per_chip, device.neurons_per_core), device.cam_rows)
        usable.append((rows if profile is None else profile.usable_rows(1)).reshape(-1))
    best = np.sort(np.concatenate(usable))[::-1]
    return int(best[min(neurons, len(best)) - 1])
