"""Processes that are killed, and two at once: nothing half, lost or mixed. More of it: robustness/kills.py."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nir_dynapse as nd
from cli_models import graph, save, write
from kill_chain import Lost, readable, step_of
from nir_dynapse.files.whole import write_arrays
from nir_dynapse.reporting.training_log import TrainingLog

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="watches processes as Linux shows them")
KILLS = Path(__file__).with_name("kills.py")


@pytest.mark.long
def test_kills() -> None:
    words = [sys.executable, str(KILLS), "--kills", "3", "--seed", "3", "--fast"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 kills in " in run.stdout
    assert "something wrong: 0." in run.stdout
    met = {row[0].strip(): int(row[-1]) for row in re.findall(r"^\| (.*?) \|.*\| +(\d+) \|$", run.stdout, re.M)}
    assert sum(met.values()) == 3
    assert met["training"] + met["checkpoint file"] + met["log file"] > 0


def test_what_is_half_is_found(tmp_path: Path) -> None:
    """The chains would notice."""
    layout = nd.compile(nd.from_nir(write(tmp_path / "m.nir", graph())))
    layout.save(tmp_path / "layout.json")
    from nir_dynapse.export.samna_config import write_config_json

    write_config_json(layout, tmp_path / "config.json.gz")
    nd.save_params(nd.to_params(layout), tmp_path / "tuned.npz")
    log = TrainingLog().append({"step": 1, "loss": 0.5})
    log.save(tmp_path / "log.csv")
    log.plot(tmp_path / "log.svg")
    for name in ("report.html", "report.json", "report.txt"):
        nd.report(layout, checks=("configuration verified: all.",)).save(tmp_path / name)
    write_arrays(tmp_path / "c.npz", numbers=[7.0], leaf0=[1.0, 2.0])
    assert step_of(tmp_path / "c.npz") == 7
    files = [path for path in tmp_path.iterdir() if path.name not in ("m.nir", "c.npz")]
    assert len(files) == 8
    for path in files:
        readable(path)
    for path in (*files, tmp_path / "c.npz"):
        content = path.read_bytes()
        for part in (content[: len(content) // 2], content[: len(content) // 100], b""):
            path.write_bytes(part)
            with pytest.raises(Lost):
                step_of(path) if path.name == "c.npz" else readable(path)


@pytest.mark.long
def test_two_deployments_into_one_folder(tmp_path: Path) -> None:
    """All files are of one of them, whichever came last."""
    write(tmp_path / "m.nir", graph())
    save(tmp_path / "x.npz")
    argv = [sys.executable, "-m", "nir_dynapse", "deploy", "m.nir", "--data", "x.npz", "-o", "out", "-q"]
    runs = [
        subprocess.Popen([*argv, "--seed", str(k), "--board", f"virtual:{k}"], cwd=tmp_path, stdout=subprocess.DEVNULL)
        for k in (1, 2)
    ]
    assert [run.wait(300) for run in runs] == [0, 0]
    out = tmp_path / "out"
    assert len(list(out.iterdir())) == 5
    layout = nd.Layout.load(out / "layout.json")
    board = f"virtual:{layout.origin['seed']}"
    assert board in ("virtual:1", "virtual:2")
    assert nd.from_samna(out / "config.json.gz", names=out / "layout.json") == layout
    assert json.loads((out / "report.json").read_text())["provenance"]["board"] == board
    for name in ("report.txt", "report.html"):
        assert board in (out / name).read_text()
