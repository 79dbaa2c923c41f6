"""docs/frontends.md: each framework's lines export there and are read here, with the releases that the page installs."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from frontend_models import framework
from nir_dynapse.import_.frontends import PROFILES
from places import ROOT

PAGE = (ROOT / "docs" / "frontends.md").read_text(encoding="utf-8")
PART = PAGE.split("## Framework by framework", 1)[1].split("\n## ", 1)[0]
SECTIONS = dict(re.findall(r"### (\w+)\n(.*?)(?=\n### |\Z)", PART, re.S))

pytestmark = [
    pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph is being deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning"),
]


def installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def test_every_profile_has_its_lines() -> None:
    assert {name.lower() for name in SECTIONS} == set(PROFILES) - {"spec"}


@pytest.mark.parametrize("name", SECTIONS)
def test_the_lines_of_a_framework(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = SECTIONS[name]
    (install,) = re.findall(r"```\n(pip .*?)```", section, re.S)
    export, read = re.findall(r"```python\n(.*?)```", section, re.S)
    framework(re.findall(r"# after (\S+)", read)[0])
    pinned = dict(re.findall(r"([\w-]+)==([\w.]+)", install))
    assert name.lower() in pinned
    assert f"{name} {pinned[name.lower()]}" == PROFILES[name.lower()].release
    assert {package: installed(package) for package in pinned} == pinned
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    for block in (export, read):
        exec(compile(block, "docs/frontends.md", "exec"), space)
    net = space["read"]
    assert [p.size for p in net.populations] == [30, 5]
    assert net.dt == 1e-3
    assert not [f for f in net.findings if f.severity == "error" or f.code == "gain"]
    x = np.abs(np.random.default_rng(0).normal(0, 20, (2, 50, 12))).round()
    hidden = nd.simulate(net, x, ideal=True).spikes[net.populations[0].name]
    assert hidden.any()
    assert nd.from_nir(nd.to_nir(net)).digest() == net.digest()
