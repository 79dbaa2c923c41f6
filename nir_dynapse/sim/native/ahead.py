"""Kernels compiled ahead of their use, side by side, in processes that fill the cache on disk.

No compiler and no JAX here, so that a command can start this before it loads any. Nothing depends on these processes: what
one of them did not finish is compiled where it is needed.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from nir_dynapse.files.kept import cache_folder, is_writable, processor
from nir_dynapse.sim.native.here import nothing_else

try:
    import fcntl
except ImportError:  # Windows, where nothing is compiled
    fcntl = None

__all__ = ["KINDS", "WHATS", "built", "cpus", "is_built", "is_running", "place", "start", "turn", "wait"]

WHATS = {"play": 1.2, "play_all": 2.1, "run": 1.5, "back": 4.3}
"""Calls of kernels: a run from NumPy, with all that few runs ask for, XLA's run and its adjoint (`build.source`); and the
CPU seconds that compiling each takes, about, from the IR that comes with the package."""
PARTS = ("*.py", "kernels/*.py", "kernels/*.ll", "portable/*.xz")
"""Files that are compiled, or compile."""
KINDS = ("float32", "float64")
CHILD = (
    "import gc, sys; sys.path[:] = sys.argv[3:]; gc.disable(); "  # a tenth of the time
    "from nir_dynapse.sim.native.build import prepared; "
    "[prepared(what, sys.argv[2]) for what in sys.argv[1].split()]"
)
_children: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
_starting = threading.Lock()


@cache
def cpus() -> int:
    """CPUs of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def stamp() -> str:
    """A name for what compiled kernels depend on: their text, the compilers, Python, and the processor."""
    here = Path(__file__).parent
    formulas = [here.parent / f"{name}.py" for name in ("derivatives", "dynamics")]
    found = hashlib.sha256()
    for path in [*(path for part in PARTS for path in sorted(here.glob(part))), *formulas]:
        found.update(path.read_bytes())
    for name in ("llvmlite", "numba"):
        compiler = find_spec(name)
        if compiler is not None and compiler.origin is not None:
            with suppress(OSError):
                found.update((Path(compiler.origin).parent / "_version.py").read_bytes())
    found.update(f"{sys.version_info[:2]} {platform.machine()} {processor()}".encode())
    return found.hexdigest()[:16]


def place(what: str, kind: str) -> Path:
    """Where the machine code of a call is kept on this machine."""
    return cache_folder() / "kernels" / f"{what}_{kind}_{stamp()}.o"


def is_built(what: str, kind: str) -> bool:
    """Whether the kernel has been compiled on this machine, into the cache; no where that may not be looked into."""
    try:
        return place(what, kind).is_file()
    except OSError:
        return False


def built() -> tuple[str, ...]:
    """The kernels that are compiled on this machine: "play float32", …"""
    return tuple(f"{what} {kind}" for kind in KINDS for what in WHATS if is_built(what, kind))


def start(*whats: str, kind: str = "float32") -> None:
    """Compile kernels that are not in the cache in processes beside this one, where there are CPUs for that."""
    with _starting:  # threads that want the same kernel start one process
        _start(whats, kind)


def _start(whats: tuple[str, ...], kind: str) -> None:
    wanted = [what for what in whats if (what, kind) not in _children and not is_built(what, kind)]
    if not wanted or cpus() < 2 or not _possible() or not is_writable(cache_folder()):
        return
    for share in _shares(wanted, cpus()):
        command = [sys.executable, "-c", CHILD, " ".join(share), kind, *(path or os.getcwd() for path in sys.path)]
        nothing = subprocess.DEVNULL
        with suppress(OSError):
            child = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
            _children.update({(what, kind): child for what in share})


def _shares(whats: list[str], most: int) -> list[list[str]]:
    """What each of at most so many processes compiles, one after the other, so that all end at about the same time."""
    shares: list[list[str]] = [[] for _ in range(min(most, len(whats)))]
    for what in sorted(whats, key=lambda what: -WHATS[what]):
        min(shares, key=lambda share: sum(WHATS[w] for w in share)).append(what)
    return [sorted(share, key=list(WHATS).index) for share in shares]


def _possible() -> bool:
    """Whether kernels would be used here, as far as that is known before JAX is loaded."""
    if os.name != "posix" or not sys.executable or find_spec("llvmlite") is None:
        return False
    return nothing_else()


def is_running(what: str, kind: str) -> bool:
    """Whether a process compiles this kernel now, for this one."""
    child = _children.get((what, kind))
    return child is not None and child.poll() is None


def wait(what: str, kind: str) -> None:
    """Until the process that compiles this kernel has done so or has ended, if there is one."""
    child = _children.get((what, kind))
    while child is not None and child.poll() is None and not is_built(what, kind):
        time.sleep(0.02)


@contextmanager
def turn(what: str, kind: str) -> Iterator[None]:
    """While a kernel is compiled: other processes that want the same one wait, and find it in the cache."""
    path = place(what, kind).with_suffix(".lock")
    if fcntl is None or not is_writable(path.parent):
        yield
        return
    with open(path, "wb") as lock:
        with suppress(OSError):  # a disk without locks: everybody compiles
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@atexit.register
def _end() -> None:
    """Nothing is compiled for a command that has ended."""
    for child in _children.values():
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)  # and those that it started
            child.wait()
