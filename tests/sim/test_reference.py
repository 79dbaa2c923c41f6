"""The ideal run: its explicit choices, one compilation per structure, batches, sparse weights, gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.network.network import Network, Population, Port, Projection, Readout, Stepping
from nir_dynapse.sim import ideal_plan, reference
from nir_dynapse.sim.reference import plan, run_plan

DT = 1e-3


@pytest.fixture(autouse=True)
def by_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in long runs."""
    monkeypatch.setattr(reference, "COMPILING", -1.0)


def population(name: str, n: int, kind: Any = "LIF", **changes: Any) -> Population:
    full = {key: np.full(n, value) for key, value in (("r", 1.0), ("v_leak", 0.0), ("v_reset", 0.0))}
    tau, threshold = (
        (np.full(n, 0.02), np.ones(n)) if kind in ("LIF", "CubaLIF") else (np.full(n, 0.02), np.full(n, np.inf))
    )
    values = {"tau_mem": tau, "v_threshold": threshold, **full}
    if kind in ("CubaLIF", "CubaLI"):
        values |= {"tau_syn": np.full(n, 0.005), "w_in": np.full(n, 5.0)}
    return Population(name, kind, **{**values, "r": np.full(n, 20.0), **changes})


def one(weight: float = 0.6, **changes: Any) -> Network:
    """One neuron without leak to speak of behind one input."""
    p = population("p", 1, tau_mem=np.array([1e9]), r=np.array([1e12]), **changes)
    return Network(
        (p,), (Projection.from_dense("x", "p", [[weight]]),), (Port("x", (1,)),), (Port("y", (1,), "p"),), DT
    )


def spikes_and_v(net: Network, x: list[float], backend: Any = "numpy") -> tuple[list[int], list[float]]:
    counts = np.array(x, float)[None, :, None]
    run = nd.simulate(net, counts, ideal=True, record=("spikes", "v"), backend=backend)
    return run.output[0, :, 0].tolist(), run.states["v"]["p"][0, :, 0].round(5).tolist()


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize(
    ("reset", "spikes", "v"),
    [
        ("value", [0, 1, 0, 1, 1], [0.6, 0.0, 0.6, 0.0, 0.0]),
        ("value-late", [0, 1, 0, 0, 1], [0.6, 1.2, 0.0, 0.6, 3.0]),
        ("subtract", [0, 1, 0, 1, 1], [0.6, 0.2, 0.8, 0.4, 1.8]),
        ("subtract-late", [0, 1, 0, 1, 1], [0.6, 1.2, 0.8, 1.4, 2.8]),
        ("subtract-multiple", [0, 1, 0, 1, 2], [0.6, 0.2, 0.8, 0.4, 0.8]),
        ("subtract-once", [0, 1, 0, 1, 1], [0.6, 0.2, 0.8, 0.4, 1.8]),
        ("none", [0, 1, 1, 1, 1], [0.6, 1.2, 1.8, 2.4, 4.8]),
    ],
)
def test_every_reset_by_hand(reset: Any, spikes: list[int], v: list[float], backend: Any) -> None:
    net = one().with_semantics(reset=reset)
    assert spikes_and_v(net, [1, 1, 1, 1, 4], backend) == (spikes, pytest.approx(v))


def test_what_is_left_above_the_threshold() -> None:
    """3.5 thresholds at once: subtract fires until it is gone; snnTorch without reset_delay takes one more off before it
    compares, and gives it back where the neuron then does not fire."""
    x = [0, 3.5 / 0.6, 0, 0, 0, 0]
    assert spikes_and_v(one(reset="subtract"), x)[0] == [0, 1, 1, 1, 0, 0]
    once = pytest.approx([0, 2.5, 1.5, 1.5, 1.5, 1.5])
    assert spikes_and_v(one(reset="subtract-once"), x) == ([0, 1, 1, 0, 0, 0], once)
    assert spikes_and_v(one(reset="value"), x)[0] == [0, 1, 0, 0, 0, 0]


