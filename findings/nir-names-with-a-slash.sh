#!/usr/bin/env bash
# Known since 2026-11-30. nir 1.0.8, h5py 3.16.0.
#
# nir.NIRGraph takes any text as the name of a node, and nir.write stores it. HDF5 makes a group within a group of each '/':
# nir.read then looks for a node "block", finds no type in it and raises KeyError. Name nodes without '/'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$folder/venv/bin/python
python3 -m pip install -q uv 2> /dev/null
python3 -m uv venv -q --python 3.11 "$folder/venv"
python3 -m uv pip install -q --python "$python" nir==1.0.8 numpy==2.3.5 h5py==3.16.0
"$python" -W ignore - "$folder/model.nir" 2> "$folder/log" << 'PYTHON' || { cat "$folder/log"; exit 1; }
import sys

import nir
import numpy as np

one = np.ones(2)
nodes = {
    "input": nir.Input(np.array([2])),
    "block/lif": nir.LIF(tau=one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one),
    "output": nir.Output(np.array([2])),
}
nir.write(sys.argv[1], nir.NIRGraph(nodes, [("input", "block/lif"), ("block/lif", "output")]))
try:
    found = nir.read(sys.argv[1])
except Exception as error:
    print(f"written without a word; reading it raises {type(error).__name__}: {error}")
else:
    sys.exit(f"changed: read as {list(found.nodes)}")
PYTHON
