"""Merging branches on the GPU (Triton): the mean of normalised tokens, and the sum of (normalised) branches.

Memory binds here, so every tensor is read once and nothing of the branches' size is made but dy. A program holds
a tile of whole rows, a row being the channels of one token in one branch, so that mean and deviation are found
again where they are needed rather than stored. Sums over tokens go through one partial result per strip of tokens,
added up in a fixed order: no atomics. Strides are the caller's where the last axis is contiguous.
"""

# Device code is Triton's dialect of Python.
# mypy: disable-error-code="no-untyped-def"

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from scansearch_kernels import calls
from scansearch_kernels.gpu.launch import LIMIT, Launch, addressable, interpreted, triton_dtype

EPSILON = tl.constexpr(calls.EPSILON)
WIDEST = 8192  # channels that the registers of one program hold
TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
STRIP = 4  # tiles of rows per program where every row is its own result,
SUMMED_STRIP = 32  # and where rows are summed: 1/32 of the branches' size in partial sums
SIZES = ["directions", "length"]  # no kernel is compiled anew for these; strides and dim say what is aligned


@triton.jit
def normalised(values, live, dim):
    """Rows [., TILE] less their mean, 0 in dead columns, and the reciprocals [.] of their deviations."""
    mean = tl.sum(values, axis=1) / dim
    centred = tl.where(live[None, :], values - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / dim
    return centred, tl.rsqrt(variance + EPSILON)


@triton.jit(do_not_specialize=SIZES)
def merge_means_forward(
    y, parts, y_batch, y_direction, y_row, directions, length, dim,
    ROWS: tl.constexpr, TILE: tl.constexpr, STRIP: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Sums over a strip of tokens of the normalised rows: parts [batch, directions, strips, dim].

    One program per (batch, direction, strip).
    """
    strips = tl.cdiv(length, ROWS * STRIP)
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, TILE)
    live = columns < dim
    y += program // strips // directions * y_batch + program // strips % directions * y_direction
    first = (program % strips).to(tl.int32) * (ROWS * STRIP)
    total = tl.zeros([ROWS, TILE], dtype=COMPUTE)
    for start in range(first, tl.minimum(first + ROWS * STRIP, length), ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < length)[:, None] & live[None, :]
        values = tl.load(y + rows[:, None] * y_row + columns[None, :], mask=mask, other=0.0).to(COMPUTE)
        centred, scale = normalised(values, live, dim)
        total += centred * scale[:, None]
    tl.store(parts + program * dim + columns, tl.sum(total, axis=0), mask=live)


@triton.jit(do_not_specialize=SIZES)
def merge_means_backward(
    y, dout, dy, y_batch, y_direction, y_row, directions, length, dim,
    ROWS: tl.constexpr, TILE: tl.constexpr, STRIP: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """dy [batch, directions, length, dim] from dout [batch, directions, dim].

    One program per (batch, direction, strip).
    """
    strips = tl.cdiv(length, ROWS * STRIP)
    program = tl.program_id(0).to(tl.int64)
    branch = program // strips
    columns = tl.arange(0, TILE)
    live = columns < dim
    y += branch // directions * y_batch + branch % directions * y_direction
    dy += branch * length * dim
    grad = tl.load(dout + branch * dim + columns, mask=live, other=0.0).to(COMPUTE)
    grad -= tl.sum(grad, axis=0) / dim
    first = (program % strips).to(tl.int32) * (ROWS * STRIP)
    for start in range(first, tl.minimum(first + ROWS * STRIP, length), ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < length)[:, None] & live[None, :]
        values = tl.load(y + rows[:, None] * y_row + columns[None, :], mask=mask, other=0.0).to(COMPUTE)
        centred, scale = normalised(values, live, dim)
        back = tl.sum(centred * grad[None, :], axis=1) * scale * scale / dim
        slope = (grad[None, :] - centred * back[:, None]) * (scale / length)[:, None]
        tl.store(dy + rows[:, None] * dim + columns[None, :], slope, mask=mask)


@triton.jit(do_not_specialize=SIZES)
def merge_sum_forward(
    y, channel, gates, out, y_batch, y_direction, y_row, directions, length, dim,
    ROWS: tl.constexpr, TILE: tl.constexpr, STRIP: tl.constexpr, COMPUTE: tl.constexpr,
    HAS_CHANNEL: tl.constexpr, HAS_GATES: tl.constexpr,
):  # fmt: skip
    """out [batch, length, dim]; one program per (batch, strip of tokens), all directions in turn."""
    strips = tl.cdiv(length, ROWS * STRIP)
    program = tl.program_id(0).to(tl.int64)
    batch = program // strips
    columns = tl.arange(0, TILE)
    live = columns < dim
    y += batch * y_batch
    out += batch * length * dim
    channel += batch * directions * dim
    first = (program % strips).to(tl.int32) * (ROWS * STRIP)
    for start in range(first, tl.minimum(first + ROWS * STRIP, length), ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < length)[:, None] & live[None, :]
        addresses = y + rows[:, None] * y_row + columns[None, :]
        total = tl.zeros([ROWS, TILE], dtype=COMPUTE)
        for direction in range(0, directions):
            values = tl.load(addresses, mask=mask, other=0.0).to(COMPUTE)
            if HAS_CHANNEL:
                factor = tl.load(channel + direction * dim + columns, mask=live, other=0.0).to(COMPUTE)
                values *= factor[None, :]
            if HAS_GATES:
                values, scale = normalised(values, live, dim)
                values *= (scale * tl.load(gates + direction).to(COMPUTE))[:, None]
            total += values
            addresses += y_direction
        tl.store(out + rows[:, None] * dim + columns[None, :], total, mask=mask)


@triton.jit(do_not_specialize=SIZES)
def merge_sum_backward(
    y, channel, gates, dout, dy, dchannel, dgates, y_batch, y_direction, y_row, dout_batch, dout_row,
    directions, length, dim,
    ROWS: tl.constexpr, TILE: tl.constexpr, STRIP: tl.constexpr, COMPUTE: tl.constexpr,
    HAS_CHANNEL: tl.constexpr, HAS_GATES: tl.constexpr,
):  # fmt: skip
    """dy from dout [batch, length, dim], and sums over a strip of tokens for the channel factors and the gates.

    dchannel is [batch, strips, directions, dim] and dgates [batch, strips, directions]. One program per (batch,
    strip, direction), the last the fastest: the directions share dout in the cache.
    """
    strips = tl.cdiv(length, ROWS * STRIP)
    program = tl.program_id(0).to(tl.int64)
    direction = program % directions
    batch = program // directions // strips
    columns = tl.arange(0, TILE)
    live = columns < dim
    y += batch * y_batch + direction * y_direction
    dout += batch * dout_batch
    dy += (batch * directions + direction) * length * dim
    if HAS_CHANNEL:
        addresses = channel + (batch * directions + direction) * dim + columns
        factor = tl.load(addresses, mask=live, other=0.0).to(COMPUTE)
        channel_total = tl.zeros([ROWS, TILE], dtype=COMPUTE)
    if HAS_GATES:
        gate = tl.load(gates + direction).to(COMPUTE)
        gate_total = tl.zeros([ROWS], dtype=COMPUTE)
    first = (program // directions % strips).to(tl.int32) * (ROWS * STRIP)
    for start in range(first, tl.minimum(first + ROWS * STRIP, length), ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < length)[:, None] & live[None, :]
        values = tl.load(y + rows[:, None] * y_row + columns[None, :], mask=mask, other=0.0).to(COMPUTE)
        slope = tl.load(dout + rows[:, None] * dout_row + columns[None, :], mask=mask, other=0.0).to(COMPUTE)
        if HAS_GATES:
            scaled = values
            if HAS_CHANNEL:
                scaled = values * factor[None, :]
            centred, scale = normalised(scaled, live, dim)
            level = tl.sum(slope, axis=1) / dim
            through = tl.sum(centred * slope, axis=1) * scale
            gate_total += through
            back = through * scale / dim
            slope = (slope - level[:, None] - centred * back[:, None]) * (scale * gate)[:, None]
        if HAS_CHANNEL:
            channel_total += slope * values
            slope *= factor[None, :]
        tl.store(dy + rows[:, None] * dim + columns[None, :], slope, mask=mask)
    if HAS_CHANNEL:
        tl.store(dchannel + program * dim + columns, tl.sum(channel_total, axis=0), mask=live)
    if HAS_GATES:
        tl.store(dgates + program, tl.sum(gate_total, axis=0))


@dataclass(frozen=True)
class Plan:
    """One merge: its tensors, and the sizes that its kernels share."""

    y: Tensor
    channel: Tensor | None
    gates: Tensor | None
    compute: torch.dtype
    arguments: dict[str, Tensor | int]
    tile: int
    rows: int

    def strips(self, count: int) -> int:
        """Into how many strips of `count` tiles the tokens are cut."""
        return -(-self.y.shape[2] // (self.rows * count))

    def partial(self, *shape: int) -> Tensor:
        """Uninitialised memory for partial sums."""
        return torch.empty(shape, dtype=self.compute, device=self.y.device)

    def launch(self, function: Any, programs: int, strip: int, **tensors: Tensor | int) -> Launch:
        """A launch of `function` with those of the shared arguments and constants that it takes."""
        constants = {
            "ROWS": self.rows, "TILE": self.tile, "STRIP": strip,
            "COMPUTE": triton_dtype(self.compute),
            "HAS_CHANNEL": self.channel is not None, "HAS_GATES": self.gates is not None,
        }  # fmt: skip
        names = set(function.arg_names)
        return Launch(
            function,
            programs,
            {name: value for name, value in (self.arguments | tensors).items() if name in names},
            {name: value for name, value in constants.items() if name in names},
            warps=max(1, self.tile // 512),
        )


def serves(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> bool:
    """Whether the kernels take these tensors: any float dtypes, up to 8,192 channels."""
    return (
        y.device.type == ("cpu" if interpreted() else "cuda")
        and all(part is None or part.dtype in TYPES for part in (y, channel, gates))
        and y.shape[3] <= WIDEST
        and y.shape[2] * y.shape[3] < LIMIT
    )


def make_plan(y: Tensor, channel: Tensor | None = None, gates: Tensor | None = None) -> Plan:
    """Strides and sizes: 512 channels to a warp, of several rows where rows are short."""
    _, directions, length, dim = y.shape
    y = addressable(y.detach())
    channel = None if channel is None else channel.detach().contiguous()
    gates = None if gates is None else gates.detach().contiguous()
    given = [part for part in (y, channel, gates) if part is not None]
    arguments: dict[str, Tensor | int] = {
        "y": y, "channel": y if channel is None else channel, "gates": y if gates is None else gates,
        "y_batch": y.stride(0), "y_direction": y.stride(1), "y_row": y.stride(2),
        "directions": directions, "length": length, "dim": dim,
    }  # fmt: skip
    tile = max(16, triton.next_power_of_2(dim))
    rows = max(1, 512 // tile)
    return Plan(y, channel, gates, calls.compute_dtype(given), arguments, tile, rows)


def plan_means_forward(y: Tensor) -> tuple[Launch, Tensor]:
    """The launch, and the sums [batch, directions, strips, dim] that it fills."""
    plan = make_plan(y)
    strips = plan.strips(SUMMED_STRIP)
    parts = plan.partial(y.shape[0], y.shape[1], strips, y.shape[3])
    programs = y.shape[0] * y.shape[1] * strips
    return plan.launch(merge_means_forward, programs, SUMMED_STRIP, parts=parts), parts


def plan_means_backward(y: Tensor, dout: Tensor) -> tuple[Launch, Tensor]:
    """The launch, and dy."""
    plan = make_plan(y)
    dy = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    programs = y.shape[0] * y.shape[1] * plan.strips(STRIP)
    return plan.launch(merge_means_backward, programs, STRIP, dout=dout.contiguous(), dy=dy), dy


def plan_sum_forward(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> tuple[Launch, Tensor]:
    """The launch, and the sum."""
    plan = make_plan(y, channel, gates)
    out = y.new_empty(y.shape[0], y.shape[2], y.shape[3])
    return plan.launch(merge_sum_forward, y.shape[0] * plan.strips(STRIP), STRIP, out=out), out


def plan_sum_backward(
    y: Tensor, channel: Tensor | None, gates: Tensor | None, dout: Tensor
) -> tuple[Launch, Tensor, Tensor, Tensor]:
    """The launch, dy, and the sums [batch, strips, directions, dim] for channel factors and [., 1] for gates."""
    plan = make_plan(y, channel, gates)
    batch, directions, _, dim = y.shape
    strips = plan.strips(SUMMED_STRIP)
    dout = addressable(dout)
    dy = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    dchannel = plan.partial(batch, strips, directions, 0 if channel is None else dim)
    dgates = plan.partial(batch, strips, directions, 0 if gates is None else 1)
    launch = plan.launch(
        merge_sum_backward, batch * strips * directions, SUMMED_STRIP, dout=dout, dy=dy,
        dchannel=dchannel, dgates=dgates, dout_batch=dout.stride(0), dout_row=dout.stride(1),
    )  # fmt: skip
    return launch, dy, dchannel, dgates


def means_forward(y: Tensor) -> Tensor:
    """[batch, directions, dim] in y's dtype."""
    launch, parts = plan_means_forward(y)
    launch.run()
    return (parts.sum(2) / y.shape[2]).to(y.dtype)


def means_backward(y: Tensor, dout: Tensor) -> Tensor:
    """dy, contiguous."""
    launch, dy = plan_means_backward(y, dout)
    launch.run()
    return dy


def sum_forward(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> Tensor:
    """[batch, length, dim] in y's dtype."""
    launch, out = plan_sum_forward(y, channel, gates)
    launch.run()
    return out


def sum_backward(
    y: Tensor, channel: Tensor | None, gates: Tensor | None, dout: Tensor
) -> tuple[Tensor | None, ...]:
    """dy, dchannel and dgates; None for what is absent."""
    if channel is None and gates is None:
        return dout.unsqueeze(1).expand_as(y).clone(memory_format=torch.contiguous_format), None, None
    launch, dy, dchannel, dgates = plan_sum_backward(y, channel, gates, dout)
    launch.run()
    return (
        dy,
        None if channel is None else dchannel.sum(1).to(channel.dtype),
        None if gates is None else dgates.sum((0, 1, 3)).to(gates.dtype),
    )
