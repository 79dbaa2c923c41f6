"""Kernels are compiled ahead of their use in processes of their own, on which nothing depends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nir_dynapse.sim.native import ahead, build

HAS_KERNELS = pytest.mark.skipif(os.name != "posix", reason="kernels are compiled on Linux and macOS")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, two CPUs, JAX on CPUs, and no process yet."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(ahead, "cpus", lambda: 2)
    monkeypatch.setattr(ahead, "_children", {})
    yield tmp_path / "nir_dynapse"
    ahead._end()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that processes were started for; the processes do nothing, and fail."""
    found: list[str] = []
    real = subprocess.Popen

    def begin(command: list[str], **keywords: Any) -> Any:
        found.append(" ".join(command[3:5]))
        return real([sys.executable, "-c", "raise SystemExit(1)"], **keywords)

    monkeypatch.setattr(subprocess, "Popen", begin)
    return found


def keep(what: str, code: bytes = b"") -> None:
    """A file where the machine code of a call is looked for."""
    path = ahead.place(what, "float32")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(code)


@HAS_KERNELS
def test_threads_that_want_the_same_kernel_start_one_process(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(4)
    built = ahead.is_built

    def slowly(what: str, kind: str) -> bool:
        time.sleep(0.01)  # all threads look before one of them has started it
        return built(what, kind)

    def want() -> None:
        together.wait()
        ahead.start("play")

    monkeypatch.setattr(ahead, "is_built", slowly)
    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert started == ["play float32"]


@HAS_KERNELS
def test_a_process_for_each_kernel_that_is_not_there(started: list[str]) -> None:
    keep("run")
    for _ in range(2):
        ahead.start("run", "back")
        ahead.start("play", "play_all", "back", kind="float64")
    assert started == ["back float32", "back float64", "play play_all float64"]
    assert ahead.built() == ("run float32",)


@pytest.mark.parametrize("case", ["one CPU", "another platform", "no compiler", "a cache that cannot be written"])
def test_none_where_it_would_not_help(
    case: str, started: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "one CPU":
        monkeypatch.setattr(ahead, "cpus", lambda: 1)
    elif case == "another platform":
        monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    elif case == "no compiler":
        monkeypatch.setattr(ahead, "find_spec", lambda name: None)
    else:
        place.write_text("in the way")
    ahead.start("run", "back")
    assert not started


@HAS_KERNELS
def test_where_the_process_fails_the_kernel_is_compiled_here(
    started: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(build.LOG, "warning", lambda text, *values: said.append(text % values))
    monkeypatch.setattr(build, "translated", lambda what, name: f"{what} {name}".encode())
    ahead.start("run")
    assert build.prepared("run", "float32") == b"run float32"
    assert started == ["run float32"]
    assert len(said) == 1
    assert "once" in said[0]
    assert ahead.is_built("run", "float32")
    monkeypatch.delattr(build, "translated")
    assert build.prepared("run", "float32") == b"run float32"
    assert len(said) == 1


def test_a_cache_of_somebody_else_holds_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refused)
    assert ahead.built() == ()
    assert not ahead.is_built("run", "float32")


def test_without_a_cache_kernels_are_compiled_for_the_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write_text("in the way")
    monkeypatch.setattr(build, "translated", lambda what, name: b"made")
    assert build.prepared("run", "float32") == b"made"
    assert not ahead.is_built("run", "float32")


@HAS_KERNELS
def test_one_process_compiles_while_others_wait(place: Path) -> None:
    code = (
        "import time\n"
        "from nir_dynapse.sim.native import build\n"
        "def translated(what, name):\n"
        "    time.sleep(1)\n"
        "    return str(time.monotonic()).encode()\n"
        "build.translated = translated\n"
        "print(build.prepared('run', 'float32').decode())\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    first, second = (process.communicate(timeout=60)[0] for process in both)
    assert float(first) > 0
    assert first == second  # the one that waited has what the other one made


@HAS_KERNELS
def test_the_process_leaves_the_kernel_in_the_cache(place: Path) -> None:
    ahead.start("play")
    ahead.wait("play", "float32")
    assert ahead.built() == ("play float32",)
    assert ahead.place("play", "float32").parent == place / "kernels"
    assert build._compiled.__wrapped__("play", "float32")
