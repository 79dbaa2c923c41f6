"""NIR's own exchange of recordings, `nir.NIRGraphData`: `to_nir_data` and `from_nir_data`.

A `NIRGraphData` holds, by node name, observables by name; ours are "spikes" (`TimeGriddedData` of counts, or `EventData`
where asked for) and every recorded trace under its own name ("v", "i_syn", "i_mem", …); readouts on the host are "v".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nir
import numpy as np

from nir_dynapse.data.bins import MOST_ELEMENTS, bin_numbers, bins_of
from nir_dynapse.data.counts import check_values, real_array
from nir_dynapse.data.data import Data
from nir_dynapse.data.mixed_events import Pairs, has_no_neurons, is_mixed, own_spikes, samples_of
from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import ConfigurationError, Finding
from nir_dynapse.files.numbers import STEP
from nir_dynapse.network.network import Network, Port
from nir_dynapse.network.redundancy import copies_mean

__all__ = ["data_from_nir", "from_nir_data", "input_counts", "is_nir_data", "to_nir_data"]


def _classes() -> Any:
    if not hasattr(nir, "NIRGraphData"):
        raise ConfigurationError("this version of nir has no NIRGraphData. Install nir 1.0.6 or newer.")
    return nir


def is_nir_data(thing: Any) -> bool:
    """Whether `thing` is one of NIR's data containers."""
    names = ("NIRGraphData", "NIRNodeData", "TimeGriddedData", "EventData")
    return any(cls.__name__ in names for cls in type(thing).__mro__)


def to_nir_data(recording: Recording, *, events: bool = False) -> Any:
    """`recording` as an `nir.NIRGraphData`; with `events` spikes are `EventData`, in the middle of their bin.

    Several spikes of a neuron in one bin stay counts in the grid, and are as many events. Where several neurons of the chip
    stand for one, spikes are their sum and states their mean. Times are (k + 1/2)·dt, the end is n·dt·(1 + 1e-12): nir's
    `EventData.to_time_gridded(dt)`, which rounds times and the end down, loses none.
    """
    n = _classes()
    if not isinstance(recording, Recording):
        raise ConfigurationError(f"to_nir_data cannot write a {type(recording).__name__}. Give a Recording.")
    observables: dict[str, dict[str, Any]] = {}
    for node, spikes in recording.spikes.items():
        grid = spikes.astype(bool) if spikes.max(initial=0) <= 1 else np.asarray(spikes)
        data = _events(spikes, recording.dt) if events else n.TimeGriddedData(grid, recording.dt)
        observables.setdefault(node, {})["spikes"] = data
    for node, values in recording.values.items():
        observables.setdefault(node, {})["v"] = n.TimeGriddedData(np.asarray(values), recording.dt)
    for name, by_node in recording.states.items():
        for node, values in by_node.items():
            grid = copies_mean(np.asarray(values), recording.copies[node]) if node in recording.copies else values
            observables.setdefault(node, {}).setdefault(name, n.TimeGriddedData(np.asarray(grid), recording.dt))
    return n.NIRGraphData({node: n.NIRNodeData(found) for node, found in observables.items()})


def _events(spikes: np.ndarray, dt: float) -> Any:
    """Counts (batch, time, neuron) as `EventData`, padded to the sample with the most events."""
    batch, steps, neurons = spikes.shape
    sample, step, neuron = np.nonzero(spikes)
    times = np.asarray(spikes[sample, step, neuron], np.int64)
    sample, step, neuron = (np.repeat(v, times) for v in (sample, step, neuron))
    per_sample = np.bincount(sample, minlength=batch)
    column = np.arange(len(sample)) - np.repeat(np.cumsum(per_sample) - per_sample, per_sample)
    index = np.full((batch, int(per_sample.max(initial=0))), -1)
    time = np.full(index.shape, np.inf)
    index[sample, column], time[sample, column] = neuron, (step + 0.5) * dt
    return _classes().EventData(index, time, neurons, steps * dt * (1 + 1e-12))


