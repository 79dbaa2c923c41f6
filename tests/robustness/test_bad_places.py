"""Every verb that writes, at every kind of place where it cannot: what it says, and that nothing changes there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bad_places
from bad_places import SITUATIONS, VERBS, target_of

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform == "win32", reason="users and pipes of POSIX")]
MOUNTED = ("full disk", "read-only disk")
MOUNT = ("unshare", "-m")
WORDS = {
    "full disk": "cannot be written (No space left on device). Make room on the disk, or choose another one",
    "read-only disk": "cannot be written (Read-only file system). Choose ",
    "no folder": "there is no folder",
    "file for a folder": "folder",
    "target is a folder": "is a folder. Choose another name",
    "target is a pipe": "is no ordinary file, and would be replaced by one. Choose",
    "foreign folder": "cannot be written (Permission denied). Choose ",
    "foreign file": "cannot be written (Permission denied). Choose ",
}


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        words = [*MOUNT, "mount", "-t", "tmpfs", "tmpfs", folder]
        return subprocess.run(words, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, dict[str, Any]]]:
    """What came of every verb in every situation, in one process of its own."""
    mount = can_mount()
    situations = [name for name in SITUATIONS if mount or name not in MOUNTED]
    with tempfile.TemporaryDirectory() as place:  # not below a folder that only root may enter
        Path(place).chmod(0o755)
        (Path(place) / "work").mkdir()
        words = [*(MOUNT if mount else ()), sys.executable, bad_places.__file__, f"{place}/work", *situations]
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{place}/xla", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        run = subprocess.run(words, capture_output=True, text=True, timeout=600, env={**os.environ, **cache})
        assert run.returncode == 0, run.stderr
        yield json.loads(run.stdout)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_cannot_be_written(situation: str, found: dict[str, dict[str, Any]]) -> None:
    outcomes = {verb: found[key] for verb in VERBS if (key := f"{verb}, {situation}") in found}
    if not outcomes and situation in MOUNTED:
        pytest.skip("only root may mount a disk here")
    assert len(outcomes) >= len(VERBS) - 1
    for verb, outcome in outcomes.items():
        said = outcome["said"]
        assert outcome["code"] == 1, (verb, said)
        assert not outcome["changed"], (verb, said)
        assert WORDS[situation] in said, (verb, said)
        assert said.startswith("nir-dynapse: "), verb
        assert said.count("\n") == 1, verb
        name = target_of(VERBS[verb]) if "folder '" not in said else "place"
        assert name.partition("/")[0] in said, (verb, said)


def test_the_same_at_a_good_place(found: dict[str, dict[str, Any]]) -> None:
    assert [
        (verb, found[f"{verb}, good place"]["said"]) for verb in VERBS if found[f"{verb}, good place"]["code"]
    ] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("argv", [("show", "device"), ("show", "device", "--json")])
def test_the_output_on_a_full_disk(argv: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "nir_dynapse", *argv]
        run = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert run.returncode == 1
    assert (
        run.stderr == "nir-dynapse: the output: cannot be read or written (No space left on device). Check the disk.\n"
    )
