"""A literal reading of a NIR graph, in numpy, and the reports that the training scripts print with it.

One step of length dt is one forward-Euler step of the equations of the NIR specification. For a CubaLIF node::

    I += dt / tau_syn * (-I + w_in * (W S + b))
    v += dt / tau_mem * ((v_leak - v) + r * I)
    spike where v > v_threshold, and there v = v_reset, in the same step

Feed-forward connections act in the step of the spike, connections that close a cycle one step later.
``circuit=True`` adds the two restrictions of a current-mode analog neuron: the net synaptic current cannot pull the
membrane down (r * I is rectified) and the membrane cannot go below its reset.

Nothing here depends on a deep-learning framework or on ``nir_dynapse``: it is the scripts' independent check of the
files they write.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nir
import numpy as np

HERE = Path(__file__).resolve().parent
NETWORKS = HERE / "networks"
DATA = HERE / "data"


def _neuron_order(graph: nir.NIRGraph) -> list[str]:
    """Populations such that each comes after those that feed it (cycles aside)."""
    sources: dict[str, set[str]] = {name: set() for name in graph.nodes}
    for source, target in graph.edges:
        sources[target].add(source)

    def upstream(name: str) -> set[str]:
        seen: set[str] = set()
        todo = [name]
        while todo:
            for source in sources[todo.pop()] - seen:
                seen.add(source)
                todo.append(source)
        return seen

    neurons = [name for name, node in graph.nodes.items() if isinstance(node, nir.CubaLIF)]
    above = {name: upstream(name) - {name} for name in neurons}
    return sorted(neurons, key=lambda name: sum(other in above[name] for other in neurons))


def simulate(graph: nir.NIRGraph, x: np.ndarray, dt: float, circuit: bool = False) -> dict[str, np.ndarray]:
    """Spikes (samples, time, neurons) of every population, driven with ``x`` (samples, time, channels)."""
    order = _neuron_order(graph)
    known = (nir.Input, nir.Output, nir.Affine, nir.Linear, nir.CubaLIF)
    for name, node in graph.nodes.items():
        if not isinstance(node, known):
            raise TypeError(f"node {name!r}: {type(node).__name__} is not read here")
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    # (population or input, linear node, population it feeds)
    links = [
        (source, middle, target)
        for source, middle in graph.edges
        for other, target in graph.edges
        if middle == other and target in order
    ]

    n_samples, n_steps, _ = x.shape
    rank = {name: k for k, name in enumerate([*inputs, *order])}
    spikes = {name: np.zeros((n_samples, n_steps, graph.nodes[name].v_threshold.size), np.uint8) for name in order}
    state = {name: (np.zeros(s.shape[::2]), np.zeros(s.shape[::2])) for name, s in spikes.items()}
    for t in range(n_steps):
        for name in order:
            node = graph.nodes[name]
            drive = 0.0
            for source, middle, _ in (link for link in links if link[2] == name):
                weight = np.asarray(graph.nodes[middle].weight, float)
                if source in inputs:
                    drive = drive + x[:, t] @ weight.T
                elif rank[source] < rank[name]:
                    drive = drive + spikes[source][:, t] @ weight.T
                elif t:
                    drive = drive + spikes[source][:, t - 1] @ weight.T
                drive = drive + np.asarray(getattr(graph.nodes[middle], "bias", 0.0), float)
            current, v = state[name]
            current = current + dt / node.tau_syn * (-current + node.w_in * drive)
            push = np.maximum(node.r * current, 0) if circuit else node.r * current
            v = v + dt / node.tau_mem * ((node.v_leak - v) + push)
            fired = v > node.v_threshold
            v = np.where(fired, node.v_reset, v)
            state[name] = current, np.maximum(v, node.v_reset) if circuit else v
            spikes[name][:, t] = fired
    return spikes


def quantised(graph: nir.NIRGraph, rng: np.random.Generator, cv: float, levels: int = 16) -> nir.NIRGraph:
    """The graph with |w| on ``levels`` evenly spaced values per matrix, zero included, times log-normal noise."""
    nodes = dict(graph.nodes)
    sigma = np.sqrt(np.log1p(cv**2))
    for name, node in nodes.items():
        if isinstance(node, nir.Affine | nir.Linear):
            weight = np.asarray(node.weight, float)
            step = np.abs(weight).max() / (levels - 1)
            weight = np.rint(weight / step) * step * np.exp(sigma * rng.standard_normal(weight.shape) - sigma**2 / 2)
            nodes[name] = nir.Affine(weight, node.bias) if isinstance(node, nir.Affine) else nir.Linear(weight)
    return nir.NIRGraph(nodes, list(graph.edges))


def accuracy(counts: np.ndarray, y: np.ndarray) -> float:
    """Share of samples whose largest count (the first of equals) is at the label."""
    return float(np.mean(counts.argmax(1) == y))


@dataclass(frozen=True)
class TestSet:
    """Spike counts per bin (samples, time, channels), labels, and the length of a bin in seconds."""

    x: np.ndarray
    y: np.ndarray
    dt: float = 1e-3

    def save(self, path: Path) -> None:
        """Compressed, under a temporary name first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        os.close(handle)
        np.savez_compressed(temporary, x=self.x.astype(np.uint8), y=self.y.astype(np.int64), dt=np.float64(self.dt))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path) -> TestSet:
        with np.load(path) as file:
            return cls(file["x"], file["y"], float(file["dt"]))


