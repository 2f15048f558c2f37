"""Scratch memory of one thread in the backward of the scan."""

from typing import Any, NamedTuple

from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.rows import fill
from scansearch_kernels.cpu.tile import InputRows, address_list
from scansearch_kernels.cpu.vector_math import lane_count
from scansearch_kernels.cpu.vectors import offset, store

CHUNK, TILE, STRIDE = field.CHUNK, field.TILE, field.STRIDE


class Chunk(NamedTuple):
    """Arrays with a vector for each vector of channels and step of a chunk: [TILE, CHUNK, lanes]."""

    deltas: Any
    u: Any
    inflows: Any  # delta u
    slopes: Any  # of softplus; later the gradient of delta before softplus
    outer: Any  # gradient of the output before its gate
    dy: Any  # gradient of the output
    results: Any  # the output before its gate, for the gradient of z
    into_flow: Any  # sum over states of g B
    into_decay: Any  # sum over states of w A


class Scratch(NamedTuple):
    """Everything the phases of a chunk hand to each other."""

    ragged: Any  # one vector, for a row's ragged end
    chunk: Any  # Chunk
    tape: Any  # [6, CHUNK, lanes]: six vectors per step of a pair of states
    carry: Any  # [TILE, states, lanes]: gradient of the state, carried from step to earlier step
    decay_sums: Any  # [TILE, states, lanes]: gradient of A
    b_sums: Any  # [states, CHUNK]: of one chunk, gradients of B; later of low-rank delta
    c_sums: Any  # [states, CHUNK]: of one chunk, gradients of C
    inputs: Any  # InputRows


def paired(count: int) -> int:
    """`count` and one more if it is odd: states are walked in pairs."""
    return count + count % 2


even = njit(forceinline=True)(paired)


def scratch_numbers(states: int, rank: int, lanes: int) -> int:
    """Numbers that `lay_out` needs."""
    vectors = 1 + len(Chunk._fields) * STRIDE + 6 * CHUNK + 2 * TILE * paired(states)
    return vectors * lanes + (2 * CHUNK + 1) * paired(states) + paired(rank) + 4 * CHUNK


@njit(forceinline=True)
def lay_out(work: Any, states: int, rank: int, one: Any) -> Any:
    """The arrays of scratch, one after the other from `work`."""
    lanes = lane_count(one)
    array = STRIDE * lanes
    deltas = offset(work, lanes)
    chunk = Chunk(
        deltas=deltas,
        u=offset(deltas, array),
        inflows=offset(deltas, 2 * array),
        slopes=offset(deltas, 3 * array),
        outer=offset(deltas, 4 * array),
        dy=offset(deltas, 5 * array),
        results=offset(deltas, 6 * array),
        into_flow=offset(deltas, 7 * array),
        into_decay=offset(deltas, 8 * array),
    )
    tape = offset(deltas, 9 * array)
    carry = offset(tape, 6 * CHUNK * lanes)
    decay_sums = offset(carry, TILE * even(states) * lanes)
    b_sums = offset(decay_sums, TILE * even(states) * lanes)
    c_sums = offset(b_sums, even(states) * CHUNK)
    zeros = offset(c_sums, even(states) * CHUNK)
    inputs = InputRows(address_list(offset(zeros, even(states) + even(rank))), zeros)
    return Scratch(work, chunk, tape, carry, decay_sums, b_sums, c_sums, inputs)


@njit
def clear(scratch: Any, states: int, rank: int, one: Any) -> None:
    """Zeros for a new direction: tape, carried gradients, gradients of A, and the row of zeros."""
    fill(scratch.tape, 6 * CHUNK + 2 * TILE * even(states), one)
    for n in range(even(states) + rank):
        store(scratch.inputs.zeros, n, one - one)


@njit
def clear_chunk(scratch: Any, states: int, one: Any) -> None:
    """Zeros for a new chunk: the sums over states and over channels."""
    fill(scratch.chunk.into_flow, 2 * STRIDE, one)
    fill(scratch.b_sums, 2 * even(states) * CHUNK // lane_count(one), one)


@njit(forceinline=True)
def of_vector(chunk: Any, v: int, one: Any) -> Any:
    """The arrays [CHUNK, lanes] of one vector of channels."""
    start = v * CHUNK * lane_count(one)
    return Chunk(
        offset(chunk.deltas, start),
        offset(chunk.u, start),
        offset(chunk.inflows, start),
        offset(chunk.slopes, start),
        offset(chunk.outer, start),
        offset(chunk.dy, start),
        offset(chunk.results, start),
        offset(chunk.into_flow, start),
        offset(chunk.into_decay, start),
    )
