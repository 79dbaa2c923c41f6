#!/usr/bin/env bash
# Known since 2026-11-30. SpikingJelly 2.0.0, nir 1.0.8, nirtorch 2.6.
#
# SpikingJelly's neurons count in steps. `export_to_nir(net, x, dt=...)` multiplies their time constants by dt (0.0001 s by
# default) and writes dt nowhere, and an LIFNode with decay_input=True (the default) has r = 1, which tells it neither. Two
# models that behave differently (tau of 20 steps exported by default, tau of 2 steps exported with dt=1e-3) give files with
# the same values.
# Whoever exports should note it: graph.metadata["dt"] = ... before nir.write. A reader can only assume the default.
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

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir


def model(tau):
    torch.manual_seed(0)
    return torch.nn.Sequential(layer.Linear(8, 5), neuron.LIFNode(tau=tau))


def spikes(net, x):
    with torch.no_grad():
        return torch.stack([net(x_t) for x_t in x])


def values(graph):
    found = {}
    for name, node in graph.nodes.items():
        for key in ("weight", "bias", "tau", "r", "v_leak", "v_threshold", "v_reset"):
            if hasattr(node, key):
                found[name, key] = np.asarray(getattr(node, key))
    return found


slow, fast = model(20.0), model(2.0)
torch.manual_seed(1)
x = 6 * (torch.rand(200, 1, 8) < 0.3).float()
differing = int((spikes(slow, x) != spikes(fast, x)).sum())
for net in (slow, fast):
    functional.reset_net(net)
one = export_to_nir(slow, torch.zeros(1, 8))
other = export_to_nir(fast, torch.zeros(1, 8), dt=1e-3)
a, b = values(one), values(other)
same = a.keys() == b.keys() and all(np.allclose(a[key], b[key], rtol=1e-12, atol=0) for key in a)
noted = bool(one.metadata or other.metadata)
print(f"{differing} of 1000 bins differ between the models, the same values in both files: {same}, a dt noted: {noted}")
if not (differing and same and not noted):
    sys.exit("the files can be told apart now")
PYTHON
