"""The causal convolution along each order on the GPU (Triton), forward and backward, deterministic.

Memory binds here: tokens are gathered by index, 16 steps and up to 128 channels a program, four taps from
cache. The backward first turns dy into the gradient before SiLU, in walking order, then gathers it into x's
rows through the inverse order, all directions in one sum.
"""

# Device code is Triton's dialect of Python.
# mypy: disable-error-code="no-untyped-def"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from scansearch_kernels.calls import ConvCall
from scansearch_kernels.gpu.device_math import reached, sigmoid, visited
from scansearch_kernels.gpu.launch import (
    Launch,
    addressable,
    check_extent,
    lengths_on,
    triton_dtype,
)

STEPS = tl.constexpr(16)


@triton.jit
def convolved(
    x, x_row, weight, bias, read, times, stop, columns, live, dim,
    WIDTH: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_READ: tl.constexpr, TILE: tl.constexpr,
    COMPUTE: tl.constexpr,
):  # fmt: skip
    """[16, TILE] before SiLU; pointers are already at the batch element and direction."""
    before = tl.zeros([STEPS, TILE], dtype=COMPUTE)
    if HAS_BIAS:
        before += tl.load(bias + columns, mask=live, other=0.0).to(COMPUTE)[None, :]
    for tap in tl.static_range(WIDTH):
        past = times - (WIDTH - 1 - tap)
        rows = visited(read, tl.maximum(past, 0), stop, HAS_READ)
        rows = tl.where(past >= 0, rows, -1)
        addresses = x + rows[:, None] * x_row + columns[None, :]
        x_tile = tl.load(addresses, mask=reached(rows, live, False), other=0.0).to(COMPUTE)
        before += x_tile * tl.load(weight + columns * WIDTH + tap, mask=live, other=0.0).to(COMPUTE)[None, :]
    return before