def loop(**stepping: Any) -> Network:
    """A neuron that kicks itself, and a second one behind it."""
    a, b = (population(n, 1, tau_mem=np.array([1e9]), r=np.array([1e12])) for n in "ab")
    links = (("x", "a", 1.5), ("a", "a", 0.7), ("a", "b", 1.5))
    projections = tuple(Projection.from_dense(s, t, [[w]]) for s, t, w in links)
    return Network((a, b), projections, (Port("x", (1,)),), (Port("y", (1,), "b"),), DT, stepping=Stepping(**stepping))


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize(
    ("stepping", "v", "a", "b"),
    [
        ({}, [0, 0, 0.7, 0.7], [0, 1, 0, 0], [0, 1, 0, 0]),
        ({"recurrence": "same-step"}, [0, 0.7, 0.7, 0.7], [0, 1, 0, 0], [0, 1, 0, 0]),
        ({"emission": "next-step"}, [0, 0, 0.7, 0.7], [0, 0, 1, 0], [0, 0, 0, 1]),
    ],
)
def test_when_spikes_act(stepping: dict, v: list[float], a: list[int], b: list[int], backend: Any) -> None:
    x = np.array([0.0, 1, 0, 0])[None, :, None]
    run = nd.simulate(loop(**stepping), x, ideal=True, record=("spikes", "v"), backend=backend)
    assert run.spikes["a"][0, :, 0].tolist() == a
    assert run.spikes["b"][0, :, 0].tolist() == b
    if stepping != {"recurrence": "same-step"}:
        assert run.states["v"]["a"][0, :, 0] == pytest.approx(v)
    again = nd.simulate(loop(**stepping), np.array([0.0, 1, 1, 0])[None, :, None], ideal=True, backend=backend)
    assert again.spikes["a"].sum() == 2


def test_where_v_starts() -> None:
    net = one(v_leak=np.array([0.9]))
    weak = replace(net, populations=(replace(net.populations[0], tau_mem=np.array([0.1]), r=np.array([100.0])),))
    for start, v in (("reset", [0.009, 0.01791]), ("leak", [0.9, 0.9])):
        assert spikes_and_v(weak.with_semantics(start=start), [0, 0])[1] == pytest.approx(v)  # pyright: ignore


def test_a_kick_of_the_same_step_is_there_in_the_next() -> None:
    """Delayed: 0.7 arrives with the next input; same-step: it is there before. The sums are equal, the leak is not."""
    weak = replace(
        loop(), populations=tuple(replace(p, tau_mem=np.array([2e-3]), r=np.array([2.0])) for p in loop().populations)
    )
    x = np.array([0.0, 1, 0.2, 0, 0])[None, :, None]
    for recurrence, v2 in (("delayed", 0.3 + 0.7), ("same-step", 0.35 + 0.3)):
        net = weak.with_semantics(recurrence=recurrence)  # pyright: ignore[reportArgumentType]
        run = nd.simulate(net, x, ideal=True, record=("v",), backend="numpy")
        assert run.states["v"]["a"][0, 2, 0] == pytest.approx(v2)


def recurrent(seed: int, n: int = 20, kind: Any = "CubaLIF") -> Network:
    rng = np.random.default_rng(seed)
    hidden, out = population("hidden", n, kind), population("out", 3, "LI")
    projections = (
        Projection.from_dense("x", "hidden", rng.normal(0.5, 0.5, (n, 5)), bias=rng.normal(0, 0.05, n)),
        Projection.from_dense("hidden", "hidden", rng.normal(0, 0.2, (n, n))),
    )
    readout = Readout((out,), (Projection.from_dense("hidden", "out", rng.normal(size=(3, n)), bias=np.ones(3)),))
    return Network((hidden,), projections, (Port("x", (5,)),), (Port("y", (3,), "out"),), DT, readout=readout)


X = np.random.default_rng(0).poisson(0.3, (4, 80, 5)).astype(np.float32)


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_numpy_and_jax_agree_and_batches_do_not_mix(kind: Any) -> None:
    net = recurrent(1, kind=kind)
    a, b = (nd.simulate(net, X, ideal=True, backend=backend) for backend in ("jax", "numpy"))
    assert 0.02 < a.spikes["hidden"].mean() < 0.8
    np.testing.assert_array_equal(a.spikes["hidden"], b.spikes["hidden"])
    np.testing.assert_allclose(a.output, b.output, atol=1e-4)
    alone = nd.simulate(net, X[2], ideal=True)
    np.testing.assert_array_equal(alone.spikes["hidden"][0], a.spikes["hidden"][2])


def test_what_is_over_sooner_runs_in_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    net = recurrent(1)
    longer = nd.simulate(net, X, ideal=True)
    monkeypatch.setattr(reference, "COMPILING", 0.3)
    monkeypatch.setattr(reference, "_jitted", None)
    np.testing.assert_array_equal(nd.simulate(net, X, ideal=True).spikes["hidden"], longer.spikes["hidden"])
    with pytest.raises(TypeError):
        nd.simulate(net, np.zeros((1, 50_000, X.shape[2])), ideal=True)


