"""What a call must look like: one clear line for every way it can be wrong."""

import weakref
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

EPSILON = 1e-5  # of the LayerNorms in the merge of branches


def compute_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """float64 if any tensor has it, else float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


@dataclass(frozen=True)
class ScanCall:
    """A checked `selective_scan` call in canonical form: nothing left to default but absent tensors.

    `delta` is [batch, directions, rows, dim], or [batch, directions, rows, rank] with a `delta_weight`.
    `lengths` always has one entry per direction; `steps` is T, `image_length` is L.
    """

    u: Tensor
    delta: Tensor
    delta_weight: Tensor | None
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    delta_softplus: bool
    read_order: Tensor | None
    write_order: Tensor | None
    lengths: tuple[int, ...]
    steps: int
    image_length: int

    def tensors(self) -> list[Tensor]:
        """The floating-point tensors that are present."""
        maybe = (
            self.u,
            self.delta,
            self.delta_weight,
            self.A,
            self.B,
            self.C,
            self.D,
            self.z,
            self.delta_bias,
        )
        return [tensor for tensor in maybe if tensor is not None]

    @property
    def compute_dtype(self) -> torch.dtype:
        """Of states and arithmetic: float64 if any tensor has it, else float32."""
        return compute_dtype(self.tensors())


@dataclass(frozen=True)
class ConvCall:
    """A checked `causal_conv` call in canonical form."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    read_order: Tensor | None
    lengths: tuple[int, ...]
    steps: int

    def tensors(self) -> list[Tensor]:
        """The floating-point tensors that are present."""
        return [tensor for tensor in (self.x, self.weight, self.bias) if tensor is not None]

    @property
    def compute_dtype(self) -> torch.dtype:
        """Of the arithmetic: float64 if any tensor has it, else float32."""
        return compute_dtype(self.tensors())


def check_scan(
    u: Tensor,
    delta: Tensor | tuple[Tensor, Tensor],
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    read_order: Tensor | None,
    write_order: Tensor | None,
    lengths: Sequence[int] | None,
    image_length: int | None,
) -> ScanCall:
    """Check `selective_scan`'s arguments against each other; ValueError names the first that is wrong."""
    if u.dim() != 4:
        raise ValueError(f"u must be [batch, 1 or directions, rows, dim], got {_shape(u)}")
    if A.dim() != 3:
        raise ValueError(f"A must be [directions, dim, states], got {_shape(A)}")
    batch, shared, rows, dim = u.shape
    directions, _, states = A.shape
    if directions < 1 or dim < 1 or states < 1:
        raise ValueError(f"directions, dim and states must be at least 1, got A {_shape(A)}")
    _expect("A", A, (directions, dim, states))
    if shared not in (1, directions):
        raise ValueError(f"u must have 1 or {directions} directions (as A has), got {_shape(u)}")
    weight = None
    if isinstance(delta, (tuple, list)):  # torch 2.9 cannot trace a union of types
        if len(delta) != 2:
            raise ValueError(f"delta must be a tensor or a pair (delta_low, weight), got {len(delta)} items")
        delta, weight = delta
        rank = weight.shape[-1]
        _expect("the weight of low-rank delta", weight, (directions, dim, rank))
        _expect("low-rank delta", delta, (batch, directions, rows, rank))
    else:
        _expect("delta", delta, (batch, directions, rows, dim))
    _expect("B", B, (batch, directions, rows, states))
    _expect("C", C, (batch, directions, rows, states))
    if D is not None:
        _expect("D", D, (directions, dim))
    if delta_bias is not None:
        _expect("delta_bias", delta_bias, (directions, dim))

    steps = rows if read_order is None else _steps("read_order", read_order, directions)
    if write_order is None:
        write_order = read_order
        natural = rows
    else:
        natural = None
        if _steps("write_order", write_order, directions) != steps:
            raise ValueError(
                f"write_order must have {steps} steps as the read order, got {_shape(write_order)}"
            )
    if z is not None:
        if z.dim() != 3 or z.shape[0] != batch or z.shape[2] != dim:
            raise ValueError(f"z must be [{batch}, image length, {dim}], got {_shape(z)}")
        if image_length is not None and image_length != z.shape[1]:
            raise ValueError(f"image_length is {image_length} but z has {z.shape[1]} positions")
        image_length = z.shape[1]
    if image_length is None:
        if natural is None:
            raise ValueError("image_length must be given when write_order is given without z")
        image_length = natural
    if write_order is None and image_length < steps:
        raise ValueError(f"image_length must be at least {steps}, the number of steps, got {image_length}")

    call = ScanCall(
        u, delta, weight, A, B, C, D, z, delta_bias, bool(delta_softplus), read_order, write_order,
        _lengths(lengths, directions, steps), steps, int(image_length),
    )  # fmt: skip
    _same_kind(u, call.tensors())
    if read_order is not None:
        check_order("read_order", read_order, u.device, rows)
    if write_order is not None:
        check_order("write_order", write_order, u.device, call.image_length)
    return call


