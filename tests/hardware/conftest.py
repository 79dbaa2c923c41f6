"""Tests that need a board. They are collected only when this folder is named:

    NIR_DYNAPSE_BOARD=samna NIR_DYNAPSE_BIT_FILE=Dynapse2Stack.bit python3 -m uv run pytest tests/hardware

`samna:SERIAL` names one of several boards. They pass on `virtual:7`, too, and the normal suite runs them there.
They stay in one file: pytest gives a file to one worker, and a board has one user.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from nir_dynapse.backend import open_board
from nir_dynapse.board.link import LinkedBoard


@pytest.fixture(scope="module")
def board() -> Iterator[LinkedBoard]:
    """The board that NIR_DYNAPSE_BOARD names."""
    name = os.environ.get("NIR_DYNAPSE_BOARD")
    if not name:
        pytest.fail("Name the board: NIR_DYNAPSE_BOARD=samna, samna:SERIAL or virtual:SEED.", pytrace=False)
    with open_board(name) as opened:
        assert isinstance(opened, LinkedBoard)
        yield opened
