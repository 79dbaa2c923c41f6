"""Virtual chips: the fixed log-normal factor of every analog element, keyed by its place on silicon.

The factor of an element is a function of (seed, chip, core, slot, element): a counter-based generator hashes these five
numbers, so a network that is placed elsewhere on the same virtual chip meets other factors, and the same place gives the
same factor whatever else is on the chip. factor = exp(σ·z − σ²/2) with σ² = ln(1 + CV²): mean 1, always positive. The
exponent is clipped to ±`LARGEST`, which no draw reaches up to a CV of 5: currents stay positive and finite at any CV.

A real chip that was calibrated has measured factors instead of drawn ones (`as_measured`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, DEAD_THRESHOLD, DELAYS, Device, Mismatch
from nir_dynapse.circuit.params import Params

__all__ = ["as_measured", "fabricate", "factors"]

ROW_ELEMENTS = 1 << 10  # element numbers from here on are CAM rows: ROW_ELEMENTS + row·(bits + 1) + bit
DELAY_ELEMENTS = 1 << 32  # DELAY_ELEMENTS + row·(delays) + delay; far from the rows of a network not yet placed
DEAD_ROW_ELEMENTS = 1 << 33
DEAD_NEURON_ELEMENT = 1 << 34
LARGEST = 20.0
"""Largest |ln factor|: a factor of 5e8."""


def _mixed(state: np.ndarray, word: np.ndarray | int) -> np.ndarray:
    """One word more in splitmix64 (Steele, Lea and Flood 2014), elementwise; `state` and `word` are broadcast."""
    with np.errstate(over="ignore"):
        z = state ^ (np.asarray(word).astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + np.uint64(1))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _hashed(seed: int, place: np.ndarray) -> np.ndarray:
    """The hash (n,) of virtual chip and `place` (n, 3), which all elements there begin with."""
    state = np.asarray(np.uint64(0x9E3779B97F4A7C15))
    for word in (int(seed) & (2**63 - 1), place[:, 0], place[:, 1], place[:, 2]):
        state = _mixed(state, word)
    return state


def _uniform(state: np.ndarray, k: int, shift: float = 0.0) -> np.ndarray:
    """The k-th uniform draw of elements with hash `state`, in steps of 2^-53 from shift·2^-53 on."""
    return ((_mixed(state, k) >> np.uint64(11)).astype(float) + shift) / 2.0**53


def _factors(state: np.ndarray, element: np.ndarray | int, cv: np.ndarray | float) -> np.ndarray:
    """Log-normal factors of mean 1 for elements of places with hash `state`; all three are broadcast.

    Standard normal draws by Box–Muller on two hashed uniforms.
    """
    capped = np.minimum(np.asarray(cv, float), 1e150)  # its square is finite
    sigma = np.sqrt(np.log1p(capped * capped))
    state = _mixed(state, element)
    z = np.sqrt(-2 * np.log(_uniform(state, 1, 0.5))) * np.cos(2 * np.pi * _uniform(state, 2, 0.5))
    return np.exp(np.clip(sigma * z - sigma * sigma / 2, -LARGEST, LARGEST))


def factors(seed: int, place: np.ndarray, element: np.ndarray | int, cv: float) -> np.ndarray:
    """Log-normal factors of mean 1 for elements at `place` (n, 3) = chip, core, slot of virtual chip `seed`."""
    return _factors(_hashed(seed, place), element, cv) if cv else np.ones(len(place))


def dead(state: np.ndarray, element: np.ndarray | int, fraction: float) -> np.ndarray:
    """Boolean (n,): which elements of places with hash `state` do not work; those dead at a smaller `fraction` are so at a
    larger one.
    """
    return _uniform(_mixed(state, element), 3) < fraction


def fabricate(params: Params, mismatch: Mismatch, seed: int) -> Params:
    """The same circuit on virtual chip `seed`: every bias current of every neuron and every CAM row times its factor.

    One bias group per neuron in the result; weights become row currents. Where weights are quantised each of the four
    transistors of a row has its own factor, otherwise the row as a whole has one. The CVs of the delays act per row, in
    `delay_factor`, not on their currents. Dead neurons get a threshold that no membrane reaches, dead rows a weight of 0.
    """
    t = params.topology
    varied = tuple((name, cv) for name, cv in mismatch.cv if name not in DELAYS and cv)
    state, factor = _of_neurons(int(seed), np.ascontiguousarray(t.place, np.int64).tobytes(), varied)
    there = state[t.post]
    bias = {name: params.per_neuron(name) for name in CURRENTS}
    bias |= {name: bias[name] * factor[k] for k, (name, _) in enumerate(varied)}
    if mismatch.dead_neurons:
        silent = dead(state, DEAD_NEURON_ELEMENT, mismatch.dead_neurons)
        bias["i_spkthr"] = np.where(silent, DEAD_THRESHOLD, bias["i_spkthr"])
    first = ROW_ELEMENTS + t.row * (len(BASE_WEIGHTS) + 1)
    if t.mask is None:
        weight = params.row_currents() * (_factors(there, first, mismatch.synapse) if mismatch.synapse else 1.0)
    else:
        bit, row = np.nonzero((t.mask >> np.arange(len(BASE_WEIGHTS))[:, None]) & 1)
        flowing = np.asarray(params.base)[t.group[t.post[row]], bit]
        if mismatch.synapse:
            flowing = flowing * _factors(there[row], first[row] + 1 + bit, mismatch.synapse)
        weight = np.bincount(row, flowing, t.n_synapses)  # adds up bit by bit
    rows = t.row.astype(np.int64)
    if mismatch.dead_rows:
        weight = np.where(dead(there, DEAD_ROW_ELEMENTS + rows, mismatch.dead_rows), 0.0, weight)
    topology = replace(t, group=np.arange(t.n_neurons), mask=None)
    delay_factor = _delay_factor(params, mismatch, there)
    return replace(params, bias=bias, weight=weight, base=None, topology=topology, delay_factor=delay_factor)


@lru_cache(maxsize=4)
def _of_neurons(seed: int, place: bytes, varied: tuple[tuple[str, float], ...]) -> tuple[np.ndarray, np.ndarray]:
    """Hash (N,) of each `place` (N, 3) of virtual chip `seed`, and the factors (varied, N) of its bias currents.

    Hashes, logarithms and cosines are what takes time: a board that is configured anew meets the same ones.
    """
    state = _hashed(seed, np.frombuffer(place, np.int64).reshape(-1, 3))
    element = np.array([CURRENTS.index(name) for name, _ in varied], int)[:, None]
    return state, _factors(state, element, np.array([cv for _, cv in varied], float)[:, None])


def as_measured(params: Params, device: Device) -> Params:
    """The circuit on the chips that were measured: every bias current of every neuron times its factor at that place.

    `params` holds the mean currents of the cores, as `layout_to_params` gives them for `device`. As in `fabricate` there is
    one bias group per neuron and weights become row currents, with the factors of the four base currents in the neuron that
    they belong to (their mean where a weight has no mask). Unknown factors are 1.
    """
    t = params.topology
    bias = {name: params.per_neuron(name) * device.factors(name, t.place) for name in CURRENTS}
    factor = np.stack([device.factors(name, t.place) for name in BASE_WEIGHTS], 1)[t.post]
    if t.mask is None:
        weight = params.row_currents() * factor.mean(1)
    else:
        on = (t.mask[:, None] >> np.arange(len(BASE_WEIGHTS))) & 1
        weight = (on * np.asarray(params.base)[t.group[t.post]] * factor).sum(1)
    topology = replace(t, group=np.arange(t.n_neurons), mask=None)
    return replace(params, bias=bias, weight=weight, base=None, topology=topology)


def _delay_factor(params: Params, mismatch: Mismatch, there: np.ndarray) -> np.ndarray | None:
    """Factor on the delay of each CAM row (S,): that of its one or two delay elements, by their nominal share of it.

    there: hash of the place of each row.
    """
    t, cvs = params.topology, dict(mismatch.cv)
    if t.delay is None:
        return params.delay_factor
    nominal, real = np.zeros(t.n_synapses), np.zeros(t.n_synapses)
    for k, name in enumerate(DELAYS):
        width = np.where(t.has_delay(name), params.circuit.width(name, params.per_neuron(name)[t.post]), 0.0)
        element = DELAY_ELEMENTS + t.row.astype(np.int64) * len(DELAYS) + k
        nominal += width
        real += width * (_factors(there, element, cv) if (cv := cvs.get(name, 0.0)) else 1.0)
    factor = np.where(t.delay > 0, real / np.where(t.delay > 0, nominal, 1.0), 1.0)
    return factor if params.delay_factor is None else factor * np.asarray(params.delay_factor)
