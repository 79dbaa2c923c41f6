"""Takes back what Lava 0.10.0 leaves behind of every process: entries of registers, log handlers, a watchdog."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from lava.magma.core.process.process import ProcessServer
from lava.magma.core.process.variable import VarServer

__all__ = ["release_ports", "release_processes", "release_watchdog"]


def release_ports(ports: Iterable[Any]) -> None:
    """End the threads of the parent's ports, and let go of the shared memory."""
    for port in ports:
        thread = port.thread
        with suppress(OSError, EOFError):  # of a watchdog that is gone
            port.join()
        if thread is not None:
            thread.join(1.0)
        port._array, port._shm = [], None


def release_processes(processes: Iterable[Any]) -> None:
    """Forget `processes` and the hierarchical processes that they are parts of, and their log handlers.

    Lava registers every process and Var for good, and each process adds a handler to the root logger. The registers
    are used for nothing but counting, so a process works as before without its entry.
    """
    ours: dict[int, Any] = {}
    for process in processes:
        while process is not None and id(process) not in ours:
            ours[id(process)] = process
            process = process.parent_proc
    processes_of, vars_of = ProcessServer(), VarServer()
    gone = [p for p in processes_of.processes if id(p) in ours]
    processes_of.processes = [p for p in processes_of.processes if id(p) not in ours]
    vars_of.vars = [v for v in vars_of.vars if id(getattr(v, "process", None)) not in ours]
    for process in gone:
        _remove_handler(process._log_config)


def _remove_handler(config: Any) -> None:
    """Remove one handler that looks as those which a process with this log configuration adds."""
    root = logging.getLogger()
    for handler in reversed(root.handlers):
        form = handler.formatter
        if (
            type(handler) is logging.StreamHandler
            and handler.level == config.level_console
            and form is not None
            and (form._fmt, form.datefmt) == (config.format, config.date_format)
        ):
            root.removeHandler(handler)
            handler.close()
            return


def release_watchdog(manager: Any) -> None:
    """End the processes of Lava's watchdog, if there is one: its own stop waits for ports that may be blocked."""
    if getattr(manager, "_mp_manager", None) is None:
        return
    atexit.unregister(manager.stop)
    for monitor in (manager._lm, manager._sm):
        if monitor is not None and monitor.is_alive():
            monitor.kill()
            monitor.join()
    with suppress(OSError, EOFError):
        manager._mp_manager.shutdown()
    manager._mp_manager = None
