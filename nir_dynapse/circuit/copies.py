"""Copies: several neurons of the chip for one of the network, each hearing what one neuron can hear.

The host hears their sum, and takes their mean where it computes (`Topology.copies`); here they are made and folded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import DENDRITES, DYNAPSE2
from nir_dynapse.circuit.closed_form import counted_up, event_charge, index_places, row_numbers
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.files.numbers import COPIES, SEED
from nir_dynapse.network.redundancy import copies_mean

__all__ = ["Copied", "copied", "fold", "folded", "mean", "smallest", "with_copies"]


class Copied(NamedTuple):
    """`params` with copies, and which synapse of those without each of theirs comes from (S,).

    `dealt` (N,) of the neurons before: whether more synapses lead to it than a copy hears, and `unheard` (N,) how many of
    them no copy hears.
    """

    params: Params
    origin: np.ndarray
    dealt: np.ndarray
    unheard: np.ndarray


def with_copies(
    params: Params,
    copies: Mapping[str, int] | Sequence[int],
    *,
    key: int = 0,
    rows: int | np.ndarray | None = None,
    importance: np.ndarray | None = None,
) -> Params:
    """`params` with `copies[node]` (one where not named; or one number per population) neurons for each neuron of a node.

    Every copy has the biases of its neuron and, for each of its synapses, listens with the same weight to one copy of the
    source, drawn by `key` so that all of them are heard alike (to itself where its neuron listens to itself); input
    channels are the same for all. So fan-in and sum of
    weights stay as they are. Where `rows` (one number, or (N,)) are fewer than the synapses of a neuron with several
    copies, those are dealt to the copies by their `importance` (S,) (charge per event where not given), each one to a
    single copy unless rows are left, and scaled so that the weights of each dendrite of a copy sum to what those of the
    neuron did. ParameterRangeError for numbers out of range, for Params that have copies already, or masks.
    """
    return copied(params, copies, key=key, rows=rows, importance=importance).params


def copied(
    params: Params,
    copies: Mapping[str, int] | Sequence[int],
    *,
    key: int = 0,
    rows: int | np.ndarray | None = None,
    importance: np.ndarray | None = None,
) -> Copied:
    """`with_copies`, and where its synapses come from."""
    t = params.topology
    per_population = _checked(t, copies)
    rng = np.random.default_rng(SEED.check("with_copies", "key", key))
    size = np.array([size for _, size in t.populations], int)
    each = np.repeat(per_population, size)  # copies of every neuron
    none = np.zeros(t.n_neurons, int)
    if (each == 1).all():
        return Copied(params, np.arange(t.n_synapses), none > 0, none)
    if t.copies or t.mask is not None:
        what = "have copies already" if t.copies else "have masks of 4 bits"
        raise ParameterRangeError(f"with_copies: these Params {what}. Give those that to_params makes.")
    params = params.numpy()
    first = np.cumsum(each) - each
    into = each[t.post]
    pairs = np.ones(int(into.sum()), bool)
    scale = np.ones(len(pairs))
    start = np.cumsum(into) - into
    dealt, unheard = none > 0, none.copy()
    if rows is not None:
        strength = params.row_currents() * event_charge(params) if importance is None else np.asarray(importance, float)
        limit = np.broadcast_to(np.asarray(rows, int), t.n_neurons)
        dealt = (np.bincount(t.post, minlength=t.n_neurons) > limit) & (each > 1)
        weight = params.row_currents()
        order = np.argsort(t.post, kind="stable")
        stops = np.searchsorted(t.post[order], np.arange(t.n_neurons + 1))
        for n in (int(i) for i in np.flatnonzero(dealt)):
            mine = order[stops[n] : stops[n + 1]]
            fixed = t.pre[mine] == t.tonic
            mine, room = mine[~fixed], int(limit[n] - fixed.sum())
            ranked = mine[np.argsort(-strength[mine], kind="stable")]
            rank, copy = _dealt(len(ranked), int(each[n]), max(room, 0))
            heard = np.zeros((len(ranked), each[n]), bool)
            heard[rank, copy] = True
            unheard[n] = int((~heard.any(1)).sum())
            at = start[ranked][:, None] + np.arange(int(each[n]))
            pairs[at] = heard
            scale[at] = _scales(weight[ranked], t.dendrite[ranked], heard)
    origin, copy = np.repeat(np.arange(t.n_synapses), into), counted_up(into)
    pre = np.repeat(t.pre, into).astype(np.int64)
    neurons = np.flatnonzero(t.pre > t.tonic)
    turns = _sources(t.pre[neurons], each[t.pre[neurons] - t.tonic - 1], into[neurons], rng)
    inner = pre > t.tonic
    pre[inner] = t.tonic + 1 + first[pre[inner] - t.tonic - 1] + turns
    post = first[t.post[origin]] + copy
    own = t.pre[origin] == t.tonic + 1 + t.post[origin]
    pre[own] = t.tonic + 1 + post[own]
    origin, pre, post, scale = origin[pairs], pre[pairs], post[pairs], scale[pairs]
    neuron = np.repeat(np.arange(t.n_neurons), each)
    topology = replace(
        t,
        populations=tuple((name, n * int(c)) for (name, n), c in zip(t.populations, per_population, strict=True)),
        copies=tuple(int(c) for c in per_population),
        group=t.group[neuron],
        latches=t.latches[neuron],
        place=index_places(len(neuron), DYNAPSE2),
        pre=pre,
        post=post,
        dendrite=t.dendrite[origin],
        row=row_numbers(post),
        delay=None if t.delay is None else t.delay[origin],
    )
    weight = params.row_currents()[origin]
    factor = None if params.delay_factor is None else np.asarray(params.delay_factor)[origin]
    made = replace(params, weight=weight, base=None, topology=topology, delay_factor=factor)
    if (scale != 1).any():
        made = _louder(made, weight * scale)
    return Copied(made, origin, dealt, unheard)


def _checked(t: Topology, copies: Mapping[str, int] | Sequence[int]) -> np.ndarray:
    """Copies of every population, in their order."""
    names = [name for name, _ in t.populations]
    given = copies if isinstance(copies, Mapping) else dict(zip(names, copies, strict=False))
    if not isinstance(copies, Mapping) and len(copies) != len(names):
        raise ParameterRangeError(
            f"with_copies: {len(copies)} numbers of copies for {len(names)} populations. Give one for each of them."
        )
    if unknown := [name for name in given if name not in names]:
        raise ParameterRangeError(
            f"with_copies: there is no population {unknown[0]!r}, known are {', '.join(map(repr, names))}. "
            "Name one of them."
        )
    return np.array([COPIES.check("with_copies", f"copies of {name!r}", given.get(name, 1)) for name in names], int)


def _dealt(synapses: int, copies: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(rank, copy) of what every copy hears: all ranks in turn, the first ones again where `rows` are left."""
    share, more = divmod(copies * rows, synapses)
    times = share + (np.arange(synapses) < more)
    rank = np.repeat(np.arange(synapses), times)
    return rank, np.arange(len(rank)) % copies


