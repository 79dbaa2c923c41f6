"""Many virtual chips at once: on CPUs one after the other on compiled kernels (`ensemble_native`), otherwise by XLA
(`ensemble_scanned`). Processes under `jax.distributed` share them; JAX is loaded where there are some, or XLA runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from nir_dynapse.chip.device import Mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.ensemble_native import NOMINAL, chip_counts
from nir_dynapse.sim.native import here as native

__all__ = ["BYTES", "NOMINAL", "gather", "is_first_process", "output_counts"]

BYTES = 1 << 29
"""Memory in bytes that the runs of virtual chips may take, about; one chip is never cut."""


def _process() -> tuple[int, int]:
    """The number of this process, and how many there are: one where nobody has loaded JAX."""
    if "jax" not in sys.modules:
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def is_first_process() -> bool:
    """Whether this process is the one that writes files."""
    return _process()[0] == 0


def gather(values: np.ndarray) -> np.ndarray:
    """`values` (int32 or uint8, of one shape) of every process, shape (processes, ...), on every process."""
    if _process()[1] == 1:
        return values[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(values))


def output_counts(
    params: Params,
    x: np.ndarray,
    dt: float,
    mismatch: Mismatch,
    numbers: Sequence[int],
    memory: int = BYTES,
    timed: bool = False,
) -> Iterator[dict[int, np.ndarray]]:
    """Run counts `x` (sample, time, channel), bins of `dt` s, on the virtual chips `numbers` (`NOMINAL`: no mismatch).

    Yields, round by round, {number: what the first output counted, as `first_output.counted`} for the chips that this
    process ran. All processes must call it with the same arguments and take all of it.
    """
    if native.available():
        yield from chip_counts(params, x, dt, mismatch, numbers, memory, _process(), timed)
        return
    from nir_dynapse.sim.ensemble_scanned import scanned_counts

    yield from scanned_counts(params, x, dt, mismatch, numbers, memory, timed)
