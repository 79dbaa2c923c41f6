"""Delays of synapses as the chip has them: two values per core, a flag of each CAM row, neurons of alike delays together.

A core holds a precise and a mismatched delay; a row has one of them, or none. What a row should have, d, and what it gets,
D·(1 + cv·ξ) with the spread `cv` of that circuit over rows, differ by E[(d − D)² + (cv·D)²], weighed by what the synapse
moves the membrane by. The values D of a core are the weighted means of two (or one) runs of sorted delays, no delay being a
third run; all ways to part them are compared. Neurons go to the cores in which their synapses cost least, cores to the bias
groups in which they pay most, as far as the chips that are needed anyway have some.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from nir_dynapse.chip.biasgen import reach
from nir_dynapse.chip.device import AMPA, DELAYS, DYNAPSE2, GABA, PARAMETERS, Circuit, Device
from nir_dynapse.errors import Finding
from nir_dynapse.network.network import Network, Projection

__all__ = ["Shared", "delay_findings", "delay_node", "longest_delay", "one_each", "share_delays"]

FINEST = 64
"""Different delays that are told apart in choosing; more than that are first rounded to as many."""
TRIED = 250
"""Pairs of values, the best ones with runs as they are, that are compared with every synapse at what suits it."""
PAYS = 0.98
"""A further core is taken where the expected squared error falls below this part of it."""
ROUNDS = 12
"""Rounds of choosing values for cores and cores for neurons."""
EXACT = 1e-6
"""Relative error of a delay up to which it is the one that was asked for; codes come later."""
SPREAD = tuple(PARAMETERS[name].cv for name in DELAYS)


@dataclass(frozen=True)
class Shared:
    """Bias groups (N,) of neurons, delay flags (S,) of synapses, and the two delays in s of each group (groups, 2).

    A delay of 0 is one that no synapse of the group has.
    """

    group: np.ndarray
    flags: np.ndarray
    delay: np.ndarray

    def got(self, post: np.ndarray) -> np.ndarray:
        """The delay in s of each synapse (S,), whose neurons are `post`."""
        return np.where(self.flags > 0, self.delay[self.group[post], np.maximum(self.flags - 1, 0)], 0.0)


def longest_delay(circuit: Circuit) -> float:
    """The longest delay in s that the bias generator reaches, by the precise circuit."""
    return float(circuit.width(DELAYS[0], reach(DELAYS[0])[0]))


def share_delays(
    wanted: np.ndarray, strength: np.ndarray, post: np.ndarray, group: np.ndarray, device: Device
) -> Shared:
    """Delays and flags for synapses (S,) that should be `wanted` s late and move neurons `post` by `strength`.

    `group` (N,) are the bias groups, of which each is parted further where that pays: the parts of a group have
    its number and those behind all others.
    """
    late = _Late(wanted, strength, post, len(group), device.circuit)
    parts = {g: [np.flatnonzero(group == g)] for g in np.unique(group).tolist()}
    _spend(late, parts, device)
    found, delay = np.zeros(len(group), int), np.zeros((sum(map(len, parts.values())), len(DELAYS)))
    new = len(parts)
    for g, members in parts.items():
        for k, neurons in enumerate(members):
            label = g if k == 0 else (new := new + 1) - 1
            found[neurons], delay[label] = label, late.values(neurons)
    flags = late.flags(delay[found[post]])
    used = np.zeros(delay.shape, bool)
    used[found[post[flags > 0]], flags[flags > 0] - 1] = True
    return Shared(found, flags, np.where(used, delay, 0.0))


def _spend(late: _Late, parts: dict[int, list[np.ndarray]], device: Device) -> None:
    """Part groups as long as cores of the chips that are needed are free and one more pays; `parts` is changed."""

    def cores(members: list[np.ndarray]) -> int:
        return sum(-(-len(neurons) // device.neurons_per_core) for neurons in members)

    used = sum(map(cores, parts.values()))
    chips = -(-used // device.cores_per_chip)
    if used > device.n_cores:
        return  # groups will be merged
    for g, members in parts.items():  # those that take several cores anyway
        neurons, needed = members[0], cores(members)
        if needed > 1 and late.heard(neurons):
            total, parted = late.parted(members, needed, device.neurons_per_core)
            parts[g] = parted if total < PAYS * late.cost(neurons) else members
    tried: dict[int, tuple[float, list[np.ndarray]]] = {}
    while used < chips * device.cores_per_chip:
        best, gain = None, 0.0
        for g, members in parts.items():
            if not late.heard(np.concatenate(members)):
                continue
            if g not in tried:
                tried[g] = late.parted(members, cores(members) + 1, device.neurons_per_core)
            now = sum(late.cost(neurons) for neurons in members)
            if tried[g][0] < PAYS * now and now - tried[g][0] > gain:
                best, gain = g, now - tried[g][0]
        if best is None:
            return
        parts[best] = tried.pop(best)[1]
        used = sum(map(cores, parts.values()))


def one_each(
    pre: np.ndarray, post: np.ndarray, weight: np.ndarray, dendrite: np.ndarray, flags: np.ndarray, late: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The synapses (S,) with one for all `late` ones of a pair that got the same delay: the sum of their signed weights.

    Returns `pre`, `post`, `weight`, `dendrite` and `flags`; AMPA and GABA follow the sign of the sum, others stay.
    """
    signed = (dendrite == AMPA) | (dendrite == GABA)
    key = np.stack([pre, post, flags, np.where(signed, AMPA, dendrite), np.where(late, 0, 1 + np.arange(len(pre)))], 1)
    _, first, where = np.unique(key, axis=0, return_index=True, return_inverse=True)
    total = np.bincount(where.reshape(-1), weight)
    order = np.argsort(first, kind="stable")
    first, total = first[order], total[order]
    there = total != 0
    first, total = first[there], total[there]
    kind = np.where(signed[first] & late[first], np.where(total > 0, AMPA, GABA), dendrite[first])
    return pre[first], post[first], total, kind, flags[first]


