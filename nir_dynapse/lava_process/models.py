"""NumPy models of the processes. Absolute imports only: Lava executes this file again as a top-level module."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from nir_dynapse.chip.device import CURRENTS, DENDRITES
from nir_dynapse.lava_process.process import DynapSE2, DynapSE2Network, DynapSE2Neurons, DynapSE2Synapses
from nir_dynapse.lava_process.runtime.ports import without_threads
from nir_dynapse.lava_process.stepper import STATES
from nir_dynapse.sim.circuit import tonic_events

WEIGHT = ("weight",)


class _WithVars(PyLoihiProcessModel):
    """What the models share: Vars that are looked at again only after somebody may have written to them."""

    watched: tuple[str, ...] = ()

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.touched = True  # the initial values of the Vars may differ from those of the circuit
        self.shown: dict[str, np.ndarray] = {}

    def start(self) -> None:
        without_threads(self.py_ports)
        super().start()

    def on_var_update(self) -> None:
        self.touched = True

    # What a Var is asked for by is not public in Lava (0.10.0 is its last version).

    def _get_var(self) -> None:
        self.refresh()
        super()._get_var()

    def _set_var(self) -> None:
        self.refresh()
        super()._set_var()

    def _handle_var_port(self, var_port: Any) -> None:
        self.refresh()
        super()._handle_var_port(var_port)
        self.touched = True

    def refresh(self) -> None:
        """Bring the Vars up to date: only when somebody looks, which most steps are spared."""

    def written(self) -> dict[str, np.ndarray]:
        """The watched Vars that do not hold what was shown last."""
        self.touched = False
        found = {}
        for name in self.watched:
            value = np.asarray(getattr(self, name), float)
            before = self.shown.get(name)
            if before is None or not np.array_equal(value, before):
                found[name] = value.copy()
        return found

    def show(self, values: dict[str, np.ndarray]) -> None:
        """Put `values` into the Vars."""
        for name, value in values.items():
            setattr(self, name, value.copy())  # `Var.set` writes into what is there
            self.shown[name] = value


class _Circuit(_WithVars):
    """Neurons that are stepped: `DynapSE2` and `DynapSE2Neurons`."""

    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    spikes_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    counts: Any = LavaPyType(np.ndarray, int)
    clear: Any = LavaPyType(np.ndarray, int)
    parameters: tuple[str, ...] = CURRENTS

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        circuit = proc_params["circuit"]
        self.stepper, self.outputs = circuit.stepper(), circuit.outputs()
        self.last, self.stale = np.zeros(0), False
        self.watched = (*STATES, *self.parameters)
        p = circuit.params
        self.shown = {name: np.asarray(p.per_neuron(name), float) for name in CURRENTS}
        self.shown["weight"] = np.asarray(p.row_currents(), float)
        if not len(self.shown["weight"]):
            self.shown["weight"] = np.zeros(1)
        n = p.topology.n_neurons
        self.shown |= {name: np.full(n, p.circuit.i_o if name == "i_mem" else 0.0) for name in STATES}

    def read_vars(self) -> None:
        """Take over what was written to the Vars since the last step."""
        if self.touched:
            changed = self.written()
            bias = {name: value for name, value in changed.items() if name in CURRENTS}
            if bias or "weight" in changed:
                weight = changed.get("weight")
                if weight is not None:
                    weight = weight[: self.stepper.params.topology.n_synapses]
                self.stepper.set_parameters(bias, weight)
                self.show({name: value for name, value in changed.items() if name in self.parameters})
            for name in STATES:
                if name in changed:
                    self.stepper.set_state(name, changed[name])
            if self.clear[0]:
                self.stepper.reset()
                self.outputs.reset()
                self.clear = np.zeros(1, int)

    def advance(self, events: np.ndarray) -> None:
        """One bin: events in, spikes out, Vars shown."""
        self.read_vars()
        counts = self.stepper.step(events)
        self.s_out.send(self.outputs.step(counts))
        self.spikes_out.send(counts)
        self.last, self.stale = counts, True

    def refresh(self) -> None:
        if self.stale and not self.touched:
            self.counts = self.last.astype(int)
            self.show(self.stepper.states())
            self.stale = False


def _vars(names: tuple[str, ...], kind: type) -> dict[str, Any]:
    return {name: LavaPyType(np.ndarray, kind) for name in names}


_States = type("_States", (_Circuit,), {**_vars(STATES, np.float32), **_vars(CURRENTS, float)})


@implements(proc=DynapSE2, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fused")
class PyDynapSE2Model(_States):
    """Receives the events of a step, runs its internal steps with the equations of `sim.dynamics`, sends the spikes."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)
    weight: Any = LavaPyType(np.ndarray, float)
    parameters = (*CURRENTS, *WEIGHT)

    def run_spk(self) -> None:
        self.advance(self.s_in.recv())


