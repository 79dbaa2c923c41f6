"""JAX's programs are kept on disk: XLA compiles each once per machine, in whatever process it is needed first.

Loaded with whatever of `sim` loads JAX, before a program is compiled. What the user has set for JAX's persistent cache, by
a variable or in `jax.config`, stays; and nobody needs the cache: where it cannot be written, programs are compiled anew.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from nir_dynapse.files.kept import cache_folder, is_writable

__all__ = ["FOLDER", "LIMIT", "held", "keep", "trim"]

FOLDER = "jax"
LIMIT = 1 << 28
"""Bytes of all programs together: a command's are about 1 MB, so those of some 200 networks. The bound of JAX itself locks
and reads the whole folder at every program, and needs a package that we do not."""
SECONDS = "jax_persistent_cache_min_compile_time_secs"
USUAL_SECONDS = 1.0
"""What JAX has there unless it is set. Most programs of ours are small: they take less, but there are many."""


def keep() -> None:
    """Set JAX's persistent cache to a folder beside the kernels, unless the user has set or switched it off."""
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    folder = cache_folder() / FOLDER
    if not is_writable(folder):
        return
    if config.jax_compilation_cache_max_size == -1:
        trim(folder, LIMIT)
    if SECONDS.upper() not in os.environ and getattr(config, SECONDS) == USUAL_SECONDS:
        config.update(SECONDS, 0.0)
    config.update("jax_compilation_cache_dir", str(folder))


def trim(folder: Path, limit: int) -> None:
    """Remove the programs that were not used for longest (as far as the disk notes it), down to half of `limit` bytes,
    where they are more than that; and what a killed process left empty.
    """
    found = _files(folder)
    total = sum(size for _, size, _ in found)
    goal = limit if total <= limit else limit // 2
    for _, size, path in sorted(found):
        if total > goal or not size:
            with suppress(OSError):
                os.unlink(path)
            total -= size


def _files(folder: Path) -> list[tuple[float, int, str]]:
    """When each file was last used, its bytes and its path."""
    found: list[tuple[float, int, str]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_file():
                    known = entry.stat()
                    found.append((max(known.st_atime, known.st_mtime), known.st_size, entry.path))
    return found


def held() -> tuple[str | None, int, int]:
    """Where JAX keeps its programs (None: nowhere), how many there are, and their bytes."""
    config: Any = jax.config
    folder = config.jax_compilation_cache_dir
    if not folder or not config.jax_enable_compilation_cache:
        return None, 0, 0
    sizes = [size for _, size, path in _files(Path(folder)) if not path.endswith("-atime")]
    return folder, len(sizes), sum(sizes)


keep()
