#!/usr/bin/env bash
# Known since 2026-11-30. snnTorch 1.0.0, nir 1.0.8, nirtorch 2.6.
#
# An IF of NIR keeps what it got for ever. snntorch.import_nir.import_from_nir makes a Leaky with beta = 0.9 of it, which
# forgets a tenth in each step, without a word: ten inputs of 0.15 never reach a threshold of 1, where NIR's neuron fires.
# Write an IF as a LIF whose tau is very long, with r = tau/1e-4.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$folder/venv/bin/python
export UV_FIND_LINKS=${PIP_FIND_LINKS:-}
python3 -m pip install -q uv 2> /dev/null
python3 -m uv venv -q --python 3.11 "$folder/venv"
python3 -m uv pip install -q --python "$python" torch==2.13.0 nir==1.0.8 nirtorch==2.6 numpy==2.4.6 snntorch==1.0.0
"$python" -W ignore - 2> "$folder/log" << 'PYTHON' || { cat "$folder/log"; exit 1; }
import sys

import nir
import numpy as np
from snntorch.import_nir import import_from_nir

one = np.ones(1)
nodes = {"input": nir.Input(np.array([1])), "neuron": nir.IF(one, one), "output": nir.Output(np.array([1]))}
model = import_from_nir(nir.NIRGraph(nodes, [("input", "neuron"), ("neuron", "output")]))
layer = model.neuron
beta = float(layer.beta)
print(f"an IF becomes {type(layer).__name__} with beta = {beta}; one that keeps its voltage has beta = 1")
if type(layer).__name__ == "Leaky" and beta == 1:
    sys.exit("changed: snnTorch reads an IF that does not forget")
PYTHON
