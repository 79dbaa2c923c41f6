#!/usr/bin/env bash
# Known since 2026-11-30. Sinabs 3.1.3, nir 1.0.8, nirtorch 2.6.
#
# A LIF layer of Sinabs multiplies its input with 1 - exp(-1/tau_mem) by default (norm_input=True). to_nir writes r = 1 for
# it, and from_nir makes a layer with norm_input=False of it: what Sinabs reads back from its own file gets an input that is
# about tau_mem times as large, and fires where the model was silent.
# After from_nir set norm_input=True in its LIF layers where the file is Sinabs' own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$folder/venv/bin/python
export UV_FIND_LINKS=${PIP_FIND_LINKS:-}
python3 -m pip install -q uv 2> /dev/null
python3 -m uv venv -q --python 3.11 "$folder/venv"
python3 -m uv pip install -q --python "$python" torch==2.13.0 nir==1.0.8 nirtorch==2.6 numpy==2.4.6 pbr==7.1.3 matplotlib==3.11.2
python3 -m uv pip install -q --python "$python" --no-deps sinabs==3.1.3
"$python" -W ignore - 2> "$folder/log" << 'PYTHON' || { cat "$folder/log"; exit 1; }
import sys

import sinabs.layers as sl
import sinabs.nir
import torch

torch.manual_seed(0)
n = 4
tau, threshold = torch.full((n,), 20.0), torch.ones(n)
net = torch.nn.Sequential(torch.nn.Linear(n, n), sl.LIFSqueeze(tau_mem=tau, spike_threshold=threshold, batch_size=1))
x = (torch.rand(100, n) < 0.3).float()
with torch.no_grad():
    there = int(net(x).sum())
    back = sinabs.nir.from_nir(sinabs.nir.to_nir(net, x), batch_size=1)
    again = int(back(x)[0].sum())
print(f"the model fires {there} times, what Sinabs reads from its own file {again} times")
if again <= there:
    sys.exit("changed: the round trip no longer makes the input larger")
PYTHON
