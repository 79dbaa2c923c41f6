"""Virtual chips keep their factors: what `fabricate` makes is, bit by bit, each element's own draw by the plain formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip.device import BASE_WEIGHTS, CURRENTS, DEAD_THRESHOLD, DELAYS, DYNAPSE2, Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.mismatch import (
    DEAD_NEURON_ELEMENT,
    DEAD_ROW_ELEMENTS,
    DELAY_ELEMENTS,
    LARGEST,
    ROW_ELEMENTS,
    fabricate,
    factors,
)
from random_networks import build

WORDS = (1 << 64) - 1


def hashed(*words: int) -> int:
    """splitmix64 over the words, in whole numbers."""
    state = 0x9E3779B97F4A7C15
    for word in words:
        z = state ^ ((word * 0xD1342543DE82EF95 + 1) & WORDS)
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORDS
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORDS
        state = z ^ (z >> 31)
    return state


def uniform(seed: int, place: np.ndarray, element: np.ndarray, k: int) -> np.ndarray:
    """The 53 bits (n,) of draw k, as numbers."""
    rows = zip(place.tolist(), np.broadcast_to(element, len(place)).tolist(), strict=True)
    return np.array([hashed(seed & (2**63 - 1), *where, e, k) >> 11 for where, e in rows], float)


def drawn(seed: int, place: np.ndarray, element: np.ndarray | int, cv: float) -> np.ndarray:
    """exp(σ·z − σ²/2), z by Box–Muller."""
    if cv == 0:
        return np.ones(len(place))
    u1, u2 = ((uniform(seed, place, np.asarray(element), k) + 0.5) / 2.0**53 for k in (1, 2))
    z = np.sqrt(-2 * np.log(u1)) * np.cos(2 * np.pi * u2)
    sigma = np.sqrt(np.log1p(min(cv, 1e150) ** 2))
    return np.exp(np.clip(sigma * z - sigma * sigma / 2, -LARGEST, LARGEST))


def plain(params: Params, mismatch: Mismatch, seed: int) -> dict[str, np.ndarray]:
    """Bias currents and weights of a virtual chip, one kind of element after the other."""
    t = params.topology
    cvs = {name: cv for name, cv in mismatch.cv if name not in DELAYS}
    made = {
        name: params.per_neuron(name) * drawn(seed, t.place, k, cvs.get(name, 0.0)) for k, name in enumerate(CURRENTS)
    }
    silent = uniform(seed, t.place, np.asarray(DEAD_NEURON_ELEMENT), 3) / 2.0**53 < mismatch.dead_neurons
    made["i_spkthr"] = np.where(silent, DEAD_THRESHOLD, made["i_spkthr"])
    there, rows = t.place[t.post], t.row.astype(np.int64)
    if t.mask is None:
        weight = params.row_currents() * drawn(seed, there, ROW_ELEMENTS + 5 * rows, mismatch.synapse)
    else:
        weight = np.zeros(t.n_synapses)
        for bit in range(len(BASE_WEIGHTS)):
            base = np.asarray(params.base)[t.group[t.post], bit]
            of_bit = drawn(seed, there, ROW_ELEMENTS + 5 * rows + 1 + bit, mismatch.synapse)
            weight += ((t.mask >> bit) & 1) * base * of_bit
    lost = uniform(seed, there, DEAD_ROW_ELEMENTS + rows, 3) / 2.0**53 < mismatch.dead_rows
    return {**made, "weight": np.where(lost, 0.0, weight)}


@pytest.fixture(scope="module")
def circuits() -> list[Params]:
    net = build("recurrent", 2, 40)
    return [to_params(net), nd.to_params(nd.compile(net, device=replace(DYNAPSE2.stack(2), neurons_per_core=6)))]


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 1])
@pytest.mark.parametrize(
    "mismatch",
    [
        Mismatch(),
        Mismatch.none(),
        replace(Mismatch(), dead_neurons=0.2, dead_rows=0.3),
        replace(Mismatch.none(), synapse=1e6, dead_rows=0.1),
        replace(Mismatch(), synapse=0.0),
    ],
    ids=["silicon", "none", "dead", "rows only", "no rows"],
)
def test_every_factor_is_its_own_draw(circuits: list[Params], mismatch: Mismatch, seed: int) -> None:
    for params in circuits:
        made, expected = fabricate(params, mismatch, seed), plain(params, mismatch, seed)
        for name, value in expected.items():
            got = made.weight if name == "weight" else made.bias[name]
            np.testing.assert_array_equal(np.asarray(got), value, err_msg=name)


def test_delays_are_drawn_by_row(circuits: list[Params]) -> None:
    for params in circuits:
        t = params.topology
        late = replace(params, topology=replace(t, delay=np.arange(t.n_synapses) % 4))
        seed, cvs = 3, dict(Mismatch().cv)
        nominal, real = np.zeros(t.n_synapses), np.zeros(t.n_synapses)
        for k, name in enumerate(DELAYS):
            has = late.topology.has_delay(name)
            width = np.where(has, params.circuit.width(name, params.per_neuron(name)[t.post]), 0.0)
            element = DELAY_ELEMENTS + t.row.astype(np.int64) * len(DELAYS) + k
            nominal, real = nominal + width, real + width * drawn(seed, t.place[t.post], element, cvs[name])
        expected = np.where(nominal > 0, real / np.where(nominal > 0, nominal, 1.0), 1.0)
        got = fabricate(late, Mismatch(), seed).delay_factor
        np.testing.assert_array_equal(np.asarray(got), expected)
        assert len(np.unique(expected)) > 5


def test_single_factors() -> None:
    place = np.array([[0, 0, 0], [1, 3, 255], [6, 2, 17]])
    for cv in (0.0, 0.1, 5.0, 1e300):
        np.testing.assert_array_equal(factors(11, place, 40, cv), drawn(11, place, 40, min(cv, 1e150)))
