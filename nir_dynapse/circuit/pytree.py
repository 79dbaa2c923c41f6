"""A dataclass that JAX takes for a PyTree, without waiting for JAX where nobody uses it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TypeVar

__all__ = ["pytree"]

PLACE = "jax.tree_util"
"""Where JAX registers dataclasses; imported whenever JAX is."""

T = TypeVar("T", bound=type)


def pytree(kind: T) -> T:
    """Decorator: registers the dataclass `kind` with JAX, now where JAX is loaded, else as soon as it is.

    Fields with the metadata {"static": True} are static, as of `jax.tree_util.register_dataclass`.
    """
    if PLACE in sys.modules:
        sys.modules[PLACE].register_dataclass(kind)
    else:
        sys.meta_path.insert(0, _WhenLoaded(kind))
    return kind


class _WhenLoaded(MetaPathFinder):
    """Leaves finding modules to others; after the first import of `PLACE` it registers `kind` there and is gone."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != PLACE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: ModuleType) -> None:
                load(module)
                module.register_dataclass(self.kind)

            spec.loader.exec_module = load_and_register
        return spec
