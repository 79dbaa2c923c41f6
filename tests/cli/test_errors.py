"""The command line with bad networks and bad data: one clear paragraph for each, nothing half written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from cli_models import DT, fails, graph, save, write
from nir_dynapse.cli import main as cli
from nir_dynapse.cli import options
from nir_dynapse.cli import verbs as cli_verbs
from nir_dynapse.cli.main import main
from nir_dynapse.data.data import Data
from nir_dynapse.deployment import deploy as deployment
from nir_dynapse.errors import CapacityError, ConfigurationError, Finding, HardwareError, ParameterRangeError
from nir_dynapse.export import samna_board
from nir_dynapse.export.readers import READERS
from nir_dynapse.import_.nir_graph import FRONTENDS, from_nir

# --- bad networks ----------------------------------------------------------------------------------------------------


def bad_networks(folder: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Path and the words of the answer (place, value, limit, remedy) for every bad input that the project names."""
    (folder / "text.nir").write_text("this is not a graph\n")
    with zipfile.ZipFile(folder / "torch.nir", "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}q\x00.")
    (folder / "empty.nir").write_bytes(b"")
    nan = np.full((4, 3), 0.5)
    nan[2, 1] = np.nan
    negative = np.full(4, 20 * DT)
    negative[3] = -0.01
    milliseconds: dict[str, Any] = {"tau_mem": np.full(4, 20.0), "tau_syn": np.full(4, 5.0)}
    write(folder / "nan.nir", graph(weight=nan))
    write(folder / "negative.nir", graph(tau_mem=negative))
    write(folder / "unit.nir", graph(**milliseconds))
    write(folder / "hollow.nir", nir.NIRGraph({}, [], type_check=False))
    write(folder / "wide.nir", graph(hidden=70))
    _retype(Path(write(folder / "unknown.nir", graph())), "hidden", "Izhikevich")
    return {
        "missing": (str(folder / "missing.nir"), ("missing.nir", "does not exist", "Check the path")),
        "text": (str(folder / "text.nir"), ("text.nir", "a text file", "Export the network")),
        "torch": (str(folder / "torch.nir"), ("torch.nir", "zip", "pickle", "Export the network")),
        "zero bytes": (str(folder / "empty.nir"), ("empty.nir", "0 bytes", "write it again")),
        "nan": (str(folder / "nan.nir"), ("'fc1'", "nan", "finite", "diverged")),
        "negative": (str(folder / "negative.nir"), ("'hidden', neuron 3", "-0.01 s", "above 0", "export again")),
        "unknown": (str(folder / "unknown.nir"), ("'hidden'", "Izhikevich", "Supported types", "LIF")),
        "hollow": (str(folder / "hollow.nir"), ("empty",)),
        "unit": (str(folder / "unit.nir"), ("'hidden'", "20 s", "at most", "--time-unit ms")),
        "wide": (str(folder / "wide.nir"), ("'out'", "70 incoming", "64", "--fan-in prune")),
    }


def _retype(path: Path, node: str, kind: str) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        group = file["node/nodes"][node]  # pyright: ignore[reportIndexIssue]
        del group["type"]  # pyright: ignore[reportIndexIssue]
        group["type"] = kind  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    "kind", ["missing", "text", "torch", "zero bytes", "nan", "negative", "unknown", "hollow", "unit", "wide"]
)
def test_bad_network(kind: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, words = bad_networks(tmp_path)[kind]
    out = tmp_path / "out"
    out.mkdir()
    (out / "layout.json").write_text("untouched")
    message = fails(capsys, ["deploy", path, "--data", data, "-o", str(out)], *words)
    if kind not in ("unit", "hollow"):
        assert message.count("\n") == 1
    assert [p.name for p in out.iterdir()] == ["layout.json"]
    assert (out / "layout.json").read_text() == "untouched"

    assert main(["check", path, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]
    assert answer["findings"][0]["severity"] == "error"


def test_check_shows_what_it_read_before_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(tmp_path / "wide.nir", graph(hidden=70))]) == 1
    captured = capsys.readouterr()
    assert "70/64" in captured.out
    assert "70 incoming" in captured.err


