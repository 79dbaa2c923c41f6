"""Bias groups: neurons with different analog parameters that must share the biases of a core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.chip.device import CURRENTS, DELAYS, DENDRITES, PARAMETERS, Device
from nir_dynapse.circuit.params import Params, Topology
from nir_dynapse.errors import CapacityError, Finding

__all__ = ["TOLERANCE", "by_population", "cores_needed", "merge_groups", "one_group_per_core"]

TOLERANCE = 0.25
"""Largest relative change of a bias current that merging neurons into one bias group may cause."""
DENDRITE_LEAKS = tuple(f"i_tau_{name}" for name in DENDRITES)
ADAPTATION = ("i_tau_ahp", "i_gain_ahp", "i_w_ahp", "i_pulse_ahp")
MOST_GROUPS = 1500
"""Sets of parameters that are compared in pairs; more than that are first rounded to as fine a raster as leaves so many."""
FLOOR = 1e-15
"""Current in A that stands for none in logarithms."""


def cores_needed(group: np.ndarray, device: Device, count: np.ndarray | None = None) -> int:
    """Cores that the bias groups take: no core holds neurons of two groups. `count` neurons each stand for (one)."""
    sizes = np.bincount(group, count).astype(int)
    return int(np.sum(-(-sizes // device.neurons_per_core)))


def by_population(params: Params, device: Device) -> Params:
    """The same with a bias group (a core, where it holds them) per population and set of parameters, if there are cores."""
    t = params.topology
    owner = np.repeat(np.arange(len(t.populations)), [size for _, size in t.populations])
    _, first, group = np.unique(np.stack([owner, t.group], 1), axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    if cores_needed(group, device) > device.n_cores:
        return params
    bias = {name: np.asarray(params.bias[name], float)[t.group[first]] for name in CURRENTS}
    return replace(params, bias=bias, topology=replace(t, group=group))


def merge_groups(params: Params, device: Device, tolerance: float = TOLERANCE) -> tuple[Params, list[Finding]]:
    """As few merged bias groups as the cores ask for; unchanged where every group has a core of its own.

    Groups are clustered by the largest ratio of any of their currents (complete linkage, then moves of single groups that
    lower the worst ratio), or neurons cut into cores along the currents that differ most, whichever changes less. A cluster
    gets the geometric mean of each current over its neurons, or the nearest value that
    keeps every one within `tolerance`, and the largest of the gains of its dendrites; weight currents are adapted to those
    by the caller. What a group does not use does not count (`_matters`). The finding names every current that changes,
    in %; CapacityError where one changes by more than `tolerance`.
    """
    t = params.topology
    fewest = -(-t.n_neurons // device.neurons_per_core)
    if t.n_groups == 1 or cores_needed(t.group, device) <= device.n_cores or fewest > device.n_cores:
        return params, []
    shared = [name for name in CURRENTS if PARAMETERS[name].kind != "gain" or name == "i_gain_mem"]
    value = np.stack([np.asarray(params.bias[name], float) for name in shared], 1)
    matters = np.stack([_matters(params, name) for name in shared], 1)
    logs = np.log(np.maximum(value, FLOOR))
    sizes = np.bincount(t.group, minlength=t.n_groups)
    # Similar groups together, or cores filled to the last neuron: which is better depends on how full the device is.
    ways = [
        _clusters(logs, matters, sizes, device)[t.group],
        _cut(logs[t.group], matters[t.group], device.n_cores, device),
    ]
    tried = [_shared(value[t.group], matters[t.group], label, tolerance) for label in ways]
    label, merged, change = min(tried, key=lambda item: float(item[2].max()))

    bias = {}
    for name in CURRENTS:
        if name in shared:
            bias[name] = merged[:, shared.index(name)]
        else:
            bias[name] = np.zeros(len(merged))
            np.maximum.at(bias[name], label, np.asarray(params.bias[name], float)[t.group])
    finding = _finding(t, shared, change, len(merged), tolerance, device)
    if finding.severity == "error":
        raise CapacityError(finding)
    return replace(params, bias=bias, topology=replace(t, group=label)), [finding]


def one_group_per_core(params: Params, core: np.ndarray) -> tuple[Params, np.ndarray]:
    """`params` with a bias group for each core that `core` (N,) names, in their order, and the group it was before.

    The biases are those of before; the cores may then be set to them each in its own way.
    """
    t = params.topology
    _, first, group = np.unique(core, return_index=True, return_inverse=True)
    before = t.group[first]
    bias = {name: np.asarray(value, float)[before] for name, value in params.bias.items()}
    base = None if params.base is None else np.asarray(params.base)[before]
    return replace(params, bias=bias, base=base, topology=replace(t, group=group.reshape(-1))), before


def _matters(params: Params, name: str) -> np.ndarray:
    """Boolean (groups,): whether a current matters to each bias group.

    A delay only where a synapse has its flag, the leak of a dendrite where a synapse uses it, adaptation and the NMDA gate
    where a neuron has their latch.
    """
    t = params.topology
    if name in DELAYS:
        asks = t.group[t.post[t.has_delay(name)]]
    elif name in DENDRITE_LEAKS:
        asks = t.group[t.post[t.dendrite == DENDRITE_LEAKS.index(name)]]
    elif name == "i_f_nmda":
        asks = t.group[t.has_latch("nmda_gate")]
    elif name in ADAPTATION:
        asks = t.group[t.has_latch("adaptation")]
    else:
        return np.ones(t.n_groups, bool)
    return np.bincount(asks, minlength=t.n_groups) > 0


def _clusters(logs: np.ndarray, matters: np.ndarray, sizes: np.ndarray, device: Device) -> np.ndarray:
    """Cluster (groups,) of each bias group, such that they fit the cores and the largest ratio in a cluster is small."""
    from scipy.cluster.hierarchy import fcluster, linkage  # only where groups must share cores
    from scipy.spatial.distance import squareform

    step, rough = 0.0, np.arange(len(logs))
    while len(np.unique(rough)) > MOST_GROUPS:
        step = 2 * step or 1e-3
        key = np.where(matters, np.round(logs / step), np.inf)
        rough = np.unique(key, axis=0, return_inverse=True)[1].reshape(-1)
    first = np.unique(rough, return_index=True)[1]
    count = np.bincount(rough, sizes).astype(int)
    distance = _distances(logs[first], matters[first])
    tree = linkage(distance, "complete")
    # One cluster always fits.
    fits = (fcluster(tree, n, "maxclust") - 1 for n in range(min(device.n_cores, len(first)), 0, -1))
    label = next(label for label in fits if cores_needed(label, device, count) <= device.n_cores)
    label = _moved(label.copy(), squareform(distance), count, device)
    return np.unique(label, return_inverse=True)[1].reshape(-1)[rough]


def _distances(logs: np.ndarray, matters: np.ndarray) -> np.ndarray:
    """Logarithm of the largest ratio of any current between each pair of groups, condensed as by `pdist`."""
    from scipy.spatial.distance import pdist

    always = matters.all(0)
    distance = pdist(logs[:, always], "chebyshev")
    first, second = np.triu_indices(len(logs), 1)
    for k in np.flatnonzero(~always):
        apart = np.abs(logs[first, k] - logs[second, k])
        distance = np.maximum(distance, np.where(matters[first, k] & matters[second, k], apart, 0.0))
    return distance


def _moved(label: np.ndarray, distance: np.ndarray, count: np.ndarray, device: Device) -> np.ndarray:
    """Moves of single groups out of the widest cluster while that makes the widest one narrower."""
    for _ in range(4 * len(label)):
        widths = np.array([_width(distance, label == c) for c in range(label.max() + 1)])
        widest = int(np.argmax(widths))
        members = np.flatnonzero(label == widest)
        inside = distance[np.ix_(members, members)]
        ends = members[np.unique(np.unravel_index(int(np.argmax(inside)), inside.shape))]
        best = (float(widths[widest]) * (1 - 1e-9), -1, -1)
        for group in ends.tolist():
            for c in range(len(widths)):
                if c == widest:
                    continue
                trial = label.copy()
                trial[group] = c
                width = max(_width(distance, trial == c), _width(distance, trial == widest))
                if width < best[0] and cores_needed(trial, device, count) <= device.n_cores:
                    best = width, group, c
        if best[1] < 0:
            break
        label[best[1]] = best[2]
    return label


def _width(distance: np.ndarray, members: np.ndarray) -> float:
    here = np.flatnonzero(members)
    return float(distance[np.ix_(here, here)].max()) if len(here) else 0.0


def _cut(logs: np.ndarray, matters: np.ndarray, cores: int, device: Device) -> np.ndarray:
    """Core (N,) of each neuron: cut in two again and again along the current that differs most, none overfull."""
    n = len(logs)
    label = np.zeros(n, int)
    if cores == 1 or n == 0:
        return label
    low = np.where(matters, logs, np.inf).min(0)
    high = np.where(matters, logs, -np.inf).max(0)
    k = int(np.argmax(np.where(matters.any(0), high - low, 0.0)))
    # A neuron to which the current does not matter may go anywhere.
    order = np.argsort(np.where(matters[:, k], logs[:, k], low[k]), kind="stable")
    x = np.where(matters[:, k], logs[:, k], low[k])[order]
    left = cores // 2
    cuts = np.arange(max(0, n - (cores - left) * device.neurons_per_core), min(n, left * device.neurons_per_core) + 1)
    below = np.where(cuts > 0, x[np.maximum(cuts - 1, 0)] - x[0], 0.0) / left
    above = np.where(cuts < n, x[-1] - x[np.minimum(cuts, n - 1)], 0.0) / (cores - left)
    cut = int(cuts[np.argmin(np.maximum(below, above))])
    first, second = order[:cut], order[cut:]
    label[first] = _cut(logs[first], matters[first], left, device)
    label[second] = left + _cut(logs[second], matters[second], cores - left, device)
    return label


def _shared(
    value: np.ndarray, matters: np.ndarray, label: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bias group (N,), currents (groups, parameters), and the relative change of each current of each neuron (N, …).

    Geometric means, moved where that keeps all members within `tolerance`.
    """
    merged = np.zeros((int(label.max()) + 1, value.shape[1]))
    for c in np.unique(label).tolist():
        here = label == c
        for k in range(value.shape[1]):
            counted = here & matters[:, k]
            x = np.maximum(value[counted if counted.any() else here, k], FLOOR)  # of all where none asks for it
            mean = float(np.exp(np.log(x).mean())) if x.max() > x.min() else float(x[0])
            low, high = float(x.max()) * (1 - tolerance), float(x.min()) * (1 + tolerance)
            mean = float(np.clip(mean, low, high)) if low <= high else mean
            merged[c, k] = 0.0 if mean <= 1.01 * FLOOR else mean
    change = np.abs(merged[label] - value) / np.maximum(value, FLOOR)
    change[~matters | ((value <= FLOOR) & (merged[label] <= FLOOR))] = 0
    merged, where = np.unique(merged[np.unique(label)], axis=0, return_inverse=True)
    return where.reshape(-1)[np.unique(label, return_inverse=True)[1].reshape(-1)], merged, change


