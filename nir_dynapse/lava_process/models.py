"""NumPy model of the DynapSE2 process. Absolute imports only: Lava executes this file again as a top-level module."""

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from nir_dynapse.lava_process.process import DynapSE2
from nir_dynapse.sim.circuit import run_bin, tonic_events
from nir_dynapse.sim.dynamics import State


@implements(proc=DynapSE2, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyDynapSE2Model(PyLoihiProcessModel):
    """Receives the events of a step, runs its internal steps with the equations of `sim.dynamics`, sends the spikes."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    dendrites: Any = LavaPyType(np.ndarray, np.float32)
    ahp: Any = LavaPyType(np.ndarray, np.float32)
    membrane: Any = LavaPyType(np.ndarray, np.float32)
    spikes: Any = LavaPyType(np.ndarray, np.float32)

    def run_spk(self) -> None:
        events = self.s_in.recv()
        p: Any = self.proc_params
        tonic = tonic_events(p["tonic_period"], 1, p["dt"], first=self.time_step - 1)
        x = np.concatenate([events, tonic]).astype(np.float32)[None]
        structure = p["structure"]
        state = State(
            (np.asarray(self.dendrites, np.float32)[None],),
            np.asarray(self.ahp, np.float32)[None] if structure.adaptation else None,
            np.asarray(self.membrane, np.float32)[None],
            np.asarray(self.spikes, np.float32)[None],
        )
        state, counts = run_bin(state, x, p["constants"], p["weights"], structure, p["n_sub"], np)
        self.dendrites, self.membrane, self.spikes = state.dendrites[0][0], state.v[0], state.spikes[0]
        if state.ahp is not None:
            self.ahp = state.ahp[0]
        self.s_out.send(counts[0, p["out"]])
