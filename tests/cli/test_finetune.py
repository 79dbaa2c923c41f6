"""The verb `finetune`, and what compile, evaluate, simulate and deploy do with what was trained."""

from __future__ import annotations

import inspect
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from cli_models import DT, fails, graph, save, write
from given_bits import assert_same
from nir_dynapse.backend import dynapse2
from nir_dynapse.cli import options as cli_options
from nir_dynapse.cli.main import main
from nir_dynapse.cli.output import Output
from nir_dynapse.cli.training_options import finetune_options
from nir_dynapse.deployment import deploy as deployment
from nir_dynapse.deployment import stages as deployment_training
from nir_dynapse.fitting.fit import fit_to_data
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.reporting.training_log import TrainingLog
from nir_dynapse.sim.virtual.board import VirtualBoard
from nir_dynapse.training.fine_tune import USUAL, fine_tune
from nir_dynapse.training.losses import Penalty
from nir_dynapse.training.steps import Attack
from tuning_cases import shared_compilation

QUICK = ("--steps", "4", "--devices", "2", "--batch", "2", "--check-every", "2", "--uniform", "0.2")
SPREAD = nd.Mismatch.uniform(0.2)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trainings of this file share their compiled steps."""
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.nir, train.npz and test.npz, and what a short training made: tuned.npz, log.csv, log.svg, out.json."""
    path = tmp_path_factory.mktemp("finetune")
    write(path / "m.nir", graph())
    x = np.random.default_rng(0).poisson(0.6, (12, 12, 3)).astype(np.uint8)
    nd.Data(x, np.arange(12) % 2, DT).save(path / "train.npz")
    save(path / "test.npz")
    files = ["-o", str(path / "tuned.npz"), "--log", str(path / "log.csv"), "--plot", str(path / "log.svg")]
    out, said = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(said):
        assert main([*command(path), *QUICK, *files, "--json", "-v"]) == 0
    (path / "out.json").write_text(out.getvalue())
    (path / "said.txt").write_text(said.getvalue())
    return path


def command(folder: Path, model: str = "m.nir") -> list[str]:
    return ["finetune", str(folder / model), "--train", str(folder / "train.npz")]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[dict[str, Any]]:
    """What `fine_tune` was called with, in place of a training."""
    calls: list[dict[str, Any]] = []

    def fake(thing: Any, data: nd.Data, **keywords: Any) -> nd.Params:
        calls.append({"thing": thing, "data": data, **keywords})
        keywords["progress"]("step 4", 1.0)
        TrainingLog.load(folder / "log.csv").save(keywords["log"])
        return nd.load_params(folder / "tuned.npz")

    monkeypatch.setattr(import_module("nir_dynapse.training.fine_tune"), "fine_tune", fake)
    return calls


# --- finetune ---------------------------------------------------------------------------------------------------------


def test_everything_is_written(folder: Path) -> None:
    result = json.loads((folder / "out.json").read_text())
    log = TrainingLog.load(folder / "log.csv")
    assert log.step.tolist() == [2, 4]
    best = log.step.tolist().index(result["best_step"])
    assert result["held_out"] == log.held_out[best] == log.held_out.max()
    assert (result["steps"], result["rows"]) == (4, nd.load_params(folder / "tuned.npz").topology.n_synapses)
    assert [Path(name).name for name in result["files"]] == ["tuned.npz", "log.csv", "log.svg"]
    assert "held-out chips" in (folder / "log.svg").read_text()
    assert re.search(r"^100 %  step 4, ", (folder / "said.txt").read_text(), re.M)


def test_goes_on_bit_for_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*command(folder), *QUICK, "-o", str(tmp_path / "tuned.npz"), "--log", str(tmp_path / "log.csv")]
    argv += ["--checkpoint", str(tmp_path / "so_far.npz")]

    @contextmanager
    def stopping(self: Output) -> Iterator[Callable[[str, float], None]]:
        def tell(stage: str, fraction: float) -> None:
            raise KeyboardInterrupt

        yield tell

    with monkeypatch.context() as patch:
        patch.setattr(Output, "progress", stopping)
        assert main(argv) == 130
    assert "give the same command again" in capsys.readouterr().err
    assert not (tmp_path / "tuned.npz").exists()
    assert TrainingLog.load(tmp_path / "log.csv").step.tolist() == [2]
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert "step 2," not in captured.err  # the first half is not done again
    assert (tmp_path / "tuned.npz").read_bytes() == (folder / "tuned.npz").read_bytes()
    before, after = (TrainingLog.load(path / "log.csv") for path in (folder, tmp_path))
    assert replace(before, seconds=np.zeros(2)) == replace(after, seconds=np.zeros(2))
    fails(capsys, [*argv, "--seed", "1"], "another training", "delete this one")


