"""A DYNAP-SE2 network as a Lava process: the same spikes as `simulate` in NumPy, bin by bin."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("lava.magma.core.process.process", reason="lava-nc 0.10 exists for Python 3.10 only")

# Lava forks its workers and can hang; every run lives in a process of its own with a hard time limit.
SCRIPT = """
import sys
import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

from nir_dynapse.compiler import compile
from nir_dynapse.device import Mismatch
from nir_dynapse.lava_process.process import DynapSE2
from nir_dynapse.network import Network, Population, Port, Projection
from nir_dynapse.closed_form import to_params
from nir_dynapse.sim.mismatch import fabricate
from nir_dynapse.sim.simulation import simulate

rng = np.random.default_rng(3)
n, steps, dt = 24, 80, 1e-3
full = lambda value: np.full(n, value)
pop = Population("rec", "CubaLIF", full(20e-3), full(20.0), full(0.0), full(1.0), full(0.0), full(5e-3), full(5.0))
net = Network(
    (pop,),
    (
        Projection.from_dense("in", "rec", rng.normal(0.05, 0.1, (n, 6)), bias=rng.uniform(0, 0.02, n), nodes=("fc",)),
        Projection.from_dense("rec", "rec", rng.normal(0, 0.05, (n, n)), nodes=("w_rec",)),
    ),
    (Port("in", (6,)),),
    (Port("out", (n,), "rec"),),
    dt,
)
x = rng.poisson(0.3, (steps, 6))
thing = {"network": net, "layout": compile(net), "chip": fabricate(to_params(net), Mismatch(), 7)}[sys.argv[1]]
expected = simulate(thing, x, backend="numpy").output[0]
if sys.argv[2] == "jax-first":
    simulate(thing, x)  # a parent that has used JAX must not make the children hang

process = DynapSE2(thing=thing)
source, sink = Source(data=x.T.astype(float)), Sink(shape=(n,), buffer=steps)
source.s_out.connect(process.s_in)
process.s_out.connect(sink.a_in)
process.run(condition=RunSteps(num_steps=steps // 2), run_cfg=Loihi2SimCfg(select_tag="floating_pt"))
process.run(condition=RunSteps(num_steps=steps - steps // 2))
got = sink.data.get().T
v = process.membrane.get()
process.stop()
assert expected.sum() > 50, "the test needs spikes"
assert (got == expected).all(), (got.sum(), expected.sum())
assert v.shape == (n,) and v.min() < 0 < v.max(), "some neurons wait, some integrate"
print("equal", int(got.sum()))
"""


@pytest.mark.parametrize(("thing", "mode"), [("network", "jax-first"), ("layout", "plain"), ("chip", "plain")])
def test_lava_gives_the_spikes_of_simulate(thing: str, mode: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), thing, mode], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.startswith("equal")
