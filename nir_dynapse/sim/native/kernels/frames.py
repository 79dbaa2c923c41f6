"""XLA's calls into the kernels: its foreign function interface (version 0.1), read by compiled code.

A handler gets the address of a call frame and finds in it the addresses and shapes of arguments and results; the layout of
the structs is that of `xla/ffi/api/c_api.h`, which comes with jaxlib. Nothing is copied and Python is not entered. Axes
before those of a buffer count virtual chips (`vmap`); where one is 1 long all chips share what is there. Chips, or the
tiles of each where there are few, are shared between threads.

What is below the first ruler is compiled together with that of `run.py`; below the others are the calls of a run, of its
adjoint and, from NumPy, of `play.py`, of which one is compiled.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types

from nir_dynapse.sim.native.kernels.adjoint import back
from nir_dynapse.sim.native.kernels.play import play
from nir_dynapse.sim.native.kernels.run import kind, run
from nir_dynapse.sim.native.memory import HUGE, advise, carray, join, loop, outside, pointer, thread, word, write
from nir_dynapse.sim.native.names import (
    ARGUMENTS,
    BYTES,
    ENDS,
    FIRST,
    GROUP,
    INPUTS,
    LAST,
    LINES,
    PLAN,
    POST,
    RANKS,
    RESULTS,
    SPARSE,
    START,
    SUBSTEPS,
    THREADS,
    TILE,
    WORTHWHILE,
    C,
    W,
    Wires,
    X,
)

SHARE = "share"

# ----------------------------------------------------------------------------------------------------------------------

SIZE = np.dtype(kind).itemsize
EXTENSION, ARGUMENT_BUFFERS, RESULT_BUFFERS = 8, 72, 112  # in a call frame
DATA, RANK, DIMENSIONS = 24, 32, 40  # in a buffer
KIND, METADATA, MAJOR, MINOR, TRAITS = 8, 24, 24, 28, 32  # in an extension (1: metadata are asked for), in the metadata
RUN_RANKS = np.array([RANKS.get(name, 3) for name in ARGUMENTS["run"] + RESULTS["run"]])
BACK_RANKS = np.array([RANKS.get(name, 3) for name in ARGUMENTS["back"] + RESULTS["back"]])
RUN_BYTES = np.array([BYTES.get(name, SIZE) for name in ARGUMENTS["run"] + RESULTS["run"]])
BACK_BYTES = np.array([BYTES.get(name, SIZE) for name in ARGUMENTS["back"] + RESULTS["back"]])
RUN_RESULT, BACK_RESULT = len(ARGUMENTS["run"]), len(ARGUMENTS["back"])
G_W, G_START, G_C, G_X = range(BACK_RESULT, BACK_RESULT + len(RESULTS["back"]))
G_COUNTS, G_STATE = BACK_RESULT - 2, BACK_RESULT - 1
handler = types.int64(types.int64)


@loop
def described(frame: Any) -> Any:
    """Whether XLA asks for the version only; then it gets it."""
    extension = word(frame + EXTENSION)
    if extension == 0 or word(extension + KIND) & 0xFFFFFFFF != 1:
        return False
    metadata = word(extension + METADATA)
    write(metadata + MAJOR, np.int32(0))
    write(metadata + MINOR, np.int32(1))
    write(metadata + TRAITS, np.int32(0))
    return True


@loop
def chips_of(frame: Any, rank: Any) -> Any:
    """Virtual chips of a call: the axes of the first result before its last `rank`."""
    like, chips = word(word(frame + RESULT_BUFFERS)), 1
    for axis in range(word(like + RANK) - rank):
        chips *= word(word(like + DIMENSIONS) + 8 * axis)
    return chips


@loop
def table_of(frame: Any, ranks: Any, sizes: Any, arguments: Any, chip: Any) -> Any:
    """Addresses of the buffers of a chip and the lengths of their axes (buffers, 5)."""
    table = np.ones((len(ranks), 5), np.int64)
    like = word(word(frame + RESULT_BUFFERS))
    axes = word(like + RANK) - ranks[arguments]
    for k in range(len(ranks)):
        side = word(frame + ARGUMENT_BUFFERS) if k < arguments else word(frame + RESULT_BUFFERS)
        buffer = word(side + 8 * (k if k < arguments else k - arguments))
        dimensions, stride = word(buffer + DIMENSIONS), 1
        for axis in range(ranks[k]):
            table[k, 1 + axis] = word(dimensions + 8 * (axes + axis))
            stride *= table[k, 1 + axis]
        offset, place = 0, chip
        for axis in range(axes - 1, -1, -1):
            length, own = word(word(like + DIMENSIONS) + 8 * axis), word(dimensions + 8 * axis)
            if own > 1:
                offset += place % length * stride
            stride *= own
            place //= length
        table[k, 0] = word(buffer + DATA) + sizes[k] * offset
    return table


@loop
def integers(row: Any) -> Any:
    """A buffer as an array of int32."""
    return carray(pointer(row[0]), (row[1],), np.int32)


@loop
def flat(row: Any) -> Any:
    """A buffer with two axes."""
    return carray(pointer(row[0]), (row[1], row[2]), kind)


@loop
def deep(row: Any) -> Any:
    """A buffer with three axes."""
    return carray(pointer(row[0]), (row[1], row[2], row[3]), kind)


@loop
def deepest(row: Any) -> Any:
    """A buffer with four axes."""
    return carray(pointer(row[0]), (row[1], row[2], row[3], row[4]), kind)


@loop
def wires_of(table: Any) -> Any:
    """The wiring."""
    plan, first, lines = integers(table[PLAN]), integers(table[FIRST]), integers(table[LINES])
    group, ends, post = integers(table[GROUP]), integers(table[ENDS]), integers(table[POST])
    return Wires(first, lines, group, ends, post, plan[SPARSE] > 0, table[C, 2], np.int64(plan[INPUTS]))


@loop
def elements(row: Any) -> Any:
    """Elements of a buffer."""
    return row[1] * row[2] * row[3] * row[4]


@loop
def expect(table: Any, sizes: Any, chips: Any, low: Any, high: Any) -> None:
    """Ask for large pages where buffers from `low` to `high` will be filled: small ones cost more than what is written."""
    for k in range(low, high):
        size = chips * sizes[k] * elements(table[k])
        if HUGE > 0 and size > 2**22:
            address = table[k, 0] // 4096 * 4096
            advise(address, size, HUGE)


@loop
def threads_of(table: Any, chips: Any) -> Any:
    """Threads worth starting: no more than chips or tiles, and each with enough to do."""
    plan = integers(table[PLAN])
    (batch, bins), n = table[X, 1:3], table[C, 2]
    tiles = (batch + plan[TILE] - 1) // plan[TILE]
    work = chips * batch * bins * plan[SUBSTEPS] * n
    return max(1, min(plan[THREADS], max(chips, tiles), work // plan[WORTHWHILE]))


@loop
def launch(frame: Any, work: Any) -> None:
    """A thread for every row of `work` but the first: frame, row and number of rows, written here, and what is there."""
    count = work.shape[0]
    threads = np.zeros(count, np.int64)
    for k in range(count):
        work[k, 0], work[k, 1], work[k, 2] = frame, k, count
    for k in range(1, count):
        if thread(threads.ctypes.data + 8 * k, 0, share_address(), work.ctypes.data + 32 * k):
            threads[k] = 0
            share_call(work.ctypes.data + 32 * k)
    share_call(work.ctypes.data)
    for k in range(1, count):
        if threads[k]:
            join(threads[k], 0)


# ----------------------------------------------------------------------------------------------------------------------


@numba.cfunc(handler)
def run_share(work: Any) -> Any:
    """Share `index` of `count` of a run: what a thread does. `work` is the address of frame, index, count."""
    frame, index, count = word(work), word(work + 8), word(work + 16)
    chips = chips_of(frame, RUN_RANKS[RUN_RESULT])
    by_chip = chips >= count
    for chip in range(index if by_chip else 0, chips, count if by_chip else 1):
        table = table_of(frame, RUN_RANKS, RUN_BYTES, RUN_RESULT, chip)
        part, share = (0, 1) if by_chip else (index, count)
        w, plan, c, wires = flat(table[W]), integers(table[PLAN]), flat(table[C]), wires_of(table)
        start, x, counts, state = (
            deep(table[START]),
            deep(table[X]),
            deep(table[RUN_RESULT]),
            deep(table[RUN_RESULT + 1]),
        )
        run(w, plan, wires, c, start, x, counts, state, deepest(table[RUN_RESULT + 2]), part, share)
    return 0


# Called by name: the handler does not contain the kernel.
share_call, share_address = outside(SHARE)


@numba.cfunc(handler)
def run_frame(frame: Any) -> Any:
    """XLA's call of a run."""
    if described(frame):
        return 0
    table = table_of(frame, RUN_RANKS, RUN_BYTES, RUN_RESULT, np.int64(0))
    chips = chips_of(frame, RUN_RANKS[RUN_RESULT])
    count = threads_of(table, chips)
    expect(table, RUN_BYTES, chips, RUN_RESULT, len(RUN_RANKS))
    work = np.zeros((count, 4), np.int64)
    launch(frame, work)
    return work[0, 1]  # so that it lives until here


