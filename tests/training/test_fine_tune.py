"""`fine_tune`: what it learns, what it returns, every option, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest

import nir_dynapse as nd
from given_bits import assert_same
from nir_dynapse.chip.device import CURRENTS
from nir_dynapse.layout.decoding import layout_to_params
from nir_dynapse.network.redundancy import replicate
from nir_dynapse.reporting.training_log import TrainingLog
from nir_dynapse.training.clock import Clock
from nir_dynapse.training.losses import Counts, Penalty
from nir_dynapse.training.rewiring import Rewiring
from nir_dynapse.training.steps import Attack
from shortened import shortened
from tuning_cases import BINS, DT, SPREAD, data, network, same, shared_compilation, short, with_readout

TRAINED = {"steps": 16, "devices": 4, "mismatch": SPREAD, "key": 1}
LEARNING = {"batch": 16, "rate": 0.05, "held_out": 4, "check_every": 4, "validation_size": 32}


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


def learn(folder: Path, **changes: Any) -> nd.Params:
    options = {**TRAINED, "log": folder / "log.csv", "options": short(**LEARNING), **changes}
    return nd.fine_tune(network(2), data(), validation=data(seed=7), **options)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[nd.Params, TrainingLog]:
    """What a training of 16 steps makes, and its log."""
    folder = tmp_path_factory.mktemp("learnt")
    return learn(folder), TrainingLog.load(folder / "log.csv")


@cache
def brief(answered: bool = False, **changes: Any) -> nd.Params:
    """What 2 steps on 2 chips make; with `answered` the classes are those that the ideal run gives."""
    others = ("loss", "bits", "key", "device")
    given = {name: changes.pop(name) for name in list(changes) if name not in others}
    options = short(**{"rate": 0.05, **given})  # two steps that move bits
    samples = data()
    if answered:
        samples = replace(samples, y=nd.simulate(network(2), samples.x, ideal=True).counts().argmax(1))
    return nd.fine_tune(network(2), samples, mismatch=SPREAD, devices=2, steps=2, options=options, **changes)


# --- learning ---------------------------------------------------------------------------------------------------------


def test_it_learns(learnt: tuple[nd.Params, TrainingLog]) -> None:
    params, log = learnt
    assert log.step.tolist() == [4, 8, 12, 16]
    assert log.loss[-1] < 0.9 * log.loss[0]
    test = data(60, seed=9)
    before, after = (nd.evaluate(thing, test, devices=10, mismatch=SPREAD, key=50) for thing in (network(2), params))
    assert after.mean > before.mean + 0.1, (before.mean, after.mean)


@pytest.mark.long
def test_the_start_is_kept_where_nothing_is_better(learnt: tuple[nd.Params, TrainingLog]) -> None:
    start = nd.fine_tune(learnt[0], data(), steps=0, options=short(**LEARNING))
    said: list[str] = []
    ruinous = short(**{**LEARNING, "rate": 20.0})
    spoilt = {**TRAINED, "steps": 4, "options": ruinous, "progress": lambda what, fraction: said.append(what)}
    assert same(nd.fine_tune(learnt[0], data(), validation=data(seed=7), **spoilt), start)
    assert "the start is what is returned" in said[-1]


@pytest.mark.long
def test_the_same_key_the_same_bits(learnt: tuple[nd.Params, TrainingLog], tmp_path: Path) -> None:
    params, log = learnt
    again = learn(tmp_path)
    assert same(again, params)
    other = TrainingLog.load(tmp_path / "log.csv")
    assert replace(other, seconds=np.zeros(4)) == replace(log, seconds=np.zeros(4))
    assert not same(brief(key=2), brief())


def test_the_result_compiles_as_it_is(learnt: tuple[nd.Params, TrainingLog]) -> None:
    params, _ = learnt
    layout = nd.compile(network(2), params=params)
    assert_same(layout_to_params(layout), params)
    test = data(20, seed=9)
    mine, theirs = (nd.simulate(thing, test.x) for thing in (params, layout))
    for name in mine.spikes:
        np.testing.assert_array_equal(mine.spikes[name], theirs.spikes[name])
    runs = [nd.evaluate(thing, test, devices=1, mismatch=SPREAD) for thing in (params, layout)]
    assert runs[0].nominal == runs[1].nominal


@pytest.mark.long
def test_patience_ends_it(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    options = short(rate=1e-7, check_every=1, patience=2)
    nd.fine_tune(network(2), data(), mismatch=SPREAD, devices=2, steps=50, options=options, log=log)
    assert TrainingLog.load(log).step.tolist() == [1, 2, 3]  # the first is the best one, or no better ones follow


@pytest.mark.long
def test_what_is_not_trained_stays(tmp_path: Path) -> None:
    first = nd.fine_tune(network(2), data(), steps=0, options=short())
    options = short(trained=("weight",), optimiser=optax.sgd(0.5), held_out=1)
    moved = nd.fine_tune(network(2), data(), mismatch=SPREAD, devices=1, steps=2, options=options)
    assert moved.base is not None
    assert first.base is not None
    np.testing.assert_array_equal(moved.base, first.base)
    for name in CURRENTS:
        np.testing.assert_array_equal(moved.bias[name], first.bias[name], err_msg=name)
    assert first.topology.mask is not None
    assert moved.topology.mask is not None
    assert (first.topology.mask != moved.topology.mask).any()
    options = short(trained=("i_tau_mem", "i_dc"), rate=1.0)
    leaky = nd.fine_tune(network(2), data(), mismatch=SPREAD, devices=1, steps=2, options=options)
    assert leaky.topology.mask is not None
    np.testing.assert_array_equal(leaky.topology.mask, first.topology.mask)
    np.testing.assert_array_equal(leaky.base, first.base)
    changed = {name for name in CURRENTS if (leaky.bias[name] != first.bias[name]).any()}
    assert "i_tau_mem" in changed <= {"i_tau_mem", "i_dc"}


# --- options ----------------------------------------------------------------------------------------------------------

CHANGES: dict[str, dict[str, Any]] = {
    "worst": {"worst": 0.5},
    "dropout": {"dropout": 0.5},
    "attack": {"attack": Attack(size=0.3, steps=1, beta=20.0)},
    "penalty": {"penalty": Penalty(sparsity=1.0, quiet=1.0, busy=1.0, most=1.0)},
    "ramp": {"ramp": 1.0},
    "bits": {"bits": 2},
    "exact": {"bits": None},
    "first-spike": {"loss": "first-spike"},
    "first-spike-time": {"loss": "first-spike-time"},
    "spike-times": {"gradient": "spike-times"},
    "max-over-time": {"loss": "max-over-time"},
    "counts": {"loss": Counts(DT, scale=0.9, ratio=0.0)},
    "substeps": {"substeps": 2},
    "fit": {"fit": True},
    "distil": {"distil": 0.5},
    "follow": {"follow": 1.0},
    "rewiring": {"rewiring": Rewiring(every=1, share=1.0, until=1.0)},
}
TAUGHT = {"answered": True}
NARROW = {"device": nd.Device(cam_rows=3), "rewiring": Rewiring("none")}
TIMED = {"loss": "first-spike-time"}
BESIDE: dict[str, dict[str, Any]] = {
    "distil": TAUGHT,
    "follow": {**TAUGHT, "distil": 0.5},
    "rewiring": NARROW,
    "spike-times": TIMED,
}
"""What some options need to matter: an ideal run that is right, more inputs than rows."""


@pytest.mark.parametrize("name", shortened(CHANGES))
def test_every_option_runs_and_matters(name: str) -> None:
    beside = BESIDE.get(name, {})
    params = brief(**{**beside, **CHANGES[name]})
    assert not same(params, brief(**beside))
    nd.simulate(params, data(2).x)
    if CHANGES[name].get("bits", 4) is None:
        assert params.topology.mask is None
    else:
        assert params.topology.mask is not None
        assert params.topology.mask.max() < 1 << CHANGES[name].get("bits", 4)


def trained_on(thing: Any, samples: nd.Data, log: Path, **changes: Any) -> tuple[nd.Params, TrainingLog]:
    known = {"mismatch": SPREAD, "devices": 2, "steps": 4, "options": short(rate=0.02), "log": log, **changes}
    return nd.fine_tune(thing, samples, **known), TrainingLog.load(log)


@pytest.mark.long
def test_trajectories(tmp_path: Path) -> None:
    target = np.zeros((32, BINS, 2))
    target[:, 5:, 0] = 1.5
    samples = nd.Data(data().x, target, DT)
    known = {"loss": "trajectory", "steps": 12, "options": short(batch=16, rate=0.05, check_every=4)}
    params, log = trained_on(network(2), samples, tmp_path / "log.csv", **known)
    assert log.loss[-1] < log.loss[0]
    assert (log.held_out < 0).all()  # minus the loss
    assert np.isnan(log.accuracy).all()
    assert params.topology.mask is not None
    for y, words in (
        (target[:, 1:], r"y has shape \(32, 19, 2\), the samples have 20 bins, output 'out' has 2 neurons"),
        (target[..., :1], r"Give y as \(32, 20, 2\)"),
    ):
        with pytest.raises(nd.ConfigurationError, match=words):
            nd.fine_tune(network(2), nd.Data(data().x, y, DT), loss="trajectory")
    with pytest.raises(nd.ConfigurationError, match=r"the loss Counts needs a class per sample\. Choose another loss"):
        nd.fine_tune(network(2), samples)
    with pytest.raises(nd.ConfigurationError, match=r"the loss Trajectory needs \(sample, time, output\)"):
        nd.fine_tune(network(2), data(), loss="trajectory")
    with pytest.raises(nd.ConfigurationError, match=r"needs \(sample, time, output\)"):
        nd.fine_tune(network(2), samples, validation=data(), loss="trajectory")


@pytest.mark.long
def test_a_teacher_and_copies_of_it(tmp_path: Path) -> None:
    unlabelled = nd.Data(data().x, np.zeros(32, int), DT)
    student = replicate(network(2), 2)
    _, log = trained_on(student, unlabelled, tmp_path / "log.csv", teacher=network(2))
    assert log.loss[-1] < log.loss[0]
    assert np.isnan(log.accuracy).all()
    with nd.open_board("virtual:3", mismatch=SPREAD) as board:
        _, log = trained_on(student, unlabelled, tmp_path / "board.csv", teacher=network(2), board=board, steps=2)
    assert (log.held_out < 0).all()
    params, _ = trained_on(network(2), unlabelled, tmp_path / "log.csv", teacher=True)
    assert params.topology.n_neurons == 8
    with pytest.raises(nd.ConfigurationError, match=r"the network 'hidden' \(6\), 'out' \(2\).*has copies"):
        nd.fine_tune(network(2), unlabelled, teacher=network(n_hidden=5))
    with pytest.raises(nd.ConfigurationError, match=r"the teacher is a Params\. Give a Network"):
        nd.fine_tune(params, unlabelled, teacher=True)
    with pytest.raises(nd.ParameterRangeError, match=r"with a teacher the loss is 'trajectory'\. Leave loss"):
        nd.fine_tune(network(2), unlabelled, teacher=True, loss="counts")


@pytest.mark.long
def test_readout_on_the_host(tmp_path: Path) -> None:
    net = with_readout()
    params, log = trained_on(net, data(), tmp_path / "log.csv", options=short(rate=0.05, batch=16), steps=8)
    assert log.loss[-1] < log.loss[0]
    assert 0 <= log.held_out[-1] <= 1
    assert nd.simulate(params, data(2).x).output.shape == (2, BINS, 2)
    assert len(nd.evaluate(params, data(), devices=2, mismatch=SPREAD)) == 2


@pytest.mark.long
def test_in_the_loop_with_a_board(tmp_path: Path) -> None:
    hidden = nd.Mismatch.uniform(0.3)
    test = data(60, seed=9)
    options = short(**{**LEARNING, "check_every": 8})
    with nd.open_board("virtual:3", mismatch=hidden) as board:
        params, log = trained_on(
            network(2), data(), tmp_path / "log.csv", board=board, steps=24, options=options,
            checkpoint=tmp_path / "so_far.npz",
        )  # fmt: skip
        counts = {}
        for name, given in (("before", nd.fine_tune(network(2), data(), steps=0)), ("after", params)):
            board.apply(nd.compile(network(2), params=given))
            counts[name] = (board.run_batch(test.x, DT).counts().argmax(1) == test.y).mean()
    assert log.loss[-1] < log.loss[0]
    assert counts["after"] > counts["before"] + 0.05, counts
    with (
        nd.open_board("virtual:4", mismatch=hidden) as board,
        pytest.raises(nd.ConfigurationError, match="another training"),
    ):
        trained_on(
            network(2), data(), tmp_path / "log.csv", board=board, steps=24, options=options,
            checkpoint=tmp_path / "so_far.npz",
        )  # fmt: skip
    with (
        nd.open_board("virtual:4") as board,
        pytest.raises(nd.ConfigurationError, match=r"a board needs weights with bits\. Leave bits at 4"),
    ):
        nd.fine_tune(network(2), data(), board=board, bits=None)


def test_the_time_that_is_left_is_that_of_all_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes 1 s here, a check with what it writes 3 s, the first of each compiles for 20 s and 30 s."""
    now = 100.0
    monkeypatch.setattr("nir_dynapse.training.clock.time.monotonic", lambda: now)
    clock, left, end = Clock(10, 4, work=9.0), {}, []
    for step in range(1, 11):
        now += 21.0 if step == 1 else 1.0
        if step in (1, 2, 4, 8, 10):
            clock.stepped(step)
            left[step] = clock.left()
        if step in (4, 8, 10):
            now += 33.0 if step == 4 else 3.0
            clock.checked()
            left[step] = clock.left()
            end.append(now)
    whole = end[-1] + 3.0  # the start is checked once more
    assert left[2] == pytest.approx(8 + 4 * 3 + 20)  # what a check compiles is not known yet: as long as the step
    assert [left[4], left[8], left[10]] == pytest.approx([whole - at for at in end])
    assert clock.taken() == pytest.approx(end[-1] - 100.0)

    clock = Clock(3, 1, work=300.0)  # nothing but the first step is known, and a check that was shorter than its work
    now += 20.0
    clock.stepped(1)
    now += 5.0
    clock.checked()
    assert clock.left() == pytest.approx(2 * 20.0 + 3 * 5.0)


def test_progress_tells_the_time_after_the_second_step() -> None:
    told: list[tuple[str, float]] = []
    nd.fine_tune(
        network(2), data(), mismatch=SPREAD, devices=2, steps=4, options=short(check_every=4),
        progress=lambda what, share: told.append((what, share)),
    )  # fmt: skip
    assert [share for _, share in told[:2]] == [0.5, 1.0]
    assert re.fullmatch(r"step 2, \d+ s left", told[0][0])
    assert re.fullmatch(r"step 4, loss .*, held out .*, \d+ s left", told[1][0])
