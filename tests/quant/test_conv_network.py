"""A convolutional network that fits: folded into synapses, compiled, written, and run on the virtual board."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.network.primitives import graph

RNG = np.random.default_rng(3)


def lif(*shape: int) -> nir.LIF:
    full: dict[str, Any] = {"tau": 0.02, "r": 20.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}
    values: dict[str, Any] = {key: np.full(shape, value) for key, value in full.items()}
    return nir.LIF(**values)


def conv(c_out: int, c_in: int, k: int, stride: int, pad: int, size: int) -> nir.Conv2d:
    weight = RNG.normal(0.06, 0.15, (c_out, c_in, k, k))
    return nir.Conv2d((size, size), weight, stride, pad, 1, 1, np.zeros(c_out))


@pytest.fixture(scope="module")
def network() -> nd.Network:
    """16×16 events of two polarities → 4×8×8 → 8×4×4 → pooled 8×2×2 → 10 classes: 426 neurons."""
    nodes = {
        "in": nir.Input({"input": np.array([2, 16, 16])}),
        "conv1": conv(4, 2, 5, 2, 2, 16),
        "lif1": lif(4, 8, 8),
        "conv2": conv(8, 4, 3, 2, 1, 8),
        "lif2": lif(8, 4, 4),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "gain": nir.Scale(np.full((8, 2, 2), 0.5)),
        "lif3": lif(8, 2, 2),
        "flat": nir.Flatten({"input": np.array([8, 2, 2])}, 0, -1),
        "fc": nir.Linear(RNG.normal(0.1, 0.2, (10, 32))),
        "lif4": lif(10),
        "out": nir.Output({"output": np.array([10])}),
    }
    names = list(nodes)
    return nd.from_nir(graph(nodes, list(pairwise(names)), {"dt": 1e-3}))


@pytest.fixture(scope="module")
def events() -> np.ndarray:
    """A bright bar that moves across the field: counts (2, 60, 512)."""
    x = np.zeros((2, 60, 2, 16, 16), np.float32)
    for t in range(60):
        x[0, t, 0, :, t * 16 // 60] = 1
        x[1, t, 1, t * 16 // 60, :] = 1
    return x.reshape(2, 60, -1)


def test_it_fits_one_chip_with_every_synapse_of_the_kernels(network: nd.Network) -> None:
    assert network.n_neurons == 426
    fan_in = {q.target: int(np.bincount(q.post).max()) for q in network.projections}
    assert fan_in == {"lif1": 50, "lif2": 36, "lif3": 4, "lif4": 32}
    layout = nd.compile(network)
    made = nd.report(layout).projections
    assert sum(n for *_, n in made) == sum(len(q.weight) for q in network.projections)
    assert nd.from_samna(nd.to_samna(layout)) == layout
    assert layout.sizes == {"lif1": 256, "lif2": 128, "lif3": 32, "lif4": 10}


def test_it_runs_on_the_virtual_board_as_the_ideal_network_does(network: nd.Network, events: np.ndarray) -> None:
    ideal = nd.simulate(network, events, ideal=True)
    assert all(0.005 < ideal.spikes[name].mean() < 0.9 for name in ("lif1", "lif2", "lif3", "lif4"))
    layout = nd.compile(network, monitor="all")
    with nd.open_board("virtual:3", mismatch=nd.Mismatch.none()) as board:
        board.apply(layout)
        nominal = board.run_batch(events, 1e-3)
    for name in ("lif1", "lif2", "lif3"):  # rates of whole layers agree; single spikes do not have to
        a, b = ideal.spikes[name].mean((0, 1)), nominal.spikes[name].mean((0, 1))
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9, name
    with nd.open_board("virtual:3") as board:
        board.apply(nd.compile(network))
        out = board.run(nd.Events.from_counts(events[0], 1e-3, "in"), duration=0.06)
    assert set(out.nodes) == {"lif4"}
    assert len(out) > 0


def test_convolutions_survive_the_way_to_nir_and_back(network: nd.Network, tmp_path) -> None:
    path = tmp_path / "conv.nir"
    nir.write(path, nd.to_nir(network))
    again: Any = nir.read(path)  # with nir's own type check
    assert isinstance(again.nodes["conv1"], nir.Conv2d)
    assert again.nodes["lif1"].tau.shape == (4, 8, 8)
    assert nd.from_nir(path).digest() == network.digest()


def test_a_padded_pool_that_is_too_large_is_said_with_its_fan_in(network: nd.Network) -> None:
    g = nd.to_nir(network)
    g.nodes["pool"] = nir.SumPool2d(np.array([4, 4]), np.array([4, 4]), np.array([0, 0]))
    edges = [(a, b) for a, b in g.edges if "lif2" not in (a, b)] + [("conv2", "pool")]
    g.edges = edges
    g.nodes["gain"] = nir.Scale(np.full((8, 1, 1), 0.5))
    g.nodes["lif3"] = lif(8, 1, 1)
    g.nodes["flat"] = nir.Flatten({"input": np.array([8, 1, 1])}, 0, -1)
    g.nodes["fc"] = nir.Linear(np.ones((10, 8)))
    del g.nodes["lif2"]
    with pytest.raises(nd.CapacityError, match=r"8 neurons of node 'lif3': up to 256 incoming synapses, a DYNAP"):
        nd.compile(nd.from_nir(g))
