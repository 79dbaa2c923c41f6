"""Which CAM rows, tags and neurons of a chip work: every row is asked, with several tags, by bursts that none ignores."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nir_dynapse.board.board import Board
from nir_dynapse.calibration.design import CORES, DRIVE, ROWS, SLOTS, codes_for, loud, probe_layout, probe_spikes
from nir_dynapse.chip.device import AMPA
from nir_dynapse.data.data import Events
from nir_dynapse.layout.rows import CAM_DTYPE

__all__ = ["Working", "find_working", "map_tags"]

HALF, TAGS = 1024, 2048
BURST, GAP, QUIET = 4, 0.08, 0.1
"""Events 1 ms apart in a burst; s from one burst to the next, and before the first one."""
MOST_TURNS = 6
ANSWERING = 0.02
"""Part of a core's neurons that must answer to a tag that reaches it."""


class Working(NamedTuple):
    """True where it works: `neurons` (cores, 256), `rows` (cores, 256, 64, 2), `tags` (cores, 2048); `proven` (cores, 2048)
    are the tags that were answered.
    """

    neurons: np.ndarray
    rows: np.ndarray
    tags: np.ndarray
    proven: np.ndarray


def _answers(
    board: Board, n_chips: int, logs: dict[str, np.ndarray], tags: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Who answers where row r of every neuron hears `tags[r]`, which are sent one after another.

    Boolean (cores, 256, 64) by row, and (cores, 256): who fires before anything is sent.
    """
    n_cores = n_chips * CORES
    cam = np.zeros((n_cores * SLOTS, ROWS), CAM_DTYPE)
    cam["tag"], cam["dendrite"], cam["mask"] = tags, AMPA, 15
    codes, _ = codes_for(loud(BURST), logs)
    board.apply(probe_layout(n_chips, codes, 0, cam, np.repeat(tags[:, None], n_cores, 1)))
    begin = QUIET + GAP * np.arange(ROWS)
    times = np.round((begin[:, None] + 1e-3 * np.arange(BURST)).ravel() * 1e6).astype(np.int64)
    channel = np.repeat(np.arange(ROWS), BURST)
    out = board.run(Events(times, np.zeros(len(times)), channel, (DRIVE,)), QUIET + GAP * ROWS)
    time, neuron = probe_spikes(out)
    window = np.floor((time * 1e-6 - QUIET) / GAP).astype(int)
    fired = np.zeros((n_cores * SLOTS, ROWS + 1), bool)
    fired[neuron, np.maximum(window, -1)] = True
    fired = fired.reshape(n_cores, SLOTS, ROWS + 1)
    return fired[..., :ROWS], fired[..., ROWS]


def find_working(
    board: Board,
    n_chips: int,
    logs: dict[str, np.ndarray],
    *,
    turns: int = 2,
    max_failure: float = 0.1,
    tell: Callable[[float], None] = lambda share: None,
) -> Working:
    """Ask every row of every neuron `turns` times, for both halves of the tags; `logs` are log scales known so far.

    A row works if it answers to all but `max_failure` of the tags that reach its core; one that no such tag was tried on
    is asked again. A tag that nobody in a core answers to, where others are answered, does not reach it. A neuron that
    answers on no row, or fires without being asked, does not work.
    """
    n_cores = n_chips * CORES
    rows = np.zeros((n_cores, SLOTS, ROWS, 2), bool)
    reach, proven = np.ones((n_cores, TAGS), bool), np.zeros((n_cores, TAGS), bool)
    wild = np.zeros((n_cores, SLOTS), bool)
    order = np.argsort((37 * np.arange(HALF)) % HALF)  # 64 tags that lie apart come first
    for half in range(2):
        asked = np.zeros((n_cores, 1, ROWS), int)
        heard = np.zeros((n_cores, SLOTS, ROWS), int)
        for turn in range(MOST_TURNS):
            if turn >= turns and (asked >= 1).all():
                break
            # Each turn moves the tags by 17 rows, and takes others once all were moved in vain.
            tags = half * HALF + np.roll(order[ROWS * (turn // turns) : ROWS * (turn // turns + 1)], 17 * turn)
            answer, early = _answers(board, n_chips, logs, tags)
            wild |= early
            reached = (answer & ~early[..., None]).mean(1) >= ANSWERING
            if not reached.any():  # of both the tags and the rows, only the rows are known to fail
                tell((half * MOST_TURNS + turn + 1) / (2 * MOST_TURNS))
                continue
            reach[:, tags] &= reached | ~reached.any(1, keepdims=True)
            proven[:, tags] |= reached
            asked += reached[:, None, :]
            heard += answer & reached[:, None, :]
            tell((half * MOST_TURNS + turn + 1) / (2 * MOST_TURNS))
        rows[..., half] = (asked > 0) & (heard >= (1 - max_failure) * asked)
    neurons = rows.any((2, 3)) & ~wild
    return Working(neurons, np.where(neurons[..., None, None], rows, True), reach | proven, proven)


def map_tags(
    board: Board,
    n_chips: int,
    logs: dict[str, np.ndarray],
    working: Working,
    tell: Callable[[float], None] = lambda share: None,
) -> Working:
    """`working` with every one of the 2 048 tags tried on every core: 32 runs."""
    reach, proven = working.tags.copy(), working.proven.copy()
    for block in range(TAGS // ROWS):
        tags = block * ROWS + np.arange(ROWS)
        answer, _ = _answers(board, n_chips, logs, tags)
        sound = working.rows[..., tags[0] // HALF] & working.neurons[..., None]
        share = (answer & sound).sum(1) / np.maximum(sound.sum(1), 1)
        reach[:, tags] = np.where(sound.any(1), share >= ANSWERING, reach[:, tags])
        proven[:, tags] = sound.any(1) & (share >= ANSWERING)
        tell((block + 1) * ROWS / TAGS)
    return working._replace(tags=reach, proven=proven)
