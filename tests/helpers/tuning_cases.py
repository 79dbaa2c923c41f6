"""Tiny networks, data and trainings for the tests of `fine_tune`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

import nir_dynapse as nd
from nir_dynapse.network.network import Network, Population, Port, Projection, Readout
from small_networks import population

DT, BINS = 1e-3, 20
SPREAD = nd.Mismatch.uniform(0.2)


@contextmanager
def shared_compilation(folder: Path) -> Iterator[None]:
    """Trainings share their compiled steps, in this process and in those that read the same folder."""
    values = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_disable_most_optimizations": True,  # compiling takes longer than these trainings
    }
    before = {name: jax.config.values[name] for name in values}
    compilation_cache.reset_cache()
    for name, value in values.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def network(seed: int = 0, n_hidden: int = 6, recurrent: bool = False, scale: float = 1.0) -> Network:
    """4 inputs -> hidden (-> hidden) -> 2 outputs."""
    rng = np.random.default_rng(seed)
    layers = [
        Projection.from_dense("in", "hidden", scale * rng.normal(0.12, 0.1, (n_hidden, 4)), nodes=("fc1",)),
        Projection.from_dense("hidden", "out", scale * rng.normal(0.12, 0.12, (2, n_hidden)), nodes=("fc2",)),
    ]
    if recurrent:
        again = Projection.from_dense("hidden", "hidden", rng.normal(0, 0.05, (n_hidden, n_hidden)), nodes=("rec",))
        layers.append(again)
    return Network(
        (population("hidden", n_hidden), population("out", 2)),
        tuple(layers),
        (Port("in", (4,)),),
        (Port("output", (2,), "out"),),
        DT,
    )


def integrator(name: str, kind: str, size: int = 2) -> Population:
    """A population of a readout with values that differ between neurons."""
    some, none = np.linspace(1.0, 1.5, size), np.zeros(size)
    current = {"tau_syn": 4e-3 * some, "w_in": 3 * some} if kind == "CubaLI" else {}
    memory = {"LI": 12e-3 * some, "CubaLI": 12e-3 * some, "I": np.inf * some, "Linear": none}[kind]
    gain = {"I": 50.0, "Linear": 1.0}.get(kind, 12.0) * some
    leak, reset = (0.2 * some, 0.1 * some) if kind in ("LI", "CubaLI") else (none, none)
    return Population(name, kind, memory, gain, leak, np.inf * some, reset, **current)  # type: ignore[arg-type]


def with_readout(kind: str = "LI", seed: int = 0) -> Network:
    """4 inputs -> 6 hidden neurons, read out on the host by two integrators."""
    rng, net = np.random.default_rng(seed), network(seed)
    matrix = rng.normal(0, 0.4, (2, 6))
    read = Projection.from_dense("hidden", "sum", matrix, bias=np.array([0.01, -0.02]), nodes=("fc2",))
    return Network(
        net.populations[:1],
        net.projections[:1],
        net.inputs,
        (Port("output", (2,), "sum"),),
        DT,
        readout=Readout((integrator("sum", kind),), (read,)),
    )


def data(samples: int = 32, seed: int = 1, bins: int = BINS) -> nd.Data:
    """Class 0: the first two inputs are the busier ones; class 1: the others."""
    y = np.arange(samples) % 2
    rates = np.where(y[:, None] == np.arange(4) // 2, 0.55, 0.15)
    x = np.random.default_rng(seed).random((samples, bins, 4)) < rates[:, None]
    return nd.Data(x.astype(np.uint8), y, DT)


def short(**changes: Any) -> nd.TrainingOptions:
    """Options of a training of a few steps."""
    values = {
        "batch": 4,
        "check_every": 2,
        "held_out": 2,
        "ramp": 0.0,
        "rows": 2,
        "fit": False,
        "distil": 0.0,
        **changes,
    }
    return nd.TrainingOptions(**values)


def same(a: nd.Params, b: nd.Params) -> bool:
    """Whether two Params are equal, bit for bit."""
    leaves = zip(jax.tree_util.tree_leaves(a), jax.tree_util.tree_leaves(b), strict=True)
    return a.topology == b.topology and all(np.array_equal(x, y) for x, y in leaves)
