"""CAM rows, SRAM rows and input destinations: their fields, their words, and what they say."""

from __future__ import annotations

import numpy as np

from nir_dynapse.chip.device import DENDRITES
from nir_dynapse.errors import ConfigurationError

__all__ = [
    "CAM_DTYPE",
    "INPUT_DTYPE",
    "MONITOR_HOP",
    "SRAM_DTYPE",
    "UNUSED_CAM",
    "cam_from_words",
    "cam_words",
    "has_rows",
    "leaves_west",
    "monitor_rows",
    "sram_from_words",
    "sram_words",
]

MONITOR_HOP = -7
"""x_hop of the monitoring rows that we make: it leads out to the west from every chip but the last of a stack of eight."""

CAM_DTYPE = np.dtype([("tag", "u2"), ("dendrite", "i1"), ("mask", "u1"), ("flags", "u1")])
"""A CAM row: 11-bit tag, dendrite index (-1: unused), 4 mask bits, flags (1 stp, 2 precise delay, 4 mismatched delay)."""
UNUSED_CAM = np.array((0, -1, 0, 0), CAM_DTYPE)
"""A CAM row that listens to nothing."""
SRAM_DTYPE = np.dtype([("tag", "u2"), ("cores", "u1"), ("x_hop", "i1"), ("y_hop", "i1")])
"""An SRAM row: tag, 4-bit core mask (0: unused), hops."""
INPUT_DTYPE = np.dtype([("channel", "i4"), ("chip", "u1"), ("cores", "u1"), ("tag", "u2")])
"""One destination of an input channel; channel n_channels is the tonic one."""


def has_rows(cam: np.ndarray, sram: np.ndarray) -> np.ndarray:
    """Which neurons leave a trace in a configuration: a CAM row that is not unused, or an SRAM row with a core bit."""
    return (cam != UNUSED_CAM).any(axis=-1) | (sram["cores"] > 0).any(axis=-1)


def leaves_west(rows: np.ndarray, chip: np.ndarray | int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which destinations of senders on `chip` lead out of the row of chips to the west, where the FPGA is, whatever their
    y_hop, and with which x_hop their events arrive there: counted up once per chip left.
    """
    x_hop = rows["x_hop"].astype(int) + np.asarray(chip, int) + 1
    return (rows["cores"] > 0) & (x_hop <= 0), x_hop


def monitor_rows(sram: np.ndarray, chip: np.ndarray) -> np.ndarray:
    """Boolean (N, 4): the SRAM rows whose events are recorded, by neurons on `chip` (N,)."""
    return leaves_west(sram, np.asarray(chip)[:, None])[0]


def cam_words(cam: np.ndarray) -> np.ndarray:
    """CAM rows as 22-bit words: tag 0–10, dendrite one-hot 11–14 (DENDRITES order), mask 15–18, flags 19–21."""
    one_hot = np.where(cam["dendrite"] < 0, 0, 1 << np.maximum(cam["dendrite"], 0).astype(np.uint32))
    return (
        cam["tag"].astype(np.uint32)
        | (one_hot.astype(np.uint32) << 11)
        | (cam["mask"].astype(np.uint32) << 15)
        | (cam["flags"].astype(np.uint32) << 19)
    )


def cam_from_words(words: np.ndarray) -> np.ndarray:
    """The inverse of `cam_words`; a word whose dendrite bits are not one-hot is a ConfigurationError."""
    one_hot = (words >> 11) & 15
    table = np.full(16, -2, np.int8)
    table[0] = -1
    table[[1, 2, 4, 8]] = range(4)
    rows = np.zeros(words.shape, CAM_DTYPE)
    rows["tag"], rows["dendrite"] = words & 0x7FF, table[one_hot]
    rows["mask"], rows["flags"] = (words >> 15) & 15, (words >> 19) & 7
    if (rows["dendrite"] == -2).any():
        raise ConfigurationError(
            f"a CAM word selects {int(one_hot[rows['dendrite'] == -2].max()):04b} as dendrite bits, allowed is one of "
            f"{', '.join(DENDRITES)} or none. Write the row again."
        )
    return rows


def sram_words(sram: np.ndarray) -> np.ndarray:
    """SRAM rows as 23-bit words: tag 0–10, core mask 11–14, x_hop 15–18 and y_hop 19–22 in two's complement."""
    return (
        sram["tag"].astype(np.uint32)
        | (sram["cores"].astype(np.uint32) << 11)
        | ((sram["x_hop"].astype(np.int32) & 15).astype(np.uint32) << 15)
        | ((sram["y_hop"].astype(np.int32) & 15).astype(np.uint32) << 19)
    )


def sram_from_words(words: np.ndarray) -> np.ndarray:
    """The inverse of `sram_words`."""
    rows = np.zeros(words.shape, SRAM_DTYPE)
    rows["tag"], rows["cores"] = words & 0x7FF, (words >> 11) & 15
    for name, shift in (("x_hop", 15), ("y_hop", 19)):
        value = ((words >> shift) & 15).astype(np.int8)
        rows[name] = np.where(value > 7, value - 16, value)
    return rows