# ----------------------------------------------------------------------------------------------------------------------


@numba.cfunc(handler)
def back_share(work: Any) -> Any:
    """The same of the adjoint; that of weights and constants to the address at the end of `work` unless it is 0."""
    frame, index, count, own = word(work), word(work + 8), word(work + 16), word(work + 24)
    chips = chips_of(frame, BACK_RANKS[BACK_RESULT])
    by_chip = chips >= count
    for chip in range(index if by_chip else 0, chips, count if by_chip else 1):
        table = table_of(frame, BACK_RANKS, BACK_BYTES, BACK_RESULT, chip)
        part, share = (0, 1) if by_chip else (index, count)
        n_w, n_c = elements(table[G_W]), elements(table[G_C])
        if own:
            table[G_W, 0] = own + SIZE * (n_w + n_c) * chip
            table[G_C, 0] = own + SIZE * ((n_w + n_c) * chip + n_w)
        g_w, g_start, g_c, g_x = (
            flat(table[G_W]),
            deep(table[G_START]),
            flat(table[G_C]),
            deep(table[G_X]),
        )
        if not own:
            g_w.fill(0)
            g_c.fill(0)
        w, plan, c, wires = flat(table[W]), integers(table[PLAN]), flat(table[C]), wires_of(table)
        start, x, g_counts, g_state = deep(table[START]), deep(table[X]), deep(table[G_COUNTS]), deep(table[G_STATE])
        states = deepest(table[X + 1])
        back(w, plan, wires, c, start, x, states, g_counts, g_state, g_w, g_start, g_c, g_x, part, share)
    return 0


