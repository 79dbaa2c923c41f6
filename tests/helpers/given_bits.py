"""Networks with Params that are quantised already, and what must be the same of two of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np

from nir_dynapse.chip import biasgen
from nir_dynapse.chip.device import AMPA, BASE_WEIGHTS, CURRENTS, GABA, WEIGHT_GAINS
from nir_dynapse.circuit.closed_form import row_numbers, to_params
from nir_dynapse.circuit.params import Params, latch_bits
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network, Port, Projection
from nir_dynapse.quant.compiler import compile
from nir_dynapse.sim.simulation import simulate
from random_networks import build
from small_networks import population, recurrent


def nearest(name: str, amperes) -> np.ndarray:
    """The nearest currents on the grid of the bias generator."""
    coarse, fine, _ = biasgen.nearest_codes(name, amperes)
    return np.asarray(biasgen.current(name, coarse, fine))


def hand_made(seed: int, n: int = 40, groups: int = 2, fan_in: int = 12) -> tuple[Network, Params]:
    """Random rows: parallel ones, all dendrites and masks (0, too), delays; groups with base currents of their own."""
    rng = np.random.default_rng(seed)
    net = recurrent(seed, 6, n, 4)
    plain = to_params(net)
    t = plain.topology
    pre = rng.choice(np.delete(np.arange(t.n_sources), t.tonic), t.n_neurons * (fan_in // 2))
    post = rng.permutation(np.repeat(np.arange(t.n_neurons), fan_in // 2))
    twice = rng.integers(0, len(pre), len(pre) // 3)
    pre, post = np.r_[pre, pre[twice]], np.r_[post, post[twice]]
    topology = replace(
        t,
        group=np.arange(t.n_neurons) * groups // t.n_neurons,
        pre=pre,
        post=post,
        dendrite=rng.choice(4, len(pre), p=(0.7, 0.1, 0.15, 0.05)),
        row=row_numbers(post),
        mask=np.where(rng.random(len(pre)) < 0.1, 0, rng.integers(0, 16, len(pre))),
        delay=rng.integers(0, 4, len(pre)),
        latches=np.full(t.n_neurons, latch_bits(adaptation=bool(seed % 2))),
    )
    spread = {"i_tau_mem": 0.4, "i_tau_ampa": 0.2, "i_delay_precise": 0.3, **dict.fromkeys(WEIGHT_GAINS, 0.3)}
    alike = {f"i_{part}_{d}": f"i_{part}_ampa" for part in ("tau", "gain") for d in ("nmda", "gaba", "shunt")}
    bias = {}
    for name in CURRENTS:
        typical = 2e-10 if name.startswith("i_delay") else plain.bias[alike.get(name, name)][0]
        bias[name] = nearest(name, typical * np.exp(rng.normal(0, spread.get(name, 0.0), groups)))
    base = [nearest(name, 2.0**b * 1.5e-8 * np.exp(rng.normal(0, 0.5, groups))) for b, name in enumerate(BASE_WEIGHTS)]
    return net, Params(bias, None, np.stack(base, 1), topology, plain.circuit)


def quantised(family: str, seed: int, n: int, **options: str) -> tuple[Network, Params]:
    net = build(family, seed, n, output="all", **options)  # type: ignore[arg-type]
    return net, layout_to_params(compile(net))


CASES = {
    "sparse": lambda: quantised("sparse", 1, 60),
    "recurrent": lambda: quantised("recurrent", 2, 80, groups="interleaved", leak="random"),
    "parallel": lambda: quantised("parallel", 3, 50, groups="halves", leak="equal"),
    "blocks": lambda: quantised("blocks", 4, 70),
    **{f"hand-made {seed}": (lambda seed=seed: hand_made(seed, groups=1 + seed)) for seed in range(4)},
}


@cache
def case(name: str) -> tuple[Network, Params]:
    """A network and quantised Params for it."""
    return CASES[name]()


def rows_of(params: Params) -> Counter:
    """How often there is each row: source, neuron, dendrite, mask, delay flags and current."""
    t = params.topology
    delay = np.zeros(t.n_synapses, int) if t.delay is None else t.delay
    columns = (t.pre, t.post, t.dendrite, t.mask, delay, params.row_currents())
    return Counter(zip(*(np.asarray(c).tolist() for c in columns), strict=True))


def base_of(params: Params) -> np.ndarray:
    return np.asarray(params.base)[params.topology.group]


def assert_same(got: Params, want: Params) -> None:
    """Bit for bit the same currents of every neuron, and the same rows."""
    for name in CURRENTS:
        assert (got.per_neuron(name) == want.per_neuron(name)).all(), name
    assert (base_of(got) == base_of(want)).all()
    assert (got.topology.latches == want.topology.latches).all()
    assert rows_of(got) == rows_of(want)


def assert_runs_alike(net: Network, one: Layout | Params, other: Layout | Params) -> None:
    """Every spike of every neuron in the same bin."""
    shape = 2, 40, sum(port.size for port in net.inputs)
    x = np.random.default_rng(0).poisson(1.0, shape).astype(float)
    a, b = (simulate(thing, x, backend="numpy") for thing in (one, other))
    assert sum(spikes.sum() for spikes in a.spikes.values()) > 0
    assert all((a.spikes[p.name] == b.spikes[p.name]).all() for p in net.populations)


def codes_of(layout: Layout) -> np.ndarray:
    return layout.codes[layout.core_index]


def crowded(n_in: int) -> tuple[Network, Params]:
    """Four neurons, one of which has `n_in` rows."""
    pre, post = np.r_[np.arange(n_in), 0, 1, 2], np.r_[np.zeros(n_in, int), 1, 2, 3]
    link = Projection("in", "p", pre, post, np.full(len(pre), 0.1), nodes=("w",))
    net = Network((population("p", 4),), (link,), (Port("in", (n_in,)),), (Port("out", (4,), "p"),), 1e-3)
    plain = to_params(net)
    mask = np.arange(1, len(pre) + 1) % 16
    base = np.stack([nearest(name, [1e-8 * 2.0**b]) for b, name in enumerate(BASE_WEIGHTS)], 1)
    bias = {name: nearest(name, value) for name, value in plain.bias.items()}
    return net, Params(bias, None, base, replace(plain.topology, mask=mask), plain.circuit)


def twins(masks: tuple[int, int], base: np.ndarray) -> tuple[Network, Params]:
    """Two sources with a row each to two neurons, with these masks."""
    net, params = crowded(3)
    t = params.topology
    parts = {"pre": [0, 1, 0, 1], "post": [0, 0, 1, 1], "row": [0, 1, 0, 1], "mask": [*masks, *masks]}
    topology = replace(t, **{k: np.array(v) for k, v in parts.items()}, dendrite=np.full(4, AMPA))
    return net, replace(params, base=base, topology=topology)


def trained(params: Params, seed: int) -> Params:
    """Other masks, other signs, other base currents and gains."""
    rng = np.random.default_rng(seed)
    t = params.topology
    excites = rng.random(t.n_synapses) < 0.7
    flipped = np.where(np.isin(t.dendrite, (AMPA, GABA)), np.where(excites, AMPA, GABA), t.dendrite)
    bias = dict(params.bias)
    for name in ("i_gain_ampa", "i_gain_gaba", "i_tau_mem"):
        bias[name] = nearest(name, bias[name] * np.exp(rng.normal(0, 0.2, len(bias[name]))))
    base = [nearest(name, params.base[:, b] * rng.uniform(0.5, 1.5)) for b, name in enumerate(BASE_WEIGHTS)]
    topology = replace(t, dendrite=flipped, mask=rng.integers(0, 16, t.n_synapses))
    return replace(params, bias=bias, base=np.stack(base, 1), topology=topology)
