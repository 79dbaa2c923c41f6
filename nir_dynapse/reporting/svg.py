"""What SVG pictures are made of: scales, ticks, texts that keep to their room, curves, axes, legends; places in pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

__all__ = [
    "EDGE",
    "FAINT",
    "GREY",
    "INK",
    "LEFT",
    "RIGHT",
    "WIDTH",
    "Scale",
    "clean",
    "colour_of",
    "curve",
    "cut",
    "document",
    "legend",
    "line",
    "multiples",
    "number",
    "pixels",
    "round_step",
    "scale",
    "text",
    "upright",
    "x_axis",
]

WIDTH, EDGE, LEFT, RIGHT = 800.0, 24.0, 84.0, 68.0
"""Of a picture: its width, and what stays free on both sides of texts, on the left of axes and on their right."""
FONT, NAME = 13.0, 300.0
"""Size of letters, and the room for a name in a legend."""
INK, GREY, FAINT = "#1a1a1a", "#5a5a5a", "#dddddd"
COLOURS = ("#d55e00", "#0072b2", "#00805c", "#a3458a", "#806600", "#444444")
"""Told apart by colour-blind eyes too (after Okabe and Ito), and dark enough for text on white."""
DASHES = ("", "8 3", "2 3", "9 3 2 3")
BROAD, NARROW = frozenset("MWmw%@&…—"), frozenset(" .,;:!|'ijl·()[]")
"""Letters that are nearly as wide as they are high, and those that are half as wide as others."""

Scale = Callable[[Any], Any]


def scale(low: float, high: float, start: float, end: float) -> Scale:
    """The linear map of `low` to `start` and of `high` to `end`, for numbers and arrays."""
    return lambda value: start + (np.asarray(value) - low) / (high - low) * (end - start)


def round_step(extent: float, most: int) -> float:
    """The smallest 1, 2 or 5 times a power of 10 that goes into `extent` at most `most` times."""
    power = 10.0 ** math.floor(math.log10(extent / most))
    return next(m * power for m in (1, 2, 5, 10, 20) if extent / (m * power) <= most)


def multiples(low: float, high: float, step: float) -> list[float]:
    """The multiples of `step` from `low` to `high`."""
    return [k * step for k in range(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1)]


def number(value: float) -> str:
    """A number as ticks show it."""
    return f"{value:.6g}" if value else "0"


def pixels(value: Any) -> str:
    """A coordinate in tenths of a pixel."""
    return f"{float(value):.1f}".removesuffix(".0")


def clean(words: str) -> str:
    """What XML and a terminal can show in one line."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def cut(words: str, most: float, length: Callable[[str], float] = len) -> str:
    """`words`, shortened until `length` is at most `most`."""
    if length(words) <= most:
        return words
    while words and length(words + "…") > most:
        words = words[:-1]
    return words + "…"


def text(
    x: Any,
    y: Any,
    words: str,
    most: float = math.inf,
    *,
    size: float = FONT,
    anchor: str = "start",
    colour: str = INK,
    bold: bool = False,
    turned: bool = False,
) -> str:
    """A line of text of at most `most` pixels; where it was cut, hovering shows the whole."""
    whole = clean(words)
    shown = cut(whole, most, lambda part: _wide(part, size, bold))
    tip = f"<title>{escape(whole)}</title>" if shown != whole else ""
    place = f'x="{pixels(x)}" y="{pixels(y)}" font-size="{pixels(size)}" text-anchor="{anchor}" fill="{colour}"'
    place += ' font-weight="bold"' if bold else ""
    place += f' transform="rotate(-90 {pixels(x)} {pixels(y)})"' if turned else ""
    return f"<text {place}>{tip}{escape(shown)}</text>"


def upright(x: Any, y: Any, words: str, most: float) -> str:
    """A line of text from below to above, its middle at (x, y)."""
    return text(x, y, words, most, anchor="middle", turned=True)