@implements(proc=DynapSE2Neurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyDynapSE2NeuronsModel(_States):
    """Receives the weight currents of a step per dendrite, runs its internal steps, sends the spikes."""

    ampa_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)
    nmda_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)
    gaba_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)
    shunt_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)

    def run_spk(self) -> None:
        self.advance(np.concatenate([getattr(self, f"{dendrite}_in").recv() for dendrite in DENDRITES]))


@implements(proc=DynapSE2Synapses, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyDynapSE2SynapsesModel(_WithVars):
    """Receives events, sends the sums of the weight currents of their rows; then receives the spikes for the next step."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)
    spikes_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)
    ampa_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    nmda_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    gaba_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    shunt_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    weight: Any = LavaPyType(np.ndarray, float)
    clear: Any = LavaPyType(np.ndarray, int)
    watched = WEIGHT

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        circuit = proc_params["circuit"]
        self.topology, self.dt, self.bin = circuit.params.topology, circuit.dt, 0
        self.spikes = np.zeros(self.topology.n_neurons)
        self._build(np.asarray(circuit.params.row_currents(), float))

    def _build(self, rows: np.ndarray) -> None:
        """Sparse matrices (N, sources) in A, of the dendrites that are used."""
        from scipy.sparse import csr_array

        t, self.matrices = self.topology, {}
        for d, dendrite in enumerate(DENDRITES):
            chosen = np.flatnonzero(t.dendrite == d)
            if len(chosen):
                index = (t.post[chosen], t.pre[chosen])
                self.matrices[dendrite] = csr_array((rows[chosen], index), shape=(t.n_neurons, t.n_sources))

    def run_spk(self) -> None:
        events = self.s_in.recv()
        if self.touched:
            changed = self.written()
            if "weight" in changed:
                self._build(changed["weight"][: self.topology.n_synapses])
                self.show(changed)
            if self.clear[0]:
                self.bin, self.spikes = 0, np.zeros_like(self.spikes)
                self.clear = np.zeros(1, int)
        tonic = tonic_events(self.topology.tonic_period, 1, self.dt, first=self.bin)
        sources = np.concatenate([events, tonic, self.spikes])
        for dendrite in DENDRITES:
            matrix = self.matrices.get(dendrite)
            current = np.zeros(self.topology.n_neurons) if matrix is None else matrix @ sources
            getattr(self, f"{dendrite}_out").send(current)
        self.spikes = self.spikes_in.recv()
        self.bin += 1


@implements(proc=DynapSE2Network, protocol=LoihiProtocol)
@tag("floating_pt")
class SubDynapSE2NetworkModel(AbstractSubProcessModel):
    """Synapses and neurons, wired to each other and to the ports of the network."""

    def __init__(self, proc: Any) -> None:
        circuit = proc.proc_params["circuit"]
        self.synapses = DynapSE2Synapses(thing=circuit)
        self.neurons = DynapSE2Neurons(thing=circuit)
        proc.s_in.connect(self.synapses.s_in)
        for dendrite in DENDRITES:
            getattr(self.synapses, f"{dendrite}_out").connect(getattr(self.neurons, f"{dendrite}_in"))
        self.neurons.spikes_out.connect(self.synapses.spikes_in)
        self.neurons.s_out.connect(proc.s_out)
        self.neurons.spikes_out.connect(proc.spikes_out)
        for name in (*STATES, "counts", "clear", *CURRENTS):
            getattr(proc, name).alias(getattr(self.neurons, name))
        proc.weight.alias(self.synapses.weight)
        proc.clear_synapses.alias(self.synapses.clear)