def delay_node(q: Projection) -> str:
    """The NIR node that says how late the connections of `q` are."""
    return next((node.name for node in reversed(q.via) if node.kind == "Delay"), q.name)


def delay_findings(network: Network, wanted: np.ndarray, got: np.ndarray, flags: np.ndarray) -> list[Finding]:
    """A warning for each node whose delays become others, or are beyond reach, and what spreads over the rows of a chip.

    Per synapse (S,): the delay in s that is `wanted`, the one that it has `got`, and its flag.
    """
    found, first, longest = [], 0, longest_delay(DYNAPSE2.circuit)
    for q in network.projections:
        part = slice(first, first + int(np.count_nonzero(q.weight)))
        first = part.stop
        d, is_, flag, node = wanted[part], got[part], flags[part], delay_node(q)
        if not d.any():
            continue
        late, error = int((d > 0).sum()), np.abs(is_ - d)
        k = int(np.argmax(d))
        if d[k] > longest:
            what = f"a delay of {d[k]:.4g} s is beyond the bias generator, which reaches {longest:.3g} s."
            hint = "Give shorter delays, or let a chain of neurons wait."
            found.append(Finding("warning", "delay-range", what, node, None, float(d[k]), longest, "s", hint))
        k = int(np.argmax(error))
        if (off := int((error > EXACT * d).sum())) and error[k] > 0:
            what = (
                f"{off} of {late} late synapses get another delay, {1e3 * d[k]:.3g} ms becomes {1e3 * is_[k]:.3g} ms at "
                f"worst, RMS {1e3 * float(np.sqrt(np.mean(error[d > 0] ** 2))):.3g} ms: a core has two delays."
            )
            hint = (
                "Use fewer different delays, or delays of the targets (behind the weights): neurons of alike delays share "
                "a core, and the chips that are needed have four each. Delays of inputs can be in the data."
            )
            found.append(Finding("warning", "delays", what, node, None, float(d[k]), float(is_[k]), "s", hint))
        if loose := int((flag == 2).sum()):
            cv = 100 * SPREAD[1]
            what = (
                f"{loose} of {late} late synapses use the mismatched delay, which spreads by {cv:.0f} % over CAM rows."
            )
            found.append(Finding("info", "delay-spread", what, node, None, loose, late))
    return found


