"""Address events as they travel on the buses of a board: `to_grid` and `from_grid`, markers, the 32-bit clock.

An event carries a tag, a mask of cores and the hops that remain. Chips stand in a row; the host's events enter at chip 0,
so x_hop is the chip that they are for. What leaves chip h to the west (h + x_hop < 0) reaches the host, x_hop counted up
once per chip left: chip h's own events come back with x_hop = h − 6 where they left with −7. Timestamps are µs of the
FPGA's clock, 32 bits. Source: facts/samna_dynapse2_contract.md §5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nir_dynapse.circuit.closed_form import counted_up
from nir_dynapse.data.data import Events
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import MONITOR_HOP, leaves_west

__all__ = [
    "CLOCK",
    "END",
    "GRID_DTYPE",
    "MARKERS",
    "START",
    "Heard",
    "from_grid",
    "in_order",
    "is_marker",
    "joined",
    "markers",
    "monitored",
    "parted",
    "spaced",
    "to_grid",
    "unheard",
    "unwrapped",
]

GRID_DTYPE = np.dtype([("time", "i8"), ("tag", "u2"), ("cores", "u1"), ("x_hop", "i1"), ("y_hop", "i1")], align=True)
"""One address event: time in µs, tag 0–2047, 4-bit core mask, hops; 16 bytes, which NumPy moves at once."""

MARKER_HOP = -1
"""x_hop and y_hop of markers, which bounce back to the host with y_hop still set."""
CLOCK, START, END = 1024, 2046, 2047
"""Tags of the markers that ask for the clock, begin a run and end it."""
MARKERS = (CLOCK, START, END)

ECHO_HOP = -7
"""y_hop of the copies of stimuli that come back to the host: no neuron of ours monitors with it."""
TAGS = 2048
WRAP = 1 << 32
LATEST = 1000
"""µs that the end of a crowded run may be late."""


@dataclass(frozen=True)
class Heard:
    """What came back: spikes of monitored neurons, echoes of stimuli, and events that nobody in the Layout sends."""

    events: Events
    unknown: np.ndarray


def spaced(times: np.ndarray, gap: int = 1) -> np.ndarray:
    """Ascending `times` moved later just as far as keeps them `gap` µs apart: a bus carries one event per µs."""
    steps = gap * np.arange(len(times))
    return np.maximum.accumulate(np.asarray(times, np.int64) - steps) + steps if len(times) else times


def unwrapped(times: np.ndarray, near: int) -> np.ndarray:
    """32-bit timestamps as the times that are nearest to `near` (at most 2^31 µs away)."""
    half = WRAP // 2
    return ((np.asarray(times, np.int64) - (near - half)) & (WRAP - 1)) + (near - half)  # & is % and far faster


def markers(tag: int, first: int, copies: int) -> np.ndarray:
    """`copies` markers 1 µs apart from time `first` on: single ones get lost."""
    made = np.zeros(copies, GRID_DTYPE)
    made["time"], made["tag"], made["cores"] = first + np.arange(copies), tag, 15
    made["x_hop"] = made["y_hop"] = MARKER_HOP
    return made


def is_marker(grid: np.ndarray, tag: int) -> np.ndarray:
    """Which received events are markers with `tag`."""
    return (grid["y_hop"] == MARKER_HOP) & (grid["tag"] == tag)


def parted(grid: np.ndarray, start: int, span: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Received events as times of the markers that begin a run and that end it, from `start` on, and what is no marker
    within `span` µs; all times from `start`.
    """
    time = np.ascontiguousarray(grid["time"]) - start
    marked = np.flatnonzero(grid["y_hop"] == MARKER_HOP)
    marked = marked[np.isin(grid["tag"][marked], MARKERS)]
    tags, times = grid["tag"][marked], time[marked]
    within = (time >= 0) & (time < span)
    within[marked] = False
    rest = grid.compress(within)  # far faster than grid[within]
    rest["time"] -= start
    return times[(tags == START) & (times >= 0)], times[(tags == END) & (times >= 0)], rest


def joined(*parts: np.ndarray) -> np.ndarray:
    """Pieces of GRID_DTYPE one behind the other, in an array of their own: as plain bytes, many times as fast."""
    whole = f"V{GRID_DTYPE.itemsize}"
    return np.concatenate([np.zeros(0, whole), *(part.view(whole) for part in parts)]).view(GRID_DTYPE)


