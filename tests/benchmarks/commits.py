"""The package as it was at a commit, for comparisons in one run: a work tree of it in a temporary folder."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ROOT", "at", "environment"]

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def at(commit: str) -> Iterator[Path]:
    """The folder of a work tree of `commit`, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


def environment(tree: Path) -> dict[str, str]:
    """Variables with which Python imports the package of `tree` instead of the installed one, its byte code kept."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(tree)}
