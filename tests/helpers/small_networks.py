"""Small networks for the tests (the fixture `networks`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.network.network import Network, Population, Port, Projection, Readout


def population(
    name: str, n: int, tau_mem: float = 20e-3, tau_syn: float | None = 5e-3, dt: float = 1e-3, v_leak: float = 0.0
) -> Population:
    """LIF or CubaLIF with unit gains per step, threshold 1, reset 0."""
    kind = "LIF" if tau_syn is None else "CubaLIF"

    def full(value: float) -> np.ndarray:
        return np.full(n, value)

    return Population(
        name,
        kind,
        full(tau_mem),
        full(tau_mem / dt),
        full(v_leak),
        full(1.0),
        full(0.0),
        None if tau_syn is None else full(tau_syn),
        None if tau_syn is None else full(tau_syn / dt),
    )


def feed_forward(weights: np.ndarray, dt: float = 1e-3, **kwargs: float | None) -> Network:
    """in -> hidden with weights (hidden, in); hidden is the output."""
    n, m = weights.shape
    return Network(
        (population("hidden", n, dt=dt, **kwargs),),  # type: ignore[arg-type]
        (Projection.from_dense("in", "hidden", weights, nodes=("fc",)),),
        (Port("in", (m,)),),
        (Port("out", (n,), "hidden"),),
        dt,
    )


def recurrent(seed: int, n_in: int, n_hidden: int, n_out: int, fan_in: int = 12, dt: float = 1e-3) -> Network:
    """in -> hidden (sparse recurrence) -> output with random signed weights; every neuron has inputs."""
    rng = np.random.default_rng(seed)

    def sparse(n_post: int, n_pre: int, k: int, scale: float) -> np.ndarray:
        matrix = np.zeros((n_post, n_pre))
        for row in matrix:
            chosen = rng.choice(n_pre, min(k, n_pre), replace=False)
            row[chosen] = rng.choice([-1, 1, 1], len(chosen)) * rng.uniform(0.3, 1.0, len(chosen)) * scale
        return matrix

    return Network(
        (population("hidden", n_hidden, dt=dt), population("output", n_out, dt=dt)),
        (
            Projection.from_dense("in", "hidden", sparse(n_hidden, n_in, fan_in, 0.08), nodes=("fc",)),
            Projection.from_dense("hidden", "hidden", sparse(n_hidden, n_hidden, fan_in, 0.03), nodes=("w_rec",)),
            Projection.from_dense("hidden", "output", sparse(n_out, n_hidden, 4 * fan_in, 0.05), nodes=("readout",)),
        ),
        (Port("in", (n_in,)),),
        (Port("out", (n_out,), "output"),),
        dt,
    )


def dense(seed: int, n_in: int, n_hidden: int, n_out: int, dt: float = 1e-3) -> Network:
    """in -> hidden -> out, LIF neurons with all connections."""
    rng = np.random.default_rng(seed)
    layers = (
        Projection.from_dense("in", "hidden", rng.normal(0.05, 0.2, (n_hidden, n_in)), nodes=("fc1",)),
        Projection.from_dense("hidden", "out", rng.normal(0.05, 0.2, (n_out, n_hidden)), nodes=("fc2",)),
    )
    populations = (population("hidden", n_hidden), population("out", n_out))
    return Network(populations, layers, (Port("in", (n_in,)),), (Port("output", (n_out,), "out"),), dt)


def with_readout() -> Network:
    """A recurrent network with two values on the host behind it."""
    net = recurrent(0, 4, 6, 3, fan_in=3)
    n = np.ones(2)
    leak = Population("li", "LI", 20e-3 * n, n, 0.1 * n, np.inf * n, 0 * n, shape=(2, 1))
    volts = Population("volts", "I", np.inf * n, n, 0 * n, np.inf * n, 0.3 * n)
    weight = np.random.default_rng(0).normal(0, 1, (2, 3))
    projections = (
        Projection.from_dense("output", "li", weight, nodes=("fc",), bias=np.array([0.1, 1 / 3])),
        Projection.from_dense("li", "volts", weight[:, :2]),
    )
    readout = Readout((leak, volts), projections)
    return replace(net, outputs=(Port("out", (2,), "volts"), Port("spikes", (3,), "output")), readout=readout)
