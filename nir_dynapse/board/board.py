"""`Board`: what a chip and a virtual chip have in common."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np

from nir_dynapse.data.data import Events
from nir_dynapse.data.recording import Recording
from nir_dynapse.layout.layout import Layout

__all__ = ["Board"]


@runtime_checkable
class Board(Protocol):
    """A chip, real or virtual. `close` is safe to call twice; a board is a context manager that always closes.

    A HardwareError in `apply`, `run` or `run_batch` closes the board; a mistake in the call leaves it open.
    """

    @property
    def layout(self) -> Layout | None:
        """The Layout that is on the chips."""
        ...

    def apply(self, layout: Layout) -> None:
        """Write the bits of `layout`, where one was written before only what differs; the chips are quiet afterwards."""
        ...

    def run(self, events: Events, duration: float, *, echo: bool = False) -> Events:
        """Send `events` and return what the monitored neurons sent within `duration` s, decoded by the output map.

        Times are µs from the beginning of the run. With `echo` the stimuli come back, too, as events of their input node.
        """
        ...

    def run_batch(self, x: np.ndarray, dt: float) -> Recording:
        """Run counts (batch, time, channel) in bins of `dt` s, every sample from silence."""
        ...

    def clock(self) -> int:
        """µs of the board's 32-bit clock."""
        ...

    def close(self) -> None:
        """Give the board back."""
        ...

    def __enter__(self) -> Board: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
