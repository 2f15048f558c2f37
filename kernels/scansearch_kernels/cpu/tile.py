"""One tile of channels along one order: what the phases of a chunk in the backward of the scan work on."""

from typing import Any, NamedTuple

from numba import njit

from scansearch_kernels.cpu import layout as field
from scansearch_kernels.cpu.rows import INT64, load_delta, load_row, prefetch_row, row_at, tensor_row
from scansearch_kernels.cpu.vector_math import lane_count, silu_and_slope
from scansearch_kernels.cpu.vectors import (
    address,
    invariant,
    offset,
    pointer,
    prefetch,
    spread,
    store,
    vload,
    vstore,
)

CHUNK = field.CHUNK


class Tile(NamedTuple):
    """A tile of channels of one batch entry, along the order of one direction."""

    p: Any  # the fields of the call
    b: int  # batch entry
    k: int  # direction
    first: int  # first channel
    channels: int  # how many
    vectors: int  # of channels; the last may be ragged
    one: Any  # 1 in the precision of the call


class InputRows(NamedTuple):
    """Where the rows of B and C are at each step of a chunk."""

    addresses: Any  # int64 [2, CHUNK]: of B, then of C
    zeros: Any  # what row -1 reads


@njit(forceinline=True)
def read_row(tile: Any, step: int) -> Any:
    """Row that a step reads, -1 for zeros."""
    return row_at(tile.p, field.READ, tile.k, step)


@njit(forceinline=True)
def written_row(tile: Any, step: int) -> Any:
    """Position in the image that a step writes, -1 for none."""
    return row_at(tile.p, field.WRITE, tile.k, step)


@njit(forceinline=True)
def tile_row(tile: Any, which: int, row: int) -> Any:
    """Pointer to the tile's channels in a row of a [batch, directions, rows, channels] tensor."""
    return offset(tensor_row(tile.p, which, tile.b, tile.k, row, tile.one), tile.first)


@njit(forceinline=True)
def parameter(tile: Any, which: int, width: int) -> Any:
    """Pointer to the tile's channels in a parameter [directions, width, padded channels]."""
    padded = invariant(tile.p, field.PADDED)
    return offset(pointer(invariant(tile.p, which), tile.one), tile.k * width * padded + tile.first)


@njit(forceinline=True)
def saved_states(tile: Any, chunk: int) -> Any:
    """Pointer to the tile's channels in the states saved before a chunk of steps, [states, padded channels]."""
    directions, states = invariant(tile.p, field.DIRECTIONS), invariant(tile.p, field.STATES)
    chunks = (invariant(tile.p, field.STEPS) + CHUNK - 1) // CHUNK
    index = ((tile.b * directions + tile.k) * chunks + chunk) * states * invariant(tile.p, field.PADDED)
    return offset(pointer(invariant(tile.p, field.SAVED), tile.one), index + tile.first)


@njit(forceinline=True)
def raw_delta(tile: Any, row: int, v: int, ragged: Any) -> Any:
    """delta of one vector of channels before softplus; row -1 leaves only the bias."""
    channel = v * lane_count(tile.one)
    return load_delta(
        tile.p, tile.b, tile.k, row, tile.first + channel, tile.channels - channel, ragged, tile.one
    )


@njit(forceinline=True)
def skip_weight(tile: Any, v: int) -> Any:
    """D of one vector of channels; zero where the call has none."""
    if invariant(tile.p, field.SKIP) != 0:
        return vload(parameter(tile, field.SKIP, 1), v * lane_count(tile.one))
    return spread(tile.one - tile.one)


@njit(forceinline=True)
def note_input_rows(tile: Any, t: int, row: int, inputs: Any) -> None:
    """Note where the rows of B and C are at step `t` of a chunk."""
    store(inputs.addresses, t, address(inputs.zeros))
    store(inputs.addresses, CHUNK + t, address(inputs.zeros))
    if row >= 0:
        B = tensor_row(tile.p, field.B, tile.b, tile.k, row, tile.one)
        C = tensor_row(tile.p, field.C, tile.b, tile.k, row, tile.one)
        store(inputs.addresses, t, address(B))
        store(inputs.addresses, CHUNK + t, address(C))


@njit(forceinline=True)
def prefetch_inputs(tile: Any, row: int) -> None:
    """Ask for what another step will read: B, C, u and delta at `row`."""
    if row >= 0:
        prefetch(tensor_row(tile.p, field.B, tile.b, tile.k, row, tile.one), 0)
        prefetch(tensor_row(tile.p, field.C, tile.b, tile.k, row, tile.one), 0)
        prefetch_row(tile_row(tile, field.U, row), tile.one)
        if invariant(tile.p, field.RANK) == 0:
            prefetch_row(tile_row(tile, field.DELTA, row), tile.one)


@njit
def load_gates(p: Any, b: int, first: int, count: int, gates: Any, ragged: Any, one: Any) -> None:
    """silu(z) of a tile of channels: gates [positions, vectors]."""
    lanes = lane_count(one)
    vectors = (count + lanes - 1) // lanes
    for position in range(invariant(p, field.LENGTH)):
        z = offset(tensor_row(p, field.Z, b, 0, position, one), first)
        for v in range(vectors):
            row = load_row(offset(z, v * lanes), count - v * lanes, ragged, one)
            vstore(gates, (position * vectors + v) * lanes, silu_and_slope(row, one)[0])


@njit(forceinline=True)
def address_list(room: Any) -> Any:
    """A stretch of scratch as a list of addresses."""
    return pointer(address(room), INT64)
