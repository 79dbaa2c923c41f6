"""The examples that export from a frontend, run as a user runs them: trained there, the same spikes here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nir_dynapse as nd
from frontend_models import framework
from places import ROOT


@pytest.mark.parametrize(
    ("name", "module", "frontend"),
    [("01_export_snntorch", "snntorch", "snntorch"), ("02_export_norse", "norse.torch", "norse")],
)
def test_export(name: str, module: str, frontend: str, tmp_path: Path) -> None:
    framework(module)
    command = [sys.executable, f"examples/{name}.py", "--steps", "50", "-o", str(tmp_path / "out")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stdout + said.stderr[-3000:]
    assert re.search(r"^0 of 516000 bins differ from \w+'s own run$", said.stdout, re.M)
    assert re.search(r"^step 50: loss \d", said.stdout, re.M)
    network = nd.from_nir(tmp_path / "out" / f"{frontend}.nir", frontend=frontend, dt=1e-3)
    assert [(p.kind, p.size) for p in network.populations] == [("CubaLIF", 40), ("CubaLIF", 3)]
