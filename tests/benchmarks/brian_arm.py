"""Brian2's side of `brian.py`, run by the Python of its environment: builds a network, then runs it once per line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.remove(str(Path(__file__).parent))
import brian2 as b2  # pyright: ignore[reportMissingImports]

# y of `sim.dynamics`: τ·(1 + 1/y)·dy/dt = A − L·(1 + y), never below its floor.
EQUATIONS = """
dy/dt = rate*((A - L*(1 + y))*y/(1 + y) + int(y < floor_)*(floor_ - y)) : 1 (unless refractory)
A = clip(I0 + I1 - I2, 0, 1e10) : 1
L = 1 + I3 : 1
rate : Hz (constant)
floor_ : 1 (constant)
threshold_ : 1 (constant)
period : second (constant)
""" + "".join(f"dI{d}/dt = -I{d}/tau{d} : 1\ntau{d} : second (constant)\n" for d in range(4))


def main() -> None:
    folder = Path(sys.argv[1])
    given = dict(np.load(folder / "network.npz"))
    b2.set_device("cpp_standalone", build_on_run=False)
    b2.prefs.codegen.cpp.extra_compile_args_gcc = ["-w", "-O3", "-march=native", "-ffast-math"]
    b2.prefs.devices.cpp_standalone.extra_make_args_unix = ["-j2"]
    b2.prefs.core.default_float_dtype = np.float32
    b2.defaultclock.dt = float(given["h"]) * b2.second
    n, inputs = len(given["rate"]), int(given["inputs"])
    neurons = b2.NeuronGroup(
        n, EQUATIONS, threshold="y > threshold_", reset="y = floor_", refractory="period", method="euler"
    )
    neurons.rate, neurons.period = given["rate"] * b2.Hz, given["refractory"] * b2.second
    neurons.floor_, neurons.threshold_, neurons.y = given["floor"], given["threshold"], given["floor"]
    for d in range(4):
        setattr(neurons, f"tau{d}", given["taus"][d] * b2.second)
    source = b2.SpikeGeneratorGroup(inputs, given["channel"], given["time"] * b2.second)
    network = b2.Network(neurons, source)
    for group, first, count in ((source, 0, inputs), (neurons, inputs + 1, n)):  # the tonic channel lies between
        for d in range(4):
            chosen = (given["pre"] >= first) & (given["pre"] < first + count) & (given["dendrite"] == d)
            if chosen.any():
                synapses = b2.Synapses(group, neurons, "w : 1 (constant)", on_pre=f"I{d}_post += w")
                synapses.connect(i=given["pre"][chosen] - first, j=given["post"][chosen])
                synapses.w = given["value"][chosen]
                network.add(synapses)
    monitor = b2.SpikeMonitor(neurons, record=True)
    network.add(monitor)
    start = time.perf_counter()
    network.run(float(given["seconds"]) * b2.second)
    b2.device.build(directory=str(folder / "brian"), compile=True, run=False)
    print(json.dumps(time.perf_counter() - start), flush=True)
    for _ in sys.stdin:
        b2.device.run(directory=str(folder / "brian"), results_directory="results", with_output=False)
        print(json.dumps([float(b2.device._last_run_time), int(monitor.num_spikes)]), flush=True)


if __name__ == "__main__":
    main()
