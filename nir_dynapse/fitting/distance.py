"""How far the spikes of a circuit are from those of the ideal run, differentiable; in NumPy or JAX.

Per population, from spikes s of the circuit and r of the ideal run, both also filtered by e^(−t/τ) with τ = `FILTER` steps:

    ½ ⟨(filtered s − filtered r)²⟩ / var(filtered r)  +  Σ(rate of a neuron, s − r)² / Σ r²  +  8·(mean rate s / r − 1)²

(the first is the distance of van Rossum 2001), and of the output, o and i summed over time and centred over the classes:

    ⟨(o − i)²⟩ / ⟨i²⟩
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.network.network import Network

__all__ = ["distance", "output_weights"]

FILTER = 10.0
"""Time constant in steps of the filter: spikes may come this much earlier or later."""
SMALLEST = 1e-5
"""Variance and squared rate (spikes per step) that differences are compared with at least (of silent populations)."""


def output_weights(network: Network) -> dict[str, np.ndarray]:
    """What a spike of each neuron of a node adds to the first output (n, outputs): itself, or through the readout."""
    offsets, n = network.offsets(), network.n_neurons
    known = {p.name: np.eye(n)[:, offsets[p.name] : offsets[p.name] + p.size] for p in network.populations}
    for p in network.readout.populations:
        total = np.zeros((n, p.size))
        for q in network.readout.projections:
            if q.target == p.name:
                total += known[q.source] @ q.dense(known[q.source].shape[1], p.size).T
        known[p.name] = total
    whole = known[str(network.outputs[0].source)]
    return {p.name: whole[offsets[p.name] : offsets[p.name] + p.size] for p in network.populations}


def distance(spikes: Any, ideal: Any, parts: tuple[slice, ...], output: Any, xp: Any) -> Any:
    """The distance of `spikes` from `ideal` (samples, time, N); `parts` are the populations, `output` (N, outputs);
    `xp` is the array module."""
    steps = spikes.shape[1]
    ago = np.arange(steps)[:, None] - np.arange(steps)[None]
    kernel = np.where(ago >= 0, np.exp(-np.maximum(ago, 0) / FILTER), 0.0) * (1 - np.exp(-1 / FILTER))
    kernel = xp.asarray(kernel, np.float32)
    smooth, target = (xp.einsum("ts,bsn->btn", kernel, x, optimize=True) for x in (spikes, ideal))
    total = 0.0
    for part in parts:
        a, b = smooth[..., part], target[..., part]
        total += 0.5 * xp.mean((a - b) ** 2) / xp.maximum(xp.var(b), SMALLEST)
        mine, wanted = spikes[..., part].mean((0, 1)), ideal[..., part].mean((0, 1))
        total += xp.mean((mine - wanted) ** 2) / xp.maximum(xp.mean(wanted**2), SMALLEST)
        total += 8 * (mine.mean() - wanted.mean()) ** 2 / xp.maximum(wanted.mean() ** 2, SMALLEST)
    got, due = (x.sum(1) @ output for x in (spikes, ideal))
    got, due = got - got.mean(-1, keepdims=True), due - due.mean(-1, keepdims=True)
    return total + xp.mean((got - due) ** 2) / xp.maximum(xp.mean(due**2), SMALLEST)
