"""Files of events, event lists and images on the command line: --data of simulate and evaluate, --input of run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from cli_models import fails
from event_recordings import dat, random_events, write_shd
from nir_dynapse.cli.main import main
from nir_dynapse.data.data import Data
from nir_dynapse.data.event_files import read_data
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.network.primitives import graph
from nir_dynapse.quant.compiler import compile
from nir_dynapse.sim.simulation import simulate
from nir_graphs import lif, port_in, port_out

DT = 1e-3


def written(folder: Path, *shape: int) -> str:
    """A network whose 24 inputs have `shape`."""
    weight = nir.Linear(np.random.default_rng(0).uniform(0.2, 1.0, (2, 24)))
    flat = nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)
    nodes = {"in": port_in(*shape), "flat": flat, "w": weight, "n": lif(2), "out": port_out(2)}
    edges = [("in", "flat"), ("flat", "w"), ("w", "n"), ("n", "out")]
    nir.write(folder / f"{len(shape)}.nir", graph(nodes, edges, {"dt": DT}))
    return str(folder / f"{len(shape)}.nir")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("model"), 2, 3, 4)


@pytest.fixture(scope="module")
def layout(model: str) -> str:
    path = Path(model).with_name("layout.json")
    compile(from_nir(model)).save(path)
    return str(path)


@pytest.fixture
def recording(tmp_path: Path) -> str:
    """6 000 events of 40 x 30 pixels in half a second."""
    path = tmp_path / "r.dat"
    path.write_bytes(dat(random_events(6000, 500_000, start=2_000_000, size=(40, 30)), size=(40, 30)))
    return str(path)


def result(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--json", "-q"]) == 0
    return json.loads(capsys.readouterr().out)


def test_simulate_a_recording(model: str, recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "s.npz")
    got = result(
        capsys, "simulate", model, "--ideal", "--data", recording, "--pool", "10", "--duration", "0.2", "-o", out
    )
    network = from_nir(model)
    data = read_data(recording, network.inputs, DT, labels=False, pool=10, duration=0.2)
    expected = simulate(network, data.x, ideal=True)
    assert expected.output.sum() > 5
    with np.load(out) as stored:
        np.testing.assert_array_equal(stored["spikes.n"], expected.spikes["n"])
        assert "y" not in stored
    assert got["accuracy"] is None
    codes = {finding["code"]: finding for finding in got["findings"]}
    assert codes["events-left-out"]["used"] == 6000 - data.x.sum()
    assert main(["simulate", model, "--ideal", "--data", recording, "--pool", "10", "--duration", "0.2", "-q"]) == 0
    assert f"{6000 - int(data.x.sum())} of 6000 events are left out" in capsys.readouterr().out
    short = ["simulate", model, "--ideal", "--data", recording, "--pool", "10", "--duration", "0.2"]
    fails(capsys, [*short, "--strict"], "events are left out")
    fails(capsys, ["simulate", model, "--ideal", "--data", recording], "shape (2, 30, 40)")
    fails(capsys, ["evaluate", model, "--data", recording, "--pool", "10"], "no classes")


def test_run_a_recording(layout: str, recording: str, capsys: pytest.CaptureFixture[str]) -> None:
    got = result(
        capsys, "run", layout, "--input", recording, "--pool", "10", "--crop", "0,0,40,30", "--duration", "0.1"
    )
    assert got["duration_s"] == 0.1
    assert got["nodes"]["n"]["spikes"] > 0
    (left,) = [finding for finding in got["findings"] if finding["code"] == "events-left-out"]
    assert 4000 < left["used"] < 6000


def test_digits_with_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    held = [(np.sort(rng.uniform(0, 0.1, 800)), rng.integers(0, 48, 800)) for _ in range(4)]
    path = str(tmp_path / "d.h5")
    write_shd(Path(path), held, [0, 1, 1, 0])
    compile(from_nir(written(tmp_path, 24))).save(tmp_path / "layout.json")
    layout = str(tmp_path / "layout.json")
    for argv in (
        ("simulate", layout, "--data", path, "--pool", "2"),
        ("run", layout, "--input", path, "--pool", "2", "--samples", "1:3"),
        ("evaluate", layout, "--data", path, "--pool", "2", "--samples", ":3", "--devices", "1"),
    ):
        got = result(capsys, *argv)
        count = {"simulate": 4, "run": 2, "evaluate": 3}[argv[0]]
        assert got["samples"] == count
        assert got["findings"] == []
        if argv[0] != "evaluate":
            assert got["accuracy"]["total"] == count


def test_events_with_names(model: str, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "e.npz")
    np.savez(path, time_us=np.arange(0, 50_000, 100), node=["in"] * 500, index=np.arange(500) % 24)
    assert result(capsys, "run", layout, "--input", path)["nodes"]["n"]["spikes"] > 0
    assert result(capsys, "simulate", model, "--ideal", "--data", path)["nodes"]["n"]["spikes"] > 0


def test_images(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).poisson(1.0, (3, 20, 24)).astype(np.uint8)
    spikes = []
    for name, shape in (("flat", (3, 20, 24)), ("images", (3, 20, 2, 3, 4))):
        Data(x.reshape(shape), np.array([0, 1, 0]), DT).save(tmp_path / f"{name}.npz")
        spikes.append(
            result(capsys, "simulate", model, "--ideal", "--data", str(tmp_path / f"{name}.npz"))["nodes"]["n"]
        )
    assert spikes[0] == spikes[1]
    Data(x.reshape(3, 20, 4, 3, 2), np.array([0, 1, 0]), DT).save(tmp_path / "turned.npz")
    fails(capsys, ["simulate", model, "--data", str(tmp_path / "turned.npz")], "np.transpose")


@pytest.mark.parametrize("options", [("--crop", "1,2,3"), ("--samples", "3"), ("--pool", "0"), ("--polarity", "up")])
def test_options_that_mean_nothing(options: tuple[str, str], model: str, recording: str) -> None:
    assert main(["simulate", model, "--data", recording, *options]) == 2
