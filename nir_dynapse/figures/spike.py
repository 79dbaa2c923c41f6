"""A figure of one neuron's currents through one of its spikes, and of what a step of the simulation makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.counts import check_counts
from nir_dynapse.data.images import flattened
from nir_dynapse.errors import ConfigurationError, ParameterRangeError, nearest
from nir_dynapse.figures.parts import canvas, plain, time_axis, whole
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.reporting.svg import FAINT, GREY, INK, colour_of
from nir_dynapse.sim.closeup import Closeup, closeup
from nir_dynapse.sim.mismatch import fabricate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["through_a_spike"]

LABELS = {
    "i_mem": "$I_{mem}$, membrane",
    "i_ampa": "$I_{AMPA}$, fast excitation",
    "i_nmda": "$I_{NMDA}$, slow excitation",
    "i_gaba": "$I_{GABA}$, inhibition",
    "i_shunt": "$I_{SHUNT}$, adds to the leak",
    "i_ahp": "$I_{AHP}$, adaptation",
}
COLOURS = {"i_mem": 1, "i_ampa": 0, "i_nmda": 2, "i_gaba": 3, "i_shunt": 4, "i_ahp": 5}
DARK = 1e-15
"""Currents in A below which a curve ends: nothing in a chip is that exact."""


def through_a_spike(
    thing: Network | Params | Layout,
    x: Any,
    neuron: tuple[str, int] | tuple[str, int, int],
    *,
    spike: int = 0,
    before: float = 10e-3,
    after: float = 5e-3,
    step: float = 1e-5,
    mismatch: Mismatch | None = None,
    key: int = 0,
    device: Device = DYNAPSE2,
    ax: Axes | None = None,
) -> Any:
    """The currents in A of `neuron` (node, index[, copy]) from `before` to `after` s around its spike `spike`, log axis.

    `x` are the event counts (time, channel) of one sample in bins of the network's dt, which start from silence. The neuron
    goes through them in steps of `step` s; events and other neurons' spikes arrive when they do in `simulate`. Circles are
    what `simulate` computes in its own, longer steps, and the line through them is the time at which it finds the threshold
    met. `mismatch` and `key` as in `simulate`, without noise and lost events.

    Raises ConfigurationError where `x` does not fit, or there is no such node or spike, and ParameterRangeError for an
    index, a time or a step out of range.
    """
    for name, value in (("before", before), ("after", after)):
        if not 0 < value < 1:
            raise ParameterRangeError(f"figures: {name} is {value} s, allowed are 0 to 1 s. Choose another time.")
    params = as_params(thing, device)
    params = (params if mismatch is None else fabricate(params, mismatch, key)).numpy()
    t = params.topology
    counts = check_counts(flattened(x, t.inputs), [(port.name, port.size) for port in t.inputs]).astype(np.float32)
    if len(counts) != 1:
        raise ConfigurationError(f"figures: x holds {len(counts)} samples. Choose one: x[0] has shape (time, channel).")
    if not (isinstance(neuron, tuple) and len(neuron) in (2, 3)):
        raise ParameterRangeError(f"figures: neuron is {neuron!r}. Give the node and the index in it, as a tuple.")
    node, index, copy = neuron if len(neuron) == 3 else (*neuron, 0)
    if node not in (slices := t.slices()):
        raise ConfigurationError(f"figures: there is no node {node!r} with neurons. {nearest(str(node), slices)}")
    copies = t.copies_of[node]
    number = slices[node].start + whole(f"node {node!r}, neuron", index, t.node_sizes[node]) * copies
    number += whole(f"node {node!r}, neuron {index}, copy", copy, copies)
    spike = whole("spike", spike, 1 << 16)
    fine, usual = closeup(params, counts[0], number, spike=spike, step=step, after=after)
    result, axes = canvas(ax, 7.5, 4.4)
    _draw(axes, fine, usual, spike, before, after)
    axes.set_title(
        f"{node}, neuron {index}: spike {spike} at {1e3 * fine.spikes[spike]:.3f} ms",
        fontsize="medium",
        pad=32 if fine.exponential else 20,
    )
    return result


def _draw(ax: Axes, fine: Closeup, usual: Closeup, spike: int, before: float, after: float) -> None:
    from matplotlib.ticker import EngFormatter

    crossing = float(fine.spikes[spike])
    start, end = max(0.0, crossing - before), min(crossing + after, float(fine.time[-1]))
    shown = (fine.time >= start) & (fine.time <= end)
    steps = (usual.time >= start) & (usual.time <= end)
    ms = 1e3 * fine.time[shown]
    for name, current in fine.currents.items():
        if not (current[shown] > DARK).any():
            continue
        colour, wide = colour_of(COLOURS[name]), 2.2 if name == "i_mem" else 1.3
        ax.plot(ms, np.where(current > DARK, current, np.nan)[shown], color=colour, linewidth=wide, label=LABELS[name])
    ax.plot(
        1e3 * usual.time[steps], usual.currents["i_mem"][steps], "o", color=colour_of(COLOURS["i_mem"]), markersize=5,
        markerfacecolor="white", linestyle="none", label=f"$I_{{mem}}$ in steps of {1e3 * usual.step:.3g} ms",
    )  # fmt: skip
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(EngFormatter("A"))
    highest = max(fine.threshold, *(float(current[shown].max()) for current in fine.currents.values()))
    ax.set_ylim(fine.floor / 2, 1.5 * highest)
    ax.axhline(fine.threshold, color=INK, linestyle=(0, (5, 3)), linewidth=1.0, label="$I_{spkthr}$, threshold")
    ax.axhline(fine.floor, color=GREY, linestyle=(0, (1, 2)), linewidth=1.0, label="$I_o$, reset level")
    label = f"refractory, {1e3 * fine.refractory:.3g} ms"
    for found in fine.spikes[(fine.spikes > start - fine.refractory) & (fine.spikes < end)].tolist():
        left, right = max(found, start), min(found + fine.refractory, end)
        ax.axvspan(1e3 * left, 1e3 * right, color=FAINT, alpha=0.6, linewidth=0, zorder=0, label=label)
        label = None
    _phases(ax, fine, start, crossing, end)
    ground = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    ax.annotate(
        "threshold met:\nset to $I_o$, the\nmodel has no pulse", (1e3 * crossing, 0.3), xytext=(-24, 0), bbox=ground,
        xycoords=("data", "axes fraction"), textcoords="offset points", ha="right", va="center", fontsize="small",
        arrowprops={"arrowstyle": "->", "color": INK},
    )  # fmt: skip
    if len(usual.spikes):
        other = float(usual.spikes[np.abs(usual.spikes - crossing).argmin()])
        if start <= other <= end:
            off = 1e6 * (other - crossing)
            name = f"threshold met in those steps, {off:+.0f} µs"
            ax.axvline(1e3 * other, color=colour_of(COLOURS["i_mem"]), linestyle=(0, (2, 2)), linewidth=1.0, label=name)
    time_axis(ax, 1e3 * start, 1e3 * end)
    ax.set_ylabel("current")
    plain(ax)
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small", frameon=False)


def _phases(ax: Axes, fine: Closeup, start: float, crossing: float, end: float) -> None:
    """Names of what comes before and after the spike, above the axes, between it and its neighbours."""
    rising = "integration and\npositive feedback" if fine.exponential else "integration"
    ends = fine.spikes[fine.spikes < crossing] + fine.refractory
    later = fine.spikes[fine.spikes > crossing]
    spans = (
        (max(start, float(ends[-1]) if len(ends) else start), crossing),
        (crossing + fine.refractory, min(end, float(later[0]) if len(later) else end)),
    )
    for left, right in spans:
        if right - left > 0.15 * (end - start):
            middle = 1e3 * (left + right) / 2
            words: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": "small", "color": GREY}
            ax.text(middle, 1.015, rising, transform=ax.get_xaxis_transform(), **words)
