"""Vars and shapes of ports that say what is wrong, where Lava says nothing or not what it is about."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

from nir_dynapse.errors import ConfigurationError, ParameterRangeError

__all__ = ["CheckedVar", "PortShape", "ask_reset"]


class PortShape(tuple):
    """A shape that says in Lava's message about incompatible ones what the port is for."""

    meaning: str

    def __new__(cls, shape: tuple[int, ...], meaning: str) -> PortShape:
        made = super().__new__(cls, shape)
        made.meaning = meaning
        return made

    def __str__(self) -> str:
        return f"{tuple(self)} ({self.meaning})"

    def __format__(self, spec: str) -> str:
        return str(self)


class CheckedVar(Var):
    """A Var that refuses values of a wrong shape, below `lowest` or not finite, and access while the network runs.

    Lava itself returns None for what is asked while a network runs, and ignores what is set.
    """

    def __init__(self, *, shape: tuple[int, ...], init: Any, lowest: float) -> None:
        super().__init__(shape=shape, init=init)
        self.lowest = lowest

    def set(self, value: Any, idx: Any = None) -> None:
        """Set it while the network is paused; errors as above."""
        self._paused("set")
        value = np.asarray(value, float)
        if value.shape != self.shape:
            raise ConfigurationError(
                f"{self.name} is set to an array of shape {value.shape}, it has shape {tuple(self.shape)}. Give one value "
                "for each."
            )
        if not np.isfinite(value).all() or (value < self.lowest).any():
            least = "positive" if self.lowest else "not negative"
            raise ParameterRangeError(
                f"{self.name} is set to {value.min():g} … {value.max():g}; it must be finite and {least}. Give other "
                "values."
            )
        super().set(value, idx)

    def get(self, idx: Any = None) -> Any:
        """Its value while the network is paused (ConfigurationError while it runs)."""
        self._paused("read")
        return super().get(idx)

    def _paused(self, what: str) -> None:
        runtime: Any = self.process.runtime if self.aliased_var is None else None
        if runtime is not None and _runs(runtime):
            raise ConfigurationError(
                f"{self.name} cannot be {what} while the network runs. Call pause() or wait() first."
            )


def _runs(runtime: Any) -> bool:
    """Whether steps are computed; Lava's own runtime does not notice by itself that they are done."""
    return getattr(runtime, "running", runtime._is_running)


def ask_reset(process: AbstractProcess, *names: str) -> None:
    """Set the Vars `names` to 1; before the first run everything is silent anyway."""
    runtime: Any = process.runtime
    if runtime is None or not runtime._is_started:
        return
    if _runs(runtime):
        raise ConfigurationError("the network runs and cannot be reset. Call pause() or wait() first.")
    for name in names:
        getattr(process, name).set(np.ones(1))
