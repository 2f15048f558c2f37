"""What the CPU kernels compute on vectors: exponentials, softplus, the sigmoid and its kin.

float32 has polynomials (errors of about 1e-7, no table, no branch); float64 has the platform's exp.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from scansearch_kernels.vectors import (
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
    """log(1 + e^z) as max(z, 0) + log1p(e^-|z|), the latter as 2 atanh(u / (2 + u))."""
    u = power(vabs(z) * (-base_log(one)))
    s = u / (u + (one + one))
    return vmax(z, one - one) + (s + s) * _atanh_series(s * s)


def _atanh_series(square: Any) -> Any:
    """atanh(s) / s for s^2 up to 1/9, by as many terms of its series as the precision needs."""
    raise NotImplementedError("only inside Numba")


@overload(_atanh_series, strict=False)
def _atanh_series_of(square: Any) -> Any:
    if square.dtype == types.float64:

        def double(square: Any) -> Any:
            series = square * (1.0 / 35.0)
            for odd in range(33, 1, -2):
                series = (series + 1.0 / odd) * square
            return series + 1.0

        return double
    third, fifth, seventh, ninth, eleventh = (np.float32(1 / odd) for odd in (3, 5, 7, 9, 11))
    rest = np.float32(1 / 13 + 1 / 15 / 9)  # the term left out, at the far end

    def single(square: Any) -> Any:
        series = square * rest + eleventh
        series = (((series * square + ninth) * square + seventh) * square + fifth) * square + third
        return series * square + _ONE

    return single


def lane_count(one: Any) -> int:
    """Lanes of a vector in the precision of `one`."""
    raise NotImplementedError("only inside Numba")


@overload(lane_count, strict=False)
def _lane_count(one: Any) -> Any:
    lanes = LANES[one]
    return lambda one: lanes
