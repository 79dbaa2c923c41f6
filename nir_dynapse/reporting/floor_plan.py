"""The chip as a floor plan: the slots of each core as SVG, coloured by CAM rows in use, and the links between chips."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.layout.decoding import matches
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import monitor_rows
from nir_dynapse.reporting.svg import clean, cut

__all__ = ["SHADES", "Crossing", "Slots", "core_slots", "core_svg", "crossings", "links_svg", "passing", "shade"]

SIDE, CELL, PITCH = 16, 9, 10
"""Slots in a row of a core; pixels of a slot, and from one to the next."""
SHADES = 8
"""Shades of used slots besides that for no CAM row at all."""
NAME = 60
"""Letters of a node's name in a tooltip: there is one for each neuron."""
CHIP, GAP, MIDDLE = 64, 56, 36
"""Of the picture of the links, in pixels: side of a chip, distance between two, and height of their middle."""


class Crossing(NamedTuple):
    """What goes from chip `source` to chip `target`: sending `neurons`, their `tags`, and the `connections` they make."""

    source: int
    target: int
    neurons: int
    tags: int
    connections: int


class Slots(NamedTuple):
    """The slots of one core, arrays (slot,): the `neuron` in it (-1: none), the CAM `rows` that it uses, whether the slot
    `works`, and how many of its CAM rows are `broken`.
    """

    neuron: np.ndarray
    rows: np.ndarray
    works: np.ndarray
    broken: np.ndarray


def core_slots(layout: Layout, device: Device, chip: int, core: int) -> Slots:
    """What is in each slot of a core, and what the profile of the chip calls bad."""
    n = device.neurons_per_core
    here = np.flatnonzero((layout.chip == chip) & (layout.core == core))
    neuron, rows = np.full(n, -1), np.zeros(n, int)
    neuron[layout.slot[here]] = here
    rows[layout.slot[here]] = (layout.cam["dendrite"][here] >= 0).sum(1)
    profile = device.profile(chip)
    if profile is None:
        return Slots(neuron, rows, np.ones(n, bool), np.zeros(n, int))
    return Slots(neuron, rows, profile.neurons[core], (~profile.rows[core]).any(-1).sum(-1))


