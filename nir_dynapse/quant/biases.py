"""Bias groups and bias codes: which neurons share a core's biases, and which codes set them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from nir_dynapse.biasgen import current, nearest_codes, reach
from nir_dynapse.device import COLUMN, CURRENTS, DELAYS, PARAMETERS, Device
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.params import Params

__all__ = ["TOLERANCE", "cores_needed", "encode_biases", "merge_groups"]

TOLERANCE = 0.25
"""Largest relative change of a bias current that merging neurons into one bias group may cause."""


def cores_needed(group: np.ndarray, device: Device) -> int:
    """Cores that the bias groups take: no core holds neurons of two groups."""
    sizes = np.bincount(group) if len(group) else np.zeros(0, int)
    return int(np.sum(-(-sizes // device.neurons_per_core)))


def merge_groups(params: Params, device: Device) -> tuple[Params, list[Finding]]:
    """As few merged bias groups as the cores ask for; unchanged where every group has a core of its own.

    Similar groups (complete linkage of the log currents) share the geometric mean of their currents and the largest of
    their gains; weight currents are adapted to the shared gain by the caller. A delay that no synapse of a group asks
    for does not count. CapacityError above `TOLERANCE`.
    """
    t = params.topology
    fewest = -(-t.n_neurons // device.neurons_per_core)
    if t.n_groups == 1 or cores_needed(t.group, device) <= device.n_cores or fewest > device.n_cores:
        return params, []
    shared = [name for name in CURRENTS if PARAMETERS[name].kind != "gain" or name == "i_gain_mem"]
    floor = 1e-15
    logs = {name: np.log(np.maximum(np.asarray(params.bias[name], float), floor)) for name in shared}
    counts = {name: _asks_for(params, name) for name in DELAYS}
    distance = pdist(np.stack([value for name, value in logs.items() if name not in DELAYS], 1))
    first, second = np.triu_indices(t.n_groups, 1)
    for name, asked in counts.items():
        apart = logs[name][first] - logs[name][second]
        distance = np.hypot(distance, np.where(asked[first] & asked[second], apart, 0.0))
    tree = linkage(distance, "complete")
    label = np.zeros(t.n_groups, int)
    for clusters in range(device.n_cores, 0, -1):
        label = fcluster(tree, clusters, "maxclust") - 1
        if cores_needed(label[t.group], device) <= device.n_cores:
            break
    sizes = np.bincount(t.group, minlength=t.n_groups).astype(float)
    total = np.bincount(label, sizes)
    everyone = np.ones(t.n_groups, bool)
    bias: dict[str, np.ndarray] = {}
    worst = (0.0, "", 0)
    for name in CURRENTS:
        value = np.asarray(params.bias[name], float)
        if name in shared:
            asked = counts.get(name, everyone)
            share = np.where(asked | ~np.isin(label, label[asked]), sizes, 0.0)  # of all where none asks for it
            mean = np.bincount(label, share * logs[name]) / np.bincount(label, share)
            bias[name] = np.where(np.exp(mean) <= 1.01 * floor, 0.0, np.exp(mean))
            change = np.abs(bias[name][label] - value) / np.maximum(value, floor)
            change[~asked | ((value <= floor) & (bias[name][label] <= floor))] = 0
            worst = max(worst, (float(change.max()), name, int(np.argmax(change))))
        else:
            merged = np.zeros(len(total))
            np.maximum.at(merged, label, value)
            bias[name] = merged
    error, name, which = worst
    neuron = int(np.argmax(t.group == which))
    owner, index = _owner(params, neuron)
    finding = Finding(
        "warning" if error <= TOLERANCE else "error",
        "bias-groups",
        f"{t.n_groups} different sets of analog parameters share {device.n_cores} cores as {len(total)} bias groups; "
        f"{PARAMETERS[name].meaning} ({PARAMETERS[name].bias}) changes by up to {100 * error:.1f} %, allowed are "
        f"{100 * TOLERANCE:.0f} %.",
        node=owner,
        index=index,
        used=error,
        limit=TOLERANCE,
        hint="Use fewer different time constants, or more chips (device=DYNAPSE2.stack(n), --chips n).",
    )
    if error > TOLERANCE:
        raise CapacityError(finding)
    return replace(params, bias=bias, topology=replace(t, group=label[t.group])), [finding]


def _asks_for(params: Params, delay: str) -> np.ndarray:
    """Boolean (groups,): which bias groups have a synapse with the flag of `delay`."""
    t = params.topology
    return np.bincount(t.group[t.post[t.has_delay(delay)]], minlength=t.n_groups) > 0


def encode_biases(params: Params) -> tuple[np.ndarray, dict[str, np.ndarray], list[Finding]]:
    """Codes (groups, parameters, 2) nearest to the bias currents, the currents they give, and findings on saturation.

    The DC current is asked for relative to the leak, gain and threshold that the codes really give.
    """
    t = params.topology
    codes = np.zeros((t.n_groups, len(PARAMETERS), 2), np.uint8)
    got: dict[str, np.ndarray] = {}
    findings: list[Finding] = []
    for name in (*(n for n in CURRENTS if n != "i_dc"), "i_dc"):
        asked = np.asarray(params.bias[name], float)
        if name == "i_dc":
            asked = asked * got["i_tau_mem"] * got["i_spkthr"] / got["i_gain_mem"]
            asked = asked * params.bias["i_gain_mem"] / (params.bias["i_tau_mem"] * np.asarray(params.bias["i_spkthr"]))
        coarse, fine, error = nearest_codes(name, asked)
        got[name] = current(name, coarse, fine)
        codes[:, COLUMN[name], 0], codes[:, COLUMN[name], 1] = coarse, fine
        off = PARAMETERS[name].off
        for g in np.flatnonzero((np.abs(error) > 0.1) & (asked != off)):
            low, high = reach(name)
            owner, index = _owner(params, int(np.argmax(t.group == g)))
            findings.append(
                Finding(
                    "warning",
                    "bias-saturation",
                    f"{PARAMETERS[name].meaning} ({PARAMETERS[name].bias}) should be {asked[g]:.3g} A and becomes "
                    f"{got[name][g]:.3g} A ({100 * error[g]:+.0f} %); in reach are {low:.3g} to {high:.3g} A.",
                    node=owner,
                    index=index,
                    used=float(asked[g]),
                    limit=high if asked[g] > high else low,
                    unit="A",
                    hint="Choose a time constant or gain inside this range.",
                )
            )
    return codes, got, findings


def _owner(params: Params, neuron: int) -> tuple[str, int]:
    """NIR node and index of a neuron."""
    for name, part in params.topology.slices().items():
        if part.start <= neuron < part.stop:
            return name, neuron - part.start
    raise IndexError(neuron)
