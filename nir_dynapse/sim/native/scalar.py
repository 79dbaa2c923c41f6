"""What formulas (`formulas`) take from NumPy, and draws, as functions of single numbers that Numba compiles in loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nir_dynapse.sim.native.memory import formula

__all__ = [
    "absolute",
    "bell",
    "exp",
    "exp_float32",
    "log_float32",
    "log_float64",
    "maximum",
    "minimum",
    "mixed",
    "uniform",
    "where",
]

Number = Any


# What NumPy's functions do, for ordered numbers: loops over these are compiled to vectors.


@formula
def maximum(a: Number, b: Number) -> Number:
    """The larger one."""
    return a if a > b else b


@formula
def minimum(a: Number, b: Number) -> Number:
    """The smaller one."""
    return a if a < b else b


@formula
def where(condition: Any, a: Number, b: Number) -> Number:
    """a where the condition holds, else b."""
    return a if condition else b


@formula
def absolute(a: Number) -> Number:
    """|a|."""
    return a if a >= a * 0 else -a


@formula
def exp(a: Number) -> Number:
    """e^a."""
    return math.exp(a)


@formula
def log_float64(a: Number) -> Number:
    """ln a."""
    return math.log(a)


def _cast(source: Any, target: Any, kind: Any) -> Any:
    """The same 32 bits as another type."""
    return intrinsic(lambda _, x: (target(source), lambda _, builder, __, args: builder.bitcast(args[0], kind)))


_bits = _cast(types.float32, types.int32, ir.IntType(32))
_from_bits = _cast(types.int32, types.float32, ir.FloatType())


def _of_two(name: str) -> Any:
    """An operation of two numbers of 32 bits: Numba's own ones widen them, and vectors of half as many are the price."""
    number = types.int32
    return intrinsic(
        lambda _, a, b: (number(number, number), lambda _, builder, __, args: getattr(builder, name)(args[0], args[1]))
    )


_less, _more, _up, _down, _both = (_of_two(name) for name in ("sub", "add", "shl", "ashr", "and_"))
_I, _F = np.int32, np.float32


@formula
def log_float32(x: Number) -> Number:
    """ln x of a positive normal float32 to its rounding, without a branch or a call.

    x = m·2^e with m between √½ and √2, ln m as the polynomial of Moshier's Cephes library (logf).
    """
    e = _down(_less(_bits(x), _I(0x3F3504F3)), _I(23))
    m = _from_bits(_less(_bits(x), _up(e, _I(23)))) - _F(1)
    z = m * m
    p = _F(7.0376836292e-2) * m - _F(1.1514610310e-1)
    p = p * m + _F(1.1676998740e-1)
    p = p * m - _F(1.2420140846e-1)
    p = p * m + _F(1.4249322787e-1)
    p = p * m - _F(1.6668057665e-1)
    p = p * m + _F(2.0000714765e-1)
    p = p * m - _F(2.4999993993e-1)
    p = p * m + _F(3.3333331174e-1)
    f = _F(e)
    y = p * m * z - _F(2.12194440e-4) * f - _F(0.5) * z
    return m + y + _F(0.693359375) * f


@formula
def exp_float32(x: Number) -> Number:
    """e^x of a float32 between -80 and 80 (beyond: that of the limit), without a branch or a call.

    e^x = 2^n·e^r with |r| ≤ ½·ln 2, e^r as the polynomial of Moshier's Cephes library (expf).
    """
    x = minimum(maximum(x, _F(-80)), _F(80))
    n = _less(_I(x * _F(1.44269504088896341) + _F(128.5)), _I(128))
    f = _F(n)
    r = x - f * _F(0.693359375)
    r = r + f * _F(2.12194440e-4)
    p = _F(1.9875691500e-4) * r + _F(1.3981999507e-3)
    p = p * r + _F(8.3334519073e-3)
    p = p * r + _F(4.1665795894e-2)
    p = p * r + _F(1.6666665459e-1)
    p = p * r + _F(5.0000001201e-1)
    return (p * (r * r) + r + _F(1)) * _from_bits(_up(_more(n, _I(127)), _I(23)))


@formula
def cos_float32(x: Number) -> Number:
    """cos x of a float32 from 0 to 2·π: by Moshier's polynomials (sinf, cosf) on the nearest eighth of a turn."""
    j = _both(_more(_I(x * _F(1.27323954473516)), _I(1)), _I(-2))
    f = _F(j)
    r = ((x - f * _F(0.78515625)) - f * _F(2.4187564849853515625e-4)) - f * _F(3.77489497744594108e-8)
    z = r * r
    c = _F(2.443315711809948e-5) * z - _F(1.388731625493765e-3)
    c = (c * z + _F(4.166664568298827e-2)) * (z * z) - _F(0.5) * z + _F(1)
    s = _F(-1.9515295891e-4) * z + _F(8.3321608736e-3)
    s = (s * z - _F(1.6666654611e-1)) * (z * r) + r
    quarter = _both(_down(j, _I(1)), _I(3))
    found = s if _both(quarter, _I(1)) != 0 else c
    return -found if quarter == 1 or quarter == 2 else found


# Draws: `sim.disturbance`, for one cell.


@formula
def mixed(x: Number) -> Number:
    """`disturbance._mix` of an uint32."""
    x = np.uint32(x)
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@formula
def uniform(key: Number, number: Number) -> Number:
    """`disturbance._uniform`."""
    return (_F(np.int32(mixed(np.uint32(key ^ number)) >> np.uint32(8))) + _F(0.5)) * _F(2.0**-24)


@formula
def bell(deviation: Number, first: Number, second: Number) -> Number:
    """A normal draw of this deviation from two uniform ones (Box-Muller)."""
    radius = np.sqrt(_F(-2) * log_float32(first))
    return deviation * radius * cos_float32(_F(2 * math.pi) * second)
