"""The command line: verbs, files, JSON, exit codes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import nir
import numpy as np
import pytest

from cli_models import DT, cuba, fails, graph, save, write
from nir_dynapse.chip.device import Circuit
from nir_dynapse.cli.main import main
from nir_dynapse.data.data import Data
from nir_dynapse.deployment import deploy as deployment
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.export.readers import READERS
from nir_dynapse.import_.nir_graph import FRONTENDS
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.primitives import PRIMITIVES
from nir_dynapse.sim.native import ahead, build

# --- deploy ----------------------------------------------------------------------------------------------------------


def test_deploy_writes_everything(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "out"
    assert main(["deploy", model, "--data", data, "--board", "virtual:7", "--no-fit", "-o", str(out)]) == 0
    captured = capsys.readouterr()
    for words in ("on this chip", "quantised", "base currents", "6/256", "configuration verified", "virtual:7"):
        assert words in captured.out
    assert "100 %  done" in captured.err
    assert sorted(path.name for path in out.iterdir()) == sorted(deployment.FILES)
    layout = Layout.load(out / "layout.json")
    assert layout.n_neurons == 6
    assert from_samna(out / "config.json.gz", names=out / "layout.json") == layout
    stored = json.loads((out / "report.json").read_text())
    assert [row["name"] for row in stored["accuracy"]] == ["ideal", "circuit", "quantised", "on this chip"]
    assert all(row["total"] == 6 for row in stored["accuracy"])
    assert (out / "report.txt").read_text() in captured.out + "\n"


def test_deploy_json_is_all_of_stdout(
    model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["deploy", model, "--data", data, "--json", "--seed", "3", "-v"]
    assert main([*argv, "-o", str(tmp_path / "a")]) == 0
    first = capsys.readouterr()
    result = json.loads(first.out)
    assert result["provenance"]["seed"] == 3
    assert len(result["files"]) == len(deployment.FILES)
    assert " s\n" in first.err
    assert main([*argv, "-o", str(tmp_path / "b")]) == 0
    for name in deployment.FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_deploy_without_folder_writes_nothing(
    model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["deploy", model, "--data", data, "--no-fit", "-q"]) == 0
    captured = capsys.readouterr()
    assert "Nothing was written" in captured.out
    assert captured.err == ""
    assert sorted(tmp_path.iterdir()) == before


def test_deploy_again_replaces(model: str, data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "layout.json").write_text("old")
    (out / "mine.txt").write_text("kept")
    assert main(["deploy", model, "--data", data, "--no-fit", "-q", "-o", str(out)]) == 0
    assert Layout.load(out / "layout.json").n_neurons == 6
    assert sorted(p.name for p in out.iterdir()) == sorted([*deployment.FILES, "mine.txt"])


def test_failed_write_leaves_nothing(model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    made = deployment.deploy(model, Data.load(data), fit=False)
    monkeypatch.setattr(deployment, "write_config_json", full)
    for out in (tmp_path / "new", tmp_path / "there"):
        if out.name == "there":
            out.mkdir()
            (out / "mine.txt").write_text("kept")
        with pytest.raises(ConfigurationError, match="No space left"):
            made.write(out)
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine.txt"]


def test_unfaithful_configuration_is_refused(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = deployment.deploy(write(tmp_path / "other.nir", graph(5)), Data.load(data), fit=False).layout
    monkeypatch.setattr(deployment, "from_samna", lambda *args, **kwargs: other)
    out = tmp_path / "out"
    fails(capsys, ["deploy", model, "--data", data, "--no-fit", "-o", str(out)], "does not read back", "report it")
    assert not out.exists()


@pytest.mark.parametrize("kind", ["file", "below a file", "taken", "odd"])
def test_unwritable_folder_is_found_first(
    kind: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "taken" / "layout.json").mkdir(parents=True)
    out = {"file": "file", "below a file": "file/out", "taken": "taken", "odd": "a\0b"}[kind]
    argv = ["deploy", str(tmp_path / "never read.nir"), "--data", data, "-o", str(tmp_path / out)]
    assert "never read" not in fails(capsys, argv, "Choose another")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    fails(capsys, ["deploy", model, "--data", data, "-o", str(out)], "cannot be written", "Choose another folder")


# --- the other verbs -------------------------------------------------------------------------------------------------


def test_check(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", model]) == 0
    text = capsys.readouterr().out
    for words in ("hidden", "fc1", "Approximations", "fits the device"):
        assert words in text
    assert main(["check", model, "--json"]) == 0
    assert [n["name"] for n in json.loads(capsys.readouterr().out)["nodes"]] == ["hidden", "out"]


def test_strict_turns_approximations_into_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "wide.nir", graph(hidden=70))
    assert main(["check", path, "--fan-in", "prune"]) == 0
    capsys.readouterr()
    assert main(["check", path, "--fan-in", "prune", "--strict", "--json"]) == 1
    assert "dropped" in json.loads(capsys.readouterr().out)["error"]


def test_more_chips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sparse = np.zeros((1030, 3))
    sparse[:, 0] = 0.5
    nodes = {"in": nir.Input({"input": np.array([3])}), "fc": nir.Linear(sparse), "n": cuba(1030)}
    nodes["output"] = nir.Output({"output": np.array([1030])})
    wide = nir.NIRGraph(nodes, [("in", "fc"), ("fc", "n"), ("n", "output")], metadata={"dt": DT}, type_check=False)
    path = write(tmp_path / "many.nir", wide)
    assert main(["check", path]) == 1
    assert "--chips 2" in capsys.readouterr().err
    assert main(["check", path, "--chips", "2"]) == 0
    assert "1030" in capsys.readouterr().out


def test_compile_and_simulate(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout, config, spikes = (str(tmp_path / name) for name in ("layout.json", "config.json.gz", "spikes.npz"))
    assert main(["compile", model, "-o", layout, "--config", config, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [layout, config]
    assert from_samna(config, names=layout) == Layout.load(layout)

    results = {}
    for name, argv in {
        "ideal": [model, "--ideal"],
        "circuit": [layout],
        "chip 7": [layout, "--chip", "7"],
    }.items():
        assert main(["simulate", *argv, "--data", data, "--json", "-o", spikes]) == 0
        results[name] = json.loads(capsys.readouterr().out)
        assert results[name]["run"] == name
        assert results[name]["accuracy"]["total"] == 6
        with np.load(spikes) as stored:
            assert stored["spikes.out"].shape == (6, 12, 2)
            assert int(stored["spikes.hidden"].sum()) == results[name]["nodes"]["hidden"]["spikes"]
            assert float(stored["dt"]) == DT
    assert main(["simulate", layout, "--data", data]) == 0
    assert "Accuracy (circuit)" in capsys.readouterr().out


def test_simulate_needs_no_fitting_labels(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "classes.npz", classes=5)
    assert main(["simulate", model, "--data", path, "--ideal", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] is None
    assert main(["simulate", model, "--data", path, "--ideal"]) == 0
    assert "No accuracy" in capsys.readouterr().out


def test_simulate_refuses(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "layout.json").write_text("{}")
    fails(capsys, ["simulate", str(tmp_path / "layout.json"), "--data", data], "not a Layout")
    layout = str(tmp_path / "good.json")
    assert main(["compile", model, "-o", layout]) == 0
    capsys.readouterr()
    fails(capsys, ["simulate", layout, "--data", data, "--ideal"], "ideal=True", "Network")
    other = save(tmp_path / "step.npz", dt=0.05)
    fails(capsys, ["simulate", layout, "--data", other], "0.05 s", "0.001 s", "Bin the data")
    fails(capsys, ["simulate", model, "--data", data, "-o", str(tmp_path / "no" / "x.npz")], "no folder")
    fails(capsys, ["compile", model, "-o", str(tmp_path)], "is a folder")
    fails(capsys, ["compile", model, "-o", layout, "--config", str(tmp_path / "no" / "c.json")], "no folder")


@pytest.mark.parametrize("what", ["device", "parameters", "constants", "primitives", "frontends", "readers"])
def test_show(what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # whatever the terminal: names are not broken over lines
    assert main(["show", what]) == 0
    text = capsys.readouterr().out
    assert main(["show", what, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    if what == "device":
        assert data["n_neurons"] == 1024
        assert "1024" in text
    elif what == "parameters":
        assert all(row["name"] in text and row["lowest_a"] < row["highest_a"] for row in data)
    elif what == "constants":
        assert {f.name for f in fields(Circuit)} | {"noise"} == {row["name"] for row in data}
        assert all(row["name"] in text and row["certainty"] in text for row in data)
    elif what == "primitives":
        assert set(data) == set(PRIMITIVES)
        assert all(name in text for name in PRIMITIVES)
    elif what == "readers":
        assert {"spec", *(row["name"] for row in data)} == set(READERS)
        assert all(row["name"] in text for row in data)
    else:
        assert {"spec", *(row["name"] for row in data)} == set(FRONTENDS)
        assert all(row["release"] in text and set(row["writes"]) <= set(PRIMITIVES) for row in data)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    items = {item["name"]: item for item in json.loads(capsys.readouterr().out)["items"]}
    assert items["python"]["state"] == items["jax devices"]["state"] == "ok"
    assert items["samna"]["need"] == items["lava-nc"]["need"] == "optional"
    assert main(["doctor"]) == 0
    assert "jax devices" in capsys.readouterr().out


def test_doctor_says_what_is_compiled_and_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "nir_dynapse"
    assert main(["doctor"]) == 0
    assert f"none compiled yet; in {folder}" in capsys.readouterr().out
    ahead.place("back", "float32").parent.mkdir(parents=True)
    ahead.place("back", "float32").touch()
    jax.jit(lambda x: x + 1)(1.0)
    assert main(["doctor", "--json"]) == 0
    cached = json.loads(capsys.readouterr().out)["cached"]
    assert (cached["folder"], cached["kernels"]) == (str(folder), ["back float32"])
    assert cached["programs"]["folder"] == jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    assert cached["programs"]["number"] > 0
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert main(["doctor"]) == 0
    assert "set XDG_CACHE_HOME" in capsys.readouterr().out


def test_doctor_compiles_the_kernels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In processes beside it, and what those leave."""
    begun: list[str] = []
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(ahead, "start", lambda *whats: begun.extend(whats))
    monkeypatch.setattr(build, "prepared", lambda what, kind: made.append((what, kind)))
    assert main(["doctor", "-q"]) == 0
    assert not begun
    assert main(["doctor", "--compile", "-q"]) == 0
    assert begun == list(ahead.WHATS)
    assert made == [(what, "float32") for what in ahead.WHATS]


