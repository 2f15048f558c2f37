"""How branches [batch, directions, length, dim] become one, fused on the CPU and plain torch elsewhere.

The fused form serves contiguous float32 and float64 tensors on the CPU whose `dim` is a whole number of vectors,
where the `cpu` backend is chosen. Asked for gradients of gradients, or traced by a compiler, it steps aside for the
plain form, which is also the definition.
"""

import threading
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch_kernels import backends, threads
from scansearch_kernels.cpu_layout import LANES

EPSILON = 1e-5
ITEMS = 32  # pieces that work is cut into where the shapes allow
_compiled: dict[str, Any] = {}
_lock = threading.Lock()


def branch_means(y: Tensor) -> Tensor:
    """Mean over tokens of the LayerNorm (without parameters) of every token: [batch, directions, dim]."""
    return _Means.apply(y) if _fused(y) else branch_means_plain(y)


def branch_sum(y: Tensor, channel: Tensor | None = None, gates: Tensor | None = None) -> Tensor:
    """Sum over directions of ``y`` times ``channel``; with ``gates`` each is normalised first, then gated.

    Args:
        y: [batch, directions, length, dim].
        channel: [batch, directions, dim] or None for ones.
        gates: [directions], for gate * LayerNorm(y * channel) without parameters; None for a plain sum.

    Returns:
        [batch, length, dim].
    """
    if gates is not None:
        gates = gates.to(y.dtype)
    same = all(
        tensor is None or (tensor.dtype == y.dtype and tensor.device == y.device)
        for tensor in (channel, gates)
    )
    return _Sum.apply(y, channel, gates) if same and _fused(y) else branch_sum_plain(y, channel, gates)


def branch_means_plain(y: Tensor) -> Tensor:
    """`branch_means` in plain torch."""
    return F.layer_norm(y, y.shape[-1:], eps=EPSILON).mean(dim=2)


def branch_sum_plain(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> Tensor:
    """`branch_sum` in plain torch."""
    if channel is not None:
        y = y * channel.unsqueeze(2)
    if gates is None:
        return y.sum(dim=1)
    y = F.layer_norm(y, y.shape[-1:], eps=EPSILON)
    # As a batched product; torch.matmul of a vector would copy the branches.
    rows = torch.bmm(gates.expand(len(y), 1, -1), y.flatten(2))
    return rows.unflatten(-1, y.shape[2:]).squeeze(1)


def _fused(y: Tensor) -> bool:
    lanes = LANES.get(y.dtype)
    return (
        type(y) is Tensor
        and y.device.type == "cpu"
        and lanes is not None
        and y.dim() == 4
        and y.shape[3] % lanes == 0
        and y.numel() > 0
        and y.is_contiguous()
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(y)
        and backends.pick(None, "cpu") == "cpu"
    )


class _Means(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        out = y.new_empty(y.shape[0], y.shape[1], y.shape[3])
        _run("means_forward", y, y.shape[0] * y.shape[1], out=out)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return torch.autograd.grad(branch_means_plain(y), y, dout, create_graph=True)[0]
        dy = torch.empty_like(y)
        _run("means_backward", y, y.shape[0] * y.shape[1], dout=dout.contiguous(), dy=dy)
        return dy


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, channel: Tensor | None, gates: Tensor | None) -> Tensor:
        ctx.save_for_backward(y, channel, gates)
        batch, _, length, dim = y.shape
        out = y.new_empty(batch, length, dim)
        parts = min(length, max(1, -(-ITEMS // batch)))
        _run("sum_forward", y, batch * parts, channel, gates, parts=parts, out=out)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        y, channel, gates = ctx.saved_tensors
        if torch.is_grad_enabled():
            present = [
                tensor for tensor in (y, channel, gates) if tensor is not None and tensor.requires_grad
            ]
            found = torch.autograd.grad(branch_sum_plain(y, channel, gates), present, dout, create_graph=True)
            graded = {id(tensor): grad for tensor, grad in zip(present, found, strict=True)}
            return tuple(graded.get(id(tensor)) for tensor in (y, channel, gates))
        batch, directions, _, dim = y.shape
        dy, dchannel = torch.empty_like(y), y.new_empty(batch, directions, dim)
        dgates = y.new_empty(batch, directions)
        _run(
            "sum_backward", y, batch * directions, channel, gates,
            dout=dout.contiguous(), dy=dy, dchannel=dchannel, dgates=dgates,
        )  # fmt: skip
        return dy, None if channel is None else dchannel, None if gates is None else dgates.sum(0)


def _run(
    name: str,
    y: Tensor,
    items: int,
    channel: Tensor | None = None,
    gates: Tensor | None = None,
    *,
    parts: int = 1,
    **outputs: Tensor,
) -> None:
    from scansearch_kernels import cpu_merge

    _, directions, length, dim = y.shape
    numbers = torch.ones(cpu_merge.ONES + dim, dtype=y.dtype)
    numbers[: cpu_merge.ONES] = torch.tensor([1 / dim, 1 / length, EPSILON], dtype=y.dtype)
    fields = np.zeros(cpu_merge.FIELDS, dtype=np.int64)
    sizes = {"items": items, "parts": parts, "directions": directions, "length": length, "dim": dim}
    sizes["normalised"] = int(gates is not None)
    tensors = {"y": y, "channel": channel, "gates": gates, "numbers": numbers, **outputs}
    kept = {key: tensor.detach().contiguous() for key, tensor in tensors.items() if tensor is not None}
    for key, value in (sizes | {key: tensor.data_ptr() for key, tensor in kept.items()}).items():
        fields[getattr(cpu_merge, key.upper())] = value
    threads.run(_native(name, y.dtype), fields.ctypes.data, threads.threads_for(items, y.numel()))


def _native(name: str, dtype: torch.dtype) -> int:
    from scansearch_kernels import compiled, cpu_merge

    full = f"{name}_{'double' if dtype == torch.float64 else 'single'}"
    if full not in _compiled:
        with _lock:
            if full not in _compiled:
                _compiled[full] = compiled._compile(getattr(cpu_merge, full))
    address: int = _compiled[full].address
    return address
