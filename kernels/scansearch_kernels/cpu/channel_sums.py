"""Sums over channels in the backward of the scan: of the gradients of B, C and low-rank delta."""

from typing import Any

from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.vector_math import lane_count
from scansearch_kernels.cpu.vectors import load, offset, pointer, store, totals, vload, vstore

CHUNK = field.CHUNK


@njit(forceinline=True)
def low_rank(
    changes: Any,
    weight: Any,
    dweight: Any,
    addresses: Any,
    r: int,
    tape: Any,
    sums: Any,
    steps: int,
    count: int,
    one: Any,
) -> None:
    """Pass the gradient of delta before softplus on to one rank: of its weights, and summed over the channels."""
    lanes = lane_count(one)
    factor, gathered = vload(weight, 0), vload(dweight, 0)
    for t in range(steps):
        change = vload(changes, t * lanes)
        gathered = gathered + change * load(pointer(load(addresses, t), one), r)
        vstore(tape, t * lanes, change * factor)
    vstore(dweight, 0, gathered)
    add_totals(tape, sums, 1, count, one)


@njit(forceinline=True)
def add_totals(products: Any, sums: Any, chunks: int, count: int, one: Any) -> None:
    """Sum products over the first `count` channels; add them to sums, step by step, for as many chunks of steps."""
    lanes = lane_count(one)
    if count < lanes:  # a channel that is only there to fill a vector has 0 times infinity in it
        _clear_ragged(products, chunks * CHUNK, count, one)
    for block in range(chunks * CHUNK // lanes):
        vstore(
            sums, block * lanes, vload(sums, block * lanes) + totals(offset(products, block * lanes * lanes))
        )


@njit
def _clear_ragged(products: Any, vectors: int, count: int, one: Any) -> None:
    """Zero the lanes from `count` on."""
    lanes = lane_count(one)
    for index in range(vectors):
        for lane in range(count, lanes):
            store(products, index * lanes + lane, one - one)
