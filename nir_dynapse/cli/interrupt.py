"""Ctrl-C and a request to end that always arrive, also where they fall into a callback whose exceptions Python drops."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Ended", "interruptible"]

AGAIN = 0.02
"""s until a dropped interrupt comes again: the callback is over by then."""
REQUESTS = ("SIGTERM", "SIGHUP")
"""Signals that end a process politely: of schedulers and shutdowns, of a terminal that closes."""


class Ended(KeyboardInterrupt):
    """One of `REQUESTS`, which ends what is done as Ctrl-C does: nothing temporary stays."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Repeats interrupts that were dropped: JAX calls back in every garbage collection, which is often where they fall.

    Requests to end become interrupts, unless somebody else handles them (nohup ignores SIGHUP).
    """
    import signal
    import threading

    before, handled = sys.unraisablehook, []

    def dropped(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        number = getattr(unraisable.exc_value, "number", signal.SIGINT)
        timer = threading.Timer(AGAIN, _interrupt, (number,))
        timer.daemon = True
        timer.start()

    def end(number: int, frame: Any) -> None:
        raise Ended(number)

    sys.unraisablehook = dropped
    try:
        if threading.current_thread() is threading.main_thread():
            for name in REQUESTS:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, end)
                    handled.append(number)
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        sys.unraisablehook = before


def _interrupt(number: int) -> None:
    """Interrupts the main thread, also where it sleeps or waits."""
    import signal
    import threading

    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)