def write(graph: nir.NIRGraph, path: Path) -> None:
    """``nir.write`` under a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".nir")
    os.close(handle)
    nir.write(temporary, graph)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def report(network: Path, data: Path, output: str, frontend_spikes: np.ndarray) -> None:
    """Reads both files again; prints how the stored network does and how it compares with the frontend's own spikes."""
    graph, test = nir.read(network), TestSet.load(data)
    spikes = simulate(graph, test.x, test.dt)
    counts = spikes[output].sum(1)
    ordered = np.sort(counts, 1)
    margin = ordered[:, -1] - ordered[:, -2]
    differing = spikes[output] != frontend_spikes

    print(f"{network.name}: {network.stat().st_size / 1e3:.0f} kB; {data.name}: {data.stat().st_size / 1e3:.0f} kB")
    for name, node in graph.nodes.items():
        if isinstance(node, nir.Affine | nir.Linear):
            w = np.asarray(node.weight)
            most, rms = np.abs(w).max(), np.sqrt(np.mean(w**2))
            bias = np.abs(getattr(node, "bias", np.zeros(1))).max()
            print(
                f"  {name}: {w.shape[1]} -> {w.shape[0]}, max|w| {most:.3f} = {most / rms:.2f} rms, max|b| {bias:.3f}"
            )
    for name, s in spikes.items():
        node = graph.nodes[name]
        taus = ", ".join(
            f"{key} {getattr(node, key).min() * 1e3:.2f}..{getattr(node, key).max() * 1e3:.2f} ms"
            for key in ("tau_mem", "tau_syn")
        )
        shortest, usual = _shortest_intervals(s)
        print(
            f"  {name}: {taus}; {s.sum(1).mean():.2f} spikes per sample and neuron ({s.mean() / test.dt:.1f} Hz), "
            f"most {s.sum(1).max()} in {s.shape[1] * test.dt * 1e3:.0f} ms; shortest interval {shortest} bins, "
            f"5th percentile {usual:.0f}; {(s.sum((0, 1)) == 0).sum()} silent neurons"
        )
    print(f"  frontend accuracy {100 * accuracy(frontend_spikes.sum(1), test.y):.2f} %")
    print(f"  literal Euler reading of the file {100 * accuracy(counts, test.y):.2f} %")
    print(
        f"  output spikes that differ from the frontend's: {int(differing.sum())} of {int(frontend_spikes.sum())}, "
        f"in {int(differing.any((1, 2)).sum())} of {len(test.y)} samples"
    )
    winning = f"mean winning count {ordered[:, -1].mean():.2f}, mean margin {margin.mean():.2f}"
    print(f"  {_ties(counts)} samples with tied counts, {winning}")
    for circuit, what in ((False, "as NIR defines it"), (True, "circuit (v >= reset, net current >= 0)")):
        now = simulate(graph, test.x, test.dt, circuit)[output].sum(1)
        rng = np.random.default_rng(1)
        noisy = [simulate(quantised(graph, rng, 0.15), test.x, test.dt, circuit)[output].sum(1) for _ in range(5)]
        accuracies = [100 * accuracy(c, test.y) for c in noisy]
        print(
            f"  {what}: {100 * accuracy(now, test.y):.2f} %, {_ties(now)} ties, same decision as NIR's for "
            f"{100 * np.mean(now.argmax(1) == counts.argmax(1)):.2f} %; with 4-bit weights and 15 % noise "
            f"{np.mean(accuracies):.2f} % ({min(accuracies):.2f}..{max(accuracies):.2f})"
        )


def _ties(counts: np.ndarray) -> int:
    ordered = np.sort(counts, 1)
    return int((ordered[:, -1] == ordered[:, -2]).sum())


def _shortest_intervals(spikes: np.ndarray) -> tuple[int, float]:
    """Shortest and fifth-percentile interval, in bins, between spikes of one neuron in one sample."""
    trains = np.moveaxis(spikes, 1, 2).reshape(-1, spikes.shape[1])
    row, time = np.nonzero(trains)
    intervals = np.diff(time)[np.diff(row) == 0]
    return (int(intervals.min()), float(np.percentile(intervals, 5))) if intervals.size else (0, 0.0)
