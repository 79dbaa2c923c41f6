"""Arrays that are computed once per machine: kept in the user's cache under a name made of all that they depend on."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from nir_dynapse.errors import ConfigurationError
from nir_dynapse.files.bounds import UnreadableError, read_arrays
from nir_dynapse.files.kept import cache_folder, is_writable, processor
from nir_dynapse.files.whole import write_arrays

__all__ = ["kept_arrays"]

MOST = 8
"""Files of a name: those that were written last."""


def kept_arrays(name: str, said: str, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `compute` makes of what is `said` in words, bit for bit, from the cache where it is there.

    The file's name is a hash of `said`, of all Python text and tables of this package, of Python, NumPy and SciPy, and of
    the processor: whoever changes anything gets a new one. Where nothing can be kept it is computed each time.
    """
    folder = cache_folder() / name
    path = folder / f"{hashlib.sha256(f'{said} {_surroundings()}'.encode()).hexdigest()[:32]}.npz"
    with suppress(OSError, UnreadableError):
        return read_arrays(path)
    made = dict(compute())
    if is_writable(folder):
        with suppress(ConfigurationError):  # a full disk
            write_arrays(path, **made)
        with suppress(OSError):
            for old in sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)[:-MOST]:
                old.unlink()
    return made


@cache
def _surroundings() -> str:
    """What results depend on beside their inputs."""
    package, found = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(file for end in ("py", "csv") for file in package.rglob(f"*.{end}")):
        found.update(f"{path.relative_to(package)} ".encode() + path.read_bytes())
    versions = " ".join(version(package) for package in ("numpy", "scipy"))
    return f"{found.hexdigest()} {sys.version} {platform.machine()} {processor()} {versions}"
