"""Where runs of circuits are computed: asked without loading JAX to find out."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec

__all__ = ["available", "nothing_else"]

ELSEWHERE = ("jax_plugins", "libtpu")
"""Packages by which JAX finds other devices, as folders of plugins and as TPUs."""
CHOICES = ("JAX_PLATFORM_NAME", "PJRT_NAMES_AND_LIBRARY_PATHS", "TPU_LIBRARY_PATH")
"""Variables by which JAX is told of them, beside JAX_PLATFORMS."""


def available() -> bool:
    """Whether runs of circuits are those of `play`: where JAX would compute on CPUs.

    JAX is asked where it is loaded, or where something may lead it to other devices.
    """
    if "jax" not in sys.modules and nothing_else():
        return True
    import jax

    return jax.default_backend() == "cpu"


def nothing_else() -> bool:
    """Whether JAX, not loaded yet, can only choose CPUs: by the environment, or as nothing else is installed."""
    if any(os.environ.get(name) for name in CHOICES):
        return False
    first = os.environ.get("JAX_PLATFORMS", "").split(",")[0]
    return first == "cpu" if first else not _plugins()


@cache
def _plugins() -> bool:
    return any(find_spec(name) is not None for name in ELSEWHERE) or bool(entry_points(group="jax_plugins"))
