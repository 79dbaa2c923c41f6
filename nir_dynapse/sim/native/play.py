"""Runs on CPUs without XLA: `kernels.play`, called from NumPy, with tiles of samples shared between threads.

Nobody waits for a compiler longer than `plain` takes, which gives the same bits in NumPy. What a cell (a
neuron in a sample) does depends neither on the tile that it lies in nor on the number of threads, so spikes are the same
bit by bit however a run is cut.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from nir_dynapse.circuit.params import Params
from nir_dynapse.sim.circuit import RECORDABLE, Disturbance, constants
from nir_dynapse.sim.dynamics import SHUNT, Constants, Structure
from nir_dynapse.sim.native import ahead, plain
from nir_dynapse.sim.native.ahead import cpus
from nir_dynapse.sim.native.names import LAST, P_CONSTANTS, PADDED, PLAYED_ARRAYS
from nir_dynapse.sim.native.synapses import Places, Synapses, synapses_of, used_dendrites

__all__ = ["Circuit", "Events", "Found", "cpus", "expect", "play"]

CELLS = 1024
"""Most cells (sample·neuron) of a tile, about: their vectors stay in the cache."""
WORTHWHILE = 2**17
"""Steps of a neuron that are worth a thread."""
LOADING, COMPILING = 0.15, 2.0
"""Seconds of runs in NumPy of a process that are worth loading LLVM and a kernel, and compiling one: while another process
does that, shorter runs go on in NumPy."""


@dataclass(frozen=True)
class Circuit:
    """A circuit as the kernel takes it: lists of synapses, constants (`names.P_CONSTANTS`, decays; N)."""

    synapses: Synapses
    c: np.ndarray
    structure: Structure
    substeps: int
    seed: int

    @classmethod
    def of(
        cls,
        params: Params,
        dt: float,
        substeps: int,
        structure: Structure,
        most: float,
        disturbance: Disturbance | None = None,
        places: Places | None = None,
    ) -> Circuit:
        """`params` in bins of `dt` s, up to `most` events of an input in each."""
        h, disturbance = dt / substeps, disturbance or Disturbance()
        found = constants(params, h, structure, np, np.float32, disturbance)
        synapses = synapses_of(params, h, structure, most, places)
        return cls(synapses, _rows_of(found), structure, substeps, int(disturbance.word))

    @property
    def n(self) -> int:
        """Neurons."""
        return self.c.shape[1]

    @property
    def state_rows(self) -> int:
        """Numbers that a neuron's state has."""
        groups = len(used_dendrites(self.structure))
        depth = self.structure.depth
        return groups + 3 + (depth * groups if depth else 0)

    @property
    def apart(self) -> bool:
        """Whether no neuron hears another one."""
        first = self.synapses.first
        return bool(first[-1 - self.n] == first[-1])

    def of_neurons(self, start: int, stop: int) -> Circuit:
        """Neurons `start` to `stop` of a circuit whose neurons are apart: what they do there, bit by bit."""
        s = self.synapses
        first = s.first[: len(s.first) - self.n + stop - start].copy()
        if s.length == 1:
            mine = (s.post >= start) & (s.post < stop)
            first[:] = np.r_[0, np.cumsum(mine, dtype=np.int32)][first]
            lists = s._replace(dendrite=s.dendrite[mine], lag=s.lag[mine], post=s.post[mine] - start, w=s.w[mine])
        else:
            w = np.ascontiguousarray(s.w.reshape(-1, s.length)[:, start:stop]).reshape(-1)
            lists = s._replace(w=w, length=stop - start)
        constants = np.ascontiguousarray(self.c[:, start:stop])
        return replace(self, synapses=lists._replace(first=first), c=constants)

    def silence(self, batch: int) -> np.ndarray:
        """The state (batch, N, rows) before a run, for runs that are cut along time."""
        state = np.zeros((batch, self.n, self.state_rows), np.float32)
        state[:, :, len(used_dendrites(self.structure)) + 1] = self.c[P_CONSTANTS.index("floor")]
        return state


def _rows_of(c: Constants) -> np.ndarray:
    n = c.rate.shape[-1]
    rows = [np.broadcast_to(getattr(c, name), (n,)) for name in P_CONSTANTS]
    return np.ascontiguousarray(np.stack([*rows, *(part for group in c.decay for part in group)]), np.float32)


