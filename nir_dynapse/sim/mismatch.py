"""Virtual chips: the fixed log-normal factor of every analog element, keyed by its place on silicon.

The factor of an element is a function of (seed, chip, core, slot, element): a counter-based generator hashes these five
numbers, so a network that is placed elsewhere on the same virtual chip meets other factors, and the same place gives the
same factor whatever else is on the chip. factor = exp(σ·z − σ²/2) with σ² = ln(1 + CV²): mean 1, always positive.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.device import BASE_WEIGHTS, CURRENTS, Mismatch
from nir_dynapse.params import Params

__all__ = ["fabricate", "factors"]

ROW_ELEMENTS = 1 << 10  # element numbers from here on are CAM rows: ROW_ELEMENTS + row·(bits + 1) + bit


def _hash(*words: np.ndarray | int) -> np.ndarray:
    """splitmix64 over the words, elementwise (Steele, Lea and Flood 2014)."""
    state = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        for word in words:
            z = state ^ (np.asarray(word).astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + np.uint64(1))
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = z ^ (z >> np.uint64(31))
    return np.asarray(state)


def _normal(*words: np.ndarray | int) -> np.ndarray:
    """Standard normal draws keyed by the words (Box–Muller on two hashed uniforms)."""
    first, second = (_hash(*words, k) >> np.uint64(11) for k in (1, 2))
    u1, u2 = (first.astype(float) + 0.5) / 2.0**53, (second.astype(float) + 0.5) / 2.0**53
    return np.sqrt(-2 * np.log(u1)) * np.cos(2 * np.pi * u2)


def factors(seed: int, place: np.ndarray, element: np.ndarray | int, cv: float) -> np.ndarray:
    """Log-normal factors of mean 1 for elements at `place` (n, 3) = chip, core, slot of virtual chip `seed`."""
    if cv == 0:
        return np.ones(len(place))
    sigma = np.sqrt(np.log1p(cv * cv))
    z = _normal(int(seed) & (2**63 - 1), place[:, 0], place[:, 1], place[:, 2], element)
    return np.exp(sigma * z - sigma * sigma / 2)


def fabricate(params: Params, mismatch: Mismatch, seed: int) -> Params:
    """The same circuit on virtual chip `seed`: every bias current of every neuron and every CAM row times its factor.

    One bias group per neuron in the result; weights become row currents. Where weights are quantised each of the four
    transistors of a row has its own factor, otherwise the row as a whole has one.
    """
    t = params.topology
    bias = {}
    for name, cv in mismatch.cv:
        bias[name] = params.per_neuron(name) * factors(seed, t.place, CURRENTS.index(name), cv)
    for name in CURRENTS:
        bias.setdefault(name, params.per_neuron(name))
    places = t.place[t.post]
    first = ROW_ELEMENTS + t.row * (len(BASE_WEIGHTS) + 1)
    if t.mask is None:
        weight = params.row_currents() * factors(seed, places, first, mismatch.synapse)
    else:
        base = np.asarray(params.base)[t.group[t.post]]
        weight = np.zeros(t.n_synapses)
        for bit in range(len(BASE_WEIGHTS)):
            on = (t.mask >> bit) & 1
            weight += on * base[:, bit] * factors(seed, places, first + 1 + bit, mismatch.synapse)
    topology = replace(t, group=np.arange(t.n_neurons), mask=None)
    return replace(params, bias=bias, weight=weight, base=None, topology=topology)
