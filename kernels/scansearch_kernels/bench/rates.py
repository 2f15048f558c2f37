"""What a device can do at most: exponentials, multiply-adds and copied bytes per second, all measured."""

# Device code is Triton's dialect of Python.
# mypy: disable-error-code="no-untyped-def"

from typing import Any

import torch
import triton
import triton.language as tl

from scansearch_kernels.bench.timing import milliseconds
from scansearch_kernels.gpu.launch import Launch

ELEMENTS = tl.constexpr(1024)


@triton.jit
def busy(result, rounds, EXPONENTIALS: tl.constexpr):
    """Each round one exp2, or one multiply-add, of each of 1024 independent values in registers."""
    values = tl.arange(0, ELEMENTS).to(tl.float32) * -1e-4
    for _ in range(0, rounds):
        values = tl.exp2(-values) if EXPONENTIALS else values * 0.999 + 0.25
    tl.store(result + tl.program_id(0) * ELEMENTS + tl.arange(0, ELEMENTS), values)


def busy_launch(device: str, programs: int, rounds: int, exponentials: bool) -> Launch:
    """A launch that does programs x rounds x 1024 operations and hardly touches memory."""
    result = torch.empty(programs * ELEMENTS.value, device=device)
    arguments: dict[str, Any] = {"result": result, "rounds": rounds}
    return Launch(busy, programs, arguments, {"EXPONENTIALS": exponentials}, warps=4)


def rates(device: str, quick: bool = False) -> dict[str, float]:
    """exponentials, multiply_adds and bytes (read plus written) per second.

    Arithmetic is measured by a Triton kernel on CUDA, elsewhere by torch on a tensor that fits the cache;
    `quick` shrinks everything, for tests.
    """
    copied = torch.empty((1 << 20) if quick else (1 << 28), dtype=torch.uint8, device=device)
    target = torch.empty_like(copied)
    per_second = {"bytes": 2e3 * copied.numel() / milliseconds(lambda: target.copy_(copied), device)}
    if device.startswith("cuda"):
        programs = 32 * torch.cuda.get_device_properties(device).multi_processor_count
        for name, exponentials in (("exponentials", True), ("multiply_adds", False)):
            launch = busy_launch(device, programs, 4096, exponentials)
            operations = programs * 4096 * ELEMENTS.value
            per_second[name] = 1e3 * operations / milliseconds(launch.run, device)
        return per_second
    values = torch.rand(1 << 12, device=device)
    other = torch.rand_like(values)
    functions = {
        "exponentials": lambda: torch.exp2(values, out=other),
        "multiply_adds": lambda: torch.addcmul(values, values, values, out=other),
    }
    for name, function in functions.items():
        per_second[name] = 1e3 * values.numel() / milliseconds(function, device, repeats=200)
    return per_second