class Events(NamedTuple):
    """Input events of a batch: those of bin t of sample b are ends[b·T + t] to ends[b·T + t + 1]; `tonic` (T,) on top."""

    ends: np.ndarray
    channel: np.ndarray
    value: np.ndarray
    tonic: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, tonic: np.ndarray) -> Events:
        """Of counts `x` (batch, time, channel)."""
        batch, steps, channels = x.shape
        flat = np.ascontiguousarray(x).reshape(-1)
        at = np.flatnonzero(flat != 0)  # of booleans: several times as fast
        place = at // max(channels, 1)
        ends = np.zeros(batch * steps + 1, np.int64)
        np.cumsum(np.bincount(place, minlength=batch * steps), out=ends[1:])
        channel = (at - place * channels).astype(np.int32)
        return cls(ends, channel, flat[at].astype(np.float32), np.ascontiguousarray(tonic, np.float32))


class Found(NamedTuple):
    """What runs add to, empty where not asked for: `total` (B, columns) int32, `counts` (B, T, columns) uint8, `traces`
    (names, B, T, N) float32: the currents `wanted` of `RECORDABLE` at the ends of bins, in the units of `dynamics`.
    """

    total: np.ndarray
    counts: np.ndarray
    traces: np.ndarray
    wanted: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, batch: int, bins: int, columns: int, n: int = 0, *, per_bin: bool = True, wanted: Sequence[str] = ()
    ) -> Found:
        """Nothing yet."""
        return cls(
            np.zeros((0, 0) if per_bin else (batch, columns), np.int32),
            np.zeros((batch, bins, columns) if per_bin else (0, 0, 0), np.uint8),
            np.zeros((len(wanted), batch, bins, n) if wanted else (0, 0, 0, 0), np.float32),
            tuple(wanted),
        )


