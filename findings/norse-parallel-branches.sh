#!/usr/bin/env bash
# Known since 2026-11-30. Norse 1.1.0, nir 1.0.8, nirtorch 2.6.
#
# norse.torch.from_nir gives a graph to nirtorch.load, which steps its nodes depth first from the input: a node that two
# branches lead to comes right behind the first of them, so that the second one is not in its sum. And what the model returns
# is what it stepped last: not the output, but the end of the second branch. Here one branch multiplies by 10 and the other
# one by 1, without any cycle or delay: an input of 1 should give 11, and gives 1.
# Lead to each node along one path, or add the branches up in one matrix.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$folder/venv/bin/python
export UV_FIND_LINKS=${PIP_FIND_LINKS:-}
python3 -m pip install -q uv 2> /dev/null
python3 -m uv venv -q --python 3.11 "$folder/venv"
python3 -m uv pip install -q --python "$python" torch==2.13.0 torchvision==0.28.0 nir==1.0.8 nirtorch==2.6 numpy==2.4.6 norse==1.1.0
"$python" -W ignore - 2> "$folder/log" << 'PYTHON' || { cat "$folder/log"; exit 1; }
import sys

import nir
import norse.torch as norse
import numpy as np
import torch

one, zero = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
nodes = {"input": nir.Input(np.array([1])), "short": nir.Affine(10 * one, zero), "long1": nir.Affine(one, zero)}
nodes |= {"long2": nir.Affine(one, zero), "sum": nir.Affine(one, zero), "output": nir.Output(np.array([1]))}
edges = [("input", "short"), ("short", "sum"), ("sum", "output")]
edges += [("input", "long1"), ("long1", "long2"), ("long2", "sum")]
model = norse.from_nir(nir.NIRGraph(nodes, edges), dt=1e-3)
state, seen = None, []
for x in (1.0, 0.0, 0.0):
    y, state = model(torch.full((1, 1), x), state)
    seen.append(y)
found = [float(np.asarray(y.detach()).ravel()[0]) for y in seen]
print(f"an input of 1, 0, 0 over two branches gives {found}; their sum is [11.0, 0.0, 0.0]")
if found == [11.0, 0.0, 0.0]:
    sys.exit("changed: the output is now the sum of both branches")
PYTHON
