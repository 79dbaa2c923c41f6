"""Crafted inputs, bad and odd: tables and a seeded generator, and what may come of each."""

from __future__ import annotations

import copy
import itertools
import json
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

import nir_dynapse as nd

__all__ = ["NUMBERS", "Fault", "arrays", "check", "mutated", "outcome", "unsound"]

NUMBERS: tuple[Any, ...] = (
    *(float("nan"), float("inf"), -float("inf"), -1, 0, 1, -0.0, 0.5, 1.0, 1e-3, 1e300, -1e300, 1e-300, 5e-324, 10**12),
    *(10**30, 10**5000, -(10**400), 2**31, 2**53 + 1, 2**62, 2**63, 2**64, True, False, None, "", "1", "nan", b"1", 1j),
    *(
        1 + 2j,
        (),
        [],
        [1],
        (1, 2),
        {},
        {1},
        object(),
        int,
        Decimal(1),
        Fraction(1, 3),
        np.float32("nan"),
        np.float64(1e308),
    ),
    *(np.int64(-1), np.uint64(2**64 - 1), np.array(1), np.array(0.5), np.array([1, 2]), np.array(None), np.array("x")),
    *(np.complex64(1), np.datetime64("2020"), np.timedelta64(1, "s"), np.bool_(True), slice(1), range(2), Ellipsis),
)
"""What somebody may give for a number."""

VALUES = (
    np.nan,
    np.inf,
    -np.inf,
    -1,
    -1e-300,
    0,
    1,
    3,
    1.5,
    0.1,
    255,
    256,
    2**24,
    2**24 + 1,
    2**31,
    2**53,
    1e30,
    1e38,
    1e308,
)
DTYPES = (
    "?",
    "u1",
    "i1",
    "u2",
    "i2",
    "i4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "O",
    "U3",
    "S3",
    "M8[s]",
    "m8[s]",
)


def arrays(shape: tuple[int, int, int], seed: int = 0) -> Iterator[tuple[str, Any]]:
    """(what, counts): every type with every value at one place, every shape near `shape`, and things that are no arrays."""
    rng = np.random.default_rng(seed)
    for dtype, value in itertools.product(DTYPES, VALUES):
        x = np.zeros(shape, dtype)
        place = tuple(int(rng.integers(n)) for n in shape)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                x[place] = value
            except (OverflowError, ValueError, TypeError):
                continue
        yield f"{dtype} with {value} at {place}", x
    a, b, c = shape
    for other in (
        (),
        (a,),
        (a, b),
        (b, c),
        (a, c, b),
        (0, b, c),
        (a, 0, c),
        (a, b, 0),
        (a, b, c + 1),
        (1, a, b, c),
        (0, 0, 0),
    ):
        yield f"shape {other}", np.zeros(other)
    yield "ragged", [[1, 2], [3]]
    yield "ragged objects", np.array([[1, 2], [3]], object)
    for thing in (None, 0, 1.5, "x", b"x", {}, {"x": 1}, [], [[]], object(), np.float64, iter(()), lambda: 0):
        yield f"a {type(thing).__name__}", thing
    good = np.ones(shape)
    yield "masked", np.ma.masked_array(good, good > 0)
    yield "masked nowhere", np.ma.masked_array(good, good < 0)
    yield "a matrix's transpose", np.asfortranarray(good)
    yield "backwards", good[::-1, ::-1, ::-1]
    yield "big-endian", good.astype(">f8")
    yield "nan, big-endian", (good * np.nan).astype(">f4")
    yield "read-only", np.broadcast_to(np.ones(1), shape)
    yield "lists", good.astype(int).tolist()
    yield "long double", good.astype(np.longdouble)
    yield "records", np.zeros(shape, [("t", "i8"), ("x", "i2")])


class Fault(NamedTuple):
    """What should not have come of an input."""

    what: str
    where: str = ""


def outcome(call: Callable[[], Any], what: str) -> Any:
    """What `call` gives, or the package's own error; a `Fault` for anything else."""
    try:
        result = call()
    except nd.DynapseError as error:
        if 0 < len(str(error)) < 5000:
            return error
        return Fault(f"{what}: an error of {len(str(error))} characters: {str(error)[:300]}")
    except Exception as error:  # whatever it is, it is none of the package's errors
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {last.filename[-40:]}:{last.lineno}"
        return Fault(
            f"{what}: {where}: {str(error)[:200]}",
            f"{what.split('=')[0].split(' of ')[0] if '=' in what or ' of ' in what else ''} {where}",
        )
    return Fault(f"{what}: not finite: {unsound(result)}") if unsound(result) else result


def check(results: Sequence[Any], least: int) -> None:
    """There were at least `least` inputs, errors among what came of them, and no faults."""
    faults = [result for result in results if isinstance(result, Fault)]
    first = {fault.where: fault.what for fault in reversed(faults)}  # one for each place in the code
    assert not faults, f"{len(faults)} of {len(results)} inputs, among them:\n" + "\n".join(first.values())
    assert len(results) >= least
    assert any(isinstance(result, nd.DynapseError) for result in results)


def unsound(thing: Any) -> str:
    """What is not finite in a result, or nothing."""
    if isinstance(thing, nd.Recording):
        parts = {"spikes": thing.spikes, "values": thing.values, **thing.states}
        return ", ".join(
            f"{name} of {node!r}"
            for name, each in parts.items()
            for node, v in each.items()
            if not np.isfinite(v).all()
        )
    if isinstance(thing, np.ndarray) and thing.dtype.kind == "f" and not np.isfinite(thing).all():
        return "an array"
    return "a number" if isinstance(thing, float) and not np.isfinite(thing) else ""


ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 3, 7, 255, 256, 2047, 2048, 10**6, 2**31, 2**63, 10**30, -1.5, 0.5, 1e-300, 1e300, 1e38),
    *(float("nan"), float("inf"), "", "x", "0", "nan", "a" * 2000, [], [0], [[]], {}, {"x": 0}, [None], [1, 2, 3]),
)


def mutated(sound: Any, seed: int) -> tuple[str, Any]:
    """`sound` (of JSON) with one or two changes: a value replaced, removed, doubled, swapped with another, or renamed."""
    rng = np.random.default_rng(seed)
    data, said = copy.deepcopy(sound), []
    for _ in range(1 + int(rng.random() < 0.3)):
        holder, path = data, ""
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = keys[int(rng.integers(len(keys)))]
            path += f".{key}"
            below = holder[key]
            if isinstance(below, (dict, list)) and below and rng.random() < 0.85:
                holder = below
                continue
            break
        kind = rng.choice(["replace", "replace", "replace", "remove", "double", "near", "swap"])
        if kind == "remove":
            del holder[key]
        elif kind == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(below))
        elif kind == "double":
            holder[f"{key}0"] = copy.deepcopy(below)  # pyright: ignore
        elif kind == "near" and isinstance(below, (int, float)) and not isinstance(below, bool):
            holder[key] = below + int(rng.choice([-1, 1, 2, 100]))
        elif kind == "swap" and len(keys) > 1:
            other = keys[int(rng.integers(len(keys)))]
            holder[key], holder[other] = holder[other], holder[key]
        else:
            kind = "replace"
            holder[key] = copy.deepcopy(ODD[int(rng.integers(len(ODD)))])
        said.append(f"{kind} {path}")
        if not isinstance(data, dict) or not data:
            break
    return f"seed {seed}: {', '.join(said)}", json.loads(json.dumps(data))
