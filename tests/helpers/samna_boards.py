"""Layouts, data and opened fake boards for the tests of real boards."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_networks
from fake_samna_device import Board, Samna
from nir_dynapse.board.address_events import is_marker
from nir_dynapse.board.link import LinkedBoard
from nir_dynapse.chip.device import DYNAPSE2
from nir_dynapse.data.data import Events
from nir_dynapse.errors import HardwareError
from nir_dynapse.export.samna_board import open_samna
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.quant.compiler import compile
from nir_dynapse.sim.virtual.board import VirtualBoard

DT = 1e-3


def network(seed: int = 4, hidden: int = 14, tonic: bool = False) -> Network:
    """Four inputs, a recurrent population, four outputs; with `tonic` its neurons have different biases."""
    net = small_networks.recurrent(seed, 4, hidden, 4, fan_in=4)
    if not tonic:
        return net
    first = replace(net.projections[0], bias=np.linspace(0.01, 0.06, hidden))
    return replace(net, projections=(first, *net.projections[1:]))


def layout_of(n_chips: int = 1, **options: Any) -> Layout:
    """A network spread over `n_chips` chips, with two or three neurons per core."""
    few = {1: 256, 2: 3, 3: 2}[n_chips]
    device = replace(DYNAPSE2.stack(n_chips), neurons_per_core=few)
    return compile(network(**options), device=device, spare_rows=False)


def counts(samples: int = 2, bins: int = 60, channels: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.6, (samples, bins, channels))


def bit_file(folder: Path) -> Path:
    path = folder / "Dynapse2Stack.bit"
    path.write_bytes(b"bits")
    return path


def plugged(samna: Samna | None = None, **options: Any) -> tuple[Samna, Board]:
    """A fake samna with one board."""
    samna = Samna() if samna is None else samna
    return samna, samna.plug(**options)


Opener = Callable[..., LinkedBoard]


def opener(folder: Path) -> Opener:
    """`open_samna` of a fake samna, with a bit file."""
    path = bit_file(folder)
    return lambda samna, serial=None, **options: open_samna(serial, **{"bit_file": path, **samna.options, **options})


DURATION = 0.06
STIMULI = Events.from_counts(counts()[0], DT, "in")
REMEDY = re.compile(r"Check|Send|Give|Choose|Raise|Open the board|[Oo]pen it again|end that process|Compile")


def on_virtual_silicon(layout: Layout) -> Events:
    """What the stimuli make a layout do on the virtual board."""
    with VirtualBoard(7) as board:
        board.apply(layout)
        heard = board.run(STIMULI, DURATION)
    assert len(heard) > 10
    return heard


def same(heard: Events, expected: Events) -> None:
    for name in ("time", "node", "index"):
        np.testing.assert_array_equal(getattr(heard, name), getattr(expected, name))


def closed(fake: Board, board: LinkedBoard | None) -> None:
    """The device was given back, once, and the board says so."""
    assert "close_device" in fake.calls
    assert fake.calls.count("close_device") == 1
    if board is not None:
        for use in (board.clock, lambda: board.run(STIMULI, DURATION)):
            with pytest.raises(HardwareError, match=r"is closed\. Open the board again"):
                use()


def use(samna: Samna, fake: Board, opened: Opener, layout: Layout, runs: int = 1) -> list[Events] | str:
    """What the runs of a whole session gave, or the message of the HardwareError that ended it."""
    board: LinkedBoard | None = None
    try:
        with opened(samna) as board:
            board.apply(layout)
            results = [board.run(STIMULI, DURATION) for _ in range(runs)]
    except HardwareError as error:
        failure = str(error)
    else:
        closed(fake, board)
        return results
    assert REMEDY.search(failure), f"it does not say what to do: {failure}"
    if ("open_device", 1) not in fake.faults:
        closed(fake, board)
    return failure


def losing(first: int, *tags: int) -> Callable[[np.ndarray], np.ndarray]:
    """Loses the first markers with one of `tags`."""
    lost = 0

    def twist(events: np.ndarray) -> np.ndarray:
        nonlocal lost
        marked = np.any([is_marker(events, tag) for tag in tags], axis=0)
        gone = marked & (np.cumsum(marked) <= first - lost)
        lost += int(gone.sum())
        return events[~gone]

    return twist
