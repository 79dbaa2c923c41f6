"""Lava's Runtime, made so that no call waits for a worker that is gone, and that stopping always ends.

Uses private attributes of lava-nc 0.10.0, which is Lava's last release.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from lava.magma.compiler.builders.py_builder import PyProcessBuilder
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND, MGMT_RESPONSE, enum_equal
from lava.magma.runtime.runtime import Runtime
from lava.magma.runtime.runtime_services.runtime_service import LoihiPyRuntimeService

from nir_dynapse.errors import LavaRunError
from nir_dynapse.lava_process.runtime.failures import WorkerTraceback, explain, is_gone, overdue
from nir_dynapse.lava_process.runtime.leftovers import release_ports, release_processes, release_watchdog
from nir_dynapse.lava_process.runtime.ports import LOOK, GuardedPort
from nir_dynapse.lava_process.runtime.workers import Service, Workers, later_interrupt, quiet_fork

__all__ = ["GuardedRuntime"]

LAST_WORDS = 0.5  # s that a worker gets to report why it failed, once it is known that something did
STOPPING = 2.0  # s that a network gets to stop by itself; one that waits for an Injector's next data never does


class GuardedRuntime(Runtime):
    """Runs an executable; every failure of a worker ends the run and reaches the caller as LavaRunError.

    `process` is the one that the user runs; `timeout` in s limits every wait for an answer (None: no limit).
    """

    def __init__(self, process: Any, executable: Any, timeout: float | None) -> None:
        super().__init__(executable, ActorType.MultiProcessing, process._log_config.level)
        self.timeout = timeout
        self.ended = False
        self._error: LavaRunError | None = None
        self._stopping = False
        self._workers = Workers()
        self._messaging_infrastructure = self._workers
        self._processes = [process, *executable.process_list]
        self._outside: list[Any] = []
        self._owner = os.getpid()
        self._lock = threading.RLock()

    def initialize(self, node_cfg_idx: int = 0) -> None:
        """Start all workers and wait until each has built its model."""
        with self._ending_on_error():
            with later_interrupt(), quiet_fork():
                self._build_watchdog_manager()
                self._workers.start()
                self._build_channels()
                self._build_sync_channels()
                self._build_processes()
                self._build_runtime_services()
            self._start_ports()
            self.runtime_to_service = [GuardedPort(p, self._watch) for p in self.runtime_to_service]  # pyright: ignore
            self.service_to_runtime = [GuardedPort(p, self._watch) for p in self.service_to_runtime]  # pyright: ignore
            look = self._watch()
            while not all(worker.ready for worker in self._workers.workers):
                self._workers.update(LOOK)
                look()
        # Started in Lava's sense (there is something to stop), so that Vars can be read and set before the first step.
        self._is_initialized = self._is_started = True

    def _build_processes(self) -> None:
        executable: Any = self._executable
        for process, builder in executable.proc_builders.items():
            if isinstance(builder, PyProcessBuilder):
                process._runtime = self
                self._create_external_channels(process, builder)
                model = builder.proc_model
                self._workers.add(
                    f"Lava process {process.name!r} ({type(process).__name__}, {model.__name__})", builder
                )

    def _build_runtime_services(self) -> None:
        executable: Any = self._executable
        for builder in (executable.runtime_service_builders or {}).values():
            label = f"Lava's runtime service ({builder.rs_class.__name__})"
            if builder.rs_class is LoihiPyRuntimeService:
                builder.rs_class = Service
            self._workers.add(label, builder)

    def _create_external_channels(self, proc: Any, proc_builder: Any) -> None:
        """The channels of Injectors and Extractors, guarded, and noted because Lava forgets them at the end."""
        super()._create_external_channels(proc, proc_builder)
        for name in proc_builder.py_ports:
            port = getattr(proc, name)
            for end in ("external_pipe_csp_send_port", "external_pipe_csp_recv_port"):
                if port.external_pipe_flag and hasattr(port, end):
                    self._outside.append(getattr(port, end))
                    setattr(port, end, GuardedPort(getattr(port, end), self._watch))

    def start(self, run_condition: Any) -> None:
        """Run under Lava's run condition; `process.run` calls it too."""
        self.require_open()
        if self.running:
            raise LavaRunError("the Lava run has not finished its steps yet: call wait() or pause() first")
        with self._ending_on_error():
            self._look()
            super().start(run_condition)

    @property
    def running(self) -> bool:
        """Whether steps are being computed; False once the run has ended."""
        if self.ended or not self._is_running:
            return False
        with self._ending_on_error():
            self._look()
            if all(port.probe() for port in self.service_to_runtime):
                self._get_resp_for_run()
        return self._is_running

    def _get_resp_for_run(self) -> None:
        with self._ending_on_error():
            pending: list[Any] = list(self.service_to_runtime) if self._is_running else []
            look = self._watch()
            while pending:
                for port in tuple(pending):
                    if not port.ready(LOOK / len(pending)):
                        look()
                        continue
                    answer = port.recv()
                    pending.remove(port)
                    if enum_equal(answer, MGMT_RESPONSE.REQ_PAUSE):
                        return self.pause()
                    if enum_equal(answer, MGMT_RESPONSE.REQ_STOP):
                        return self.stop()
                    if not enum_equal(answer, MGMT_RESPONSE.DONE):
                        self._fail()
            self._is_running = False

    def wait(self) -> None:
        """Wait until the steps of a run that does not block are done."""
        self.require_open()
        self._get_resp_for_run()

    def pause(self) -> None:
        """Stop after the current step; the state can be read, and the next run goes on from it."""
        self.require_open()
        if not self._is_running:
            return
        with self._ending_on_error():
            self._command(MGMT_COMMAND.PAUSE, MGMT_RESPONSE.PAUSED)
            self._is_running = False

    def _command(self, command: Any, reply: Any) -> None:
        """Send a command to all services, and drop what they had said before until each has replied to it."""
        for port in self.runtime_to_service:
            port.send(command)
        for port in self.service_to_runtime:
            answer = port.recv()
            while not enum_equal(answer, reply):
                if enum_equal(answer, MGMT_RESPONSE.ERROR):
                    self._fail()
                answer = port.recv()

    def get_var(self, var_id: int, idx: Any = None) -> Any:
        with self._exchange("read"):
            return super().get_var(var_id, idx)

    def set_var(self, var_id: int, value: Any, idx: Any = None) -> None:
        with self._exchange("set"):
            super().set_var(var_id, value, idx)

    @contextmanager
    def _exchange(self, what: str) -> Iterator[None]:
        self.require_open()
        if self.running:
            raise LavaRunError(f"a Var can be {what} between runs only: call wait() or pause() first")
        try:
            yield
            self._look()
        except (LavaRunError, KeyboardInterrupt):
            self.abort()  # a half-read answer would be taken for the next one
            raise

    def stop(self) -> None:
        """End the run: in Lava's way if that takes no more than some seconds, else by force.

        Raises LavaRunError where a worker had failed; the run has ended then too.
        """
        with self._lock:
            if self.ended or os.getpid() != self._owner:
                return
            with later_interrupt(), self._ending_on_error():
                self._look()
                self._stopping, self.timeout = True, STOPPING
                with suppress(TimeoutError):
                    self._command(MGMT_COMMAND.STOP, MGMT_RESPONSE.TERMINATED)
                    self._workers.join(STOPPING)
                self.abort()

    def abort(self) -> None:
        """End the run by force. A forked copy of the runtime leaves the workers to the original."""
        with self._lock:
            if self.ended or os.getpid() != self._owner:
                return
            self.ended = True  # before anything else: whatever fails now, nothing may wait for the workers again
            self._is_initialized = self._is_started = self._is_running = False
            with later_interrupt():
                self._workers.stop()
                release_ports((*self._open_ports, *self._outside))
                self._open_ports.clear()
                self._outside.clear()
                release_watchdog(self._watchdog_manager)
                release_processes(self._processes)
                # The ended runtime stays at its processes, so that Var.get() says why instead of giving initial values.
                self._executable = None  # pyright: ignore[reportAttributeAccessIssue]

    def require_open(self) -> None:
        """Raise LavaRunError where the run has ended."""
        if self.ended:
            why = f" after an error ({self._error})" if self._error else ""
            raise LavaRunError(
                f"the Lava run has ended{why}, and the state of its processes is gone. Read Vars and results before "
                "stop() or the end of the `with` block, or start a new LavaRun."
            )

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # KeyboardInterrupt too: the run is in the middle of something
            self.abort()
            raise

    def _watch(self) -> Callable[[], None]:
        """A function to call while waiting: it raises where a worker is gone, or the wait began too long ago."""
        self.require_open()
        limit = self.timeout
        end = None if limit is None else time.monotonic() + limit

        def look() -> None:
            self._look()
            if limit is not None and end is not None and time.monotonic() > end:
                if self._stopping:
                    raise TimeoutError
                self._raise(overdue(limit))

        return look

    def _look(self) -> None:
        """Raise LavaRunError if a worker has failed or ended."""
        self.require_open()
        self._workers.update()
        if any(is_gone(worker, self._stopping) for worker in self._workers.workers):
            self._fail()

    def _fail(self) -> NoReturn:
        """End the run because of a worker, with the best explanation that there is."""
        end = time.monotonic() + LAST_WORDS
        workers = self._workers.workers
        # The service and workers that it tells to stop may end before the one that failed has said why.
        while not any(w.failure or w.exitcode for w in workers) and time.monotonic() < end:
            self._workers.update(LOOK)
        self._raise(explain(workers))

    def _raise(self, error: LavaRunError) -> NoReturn:
        self._error = error
        self.abort()
        raise error from (WorkerTraceback(error.traceback) if error.traceback else None)
