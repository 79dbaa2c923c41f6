"""Pictures without a plotting package: accuracies on many chips and curves over steps as SVG, distributions as text.

The SVG texts are complete files on a white background, so that they can be read in light and in dark viewers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.reporting.conversion_table import table
from nir_dynapse.reporting.svg import (
    EDGE,
    FAINT,
    GREY,
    LEFT,
    RIGHT,
    WIDTH,
    Scale,
    clean,
    colour_of,
    curve,
    cut,
    document,
    legend,
    line,
    multiples,
    number,
    pixels,
    round_step,
    scale,
    text,
    upright,
    x_axis,
)

__all__ = ["Panel", "distribution_svg", "distribution_text", "lines_svg", "percentages"]

TOP, ROW, SWARM, CURVES, GAP = 44.0, 124.0, 48.0, 220.0, 30.0
"""Heights in pixels: of the title, of one series with its numbers, its dots, a panel with curves, between two panels."""
RADIUS, MOST_DOTS = 3.0, 2000
"""Of the dots in pixels, and how many there are of one series."""
MARKED, STRETCHES = 60, 1000
"""Curves of at most so many points show them; those of more than twice as many points as stretches are thinned."""
BAR, LONGEST, MOST_BINS = "▇", 16, 14
"""Of the histogram as text: what bars are made of, the characters of the longest bar, and the number of bins."""
STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Widths in percent that bins may have, and distances that ticks may have."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes: its label and `series`, name -> (x, y) of equal length; points that are not finite are left out.

    `percent`: y is a share, 0 to 1 is drawn as 0 to 100 %; `log`: logarithmic, where all values are positive.
    """

    label: str
    series: Mapping[str, tuple[Any, Any]]
    percent: bool = False
    log: bool = False


# --- distributions ----------------------------------------------------------------------------------------------------


def distribution_svg(series: Mapping[str, np.ndarray], *, title: str, unit: str = "accuracy on a virtual chip") -> str:
    """Distributions of shares (0 to 1), an array for each name, as SVG: dots and boxes above, cumulative curves below.

    Raises ParameterRangeError where there is no series, or one is empty or holds something else.
    """
    percent = percentages(series)
    low, high, step = _percent_axis(np.concatenate(list(percent.values())))
    x, ticks = scale(low, high, LEFT, WIDTH - RIGHT), multiples(low, high, step)
    end = TOP + ROW * len(percent)
    names, top = legend(percent, end + 46)
    bottom = top + CURVES
    y = scale(0.0, 100.0, bottom, top)
    parts = []
    for k, (name, values) in enumerate(percent.items()):
        parts.append(text(EDGE, TOP + ROW * k + 16, name, WIDTH - 2 * EDGE, colour=colour_of(k), bold=True))
        parts.append(text(EDGE, TOP + ROW * k + 34, _numbers(series[name])))
        parts.append(_strip(values, TOP + ROW * k + 44, colour_of(k), x, ticks))
    how = "dots: chips; box: quartiles; thick line: median; tick: 5 % quantile; thin line: minimum to maximum"
    parts += [text(EDGE, end + 18, how, colour=GREY, size=12), names]
    parts += [line(LEFT, y(share), WIDTH - RIGHT, y(share), FAINT) for share in (25, 75)]
    for share, what in ((5, "5 %"), (50, "median")):
        parts.append(line(LEFT, y(share), WIDTH - RIGHT, y(share), GREY, dash="2 3"))
        parts.append(text(WIDTH - RIGHT + 6, y(share) + 4, what, colour=GREY))
    parts += [text(LEFT - 8, y(share) + 4, f"{share} %", anchor="end") for share in range(0, 101, 25)]
    parts.append(x_axis(x, ticks, top, bottom, unit, " %"))
    parts.append(upright(34, (top + bottom) / 2, "chips at or below", CURVES))
    for k, values in enumerate(percent.values()):
        at, count = np.unique(values, return_counts=True)
        stairs = np.repeat(np.cumsum([0, *count]) * 100 / len(values), 2)
        parts.append(curve(x(np.repeat([low, *at, high], 2)[1:-1]), y(stairs), k, k))
    return document("".join(parts), bottom, title)


