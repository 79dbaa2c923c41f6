"""What is shown to users of Lava runs: the program of docs/lava.md and the example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

pytest.importorskip("lava.magma", reason="lava-nc is not installed")


def run(*command: str, seconds: float) -> str:
    said = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    assert said.returncode == 0, said.stderr[-3000:]
    return said.stdout


def test_the_program_of_the_page_on_lava() -> None:
    page = (ROOT / "docs" / "lava.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "LavaRun" in b]
    assert int(run("-c", f"{block}\nprint(int(spikes.sum()))", seconds=60)) > 0


@pytest.mark.long
def test_from_a_frontend_to_lava(tmp_path: Path) -> None:
    said = run("examples/06_lava.py", "--steps", "2", "--samples", "3", "-o", str(tmp_path), seconds=300)
    assert "the spikes are those of simulate" in said
    picture = tmp_path / "lava.svg"
    assert picture.read_text().startswith("<svg")
    assert "Lava LIF, one per class" in picture.read_text()
