"""What `fine_tune` refuses: wrong arguments, checkpoints of something else; and targets that are trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import optax
import pytest

import nir_dynapse as nd
from nir_dynapse.deployment.deploy import deploy
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.training.losses import Counts, Penalty
from tuning_cases import BINS, DT, SPREAD, data, network, same, shared_compilation, short, with_readout


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


def tune(**changes: Any) -> nd.Params:
    known: dict[str, Any] = {"mismatch": SPREAD, "devices": 2, "steps": 2, "options": short(), **changes}
    return nd.fine_tune(known.pop("thing", network()), known.pop("data", data()), **known)


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"devices": 0}, nd.ParameterRangeError, "devices is 0, allowed are whole numbers from 1 to"),
        ({"devices": 2.0}, nd.ParameterRangeError, r"devices is 2\.0"),
        ({"steps": -1}, nd.ParameterRangeError, "steps is -1"),
        ({"steps": True}, nd.ParameterRangeError, "steps is True"),
        ({"key": -5}, nd.ParameterRangeError, "key is -5"),
        ({"bits": 5}, nd.ParameterRangeError, r"bits is 5, a CAM row has 4\. Choose 1 to 4, or None"),
        ({"bits": True}, nd.ParameterRangeError, "bits is True"),
        ({"bits": 2.0}, nd.ParameterRangeError, r"bits is 2\.0"),
        ({"mismatch": 0.2}, nd.ConfigurationError, r"mismatch is a float\. Give a Mismatch"),
        ({"loss": "most"}, nd.ParameterRangeError, r"loss is 'most'\. Choose one of counts"),
        ({"data": None}, nd.ConfigurationError, r"the data is a NoneType\. Give Data"),
        ({"data": nd.Data(data().x[..., :3], data().y, DT)}, nd.ConfigurationError, r"3 channels.*expects 4"),
        ({"data": nd.Data(data().x, data().y + 1, DT)}, nd.ConfigurationError, "class 2, .* 2 output neurons"),
        ({"data": nd.Data(data().x, data().y, 2 * DT)}, nd.ParameterRangeError, r"bins of 0\.002 s"),
        ({"validation": nd.Data(data().x, data().y + 1, DT)}, nd.ConfigurationError, "class 2"),
        ({"checkpoint": "no/where.npz"}, nd.ConfigurationError, r"no folder '.*no'\. Make it first"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        tune(**changes)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("batch", 0, "whole numbers from 1 to 1000000"),
        ("batch", 10**12, "whole numbers from 1 to 1000000"),
        ("check_every", 10**12, "whole numbers from 1 to 1000000000"),
        ("clip", float("inf"), r"numbers above 0 up to 1e\+09"),
        ("rate", 1e300, "numbers above 0 up to 1000"),
        ("penalty", 1.0, r"Penalty\(\.\.\.\)"),
        ("attack", 0.1, r"None and Attack\(\.\.\.\)"),
        ("rows", 1.5, "whole numbers from 1"),
        ("held_out", True, "whole numbers from 1"),
        ("patience", 0, r"whole numbers from 1 to 1000000000\. Choose one of them, or None"),
        ("patience", True, r"whole numbers from 1 to 1000000000\. Choose one of them, or None"),
        ("substeps", -1, r"whole numbers from 1 to 1000\. Choose one of them, or None"),
        ("ramp", 1.1, "numbers from 0 up to 1"),
        ("dropout", 1.0, r"numbers from 0 up to 0\.95"),
        ("worst", 0.0, "numbers from 1e-09 up to 1"),
        ("clip", float("nan"), "numbers above 0"),
        ("bias_rate", 0.0, "numbers above 0"),
        ("rate", -0.1, r"numbers above 0 up to 1000\. Choose one of them, or an optax schedule"),
        ("trained", ("weight", "i_nothing"), "weight, base, i_tau_mem"),
        ("gradient", "times", "surrogate, spike-times"),
    ],
)
def test_wrong_options(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(nd.ParameterRangeError, match=rf"fine_tune: {name} is .*, allowed are {allowed}"):
        nd.TrainingOptions(**{name: value})


def test_times_that_nobody_tells() -> None:
    """Those of a board's spikes, and of values on the host."""
    with (
        nd.open_board("virtual:3", mismatch=SPREAD) as board,
        pytest.raises(nd.ConfigurationError, match=r"gradient is 'spike-times', and of a board.*train without a board"),
    ):
        tune(board=board, options=short(gradient="spike-times"))
    with pytest.raises(nd.ParameterRangeError, match=r"loss FirstSpikeTime is of times.*'.*' has values on the host"):
        tune(thing=with_readout(), loss="first-spike-time")


