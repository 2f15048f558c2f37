"""What the CPU kernels compute on vectors: exponentials, softplus, the sigmoid and its kin.

float32 has polynomials (errors of about 1e-7, no table, no branch); float64 has the platform's exp.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from scansearch_kernels.cpu.vectors import (
    LANES,
    library_exp,
    scale_by_power,
    vabs,
    vmax,
    where_positive,
)

_ROUND = np.float32(1.5 * 2**23)
_LOWEST = np.float32(-126.0)
# 1 + x q(x), the minimax polynomial of 2^x on [-1/2, 1/2] that is exact at 0: relative error 8.1e-8
_Q1, _Q2, _Q3, _Q4, _Q5 = (
    np.float32(coefficient)
    for coefficient in (0.69314706, 0.24022235, 0.055506784, 0.009671962, 0.0013274633)
)
_ONE = np.float32(1.0)
# u (1 + u l(u)), the minimax polynomial of log(1 + u) on [0, 1] that is exact near 0: relative error 3.3e-8. It costs
# less than the division that a shorter series would need.
_L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    np.float32(coefficient)
    for coefficient in (
        -0.49999648, 0.33321321, -0.24857159, 0.19153632, -0.13753745, 0.079203777, -0.030065285, 0.0053646897,
    )
)  # fmt: skip


def power(x: Any) -> Any:
    """The exponential that decays are made of: 2^x for float32 vectors, e^x for float64 ones."""
    raise NotImplementedError("only inside Numba")


@overload(power, strict=False)
def _power(x: Any) -> Any:
    if x.dtype == types.float64:
        return lambda x: library_exp(x)

    def single(x: Any) -> Any:
        x = vmax(x, _LOWEST)
        rounded = x + _ROUND
        f = x - (rounded - _ROUND)
        value = f * (f * (f * (f * (f * _Q5 + _Q4) + _Q3) + _Q2) + _Q1) + _ONE
        return scale_by_power(value, rounded)

    return single


def base_log(one: Any) -> Any:
    """What an exponent of e is multiplied with before `power`, in the precision of `one`."""
    raise NotImplementedError("only inside Numba")


@overload(base_log, strict=False)
def _base_log(one: Any) -> Any:
    scale = one(1.0) if one == types.float64 else one(np.log2(np.e))
    return lambda one: scale


@njit(forceinline=True)
def silu_and_slope(z: Any, one: Any) -> Any:
    """z sigmoid(z) and its derivative."""
    gate = sigmoid(z, one)
    return z * gate, gate * (one + z * (one - gate))


@njit(forceinline=True)
def sigmoid(z: Any, one: Any) -> Any:
    """1 / (1 + e^-z), without overflow."""
    u = power(vabs(z) * (-base_log(one)))
    upper = one / (one + u)
    return where_positive(z, upper, u * upper)


@njit(forceinline=True)
def softplus(z: Any, one: Any) -> Any:
    """log(1 + e^z) as max(z, 0) + log1p(e^-|z|)."""
    return vmax(z, one - one) + _log1p(power(vabs(z) * (-base_log(one))), one)


def _log1p(u: Any, one: Any) -> Any:
    """log(1 + u) for u from 0 to 1."""
    raise NotImplementedError("only inside Numba")


@overload(_log1p, strict=False)
def _log1p_of(u: Any, one: Any) -> Any:
    if u.dtype == types.float64:

        def double(u: Any, one: Any) -> Any:
            s = u / (u + 2.0)  # log(1 + u) = 2 atanh(s), by its series: s^2 is at most 1/9
            square = s * s
            series = square * (1.0 / 35.0)
            for odd in range(33, 1, -2):
                series = (series + 1.0 / odd) * square
            return (s + s) * (series + 1.0)

        return double

    def single(u: Any, one: Any) -> Any:
        series = u * _L8 + _L7
        series = (((series * u + _L6) * u + _L5) * u + _L4) * u + _L3
        return ((series * u + _L2) * u + _L1) * u * u + u

    return single


def lane_count(one: Any) -> int:
    """Lanes of a vector in the precision of `one`."""
    raise NotImplementedError("only inside Numba")


@overload(lane_count, strict=False)
def _lane_count(one: Any) -> Any:
    lanes = LANES[one]
    return lambda one: lanes
