"""What the first output of a circuit counts: which neurons it needs, and its counts from their spikes."""

from __future__ import annotations

import numpy as np

from nir_dynapse.circuit.copies import fold
from nir_dynapse.circuit.params import Topology
from nir_dynapse.data.recording import Recording
from nir_dynapse.network.readout import run_readout

__all__ = ["counted", "taken"]


def taken(topology: Topology, timed: bool = False) -> tuple[tuple[tuple[int, int], ...], bool]:
    """The neurons whose spikes are needed, and whether per bin: the first output's, or those that its readout reads.

    With `timed` their times are needed, too.
    """
    slices = topology.slices()
    per_bin = timed or str(topology.outputs[0].source) not in slices
    return tuple((slices[name].start, slices[name].stop) for name in _read(topology)), per_bin


def _read(topology: Topology) -> list[str]:
    """The populations whose spikes the first output needs, in their order."""
    source, slices = str(topology.outputs[0].source), topology.slices()
    if source in slices:
        return [source]
    read = {q.source for q in topology.readout.projections}
    return [name for name in slices if name in read]


def counted(spikes: np.ndarray, topology: Topology, dt: float, timed: bool = False) -> np.ndarray:
    """`Recording.counts` (sample, output) of the taken neurons' spikes (sample, time, neuron); time may be summed over.

    With `timed` counts and `Recording.first_spikes` (sample, output, 2).
    """
    names, sizes, copies = _read(topology), dict(topology.populations), topology.copies_of
    ends = np.cumsum([sizes[name] for name in names])[:-1]
    parts = zip(names, np.split(spikes, ends, axis=2), strict=True)
    by_node = {name: fold(part, copies[name]) for name, part in parts}
    outputs = {port.name: str(port.source) for port in topology.outputs}
    values = (
        {}
        if outputs[topology.outputs[0].name] in by_node
        else run_readout(topology.readout, by_node, topology.dt, dt, copies)
    )
    found = Recording(by_node, dt, outputs, values=values, copies=copies)
    return np.stack([found.counts(), found.first_spikes()], axis=2) if timed else found.counts()
