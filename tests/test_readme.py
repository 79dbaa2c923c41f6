"""What README says: its Python runs, its verbs exist, its two commands are the ones that CI uses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = [b for b in re.findall(r"```python\n(.*?)```", README, re.S) if "lava" not in b]
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_first_command_makes_layout_configuration_and_report(tmp_path: Path) -> None:
    line = next(text for text in README.splitlines() if "nir-dynapse deploy examples" in text)
    assert line.startswith("python3 -m pip install -q uv && python3 -m uv run nir-dynapse deploy ")
    words = line.split("nir-dynapse ", 1)[1].split()
    words[-1] = str(tmp_path / "out")
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
