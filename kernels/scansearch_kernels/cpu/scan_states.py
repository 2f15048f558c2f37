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
        h0 = power(delta * A0) * h0 + inflow * load(B, 0)
        h1 = power(delta * A1) * h1 + inflow * load(B, 1)
        h2 = power(delta * A2) * h2 + inflow * load(B, 2)
        h3 = power(delta * A3) * h3 + inflow * load(B, 3)
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
    one: Any,
) -> None:
    """Forward of one state: what is left of a number that four does not divide."""
    lanes = lane_count(one)
    A, h = vload(decays, 0), vload(state, 0)
    for t in range(steps):
        inflow = vload(inflows, t * lanes) * load(pointer(load(addresses, t), one), n)
        h = power(vload(deltas, t * lanes) * A) * h + inflow
        result = vload(results, t * lanes) + h * load(pointer(load(addresses, CHUNK + t), one), n)
        vstore(results, t * lanes, result)
    vstore(state, 0, h)


@njit(forceinline=True)
def again_two(
    deltas: Any,
    inflows: Any,
    outer: Any,
    results: Any,
    tape: Any,
    A0: Any,
    A1: Any,
    h0: Any,
    h1: Any,
    addresses: Any,
    n: int,
    steps: int,
    gated: bool,
    one: Any,
) -> None:
    """Two states forward again from a saved start.

    The tape gets, for each state, the decays, the states before each step and, to be summed for the gradient of C,
    the products of states and outer gradients.
    """
    lanes = lane_count(one)
    length = CHUNK * lanes
    for t in range(steps):
        place = t * lanes
        B = offset(pointer(load(addresses, t), one), n)
        delta, inflow, dy = vload(deltas, place), vload(inflows, place), vload(outer, place)
        a0, a1 = power(delta * A0), power(delta * A1)
        vstore(tape, place, a0)
        vstore(tape, length + place, a1)
        vstore(tape, 2 * length + place, h0)
        vstore(tape, 3 * length + place, h1)
        h0 = a0 * h0 + inflow * load(B, 0)
        h1 = a1 * h1 + inflow * load(B, 1)
        vstore(tape, 4 * length + place, h0 * dy)
        vstore(tape, 5 * length + place, h1 * dy)
        if gated:
            C = offset(pointer(load(addresses, CHUNK + t), one), n)
            vstore(results, place, vload(results, place) + h0 * load(C, 0) + h1 * load(C, 1))


@njit(forceinline=True)
def reverse_two(
    deltas: Any,
    inflows: Any,
    outer: Any,
    into_flow: Any,
    into_decay: Any,
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
    """Two states in reverse over the tape of `again_two`, whose products become those of the gradient of B."""
    lanes = lane_count(one)
    length = CHUNK * lanes
    q0, q1 = vload(carry, 0), vload(carry, lanes)
    d0, d1 = vload(dA, 0), vload(dA, lanes)
    for t in range(steps - 1, -1, -1):
        place = t * lanes
        B = offset(pointer(load(addresses, t), one), n)
        C = offset(pointer(load(addresses, CHUNK + t), one), n)
        delta, inflow, dy = vload(deltas, place), vload(inflows, place), vload(outer, place)
        g0 = q0 + dy * load(C, 0)
        g1 = q1 + dy * load(C, 1)
        vstore(into_flow, place, vload(into_flow, place) + g0 * load(B, 0) + g1 * load(B, 1))
        vstore(tape, 4 * length + place, g0 * inflow)
        vstore(tape, 5 * length + place, g1 * inflow)
        q0 = g0 * vload(tape, place)
        q1 = g1 * vload(tape, length + place)
        w0 = q0 * vload(tape, 2 * length + place)
        w1 = q1 * vload(tape, 3 * length + place)
        vstore(into_decay, place, vload(into_decay, place) + w0 * A0 + w1 * A1)
        d0 = d0 + w0 * delta
        d1 = d1 + w1 * delta
    vstore(carry, 0, q0)
    vstore(carry, lanes, q1)
    vstore(dA, 0, d0)
    vstore(dA, lanes, d1)
