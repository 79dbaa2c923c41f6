"""Makes unmodified lava-nc 0.10.0 importable on Python 3.10 to 3.12, and says what to do where that cannot be.

Lava is archived: 0.10.0 is its last release, made for Python 3.10 and NumPy 1. On 3.11 and 3.12 it works after two
small repairs at import, which are undone right after it.
"""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from nir_dynapse.errors import LavaRunError, NotInstalledError

__all__ = ["make_importable"]

LAVA = "0.10.0"
# Both have to be imported under the repairs; whatever else Lava imports comes through as it is.
MODULES = ("lava.magma.compiler.var_model", "lava.magma.runtime.message_infrastructure.multiprocessing")
WITH_LAVA = 'use Python 3.10, where `pip install "nir-dynapse[lava]"` does it, or 3.11 or 3.12'


class LavaNotInstalledError(NotInstalledError, ImportError):
    """Lava cannot be imported. An ImportError too, because importing the package raises it and tools look for that."""


def make_importable() -> None:
    """Import the parts of Lava that fail on this Python as they are, so that every later `import lava...` works.

    Does nothing where they have been imported already. Raises NotInstalledError (an ImportError too) where lava-nc
    0.10.0 is missing or cannot work (Python 3.13 or newer, NumPy 2, another version of Lava), and LavaRunError where
    multiprocessing has been set to another start method than fork.
    """
    if all(name in sys.modules for name in MODULES):
        return
    _check_versions()
    _check_start_method()
    with _repaired():
        for name in MODULES:
            importlib.import_module(name)


def _check_versions() -> None:
    python = sys.version_info[:2]
    if python >= (3, 13):
        raise LavaNotInstalledError(
            f"lava-nc {LAVA} cannot run on Python {python[0]}.{python[1]}: it needs numpy < 2, which exists up to "
            f"Python 3.12. For Lava {WITH_LAVA}; everything else of nir_dynapse works here."
        )
    try:
        version = metadata.version("lava-nc")
    except metadata.PackageNotFoundError:
        raise LavaNotInstalledError(f"lava-nc is not installed. {_install(python)}") from None
    if version != LAVA:
        raise LavaNotInstalledError(
            f"lava-nc {version} is installed, but nir_dynapse runs lava-nc {LAVA} only, because it has to repair parts "
            f"of Lava that no version promises to keep. {_install(python)}"
        )
    numpy: Any = importlib.import_module("numpy")
    if int(numpy.__version__.split(".")[0]) >= 2:
        raise LavaNotInstalledError(
            f"numpy {numpy.__version__} is installed, but lava-nc {LAVA} needs numpy < 2: with a newer one some of "
            'Lava\'s models fail, which shows as a hang. Run `pip install "numpy>=1.26,<2"`.'
        )


def _install(python: tuple[int, ...]) -> str:
    """The lines that install Lava on this Python."""
    if python < (3, 11):
        return 'Run `pip install "nir-dynapse[lava]"`.'
    # Lava's own metadata forbids this Python, and --ignore-requires-python would apply to its dependencies too.
    return (
        'Run `pip install nir-dynapse "numpy>=1.26,<2" "networkx<=2.8.7" asteval scikit-learn`, then '
        f"`pip install --no-deps --ignore-requires-python lava-nc=={LAVA}`."
    )


def _check_start_method() -> None:
    method = multiprocessing.get_start_method(allow_none=True)
    if os.name == "posix" and method not in (None, "fork"):
        raise LavaRunError(
            f"Lava starts its workers with fork and sets that when it is imported, but multiprocessing has been set to "
            f"{method!r} already. Import nir_dynapse.lava_process before anything that sets the start method or makes "
            'queues, locks or pools of multiprocessing, or set it to "fork" there.'
        )


@contextmanager
def _repaired() -> Iterator[None]:
    """Within the block, `dataclass` and `set_start_method` take what Lava does to them at import."""
    make_dataclass: Callable[..., Any] = dataclasses.dataclass
    set_method: Callable[..., None] = multiprocessing.set_start_method

    def tolerant_dataclass(cls: Any = None, /, **options: Any) -> Any:
        def wrap(target: Any) -> Any:
            made = make_dataclass(target, **options)
            if made.__name__ == "ByteEncoder" and made.__hash__ is None:
                # Since 3.11 an unhashable default counts as mutable, and Lava gives ByteEncoder() as one.
                made.__hash__ = object.__hash__
            return made

        return wrap if cls is None else wrap(cls)

    def tolerant_set_method(method: str | None, force: bool = False) -> None:
        # Setting what is set already is an error of multiprocessing, also where a queue or lock has set it.
        if multiprocessing.get_start_method(allow_none=True) != method:
            set_method(method, force)

    if sys.version_info >= (3, 11):
        dataclasses.dataclass = tolerant_dataclass
    multiprocessing.set_start_method = tolerant_set_method  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        dataclasses.dataclass = make_dataclass
        multiprocessing.set_start_method = set_method  # pyright: ignore[reportAttributeAccessIssue]