def test_doctor_misses_what_is_required(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("nir_dynapse.cli.doctor.REQUIRED", ("numpy", "no-such-package"))
    assert main(["doctor"]) == 3
    assert "no-such-package" in capsys.readouterr().out


def test_a_step_that_the_gains_contradict_is_said_wherever_the_network_is_read(
    model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its gains are those of steps of 1 ms; a step of 2 ms gives numbers that look like any."""
    other = save(tmp_path / "other.npz", dt=2 * DT)
    step, layout = ["--dt", str(2 * DT)], str(tmp_path / "layout.json")
    words = ("0.002 s", "0.001 s", "contradict", "profile 'spec'", "Leave dt out", "--time-scale 2 ")
    for argv in (["simulate", model, "--data", other], ["evaluate", model, "--data", other, "--devices", "1"]):
        assert main([*argv, *step, "-q"]) == 0
        captured = capsys.readouterr()
        assert captured.err.startswith("nir-dynapse: warning: dt is")
        assert all(word in captured.err for word in words)
        assert main([*argv, *step, "--json"]) == 0
        captured = capsys.readouterr()
        assert [f["code"] for f in json.loads(captured.out)["findings"]] == ["dt"]
        assert captured.err == ""
        fails(capsys, [*argv, *step, "--strict"], *words)
    assert main(["compile", model, *step, "-o", layout, "-q"]) == 0
    assert "they contradict each other" in " ".join(capsys.readouterr().out.split())
    for argv in (["run", layout, "--input", other], ["simulate", layout, "--data", other]):
        assert main([*argv, "-q"]) == 0
        assert "contradict" in capsys.readouterr().err  # a Layout remembers
    for verb in (["check", model], ["deploy", model, "--data", other, "--no-fit"]):
        assert main([*verb, *step, "-q"]) == 0
        assert "they contradict each other" in " ".join(capsys.readouterr().out.split())
        assert main([*verb, *step, "--strict", "-q"]) == 1
        refusal = capsys.readouterr().err
        assert all(word in refusal for word in words)


def test_check_tells_the_fan_in_with_constant_inputs_before_it_compiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {
        "in": nir.Input({"input": np.array([64])}),
        "fc": nir.Affine(np.full((3, 64), 0.1), np.array([0.1, 0.2, 0.3])),
        "hidden": cuba(3),
        "output": nir.Output({"output": np.array([3])}),
    }
    names = list(nodes)
    full = write(tmp_path / "full.nir", nir.NIRGraph(nodes, list(pairwise(names))))
    assert main(["check", full]) == 1
    captured = capsys.readouterr()
    first, last, way_out = (captured.err.splitlines()[k] for k in (0, -2, -1))
    assert "--train TRAIN.npz" in way_out
    assert "takes 1 of 4 cores" in way_out
    assert first.endswith("'hidden' 65/64 (64 synapses and a constant input) is too many")
    assert last.startswith(
        "nir-dynapse: 3 neurons of node 'hidden': up to 64 incoming synapses and a constant input (65 CAM"
    )
    assert "65/64" in captured.out

    def stop(*args: Any, **kwargs: Any) -> None:
        raise ConfigurationError("not yet")

    monkeypatch.setattr("nir_dynapse.quant.compiler.compile", stop)
    assert main(["check", full]) == 1
    assert "65/64" in capsys.readouterr().err  # before anything else is done
