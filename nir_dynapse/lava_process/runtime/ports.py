"""Ports at the parent's end of a Lava channel, where nobody waits for a worker that is gone."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty
from typing import Any

__all__ = ["LOOK", "GuardedPort"]

LOOK = 0.05  # s between two looks at the workers while an answer is awaited


class GuardedPort:
    """A port of Lava's at the parent's end, whose `send` and `recv` look at the workers while they wait."""

    def __init__(self, port: Any, watch: Callable[[], Callable[[], None]]) -> None:
        self._port = port
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def ready(self, seconds: float) -> bool:
        """Whether a message is there, after waiting for it up to `seconds` s."""
        try:
            self._port._queue.get(timeout=seconds, peek=True)
        except Empty:
            return False
        return True

    def recv(self) -> Any:
        look = self._watch()
        while not self.ready(LOOK):
            look()
        return self._port.recv()

    def send(self, data: Any) -> None:
        look = self._watch()
        while not self._port._semaphore.acquire(timeout=LOOK):
            look()
        self._port._semaphore.release()
        self._port.send(data)
