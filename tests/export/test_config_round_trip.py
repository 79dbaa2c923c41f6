"""Configuration → NIR → compile → configuration, without any names: the same network, up to the rounding of weights.

What is compared is what the circuit does: charges per event (parallel rows added), time constants, constant input and
refractory time. Networks that `compile` made get back their very codes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import nir_dynapse as nd
from lab_configs import LABS
from nir_dynapse.backend import to_nir
from nir_dynapse.chip.device import COLUMN, DENDRITES, DYNAPSE2, GABA
from nir_dynapse.circuit.closed_form import INHIBITION_STRETCH, event_charge
from nir_dynapse.export.configuration import Dynapse2Configuration
from nir_dynapse.export.samna_config import to_samna
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from random_networks import FAMILIES, build

quick = settings(phases=(Phase.explicit, Phase.reuse, Phase.generate))  # smaller networks would say no more
SIGN = np.array([1.0, 1.0, -1.0, -1.0])
CODE = 0.02
"""Relative difference that rounding to codes may make in what is not the same bias on both sides."""


def there_and_back(first: Layout) -> Layout:
    """What `compile` makes of the NIR graph of `first`, read back from its configuration with its own names."""
    device = DYNAPSE2.stack(first.n_chips)
    net = nd.from_nir(to_nir(first, device=device))
    config = to_samna(nd.compile(net, device=device, budget=1.0))
    second = from_samna(config)
    assert second.names == first.names
    assert [port.size for port in second.inputs] == [port.size for port in first.inputs]
    return second


def charges(layout: Layout) -> np.ndarray:
    """Threshold fractions that an event of each source moves each neuron by, (channels + neurons, neurons)."""
    params = layout_to_params(layout)
    t = params.topology
    matrix = np.zeros((t.n_sources, t.n_neurons))
    np.add.at(matrix, (t.pre, t.post), SIGN[t.dendrite] * params.row_currents() * event_charge(params))
    return np.delete(matrix, t.tonic, axis=0)


def constant_input(layout: Layout) -> np.ndarray:
    """Where constant input, DC or events of the tonic channel, settles each membrane, in thresholds."""
    params = layout_to_params(layout)
    t, circuit = params.topology, params.circuit
    leak = params.per_neuron("i_tau_mem")
    dc = params.per_neuron("i_dc") * t.has_latch("dc") * params.per_neuron("i_gain_mem") / leak
    steady = dc / params.per_neuron("i_spkthr")
    if t.tonic_period:
        tonic = t.pre == t.tonic
        charge = SIGN[t.dendrite] * params.row_currents() * event_charge(params)
        each = np.bincount(t.post[tonic], charge[tonic], t.n_neurons)
        steady = steady + each * circuit.tau("i_tau_mem", leak) / t.tonic_period
    return steady


def synaptic_tau(layout: Layout) -> np.ndarray:
    """Time constant in s of the network's synapses that the dendrite with most charge stands for, NaN where none has."""
    params = layout_to_params(layout)
    t, circuit = params.topology, params.circuit
    own = t.pre != t.tonic
    weight = np.abs(params.row_currents() * event_charge(params))
    share = np.zeros((len(DENDRITES), t.n_neurons))
    np.add.at(share, (t.dendrite[own], t.post[own]), weight[own])
    tau = np.stack([circuit.tau(f"i_tau_{name}", params.per_neuron(f"i_tau_{name}")) for name in DENDRITES])
    tau[GABA] /= INHIBITION_STRETCH
    return np.where(share.any(axis=0), tau[np.argmax(share, axis=0), np.arange(t.n_neurons)], np.nan)


def rounding(layout: Layout) -> np.ndarray:
    """The error that compile reports for the core of each neuron, RMS over RMS weight."""
    cores = layout.weight_errors["cores"]
    reported = {key: float(core["nrmse"]) for key, core in cores.items()}
    places = zip(layout.chip.tolist(), layout.core.tolist(), strict=True)
    return np.array([reported.get(f"{chip}.{core}", 0.0) for chip, core in places])


def assert_same_weights(first: Layout, second: Layout) -> None:
    """Core by core within what the second compile says that rounding cost."""
    want, got = charges(first), charges(second)
    reported = rounding(second)
    for core in np.unique(second.core_index).tolist():
        here = second.core_index == core
        mean = np.sqrt(np.sum(want[:, here] ** 2))
        error = np.sqrt(np.sum((got - want)[:, here] ** 2))
        assert error <= 1.01 * reported[here][0] * mean + 1e-6 * mean, (core, error / mean, reported[here][0])


