"""A figure of the chips: every slot of every core by the CAM rows in use, and what crosses between chips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nir_dynapse.chip.device import DYNAPSE2, Device
from nir_dynapse.figures.parts import canvas
from nir_dynapse.layout.layout import Layout
from nir_dynapse.reporting.floor_plan import SIDE, Slots, core_slots, passing
from nir_dynapse.reporting.svg import GREY, INK, clean, colour_of, cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["floor_plan"]

FREE, MAP = "#ececec", "cividis_r"
"""Unused slots, and a colour map that colour-blind eyes read, too."""
BETWEEN, CHIPS_APART, HEAD = 3.0, 11.0, 5.0
"""In slots: between two cores, between two chips, and above a chip."""
COLUMNS = 4
"""Chips in a row."""
NAME = 16
"""Letters of a node's name in the legend."""
OUTLINE = 0.12
"""How far inside of its slots the line around a population runs."""


def floor_plan(layout: Layout, device: Device = DYNAPSE2, *, ax: Axes | None = None) -> Any:
    """Every core as a grid of slots, 16 in a row from the top left, coloured by the CAM rows in use.

    A line in the colour of its node surrounds neurons of one node; crosses are slots that the profile of the chip calls
    bad. Arrows between chips give the tags that cross, also on their way further.
    """
    chips, across = layout.n_chips, min(layout.n_chips, COLUMNS)
    rows = -(-chips // COLUMNS)
    per_row = -(-device.cores_per_chip // 2)
    side = 2 * SIDE + BETWEEN
    high = per_row * SIDE + (per_row - 1) * BETWEEN
    wide, tall = (3.3, 3.6) if chips < 3 else (2.6, 2.6)
    legend = 0.25 * -(-(len(layout.populations) + 2) // (2 * across))
    result, axes = canvas(ax, 1.0 + wide * across, 0.3 + tall * rows + legend)
    names = [name for name, _, _ in layout.populations]
    which = np.array([names.index(node) for node, *_ in layout.names], int)
    image: Any = None
    for chip in range(chips):
        line, column = divmod(chip, COLUMNS)
        left, top = column * (side + CHIPS_APART), line * (high + HEAD + BETWEEN + 2)
        axes.text(left, top - 4.2, f"chip {chip}", fontweight="bold", va="center")
        for core in range(device.cores_per_chip):
            x, y = left + core % 2 * (SIDE + BETWEEN), top + core // 2 * (SIDE + BETWEEN)
            slots = core_slots(layout, device, chip, core)
            image = _core(axes, slots, which, x, y, device.cam_rows)
            used = int((slots.neuron >= 0).sum())
            axes.text(
                x,
                y - 0.5,
                f"core {core}: {f'{used} neurons' if used else 'unused'}",
                fontsize="x-small",
                va="bottom",
                color=GREY,
            )
    for chip, (east, west) in enumerate(passing(layout)):
        line, column = divmod(chip, COLUMNS)
        x, y = column * (side + CHIPS_APART) + side, line * (high + HEAD + BETWEEN + 2) + high / 2
        _link(axes, x, y, east, west, chip + 1 if column == COLUMNS - 1 else None)
    axes.set_xlim(-1, across * side + (across - 1) * CHIPS_APART + 1 + (CHIPS_APART if rows > 1 else 0))
    axes.set_ylim(rows * (high + HEAD + BETWEEN + 2) - HEAD - BETWEEN - 1, -HEAD - 1)
    axes.set_aspect("equal")
    axes.set_axis_off()
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, aspect=22)
    bar.set_label(f"CAM rows in use, of {device.cam_rows}")
    _legend(axes, layout, device)
    return result


def _core(ax: Axes, slots: Slots, which: np.ndarray, x: float, y: float, limit: int) -> Any:
    """One core with its upper left corner at (x, y)."""
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    colours = colormaps[MAP].with_extremes(bad=FREE)
    shape = (len(slots.neuron) // SIDE, SIDE)
    shown = np.ma.masked_where(slots.neuron < 0, slots.rows).reshape(shape)
    edges = (x + np.arange(SIDE + 1), y + np.arange(shape[0] + 1))
    mesh = ax.pcolormesh(*edges, shown, cmap=colours, vmin=0, vmax=limit, edgecolors="white", linewidth=0.4)
    kind = np.where(slots.neuron >= 0, which[slots.neuron] if len(which) else -1, -1).reshape(shape)
    for node in np.unique(kind[kind >= 0]).tolist():
        lines = _around(kind == node)
        ax.add_collection(LineCollection(lines + np.array([x, y]), colors=colour_of(node), linewidths=1.6))
    bad = np.flatnonzero(~slots.works)
    if len(bad):
        ax.plot(x + bad % SIDE + 0.5, y + bad // SIDE + 0.5, "x", color=INK, markersize=3, linestyle="none")
    return mesh


def _around(inside: np.ndarray) -> np.ndarray:
    """The edges (n, 2, 2) around the True cells of a grid, a little inside of them."""
    padded = np.pad(inside, 1)
    near, far = OUTLINE, 1 - OUTLINE
    lines = []
    for dy, dx, ends in (
        (-1, 0, ((0, near), (1, near))),
        (1, 0, ((0, far), (1, far))),
        (0, -1, ((near, 0), (near, 1))),
        (0, 1, ((far, 0), (far, 1))),
    ):
        other = padded[1 + dy : 1 + dy + inside.shape[0], 1 + dx : 1 + dx + inside.shape[1]]
        row, column = np.nonzero(inside & ~other)
        corner = np.stack([column, row], 1)[:, None, :]
        lines.append(corner + np.array(ends)[None])
    return np.concatenate(lines)


def _link(ax: Axes, x: float, y: float, east: int, west: int, onwards: int | None) -> None:
    """Arrows to the next chip and back, right of the point (x, y), with the tags that take them."""
    start, end = x + 1.2, x + CHIPS_APART - 1.2
    for count, at, off, ends in ((east, y - 1.0, -1.0, (start, end)), (west, y + 1.0, 1.0, (end, start))):
        colour = INK if count else GREY
        ax.annotate(
            "",
            (ends[1], at),
            (ends[0], at),
            arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.2 if count else 0.6},
        )
        words = f"{count} tag{'s' * (count != 1)}"
        ax.text((start + end) / 2, at + off, words, ha="center", va="bottom" if off < 0 else "top", fontsize="x-small")
    if onwards is not None:
        ax.text(
            (start + end) / 2,
            y + 5,
            f"to and from\nchip {onwards}",
            ha="center",
            va="top",
            fontsize="x-small",
            color=GREY,
        )


def _times(copies: int) -> str:
    return "" if copies == 1 else f" × {copies}"


def _legend(ax: Axes, layout: Layout, device: Device) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(
            facecolor="none",
            edgecolor=colour_of(k),
            linewidth=1.6,
            label=f"{cut(clean(name), NAME)} ({layout.node_sizes[name]}{_times(layout.copies_of[name])})",
        )
        for k, (name, _, _) in enumerate(layout.populations)
    ]
    handles.append(Patch(facecolor=FREE, label="unused slot"))
    if any(p is not None and not p.neurons.all() for p in device.profiles):
        handles.append(Line2D([], [], marker="x", color=INK, linestyle="none", markersize=4, label="does not work"))
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.0, 0.0), ncols=2 * min(COLUMNS, layout.n_chips),
        fontsize="small", frameon=False,
    )  # fmt: skip
