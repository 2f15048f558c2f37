"""Merging branches on the CPU (Numba): the mean of normalised tokens, and the sum of (normalised) branches.

A row is the `dim` channels of one token in one branch and fits the first-level cache, so its mean and deviation
are found again wherever they are needed rather than stored. `dim` must be a whole number of vectors. Every output
is written by one item of work, so results do not depend on the number of threads.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from scansearch_kernels.cpu.rows import INT64
from scansearch_kernels.cpu.vector_math import lane_count
from scansearch_kernels.cpu.vectors import (
    fetch_add,
    invariant,
    offset,
    pointer,
    spread,
    store,
    total,
    vload,
    vstore,
)

# One int64 each: a counter, sizes, and addresses (0 where a tensor is absent).
(
    NEXT_ITEM, ITEMS, PARTS, DIRECTIONS, LENGTH, DIM, NORMALISED,
    NUMBERS, Y, CHANNEL, GATES, OUT, DOUT, DY, DCHANNEL, DGATES,
    FIELDS,
) = range(17)  # fmt: skip
# NUMBERS holds, in the precision of the call: 1 / dim, 1 / length, epsilon, and then `dim` ones.
PER_DIM, PER_LENGTH, EPSILON, ONES = range(4)

SINGLE, DOUBLE = np.float32(1), np.float64(1)


@njit
def _moments(row: Any, factor: Any, dim: int, numbers: Any, one: Any) -> Any:
    """Mean of row * factor and the reciprocal of its deviation."""
    lanes, summed, squared = lane_count(one), spread(one - one), spread(one - one)
    for i in range(0, dim, lanes):
        summed = summed + vload(row, i) * vload(factor, i)
    mean = total(summed) * invariant(numbers, PER_DIM)
    for i in range(0, dim, lanes):
        centred = vload(row, i) * vload(factor, i) - mean
        squared = squared + centred * centred
    variance = total(squared) * invariant(numbers, PER_DIM)
    return mean, one / math.sqrt(variance + invariant(numbers, EPSILON))


@njit
def _factor(p: Any, branch: int, dim: int, numbers: Any, one: Any) -> Any:
    """The channel factors of a branch; ones where there are none."""
    if invariant(p, CHANNEL) == 0:
        return offset(numbers, ONES)
    return offset(pointer(invariant(p, CHANNEL), one), branch * dim)


@njit
def means_forward(call: int, one: Any) -> None:
    """OUT [branch, dim]: mean over tokens of the normalised rows of Y. Items are branches."""
    p = pointer(call, INT64)
    length, dim, lanes = invariant(p, LENGTH), invariant(p, DIM), lane_count(one)
    numbers = pointer(invariant(p, NUMBERS), one)
    ones = offset(numbers, ONES)
    while True:
        branch = fetch_add(offset(p, NEXT_ITEM))
        if branch >= invariant(p, ITEMS):
            return
        y, out = (
            offset(pointer(invariant(p, Y), one), branch * length * dim),
            offset(pointer(invariant(p, OUT), one), branch * dim),
        )
        for i in range(0, dim, lanes):
            vstore(out, i, spread(one - one))
        for token in range(length):
            row = offset(y, token * dim)
            mean, scale = _moments(row, ones, dim, numbers, one)
            for i in range(0, dim, lanes):
                vstore(out, i, vload(out, i) + (vload(row, i) - mean) * scale)
        for i in range(0, dim, lanes):
            vstore(out, i, vload(out, i) * invariant(numbers, PER_LENGTH))


@njit
def means_backward(call: int, one: Any) -> None:
    """DY from DOUT [branch, dim]. Items are branches."""
    p = pointer(call, INT64)
    length, dim, lanes = invariant(p, LENGTH), invariant(p, DIM), lane_count(one)
    numbers = pointer(invariant(p, NUMBERS), one)
    ones, per_dim, per_length = (
        offset(numbers, ONES),
        invariant(numbers, PER_DIM),
        invariant(numbers, PER_LENGTH),
    )
    while True:
        branch = fetch_add(offset(p, NEXT_ITEM))
        if branch >= invariant(p, ITEMS):
            return
        y, dy = (
            offset(pointer(invariant(p, Y), one), branch * length * dim),
            offset(pointer(invariant(p, DY), one), branch * length * dim),
        )
        dout = offset(pointer(invariant(p, DOUT), one), branch * dim)
        summed = spread(one - one)
        for i in range(0, dim, lanes):
            summed = summed + vload(dout, i)
        level = total(summed) * per_dim
        for token in range(length):
            row, drow = offset(y, token * dim), offset(dy, token * dim)
            mean, scale = _moments(row, ones, dim, numbers, one)
            along = spread(one - one)
            for i in range(0, dim, lanes):
                along = along + (vload(row, i) - mean) * vload(dout, i)
            back = total(along) * scale * scale * per_dim
            outer = scale * per_length
            for i in range(0, dim, lanes):
                vstore(drow, i, (vload(dout, i) - level - (vload(row, i) - mean) * back) * outer)


@njit
def sum_forward(call: int, one: Any) -> None:
    """OUT [batch, length, dim]: sum over branches of gate * (normalised) Y * CHANNEL.

    Items are batch entries cut into PARTS runs of tokens.
    """
    p = pointer(call, INT64)
    length, dim, lanes = invariant(p, LENGTH), invariant(p, DIM), lane_count(one)
    directions, parts = invariant(p, DIRECTIONS), invariant(p, PARTS)
    numbers, gates = pointer(invariant(p, NUMBERS), one), pointer(invariant(p, GATES), one)
    while True:
        item = fetch_add(offset(p, NEXT_ITEM))
        if item >= invariant(p, ITEMS):
            return
        b, part = item // parts, item % parts
        for token in range(part * length // parts, (part + 1) * length // parts):
            out = offset(pointer(invariant(p, OUT), one), (b * length + token) * dim)
            for i in range(0, dim, lanes):
                vstore(out, i, spread(one - one))
            for k in range(directions):
                branch = b * directions + k
                row = offset(pointer(invariant(p, Y), one), (branch * length + token) * dim)
                factor = _factor(p, branch, dim, numbers, one)
                mean, scale = one - one, one
                if invariant(p, NORMALISED) != 0:
                    mean, scale = _moments(row, factor, dim, numbers, one)
                    scale = scale * invariant(gates, k)
                for i in range(0, dim, lanes):
                    vstore(out, i, vload(out, i) + (vload(row, i) * vload(factor, i) - mean) * scale)


@njit
def sum_backward(call: int, one: Any) -> None:
    """DY, DCHANNEL and DGATES [branch] from DOUT [batch, length, dim]. Items are branches."""
    p = pointer(call, INT64)
    length, dim, lanes = invariant(p, LENGTH), invariant(p, DIM), lane_count(one)
    directions = invariant(p, DIRECTIONS)
    numbers, gates = pointer(invariant(p, NUMBERS), one), pointer(invariant(p, GATES), one)
    per_dim = invariant(numbers, PER_DIM)
    while True:
        branch = fetch_add(offset(p, NEXT_ITEM))
        if branch >= invariant(p, ITEMS):
            return
        b, k = branch // directions, branch % directions
        y, dy = (
            offset(pointer(invariant(p, Y), one), branch * length * dim),
            offset(pointer(invariant(p, DY), one), branch * length * dim),
        )
        dfactor, factor = (
            offset(pointer(invariant(p, DCHANNEL), one), branch * dim),
            _factor(p, branch, dim, numbers, one),
        )
        for i in range(0, dim, lanes):
            vstore(dfactor, i, spread(one - one))
        dgate = one - one
        for token in range(length):
            row, drow = offset(y, token * dim), offset(dy, token * dim)
            dout = offset(pointer(invariant(p, DOUT), one), (b * length + token) * dim)
            mean, level, back, outer = one - one, one - one, one - one, one
            if invariant(p, NORMALISED) != 0:
                mean, scale = _moments(row, factor, dim, numbers, one)
                summed, along = spread(one - one), spread(one - one)
                for i in range(0, dim, lanes):
                    summed = summed + vload(dout, i)
                    along = along + (vload(row, i) * vload(factor, i) - mean) * vload(dout, i)
                level, through = total(summed) * per_dim, total(along) * scale
                dgate = dgate + through
                back, outer = through * scale * per_dim, scale * invariant(gates, k)
            for i in range(0, dim, lanes):
                value, share = vload(row, i), vload(factor, i)
                slope = (vload(dout, i) - level - (value * share - mean) * back) * outer
                vstore(dfactor, i, vload(dfactor, i) + slope * value)
                vstore(drow, i, slope * share)
        store(pointer(invariant(p, DGATES), one), branch, dgate)


# An entry point needs a plain signature: one per precision.
def means_forward_single(call: int) -> None:
    means_forward(call, SINGLE)


def means_forward_double(call: int) -> None:
    means_forward(call, DOUBLE)


def means_backward_single(call: int) -> None:
    means_backward(call, SINGLE)


def means_backward_double(call: int) -> None:
    means_backward(call, DOUBLE)


def sum_forward_single(call: int) -> None:
    sum_forward(call, SINGLE)


def sum_forward_double(call: int) -> None:
    sum_forward(call, DOUBLE)


def sum_backward_single(call: int) -> None:
    sum_backward(call, SINGLE)


def sum_backward_double(call: int) -> None:
    sum_backward(call, DOUBLE)
