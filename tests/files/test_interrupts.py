"""An interrupt at any instruction of the writers of files: nothing half, nothing temporary, never files of two runs."""

from __future__ import annotations

import contextlib
import dis
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nir_dynapse.files import whole as files
from nir_dynapse.files.whole import locked, whole_files, write_atomically

OLD, NEW = b"what was there before", b"new"
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""What was open is closed late."""
WATCHED = (files.__file__, contextlib.__file__)


def interrupted_everywhere(act: Callable[[], None], check: Callable[[bool], None]) -> int:
    """Runs `act` with an interrupt at its first instruction, at its second …; after each `check(whether one came)`."""
    number, left = 0, 0

    def trace(frame: Any, event: str, what: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in WATCHED:
            return None
        frame.f_trace_opcodes = True
        # A `try` by itself is a NOP outside of its block; Python looks for signals at calls and jumps, not there.
        if event == "opcode" and frame.f_code.co_code[frame.f_lasti] != dis.opmap["NOP"]:
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    while left <= 0:
        number += 1
        left, came, before = number, False, sys.gettrace()
        sys.settrace(trace)
        try:
            act()
        except KeyboardInterrupt:
            came = True
        finally:
            sys.settrace(before)
        check(came)
    return number


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "it"

    def check(came: bool) -> None:
        assert names(tmp_path) == ["it"]
        assert path.read_bytes() == NEW or (came and path.read_bytes() == OLD)
        path.write_bytes(OLD)

    path.write_bytes(OLD)
    assert interrupted_everywhere(lambda: write_atomically(path, NEW), check) > 400


@pytest.mark.parametrize("new", [False, True])
def test_several_files(new: bool, tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def act() -> None:
        with whole_files(folder, ("a", "b")) as staging:
            (staging / "a").write_bytes(NEW)
            (staging / "b").write_bytes(NEW)

    def fresh() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if not new:
            folder.mkdir()
            for name in ("a", "b"):
                (folder / name).write_bytes(OLD)

    def check(came: bool) -> None:
        if folder.exists():
            assert names(folder) == ["a", "b"]
            found = {path.read_bytes() for path in folder.iterdir()}
            assert found == {NEW} or (came and found == {OLD})
        else:
            assert came
            assert new
        fresh()

    fresh()
    assert interrupted_everywhere(act, check) > 600


def test_a_lock(tmp_path: Path) -> None:
    def act() -> None:
        with locked(tmp_path / "c.npz"):
            assert names(tmp_path) == [".c.npz.lock"]

    def check(came: bool) -> None:
        assert names(tmp_path) == []

    assert interrupted_everywhere(act, check) > 300
