"""Figures for notebooks (`pip install "nir-dynapse[plot]"`): spikes, membranes, chips, accuracies, and one spike from near.

    from nir_dynapse import figures

    figures.rasters({"ideal": ideal, "circuit": circuit})

Every function returns a matplotlib Figure that notebooks show, or draws into `ax` and returns that. Nothing global
changes: no pyplot, no rcParams. Raises NotInstalledError where matplotlib is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.evaluation.evaluate import Evaluation
from nir_dynapse.figures.floor import floor_plan
from nir_dynapse.figures.parts import by_name, canvas, new_figure, plain, si, time_axis, whole
from nir_dynapse.figures.spike import through_a_spike
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.reporting.plots import percentages
from nir_dynapse.reporting.svg import FAINT, GREY, INK, colour_of
from nir_dynapse.sim.mismatch import fabricate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["devices", "floor_plan", "membranes", "raster", "rasters", "through_a_spike"]

LEAST = 0.16
"""Height of a population in a raster, of all of them together, at least: names need room."""
SWARM = 0.44
"""Height of the dots of a series; series are 1 apart."""

# --- spikes -----------------------------------------------------------------------------------------------------------


def raster(recording: Recording, *, sample: int = 0, nodes: Sequence[str] | None = None, ax: Axes | None = None) -> Any:
    """The spikes of one sample over time in ms, a band and a colour for each node (None: all), neuron 0 below.

    Spikes of one bin are spread over it. Raises ParameterRangeError for a sample and ConfigurationError for a node that
    the recording does not have.
    """
    names = list(recording.spikes) if nodes is None else [by_name(recording, node) for node in nodes]
    sizes = {name: recording.spikes[name].shape[-1] for name in names}
    _sample(recording, sample)
    result, axes = canvas(ax, 7.5, _height(sizes))
    _raster(axes, recording, sizes, sample)
    return result


def rasters(recordings: Mapping[str, Recording], *, sample: int = 0, nodes: Sequence[str] | None = None) -> Any:
    """The spikes of one sample in several runs side by side, {title: recording}, over the same axes; as `raster`.

    Raises ParameterRangeError where there is no recording, or where nodes have other sizes than in the first.
    """
    if not recordings:
        raise ParameterRangeError("figures: there is no recording to show. Give at least one.")
    sizes: dict[str, int] = {}
    for title, recording in recordings.items():
        _sample(recording, sample)
        for name, spikes in recording.spikes.items():
            if sizes.setdefault(name, spikes.shape[-1]) != spikes.shape[-1]:
                raise ParameterRangeError(
                    f"figures: node {name!r} has {spikes.shape[-1]} neurons in {title!r} and {sizes[name]} before. "
                    "Give recordings of the same network."
                )
    for node in nodes or ():
        if node not in sizes:
            by_name(next(iter(recordings.values())), node)
    sizes = sizes if nodes is None else {name: sizes[name] for name in nodes}
    figure = new_figure(2.2 + 2.9 * len(recordings), _height(sizes) + 0.3)
    axes = figure.subplots(1, len(recordings), sharex=True, sharey=True, squeeze=False)[0]
    end = max(1e3 * recording.dt * _bins(recording) for recording in recordings.values())
    for k, (title, recording) in enumerate(recordings.items()):
        _raster(axes[k], recording, sizes, sample)
        time_axis(axes[k], 0.0, end)
        total = sum(int(recording.spikes[name][sample].sum()) for name in sizes if name in recording.spikes)
        axes[k].set_title(f"{title}: {total} spike{'s' * (total != 1)}", fontsize="medium")
        axes[k].tick_params(axis="y", which="both", length=0, labelleft=not k)
    return figure


def _sample(recording: Recording, sample: Any) -> None:
    whole("sample", sample, min((len(spikes) for spikes in recording.spikes.values()), default=0))


def _bins(recording: Recording) -> int:
    return max((spikes.shape[1] for spikes in recording.spikes.values()), default=0)


def _height(sizes: Mapping[str, int]) -> float:
    """Inches for the bands of populations."""
    return 0.9 + max(0.62 * len(sizes), min(4.8, 0.8 + 0.03 * sum(sizes.values())))


def _raster(ax: Axes, recording: Recording, sizes: Mapping[str, int], sample: int) -> None:
    """The bands from below to above, each at least `LEAST` of the whole."""
    total = max(1, sum(sizes.values()))
    heights = [max(size, LEAST * total) for size in sizes.values()]
    borders = np.cumsum([0.0, *heights])
    end = 1e3 * recording.dt * _bins(recording)
    ticks: list[tuple[float, str, Literal["bottom", "top"]]] = []
    for k, (name, size) in enumerate(sizes.items()):
        bottom, row = float(borders[k]), heights[k] / max(1, size)
        ax.axhspan(bottom, bottom + heights[k], color=colour_of(k), alpha=0.05, linewidth=0, zorder=0)
        if size > 1:  # the numbers keep within their band
            ticks.append((bottom + 0.5 * row, "0", "bottom"))
            ticks.append((bottom + (size - 0.5) * row, str(size - 1), "top"))
        if name not in recording.spikes:
            ax.text(end / 2, bottom + heights[k] / 2, "not recorded", color=GREY, ha="center", va="center")
            continue
        when, who = _marks(recording.spikes[name][sample])
        y, half = bottom + (who + 0.5) * row, max(0.42 * row, 0.009 * float(borders[-1]))
        marks = ax.vlines(1e3 * recording.dt * when, y - half, y + half, colors=colour_of(k), linewidth=1.3)
        marks.set_label(name)
    for border in borders[1:-1]:
        ax.axhline(border, color=FAINT, linewidth=0.8, zorder=0)
    ax.set_yticks([tick[0] for tick in ticks], [tick[1] for tick in ticks], fontsize="small")
    for label, (_, _, place) in zip(ax.get_yticklabels(), ticks, strict=False):  # none where a neighbour has them
        label.set_verticalalignment(place)
    middle = (borders[1:] + borders[:-1]) / 2
    ax.set_yticks(middle, list(sizes), minor=True)
    ax.tick_params(axis="y", which="minor", length=0, pad=6 + max((6 + 6 * len(tick[1]) for tick in ticks), default=0))
    for k, label in enumerate(ax.get_yticklabels(minor=True)):
        label.set(color=colour_of(k), fontweight="bold")
    ax.set_ylim(0.0, float(borders[-1]) or 1.0)
    time_axis(ax, 0.0, end or 1.0)
    plain(ax)


def _marks(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(time in bins, neuron) of every spike of the counts (time, neuron); those of one bin are spread over it."""
    bins, who = np.nonzero(counts)
    many = counts[bins, who].astype(int)
    within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    return np.repeat(bins, many) + (within + 0.5) / np.repeat(many, many), np.repeat(who, many)