def shade(rows: int, limit: int) -> int:
    """The shade (0 to SHADES) of a neuron that uses `rows` of `limit` CAM rows; 0 for none."""
    return min(SHADES, -(-rows * SHADES // max(limit, 1)))


def core_svg(layout: Layout, device: Device, chip: int, core: int) -> str:
    """The slots of one core, 16 in a row from the top left, as SVG without colours: classes `s0` to `s8` say the shade.

    Unused slots have the class `free`, those that the profile of the chip calls bad `bad`. Hovering tells what is there.
    """
    slots = core_slots(layout, device, chip, core)
    here, free = np.flatnonzero(slots.neuron >= 0), np.flatnonzero(slots.neuron < 0)
    unused = "".join(f"M{x} {y}h{CELL}v{CELL}h-{CELL}z" for x, y in map(_corner, free.tolist()))
    parts = [f'<path class="free" d="{unused}"/>'] if unused else []
    for slot in here.tolist():
        used, broken = int(slots.rows[slot]), int(slots.broken[slot])
        node, index, *copy = layout.names[slots.neuron[slot]]
        tip = f"{cut(clean(node), NAME)}[{index}]{''.join(f' copy {k}' for k in copy)}: slot {slot}"
        tip += f", {used} of {device.cam_rows} CAM rows"
        tip += f", {broken} bad" if broken else ""
        x, y = _corner(slot)
        size = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}"'
        parts.append(f'<rect class="s{shade(used, device.cam_rows)}" {size}><title>{escape(tip)}</title></rect>')
    for slot in np.flatnonzero(~slots.works).tolist():
        x, y = _corner(slot)
        cross = f"M{x + 1} {y + 1}l7 7m0 -7l-7 7"
        parts.append(f'<path class="bad" d="{cross}"><title>slot {slot} does not work</title></path>')
    side = SIDE * PITCH + 1
    label = f"chip {chip}, core {core}: {len(here)} of {device.neurons_per_core} slots used"
    return f'<svg viewBox="0 0 {side} {side}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _corner(slot: int) -> tuple[int, int]:
    """The upper left corner of a slot."""
    row, column = divmod(slot, SIDE)
    return 1 + PITCH * column, 1 + PITCH * row


# --- between chips ----------------------------------------------------------------------------------------------------


def crossings(layout: Layout) -> tuple[Crossing, ...]:
    """What the neurons of each chip send to other chips of the stack; monitoring is left out."""
    neuron, sent, start, end = _journeys(layout)
    source, target, _ = matches(layout)
    sender = source - layout.n_channels - 1
    inner = sender >= 0
    pairs = np.unique(np.stack([sender[inner], target[inner].astype(np.int64)], 1), axis=0)
    ends = layout.chip[pairs].astype(int).reshape(-1, 2)
    found = []
    for a, b in np.unique(np.stack([start, end], 1), axis=0).tolist():
        way = (start == a) & (end == b)
        made = int(((ends[:, 0] == a) & (ends[:, 1] == b)).sum())
        found.append(Crossing(a, b, len(np.unique(neuron[way])), len(np.unique(sent[way])), made))
    return tuple(found)


def _journeys(layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(neuron, tag, chip where it starts, chip where it ends) of every SRAM row that reaches another chip."""
    neuron, row = np.nonzero((layout.sram["cores"] > 0) & ~monitor_rows(layout.sram, layout.chip))
    sent = layout.sram[neuron, row]
    start = layout.chip[neuron].astype(int)
    end = start + sent["x_hop"]
    there = (end != start) & (end < layout.n_chips) & (sent["y_hop"] == 0)
    return neuron[there], sent["tag"][there], start[there], end[there]


def passing(layout: Layout) -> tuple[tuple[int, int], ...]:
    """The tags that cross from chip k to chip k + 1, and those that cross back, for every k; also on their way further."""
    _, sent, start, end = _journeys(layout)
    ways = np.unique(np.stack([start, end, sent.astype(int)], 1), axis=0)
    return tuple(
        (int(((ways[:, 0] <= k) & (ways[:, 1] > k)).sum()), int(((ways[:, 0] > k) & (ways[:, 1] <= k)).sum()))
        for k in range(layout.n_chips - 1)
    )


def links_svg(layout: Layout) -> str:
    """The chips in a row, and between neighbours the tags that cross in either direction, also on their way further."""
    counts, parts, words = passing(layout), [], []
    for chip in range(layout.n_chips):
        x = 4 + chip * (CHIP + GAP)
        parts.append(f'<rect class="chip" x="{x}" y="4" width="{CHIP}" height="{CHIP}" rx="6"/>')
        parts.append(f'<text x="{x + CHIP / 2:g}" y="{MIDDLE + 6}" text-anchor="middle">chip {chip}</text>')
        if chip + 1 == layout.n_chips:
            break
        east, west = counts[chip]
        words.append(f"{east} from {chip} to {chip + 1}, {west} back")
        left, right = x + CHIP + 6, x + CHIP + GAP - 6
        for count, text, arrow in (
            (east, MIDDLE - 14, f"M{left} {MIDDLE - 6}H{right}m-6 -4l6 4l-6 4"),
            (west, MIDDLE + 24, f"M{right} {MIDDLE + 6}H{left}m6 -4l-6 4l6 4"),
        ):
            kind = "link" if count else "link none"
            parts.append(f'<path class="{kind}" d="{arrow}"><title>{count} tags</title></path>')
            parts.append(f'<text x="{(left + right) / 2:g}" y="{text}" text-anchor="middle">{count}</text>')
    wide = 8 + layout.n_chips * CHIP + (layout.n_chips - 1) * GAP
    label = f"tags that cross between neighbouring chips: {'; '.join(words)}"
    size = f'viewBox="0 0 {wide} {CHIP + 8}" style="max-width:{wide}px" font-size="15"'
    return f'<svg {size} role="img" aria-label="{label}">{"".join(parts)}</svg>'
