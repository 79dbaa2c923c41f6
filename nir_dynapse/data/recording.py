"""`Recording`: what a run gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nir_dynapse.data.counts import check_values, real_array
from nir_dynapse.data.data import Events
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.files.numbers import STEP

__all__ = ["DECISIONS", "Decision", "Recording", "first_times"]

Decision = Literal["counts", "first-spike"]
DECISIONS: tuple[Decision, ...] = ("counts", "first-spike")
"""What chooses a class: the most spikes, or the first one."""


@dataclass(frozen=True)
class Recording:
    """What a run gave: spike counts per bin, what the host read out of them and, where asked for, currents.

    `spikes[node]` (batch, time, neuron) counts; `values[node]` the voltages of readouts on the host; `states[name][node]`
    the same shape, in A at the end of each bin (`v_mem` in V, `v` of ideal runs without unit). `dt` is the width of a bin
    in s. Where `copies[node]` neurons of the chip stand for each of the node's, spikes are their sum, and states those of
    each (batch, time, neuron·copies). `findings` say what may be missing in recordings of others. `events`, where times
    were asked for (`simulate(..., times=True)`), has the spikes of each sample one by one, in µs.
    ConfigurationError for spikes that are no counts, and for arrays of other shapes.
    """

    spikes: dict[str, np.ndarray]
    dt: float
    outputs: dict[str, str] = field(default_factory=dict)
    states: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    copies: dict[str, int] = field(default_factory=dict)
    events: tuple[Events, ...] = ()

    def __post_init__(self) -> None:
        hint = "Give the width of a bin in seconds."
        object.__setattr__(self, "dt", STEP.check("Recording", "dt", self.dt, hint, ConfigurationError))
        shape = None
        for what in ("spikes", "values"):
            arrays = {node: real_array(f"node {node!r}", v, what) for node, v in getattr(self, what).items()}
            object.__setattr__(self, what, arrays)
            for node, array in arrays.items():
                shape = array.shape[:2] if shape is None else shape
                if array.ndim != 3 or array.shape[:2] != shape:
                    raise ConfigurationError(
                        f"node {node!r}: its {what} have shape {array.shape}, needed is (batch, time, neuron), with batch "
                        f"and time {shape} for all nodes. Give arrays of one run."
                    )
                if what == "spikes":
                    check_values("spikes", array, ((node, array.shape[2]),))

    def __repr__(self) -> str:
        nodes = ", ".join(f"{name} {values.shape[2]}" for name, values in (self.spikes | self.values).items())
        shape = next(iter((self.spikes | self.values).values()), np.zeros((0, 0, 0))).shape
        recorded = f"; {', '.join(self.states)}" if self.states else ""
        return f"Recording({nodes}{recorded}; {shape[0]} samples of {shape[1]} bins of {1e3 * self.dt:g} ms)"

    @property
    def output(self) -> np.ndarray:
        """What the output node reads (batch, time, neuron): spike counts, or the values of a readout on the host.

        With several output nodes, that of the first.
        """
        if not self.outputs:
            raise ConfigurationError("the network has no output node: nothing is read out. Use Recording.spikes.")
        return self.of(next(iter(self.outputs)))

    def of(self, output: str) -> np.ndarray:
        """What output node `output` reads, as in `Recording.output`."""
        if output not in self.outputs:
            known = ", ".join(map(repr, self.outputs)) or "none"
            raise ConfigurationError(f"there is no output node {output!r}. Known output nodes: {known}.")
        source = self.outputs[output]
        return self.values[source] if source in self.values else self.spikes[source]

    @property
    def of_spikes(self) -> bool:
        """Whether the output node reads spikes, and not a readout on the host."""
        return next(iter(self.outputs.values()), None) not in self.values

    def latencies(self, node: str) -> np.ndarray:
        """Time in s (batch, neuron) of the first spike of each neuron of `node` from the beginning of its sample, NaN
        without one; of the first copy where there are several. ConfigurationError where the run kept no times."""
        if node not in self.spikes:
            raise ConfigurationError(f"there are no spikes of a node {node!r}. Known nodes: {', '.join(self.spikes)}.")
        if not self.events:
            raise ConfigurationError(
                "the recording has spikes per bin, no times within it. Simulate with times=True for latencies."
            )
        first = np.full((len(self.events), self.spikes[node].shape[2]), np.nan)
        for row, events in zip(first, self.events, strict=True):
            mine = events.node == events.nodes.index(node)
            np.fmin.at(row, events.index[mine], 1e-6 * events.time[mine])
        return first

    def accuracy(self, labels: Any) -> float:
        """Share of the samples whose output neuron with the most spikes (the first of several) is that of labels (batch,).

        Raises ConfigurationError where there is not one label for each sample.
        """
        known, chosen = np.asarray(labels), self.counts().argmax(1)
        if known.shape != chosen.shape:
            raise ConfigurationError(
                f"labels have shape {known.shape}, the recording has {len(chosen)} samples. Give one class per sample."
            )
        return float((chosen == known).mean())

    def first_spikes(self) -> np.ndarray:
        """Time in s until the first spike of each output neuron (batch, neuron), see `first_times`.

        ConfigurationError where the output is a readout on the host, which has values at all times.
        """
        if not self.of_spikes:
            raise ConfigurationError(
                f"output {next(iter(self.outputs.values()), None)!r} is a readout on the host, which has no first spike. "
                'Let counts decide (decide="counts", --decide counts).'
            )
        return first_times(self.output, self.dt, self.copies.get(next(iter(self.outputs.values())), 1))

    def counts(self) -> np.ndarray:
        """Spikes (or the summed values of a readout) per sample and output neuron, shape (batch, neuron).

        Where several neurons of the chip stand for one, their mean: comparable with the ideal run's.
        """
        output = self.output
        total = output.sum(1, dtype=np.float64 if np.issubdtype(output.dtype, np.floating) else np.int64)
        copies = self.copies.get(next(iter(self.outputs.values())), 1) if self.of_spikes else 1
        return total if copies == 1 else total / copies


def first_times(spikes: np.ndarray, dt: float, copies: int = 1) -> np.ndarray:
    """Time in s (batch, n) at which the bin of a neuron's first spike in `spikes` (batch, time, n) begins.

    T·dt, the end of the sample, where it is silent. Where spikes are the sum over `copies` of a neuron, the time at which
    they are half as many as copies: with one copy its first spike, with several about the median of theirs.
    """
    reached = 2 * np.cumsum(spikes, axis=1, dtype=np.int64) >= copies
    return dt * np.where(reached.any(1), reached.argmax(1), spikes.shape[1])
