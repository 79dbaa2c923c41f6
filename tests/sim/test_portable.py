"""The kernels' intermediate representation that comes with the package: of the present text, for any processor."""

from __future__ import annotations

import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import portable
from nir_dynapse.sim.native import ahead, build, front, machine
from nir_dynapse.sim.native import play as native_play
from nir_dynapse.sim.native.names import PLAYED_ARRAYS

HAS_KERNELS = pytest.mark.skipif(os.name != "posix", reason="kernels are compiled on Linux and macOS")
LIBRARY = {"sqrtf", "malloc", "free", "memset", "madvise", "pthread_create", "pthread_join", "Py_FatalError"}


def test_it_is_of_the_present_text() -> None:
    assert not portable.stale(), "run tests/helpers/portable.py --write"


@pytest.mark.parametrize("what", ahead.WHATS)
def test_it_needs_the_c_library_and_blas_and_is_for_no_processor(what: str) -> None:
    text = build.portable(what, "float32")
    assert text is not None
    needed = set(re.findall(r"^declare [^@]*@([\w.]+)", text, re.MULTILINE))
    assert all(name in LIBRARY or name.startswith(("llvm.", "nir_dynapse_s")) for name in needed), needed
    assert "target " not in text
    assert not re.search(r"llvm\.x86|llvm\.aarch64", text)
    assert not re.search(r"inttoptr \(i64 \d", text), "an address of the process that wrote it"
    assert text.count(f"@{build.ENTRY}(") == 1


@HAS_KERNELS
def test_what_comes_with_the_package_is_compiled_without_numba(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from nir_dynapse.sim.native.build import compiled\n"
        "assert callable(compiled('play', 'float32'))\n"
        "assert 'jax' not in sys.modules\n"
        "try:\n    compiled('play', 'float64')\n"
        "except ImportError as error:\n    print(error)\n"
    )
    (tmp_path / "numba.py").write_text("raise ImportError('no Numba here')")
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("Numba cannot compile the kernels of play in float64")
    assert "no Numba here" in found.stdout


def test_another_text_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    source = build.source
    monkeypatch.setattr(build, "source", lambda what, name: source(what, name) + "\n")
    assert build.portable("play", "float32") is None


@HAS_KERNELS
def test_numba_writes_what_did_not_come_or_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older LLVM refuses the text of a newer one."""
    text = build.portable("play", "float32")
    assert text is not None
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(front, "made", lambda what, kind: asked.append((what, kind)) or text)
    usual = build.translated("play", "float32")
    assert not asked
    monkeypatch.setattr(build, "portable", lambda what, kind: text.replace("define ", "defyne ", 1))
    assert build.translated("play", "float32") == usual
    assert asked == [("play", "float32")]


@HAS_KERNELS
@pytest.mark.long
@pytest.mark.parametrize("what", ahead.WHATS)
def test_numba_writes_the_same_today(what: str) -> None:
    numba = pytest.importorskip("numba")
    kept = lzma.decompress((portable.FOLDER / f"{what}_float32.ll.xz").read_bytes()).decode()
    if f"; Numba {numba.__version__}, Python {sys.version_info[0]}.{sys.version_info[1]}\n" not in kept:
        pytest.skip("written by another Numba or Python")
    assert build.headed(what, "float32", front.made(what, "float32")) == kept


@HAS_KERNELS
def test_machine_code_does_not_depend_on_the_process() -> None:
    text = build.portable("play", "float32")
    assert text is not None
    assert machine.translated(text) == machine.translated(text)


def test_arrays_of_another_type_or_order_are_refused() -> None:
    arrays = [np.zeros((0,) * axes, kind) for kind, axes in PLAYED_ARRAYS.values()]
    called: list[int] = []
    native_play._call(lambda address: called.append(address) or 0, *arrays, 0, 1)
    assert len(called) == 1
    for wrong in (np.zeros((2, 2)), np.zeros(3, np.float32), np.zeros((4, 3), np.float32).T):
        with pytest.raises(TypeError, match=r"^c is float.* not float32 with 2 axes"):
            native_play._call(lambda address: 0, *arrays[:3], wrong, *arrays[4:], 0, 1)
    assert len(called) == 1
