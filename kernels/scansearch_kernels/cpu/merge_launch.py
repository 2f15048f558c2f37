"""Calls the CPU kernels that merge branches: addresses, sizes, threads, outputs.

They serve contiguous float32 and float64 tensors, all of one dtype, whose `dim` is a whole number of vectors.
"""

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scansearch_kernels.calls import EPSILON
from scansearch_kernels.cpu import threads
from scansearch_kernels.cpu.layout import LANES

ITEMS = 32  # pieces that work is cut into where the shapes allow
_compiled: dict[str, Any] = {}
_lock = threading.Lock()


def serves(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> bool:
    """Whether the kernels take these tensors; gates may come in any dtype."""
    lanes = LANES.get(y.dtype)
    return (
        y.device.type == "cpu"
        and lanes is not None
        and y.shape[3] % lanes == 0
        and y.is_contiguous()
        and (channel is None or channel.dtype == y.dtype)
    )


def means_forward(y: Tensor) -> Tensor:
    """[batch, directions, dim]."""
    out = y.new_empty(y.shape[0], y.shape[1], y.shape[3])
    _run("means_forward", y, y.shape[0] * y.shape[1], out=out)
    return out


def means_backward(y: Tensor, dout: Tensor) -> Tensor:
    """dy, like y."""
    dy = torch.empty_like(y)
    _run("means_backward", y, y.shape[0] * y.shape[1], dout=dout.contiguous(), dy=dy)
    return dy


def sum_forward(y: Tensor, channel: Tensor | None, gates: Tensor | None) -> Tensor:
    """[batch, length, dim]."""
    batch, _, length, dim = y.shape
    out = y.new_empty(batch, length, dim)
    parts = min(length, max(1, -(-ITEMS // batch)))
    _run("sum_forward", y, batch * parts, channel, gates, parts=parts, out=out)
    return out


def sum_backward(
    y: Tensor, channel: Tensor | None, gates: Tensor | None, dout: Tensor
) -> tuple[Tensor | None, ...]:
    """dy, dchannel and dgates; None for what is absent."""
    batch, directions, _, dim = y.shape
    dy, dchannel = torch.empty_like(y), y.new_empty(batch, directions, dim)
    dgates = y.new_empty(batch, directions)
    _run(
        "sum_backward", y, batch * directions, channel, gates,
        dout=dout.contiguous(), dy=dy, dchannel=dchannel, dgates=dgates,
    )  # fmt: skip
    return (
        dy,
        None if channel is None else dchannel,
        None if gates is None else dgates.sum(0).to(gates.dtype),
    )


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
    from scansearch_kernels.cpu import merge as cpu_merge

    _, directions, length, dim = y.shape
    numbers = torch.ones(cpu_merge.ONES + dim, dtype=y.dtype)
    numbers[: cpu_merge.ONES] = torch.tensor([1 / dim, 1 / length, EPSILON], dtype=y.dtype)
    fields = np.zeros(cpu_merge.FIELDS, dtype=np.int64)
    sizes = {"items": items, "parts": parts, "directions": directions, "length": length, "dim": dim}
    sizes["normalised"] = int(gates is not None)
    gates = None if gates is None else gates.to(y.dtype)
    tensors = {"y": y, "channel": channel, "gates": gates, "numbers": numbers, **outputs}
    kept = {key: tensor.detach().contiguous() for key, tensor in tensors.items() if tensor is not None}
    for key, value in (sizes | {key: tensor.data_ptr() for key, tensor in kept.items()}).items():
        fields[getattr(cpu_merge, key.upper())] = value
    threads.run(_native(name, y.dtype), fields.ctypes.data, threads.threads_for(items, y.numel()))


def _native(name: str, dtype: torch.dtype) -> int:
    from scansearch_kernels.cpu import compiled
    from scansearch_kernels.cpu import merge as cpu_merge

    full = f"{name}_{'double' if dtype == torch.float64 else 'single'}"
    if full not in _compiled:
        with _lock:
            if full not in _compiled:
                _compiled[full] = compiled.compile_kept(getattr(cpu_merge, full))
    address: int = _compiled[full].address
    return address
