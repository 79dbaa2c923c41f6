"""What loops of Numba have no words for: a row of one matrix added to a row of another as one vector of LLVM, which costs
less than the loop would, and memory asked for before it is needed."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["add_16", "add_32", "add_64", "prefetch"]

_INDEX = ir.IntType(32)
_FUSED = ("contract", "nsz")


def _add(width: int) -> Any:
    """target[row, at + i] += by·source[line, first + i] for `skip` ≤ i < `width`, of matrices in C order.

    What is before `skip` stays as it is: the last vector of a row may overlap with the one before.
    """

    def typed(_: Any, target: Any, row: Any, at: Any, source: Any, line: Any, first: Any, by: Any, skip: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            target, row, at, source, line, first, by, skip = args
            size = signature.args[0].dtype.bitwidth // 8
            vector = ir.VectorType(context.get_value_type(signature.args[0].dtype), width)
            numbers = ir.VectorType(_INDEX, width)

            def place(number: int, value: Any, row: Any, at: Any) -> Any:
                array = context.make_array(signature.args[number])(context, builder, value)
                length = builder.extract_value(array.shape, 1)
                found = builder.gep(array.data, [builder.add(builder.mul(row, length), at)])
                return builder.bitcast(found, vector.as_pointer())

            def everywhere(value: Any, kind: Any) -> Any:
                nothing = ir.Constant(kind, ir.Undefined)
                one = builder.insert_element(nothing, value, ir.Constant(_INDEX, 0))
                return builder.shuffle_vector(one, nothing, ir.Constant(numbers, None))

            goal = place(0, target, row, at)
            lanes = ir.Constant(numbers, list(range(width)))
            wanted = builder.icmp_unsigned(">=", lanes, everywhere(builder.trunc(skip, _INDEX), numbers))
            # Nothing is added there, rather than nothing written: what a mask has written is not read back as fast.
            given = builder.load(place(3, source, line, first), align=size)
            values = builder.select(wanted, given, ir.Constant(vector, None))
            change = builder.fmul(everywhere(by, vector), values, flags=_FUSED)
            after = builder.fadd(builder.load(goal, align=size), change, flags=_FUSED)
            builder.store(after, goal, align=size)
            return context.get_dummy_value()

        whole = types.int64
        return types.void(target, whole, whole, source, whole, whole, by, whole), generate

    return intrinsic(typed)


add_16, add_32, add_64 = (_add(width) for width in (16, 32, 64))


def _prefetch(_: Any, values: Any, b: Any, t: Any, k: Any) -> Any:
    """Ask for values[b, t, k], in C order, to be in the cache soon; it need not exist."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        bins, length = (builder.extract_value(array.shape, axis) for axis in (1, 2))
        row = builder.mul(builder.add(builder.mul(args[1], bins), args[2]), length)
        place = builder.bitcast(builder.gep(array.data, [builder.add(row, args[3])]), cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, *[_INDEX] * 3])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(call, [place, *(ir.Constant(_INDEX, value) for value in (0, 3, 1))])  # to read, to stay, data
        return context.get_dummy_value()

    return types.void(values, types.int64, types.int64, types.int64), generate


prefetch: Any = intrinsic(_prefetch)