def _scales(weight: np.ndarray, dendrite: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """What weights (synapses,) are multiplied by for each copy, so that those of a dendrite sum to the same (…, copies)."""
    scale = np.ones(heard.shape)
    for d in np.unique(dendrite).tolist():
        here = dendrite == d
        part = (weight[here][:, None] * heard[here]).sum(0)
        scale[here] = weight[here].sum() / np.where(part > 0, part, weight[here].sum() or 1.0)
    return scale


def _sources(pre: np.ndarray, have: np.ndarray, want: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which copy of its source each copy of the target of each synapse hears, one after the other.

    Synapses (S,) lead from `pre` with `have` copies to neurons with `want`. The copies of a source are heard alike: by the
    copies of a target as far as their number is a multiple, else by all its targets together.
    """
    turns = np.zeros(int(want.sum()), np.int64)
    start = np.cumsum(want) - want
    for m, k in np.unique(np.stack([have, want], 1), axis=0).tolist():
        here = np.flatnonzero((have == m) & (want == k))
        rest = k % m
        drawn = np.tile(np.arange(m), (len(here), k // m))
        if rest:
            sources, which = np.unique(pre[here], return_inverse=True)
            order = rng.permuted(np.tile(np.arange(m), (len(sources), 1)), axis=1)
            turn = (row_numbers(pre[here])[:, None] * rest + np.arange(rest)) % m
            drawn = np.concatenate([drawn, order[which.reshape(-1)[:, None], turn]], axis=1)
        if m > 1:
            drawn = rng.permuted(drawn, axis=1)
        turns[start[here][:, None] + np.arange(k)] = drawn
    return turns


def _louder(params: Params, weight: np.ndarray) -> Params:
    """`params` with larger weights (S,), in A: the gains of the dendrites grow in place of currents, as far as they do."""
    t = params.topology
    bias = {name: np.array(value, float) for name, value in params.bias.items()}
    groups = len(bias[f"i_gain_{DENDRITES[0]}"])
    for d, name in enumerate(DENDRITES):
        here = t.dendrite == d
        most, before = np.zeros(groups), np.zeros(groups)
        np.maximum.at(most, t.group[t.post[here]], weight[here])
        np.maximum.at(before, t.group[t.post[here]], np.asarray(params.weight)[here])
        gain = bias[f"i_gain_{name}"]
        grown = np.where(before > 0, np.maximum(most / np.where(before > 0, before, 1.0), 1.0), 1.0)
        grown = np.minimum(grown, np.maximum(reach(f"i_gain_{name}")[1] / gain, 1.0))
        bias[f"i_gain_{name}"] = gain * grown
        weight = np.where(here, weight / grown[t.group[t.post]], weight)
    return replace(params, bias=bias, weight=weight)


# -- and back ---------------------------------------------------------------------------------------------------------


def fold(values: Any, copies: int) -> Any:
    """Sum over the copies of every neuron: (..., n·copies) becomes (..., n). NumPy and JAX arrays."""
    return values if copies == 1 else values.reshape(*values.shape[:-1], -1, copies).sum(-1)


def mean(values: Any, copies: int) -> Any:
    """Mean over the copies of every neuron: (..., n·copies) becomes (..., n); without copies the values as they are."""
    return values if copies == 1 else copies_mean(values, copies)


def folded(t: Topology, spikes: Any) -> dict[str, Any]:
    """Spikes (..., N) of the neurons of the chip by node: (..., n) for its n neurons, the sum over the copies of each."""
    return {name: fold(spikes[..., part], t.copies_of[name]) for name, part in t.slices().items()}


def smallest(counts: np.ndarray) -> np.ndarray:
    """`counts` as uint8, or uint32 where one is above 255."""
    return counts.astype(np.uint8 if counts.max(initial=0) <= 255 else np.uint32, copy=False)
