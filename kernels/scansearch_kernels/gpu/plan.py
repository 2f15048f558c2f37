"""Turns a checked scan call into kernel launches: strides, memory, sizes, and how the sequence is split."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from scansearch_kernels.calls import ScanCall
from scansearch_kernels.gpu.device_math import STEPS
from scansearch_kernels.gpu.launch import (
    Launch,
    addressable,
    check_extent,
    covers,
    lengths_on,
    output,
    prepared,
    triton_dtype,
)
from scansearch_kernels.gpu.scan_backward import (
    CHUNK,
    TIMES,
    reduce_tiles,
    scan_adjoint_summary,
    scan_backward,
)
from scansearch_kernels.gpu.scan_forward import chain_segments, scan_forward

LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Tuning:
    """Sizes of the scan kernels. Tests shrink them; None means chosen for the call, as was measured on an H200.

    block: steps between saved states, a multiple of 16. tile: channels per program, a power of two.
    segments: into how many pieces the sequence is split. group: steps whose rows the forward asks for together.
    forward_registers, backward_registers: the most that a thread of the scan may use, so that more warps fit on a
    multiprocessor. unroll: states that the backward's inner loop works on at a time; ahead: whether it asks for B and C
    of the next state meanwhile; again: `group` of the forward that the backward repeats.
    """

    block: int = 64
    tile: int | None = None
    segments: int | None = None
    group: int = 4
    forward_registers: int | None = None
    backward_registers: int | None = None
    unroll: int = 1
    ahead: bool | None = None
    again: int | None = None


@dataclass(frozen=True)
class Plan:
    """What forward and backward of one call have in common: arguments by name, constants, sizes."""

    call: ScanCall
    arguments: dict[str, Tensor | int]
    constants: dict[str, Any]
    compute: torch.dtype
    tiles: int
    blocks: int
    segments: int
    registers: dict[Any, int | None]

    @property
    def programs(self) -> int:
        """One per (batch, segment, direction, channel tile)."""
        return self.chains * self.tiles

    @property
    def chains(self) -> int:
        """Walks of a segment: batch x segments x directions."""
        return self.call.u.shape[0] * self.segments * self.call.A.shape[0]

    def empty(self, *shape: int) -> Tensor:
        """Uninitialised memory in the compute dtype."""
        return torch.empty(shape, dtype=self.compute, device=self.call.u.device)

    def launch(
        self, function: Any, programs: int, tensors: dict[str, Tensor | int], **constants: Any
    ) -> Launch:
        """A launch of `function` with those of the common arguments and constants that it takes."""
        names = set(function.arg_names)
        arguments = {key: value for key, value in self.arguments.items() if key in names}
        shared = {key: value for key, value in self.constants.items() if key in names}
        registers = self.registers.get(function)
        return Launch(function, programs, arguments | tensors, shared | constants, registers=registers)


def multiprocessors(device: torch.device) -> int:
    """Of the device; of an H100 where there is none to ask."""
    if device.type != "cuda":
        return 132
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def choose_segments(programs: int, blocks: int, device: torch.device) -> int:
    """How many pieces to split a sequence of `blocks` blocks into, for `programs` programs unsplit.

    Splitting doubles the work, so it pays only where the unsplit walk leaves most of the card idle: aim at
    eight programs (warps) per multiprocessor, and split at least in four or not at all.
    """
    segments = min(blocks, -(-8 * multiprocessors(device) // max(programs, 1)))
    return segments if segments >= 4 else 1


def backward_registers(programs: int, device: torch.device) -> int | None:
    """168, for 12 warps on a multiprocessor, where that saves enough waves; None for 8 warps without spills.

    A wave of 12 warps was measured to take 1.6 to 1.9 times as long as one of 8 (H200).
    """
    eight, twelve = (-(-programs // (warps * multiprocessors(device))) for warps in (8, 12))
    return 168 if 1.7 * twelve < eight else None


def make_plan(call: ScanCall, tuning: Tuning) -> Plan:
    """Strides, dummies for absent tensors, constants and sizes of a call."""
    directions, dim, states = call.A.shape
    batch, blocks = call.u.shape[0], max(1, -(-call.steps // tuning.block))
    check_extent(max(call.u.shape[2], call.image_length, call.steps), dim)
    compute = call.compute_dtype
    rank = 0 if call.delta_weight is None else call.delta_weight.shape[2]
    states_pad = max(2, triton.next_power_of_2(states))
    widest = 64 if states_pad <= 16 else 32
    tile = tuning.tile or min(widest, max(32, triton.next_power_of_2(dim)))
    tiles = -(-dim // tile)
    segments = tuning.segments or choose_segments(batch * directions * tiles, blocks, call.u.device)
    segment_blocks = -(-blocks // segments)
    segments = -(-blocks // segment_blocks)

    u, delta = addressable(call.u), addressable(call.delta)
    B, C = addressable(call.B), addressable(call.C)
    z = u if call.z is None else addressable(call.z)
    weight, parts = split_weight(call, tile, compute)
    dummy = call.A  # stands for absent tensors: its pointer is never followed
    lengths = lengths_on(call.lengths, u.device)

    def dense(tensor: Tensor | None) -> Tensor:
        return dummy if tensor is None else tensor.contiguous()

    arguments: dict[str, Tensor | int] = {
        "u": u, "delta": delta, "weight": dense(weight),
        "A": prepared(
            call.A, compute, lambda: (call.A.to(compute) * LOG2E).transpose(1, 2).contiguous()
        ),
        "B": B, "C": C, "D": dense(call.D), "z": z, "bias": dense(call.delta_bias),
        "read": lengths if call.read_order is None else call.read_order.contiguous(),
        "write": lengths if call.write_order is None else call.write_order.contiguous(),
        "lengths": lengths,
        "u_batch": u.stride(0), "u_direction": u.stride(1) if u.shape[1] > 1 else 0, "u_row": u.stride(2),
        "delta_batch": delta.stride(0), "delta_direction": delta.stride(1), "delta_row": delta.stride(2),
        "B_batch": B.stride(0), "B_direction": B.stride(1), "B_row": B.stride(2),
        "C_batch": C.stride(0), "C_direction": C.stride(1), "C_row": C.stride(2),
        "z_batch": z.stride(0), "z_row": z.stride(-2),
        "directions": directions, "dim": dim, "rank": rank, "steps": call.steps, "positions": call.image_length,
        "rows_total": call.u.shape[2], "blocks": blocks, "segments": segments,
        "segment_blocks": segment_blocks,
    }  # fmt: skip
    gated = call.z is not None
    ahead = gated if tuning.ahead is None else tuning.ahead
    again = tuning.again or (2 if gated else 4)
    constants = {
        "COMPUTE": triton_dtype(compute), "STATES": states, "STATES_PAD": states_pad,
        "LOW_RANK": rank > 0, "SPLIT": parts,
        "UNROLL": tuning.unroll, "GROUP": tuning.group, "AHEAD": ahead, "AGAIN": again,
        "TILE": tile, "EVEN": dim % tile == 0, "BLOCK": tuning.block, "SOFTPLUS": call.delta_softplus,
        "HAS_BIAS": call.delta_bias is not None, "HAS_D": call.D is not None, "HAS_Z": call.z is not None,
        "HAS_READ": call.read_order is not None, "HAS_WRITE": call.write_order is not None,
    }  # fmt: skip
    registers: dict[Any, int | None] = {
        scan_forward: tuning.forward_registers,
        scan_backward: tuning.backward_registers,
    }
    if compute == torch.float32 and tile == 64:
        programs = batch * segments * directions * tiles
        registers[scan_forward] = tuning.forward_registers or 168
        registers[scan_backward] = tuning.backward_registers or backward_registers(programs, call.u.device)
    return Plan(call, arguments, constants, compute, tiles, blocks, segments, registers)


def saved_shape(call: ScanCall) -> tuple[int, ...]:
    """[batch, directions, blocks, states, dim] of the states that a forward keeps for the backward."""
    directions, dim, states = call.A.shape
    return call.u.shape[0], directions, max(1, -(-call.steps // Tuning().block)), states, dim


def split_weight(call: ScanCall, tile: int, compute: torch.dtype) -> tuple[Tensor | None, int]:
    """The weight of low-rank delta as `project` wants it, and into how many parts each entry is split.

    [directions, channel tiles, rank / 16, parts, 16, tile], padded with zeros.
    """
    weight = call.delta_weight
    if weight is None:
        return None, 1
    kind = (tile, compute, call.delta.dtype)
    made: tuple[Tensor, int] = prepared(weight, kind, lambda: _split(weight, *kind))
    return made


def _split(weight: Tensor, tile: int, compute: torch.dtype, low: torch.dtype) -> tuple[Tensor, int]:
    _, dim, rank = weight.shape
    padded = F.pad(weight, (0, -rank % 16, 0, -dim % tile))
    cut = padded.unflatten(2, (-1, 16)).unflatten(1, (-1, tile)).permute(0, 1, 3, 4, 2)
    if compute == torch.float64 or low not in (torch.bfloat16, torch.float16):
        return cut.contiguous(), 1
    rest = cut.float()
    if low == torch.float16:
        exact = (rest.view(torch.int32) & -(1 << 13)).view(torch.float32)  # what tf32 holds
        return torch.stack((exact, rest - exact), 3), 2
    parts = []
    for _ in range(3):
        parts.append(rest.bfloat16())
        rest = rest - parts[-1]
    return torch.stack(parts, 3), 3


def plan_forward(
    call: ScanCall, save: bool, tuning: Tuning | None = None
) -> tuple[list[Launch], Tensor, Tensor | None]:
    """The launches of a forward, its y, and (`save`) the states [batch, directions, blocks, states, dim]."""
    plan = make_plan(call, tuning or Tuning())
    directions, dim, states = call.A.shape
    batch = call.u.shape[0]
    complete = covers(call.write_order, call.lengths, call.image_length)
    y = output((batch, directions, call.image_length, dim), call.u, call.u.dtype, complete)
    saved = plan.empty(batch, directions, plan.blocks, states, dim) if save else None
    low_rank = call.delta_weight is not None
    scratch = plan.empty(plan.programs * STEPS.value * plan.constants["TILE"] if low_rank else 0)
    tensors: dict[str, Tensor | int] = {
        "y": y,
        "checkpoints": scratch if saved is None else saved,
        "scratch": scratch,
        "stage": plan.empty(plan.programs * 2 * STEPS.value * plan.constants["STATES_PAD"]),
        "starts": scratch,
        "ends": scratch,
        "totals": scratch,
    }
    launches = []
    if plan.segments > 1:
        tensors["starts"] = plan.empty(plan.chains, states, dim)
        tensors["ends"] = plan.empty(plan.chains, states, dim)
        tensors["totals"] = plan.empty(plan.chains, dim)
        launches += [
            plan.launch(
                scan_forward, plan.programs, tensors, CHECKPOINT=False, FROM_STARTS=False, SUMMARY=True
            ),
            chain_launch(plan, tensors, reverse=False),
        ]
    launches.append(
        plan.launch(
            scan_forward,
            plan.programs,
            tensors,
            CHECKPOINT=save,
            FROM_STARTS=plan.segments > 1,
            SUMMARY=False,
        )
    )
    return launches, y, saved


def chain_launch(plan: Plan, tensors: dict[str, Tensor | int], reverse: bool) -> Launch:
    """The launch that turns the segments' ends into their starts."""
    links = {name: tensors[name] for name in ("ends", "totals", "starts")}
    return plan.launch(chain_segments, plan.programs // plan.segments, links, REVERSE=reverse)


def plan_backward(
    call: ScanCall, saved: Tensor, dy: Tensor, tuning: Tuning | None = None
) -> tuple[list[Launch], dict[str, Tensor], Plan]:
    """The launches of a backward and the partial gradients that they fill, by name; see `finish`."""
    plan = make_plan(call, tuning or Tuning())
    directions, dim, states = call.A.shape
    batch, rows = call.u.shape[0], call.u.shape[2]
    all_rows = covers(call.read_order, call.lengths, rows)
    all_places = covers(call.write_order, call.lengths, call.image_length)
    low_rank = call.delta_weight is not None
    tile, block = plan.constants["TILE"], plan.constants["BLOCK"]
    dy = addressable(dy)

    def make(*shape: int, dtype: torch.dtype, complete: bool) -> Tensor:
        return output(shape, call.u, dtype, complete)

    per_row, per_chain = (batch, directions, rows, dim), (batch, plan.segments, directions)
    partial = {
        "du": make(*per_row, dtype=call.u.dtype, complete=all_rows),
        "ddelta": make(*per_row, dtype=call.delta.dtype, complete=all_rows),
        "dA": make(*per_chain, states, dim, dtype=plan.compute, complete=False),
        "dB": make(batch, directions, rows, states, dtype=call.B.dtype, complete=all_rows),
        "dC": make(batch, directions, rows, states, dtype=call.C.dtype, complete=all_rows),
        "dD": plan.empty(*per_chain, dim),
        "dbias": plan.empty(*per_chain, dim),
    }
    if call.z is not None:
        shape = (batch, directions, call.image_length, dim)
        partial["dz"] = make(*shape, dtype=call.z.dtype, complete=all_places)
    tiled = plan.tiles, batch * directions, states, call.steps
    tensors: dict[str, Tensor | int] = {
        **partial,
        "dz": partial.get("dz", partial["du"]),
        "dBC": plan.empty(2, *tiled),
        "dy": dy, "dy_batch": dy.stride(0), "dy_direction": dy.stride(1), "dy_row": dy.stride(2),
        "checkpoints": saved,
        "scratch": plan.empty(plan.programs * block * tile if low_rank else 0),
        "memory": plan.empty(plan.programs * (block // CHUNK.value) * states * tile),
        "stage": plan.empty(plan.programs * 2 * plan.constants["STATES_PAD"] * CHUNK.value),
        "carries": make(*per_chain, states, dim, dtype=plan.compute, complete=plan.segments > 1),
    }  # fmt: skip
    launches = []
    if plan.segments > 1:
        links: dict[str, Tensor | int] = {
            "ends": plan.empty(plan.chains, states, dim),
            "totals": plan.empty(plan.chains, dim),
            "starts": tensors["carries"],
        }
        launches += [
            plan.launch(scan_adjoint_summary, plan.programs, only(links | tensors, scan_adjoint_summary)),
            chain_launch(plan, links, reverse=True),
        ]
    launches.append(plan.launch(scan_backward, plan.programs, only(tensors, scan_backward)))
    lanes = batch * directions
    for half, name in enumerate(("dB", "dC")):
        reduction: dict[str, Tensor | int] = {
            "parts": tensors["dBC"],
            "first": half * plan.tiles,
            "result": partial[name],
            "lanes": lanes,
            "tiles": plan.tiles,
        }
        programs = lanes * -(-call.steps // TIMES.value)
        launches.append(plan.launch(reduce_tiles, programs, reduction))
    return launches, partial, plan


def only(tensors: dict[str, Tensor | int], function: Any) -> dict[str, Tensor | int]:
    """Those entries that `function` takes."""
    return {name: value for name, value in tensors.items() if name in function.arg_names}


def finish(call: ScanCall, partial: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """The gradients of the call's tensors, by the call's names, from the kernels' partial sums."""
    with torch.autocast(call.u.device.type, enabled=False):
        du, ddelta, dweight = partial["du"], partial["ddelta"], None
        if call.u.shape[1] == 1:
            du = du.sum(1, keepdim=True)
        if call.delta_weight is not None:
            low, weight = call.delta, call.delta_weight
            # per batch element and direction, summed after: a fixed order and no permuted copies
            dweight = torch.matmul(ddelta.transpose(2, 3), low).sum(0, dtype=partial["dA"].dtype)
            ddelta = torch.matmul(ddelta, weight.to(ddelta.dtype))
            dweight = dweight.to(weight.dtype)

        def summed(name: str, axes: tuple[int, ...], like: Tensor | None) -> Tensor | None:
            return None if like is None else partial[name].sum(axes).to(like.dtype)

        return {
            "u": du,
            "delta": ddelta,
            "delta_weight": dweight,
            "A": partial["dA"].sum((0, 1)).transpose(1, 2).to(call.A.dtype).contiguous(),
            "B": partial["dB"],
            "C": partial["dC"],
            "D": summed("dD", (0, 1), call.D),
            "z": summed("dz", (1,), call.z),
            "delta_bias": summed("dbias", (0, 1), call.delta_bias),
        }
