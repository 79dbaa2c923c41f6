"""The command line: verbs, JSON, exit codes, and one clear paragraph for every bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from nir_dynapse import cli, cli_verbs, deployment
from nir_dynapse.board import Data
from nir_dynapse.cli import main
from nir_dynapse.errors import CapacityError, ConfigurationError, Finding, HardwareError, ParameterRangeError
from nir_dynapse.import_.nir_graph import FRONTENDS, from_nir
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout import Layout
from nir_dynapse.primitives import PRIMITIVES

DT = 1e-3


def cuba(n: int, **changes: Any) -> nir.CubaLIF:
    values = {
        "tau_syn": np.full(n, 5 * DT),
        "tau_mem": np.full(n, 20 * DT),
        "r": np.full(n, 20.0),
        "v_leak": np.zeros(n),
        "v_threshold": np.ones(n),
        "v_reset": np.zeros(n),
        "w_in": np.full(n, 5.0),
    }
    return nir.CubaLIF(**{**values, **changes})


def graph(hidden: int = 4, weight: np.ndarray | None = None, **changes: Any) -> nir.NIRGraph:
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.3, 0.9, (hidden, 3)) if weight is None else weight
    nodes = {
        "in": nir.Input({"input": np.array([3])}),
        "fc1": nir.Linear(weight),
        "hidden": cuba(hidden, **changes),
        "fc2": nir.Linear(rng.normal(0.3, 0.4, (2, hidden))),
        "out": cuba(2),
        "output": nir.Output({"output": np.array([2])}),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, list(pairwise(names)), metadata={"dt": DT}, type_check=False)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write(tmp_path / "tiny.nir", graph())


def write(path: Path, thing: nir.NIRGraph) -> str:
    nir.write(path, thing)
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return save(tmp_path / "test.npz")


def save(path: Path, channels: int = 3, classes: int = 2, dt: float = DT, samples: int = 6) -> str:
    rng = np.random.default_rng(0)
    x = rng.poisson(0.3, (samples, 12, channels)).astype(np.uint8)
    Data(x, np.arange(samples) % classes, dt).save(path)
    return str(path)


def fails(capsys: pytest.CaptureFixture[str], argv: list[str], *words: str, code: int = 1) -> str:
    """Run and expect `code`, an empty stdout and one paragraph on stderr that holds `words`; returns it."""
    assert main([*argv, "-q"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err.startswith("nir-dynapse: ")
    for word in words:
        assert word in captured.err
    return captured.err


# --- deploy ----------------------------------------------------------------------------------------------------------


def test_deploy_writes_everything(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "out"
    assert main(["deploy", model, "--data", data, "--board", "virtual:7", "-o", str(out)]) == 0
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
    assert len(result["files"]) == 4
    assert " s\n" in first.err
    assert main([*argv, "-o", str(tmp_path / "b")]) == 0
    for name in deployment.FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_deploy_without_folder_writes_nothing(
    model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["deploy", model, "--data", data, "-q"]) == 0
    captured = capsys.readouterr()
    assert "Nothing was written" in captured.out
    assert captured.err == ""
    assert sorted(tmp_path.iterdir()) == before


def test_deploy_again_replaces(model: str, data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "layout.json").write_text("old")
    (out / "mine.txt").write_text("kept")
    assert main(["deploy", model, "--data", data, "-q", "-o", str(out)]) == 0
    assert Layout.load(out / "layout.json").n_neurons == 6
    assert sorted(p.name for p in out.iterdir()) == sorted([*deployment.FILES, "mine.txt"])


def test_failed_write_leaves_nothing(model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    made = deployment.deploy(model, Data.load(data))
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
    other = deployment.deploy(write(tmp_path / "other.nir", graph(5)), Data.load(data)).layout
    monkeypatch.setattr(deployment, "from_samna", lambda *args, **kwargs: other)
    out = tmp_path / "out"
    fails(capsys, ["deploy", model, "--data", data, "-o", str(out)], "does not read back", "report it")
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
        save(tmp_path / "step.npz", dt=0.05): ("0.05 s", "0.001 s", "--time-scale 50", "--dt 0.05"),
        save(tmp_path / "none.npz", samples=0): ("empty", "at least one sample"),
    }
    for path, words in cases.items():
        fails(capsys, ["deploy", model, "--data", path, "-o", str(tmp_path / "out")], *words)
        assert not (tmp_path / "out").exists()


def test_the_remedies_for_the_step_are_right(model: str, tmp_path: Path) -> None:
    sample = Data.load(save(tmp_path / "step.npz", dt=10 * DT))
    for network in (from_nir(model, time_scale=10), from_nir(model, dt=5 * DT, time_scale=2)):
        assert deployment.check_data(sample, network) == ()
    with pytest.raises(ParameterRangeError, match=r"--time-scale 10 .*longer.*--dt 0\.005 "):
        deployment.check_data(sample, from_nir(model, time_scale=2))


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


def test_missing_samna_is_exit_3(model: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", model, "--data", data, "--board", "samna"]) == 3
    assert "samna" in capsys.readouterr().err


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


@pytest.mark.parametrize("what", ["device", "parameters", "primitives"])
def test_show(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", what]) == 0
    text = capsys.readouterr().out
    assert main(["show", what, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    if what == "device":
        assert data["n_neurons"] == 1024
        assert "1024" in text
    elif what == "parameters":
        assert all(row["name"] in text and row["lowest_a"] < row["highest_a"] for row in data)
    else:
        assert set(data) == set(PRIMITIVES)
        assert all(name in text for name in PRIMITIVES)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    items = {item["name"]: item for item in json.loads(capsys.readouterr().out)["items"]}
    assert items["python"]["state"] == items["jax devices"]["state"] == "ok"
    assert items["samna"]["need"] == items["lava-nc"]["need"] == "optional"
    assert main(["doctor"]) == 0
    assert "jax devices" in capsys.readouterr().out


def test_doctor_misses_what_is_required(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("nir_dynapse.cli_doctor.REQUIRED", ("numpy", "no-such-package"))
    assert main(["doctor"]) == 3
    assert "no-such-package" in capsys.readouterr().out


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["depoly"], "deploy"),
        (["show", "primitive"], "primitives"),
        (["check", "x", "--time-unit", "mss"], "ms"),
        (["check", "x", "--fan-inn", "prune"], "--fan-in"),
        (["check", "x", "--fronted=spec"], "--frontend"),
        (["check", "x", "--chips", "9"], "Choose from 1, 2"),
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
def test_help_has_purpose_and_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"example: nir-dynapse {verb}" in text
    assert "exit codes" in text
    assert "--json" in text


def test_choices_are_those_of_the_library() -> None:
    assert cli.FRONTENDS == FRONTENDS


def test_help_is_quick() -> None:
    """No heavy import stands before --help."""
    code = "import sys; from nir_dynapse.cli import main; main(['--help']); sys.exit('numpy' in sys.modules)"
    start = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0
    assert time.monotonic() - start < 5


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
    code = "import sys; from nir_dynapse.cli import main; sys.exit(main(['show', 'parameters']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    message = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 0
    assert message == ""
