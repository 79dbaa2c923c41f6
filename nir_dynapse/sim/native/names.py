"""Names that the compiled kernels and their callers share; no Numba here."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_SHARED = ("rate", "floor", "threshold", "refractory", "dc", "h", "ahp_decay", "ahp_kick")
CONSTANTS = (*_SHARED, "slope")
"""Rows of the constants before the decays of the dendrites, per neuron (`h` and the slope of the surrogate: all alike)."""
RATE, FLOOR, THRESHOLD, REFRACTORY, DC, STEP, AHP_DECAY, AHP_KICK, SLOPE = range(len(CONSTANTS))
N_CONSTANTS = len(CONSTANTS)

HEAD = ("tile", "substeps", "adaptation", "leak", "sparse", "inputs", "shape", "threads", "worthwhile", "again")
"""First numbers of the plan; after them the dendrite of each group. `worthwhile`: steps of a neuron worth a thread;
`again`: how often a neuron may fire once more in a step."""
TILE, SUBSTEPS, ADAPTATION, LEAK, SPARSE, INPUTS, SHAPE, THREADS, WORTHWHILE, AGAIN = range(len(HEAD))
N_HEAD = len(HEAD)

P_CONSTANTS = (*_SHARED, "gate", "feedback", "noise", "power", "loss")
"""Rows of the constants of a run forward only, before the decays of the dendrites; the first ones are those above."""
P_GATE, P_FEEDBACK, P_NOISE, P_POWER, P_LOSS, PLAYED = range(len(_SHARED), len(P_CONSTANTS) + 1)
P_PLAN = (
    "rows",
    "substeps",
    "depth",
    "length",
    "seed",
    "bin",
    "place",
    "adaptation",
    "leak",
    "gate",
    "feedback",
    "noise",
    "loss",
    "again",
)
"""Numbers of its plan."""
(
    P_ROWS,
    P_SUBSTEPS,
    DEPTH,
    P_LENGTH,
    SEED,
    FIRST_BIN,
    FIRST_PLACE,
    WITH_AHP,
    WITH_LEAK,
    WITH_GATE,
    WITH_FEEDBACK,
    WITH_NOISE,
    WITH_LOSS,
    P_AGAIN,
) = range(len(P_PLAN))

PLAYED_ARRAYS = {
    "first": ("int32", 1),
    "target": ("int32", 1),
    "w": ("float32", 1),
    "c": ("float32", 2),
    "plan": ("int64", 1),
    "kinds": ("int64", 1),
    "wanted": ("int64", 1),
    "tonic": ("float32", 1),
    "ends": ("int64", 1),
    "channel": ("int32", 1),
    "value": ("float32", 1),
    "sample": ("uint32", 1),
    "column": ("int32", 1),
    "state": ("float32", 3),
    "total": ("int32", 2),
    "counts": ("uint8", 3),
    "traces": ("float32", 4),
}
"""What `play` gets from NumPy, in order: type and axes of each; then which part of how many."""
LAST = len(PLAYED_ARRAYS)

PADDED = 64
"""Cells of a tile are filled up to a multiple of this, so that no loop has a remainder."""
STRETCH = 16
"""Steps between the states that a run keeps for its adjoint, which runs them once more: that stays in the cache."""


class Wires(NamedTuple):
    """Who sends to whom: lines of source s are lines[first[s] : first[s + 1]], `group` is the dendrite's of each line;
    targets of line l are post[ends[l] : ends[l + 1]] if `sparse`, else all."""

    first: Any
    lines: Any
    group: Any
    ends: Any
    post: Any
    sparse: bool
    n: Any
    inputs: Any


U = np.uint64
"""Sums of these need no check for an index from the end, so loops over them are compiled to vectors."""

_INTEGERS = ("plan", "first", "lines", "group", "ends", "post")
_GIVEN = ("w", *_INTEGERS, "c", "start", "x")
ARGUMENTS = {"run": _GIVEN, "back": (*_GIVEN, "states", "g_counts", "g_state")}
RESULTS = {"run": ("counts", "state", "states"), "back": ("g_w", "g_start", "g_c", "g_x")}
"""Buffers of the two calls in order."""
W, PLAN, FIRST, LINES, GROUP, ENDS, POST, C, START, X = range(len(_GIVEN))
"""Places of those that both get."""
RANKS = {"w": 2, "c": 2, "g_w": 2, "g_c": 2, "states": 4} | dict.fromkeys(_INTEGERS, 1)
"""Axes of a buffer without those of virtual chips; 3 where not given."""
BYTES = dict.fromkeys(_INTEGERS, 4)
"""Bytes of an element; those of the kernels' float where not given."""
