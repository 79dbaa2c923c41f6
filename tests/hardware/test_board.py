"""What any board must do: tell the time, return stimuli, fire where it is driven and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

import small_networks
from nir_dynapse.backend import open_board
from nir_dynapse.board.link import LinkedBoard
from nir_dynapse.chip.device import Mismatch
from nir_dynapse.data.data import Events
from nir_dynapse.layout.layout import Layout
from nir_dynapse.quant.compiler import compile

DURATION = 0.3
JITTER = 200
"""µs by which an event may be sent late."""


def layout_of(weights: list[list[float]]) -> Layout:
    return compile(small_networks.feed_forward(np.array(weights)))


def regular(channel: int, rate: float) -> Events:
    time = np.arange(0, DURATION * 1e6, 1e6 / rate).astype(int)
    return Events(time, np.zeros(len(time)), np.full(len(time), channel), ("in",))


@pytest.fixture(scope="module")
def pair() -> Layout:
    """Two channels, each of which drives one neuron; a third neuron has a weak input."""
    return layout_of([[0.9, 0.0], [0.0, 0.9], [0.02, 0.0]])


def rates(heard: Events, size: int) -> np.ndarray:
    return heard.to_counts("hidden", size, DURATION, DURATION)[0]


def test_the_clock_runs(board: LinkedBoard) -> None:
    first = board.clock()
    began = board.link.time()
    board.link.wait(0.5)
    passed = (board.clock() - first) % (1 << 32)
    assert 0.45e6 < passed < (board.link.time() - began) * 1e6 + 0.1e6


def test_stimuli_come_back(board: LinkedBoard, pair: Layout) -> None:
    board.apply(pair)
    wanted = regular(1, 100.0)
    heard = board.run(wanted, DURATION, echo=True)
    echoed = heard.node == heard.nodes.index("in")
    assert heard.index[echoed].tolist() == wanted.index.tolist()
    late = heard.time[echoed] - wanted.time
    assert late.min() >= 0
    assert late.max() < JITTER
    assert board.last is not None
    assert board.last.markers[0] > 0
    assert board.last.attempts == 1


@pytest.mark.parametrize("channel", [0, 1])
def test_a_neuron_that_is_driven_fires(channel: int, board: LinkedBoard, pair: Layout) -> None:
    board.apply(pair)
    heard = rates(board.run(regular(channel, 200.0), DURATION), 3)
    assert heard[channel] >= 5
    assert heard[1 - channel] <= 1
    assert heard[2] <= heard[channel] // 2


def test_nothing_fires_without_input(board: LinkedBoard, pair: Layout) -> None:
    """Neither of this network nor of what was written before."""
    board.apply(layout_of([[0.9], [0.9], [0.9], [0.9], [0.9]]))
    assert rates(board.run(regular(0, 200.0), DURATION), 5).sum() >= 10
    board.apply(pair)
    heard = board.run(Events(np.zeros(0), np.zeros(0), np.zeros(0), ("in",)), DURATION)
    assert len(heard) <= 1
    assert board.last is not None
    assert len(board.last.unknown) <= 1


def test_rates_are_like_those_of_virtual_chips(board: LinkedBoard) -> None:
    """Within a factor of four on average: biases are not calibrated, but nothing is out of proportion."""
    layout = layout_of([[w] for w in np.linspace(0.2, 0.9, 12)])
    stimulus = regular(0, 200.0)
    board.apply(layout)
    heard = rates(board.run(stimulus, DURATION), 12)
    with open_board("virtual:0", mismatch=Mismatch.none()) as virtual:
        virtual.apply(layout)
        expected = rates(virtual.run(stimulus, DURATION), 12)
    assert expected.sum() / 4 <= heard.sum() <= 4 * expected.sum()
    assert heard[6:].sum() > heard[:6].sum()