def test_no_steps_at_all(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    assert same(tune(steps=0, log=log), tune(steps=0, mismatch=nd.Mismatch()))
    assert len(log.read_text().splitlines()) == 1


# --- checkpoints ------------------------------------------------------------------------------------------------------


def constant(rate: float) -> optax.Schedule:
    return optax.constant_schedule(rate)


@pytest.mark.long
def test_checkpoints_of_another_training(tmp_path: Path) -> None:
    path = tmp_path / "so_far.npz"
    options = short(optimiser=optax.adam(constant(0.01)))
    first = tune(checkpoint=path, options=options)
    made = path.read_bytes()
    assert same(
        tune(checkpoint=path, options=short(optimiser=optax.adam(constant(0.01)))), first
    )  # made anew: the same
    changes: list[dict[str, Any]] = [
        {"key": 1},
        {"steps": 4},
        {"devices": 4},
        {"bits": 3},
        {"bits": None},
        {"mismatch": nd.Mismatch.uniform(0.3)},
        {"thing": network(1)},
        {"data": data(seed=2)},
        {"validation": data(seed=2)},
        {"loss": Counts(DT, scale=0.9, ratio=0.0)},
        {"loss": "first-spike"},
    ]
    alike = {"penalty": Penalty(busy=1.0), "surrogate": Surrogate("triangle"), "batch": 8, "worst": 0.5, "ramp": 0.5}
    changes += [{"options": replace(options, **{name: value})} for name, value in alike.items()]
    for change in changes:
        with pytest.raises(nd.ConfigurationError, match=r"another training: .*delete this one to start anew"):
            tune(**{"checkpoint": path, "options": options, **change})
    assert path.read_bytes() == made


@pytest.mark.long
def test_damaged_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "so_far.npz"
    tune(checkpoint=path, steps=2)
    made = path.read_bytes()
    with np.load(path) as archive:
        arrays = dict(archive)

    def refused(words: str) -> None:
        with pytest.raises(nd.ConfigurationError, match=words) as error:
            tune(checkpoint=path, steps=2)
        assert "Give another file for the checkpoint, or delete this one" in str(error.value)

    for content in (b"", b"nothing", made[: len(made) // 2], made[:200] + bytes(300) + made[500:]):
        path.write_bytes(content)
        refused("not a checkpoint of fine_tune")
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    refused("not a checkpoint of fine_tune")
    for name, wrong, words in (
        ("format", np.array("nir_dynapse.training 0"), "this version"),
        ("leaf0", None, "damaged"),
        ("leaf1", arrays["leaf1"].astype(np.float64), "damaged"),
        ("numbers", None, "damaged"),
        ("numbers", arrays["numbers"][:2], "damaged"),
        ("log", None, "damaged"),
        ("log", arrays["log"][:, :3], "damaged"),
    ):
        changed = {key: value for key, value in arrays.items() if key != name}
        np.savez(path, **changed, **({} if wrong is None else {name: wrong}))
        refused(words)


# --- targets that are trajectories ------------------------------------------------------------------------------------


def test_data_with_trajectories(tmp_path: Path) -> None:
    y = np.random.default_rng(0).normal(size=(6, BINS, 2))
    samples = nd.Data(data(6).x, y, DT)
    samples.save(tmp_path / "data.npz")
    back = nd.Data.load(tmp_path / "data.npz")
    np.testing.assert_array_equal(back.y, y)
    assert len(back) == 6
    np.testing.assert_array_equal(back[2:4].y, y[2:4])
    assert not back.y.flags.writeable
    for wrong in (y[:5], y[..., 0], y.astype(complex), y.astype(str), np.zeros(6)):
        with pytest.raises(nd.ConfigurationError, match=r"or a trajectory of numbers|real numbers"):
            nd.Data(data(6).x, wrong, DT)
    y[0, 0, 0] = np.nan
    with pytest.raises(nd.ConfigurationError, match="allowed are finite targets"):
        nd.Data(data(6).x, y, DT)
    refused = (
        r"the data has trajectories \(y has shape \(6, 20, 2\)\), an accuracy needs classes\. Give y as \(sample,\)"
    )
    with pytest.raises(nd.ConfigurationError, match=refused):
        nd.evaluate(network(), samples, devices=1)
    with pytest.raises(nd.ConfigurationError, match=refused):
        deploy(nd.to_nir(network()), samples)


def test_data_of_nir() -> None:
    net, known = network(), data(4)
    grid = nir.NIRNodeData({"spikes": nir.TimeGriddedData(known.x.astype(bool), DT)})
    made = nd.data_from_nir(nir.NIRGraphData({"in": grid}), known.y, net.inputs, net.dt)
    np.testing.assert_array_equal(made.x, known.x)
    np.testing.assert_array_equal(made.y, known.y)
    assert made.dt == DT
    assert made.x.dtype == np.uint8
    with pytest.raises(nd.ConfigurationError, match="no 'spikes' of input node 'in'"):
        nd.data_from_nir(nir.NIRGraphData({"other": grid}), known.y, net.inputs, net.dt)
    with pytest.raises(nd.ConfigurationError, match="one integer class for each of 4 samples"):
        nd.data_from_nir(nir.NIRGraphData({"in": grid}), known.y[:3], net.inputs, net.dt)
    half = nir.NIRNodeData({"spikes": nir.TimeGriddedData(0.5 * known.x, DT)})
    with pytest.raises(
        nd.ConfigurationError,
        match=r"node 'in': sample 0, bin \d+, channel \d+ .*holds 0\.5 events, a circuit receives whole events",
    ):
        nd.data_from_nir(nir.NIRGraphData({"in": half}), known.y, net.inputs, net.dt)
