"""What the compiled kernels need of Numba and beneath its arrays: how they are compiled, words at addresses, threads."""

from __future__ import annotations

import sys
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

__all__ = [
    "HUGE",
    "advise",
    "carray",
    "formula",
    "fused",
    "join",
    "loop",
    "lowest",
    "marks",
    "outside",
    "pointer",
    "rounded",
    "summed",
    "thread",
    "word",
    "write",
]

_BYTE, _HALF, _WORD = (ir.IntType(bits).as_pointer() for bits in (8, 32, 64))
# Products may be fused with sums and divisions by the same number merged.
_exact = {"contract", "nsz", "arcp"}
# What only kernels call: wrappers for callers from Python or C would be a sixth of the time of compiling.
_inner: dict[str, Any] = {
    "error_model": "numpy",
    "boundscheck": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
loop = numba.njit(fastmath=_exact, **_inner)
# Formulas within loops, inlined by LLVM: Numba, with `inline="always"`, spends a seventh of its time on copying them.
_formula: dict[str, Any] = {**_inner, "forceinline": True}
fused = numba.njit(fastmath=_exact, **_formula)
formula = numba.njit(**_formula)
summed = numba.njit(fastmath=_exact | {"reassoc"}, **_inner)
# The same, rounded as NumPy does.
rounded = numba.njit(**_inner)

carray: Any = numba.carray  # pyright: ignore[reportPrivateImportUsage]


def _word(_: Any, address: Any) -> Any:
    """The 64 bits at an address."""
    return types.int64(address), lambda _, builder, __, args: builder.load(builder.inttoptr(args[0], _WORD))


def _write(_: Any, address: Any, value: Any) -> Any:
    """Write 32 bits to an address."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], _HALF))
        return context.get_dummy_value()

    return types.void(address, value), generate


def _pointer(_: Any, address: Any) -> Any:
    """An address as a pointer, for `carray`."""
    return types.voidptr(address), lambda _, builder, __, args: builder.inttoptr(args[0], _BYTE)


def _marks(_: Any, values: Any, first: Any) -> Any:
    """Which of the elements from `first` on are not 0, as the bits of a word: 64 of bytes, 16 of floats."""
    size = values.dtype.bitwidth // 8
    count = 64 if size == 1 else 16

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        vector = ir.VectorType(data.type.pointee, count)
        place = builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer())
        found, none = builder.load(place, align=size), ir.Constant(vector, None)
        flags = builder.icmp_unsigned("!=", found, none) if size == 1 else builder.fcmp_unordered("!=", found, none)
        word = builder.bitcast(flags, ir.IntType(count))
        return word if count == 64 else builder.zext(word, ir.IntType(64))

    return types.int64(values, first), generate


def _lowest(_: Any, word: Any) -> Any:
    """The number of the lowest bit that is set of a word that is not 0."""
    return types.int64(word), lambda _, builder, __, args: builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))


word: Any = intrinsic(_word)
marks: Any = intrinsic(_marks)
lowest: Any = intrinsic(_lowest)
write: Any = intrinsic(_write)
pointer: Any = intrinsic(_pointer)

# POSIX threads, with addresses for pointers: (thread, attributes, function, argument) and (thread, result).
thread = types.ExternalFunction("pthread_create", types.int32(types.int64, types.int64, types.int64, types.int64))
# Advice on memory: (address, length, advice), with Linux's MADV_HUGEPAGE.
advise = types.ExternalFunction("madvise", types.int32(types.int64, types.int64, types.int32))
HUGE = 14 if sys.platform == "linux" else -1
join = types.ExternalFunction("pthread_join", types.int32(types.int64, types.int64))


def outside(name: str) -> tuple[Any, Any]:
    """For compiled code: the function (of one word) of that name, and one that gives its address; `runtime.ll` has both.

    Numba, which never runs what it compiles here, wants to know some address of either.
    """
    for each in (name, f"{name}_address"):
        binding.add_symbol(each, 1)
    return types.ExternalFunction(name, types.int64(types.int64)), types.ExternalFunction(
        f"{name}_address", types.int64()
    )
