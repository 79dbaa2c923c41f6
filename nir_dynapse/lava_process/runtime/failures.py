"""Says in the user's words why the workers of a Lava run ended."""

from __future__ import annotations

import signal
from collections.abc import Iterable

from nir_dynapse.errors import LavaRunError
from nir_dynapse.lava_process.runtime.workers import Worker

__all__ = ["WorkerTraceback", "explain", "is_gone", "overdue"]


class WorkerTraceback(Exception):
    """Shows a worker's traceback above the error that it caused."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def is_gone(worker: Worker, stopping: bool) -> bool:
    """Whether a worker has failed or ended; once the network has been told to stop, a normal end is none."""
    if worker.failure is not None:
        return True
    return not worker.is_alive() and (worker.exitcode != 0 or not stopping)


def explain(workers: Iterable[Worker]) -> LavaRunError:
    """The error for workers of which at least one is gone; the first failure comes first."""
    workers = tuple(workers)
    failed = sorted((w.failure, w.label) for w in workers if w.failure is not None)
    if failed:
        what = "; ".join(f"{label} failed {_when(failure.step)}: {failure.what}" for failure, label in failed)
        return LavaRunError(what, traceback="\n".join(failure.traceback for failure, _ in failed))
    # A normal end (0) can only be a consequence of something else.
    dead = "; ".join(_say_death(w.label, w.exitcode) for w in workers if w.exitcode)
    return LavaRunError(dead or "Lava's workers ended before they were stopped")


def _when(step: int | None) -> str:
    return f"in step {step}" if step else "before its first step"


def _say_death(label: str, code: int) -> str:
    if code > 0:
        return f"the worker of {label} ended with exit code {code}"
    name = next((s.name for s in signal.Signals if s == -code), "unknown")
    hint = " (often because the machine ran out of memory)" if name == "SIGKILL" else ""
    return f"the worker of {label} was killed by signal {-code}, {name}{hint}"


def overdue(limit: float) -> LavaRunError:
    """The error for an answer that did not come within `limit` s."""
    return LavaRunError(
        f"Lava did not answer within timeout = {limit:g} s, so the run has been ended. Give a larger timeout (a step takes "
        "about 0.3 ms per process), or look for processes that wait for each other, as a loop without a Dense does."
    )
