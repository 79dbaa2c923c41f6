"""What travels with the package; what the distributions hold is checked by tests/wheel/contents.py, which builds them."""

from __future__ import annotations

import re
from pathlib import Path

import nir_dynapse
from places import ROOT


def test_types_travel() -> None:
    assert (Path(nir_dynapse.__file__).parent / "py.typed").is_file()


def test_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", text, re.M) == re.findall(
        r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M
    )
    assert text.startswith("cff-version: 1.2.0\n")
    assert len(re.findall(r"^  - type: ", text, re.M)) == 5
