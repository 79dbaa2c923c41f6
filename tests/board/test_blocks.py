"""Long runs: what a board hands over, simulates and reads grows with events and time, and no faster."""

from __future__ import annotations

import numpy as np
import pytest

from nir_dynapse.board.address_events import GRID_DTYPE, in_order, joined
from nir_dynapse.board.link import BLOCKS, PIECE, LinkedBoard, Timing
from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.data.data import Events
from nir_dynapse.layout.layout import Layout
from nir_dynapse.sim.virtual.board import VirtualBoard
from nir_dynapse.sim.virtual.chip import VirtualChip
from nir_dynapse.sim.virtual.link import VirtualLink
from samna_boards import layout_of, same

COPIES = Timing().copies


@pytest.fixture(scope="module")
def layout() -> Layout:
    return layout_of()


class Counting(VirtualLink):
    """A virtual link that counts what it is asked for, and may have to be polled."""

    def __init__(self, poll_interval: float = float("inf")) -> None:
        super().__init__(VirtualChip(7, DYNAPSE2, DYNAPSE2.mismatch), 8, "a counter")
        self.poll_interval = poll_interval
        self.sizes: list[int] = []
        self.ahead: list[float] = []
        self.waits = self.reads = self.runs = 0
        self.original, self.chip.run = self.chip.run, self.simulated

    def simulated(self, events: np.ndarray, bins: int, step: float) -> np.ndarray:
        self.runs += 1
        return self.original(events, bins, step)

    def send(self, events: np.ndarray) -> None:
        if events["time"].all():
            self.sizes.append(len(events))
            self.ahead += (events["time"] - (self.now - self._offset)).tolist()
        super().send(events)

    def receive(self) -> np.ndarray:
        self.reads += 1
        return super().receive()

    def wait(self, seconds: float) -> None:
        self.waits += 1
        super().wait(seconds)


def at(times: np.ndarray) -> Events:
    return Events(times, np.zeros(len(times)), np.arange(len(times)) % 4, ("in",))


@pytest.mark.parametrize(("every", "burst", "seconds"), [(2000, 1, 2), (2000, 1, 4), (100, 1, 2), (1_000_000, 80, 6)])
def test_handed_over_in_blocks_and_simulated_once(layout: Layout, every: int, burst: int, seconds: int) -> None:
    """Dense events, and ones with more than the horizon between them; spikes as those of a link that is polled."""
    timing = Timing(horizon=0.4)
    events = at((np.arange(0, seconds * 1_000_000, every)[:, None] + 500 * np.arange(burst)).ravel())
    link, polled = Counting(), Counting(5e-3)
    heard = []
    for one in (link, polled):
        board = LinkedBoard(one, timing)
        board.apply(layout)
        heard.append(board.run(events, float(seconds)))
    same(heard[0], heard[1])
    assert len(heard[0])
    blocks = seconds * BLOCKS / timing.horizon + 2
    assert len(link.sizes) <= blocks + sum(link.sizes) / PIECE
    assert link.waits <= blocks + 8
    assert link.runs == 1
    assert link.reads < 10, "where nothing is lost it is not polled"
    assert polled.reads > seconds / 5e-3
    for one in (link, polled):
        assert sum(one.sizes) >= len(events)
        assert max(one.ahead) <= 1e6 * timing.horizon + COPIES
        assert min(one.ahead) >= 0.5e6 * min(timing.horizon, timing.lead), "well before their time"


def test_a_polled_link_tells_each_spike_once(layout: Layout) -> None:
    """Answers in the middle of a run, and those after it, are those of the run as a whole."""
    events = np.zeros(4000, GRID_DTYPE)
    rows = layout.input_rows[np.arange(4000) % len(layout.input_rows)]
    events["time"], events["tag"], events["cores"] = 1000 + 250 * np.arange(4000), rows["tag"], rows["cores"]
    whole, parts = Counting(), Counting()
    for link in (whole, parts):
        link.configure(layout, quiet=False)
    whole.send(events)
    answers = []
    for first in range(0, 4000, 500):
        parts.send(events[first : first + 500])
        assert not len(parts.receive()), "their time has not come"
        parts.now = float(events["time"][first + 499])
        answers.append(parts.receive())
        assert len(answers[-1])
        assert not len(parts.receive()), "told once"
    whole.now = parts.now
    expected = whole.receive()
    np.testing.assert_array_equal(np.concatenate(answers), expected)
    assert (whole.runs, parts.runs) == (1, 8)
    assert not len(whole.waiting())


def test_what_waits_can_be_kept(layout: Layout) -> None:
    link = Counting()
    link.configure(layout, quiet=False)
    events = np.zeros(5, GRID_DTYPE)
    events["time"], events["cores"] = 100 * np.arange(1, 6), 1
    link.send(events)
    link.now = 250.0
    waiting = link.waiting()
    assert waiting["time"].tolist() == [300, 400, 500]
    link.configure(layout, quiet=False)
    assert not len(link.waiting())
    link.enqueue(waiting)
    np.testing.assert_array_equal(link.waiting(), waiting)


def test_order_of_what_came_back() -> None:
    grid = np.zeros(6, GRID_DTYPE)
    grid["time"], grid["tag"] = [3, 1, 2, 1, 3, 2], np.arange(6)
    assert in_order(grid)["tag"].tolist() == [1, 3, 2, 5, 0, 4]
    ordered = in_order(grid)
    assert in_order(ordered) is ordered
    assert not len(in_order(grid[:0]))


def test_a_long_run_is_the_beginning_of_a_longer_one(layout: Layout) -> None:
    with VirtualBoard(7) as board:
        board.apply(layout)
        short, long = (board.run(at(np.arange(0, 2_000_000, 1500)), seconds) for seconds in (2.0, 3.0))
    until = int(np.searchsorted(long.time, 2_000_000))
    assert until > 100
    np.testing.assert_array_equal(long.time[:until], short.time)
    np.testing.assert_array_equal(long.index[:until], short.index)


def test_pieces_joined_are_an_array_of_their_own() -> None:
    first, second = np.zeros(3, GRID_DTYPE), np.zeros(2, GRID_DTYPE)
    first["time"], second["time"], second["tag"], second["x_hop"] = 7, 2**40 + 1, 2047, -7
    both = joined(first, second)
    assert both.dtype == GRID_DTYPE
    for name in GRID_DTYPE.names or ():
        np.testing.assert_array_equal(both[name], np.r_[first[name], second[name]])
    for pieces in ((first,), (first, second)):
        joined(*pieces)["time"] = 0
        assert first["time"].tolist() == [7, 7, 7]
    assert len(joined()) == 0
