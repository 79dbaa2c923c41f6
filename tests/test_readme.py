"""What README and docs say: their Python runs, their tables and links are right, the two commands are those of CI."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from nir_dynapse.cli.verbs import VERBS
from places import ROOT
from shortened import shortened

README = (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *(ROOT / "examples").glob("*.md"))
TRAINS = "fine_tuning"
LONG = pytest.param(ROOT / "docs" / f"{TRAINS}.md", marks=pytest.mark.long)
ELSEWHERE = ("lava_process", "import torch", "mine.nir")
"""Blocks that run where their packages are: tests/lava, tests/frontends."""


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != TRAINS] + [LONG], ids=lambda page: page.stem)
def test_python_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    for block in blocks:
        if not any(word in block for word in ELSEWHERE):
            exec(compile(block, page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_in_the_repository(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for script in re.findall(r"\b((?:tests|examples|docs)/[\w/]+\.(?:py|nir|npz|ipynb))\b", text):
        assert (ROOT / script).exists(), script
    for verb in re.findall(r"(?m)^nir-dynapse (\S+)", text):
        assert verb in VERBS


def test_tables_are_what_the_package_says() -> None:
    spec = spec_from_file_location("make", ROOT / "docs" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = module_from_spec(spec)
    spec.loader.exec_module(make)
    for page, _ in make.TABLES.values():
        assert make.filled(page) == page.read_text(encoding="utf-8"), "run docs/make.py"
    assert "| `CubaLIF` | neurons of the chip |" in README


@pytest.mark.parametrize("fit", shortened(["--no-fit", ""]), ids=["without fit", "as it stands"])
def test_first_command_makes_layout_configuration_and_report(tmp_path: Path, fit: str) -> None:
    line = next(text for text in README.splitlines() if "nir-dynapse deploy examples" in text)
    assert line.startswith("python3 -m pip install -q uv && python3 -m uv run nir-dynapse deploy ")
    words = line.split("nir-dynapse ", 1)[1].split()
    words[-1:] = [str(tmp_path / "out"), *fit.split()]
    run = subprocess.run(
        [sys.executable, "-m", "nir_dynapse", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "layout.json",
        "config.json.gz",
        "report.json",
        "report.txt",
        "report.html",
    }
    assert re.search(r"on this chip\s+\d", run.stdout)


def test_ci_calls_the_readme_test_command() -> None:
    command = "python3 -m pip install -q uv && python3 -m uv run pytest"
    assert command in README
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
