#!/usr/bin/env bash
# Known since 2026-11-30. Sinabs 3.1.3, nir 1.0.8, nirtorch 2.6.
#
# sinabs.nir.from_nir reads nir.Affine, and not nir.Linear: for a node that it does not know it has no module, and nirtorch
# steps over it without a word. Between layers of different size that is an error about shapes; where the matrix is square,
# the model runs as if its weights were not there. Here they are -1, and every input spike should hold the neurons down.
# Write an Affine with a bias of zeros.
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

import nir
import numpy as np
import sinabs.nir
import torch

n = 3
fired = {}
for kind in ("Affine", "Linear"):
    weight = -np.eye(n, dtype=np.float32)
    matrix = nir.Affine(weight, np.zeros(n, np.float32)) if kind == "Affine" else nir.Linear(weight)
    ports = nir.Input(np.array([n])), nir.Output(np.array([n]))
    neurons = nir.IF(r=np.ones(n), v_threshold=np.full(n, 0.5))
    graph = nir.NIRGraph.from_list(ports[0], matrix, neurons, ports[1])
    model = sinabs.nir.from_nir(graph, batch_size=1)
    with torch.no_grad():
        out, _ = model(torch.ones(10, n))
    fired[kind] = int(out.sum())
print(f"spikes with weights of -1: {fired['Affine']} behind an Affine, {fired['Linear']} behind a Linear")
if fired["Affine"] != 0 or fired["Linear"] == 0:
    sys.exit("changed: Sinabs no longer steps over a Linear")
PYTHON
