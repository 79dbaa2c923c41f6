"""DynapSE2SimCfg: kind before tag, fallback tags, models without tags, and what it says where none fits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("lava.magma", reason="lava-nc is not installed")

CHOICES = """
import nir_dynapse.lava_process
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyAsyncProcessModel, PyLoihiProcessModel
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.proc.dense import models as dense
from lava.proc.dense.process import Dense
from lava.proc.io import extractor, injector
from lava.proc.lif import models as lif
from lava.proc.lif.process import LIF
from nir_dynapse.errors import LavaRunError
from nir_dynapse.lava_process.runtime.run_config import DynapSE2SimCfg as Cfg

class Any: name = "some"
def leaf(name, *tags, base=PyLoihiProcessModel): return type(name, (base,), {"tags": list(tags)})
def part(name, *tags): return leaf(name, *tags, base=AbstractSubProcessModel)
a, b, c = leaf("A", "fixed_pt"), leaf("B", "floating_pt"), leaf("C")
x, y, z = part("X", "fixed_pt"), part("Y", "floating_pt"), part("Z")
late = leaf("Late", base=PyAsyncProcessModel)
pick = lambda models, **options: Cfg(**options).select(Any(), models).__name__
assert pick([x, y, z, c, a, b]) == "B"
assert pick([x, y, z, c, a]) == "C"
assert pick([x, y, z, a]) == "Y"  # a leaf of another number format is no match
assert pick([x, y, z, c, a, b], select_sub_proc_model=True) == "Y"
assert pick([z, c, a, b], select_sub_proc_model=True) == "Z"
assert pick([c, a, b], select_sub_proc_model=True) == "B"
assert pick([c, b, a], select_tag="fixed_pt") == "A"
assert pick([c, b], select_tag="fixed_pt") == "B"
assert pick([c, b], select_tag="fixed_pt", fallback_tags=()) == "C"
assert pick([b, c], select_tag=None) == "B"
assert pick([late, c]) == "C" and pick([late]) == "Late"
assert pick([b], exception_proc_model_map={Any: a}) == "A"
assert Cfg().select(LIF(shape=(1,)), [lif.PyLifModelFloat, lif.PyLifModelBitAcc]) is lif.PyLifModelFloat
assert Cfg().select(None, [dense.PyDenseModelBitAcc, dense.PyDenseModelFloat]) is dense.PyDenseModelFloat
for module, kind in ((injector, "Injector"), (extractor, "Extractor")):
    models = [getattr(module, f"PyLoihi{kind}Model{end}") for end in ("Async", "")]
    assert Cfg().select(None, models) is models[1]
for models, words in (([a, x], "A (fixed_pt), X (fixed_pt)"), ([], "its models are: none")):
    try:
        Cfg(select_tag="mismatch").select(Any(), models)
    except LavaRunError as error:
        assert "'some' (Any)" in str(error) and "'mismatch', 'floating_pt'" in str(error) and words in str(error), error
    else:
        raise SystemExit("not refused")
print("fine")
"""

NETWORK = """
import nir_dynapse.lava_process
import numpy as np
from lava.proc.dense.process import Dense
from lava.proc.io.extractor import Extractor
from lava.proc.io.injector import Injector
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from lava.proc.monitor.process import Monitor
from nir_dynapse.errors import LavaRunError
from nir_dynapse.lava_process.runtime.run_config import DynapSE2SimCfg
from nir_dynapse.lava_process.runtime.runner import LavaRun

source, sink = Source(data=np.ones((2, 6))), Sink(shape=(2,), buffer=6)
dense, lif = Dense(weights=np.eye(2)), LIF(shape=(2,), du=1, dv=0, vth=1.5)
injector, extractor, monitor = Injector(shape=(2,)), Extractor(shape=(2,)), Monitor()
source.s_out.connect(dense.s_in)
dense.a_out.connect(lif.a_in)
injector.out_port.connect(lif.a_in)
lif.s_out.connect(sink.a_in)
lif.s_out.connect(extractor.in_port)
monitor.probe(lif.v, 6)
with LavaRun(lif, timeout=60) as run:
    run(6, blocking=False)
    for _ in range(6):
        injector.send(np.zeros(2))
    got = np.stack([extractor.receive() for _ in range(6)], axis=1)
    run.wait()
    assert (sink.data.get() == got).all() and list(got[0]) == [0, 0, 1, 0, 1, 0], got
    v = monitor.get_data()[lif.name]["v"]
    assert list(v[:, 0]) == [0, 1, 0, 1, 0, 1], v

alone = LIF(shape=(2,), name="alone")
wrong = DynapSE2SimCfg(select_tag="mismatch", fallback_tags=("analog",))
try:
    LavaRun(alone, wrong).start()
except LavaRunError as error:
    assert "'alone' (LIF)" in str(error) and "floating_pt" in str(error)
else:
    raise SystemExit("not refused")
try:
    LavaRun(alone).start()  # Lava marks a process as compiled where that failed, too
except LavaRunError as error:
    assert "make the processes anew" in str(error)
else:
    raise SystemExit("not refused")
print("fine")
"""


@pytest.mark.parametrize("script", [CHOICES, NETWORK], ids=["choices", "network"])
def test_models_are_chosen(tmp_path: Path, script: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