def from_nir_data(
    data: Any, *, dt: float | None = None, outputs: Mapping[str, str] | None = None, network: Network | None = None
) -> Recording:
    """A `Recording` from an `nir.NIRGraphData`; ConfigurationError for anything else.

    Spikes are the observable "spikes" of each node, other observables become states; `dt` in s is the width of a bin,
    needed where all spikes are events. `outputs` maps output node → population (default: each node to itself, or those of
    `network`). Recordings of jaxsnn need the `network` that was run: the events that a layer received stand there beside
    its own spikes, and are told from them by what its sources sent. `Recording.findings` says what may be missing.
    """
    nodes = getattr(data, "nodes", None)
    if not is_nir_data(data) or not isinstance(nodes, Mapping):
        raise ConfigurationError(f"from_nir_data cannot read a {type(data).__name__}. Give an nir.NIRGraphData.")
    found: dict[str, dict[str, Any]] = {}
    for node, held in nodes.items():
        observables = getattr(held, "observables", None)
        if not isinstance(observables, Mapping):
            raise ConfigurationError(
                f"node {node!r}: nested NIRGraphData is not read. Give the recordings of the flat graph."
            )
        found[str(node)] = dict(observables)
    width = _width(found, dt, network)
    own, findings = own_spikes(found, network) if is_mixed(found) else ({}, [])
    sizes = _sizes(network)
    spikes, states, values = {}, {}, {}
    for node, held in found.items():
        for name, observable in held.items():
            if own and name != "spikes":
                findings.append(_left_out(node, name))
                continue
            grid = _grid(node, name, observable, width, own.get(node), sizes.get(node))
            if name == "spikes":
                spikes[node] = _whole(node, grid)
            elif name == "v" and "spikes" not in held:
                values[node] = grid
            else:
                states.setdefault(name, {})[node] = grid
    if outputs is not None or network is None:
        names = dict(outputs) if outputs is not None else {node: node for node in (*spikes, *values)}
    else:
        names = {p.name: str(p.source) for p in network.outputs if p.source in spikes or p.source in values}
    unknown = [source for source in names.values() if source not in spikes and source not in values]
    if unknown:
        raise ConfigurationError(f"the data holds no spikes of {unknown[0]!r}. Correct `outputs`.")
    return Recording(spikes, width, names, states, values, tuple(findings))


def _width(found: dict[str, dict[str, Any]], dt: float | None, network: Network | None) -> float:
    """The width of a bin in s: as asked for, that of the data, or the network's step."""
    try:
        grids = [float(o.dt) for held in found.values() for o in held.values() if hasattr(o, "dt")]
        width = dt if dt is not None else grids[0] if grids else None if network is None else network.dt
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the width of a bin is no number ({error}). Give dt in seconds.") from error
    if width is None:
        raise ConfigurationError("the data holds events only, which have no bins. Pass dt=... in seconds.")
    width = STEP.check("from_nir_data", "dt", width, "Give the width of a bin in seconds.", ConfigurationError)
    if any(abs(grid - width) > 1e-6 * width for grid in grids):
        steps = ", ".join(f"{grid:g}" for grid in sorted(set(grids)))
        raise ConfigurationError(f"the data has bins of {steps} s, asked for {width:g} s. Bring all to one dt.")
    return width


def _sizes(network: Network | None) -> dict[str, int]:
    if network is None:
        return {}
    parts = (*network.inputs, *network.populations, *network.readout.populations)
    return {part.name: part.size for part in parts}


def _left_out(node: str, name: str) -> Finding:
    what = f"its observable {name!r} is left out: it has a value for every event of the recording, received ones too."
    return Finding("warning", "observable-left-out", what, node=node)


def _whole(node: str, grid: np.ndarray) -> np.ndarray:
    """Spike counts as whole numbers; ConfigurationError for anything else."""
    grid = real_array(f"node {node!r}", grid, "spikes")
    check_values("spikes", grid, ((node, grid.shape[-1]),) if grid.ndim else ())
    return grid.astype(np.uint8 if grid.max(initial=0) < 256 else np.int64)


