"""Encoders: how many events, when, what a signal looks like from its events, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nir_dynapse import ConfigurationError, ParameterRangeError
from nir_dynapse.data.encoders import delta, latency, rate, reconstruct

DT = 1e-3
UNIT = st.floats(0, 1)


def values(ndim: int = 2) -> st.SearchStrategy[np.ndarray]:
    return arrays(float, array_shapes(min_dims=ndim, max_dims=ndim, max_side=6), elements=UNIT)


@settings(deadline=None)
@given(values(), st.integers(1, 80), st.floats(0, 3000), st.floats(0, 0.999))
def test_regular_events_are_as_many_as_the_rate_says(v: np.ndarray, steps: int, highest: float, phase: float) -> None:
    x = rate(v, steps, DT, highest, phase=phase)
    assert x.shape == (len(v), steps, v.shape[1])
    assert x.dtype == np.uint8
    until = v[:, None] * highest * DT * np.arange(1, steps + 1)[:, None]
    assert np.all(np.abs(np.cumsum(x, 1, dtype=int) - (until + phase - 0.5)) <= 0.5 + 1e-6)


def test_regular_events_are_evenly_spaced_and_shifted_by_the_phase() -> None:
    x = rate(np.full((1, 4), 0.5), 100, DT, 100.0, phase=np.array([0, 0.25, 0.5, 0.75]))
    times = [np.flatnonzero(channel).tolist() for channel in x[0].T]
    assert times == [[19, 39, 59, 79, 99], [14, 34, 54, 74, 94], [9, 29, 49, 69, 89], [4, 24, 44, 64, 84]]


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.999])
def test_whole_numbers_of_events_do_not_depend_on_the_phase(n: int, phase: float) -> None:
    assert rate([[n / 11]], 30, DT, 11 / (30 * DT), phase=phase).sum() == n


def test_values_that_change_with_time() -> None:
    v = np.repeat([0.0, 1.0, 0.5], 20)[None, :, None]
    x = rate(v, 60, DT, 200.0)
    assert x.reshape(3, 20).sum(1).tolist() == [0, 4, 2]
    constant = rate(np.full((2, 60, 3), 0.7), 60, DT, 333.0, phase=0.1)
    assert np.array_equal(constant, rate(np.full((2, 3), 0.7), 60, DT, 333.0, phase=0.1))


def test_several_events_in_a_bin() -> None:
    assert rate([[1.0]], 3, DT, 255 / DT).ravel().tolist() == [255, 255, 255]


def test_poisson_events() -> None:
    v = np.array([[0.0, 0.5, 1.0]])
    x = rate(v, 20000, DT, 400.0, key=3)
    assert np.array_equal(x, rate(v, 20000, DT, 400.0, key=3))
    assert not np.array_equal(x, rate(v, 20000, DT, 400.0, key=4))
    assert x[0].mean(0) == pytest.approx([0, 0.2, 0.4], abs=0.02)
    assert x[0].var(0) == pytest.approx([0, 0.2, 0.4], abs=0.03)
    assert np.array_equal(x, rate(np.repeat(v[:, None], 20000, 1), 20000, DT, 400.0, key=3))


@given(values(), st.floats(0, 0.03), st.floats(0, 0.03), st.floats(0, 0.999))
def test_latency_is_one_event_at_the_time_of_the_value(v: np.ndarray, first: float, last: float, phase: float) -> None:
    x = latency(v, 32, DT, earliest=first, latest=last, phase=phase)
    assert x.shape == (len(v), 32, v.shape[1])
    assert np.all(x.sum(1) == 1)
    times = (first + v * (last - first)) / DT + phase
    assert np.all(np.abs(x.argmax(1) + 0.5 - times) <= 0.5 + 1e-6)


def test_latency_at_the_ends() -> None:
    x = latency([[0.0, 0.5, 1.0]], 50, DT, earliest=5e-3, latest=45e-3)
    assert x.argmax(1).tolist() == [[5, 25, 45]]
    x = latency([[0.0, 0.5, 1.0]], 50, DT, earliest=45e-3, latest=5e-3)
    assert x.argmax(1).tolist() == [[45, 25, 5]]
    x = latency([[0.5, 0.5]], 50, DT, earliest=0.0, latest=9e-3, phase=[0.25, 0.75])
    assert x.argmax(1).tolist() == [[4, 5]]


SIGNALS = arrays(float, array_shapes(min_dims=3, max_dims=3, max_side=8), elements=st.floats(-10, 10))


@given(SIGNALS, st.floats(0.1, 5))
def test_delta_follows_the_signal_within_the_threshold(signal: np.ndarray, threshold: float) -> None:
    x = delta(signal, threshold)
    n = signal.shape[2]
    assert x.shape == (*signal.shape[:2], 2 * n)
    assert not np.any(x[:, 0])
    assert not np.any((x[..., :n] > 0) & (x[..., n:] > 0))
    back = reconstruct(x, threshold, signal[:, :1])
    assert np.abs(back - signal).max() < threshold * (1 + 1e-6)


def test_delta_counts_whole_thresholds() -> None:
    ramp = (np.arange(11) * 0.1)[None, :, None]
    x = delta(np.concatenate([ramp, -2 * ramp], 2), 0.1)
    assert x.shape == (1, 11, 4)
    assert x[0, 1:].tolist() == [[1, 0, 0, 2]] * 10
    assert reconstruct(x, 0.1)[0, -1] == pytest.approx([1, -2])


def test_delta_has_hysteresis() -> None:
    signal = np.array([0, 1.2, 0.9, 1.1, 0.1, -0.05])[None, :, None]
    assert delta(signal, 1.0)[0].tolist() == [[0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize("empty", [(0, 3), (2, 0)])
def test_no_samples_or_channels(empty: tuple[int, int]) -> None:
    assert rate(np.zeros(empty), 5, DT, 10.0).shape == (empty[0], 5, empty[1])
    assert latency(np.zeros(empty), 5, DT, earliest=0, latest=1e-3).shape == (empty[0], 5, empty[1])
    assert delta(np.zeros((empty[0], 5, empty[1])), 0.1).shape == (empty[0], 5, 2 * empty[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [[0.5, 1.5]]}, r"values\[0, 1\] is 1.5; it must be in 0..1"),
        ({"values": [[-0.1]]}, r"values\[0, 0\] is -0.1"),
        ({"values": [[np.nan]]}, r"values\[0, 0\] is nan; it must be finite"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"dt": 0.0}, "dt is 0.0, allowed are numbers from 1e-09 up to 1000 s. Give it in s"),
        ({"dt": "1 ms"}, "dt is '1 ms'"),
        ({"highest": -1.0}, "highest is -1.0"),
        ({"highest": np.inf}, "highest is inf"),
        ({"highest": 1e6}, "up to 1000 events in a bin; 255 is the most. Lower"),
        ({"highest": 1e6, "key": 1}, "up to 1000 events"),
        ({"highest": 2.54e5, "key": 1, "values": np.ones((9, 9))}, "events in a bin; 255 is the most"),
        ({"phase": 1.0}, "phase is 1.0"),
        ({"key": -1}, "key is -1"),
        ({"key": 0.5}, "key is 0.5"),
    ],
)
def test_rate_refuses(change: dict[str, Any], message: str) -> None:
    arguments = {"values": np.ones((1, 1)), "steps": 10, "dt": DT, "highest": 100.0} | change
    with pytest.raises(ParameterRangeError, match=message):
        rate(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [0.5]}, r"shape \(1,\); it must be \(sample, channel\) or \(sample, time, channel\)"),
        ({"values": "abc"}, "values are real numbers. Convert"),
        ({"values": np.zeros((1, 9, 1))}, "9 times, steps is 10"),
        ({"phase": [0.1, 0.2]}, "phase has 2 numbers"),
    ],
)
def test_rate_refuses_shapes(change: dict[str, Any], message: str) -> None:
    arguments = {"values": np.ones((1, 1)), "steps": 10, "dt": DT, "highest": 100.0} | change
    with pytest.raises(ConfigurationError, match=message):
        rate(**arguments)


def test_latency_refuses() -> None:
    with pytest.raises(ParameterRangeError, match=r"bin 10, the bins are 0\.\.9\. Raise steps"):
        latency([[0.5]], 10, DT, earliest=0.0, latest=0.010)
    with pytest.raises(ParameterRangeError, match=r"earliest is -0\.001"):
        latency([[0.5]], 10, DT, earliest=-1e-3, latest=5e-3)
    with pytest.raises(ConfigurationError, match=r"must be \(sample, channel\)\."):
        latency(np.zeros((1, 10, 1)), 10, DT, earliest=0.0, latest=5e-3)


def test_delta_refuses() -> None:
    jump = np.array([0, 300.0])[None, :, None]
    with pytest.raises(ParameterRangeError, match=r"up to 300 events in a bin.*Raise the threshold"):
        delta(jump, 1.0)
    with pytest.raises(ParameterRangeError, match="255 is the most"):
        delta(jump, 1e-310)
    with pytest.raises(ParameterRangeError, match="threshold is 0"):
        delta(jump, 0)
    with pytest.raises(ParameterRangeError, match=r"signal\[0, 1, 0\] is inf"):
        delta(np.array([0, np.inf])[None, :, None], 1.0)
    with pytest.raises(ConfigurationError, match="signal has shape"):
        delta(jump[0], 1.0)
    with pytest.raises(ConfigurationError, match="3 channels"):
        reconstruct(np.zeros((1, 2, 3)), 1.0)
    with pytest.raises(ConfigurationError, match="start does not fit"):
        reconstruct(np.zeros((1, 2, 4)), 1.0, np.zeros(5))
