"""Frontend profiles against each framework's own step, written out here: the live comparison is in tests/frontends."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.import_.frontends import just_below
from nir_dynapse.network.primitives import graph
from nir_graphs import port_in, port_out

N, T = 6, 300
RNG = np.random.default_rng(5)
W = RNG.normal(0.35, 0.5, (N, 4))
REC = RNG.normal(0, 0.3, (N, N))
X = (RNG.random((2, T, 4)) < 0.25).astype(float)
ALPHA, BETA, THRESHOLD = RNG.uniform(0.4, 0.9, N), RNG.uniform(0.6, 0.95, N), RNG.uniform(0.7, 1.4, N)
ZEROS, ONES = np.zeros(N), np.ones(N)
Step = Callable[[dict[str, Any], np.ndarray], np.ndarray]


def run(step: Step, recurrent: bool = False, start: float = 0.0) -> np.ndarray:
    """Spikes (2, T, N) of a framework's step function; its v begins at `start`, the rest at zero."""
    state: dict[str, Any] = {"v": np.full((2, N), start), "i": np.zeros((2, N)), "s": np.zeros((2, N))}
    out = np.zeros((2, T, N))
    for t in range(T):
        x = X[:, t] @ W.T + (state["s"] @ REC.T if recurrent else 0)
        out[:, t] = state["s"] = step(state, x)
    return out


def read(node: Any, recurrent: bool = False, metadata: dict[str, Any] | None = None, **options: Any) -> nd.Network:
    nodes = {"input": port_in(4), "fc": nir.Linear(W), "lif": node, "output": port_out(N)}
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
    if recurrent:
        nodes["w_rec"] = nir.Linear(REC)
        edges += [("lif", "w_rec"), ("w_rec", "lif")]
    return nd.from_nir(graph(nodes, edges, metadata), **options)


def same(net: nd.Network, spikes: np.ndarray) -> None:
    assert spikes.any(1).mean() > 0.8
    assert spikes.mean() < 0.95
    ours = nd.simulate(net, X, ideal=True, backend="numpy").output
    np.testing.assert_array_equal(ours, spikes)


# --- snnTorch --------------------------------------------------------------------------------------------------------


def snn_leaky() -> nir.LIF:
    tau = 1e-4 / (1 - BETA)
    return nir.LIF(tau=tau, r=tau / 1e-4, v_leak=ZEROS, v_threshold=THRESHOLD, v_reset=ZEROS)


def snn_synaptic() -> nir.CubaLIF:
    mem, syn = 1e-4 / (1 - BETA), 1e-4 / (1 - ALPHA)
    return nir.CubaLIF(
        tau_mem=mem, tau_syn=syn, r=mem / 1e-4, w_in=syn / 1e-4, v_leak=ZEROS, v_threshold=THRESHOLD, v_reset=ZEROS
    )


