"""Where training starts: the closed-form circuit, a bias group per population, its CAM rows, and gains that fit them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import AMPA, BASE_WEIGHTS, CURRENTS, DENDRITES, GABA, NMDA, WEIGHT_GAINS, Device
from nir_dynapse.circuit.closed_form import charge_per_ampere, event_charge, row_numbers
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import CapacityError, Finding
from nir_dynapse.quant.core_weights import importance_of
from nir_dynapse.quant.groups import by_population
from nir_dynapse.quant.weights import quantise_weights

__all__ = ["MOST_ROWS", "Start", "start_of"]

MOST_ROWS = 8
"""CAM rows of one connection at most: their mismatch averages out, by √8 here."""
HEADROOM = 0.6
"""Part of the largest level that the largest weight starts at, so that weights can grow."""
MOST_FITTED = 2000
"""Weights of a group that its first base currents are fitted to, evenly chosen by size."""
JITTER = 0.2
"""Relative spread of the parallel rows of a connection at the start, so that they do not all round alike."""


class Start:
    """`params` whose synapses are CAM rows, `weight` (R,) their signed currents in A, `free` (R,) whether signs may change,
    `base` (G, 4) currents in A."""

    def __init__(self, params: Params, weight: np.ndarray, free: np.ndarray, base: np.ndarray) -> None:
        self.params, self.weight, self.free, self.base = params, weight, free, base


def start_of(params: Params, device: Device, rows: int, key: int, refractory: float, bits: int = 4) -> Start:
    """The start of training from `params`: up to `rows` CAM rows per connection where neurons have them to spare.

    Params that are quantised already keep their groups, rows and base currents. `refractory` in s is the shortest period
    that the steps of the training resolve; the first `bits` base currents make levels. CapacityError where a neuron has
    more synapses than CAM rows.
    """
    _check_fan_in(params, device)
    if params.topology.mask is not None:
        return _as_it_is(params)
    params = by_population(params, device)
    params = _spread(params, _rows_each(params, device, rows), key)
    return _with_gains(_refractory(params, refractory), device, bits)


def _check_fan_in(params: Params, device: Device) -> None:
    t = params.topology
    count = np.bincount(t.post, minlength=t.n_neurons)
    if count.max(initial=0) <= device.cam_rows:
        return
    node, index = t.name_of(int(count.argmax()))
    what = f"{count.max()} incoming synapses, a {device.name} neuron stores {device.cam_rows}."
    hint = "Train from the Network, or from Params without masks: then the rows are chosen while training."
    raise CapacityError(Finding("error", "fan-in", what, node, index, int(count.max()), device.cam_rows, hint=hint))


def _signed(params: Params) -> tuple[np.ndarray, np.ndarray]:
    """Signed currents (S,) of the synapses, and which of them may change sign: those on AMPA and GABA."""
    t = params.topology
    sign = np.where(t.dendrite == GABA, -1.0, 1.0)
    return sign * params.row_currents(), (t.dendrite == AMPA) | (t.dendrite == GABA)


def _as_it_is(params: Params) -> Start:
    weight, free = _signed(params)
    t = params.topology
    topology = replace(t, dendrite=np.where(t.dendrite == GABA, AMPA, t.dendrite))
    start = replace(params, topology=replace(topology, mask=None), weight=np.abs(weight), base=None)
    return Start(start, weight, free, np.asarray(params.base, float))


def _rows_each(params: Params, device: Device, most: int) -> np.ndarray:
    """CAM rows of every connection (S,): as many for all of a neuron as it can give, what is left to its largest weights.

    A further row of a large weight halves it, and makes room for finer levels of the small ones.
    """
    t, size = params.topology, params.row_currents()
    count = np.bincount(t.post, minlength=t.n_neurons)
    each = np.clip(device.cam_rows // np.maximum(count, 1), 1, most)[t.post]
    spare = device.cam_rows - np.bincount(t.post, each, t.n_neurons).astype(int)
    for _ in range(int(spare.max(initial=0))):
        part = np.where((each < most) & (spare[t.post] > 0), size / each, 0.0)
        order = np.lexsort((part, t.post))
        last = order[np.r_[np.flatnonzero(np.diff(t.post[order])), len(order) - 1]]  # the largest of each neuron
        given = last[part[last] > 0]
        if not len(given):
            break
        each[given] += 1
        spare[t.post[given]] -= 1
    return each


def _spread(params: Params, each: np.ndarray, key: int) -> Params:
    """Every synapse as `each` (S,) parallel ones that add up to it."""
    t = params.topology
    which = np.repeat(np.arange(t.n_synapses), each)
    rng = np.random.default_rng((key, 5))
    part = 1 + JITTER * rng.uniform(-1, 1, len(which)) * (each[which] > 1)
    part /= np.bincount(which, part, t.n_synapses)[which]
    delay = None if t.delay is None else t.delay[which]
    post = t.post[which]
    topology = replace(t, pre=t.pre[which], post=post, dendrite=t.dendrite[which], row=row_numbers(post), delay=delay)
    return replace(params, weight=params.row_currents()[which] * part, topology=topology)


def _refractory(params: Params, shortest: float) -> Params:
    """The same with refractory periods of `shortest` s at least."""
    most = float(params.circuit.width("i_ref", shortest))
    return replace(params, bias={**params.bias, "i_ref": np.minimum(params.bias["i_ref"], most)})


def _with_gains(params: Params, device: Device, bits: int) -> Start:
    """The same weights with gains of AMPA and GABA that make a current worth the same in both, so that signs can change.

    The largest weight of a group takes `HEADROOM` of what base currents can add up to.
    """
    t, circuit = params.topology, params.circuit
    charge = params.row_currents() * event_charge(params)
    weight, free = _signed(params)
    bias = {name: np.asarray(params.bias[name], float).copy() for name in CURRENTS}
    group = t.group[t.post]
    used = np.zeros((len(DENDRITES), t.n_groups), bool)
    used[t.dendrite, group] = True
    for mine, other in (("gaba", "ampa"), ("ampa", "gaba")):  # a dendrite that is not used is like the other
        copy = ~used[DENDRITES.index(mine)] & used[DENDRITES.index(other)]
        like = circuit.tau(f"i_tau_{mine}", circuit.tau(f"i_tau_{other}", bias[f"i_tau_{other}"]))
        bias[f"i_tau_{mine}"] = np.where(copy, like, bias[f"i_tau_{mine}"])
    per_gain = charge_per_ampere(circuit, {**bias, **{name: np.ones(t.n_groups) for name in WEIGHT_GAINS}})
    for dendrites in ((AMPA, GABA), (NMDA,), (3,)):
        inside = np.isin(t.dendrite, dendrites)
        largest = np.zeros(t.n_groups)
        np.maximum.at(largest, group[inside], charge[inside])
        for d in dendrites:
            low, high = biasgen.reach(WEIGHT_GAINS[d])
            gain = np.clip(largest / (HEADROOM * device.weight_top * per_gain[d]), low, high)
            bias[WEIGHT_GAINS[d]] = np.where(largest > 0, gain, bias[WEIGHT_GAINS[d]])
    params = replace(params, bias=bias, weight=None)
    size = charge / event_charge(params)
    topology = replace(t, dendrite=np.where(t.dendrite == GABA, AMPA, t.dendrite))
    base = np.stack([_levels(size[group == g], device.weight_top, bits) for g in range(t.n_groups)])
    start = replace(params, weight=size, topology=topology)
    return Start(start, np.where(weight < 0, -size, size), free, base)


def _levels(size: np.ndarray, top: float, bits: int) -> np.ndarray:
    """Base currents (4,) whose levels suit the weight currents of a group: the best ones, spread to reach up to `top`.

    Only the first `bits` make levels.
    """
    ladder, rest = top * 2.0 ** np.arange(bits) / (2**bits - 1), np.full(len(BASE_WEIGHTS) - bits, top)
    if len(np.unique(size)) < bits:
        return np.r_[ladder, rest]
    size = size[np.argsort(size, kind="stable")[:: max(1, len(size) // MOST_FITTED)]]
    found = quantise_weights(size, n_base=bits, importance=importance_of(size)).base
    return np.r_[np.maximum(found, ladder[0] * 1e-2) * max(1.0, HEADROOM * top / found.sum()), rest]
