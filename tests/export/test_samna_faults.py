"""A real board that fails: each fault is survived with the spikes intact, or ends in a HardwareError and a closed board."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fake_samna_device import OldModel
from nir_dynapse.board.address_events import CLOCK, END, GRID_DTYPE, MARKER_HOP, MARKERS, START
from nir_dynapse.data.data import Events
from nir_dynapse.errors import HardwareError
from nir_dynapse.layout.layout import Layout
from samna_boards import (
    DURATION,
    STIMULI,
    Opener,
    closed,
    layout_of,
    losing,
    on_virtual_silicon,
    plugged,
    same,
    use,
)
from shortened import shortened


@pytest.fixture(scope="module")
def layout() -> Layout:
    return layout_of()


@pytest.fixture(scope="module")
def expected(layout: Layout) -> Events:
    return on_virtual_silicon(layout)


# -- a method fails ---------------------------------------------------------------------------------------------------

CALLS = [
    *((method, 1) for method in ("open_device", "configure_opal_kelly", "reset_fpga", "get_model", "reset")),
    *((method, 1) for method in ("get_number_of_chips", "clear_error_queue", "get_error_events")),
    *(("get_configuration", n) for n in (1, 2)),
    *(("apply_configuration", n) for n in (1, 2, 3, 4)),
    *(("input_interface_write_events", n) for n in (1, 2, 3)),
    *(("read_events", n) for n in (1, 2, 4, 5, 12)),
]


@pytest.mark.parametrize(("method", "n"), shortened(CALLS, 8))
def test_a_call_fails(method: str, n: int, opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    fake.faults[method, n] = RuntimeError("USB transfer failed")
    message = use(samna, fake, opened, layout)
    assert isinstance(message, str)
    assert "DYNAP-SE2 Stack A1" in message
    assert "failed (RuntimeError: USB transfer failed)" in message
    assert fake.calls.count(method) >= n, "the fault was met"
    assert not fake.is_open


@pytest.mark.parametrize(("method", "n"), [("get_model", 1), ("apply_configuration", 1), ("read_events", 1)])
@pytest.mark.parametrize("error", [OSError(19, "No such device"), ValueError("bad\nvalue"), MemoryError()])
def test_whatever_is_raised(method: str, n: int, error: Exception, opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    fake.faults[method, n] = error
    message = use(samna, fake, opened, layout)
    assert type(error).__name__ in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("method", "n"), [("get_model", 1), ("apply_configuration", 2), ("apply_configuration", 3), ("read_events", 12)]
)
def test_an_interrupt_closes_the_board(method: str, n: int, opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    fake.faults[method, n] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        use(samna, fake, opened, layout)
    assert not fake.is_open
    assert fake.calls.count("close_device") == 1
    held = fake.bits  # a chip that may have been running is quiet
    assert (held.codes[held.used_cores][:, 0] == (5, 255)).all()


def test_a_second_interrupt_while_closing(opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    fake.faults["read_events", 12] = KeyboardInterrupt()
    fake.faults["apply_configuration", 4] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        use(samna, fake, opened, layout)
    assert not fake.is_open


@pytest.mark.parametrize("call", [2, 5, 9, 12, 15, 18, 24])
def test_unplugged(call: int, opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    fake.unplugged_at = call
    message = use(samna, fake, opened, layout)
    assert isinstance(message, str)
    assert "no such device" in message
    assert fake.calls[-1] == "close_device"


def test_closing_never_raises(opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    fake.faults["close_device", 1] = RuntimeError("USB transfer failed")
    results = use(samna, fake, opened, layout)
    same(results[0], expected)  # pyright: ignore[reportArgumentType]


# -- opening ----------------------------------------------------------------------------------------------------------


def test_the_bit_file_is_refused(opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    fake.accepts = False
    message = use(samna, fake, opened, layout)
    assert re.search(
        r"refuses the bit file '.*Dynapse2Stack\.bit'\. Check.*Dynapse2DacTestboard\.bit for a", str(message)
    )


def test_the_bit_file_is_for_another_board(opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    fake.deaf = True
    message = use(samna, fake, opened, layout)
    assert re.search(
        r"a DYNAP-SE2 Stack, logic version 3\) took the bit file '.*\.bit' and does not answer.*Dynapse2Stack\.bit for a "
        r"DYNAP-SE2 Stack and Dynapse2DacTestboard\.bit for a DYNAP-SE2 DevBoard.*not part of samna.*NIR_DYNAPSE_BIT_FILE",
        str(message),
    )


def test_the_fpga_is_not_reset(opened: Opener, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    samna, fake = plugged()
    monkeypatch.setattr("fake_samna_device.Interface.reset_fpga", lambda self: False)
    assert "the FPGA cannot be reset" in use(samna, fake, opened, layout)


def test_an_older_samna(opened: Opener, layout: Layout, expected: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lists free devices in no way, counts no chips and reports no errors."""
    samna, fake = plugged()
    samna.model = OldModel
    del samna.device.get_unopened_devices
    monkeypatch.delattr("fake_samna_device.Interface.get_number_of_chips")
    (heard,) = use(samna, fake, opened, layout)
    same(heard, expected)  # pyright: ignore[reportArgumentType]