def snn_step(synaptic: bool, mechanism: str, delay: bool, at_once: bool) -> Step:
    """snnTorch: `at_once` is Leaky's reset to zero, which comes before the decay; the others zero what they computed."""

    def step(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
        late = state["v"] > THRESHOLD
        v = np.where(late, 0, state["v"]) if mechanism == "zero" and at_once else state["v"]
        state["i"] = ALPHA * state["i"] + x if synaptic else x
        v = BETA * v + state["i"]
        if mechanism == "subtract":
            v = v - late * THRESHOLD
        elif not at_once:
            v = np.where(late, 0, v)
        spikes = v > THRESHOLD
        if not delay:
            v = v - (spikes * 1.0 - late) * (THRESHOLD if mechanism == "subtract" else v)
        state["v"] = v
        return spikes.astype(float)

    return step


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("synaptic", [False, True])
@pytest.mark.parametrize(
    ("mechanism", "delay"), [("subtract", True), ("subtract", False), ("zero", True), ("zero", False)]
)
def test_snntorch(synaptic: bool, recurrent: bool, mechanism: str, delay: bool) -> None:
    node = snn_synaptic() if synaptic else snn_leaky()
    options: dict[str, Any] = {} if (mechanism, delay) == ("subtract", True) else {"reset_delay": delay}
    if mechanism == "zero":
        options["reset"] = "value"
    net = read(node, recurrent, frontend="snntorch", **options)
    same(net, run(snn_step(synaptic, mechanism, delay, at_once=not synaptic and not recurrent), recurrent))
    assert net.dt == pytest.approx(1e-4)
    assert any(f.code == "reset" for f in net.findings) == (mechanism == "subtract" and delay)


def test_the_length_of_a_step_is_the_users_to_give_where_the_file_counts_steps() -> None:
    net = read(snn_leaky(), frontend="snntorch", dt=5e-3)
    assert net.dt == 5e-3
    np.testing.assert_allclose(net["lif"].tau_mem, 5e-3 / (1 - BETA))
    scaled = read(snn_leaky(), frontend="snntorch", time_scale=50)
    assert scaled.dt == pytest.approx(5e-3)
    np.testing.assert_allclose(scaled["lif"].tau_mem, net["lif"].tau_mem)


# --- Norse -----------------------------------------------------------------------------------------------------------

TAU_MEM, TAU_SYN = RNG.uniform(5e-3, 2e-2, N), RNG.uniform(3e-3, 1e-2, N)


def norse_lif(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
    jump = state["i"] + x
    v = state["v"] + 1e-3 / TAU_MEM * ((0.1 - state["v"]) + jump)
    state["i"] = jump - 1e-3 / TAU_SYN * jump
    spikes = v > THRESHOLD
    state["v"] = np.where(spikes, 0, v)
    return spikes.astype(float)


def norse_lifbox(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
    v = state["v"] + 1e-3 / TAU_MEM * (4 * x + 0.1 - state["v"])
    spikes = v > THRESHOLD
    state["v"] = np.where(spikes, 0, v)
    return spikes.astype(float)


@pytest.mark.parametrize("factor", [1e-3, 1.0], ids=["norse 1.1.0 writes dt*tau", "later versions write tau"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_norse(factor: float, recurrent: bool) -> None:
    rest: dict[str, Any] = {"r": ONES, "v_leak": 0.1 * ONES, "v_threshold": THRESHOLD}
    cuba: Any = nir.CubaLIF
    node = cuba(tau_mem=factor * TAU_MEM, tau_syn=factor * TAU_SYN, **rest)
    same(read(node, recurrent, frontend="norse"), run(norse_lif, recurrent, start=0.1))


def test_norse_box() -> None:
    node = nir.LIF(tau=1e-3 * TAU_MEM, r=ONES, v_leak=0.1 * ONES, v_threshold=THRESHOLD)
    nodes = {"input": port_in(4), "fc": nir.Linear(4 * W), "lif": node, "output": port_out(N)}
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
    same(nd.from_nir(graph(nodes, edges), frontend="norse"), run(norse_lifbox, start=0.1))


# --- Sinabs, Spyx, Rockpool ------------------------------------------------------------------------------------------


def multiple(v: np.ndarray) -> np.ndarray:
    return np.where(v >= THRESHOLD, np.floor(v / THRESHOLD), 0)


def test_sinabs() -> None:
    tau = RNG.uniform(3, 15, N)
    decay = np.exp(-1 / tau)

    def step(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
        v = decay * state["v"] + (1 - decay) * x * 6
        spikes = multiple(v)
        state["v"] = v - spikes * THRESHOLD
        return spikes

    node = nir.LIF(tau=tau, r=ONES, v_leak=ZEROS, v_threshold=THRESHOLD)
    nodes = {"input": port_in(4), "fc": nir.Linear(6 * W), "lif": node, "output": port_out(N)}
    net = nd.from_nir(
        graph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")]), frontend="sinabs", dt=1e-3, time_scale=1
    )
    same(net, run(step))
    np.testing.assert_allclose(net["lif"].tau_mem, 1e-3 / (1 - decay))


def test_sinabs_integrate_and_fire() -> None:
    def step(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
        v = state["v"] + x
        spikes = multiple(v)
        state["v"] = v - spikes * THRESHOLD
        return spikes

    same(read(nir.IF(r=ONES, v_threshold=THRESHOLD), frontend="sinabs", dt=2e-3), run(step))


@pytest.mark.parametrize("step_in_file", [1.0, 1e-3])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("synaptic", [False, True])
def test_spyx(synaptic: bool, recurrent: bool, step_in_file: float) -> None:
    def step(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
        spikes = (state["v"] > THRESHOLD).astype(float)
        x = x - (state["s"] @ REC.T if recurrent else 0) + (spikes @ REC.T if recurrent else 0)  # feedback of this step
        if synaptic:
            state["i"] = ALPHA * state["i"] + x
            state["v"] = BETA * (state["v"] - spikes * THRESHOLD) + state["i"]
        else:
            state["v"] = BETA * state["v"] + x - spikes * THRESHOLD
        return spikes

    mem, syn = step_in_file / (1 - BETA), step_in_file / (1 - ALPHA)
    rest: dict[str, Any] = {"r": BETA, "v_leak": ZEROS, "v_threshold": THRESHOLD}
    node = nir.CubaLIF(tau_mem=mem, tau_syn=syn, **rest) if synaptic else nir.LIF(tau=mem, **rest)
    net = read(node, recurrent, frontend="spyx", dt=1e-3)
    assert net.dt == 1e-3
    same(net, run(step, recurrent))


def test_rockpool() -> None:
    dt = 1e-3
    mem, syn = np.exp(-dt / TAU_MEM), np.exp(-dt / TAU_SYN)

    def step(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
        state["i"] = syn * (state["i"] + x)
        v = mem * state["v"] + state["i"]
        spikes = multiple(v)
        state["v"] = v - spikes * THRESHOLD
        return spikes

    node = nir.CubaLIF(tau_mem=TAU_MEM, tau_syn=TAU_SYN, r=TAU_MEM * mem / dt, v_leak=ZEROS, v_threshold=THRESHOLD)
    net = read(node, frontend="rockpool")
    assert net.dt == pytest.approx(dt, rel=1e-5)
    spikes = run(step)
    ours = nd.simulate(read(node, frontend="rockpool", dt=dt), X, ideal=True, backend="numpy").output
    assert spikes.max() > 1
    np.testing.assert_array_equal(ours, spikes)


# --- SpikingJelly, and all that fire where v = v_threshold ------------------------------------------------------------


@pytest.mark.parametrize("dt", [None, 1e-3, 7e-3])
@pytest.mark.parametrize("step", [1e-4, 1 / 3000])
@pytest.mark.parametrize("decay_input", [False, True])
@pytest.mark.parametrize("recurrent", [False, True])
def test_spikingjelly(recurrent: bool, decay_input: bool, step: float, dt: float | None) -> None:
    tau, reset = 3.7, -0.1

    def charge(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
        leak = state["v"] - reset
        v = state["v"] + (x - leak) / tau if decay_input else state["v"] - leak / tau + x
        spikes = v >= THRESHOLD
        state["v"] = np.where(spikes, reset, v)
        return spikes.astype(float)

    weight = 3 * W if decay_input else W
    gain = ONES if decay_input else tau * ONES
    node = nir.LIF(tau=tau * step * ONES, r=gain, v_leak=reset * ONES, v_threshold=THRESHOLD, v_reset=reset * ONES)
    nodes = {"input_1": port_in(4), "_0": nir.Linear(weight), "_1": node, "output": port_out(N)}
    edges = [("input_1", "_0"), ("_0", "_1"), ("_1", "output")]
    if recurrent:
        nodes["back"] = nir.Linear(REC)
        edges += [("_1", "back"), ("back", "_1")]
    noted = {"dt": step} if decay_input and step != 1e-4 else None
    net = nd.from_nir(graph(nodes, edges, noted), frontend="spikingjelly", dt=dt)
    state = {"v": np.full((2, N), reset), "s": np.zeros((2, N))}
    out = np.zeros((2, T, N))
    for t in range(T):
        out[:, t] = state["s"] = charge(state, X[:, t] @ weight.T + (state["s"] @ REC.T if recurrent else 0))
    same(net, out)
    assert net.dt == pytest.approx(dt or step)


def jelly(weight: float, dt: float = 1e-3, **options: Any) -> nd.Network:
    """An integrate-and-fire neuron with threshold 1 behind one input."""
    neuron = nir.IF(r=np.array([1 / dt]), v_threshold=np.ones(1), v_reset=np.zeros(1))
    nodes = {"input_1": port_in(1), "_0": nir.Linear(np.array([[weight]])), "_1": neuron, "output": port_out(1)}
    return nd.from_nir(graph(nodes, [("input_1", "_0"), ("_0", "_1"), ("_1", "output")]), **options)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize(("weight", "spikes", "strictly"), [(1.0, 20, 10), (0.5, 10, 6), (0.125, 2, 2), (0.99, 10, 10)])
def test_a_threshold_that_is_met(weight: float, spikes: int, strictly: int, backend: Any) -> None:
    def count(net: nd.Network) -> int:
        return int(nd.simulate(net, np.ones((1, 20, 1)), ideal=True, backend=backend).output.sum())

    net = jelly(weight, frontend="spikingjelly", dt=5e-3)
    assert count(net) == count(nd.from_nir(nd.to_nir(net))) == spikes
    assert count(jelly(weight, dt=1e-3)) == strictly
    assert len(told(net, "threshold")) == 1
    assert not told(jelly(weight, dt=1e-3), "threshold")


@pytest.mark.parametrize("threshold", [1.0, 0.1, 1 / 3, 0.0, -0.25, 1e-30, 3e38])
def test_the_number_just_below_a_threshold(threshold: float) -> None:
    """Above it are the float32 numbers from the threshold on, and no others."""
    met = np.float32(threshold)
    (below,) = just_below(np.array([threshold])).astype(np.float32)
    assert met > below
    under = np.nextafter(met, np.float32(-np.inf)) if met else -np.finfo(np.float32).tiny
    assert not under > below


@pytest.mark.parametrize("frontend", ["sinabs", "rockpool"])
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_single_spikes_of_those_that_fire_at_the_threshold(frontend: str, reset: Any) -> None:
    """Sinabs' SingleSpike and Rockpool's max_spikes_per_dt=1 compare with ≥, as their several spikes per step do."""
    node = nir.IF(r=np.ones(1), v_threshold=np.ones(1))
    nodes = {"input": port_in(1), "fc": nir.Linear(np.array([[0.5]])), "if": node, "output": port_out(1)}
    chain = list(itertools.pairwise(nodes))
    net = nd.from_nir(graph(nodes, chain), frontend=frontend, dt=1.0, reset=reset)
    counts = nd.simulate(net, np.ones((1, 20, 1)), ideal=True, backend="numpy").output
    np.testing.assert_array_equal(counts[0, :, 0], np.tile([0, 1], 10))


@pytest.mark.parametrize(
    ("dt", "severity", "says"),
    [
        (None, "info", "10 steps"),
        (1e-4, "info", "10 steps"),
        (1e-3, "info", "10 steps"),
        (5e-4, "warning", "exported with dt=0.0005, that is 2 steps"),
    ],
)
def test_the_dt_of_spikingjelly_is_asked_for_where_it_may_be_another(
    dt: float | None, severity: str, says: str
) -> None:
    node = nir.LIF(tau=1e-3 * ONES, r=ONES, v_leak=ZEROS, v_threshold=THRESHOLD, v_reset=ZEROS)
    (asked,) = [f for f in told(read(node, frontend="spikingjelly", dt=dt), "dt") if "SpikingJelly" in f.what]
    assert asked.severity == severity
    assert says in asked.what + asked.hint


def test_a_time_constant_that_spikingjelly_refuses() -> None:
    node = nir.LIF(tau=0.8e-4 * ONES, r=ONES, v_leak=ZEROS, v_threshold=THRESHOLD, v_reset=ZEROS)
    found = told(read(node, frontend="spikingjelly", dt=1e-3), "dt")
    assert any(f.severity == "warning" and "above 1 step" in f.hint for f in found)


@pytest.mark.parametrize(
    ("names", "suggested"),
    [
        (("input_1", "_0", "_1"), True),
        (("input_1", "_0", "_1_0"), True),
        (("x", "fc", "block_0"), True),
        (("input", "0", "1"), False),
        (("input_tensor", "_0", "_1"), False),
    ],
)
@pytest.mark.parametrize("step", [1e-4, 1e-3])
def test_names_of_spikingjelly_suggest_its_profile(step: float, names: tuple[str, str, str], suggested: bool) -> None:
    node = nir.LIF(tau=4 * step * ONES, r=ONES, v_leak=ZEROS, v_threshold=THRESHOLD, v_reset=ZEROS)
    nodes = dict(zip(names, (port_in(4), nir.Linear(W), node), strict=True)) | {"output": port_out(N)}
    found = told(nd.from_nir(graph(nodes, list(itertools.pairwise(nodes))), dt=step), "frontend")
    assert [f.severity for f in found] == ([] if not suggested else ["info"] if step == 1e-4 else ["warning"])
    if suggested:
        assert 'frontend="spikingjelly"' in found[0].hint
        with pytest.raises(nd.ParameterRangeError, match='frontend="spikingjelly"'):  # Euler diverges
            nd.from_nir(graph(nodes, list(itertools.pairwise(nodes))), dt=2.5 * 4 * step)


# --- hxtorch, which has no profile: as docs/frontends.md says ---------------------------------------------------------


def test_hxtorch_by_hand() -> None:
    """Its membrane takes the current of the step before: dv = dt/c·(i + g·(v_leak − v)), then i ← i·(1 − dt/τ_syn) + x."""
    dt, leak, reset, c = 1e-3, 0.1, -0.1, 1e-2
    g = c / TAU_MEM

    def step(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
        v = state["v"] + dt / c * (state["i"] + g * (leak - state["v"]))
        state["i"] = state["i"] * (1 - dt / TAU_SYN) + x
        spikes = v > THRESHOLD
        state["v"] = np.where(spikes, reset, v)
        return spikes.astype(float)

    rest: dict[str, Any] = {"v_leak": leak * ONES, "v_threshold": THRESHOLD, "v_reset": reset * ONES}
    node = nir.CubaLIF(tau_mem=1e3 * TAU_MEM, tau_syn=1e3 * TAU_SYN, r=TAU_MEM / c, w_in=TAU_SYN / dt, **rest)
    nodes = {"0": port_in(4), "1": nir.Linear(4 * W), "2": node, "3": port_out(N)}
    net = nd.from_nir(graph(nodes, list(itertools.pairwise(nodes))), time_unit="ms", dt=dt)
    state = {"v": np.full((2, N), leak), "i": np.zeros((2, N))}
    spikes = np.stack([step(state, 4 * X[:, t] @ W.T) for t in range(T)], 1)
    same(net.with_semantics(emission="next-step", start="leak"), spikes)


# --- what the specification makes of foreign values ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "options", "named"),
    [
        (nir.CubaLIF(tau_mem=TAU_MEM, tau_syn=TAU_SYN, r=ONES, v_leak=ZEROS, v_threshold=ONES), {"dt": 1e-3}, "norse"),
        (nir.LIF(tau=20e-3 * ONES, r=0.9 * ONES, v_leak=ZEROS, v_threshold=ONES), {"dt": 1e-3}, "spyx"),
        (nir.IF(r=ONES, v_threshold=ONES), {"dt": 1e-3}, "sinabs"),
        (nir.LIF(tau=1e-3 * TAU_MEM, r=ONES, v_leak=ZEROS, v_threshold=ONES), {}, "norse"),
        (nir.LIF(tau=20 * ONES, r=ONES, v_leak=ZEROS, v_threshold=ONES), {}, "sinabs"),
        (nir.LIF(tau=20 * ONES, r=0.95 * ONES, v_leak=ZEROS, v_threshold=ONES), {}, "spyx"),
    ],
)
def test_suspicious_values_name_the_likely_profile(node: Any, options: dict[str, Any], named: str) -> None:
    try:
        findings = read(node, **options).findings
    except nd.ParameterRangeError as error:
        findings = error.findings
    told = [f for f in findings if f'"{named}"' in f.hint]
    assert told
    assert all(f.severity in ("warning", "error") for f in told)


def test_the_conversion_says_what_was_changed() -> None:
    rest: dict[str, Any] = {"r": ONES, "v_leak": ZEROS, "v_threshold": THRESHOLD}
    net = read(nir.CubaLIF(tau_mem=1e-5 * ONES, tau_syn=5e-6 * ONES, **rest), frontend="norse")
    row = next(c for c in net.conversion if c.node == "lif")
    assert (row.kind, row.becomes, row.verdict) == ("CubaLIF", "neurons", "exact")
    assert ("tau_mem", "1e-05", "0.01 s") in row.changes
    assert ("w_in", "1", "5") in row.changes
    assert [c.node for c in net.conversion] == ["fc", "input", "lif", "output"]


def test_unknown_options() -> None:
    with pytest.raises(nd.ParameterRangeError, match="known profiles are 'spec', 'snntorch'"):
        read(snn_leaky(), frontend="brian")
    with pytest.raises(nd.ParameterRangeError, match="reset is 'zero'"):
        read(snn_leaky(), reset="zero")


# --- what cannot be told from a file, and files of another framework -------------------------------------------------


def told(net: nd.Network, code: str) -> list[Any]:
    return [f for f in net.findings if f.code == code]


def test_norse_with_a_time_constant_of_a_second() -> None:
    """1.1.0 writes it as 1 ms, which only the other layer tells; as what it is, it is too long for the chip."""
    rest: dict[str, Any] = {"r": ONES, "v_leak": ZEROS, "v_threshold": THRESHOLD}
    nodes = {"input": port_in(4), "fc": nir.Linear(W), "a": nir.LIF(tau=1e-5 * ONES, **rest), "fc2": nir.Linear(REC)}
    nodes |= {"b": nir.LIF(tau=1e-3 * ONES, **rest), "output": port_out(N)}
    names = list(nodes)
    chain = list(itertools.pairwise(names))
    with pytest.raises(nd.ParameterRangeError, match=r"node 'b', neuron 0: tau is 1 s"):
        nd.from_nir(graph(nodes, chain), frontend="norse", dt=1e-3)
    nodes["b"] = nir.LIF(tau=0.25e-3 * ONES, **rest)
    net = nd.from_nir(graph(nodes, chain), frontend="norse", dt=1e-3)
    np.testing.assert_allclose(net["b"].tau_mem, 0.25)
    scaled = nd.from_nir(graph(nodes, chain), frontend="norse", time_scale=0.5)
    np.testing.assert_allclose(scaled["b"].tau_mem, 0.125)
    assert scaled.dt == pytest.approx(0.5e-3)
    assert [f.severity for f in told(scaled, "dt")] == ["warning"]
    assert "v_reset" in told(net, "reset")[0].what


@pytest.mark.parametrize("frontend", ["norse", "sinabs", "spyx", "snntorch", "rockpool", "spikingjelly"])
def test_gains_that_the_frontend_does_not_write_are_told(frontend: str) -> None:
    unit, dt = {
        "snntorch": (1e-3, 1e-3),
        "spikingjelly": (1e-3, 1e-3),
        "norse": (1e-2, 1e-2),
        "rockpool": (1e-2, 1e-2),
    }.get(frontend, (1.0, 1e-2))
    odd = nir.LIF(tau=np.linspace(2, 3, N) * unit, r=np.linspace(2, 9, N), v_leak=ZEROS, v_threshold=ONES)
    net = read(odd, frontend=frontend, dt=dt)
    assert [f.severity for f in told(net, "gain")] == ["warning"]
    usual = snn_leaky() if frontend == "snntorch" else None
    if usual is not None:
        assert not told(read(usual, frontend=frontend, dt=1e-3), "gain")


def test_decays_that_snntorch_clamps() -> None:
    beta = np.array([-0.2, 0.0, 0.5, 0.9, 0.3, 0.1])
    tau = 1e-4 / (1 - beta)
    node = nir.LIF(tau=tau, r=tau / 1e-4, v_leak=ZEROS, v_threshold=THRESHOLD, v_reset=ZEROS)
    net = read(node, frontend="snntorch", dt=1e-3)
    assert "-0.2" in told(net, "decay")[0].what
    np.testing.assert_allclose(net["lif"].step_gains(1e-3).leak, 1 - np.maximum(beta, 0))
    endless = nir.LIF(tau=np.full(N, np.inf), r=np.full(N, np.inf), v_leak=ZEROS, v_threshold=ONES, v_reset=ZEROS)
    with pytest.raises(nd.ParameterRangeError, match="beta = 1"):
        read(endless, frontend="snntorch")


@pytest.mark.parametrize(("r", "severity"), [(1.2, "warning"), (50.0, "warning"), (20.0, "info")])
def test_one_ratio_is_no_evidence_for_a_step(r: float, severity: str) -> None:
    node = nir.LIF(tau=(0.02 if r == 20 else 0.021) * ONES, r=r * ONES, v_leak=ZEROS, v_threshold=ONES)
    assert [f.severity for f in told(read(node), "dt")] == [severity]


def test_the_error_of_a_snntorch_file_read_as_the_specification_names_it() -> None:
    with pytest.raises(nd.ParameterRangeError, match='frontend="snntorch"'):
        read(snn_leaky(), dt=5e-3)


def test_a_reset_delay_under_the_specification_keeps_what_was_noted() -> None:
    g = nd.to_nir(read(snn_leaky(), dt=1e-3, frontend="snntorch"))
    assert nd.from_nir(g)["lif"].reset == "subtract-late"
    assert nd.from_nir(g, reset_delay=False)["lif"].reset == "subtract"
    assert nd.from_nir(g, reset_delay=True)["lif"].reset == "subtract-late"
