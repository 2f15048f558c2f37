"""The recurrences of one chunk of steps for one vector of channels, as few passes over scratch as registers allow.

All pointers but `addresses` are to scratch; `addresses` holds where the rows of B and then of C are at each step.
"""

from typing import Any

from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.vector_math import lane_count, power
from scansearch_kernels.cpu.vectors import load, offset, pointer, vload, vstore

CHUNK = field.CHUNK


@njit(forceinline=True)
def forward_four(
    deltas: Any,
    inflows: Any,
    results: Any,
    decays: Any,
    state: Any,
    addresses: Any,
    n: int,
    steps: int,
    grows: Any,
    one: Any,
) -> None:
    """Forward of four states, which stay in registers."""
    lanes = lane_count(one)
    A0, A1 = vload(decays, 0), vload(decays, lanes)
    A2, A3 = vload(decays, 2 * lanes), vload(decays, 3 * lanes)
    h0, h1 = vload(state, 0), vload(state, lanes)
    h2, h3 = vload(state, 2 * lanes), vload(state, 3 * lanes)
    for t in range(steps):
        B = offset(pointer(load(addresses, t), one), n)
        C = offset(pointer(load(addresses, CHUNK + t), one), n)
        delta, inflow = vload(deltas, t * lanes), vload(inflows, t * lanes)
        h0 = power(delta * A0, grows) * h0 + inflow * load(B, 0)
        h1 = power(delta * A1, grows) * h1 + inflow * load(B, 1)
        h2 = power(delta * A2, grows) * h2 + inflow * load(B, 2)
        h3 = power(delta * A3, grows) * h3 + inflow * load(B, 3)
        result = vload(results, t * lanes) + h0 * load(C, 0)
        result = result + h1 * load(C, 1)
        result = result + h2 * load(C, 2)
        vstore(results, t * lanes, result + h3 * load(C, 3))
    vstore(state, 0, h0)
    vstore(state, lanes, h1)
    vstore(state, 2 * lanes, h2)
    vstore(state, 3 * lanes, h3)


@njit(forceinline=True)
def forward_one(
    deltas: Any,
    inflows: Any,
    results: Any,
    decays: Any,
    state: Any,
    addresses: Any,
    n: int,
    steps: int,
    grows: Any,
    one: Any,
) -> None:
    """Forward of one state: what is left of a number that four does not divide."""
    lanes = lane_count(one)
    A, h = vload(decays, 0), vload(state, 0)
    for t in range(steps):
        inflow = vload(inflows, t * lanes) * load(pointer(load(addresses, t), one), n)
        h = power(vload(deltas, t * lanes) * A, grows) * h + inflow
        result = vload(results, t * lanes) + h * load(pointer(load(addresses, CHUNK + t), one), n)
        vstore(results, t * lanes, result)
    vstore(state, 0, h)


@njit(forceinline=True)
def recompute_two(
    chunk: Any,
    tape: Any,
    A0: Any,
    A1: Any,
    h0: Any,
    h1: Any,
    addresses: Any,
    n: int,
    steps: int,
    gated: bool,
    grows: Any,
    one: Any,
) -> None:
    """Two states forward again from a saved start.

    The tape gets, for each state, the decays, the states before each step and, to be summed for the gradient of C,
    the products of states and outer gradients.
    """
    lanes = lane_count(one)
    length = CHUNK * lanes
    for t in range(steps):
        index = t * lanes
        B = offset(pointer(load(addresses, t), one), n)
        delta, inflow, dy = vload(chunk.deltas, index), vload(chunk.inflows, index), vload(chunk.outer, index)
        a0, a1 = power(delta * A0, grows), power(delta * A1, grows)
        vstore(tape, index, a0)
        vstore(tape, length + index, a1)
        vstore(tape, 2 * length + index, h0)
        vstore(tape, 3 * length + index, h1)
        h0 = a0 * h0 + inflow * load(B, 0)
        h1 = a1 * h1 + inflow * load(B, 1)
        vstore(tape, 4 * length + index, h0 * dy)
        vstore(tape, 5 * length + index, h1 * dy)
        if gated:
            C = offset(pointer(load(addresses, CHUNK + t), one), n)
            vstore(chunk.results, index, vload(chunk.results, index) + h0 * load(C, 0) + h1 * load(C, 1))


