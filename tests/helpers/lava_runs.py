"""Runs in Lava for the tests: scripts in processes of their own, because Lava forks its workers and can hang."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from places import EXAMPLES, REFERENCE

BEGIN = """
import sys, warnings
warnings.filterwarnings("error", message="Cannot import module.*")  # of Lava, about files beside a process
from pathlib import Path
import numpy as np
import nir_dynapse as nd
from nir_dynapse.lava_process.process import DynapSE2, DynapSE2Network, DynapSE2Neurons, DynapSE2Synapses
from nir_dynapse.lava_process.runtime.runner import LavaRun
from nir_dynapse.lava_process.runtime.run_config import DynapSE2SimCfg
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

REFERENCE = Path(__REFERENCE__)
NETWORKS = Path(__NETWORKS__)


def wired(process, x, steps=None):
    '''A source of events (time, channel) before the process, and a sink behind it.'''
    source = Source(data=np.asarray(x, float).T)
    sink = Sink(shape=tuple(process.s_out.shape), buffer=len(x) if steps is None else steps)
    source.s_out.connect(process.s_in)
    process.s_out.connect(sink.a_in)
    return sink
"""


def run_script(body: str, *arguments: str, seconds: float = 120) -> str:
    """What a script prints, with the imports above; an AssertionError with its stderr where it fails, or takes longer."""
    networks = str(EXAMPLES / "networks")
    begin = BEGIN.replace("__REFERENCE__", repr(str(REFERENCE))).replace("__NETWORKS__", repr(networks))
    code = begin + textwrap.dedent(body)
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout
