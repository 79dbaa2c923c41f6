"""The worker processes of a Lava run: they report how they end, leave Ctrl-C to their parent and never outlive it.

Takes the place of Lava's SystemProcess, its shared memory manager (a process more, and blocks that somebody has to
remove) and its queues for errors. Written against lava-nc 0.10.0, private attributes included: it is Lava's last release.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from mmap import mmap
from multiprocessing.connection import wait as wait_for
from typing import Any, NamedTuple

from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing
from lava.magma.runtime.runtime_services.runtime_service import LoihiPyRuntimeService

__all__ = ["Failure", "Service", "Worker", "Workers", "later_interrupt", "quiet_fork"]


class Failure(NamedTuple):
    """What a worker says about the exception that ended it; `step` counts from 1, None before the first."""

    when: float
    step: int | None
    what: str
    traceback: str


class Service(LoihiPyRuntimeService):
    """Lava's service, which forgets that it was paused (0.10.0 remembers, and never reports the next run as done)."""

    def _handle_pause(self) -> None:
        super()._handle_pause()
        self.pausing = self.req_pause = False


class Worker(multiprocessing.Process):
    """One forked process with one Lava model or service in it; `label` names it in messages."""

    def __init__(self, label: str, builder: Any, lifeline: tuple[int, int]) -> None:
        super().__init__()
        self.label = label
        self.ready = False
        self.failure: Failure | None = None
        self.code: int | None = None
        self._builder: Any = builder
        self._lifeline = lifeline
        self._actor: Any = None
        self._reader, self._writer = multiprocessing.Pipe(duplex=False)

    def start(self) -> None:
        super().start()
        self._writer.close()  # only the child's end is left, so that the pipe closes when the child dies
        self._builder = None

    def run(self) -> None:
        """In the child: build the model and run it until Lava stops it."""
        # A terminal sends Ctrl-C to every process of the group; the parent ends the run in an orderly way.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._reader.close()
        os.close(self._lifeline[1])
        threading.Thread(target=_die_with_parent, args=(self._lifeline[0],), daemon=True).start()
        try:
            # Kept as an attribute: Lava's Injector model complains on stderr when it is collected.
            self._actor = self._builder.build()
            self._writer.send(None)
            self._actor.start()
        except BaseException as error:  # SystemExit too: nothing but a stop by Lava may end a worker silently
            step = getattr(self._actor, "time_step", None)
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            self._writer.send(Failure(time.monotonic(), step, what, traceback.format_exc()))

    @property
    def reader(self) -> Any:
        """The parent's end of the pipe with the worker's reports; closed once the worker has ended."""
        return self._reader

    def read(self) -> None:
        """Take the next report, which has to be there."""
        try:
            report = self._reader.recv()
        except (EOFError, OSError):
            self._reader.close()
            return
        self.ready = True
        self.failure = report

    def release(self) -> None:
        """Give back what the parent holds of an ended worker."""
        self.join()
        self.code = self.exitcode
        self._reader.close()
        self.close()


def _die_with_parent(lifeline: int) -> None:
    """Blocks until no process holds the other end of the pipe, which is when the parent has died."""
    with suppress(OSError):
        os.read(lifeline, 1)
    os._exit(1)


class Block:
    """Anonymous memory that forked processes share: no name, no file descriptor, gone with the last process."""

    def __init__(self, size: int) -> None:
        self._map = mmap(-1, max(size, 1))
        self.buf = memoryview(self._map)

    def close(self) -> None:
        self.buf.release()
        with suppress(BufferError):  # somebody still has an array in it; it goes away with that
            self._map.close()


class Memory:
    """Stands in for Lava's SharedMemoryManager."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []

    def create_shared_memory(self, size: int) -> Block:
        block = Block(size)
        self._blocks.append(block)
        return block

    def shutdown(self) -> None:
        while self._blocks:
            self._blocks.pop().close()


class Workers(MultiProcessing):
    """All workers of a run and their memory, in the place of Lava's own infrastructure."""

    def __init__(self) -> None:
        super().__init__()
        self._workers: list[Worker] = []
        self._lifeline: tuple[int, int] | None = None

    @property
    def workers(self) -> tuple[Worker, ...]:
        return tuple(self._workers)

    def start(self) -> None:
        self._smm = Memory()  # pyright: ignore[reportAttributeAccessIssue]
        self._lifeline = os.pipe()

    def add(self, label: str, builder: Any) -> None:
        """Start a worker that builds and runs what `builder` (of a process or a service) makes."""
        if self._lifeline is None:
            raise RuntimeError("start() comes first")
        worker = Worker(label, builder, self._lifeline)
        worker.start()
        self._workers.append(worker)

    def update(self, seconds: float = 0.0) -> None:
        """Take all reports that are there, waiting up to `seconds` s for a first one."""
        while True:
            readers = {w.reader: w for w in self._workers if not w.reader.closed}
            came = wait_for(list(readers), seconds)
            if not came:
                return
            for reader in came:
                readers[reader].read()
            seconds = 0.0

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` s until all workers have ended; whether they have."""
        end = time.monotonic() + seconds
        for worker in self._workers:
            multiprocessing.Process.join(worker, max(end - time.monotonic(), 0.0))
        return not any(w.is_alive() for w in self._workers)

    def stop(self) -> None:
        """End every worker, by force where it has not ended, and give everything back."""
        for worker in self._workers:
            if worker.failure is not None:
                worker.join(0.3)  # it is about to end by itself, and first writes out what the model printed
            if worker.is_alive():
                worker.kill()
        while self._workers:
            self._workers.pop().release()
        if self._lifeline is not None:
            for end in self._lifeline:
                os.close(end)
            self._lifeline = None
        if self._smm is not None:
            self._smm.shutdown()


@contextmanager
def quiet_fork() -> Iterator[None]:
    """Silences two warnings about forking a process with threads: Lava's workers run NumPy only, and that is safe."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)  # JAX
        warnings.filterwarnings("ignore", message=r"This process .* is multi-threaded", category=DeprecationWarning)
        yield


@contextmanager
def later_interrupt() -> Iterator[None]:
    """Ctrl-C within the block takes effect at its end; the block has to be short."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    caught: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught and callable(before):
            before(*caught[0])
        elif caught and before is signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGINT)