def play(
    circuit: Circuit,
    events: Events,
    sample: np.ndarray,
    found: Found,
    *,
    column: np.ndarray | None = None,
    state: np.ndarray | None = None,
    first_bin: int = 0,
    first_place: int = 0,
    threads: int | None = None,
) -> None:
    """Run `events` of the samples with the numbers `sample` (B,), from silence or from `state`, which it changes.

    `column` (N,) says in which column of `found` the spikes of a neuron are counted (-1: nowhere; None: each in its own).
    The first bin of the events is bin `first_bin` of the run, for the draws of noise and lost events, and `first_place` of
    `found`.
    """
    batch, bins, n = len(sample), len(events.tonic), circuit.n
    if not batch or not bins:
        return
    parts = circuit.structure
    every = parts.gate or parts.feedback or parts.noise or parts.loss or found.wanted or state is not None
    kernel = _KERNELS.choose("play_all" if every else "play", plain.seconds(batch, n, bins * circuit.substeps))
    most = max(1, min(threads or cpus(), batch * bins * circuit.substeps * n // WORTHWHILE))
    columns = np.arange(n, dtype=np.int32) if column is None else np.ascontiguousarray(column, np.int32)
    held = np.zeros((0, 0, 0), np.float32) if state is None else state
    numbers, firsts = np.ascontiguousarray(sample, np.uint32), (first_bin, first_place)
    if batch == 1 and most > 1 and state is None and not (parts.noise or parts.loss or found.wanted) and circuit.apart:

        def part(k: int) -> None:
            start, stop = k * n // most, (k + 1) * n // most
            own = circuit.of_neurons(start, stop)
            _run(kernel, own, events, numbers, found, columns[start:stop], held, firsts, 1)

        with ThreadPoolExecutor(most) as pool:
            list(pool.map(part, range(most)))
        return
    _run(kernel, circuit, events, numbers, found, columns, held, firsts, most)


def _run(
    kernel: Callable[..., None],
    circuit: Circuit,
    events: Events,
    sample: np.ndarray,
    found: Found,
    column: np.ndarray,
    state: np.ndarray,
    firsts: tuple[int, int],
    most: int,
) -> None:
    """`play` by a kernel, on `most` threads."""
    batch, n = len(sample), circuit.n
    rows = max(1, min(-(-batch // most), (plain.CELLS if kernel is plain.play else CELLS) // n))
    share = min(most, -(-batch // rows))
    kinds = np.array(used_dendrites(circuit.structure), np.int64)
    s = circuit.synapses
    target = (s.lag * len(kinds) + s.dendrite) * np.int32(-(-rows * n // PADDED) * PADDED) + s.post
    arguments = (
        s.first,
        target.astype(np.int32),
        s.w,
        circuit.c,
        _plan(circuit, rows, *firsts),
        kinds,
        _codes(found.wanted, kinds),
        events.tonic,
        events.ends,
        events.channel,
        events.value,
        sample,
        column,
        state,
        found.total,
        found.counts,
        found.traces,
    )
    if share == 1:
        kernel(*arguments, 0, 1)
        return
    with ThreadPoolExecutor(share) as pool:
        list(pool.map(lambda part: kernel(*arguments, part, share), range(share)))


class _Kernels:
    """The kernels that this process has loaded, and how long it has run without."""

    def __init__(self) -> None:
        self.loaded: dict[str, Callable[..., None]] = {}
        self.spent, self.lock = 0.0, threading.Lock()

    def expect(self, seconds: float) -> None:
        """`expect` of the module."""
        with self.lock:
            self.spent = max(self.spent, min(seconds, LOADING))

    def choose(self, what: str, takes: float) -> Callable[..., None]:
        """The kernel for a run that takes so many seconds in NumPy, or what does it there."""
        if what not in self.loaded:
            if self._goes_without(what, takes):
                return plain.play
            self.loaded[what] = _compiled(what)
        return self.loaded[what]

    def _goes_without(self, what: str, takes: float) -> bool:
        if self._spend(takes, LOADING):
            return True
        if ahead.is_built(what, "float32"):
            return False
        if self._spend(takes, COMPILING):
            return True
        ahead.start(what)
        return takes <= COMPILING and ahead.is_running(what, "float32")

    def _spend(self, takes: float, limit: float) -> bool:
        """Whether runs without a kernel have taken less than so many seconds, with this one."""
        with self.lock:
            fits = self.spent + takes <= limit
            self.spent += takes if fits else 0.0
        return fits


_KERNELS = _Kernels()


def expect(seconds: float) -> None:
    """Runs that would take so many seconds in NumPy are to come: where those are many, a kernel is loaded for the first."""
    _KERNELS.expect(seconds)


def _compiled(what: str) -> Callable[..., None]:
    """The kernel, or what does without where it cannot be compiled."""
    if os.name != "posix":
        return plain.play
    try:
        from nir_dynapse.sim.native.build import compiled

        call = compiled(what, "float32")
    except ImportError:
        return plain.play
    return partial(_call, call)


def _call(call: Callable[[int], int], *arguments: Any) -> None:
    """Hand arrays, part and share to a kernel: a table of addresses and shapes (`kernels.frames.play_frame`)."""
    table = np.ones((LAST + 1, 5), np.int64)
    for row, array, (name, (kind, axes)) in zip(table, arguments, PLAYED_ARRAYS.items(), strict=False):
        if array.dtype != kind or array.ndim != axes or not array.flags.c_contiguous:
            raise TypeError(
                f"{name} is {array.dtype} of shape {array.shape}, not {kind} with {axes} axes, side by side"
            )
        row[0], row[1 : 1 + axes] = array.ctypes.data, array.shape
    table[LAST, :2] = arguments[LAST:]
    call(table.ctypes.data)


def _plan(circuit: Circuit, rows: int, first_bin: int, first_place: int) -> np.ndarray:
    """`names.P_PLAN`."""
    s = circuit.structure
    leak = s.adaptation or SHUNT in used_dendrites(s)
    flags = (s.adaptation, leak, s.gate, s.feedback, s.noise, s.loss, s.again)
    head = (rows, circuit.substeps, max(s.depth, 1), circuit.synapses.length, circuit.seed, first_bin, first_place)
    return np.array([*head, *flags], np.int64)


def _codes(wanted: Sequence[str], kinds: np.ndarray) -> np.ndarray:
    """What the kernel records for each name: a row of the dendrites, -1 the membrane, -2 the adaptation, -3 nothing."""
    codes: dict[str, Any] = dict.fromkeys(RECORDABLE, -3) | {"i_mem": -1, "i_ahp": -2}
    codes |= {RECORDABLE[2 + int(kind)]: row for row, kind in enumerate(kinds)}
    return np.array([codes[name] for name in wanted], np.int64)
