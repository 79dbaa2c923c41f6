"""Where things are in a checkout, for tests in any folder."""

from __future__ import annotations

from pathlib import Path

__all__ = ["EXAMPLES", "GOLDEN", "PACKAGE", "REFERENCE", "ROOT", "TESTS"]

ROOT = Path(__file__).resolve().parents[2]
TESTS, EXAMPLES, PACKAGE = ROOT / "tests", ROOT / "examples", ROOT / "nir_dynapse"
GOLDEN = TESTS / "golden"
REFERENCE = ROOT.parent / "shared" / "data" / "nir_reference"
"""Real NIR files with published results, beside the checkout; not everywhere."""
