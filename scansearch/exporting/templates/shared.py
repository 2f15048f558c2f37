"""What both families share: scan orders, the selective scan, the merge of the branches."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

try:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn as mamba_scan
except ImportError:
    mamba_scan = None

# Orders of directions other than h, v, w<K>, by (name, height, width): token of each step, -1 a zero row.
ORDERS: dict[tuple[str, int, int], list[int]] = {}
EPSILON = 1e-5
CHUNK = 8  # steps of the scan in plain torch whose states are held at a time
BLOCK = 16  # steps that the log-depth scan joins before it joins blocks

_kept: dict[Hashable, tuple[Tensor, ...]] = {}


def kept(key: Hashable, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """``make()``, computed once per key; not kept while tracing, whose stand-ins must not outlive it."""
    if torch.compiler.is_compiling():
        return _kept[key] if key in _kept else make()
    if key not in _kept:
        with torch.inference_mode(False):
            _kept[key] = make()
    return _kept[key]


# --- scan orders ---


def scan_order(direction: str, height: int, width: int, padding: str) -> list[int]:
    """Row-major index of the token at each step of a scan; -1 is a row of zeros that fills a ragged window.

    ``padding`` is "zero", or "skip" to leave those rows out. An unknown direction or grid is a ValueError.
    """
    name = direction.removesuffix("_flip")
    if name == "h":
        order = list(range(height * width))
    elif name == "v":
        order = [row * width + column for column in range(width) for row in range(height)]
    elif re.fullmatch(r"w\d+", name):
        size = int(name[1:])
        order = [
            row * width + column if row < height and column < width else -1
            for top in range(0, height, size)
            for left in range(0, width, size)
            for row in range(top, top + size)
            for column in range(left, left + size)
        ]
    elif (name, height, width) in ORDERS:
        order = ORDERS[name, height, width]
    else:
        grids = [f"{rows}x{columns}" for known, rows, columns in ORDERS if known == name]
        raise ValueError(
            f"no order of direction {name!r} on {height}x{width} tokens (there are: {grids or 'none'})"
        )
    if padding == "skip":
        order = [token for token in order if token >= 0]
    return order[::-1] if direction.endswith("_flip") else order


def scan_tables(
    directions: Sequence[str], height: int, width: int, padding: str, class_token: bool
) -> tuple[Tensor, Tensor]:
    """Indices that gather tokens into scan order, and outputs back into image order.

    Returns:
        [directions, steps]: rows of the image (length of the image = a row of zeros), short scans filled up;
        [directions, length]: the step at which each image position is visited.
    """
    length = height * width + class_token
    middle = height * width // 2
    orders = []
    for direction in directions:
        order = scan_order(direction, height, width, padding)
        if class_token:  # one more token, visited at the same step of every scan
            order = [token + 1 if token >= middle else token for token in order]
            order.insert(middle, middle)
        orders.append(order)
    steps = max(len(order) for order in orders)
    read = torch.full((len(orders), steps), length)
    back = torch.empty(len(orders), length, dtype=torch.long)
    for index, order in enumerate(orders):
        tokens = torch.tensor(order)
        read[index, : len(order)] = torch.where(tokens < 0, length, tokens)
        back[index, tokens[tokens >= 0]] = torch.arange(len(order))[tokens >= 0]
    return read, back


# --- the selective scan ---


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t (Mamba, arXiv 2312.00752, algorithm 2).

    u and delta [batch, directions, steps, dim], A [directions, states, dim], B and C
    [batch, directions, steps, states]; y is like u. Computed in float32, or float64 where u is.
    """
    if torch.is_autocast_enabled(u.device.type):
        with torch.autocast(u.device.type, enabled=False):
            return selective_scan(*(x.float() for x in (u, delta, A, B, C)))
    if torch.compiler.is_compiling():
        return scan_log_depth(u, delta, A, B, C)
    if u.is_cuda and mamba_scan is not None:
        return scan_mamba(u, delta, A, B, C)
    return scan_chunked(u, delta, A, B, C)


