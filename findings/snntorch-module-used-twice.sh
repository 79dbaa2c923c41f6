#!/usr/bin/env bash
# Known since 2026-11-30. snnTorch 1.0.0, nir 1.0.8, nirtorch 2.6.
#
# A module that is called twice in one forward pass is two steps of the network. snntorch.export_nir.export_to_nir writes it as
# one node with both inputs and both outputs: a cycle, which is what a file says of recurrence, with a step of delay. Nothing
# in the file tells the two apart. Give every use a module of its own (copy.deepcopy) before exporting.
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

import snntorch as snn
import torch
from snntorch.export_nir import export_to_nir


class Twice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.between, self.last = torch.nn.Linear(3, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)
        self.lif, self.out = (
            snn.Leaky(beta=torch.full((n,), 0.9), threshold=torch.ones(n), init_hidden=True) for n in (4, 2)
        )

    def forward(self, x):
        return self.out(self.last(self.lif(self.between(self.lif(self.first(x))))))


graph = export_to_nir(Twice(), torch.zeros(1, 3), ignore_dims=[0])
neurons = [name for name, node in graph.nodes.items() if type(node).__name__ == "LIF"]
cycle = {("lif", "between"), ("between", "lif")} <= set(graph.edges)
print(f"two calls of the module 'lif' become {neurons.count('lif')} node, in a cycle: {cycle}")
if not cycle or neurons.count("lif") != 1:
    sys.exit("changed: two uses of a module are no longer one node in a cycle")
PYTHON
