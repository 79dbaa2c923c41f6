"""`evaluate`: accuracy on many virtual chips, statistics, checkpoints, the verb of the command line."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from cli_models import fails, save
from nir_dynapse.cli.main import main
from nir_dynapse.deployment import deploy as deployment
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.evaluation import evaluate as evaluation
from nir_dynapse.evaluation.evaluate import Evaluation, evaluate
from nir_dynapse.network.network import Population, Projection, Readout
from nir_dynapse.sim import ensemble, ensemble_native, ensemble_scanned, wiring
from nir_dynapse.sim.native import here as native
from shortened import shortened

COLUMNS = ("accuracy", "seeds", "ties", "silent", "nominal")


@pytest.fixture(scope="module")
def network(networks: ModuleType) -> nd.Network:
    return networks.recurrent(4, 6, 10, 3, fan_in=5)


@pytest.fixture(scope="module")
def layout(network: nd.Network) -> nd.Layout:
    return nd.compile(network)


@pytest.fixture(scope="module")
def samples(layout: nd.Layout) -> nd.Data:
    """Labelled with what the nominal chip says, so that chips differ in accuracy."""
    x = np.random.default_rng(0).poisson(0.6, (14, 30, 6)).astype(np.uint8)
    return nd.Data(x, nd.simulate(layout, x).counts().argmax(1), 1e-3)


@pytest.fixture(scope="module")
def whole(layout: nd.Layout, samples: nd.Data) -> Evaluation:
    """Twelve chips: more than one round."""
    return evaluate(layout, samples, devices=12, key=5, mismatch=nd.Mismatch.uniform(0.2))


def same(a: Evaluation, b: Evaluation) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in COLUMNS)


def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble_scanned, "_run", None)
    monkeypatch.setattr(ensemble_native, "play", None)


class Stop(Exception):
    """Stands for a kill."""


def stop_after(calls: int) -> Any:
    told: list[float] = []

    def tell(stage: str, fraction: float) -> None:
        assert stage == "chips"
        told.append(fraction)
        if len(told) == calls:
            raise Stop

    return tell


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_each_chip_is_the_one_that_simulate_and_boards_know(
    layout: nd.Layout, samples: nd.Data, whole: Evaluation
) -> None:
    mismatch = nd.Mismatch.uniform(0.2)
    assert whole.seeds.tolist() == list(range(5, 17))
    assert len({*whole.accuracy.tolist()}) > 2, "chips differ"
    for seed in (5, 9, 16):
        alone = nd.simulate(layout, samples.x, mismatch=mismatch, key=seed).counts()
        score = deployment.score("", alone, samples.y)
        k = seed - 5
        assert (score.share, score.ties, score.silent) == (whole.accuracy[k], whole.ties[k], whole.silent[k])
        with nd.open_board(f"virtual:{seed}", mismatch=mismatch) as board:
            board.apply(layout)
            assert (board.run_batch(samples.x, samples.dt).counts() == alone).all()
    assert whole.nominal == 1.0


@pytest.mark.parametrize("by_xla", [False, True])
def test_counts_are_those_of_simulate(
    by_xla: bool, network: nd.Network, samples: nd.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chips with different numbers of internal steps each run with their own."""
    if by_xla:
        monkeypatch.setattr(native, "available", lambda: False)
    params, mismatch = nd.to_params(network), nd.Mismatch.uniform(0.3)
    chips = ensemble_scanned._Chips(params, mismatch, samples.dt, 16.0)
    assert {chips.kind(k).n_sub for k in range(6)} == {1}, "no refractory period shortens the steps of all"
    assert any(chips.kind(k).structure.again for k in range(6))
    found: dict[int, np.ndarray] = {}
    for part in ensemble.output_counts(params, samples.x, samples.dt, mismatch, range(6)):
        found.update(part)
    assert sorted(found) == list(range(6))
    for k, counts in found.items():
        assert (counts == nd.simulate(params, samples.x, mismatch=mismatch, key=k).counts()).all()


def test_network_params_and_layout(network: nd.Network, layout: nd.Layout, samples: nd.Data) -> None:
    ideal = evaluate(network, samples, devices=3)
    assert same(ideal, evaluate(nd.to_params(network), samples, devices=3))
    assert same(evaluate(layout, samples, devices=3), evaluate(nd.to_params(layout), samples, devices=3))


def test_no_mismatch_is_the_nominal_chip(layout: nd.Layout, samples: nd.Data) -> None:
    result = evaluate(layout, samples, devices=2, mismatch=nd.Mismatch.none())
    assert result.accuracy.tolist() == [result.nominal] * 2 == [1.0, 1.0]


