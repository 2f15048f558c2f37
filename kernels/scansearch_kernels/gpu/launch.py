"""What every GPU kernel needs around it: a launch that can be run or only compiled, strides, order facts."""

import inspect
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from scansearch_kernels.calls import capturing

LIMIT = 2**31


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors."""
    knobs = getattr(triton, "knobs", None)  # older versions have none, and the backend refuses them
    return knobs is not None and bool(knobs.runtime.interpret)


ALIGNED = ("weight", "stage")  # memory of our own, which starts at multiples of 16 bytes


def kernel(function: Callable[..., None]) -> Any:
    """`triton.jit` without specialising on values: one compiled kernel per dtypes and constants.

    Without known alignments a load also spans one channel per lane, which keeps time and states inside
    a thread: no shuffles in the recurrence. Only memory of our own is known to be aligned.
    """
    parameters = inspect.signature(function).parameters.values()
    runtime = [entry.name for entry in parameters if entry.annotation is not tl.constexpr]
    return triton.jit(function, do_not_specialize=[name for name in runtime if name not in ALIGNED])


@dataclass(frozen=True)
class Launch:
    """One kernel call as a value, so that the same planning code serves running and compile-only reports."""

    kernel: Any
    programs: int
    arguments: dict[str, Tensor | int]
    constants: dict[str, Any]
    warps: int = 1
    registers: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Compiler options, all explicit: defaults come from environment variables."""
        options = {"num_warps": self.warps, "num_stages": 1, "enable_fp_fusion": True}
        return options if self.registers is None else options | {"maxnreg": self.registers}

    def run(self) -> None:
        """Launch on the current stream of the tensors' device; nothing to do for an empty grid."""
        if self.programs > 0:
            tensor = next(value for value in self.arguments.values() if isinstance(value, Tensor))
            with torch.cuda.device_of(tensor):  # Triton would take the current device
                self.kernel[(self.programs,)](**self.arguments, **self.constants, **self.options)


def run_all(launches: Iterable[Launch]) -> None:
    """Launch one after the other."""
    for launch in launches:
        launch.run()


def addressable(tensor: Tensor) -> Tensor:
    """The tensor itself (any slice, any expanded axis), or a copy where the kernels could not address it.

    They want the last axis contiguous, and rows [-2, -1] that span less than 2^31 elements.
    """
    reach = (tensor.shape[-2] - 1) * tensor.stride(-2) + tensor.shape[-1]
    unit = tensor.stride(-1) == 1 or tensor.shape[-1] == 1
    return tensor if unit and reach < LIMIT else tensor.contiguous()


def check_extent(rows: int, dim: int) -> None:
    """Raise ValueError if one image's rows span too much for the kernels' 32-bit offsets."""
    if rows * dim >= LIMIT:
        raise ValueError(f"rows x dim must be below {LIMIT} on the GPU, got {rows} x {dim}")


def triton_dtype(dtype: torch.dtype) -> Any:
    """Triton's name of a compute dtype."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def stream_of(device: torch.device) -> int:
    """The device's current stream: what one made without waiting is not for another."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


_lengths: dict[tuple[tuple[int, ...], torch.device, int], Tensor] = {}


def lengths_on(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """The directions' lengths as int32 on the device, made there once for each stream.

    A copy from the host would wait for it and cannot be captured into a CUDA graph: equal lengths are filled in on the
    device, and so are others while a stream is captured, whose memory belongs to the graph and is not kept.
    """
    key = lengths, device, stream_of(device)
    kept = _lengths.get(key)
    if kept is not None:
        return kept
    if capturing(device):
        parts = [torch.full((1,), length, dtype=torch.int32, device=device) for length in lengths]
        return torch.cat(parts)
    if len(set(lengths)) == 1:
        made = torch.full((len(lengths),), lengths[0], dtype=torch.int32, device=device)
    else:
        made = torch.tensor(lengths, dtype=torch.int32, device=device)
    if len(_lengths) >= 1024:
        _lengths.clear()
    _lengths[key] = made
    return made


# Orders are fixed tables that models pass again and again: remember, by identity, which leave no row out.
_complete: dict[int, tuple[weakref.ref[Tensor], int, tuple[int, ...], int, bool]] = {}


def covers(order: Tensor | None, lengths: tuple[int, ...], limit: int) -> bool:
    """Whether every direction visits all of 0..limit-1, so that outputs need no zeros beforehand.

    Reads a device order once (a synchronisation); says no where that is impossible, which is always safe.
    """
    if order is None:
        return all(length == limit for length in lengths)
    if order.is_meta or capturing(order.device):
        return False
    version = -1 if order.is_inference() else order._version
    known = _complete.get(id(order))
    if known is not None and known[0]() is order and version >= 0 and known[1:4] == (version, lengths, limit):
        return known[4]
    ends = torch.tensor(lengths)[:, None]
    visited = ((order.cpu() >= 0) & (torch.arange(order.shape[1]) < ends)).sum(1)
    answer = bool((visited == limit).all())
    key = id(order)
    _complete[key] = (
        weakref.ref(order, lambda _: _complete.pop(key, None)),
        version,
        lengths,
        limit,
        answer,
    )
    return answer


_prepared: dict[tuple[int, int, Any], tuple[weakref.ref[Tensor], int, Any]] = {}


def prepared(tensor: Tensor, key: Any, make: Callable[[], Any]) -> Any:
    """`make()`, which depends on the tensor's values and on `key` only, once per version of the tensor.

    Backward and later forwards take what the first made. A captured graph makes its own, since it is replayed with
    other values; so does a call on an inference tensor, which keeps no version.
    """
    if tensor.is_inference() or tensor.is_meta or capturing(tensor.device):
        return make()
    full = (id(tensor), stream_of(tensor.device), key)
    known = _prepared.get(full)
    if known is not None and known[0]() is tensor and known[1] == tensor._version:
        return known[2]
    made = make()
    _prepared[full] = (weakref.ref(tensor, lambda _: _prepared.pop(full, None)), tensor._version, made)
    return made


def output(shape: tuple[int, ...], like: Tensor, dtype: torch.dtype, complete: bool) -> Tensor:
    """Memory for a result: uninitialised where the kernel writes all of it, else zeros."""
    make = torch.empty if complete else torch.zeros
    return make(shape, dtype=dtype, device=like.device)
