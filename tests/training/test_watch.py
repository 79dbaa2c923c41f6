"""What keeps a training from getting on is a finding, told on the way and kept, and what it says helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
from nir_dynapse.errors import Finding
from nir_dynapse.reporting.training_log import TrainingLog
from nir_dynapse.sim.surrogate import Surrogate
from nir_dynapse.training.begin import trainable
from nir_dynapse.training.losses import Penalty
from nir_dynapse.training.watch import course_findings, watched
from tuning_cases import SPREAD, data, network, shared_compilation


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_compilation(tmp_path_factory.mktemp("compiled")):
        yield


def trained(net: nd.Network, steps: int, told: list[str] | None = None, **options: Any) -> nd.Params:
    given = {"batch": 8, "held_out": 4, "validation_size": 32, "check_every": max(1, steps // 4), **options}
    tell = None if told is None else lambda what, share: told.append(what)
    made = nd.TrainingOptions(**given)
    return nd.fine_tune(net, data(), mismatch=SPREAD, devices=2, steps=steps, options=made, progress=tell)


def found(params: nd.Params, code: str, word: str = "") -> dict[str | None, Finding]:
    return {f.node: f for f in params.findings if f.code == code and word in f.what}


def accuracy(params: nd.Params) -> float:
    return nd.simulate(params, data().x).accuracy(data().y)


@pytest.mark.long
def test_a_silent_population_and_the_surrogate_that_reaches_it() -> None:
    told: list[str] = []
    silent = trained(network(2, scale=0.03), 40, told)
    assert set(found(silent, "silent")) in ({"hidden"}, {"out"}, {"hidden", "out"})
    assert accuracy(silent) == 0.5
    finding = next(iter(found(silent, "silent").values()))
    assert finding.severity == "warning"
    assert "Surrogate(slope=2)" in finding.hint
    assert "no spikes in 32 samples" in told[1]  # at the first check, before the line about it
    assert "no spikes in 32 samples" in told[-1]
    helped = trained(network(2, scale=0.03), 200, surrogate=Surrogate(slope=2.0))
    assert not found(helped, "silent")
    assert accuracy(helped) > 0.9


def test_only_the_first_silent_population_is_named() -> None:
    model = trainable(network(2), data())
    numbers = model.start._replace(weight=model.start.weight * 1e-3)
    assert [(f.code, f.node) for f in watched(model, numbers, data().x)] == [("silent", "hidden")]
    nothing = watched(model, model.start, np.zeros_like(data().x))
    assert [(f.code, f.node) for f in nothing] == [("silent", None)]
    assert "no events" in nothing[0].what
    assert not watched(model, model.start, data().x)


@pytest.mark.long
def test_neurons_at_the_maximal_rate_and_what_spikes_cost() -> None:
    busy = trained(network(2, scale=20.0), 60)
    finding = found(busy, "saturated", "maximal rate")["hidden"]
    assert finding.severity == "warning"
    assert "sparsity=0.001" in finding.hint
    helped = trained(network(2, scale=20.0), 200, penalty=Penalty(sparsity=0.001))
    assert "hidden" not in found(helped, "saturated", "maximal rate")
    assert accuracy(helped) >= accuracy(busy)


@pytest.mark.long
def test_rows_at_the_largest_weight_and_gains_that_are_trained() -> None:
    stuck = trained(network(2), 60, trained=("weight",), fit=False, rate=0.1)
    hints = {node: f.hint for node, f in found(stuck, "saturated", "largest weight").items()}
    assert set(hints) == {"hidden", "out"}
    assert all("'i_gain_ampa', 'i_gain_gaba'" in hint for hint in hints.values())
    helped = trained(network(2), 60, trained=("weight", "i_gain_ampa", "i_gain_gaba"), fit=False)
    assert not found(helped, "saturated", "largest weight")


def at_an_end(name: str, net: nd.Network, **options: Any) -> list[Finding]:
    """Findings about bias `name` of the start of `net`."""
    model = trainable(net, data(), options=nd.TrainingOptions(fit=False, **options))
    return [f for f in watched(model, model.start, data().x) if name in f.what]


def with_membranes(tau: float) -> nd.Network:
    net = network(2)
    return replace(net, populations=tuple(replace(p, tau_mem=np.full(p.size, tau)) for p in net.populations))


def test_a_fast_membrane_and_shorter_steps() -> None:
    (first, *_) = at_an_end("i_tau_mem", with_membranes(2e-3))
    assert "upper end of its range" in first.what
    assert "substeps=2" in first.hint
    assert not at_an_end("i_tau_mem", with_membranes(2e-3), substeps=2)


def test_a_slow_membrane_and_data_that_are_played_faster() -> None:
    (first, *_) = at_an_end("i_tau_mem", with_membranes(0.31))
    assert "lower end of its range" in first.what
    assert "faster (time_scale below 1" in first.hint
    assert not at_an_end("i_tau_mem", with_membranes(0.31 * 0.5))


def test_gains_at_the_top_and_more_rows() -> None:
    (first, *_) = at_an_end("i_gain_ampa", network(2, scale=100.0), rows=1)
    assert "rows=..." in first.hint
    assert not at_an_end("i_gain_ampa", network(2, scale=100.0), rows=8)


def log(scores: list[float], losses: list[float] | None = None) -> TrainingLog:
    result = TrainingLog()
    for k, score in enumerate(scores):
        result = result.append({"step": 10 * (k + 1), "loss": (losses or scores)[k], "score": score})
    return result


def test_the_course_of_a_training() -> None:
    assert course_findings(log([0.5, 0.8, 0.9, 0.9]), 40, True, 40) == ()
    (rising,) = course_findings(log([0.5, 0.6, 0.7, 0.9]), 40, True, 40)
    assert (rising.code, rising.severity) == ("unfinished", "info")
    assert "20.0 points" in rising.what
    (kept,) = course_findings(log([0.5, 0.6, 0.7, 0.9]), 40, False, 40)
    assert kept.code == "not-better"
    codes = [f.code for f in course_findings(log([0.5, 0.6, 0.5, 0.5], [1.0, np.nan, np.nan, 1.0]), 20, True, 40)]
    assert codes == ["not-finite"]


@pytest.mark.long
def test_more_steps_help_what_is_still_rising() -> None:
    """What "unfinished" advises, on a training that is cut short."""
    short = trained(network(2, scale=0.1), 20, check_every=4, ramp=0.0, rate=0.02)
    longer = trained(network(2, scale=0.1), 200, ramp=0.0, rate=0.02)
    assert found(short, "unfinished")
    assert accuracy(longer) > accuracy(short)


def test_numbers_that_are_none_end_a_training() -> None:
    told: list[str] = []
    params = trained(network(2), 40, told, rate=lambda step: np.nan, check_every=4)
    assert [f.code for f in params.findings] == ["not-finite", "not-better"]
    assert sum(what.startswith("step") for what in told) == 2  # after the second step, and one check
    assert all(np.isfinite(np.asarray(value)).all() for value in params.bias.values())
    assert not found(trained(network(2), 40, rate=0.02), "not-finite")
