"""What a sensor saw as events of an input node: cropped, pooled, polarities to channels, times from a beginning on.

Channels are (polarity, y, x) flattened row by row, OFF before ON; nothing is dropped without being counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nir_dynapse.errors import ConfigurationError, Finding

__all__ = ["POLARITIES", "Sensed", "View", "channels"]

POLARITIES = ("both", "merge", "on", "off")


@dataclass(frozen=True)
class Sensed:
    """Events as they are held: `time` in µs (int64, E), `x` (E,), and row `y` and polarity `on` (E,) where there are any.

    `size` is (width, height) where it is stated. With `clock`, times count from when the camera was started.
    `untimed` events came before the first time of a file and are not among them.
    """

    time: np.ndarray
    x: np.ndarray
    y: np.ndarray | None = None
    on: np.ndarray | None = None
    size: tuple[int, int] | None = None
    clock: bool = False
    untimed: int = 0


@dataclass(frozen=True)
class View:
    """What of the sensor goes to the network, and where it goes.

    crop: (x, y, width, height) in pixels, or (x, width) of one row. pool: pixels per channel along each axis.
    polarity: "both" (OFF channels before ON channels), "merge" (one channel for both), "on" or "off" (that one only); None:
    both, or one where the input has no more. start: time in s that becomes 0; None: the first event of a camera, and 0 of
    other data. duration: s that are kept from there on, None for all.
    """

    crop: tuple[int, ...] | None = None
    pool: int = 1
    polarity: str | None = None
    start: float | None = None
    duration: float | None = None

    def __post_init__(self) -> None:
        if self.crop is not None:
            crop = tuple(self.crop)
            good = len(crop) in (2, 4) and all(isinstance(v, (int, np.integer)) for v in crop)
            if not good or min(crop) < 0 or min(crop[len(crop) // 2 :]) < 1:
                raise ConfigurationError(
                    f"crop is {self.crop}, it must be (x, y, width, height) in whole pixels, or (x, width) of one row."
                )
        if not isinstance(self.pool, (int, np.integer)) or self.pool < 1:
            raise ConfigurationError(f"pool is {self.pool}, it must be a whole number of pixels from 1.")
        if self.polarity is not None and self.polarity not in POLARITIES:
            raise ConfigurationError(f"polarity is {self.polarity!r}. Choose from {', '.join(POLARITIES)}.")
        if self.start is not None and not np.isfinite(self.start):
            raise ConfigurationError(f"start is {self.start} s, it must be a finite time.")
        if self.duration is not None and not (np.isfinite(self.duration) and self.duration > 0):
            raise ConfigurationError(f"duration is {self.duration} s, it must be a finite time above 0.")


def channels(
    seen: Sensed, view: View, node: str, shape: tuple[int, ...] | None, what: str
) -> tuple[np.ndarray, np.ndarray, list[Finding]]:
    """Time in µs and channel of the events that `view` keeps, in order of time, and findings that count the others.

    `shape` is that of the input node `node`, None where it is not known; `what` names the data in errors. Raises
    ConfigurationError where the sensor, cropped and pooled, has another shape.
    """
    plane = _plane(seen, view, shape, node, what)
    first = (view.crop[0], view.crop[1] if len(view.crop) == 4 else 0) if view.crop is not None else (0, 0)
    x = seen.x.astype(np.int64) - first[0]
    y = np.zeros(len(x), np.int64) if seen.y is None else seen.y.astype(np.int64) - first[1]
    inside = (x >= 0) & (y >= 0)
    if plane is not None:
        inside &= (x < plane[0]) & (y < plane[1])
    if view.crop is None and not inside.all():
        i = int(np.flatnonzero(~inside)[0])
        raise ConfigurationError(
            f"{what}: {int((~inside).sum())} of {len(x)} events lie outside of {plane} pixels (x, y), one at "
            f"({x[i]}, {y[i]}). Give the part that you mean with crop, or the right data."
        )
    columns, rows = (-(-n // view.pool) for n in plane or (int(x.max(initial=0)) + 1, 1))
    polarities = _polarities(seen, view, shape, columns * rows, what)
    if plane is not None:
        _compare((polarities, rows, columns), shape, node, what)
    kept, time, findings = _kept(seen, view, inside, node, what)
    index = y // view.pool * columns + x // view.pool
    if polarities == 2 and seen.on is not None:
        index += (seen.on > 0) * (columns * rows)
    order = np.argsort(time[kept], kind="stable")
    return time[kept][order], index[kept][order], findings


def _kept(
    seen: Sensed, view: View, inside: np.ndarray, node: str, what: str
) -> tuple[np.ndarray, np.ndarray, list[Finding]]:
    """Which events are kept, their times from the beginning on, and how many are left out for which reason."""
    findings = []
    start = 0 if view.start is None else round(view.start * 1e6)
    if view.start is None and seen.clock and len(seen.time):
        start = int(seen.time.min())
        if start:
            text = f"{what}: time 0 is the first event, at {start} µs of the camera's clock."
            findings.append(Finding("info", "time-origin", text, node=node, hint="Choose another time with start."))
    time = seen.time - start
    chosen = np.ones(len(time), bool)
    if view.polarity in ("on", "off") and seen.on is not None:
        chosen = (seen.on > 0) == (view.polarity == "on")
    late = np.zeros(len(time), bool) if view.duration is None else time >= round(view.duration * 1e6)
    parts = (
        (~inside, "outside of the crop"),
        (inside & ~chosen, "of the other polarity"),
        (inside & chosen & (time < 0), "before the start"),
        (inside & chosen & late, f"after {view.duration} s"),
    )
    said = [f"{int(mask.sum())} {why}" for mask, why in parts if mask.any()]
    if seen.untimed:
        said.append(f"{seen.untimed} before the first time in the file")
    kept = inside & chosen & (time >= 0) & ~late
    if said:
        total = len(time) + seen.untimed
        left = total - int(kept.sum())
        text = f"{what}: {left} of {total} events are left out: {', '.join(said)}."
        findings.append(Finding("warning", "events-left-out", text, node=node, used=left, limit=total))
    return kept, time, findings


def _plane(seen: Sensed, view: View, shape: tuple[int, ...] | None, node: str, what: str) -> tuple[int, int] | None:
    """Columns and rows that are looked at; None for one row of which nothing says how long it is."""
    flat = seen.y is None
    if view.crop is not None:
        if flat != (len(view.crop) == 2):
            raise ConfigurationError(
                f"{what}: crop is {view.crop}, the events have {'an x only' if flat else 'x and y'}. Give "
                f"{'(x, width)' if flat else '(x, y, width, height)'}."
            )
        return (view.crop[1], 1) if flat else (view.crop[2], view.crop[3])
    if seen.size is not None:
        return seen.size
    if flat:
        row = None if shape is None else int(np.prod(shape)) // (2 if view.polarity == "both" else 1)
        return None if row is None else (row * view.pool, 1)
    if shape is not None and len(shape) >= 2:
        return shape[-1] * view.pool, shape[-2] * view.pool
    raise ConfigurationError(
        f"{what}: the size of the sensor is stated neither there nor by the shape of input node {node!r} "
        f"({'not given' if shape is None else tuple(shape)}). Give it with crop=(0, 0, width, height)."
    )


def _polarities(seen: Sensed, view: View, shape: tuple[int, ...] | None, pixels: int, what: str) -> int:
    """How many channels a pixel has: 2 with both polarities."""
    if view.polarity is None:
        if seen.on is None or seen.y is None:
            return 1
        return 1 if shape is not None and int(np.prod(shape)) == pixels else 2
    if seen.on is None and view.polarity != "merge":
        raise ConfigurationError(f"{what}: the events have no polarity. Leave polarity={view.polarity!r} out.")
    return 2 if view.polarity == "both" else 1


def _compare(got: tuple[int, int, int], shape: tuple[int, ...] | None, node: str, what: str) -> None:
    """ConfigurationError where channels (polarity, y, x) of shape `got` are not those of the input node."""
    if shape is None:
        return
    wanted = tuple(int(n) for n in shape)
    without_ones = [tuple(n for n in side if n != 1) for side in (got, wanted)]
    if without_ones[0] == without_ones[1] or (len(wanted) == 1 and wanted[0] == int(np.prod(got))):
        return
    raise ConfigurationError(
        f"{what}: its channels (polarity, y, x) have the shape {got}, {int(np.prod(got))} in all; input node {node!r} has "
        f"the shape {wanted}, {int(np.prod(wanted))} in all. Crop or pool what the sensor saw, or choose the polarity "
        "(crop, pool, polarity)."
    )
