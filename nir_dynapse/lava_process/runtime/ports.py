"""Ports at the parent's end of a Lava channel, where nobody waits for a worker that is gone, and ports without threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from queue import Empty
from typing import Any

from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSendPort
from lava.magma.core.model.py.ports import PyInPort, PyOutPort

__all__ = ["LOOK", "GuardedPort", "without_threads"]

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


class _Receiver(CspRecvPort):
    """Lava's, without the thread that waits for a message and then wakes the one that wants it."""

    _req: Any
    _ack: Any

    def _req_callback(self, req: Any) -> None:
        """What that thread does: nothing."""

    def recv(self) -> Any:
        with self._io_watchdog:
            self._req.acquire()
            result = self._array[self._idx].copy()
            self._idx = (self._idx + 1) % self._size
            self._ack.release()
            return result

    def peek(self) -> Any:
        self._req.acquire()
        self._req.release()
        return self._array[self._idx].copy()

    def probe(self) -> bool:
        there = self._req.acquire(False)
        if there:
            self._req.release()
        return there


class _Sender(CspSendPort):
    """Lava's, without the thread that notes what was received: that is counted before something is sent."""

    _req: Any
    _ack: Any
    _semaphore: Any

    def _ack_callback(self, ack: Any) -> None:
        """What that thread does: nothing."""

    def send(self, data: Any) -> None:
        with self._io_watchdog:
            if data.shape != self._shape:
                raise AssertionError(f"{data.shape=} {self._shape=} Mismatch")
            if not self.probe():
                self._ack.acquire()
                self._semaphore.release()
            self._semaphore.acquire()
            self._array[self._idx][:] = data[:]
            self._idx = (self._idx + 1) % self._size
            self._req.release()

    def probe(self) -> bool:
        while self._ack.acquire(False):
            self._semaphore.release()
        return super().probe()


def without_threads(ports: Iterable[Any]) -> None:
    """Let the data ports of a model, which nobody but the model waits for, do without threads, before they are started.

    In a worker every message would switch between threads twice, a tenth of a step. Messages stay what they are, so the
    other ends may be anybody's.
    """
    for port in ports:
        for end in port.csp_ports if isinstance(port, (PyInPort, PyOutPort)) else ():  # others are waited for together
            if type(end) is CspRecvPort:
                end.__class__ = _Receiver
            elif type(end) is CspSendPort:
                end.__class__ = _Sender
