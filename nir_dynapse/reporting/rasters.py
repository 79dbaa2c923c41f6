"""Spikes over time as SVG: one panel per population, one mark per neuron and bin, darker with more spikes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nir_dynapse.errors import ParameterRangeError
from nir_dynapse.reporting.svg import (
    FAINT,
    GREY,
    LEFT,
    RIGHT,
    WIDTH,
    colour_of,
    document,
    line,
    multiples,
    pixels,
    round_step,
    scale,
    text,
    x_axis,
)

__all__ = ["raster_svg"]

TOP, HEAD, GAP = 44.0, 22.0, 26.0
"""Heights in pixels: of the title, of the name of a panel, between two panels."""
LEAST, MOST, ROW = 60.0, 220.0, 12.0
"""Lowest and highest panel, and what one neuron gets where there is room."""
MOST_MARKS = 60_000
"""Marks of a picture; of more spikes, bins are drawn together."""


def raster_svg(rasters: Mapping[str, np.ndarray], *, dt: float, title: str, most: int = MOST_MARKS) -> str:
    """Spike counts (time, neuron) in bins of `dt` s as SVG, one panel for each name, over a common time axis in ms.

    Neuron 0 is at the bottom. Where more than `most` marks would be needed, several bins share one. ParameterRangeError for
    arrays of another number of dimensions, no panel, or a `dt` that is not positive.
    """
    arrays = {name: np.asarray(counts) for name, counts in rasters.items()}
    if not arrays:
        raise ParameterRangeError("plots: there is no raster to show. Give at least one.")
    if not dt > 0:
        raise ParameterRangeError(f"plots: dt is {dt} s, it must be positive. Give the width of a bin in seconds.")
    for name, counts in arrays.items():
        if counts.ndim != 2:
            raise ParameterRangeError(
                f"plots: the raster {name!r} has shape {counts.shape}, needed is (time, neuron). Choose one sample."
            )
    end = 1e3 * dt * max(1, max(len(counts) for counts in arrays.values()))
    x, ticks = scale(0.0, end, LEFT, WIDTH - RIGHT), multiples(0.0, end, round_step(end, 8))
    together, longest = 1, max(map(len, arrays.values()))
    while together < longest and sum(np.count_nonzero(_binned(c, together)) for c in arrays.values()) > most:
        together *= 2
    parts, top, bottom = [], TOP, TOP
    for k, (name, counts) in enumerate(arrays.items()):
        n = counts.shape[1]
        spikes = int(counts.sum())
        words = f"{name}: {n} neurons, {spikes} spikes" if n != 1 else f"{name}: 1 neuron, {spikes} spikes"
        parts.append(text(LEFT, top + 14, words, WIDTH - LEFT - RIGHT, colour=colour_of(k)))
        top += HEAD
        bottom = top + min(max(LEAST, ROW * n), MOST)
        label = "time in ms" if k == len(arrays) - 1 else None
        parts.append(x_axis(x, ticks, top, bottom, label))
        parts.append(_numbers(n, top, bottom))
        parts.append(_marks(counts, 1e3 * dt, together, x, top, bottom, colour_of(k)))
        if not spikes:
            parts.append(
                text((LEFT + WIDTH - RIGHT) / 2, (top + bottom) / 2, "no spikes", anchor="middle", colour=GREY)
            )
        top = bottom + GAP
    return document("".join(parts), bottom, title)


def _numbers(n: int, top: float, bottom: float) -> str:
    """Numbers of the first and the last neuron."""
    if not n:
        return ""
    height = (bottom - top) / n
    parts = [text(LEFT - 8, bottom - height / 2 + 4, "0", anchor="end")]
    if n > 1:
        parts.append(text(LEFT - 8, top + height / 2 + 4, str(n - 1), anchor="end"))
        parts.append(line(LEFT, top, WIDTH - RIGHT, top, FAINT))
    return "".join(parts)


def _binned(counts: np.ndarray, together: int) -> np.ndarray:
    """Counts (time, neuron) with so many bins added up."""
    padded = np.pad(counts, ((0, -len(counts) % together), (0, 0)))
    return padded.reshape(-1, together, counts.shape[1]).sum(1) if together > 1 else counts


def _marks(counts: np.ndarray, width: float, together: int, x, top: float, bottom: float, colour: str) -> str:
    """An upright stroke per neuron and bin with spikes; its opacity grows with their number."""
    n = counts.shape[1]
    counts = _binned(counts, together)
    most = max(1, counts.max(initial=1))
    height = bottom - top
    half = max(0.8, min(5.0, 0.4 * height / max(1, n)))
    wide = pixels(max(1.0, 0.8 * float(x(together * width) - x(0.0))) if n else 1.0)
    drawn = []
    for many in np.unique(counts[counts > 0]).tolist():
        when, who = np.nonzero(counts == many)
        at, middle = x((when + 0.5) * together * width), bottom - (who + 0.5) / max(1, n) * height
        strokes = (f"M{pixels(a)} {pixels(b - half)}v{pixels(2 * half)}" for a, b in zip(at, middle, strict=True))
        drawn.append(f'<path d="{"".join(strokes)}" opacity="{0.35 + 0.65 * many / most:.2g}"/>')
    return f'<g stroke="{colour}" stroke-width="{wide}" fill="none">{"".join(drawn)}</g>'
