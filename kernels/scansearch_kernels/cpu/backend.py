"""The `cpu` backend: Numba kernels behind the registered operations. Numba is imported at the first call."""

import importlib
import importlib.util
from typing import Any

from torch import Tensor

from scansearch_kernels import ops
from scansearch_kernels.calls import ConvCall, ScanCall


def available() -> None:
    """Raise ImportError if Numba is missing."""
    if importlib.util.find_spec("numba") is None:
        raise ImportError("Numba is not installed (pip install numba)")


def selective_scan(call: ScanCall) -> Tensor:
    """The registered scan; RuntimeError for tensors elsewhere than on the CPU."""
    _on_cpu(call.u)
    return ops.selective_scan(call)


def causal_conv(call: ConvCall) -> Tensor:
    """The registered convolution; RuntimeError for tensors elsewhere than on the CPU."""
    _on_cpu(call.x)
    return ops.causal_conv(call)


def _on_cpu(tensor: Tensor) -> None:
    if tensor.device.type != "cpu":
        raise RuntimeError(f"backend 'cpu' needs tensors on the CPU, got {tensor.device}")


def _native() -> Any:
    return importlib.import_module("scansearch_kernels.cpu.launch")


@ops.scan.register_kernel("cpu")
def _scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = _native().scan_forward(ops.checked_scan(*arguments[:15]), arguments[15])
    return result


@ops.scan_backward.register_kernel("cpu")
def _scan_backward(dy: Tensor, saved: Tensor, *arguments: Any) -> list[Tensor]:
    call = ops.checked_scan(*arguments)
    return ops.present(_native().scan_backward(call, saved, dy), ops.SCAN_INPUTS, dy)


@ops.conv.register_kernel("cpu")
def _conv(x: Tensor, weight: Tensor, bias: Any, read_order: Any, lengths: Any, steps: int) -> Tensor:
    result: Tensor = _native().conv_forward(ops.checked_conv(x, weight, bias, read_order, lengths, steps))
    return result


@ops.conv_backward.register_kernel("cpu")
def _conv_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Any, read_order: Any, lengths: Any, steps: int
) -> list[Tensor]:
    call = ops.checked_conv(x, weight, bias, read_order, lengths, steps)
    return ops.present(_native().conv_backward(call, dy), ops.CONV_INPUTS, dy)


def _saved_shape(call: ScanCall) -> tuple[int, ...]:
    shape: tuple[int, ...] = _native().states_shape(call)
    return shape


ops.saved_shapes["cpu"] = _saved_shape
