"""What both forms of a configuration, object and text, need of a Layout: checked values, and rows made once each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from nir_dynapse.chip.device import LATCHES
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.layout.layout import Layout
from nir_dynapse.layout.rows import cam_from_words, sram_from_words

__all__ = ["CORES", "NEURONS", "bits", "cam_rows", "check_values", "sram_rows"]

T = TypeVar("T")

CORES, NEURONS = 4, 256


def check_values(layout: Layout) -> None:
    """Refuse a hand-made Layout that holds values no chip can store, or that contradicts itself."""
    checks = (
        ("chip", layout.chip, 0, layout.n_chips - 1),
        ("core", layout.core, 0, CORES - 1),
        ("latch bits", layout.latches, 0, (1 << len(LATCHES)) - 1),
        ("tag of a CAM row", layout.cam["tag"], 0, 2047),
        ("dendrite of a CAM row", layout.cam["dendrite"], -1, 3),
        ("mask of a CAM row", layout.cam["mask"], 0, 15),
        ("flags of a CAM row", layout.cam["flags"], 0, 7),
        ("tag of an SRAM row", layout.sram["tag"], 0, 2047),
        ("core mask of an SRAM row", layout.sram["cores"], 0, 15),
        ("x_hop of an SRAM row", layout.sram["x_hop"], -7, 7),
        ("y_hop of an SRAM row", layout.sram["y_hop"], -7, 7),
        ("coarse code", layout.codes[layout.used_cores, :, 0], 0, 5),
        ("monitored neuron of a core", layout.membranes, -1, NEURONS - 1),
    )
    for what, values, low, high in checks:
        bad = np.argwhere((values < low) | (values > high))
        if len(bad):
            raise ConfigurationError(
                f"Layout: {what} is {values[tuple(bad[0])]} (at {bad[0].tolist()}), allowed are {low} to {high}. "
                "Compile the network again."
            )
    if len(np.unique(layout.core_index * NEURONS + layout.slot)) != layout.n_neurons:
        raise ConfigurationError("Layout: two neurons share one place. Compile the network again.")
    if not layout.used_cores[layout.core_index].all():
        raise ConfigurationError("Layout: a neuron sits in a core that is not marked as used. Compile it again.")
    if layout.membranes.shape != layout.used_cores.shape or (layout.membranes[~layout.used_cores] >= 0).any():
        raise ConfigurationError(
            "Layout: a membrane is monitored in a core that is not marked as used. Compile it again."
        )


def cam_rows(words: np.ndarray, make: Callable[[int, int, int, int], T]) -> list[list[T]]:
    """`make(tag, dendrite, mask, flags)` for every CAM word, called once per distinct word."""
    return _distinct(words, cam_from_words, make)


def sram_rows(words: np.ndarray, make: Callable[[int, int, int, int], T]) -> list[list[T]]:
    """`make(tag, cores, x_hop, y_hop)` for every SRAM word, called once per distinct word."""
    return _distinct(words, sram_from_words, make)


def _distinct(words: np.ndarray, decode: Callable[[np.ndarray], np.ndarray], make: Callable[..., T]) -> list[list[T]]:
    size = int(words.max(initial=0)) + 1  # no more than 23 bits: tables are faster than a sort
    there = np.zeros(size, bool)
    there[words] = True
    unique = np.flatnonzero(there).astype(words.dtype)
    made = np.empty(len(unique), object)
    for k, row in enumerate(decode(unique).tolist()):
        made[k] = make(*row)
    number = np.zeros(size, np.int32)
    number[unique] = np.arange(len(unique))
    return made[number[words]].tolist()


def bits(value: int, count: int) -> list[bool]:
    """The lowest `count` bits of `value`, bit 0 first."""
    return [bool(value >> i & 1) for i in range(count)]