@triton.jit
def conv_forward(
    x, weight, bias, read, lengths, y, x_batch, x_row, directions, dim, steps,
    WIDTH: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_READ: tl.constexpr, TILE: tl.constexpr,
    COMPUTE: tl.constexpr,
):  # fmt: skip
    """y [batch, directions, steps, dim]; one program per (batch, direction, 16 steps, channel tile)."""
    tiles = tl.cdiv(dim, TILE)
    parts = tl.cdiv(steps, STEPS)
    program = tl.program_id(0).to(tl.int64)
    columns = (program % tiles).to(tl.int32) * TILE + tl.arange(0, TILE)
    live = columns < dim
    times = (program // tiles % parts).to(tl.int32) * STEPS + tl.arange(0, STEPS)
    direction = program // tiles // parts % directions
    batch = program // tiles // parts // directions
    stop = tl.load(lengths + direction)
    before = convolved(
        x + batch * x_batch, x_row, weight + direction * dim * WIDTH, bias + direction * dim,
        read + direction * steps, times, stop, columns, live, dim, WIDTH, HAS_BIAS, HAS_READ, TILE, COMPUTE,
    )  # fmt: skip
    result = tl.where((times < stop)[:, None], before * sigmoid(before), 0.0)
    y += (batch * directions + direction) * steps * dim
    mask = (times < steps)[:, None] & live[None, :]
    tl.store(y + times[:, None] * dim + columns[None, :], result, mask=mask)


@triton.jit
def conv_backward_steps(
    dy, x, weight, bias, read, lengths, before_grad, dweight, dbias,
    dy_batch, dy_direction, dy_row, x_batch, x_row, directions, dim, steps,
    WIDTH: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_READ: tl.constexpr, TILE: tl.constexpr,
    COMPUTE: tl.constexpr,
):  # fmt: skip
    """The gradient before SiLU in walking order, and each program's part of those of weight and bias.

    dweight is [batch, parts, directions, width, dim] and dbias [batch, parts, directions, dim].
    """
    tiles = tl.cdiv(dim, TILE)
    parts = tl.cdiv(steps, STEPS)
    program = tl.program_id(0).to(tl.int64)
    columns = (program % tiles).to(tl.int32) * TILE + tl.arange(0, TILE)
    live = columns < dim
    part = program // tiles % parts
    times = part.to(tl.int32) * STEPS + tl.arange(0, STEPS)
    direction = program // tiles // parts % directions
    batch = program // tiles // parts // directions
    stop = tl.load(lengths + direction)
    x += batch * x_batch
    read += direction * steps
    before = convolved(
        x, x_row, weight + direction * dim * WIDTH, bias + direction * dim, read, times, stop,
        columns, live, dim, WIDTH, HAS_BIAS, HAS_READ, TILE, COMPUTE,
    )  # fmt: skip
    mask = (times < stop)[:, None] & live[None, :]
    dy += batch * dy_batch + direction * dy_direction
    grad = tl.load(dy + times[:, None] * dy_row + columns[None, :], mask=mask, other=0.0).to(COMPUTE)
    gate = sigmoid(before)
    grad *= gate * (1.0 + before * (1.0 - gate))
    before_grad += (batch * directions + direction) * steps * dim
    offsets = times[:, None] * dim + columns[None, :]
    tl.store(before_grad + offsets, grad, mask=(times < steps)[:, None] & live[None, :])
    chain = (batch * parts + part) * directions + direction
    if HAS_BIAS:
        tl.store(dbias + chain * dim + columns, tl.sum(grad, axis=0), mask=live)
    for tap in tl.static_range(WIDTH):
        past = times - (WIDTH - 1 - tap)
        rows = visited(read, tl.maximum(past, 0), stop, HAS_READ)
        rows = tl.where(past >= 0, rows, -1)
        addresses = x + rows[:, None] * x_row + columns[None, :]
        x_tile = tl.load(addresses, mask=reached(rows, live, False), other=0.0).to(COMPUTE)
        tl.store(dweight + (chain * WIDTH + tap) * dim + columns, tl.sum(grad * x_tile, axis=0), mask=live)


@triton.jit
def conv_backward_rows(
    before_grad, weight, inverse, lengths, dx, directions, dim, steps, rows_total,
    WIDTH: tl.constexpr, TILE: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """dx [batch, rows, dim] from the gradient before SiLU; one program per (batch, 16 rows, channel tile).

    inverse [directions, rows] is the step at which a row is visited, -1 if never.
    """
    tiles = tl.cdiv(dim, TILE)
    parts = tl.cdiv(rows_total, STEPS)
    program = tl.program_id(0).to(tl.int64)
    columns = (program % tiles).to(tl.int32) * TILE + tl.arange(0, TILE)
    live = columns < dim
    rows = (program // tiles % parts).to(tl.int32) * STEPS + tl.arange(0, STEPS)
    batch = program // tiles // parts
    total = tl.zeros([STEPS, TILE], dtype=COMPUTE)
    for direction in range(0, directions):
        stop = tl.load(lengths + direction)
        visit = tl.load(inverse + direction * rows_total + rows, mask=rows < rows_total, other=-1)
        source = before_grad + (batch * directions + direction) * steps * dim
        for tap in tl.static_range(WIDTH):
            times = visit + (WIDTH - 1 - tap)
            mask = ((visit >= 0) & (times < stop))[:, None] & live[None, :]
            grad = tl.load(source + times[:, None] * dim + columns[None, :], mask=mask, other=0.0)
            tap_weight = tl.load(weight + (direction * dim + columns) * WIDTH + tap, mask=live, other=0.0)
            total += grad.to(COMPUTE) * tap_weight.to(COMPUTE)[None, :]
    mask = (rows < rows_total)[:, None] & live[None, :]
    tl.store(dx + (batch * rows_total + rows[:, None]) * dim + columns[None, :], total, mask=mask)


def inverse_order(call: ConvCall) -> Tensor:
    """int32 [directions, rows]: the step, below each direction's length, at which a row is visited, or -1."""
    directions, rows, device = call.weight.shape[0], call.x.shape[1], call.x.device
    ends = lengths_on(call.lengths, device)[:, None]
    steps = torch.arange(call.steps, dtype=torch.int32, device=device).expand(directions, -1)
    order = steps if call.read_order is None else call.read_order
    target = torch.where((order >= 0) & (steps < ends), order, rows).long()
    inverse = torch.full((directions, rows + 1), -1, dtype=torch.int32, device=device)
    return inverse.scatter_(1, target, steps)[:, :rows].contiguous()


def _arguments(call: ConvCall) -> tuple[dict[str, Tensor | int], dict[str, Any], int]:
    """Arguments by name, constants, and the number of channel tiles."""
    directions, dim, width = call.weight.shape
    check_extent(max(call.x.shape[1], call.steps), dim)
    x = addressable(call.x)
    lengths = lengths_on(call.lengths, x.device)
    tile = min(128, max(32, triton.next_power_of_2(dim)))
    arguments: dict[str, Tensor | int] = {
        "x": x, "weight": call.weight.contiguous(),
        "bias": call.weight if call.bias is None else call.bias.contiguous(),
        "read": lengths if call.read_order is None else call.read_order.contiguous(), "lengths": lengths,
        "x_batch": x.stride(0), "x_row": x.stride(1),
        "directions": directions, "dim": dim, "steps": call.steps, "rows_total": call.x.shape[1],
    }  # fmt: skip
    constants = {
        "WIDTH": width, "HAS_BIAS": call.bias is not None, "HAS_READ": call.read_order is not None,
        "TILE": tile, "COMPUTE": triton_dtype(call.compute_dtype),
    }  # fmt: skip
    return arguments, constants, -(-dim // tile)


def _launch(
    function: Any, programs: int, arguments: dict[str, Tensor | int], constants: dict[str, Any]
) -> Launch:
    names = set(function.arg_names)
    return Launch(
        function,
        programs,
        {name: value for name, value in arguments.items() if name in names},
        {name: value for name, value in constants.items() if name in names},
        warps=4,
    )


def plan_forward(call: ConvCall) -> tuple[list[Launch], Tensor]:
    """The launch of a forward, and its y."""
    arguments, constants, tiles = _arguments(call)
    batch, (directions, dim, _) = call.x.shape[0], call.weight.shape
    y = call.x.new_empty(batch, directions, call.steps, dim)
    programs = batch * directions * -(-call.steps // STEPS.value) * tiles
    return [_launch(conv_forward, programs, arguments | {"y": y}, constants)], y


def plan_backward(call: ConvCall, dy: Tensor) -> tuple[list[Launch], dict[str, Tensor]]:
    """The launches of a backward and what they fill: dx, and parts of dweight and dbias; see `finish`."""
    arguments, constants, tiles = _arguments(call)
    batch, rows = call.x.shape[:2]
    directions, dim, width = call.weight.shape
    dy = addressable(dy)
    compute = call.compute_dtype
    parts = -(-call.steps // STEPS.value)

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=compute, device=call.x.device)

    partial = {
        "dx": call.x.new_empty(batch, rows, dim),
        "dweight": empty(batch, parts, directions, width, dim),
        "dbias": empty(batch, parts, directions, dim),
    }
    arguments |= {
        **partial,
        "before_grad": call.x.new_empty(batch, directions, call.steps, dim),
        "inverse": inverse_order(call),
        "dy": dy, "dy_batch": dy.stride(0), "dy_direction": dy.stride(1), "dy_row": dy.stride(2),
    }  # fmt: skip
    row_parts = -(-rows // STEPS.value)
    launches = [
        _launch(conv_backward_steps, batch * directions * parts * tiles, arguments, constants),
        _launch(conv_backward_rows, batch * row_parts * tiles, arguments, constants),
    ]
    return launches, partial


def finish(call: ConvCall, partial: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """Gradients of the call's tensors, by the call's names, from the kernels' partial sums."""
    dweight = partial["dweight"].sum((0, 1)).transpose(1, 2).to(call.weight.dtype)
    dbias = None if call.bias is None else partial["dbias"].sum((0, 1)).to(call.bias.dtype)
    return {"x": partial["dx"], "weight": dweight.contiguous(), "bias": dbias}
