"""Places of files: what is written must overwrite neither what is read nor anything else that is written."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nir_dynapse.errors import ConfigurationError

__all__ = ["check_apart"]

Places = Mapping[str, "str | os.PathLike[str] | None"]


def check_apart(written: Places, read: Places) -> None:
    """ConfigurationError where a file of `written` is one of `read`, or another of `written`, also by another name.

    Both map what a file is called by the user ("-o", "--params", "MODEL.nir") to its path; None: there is none.
    """
    outputs = [(what, os.fspath(path)) for what, path in written.items() if path is not None]
    inputs = [(what, os.fspath(path)) for what, path in read.items() if path is not None]
    for k, (what, path) in enumerate(outputs):
        for other, source in inputs:
            if _same(path, source):
                also = "" if path == source else f", by another name: '{source}'"
                raise ConfigurationError(
                    f"'{path}' ({what}) would overwrite {other}, which is read{also}. Give another name."
                )
        for other, place in outputs[:k]:
            if _same(path, place):
                also = "" if path == place else f" ('{place}' is the same file)"
                raise ConfigurationError(f"'{path}' is to be both {other} and {what}{also}. Give two names.")


def _same(a: str, b: str) -> bool:
    """Whether two paths are one file: links followed, hard links and other spellings of a name told by the system."""
    try:
        return os.path.realpath(a) == os.path.realpath(b) or (
            os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)
        )
    except (OSError, ValueError):  # ValueError: a name that no file can have; who opens it says so
        return a == b
