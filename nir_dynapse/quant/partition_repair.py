"""Repair of partitions in which neurons lack SRAM rows: the targets of each come together on as few chips as it may use.

A search by gains does not find this, because a net costs less only when its last target leaves a chip.
"""

from __future__ import annotations

import numpy as np

from nir_dynapse.chip.device import Device
from nir_dynapse.quant.partition_cost import Wiring, cost, fits, overflowing, reached
from nir_dynapse.quant.partition_refine import Clock

__all__ = ["gather"]

STEPS, PARTNERS, MOST = 120, 24, 64
"""Moves at most, neurons of each chip that a target may change places with, and rows too many that are worth a try."""


def gather(wiring: Wiring, chip: np.ndarray, device: Device, n_chips: int, clock: Clock) -> np.ndarray:
    """A partition (N,) with less overflow than `chip` (N,), or `chip` itself.

    One target after another moves to, or changes places with a neuron on, a chip that holds more targets of its source.
    """
    net, neuron = wiring.targets
    start = chip
    best = first = cost(wiring, chip, device).overflow
    if first > MOST:
        return chip
    chip = chip.copy()
    for _ in range(STEPS):
        over = overflowing(wiring, reached(wiring, chip, n_chips), device)
        if not over.any() or clock.over():
            break
        worst = int(np.argmax(over))
        pins = neuron[net == worst]
        allowed = device.sram_rows - int(wiring.monitored[wiring.owner[worst]])
        count = np.bincount(chip[pins], minlength=n_chips)
        keep = np.argsort(-count, kind="stable")[:allowed]
        outside = pins[~np.isin(chip[pins], keep)]
        outside = outside[np.argsort(count[chip[outside]], kind="stable")]
        found = _step(wiring, chip, device, outside, pins, keep, best)
        if found is None:
            break
        chip, best = found
    return chip if best < first else start


def _step(
    wiring: Wiring,
    chip: np.ndarray,
    device: Device,
    outside: np.ndarray,
    pins: np.ndarray,
    keep: np.ndarray,
    overflow: int,
) -> tuple[np.ndarray, int] | None:
    """`chip` with one of the neurons `outside` on a chip of `keep`, and its overflow (not more than it was), or None."""
    for v in outside.tolist():
        tried = []
        for c in keep.tolist():
            others = np.setdiff1d(np.flatnonzero(chip == c), pins)
            same = others[np.argsort(wiring.group[others] != wiring.group[v], kind="stable")][:PARTNERS]
            for u in (-1, *same.tolist()):
                trial = chip.copy()
                trial[v] = c
                if u >= 0:
                    trial[u] = chip[v]
                if fits(wiring, trial, device):
                    price = cost(wiring, trial, device)
                    if price.overflow <= overflow:
                        tried.append((price, c, u, trial))
        if tried:
            price, _, _, trial = min(tried, key=lambda item: item[:3])
            return trial, price.overflow
    return None
