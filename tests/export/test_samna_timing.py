"""A real board and time: late events, lost ones, and a clock of 32 bits."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nir_dynapse.board.address_events import END, GRID_DTYPE, MARKER_HOP, START
from nir_dynapse.board.link import Timing
from nir_dynapse.data.data import Events
from nir_dynapse.errors import HardwareError
from nir_dynapse.layout.layout import Layout
from nir_dynapse.sim.virtual.board import VirtualBoard
from samna_boards import (
    DT,
    DURATION,
    STIMULI,
    Opener,
    closed,
    counts,
    layout_of,
    losing,
    on_virtual_silicon,
    plugged,
    same,
    use,
)

WRAP = 1 << 32


@pytest.fixture(scope="module")
def layout() -> Layout:
    return layout_of()


@pytest.fixture(scope="module")
def expected(layout: Layout) -> Events:
    return on_virtual_silicon(layout)


@pytest.mark.parametrize(("seconds", "attempts"), [(0.05, 1), (0.2, 2), (0.7, 3)])
def test_a_slow_host_tries_again(
    seconds: float, attempts: int, opened: Opener, layout: Layout, expected: Events
) -> None:
    samna, fake = plugged()
    with opened(samna) as board:
        board.apply(layout)
        fake.write_seconds = lambda events: seconds
        same(board.run(STIMULI, DURATION), expected)
        assert board.last is not None
        assert board.last.attempts == attempts
        fake.write_seconds = lambda events: 0.0
        same(board.run(STIMULI, DURATION), expected)
        assert board.last.attempts == 1


@pytest.mark.parametrize("seconds", [0.05, 0.3])
def test_slow_reading_makes_nothing_late(seconds: float, opened: Opener, layout: Layout, expected: Events) -> None:
    """The clock is read when the answer has long been on its way."""
    samna, fake = plugged()
    with opened(samna) as board:
        board.apply(layout)
        fake.read_seconds = seconds
        same(board.run(STIMULI, DURATION), expected)
        assert board.last is not None
        assert board.last.attempts == 1


def test_a_marker_that_overtakes_spikes(opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    kept = np.zeros(0, GRID_DTYPE)

    def twist(events: np.ndarray) -> np.ndarray:
        nonlocal kept
        first = events["y_hop"] == MARKER_HOP
        now, kept = np.concatenate([kept, events[first]]), events[~first]
        return now

    fake.twist = twist
    (heard,) = use(samna, fake, opened, layout)
    same(heard, expected)  # pyright: ignore[reportArgumentType]


def test_a_host_that_is_too_slow(opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    fake.write_seconds = lambda events: 4.0 if events > 20 else 0.0
    message = use(samna, fake, opened, layout)
    assert re.search(r"after their time 3 times, at last with a lead of 1\.6 s\. Send fewer events", str(message))


def test_events_that_the_fpga_sends_late(opened: Opener, layout: Layout, expected: Events) -> None:
    """The host saw nothing, the markers at the beginning tell."""
    samna, fake = plugged()
    late = 3

    def send(events: np.ndarray) -> None:
        nonlocal late
        if late and events["time"].max() > 0:
            late -= 1
            events = events.copy()
            events["time"] += 500
        original(events)

    original, fake.link.send = fake.link.send, send
    with opened(samna) as board:
        board.apply(layout)
        late = 2
        same(board.run(STIMULI, DURATION), expected)
        assert board.last is not None
        assert board.last.attempts == 3
        late = 3
        with pytest.raises(HardwareError, match="after their time 3 times"):
            board.run(STIMULI, DURATION)
        closed(fake, board)


@pytest.mark.parametrize("before", [60_000, 150_000, 205_000, 240_000, 250_000, 400_000])
def test_the_clock_wraps(before: int, opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    with opened(samna) as board:
        board.apply(layout)
        fake.set_clock(WRAP - before)
        for _ in range(2):
            same(board.run(STIMULI, DURATION), expected)


def test_everything_is_written_anew_after_a_reset(opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    with opened(samna) as board:
        board.apply(layout)
        board.run(STIMULI, DURATION)
        assert fake.calls.count("get_configuration") == 2
        fake.forgetful = True
        fake.set_clock(WRAP - 240_000)
        for _ in range(2):
            same(board.run(STIMULI, DURATION), expected)
        assert fake.calls.count("get_configuration") == 3


def test_the_clock_wraps_while_the_end_is_asked_for(opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    with opened(samna) as board:
        board.apply(layout)
        fake.set_clock(WRAP - 400_000)
        fake.twist = losing(8, END)
        same(board.run(STIMULI, DURATION), expected)
        assert fake.calls.count("reset_fpga") == 1
        assert fake.link.now - fake.link._offset > WRAP


def test_markers_from_before_the_clock_was_set_back(opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    old = np.zeros(2, GRID_DTYPE)
    old["tag"], old["x_hop"], old["y_hop"], old["time"] = (START, END), MARKER_HOP, MARKER_HOP, WRAP - 150_000
    with opened(samna) as board:
        board.apply(layout)
        fake.set_clock(WRAP - 240_000)
        fake.twist = lambda events: np.concatenate([old, events])
        same(board.run(STIMULI, DURATION), expected)
        assert fake.calls.count("reset_fpga") == 2


def test_long_runs_are_handed_over_in_pieces(opened: Opener, layout: Layout) -> None:
    """More events than one piece, and longer than the horizon."""
    samna, fake = plugged()
    x = counts(samples=1, bins=1500, seed=3)
    many = Events.from_counts(3 * x[0], DT, "in")
    sizes: list[int] = []
    original = fake.link.send

    def send(events: np.ndarray) -> None:
        sizes.append(len(events))
        original(events)

    fake.link.send = send
    with opened(samna, timing=Timing(horizon=0.8)) as board, VirtualBoard(7) as virtual:
        for one in (board, virtual):
            one.apply(layout)
        same(board.run(many, 1.5), virtual.run(many, 1.5))
    assert max(sizes) == 4096
    assert 8 < len(sizes) < 40, "in blocks, each of many events"
