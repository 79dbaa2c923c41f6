"""Counts in the shape of images, flattened for an input node of that shape; nothing is turned around on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nir_dynapse.data.counts import real_array
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.network.network import Port

__all__ = ["check_image", "flattened"]


def same_image(shape: Sequence[int], other: Sequence[int]) -> bool:
    """Whether both flatten to the same channels, row by row: axes of length 1 do not matter."""
    return [n for n in shape if n != 1] == [n for n in other if n != 1]


def check_image(shape: tuple[int, ...], inputs: Sequence[Port]) -> None:
    """ConfigurationError where images of `shape` (empty: none) are not those of the one input node."""
    if not shape or (len(inputs) == 1 and same_image(shape, inputs[0].shape)):
        return
    raise ConfigurationError(_refusal(f"the data has images of shape {shape} in each bin", inputs))


def flattened(x: Any, inputs: Sequence[Port]) -> Any:
    """Counts (batch, time, *shape) or (time, *shape) of the one input node as (batch, time, channel) or (time, channel).

    Counts that are flat already come back as they are; ConfigurationError for images of another shape.
    """
    counts = real_array("input", x)
    size = sum(port.size for port in inputs)
    if counts.ndim < 3 or (counts.ndim == 3 and counts.shape[2] == size):
        return counts
    shape = inputs[0].shape if len(inputs) == 1 else ()
    for axes in (2, 1):
        if len(shape) > 1 and tuple(counts.shape[axes:]) == tuple(shape):
            return counts.reshape(*counts.shape[:axes], size)
    for axes in (2, 1):
        if len(shape) > 1 and counts.ndim > axes + 1 and same_image(counts.shape[axes:], shape):
            return counts.reshape(*counts.shape[:axes], size)
    if counts.ndim == 3:  # the caller says what is wrong with channels
        return counts
    raise ConfigurationError(_refusal(f"input of shape {counts.shape}", inputs))


def _refusal(what: str, inputs: Sequence[Port]) -> str:
    if len(inputs) != 1:
        names = ", ".join(f"{port.name!r} ({port.size})" for port in inputs)
        return (
            f"{what}: the network has several input nodes, {names}, whose channels stand behind each other. Give x as "
            f"(sample, time, {sum(port.size for port in inputs)})."
        )
    port = inputs[0]
    shape = ", ".join(map(str, port.shape))
    return (
        f"{what}: input node {port.name!r} has the shape ({shape}). Give x as (sample, time, {shape}), its axes in this "
        f"order (np.transpose), or flattened as (sample, time, {port.size}): x.reshape(*x.shape[:2], -1)."
    )