def _errors(d: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Expected squared error (cores, n) of delays `d` (n,) in cores that have `values` (cores, 2), 0 for none."""
    best = np.broadcast_to(d**2, (len(values), len(d)))
    for own, cv in zip(values.T, SPREAD, strict=True):
        best = np.minimum(best, np.where(own[:, None] > 0, (d - own[:, None]) ** 2 + (cv * own[:, None]) ** 2, np.inf))
    return best


class _Late:
    """The synapses that should be late, as a histogram over delays of each neuron."""

    def __init__(
        self, wanted: np.ndarray, strength: np.ndarray, post: np.ndarray, n_neurons: int, circuit: Circuit
    ) -> None:
        self.wanted = wanted
        longest = [float(circuit.width(name, reach(name)[0])) for name in DELAYS]
        self.longest = np.array(longest)
        late = np.flatnonzero(wanted > 0)
        step = float(wanted.max(initial=0.0)) / FINEST
        binned = wanted[late]
        if len(np.unique(binned)) > FINEST:
            binned = np.ceil(binned / step) * step
        self.delay, column = np.unique(binned, return_inverse=True)
        shape = (n_neurons, len(self.delay))
        weight = np.maximum(strength[late], 1e-30)
        entries = (post[late], column.reshape(-1))
        self.weight = scipy.sparse.coo_array((weight, entries), shape=shape).tocsr()
        self.sum = scipy.sparse.coo_array((weight * wanted[late], entries), shape=shape).tocsr()

    def heard(self, neurons: np.ndarray) -> bool:
        """Whether any synapse of `neurons` should be late."""
        return bool(self.weight[neurons].nnz)

    def values(self, neurons: np.ndarray) -> np.ndarray:
        """The precise and the mismatched delay in s for a core of `neurons`; 0 for none."""
        weight = np.asarray(self.weight[neurons].sum(0)).reshape(-1)
        here = np.flatnonzero(weight)
        found = np.zeros(len(DELAYS))
        if not len(here):
            return found
        w, x = weight[here], np.asarray(self.sum[neurons].sum(0)).reshape(-1)[here]
        d = x / w  # the mean of what a bin holds
        w0, w1, w2 = (np.r_[0.0, np.cumsum(w * d**k)] for k in range(3))
        start, stop = np.arange(len(here) + 1)[:, None], np.arange(len(here) + 1)[None]
        total = np.maximum(w0[stop] - w0[start], 1e-300)
        mean = np.where(stop > start, (w1[stop] - w1[start]) / total, 0.0)
        square = w2[stop] - w2[start]
        runs = [square - total * mean**2 * (1 - cv**2) for cv in SPREAD]
        runs = [np.where(stop > start, run, np.where(stop == start, 0.0, np.inf)) for run in runs]
        # [0, i) have none, [i, j) the shorter delay, [j, n) the longer one; then each synapse has what suits it best.
        tried = np.stack([w2[:, None] + runs[1 - k] + runs[k][:, -1][None] for k in range(2)])
        near = np.argsort(tried, axis=None, kind="stable")[: min(TRIED, int(np.isfinite(tried).sum()))]
        longer, i, j = np.unravel_index(near, tried.shape)
        pairs = np.stack([mean[i, j], mean[j, len(here)]], 1)
        pairs = np.where((longer == 1)[:, None], pairs, pairs[:, ::-1])
        single = (pairs[:, 0] == 0) & (pairs[:, 1] > 0)
        pairs[single] = pairs[single][:, ::-1]  # one delay is the precise one
        pairs = np.minimum(pairs, self.longest)
        return pairs[np.argmin(_errors(d, pairs) @ w)]

    def costs(self, values: np.ndarray) -> np.ndarray:
        """Expected squared error (cores, delays) of each delay, by the circuit that suits it, for `values` (cores, 2)."""
        return _errors(self.delay, values)

    def cost(self, neurons: np.ndarray, values: np.ndarray | None = None) -> float:
        """Expected squared error of a core of `neurons`, weighed, with `values` (2,) or what is best."""
        values = self.values(neurons) if values is None else values
        return float((self.weight[neurons] @ self.costs(values[None])[0]).sum())

    def flags(self, values: np.ndarray) -> np.ndarray:
        """The flag (S,) of each synapse whose core has `values` (S, 2): 0 none, 1 precise, 2 mismatched."""
        d = self.wanted[:, None]
        own = np.where(values > 0, (d - values) ** 2 + (np.array(SPREAD) * values) ** 2, np.inf)
        best = np.argmin(np.c_[self.wanted**2, own], 1)
        return np.where(self.wanted > 0, best, 0)

    def parted(self, members: list[np.ndarray], cores: int, room: int) -> tuple[float, list[np.ndarray]]:
        """The best way found to part the neurons of `members` over `cores` of `room` neurons, and its cost.

        Starts are cuts of the sorted late neurons into equal parts, and `members` with the costliest one cut in two.
        """
        neurons = np.sort(np.concatenate(members))
        best: tuple[float, list[np.ndarray]] = (np.inf, [])
        for start in self._starts(neurons, members, cores):
            label = _assigned(self.weight[neurons] @ self.costs(np.array([self.values(p) for p in start])).T, room)
            last = np.inf
            for _ in range(ROUNDS):
                parts = [neurons[label == c] for c in range(cores)]
                values = np.array([self.values(part) for part in parts])
                total = sum(self.cost(*pair) for pair in zip(parts, values, strict=True))
                if total < best[0]:
                    best = total, [part for part in parts if len(part)]
                if total >= last:
                    break
                last = total
                label = _assigned(self.weight[neurons] @ self.costs(values).T, room)
        return best

    def _starts(self, neurons: np.ndarray, members: list[np.ndarray], cores: int) -> list[list[np.ndarray]]:
        late = neurons[np.diff(self.weight[neurons].indptr) > 0]
        keys = self._orders(late)
        starts = [np.array_split(late[np.argsort(key, kind="stable")], cores) for key in keys]
        if len(members) == cores - 1:
            worst = int(np.argmax([self.cost(part) for part in members]))
            others = [part for k, part in enumerate(members) if k != worst]
            for key in self._orders(members[worst]):
                starts.append([*others, *np.array_split(members[worst][np.argsort(key, kind="stable")], 2)])
        return starts

    def _orders(self, neurons: np.ndarray) -> list[np.ndarray]:
        """What neurons may be sorted by before they are cut into cores: mean, longest and shortest delay."""
        weight = self.weight[neurons]
        mean = np.asarray(self.sum[neurons].sum(1)).reshape(-1) / np.maximum(
            np.asarray(weight.sum(1)).reshape(-1), 1e-300
        )
        there = weight.toarray() > 0
        longest = np.where(there, self.delay, 0.0).max(1, initial=0.0)
        shortest = np.where(there, self.delay, np.inf).min(1, initial=np.inf)
        return [mean, longest, np.where(np.isfinite(shortest), shortest, 0.0)]


def _assigned(cost: np.ndarray, room: int) -> np.ndarray:
    """The core of each neuron for `cost` (neurons, cores): who loses most by the second best comes first."""
    ordered = np.sort(cost, 1)
    regret = ordered[:, min(1, cost.shape[1] - 1)] - ordered[:, 0]
    label, count = np.zeros(len(cost), int), np.zeros(cost.shape[1], int)
    for n in np.argsort(-regret, kind="stable").tolist():
        full = count >= room
        own = np.where(full, np.inf, cost[n])
        near = np.flatnonzero(own <= own.min() * (1 + 1e-9))
        label[n] = near[np.argmin(count[near])]
        count[label[n]] += 1
    return label
