"""Delays of a network as those that cores have: which two, for whom, where neurons go, and what is said of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.chip.device import DELAYS, DYNAPSE2, PARAMETERS, Mismatch
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.delays import Shared, longest_delay, share_delays
from nir_dynapse.network.primitives import graph
from nir_dynapse.sim.mismatch import fabricate
from nir_graphs import lif, port_in, port_out

CV = tuple(PARAMETERS[name].cv for name in DELAYS)
MS = 1e-3


def shared(wanted: Any, post: Any, n: int, strength: Any = 1.0, group: Any = None) -> tuple[Shared, np.ndarray]:
    """What is shared, and the delay in ms that each synapse gets."""
    wanted, post = np.asarray(wanted, float) * MS, np.asarray(post)
    groups = np.zeros(n, int) if group is None else np.asarray(group)
    found = share_delays(wanted, np.broadcast_to(strength, wanted.shape), post, groups, DYNAPSE2)
    return found, found.got(post) / MS


def expected(wanted: np.ndarray, weight: np.ndarray, values: tuple[float, float]) -> float:
    """E[(d − D·(1 + cv·ξ))²], each synapse by what suits it best, 0 being none."""
    own = [(wanted - d) ** 2 + (cv * d) ** 2 for d, cv in zip(values, CV, strict=True) if d]
    return float((weight * np.min([wanted**2, *own], 0)).sum())


def test_two_delays_far_apart_are_both_exact() -> None:
    found, got = shared([3, 12, 0, 3, 12], np.zeros(5, int), 1)
    np.testing.assert_allclose(got, [3, 12, 0, 3, 12])
    np.testing.assert_array_equal(found.flags, [2, 1, 0, 2, 1])  # the longer one is precise: it would spread more


def test_two_delays_close_together_are_one_precise_one() -> None:
    """The mismatched circuit is off by half of a delay on the next row: more than the mean of the two is."""
    found, got = shared([9, 11], [0, 0], 1)
    np.testing.assert_allclose(got, [10, 10])
    np.testing.assert_array_equal(found.flags, [1, 1])
    assert found.delay[0, 1] == 0


def test_a_delay_of_its_own_core_is_exact() -> None:
    """Neurons of four delays go to the four cores of the chip that is needed, each with its precise one."""
    wanted, post = np.repeat([2.0, 6.0, 7.0, 20.0], 30), np.repeat(np.arange(12), 10)
    found, got = shared(wanted, post, 12)
    np.testing.assert_allclose(got, wanted)
    assert (found.flags == 1).all()
    assert len(np.unique(found.group)) == 4
    assert [len(np.unique(found.group[k : k + 3])) for k in (0, 3, 6, 9)] == [1, 1, 1, 1]


@pytest.mark.parametrize("key", range(4))
def test_no_other_two_values_are_better(key: int) -> None:
    """For one neuron, against a search over a grid of pairs."""
    rng = np.random.default_rng(key)
    wanted, weight = rng.choice(np.arange(1.0, 21), 30), rng.uniform(0.1, 3, 30)
    found, got = shared(wanted, np.zeros(30, int), 1, weight)
    ours = expected(wanted, weight, (found.delay[0, 0] / MS, found.delay[0, 1] / MS))
    grid = np.arange(0.0, 21, 0.5)
    assert ours == pytest.approx(min(expected(wanted, weight, pair) for pair in _pairs(wanted, weight)))
    assert ours <= 1.1 * min(expected(wanted, weight, (a, b)) for a in grid for b in grid if a > 0), "none shrunk to it"
    best = np.array([0.0, *(found.delay[0] / MS)])[found.flags]
    np.testing.assert_allclose(got, best)


def _pairs(wanted: np.ndarray, weight: np.ndarray) -> list[tuple[float, float]]:
    """(precise, mismatched) as the means of two neighbouring runs of sorted delays, in both orders; the rest gets none."""
    edges = [0.0, *np.unique(wanted), np.inf]
    found = []
    for i, low in enumerate(edges):
        for middle in edges[i:]:
            runs = [(wanted > low) & (wanted <= middle), wanted > middle]
            means = [float(np.average(wanted[run], weights=weight[run])) if run.any() else 0.0 for run in runs]
            found += [(means[0], means[1]), (means[1], means[0])]
    return found


def test_heavy_synapses_decide() -> None:
    _, got = shared([9, 11], [0, 0], 1, np.array([1.0, 9.0]))
    np.testing.assert_allclose(got, [10.8, 10.8])


def test_more_cores_never_cost_more_and_none_is_overfull() -> None:
    """600 neurons take three cores of the one chip; the fourth is used too, and every core stays within its 256."""
    rng = np.random.default_rng(1)
    late = rng.uniform(1, 20, 600)
    found, got = shared(late, np.arange(600), 600)
    assert np.bincount(found.group).max() <= 256
    assert len(np.unique(found.group)) == 4
    one, flat = found.delay.copy(), expected(late, np.ones(600), (float(late.mean()), 0.0))
    assert expected(late, np.ones(600), (0.0, 0.0)) > flat
    total = sum(
        expected(late[found.group == g], np.ones((found.group == g).sum()), tuple(one[g] / MS)) for g in range(4)
    )
    assert total < 0.4 * flat
    assert np.sqrt(np.mean((got - late) ** 2)) < 1.6


def test_groups_keep_apart_and_their_numbers() -> None:
    found, got = shared([5, 5, 9, 0], [0, 1, 2, 3], 4, group=[0, 0, 1, 2])
    np.testing.assert_array_equal(found.group[:3], [0, 0, 1])
    np.testing.assert_allclose(got, [5, 5, 9, 0])
    assert (found.delay[found.group[3]] == 0).all()


def late_net(delay: np.ndarray, **more: Any) -> nd.Network:
    n = len(delay)
    nodes = {"in": port_in(4), "fc": nir.Linear(np.full((n, 4), 20.0)), "wait": nir.Delay(delay), "hidden": lif(n)}
    nodes |= {"out": port_out(n)}
    return nd.from_nir(graph(nodes, list(pairwise(nodes))), **{"dt": MS, **more})


def test_the_circuit_of_a_network_has_them() -> None:
    params = to_params(late_net(np.array([2.0, 2, 15, 15]) * MS))
    t = params.topology
    np.testing.assert_allclose(params.row_delays(), np.array([2.0, 2, 15, 15])[t.post] * MS, rtol=1e-12)
    assert not [f for f in params.findings if f.code.startswith("delay")]
    assert to_params(late_net(np.zeros(4))).topology.delay is None


def test_what_becomes_another_delay_is_said() -> None:
    n = 40
    params = to_params(late_net(np.arange(1.0, n + 1) * MS))
    (finding,) = (f for f in params.findings if f.code == "delays")
    assert (finding.severity, finding.node, finding.unit) == ("warning", "wait", "s")
    asked, got = float(finding.used), float(finding.limit)  # type: ignore[arg-type]
    worst = np.abs(params.row_delays() - (params.topology.post + 1) * MS).max()
    assert abs(asked - got) == pytest.approx(worst)
    assert f"{1e3 * asked:.3g} ms becomes {1e3 * got:.3g} ms at worst" in finding.what
    assert "Use fewer different delays" in finding.hint


def test_what_the_bias_generator_cannot_reach_is_said() -> None:
    """Value, limit and remedy; the circuit gets the longest there is."""
    longest = longest_delay(DYNAPSE2.circuit)
    assert 0.5 < longest < 2
    params = to_params(late_net(np.full(4, 3.0), dt=10 * MS))
    (finding,) = (f for f in params.findings if f.code == "delay-range")
    assert (finding.node, finding.used, finding.limit, finding.unit) == ("wait", 3.0, pytest.approx(longest), "s")
    assert finding.hint
    np.testing.assert_allclose(params.row_delays(), longest)


def test_what_gets_the_same_delay_is_one_synapse_of_the_sum() -> None:
    """Two lines of opposite signs between one pair: their sum decides dendrite and weight; no sum, no synapse."""
    lines = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    out = np.array([[2.0, -0.5, 1.0, -1.0, 0.5]])
    nodes = {"in": port_in(3), "lines": nir.Linear(lines), "wait": nir.Delay(np.array([9.0, 11, 9, 11, 10]) * MS)}
    nodes |= {"fc": nir.Linear(out), "hidden": lif(1), "out": port_out(1)}
    params = to_params(nd.from_nir(graph(nodes, list(pairwise(nodes))), dt=MS))
    t = params.topology
    np.testing.assert_array_equal(t.pre, [0, 2])
    weight = np.asarray(params.weight)
    assert weight[0] / weight[1] == pytest.approx(1.5 / 0.5)
    assert (t.dendrite == 0).all()


def test_drawn_chips_spread_the_delays_of_rows() -> None:
    """By the CV of the circuit that each row uses, place by place; the nominal ones where nothing is drawn."""
    net = late_net(np.tile([4.0, 30.0], 100) * MS)
    params = to_params(net)
    nominal = params.row_delays()
    drawn = [fabricate(params, Mismatch(), k) for k in range(3)]
    factors = np.array([chip.row_delays() / nominal for chip in drawn])
    t = params.topology
    for flag, cv in zip((1, 2), CV, strict=True):
        here = factors[:, t.delay == flag]
        if here.size:
            assert here.std() == pytest.approx(cv, rel=0.2)
            assert here.mean() == pytest.approx(1, abs=0.15)
    assert t.delay is not None
    assert (t.delay > 0).all()
    np.testing.assert_array_equal(fabricate(params, Mismatch.none(), 0).row_delays(), nominal)
    x = np.zeros((1, 80, 4), np.uint8)
    x[:, 5] = 4
    quiet = Mismatch(cv=tuple((name, cv) for name, cv in Mismatch().cv if name in DELAYS))
    runs = [nd.simulate(params, x, mismatch=quiet, key=k).spikes["hidden"][0] for k in (0, 1)]
    assert (runs[0] != runs[1]).any(), "later or sooner on another chip"
