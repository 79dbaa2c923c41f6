"""Ideal runs of NIR graphs with Delay nodes against a clocked interpreter of the nodes themselves, written here."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.network.primitives import graph
from nir_dynapse.network.readout import ReadoutBlocks, ReadoutStepper, run_readout
from nir_dynapse.sim.reference import plan, run_plan

DT = 1e-3
RNG = np.random.default_rng(5)


def dyadic(*shape: int, low: float = -0.5, high: float = 1.0) -> np.ndarray:
    """Weights whose sums are exact in float32, so that their order cannot decide over a spike."""
    return np.round(RNG.uniform(low, high, shape) * 128) / 128


def lif(n: int, tau: float = 0.016) -> nir.LIF:
    one = np.ones(n)
    return nir.LIF(tau=tau * one, r=tau / DT * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)


def port(kind: str, n: int) -> Any:
    return getattr(nir, kind)({kind.lower(): np.array([n])})


def chained(names: Iterable[str]) -> list[tuple[str, str]]:
    return list(pairwise(names))


def interpret(g: nir.NIRGraph, x: np.ndarray, late: Iterable[tuple[str, str]] = ()) -> dict[str, np.ndarray]:
    """Spikes (time, n) of every LIF: node by node and step by step; edges `late` hand on what was there a step before."""
    late = set(late)
    before: dict[str, list[str]] = {name: [a for a, b in g.edges if b == name] for name in g.nodes}
    out: dict[str, list[np.ndarray]] = {name: [] for name in g.nodes}
    v = {name: np.zeros(len(node.tau), np.float32) for name, node in g.nodes.items() if isinstance(node, nir.LIF)}
    came: dict[str, list[np.ndarray]] = {name: [] for name in g.nodes}
    order: list[str] = []
    while len(order) < len(g.nodes):
        order += [n for n in g.nodes if n not in order and all(a in order or (a, n) in late for a in before[n])][:1]
    for t, x_t in enumerate(x.astype(np.float32)):
        for name in order:
            node = g.nodes[name]
            parts = [
                out[a][t - 1] if (a, name) in late and t else out[a][t]
                for a in before[name]
                if (a, name) not in late or t
            ]
            total: Any = sum(parts) if parts else 0.0
            if isinstance(node, nir.Input):
                value = x_t
            elif isinstance(node, (nir.Linear, nir.Affine)):
                value = node.weight.astype(np.float32) @ np.broadcast_to(total, node.weight.shape[1:])
                value = value + getattr(node, "bias", 0.0)
            elif isinstance(node, nir.Delay):
                came[name].append(np.broadcast_to(total, node.delay.shape))
                steps = [round(float(d) / DT) for d in node.delay]
                value = np.array([came[name][t - s][k] if t >= s else 0.0 for k, s in enumerate(steps)], np.float32)
            elif isinstance(node, nir.LIF):
                keep = np.float32(1 - DT / node.tau[0])
                u = keep * v[name] + np.float32(1) * np.broadcast_to(total, v[name].shape).astype(np.float32)
                value = (u > 1).astype(np.float32)
                v[name] = np.where(value > 0, np.float32(0), u)
            else:
                value = np.asarray(total)
            out[name].append(value)
    return {name: np.array(out[name]) for name in v}


def layered(*, axonal: bool = True, dendritic: bool = True, synaptic: bool = False) -> nir.NIRGraph:
    """Two layers; delays of 1 to 20 ms before a matrix, behind it, and between two."""
    ms = np.arange(1, 21) * 1e-3
    nodes: dict[str, Any] = {"input": port("Input", 20)}
    chain = ["input"]
    if axonal:
        nodes["axons"] = nir.Delay(RNG.permutation(ms))
        chain.append("axons")
    nodes |= {"fc1": nir.Linear(dyadic(30, 20)), "hidden": lif(30)}
    chain += ["fc1", "hidden"]
    if synaptic:
        nodes |= {"lines": nir.Linear(dyadic(40, 30, high=0.5)), "wait": nir.Delay(np.tile(ms, 2))}
        nodes["fc2"] = nir.Linear(dyadic(20, 40, high=0.5))
        chain += ["lines", "wait", "fc2"]
    else:
        nodes["fc2"] = nir.Linear(dyadic(20, 30))
        chain.append("fc2")
    if dendritic:
        nodes["dendrites"] = nir.Delay(ms)
        chain.append("dendrites")
    nodes |= {"out": lif(20), "output": port("Output", 20)}
    chain += ["out", "output"]
    return graph(nodes, chained(chain))


def looped() -> nir.NIRGraph:
    """Recurrence through a Delay, and an undelayed loop beside it."""
    g = layered()
    g.nodes |= {"rec": nir.Linear(dyadic(30, 30, low=-0.25, high=0.25)), "wait": nir.Delay(np.arange(30) % 20 * 1e-3)}
    g.nodes |= {"own": nir.Linear(dyadic(30, 30, low=-0.25, high=0.25))}
    g.edges += [("hidden", "rec"), ("rec", "wait"), ("wait", "hidden"), ("hidden", "own"), ("own", "hidden")]
    return g


def events(steps: int = 150, n: int = 20, batch: int = 1) -> np.ndarray:
    return (RNG.random((batch, steps, n)) < 0.12).astype(np.uint8)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("how", [{}, {"axonal": False}, {"dendritic": False}, {"synaptic": True}])
def test_layers(how: dict[str, bool], backend: Literal["numpy", "jax"], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nir_dynapse.sim.reference.COMPILING", 0.0)
    g, x = layered(**how), events()
    net = nd.from_nir(g, dt=DT)
    ours, reference = nd.simulate(net, x, ideal=True, backend=backend), interpret(g, x[0])
    for name, spikes in reference.items():
        assert (ours.spikes[name][0] != spikes).sum() == 0, name
        assert spikes.sum() > 100, "and there is something to compare"


def test_a_delay_adds_to_the_step_of_a_loop() -> None:
    g, x = looped(), events()
    late = [("hidden", "rec"), ("hidden", "own")]
    ours, reference = nd.simulate(nd.from_nir(g, dt=DT), x, ideal=True), interpret(g, x[0], late)
    assert all((ours.spikes[name][0] != spikes).sum() == 0 for name, spikes in reference.items())
    without = nd.from_nir(g, dt=DT).with_semantics(recurrence="same-step")
    other = nd.simulate(without, x, ideal=True)
    assert (other.spikes["hidden"] != ours.spikes["hidden"]).any(), "the loop is heard"


def impulse(delay: np.ndarray, **options: Any) -> np.ndarray:
    """Steps in which neurons fire that an event in step 3 reaches behind `delay` (in units of the file)."""
    n = len(delay)
    nodes = {"input": port("Input", n), "wait": nir.Delay(delay), "w": nir.Linear(2 * np.eye(n)), "out": lif(n)}
    chain = ["input", "wait", "w", "out", "output"]
    g = graph({**nodes, "output": port("Output", n)}, chained(chain))
    x = np.zeros((1, 60, n), np.uint8)
    x[:, 3] = 1
    net = nd.from_nir(g, **{"dt": DT, **options})
    spikes = nd.simulate(net, x, ideal=True).spikes["out"][0]
    assert (spikes.sum(0) == 1).all()
    return spikes.argmax(0) - 3


def test_steps_are_the_nearest_and_a_half_is_one() -> None:
    ms = np.array([0.0, 0.4, 0.5, 0.6, 1.0, 2.4999, 2.5, 7.0, 20.0])
    np.testing.assert_array_equal(impulse(ms * 1e-3), [0, 0, 1, 1, 1, 2, 3, 7, 20])
    np.testing.assert_array_equal(impulse(np.arange(1, 21) * 1e-3), np.arange(1, 21))


def test_same_step_recurrence_is_late_by_the_delay_alone() -> None:
    """A neuron that an event fires excites itself 5 ms later, at the end of that step: it fires again in the next one."""
    nodes = {"input": port("Input", 1), "in": nir.Linear(np.array([[2.0]])), "out": lif(1)}
    nodes |= {"loop": nir.Linear(np.array([[4.0]])), "wait": nir.Delay(np.array([5e-3])), "output": port("Output", 1)}
    edges = [("input", "in"), ("in", "out"), ("out", "loop"), ("loop", "wait"), ("wait", "out"), ("out", "output")]
    net = nd.from_nir(graph(nodes, edges), dt=DT)
    x = np.zeros((1, 20, 1), np.uint8)
    x[0, 0] = 1
    for recurrence in ("delayed", "same-step"):
        run = nd.simulate(net.with_semantics(recurrence=recurrence), x, ideal=True)
        np.testing.assert_array_equal(np.flatnonzero(run.spikes["out"][0, :, 0]), [0, 6, 12, 18])


def test_gradients_pass_through_the_past() -> None:
    """The weight of a late connection changes the voltage when it acts, by as much as finite differences say."""
    nodes = {"input": port("Input", 1), "w": nir.Linear(np.array([[2.0]])), "a": lif(1)}
    nodes |= {"wait": nir.Delay(np.array([4e-3])), "w2": nir.Linear(np.array([[0.25]])), "out": li(1)}
    nodes["output"] = port("Output", 1)
    chain = list(nodes)
    net = nd.from_nir(graph(nodes, chained(chain)), dt=DT)
    structure, arrays, indices = plan(net)
    x = np.zeros((1, 12, 1), np.float32)
    x[0, 2] = 1

    def voltage(w: Any) -> Any:
        weights = [arrays["weight"][0], w]
        return run_plan(structure, {**arrays, "weight": weights}, indices, x).values["out"][0, :, 0]

    slope = jax.jacobian(voltage)(jnp.asarray(arrays["weight"][1]))[:, 0, 0]
    assert (slope[:6] == 0).all()
    assert slope[6] > 0
    np.testing.assert_allclose(
        slope, voltage(jnp.asarray(arrays["weight"][1]) + 1.0) - voltage(arrays["weight"][1]), 1e-5
    )


def li(n: int, tau: float = 0.01) -> nir.LI:
    return nir.LI(tau=tau * np.ones(n), r=tau / DT * np.ones(n), v_leak=np.zeros(n))


def test_a_late_readout() -> None:
    """On the host, too: the readout of an ideal run, of counted spikes, and bin by bin."""
    nodes = {"input": port("Input", 6), "in": nir.Linear(dyadic(6, 6, low=0.5, high=2.0)), "hidden": lif(6)}
    nodes |= {"w": nir.Linear(dyadic(3, 6)), "wait": nir.Delay(np.array([0.0, 3e-3, 11e-3])), "li": li(3)}
    nodes["output"] = port("Output", 3)
    chain = list(nodes)
    net = nd.from_nir(graph(nodes, chained(chain)), dt=DT)
    run = nd.simulate(net, events(60, 6, batch=2), ideal=True)
    again = run_readout(net.readout, run.spikes, DT)["li"]
    np.testing.assert_allclose(run.output, again, atol=1e-5)
    assert np.abs(again).max() > 1
    stepper = ReadoutStepper(net.readout, DT, DT)
    each = [stepper.step({"hidden": counts})["li"] for counts in run.spikes["hidden"][1]]
    np.testing.assert_allclose(each, again[1], atol=1e-9)
    prompt = nd.from_nir(graph({**nodes, "wait": nir.Delay(np.zeros(3))}, chained(chain)), dt=DT)
    straight = run_readout(prompt.readout, run.spikes, DT)["li"]
    np.testing.assert_allclose(again[:, 3:, 1], straight[:, :-3, 1], atol=1e-12)
    np.testing.assert_allclose(again[:, 11:, 2], straight[:, :-11, 2], atol=1e-12)
    blocks, cuts = ReadoutBlocks(net.readout, DT), (0, 2, 3, 20, 60)
    cut = [blocks.read({"hidden": run.spikes["hidden"][:, a:b]})["li"] for a, b in pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(cut, 1), again, atol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_a_run_in_blocks_remembers(backend: Literal["numpy", "jax"], tmp_path: Path) -> None:
    """What is on the way where a block ends arrives in the next one."""
    net, x = nd.from_nir(looped(), dt=DT), events(90)
    whole = nd.simulate(net, x, ideal=True, backend=backend)
    cut = nd.simulate(net, iter((x[:, :1], x[:, 1:40], x[:, 40:])), ideal=True, backend=backend, to=tmp_path / "run")
    for name, spikes in whole.spikes.items():
        np.testing.assert_array_equal(cut.cut().spikes[name], spikes)