def test_one_compilation_serves_every_network_of_a_structure() -> None:
    jitted: Any = reference._jitted()
    nd.simulate(recurrent(1), X, ideal=True)
    before = jitted._cache_size()
    for seed in range(2, 5):
        nd.simulate(recurrent(seed), X, ideal=True)
    assert jitted._cache_size() == before


def test_sparse_weights_do_what_dense_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    net = recurrent(3)
    q = net.projections[1]
    keep = np.arange(len(q.weight)) % 60 == 0
    thin = replace(q, pre=q.pre[keep], post=q.post[keep], weight=q.weight[keep] * 9)
    net = replace(net, projections=(net.projections[0], thin))
    dense = nd.simulate(net, X, ideal=True)
    monkeypatch.setattr(ideal_plan, "DENSE_ELEMENTS", 1)
    assert sorted(plan(net)[2]) == ["1"]
    for backend in ("jax", "numpy"):
        sparse = nd.simulate(net, X, ideal=True, backend=backend)  # pyright: ignore[reportArgumentType]
        np.testing.assert_array_equal(sparse.spikes["hidden"], dense.spikes["hidden"])


@pytest.mark.long
def test_gradients_behind_the_spikes_are_those_of_finite_differences() -> None:
    """The readout is smooth in its own weights and decays; the surrogate is not asked."""
    structure, arrays, indices = plan(recurrent(4))

    def squares(weight: Any, keep: Any) -> Any:
        node = {**arrays["node"], "out": {**arrays["node"]["out"], "keep": keep}}
        values = {**arrays, "weight": [*arrays["weight"][:2], weight], "node": node}
        return (run_plan(structure, values, indices, X).values["out"] ** 2).mean()

    weight, keep = jnp.asarray(arrays["weight"][2]), jnp.asarray(arrays["node"]["out"]["keep"])
    by_weight, by_keep = map(np.asarray, jax.grad(squares, (0, 1))(weight, keep))

    def loss(weight: Any, keep: Any) -> float:
        return float(squares(weight, keep))

    step = 1e-2
    for i, j in ((0, 0), (7, 2), (19, 1)):
        shift = jnp.zeros_like(weight).at[i, j].set(step)
        assert by_weight[i, j] == pytest.approx(
            (loss(weight + shift, keep) - loss(weight - shift, keep)) / (2 * step), rel=0.02
        )
    shift = jnp.zeros_like(keep).at[1].set(1e-3)
    assert by_keep[1] == pytest.approx((loss(weight, keep + shift) - loss(weight, keep - shift)) / 2e-3, rel=0.02)


@pytest.mark.parametrize("reset", ["value", "subtract-late", "subtract-multiple"])
def test_the_surrogate_leads_downhill(reset: Any) -> None:
    """Gradient steps on input weights and biases make a silent network fire at a wanted rate."""
    net = recurrent(5).with_semantics(reset=reset)
    net = replace(net, projections=net.projections[:1])  # several spikes in a step and recurrence would run away
    structure, arrays, indices = plan(net)
    start = {"weight": jnp.asarray(arrays["weight"][0]) * 0.3, "bias": jnp.asarray(arrays["bias"]["hidden"])}

    def rate(values: dict[str, Any]) -> Any:
        bias = {**arrays["bias"], "hidden": values["bias"]}
        changed = {**arrays, "weight": [values["weight"], *arrays["weight"][1:]], "bias": bias}
        return run_plan(structure, changed, indices, X).spikes["hidden"].mean()

    @jax.jit
    def improve(values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        error, slope = jax.value_and_grad(lambda v: (rate(v) - 0.2) ** 2)(values)
        return error, jax.tree_util.tree_map(lambda v, g: v - 5 * g, values, slope)

    values, errors = start, []
    for _ in range(60):
        error, values = improve(values)
        errors.append(float(error))
    assert all(np.isfinite(errors))
    assert errors[-1] < 0.1 * errors[0]


def test_nothing_in_gives_nothing_out() -> None:
    run = nd.simulate(recurrent(6), np.zeros((2, 0, 5)), ideal=True)
    assert run.output.shape == (2, 0, 3)
    assert nd.simulate(recurrent(6), np.zeros((2, 0, 5)), ideal=True, backend="numpy").output.shape == (2, 0, 3)