def scan_chunked(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Step by step; states are held for one chunk at a time, and computed again in the backward pass."""
    y: Tensor = ChunkedScan.apply(u, delta, A, B, C)
    return y


class ChunkedScan(torch.autograd.Function):
    """The scan forwards, and its adjoint backwards: g_t = C_t dy_t + exp(delta_{t+1} A) g_{t+1}."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        u, delta, B, C = (steps_first(inputs[index]) for index in (0, 1, 3, 4))
        A = inputs[2]
        state = u.new_zeros(u.shape[1], *A.shape)
        outputs, starts = [], []
        for chunk in zip(*(x.split(CHUNK) for x in (u, delta, B, C)), strict=True):
            starts.append(state)
            states, _ = chunk_states(state, A, *chunk[:3])
            outputs.append(torch.matmul(chunk[3].unsqueeze(3), states).squeeze(3))
            state = states[-1].clone()
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(u, delta, A, B, C, *starts)
        return steps_third(torch.cat(outputs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, *starts = ctx.saved_tensors
        du, ddelta, dA, dB, dC = (torch.zeros_like(x) for x in (u, delta, A, B, C))
        later = torch.zeros_like(starts[0])  # exp(delta_{t+1} A) g_{t+1} of the step after the chunk
        parts = [x.split(CHUNK) for x in (u, delta, B, C, steps_first(gradient), du, ddelta, dB, dC)]
        for start, *chunk in reversed(list(zip(starts, *parts, strict=True))):
            u, delta, B, C, dy, du_chunk, ddelta_chunk, dB_chunk, dC_chunk = chunk
            states, decay = chunk_states(start, A, u, delta, B)
            dC_chunk.copy_(torch.matmul(states, dy.unsqueeze(4)).squeeze(4))
            g = C.unsqueeze(4) * dy.unsqueeze(3)
            g[-1] += later
            for t in reversed(range(len(g) - 1)):
                g[t].addcmul_(decay[t + 1], g[t + 1])
            later = decay[0] * g[0]
            dB_chunk.copy_(torch.matmul(g, (delta * u).unsqueeze(4)).squeeze(4))
            inflow = torch.matmul(B.unsqueeze(3), g).squeeze(3)
            du_chunk.copy_(inflow * delta)
            exponent = g.mul_(decay)  # becomes the gradient of delta_t A
            exponent[1:] *= states[:-1]
            exponent[0] *= start
            ddelta_chunk.copy_(inflow * u + (exponent * A).sum(3))
            dA += (exponent * delta.unsqueeze(3)).sum((0, 1))
        du, ddelta, dB, dC = (steps_third(x) for x in (du, ddelta, dB, dC))
        return du, ddelta, dA, dB, dC


def chunk_states(start: Tensor, A: Tensor, u: Tensor, delta: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """States after each step of one chunk that begins in state ``start``, and their decay exp(delta_t A)."""
    decay = torch.exp(delta.unsqueeze(3) * A)
    states = (delta * u).unsqueeze(3) * B.unsqueeze(4)
    state = start
    for added, kept_share in zip(states, decay, strict=True):
        state = added.addcmul_(kept_share, state)
    return states, decay


def steps_first(x: Tensor) -> Tensor:
    return x.permute(2, 0, 1, 3).contiguous()


def steps_third(x: Tensor) -> Tensor:
    return x.permute(1, 2, 0, 3).contiguous()


def scan_log_depth(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """All steps at once, in few operations: prefixes within blocks, then over the ends of the blocks."""
    decay = torch.exp(delta.unsqueeze(3) * A.unsqueeze(1))
    inflow = (delta * u).unsqueeze(3) * B.unsqueeze(-1)
    steps = u.shape[2]
    blocks = math.ceil(steps / BLOCK)
    fill = (0, 0, 0, 0, 0, blocks * BLOCK - steps)
    decay = F.pad(decay, fill, value=1.0).unflatten(2, (blocks, BLOCK))
    inflow = F.pad(inflow, fill).unflatten(2, (blocks, BLOCK))
    decay, inflow = _prefixes(decay, inflow, axis=3)
    _, carried = _prefixes(decay[:, :, :, -1], inflow[:, :, :, -1], axis=2)
    before = F.pad(carried[:, :, :-1], (0, 0, 0, 0, 1, 0)).unsqueeze(3)
    states = (inflow + decay * before).flatten(2, 3)[:, :, :steps]
    return torch.matmul(C.unsqueeze(3), states).squeeze(3)


def _prefixes(decay: Tensor, inflow: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Products of ``decay`` and states from zero, up to each index of ``axis`` (Hillis and Steele, 1986)."""
    length, reach = decay.shape[axis], 1
    while reach < length:
        start = (0, 0) * (decay.ndim - 1 - axis) + (reach, 0)
        earlier = [x.narrow(axis, 0, length - reach) for x in (decay, inflow)]
        inflow = inflow + decay * F.pad(earlier[1], start)
        decay = decay * F.pad(earlier[0], start, value=1.0)
        reach *= 2
    return decay, inflow


def scan_mamba(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The same by mamba-ssm's CUDA kernel: channels first, directions as its groups."""
    directions = A.shape[0]
    first = [x.transpose(2, 3).contiguous() for x in (u, delta, B, C)]
    y = mamba_scan(
        first[0].flatten(1, 2),
        first[1].flatten(1, 2),
        A.transpose(1, 2).flatten(0, 1).contiguous(),
        *first[2:],
    )
    return y.unflatten(1, (directions, -1)).transpose(2, 3)


# --- from branches to one ---


class BranchAttention(nn.Module):
    """The gate that a branch computes from itself, per channel and with ``spatial`` also per token."""

    def __init__(self, dim: int, spatial: bool) -> None:
        super().__init__()
        reduced = dim // 8
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.global_reduce = nn.Linear(dim, reduced)
        self.channel_select = nn.Linear(reduced, dim)
        self.local_reduce = nn.Linear(dim, reduced) if spatial else None
        self.spatial_select = nn.Linear(2 * reduced, 1) if spatial else None

    def forward(self, y: Tensor) -> Tensor:
        """``y`` [batch, directions, length, dim] times its gate."""
        normed = self.norm(y)
        pooled = F.gelu(self.global_reduce(normed.mean(dim=2, keepdim=True)))
        gate = torch.sigmoid(self.channel_select(pooled))
        if self.local_reduce is not None and self.spatial_select is not None:
            local = F.gelu(self.local_reduce(normed))
            both = torch.cat([local, pooled.expand_as(local)], dim=-1)
            gate = gate * torch.sigmoid(self.spatial_select(both))
        return y * gate


class BranchMerge(nn.Module):
    """Branches [batch, directions, length, dim] -> their gated sum or mean [batch, length, dim]."""

    def __init__(self, dim: int, attention: str, merge: str) -> None:
        super().__init__()
        self.merge = merge
        self.attention = None if attention == "none" else BranchAttention(dim, attention == "channel+spatial")

    def forward(self, y: Tensor) -> Tensor:
        if self.attention is not None:
            y = self.attention(y)
        return y.sum(dim=1) if self.merge == "sum" else y.mean(dim=1)


class DirectionalSSM(nn.Module):
    """The parameters of one selective scan per direction, stacked [directions, ...]."""

    def __init__(
        self,
        directions: Sequence[str],
        *,
        dim: int,
        states: int,
        dt_rank: int,
        window_padding: str,
        branch_attention: str,
        merge: str,
    ) -> None:
        super().__init__()
        self.directions = tuple(directions)
        self.window_padding = window_padding
        self.split_sizes = (dt_rank, states, states)
        count = len(self.directions)
        self.x_proj_weight = nn.Parameter(torch.empty(count, dt_rank + 2 * states, dim))
        self.dt_weight = nn.Parameter(torch.empty(count, dim, dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(count, dim))
        self.A_log = nn.Parameter(torch.empty(count, dim, states))
        self.D = nn.Parameter(torch.empty(count, dim))
        self.merge = BranchMerge(dim, branch_attention, merge)

    def tables(
        self, height: int, width: int, class_token: bool, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        grid = (self.directions, height, width, self.window_padding, class_token)
        read, back = kept((*grid, device), lambda: tuple(table.to(device) for table in scan_tables(*grid)))
        return read, back

    def scan(self, u: Tensor, back: Tensor) -> Tensor:
        """Scan ``u`` [batch, directions, steps, dim]; the result is in image order."""
        projected = torch.matmul(u, self.x_proj_weight.transpose(1, 2))
        low, B, C = projected.split(self.split_sizes, dim=-1)
        delta = F.softplus(torch.matmul(low, self.dt_weight.transpose(1, 2)) + self.dt_bias.unsqueeze(1))
        y = selective_scan(u, delta, -torch.exp(self.A_log).transpose(1, 2), B, C)
        y = y + self.D.unsqueeze(1) * u
        steps = torch.arange(u.shape[1], device=u.device).unsqueeze(1) * u.shape[2]
        return y.flatten(1, 2).index_select(1, (back + steps).flatten()).unflatten(1, back.shape)

    def init_linear(self) -> None:
        """Truncated normal weights of deviation 0.02 and zero biases in every linear layer."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def init_scan(self, dt_init: str) -> None:
        """Initial A, D and time steps: Mamba's, or those that the "released" LocalVim starts from."""
        with torch.no_grad():
            states = torch.arange(1, self.A_log.shape[-1] + 1, dtype=self.A_log.dtype)
            self.A_log.copy_(states.log().expand_as(self.A_log))
            self.D.fill_(1.0)
            if dt_init == "released":
                nn.init.trunc_normal_(self.dt_weight, std=0.02)
                self.dt_bias.zero_()
                return
            bound = self.dt_weight.shape[-1] ** -0.5
            self.dt_weight.uniform_(-bound, bound)
            step = torch.empty_like(self.dt_bias).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            self.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus


def rows_in_order(x: Tensor, read: Tensor) -> Tensor:
    """Tokens [batch, length, dim] in the order of each scan: [batch, directions, steps, dim]."""
    return F.pad(x, (0, 0, 0, 1)).index_select(1, read.flatten()).unflatten(1, read.shape)


class DropPath(nn.Module):
    """Drops a residual branch for whole samples, and scales up the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = x.new_empty(x.shape[0], *(1,) * (x.ndim - 1)).bernoulli_(1.0 - self.rate)
        return x * keep / (1.0 - self.rate)


def rising_rates(last: float, count: int) -> list[float]:
    """``count`` rates that rise linearly from 0 to ``last``."""
    return [last * index / max(count - 1, 1) for index in range(count)]


def linear_head(features: int, classes: int) -> nn.Module:
    if classes == 0:
        return nn.Identity()
    head = nn.Linear(features, classes)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def sides_of(img_size: Any) -> tuple[int, int]:
    return (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