@njit(forceinline=True)
def recompute_one(
    chunk: Any,
    tape: Any,
    A: Any,
    h: Any,
    addresses: Any,
    n: int,
    steps: int,
    gated: bool,
    grows: Any,
    one: Any,
) -> None:
    """`recompute_two` for the last of an odd number of states; the tape's second halves are left alone."""
    lanes = lane_count(one)
    length = CHUNK * lanes
    for t in range(steps):
        index = t * lanes
        a = power(vload(chunk.deltas, index) * A, grows)
        vstore(tape, index, a)
        vstore(tape, 2 * length + index, h)
        h = a * h + vload(chunk.inflows, index) * load(pointer(load(addresses, t), one), n)
        vstore(tape, 4 * length + index, h * vload(chunk.outer, index))
        if gated:
            C = load(pointer(load(addresses, CHUNK + t), one), n)
            vstore(chunk.results, index, vload(chunk.results, index) + h * C)


@njit(forceinline=True)
def reverse_one(
    chunk: Any,
    tape: Any,
    A: Any,
    carry: Any,
    dA: Any,
    addresses: Any,
    n: int,
    steps: int,
    one: Any,
) -> None:
    """`reverse_two` for the last of an odd number of states."""
    lanes = lane_count(one)
    length = CHUNK * lanes
    q, d = vload(carry, 0), vload(dA, 0)
    for t in range(steps - 1, -1, -1):
        index = t * lanes
        B, C = load(pointer(load(addresses, t), one), n), load(pointer(load(addresses, CHUNK + t), one), n)
        g = q + vload(chunk.outer, index) * C
        vstore(chunk.into_flow, index, vload(chunk.into_flow, index) + g * B)
        vstore(tape, 4 * length + index, g * vload(chunk.inflows, index))
        q = g * vload(tape, index)
        w = q * vload(tape, 2 * length + index)
        vstore(chunk.into_decay, index, vload(chunk.into_decay, index) + w * A)
        d = d + w * vload(chunk.deltas, index)
    vstore(carry, 0, q)
    vstore(dA, 0, d)


@njit(forceinline=True)
def reverse_two(
    chunk: Any,
    tape: Any,
    A0: Any,
    A1: Any,
    carry: Any,
    dA: Any,
    addresses: Any,
    n: int,
    steps: int,
    one: Any,
) -> None:
    """Two states in reverse over the tape of `recompute_two`, whose products become those of the gradient of B."""
    lanes = lane_count(one)
    length = CHUNK * lanes
    q0, q1 = vload(carry, 0), vload(carry, lanes)
    d0, d1 = vload(dA, 0), vload(dA, lanes)
    for t in range(steps - 1, -1, -1):
        index = t * lanes
        B = offset(pointer(load(addresses, t), one), n)
        C = offset(pointer(load(addresses, CHUNK + t), one), n)
        delta, inflow, dy = vload(chunk.deltas, index), vload(chunk.inflows, index), vload(chunk.outer, index)
        g0 = q0 + dy * load(C, 0)
        g1 = q1 + dy * load(C, 1)
        vstore(chunk.into_flow, index, vload(chunk.into_flow, index) + g0 * load(B, 0) + g1 * load(B, 1))
        vstore(tape, 4 * length + index, g0 * inflow)
        vstore(tape, 5 * length + index, g1 * inflow)
        q0 = g0 * vload(tape, index)
        q1 = g1 * vload(tape, length + index)
        w0 = q0 * vload(tape, 2 * length + index)
        w1 = q1 * vload(tape, 3 * length + index)
        vstore(chunk.into_decay, index, vload(chunk.into_decay, index) + w0 * A0 + w1 * A1)
        d0 = d0 + w0 * delta
        d1 = d1 + w1 * delta
    vstore(carry, 0, q0)
    vstore(carry, lanes, q1)
    vstore(dA, 0, d0)
    vstore(dA, lanes, d1)
