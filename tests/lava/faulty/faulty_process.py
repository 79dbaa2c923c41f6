"""A Lava process that does what it is told to in a given step. Alone in its folder: Lava executes what lies beside it."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Faulty(AbstractProcess):
    """Sends on what it gets and counts its steps; `fault` happens in step `step`, or in the model's __init__."""

    def __init__(self, *, fault: str = "", step: int = 3, name: str = "faulty") -> None:
        super().__init__(fault=fault, step=step, name=name)
        self.s_in = InPort(shape=(2,))
        self.s_out = OutPort(shape=(2,))
        self.count = Var(shape=(1,), init=0)


@implements(proc=Faulty, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyFaulty(PyLoihiProcessModel):
    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    count: Any = LavaPyType(np.ndarray, float)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.parameters = proc_params
        self.fault: str = proc_params["fault"]
        if self.fault == "init":
            raise ValueError("no such model")
        if self.fault == "init killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "init slow":
            time.sleep(100)

    def now(self, fault: str) -> bool:
        return self.fault == fault and self.time_step == self.parameters["step"]

    def run_spk(self) -> None:
        data = self.s_in.recv()
        self.count += 1
        if self.fault == "slow":
            time.sleep(0.01)
        if self.now("before"):
            raise ValueError("before sending")
        if self.now("hang"):
            time.sleep(100)
        if self.now("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.now("exit"):
            sys.exit("a model that leaves")
        if self.now("os._exit"):
            os._exit(7)
        if self.now("ask for pause"):
            self._req_pause = True
        if self.now("ask for stop"):
            self._req_stop = True
        self.s_out.send(data)
        if self.now("after"):
            raise ValueError("after sending")

    def post_guard(self) -> Any:
        return self.now("later phase")

    def run_post_mgmt(self) -> None:
        raise ValueError("in a later phase")