def codes_differ(first: Layout, second: Layout, name: str) -> np.ndarray:
    """Which neurons have another code of a bias."""
    a, b = (layout.codes[layout.core_index, COLUMN[name]] for layout in (first, second))
    return (a != b).any(axis=1)


def listens(layout: Layout, dendrite: int) -> np.ndarray:
    """Which neurons have a row with weight on a dendrite."""
    return ((layout.cam["dendrite"] == dendrite) & (layout.cam["mask"] > 0)).any(axis=1)


def scaled(net: Network, dt: float, spread: np.ndarray) -> Network:
    """The network at another step, with other time constants of each population (factors, (populations, 2))."""
    scale = dt / net.dt
    populations = []
    for p, (mem, syn) in zip(net.populations, spread.tolist(), strict=True):
        tau_syn = None if p.tau_syn is None else p.tau_syn * scale * syn
        populations.append(replace(p, tau_mem=p.tau_mem * scale * mem, tau_syn=tau_syn))
    return replace(net, populations=tuple(populations), dt=dt)


def assert_compiled_comes_back(net: Network, n_chips: int, **options: Any) -> None:
    """The same codes of time constants and refractory time, and the same weights and constant input."""
    first = nd.compile(net, device=DYNAPSE2.stack(n_chips), budget=1.0, **options)
    read = from_samna(to_samna(first), names=False)
    second = there_and_back(read)
    for name in ("i_tau_mem", "i_ref"):
        assert not codes_differ(read, second, name).any(), name
    for dendrite, name in enumerate(DENDRITES):
        both = listens(read, dendrite) & listens(second, dendrite)
        assert not (codes_differ(read, second, f"i_tau_{name}") & both).any(), name
    assert int(second.used_cores.sum()) <= int(read.used_cores.sum())  # cores that were set alike may become one
    assert_same_weights(read, second)
    np.testing.assert_allclose(constant_input(second), constant_input(read), rtol=CODE, atol=1e-9)


@st.composite
def compiled(draw: st.DrawFn) -> tuple[Network, int]:
    """A random network of any step, time constants and constant input, and the chips that it gets."""
    net = build(draw(st.sampled_from([*FAMILIES])), draw(st.integers(0, 10**6)), draw(st.integers(20, 150)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    dt = draw(st.sampled_from([1e-3, 5e-4, 2e-3]) | st.floats(2e-4, 5e-3))
    net = scaled(net, dt, rng.uniform(0.4, 3, (len(net.populations), 2)))
    kind = draw(st.sampled_from(["none", "dc", "tonic"]))
    levels = {"none": 0.0, "dc": 0.3, "tonic": None}
    populations = []
    for p in net.populations:
        level = rng.uniform(0, 0.5, p.size) if levels[kind] is None else levels[kind]
        populations.append(replace(p, v_leak=p.v_threshold * level))
    return replace(net, populations=tuple(populations)), draw(st.integers(1, 3))


@pytest.mark.long
@given(compiled())
@settings(quick, max_examples=6)
def test_excitatory_networks_come_back(case: tuple[Network, int]) -> None:
    net, n_chips = case
    projections = tuple(replace(q, weight=np.abs(q.weight)) for q in net.projections)
    assert_compiled_comes_back(replace(net, projections=projections), n_chips)


@pytest.mark.long
@given(compiled())
@settings(quick, max_examples=12)
def test_networks_come_back(case: tuple[Network, int]) -> None:
    assert_compiled_comes_back(*case)


@pytest.mark.long
@pytest.mark.parametrize("options", [{"monitor": "all"}, {"share_tags": True}, {"spare_rows": False}], ids=str)
def test_options_of_compile_come_back(options: dict[str, Any]) -> None:
    assert_compiled_comes_back(build("recurrent", 4, 200), 2, **options)


@pytest.mark.parametrize("name", LABS)
def test_labs_come_back(name: str) -> None:
    """Currents of 50 nA to 0.4 µA, thresholds of 2 to 13 nA, repeated rows, shared tags, two chips, any dendrite."""
    make, n_chips = LABS[name]
    first = from_samna(make(Dynapse2Configuration(n_chips)))
    second = there_and_back(first)
    assert_same_weights(first, second)
    for bias in ("i_tau_mem", "i_ref"):
        assert not codes_differ(first, second, bias).any(), bias
    np.testing.assert_allclose(synaptic_tau(second), synaptic_tau(first), rtol=CODE)
    np.testing.assert_allclose(constant_input(second), constant_input(first), rtol=CODE, atol=1e-9)
    read = from_samna(to_samna(second), names=False)
    assert_same_weights(read, there_and_back(read))
