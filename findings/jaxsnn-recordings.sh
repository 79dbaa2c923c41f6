#!/usr/bin/env bash
# jaxsnn 0.3.0, event.to_nir_data. Known since November 2026.
# Expected: EventData of a layer holds its spikes, n_neurons its neurons, and empty places the time inf, as nir says.
# Happens: a layer's recording holds the events that it received beside its own spikes, under the same indices; n_neurons is the number
# of simulated events (0 for the input); empty places have the time 2 t_max; a recording ends when its places are full.
# What to do: take off what the source of each layer sent (same time, same index), take sizes from the graph, simulate enough events.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install -q jaxsnn==0.3.0 nir==1.0.8 numpy==2.4.6 jax==0.10.2
cd "$folder"
env/bin/python - <<'PY'
import sys

import jax.numpy as jnp
import nir
import numpy as np
from jax.random import PRNGKey
from jaxsnn.event import ConversionConfig, from_nir, to_nir_data
from jaxsnn.event.types import Spike

one = np.ones(2)
neurons = nir.CubaLIF(tau_mem=10 * one, tau_syn=5 * one, r=one, v_leak=0 * one, v_reset=0 * one, v_threshold=0.3 * one, w_in=one)
nodes = {"input": nir.Input(np.array([3])), "w": nir.Linear(np.full((3, 2), 1.5, "f4")), "n": neurons, "out": nir.Output(np.array([2]))}
graph = nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "out")], type_check=False)  # its weights are (input, output)
topology = from_nir(graph, ConversionConfig(t_max=0.05, n_steps={"n": 8}))
init, apply = topology.done()
time = jnp.array([[0.001, 0.003, 0.008, jnp.inf]])
index = jnp.array([[0, 2, 1, -1]])
spikes = Spike(time, index, jnp.zeros(time.shape), jnp.zeros(time.shape, int), jnp.ones(time.shape, bool))
run = {node: held for node, held in apply({"input": spikes}, init(PRNGKey(0))).items() if held is not None}
data = to_nir_data(run, topology)
layer, source = (data.nodes[node].observables["spikes"] for node in ("n", "input"))
received = int((~np.asarray(run["n"].internal)).sum())
print(f"layer of 2 neurons: n_neurons {layer.n_neurons}, {layer.idx.shape[1]} events, {received} of them received, indices {layer.idx[0]}")
print(f"input of 3 channels: n_neurons {source.n_neurons}, empty place at {source.time[0, -1]:g} s for t_max {source.t_max:g} s")
holds = layer.n_neurons == 8 and received and source.n_neurons == 0 and np.isfinite(source.time[0, -1])
sys.exit(0 if holds else "jaxsnn writes a layer's own spikes and sizes now")
PY