# --- membranes --------------------------------------------------------------------------------------------------------


def membranes(
    recording: Recording,
    node: str | None = None,
    neurons: Sequence[int] = (0,),
    *,
    thing: Network | Params | Layout | None = None,
    mismatch: Mismatch | None = None,
    key: int = 0,
    sample: int = 0,
    device: Device = DYNAPSE2,
    ax: Axes | None = None,
) -> Any:
    """What the membranes of some neurons of a node (None: the first) do in one sample: I_mem in A, V_mem in V where only
    that was recorded, or v of an ideal run.

    Values are those at the ends of bins, spikes are triangles in their bin. `thing`, `mismatch` and `key` are what was
    given to `simulate`, for the thresholds (None: none are drawn). A panel for each neuron, or all in `ax`. Where several
    neurons of the chip stand for one, the membrane is that of copy 0, without spikes, which are those of all.

    Raises ConfigurationError where no membrane was recorded or the node is not there, ParameterRangeError for a sample or
    neuron that the recording does not have, or a `thing` that another kind of run needs.
    """
    ideal = "v" in recording.states
    volts = not ideal and "i_mem" not in recording.states
    found = recording.states.get("v" if ideal else "v_mem" if volts else "i_mem")
    if not found:
        raise ConfigurationError(
            'figures: the recording holds no membranes. Simulate with record=("spikes", "i_mem") or "v_mem", ideally '
            'with record=("spikes", "v").'
        )
    name = by_name(recording, next(iter(found)) if node is None else node)
    _sample(recording, sample)
    copies = recording.copies.get(name, 1)
    chosen = [whole(f"node {name!r}, neuron", n, found[name].shape[-1] // copies) for n in neurons]
    shown = [n * copies for n in chosen]
    if not chosen:
        raise ParameterRangeError("figures: there is no neuron to show. Give at least one.")
    thresholds = _thresholds(thing, mismatch, key, name, ideal, device, volts)
    values = found[name][sample][:, shown]
    levels = [] if thresholds is None else thresholds[shown].tolist()
    unit, prefix = (1.0, "") if ideal else si(float(max(np.nanmax(values, initial=0.0), *levels, 0.0)))
    label = "v" if ideal else f"$V_{{mem}}$ in {prefix}V" if volts else f"$I_{{mem}}$ in {prefix}A"
    if ax is not None:
        result, panels = ax, [ax] * len(chosen)
    else:
        result = new_figure(7.5, 0.8 + 1.5 * len(chosen))
        panels = result.subplots(len(chosen), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    dt, bins = 1e3 * recording.dt, values.shape[0]
    for k, (panel, n) in enumerate(zip(panels, chosen, strict=True)):
        y, level = values[:, k] / unit, None if not levels else levels[k] / unit
        panel.plot(dt * np.arange(1, bins + 1), y, color=colour_of(k), linewidth=1.4, label=f"{name} {n}")
        if level is not None:
            panel.axhline(level, color=colour_of(k) if ax else INK, linestyle=(0, (5, 3)), linewidth=0.9)
        when, _ = _marks(recording.spikes[name][sample][:, n : n + 1] if copies == 1 else np.zeros((bins, 1), int))
        top = float(np.nanmax(y, initial=0.0)) if level is None else level
        panel.plot(dt * when, np.full(len(when), 1.1 * top), "v", color=colour_of(k), markersize=5, linestyle="none")
        panel.set_ylabel(label)
        plain(panel)
        time_axis(panel, 0.0, dt * bins or 1.0)
        if ax is None:
            panel.set_title(f"{name}, neuron {n}", fontsize="medium", loc="left", color=colour_of(k))
    for panel in panels[:-1] if ax is None else ():
        panel.set_xlabel("")
    if ax is not None:
        ax.legend(loc="best", fontsize="small")
    elif levels:
        panels[0].annotate(
            "threshold", (1.0, levels[0] / unit), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize="small",
        )  # fmt: skip
    return result


def _thresholds(
    thing: Any, mismatch: Mismatch | None, key: int, node: str, ideal: bool, device: Device, volts: bool
) -> np.ndarray | None:
    """Thresholds of the neurons of a node, in A or `volts`, or of v where the run was ideal."""
    if thing is None:
        return None
    if ideal and not isinstance(thing, Network):
        raise ParameterRangeError(
            f"figures: thing is a {type(thing).__name__}, but the run was ideal. Give the Network that was run."
        )
    if ideal:
        return next((p.v_threshold for p in thing.populations if p.name == node), None)
    params = as_params(thing, device)
    params = params if mismatch is None else fabricate(params, mismatch, key)
    part = params.topology.slices().get(node)
    if part is None:
        return None
    amperes = np.asarray(params.per_neuron("i_spkthr"))[part]
    return params.circuit.v_mem(amperes) if volts else amperes


# --- accuracy on many chips -------------------------------------------------------------------------------------------


def devices(results: Evaluation | Mapping[str, Evaluation | np.ndarray], *, ax: Axes | None = None) -> Any:
    """Accuracy in % on many virtual chips: what `evaluate` returned, or several by name (before, after fine-tuning).

    A dot is a chip; below are the quartiles, the median and the 5 % quantile, and the accuracy without mismatch. Arrays
    of shares (0 to 1) do as well. Raises ParameterRangeError where there is none, or one holds something else.
    """
    named = {"": results} if isinstance(results, Evaluation) else dict(results)
    percent = percentages({k: r.accuracy if isinstance(r, Evaluation) else r for k, r in named.items()})
    result, axes = canvas(ax, 7.5, 1.0 + 1.05 * len(percent))
    nominal = [100 * run.nominal for run in named.values() if isinstance(run, Evaluation)]
    every = np.concatenate([*percent.values(), nominal])
    low, high = float(every.min()), float(every.max())
    margin = max(1.0, 0.04 * (high - low))
    low, high = max(0.0, low - margin), min(100.0, high + margin)
    axes.set_xlim(low, high + 0.004 * (high - low))
    for k, (name, values) in enumerate(percent.items()):
        _strip(axes, values, -k, colour_of(k), (high - low) / 110)
        run = named[name]
        if isinstance(run, Evaluation):
            label = None if k else "without mismatch"
            axes.plot(
                100 * run.nominal, -k - 0.36, "D", markersize=6, markerfacecolor="white", markeredgecolor=INK,
                linestyle="none", label=label, zorder=5, clip_on=False,
            )  # fmt: skip
        axes.text(0.0, -k + 0.36, _numbers(values), transform=axes.get_yaxis_transform(), fontsize="small", color=GREY)
    axes.set_yticks(-np.arange(len(percent)), list(percent))
    for k, label in enumerate(axes.get_yticklabels()):
        label.set(color=colour_of(k), fontweight="bold")
    axes.set_ylim(-len(percent) + 0.4, 0.62)
    axes.set_xlabel("accuracy on a virtual chip in %")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    plain(axes)
    axes.spines["left"].set_visible(False)
    if ax is None:
        result.legend(loc="outside lower center", ncols=5, fontsize="small", frameon=False)
    else:
        ax.legend(loc="best", fontsize="small")
    return result


def _strip(ax: Axes, values: np.ndarray, y: int, colour: str, wide: float) -> None:
    """A dot for each value, those that would overlap stacked, and a box below; named in the legend where y is 0."""

    def named(label: str) -> str | None:
        return None if y else label

    ordered = np.sort(values)
    _, sizes = np.unique(np.floor(ordered / wide), return_counts=True)
    gap = min(0.075, SWARM / int(sizes.max()))
    lift = np.concatenate([gap * (np.arange(size) - (size - 1) / 2) for size in sizes])
    dots = {"color": colour, "markersize": 4.5, "alpha": 0.6, "markeredgewidth": 0, "clip_on": False}
    ax.plot(ordered, y + lift, "o", linestyle="none", label=named("a chip"), **dots)
    low5, low, median, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75))
    box = y - 0.36
    ax.plot([ordered[0], ordered[-1]], [box, box], color=colour, linewidth=1.0)
    ax.plot(
        [low5],
        [box],
        "|",
        color=colour,
        markersize=11,
        markeredgewidth=2,
        linestyle="none",
        label=named("5 % quantile"),
    )
    ax.plot(
        [low, high], [box, box], color=colour, linewidth=6, alpha=0.45, solid_capstyle="butt", label=named("quartiles")
    )
    ax.plot(
        [median], [box], "|", color=colour, markersize=14, markeredgewidth=4, linestyle="none", label=named("median")
    )


def _numbers(values: np.ndarray) -> str:
    low5, low, median, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75))
    chips = f"{len(values)} chip{'s' * (len(values) != 1)}"
    return f"median {median:.1f} %, quartiles {low:.1f} to {high:.1f} %, 5 % quantile {low5:.1f} %, {chips}"