def test_many_findings_are_cut_on_stderr_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any) -> int:
        raise CapacityError([Finding("error", "x", f"number {i}\nis bad.") for i in range(30)])

    monkeypatch.setitem(cli_verbs.VERBS, "doctor", refuse)
    assert main(["doctor", "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 21
    assert "10 more" in captured.err
    assert len(json.loads(captured.out)["findings"]) == 30


# --- bad data --------------------------------------------------------------------------------------------------------


def test_bad_data(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.npz").write_text("no")
    cases = {
        str(tmp_path / "missing.npz"): ("missing.npz", "No such file"),
        str(tmp_path / "text.npz"): ("text.npz", "npz"),
        save(tmp_path / "channels.npz", channels=5): ("5 channels", "expects 3", "'in'"),
        save(tmp_path / "classes.npz", classes=3): ("class 2", "'out'", "2 output neurons", "0 to 1"),
        save(tmp_path / "step.npz", dt=0.05): ("0.05 s", "0.001 s", "--time-scale 50", "no dt"),
        save(tmp_path / "none.npz", samples=0): ("empty", "at least one sample"),
    }
    for path, words in cases.items():
        fails(capsys, ["deploy", model, "--data", path, "-o", str(tmp_path / "out")], *words)
        assert not (tmp_path / "out").exists()


def test_the_remedies_for_the_step_are_right(model: str, tmp_path: Path) -> None:
    sample = Data.load(save(tmp_path / "step.npz", dt=10 * DT))
    assert deployment.check_data(sample, from_nir(model, time_scale=10)) == ()
    with pytest.raises(
        ParameterRangeError, match=r"gains tell a step of 0\.002 s: .* time_scale=10 and no dt"
    ) as caught:
        deployment.check_data(sample, from_nir(model, time_scale=2))
    assert "dt=" not in str(caught.value)  # a spike would add five times as much
    plain = nir.read(model)
    for node in plain.nodes.values():
        if isinstance(node, nir.CubaLIF):
            node.r, node.w_in = np.ones_like(node.r), np.ones_like(node.r)  # gains that tell no step
    for network in (from_nir(plain, time_scale=10), from_nir(plain, dt=5 * DT, time_scale=2)):
        assert deployment.check_data(sample, network) == ()
    with pytest.raises(ParameterRangeError, match=r"time_scale=10 .*longer.*dt=0\.005 "):
        deployment.check_data(sample, from_nir(plain, time_scale=2))


def test_fractional_counts_are_no_events(model: str) -> None:
    values = Data(np.full((1, 2, 3), 0.5), np.zeros(1, int), DT)
    with pytest.raises(ConfigurationError, match=r"0\.5 events"):
        deployment.check_data(values, from_nir(model))


def test_several_outputs_count_the_first(tmp_path: Path) -> None:
    made = graph()
    made.nodes["second"] = nir.Output({"output": np.array([4])})
    made.edges.append(("hidden", "second"))
    network = from_nir(made)
    assert len(network.outputs) == 2
    (finding,) = deployment.check_data(Data(np.zeros((1, 2, 3)), np.zeros(1, int), DT), network)
    assert finding.code == "several-outputs"


def test_unknown_board(model: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["deploy", model, "--data", data, "--board", "virtuel:7"], "virtuel:7", "virtual:SEED")
    with pytest.raises(HardwareError):
        deployment.deploy(model, Data.load(data), board="usb")


def test_a_real_board_without_samna_is_exit_3(
    model: str, data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samna_board, "find_samna", lambda: ("missing", ""))
    argv = ["deploy", model, "--data", data, "--board", "samna"]
    fails(capsys, argv, "samna, which is not installed", "--index-url INDEX", code=3)
    monkeypatch.setattr(samna_board, "find_samna", lambda: ("placeholder", "site/samna/__init__.py"))
    fails(capsys, argv, "placeholder", "pip uninstall samna", code=3)
    assert main([*argv, "--json", "-q"]) == 3
    assert json.loads(capsys.readouterr().out)["type"] == "NotInstalledError"


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["depoly"], "deploy"),
        (["show", "primitive"], "primitives"),
        (["check", "x", "--time-unit", "mss"], "ms"),
        (["check", "x", "--fan-inn", "prune"], "--fan-in"),
        (["check", "x", "--fronted=spec"], "--frontend"),
        (["check", "x", "--chips", "9"], "allowed are whole numbers from 1 to 8"),
        (["check", "x", "--dt", "-1"], "--dt"),
        (["check", "x", "--dt", "fast"], "fast"),
        (["check", "x", "--seed", "-3"], "--seed"),
        (["check", "x", "-q", "-v"], "not allowed with"),
        (["simulate", "x", "--data", "y", "--ideal", "--chip", "1"], "not allowed with"),
        (["deploy", "x"], "--data"),
        ([], "VERB"),
    ],
)
def test_wrong_usage(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "--help" in captured.err


@pytest.mark.parametrize("verb", sorted(cli_verbs.VERBS))
def test_help_has_exit_codes_and_common_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "exit codes" in text
    assert "--json" in text


def test_choices_are_those_of_the_library() -> None:
    assert cli.FRONTENDS == FRONTENDS
    assert tuple(READERS) == options.READERS


def test_help_loads_nothing_heavy() -> None:
    """Its time: `tests/benchmarks/startup.py`."""
    code = "import sys; from nir_dynapse.cli.main import main; main(['--help']); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*args: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli_verbs.VERBS, "doctor", interrupt)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_package_is_exit_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def lacking(*args: Any) -> int:
        raise ModuleNotFoundError("No module named 'lava'", name="lava")

    monkeypatch.setitem(cli_verbs.VERBS, "doctor", lacking)
    assert main(["doctor"]) == 3
    assert "'lava'" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="no pipes to break")
def test_closed_pipe_is_no_error() -> None:
    code = "import sys; from nir_dynapse.cli.main import main; sys.exit(main(['show', 'parameters']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    message = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 0
    assert message == ""
