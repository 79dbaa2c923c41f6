"""What a network does with data: events per second of every source, and what each synapse is worth for pruning."""

from __future__ import annotations

import numpy as np

from nir_dynapse.circuit.closed_form import event_charge
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.data import Data
from nir_dynapse.network.network import Network
from nir_dynapse.sim.simulation import simulate

__all__ = ["CHUNK_ELEMENTS", "measured_activity", "measured_charge"]

CHUNK_ELEMENTS = 200_000_000
"""Bins times neurons simulated at once at most; larger test sets are cut along the samples."""


def measured_activity(network: Network, data: Data) -> dict[str, np.ndarray]:
    """Events per second of every input channel and neuron (by node, (n,)) in the ideal run of `data`."""
    size = max(1, CHUNK_ELEMENTS // (data.x.shape[1] * max(1, network.n_neurons)))
    time = len(data) * data.x.shape[1] * data.dt
    rates: dict[str, np.ndarray] = {}
    for i in range(0, len(data), size):
        for node, spikes in simulate(network, data.x[i : i + size], ideal=True).spikes.items():
            rates[node] = rates.get(node, 0.0) + spikes.sum((0, 1), dtype=np.float64) / time
    channels = data.x.sum((0, 1), dtype=np.float64) / time
    first = network.input_offsets()
    inputs = {port.name: channels[first[port.name] : first[port.name] + port.size] for port in network.inputs}
    return {**inputs, **{p.name: rates[p.name] for p in network.populations}}


def measured_charge(params: Params, network: Network, data: Data) -> np.ndarray:
    """What each synapse of `params` brings in the ideal run of `data`, (S,): charge of an event times events per second.

    The tonic channel counts by the events that the host sends on it.
    """
    t = params.topology
    rates = measured_activity(network, data)
    neurons = (np.repeat(rates[name], count) for name, count in t.copies_of.items())
    tonic = np.array([1 / t.tonic_period if t.tonic_period else 0.0])
    rate = np.concatenate([*(rates[port.name] for port in t.inputs), tonic, *neurons])
    return params.row_currents() * event_charge(params) * rate[t.pre]
