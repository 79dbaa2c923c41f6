"""The Lava process of a DYNAP-SE2 network. NumPy only: Lava forks its workers, and JAX hangs in a forked child."""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from nir_dynapse.closed_form import to_params
from nir_dynapse.decoding import layout_to_params
from nir_dynapse.errors import UnsupportedGraphError
from nir_dynapse.layout import Layout
from nir_dynapse.network import Network
from nir_dynapse.params import Params
from nir_dynapse.sim.circuit import internal_step, prepare, structure_of

__all__ = ["DynapSE2"]


class DynapSE2(AbstractProcess):
    """A whole network on DYNAP-SE2 as one process; one Lava step is one bin of `dt` s.

    `s_in` (n_channels,) takes event counts per step, `s_out` (n_out,) gives the spike counts of the output population
    (the first output node). Vars hold the state as `sim.dynamics.State` does: `dendrites` (4, N) in the order AMPA, NMDA,
    GABA, SHUNT and `ahp` (N,) in units of the membrane's leak current; `membrane` (N,), I_mem in units of its gain
    current or, where negative, the time left of the refractory period in s; `spikes` (N,) of the last internal step.
    `thing` is a Network, Params (also a virtual chip's) or Layout; `dt` defaults to its own step.
    """

    def __init__(self, *, thing: Network | Params | Layout, dt: float | None = None, name: str | None = None) -> None:
        if isinstance(thing, Params):
            params = thing
        else:
            params = to_params(thing) if isinstance(thing, Network) else layout_to_params(thing)
        params = params.numpy()
        t = params.topology
        width = t.dt if dt is None else float(dt)
        n_sub = internal_step(params, width)
        out = t.slices().get(str(t.outputs[0].source))
        if out is None:
            self._runtime = None  # Lava's __del__ asks for it
            raise UnsupportedGraphError(
                f"node {t.outputs[0].name!r}: its readout {t.outputs[0].source!r} is computed by the host, the process "
                "sends spikes only. Give a network whose first output is a spiking population, and read out behind s_out."
            )
        if t.delay is not None:
            self._runtime = None
            raise UnsupportedGraphError(
                "the network has synaptic delays, which the Lava process does not simulate. Clear the delay flags of its "
                "CAM rows, or use simulate."
            )
        structure = structure_of(params, width / n_sub, whole=True)
        weights, c = prepare(params, width / n_sub, structure, 1.0)
        super().__init__(
            constants=c,
            weights=weights,
            structure=structure,
            n_sub=n_sub,
            n_channels=t.n_channels,
            out=out,
            dt=width,
            tonic_period=t.tonic_period,
            name=name,
        )
        n = t.n_neurons
        self.s_in = InPort(shape=(t.n_channels,))
        self.s_out = OutPort(shape=(out.stop - out.start,))
        self.dendrites = Var(shape=(4, n), init=0.0)
        self.ahp = Var(shape=(n,), init=0.0)
        self.membrane = Var(shape=(n,), init=np.asarray(c.floor))
        self.spikes = Var(shape=(n,), init=0.0)