# -- on the way back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "tags"),
    shortened(
        [
            *((k, MARKERS) for k in (1, 7, 8, 15)),
            (2, (START,)),
            (7, (END,)),
            (8, (END,)),
            (15, (END,)),
            (16, (CLOCK,)),
            (10**6, (START,)),
        ],
        3,
    ),
)
def test_lost_markers(first: int, tags: tuple[int, ...], opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    fake.twist = losing(first, *tags)
    results = use(samna, fake, opened, layout, runs=2)
    assert not isinstance(results, str), results
    for heard in results:
        same(heard, expected)


def test_all_end_markers_are_lost(opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    fake.twist = losing(10**6, END)
    message = use(samna, fake, opened, layout)
    assert "none of 16 end markers came back within 5 s" in message
    assert "were dropped" in message


def test_the_board_falls_silent(opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    with opened(samna) as board:
        board.apply(layout)
        fake.deaf = True
        fake.errors = ["fifo full"]
        with pytest.raises(HardwareError, match=r"does not answer: 3 times 8 clock markers"):
            board.run(STIMULI, DURATION)
        closed(fake, board)


def test_output_overflow(opened: Opener, layout: Layout) -> None:
    samna, fake = plugged()
    with opened(samna) as board:
        board.apply(layout)
        fake.errors = ["output buffer\noverflow", "b", "c", "d"]
        with pytest.raises(
            HardwareError, match=r"reports 4 error.*output buffer overflow; b; c\. .*dropped.*Send fewer"
        ):
            board.run(STIMULI, DURATION)
        closed(fake, board)


def test_errors_are_those_of_the_run(opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    fake.errors = ["from long ago"]
    with opened(samna) as board:
        board.apply(layout)
        same(board.run(STIMULI, DURATION), expected)
        fake.errors = ["fifo full"]
        assert board.link.faults() == ["fifo full"]
        assert board.link.faults() == []


def test_foreign_events_are_told_apart(opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()

    def twist(events: np.ndarray) -> np.ndarray:
        strange = np.zeros(3, GRID_DTYPE)
        strange["tag"], strange["x_hop"], strange["y_hop"] = (5, 6, END), (-6, -6, 3), (0, 0, 1)
        strange["time"] = (fake.link.now - fake.link._offset) % (1 << 32)
        return np.concatenate([strange, events])

    with opened(samna) as board:
        board.apply(layout)
        fake.twist = twist
        same(board.run(STIMULI, DURATION), expected)
        assert board.last is not None
        assert set(board.last.unknown["tag"].tolist()) == {5, 6, END}
        assert board.last.heard == len(expected)


def test_markers_of_an_earlier_run(opened: Opener, layout: Layout, expected: Events) -> None:
    """What comes late from before a run neither ends nor delays it."""
    samna, fake = plugged()
    old = np.zeros(4, GRID_DTYPE)
    old["tag"], old["x_hop"], old["y_hop"] = (START, END, CLOCK, 1024), MARKER_HOP, MARKER_HOP
    old["y_hop"][3], old["x_hop"][3] = 0, -6
    old["time"] = 17
    with opened(samna) as board:
        board.apply(layout)
        fake.twist = lambda events: np.concatenate([old, events])
        same(board.run(STIMULI, DURATION), expected)
        assert board.last is not None
        assert (board.last.markers, len(board.last.unknown)) == ((10, 10), 0)


@pytest.mark.parametrize("piece", [1, 3, 20])
def test_events_come_in_pieces(piece: int, opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    fake.piece = piece
    with opened(samna) as board:
        board.apply(layout)
        for _ in range(2):
            same(board.run(STIMULI, DURATION), expected)
            assert board.last is not None
            assert board.last.attempts == 1


def test_a_chip_that_never_falls_silent(opened: Opener, layout: Layout, expected: Events) -> None:
    samna, fake = plugged()
    noise = np.zeros(2, GRID_DTYPE)
    noise["tag"], noise["x_hop"], noise["time"] = 5, -6, 77
    fake.twist = lambda events: np.concatenate([noise, events])
    results = use(samna, fake, opened, layout)
    same(results[0], expected)  # pyright: ignore[reportArgumentType]
