"""The tests that need a board: left alone unless asked for, and kept alive by a virtual one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from places import TESTS


def pytest_of(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("NIR_DYNAPSE_", "PYTEST_"))}
    return subprocess.run(
        command,
        cwd=TESTS.parent,
        env={**variables, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.long
def test_they_pass_on_a_virtual_board() -> None:
    result = pytest_of("tests/hardware", NIR_DYNAPSE_BOARD="virtual:7")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 passed" in result.stdout
    assert "skipped" not in result.stdout


def test_they_are_only_collected_when_named() -> None:
    result = pytest_of("--collect-only", "--ignore-glob=*/test_[!g]*.py")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "tests/sim/test_gradients.py" in result.stdout
    assert "hardware" not in result.stdout
