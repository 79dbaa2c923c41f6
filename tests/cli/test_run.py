"""The verb `run`, real boards on the command line, and what `doctor` says about them."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_models import fails, graph, save
from fake_samna_device import Board, Samna
from nir_dynapse import backend
from nir_dynapse.backend import open_board
from nir_dynapse.cli.main import main
from nir_dynapse.data.data import Data, Events
from nir_dynapse.export import samna_board
from nir_dynapse.export.samna_board import BIT_FILE_VARIABLE, open_samna
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.layout.layout import Layout
from nir_dynapse.quant.compiler import compile
from samna_boards import bit_file, plugged

DT = 1e-3


@pytest.fixture
def layout(tmp_path: Path) -> str:
    path = tmp_path / "layout.json"
    compile(from_nir(graph())).save(path)
    return str(path)


@pytest.fixture
def x(tmp_path: Path) -> str:
    """Samples that make the output spike."""
    counts = np.random.default_rng(1).poisson(2.0, (3, 60, 3)).astype(np.uint8)
    path = tmp_path / "x.npz"
    Data(counts, np.array([0, 1, 0]), DT).save(path)
    return str(path)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Board:
    """A board behind `samna`."""
    samna, board = plugged()
    monkeypatch.setattr(backend, "open_samna", lambda serial, **options: open_samna(serial, **options, **samna.options))
    monkeypatch.setenv(BIT_FILE_VARIABLE, str(bit_file(tmp_path)))
    return board


def result(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--json", "-q"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


# -- samples ----------------------------------------------------------------------------------------------------------


def test_samples(layout: str, x: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "spikes.npz")
    got = result(capsys, "run", layout, "--board", "virtual:7", "--input", x, "-o", out)
    data = Data.load(x)
    with open_board("virtual:7") as board:
        board.apply(Layout.load(layout))
        expected = board.run_batch(data.x, DT)
    assert expected.output.sum() > 5
    with np.load(out) as stored:
        assert set(stored) == {"spikes.out", "dt", "y"}
        np.testing.assert_array_equal(stored["spikes.out"], expected.output)
        assert float(stored["dt"]) == DT
    assert (got["samples"], got["duration_s"], got["files"]) == (3, pytest.approx(0.06), [out])
    assert got["nodes"]["out"]["spikes"] == expected.output.sum()
    assert got["nodes"]["out"]["rate_hz"] == pytest.approx(expected.output.mean() / DT)
    assert got["accuracy"]["correct"] == (expected.counts().argmax(1) == data.y).sum()
    assert got["unknown_events"] == 0
    assert main(["run", layout, "--board", "virtual:7", "--input", x]) == 0
    captured = capsys.readouterr()
    assert "Accuracy (virtual:7)" in captured.out
    assert "100 %  done" in captured.err


def test_a_real_board_gives_the_same(
    layout: str, x: str, fake: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [str(tmp_path / f"{k}.npz") for k in range(2)]
    results = [
        result(capsys, "run", layout, "--board", board, "--input", x, "-o", out)
        for board, out in zip(("virtual:7", "samna:A1"), outs, strict=True)
    ]
    assert results[0]["nodes"] == results[1]["nodes"]
    with np.load(outs[0]) as first, np.load(outs[1]) as second:
        np.testing.assert_array_equal(first["spikes.out"], second["spikes.out"])
    assert fake.calls[-1] == "close_device"


def test_echo_and_duration(layout: str, x: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "spikes.npz")
    data = Data.load(x)
    got = result(capsys, "run", layout, "--input", x, "--echo", "-o", out)
    assert set(got["nodes"]) == {"out", "in"}
    plain = result(capsys, "run", layout, "--input", x)
    assert got["nodes"]["out"] == plain["nodes"]["out"]
    with np.load(out) as stored:
        np.testing.assert_array_equal(stored["spikes.in"], data.x)
    for duration, bins in (("0.02", 20), ("0.08", 80)):
        longer = result(capsys, "run", layout, "--input", x, "--duration", duration, "-o", out)
        assert longer["duration_s"] == pytest.approx(float(duration))
        with np.load(out) as stored:
            assert stored["spikes.out"].shape == (3, bins, 2)
    assert longer["nodes"]["out"]["spikes"] >= plain["nodes"]["out"]["spikes"]


def test_samples_without_labels(layout: str, x: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Data.load(x)
    bare = str(tmp_path / "bare.npz")
    np.savez(bare, x=data.x, dt=DT)
    out = str(tmp_path / "spikes.npz")
    assert result(capsys, "run", layout, "--input", bare, "-o", out)["accuracy"] is None
    with np.load(out) as stored:
        assert "y" not in stored
    other = save(tmp_path / "classes.npz", classes=5)
    assert main(["run", layout, "--input", other]) == 0
    assert "No accuracy" in capsys.readouterr().out


# -- events -----------------------------------------------------------------------------------------------------------


def test_events(layout: str, x: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Data.load(x)
    wanted = Events.from_counts(data.x[0], DT, "in")
    path, out = str(tmp_path / "events.npz"), str(tmp_path / "spikes.npz")
    wanted.save(path)
    again = Events.load(path)
    assert again.nodes == wanted.nodes
    np.testing.assert_array_equal(again.time, wanted.time)
    got = result(capsys, "run", layout, "--board", "virtual:7", "--input", path, "-o", out)
    heard = Events.load(out)
    with open_board("virtual:7") as board:
        board.apply(Layout.load(layout))
        expected = board.run(wanted, got["duration_s"])
    assert len(expected) > 3
    assert got["duration_s"] == pytest.approx(0.159, abs=1e-3)
    for name in ("time", "node", "index"):
        np.testing.assert_array_equal(getattr(heard, name), getattr(expected, name))
    assert heard.nodes == expected.nodes == ("out",)
    assert got["nodes"]["out"]["spikes"] == len(expected)
    assert got["nodes"]["out"]["rate_hz"] == pytest.approx(len(expected) / 2 / got["duration_s"])
    got = result(capsys, "run", layout, "--input", path, "--echo", "--duration", "0.06")
    assert got["nodes"]["in"]["spikes"] == len(wanted)
    fails(capsys, ["run", layout, "--input", path, "--duration", "0.03"], "outside the run")


def test_wrong_input(layout: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good: dict[str, Any] = {"time_us": [5], "node": [0], "index": [1], "nodes": ["in"]}
    cases = {
        "node": ({**good, "nodes": ["im"]}, "'im'", "Rename"),
        "channel": ({**good, "index": [3]}, "channel 3", "Check the data"),
        "number": ({**good, "node": [2]}, "node number 2"),
        "length": ({**good, "index": [1, 2]}, "differ in length"),
        "fraction": ({**good, "time_us": [0.5]}, "time_us", "float64", "whole numbers"),
        "shape": ({**good, "index": [[1]]}, "index has shape"),
        "objects": ({**good, "nodes": np.array([object()])}, "cannot be read"),
        "bytes": ({**good, "nodes": np.array([b"in"])}, "nodes has shape", "text"),
        "missing": ({"time_us": [5]}, "lacks node, index, nodes"),
        "neither": ({"z": [1]}, "lacks x, dt"),
        "channels": ({"x": np.ones((1, 5, 4)), "dt": DT}, "4 channels"),
        "step": ({"x": np.ones((1, 5, 3)), "dt": 0.05}, "0.05 s", "0.001 s"),
    }
    out = path = tmp_path / "spikes.npz"
    for name, (arrays, *words) in cases.items():
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        fails(capsys, ["run", layout, "--input", str(path), "-o", str(out)], *words)
    (tmp_path / "text.npz").write_text("no")
    fails(capsys, ["run", layout, "--input", str(tmp_path / "text.npz")], "cannot be read")
    fails(capsys, ["run", layout, "--input", str(tmp_path / "none.npz")], "No such file")
    fails(capsys, ["run", model, "--input", str(path)], "not a JSON file")
    fails(capsys, ["run", layout, "--input", str(path), "-o", str(tmp_path / "no" / "s.npz")], "no folder")
    assert not out.exists()


def test_a_board_that_fails(
    layout: str, x: str, fake: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    out = tmp_path / "spikes.npz"
    argv = ["run", layout, "--board", "samna", "--input", x, "-o", str(out)]
    fails(capsys, [*argv, "--bit-file", str(tmp_path / "none.bit")], "none.bit' does not exist", BIT_FILE_VARIABLE)
    assert not fake.calls
    fake.faults["read_events", 40] = RuntimeError("USB transfer failed")
    fails(capsys, argv, "USB transfer failed", "Check cable and power")
    assert fake.calls[-1] == "close_device"
    assert not out.exists()
    monkeypatch.setattr(backend, "open_samna", open_samna)
    monkeypatch.setattr(samna_board, "find_samna", lambda: ("missing", ""))
    fails(capsys, argv, "not installed", code=3)
    fails(capsys, ["run", layout, "--board", "usb", "--input", x], "virtual:SEED")


def test_deploy_on_a_real_board(
    model: str, data: str, fake: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["deploy", model, "--data", data, "--no-fit", "--bit-file", str(bit_file(tmp_path))]
    real = result(capsys, *argv, "--board", "samna")
    virtual = result(capsys, *argv, "--board", "virtual:7")
    assert real["accuracy"] == virtual["accuracy"]
    assert real["provenance"]["board"] == "samna"
    assert fake.bits.n_neurons == 6
    assert fake.calls.count("apply_configuration") == 2 + 2 * 6
    assert not fake.is_open


# -- doctor -----------------------------------------------------------------------------------------------------------


def items(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return {item["name"]: item for item in result(capsys, "doctor")["items"]}


def test_doctor_lists_boards(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(BIT_FILE_VARIABLE, raising=False)
    assert items(capsys)["samna"]["state"] == "missing"
    samna: Any = Samna()
    samna.__spec__ = ModuleSpec("samna", None, origin="site/samna/__init__.py")
    monkeypatch.setitem(sys.modules, "samna", samna)
    found = items(capsys)
    assert found["samna"]["state"] == "ok"
    assert found["boards"]["state"] == "missing"
    assert "Connect one" in found["boards"]["remedy"]
    samna.plug(serial="B2")
    found = items(capsys)
    assert "DYNAP-SE2 Stack, serial B2" in found["board"]["detail"]
    assert found["bit file"]["state"] == "missing"

    def broken() -> None:
        raise RuntimeError("libusb\nfailed")

    samna.device.get_all_devices = broken
    assert "libusb failed" in items(capsys)["boards"]["remedy"]
    del samna.device
    assert "no samna.device" in items(capsys)["boards"]["remedy"]
