"""What figures by matplotlib are made of: where they are drawn, units, and the colours that all pictures share.

No pyplot: a figure belongs to nobody but its caller, no window opens, and nothing global is changed. Fonts and background
are those of the caller's rcParams.
"""

from __future__ import annotations

import io
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from nir_dynapse.data.recording import Recording
from nir_dynapse.errors import ConfigurationError, NotInstalledError, ParameterRangeError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_name", "canvas", "new_figure", "plain", "si", "time_axis", "whole"]

PREFIXES = {0: "", -3: "m", -6: "µ", -9: "n", -12: "p", -15: "f", -18: "a"}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that notebooks show by itself.

    Raises NotInstalledError where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotInstalledError(
            f'figures need matplotlib, which cannot be imported ({error}). Run `pip install "nir-dynapse[plot]"`.'
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    # IPython asks an object itself where nobody has imported pyplot; after that its backend takes precedence.
    figure._repr_png_ = partial(_png, figure)  # pyright: ignore[reportAttributeAccessIssue]
    return figure


def _png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def canvas(ax: Axes | None, width: float, height: float) -> tuple[Any, Axes]:
    """(what the caller gets back, where to draw): `ax` itself, or a new figure with one pair of axes."""
    if ax is not None:
        return ax, ax
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def plain(ax: Axes) -> None:
    """Axes without frame on the upper and the right side."""
    ax.spines[["top", "right"]].set_visible(False)


def time_axis(ax: Axes, start: float, end: float) -> None:
    """The x axis is time in ms, from `start` to `end` ms."""
    ax.set_xlim(start, end)
    ax.set_xlabel("time in ms")


def si(largest: float) -> tuple[float, str]:
    """The SI prefix for values up to `largest`, and the number that one of it is."""
    power = 3 * math.floor(math.log10(largest) / 3) if largest > 0 else 0
    power = min(0, max(min(PREFIXES), power))
    return 10.0**power, PREFIXES[power]


# --- what was asked for -----------------------------------------------------------------------------------------------


def whole(what: str, value: Any, size: int) -> int:
    """An index from 0 to `size` - 1 (ParameterRangeError)."""
    try:
        index = value.__index__()
    except (AttributeError, TypeError):
        index = -1
    if isinstance(value, bool) or not 0 <= index < size:
        allowed = f"allowed are whole numbers from 0 to {size - 1}" if size else "but there are none"
        raise ParameterRangeError(f"figures: {what} is {value!r}, {allowed}. Choose one of them.")
    return index


def by_name(recording: Recording, node: Any) -> str:
    """The name of a node whose spikes were recorded (ConfigurationError)."""
    if node not in recording.spikes:
        raise ConfigurationError(f"figures: the recording has no node {node!r}. {nearest(str(node), recording.spikes)}")
    return node