def test_options_reach_the_training(folder: Path, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    words = "--steps 9 --devices 3 --loss first-spike --bits 0 --rate 0.02 --batch 5 --dropout 0.1 --worst 0.5"
    words += " --adversarial 0.3 --sparsity 0.01 --operations 0.2 --patience 2 --check-every 3 --seed 7 --chips 2"
    words += " --board virtual:4 --delays all"
    extra = ["--validation", str(folder / "test.npz"), "--checkpoint", str(tmp_path / "c.npz")]
    assert main([*command(folder), *words.split(), *extra, "-o", str(tmp_path / "a.npz"), "-q"]) == 0
    assert (tmp_path / "a.npz").read_bytes() == (folder / "tuned.npz").read_bytes()
    (call,) = asked
    assert isinstance(call["thing"], nd.Network)
    assert len(call["data"]) == 12
    assert len(call["validation"]) == 6
    assert isinstance(call["board"], VirtualBoard)
    wanted = {"steps": 9, "devices": 3, "loss": "first-spike", "bits": None, "key": 7, "mismatch": None}
    assert {name: call[name] for name in wanted} == wanted
    assert call["device"].n_chips == 2
    assert call["checkpoint"] == str(tmp_path / "c.npz")
    assert call["options"] == nd.TrainingOptions(
        rate=0.02,
        batch=5,
        dropout=0.1,
        worst=0.5,
        attack=Attack(size=0.3),
        penalty=Penalty(sparsity=0.01, operations=0.2),
        patience=2,
        check_every=3,
        delays="all",
    )


def test_defaults_are_those_of_the_library(folder: Path, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    assert main([*command(folder), "-o", str(tmp_path / "a.npz"), "-q", "--adversarial"]) == 0
    (call,) = asked
    assert call["options"] == nd.TrainingOptions(attack=Attack())
    known = {name: p.default for name, p in inspect.signature(fine_tune).parameters.items()}
    called = {
        name: value for name, value in call.items() if name in known and known[name] is not inspect.Parameter.empty
    }
    assert {k: v for k, v in called.items() if k not in ("options", "log", "progress")}.items() <= known.items()
    verb = cli_options.Parser()
    finetune_options(verb)
    text = " ".join(verb.format_help().split())
    options = nd.TrainingOptions()
    said = {
        "--devices N": USUAL.devices,
        "--steps N": USUAL.steps,
        "--bits N": known["bits"],
        "--batch N": USUAL.batch,
        "--rate X": options.rate,
        "--check-every N": USUAL.check_every,
        "--worst SHARE": options.worst,
        "--dropout SHARE": options.dropout,
        "--adversarial [SIZE]": Attack().size,
    }
    for option, value in said.items():
        assert f"(default {value:g})" in text.rsplit(f"{option} ", 1)[1].split(" --")[0], option


def test_of_a_teacher_and_what_was_trained(
    folder: Path, tmp_path: Path, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(folder / "train.npz") as arrays:
        np.savez(tmp_path / "unlabelled.npz", x=arrays["x"], dt=arrays["dt"])
    unlabelled = ["finetune", str(folder / "m.nir"), "--train", str(tmp_path / "unlabelled.npz")]
    out = ["--steps", "4", "-o", str(tmp_path / "a.npz"), "-q"]
    assert main([*unlabelled, "--teacher", *out]) == 0
    assert asked[0]["teacher"] is True
    assert "from the teacher" in capsys.readouterr().out
    assert main([*command(folder, "tuned.npz"), *out]) == 0
    assert isinstance(asked[1]["thing"], nd.Params)
    assert "right" in capsys.readouterr().out
    fails(capsys, [*command(folder, "tuned.npz"), "--teacher", *out], "no ideal run", "MODEL.nir")
    fails(capsys, [*unlabelled, *out], "lacks y")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--loss most", 2, "Choose from counts"),
        ("--loss counts --teacher", 2, "not allowed with"),
        ("--bits 5", 2, "--bits"),
        ("--devices 0", 2, "whole numbers from 1 to"),
        ("--delays some", 2, "Choose from keep, none, inputs, all"),
        ("--adversarial -1", 2, "--adversarial"),
        ("--uniform x", 2, "is x, allowed are numbers from 0"),
        ("--dropout 2", 2, "is 2, allowed are numbers from 0 up to 0.95"),
        ("--worst 3", 2, "is 3, allowed are numbers from"),
        ("--board usb", 1, "unknown board"),
        ("--validation none.npz", 1, "cannot be read"),
        ("--log no/where.csv", 1, "no folder"),
        ("--log out.npz", 1, "both --out and --log"),
        ("--time-scale 2", 1, "bins of 0.001 s"),
    ],
)
def test_wrong_options(
    words: str,
    code: int,
    said: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(capsys, [*command(folder), *words.split(), "-o", "out.npz"], said, code=code)
    assert not list(tmp_path.iterdir())


# --- what was trained -------------------------------------------------------------------------------------------------


def test_compile_takes_just_these_currents(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = str(folder / "tuned.npz")
    argv = ["compile", str(folder / "m.nir"), "--params", tuned, "-o", str(tmp_path / "layout.json")]
    assert main([*argv, "-q"]) == 0
    layout = nd.Layout.load(tmp_path / "layout.json")
    assert_same(layout_to_params(layout), nd.load_params(tuned))
    capsys.readouterr()
    other = write(tmp_path / "other.nir", graph(5))
    fails(capsys, ["compile", other, *argv[2:]], "('hidden', 4)", "Give the network")
    fails(capsys, [*argv, "--dt", "0.002"], "step of 0.001 s")
    fails(capsys, [*argv[:3], str(folder / "train.npz"), *argv[4:]], "not a file of Params")


def test_evaluate_and_simulate_take_params(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned, data = str(folder / "tuned.npz"), str(folder / "test.npz")
    assert main(["evaluate", tuned, "--data", data, "--devices", "2", "--seed", "5", "--json", "-q"]) == 0
    wanted = nd.evaluate(nd.load_params(tuned), nd.Data.load(data), devices=2, key=5)
    assert json.loads(capsys.readouterr().out) == {**wanted.to_dict(), "findings": []}
    assert main(["simulate", tuned, "--data", data, "--chip", "6", "--json", "-q"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    assert accuracy["correct"] / accuracy["total"] == wanted.accuracy[1]
    fails(capsys, ["evaluate", str(folder / "train.npz"), "--data", data], "not a file of Params")
    fails(capsys, ["simulate", tuned, "--data", data, "--ideal"], "only a Network has")


def test_is_part_of_the_package() -> None:
    assert dynapse2.fine_tune is nd.fine_tune
    assert {"fine_tune", "TrainingOptions", "save_params", "load_params"} <= set(nd.__all__)


# --- deploy -----------------------------------------------------------------------------------------------------------


def test_deploy_trains_and_compares(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    options = nd.TrainingOptions(batch=2, check_every=2)
    made = deployment.deploy(
        folder / "m.nir",
        nd.Data.load(folder / "test.npz"),
        board="virtual:3",
        train=nd.Data.load(folder / "train.npz"),
        training={"steps": 4, "devices": 2, "mismatch": SPREAD, "options": options},
        spend="none",
        compare=3,
        progress=lambda stage, fraction: told.append((stage, fraction)),
    )
    files = made.write(tmp_path / "out")
    assert sorted(path.name for path in files) == sorted((*deployment.FILES, *deployment.TRAINING_FILES))
    assert sorted(tmp_path.joinpath("out").iterdir()) == sorted(files)
    assert (tmp_path / "out" / "tuned.npz").read_bytes() == (folder / "tuned.npz").read_bytes()
    assert TrainingLog.load(tmp_path / "out" / "training.csv") == made.log
    for name in ("training.svg", "chips.svg"):
        assert (tmp_path / "out" / name).read_text().rstrip().endswith("</svg>")

    data, net = nd.Data.load(folder / "test.npz"), nd.from_nir(folder / "m.nir")
    fitted, found = fit_to_data(net, nd.Data.load(folder / "train.npz"), tried=1, own_rows=False)
    before = ["closed form"] * found.kept
    rows = ["ideal", *before, "untrained circuit", "circuit", "quantised", "on this chip"]
    assert [row.name for row in made.accuracy] == rows
    assert made.params is not None
    for run, thing in (("untrained circuit", fitted), ("circuit", made.params), ("quantised", made.layout)):
        assert (made.counts[run] == nd.simulate(thing, data.x).counts()).all()
    found = made.report.virtual_chips
    assert list(found) == ["before training", "after training"]
    for thing, run in zip((nd.compile(net, params=fitted), made.layout), found.values(), strict=True):
        assert run == nd.evaluate(thing, data, devices=3, mismatch=SPREAD, key=1000).to_dict()
    for words in ("On 3 virtual chips", "after training against before training", "▇", "mismatch CV 0.2", "4 steps"):
        assert words in made.report.text()

    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert any(stage.startswith("train: step 2") for stage, _ in told)


def test_deploy_on_the_command_line(
    folder: Path, tmp_path: Path, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["deploy", str(folder / "m.nir"), "--data", str(folder / "test.npz"), "-q", "--json"]
    train = ["--train", str(folder / "train.npz"), "--train-steps", "4", "--train-devices", "2", "--uniform", "0.2"]
    train += ["--delays", "inputs"]
    assert main([*argv, *train, "--no-fit", "--compare", "2", "--seed", "3", "-o", str(tmp_path / "out")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [Path(name).name for name in result["files"]] == [*deployment.FILES, *deployment.TRAINING_FILES]
    assert [run["devices"] for run in result["virtual_chips"].values()] == [2, 2]
    (call,) = asked
    wanted = {"steps": 4, "devices": 2, "mismatch": SPREAD, "key": 3, "options": nd.TrainingOptions(delays="inputs")}
    assert {name: call[name] for name in wanted} == wanted

    assert main([*argv, "--params", str(folder / "tuned.npz"), "--compare", "0", "-o", str(tmp_path / "again")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [Path(name).name for name in result["files"]] == [*deployment.FILES, "tuned.npz"]
    assert len(result["accuracy"]) == 5
    assert not result["virtual_chips"]
    layouts = [nd.Layout.load(tmp_path / name / "layout.json") for name in ("out", "again")]
    assert_same(layout_to_params(layouts[0]), layout_to_params(layouts[1]))


@pytest.mark.parametrize("name", ["save_params", "distribution_svg"])
def test_all_files_or_none(
    name: str, folder: Path, tmp_path: Path, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    train, data = (nd.Data.load(folder / name) for name in ("train.npz", "test.npz"))
    made = deployment.deploy(folder / "m.nir", data, train=train, compare=1, fit=False)
    monkeypatch.setattr(deployment, name, full)
    with pytest.raises(nd.ConfigurationError, match="No space left"):
        made.write(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_done_is_found_first(
    folder: Path, tmp_path: Path, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["deploy", str(folder / "m.nir"), "--data", str(folder / "test.npz")]
    (tmp_path / "out" / "chips.svg").mkdir(parents=True)
    train = ["--train", str(folder / "train.npz")]
    fails(capsys, [*argv, *train, "-o", str(tmp_path / "out")], "chips.svg", "Choose another")
    fails(capsys, [*argv, "--train-steps", "5", "--compare", "3"], "--train-steps, --compare", "--train TRAIN.npz")
    fails(capsys, [*argv, "--delays", "all"], "--delays: nothing is trained")
    fails(capsys, [*argv, "--params", str(folder / "tuned.npz"), "--train-devices", "5"], "--train-devices")
    other = ["deploy", write(tmp_path / "other.nir", graph(5)), *argv[2:]]
    fails(capsys, [*other, "--params", str(folder / "tuned.npz")], "Give the network that they were trained from")
    wide = ["deploy", write(tmp_path / "wide.nir", graph(70)), *argv[2:]]
    fails(capsys, [*wide, *train, "--fan-in", "refuse"], "70 incoming", "64")
    assert not asked

    data = nd.Data.load(folder / "test.npz")
    with pytest.raises(nd.ConfigurationError, match="training says steps, but there is nothing"):
        deployment.deploy(folder / "m.nir", data, training={"steps": 3})
    with pytest.raises(nd.ParameterRangeError, match="compare is -1"):
        deployment.deploy(folder / "m.nir", data, train=data, compare=-1)


def test_the_board_is_not_compared_on() -> None:
    for board in ("virtual:0", "virtual", "samna:3", "virtual:999", "virtual:1100"):
        assert deployment_training.first_seed(board, 100) == 1000
    assert deployment_training.first_seed("virtual:1000", 100) == 1001
    assert deployment_training.first_seed("virtual:1099", 100) == 1100


@pytest.mark.long
def test_what_comes_next_can_be_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that are printed have the options with which the network was read."""
    out = str(tmp_path / "tuned file.npz")
    argv = ["finetune", str(folder / "m.nir"), "--train", str(folder / "train.npz"), *QUICK, "-o", out]
    argv += ["--reset", "value", "--reset-delay"]
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert re.search(r"; \d+ s in all\.$", captured.out.splitlines()[0])
    assert "compiling, then 4 steps" in captured.err
    assert re.search(r"held out .* s left$", captured.err, re.M)
    commands = [shlex.split(line.partition(": ")[2]) for line in captured.out.splitlines()[-2:]]
    assert [command[:2] for command in commands] == [["nir-dynapse", "compile"], ["nir-dynapse", "deploy"]]
    for command in commands:
        assert {"--reset", "--reset-delay", "--params", out} <= {*command}
        words = [str(folder / "test.npz") if word == "TEST.npz" else word for word in command[1:-1]]
        assert main([*words, str(tmp_path / command[-1])]) == 0
