"""Events of neighbouring input channels added up into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nir_dynapse.data.data import Data
from nir_dynapse.network.pooling import pooled_channel

__all__ = ["pool_data"]


def pool_data(data: Data, factor: int | Sequence[int], *, shape: Sequence[int] | None = None) -> Data:
    """`data` whose neighbouring channels are added up: what a network of `network.pooling.pool_channels` receives.

    `shape` of the channels is that of the data unless given. No event is lost. ParameterRangeError for a shape or factor
    that does not fit.
    """
    where, smaller = pooled_channel(data.x.shape[2], factor, shape or data.shape or None)
    wide = np.uint32 if np.issubdtype(data.x.dtype, np.integer) else data.x.dtype
    x = np.zeros((*data.x.shape[:2], int(np.prod(smaller))), wide)
    order = np.argsort(where, kind="stable")
    firsts = np.searchsorted(where[order], np.arange(x.shape[2]))
    x[:] = np.add.reduceat(data.x[:, :, order], firsts, axis=2, dtype=wide)
    return Data(x, data.y, data.dt, data.findings, smaller if len(smaller) > 1 else ())
