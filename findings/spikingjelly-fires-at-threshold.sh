#!/usr/bin/env bash
# Known since 2026-11-30. SpikingJelly 2.0.0, nir 1.0.8, nirtorch 2.6.
#
# NIR defines a spike as v > v_threshold. SpikingJelly's neurons fire at v >= v_threshold, and its exporter writes the
# threshold as it is, so that a file means something else than the model that it was made of wherever a membrane meets its
# threshold exactly (weights in eighths, IF neurons, thresholds of 1: that is often). An IFNode that gets 1.0 in each of 20
# steps fires 20 times; NIR's equations with the exported values fire 10 times. Its importer reads it back as >=, so a round
# trip within SpikingJelly shows nothing.
# A reader that compares with > should lower each threshold to the float32 number just below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$folder/venv/bin/python
export UV_FIND_LINKS=${PIP_FIND_LINKS:-}
python3 -m pip install -q uv 2> /dev/null
python3 -m uv venv -q --python 3.11 "$folder/venv" # SpikingJelly asks for 3.11
python3 -m uv pip install -q --python "$python" torch==2.13.0 nir==1.0.8 nirtorch==2.6 loguru==0.7.3 tqdm==4.67.1
python3 -m uv pip install -q --python "$python" --no-deps spikingjelly==2.0.0
"$python" -W ignore - 2> "$folder/log" << 'PYTHON' || { cat "$folder/log"; exit 1; }
import sys

import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir

fc = layer.Linear(1, 1, bias=False)
fc.weight.data[:] = 1.0
net = torch.nn.Sequential(fc, neuron.IFNode())
with torch.no_grad():
    there = sum(int(net(torch.ones(1, 1)).item()) for _ in range(20))
functional.reset_net(net)
graph = export_to_nir(net, torch.zeros(1, 1), dt=1e-3)
node, weight = graph.nodes["_1"], float(graph.nodes["_0"].weight[0, 0])
v, in_nir = 0.0, 0
for _ in range(20):
    v += 1e-3 * float(node.r[0]) * weight
    if v > float(node.v_threshold[0]):
        v, in_nir = float(node.v_reset[0]), in_nir + 1
print(f"SpikingJelly fires {there} times, NIR's equations with what it exported {in_nir} times")
if (there, in_nir) != (20, 10):
    sys.exit("expected 20 and 10: SpikingJelly's comparison or its export has changed")
PYTHON
