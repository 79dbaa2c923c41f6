"""Ctrl-C that always arrives, also where it falls into a callback whose exceptions Python drops."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["interruptible"]

AGAIN = 0.02
"""s until a dropped interrupt comes again: the callback is over by then."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Repeats interrupts that were dropped: JAX calls back in every garbage collection, which is often where they fall."""
    before = sys.unraisablehook

    def dropped(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        import threading

        timer = threading.Timer(AGAIN, _interrupt)
        timer.daemon = True
        timer.start()

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt() -> None:
    """Interrupts the main thread, also where it sleeps or waits."""
    import signal
    import threading

    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)