def test_the_default_mismatch_is_the_devices(layout: nd.Layout, samples: nd.Data) -> None:
    quiet = replace(nd.DYNAPSE2, mismatch=nd.Mismatch.none())
    assert (evaluate(layout, samples, devices=4, device=quiet).accuracy == 1.0).all()
    known = evaluate(layout, samples, devices=4, mismatch=nd.DYNAPSE2.mismatch)
    assert same(evaluate(layout, samples, devices=4), known)


def test_chips_do_not_depend_on_the_others(layout: nd.Layout, samples: nd.Data, whole: Evaluation) -> None:
    part = evaluate(layout, samples, devices=3, key=9, mismatch=nd.Mismatch.uniform(0.2))
    assert (part.accuracy == whole.accuracy[4:7]).all()


@pytest.mark.parametrize("memory", shortened([1, 60_000, 200_000]))
def test_little_memory_gives_the_same_numbers(
    memory: int, layout: nd.Layout, samples: nd.Data, whole: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples are cut."""
    cuts: list[int] = []
    chips = ensemble_native._Chips
    monkeypatch.setattr(ensemble_native, "_Chips", lambda *args: cuts.append(len((c := chips(*args)).parts)) or c)
    options: dict[str, Any] = {"devices": 12, "key": 5, "mismatch": nd.Mismatch.uniform(0.2)}
    assert same(evaluate(layout, samples, memory=memory, **options), whole)
    if native.available():
        assert (cuts[0] > 1) == (memory < 10_000)


@pytest.mark.parametrize("memory", shortened([1, 60_000, 200_000]))
def test_little_memory_of_a_device_gives_the_same_numbers(
    memory: int, layout: nd.Layout, samples: nd.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA's way, that of GPUs."""
    monkeypatch.setattr(native, "available", lambda: False)
    options: dict[str, Any] = {"devices": 12, "key": 5, "mismatch": nd.Mismatch.uniform(0.2)}
    whole = evaluate(layout, samples, **options)
    plans = []
    plan = ensemble_scanned._plan
    monkeypatch.setattr(ensemble_scanned, "_plan", lambda *args: plans.append(plan(*args)) or plans[-1])
    assert same(evaluate(layout, samples, memory=memory, **options), whole)
    assert plans[0].chips < ensemble_scanned.MOST_CHIPS
    assert (plans[0].samples < len(samples)) == (memory < 200_000)


def test_sums_of_weights_are_exact() -> None:
    rng = np.random.default_rng(0)
    weights = rng.lognormal(0, 3, (3000, 4)) * (rng.random((3000, 4)) < 0.5)
    rounded = wiring.on_grid(weights, 16 * weights.sum(0))
    assert (np.abs(rounded - weights) <= 2e-6 * weights.sum(0)).all()
    x = rng.integers(0, 17, 3000).astype(np.float32)
    terms = x[:, None] * rounded
    for _ in range(3):
        order = rng.permutation(3000)
        assert (np.add.accumulate(terms[order], dtype=np.float32)[-1] == terms.sum(0, dtype=np.float64)).all()
    assert (wiring.on_grid(np.zeros((3, 2)), np.zeros(2)) == 0).all()


def test_readout_on_the_host(network: nd.Network, samples: nd.Data) -> None:
    """An LI population at the end is computed per chip as `simulate` does, also with the samples cut."""
    one = np.ones(3)
    reader = Population("reader", "LI", 10e-3 * one, one, 0 * one, np.inf * one, 0 * one)
    weights = np.random.default_rng(1).normal(size=(3, 3))
    readout = Readout((reader,), (Projection.from_dense("output", "reader", weights, nodes=("last",)),))
    thing = replace(network, readout=readout, outputs=(nd_port("reader"),))
    result = evaluate(thing, samples, devices=2, key=3)
    assert same(result, evaluate(thing, samples, devices=2, key=3, memory=60_000))
    for k in (0, 1):
        values = nd.simulate(thing, samples.x, mismatch=nd.Mismatch(), key=3 + k).counts()
        assert deployment.score("", values, samples.y).share == result.accuracy[k]


def nd_port(source: str) -> Any:
    from nir_dynapse.network.network import Port

    return Port("out", (3,), source)


# --- statistics -------------------------------------------------------------------------------------------------------


def test_statistics() -> None:
    accuracy = np.array([0.5, 1.0, 0.75, 0.25, 0.5])
    none = np.zeros(5, int)
    result = Evaluation(accuracy, 7 + np.arange(5), none, none + 1, 4, 0.75)
    assert (result.median, result.quartiles, result.minimum, result.mean) == (0.5, (0.5, 0.75), 0.25, 0.6)
    assert result.quantile(0.05) == pytest.approx(0.3)
    assert (result.worst, len(result)) == (10, 5)
    stored = json.loads(json.dumps(result.to_dict()))
    assert (stored["median"], stored["quartiles"], stored["worst"]) == (0.5, [0.5, 0.75], 10)
    assert stored["accuracy"] == accuracy.tolist()
    text = str(result)
    for words in ("5 virtual chips (virtual:7 to 11)", "50.0 % to 75.0 %", "25.0 % (virtual:10)", "0.0 %, 25.0 %"):
        assert words in text
    with pytest.raises(ValueError, match="read-only"):
        result.accuracy[0] = 1


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"devices": 0}, "devices is 0, allowed are whole numbers from 1"),
        ({"devices": 2.5}, "devices is 2.5"),
        ({"key": -1}, "key is -1, allowed are whole numbers from 0"),
        ({"memory": 0}, "memory is 0"),
    ],
)
def test_options_out_of_range(layout: nd.Layout, samples: nd.Data, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterRangeError, match=words):
        evaluate(layout, samples, **options)