share_call, share_address = outside(SHARE)


@numba.cfunc(handler)
def back_frame(frame: Any) -> Any:
    """XLA's call of the adjoint."""
    if described(frame):
        return 0
    table = table_of(frame, BACK_RANKS, BACK_BYTES, BACK_RESULT, np.int64(0))
    chips = chips_of(frame, BACK_RANKS[BACK_RESULT])
    count = threads_of(table, chips)
    n_w, n_c = elements(table[G_W]), elements(table[G_C])
    each = 0 if chips >= count else chips * (n_w + n_c)  # every thread sums for itself
    sums = np.zeros((count, each), kind)
    work = np.zeros((count, 4), np.int64)
    for k in range(count):
        work[k, 3] = sums.ctypes.data + SIZE * each * k if each else 0
    launch(frame, work)
    for chip in range(chips if each else 0):
        table = table_of(frame, BACK_RANKS, BACK_BYTES, BACK_RESULT, chip)
        for first, size, row in ((0, n_w, G_W), (n_w, n_c, G_C)):
            result = carray(pointer(table[row, 0]), (size,), kind)
            for k in range(size):
                total = sums[0, chip * (n_w + n_c) + first + k]
                for j in range(1, count):
                    total += sums[j, chip * (n_w + n_c) + first + k]
                result[k] = total
    return work[0, 1]  # so that it lives until here


# ----------------------------------------------------------------------------------------------------------------------


@loop
def whole(row: Any) -> Any:
    """A list of int64."""
    return carray(pointer(row[0]), (row[1],), np.int64)


@loop
def numbers(row: Any) -> Any:
    """A list of floats."""
    return carray(pointer(row[0]), (row[1],), kind)


@numba.cfunc(handler)
def play_frame(address: Any) -> Any:
    """NumPy's call of a run forward: a table of the addresses and shapes of its arrays (`names.PLAYED_ARRAYS`)."""
    table = carray(pointer(address), (LAST + 1, 5), np.int64)
    play(
        integers(table[0]),
        integers(table[1]),
        numbers(table[2]),
        flat(table[3]),
        whole(table[4]),
        whole(table[5]),
        whole(table[6]),
        numbers(table[7]),
        whole(table[8]),
        integers(table[9]),
        numbers(table[10]),
        carray(pointer(table[11, 0]), (table[11, 1],), np.uint32),
        integers(table[12]),
        deep(table[13]),
        carray(pointer(table[14, 0]), (table[14, 1], table[14, 2]), np.int32),
        carray(pointer(table[15, 0]), (table[15, 1], table[15, 2], table[15, 3]), np.uint8),
        deepest(table[16]),
        table[LAST, 0],
        table[LAST, 1],
    )
    return 0
