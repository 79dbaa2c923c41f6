"""`simulate` beside Brian2's C++ standalone, turn by turn: 1 024 recurrent neurons of 64 synapses, four currents, 1 s.

    python3 -m uv run python tests/benchmarks/brian.py --brian PYTHON [--turns 9]

PYTHON is that of an environment with brian2==2.11.0 (and setuptools), which needs Python 3.13 and a C++ compiler.
Brian2 gets the same constants, synapses and input events and computes in float32 on one thread, with the flags -O3
-march=native -ffast-math: dendrites exactly, the membrane by Euler's method in steps as long as ours, with neither the
time of a spike within a step nor a refractory period that ends there (`brian_arm.py`). Of Brian2 the loop over time is
counted alone, as it measures it, without its build, start and files; of ours the whole call of `simulate`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from dynapsim_arms import Ours, Setting

import nir_dynapse as nd
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.circuit import constants, internal_step, structure_of
from nir_dynapse.sim.wiring import synaptic_kick, tau_of

SETTING = Setting(64, 1024, 1000, 1, fan_in=64)


def network() -> tuple[Params, np.ndarray]:
    """The circuit and its input (bins, inputs); a source uses one of four dendrites."""
    arm = Ours(SETTING)
    params = jax.tree_util.tree_map(np.asarray, replace(arm.params, weight=arm.weights))
    return params, np.asarray(arm.x[0])


def for_brian(params: Params, x: np.ndarray) -> dict[str, np.ndarray]:
    """Constants in units of time s and the rest dimensionless (`sim.dynamics`), synapses and events."""
    t, h = params.topology, params.topology.dt / internal_step(params, params.topology.dt)
    c = constants(params, h, structure_of(params, h), np, np.float64)
    value = np.asarray(params.row_currents() * synaptic_kick(params, h, np)[t.dendrite, t.post])
    bins, channel = np.nonzero(x)
    every = {
        name: np.broadcast_to(getattr(c, name), t.n_neurons) for name in ("rate", "floor", "threshold", "refractory")
    }
    taus = np.stack([np.broadcast_to(tau_of(params, d, np), t.n_neurons) for d in range(4)])
    synapses = {"pre": t.pre, "post": t.post, "dendrite": t.dendrite, "value": value}
    events = {"channel": channel, "time": bins * t.dt}
    return {
        **every,
        **synapses,
        **events,
        "taus": taus,
        "h": np.array(h),
        "seconds": np.array(len(x) * t.dt),
        "inputs": np.array(SETTING.n_in),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brian", required=True, metavar="PYTHON")
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    params, x = network()
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "network.npz", **for_brian(params, x))  # pyright: ignore[reportArgumentType]
        command = [given.brian, str(Path(__file__).with_name("brian_arm.py")), folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as brian:
            assert brian.stdin is not None
            assert brian.stdout is not None

            def turn() -> tuple[float, float]:
                """Seconds of Brian2, and its spikes per neuron and ms."""
                assert brian.stdin is not None
                assert brian.stdout is not None
                print(file=brian.stdin, flush=True)
                seconds, spikes = json.loads(brian.stdout.readline())
                return seconds, spikes / x.shape[0] / SETTING.n

            print(f"Brian2 built in {json.loads(brian.stdout.readline()):.0f} s", flush=True)
            result = nd.simulate(params, x[None])
            turn()
            ours, theirs, rate = [], [], 0.0
            for _ in range(given.turns):
                start = time.perf_counter()
                result = nd.simulate(params, x[None])
                ours.append(time.perf_counter() - start)
                seconds, rate = turn()
                theirs.append(seconds)
            brian.stdin.close()
    spikes = np.mean([np.asarray(value).mean() for value in result.spikes.values()])
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"ours {1e3 * statistics.median(ours):.1f} ms at {spikes:.3f} spikes per neuron and ms")
    print(f"Brian2 {1e3 * statistics.median(theirs):.1f} ms at {rate:.3f}; ours {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
