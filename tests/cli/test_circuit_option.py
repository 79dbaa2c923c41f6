"""`--circuit`: the constants that a command uses, from compile to run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nir_dynapse.cli.main import main
from nir_dynapse.layout.layout import Layout

MODEL = "examples/networks/digits_recurrent.nir"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("circuit")
    assert main(["compile", MODEL, "--circuit", "recorded2026", "-q", "-o", str(folder / "layout.json")]) == 0
    x = np.full((2, 60, 16), 6, np.uint8)
    np.savez(folder / "x.npz", x=x, dt=1e-3)
    return folder


def test_a_layout_is_made_for_the_set_and_run_with_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Layout.load(folder / "layout.json").circuit.name == "recorded2026"
    layout, data = str(folder / "layout.json"), str(folder / "x.npz")
    capsys.readouterr()
    runs = []
    for chosen in ([], ["--circuit", "recorded2026"], ["--circuit", "published"]):
        assert main(["simulate", layout, "--data", data, "--json", "-q", *chosen]) == 0
        runs.append(json.loads(capsys.readouterr().out)["nodes"])
    assert runs[0] == runs[1]
    assert runs[2] != runs[0], "neurons that fire as fast as they can do so 2.36 times as fast"


def test_constants_are_shown_by_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "constants", "--circuit", "recorded2026", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["c_ref"]["value"], rows["c_ref"]["certainty"]) == (pytest.approx(3.54e-12), "medium")
    assert rows["c_mem"]["value"] == 3e-12
    assert main(["show", "constants", "--json"]) == 0
    both = [row for row in json.loads(capsys.readouterr().out) if row["name"] == "c_ref"]
    assert [row["set"] for row in both] == ["published", "recorded2026"]


def test_an_unknown_set_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "device", "--circuit", "recorded"]) == 2
    assert "Did you mean recorded2026?" in capsys.readouterr().err


def test_run_records_the_membranes_that_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout.load(folder / "layout.json")
    assert main(["run", str(folder / "layout.json"), "--input", str(folder / "x.npz"), "--record", "v_mem"]) == 1
    assert "--record: samples on a virtual board" in capsys.readouterr().err
    out = folder / "heard.npz"
    command = [
        "run",
        str(folder / "layout.json"),
        "--input",
        str(folder / "x.npz"),
        "--record",
        "v_mem",
        "-o",
        str(out),
    ]
    assert not (layout.membranes >= 0).any()
    assert main(command) == 1
    assert "shows no membrane to the outside" in capsys.readouterr().err
    assert not out.exists()
