"""Encoders: analog values or signals to event counts per bin, (sample, time, channel), as `Data` and `Board` take them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nir_dynapse.data.counts import check_values, real_array
from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.files.numbers import SEED, STEP, Real, Whole

__all__ = ["delta", "latency", "rate", "reconstruct"]

MOST_EVENTS = 255  # in a bin: counts are uint8
MOST_ELEMENTS = 1 << 30
"""Most counts that are made at once."""
RATE, TIME, THRESHOLD = Real(0, 1e9, "Hz"), Real(0, 1e6, "s"), Real(0, 1e100, above=True)
_EXACT = 1e-9  # added before rounding down, so that 3 * 0.1 / 0.1 counts as 3 whole steps


def rate(values: Any, steps: int, dt: float, highest: float, *, key: int | None = None, phase: Any = 0.5) -> np.ndarray:
    """Event counts at a rate in proportion to the value: `rate = value highest`, regular, or Poisson with a `key`.

    Regular events are the integers that the phase `phase + ∫ rate dt` reaches, so a constant rate over T s gives
    floor(rate T + phase) of them, the first after (1 - phase) / rate.

    values: 0..1, (sample, channel) for constant rates or (sample, time, channel) with `steps` times.
    dt: width of a bin in s. highest: rate of the value 1 in Hz. key: seed of the Poisson counts, None for regular ones.
    phase: 0 <= phase < 1 (without effect where a key is given), a number or one for each channel.
    Returns uint8 counts (sample, time, channel).

    Errors: ConfigurationError for a wrong shape; ParameterRangeError for a value outside its range or more than 255
    events in a bin.
    """
    v = _unit_values("rate", values, (2, 3))
    n, dt = _steps("rate", steps, len(v) * v.shape[-1]), _number("rate", "dt", dt, STEP)
    per_bin = _number("rate", "highest", highest, RATE) * dt
    if v.ndim == 3 and v.shape[1] != n:
        raise ConfigurationError(f"rate: values have {v.shape[1]} times, steps is {n}. Give one value for each step.")
    start = _per_channel("rate", phase, v.shape[-1])
    most = per_bin * v.max(initial=0.0)
    if not most <= MOST_EVENTS:  # also where the product overflowed
        _too_many("rate", most, "Lower highest or dt.")
    if key is not None:
        expected = (v if v.ndim == 3 else v[:, None]) * per_bin
        return _counts("rate", _generator(key).poisson(expected, (len(v), n, v.shape[-1])), "Lower highest or dt.")
    ahead = np.zeros((len(v), n + 1, v.shape[-1]))  # phase at the edges of the bins
    if v.ndim == 3:
        np.cumsum(v, 1, out=ahead[:, 1:])
    else:
        np.multiply(v[:, None], np.arange(n + 1)[:, None], out=ahead)
    ahead *= per_bin
    ahead += start + _EXACT
    return _counts("rate", np.diff(np.floor(ahead, out=ahead), axis=1), "Lower highest or dt.")


def latency(values: Any, steps: int, dt: float, *, earliest: float, latest: float, phase: Any = 0.0) -> np.ndarray:
    """One event of each channel at the time that its value says: `t = earliest + value (latest - earliest)`.

    The event is in bin floor(t / dt + phase); different phases keep channels whose values mirror each other (x and
    1 - x) from being rounded at the same places.

    values: 0..1, (sample, channel). dt: width of a bin in s. earliest, latest: times of the values 0 and 1 in s, in
    either order (latest < earliest: a large value comes first). phase: 0 <= phase < 1, a number or one for each channel.
    Returns uint8 counts (sample, time, channel) with `steps` times.

    Errors: ConfigurationError for a wrong shape; ParameterRangeError for a value outside its range or a time after the
    last bin.
    """
    v = _unit_values("latency", values, (2,))
    n, dt = _steps("latency", steps, v.size), _number("latency", "dt", dt, STEP)
    first, last = (_number("latency", k, t, TIME) for k, t in (("earliest", earliest), ("latest", latest)))
    start = _per_channel("latency", phase, v.shape[1])
    bins = np.floor((first + v * (last - first)) / dt + start + _EXACT)
    end = np.floor(max(first, last) / dt + start.max(initial=0.0) + _EXACT)  # of a value that need not be there
    if end >= n:
        raise ParameterRangeError(
            f"latency: an event may come in bin {end:.0f}, the bins are 0..{n - 1}. Raise steps, or lower latest or phase."
        )
    counts = np.zeros((len(v), n, v.shape[1]), np.uint8)
    np.put_along_axis(counts, bins.astype(np.int64)[:, None], 1, 1)
    return counts


def delta(signal: Any, threshold: float) -> np.ndarray:
    """ON and OFF events where a signal has moved on by one threshold: `|s(t) - s(0) - threshold Σ (ON - OFF)| < threshold`.

    A jump by several thresholds gives several events in its bin; `reconstruct` goes back.

    signal: (sample, time, channel), in any unit. threshold: step of the reconstruction in the signal's unit, above 0.
    Returns uint8 counts (sample, time, 2 channel): the ON events of all channels, then their OFF events.

    Errors: ConfigurationError for a wrong shape; ParameterRangeError for a value that is not finite, a threshold that is
    not above 0, or more than 255 events in a bin.
    """
    s, step = _array("delta", "signal", signal, (3,)), _number("delta", "threshold", threshold, THRESHOLD)
    with np.errstate(over="ignore", invalid="ignore"):
        level = (s - s[:, :1]) / step
        jump = np.abs(np.diff(level, axis=1)).max(initial=0.0)
    if not jump < MOST_EVENTS:  # also where the division overflowed
        _too_many("delta", jump, "Raise the threshold or sample the signal more often.")
    moved = np.zeros(level.shape)
    reached = np.zeros((len(s), s.shape[2]))
    for t in range(s.shape[1]):
        gap = level[:, t] - reached
        moved[:, t] = np.trunc(gap + np.copysign(_EXACT, gap))
        reached += moved[:, t]
    hint = "Raise the threshold or sample the signal more often."
    return _counts("delta", np.concatenate([np.maximum(moved, 0), np.maximum(-moved, 0)], 2), hint)


def reconstruct(counts: Any, threshold: float, start: Any = 0.0) -> np.ndarray:
    """The signal that the events of `delta` stand for: `s(t) = start + threshold Σ (ON - OFF)` up to and with bin t.

    counts: (sample, time, 2 channel), ON before OFF. threshold, start: in the signal's unit; start is a number or what
    broadcasts to (sample, time, channel), such as `signal[:, :1]`.
    Returns float64 (sample, time, channel).

    Errors: ConfigurationError for a wrong shape and for what is no count (means of counts are taken, too);
    ParameterRangeError for a threshold that is not above 0.
    """
    x = real_array("reconstruct", counts)
    if x.ndim != 3:
        raise ConfigurationError(
            f"reconstruct: counts have shape {x.shape}; they must be (sample, time, channel). Reshape them."
        )
    check_values("counts", x, whole=False)
    x = x.astype(float)
    step = _number("reconstruct", "threshold", threshold, THRESHOLD)
    if x.shape[2] % 2:
        raise ConfigurationError(
            f"reconstruct: counts have {x.shape[2]} channels; there must be as many ON as OFF channels. "
            "Give what delta returned."
        )
    on, off = np.split(x, 2, 2)
    try:
        origin = np.broadcast_to(_array("reconstruct", "start", start, (0, 1, 2, 3)), on.shape)
    except ValueError as error:
        raise ConfigurationError(
            f"reconstruct: start does not fit the shape {on.shape} ({error}). Give a number or signal[:, :1]."
        ) from error
    return origin + step * np.cumsum(on - off, 1)


def _array(who: str, what: str, values: Any, ndims: tuple[int, ...]) -> np.ndarray:
    """Finite float64 values of one of these numbers of axes."""
    v = real_array(f"{who}: {what}", values, "values").astype(np.float64)
    if v.ndim not in ndims:
        shapes = {0: "one number", 1: "(channel,)", 2: "(sample, channel)", 3: "(sample, time, channel)"}
        allowed = " or ".join(shapes[n] for n in ndims)
        raise ConfigurationError(f"{who}: {what} has shape {v.shape}; it must be {allowed}. Reshape it.")
    if not np.isfinite(v).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(v))[0])
        raise ParameterRangeError(f"{who}: {what}{list(where)} is {v[where]}; it must be finite. Remove or replace it.")
    return v


def _unit_values(who: str, values: Any, ndims: tuple[int, ...]) -> np.ndarray:
    v = _array(who, "values", values, ndims)
    outside = (v < 0) | (v > 1)
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ParameterRangeError(f"{who}: values{list(where)} is {v[where]:g}; it must be in 0..1. Scale or clip it.")
    return v


def _number(who: str, what: str, value: float, limit: Real) -> float:
    return limit.check(who, what, value, f"Give it in {limit.unit}." if limit.unit else "Choose one of them.")


def _steps(who: str, steps: int, channels: int) -> int:
    """The number of bins, of which so many samples and channels as there are fit into memory."""
    most = max(MOST_ELEMENTS // max(channels, 1), 1)
    return Whole(1, most).check(who, "steps", steps, "Give the number of bins.")


def _per_channel(who: str, phase: Any, channels: int) -> np.ndarray:
    p = _array(who, "phase", phase, (0, 1))
    if p.shape not in ((), (channels,)):
        raise ConfigurationError(
            f"{who}: phase has {p.size} numbers; it must be one, or one for each of {channels} channels. Reshape it."
        )
    if not ((p >= 0) & (p < 1)).all():
        raise ParameterRangeError(f"{who}: phase is {phase!r}; it must be in 0 <= phase < 1. Take it modulo 1.")
    return p


def _generator(key: int) -> np.random.Generator:
    return np.random.default_rng(SEED.check("rate", "key", key, "Give a seed, or None for regular events."))


def _counts(who: str, counts: np.ndarray, hint: str) -> np.ndarray:
    most = counts.max(initial=0)
    if most > MOST_EVENTS:
        _too_many(who, most, hint)
    return counts.astype(np.uint8)


def _too_many(who: str, most: float, hint: str) -> None:
    raise ParameterRangeError(f"{who}: up to {most:.0f} events in a bin; {MOST_EVENTS} is the most. {hint}")