def distribution_text(series: Mapping[str, np.ndarray], *, width: int = 100) -> str:
    """Histograms of shares (0 to 1) side by side: the number of chips in each of at most 14 ranges, and a bar.

    Below stand median, 5 % quantile and minimum. Series that do not fit into `width` characters follow below. Raises
    ParameterRangeError where there is no series, or one is empty or holds something else.
    """
    percent = percentages(series)
    edges = _edges(np.concatenate(list(percent.values())))
    counts = {name: np.histogram(values, edges)[0] for name, values in percent.items()}
    most = max(count.max() / len(percent[name]) for name, count in counts.items())
    labels = [f"{number(a)} to {number(b)} %" for a, b in pairwise(edges.tolist())]
    fit = max(1, (width - 2 - max(map(len, (*labels, "5 % quantile")))) // (LONGEST + 11))
    blocks = []
    for start in range(0, len(percent), fit):
        some = list(percent)[start : start + fit]
        lines = []
        for k, label in reversed(list(enumerate(labels))):
            shares = (counts[name][k] / len(percent[name]) for name in some)
            bars = (BAR * math.ceil(LONGEST * share / most - 1e-9) for share in shares)
            numbers = (str(counts[name][k]) for name in some)
            lines.append([label, *(cell for pair in zip(numbers, bars, strict=True) for cell in pair)])
        for what, share in (("median", 0.5), ("5 % quantile", 0.05), ("minimum", 0.0)):
            found = (_quantile(series[name], share) for name in some)
            lines.append([what, *(cell for value in found for cell in (value, ""))])
        header = ["accuracy", *(cell for name in some for cell in ("chips", cut(clean(name), LONGEST)))]
        blocks.append(table(header, lines, ">" + "><" * len(some)))
    return "\n\n".join(blocks)


def percentages(series: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Shares (0 to 1) as percentages, an array for each name; ParameterRangeError where there is none, or no share."""
    if not series:
        raise ParameterRangeError("plots: there is no series to show. Give at least one array of accuracies.")
    result = {}
    for name, values in series.items():
        array = np.asarray(values, float).reshape(-1)
        bad = array[~((array >= 0) & (array <= 1))]
        if not array.size or bad.size:
            got = f"holds {bad[0]:g}" if bad.size else "is empty"
            raise ParameterRangeError(f"plots: series {name!r} {got}. Give accuracies as shares from 0 to 1.")
        result[name] = np.round(100 * array, 9)  # 57 % belongs above 57, not below it at 56.99999999999999
    return result


def _edges(values: np.ndarray) -> np.ndarray:
    """Round borders of 5 to 14 bins of equal width that hold all `values` (%)."""
    ends = [(math.floor(values.min() / s + 1e-9), math.ceil(values.max() / s - 1e-9), s) for s in STEPS]
    low, high, step = next((end for end in ends if end[1] - end[0] <= MOST_BINS), ends[-1])
    low, high = _widened(low, high, step, 5)
    return np.round(np.arange(low, high + 1) * step, 9)


def _percent_axis(values: np.ndarray) -> tuple[float, float, float]:
    """Ends of an axis that shows `values` (%), and the distance of its ticks."""
    margin = 0.02 * max(float(np.ptp(values)), 0.5)
    low, high = max(float(values.min()) - margin, 0.0), min(float(values.max()) + margin, 100.0)
    step = next((step for step in STEPS if (high - low) / step <= 8), STEPS[-1])
    low, high = _widened(math.floor(low / step), math.ceil(high / step), step, 4)
    return low * step, high * step, step


def _widened(low: int, high: int, step: float, least: int) -> tuple[int, int]:
    """Multiples of `step` at least `least` apart, on both sides as far as 0 and 100 % allow."""
    last = round(100 / step)
    while high - low < least:
        down = low > 0 and (high >= last or (high - low) % 2 == 1)
        low, high = (low - 1, high) if down else (low, high + 1)
    return low, high


def _quantile(values: Any, share: float) -> str:
    # Of the shares as they came, as in an Evaluation: rounding then goes the same way everywhere.
    return f"{100 * np.quantile(np.asarray(values, float), share):.1f} %"


def _numbers(values: Any) -> str:
    low5, low, median, high, least = (_quantile(values, share) for share in (0.05, 0.25, 0.5, 0.75, 0.0))
    chips = f"{np.size(values)} chip{'' if np.size(values) == 1 else 's'}"
    quartiles = f"quartiles {low.removesuffix(' %')} to {high}"
    return f"median {median} · {quartiles} · 5 % quantile {low5} · minimum {least} · {chips}"


def _strip(values: np.ndarray, top: float, colour: str, x: Scale, ticks: Sequence[float]) -> str:
    """One series: a dot for each value, and a box below."""
    low5, low, median, high = (float(np.quantile(values, share)) for share in (0.05, 0.25, 0.5, 0.75))
    box, start, wide = top + SWARM + 12, x(low), max(float(x(high) - x(low)), 1.0)
    frame = f'fill="#ffffff" stroke="{colour}" stroke-width="1.5"'
    return "".join(
        [
            *(line(x(tick), top, x(tick), box + 10, FAINT) for tick in ticks),
            _swarm(values, top + SWARM / 2, x, colour),
            line(x(values.min()), box, x(values.max()), box, colour),
            line(x(low5), box - 6, x(low5), box + 6, colour, 2),
            f'<rect x="{pixels(start)}" y="{pixels(box - 6)}" width="{pixels(wide)}" height="12" {frame}/>',
            line(x(median), box - 8, x(median), box + 8, colour, 4),
        ]
    )


def _swarm(values: np.ndarray, middle: float, x: Scale, colour: str) -> str:
    """A dot for each value, those that would overlap stacked around `middle`; very many values are thinned evenly."""
    ordered = np.sort(values)
    if len(ordered) > MOST_DOTS:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MOST_DOTS).round().astype(int)]
    at = x(ordered)
    _, first, sizes = np.unique(np.floor(at / (2 * RADIUS)), return_index=True, return_counts=True)
    gap = min(2 * RADIUS, (SWARM - 2 * RADIUS) / int(sizes.max()))  # one for all: heights compare
    places = (
        (at[start + j], middle + (j - (size - 1) / 2) * gap)
        for start, size in zip(first.tolist(), sizes.tolist(), strict=True)
        for j in range(size)
    )
    dots = (f'<circle cx="{pixels(a)}" cy="{pixels(b)}" r="{pixels(RADIUS - 0.3)}"/>' for a, b in places)
    return f'<g fill="{colour}" fill-opacity="0.55">{"".join(dots)}</g>'


# --- curves -----------------------------------------------------------------------------------------------------------


def lines_svg(panels: Sequence[Panel], *, title: str, x_label: str) -> str:
    """Curves over a common x axis as SVG, the panels one below the other, each with axes, ticks and a legend.

    Raises ParameterRangeError where there is no panel, or x and y of a series differ in length.
    """
    if not panels:
        raise ParameterRangeError("plots: there is no panel to show. Give at least one.")
    curves = [{name: _points(name, *points) for name, points in panel.series.items()} for panel in panels]
    everything = np.concatenate([np.zeros(0), *(at for found in curves for at, _ in found.values())])
    low, high = (float(everything.min()), float(everything.max())) if everything.size else (0.0, 1.0)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    x, ticks = scale(low, high, LEFT, WIDTH - RIGHT), multiples(low, high, round_step(high - low, 8))
    parts, top, bottom, first = [], TOP, TOP, 0
    for panel, found in zip(panels, curves, strict=True):
        names, top = legend(found, top, first)
        bottom = top + CURVES
        y, marks = _y_axis(panel, found, bottom, top)
        parts += [names, upright(22, (top + bottom) / 2, panel.label, CURVES)]
        for mark, label in marks:
            parts.append(line(LEFT, y(mark), WIDTH - RIGHT, y(mark), FAINT))
            parts.append(text(LEFT - 8, y(mark) + 4, label, anchor="end"))
        parts.append(x_axis(x, ticks, top, bottom, x_label if panel is panels[-1] else None))
        for k, (at, value) in enumerate(found.values()):
            parts.append(curve(x(at), y(value), first + k, k, marked=len(at) <= MARKED))
        if not any(len(at) for at, _ in found.values()):
            middle = (LEFT + WIDTH - RIGHT) / 2
            parts.append(text(middle, (top + bottom) / 2, "no values", anchor="middle", colour=GREY))
        first, top = first + len(found), bottom + GAP
    return document("".join(parts), bottom, title)


def _points(name: str, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """The finite points; of very many the lowest and the highest of each stretch."""
    x, y = np.asarray(x, float).reshape(-1), np.asarray(y, float).reshape(-1)
    if len(x) != len(y):
        raise ParameterRangeError(f"plots: series {name!r} has {len(x)} x and {len(y)} y. Give one y for each x.")
    x, y = x[good := np.isfinite(x) & np.isfinite(y)], y[good]
    if len(x) > 2 * STRETCHES:
        stretches = np.array_split(np.arange(len(x)), STRETCHES)
        kept = np.unique([part[k] for part in stretches for k in (y[part].argmin(), y[part].argmax())])
        x, y = x[kept], y[kept]
    return x, y


def _y_axis(
    panel: Panel, found: Mapping[str, tuple[np.ndarray, np.ndarray]], bottom: float, top: float
) -> tuple[Scale, list[tuple[float, str]]]:
    """The scale of the values, and the ticks with their labels."""
    values = np.concatenate([np.zeros(0), *(value for _, value in found.values())])
    values = values if values.size else np.array([0.0, 1.0])
    low, high = float(values.min()), float(values.max())
    if panel.percent:
        low, high, step = _percent_axis(100 * np.clip(values, 0.0, 1.0))
        ticks = [(v / 100, f"{number(v)} %") for v in multiples(low, high, step)]
        return scale(low / 100, high / 100, bottom, top), ticks
    if panel.log and low > 0:
        linear = scale(math.log10(low / 1.1), math.log10(high * 1.1), bottom, top)
        return lambda value: linear(np.log10(value)), [(v, number(v)) for v in _log_ticks(low / 1.1, high * 1.1)]
    step = round_step((high - low) or abs(high) or 1.0, 7)
    low, high = math.floor(low / step), math.ceil(high / step)
    low, high = low * step, max(high, low + 1) * step
    return scale(low, high, bottom, top), [(v, number(v)) for v in multiples(low, high, step)]


def _log_ticks(low: float, high: float) -> list[float]:
    """At most 8 or so round numbers between two positive ones that are some way apart."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = [[m * 10.0**k for k in decades for m in some] for some in ((1, 2, 5), (1, 3), (1,))]
    within = [[v for v in marks if low <= v <= high] for marks in choices]
    chosen = next((marks for marks in within if len(marks) <= 8), within[-1])
    return chosen[:: math.ceil(len(chosen) / 8)] if len(chosen) > 1 else multiples(low, high, round_step(high - low, 4))
