"""The options that say what of a file of events goes to a network; nothing heavy is imported here."""

from __future__ import annotations

import argparse
from contextlib import suppress

from nir_dynapse.cli.options import limited, positive
from nir_dynapse.files.numbers import Whole

__all__ = ["sensor_options"]


def sensor_options(verb: argparse.ArgumentParser, *, duration: bool = True) -> None:
    """Options that say what of an event camera's file goes to the network."""
    group = verb.add_argument_group("files of events (AEDAT4, DAT, EVT2, EVT3, HDF5 as SHD)")
    group.add_argument("--crop", type=_pixels, metavar="X,Y,W,H", help="part of the sensor in pixels (X,W of one row)")
    group.add_argument(
        "--pool", type=limited(Whole(1, 1 << 14)), metavar="N", help="pixels per channel along each axis (default 1)"
    )
    group.add_argument(
        "--polarity",
        choices=("both", "merge", "on", "off"),
        help="OFF channels before ON channels, one channel for both, or one of them (default: as the input has room)",
    )
    group.add_argument(
        "--start", type=_finite, metavar="S", help="time that becomes 0 (default: a camera's first event)"
    )
    group.add_argument(
        "--samples", type=_part, metavar="FIRST:END", help="samples of an HDF5 file, from 0 (default all)"
    )
    if duration:
        group.add_argument(
            "--duration", type=positive, metavar="S", help="seconds that are kept (default: to the last event)"
        )


def _finite(text: str) -> float:
    """A converter for argparse: a finite number."""
    with suppress(ValueError):
        if abs(value := float(text)) < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"is {text[:40]}, allowed are finite numbers.")


def _pixels(text: str) -> tuple[int, ...]:
    """X,Y,W,H or X,W: whole pixels, of which W and H are above 0."""
    try:
        values = tuple(int(word) for word in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (2, 4) or min(values) < 0 or 0 in values[len(values) // 2 :]:
        raise argparse.ArgumentTypeError(f"{text} is not X,Y,W,H in whole pixels, or X,W of one row")
    return values


def _part(text: str) -> slice:
    """FIRST:END of samples, both from 0, END not included; either may be left out."""
    words = text.split(":")
    if len(words) != 2 or not all(word.isdecimal() or not word for word in words):
        raise argparse.ArgumentTypeError(f"{text} is not FIRST:END in whole numbers from 0")
    return slice(*(int(word) if word else None for word in words))
