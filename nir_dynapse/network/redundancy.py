"""Structured redundancy: every neuron several times, so that what mismatch does to single ones averages out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nir_dynapse.files.numbers import SEED, Whole
from nir_dynapse.network.network import Network, Population, Port, Projection, Readout

__all__ = ["copies_mean", "replicate"]


def replicate(network: Network, copies: int, *, key: int = 0) -> Network:
    """`network` with `copies` of every neuron (n becomes n·copies … n·copies + copies − 1), which does the same.

    A copy listens to one copy of each source, drawn by `key`, so that fan-in and weights stay as they are and the errors of
    the copies are independent; by their mean, mismatch shrinks as 1/√copies (a bias that all share does not: train it
    away). Populations that are read out as spikes get a readout on the host: the mean over the copies. ParameterRangeError
    for `copies` below 1.
    """
    copies = Whole(1, 1024).check("replicate", "copies", copies)
    key = SEED.check("replicate", "key", key)
    if copies == 1:
        return network
    rng = np.random.default_rng(key)
    inputs = {port.name for port in network.inputs}
    spiking = {p.name: p for p in network.populations}
    populations = tuple(_repeated(p, copies) for p in network.populations)
    projections = []
    for q in network.projections:
        post = (q.post[:, None] * copies + np.arange(copies)).ravel()
        pre = np.repeat(q.pre, copies)
        if q.source not in inputs:
            turn = rng.permuted(np.tile(np.arange(copies), (len(q.pre), 1)), axis=1)
            pre = pre * copies + turn.ravel()
        bias = None if q.bias is None else np.repeat(q.bias, copies)
        late = None if q.delay is None else np.repeat(q.delay, copies)
        weight = np.repeat(q.weight, copies)
        projections.append(replace(q, pre=pre, post=post, weight=weight, bias=bias, via=(), delay=late))
    readout, outputs = _read_out(network, spiking, copies)
    return replace(
        network,
        populations=populations,
        projections=tuple(projections),
        readout=readout,
        outputs=outputs,
        conversion=(),
    )


def copies_mean(values: np.ndarray, copies: int) -> np.ndarray:
    """Mean over the copies of every neuron: (..., n·copies) becomes (..., n)."""
    return values.reshape(*values.shape[:-1], -1, copies).mean(-1)


def _repeated(p: Population, copies: int) -> Population:
    arrays = {
        name: np.repeat(value, copies)
        for name in ("tau_mem", "r", "v_leak", "v_threshold", "v_reset", "tau_syn", "w_in")
        if (value := getattr(p, name)) is not None
    }
    return replace(p, **arrays, shape=(p.size * copies,))


def _read_out(network: Network, spiking: dict[str, Population], copies: int) -> tuple[Readout, tuple[Port, ...]]:
    """The readout that sees the mean over the copies, and the output ports that read it."""
    projections = []
    for q in network.readout.projections:
        if q.source in spiking:
            pre = (q.pre[:, None] * copies + np.arange(copies)).ravel()
            post, weight = np.repeat(q.post, copies), np.repeat(q.weight, copies) / copies
            late = None if q.delay is None else np.repeat(q.delay, copies)
            q = replace(q, pre=pre, post=post, weight=weight, via=(), delay=late)
        projections.append(q)
    populations, outputs = list(network.readout.populations), []
    means: dict[str, str] = {}
    taken = {p.name for p in (*network.populations, *populations)}
    for port in network.outputs:
        p = spiking.get(str(port.source))
        if p is None:
            outputs.append(port)
            continue
        name = means.get(p.name)
        if name is None:
            name = f"{p.name}_mean"
            while name in taken:
                name += "_"
            means[p.name] = name
            taken.add(name)
            zero, one = np.zeros(p.size), np.ones(p.size)
            populations.append(Population(name, "Linear", zero, one, zero, np.inf * one, zero, shape=p.shape))
            sources = np.arange(p.size * copies)
            part = np.full(len(sources), 1 / copies)
            projections.append(Projection(p.name, name, sources, sources // copies, part, nodes=(name,)))
        outputs.append(replace(port, source=name))
    return Readout(tuple(populations), tuple(projections)), tuple(outputs)
