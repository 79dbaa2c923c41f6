"""What importing the package loads, and that PyPI's samna placeholder is never executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PLACEHOLDER = """
PYPI_SAMNA = True
import pathlib
pathlib.Path(r"{trace}").write_text("pip would run now")
"""
EVERYTHING = """
import importlib, json, pkgutil, sys
import nir_dynapse
def load(package):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name != "nir_dynapse.lava_process" and not module.name.endswith("__main__"):  # that one loads Lava
            loaded = importlib.import_module(module.name)
            if module.ispkg:
                load(loaded)
load(nir_dynapse)
for name in nir_dynapse.__all__:
    getattr(nir_dynapse, name)
"""


def run_python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture
def placeholder(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with a module samna like PyPI's, and the file that it writes when it is executed."""
    trace, package = tmp_path / "executed", tmp_path / "site" / "samna"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PLACEHOLDER.format(trace=trace))
    return tmp_path / "site", trace


def test_import_is_light() -> None:
    result = run_python("import json, sys, nir_dynapse; print(json.dumps(sorted(sys.modules)))")
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert not loaded & {"samna", "lava", "torch", "matplotlib", "jax", "numpy", "nir", "rich"}


def test_using_everything_loads_nothing_forbidden() -> None:
    result = run_python(EVERYTHING + "print(json.dumps(sorted(sys.modules)))")
    assert result.returncode == 0, result.stderr
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert not loaded & {"samna", "lava", "torch", "matplotlib"}


def test_placeholder_is_never_executed(placeholder: tuple[Path, Path]) -> None:
    site, trace = placeholder
    code = EVERYTHING + "from nir_dynapse.cli.main import main; sys.exit(main(['doctor']))"
    result = run_python(code, site)
    assert result.returncode == 0, result.stderr
    assert "placeholder" in result.stdout
    assert str(site) in result.stdout
    assert "SynSense" in result.stdout
    assert not trace.exists()


def test_placeholder_is_no_board(placeholder: tuple[Path, Path]) -> None:
    site, trace = placeholder
    result = run_python("import nir_dynapse; nir_dynapse.open_board('samna')", site)
    assert result.returncode == 1
    assert "NotInstalledError" in result.stderr
    assert "pip uninstall samna" in result.stderr
    assert not trace.exists()


def test_real_samna_is_recognised(tmp_path: Path) -> None:
    package = tmp_path / "samna"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _binary\nraise SystemExit('must not be imported')\n")
    code = "from nir_dynapse.export.samna_board import find_samna; print(find_samna()[0])"
    assert run_python(code, tmp_path).stdout.strip() == "ok"


def test_unknown_name() -> None:
    import nir_dynapse

    with pytest.raises(AttributeError, match="no attribute 'from_onnx'"):
        nir_dynapse.__getattr__("from_onnx")
    assert "from_nir" in dir(nir_dynapse)


def test_module_runs_as_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "nir_dynapse", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0
    assert result.stdout.startswith("nir-dynapse 0.")


def test_backend_entry_point() -> None:
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="nir.backends", name="dynapse2")
    backend = entry.load()
    assert all(callable(getattr(backend, name)) for name in ("from_nir", "to_nir", "compile", "simulate"))
