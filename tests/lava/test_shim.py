"""make_importable: what it says where Lava cannot work, and that it leaves nothing changed where it can."""

from __future__ import annotations

import dataclasses
import importlib.util
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from nir_dynapse.errors import LavaRunError, NotInstalledError
from places import PACKAGE

SHIM = PACKAGE / "lava_process" / "runtime" / "shim.py"
HAS_LAVA = importlib.util.find_spec("lava") is not None


@pytest.fixture
def shim(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, taken from its file because its package imports Lava, on a Python 3.10 where Lava would work."""
    spec = importlib.util.spec_from_file_location("shim_alone", SHIM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "MODULES", ("shim_alone_target",))
    on_python(module, 3, 10)
    monkeypatch.setattr(metadata, "version", {"lava-nc": "0.10.0"}.__getitem__)
    monkeypatch.setattr(np, "__version__", "1.26.4")
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: None)
    return module


def on_python(shim: ModuleType, *version: int) -> None:
    shim.sys = SimpleNamespace(version_info=version, modules=sys.modules)  # pyright: ignore[reportAttributeAccessIssue]


def missing(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("python", "installed", "numpy", "words"),
    [
        ((3, 10, 13), missing, "1.26.4", ['pip install "nir-dynapse[lava]"']),
        (
            (3, 11, 7),
            missing,
            "2.4.0",
            ['"numpy>=1.26,<2" "networkx<=2.8.7"', "--ignore-requires-python lava-nc==0.10.0"],
        ),
        ((3, 13, 0), missing, "2.4.0", ["Python 3.13", "numpy < 2", "Python 3.10", "3.12"]),
        ((3, 10, 13), {"lava-nc": "0.9.0"}.__getitem__, "1.26.4", ["lava-nc 0.9.0", "0.10.0", "pip install"]),
        (
            (3, 12, 1),
            {"lava-nc": "0.10.0"}.__getitem__,
            "2.4.6",
            ["numpy 2.4.6", "numpy < 2", "hang", '"numpy>=1.26,<2"'],
        ),
    ],
)
def test_it_says_what_is_missing(
    shim: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    python: tuple[int, ...],
    installed: Callable[[str], str],
    numpy: str,
    words: list[str],
) -> None:
    on_python(shim, *python)
    monkeypatch.setattr(metadata, "version", installed)
    monkeypatch.setattr(np, "__version__", numpy)
    with pytest.raises(NotInstalledError) as caught:
        shim.make_importable()
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert isinstance(caught.value, ImportError)  # pkgutil.walk_packages and importorskip go on after that only


def test_another_start_method_is_explained(shim: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "spawn")
    with pytest.raises(LavaRunError, match=r"'spawn'.*Import nir_dynapse\.lava_process before"):
        shim.make_importable()


@pytest.mark.parametrize("python", [(3, 10, 13), (3, 11, 7)])
def test_the_repairs_are_undone(
    shim: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, python: tuple[int, ...]
) -> None:
    """A module that fails at import, in the two ways of Lava's and then for a reason of its own."""
    (tmp_path / "shim_alone_target.py").write_text(
        textwrap.dedent(
            """
            import dataclasses, multiprocessing
            multiprocessing.set_start_method("fork")
            @dataclasses.dataclass
            class ByteEncoder: x: int = 0
            @dataclasses.dataclass(frozen=False)
            class CoreEncoder: x: ByteEncoder = ByteEncoder()
            1 / 0
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "fork")
    on_python(shim, *(python if sys.version_info < (3, 11) else (3, 11, 7)))
    before = dataclasses.dataclass, multiprocessing.set_start_method
    with pytest.raises(ZeroDivisionError):
        shim.make_importable()
    assert (dataclasses.dataclass, multiprocessing.set_start_method) == before


REAL = """
import dataclasses, multiprocessing, sys
lock = multiprocessing.Lock()  # sets the start method, as multiprocessing sees it
before = dataclasses.dataclass, multiprocessing.set_start_method
import nir_dynapse.lava_process
from nir_dynapse.lava_process.runtime.shim import make_importable
import lava.magma.compiler.var_model as target
make_importable()
assert (dataclasses.dataclass, multiprocessing.set_start_method) == before
assert target.CoreEncoder() and "numba" not in sys.modules
import lava.proc.lif.process
print("fine")
"""


@pytest.mark.skipif(not HAS_LAVA, reason="lava-nc is not installed")
def test_lava_can_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(REAL)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
