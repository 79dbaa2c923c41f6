"""Address events on the buses, and a Board over any Link: what is sent when, what comes back as what, and who closes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nir_dynapse.board.address_events import (
    END,
    GRID_DTYPE,
    MARKER_HOP,
    MARKERS,
    from_grid,
    is_marker,
    leaves_west,
    markers,
    spaced,
    to_grid,
    unheard,
    unwrapped,
)
from nir_dynapse.board.board import Board
from nir_dynapse.board.link import LinkedBoard, NoAnswer, Timing, stimuli
from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.data.data import Events
from nir_dynapse.errors import ConfigurationError, HardwareError, ParameterRangeError
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import INPUT_DTYPE, MONITOR_HOP
from nir_dynapse.quant.compiler import compile
from nir_dynapse.sim.virtual.board import VirtualBoard
from nir_dynapse.sim.virtual.chip import VirtualChip
from nir_dynapse.sim.virtual.link import VirtualLink
from samna_boards import DT, counts, layout_of
from small_networks import feed_forward

WRAP = 1 << 32
times = st.lists(st.integers(0, 10**6), max_size=60).map(sorted)


@pytest.fixture(scope="module")
def layout() -> Layout:
    return layout_of()


@pytest.fixture(scope="module")
def stack() -> Layout:
    return layout_of(2)


def events(*rows: tuple[int, int], node: str = "in") -> Events:
    """(time, index) of one node."""
    time, index = np.array(rows or np.zeros((0, 2)), int).T
    return Events(time, np.zeros(len(time)), index, (node,))


# -- the bus ----------------------------------------------------------------------------------------------------------


@given(times, st.integers(1, 5))
def test_spacing_is_the_least_that_one_bus_needs(wanted: list[int], gap: int) -> None:
    sent = spaced(np.array(wanted, np.int64), gap)
    assert (np.diff(sent) >= gap).all()
    earliest = -gap
    for time, got in zip(wanted, sent.tolist(), strict=True):
        earliest = max(time, earliest + gap)
        assert got == earliest


@given(st.integers(0, WRAP - 1), st.integers(-(2**31) + 1, 2**31 - 1))
def test_a_clock_of_32_bits_is_unwrapped(near: int, distance: int) -> None:
    true = near + distance
    assert unwrapped(np.array([true % WRAP]), near).tolist() == [true]


def test_order_on_the_bus(layout: Layout) -> None:
    """In order of time, then of the events; each destination an event of its own, one per µs from `first` on."""
    rows = np.array([(0, 0, 1, 1100), (0, 0, 8, 1101), (1, 0, 4, 1102), (2, 0, 2, 1103), (3, 0, 2, 1104)], INPUT_DTYPE)
    layout = replace(layout, input_rows=rows)
    grid = to_grid(layout, events((5, 1), (0, 0), (5, 2), (5, 0)), 100, first=2)
    assert grid["tag"].tolist() == [1100, 1101, 1102, 1103, 1100, 1101]
    assert grid["time"].tolist() == [2, 3, 5, 6, 7, 8]
    assert grid["cores"].tolist() == [1, 8, 4, 2, 1, 8]
    assert not grid["y_hop"].any()
    assert not len(to_grid(layout, events(), 100))


def test_events_for_other_chips(stack: Layout) -> None:
    grid = to_grid(stack, events(*((i, i) for i in range(4))), 1000)
    asked = {(row["tag"], row["cores"], row["x_hop"]) for row in grid}
    assert asked == {(row["tag"], row["cores"], row["chip"]) for row in stack.input_rows}
    assert set(grid["x_hop"].tolist()) == {0, 1}


def test_the_tonic_channel_is_added() -> None:
    layout = layout_of(tonic=True)
    assert layout.tonic_period is not None
    span = int(5.5e6 * layout.tonic_period)
    own = layout.input_rows["tag"][layout.input_rows["channel"] == layout.n_channels]
    grid = to_grid(layout, events(), span)
    assert len(grid) == 6 * len(own)
    np.testing.assert_allclose(grid["time"][:: len(own)], np.arange(6) * layout.tonic_period * 1e6, atol=1)
    assert set(grid["tag"].tolist()) == set(own.tolist())


def test_what_does_not_fit_is_refused(layout: Layout) -> None:
    for wrong, message in (
        (events((0, 0), node="im"), "events for node 'im', the Layout's input nodes are in"),
        (events((0, 4)), "node 'in': an event names channel 4, it has 4 channels"),
        (events((100, 0), (3, 0)), r"1 events lie outside the run \(the first at 100 µs, the run lasts 100 µs\)"),
        (events((-1, 0)), "outside the run"),
        (events(*[(90, 0)] * 2000), r"events for a run of 100 µs: the bus carries one per µs.*Run for longer"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            to_grid(layout, wrong, 100)
    with pytest.raises(ConfigurationError, match=r"events: index\[0\] is -1, allowed are whole numbers from 0"):
        events((0, -1))


def test_a_crowded_bus_is_late_but_loses_nothing(layout: Layout) -> None:
    grid = to_grid(layout, events(*[(90, i % 4) for i in range(200)]), 100)
    assert len(grid) >= 200
    assert (np.diff(grid["time"]) == 1).all()
    assert 100 < grid["time"][-1] < 1100


# -- and back ---------------------------------------------------------------------------------------------------------


def monitored(layout: Layout) -> np.ndarray:
    """One event of every monitoring row, as the host receives it."""
    neuron, row = np.nonzero((layout.sram["cores"] > 0) & (layout.sram["x_hop"] == MONITOR_HOP))
    grid = np.zeros(len(neuron), GRID_DTYPE)
    grid["time"], grid["tag"] = np.arange(len(neuron)), layout.sram["tag"][neuron, row]
    grid["x_hop"], grid["cores"] = MONITOR_HOP + 1 + layout.chip[neuron].astype(int), 15
    return grid


@pytest.mark.parametrize("n_chips", [1, 2])
def test_spikes_are_decoded_by_what_the_host_sees(n_chips: int, layout: Layout, stack: Layout) -> None:
    used = layout if n_chips == 1 else stack
    grid = monitored(used)
    heard = from_grid(used, grid)
    chip = grid["x_hop"] + 6
    expected = [used.output_map[c, tag] for c, tag in zip(chip.tolist(), grid["tag"].tolist(), strict=True)]
    got = [
        (heard.events.nodes[n], i) for n, i in zip(heard.events.node.tolist(), heard.events.index.tolist(), strict=True)
    ]
    assert got == expected
    assert len(set(got)) == 4
    assert not len(heard.unknown)
    # What nobody sends is left over: another tag, another chip, another way, a marker.
    strange = grid[[0, 0, 0, 0]].copy()
    strange["tag"][0] = 3
    strange["x_hop"][1] = 0
    strange["y_hop"][2] = 2
    strange["tag"][3], strange["y_hop"][3] = END, MARKER_HOP
    both = from_grid(used, np.concatenate([grid, strange]))
    assert len(both.events) == len(grid)
    np.testing.assert_array_equal(np.sort(both.unknown, order="tag"), np.sort(strange, order="tag"))


def test_neurons_that_look_alike(layout: Layout) -> None:
    sram = layout.sram.copy()
    (first, second), row = np.flatnonzero((sram["x_hop"] == MONITOR_HOP).any(1))[:2], 0
    for neuron in (first, second):
        row = int(np.flatnonzero(sram["x_hop"][neuron] == MONITOR_HOP)[0])
        sram["tag"][neuron, row] = 1999
    alike = replace(layout, sram=sram)
    grid = np.zeros(1, GRID_DTYPE)
    grid["tag"], grid["x_hop"] = 1999, MONITOR_HOP + 1
    heard = from_grid(alike, grid).events
    assert (heard.nodes[0], int(heard.index[0])) == alike.names[first]
    assert len(from_grid(alike, np.concatenate([grid, grid])).events) == 2


def test_echoes(layout: Layout) -> None:
    wanted = events((0, 0), (3, 1), (3, 2), (40, 0))
    grid = to_grid(layout, wanted, 100, echo=True, first=2)
    west, x_hop = leaves_west(grid)
    back = grid[west].copy()
    back["x_hop"] = x_hop[west]
    heard = from_grid(layout, back).events
    assert heard.nodes == ("in",)
    assert heard.index.tolist() == [0, 1, 2, 0]
    assert ((heard.time - wanted.time >= 0) & (heard.time - wanted.time < 10)).all()
    assert (np.diff(grid["time"]) >= 1).all()
    # Where neurons monitor in the same way, echoes cannot be told from spikes.
    sram = layout.sram.copy()
    sram["y_hop"][sram["x_hop"] == MONITOR_HOP] = MONITOR_HOP
    other = replace(layout, sram=sram)
    with pytest.raises(ConfigurationError, match=r"echo=True: .*Run without echo"):
        to_grid(other, wanted, 100, echo=True)
    spikes = monitored(layout)
    spikes["y_hop"] = MONITOR_HOP
    assert from_grid(other, spikes).events.nodes == ("output",)


def test_events_of_channels_that_nobody_hears_are_not_sent_and_counted() -> None:
    weight = np.full((2, 4), 0.3)
    weight[:, 1:3] = 0
    layout = compile(feed_forward(weight))
    assert [f.used for f in layout.findings if f.code == "unheard-channels"] == [2]
    wanted = events((0, 0), (3, 1), (5, 3), (7, 2), (9, 2))
    heard = events((0, 0), (5, 3))
    for echo in (False, True):
        np.testing.assert_array_equal(to_grid(layout, wanted, 100, echo=echo), to_grid(layout, heard, 100, echo=echo))
    assert unheard(layout, wanted) == 3
    assert unheard(layout, heard) == 0
    with VirtualBoard(1, DYNAPSE2) as board:
        board.apply(layout)
        first = board.run(wanted, 0.02)
        assert board.last is not None
        assert (board.last.unsent, board.last.sent) == (3, 2)
        again = board.run(heard, 0.02)
        np.testing.assert_array_equal(first.time, again.time)


# -- a board over a link ----------------------------------------------------------------------------------------------


class Recorder(VirtualLink):
    """A virtual link that remembers, may fail, and may bring back what is old."""

    def __init__(self, timing: Timing | None = None) -> None:
        super().__init__(VirtualChip(7, DYNAPSE2, DYNAPSE2.mismatch), 8, "a recorder")
        self.sent: list[np.ndarray] = []
        self.configured: list[bool] = []
        self.closes = 0
        self.failure: BaseException | None = None
        self.old = np.zeros(0, GRID_DTYPE)

    def send(self, events: np.ndarray) -> None:
        if self.failure is not None and events["time"].any():
            raise self.failure
        self.sent.append(events.copy())
        super().send(events)

    def receive(self) -> np.ndarray:
        fresh, self.old = np.concatenate([self.old, super().receive()]), self.old[:0]
        return fresh

    def configure(self, layout: Layout, quiet: bool) -> None:
        self.configured.append(quiet)
        super().configure(layout, quiet)

    def close(self) -> None:
        self.closes += 1


def test_a_run_is_quiet_marked_and_in_the_future(layout: Layout) -> None:
    link = Recorder()
    board = LinkedBoard(link, Timing(lead=0.25, copies=5))
    assert isinstance(board, Board)
    board.apply(layout)
    before = board.clock()
    board.run(stimuli(layout, counts()[0], DT), 0.06)
    assert link.configured == [True, False, True]
    schedule = np.concatenate([part for part in link.sent if part["time"].all()])
    assert board.last is not None
    assert schedule["time"][0] == board.last.start >= before + 250_000
    assert (np.diff(schedule["time"]) >= 1).all()
    marked = np.any([is_marker(schedule, tag) for tag in MARKERS], axis=0)
    assert np.flatnonzero(marked).tolist() == [0, 1, *range(len(schedule) - 5, len(schedule))]
    assert schedule["time"][-5] == board.last.start + 60_000
    assert board.last.sent == len(schedule) - 7


def test_batch_of_runs_is_the_batch_of_the_virtual_board(layout: Layout, stack: Layout) -> None:
    x = counts(samples=3)
    for used in (layout, stack):
        with VirtualBoard(7) as board:
            board.apply(used)
            fast, slow = board.run_batch(x, DT), LinkedBoard.run_batch(board, x, DT)
        assert fast.output.sum() > 20
        assert fast.dt == slow.dt
        assert set(fast.spikes) == set(slow.spikes)
        for node, spikes in fast.spikes.items():
            np.testing.assert_array_equal(spikes, slow.spikes[node])


def test_a_batch_must_be_whole_events(layout: Layout) -> None:
    board = LinkedBoard(Recorder())
    board.apply(layout)
    for x, words in (
        (np.ones((2, 5, 3)), r"expects \(batch, time, 4\)"),
        (np.ones(4), r"expects \(batch, time, 4\)"),
        (
            np.full((2, 5, 4), 0.5),
            "node 'in': sample 0, bin 0, channel 0 .* 0.5 events, a circuit receives whole events",
        ),
        (-np.ones((2, 5, 4)), "holds -1 events, allowed are 0 to 16777216"),
        (np.full((5, 4), np.nan), "holds nan events"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            board.run_batch(x, DT)
    assert board.run_batch(counts()[0], DT).output.shape == (1, 60, 4)


def test_markers_of_an_earlier_run_do_not_count(layout: Layout) -> None:
    link = Recorder()
    board = LinkedBoard(link)
    board.apply(layout)
    first = board.run(stimuli(layout, counts()[0], DT), 0.06)
    assert board.last is not None
    stale = np.concatenate([markers(tag, board.last.start, 3) for tag in MARKERS])
    link.old = np.concatenate([stale, first_spikes(board.last.start)])
    again = board.run(stimuli(layout, counts()[0], DT), 0.06)
    np.testing.assert_array_equal(first.time, again.time)
    assert board.last.markers == (10, 10)
    assert not len(board.last.unknown)


def first_spikes(start: int) -> np.ndarray:
    """Events that were on their way when the run before ended."""
    grid = np.zeros(5, GRID_DTYPE)
    grid["time"], grid["tag"], grid["x_hop"] = start + 1000 * np.arange(5), 1030, MONITOR_HOP + 1
    return grid


def test_who_closes(layout: Layout) -> None:
    for failure in (HardwareError("a cable broke. Mend it."), KeyboardInterrupt(), ZeroDivisionError()):
        link = Recorder()
        board = LinkedBoard(link)
        with pytest.raises(HardwareError, match=r"no configuration yet\. Call apply"):
            board.run(events(), 0.01)
        board.apply(layout)
        link.failure = failure
        with pytest.raises(type(failure)):
            board.run(events((5, 0)), 0.01)
        assert link.closes == 1
        for use in (board.clock, lambda b=board: b.apply(layout), lambda b=board: b.run(events(), 0.01)):
            with pytest.raises(HardwareError, match=r"a recorder is closed\. Open the board again"):
                use()
        board.close()
        assert link.closes == 1


def test_a_context_closes_whatever_happens(layout: Layout) -> None:
    link = Recorder()

    def fail() -> None:
        with LinkedBoard(link) as board:
            board.apply(layout)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert link.closes == 1
    with LinkedBoard(link) as board:
        board.apply(layout)
        for duration in (0.0, -1.0, 2001.0, float("nan")):
            with pytest.raises(ParameterRangeError, match="allowed are numbers above 0 up to 2000 s"):
                board.run(events(), duration)
        with pytest.raises(ConfigurationError):
            board.run(events((20_000, 0)), 0.01)
        assert link.closes == 1
        assert len(board.run(events((0, 0)), 0.01, echo=True)) == 1
    assert link.closes == 2


def test_a_link_without_answers(layout: Layout) -> None:
    link = Recorder()
    board = LinkedBoard(link, Timing(patience=0.5, attempts=2, copies=3))
    board.apply(layout)
    link.receive = lambda: np.zeros(0, GRID_DTYPE)
    began = link.time()
    with pytest.raises(NoAnswer, match=r"2 times 3 clock markers were sent and none came back within 0\.5 s"):
        board.clock()
    assert 0.5 <= link.time() - began < 0.6
    assert link.closes == 1
