"""The ADS example at small sizes: its fixed weights, its learning rule, its mismatch, and that a seed fixes everything."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from places import EXAMPLES

pytestmark = pytest.mark.long

MODULES = ("_tasks", "_ads", "ads")


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    sys.path.insert(0, str(EXAMPLES))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    sys.path.remove(str(EXAMPLES))
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def data(example: SimpleNamespace) -> Any:
    return example._tasks.temporal_xor_signals(24, (5, 0), steps=500)


@pytest.fixture(scope="module")
def trained(example: SimpleNamespace, data: Any) -> SimpleNamespace:
    """24 rate units and 96 neurons, hardly trained."""
    net = example._ads

    def train() -> tuple:
        teacher = net.train_teacher(data.signal, data.target, seed=3, n_rate=24, steps=20, batch=8)
        blank = net.untrained(net.decoder(3, 24, 96))
        return teacher, blank, *net.train_student(blank, teacher, data.signal, epochs=6, batch=8, eta=1e-4)

    teacher, blank, student, errors = train()
    return SimpleNamespace(teacher=teacher, blank=blank, student=student, errors=errors, again=train())


def test_fast_weights_and_thresholds(example: SimpleNamespace) -> None:
    net = example._ads
    d = net.decoder(1, 6, 20)
    fast = net.fast_weights(d)
    whole = fast + np.diag((d**2).sum(0) + net.MU * net.LAMBDA**2)
    np.testing.assert_allclose(whole, d.T @ d + net.MU * net.LAMBDA**2 * np.eye(20), atol=1e-12)
    assert not fast.diagonal().any()

    # V_th - V_rest stands for the threshold T of every neuron, and the same factor scales all it receives.
    student = net.untrained(d)
    t = (net.NU * net.LAMBDA + net.MU * net.LAMBDA**2 + np.abs(d).sum(0) ** 2) / 2
    np.testing.assert_allclose(student.w_in, 0.5 * d.T / t[:, None], rtol=1e-5)
    np.testing.assert_allclose(student.w_fast, net.FAST_FACTOR * 0.5 * fast / t[:, None], rtol=1e-5)
    assert not np.asarray(student.w_slow).any()


def test_the_local_rule_brings_the_student_closer_to_the_teacher(
    example: SimpleNamespace, data: Any, trained: SimpleNamespace
) -> None:
    before, after = (
        example._ads.reconstruction_error(student, trained.teacher, data.signal)
        for student in (trained.blank, trained.student)
    )
    assert after < 0.7 * before
    changed = [not np.array_equal(a, b) for a, b in zip(trained.blank, trained.student, strict=True)]
    assert changed == [name == "w_slow" for name in trained.student._fields]


def test_one_step_of_the_rule(example: SimpleNamespace) -> None:
    """A tiny eta: the change is eta times the sum over time of error current and presynaptic trace."""
    net = example._ads
    rng = np.random.RandomState(0)
    signal = np.sin(np.arange(200) / 15)[None].repeat(2, 0) * [[1], [0.5]]
    teacher = net.Teacher(rng.normal(0, 3, 4), np.zeros((4, 4)), np.zeros(4), np.ones(4))
    student = net.untrained(net.decoder(0, 4, 12))
    k, eta = 50.0, 1e-6
    learned, error = net.learn(student, teacher, signal, k, eta)

    s = type(student)(*(np.asarray(a, float) for a in student))
    x = np.asarray(net.rate_states(teacher, signal), float)
    v, r, fast, o = np.full((2, 12), 0.5), np.zeros((2, 12)), np.zeros((2, 12)), np.zeros((2, 12))
    expected, missed = np.zeros((12, 12)), 0.0
    for now, c in zip(x, signal.T, strict=True):
        e = now - r @ s.w_out.T
        missed += (e**2).sum()
        fast = np.exp(-1) * fast + (1 - np.exp(-1)) * o @ s.w_fast.T
        given = 200 * c[:, None] * teacher.w_in + k * e
        v = 0.5 + (v - 0.5) * np.exp(-1 / 50) + 1e-3 * given @ s.w_in.T - fast
        expected += (e @ s.w_in.T).T @ r
        o = (v > 1).astype(float)
        v[v > 1] = 0
        r = np.exp(-1 / 70) * r + o
    assert r.any()
    np.testing.assert_allclose(
        np.asarray(learned.w_slow) / eta, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max()
    )
    assert float(error) == pytest.approx(missed / (x**2).sum(), rel=1e-3)


def test_a_seed_fixes_everything(example: SimpleNamespace, data: Any, trained: SimpleNamespace) -> None:
    teacher, _, student, errors = trained.again
    for a, b in zip((*trained.teacher, *trained.student), (*teacher, *student), strict=True):
        np.testing.assert_array_equal(a, b)
    assert errors == trained.errors
    y, again = (example.ads.output(s, trained.teacher, data)[0] for s in (trained.student, student))
    np.testing.assert_array_equal(y, again)
    assert not np.array_equal(example._ads.decoder(3, 8, 48), example._ads.decoder(4, 8, 48))


def test_mismatch_spares_the_fast_weights(example: SimpleNamespace, trained: SimpleNamespace) -> None:
    first, same, other = (example.ads.devices(trained.student, 0.2, 1, (0, k))[0] for k in (3, 3, 4))
    for name in first._fields:
        nominal, a, b, c = (np.asarray(getattr(s, name)) for s in (trained.student, first, same, other))
        np.testing.assert_array_equal(a, b)
        assert np.array_equal(a, nominal) == (name == "w_fast"), name
        assert np.array_equal(a, c) == (name == "w_fast"), name
        if name != "w_fast":
            assert np.std(a[nominal != 0] / nominal[nominal != 0]) == pytest.approx(0.2, rel=0.35), name
    strong = example.ads.devices(trained.student, 5.0, 1, (0, 3))[0]
    assert all(np.asarray(a > 0).all() for a in (strong.tau_mem, strong.tau_slow, strong.v_th))


def test_decision_and_published_scaling(example: SimpleNamespace, trained: SimpleNamespace) -> None:
    y = np.zeros((4, 300))
    y[0, 50:] = 1
    y[1, 50:] = -1
    y[2, 50:150], y[2, 150:] = -1, 1  # the first crossing counts
    y[3, 50:] = 0.49
    np.testing.assert_array_equal(example.ads.decide(y), [1, 0, 0, -1])

    for level, factor in ((0.0, 1.0), (0.05, 0.9), (0.1, 0.8), (0.15, 0.65), (0.2, 0.5), (0.3, 0.2)):
        scaled = example.ads.scaled(trained.student, level)
        np.testing.assert_allclose(scaled.w_slow, factor * np.asarray(trained.student.w_slow), rtol=1e-6)
        np.testing.assert_allclose(scaled.w_fast, factor * np.asarray(trained.student.w_fast), rtol=1e-6)


def test_numbers_of_a_run(example: SimpleNamespace) -> None:
    result = example.ads.run(seed=1, levels=(0.1,), draws=2, quick=True)
    rows = result["levels"][0.1]
    assert tuple(rows) == example.ads.READOUTS
    for row in rows.values():
        assert len(row["accuracies"]) == 2
        assert row["p5"] <= row["quartiles"][0] <= row["median"] <= row["quartiles"][1]
        assert row["drop"] == pytest.approx(result["nominal"]["accuracy"] - row["median"])
    assert rows["as trained"]["gain"] == 1
    lines = example.ads.table(result).splitlines()
    assert len(lines) == 9
    assert "0.810  0.070  0.0165" in lines[7]
