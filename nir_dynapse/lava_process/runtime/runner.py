"""Runs a Lava process so that errors of workers arrive, nothing hangs, and nothing is left behind."""

from __future__ import annotations

import atexit
import multiprocessing
import weakref
from types import TracebackType
from typing import Any

from lava.magma.core.run_conditions import RunContinuous, RunSteps
from lava.magma.core.run_configs import RunConfig

from nir_dynapse.errors import LavaRunError, ParameterRangeError
from nir_dynapse.lava_process.runtime.guard import GuardedRuntime
from nir_dynapse.lava_process.runtime.run_config import DynapSE2SimCfg

__all__ = ["LavaRun"]

_live: weakref.WeakSet[GuardedRuntime] = weakref.WeakSet()
_registered = False


class LavaRun:
    """A Lava process and everything connected to it, compiled and running, as a context manager.

    `with LavaRun(process) as run: run(100)` computes 100 steps; the state stays for the next `run(...)`, and Vars and
    Monitors can be read between two of them. Leaving the block stops the workers, by force after an error.
    `run_cfg` chooses the models (default: DynapSE2SimCfg()), `compile_config` goes to Lava's compiler. `timeout` in s
    limits every call that waits for Lava (None: no limit).

    Every call raises LavaRunError where a worker has failed or died or the time is over, and KeyboardInterrupt on Ctrl-C;
    the run has ended then and no worker is left.
    """

    def __init__(
        self,
        process: Any,
        run_cfg: RunConfig | None = None,
        *,
        compile_config: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise ParameterRangeError(f"timeout = {timeout} s: it has to be above 0 s, or None for no limit")
        self._process = process
        self._run_cfg = run_cfg
        self._compile_config = compile_config
        self._timeout = timeout
        self._runtime: GuardedRuntime | None = None

    def start(self) -> LavaRun:
        """Compile and start the workers; `with` does it. Who calls this should call `stop`, or Python's exit will."""
        if self._runtime is not None:
            raise LavaRunError("this LavaRun has been started before: make a new one")
        if self._process.runtime is not None or self._process.is_compiled:
            raise LavaRunError(
                f"Lava process {self._process.name!r} has been compiled before, by another LavaRun, run() or "
                "create_runtime(), maybe in vain, and Lava compiles a process once only: make the processes anew"
            )
        if multiprocessing.get_start_method() != "fork":
            raise LavaRunError(
                f"multiprocessing is set to {multiprocessing.get_start_method()!r}, and Lava's workers need 'fork' "
                "(Linux and macOS have it). Do not set another start method after importing nir_dynapse.lava_process."
            )
        executable = self._process.compile(self._run_cfg or DynapSE2SimCfg(), self._compile_config)
        self._runtime = runtime = GuardedRuntime(self._process, executable, self._timeout)
        self._process.runtime = runtime
        executable.assign_runtime_to_all_processes(runtime)
        _end_at_exit(runtime)
        runtime.initialize()
        return self

    def __enter__(self) -> LavaRun:
        return self.start() if self._runtime is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        elif self._runtime is not None:
            self._runtime.abort()

    def __call__(self, steps: int | None, *, blocking: bool = True) -> None:
        """Compute `steps` time steps, or with None go on until `pause` or `stop` (without blocking).

        Without `blocking` it returns at once; then `wait` waits for the end of the steps.
        """
        if steps is None:
            return self.forever()
        if int(steps) != steps or steps < 1:
            raise ParameterRangeError(f"steps = {steps}: a whole number of at least 1 is needed, or None to run on")
        self._started().start(RunSteps(num_steps=int(steps), blocking=blocking))

    def forever(self) -> None:
        """Compute steps until `pause` or `stop`; returns at once."""
        self._started().start(RunContinuous())

    def wait(self) -> None:
        """Wait until the steps of a run that does not block are done."""
        self._started().wait()

    def pause(self) -> None:
        """Stop after the current step, so that Vars can be read and the next run goes on; no steps running: nothing."""
        self._started().pause()

    def stop(self) -> None:
        """End the workers, by force where Lava does not within some seconds; a second time: nothing."""
        if self._runtime is not None:
            self._runtime.stop()

    @property
    def running(self) -> bool:
        """Whether steps are being computed; False before `start` and after `stop`."""
        return self._runtime is not None and self._runtime.running

    def _started(self) -> GuardedRuntime:
        if self._runtime is None:
            raise LavaRunError("the Lava run has not been started: use `with LavaRun(...) as run`, or call start()")
        self._runtime.require_open()
        return self._runtime


def _end_at_exit(runtime: GuardedRuntime) -> None:
    """See to it that a run which nobody stops does not keep Python from exiting.

    Registered at the first start and therefore called before multiprocessing's own handler, which waits for workers.
    """
    global _registered
    if not _registered:
        atexit.register(_abort_all)
        _registered = True
    _live.add(runtime)


def _abort_all() -> None:
    for runtime in tuple(_live):
        runtime.abort()
