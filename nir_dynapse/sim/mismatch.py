"""Virtual chips: the fixed log-normal factor of every analog element, keyed by its place on silicon.

The factor of an element is a function of (seed, chip, core, slot, element): a counter-based generator hashes these five
numbers, so a network that is placed elsewhere on the same virtual chip meets other factors, and the same place gives the
same factor whatever else is on the chip. factor = exp(σ·z − σ²/2) with σ² = ln(1 + CV²): mean 1, always positive. The
exponent is clipped to ±`LARGEST`, which no draw reaches up to a CV of 5: currents stay positive and finite at any CV.

A real chip that was calibrated has measured factors instead of drawn ones (`as_measured`).
"""

from __future__ import annotations

from dataclasses import replace

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


def factors(seed: int, place: np.ndarray, element: np.ndarray | int, cv: float | np.ndarray) -> np.ndarray:
    """Log-normal factors of mean 1 for elements at `place` (n, 3) = chip, core, slot of virtual chip `seed`.

    (n,), or (kinds, n) for columns `element` (kinds, 1) and `cv` (kinds, 1), none of which is 0.
    """
    if np.ndim(cv) == 0 and cv == 0:
        return np.ones(len(place))
    capped = np.minimum(cv, 1e150)  # its square is finite
    sigma = np.sqrt(np.log1p(capped * capped))
    z = _normal(*_words(seed, place, element))
    return np.exp(np.clip(sigma * z - sigma * sigma / 2, -LARGEST, LARGEST))


def dead(seed: int, place: np.ndarray, element: np.ndarray | int, fraction: float) -> np.ndarray:
    """Boolean (n,): which elements do not work; those dead at a smaller `fraction` are so at a larger one."""
    uniform = (_hash(*_words(seed, place, element), 3) >> np.uint64(11)).astype(float) / 2.0**53
    return uniform < fraction


def _words(seed: int, place: np.ndarray, element: np.ndarray | int) -> tuple[np.ndarray | int, ...]:
    return int(seed) & (2**63 - 1), place[:, 0], place[:, 1], place[:, 2], element


def fabricate(params: Params, mismatch: Mismatch, seed: int) -> Params:
    """The same circuit on virtual chip `seed`: every bias current of every neuron and every CAM row times its factor.

    One bias group per neuron in the result; weights become row currents. Where weights are quantised each of the four
    transistors of a row has its own factor, otherwise the row as a whole has one. The CVs of the delays act per row, in
    `delay_factor`, not on their currents. Dead neurons get a threshold that no membrane reaches, dead rows a weight of 0.
    """
    t = params.topology
    bias = {}
    drawn = [(name, cv) for name, cv in mismatch.cv if name not in DELAYS and cv != 0]
    if drawn:  # all at once: NumPy's calls take longer than what they do
        element, cv = (
            np.array(part)[:, None] for part in ([CURRENTS.index(n) for n, _ in drawn], [c for _, c in drawn])
        )
        table = factors(seed, t.place, element, cv)
        bias = {name: params.per_neuron(name) * row for (name, _), row in zip(drawn, table, strict=True)}
    for name in CURRENTS:
        bias.setdefault(name, params.per_neuron(name))
    places = t.place[t.post]
    if mismatch.dead_neurons:
        silent = dead(seed, t.place, DEAD_NEURON_ELEMENT, mismatch.dead_neurons)
        bias["i_spkthr"] = np.where(silent, DEAD_THRESHOLD, bias["i_spkthr"])
    first = ROW_ELEMENTS + t.row * (len(BASE_WEIGHTS) + 1)
    if t.mask is None:
        weight = params.row_currents() * factors(seed, places, first, mismatch.synapse)
    else:
        base = np.asarray(params.base)[t.group[t.post]]
        weight = np.zeros(t.n_synapses)
        for bit in range(len(BASE_WEIGHTS)):
            on = (t.mask >> bit) & 1
            weight += on * base[:, bit] * factors(seed, places, first + 1 + bit, mismatch.synapse)
    rows = t.row.astype(np.int64)
    if mismatch.dead_rows:
        weight = np.where(dead(seed, places, DEAD_ROW_ELEMENTS + rows, mismatch.dead_rows), 0.0, weight)
    topology = replace(t, group=np.arange(t.n_neurons), mask=None)
    delay_factor = _delay_factor(params, mismatch, seed)
    return replace(params, bias=bias, weight=weight, base=None, topology=topology, delay_factor=delay_factor)


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


def _delay_factor(params: Params, mismatch: Mismatch, seed: int) -> np.ndarray | None:
    """Factor on the delay of each CAM row (S,): that of its one or two delay elements, by their nominal share of it."""
    t, cvs = params.topology, dict(mismatch.cv)
    if t.delay is None:
        return params.delay_factor
    nominal, real = np.zeros(t.n_synapses), np.zeros(t.n_synapses)
    for k, name in enumerate(DELAYS):
        width = np.where(t.has_delay(name), params.circuit.width(name, params.per_neuron(name)[t.post]), 0.0)
        element = DELAY_ELEMENTS + t.row.astype(np.int64) * len(DELAYS) + k
        nominal += width
        real += width * factors(seed, t.place[t.post], element, cvs.get(name, 0.0))
    factor = np.where(t.delay > 0, real / np.where(t.delay > 0, nominal, 1.0), 1.0)
    return factor if params.delay_factor is None else factor * np.asarray(params.delay_factor)
