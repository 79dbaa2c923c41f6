"""Much data at once: Python's collector of cycles, which looks through all of it again and again, waits."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_collector", "rare_collector"]

RARE = (50_000, 5, 5)
"""New objects, and times of that, after which the collector looks through the youngest, the younger and all."""


@contextmanager
def no_collector() -> Iterator[None]:
    """Without the collector of cycles while the block makes many objects that refer to nothing behind them.

    Half of the time in which a large JSON text becomes lists would be the collector's, which finds nothing there.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def rare_collector() -> Iterator[None]:
    """With a collector of cycles that comes seldom: it finds nothing in what is imported, a quarter of the time of that."""
    before = gc.get_threshold()
    gc.set_threshold(*RARE)
    try:
        yield
    finally:
        gc.set_threshold(*before)
