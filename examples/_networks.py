"""Untrained networks for the tasks, as NIR graphs: what `fine_tune` starts from where no trained network has arrived.

Classes are read by several output neurons each, which the host sums up (a Linear node behind the last spikes): the mismatch
of one output neuron would otherwise decide. No neuron has more than 64 inputs: a DYNAP-SE2 neuron has so many CAM rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import nir
import numpy as np

DT = 1e-3
FAN_IN = 64


class Layer(NamedTuple):
    """`n` CubaLIF neurons with time constants in s; initial weights are normal with `mean` and `spread` (in thresholds that
    an event charges the membrane by in all)."""

    n: int
    mean: float
    spread: float
    tau_mem: float = 20e-3
    tau_syn: float = 10e-3


def neurons(layer: Layer) -> nir.CubaLIF:
    one = np.ones(layer.n)
    return nir.CubaLIF(
        tau_syn=layer.tau_syn * one,
        tau_mem=layer.tau_mem * one,
        r=layer.tau_mem / DT * one,
        v_leak=0 * one,
        v_threshold=one,
        v_reset=0 * one,
        w_in=layer.tau_syn / DT * one,
    )


def weights(rng: np.random.Generator, layer: Layer, sources: int, fan_in: int = FAN_IN) -> np.ndarray:
    """Weights (n, sources) from `fan_in` sources at most, drawn anew for every neuron."""
    value = rng.normal(layer.mean, layer.spread, (layer.n, sources))
    if sources > fan_in:
        for row in value:
            row[rng.permutation(sources)[fan_in:]] = 0
    return value


def stacked(
    channels: int, layers: list[Layer], classes: int, key: int, *, recurrent: float = 0.0, skip: Layer | None = None
) -> nir.NIRGraph:
    """Layers in a row, the last one of `classes` groups of neurons; `recurrent` weights within the only layer.

    `skip` also connects the input to the second layer, with the mean and spread given.
    """
    rng = np.random.default_rng((key, 7))
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([channels])})}
    edges, source, size = [], "input", channels
    for k, layer in enumerate(layers):
        name = f"lif{k}"
        nodes[f"w{k}"], nodes[name] = nir.Linear(weights(rng, layer, size)), neurons(layer)
        edges += [(source, f"w{k}"), (f"w{k}", name)]
        if recurrent:
            nodes[f"r{k}"] = nir.Linear(rng.normal(0, recurrent, (layer.n, layer.n)))
            edges += [(name, f"r{k}"), (f"r{k}", name)]
        if k == 1 and skip is not None:
            nodes["skip"] = nir.Linear(rng.normal(skip.mean, skip.spread, (layer.n, channels)))
            edges += [("input", "skip"), ("skip", name)]
        source, size = name, layer.n
    if size > classes:
        nodes["pool"] = nir.Linear(np.repeat(np.eye(classes), size // classes, axis=1))
        edges.append((source, "pool"))
        source = "pool"
    nodes["output"] = nir.Output({"output": np.array([classes])})
    return nir.NIRGraph(nodes, [*edges, (source, "output")])


def frozen_noise_pair(key: int) -> nir.NIRGraph:
    """60 inputs, 2 recurrent neurons, 2 outputs: the network of Çakal et al. 2024."""
    return stacked(60, [Layer(2, 0.02, 0.15)], 2, key, recurrent=0.2)


def frozen_noise(patterns: int, key: int) -> nir.NIRGraph:
    """60 inputs, 120 hidden neurons, 6 output neurons per pattern."""
    return stacked(60, [Layer(120, 0.02, 0.15), Layer(6 * patterns, 0.05, 0.2)], patterns, key)


def yin_yang(key: int) -> nir.NIRGraph:
    """5 inputs, 120 hidden neurons, 8 output neurons per class."""
    return stacked(5, [Layer(120, 0.3, 0.6), Layer(24, 0.05, 0.3)], 3, key)


def temporal_xor(key: int, channels: int = 8) -> nir.NIRGraph:
    """40 neurons with synapses of 200 ms that remember, 60 that see them and the input, 6 output neurons per class."""
    slow = Layer(40, 0.02, 0.1, 30e-3, 200e-3)
    layers = [slow, Layer(60, 0.02, 0.3, 20e-3, 20e-3), Layer(12, 0.03, 0.2, 20e-3, 20e-3)]
    return stacked(channels, layers, 2, key, skip=Layer(60, 0.0, 0.1))


def digits(key: int, hidden: int = 120) -> nir.NIRGraph:
    """64 inputs, 120 hidden neurons, 6 output neurons per digit."""
    return stacked(64, [Layer(hidden, 0.02, 0.15), Layer(60, 0.05, 0.3)], 10, key)
