"""jaxsnn: its own importer runs what is written for it, in continuous time; where it is installed (Python 3.12 on)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np

import nir_dynapse as nd
import reader_models as models
from frontend_models import Draw, framework
from nir_dynapse.backend import written_for

conversion = framework("jaxsnn.event.utils.from_nir")
Spike = framework("jaxsnn.event.types").Spike

T, SPIKES = 0.1, 24


def network(dt: float) -> nd.Network:
    """Two layers with tau_mem = 2·tau_syn, whose spikes add the same to the current whatever the step."""
    draw, before = Draw(0), "input"
    nodes: dict[str, Any] = {"input": models.port(12)}
    edges = []
    for name, n_in, n in (("l1", 12, 20), ("l2", 20, 7)):
        tau, zeros = np.full(n, 10e-3), np.zeros(n)
        rest = {"v_leak": zeros, "v_threshold": draw.between(0.7, 1.3, n), "v_reset": zeros}
        nodes[f"fc_{name}"] = nir.Linear(draw.weight(n, n_in, 5.0))
        nodes[name] = nir.CubaLIF(tau_mem=tau, tau_syn=tau / 2, r=np.full(n, 2.0), w_in=tau / 4 / dt, **rest)
        edges += [(before, f"fc_{name}"), (f"fc_{name}", name)]
        before = name
    nodes["output"] = models.port(7, out=True)
    return nd.from_nir(nir.NIRGraph(nodes, [*edges, (before, "output")]), dt=dt)


def run(path: Path, times: np.ndarray, channels: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(times, neurons) of the spikes of each layer."""
    jax = framework("jax")
    graph = nir.read(path, type_check=False)  # weights are (in, out)
    topology = conversion.from_nir(graph, conversion.ConversionConfig(t_max=T, n_steps={"l1": 200, "l2": 400}))
    init, apply = topology.done()
    shape = (1, len(times))
    flags = (np.zeros(shape, np.float32), np.zeros(shape, int), np.ones(shape, bool))
    events = apply(
        {"input": Spike(times[None].astype(np.float32), channels[None], *flags)}, init(jax.random.PRNGKey(0))
    )
    found = {}
    for name in ("l1", "l2"):
        at, neuron = np.asarray(events[name].time[0]), np.asarray(events[name].idx[0])
        own = np.asarray(events[name].internal[0]) & (at < T) & (neuron >= 0)
        found[name] = at[own], neuron[own]
    return found


def test_the_same_spikes_but_for_the_step(tmp_path: Path) -> None:
    """At a step of 0.1 ms every neuron has as many spikes, the n-th of them within a few steps of jaxsnn's."""
    dt = 1e-4
    net = network(dt)
    graph, findings = written_for(net, "jaxsnn")
    assert {f.code for f in findings if f.severity != "info"} == {"step"}
    nir.write(tmp_path / "a.nir", graph)
    rng = np.random.default_rng(1)
    bins, channels = np.sort(rng.integers(0, round(T / dt), SPIKES)), rng.integers(0, 12, SPIKES)
    x = np.zeros((1, round(T / dt), 12), np.float32)
    np.add.at(x[0], (bins, channels), 1)
    ideal = nd.simulate(net, x, ideal=True).spikes
    theirs = run(tmp_path / "a.nir", bins * dt, channels)
    for name, (times, neurons) in theirs.items():
        assert len(times) > 20
        for n in range(net[name].size):
            own = np.flatnonzero(ideal[name][0, :, n]) * dt
            other = np.sort(times[neurons == n])
            assert len(own) == len(other)
            np.testing.assert_allclose(own, other, atol=20 * dt)
