#!/usr/bin/env bash
# Known since 2026-11-30. Spyx 1.0.0, nir 1.0.8.
#
# spyx.nir.from_nir makes a sequence of a graph: from "input" on it follows the first edge out of each node and drops the
# others, without a word. A connection past a layer is legal NIR, and here carries everything: the weights of the layer
# between are 0. What comes out depends on which of the two edges stands first in the list, whose order means nothing in NIR.
# Give Spyx chains of layers only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$folder/venv/bin/python
export UV_FIND_LINKS=${PIP_FIND_LINKS:-}
python3 -m pip install -q uv 2> /dev/null
python3 -m uv venv -q --python 3.11 "$folder/venv"
python3 -m uv pip install -q --python "$python" spyx==1.0.0 nir==1.0.8 numpy==2.4.6 jax==0.10.2 flax==0.12.8 optax==0.2.8 \
  jax-tqdm==0.4.0 grain==0.2.18
"$python" -W ignore - 2> "$folder/log" << 'PYTHON' || { cat "$folder/log"; exit 1; }
import sys

import nir
import numpy as np
import spyx.nir

one, zero = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
nodes = {"input": nir.Input({"input": np.array([1])}), "between": nir.Linear(zero), "past": nir.Linear(one)}
nodes |= {"sum": nir.Linear(one), "output": nir.Output({"output": np.array([1])})}
after = [("between", "sum"), ("past", "sum"), ("sum", "output")]
two = [("input", "between"), ("input", "past")]
x = np.ones((1, 1, 1), np.float32)
found = [float(spyx.nir.from_nir(nir.NIRGraph(nodes, [*first, *after]), x)[1][0, 0, 0]) for first in (two, two[::-1])]
print(f"an input of 1 gives {found[0]} or {found[1]}, by the order of the edges; over both branches it is 1.0")
if found[0] == found[1]:
    sys.exit("changed: the order of the edges no longer matters")
PYTHON