def in_order(grid: np.ndarray) -> np.ndarray:
    """`grid` in order of time, events of the same time as they came; itself where it is in order."""
    time = np.ascontiguousarray(grid["time"])
    return grid[np.argsort(time, kind="stable")] if (time[1:] < time[:-1]).any() else grid


# -- there ------------------------------------------------------------------------------------------------------------


def to_grid(layout: Layout, events: Events, span: int, *, echo: bool = False, first: int = 0) -> np.ndarray:
    """What the host sends for `events` of input nodes within `span` µs, of GRID_DTYPE, in the order of the bus.

    Events of the tonic channel are added. Each destination of a channel is an event of its own; the bus carries one per
    µs from time `first` on, so events that coincide follow one another. Events of channels that no neuron hears are not
    sent (`unheard` counts them). `echo` adds a copy of each stimulus that is sent, which comes back. ConfigurationError
    for unknown nodes and channels and for times outside the run.
    """
    channel, time = _channels(layout, events, span)
    if layout.tonic_period:
        tonic = np.arange(0.0, span, layout.tonic_period * 1e6).astype(np.int64)
        channel = np.r_[channel, np.full(len(tonic), layout.n_channels)]
        time = np.r_[time, tonic]
    order = np.argsort(time, kind="stable")
    channel, time = channel[order], time[order]

    rows = layout.input_rows[np.argsort(layout.input_rows["channel"], kind="stable")]
    start = np.searchsorted(rows["channel"], channel, "left")
    count = np.searchsorted(rows["channel"], channel, "right") - start
    sent = count > 0
    channel, time, start, count = channel[sent], time[sent], start[sent], count[sent]
    stimulus = np.repeat(np.arange(len(channel)), count)
    row = start[stimulus] + counted_up(count)
    grid = np.zeros(len(stimulus), GRID_DTYPE)
    grid["time"], grid["x_hop"] = time[stimulus], rows["chip"][row]
    grid["tag"], grid["cores"] = rows["tag"][row], rows["cores"][row]
    if echo:
        grid = _with_echo(layout, grid, stimulus, channel, time)
    grid["time"] = spaced(np.maximum(grid["time"], first))
    if len(grid) and grid["time"][-1] >= span + LATEST:
        raise ConfigurationError(
            f"{len(grid)} events for a run of {span} µs: the bus carries one per µs, the last one would be "
            f"{grid['time'][-1] - span} µs late. Run for longer, or send fewer events."
        )
    return grid


def unheard(layout: Layout, events: Events) -> int:
    """How many of `events` (of input nodes) are of channels without any destination: nobody is sent them."""
    heard, deaf = {name for name, where in layout.input_map.items() if where}, 0
    for number, node in enumerate(events.nodes):
        count = np.bincount(events.index[events.node == number])
        deaf += sum(int(count[index]) for index in np.flatnonzero(count).tolist() if (node, index) not in heard)
    return deaf