def _finding(
    t: Topology, shared: list[str], change: np.ndarray, clusters: int, tolerance: float, device: Device
) -> Finding:
    """What sharing costs each current: the largest change and the mean over the neurons."""
    worst, mean = change.max(0), change.mean(0)
    order = [int(k) for k in np.argsort(-worst, kind="stable") if worst[k] > 1e-3] or [int(np.argmax(worst))]
    k = order[0]
    neuron = int(np.argmax(change[:, k]))
    called = [f"{PARAMETERS[name].meaning} ({PARAMETERS[name].bias})" for name in shared]
    others = "".join(f", {called[i]} by {100 * worst[i]:.1f} % (mean {100 * mean[i]:.1f} %)" for i in order[1:])
    what = (
        f"{t.n_groups} different sets of analog parameters share {device.n_cores} cores as {clusters} bias groups; "
        f"{called[k]} changes by up to {100 * worst[k]:.1f} % (mean {100 * mean[k]:.1f} %){others}, allowed are "
        f"{100 * tolerance:.0f} %."
    )
    return Finding(
        "warning" if worst[k] <= tolerance else "error",
        "bias-groups",
        what,
        **t.where(neuron),
        used=float(worst[k]),
        limit=tolerance,
        hint="Use fewer different time constants, more chips (device=DYNAPSE2.stack(n), --chips n), or a larger tolerance "
        "(tolerance=, --tolerance).",
    )
