"""What a core makes of what was asked of it: weights with the levels that base currents give, and bias currents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nir_dynapse.chip.biasgen import off_codes
from nir_dynapse.chip.device import (
    AMPA,
    BASE_WEIGHTS,
    COLUMN,
    CURRENTS,
    DENDRITES,
    NMDA,
    PARAMETERS,
    WEIGHT_GAINS,
    Circuit,
    Device,
)
from nir_dynapse.circuit.closed_form import charge_per_ampere, event_charge
from nir_dynapse.circuit.params import Params
from nir_dynapse.layout.decoding import core_currents, layout_to_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.reporting.svg import FAINT, INK, colour_of, line, multiples, number, pixels, round_step, scale, text

__all__ = ["BiasCurrent", "CoreWeights", "bias_currents", "core_weights", "time_of", "weights_svg"]

WIDTH, HEIGHT, EDGE, TOP, BOTTOM = 400.0, 190.0, 12.0, 30.0, 142.0
"""Of the picture in pixels: its size, what stays free on both sides, and the ends of the y axis."""
BINS = 48
ALWAYS = ("i_gain_mem", "i_spkthr", "i_pulse")
"""Biases that every network needs, even where they are at their default."""


class CoreWeights(NamedTuple):
    """Connections to one core ("chip.core"): `asked` (n,), None where nobody knows, and `given` (n,).

    `levels` (k,) are the weights that one CAM row can make, in ascending order. All of them are fractions of the threshold
    per event, negative where they inhibit.
    """

    core: str
    asked: np.ndarray | None
    given: np.ndarray
    levels: np.ndarray


class BiasCurrent(NamedTuple):
    """One bias of one core ("chip.core"): its `parameter`, what is `given` with which `code`, currents in A.

    `asked` is the lowest and the highest current that its neurons asked for (None where nobody knows, or the core sets it
    for its own weights), `error` the largest relative error.
    """

    core: str
    parameter: str
    asked: tuple[float, float] | None
    given: float
    code: tuple[int, int]
    error: float | None


def core_weights(layout: Layout, device: Device, asked: Params | None) -> tuple[CoreWeights, ...]:
    """The weights of all connections, core by core; parallel CAM rows of one connection are one."""
    params = layout_to_params(layout, device)
    t = params.topology
    sources, sign = t.n_sources, np.array([1, 1, -1, -1])
    key, given = _connections(params)
    wanted = (np.zeros(0, np.int64), np.zeros(0)) if asked is None else _connections(asked)
    everything = np.union1d(key, wanted[0])
    both = np.zeros((2, len(everything)))
    both[0, np.searchsorted(everything, key)] = given
    both[1, np.searchsorted(everything, wanted[0])] = wanted[1]
    where = layout.core_index[everything // (4 * sources)]
    unit = charge_per_ampere(params.circuit, {name: np.asarray(value, float) for name, value in params.bias.items()})
    result = []
    for c in np.unique(where).tolist():
        group = int(np.searchsorted(np.flatnonzero(layout.used_cores), c))
        bits = (np.arange(1, 1 << len(BASE_WEIGHTS))[:, None] >> np.arange(len(BASE_WEIGHTS))) & 1
        row = (bits * np.asarray(params.base)[group]).sum(1)
        used = np.unique(t.dendrite[layout.core_index[t.post] == c]).tolist()
        levels = np.unique(np.concatenate([np.zeros(1), *(sign[d] * unit[d, group] * row for d in used)]))
        chip, core = divmod(c, device.cores_per_chip)
        here = where == c
        result.append(CoreWeights(f"{chip}.{core}", None if asked is None else both[1, here], both[0, here], levels))
    return tuple(result)


def _connections(params: Params) -> tuple[np.ndarray, np.ndarray]:
    """(key, weight) of every connection: key = (neuron·sources + source)·4 + dendrite, AMPA and NMDA being one."""
    t = params.topology
    dendrite = np.where(t.dendrite == NMDA, AMPA, t.dendrite)
    key = (t.post.astype(np.int64) * t.n_sources + t.pre) * len(DENDRITES) + dendrite
    charge = np.array([1.0, 1.0, -1.0, -1.0])[t.dendrite] * params.row_currents() * event_charge(params)
    unique, which = np.unique(key, return_inverse=True)
    return unique, np.bincount(which.reshape(-1), charge, minlength=len(unique))


def weights_svg(core: CoreWeights) -> str:
    """Histogram of the weights asked for (filled) and given (outline) as SVG, the levels of one CAM row as ticks below."""
    asked = np.zeros(0) if core.asked is None else 100 * core.asked
    given, levels = 100 * core.given, 100 * core.levels
    ends = np.concatenate([asked, given, np.zeros(1)])
    low, high = float(ends.min()), float(ends.max())
    low, high = (low, high) if high > low else (low - 1.0, high + 1.0)
    edges = np.linspace(low, high, BINS + 1)
    bars, outline = np.histogram(asked, edges)[0], np.histogram(given, edges)[0]
    most = max(int(bars.max(initial=0)), int(outline.max(initial=0)), 1)
    x, y = scale(low, high, EDGE, WIDTH - EDGE), scale(0, most, BOTTOM, TOP)
    parts = [
        f'<rect x="{pixels(x(a))}" y="{pixels(y(n))}" width="{pixels(x(b) - x(a))}" height="{pixels(BOTTOM - y(n))}"/>'
        for a, b, n in zip(edges[:-1], edges[1:], bars.tolist(), strict=True)
        if n
    ]
    parts = [f'<g fill="{colour_of(1)}" fill-opacity="0.45">{"".join(parts)}</g>']
    stairs = np.stack([np.repeat(x(edges), 2)[1:-1], np.repeat(y(outline), 2)], 1)
    points = " ".join(f"{pixels(a)},{pixels(b)}" for a, b in stairs.tolist())
    parts.append(f'<polyline points="{points}" fill="none" stroke="{colour_of(0)}" stroke-width="1.6"/>')
    parts.append(line(EDGE, BOTTOM, WIDTH - EDGE, BOTTOM, INK))
    shown = levels[(levels >= low - 1e-9) & (levels <= high + 1e-9)].tolist()
    parts += [line(x(level), BOTTOM + 3, x(level), BOTTOM + 12, INK, 1.2) for level in shown]
    for tick in multiples(low, high, round_step(high - low, 5)):
        parts.append(line(x(tick), TOP, x(tick), BOTTOM, FAINT))
        if 2 * EDGE < x(tick) < WIDTH - 2 * EDGE:  # else the number would be cut off
            parts.append(text(x(tick), BOTTOM + 27, f"{number(tick)} %", anchor="middle"))
    known = core.asked is not None
    words = f"{len(given)} connections, at most {most} in a bar" + ("" if known else " (given)")
    parts.append(text(EDGE, 18, f"core {core.core}", bold=True) + text(WIDTH - EDGE, 18, words, anchor="end"))
    parts.append(text(WIDTH / 2, BOTTOM + 44, "shift of the membrane per event, of the threshold", anchor="middle"))
    label = f"weights of core {core.core}: {words}"
    size = f'viewBox="0 0 {pixels(WIDTH)} {pixels(HEIGHT)}"'
    return f'<svg {size} role="img" aria-label="{label}">{"".join(parts)}</svg>'


def bias_currents(layout: Layout, device: Device, asked: Params | None) -> tuple[BiasCurrent, ...]:
    """The biases of every used core that do something: those that are not off, base currents last."""
    result = []
    for c in np.flatnonzero(layout.used_cores).tolist():
        chip, core = divmod(c, device.cores_per_chip)
        here = np.flatnonzero(layout.core_index == c)
        for name in (*CURRENTS, *BASE_WEIGHTS):
            coarse, fine = layout.codes[c, COLUMN[name]].tolist()
            if name not in ALWAYS and (coarse, fine) == off_codes(name):
                continue
            given = float(core_currents(layout, name, np.array([c]), device)[0])
            wanted = np.zeros(0) if asked is None else _wanted(asked, name, here, layout, c, device)
            ends, error = None, None
            if len(wanted):
                ends = float(wanted.min()), float(wanted.max())
                off = given / wanted[wanted > 0] - 1
                error = float(off[np.argmax(np.abs(off))]) if len(off) else None
            result.append(BiasCurrent(f"{chip}.{core}", name, ends, given, (coarse, fine), error))
    return tuple(result)


def _wanted(asked: Params, name: str, here: np.ndarray, layout: Layout, core: int, device: Device) -> np.ndarray:
    """The currents in A of parameter `name` that the neurons `here` asked for, none where the core fits it itself."""
    trained = asked.topology.mask is not None
    if name in (*BASE_WEIGHTS, *WEIGHT_GAINS) and not trained:
        return np.zeros(0)
    if name in BASE_WEIGHTS:
        return np.asarray(asked.base, float)[asked.topology.group[here], BASE_WEIGHTS.index(name)]
    value = np.asarray(asked.per_neuron(name), float)[here]
    if (
        name == "i_dc" and not trained
    ):  # what counts is where the membrane settles, with the other biases as they came out
        for other, power in (("i_tau_mem", 1), ("i_spkthr", 1), ("i_gain_mem", -1)):
            got = core_currents(layout, other, np.array([core]), device)
            value = value * (got / np.asarray(asked.per_neuron(other), float)[here]) ** power
    return value


def time_of(circuit: Circuit, name: str, current: float) -> float | None:
    """The time constant or width in s that parameter `name` has at `current` in A; None for what is no time."""
    kind = PARAMETERS[name].kind
    if current <= 0 or kind not in ("tau", "pulse"):
        return None
    return float(circuit.tau(name, current) if kind == "tau" else circuit.width(name, current))
