"""The three ways in, from an installed wheel in an environment that holds nothing else.

    python3 -m uv run python tests/wheel/three_ways.py [--export PYTHON] [--python 3.10]

Builds the wheel, installs it with the extra for Lava into a new environment in a temporary folder, and runs there: a NIR
file of a frontend, compiled and reported; a Lava program; the plugin entry point. With --export, that Python (which has
snnTorch and Norse) makes the NIR files; else the example of the repository is taken.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

EXPORT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, nir, torch
import norse.torch as norse
import snntorch as snn
from snntorch.export_nir import export_to_nir
torch.manual_seed(0)
first = torch.nn.Linear(12, 20)
first.weight.data = first.weight.data.abs()
leaky = snn.Leaky(beta=torch.full((20,), 0.9), threshold=torch.ones(20), init_hidden=True)
nir.write("snntorch.nir", export_to_nir(torch.nn.Sequential(first, leaky), torch.zeros(12)))
box = norse.LIFBoxParameters(
    tau_mem_inv=torch.full((20,), 100.0), v_leak=torch.zeros(20), v_th=torch.ones(20), v_reset=torch.zeros(20)
)
first.weight.data *= 10  # its input is scaled by the step
nir.write("norse.nir", norse.to_nir(norse.SequentialState(first, norse.LIFBoxCell(box)), torch.zeros(12), dt=1e-3))
"""

COMPILE = """
import sys
import numpy as np, nir_dynapse as nd
for path in sys.argv[1:]:
    network = nd.from_nir(path, dt=1e-3, frontend="norse" if "norse" in path else "spec")
    layout = nd.compile(network)
    layout.save(path + ".layout.json")
    again = nd.Layout.load(path + ".layout.json")
    x = np.random.default_rng(0).random((3, 50, network.inputs[0].size)) < 0.2
    with nd.open_board("virtual:1", mismatch=nd.Mismatch.none()) as board:
        board.apply(again)
        on_chip = board.run_batch(x.astype(np.uint8), network.dt).counts()
    assert on_chip.sum() > 0 and (on_chip == nd.simulate(layout, x).counts()).all()
    print("compiled", path, int(on_chip.sum()), "spikes on the virtual chip")
"""

LAVA = """
import sys
import numpy as np, nir_dynapse as nd
from nir_dynapse.lava_process.process import DynapSE2
from nir_dynapse.lava_process.runtime.runner import LavaRun
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
network = nd.from_nir(sys.argv[1], dt=1e-3)
x = (np.random.default_rng(0).random((50, network.inputs[0].size)) < 0.2).astype(float)
process = DynapSE2(thing=nd.compile(network))
source, sink = Source(data=x.T), Sink(shape=process.s_out.shape, buffer=50)
source.s_out.connect(process.s_in)
process.s_out.connect(sink.a_in)
with LavaRun(process) as run:
    run(50)
    spikes = sink.data.get().T
assert (spikes == nd.simulate(nd.compile(network), x, backend="numpy").output[0]).all() and spikes.sum() > 0
print("Lava", int(spikes.sum()), "spikes, those of simulate")
"""

PLUGIN = """
import importlib.metadata, sys
import numpy as np
(entry,) = importlib.metadata.entry_points(group="nir.backends", name="dynapse2")
backend = entry.load()
network = backend.from_nir(sys.argv[1], dt=1e-3)
x = np.random.default_rng(0).random((2, 50, network.inputs[0].size)) < 0.2
spikes = backend.simulate(backend.compile(network), x).counts()
assert spikes.sum() > 0
print("plugin", int(spikes.sum()), "spikes")
"""


def run(*command: object, cwd: Path | None = None) -> None:
    said = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=600)
    if said.returncode:
        sys.exit(f"{said.stdout[-2000:]}{said.stderr[-3000:]}")
    sys.stdout.write(said.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", type=Path, help="a Python with torch, snnTorch and Norse")
    parser.add_argument("--python", default="3.10", help="the version to install the wheel in (default 3.10)")
    args = parser.parse_args()
    uv = os.environ.get("UV") or shutil.which("uv")  # set by `uv run`
    if uv is None:
        sys.exit("uv is not at hand. Call this by: python3 -m uv run python tests/wheel/three_ways.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(uv, "build", "-q", "--wheel", "--out-dir", folder, ROOT)
        (wheel,) = folder.glob("*.whl")
        run(uv, "venv", "-q", "--python", args.python, folder / "venv")
        python = folder / "venv" / "bin" / "python"
        run(uv, "pip", "install", "-q", "--python", python, f"{wheel}[lava]")
        if args.export:
            run(args.export, "-c", EXPORT, cwd=folder)
            files = [folder / "snntorch.nir", folder / "norse.nir"]
        else:
            files = [Path(shutil.copy(ROOT / "examples" / "networks" / "yin_yang.nir", folder))]
        run(python, "-c", COMPILE, *files, cwd=folder)
        run(python, "-c", LAVA, files[0], cwd=folder)
        run(python, "-c", PLUGIN, files[0], cwd=folder)


if __name__ == "__main__":
    main()
