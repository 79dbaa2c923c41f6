"""`simulate --to`: the recording in a folder, and what takes it from there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cli_models import fails
from nir_dynapse.cli.main import main
from nir_dynapse.cli.parser import RECORDED
from nir_dynapse.data.recording_folder import RecordingFolder
from nir_dynapse.layout.layout import Layout
from nir_dynapse.sim.circuit import TRACES as CIRCUIT_TRACES
from nir_dynapse.sim.reference import TRACES


def test_simulate_to_a_folder(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same result as without, and the recording."""
    simulate, folder = ["simulate", model, "--data", data, "--json", "-q"], str(tmp_path / "run")
    assert main(simulate) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main([*simulate, "--to", folder, "--record", "i_mem", "--record", "i_ahp"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == [folder]
    for node, said in plain["nodes"].items():
        assert result["nodes"][node] == pytest.approx(said)
    assert result | {"files": [], "nodes": {}} == plain | {"files": [], "nodes": {}}
    held = RecordingFolder.load(folder)
    assert set(held.states) == {"i_mem", "i_ahp"}
    assert {node: int(v.sum()) for node, v in held.totals().items()} == {
        n: v["spikes"] for n, v in plain["nodes"].items()
    }
    assert set(RECORDED) == {*CIRCUIT_TRACES, *TRACES} - {"spikes"}


def test_a_recording_as_input(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For `simulate` and a board: samples, or the events of a single one."""
    layout, folder = tmp_path / "layout.json", tmp_path / "run"
    assert main(["compile", model, "-o", str(layout), "-q"]) == 0
    assert main(["simulate", model, "--data", data, "--to", str(folder), "-q"]) == 0
    said = json.loads((folder / "recording.json").read_text())
    nodes = Layout.load(layout).inputs
    said["sizes"][0][0] = nodes[0].name  # as if a network had been recorded whose node is called like the input here
    (folder / "recording.json").write_text(json.dumps(said))
    np.save(folder / "index.npy", np.load(folder / "index.npy") % nodes[0].size)
    capsys.readouterr()
    for verb in (["simulate", model, "--data"], ["run", str(layout), "--board", "virtual:7", "--input"]):
        assert main([*verb, str(folder), "--json", "-q"]) == 0
        assert json.loads(capsys.readouterr().out)["samples"] == said["samples"]


def test_wrong_places(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate = ["simulate", model, "--data", data]
    fails(capsys, [*simulate, "--record", "i_mem"], "Give the folder for it with --to")
    fails(capsys, [*simulate, "--to", data], "is not a folder")
    fails(capsys, [*simulate, "--to", str(tmp_path / "a"), "-o", str(tmp_path / "b.npz")], "not allowed with", code=2)
    fails(capsys, [*simulate, "--to", str(tmp_path / "a"), "--record", "v"], "cannot record 'v'")
