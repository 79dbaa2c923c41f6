"""Writes tests/golden/layout_hashes.json: what the Layouts of tests/helpers/layout_bytes.py must be, bit by bit.

    python3 -m uv run python tests/robustness/golden_layouts.py

Only for changes that are meant to change Layouts; tests/test_determinism.py then holds every Python and NumPy to them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from layout_bytes import CASES, hashes

TESTS = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    everywhere = {name: {part: hashes(name)[part] for part in ("layout", "configuration")} for name in CASES}
    (TESTS / "golden" / "layout_hashes.json").write_text(json.dumps(everywhere, indent=1) + "\n")