@pytest.mark.parametrize("kind", ["network", "params", "layout"])
def test_data_that_does_not_fit(kind: str, network: nd.Network, layout: nd.Layout, samples: nd.Data) -> None:
    thing = {"network": network, "params": nd.to_params(network), "layout": layout}[kind]
    wrong = {
        "channels": nd.Data(samples.x[:, :, :5], samples.y, 1e-3),
        "class 3": nd.Data(samples.x, samples.y + 3 - samples.y.max(), 1e-3),
        "0.002 s": nd.Data(samples.x, samples.y, 2e-3),
        "0.5 events": nd.Data(samples.x * 0.5 + 0.5, samples.y, 1e-3),
    }
    for words, data in wrong.items():
        with pytest.raises((ConfigurationError, ParameterRangeError), match=words):
            evaluate(thing, data, devices=1)
    with pytest.raises(ConfigurationError, match=r"the data is a tuple. Give Data"):
        evaluate(thing, (samples.x, samples.y), devices=1)  # pyright: ignore[reportArgumentType]


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_goes_on_where_it_stopped(
    calls: int, tmp_path: Path, layout: nd.Layout, samples: nd.Data, whole: Evaluation
) -> None:
    path = tmp_path / "chips.npz"
    options: dict[str, Any] = {"devices": 12, "key": 5, "mismatch": nd.Mismatch.uniform(0.2), "checkpoint": path}
    with pytest.raises(Stop):
        evaluate(layout, samples, progress=stop_after(calls), **options)
    assert path.exists() == (calls > 1), "nothing to keep before the first round"
    told: list[float] = []
    result = evaluate(layout, samples, progress=lambda stage, fraction: told.append(fraction), **options)
    assert same(result, whole)
    assert (told[0] > 0) == (calls > 1)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["chips.npz"]


def test_a_finished_checkpoint_computes_nothing_and_grows(
    tmp_path: Path, layout: nd.Layout, samples: nd.Data, whole: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"key": 5, "mismatch": nd.Mismatch.uniform(0.2), "checkpoint": tmp_path / "chips.npz"}
    first = evaluate(layout, samples, devices=4, **options)
    assert same(evaluate(layout, samples, devices=12, **options), whole)
    nothing_runs(monkeypatch)
    assert same(evaluate(layout, samples, devices=12, **options), whole)
    assert same(evaluate(layout, samples, devices=4, **options), first)
    assert same(evaluate(layout, samples, devices=12, **options), whole), "fewer chips forget none"


def test_foreign_checkpoints_are_refused(tmp_path: Path, network: nd.Network, samples: nd.Data) -> None:
    path = tmp_path / "chips.npz"
    evaluate(network, samples, devices=1, checkpoint=path)
    before = path.read_bytes()
    other = nd.Data(samples.x, (samples.y + 1) % 3, samples.dt)
    cases = {
        "key": {"key": 1},
        "mismatch": {"mismatch": nd.Mismatch.uniform(0.1)},
        "data": {"data": other},
        "thing": {"thing": nd.compile(network)},
        "device": {"device": nd.DYNAPSE2.stack(2)},
    }
    for what, change in cases.items():
        arguments: dict[str, Any] = {"thing": network, "data": samples, **change}
        message = re.escape(str(path)) + f".*made with another {what}.*Give another file .* or delete this one"
        with pytest.raises(ConfigurationError, match=message):
            evaluate(arguments.pop("thing"), arguments.pop("data"), devices=1, checkpoint=path, **arguments)
    assert path.read_bytes() == before


