"""`Events`: counts to events and back for any step; lists that contradict themselves."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nir_dynapse as nd
from nir_dynapse.data.bins import bin_of, first_us
from nir_dynapse.sim.virtual.board import VirtualBoard
from shortened import shortened

STEPS = (1 / 30, 1 / 60, 1 / 120, 1 / 300, 1 / 3000, 64 / 44100)
"""Steps in s that are no whole number of µs: frames, and blocks of sound."""


@pytest.mark.parametrize("dt", [*STEPS, 1e-3, 1e-4, 1e-6, 0.1, 0.3, 7e-6])
def test_events_are_in_the_bin_of_their_count(dt: float) -> None:
    most = max(1, min(4, int(dt * 1e6)))
    counts = np.random.default_rng(0).integers(0, most + 1, (400, 3))
    events = nd.Events.from_counts(counts, dt, "in")
    assert np.array_equal(events.to_counts("in", 3, dt, 400 * dt), counts)
    begin = np.floor(events.time / (dt * 1e6) + 1e-9) * dt * 1e6
    assert (events.time >= begin - 1e-3).all()
    assert (events.time < begin + dt * 1e6).all()
    first = nd.Events.from_counts(np.eye(400, 1, -1), dt, "in")  # one event, in bin 1
    assert first.time.tolist() == [int(np.ceil(dt * 1e6 - 1e-6))]


@given(st.floats(1e-6, 1.0), st.integers(0, 10**6), st.integers(0, 2**31))
def test_a_bin_begins_where_its_first_microsecond_is(dt: float, k: int, time: int) -> None:
    assert bin_of(first_us(k, dt), dt) == k
    assert bin_of(first_us(k + 1, dt) - 1, dt) == k
    inside = bin_of(time, dt)
    assert first_us(inside, dt) <= time < first_us(inside + 1, dt)


def test_all_microseconds_of_a_bin_can_be_filled() -> None:
    dt = 1 / 300_000  # bins of 3, 3 and 4 µs
    room = first_us(np.arange(1, 31), dt) - first_us(np.arange(30), dt)
    assert set(room.tolist()) == {3, 4}
    events = nd.Events.from_counts(room[:, None], dt, "in")
    assert np.array_equal(events.time, np.arange(100))
    assert np.array_equal(events.to_counts("in", 1, dt, 30 * dt)[:, 0], room)
    room[7] += 1
    with pytest.raises(nd.ConfigurationError, match=r"node 'in': 4 events of channel 0 in bin 7, which has 3 whole µs"):
        nd.Events.from_counts(room[:, None], dt, "in")


@pytest.mark.parametrize("dt", shortened(STEPS, 2))
def test_boards_and_simulate_agree_for_steps_that_are_no_whole_microseconds(dt: float, networks: ModuleType) -> None:
    layout = nd.compile(networks.recurrent(1, 4, 12, 3), monitor="all")
    x = np.random.default_rng(1).integers(0, 3, (60, 4))
    wanted = nd.simulate(layout, x, dt=dt, mismatch=nd.Mismatch(), key=5, backend="numpy").spikes
    assert sum(int(spikes.sum()) for spikes in wanted.values()) > 20
    with VirtualBoard(5, step=dt) as board:
        board.apply(layout)
        heard = board.run(nd.Events.from_counts(x, dt, "in"), 60 * dt)
    for node, spikes in wanted.items():
        assert np.array_equal(heard.to_counts(node, spikes.shape[2], dt, 60 * dt), spikes[0]), node


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0.5], [0], [0], ("a",)), r"time\[0\] is 0.5, allowed are whole numbers"),
        (([0, np.nan], [0, 0], [0, 0], ("a",)), r"time\[1\] is nan"),
        (([2.0**60], [0], [0], ("a",)), r"time\[0\] is 1.152921504606847e\+18"),
        (([2**64 - 1], [0], [0], ("a",)), r"time\[0\] is 18446744073709551615"),
        (([0], [0], [-1], ("a",)), r"index\[0\] is -1"),
        (([0], [0], [1 + 0j], ("a",)), "complex128"),
        (([0], ["a"], [0], ("a",)), "<U1"),
        (([0], [1], [0], ("a",)), "node number 1, there are 1 nodes"),
        (([0], [0], [0], "a"), "nodes is 'a'"),
        (([0], [0], [0], (1,)), "nodes is"),
        (([0], [0], [0], ("a", "a")), "same name"),
        (([0, 1], [0], [0], ("a",)), "differ in length"),
    ],
)
def test_lists_that_contradict_themselves(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(nd.ConfigurationError, match=words):
        nd.Events(*arguments)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e: e.to_counts("a", 2, 1e-3, 0.01), "an event names index 2, allowed are 0 to 1"),
        (lambda e: e.to_counts("a", 3, 0, 0.01), "dt is 0, allowed are numbers from 1e-09"),
        (lambda e: e.to_counts("a", 3, float("nan"), 0.01), "dt is nan"),
        (lambda e: e.to_counts("a", 3, 1e-3, float("inf")), "duration is inf"),
        (lambda e: e.to_counts("a", 3, 1e-3, 1e300), r"duration is 1e\+300"),
        (lambda e: e.to_counts("a", 3, 1e-9, 1e3), "more than 536870912 counts"),
        (lambda e: e.to_counts("a", 1.5, 1e-3, 0.01), "size is 1.5"),
        (
            lambda e: nd.Events.from_counts(np.ones((2, 2, 2)), 1e-3, "a"),
            r"shape \(2, 2, 2\), needed is \(time, channel\)",
        ),
        (lambda e: nd.Events.from_counts(np.ones((2, 2)), -1e-3, "a"), "dt is -0.001"),
        (lambda e: nd.Events.from_counts(np.full((2, 2), 2**23), 1e3, "a"), "33554432 events, at most 16777216"),
        (lambda e: nd.Events.from_counts(np.full((2, 2), 2000), 1e-3, "a"), "which has 1000 whole µs"),
    ],
)
def test_calls_that_make_no_sense(call: Any, words: str) -> None:
    with pytest.raises(nd.DynapseError, match=words):
        call(nd.Events(np.array([5, 6]), np.array([0, 0]), np.array([2, 0]), ("a",)))
