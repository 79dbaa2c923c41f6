"""Ways to damage the bits of a Layout of two chips, each of which `synapse_check` must notice.

`DAMAGE[what](layout, rng)` is a damaged copy of a Layout of `CASE` in test_every_synapse.py (two bias groups, neurons 0 to
568 and the following ones).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from chip_interpreter import BASES, BIASES, read_arrays
from nir_dynapse.layout.layout import Layout

__all__ = ["DAMAGE"]


def cam(change: Callable[[Layout, np.ndarray, tuple[int, int]], None], used: bool = True) -> Any:
    """Damage to one CAM row."""

    def damage(layout: Layout, rng: np.random.Generator) -> Layout:
        rows = np.array(layout.cam)
        n, r = rng.choice(np.argwhere((rows["dendrite"] >= 0) == used))
        change(layout, rows, (n, r))
        return replace(layout, cam=rows)

    return damage


def sram(change: Callable[[np.ndarray], Any], monitor: bool = False) -> Any:
    """Damage to one SRAM row, of monitoring or of the network (on two chips, hops of -7 only monitor)."""

    def damage(layout: Layout, rng: np.random.Generator) -> Layout:
        rows = np.array(layout.sram)
        n, r = rng.choice(np.argwhere((rows["cores"] > 0) & ((rows["x_hop"] == -7) == monitor)))
        change(rows[n, r : r + 1])
        return replace(layout, sram=rows)

    return damage


def inputs(change: Callable[[np.ndarray], Any]) -> Any:
    """Damage to one destination of an input channel."""

    def damage(layout: Layout, rng: np.random.Generator) -> Layout:
        rows = np.array(layout.input_rows)
        k = rng.integers(len(rows))
        change(rows[k : k + 1])
        return replace(layout, input_rows=rows)

    return damage


def code(bias: str) -> Any:
    """A bias of a core in use is set to about ten times what it is, or to a tenth."""

    def damage(layout: Layout, rng: np.random.Generator) -> Layout:
        codes = np.array(layout.codes)
        at = rng.choice(np.flatnonzero(layout.used_cores)), list(BIASES).index(bias), 0
        codes[at] = codes[at] + 1 if codes[at] < 5 else 4
        return replace(layout, codes=codes)

    return damage


def put(field: str, value: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    return lambda row: row.__setitem__(field, value(row[field]))


def largest_bit(layout: Layout, n: int) -> int:
    """The mask bit of the largest base current of a neuron's core."""
    currents = read_arrays(layout).currents
    return 1 << int(np.argmax([currents[name][layout.core_index[n]] for name in BASES]))


def cam_put(
    field: str, value: Callable[[Layout, Any, int], Any]
) -> Callable[[Layout, np.ndarray, tuple[int, int]], None]:
    def change(layout: Layout, rows: np.ndarray, at: tuple[int, int]) -> None:
        rows[field][at] = value(layout, rows[field][at], at[0])

    return change


def drop(layout: Layout, rows: np.ndarray, at: tuple[int, int]) -> None:
    rows[at] = (0, -1, 0, 0)


def listen_in(layout: Layout, rows: np.ndarray, at: tuple[int, int]) -> None:
    """A row more, to the tag of the neuron's row 0 or to one of a neighbour's."""
    near = np.flatnonzero((layout.core_index == layout.core_index[at[0]]) & (rows["dendrite"][:, 0] >= 0))
    rows[at] = (rows["tag"][near[0], 0], 0, 15, 0)


def move(layout: Layout, rng: np.random.Generator, swap: bool) -> Layout:
    """A neuron goes to the place of one of another bias group, which takes its own where `swap`."""
    i, j = int(rng.integers(400)), int(rng.integers(600, 1000))
    columns = {name: np.array(getattr(layout, name)) for name in ("chip", "core", "slot")}
    for values in columns.values():
        values[i], values[j] = values[j], values[i] if swap else values[j]
    return replace(layout, **columns)


DAMAGE: dict[str, Callable[[Layout, np.random.Generator], Layout]] = {
    "CAM tag": cam(cam_put("tag", lambda _, tag, n: tag ^ 1)),
    "CAM row gone": cam(drop),
    "CAM dendrite": cam(cam_put("dendrite", lambda _, d, n: 0 if d == 2 else 2)),
    "CAM shunt": cam(cam_put("dendrite", lambda _, d, n: 3)),
    "CAM mask": cam(cam_put("mask", lambda layout, mask, n: mask ^ largest_bit(layout, n))),
    "CAM flags": cam(cam_put("flags", lambda _, flags, n: 2)),
    "CAM row more": cam(listen_in, used=False),
    "CAM row dirty": cam(cam_put("mask", lambda _, mask, n: 1), used=False),
    "SRAM tag": sram(put("tag", lambda tag: tag ^ 1)),
    "SRAM row gone": sram(put("cores", lambda _: 0)),
    "SRAM core gone": sram(put("cores", lambda cores: cores & (cores - 1))),
    "SRAM core more": sram(put("cores", lambda cores: 15 if cores != 15 else 7)),
    "SRAM one chip east": sram(put("x_hop", lambda hop: hop + 1)),
    "SRAM one chip west": sram(put("x_hop", lambda hop: hop - 1)),
    "SRAM north": sram(put("y_hop", lambda _: 1)),
    "monitor gone": sram(put("cores", lambda _: 0), monitor=True),
    "monitor tag": sram(put("tag", lambda tag: tag ^ 1), monitor=True),
    "monitor hop": sram(put("x_hop", lambda hop: hop + 3), monitor=True),
    "input tag": inputs(put("tag", lambda tag: tag ^ 1)),
    "input core": inputs(put("cores", lambda cores: cores & (cores - 1))),
    "input chip": inputs(put("chip", lambda chip: 1 - chip)),
    "base current": code("SYAM_W3_P"),
    "AMPA gain": code("DEAM_EGAIN_P"),
    "threshold": code("SOIF_SPKTHR_P"),
    "membrane leak": code("SOIF_LEAK_N"),
    "pulse width": code("SYPD_EXT_N"),
    "two neurons in one place": lambda layout, rng: move(layout, rng, swap=False),
    "neurons of two groups swapped": lambda layout, rng: move(layout, rng, swap=True),
}