def test_damaged_checkpoints_are_refused(tmp_path: Path, network: nd.Network, samples: nd.Data) -> None:
    path = tmp_path / "chips.npz"
    evaluate(network, samples, devices=1, checkpoint=path)
    good = path.read_bytes()
    with np.load(path) as archive:
        arrays = dict(archive)
    half = arrays["table"].copy()
    half[0, 1] = -1
    damaged = {
        "cut": good[: len(good) // 2],
        "empty": b"",
        "text": b"hello",
        "pickle": {**arrays, "table": np.array([{}], object)},
        "missing": {"table": arrays["table"]},
        "version": {**arrays, "format": np.array("another")},
        "half a row": {**arrays, "table": half},
        "too many": {**arrays, "table": arrays["table"] + 1000},
        "text in it": {**arrays, "table": np.array(["a"])},
        "digests": {**arrays, "digests": arrays["digests"][:2]},
    }
    for content in damaged.values():
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez(path, allow_pickle=True, **content)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ConfigurationError, match=r"chips.npz: .*(delete|Delete)"):
            evaluate(network, samples, devices=1, checkpoint=path)
    for place, words in ((tmp_path, "is a folder"), (tmp_path / "no" / "chips.npz", "no folder")):
        with pytest.raises(ConfigurationError, match=words):
            evaluate(network, samples, devices=1, checkpoint=place)


def test_a_kill_while_writing_leaves_the_last_whole_file(
    tmp_path: Path, network: nd.Network, samples: nd.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chips.npz"
    first = evaluate(network, samples, devices=2, checkpoint=path)

    def killed(*args: Any, **kwargs: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(Stop):
            evaluate(network, samples, devices=4, checkpoint=path)
    nothing_runs(monkeypatch)
    assert same(evaluate(network, samples, devices=2, checkpoint=path), first)


def test_the_digest_sees_every_number(network: nd.Network, samples: nd.Data) -> None:
    params = nd.to_params(network)
    digest = evaluation.digest(params)
    assert digest == evaluation.digest(nd.to_params(network))
    bias = {**params.bias, "i_spkthr": np.nextafter(params.bias["i_spkthr"], 1)}
    assert evaluation.digest(replace(params, bias=bias)) != digest
    assert evaluation.digest(replace(params, topology=replace(params.topology, tonic_period=0.1))) != digest
    assert evaluation.digest(replace(params, findings=())) == digest
    assert evaluation.digest(samples) != evaluation.digest(samples[:-1])


# --- the command line -------------------------------------------------------------------------------------------------


def test_verb(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout, chips = str(tmp_path / "layout.json"), str(tmp_path / "chips.npz")
    assert main(["compile", model, "-o", layout, "-q"]) == 0
    capsys.readouterr()
    argv = ["evaluate", layout, "--data", data, "--devices", "3", "--seed", "4", "--checkpoint", chips]
    assert main([*argv, "--json", "-v"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["seeds"] == [4, 5, 6]
    assert "  0 %  chips" in captured.err
    assert "100 %  chips" in captured.err
    known = evaluate(nd.Layout.load(layout), nd.Data.load(data), devices=3, key=4)
    assert result == {**known.to_dict(), "findings": []}
    assert main([*argv, "-q"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{known}\n"
    assert captured.err == ""
    fails(capsys, [*argv, "--uniform", "0.3"], "chips.npz", "another mismatch", "delete this one")
    assert main(["evaluate", model, "--data", data, "--devices", "1", "--uniform", "0", "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["accuracy"] == [result["nominal"]]


def test_verb_refuses(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--devices", "0"), ("--devices", "x"), ("--uniform", "-1"), ("--uniform", "nan")):
        fails(capsys, ["evaluate", model, "--data", data, option, value], option, code=2)
    fails(capsys, ["evaluate", model, "--data", save(tmp_path / "c.npz", classes=5)], "class 4")
    never = str(tmp_path / "never read.npz")
    fails(capsys, ["evaluate", model, "--data", never, "--checkpoint", str(tmp_path / "no" / "c.npz")], "no folder")


@pytest.mark.parametrize("kept", [True, False])
def test_verb_interrupted(
    kept: bool,
    model: str,
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chips = tmp_path / "chips.npz"

    def interrupted(*args: Any, checkpoint: Any = None, **options: Any) -> None:
        if checkpoint is not None:
            Path(checkpoint).write_bytes(b"x")
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "evaluate", interrupted)
    argv = ["evaluate", model, "--data", data, "-q"]
    assert main([*argv, *(["--checkpoint", str(chips)] if kept else [])]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("the same command again" in captured.err) == kept
    assert "interrupted" in captured.err
