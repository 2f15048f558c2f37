"""Pieces of device code that the GPU kernels share."""

# Device code is Triton's dialect of Python.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def exponential(x):
    """exp(x) by the hardware's exp2."""
    return tl.exp2(x * LOG2E)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)), from the exponential that cannot overflow."""
    small = exponential(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)


@triton.jit
def softplus(x):
    """log(1 + exp(x)) to full precision for every x: no threshold."""
    small = exponential(-tl.abs(x))
    if x.dtype == tl.float64:
        # log(w) * small / (w - 1) cancels the rounding of w = 1 + small
        shifted = 1.0 + small
        step = tl.where(shifted == 1.0, 1.0, shifted - 1.0)
        tail = tl.where(shifted == 1.0, small, tl.log(shifted) * small / step)
    else:
        # log1p(e) = 2 atanh(e / (2 + e)), whose series in s <= 1/3 ends below 2e-8
        s = small / (2.0 + small)
        square = s * s
        series = square * (1.0 / 13.0) + 1.0 / 11.0
        series = series * square + 1.0 / 9.0
        series = series * square + 1.0 / 7.0
        series = series * square + 1.0 / 5.0
        series = series * square + 1.0 / 3.0
        tail = 2.0 * (s + s * square * series)
    return tl.maximum(x, 0.0) + tail


@triton.jit
def rows_of(tile):
    """The rows of a [power of 2, width] tile as a tuple; registers are only renamed."""
    height: tl.constexpr = tile.shape[0]
    width: tl.constexpr = tile.shape[1]
    if height == 1:
        return (tl.reshape(tile, [width]),)
    else:
        first, second = tl.split(tl.permute(tl.reshape(tile, [2, height // 2, width]), [1, 2, 0]))
        return rows_of(first) + rows_of(second)


@triton.jit
def stacked(rows, height: tl.constexpr, width: tl.constexpr):
    """The inverse of `rows_of`."""
    if height == 1:
        return tl.reshape(rows[0], [1, width])
    else:
        first = stacked(rows[: height // 2], height // 2, width)
        second = stacked(rows[height // 2 :], height // 2, width)
        return tl.reshape(tl.permute(tl.join(first, second), [2, 0, 1]), [height, width])


@triton.jit
def visited(order, steps, stop, HAS_ORDER: tl.constexpr):
    """The rows visited at the given steps, -1 from `stop` on."""
    if HAS_ORDER:
        return tl.load(order + steps, mask=steps < stop, other=-1)
    else:
        return tl.where(steps < stop, steps, -1)


@triton.jit
def reached(rows, live, EVEN: tl.constexpr):
    """Mask of [rows, columns]: row -1 is not there, nor is a column that is not `live` (EVEN: all are)."""
    if EVEN:
        return (rows >= 0)[:, None]
    else:
        return (rows >= 0)[:, None] & live[None, :]


@triton.jit
def gathered(pointer, rows, row_stride, columns, live, EVEN: tl.constexpr, COMPUTE: tl.constexpr):
    """[len(rows), len(columns)] of a matrix; zeros where nothing is reached."""
    place = rows[:, None] * row_stride + columns[None, :]
    return tl.load(pointer + place, mask=reached(rows, live, EVEN), other=0.0).to(COMPUTE)


@triton.jit
def project(
    delta, delta_row, weight, rank, read, scratch, start, stop, tile, dim,
    HAS_READ: tl.constexpr, TILE: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Low-rank delta of 16 steps times its weight, on the tensor cores, into `scratch` [16, TILE].

    In pieces of 16 channels and 16 ranks, since registers are scarce where this is called.
    """
    sixteen = tl.arange(0, 16)
    rows = visited(read, start + sixteen, stop, HAS_READ)
    tl.debug_barrier()  # the rows of the steps before have been read
    for piece in range(0, TILE, 16):
        columns = tile * TILE + piece + sixteen
        live = columns < dim
        full = tl.zeros([16, 16], dtype=COMPUTE)
        for part in range(0, rank, 16):
            ranks = part + sixteen
            low = gathered(delta, rows, delta_row, ranks, ranks < rank, False, COMPUTE)
            mask = (ranks < rank)[:, None] & live[None, :]
            spread = tl.load(weight + columns[None, :] * rank + ranks[:, None], mask=mask, other=0.0)
            precision: tl.constexpr = "ieee" if tl.float64 == COMPUTE else "tf32x3"
            full = tl.dot(low, spread.to(COMPUTE), full, input_precision=precision, out_dtype=COMPUTE)
        tl.store(scratch + sixteen[:, None] * TILE + piece + sixteen[None, :], full)
    tl.debug_barrier()
