"""What the workers get of a network: its circuit in NumPy, the width of a step, the chip that it is on."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.chip.device import DENDRITES, Device, Mismatch
from nir_dynapse.circuit.copies import folded
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.counts import LARGEST
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.files.numbers import SEED, STEP, Real
from nir_dynapse.lava_process.kernel import compiled
from nir_dynapse.lava_process.stepper import Stepper
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import NO_READOUT, Network, Port
from nir_dynapse.network.readout import ReadoutStepper
from nir_dynapse.sim.circuit import Disturbance, internal_step
from nir_dynapse.sim.mismatch import fabricate

__all__ = ["Circuit", "circuit_of", "open_dendrites"]


class Circuit(NamedTuple):  # no dataclass: Lava executes this file again, under a name that no module has
    """`params` (NumPy) in bins of `dt` s, with the `disturbance` of its chip; see `Stepper` for the rest."""

    params: Params
    dt: float
    disturbance: Disturbance
    most: float = 16.0
    rows: bool = False

    @property
    def n_substeps(self) -> int:
        return internal_step(self.params, self.dt)

    @property
    def n_out(self) -> int:
        return sum(port.size for port in self.params.topology.outputs)

    def stepper(self) -> Stepper:
        return Stepper(self.params, self.dt, self.disturbance, self.most, rows=self.rows)

    def outputs(self) -> Outputs:
        return Outputs(self.params, self.dt)


class Outputs:
    """What the output nodes give in a bin, one after the other: counts of populations, values of readouts on the host."""

    def __init__(self, params: Params, dt: float) -> None:
        t = params.topology
        self.topology, self.sources = t, [str(port.source) for port in t.outputs]
        self.readout = None
        if any(source not in t.node_sizes for source in self.sources):
            self.readout = ReadoutStepper(t.readout, t.dt, dt, t.copies_of)
        self.plain = self.readout is None and not t.copies
        slices = t.slices()
        self.slices = [slices[source] for source in self.sources] if self.plain else []

    def step(self, counts: np.ndarray) -> np.ndarray:
        """(n_out,) for the spike counts (N,) of a bin, those of all copies of a neuron together."""
        if self.plain:
            parts = [counts[part] for part in self.slices]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        spikes, values = folded(self.topology, counts), {}
        if self.readout is not None:
            values = self.readout.step(spikes)
        parts = [values[s] if s in values else spikes[s] for s in self.sources]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def reset(self) -> None:
        if self.readout is not None:
            self.readout.reset()


def circuit_of(
    thing: Any, dt: float | None, mismatch: Mismatch | None, key: int, device: Device, most: float = 16.0
) -> Circuit:
    """The circuit of a Network, Params, Layout, or of what `from_nir` reads; errors as of `simulate`."""
    if isinstance(thing, Circuit):
        return thing
    if not isinstance(thing, (Network, Params, Layout)):
        thing = _read(thing, dt)
    key = SEED.check("Lava process", "key", key, "Give the number of a virtual chip.")
    params = as_params(thing, device)
    params = params if mismatch is None else fabricate(params, mismatch, key)
    params = params.numpy()
    hint = "Give the chip time of one Lava step in seconds."
    width = params.topology.dt if dt is None else STEP.check("Lava process", "dt", dt, hint)
    if not params.topology.outputs:
        raise ConfigurationError("the network has no output node: nothing is read out. Add an Output to the graph.")
    most = Real(1, LARGEST).check("Lava process", "most_events", most, "Give the most events per step.")
    compiled()  # here, in the parent: each worker would compile anew
    return Circuit(params, width, Disturbance.of(mismatch, key), float(most))


def _read(thing: Any, dt: float | None) -> Network:
    """The network of a NIR graph, or of a file that holds one."""
    from nir_dynapse.import_.nir_graph import from_nir  # what reads graphs is not needed otherwise

    if isinstance(thing, (str, os.PathLike)) or hasattr(thing, "nodes"):
        return from_nir(thing, dt=dt)
    raise ConfigurationError(
        f"a {type(thing).__name__} is no network. Give a Network, Params or Layout, or a NIR file or graph."
    )


def open_dendrites(circuit: Circuit, node: str | None = None) -> Circuit:
    """The neurons of a circuit (of one population) whose dendrites are inputs: currents in A per bin, 4·N channels."""
    params, t = circuit.params, circuit.params.topology
    slices = t.slices()
    if node is not None and node not in slices:
        known = ", ".join(map(repr, slices))
        raise ConfigurationError(f"there is no population {node!r}. Known populations: {known}.")
    part = slice(0, t.n_neurons) if node is None else slices[node]
    n = part.stop - part.start
    outputs, readout, populations, copies = t.outputs, t.readout, t.populations, t.copies
    if node is not None:
        outputs, readout = (Port(node, (t.node_sizes[node],), node),), NO_READOUT
        populations, copies = ((node, n),), (t.copies_of[node],)
    bias = {name: np.asarray(params.per_neuron(name), float)[part] for name in params.bias}
    topology = replace(
        t,
        inputs=tuple(Port(name, (n,)) for name in DENDRITES),
        populations=populations,
        outputs=outputs,
        readout=readout,
        group=np.arange(n),
        latches=t.latches[part],
        place=t.place[part],
        pre=np.arange(4 * n),
        post=np.tile(np.arange(n), 4),
        dendrite=np.repeat(np.arange(4), n),
        row=np.zeros(4 * n, int),
        mask=None,
        delay=None,
        tonic_period=None,
        kinds=(),
        shapes=(),
        projections=(),
        copies=copies,
    )
    opened = replace(params, bias=bias, weight=np.ones(4 * n), base=None, topology=topology, delay_factor=None)
    return circuit._replace(params=opened, rows=True)