def _grid(
    node: str, name: str, observable: Any, dt: float, own: Pairs | None = None, size: int | None = None
) -> np.ndarray:
    """An observable as an array (sample, time, neuron) in bins of `dt` s; of event data only `own`, where that is given.

    An event at the end of the recording is in its last bin. ConfigurationError where `size` neurons are known to be others.
    """
    if hasattr(observable, "data") and hasattr(observable, "dt"):
        return real_array(f"node {node!r}: {name!r}", observable.data, "values")
    try:
        index, time = real_array("idx", observable.idx, "indices"), real_array("time", observable.time, "times")
        neurons, end = int(observable.n_neurons), float(observable.t_max)
        amount = real_array("value", getattr(observable, "value", np.ones(index.shape)), "values").astype(float)
        if index.ndim != 2 or index.shape != time.shape or amount.shape != index.shape or index.dtype.kind not in "iu":
            raise ValueError(
                f"idx {index.dtype} {index.shape} and time {time.shape}: whole numbers (sample, event) each"
            )
        if own is not None and size is not None:
            neurons, samples = size, np.repeat(np.arange(len(own)), [len(i) for i, _ in own])
            index, time = (np.concatenate([part[k] for part in own]) for k in (0, 1))
            amount = np.ones(len(index))
        else:
            if index.min(initial=0) < -1:
                raise ValueError(f"index {index.min()}; -1 is no event")
            samples = np.nonzero(index >= 0)[0]
            index, time, amount = (part[index >= 0] for part in (index, time, amount))
        if size is not None and neurons != size:
            raise ValueError(f"n_neurons is {neurons}, the node has {size}")
        if not np.all(np.isfinite(time)) or not np.isfinite(end):
            raise ValueError("events without a time")
        steps, count = bins_of(end, dt), len(np.asarray(observable.idx))
        step = bin_numbers(time, dt)
        slack = 4 * np.finfo(time.dtype if time.dtype.kind == "f" else float).eps
        step[(step == steps) & (time <= end * (1 + max(slack, 1e-9)))] -= 1
        for wrong, what in ((step < 0, "before the beginning"), (step >= steps, f"after the end at {end:g} s")):
            if wrong.any():
                raise ValueError(f"{int(wrong.sum())} of {len(step)} events lie {what}, one at {time[wrong][0]:g} s")
        if (index >= neurons).any():
            raise ValueError(
                f"{int((index >= neurons).sum())} events of neuron {neurons} and above, n_neurons is {neurons}"
            )
        if neurons < 0 or count * steps * neurons > MOST_ELEMENTS:
            raise ValueError(f"{count} samples of {steps} bins and {neurons} neurons")
        grid = np.zeros((count, steps, neurons))
        np.add.at(grid, (samples, step, index), amount)
    except ConfigurationError as error:
        raise ConfigurationError(f"node {node!r}: {name!r}: {error}") from error
    except (AttributeError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ConfigurationError(
            f"node {node!r}: {name!r} is no TimeGriddedData or EventData that can be read ({error}). Export it again."
        ) from error
    return grid


def input_counts(data: Any, inputs: Sequence[Port], dt: float) -> np.ndarray:
    """Event counts (sample, time, channel) for the input ports, in bins of `dt` s; ConfigurationError if one is missing."""
    if not hasattr(data, "nodes"):
        if len(inputs) != 1:
            names = ", ".join(repr(port.name) for port in inputs)
            raise ConfigurationError(
                f"the network has inputs {names}. Give an nir.NIRGraphData with one entry for each."
            )
        observables = getattr(data, "observables", {"spikes": data})
        held = {inputs[0].name: dict(observables)}
    else:
        held = {str(node): dict(getattr(value, "observables", {})) for node, value in data.nodes.items()}
    parts = []
    for port in inputs:
        observable = held.get(port.name, {}).get("spikes")
        if observable is None:
            raise ConfigurationError(
                f"the data has no 'spikes' of input node {port.name!r} (it has {', '.join(held)})."
            )
        if (
            isinstance(getattr(observable, "dt", None), (int, float, np.floating))
            and abs(float(observable.dt) - dt) > 1e-6 * dt
        ):
            raise ConfigurationError(
                f"the data of {port.name!r} has bins of {float(observable.dt):g} s, the network a step of {dt:g} s. "
                "Bin the data accordingly."
            )
        part = _grid(port.name, "spikes", observable, dt, _of_input(port, observable), port.size)
        if part.ndim != 3 or part.shape[2] != port.size or part.shape[:2] != (parts or [part])[0].shape[:2]:
            raise ConfigurationError(
                f"the data of {port.name!r} has shape {part.shape} (sample, time, channel); the node has {port.size} "
                "channels, and all inputs need the same samples and time. Correct the data."
            )
        parts.append(part)
    return np.concatenate(parts, axis=2)


def _of_input(port: Port, observable: Any) -> Pairs | None:
    """The events of an input whose recording says that it has no neurons (jaxsnn's), None for others."""
    return samples_of(port.name, observable) if has_no_neurons(observable) else None


def data_from_nir(data: Any, y: Any, inputs: Sequence[Port], dt: float) -> Data:
    """`Data` for `evaluate` and `fine_tune` from an `nir.NIRGraphData` of inputs, with targets `y` (see `Data`).

    `inputs` and `dt` are those of the network; ConfigurationError where the data does not fit them.
    """
    return Data(_whole(", ".join(port.name for port in inputs), input_counts(data, inputs, dt)), np.asarray(y), dt)
