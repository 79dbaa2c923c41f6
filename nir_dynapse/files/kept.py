"""The user's cache: a folder for what is computed once per machine and can be computed again."""

from __future__ import annotations

import os
import platform
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["cache_folder", "is_writable", "processor"]


def cache_folder() -> Path:
    """`nir_dynapse` in NUMBA_CACHE_DIR, XDG_CACHE_HOME or ~/.cache, whichever is set first; it need not exist."""
    given = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "nir_dynapse"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / "nir_dynapse"


def is_writable(folder: Path) -> bool:
    """Whether files can be written there; makes the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def processor() -> str:
    """The processor's name and features, on Linux."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        wanted = ("model name", "flags", "Features", "CPU part")
        return "".join(sorted({line for line in lines if line.startswith(wanted)}))
    return platform.processor()