def _channels(layout: Layout, events: Events, span: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat input channel and time of every event."""
    known = {port.name: port for port in layout.inputs}
    firsts, offset = {}, 0
    for port in layout.inputs:
        firsts[port.name] = offset
        offset += port.size
    channel = np.zeros(len(events), np.int64)
    for i in np.unique(events.node):
        name, here = events.nodes[i], events.node == i
        if name not in known:
            raise ConfigurationError(
                f"events for node {name!r}, the Layout's input nodes are {', '.join(sorted(known))}. Rename the node."
            )
        low, high = int(events.index[here].min()), int(events.index[here].max())
        if low < 0 or high >= known[name].size:
            raise ConfigurationError(
                f"node {name!r}: an event names channel {high if low >= 0 else low}, it has {known[name].size} channels. "
                "Check the data."
            )
        channel[here] = firsts[name] + events.index[here]
    outside = (events.time < 0) | (events.time >= span)
    if outside.any():
        worst = int(events.time[outside][0])
        raise ConfigurationError(
            f"{int(outside.sum())} events lie outside the run (the first at {worst} µs, the run lasts {span} µs). "
            "Run for longer, or cut the events."
        )
    return channel, events.time.astype(np.int64)


def _with_echo(
    layout: Layout, grid: np.ndarray, stimulus: np.ndarray, channel: np.ndarray, time: np.ndarray
) -> np.ndarray:
    """`grid` with an event behind each stimulus that returns with its channel as tag (and as x_hop, from 2 048 on)."""
    if (layout.sram["y_hop"][layout.sram["cores"] > 0] == ECHO_HOP).any() or layout.n_channels > 8 * TAGS - 1:
        raise ConfigurationError(
            f"echo=True: neurons of this Layout monitor with y_hop {ECHO_HOP}, or it has more than {8 * TAGS - 1} "
            "channels, so echoes cannot be told from spikes. Run without echo."
        )
    copies = np.zeros(len(channel), GRID_DTYPE)
    copies["time"], copies["tag"], copies["cores"] = time, channel % TAGS, 15
    copies["x_hop"], copies["y_hop"] = MONITOR_HOP + channel // TAGS, ECHO_HOP
    both = np.concatenate([grid, copies])
    return both[np.argsort(np.r_[stimulus, np.arange(len(channel))], kind="stable")]


# -- and back ---------------------------------------------------------------------------------------------------------


def from_grid(layout: Layout, grid: np.ndarray) -> Heard:
    """Received events as spikes of (NIR node, index), by what the monitoring rows of `layout` look like to the host.

    Those of all copies of a neuron are its spikes. Echoes become events of their input node. Where neurons look alike, the
    first one gets the spike.
    """
    grid = in_order(grid)
    neuron, row = np.nonzero(layout.sram["cores"])
    sent = layout.sram[neuron, row]
    out, x_hop = leaves_west(sent, layout.chip[neuron])
    codes, first = np.unique(_code(x_hop[out], sent["y_hop"][out], sent["tag"][out]), return_index=True)
    owner = neuron[out][first] + layout.n_channels + 1
    if not (layout.sram["y_hop"][layout.sram["cores"] > 0] == ECHO_HOP).any():
        channel = np.arange(layout.n_channels + 1)
        codes = np.r_[codes, _code(MONITOR_HOP + 1 + channel // TAGS, ECHO_HOP, channel % TAGS)]
        owner = np.r_[owner, channel]
    if not layout.tonic_period:  # the number of the tonic channel is never used
        owner = np.where(owner > layout.n_channels, owner - 1, owner)
    names = [*(port.name for port in layout.inputs), *(["tonic"] if layout.tonic_period else []), *layout.sizes]
    sizes = [*(port.size for port in layout.inputs), *([1] if layout.tonic_period else []), *layout.sizes.values()]
    nodes = np.repeat(np.arange(len(sizes)), sizes)
    copies = np.array([layout.copies_of.get(name, 1) for name in names], int)
    places = counted_up(np.array(sizes, int)) // copies[nodes]

    low = int(codes.min(initial=0))
    table = np.full(int(codes.max(initial=0)) - low + 2, -1)  # the last one is that of all codes outside
    table[codes - low] = owner
    heard = _code(grid["x_hop"], grid["y_hop"], grid["tag"]) - low
    sources = table[np.where((heard >= 0) & (heard < len(table) - 1), heard, -1)]
    known, time = sources >= 0, np.ascontiguousarray(grid["time"])
    if not known.all():
        sources, time = sources[known], time[known]
    node = nodes[sources]
    used = np.bincount(node, minlength=len(names)) > 0
    node = (np.cumsum(used) - 1)[node]
    events = Events(time, node, places[sources], tuple(names[i] for i in np.flatnonzero(used)))
    return Heard(events, grid.compress(~known))


def _code(x_hop: np.ndarray, y_hop: np.ndarray | int, tag: np.ndarray) -> np.ndarray:
    """One number for what the host sees of a sender."""
    return ((np.asarray(x_hop, np.int32) + 16) * 32 + np.asarray(y_hop, np.int32) + 16) * TAGS + tag


def monitored(layout: Layout) -> dict[str, np.ndarray]:
    """Per node with monitored neurons, which of its neurons those are."""
    found: dict[str, np.ndarray] = {}
    for node, index in layout.output_map.values():
        found.setdefault(node, np.zeros(layout.node_sizes[node], bool))[index] = True
    return {node: found[node] for node in layout.node_sizes if node in found}
