"""Delay nodes as they are read: seconds, chains, loops, subgraphs, convolutions, and what is refused or rounded."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest

from nir_dynapse.errors import DynapseError, UnsupportedGraphError
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.network import Network
from nir_dynapse.network.primitives import graph
from nir_graphs import affine, lif, linear, port_in, port_out

MS = 1e-3


def chain(**nodes: Any) -> Any:
    """The nodes one after the other, between an input and an output of three values."""
    every = {"in": port_in(3), **nodes, "hidden": lif(3), "out": port_out(3)}
    return graph(every, list(pairwise(every)))


def read(g: Any, **options: Any) -> Network:
    return from_nir(g, **{"dt": MS, **options})


def table(net: Network, k: int = 0) -> dict[tuple[int, int, float], float]:
    """(pre, post, delay in ms) -> weight of projection k."""
    q = net.projections[k]
    late = np.zeros(len(q.pre)) if q.delay is None else q.delay
    keys = zip(q.pre.tolist(), q.post.tolist(), np.round(1e3 * late, 6).tolist(), strict=True)
    return dict(zip(keys, q.weight.tolist(), strict=True))


def test_a_delay_alone_is_one_connection_each() -> None:
    net = read(chain(wait=nir.Delay(np.array([1.0, 0.0, 20.0]) * MS)))
    assert table(net) == {(0, 0, 1.0): 1.0, (1, 1, 0.0): 1.0, (2, 2, 20.0): 1.0}
    assert net.projections[0].nodes == ("wait",)
    assert not net.findings


def test_one_number_counts_for_all_channels() -> None:
    net = read(chain(wait=nir.Delay(np.array(4 * MS))))
    assert set(table(net)) == {(k, k, 4.0) for k in range(3)}


def test_delays_of_a_chain_add_up() -> None:
    """In front of a matrix by source, behind it by target, and equal sums are one delay."""
    w = np.arange(1.0, 10).reshape(3, 3)
    before, after = np.array([1.0, 2.0, 0.0]), np.array([0.0, 1.0, 5.0])
    net = read(chain(a=nir.Delay(before * MS), fc=nir.Linear(w), b=nir.Delay(after * MS)))
    want = {(i, j, before[i] + after[j]): w[j, i] for i in range(3) for j in range(3)}
    assert table(net) == want
    assert net.projections[0].nodes == ("a", "fc", "b")


def test_one_pair_may_have_several_delays() -> None:
    """Two matrices with delays between them: every line that leads from i to j is a connection, equal delays are one."""
    first, second = np.array([[1.0, 2, 0], [3, 0, 0], [5, 0, 7], [0, 1, 0]]), np.arange(12.0).reshape(3, 4) + 1
    late = np.array([2.0, 9.0, 2.0, 4.0])
    net = read(chain(lines=nir.Linear(first), wait=nir.Delay(late * MS), fc=nir.Linear(second)))
    want: dict[tuple[int, int, float], float] = {}
    for j in range(3):
        for i in range(3):
            for line in np.flatnonzero(first[:, i]):
                key = (i, j, float(late[line]))
                want[key] = want.get(key, 0.0) + second[j, line] * first[line, i]
    assert table(net) == want
    np.testing.assert_allclose(net.projections[0].dense(3, 3), second @ first)


def test_a_convolution_behind_delayed_pixels() -> None:
    """Every tap of the window is as late as its pixel."""
    rng = np.random.default_rng(0)
    weight, late = rng.normal(size=(2, 1, 3)), np.arange(6.0).reshape(1, 6)
    node = nir.Conv1d(input_shape=6, weight=weight, stride=1, padding=0, dilation=1, groups=1, bias=np.zeros(2))
    nodes = {
        "in": port_in(1, 6),
        "wait": nir.Delay(late * MS),
        "conv": node,
        "flat": nir.Flatten({"input": np.array([2, 4])}, 0),
    }
    nodes |= {"hidden": lif(8), "out": port_out(8)}
    got = table(read(graph(nodes, list(pairwise(nodes)))))
    want = {(p + k, 4 * o + p, float(p + k)): weight[o, 0, k] for o in range(2) for p in range(4) for k in range(3)}
    assert got == want


def test_constants_were_there_at_all_times() -> None:
    net = read(chain(fc=nir.Affine(np.eye(3), np.array([1.0, 2, 3])), wait=nir.Delay(np.array([1.0, 2, 3]) * MS)))
    np.testing.assert_array_equal(net.bias("hidden"), [1, 2, 3])
    other = read(chain(a=affine(3, 3), wait=nir.Delay(np.array([1.0, 1, 2]) * MS), fc=nir.Linear(np.full((3, 3), 2.0))))
    bare = read(chain(a=affine(3, 3), fc=nir.Linear(np.full((3, 3), 2.0))))
    np.testing.assert_allclose(other.bias("hidden"), bare.bias("hidden"))


def test_seconds() -> None:
    g = chain(fc=linear(3, 3), wait=nir.Delay(np.array([1.0, 2, 3])))
    for options, factor in (({"time_unit": "ms"}, 1.0), ({"time_unit": "ms", "time_scale": 3.0}, 3.0)):
        hidden = {"hidden": lif(3, tau=20.0)}
        late = read(graph({**g.nodes, **hidden}, g.edges), dt=MS, **options).projections[0].delay
        assert late is not None
        np.testing.assert_allclose(np.unique(late), factor * np.array([1, 2, 3]) * MS)


def test_loops_and_subgraphs() -> None:
    inner = graph(
        {
            "input": port_in(3),
            "wait": nir.Delay(np.array([3.0, 4, 5]) * MS),
            "w": nir.Linear(np.eye(3)),
            "output": port_out(3),
        },
        [("input", "wait"), ("wait", "w"), ("w", "output")],
    )
    nodes = {"in": port_in(3), "fc": nir.Linear(np.eye(3)), "hidden": lif(3), "loop": inner, "out": port_out(3)}
    edges = [("in", "fc"), ("fc", "hidden"), ("hidden", "loop"), ("loop", "hidden"), ("hidden", "out")]
    net = read(graph(nodes, edges))
    (k,) = (k for k, q in enumerate(net.projections) if q.source == "hidden")
    assert set(table(net, k)) == {(0, 0, 3.0), (1, 1, 4.0), (2, 2, 5.0)}
    assert net.projections[k].nodes == ("loop.wait", "loop.w")


def test_what_ideal_runs_round_is_said() -> None:
    g = chain(fc=linear(3, 3), wait=nir.Delay(np.array([1.0, 2.3, 3.0]) * MS))
    (found,) = (f for f in read(g).findings if f.code == "delay-steps")
    assert (found.node, found.severity, found.unit) == ("wait", "warning", "s")
    assert (found.used, found.limit) == (pytest.approx(2.3 * MS), pytest.approx(2 * MS))
    assert "a delay of 2.3 ms is 2 steps of 1 ms in ideal runs, off by 0.3 ms" in found.what
    with pytest.raises(UnsupportedGraphError, match="is 2 steps of 1 ms"):
        read(g, strict=True)
    assert not [f for f in read(g, dt=1e-4).findings if f.code == "delay-steps"]


def test_what_no_past_is_kept_for_is_refused() -> None:
    """A file in ms that is read in s: the value, the limit and the remedy."""
    with pytest.raises(UnsupportedGraphError, match=r"node 'wait'.*up to 5 s late, 5000 steps.*time_unit=") as caught:
        read(chain(fc=linear(3, 3), wait=nir.Delay(np.array([1.0, 5.0, 3.0]))))
    (finding,) = caught.value.findings
    assert (finding.used, finding.limit) == (5.0, pytest.approx(4.096))
    assert {row.node: row.verdict for row in caught.value.conversion or ()}["wait"] == "unsupported"


def test_the_conversion_tells_the_delays() -> None:
    g = chain(fc=nir.Linear(np.ones((3, 3))), wait=nir.Delay(np.array([1.0, 2, 3])))
    net = read(graph({**g.nodes, "hidden": lif(3, tau=20.0)}, g.edges), time_unit="ms")
    row = next(row for row in net.conversion if row.node == "wait")
    assert (row.becomes, row.verdict) == ("9 late synapses", "exact")
    assert row.changes == (("delay", "1 … 3", "0.001 … 0.003 s"),)
    wire = read(chain(fc=nir.Linear(np.ones((3, 3))), wait=nir.Delay(np.zeros(3))))
    assert next(row for row in wire.conversion if row.node == "wait").becomes == "wire"


def test_digests() -> None:
    """A delay decides behaviour; a wire does not."""
    one, other = (read(chain(wait=nir.Delay(np.array(d) * MS))) for d in ([1.0, 2, 3], [1.0, 2, 4]))
    assert one.digest() != other.digest()
    nothing, none = read(chain(wait=nir.Delay(np.zeros(3)))).projections[0], one.projections[0]
    assert nothing.delay is None
    assert none.delay is not None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([1.0, np.nan, 2.0]), "delay is nan"),
        (np.array([1.0, np.inf, 2.0]), "delay is inf"),
        (np.array([0.0, 1e300, 0.0]), "its delay is 1e[+]300 s, taken are values up to 1e[+]05 s"),
        (np.array(["a", "b", "c"]), "delay is of type"),
        (np.ones(2) * MS, "it takes shape"),
        (np.ones((2, 3)) * MS, "shape"),
    ],
)
def test_what_is_no_delay_is_refused_by_name(value: np.ndarray, words: str) -> None:
    node = nir.Delay(np.zeros(3))
    node.delay = value
    with pytest.raises(DynapseError, match=f"node 'wait'.*{words}"):
        read(chain(fc=linear(3, 3), wait=node))


def test_one_delay_for_each_channel_of_an_image() -> None:
    """Shape (2, 1, 1) beside (2, 2, 3): as a Scale would be read."""
    nodes: dict[str, Any] = {"in": port_in(2, 2, 3), "wait": nir.Delay(np.array([1.0, 4.0]).reshape(2, 1, 1) * MS)}
    nodes |= {"flat": nir.Flatten({"input": np.array([2, 2, 3])}, 0), "hidden": lif(12), "out": port_out(12)}
    got = table(read(graph(nodes, list(pairwise(nodes)))))
    assert set(got) == {(k, k, 1.0 if k < 6 else 4.0) for k in range(12)}
