"""float64 in JAX for a while, by the name that its version has for it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax

__all__ = ["double_precision"]


def double_precision() -> AbstractContextManager[Any]:
    """In its block arrays are float64 unless told otherwise."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)  # pyright: ignore[reportAttributeAccessIssue]
    from jax.experimental import enable_x64

    return enable_x64()
