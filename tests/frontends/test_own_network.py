"""README's "Your own network": the export runs in snnTorch, and its command lines lead to a report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from frontend_models import framework
from nir_dynapse.cli.main import main
from own_network import commands, export_program
from places import ROOT


def test_own_network(tmp_path: Path, monkeypatch) -> None:
    framework("snntorch")
    monkeypatch.chdir(tmp_path)
    program = export_program(ROOT).replace("steps=300", "steps=40")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert "accuracy in snnTorch" in said.stdout
    for command in commands():
        assert main(command[1:]) == 0
    assert "mine.nir" in (tmp_path / "mine" / "report.html").read_text(encoding="utf-8")
