"""Lava processes of a DYNAP-SE2 network: as one process, as a pair of synapses and neurons, and hierarchical.

What goes to the workers is NumPy: Lava forks them, and JAX hangs in a forked child.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from nir_dynapse.chip.device import CURRENTS, DENDRITES, DYNAPSE2, MAY_BE_ZERO, Device, Mismatch
from nir_dynapse.errors import UnsupportedGraphError
from nir_dynapse.lava_process.checked import CheckedVar, PortShape, ask_reset
from nir_dynapse.lava_process.circuit import Circuit, circuit_of, open_dendrites
from nir_dynapse.lava_process.stepper import STATES

__all__ = ["DynapSE2", "DynapSE2Network", "DynapSE2Neurons", "DynapSE2Synapses"]


def _weight_var(circuit: Circuit) -> CheckedVar:
    rows = np.asarray(circuit.params.row_currents(), float)
    # Lava has no Var without elements.
    rows = rows if len(rows) else np.zeros(1)
    return CheckedVar(shape=rows.shape, init=rows, lowest=0.0)


def _input_shape(circuit: Circuit, name: str) -> PortShape:
    t = circuit.params.topology
    nodes = ", ".join(f"{port.name!r} ({port.size})" for port in t.inputs) or "none"
    return PortShape((t.n_channels,), f"{name}: event counts of the input nodes {nodes}, in this order")


def _output_shape(circuit: Circuit) -> PortShape:
    nodes = ", ".join(f"{port.name!r} ({port.size})" for port in circuit.params.topology.outputs)
    return PortShape((circuit.n_out,), f"s_out: what the output nodes give, {nodes}")


class _WithNeurons(AbstractProcess):
    """What all processes with neurons have: two output ports, and Vars of states and bias currents."""

    _runtime = None  # Lava's __del__ asks for it, also where __init__ failed

    def _open(self, circuit: Circuit) -> None:
        n = circuit.params.topology.n_neurons
        self.dt, self.n_substeps = circuit.dt, circuit.n_substeps
        self.s_out = OutPort(shape=_output_shape(circuit))
        self.spikes_out = OutPort(shape=PortShape((n,), "spikes_out: spike counts of all neurons"))
        for name in STATES:
            init = np.full(n, circuit.params.circuit.i_o if name == "i_mem" else 0.0)
            setattr(self, name, CheckedVar(shape=(n,), init=init, lowest=0.0))
        for name in CURRENTS:
            value = np.asarray(circuit.params.per_neuron(name), float)
            lowest = 0.0 if name in MAY_BE_ZERO else np.nextafter(0.0, 1.0)
            setattr(self, name, CheckedVar(shape=value.shape, init=value, lowest=lowest))
        self.counts = Var(shape=(n,), init=0)
        self.clear = Var(shape=(1,), init=0)

    def reset(self) -> None:
        """Silence, from the next step on; while paused or before the first run (ConfigurationError while it runs)."""
        ask_reset(self, "clear")


class DynapSE2(_WithNeurons):
    """A whole network on DYNAP-SE2 as one process; one Lava step is one bin of `dt` s.

    `thing` is a Network, Params (also a virtual chip's) or Layout, or what `from_nir` reads: a NIR file or graph (read with
    `dt`). With `mismatch` it is on virtual chip `key`. `dt` defaults to the network's own step; a bin has as many internal
    steps as the circuit needs (`n_substeps`).

    Ports: `s_in` (n_channels,) takes event counts; `s_out` (n_out,) gives what the output nodes give, spike counts or the
    values of a readout on the host; `spikes_out` (N,) the spike counts of all neurons. A `Dense` behind them needs
    `num_message_bits` for counts above 1. Where several neurons of the chip stand for one of the network, `s_out` gives
    their sum and a readout reads their mean; `spikes_out` and the Vars have each of them.

    Vars, (N,) each, for `get` and `set` while paused and for Monitors: `i_mem`, `i_ampa`, `i_nmda`, `i_gaba`, `i_shunt`,
    `i_ahp` in A (what `simulate` records; `Circuit.v_mem` makes a voltage of `i_mem`), `refractory`, what is left of the
    refractory period in s, and `counts`, the spikes of the last step; every bias current of `device.CURRENTS` in A;
    `weight` (rows,), the current of each CAM row in A. On a chip neurons of a core share biases: what is set here need not
    exist there. `clear` set to 1 starts the next sample from silence (`reset` does).

    `most_events` is the largest number of events of an input in a step up to which sums are exact in any order.
    """

    def __init__(
        self,
        *,
        thing: Any,
        dt: float | None = None,
        mismatch: Mismatch | None = None,
        key: int = 0,
        device: Device = DYNAPSE2,
        most_events: int = 16,
        name: str | None = None,
    ) -> None:
        circuit = circuit_of(thing, dt, mismatch, key, device, most_events)
        super().__init__(circuit=circuit, name=name)
        self._open(circuit)
        self.s_in = InPort(shape=_input_shape(circuit, "s_in"))
        self.weight = _weight_var(circuit)


class DynapSE2Synapses(AbstractProcess):
    """The CAM rows of a network: events in, weight currents per dendrite out.

    Ports: `s_in` (n_channels,) events of the input channels, passed on in the same step; `spikes_in` (N,) spikes of the
    neurons, which are passed on in the next one (so a loop does not deadlock); `ampa_out`, `nmda_out`, `gaba_out`,
    `shunt_out` (N,): the sum of I_w over the events of a step, in A. Vars: `weight` (rows,) in A, `clear`. Arguments as of
    `DynapSE2`. UnsupportedGraphError where CAM rows have delays.
    """

    _runtime = None

    def __init__(
        self,
        *,
        thing: Any,
        dt: float | None = None,
        mismatch: Mismatch | None = None,
        key: int = 0,
        device: Device = DYNAPSE2,
        name: str | None = None,
    ) -> None:
        circuit = circuit_of(thing, dt, mismatch, key, device)
        t = circuit.params.topology
        if t.delay is not None:
            raise UnsupportedGraphError(
                "the network has CAM rows with delays, which only the process for a whole network has. Use DynapSE2, or "
                "clear the delay flags."
            )
        super().__init__(circuit=circuit, name=name)
        self.s_in = InPort(shape=_input_shape(circuit, "s_in"))
        self.spikes_in = InPort(shape=PortShape((t.n_neurons,), "spikes_in: spikes of all neurons"))
        for dendrite in DENDRITES:
            shape = PortShape((t.n_neurons,), f"{dendrite}_out: currents of the neurons' {dendrite} rows")
            setattr(self, f"{dendrite}_out", OutPort(shape=shape))
        self.weight = _weight_var(circuit)
        self.clear = Var(shape=(1,), init=0)

    def matrix(self, dendrite: str) -> np.ndarray:
        """Weight currents (N, n_channels) in A of the input channels onto a dendrite: the `weights` of a Lava `Dense`."""
        t = self.proc_params["circuit"].params.topology
        rows = np.asarray(self.proc_params["circuit"].params.row_currents(), float)
        result = np.zeros((t.n_neurons, t.n_sources))
        chosen = t.dendrite == DENDRITES.index(dendrite)
        np.add.at(result, (t.post[chosen], t.pre[chosen]), rows[chosen])
        return result[:, : t.n_channels]

    def reset(self) -> None:
        """Forget the spikes that are on their way and begin the tonic events anew, from the next step on."""
        ask_reset(self, "clear")


class DynapSE2Neurons(_WithNeurons):
    """The DPI neurons of a network (or of `node`, one of its populations), with their four dendrites.

    Ports: `ampa_in`, `nmda_in`, `gaba_in`, `shunt_in` (N,): weight currents I_w in A, summed over the events of a step,
    from `DynapSE2Synapses` or from a `Dense` with weights in A; `s_out` and `spikes_out`, Vars and arguments as of
    `DynapSE2` (with `node`, `s_out` gives the spikes of its neurons, `spikes_out` of all that stand for them).
    """

    def __init__(
        self,
        *,
        thing: Any,
        node: str | None = None,
        dt: float | None = None,
        mismatch: Mismatch | None = None,
        key: int = 0,
        device: Device = DYNAPSE2,
        name: str | None = None,
    ) -> None:
        circuit = open_dendrites(circuit_of(thing, dt, mismatch, key, device), node)
        super().__init__(circuit=circuit, name=name)
        self._open(circuit)
        n = circuit.params.topology.n_neurons
        for dendrite in DENDRITES:
            shape = PortShape(
                (n,), f"{dendrite}_in: weight currents of {dendrite} rows, summed over the events of a step"
            )
            setattr(self, f"{dendrite}_in", InPort(shape=shape))


class DynapSE2Network(_WithNeurons):
    """A network as a hierarchical process: `DynapSE2Synapses` and `DynapSE2Neurons`, each one a process of its own.

    Ports, Vars and arguments as of `DynapSE2`. Spikes reach other neurons in the next Lava step, not in the next internal
    step as there: both are the same where a bin has one internal step (`n_substeps` = 1).
    """

    def __init__(
        self,
        *,
        thing: Any,
        dt: float | None = None,
        mismatch: Mismatch | None = None,
        key: int = 0,
        device: Device = DYNAPSE2,
        name: str | None = None,
    ) -> None:
        circuit = circuit_of(thing, dt, mismatch, key, device)
        super().__init__(circuit=circuit, name=name)
        self._open(circuit)
        self.s_in = InPort(shape=_input_shape(circuit, "s_in"))
        self.weight = _weight_var(circuit)
        self.clear_synapses = Var(shape=(1,), init=0)

    def reset(self) -> None:
        """Silence, from the next step on."""
        ask_reset(self, "clear", "clear_synapses")