def check_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    read_order: Tensor | None,
    lengths: Sequence[int] | None,
) -> ConvCall:
    """Check every argument of `causal_conv` against the others; ValueError names the first that is wrong."""
    if x.dim() != 3:
        raise ValueError(f"x must be [batch, rows, dim], got {_shape(x)}")
    if weight.dim() != 3 or 0 in weight.shape:
        raise ValueError(f"weight must be [directions, dim, width] without empty axes, got {_shape(weight)}")
    directions, dim, width = weight.shape
    _expect("weight", weight, (directions, x.shape[2], width))
    if bias is not None:
        _expect("bias", bias, (directions, dim))
    steps = x.shape[1] if read_order is None else _steps("read_order", read_order, directions)
    call = ConvCall(x, weight, bias, read_order, _lengths(lengths, directions, steps), steps)
    _same_kind(x, call.tensors())
    if read_order is not None:
        check_order("read_order", read_order, x.device, x.shape[1])
    return call


def capturing(device: torch.device) -> bool:
    """Whether the device's current stream is being captured into a CUDA graph: no value can be waited for then."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


# Orders are fixed tables that models pass again and again: remember, by identity and limit, which were found sound.
_sound: dict[tuple[int, int], tuple[weakref.ref[Tensor], int]] = {}


def check_order(name: str, order: Tensor, device: torch.device, limit: int) -> None:
    """Demand int32 indices in -1..limit-1 on `device`, none twice in a direction (-1 may repeat).

    The values are looked at once per order, on a CPU its smallest and largest at every call: NumPy changes memory
    without a trace, and the native kernels then would read and write beside the rows. Where that is impossible (in
    a trace, or while a stream is captured) an order not seen before is taken as it is.
    """
    if order.device != device:
        raise ValueError(f"{name} must be on {device} like the other tensors, got {order.device}")
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(order):
        return
    if type(order) is not Tensor or order.is_meta:  # fake tensors have no values
        return
    # an inference tensor keeps no version: it is checked every time
    version = -1 if order.is_inference() else order._version
    key = (id(order), limit)
    known = _sound.get(key)
    seen = known is not None and known[0]() is order and version >= 0 and known[1] == version
    if (seen and device.type != "cpu") or capturing(device):
        return
    # Beside any trace: the values are no part of its graph.
    with _disable_current_modes() if torch._C._len_torch_dispatch_stack() else nullcontext():
        if order.numel():
            _check_values(name, order, limit, bounds_only=seen)
    if not seen:
        _sound[key] = (weakref.ref(order, lambda _: _sound.pop(key, None)), version)


def _check_values(name: str, order: Tensor, limit: int, *, bounds_only: bool) -> None:
    low, high = (int(value) for value in order.aminmax())
    if low < -1 or high >= limit:
        raise ValueError(f"{name} must hold indices from -1 to {limit - 1}, got {low} to {high}")
    if bounds_only:
        return
    ordered = order.sort(dim=1).values
    if bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any()):
        raise ValueError(f"{name} must not visit an index twice in one direction")


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {_shape(tensor)}")


def _steps(name: str, order: Tensor, directions: int) -> int:
    if order.dim() != 2 or order.size(0) != directions:  # Dynamo cannot index the shape of a constant table
        raise ValueError(f"{name} must be [{directions}, steps], got {_shape(order)}")
    if order.dtype != torch.int32:
        raise ValueError(f"{name} must be int32, got {order.dtype}")
    return order.size(1)


def _lengths(lengths: Sequence[int] | None, directions: int, steps: int) -> tuple[int, ...]:
    if lengths is None:
        return (steps,) * directions
    steps_of = tuple(int(length) for length in lengths)
    if len(steps_of) != directions:
        raise ValueError(f"lengths must have {directions} entries, one per direction, got {len(steps_of)}")
    if any(length < 0 or length > steps for length in steps_of):
        raise ValueError(f"lengths must lie in 0..{steps}, got {list(steps_of)}")
    return steps_of


def _same_kind(first: Tensor, tensors: list[Tensor]) -> None:
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise ValueError(f"tensors must be floating point, got {tensor.dtype}")
        if tensor.device != first.device:
            raise ValueError(f"all tensors must be on one device, got {first.device} and {tensor.device}")
