"""`to_nir` of late connections: nodes as they were read, a Delay on one side of a matrix, or lines between two."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.export.readers import READERS, written_for
from nir_dynapse.network.network import Network, Population, Port, Projection
from nir_dynapse.network.primitives import graph
from nir_graphs import lif, port_in, port_out

DT = 1e-3
RNG = np.random.default_rng(3)


def made(delay: np.ndarray, *, bias: np.ndarray | None = None, dendrite: str | None = None) -> Network:
    """Six channels onto four neurons, connection by connection, `delay` (4, 6) late."""
    post, pre = np.nonzero(np.ones((4, 6)))
    weight = np.round(RNG.uniform(0.1, 1, 24) * 64) / 64
    q = Projection("in", "hidden", pre, post, weight, bias, ("fc",), dendrite, delay=delay.ravel())
    one = np.ones(4)
    p = Population("hidden", "LIF", 0.016 * one, 16 * one, 0 * one, one, 0 * one, shape=(4,))
    return Network((p,), (q,), (Port("in", (6,)),), (Port("out", (4,), "hidden"),), DT)


def rows(net: Network) -> list[tuple[int, int, float, float]]:
    (q,) = net.projections
    late = np.zeros(len(q.pre)) if q.delay is None else q.delay
    return sorted(zip(q.pre.tolist(), q.post.tolist(), late.tolist(), q.weight.tolist(), strict=True))


AXON, DENDRITE = np.arange(6.0)[None] * 1e-3 + np.zeros((4, 1)), np.arange(4.0)[:, None] * 1e-3 + np.zeros((1, 6))


@pytest.mark.parametrize(
    ("delay", "chain"),
    [
        (AXON, ["Delay", "Linear"]),
        (DENDRITE, ["Linear", "Delay"]),
        (AXON + DENDRITE, ["Linear", "Delay", "Linear"]),
    ],
)
def test_written_and_read_back(delay: np.ndarray, chain: list[str]) -> None:
    net = made(delay)
    g = nd.to_nir(net)
    assert [type(node).__name__ for node in g.nodes.values() if isinstance(node, (nir.Linear, nir.Delay))] == chain
    again = nd.from_nir(g)
    assert rows(again) == rows(net)
    assert nd.to_nir(again).edges == g.edges, "and once more"


def test_bias_and_dendrite_go_along() -> None:
    for delay in (AXON, DENDRITE, AXON + DENDRITE):
        net = made(delay, bias=np.array([0.1, 0.2, 0.3, 0.4]), dendrite="nmda")
        again = nd.from_nir(nd.to_nir(net))
        assert rows(again) == rows(net)
        assert again.projections[0].dendrite == "nmda"
        np.testing.assert_allclose(again.bias("hidden"), net.bias("hidden"))


def test_a_late_edge_is_a_delay() -> None:
    n = np.arange(6)
    one = np.ones(6)
    p = Population("hidden", "LIF", 0.016 * one, 16 * one, 0 * one, one, 0 * one, shape=(6,))
    q = Projection("in", "hidden", n, n, one, delay=1e-3 * (n + 1))
    net = Network((p,), (q,), (Port("in", (6,)),), (Port("out", (6,), "hidden"),), DT)
    g = nd.to_nir(net)
    assert [type(node).__name__ for node in g.nodes.values()] == ["Input", "LIF", "Delay", "Output"]
    assert rows(nd.from_nir(g)) == rows(net)


def read_net() -> Network:
    nodes: dict[str, Any] = {"in": port_in(3), "a": nir.Delay(np.array([1.0, 2, 3]) * 1e-3)}
    nodes |= {"fc": nir.Linear(RNG.normal(size=(4, 3))), "b": nir.Delay(np.array([0.0, 5, 7, 9]) * 1e-3)}
    nodes |= {"hidden": lif(4), "out": port_out(4)}
    return nd.from_nir(graph(nodes, list(pairwise(nodes))), dt=DT)


def test_nodes_that_were_read_stay() -> None:
    net = read_net()
    g = nd.to_nir(net)
    assert sorted(g.edges) == sorted(pairwise(["in", "a", "fc", "b", "hidden", "out"]))
    assert nd.from_nir(g).digest() == net.digest()
    twice = nd.to_nir(nd.from_nir(g, time_scale=2.0))
    np.testing.assert_allclose(vars(twice.nodes["b"])["delay"], np.array([0.0, 10, 14, 18]) * 1e-3)


@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("spec", "jaxsnn")])
def test_other_tools_get_no_delay_and_the_user_a_warning(reader: str) -> None:
    g, findings = written_for(read_net(), reader)
    assert not [node for node in g.nodes.values() if isinstance(node, nir.Delay)]
    (said,) = (f for f in findings if f.code == "delay")
    assert said.severity == "warning"
    assert "up to 12 ms late" in said.what


def test_files(tmp_path: Path) -> None:
    """Written by nir and read here, one value for all channels included, and once more as `to_nir` writes it."""
    nodes: dict[str, Any] = {"in": port_in(3), "a": nir.Delay(np.array([2e-3]))}
    nodes |= {"fc": nir.Linear(RNG.normal(size=(4, 3))), "b": nir.Delay(np.array([0.0, 5, 7, 9]) * 1e-3)}
    nodes |= {"hidden": lif(4), "out": port_out(4)}
    nir.write(tmp_path / "late.nir", graph(nodes, list(pairwise(nodes))))
    net = nd.from_nir(tmp_path / "late.nir", dt=DT)
    assert rows(net) == rows(nd.from_nir(graph(nodes, list(pairwise(nodes))), dt=DT))
    assert {late for _, _, late, _ in rows(net)} == {0.002, 0.007, 0.009, 0.011}
    nir.write(tmp_path / "again.nir", nd.to_nir(net))
    assert nd.from_nir(tmp_path / "again.nir").digest() == net.digest()
    lines = made(AXON + DENDRITE)
    nir.write(tmp_path / "lines.nir", nd.to_nir(lines))
    assert rows(nd.from_nir(tmp_path / "lines.nir")) == rows(lines)