def _wide(words: str, size: float, bold: bool = False) -> float:
    """Width of a text, rather too much than too little: fonts differ."""
    total = 0.0
    for c in words:
        broad = c in BROAD or ord(c) >= 0x250
        total += 1.05 if broad else 0.45 if c in NARROW else 0.78 if c.isupper() else 0.64
    return total * size * (1.12 if bold else 1.0)


def line(x1: Any, y1: Any, x2: Any, y2: Any, colour: str, width: float = 1.0, dash: str = "") -> str:
    """A straight line."""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{pixels(x1)}" y1="{pixels(y1)}" x2="{pixels(x2)}" y2="{pixels(y2)}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{pixels(width)}"{dashes}/>'


def colour_of(k: int) -> str:
    """The colour of the `k`-th series."""
    return COLOURS[k % len(COLOURS)]


def curve(x: np.ndarray, y: np.ndarray, k: int, dash: int = 0, *, marked: bool = False) -> str:
    """The curve of the `k`-th series through the points (n,), shown as dots too where `marked`."""
    points = [(pixels(a), pixels(b)) for a, b in zip(x, y, strict=True)]
    joined, style = " ".join(f"{a},{b}" for a, b in points), DASHES[dash % len(DASHES)]
    dashes = f' stroke-dasharray="{style}"' if style else ""
    drawn = f'<polyline points="{joined}" fill="none" stroke="{colour_of(k)}" stroke-width="1.8"{dashes}/>'
    dots = (f'<circle cx="{a}" cy="{b}" r="2.6" fill="{colour_of(k)}"/>' for a, b in points)
    return drawn + ("".join(dots) if marked else "")


def legend(names: Iterable[str], top: float, first: int = 0) -> tuple[str, float]:
    """Samples of curves with their names, in as many lines as needed, and where that ends.

    `first` is the number of the first series among the colours; the first is always drawn without dashes.
    """
    parts, x, y = [], LEFT, top + 12
    for k, name in enumerate(names):
        wide = 34 + min(_wide(clean(name), FONT), NAME)
        if x > LEFT and x + wide > WIDTH - EDGE:
            x, y = LEFT, y + 20
        parts.append(line(x, y - 4, x + 28, y - 4, colour_of(first + k), 2.5, DASHES[k % len(DASHES)]))
        parts.append(text(x + 34, y, name, NAME))
        x += wide + 24
    return "".join(parts), y + 12


def x_axis(x: Scale, ticks: Sequence[float], top: float, bottom: float, label: str | None, suffix: str = "") -> str:
    """Grid and frame of a panel; where there is a `label` also the numbers of the ticks and the label."""
    parts = [line(x(tick), top, x(tick), bottom, FAINT) for tick in ticks]
    parts += [line(x(tick), bottom, x(tick), bottom + 5, INK) for tick in ticks]
    parts.append(line(LEFT, bottom, WIDTH - RIGHT, bottom, INK) + line(LEFT, top, LEFT, bottom, INK))
    if label is not None:
        parts += [text(x(tick), bottom + 19, f"{number(tick)}{suffix}", anchor="middle") for tick in ticks]
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(text(middle, bottom + 42, label, WIDTH - LEFT - RIGHT, anchor="middle"))
    return "".join(parts)


def document(body: str, bottom: float, title: str) -> str:
    """The whole file, as high as `bottom` and the labels of an x axis there need."""
    height = pixels(bottom + 54)
    size = f'viewBox="0 0 {pixels(WIDTH)} {height}" width="{pixels(WIDTH)}" height="{height}"'
    style = f'{size} role="img" font-family="Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"'
    ground = f'<rect width="{pixels(WIDTH)}" height="{height}" fill="#ffffff"/>'
    head = text(EDGE, 28, title, WIDTH - 2 * EDGE, size=16, bold=True)
    tip = f"<title>{escape(clean(title))}</title>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {style}>{tip}{ground}{head}{body}</svg>\n'
