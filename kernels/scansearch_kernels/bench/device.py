"""Times scan and merge at the published sizes on one device, beside its floor and what a user would run instead.

Run as `python -m scansearch_kernels.bench device [--device cuda] [--json]`. Floors come from rates measured in
the same run. Before a size is timed its result is compared with the reference on one image; a wrong kernel
gets no time.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from scansearch_kernels import available_backends, selective_scan
from scansearch_kernels.bench import rates as device_rates
from scansearch_kernels.bench.merge import merge_times
from scansearch_kernels.bench.published_sizes import PUBLISHED_SIZES, LayerSize
from scansearch_kernels.bench.timing import host_milliseconds, milliseconds
from scansearch_kernels.calls import check_scan

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
TOLERANCE = {torch.bfloat16: 3e-2, torch.float16: 5e-3, torch.float32: 1e-4}
ABSENT: dict[str, Any] = dict.fromkeys(
    ("D", "z", "delta_bias", "read_order", "write_order", "lengths", "image_length")
)
ABSENT["delta_softplus"] = True
QUEUED = 4  # calls between two events: a single one would measure the host that comes before it
OPPONENTS = ("mamba_ssm", "reference")


def window_order(side: int, window: int) -> Tensor:
    """Row-major windows of a side x side grid, row-major inside, windows cut at the edge: int32 [side^2]."""
    grid = torch.arange(side * side, dtype=torch.int32).reshape(side, side)
    return torch.cat([part.flatten() for band in grid.split(window, 0) for part in band.split(window, 1)])


def orders(size: LayerSize, kind: str) -> Tensor:
    """int32 [directions, tokens]: `h` walks rows, `w7` windows of 7 x 7; every other direction is reversed."""
    side = math.isqrt(size.tokens)
    if kind == "w7" and side * side == size.tokens:
        order = window_order(side, 7)
    else:
        order = torch.arange(size.tokens, dtype=torch.int32)
    return torch.stack([order.flip(0) if index % 2 else order for index in range(size.directions)])


def arguments_of(
    size: LayerSize, batch: int, dtype: torch.dtype, device: str, kind: str, seed: int = 0
) -> tuple[dict[str, Any], list[Tensor]]:
    """Arguments of `selective_scan` with random values, and those tensors that learn."""
    draw = torch.Generator(device).manual_seed(seed)
    call = size.scan_call(batch, dtype, device=device)
    for tensor in call.tensors():
        tensor.normal_(generator=draw)
    call.A.copy_(-torch.arange(1, size.states + 1, device=device).expand_as(call.A))
    assert call.delta_weight is not None
    call.delta_weight.mul_(size.rank**-0.5)
    order = orders(size, kind).to(device)
    names: dict[str, Any] = {
        "u": call.u, "delta": (call.delta, call.delta_weight), "A": call.A, "B": call.B, "C": call.C,
        "D": call.D, "delta_bias": call.delta_bias,
    }  # fmt: skip
    places = {"z": call.z, "write_order": order} if size.convolved else {"read_order": order}
    learned = [tensor.requires_grad_() for tensor in call.tensors()]
    return names | places, learned


def run(arguments: dict[str, Any], backend: str | None) -> Tensor:
    """One forward."""
    return selective_scan(**arguments, backend=backend)


def worst_error(size: LayerSize, dtype: torch.dtype, device: str, kind: str, backend: str | None) -> float:
    """Largest deviation of output and gradients from the reference on one image, relative to each's largest."""
    arguments, learned = arguments_of(size, 1, dtype, device, kind)
    results = []
    for name in (backend, "reference"):
        y = run(arguments, name)
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
        results.append((y.detach(), *torch.autograd.grad(y, learned, dy)))
    return max(
        float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max().clamp(min=1e-6))
        for ours, theirs in zip(*results, strict=True)
    )


def times_of(
    size: LayerSize, batch: int, dtype: torch.dtype, device: str, kind: str, backend: str | None, repeats: int
) -> dict[str, float]:
    """Milliseconds of a forward, of forward and backward, and MiB that the latter adds to its inputs."""
    arguments, learned = arguments_of(size, batch, dtype, device, kind)
    y = run(arguments, backend)
    dy = torch.randn_like(y)
    del y

    def forward() -> None:
        with torch.no_grad():
            run(arguments, backend)

    def both() -> None:
        torch.autograd.grad(run(arguments, backend), learned, dy)

    row = {
        "forward_ms": milliseconds(forward, device, repeats, queued=QUEUED),
        "both_ms": milliseconds(both, device, repeats, queued=QUEUED),
        "forward_host_ms": host_milliseconds(forward, device, repeats),
        "both_host_ms": host_milliseconds(both, device, repeats),
    }
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        both()
        row["peak_mib"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return row


def kernel_times(
    size: LayerSize, batch: int, dtype: torch.dtype, device: str, kind: str, repeats: int
) -> dict[str, float]:
    """Milliseconds of the bare launches of forward (as in training) and backward: no planning, no other kernel."""
    from scansearch_kernels.gpu import plan
    from scansearch_kernels.gpu.launch import run_all

    arguments, _ = arguments_of(size, batch, dtype, device, kind)
    with torch.no_grad():
        call = check_scan(**(ABSENT | arguments))
        forward, y, saved = plan.plan_forward(call, True)
        assert saved is not None
        row = {"forward_kernels_ms": milliseconds(lambda: run_all(forward), device, repeats)}
        backward, _, _ = plan.plan_backward(call, saved, torch.randn_like(y))
        row["backward_kernels_ms"] = milliseconds(lambda: run_all(backward), device, repeats)
    return row


def floors(size: LayerSize, batch: int, dtype: torch.dtype, rates: dict[str, float]) -> dict[str, float]:
    """Milliseconds that forward, and forward plus backward, cannot beat.

    Forward: one exponential per state, channel, token and direction, or the bytes of inputs and y. Backward: 16
    multiply-adds and one more exponential, or twice the bytes.
    """
    work = batch * size.directions * size.steps * size.dim * size.states
    call = size.scan_call(batch, dtype)
    inputs = (call.u, call.delta, call.B, call.C, call.z)
    moved = sum(tensor.numel() * tensor.element_size() for tensor in inputs if tensor is not None)
    moved += batch * size.directions * size.tokens * size.dim * dtype.itemsize
    forward = max(work / rates["exponentials"], moved / rates["bytes"])
    arithmetic = max(16 * work / rates["multiply_adds"], work / rates["exponentials"])
    backward = max(arithmetic, 2 * moved / rates["bytes"])
    return {"forward_floor_ms": 1e3 * forward, "both_floor_ms": 1e3 * (forward + backward)}


def bench(
    device: str,
    batch: int,
    dtype: torch.dtype,
    sizes: Sequence[LayerSize],
    repeats: int = 20,
    baseline_batch: int = 2,
    quick: bool = False,
    opponents: Sequence[str] = OPPONENTS,
    tell: Callable[[str], None] = lambda line: None,
    seconds: float | None = None,
    observe: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """The whole benchmark as plain values: {"device", "torch", "rates", "sizes": [one dict each], "left_out": names}.

    `reference` is timed at `baseline_batch` images and scaled: it keeps every state. `tell` hears a line and `observe`
    a row as soon as a size is done. A size whose measurement raises gets a row with `error`; no size is begun after
    `seconds`, and those not begun are named in `left_out`.
    """
    began = time.monotonic()
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    measured = device_rates.rates(device, quick)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for size in sizes:
        if seconds is not None and time.monotonic() - began > seconds:
            left_out.append(size.name)
            continue
        row: dict[str, Any] = {"size": size.name, "batch": batch, "dtype": str(dtype).removeprefix("torch.")}
        try:
            _measure(row, size, batch, dtype, device, repeats, baseline_batch, opponents, measured)
        except (RuntimeError, ValueError) as error:  # out of memory, say; the sizes before and after stay
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        rows.append(row)
        tell(line(row))
        observe(row)
    return {
        "device": name, "torch": torch.__version__, "rates": measured, "sizes": rows, "left_out": left_out,
    }  # fmt: skip


def _measure(
    row: dict[str, Any],
    size: LayerSize,
    batch: int,
    dtype: torch.dtype,
    device: str,
    repeats: int,
    baseline_batch: int,
    opponents: Sequence[str],
    rates: dict[str, float],
) -> None:
    """Fill in one size's row, the most telling figures first."""
    row |= floors(size, batch, dtype, rates)
    row["worst_error"] = worst_error(size, dtype, device, "w7", None)
    row["correct"] = bool(row["worst_error"] <= TOLERANCE[dtype])  # a NaN is not
    if row["correct"]:
        row |= times_of(size, batch, dtype, device, "h", None, repeats)
        if device.startswith("cuda"):
            row |= kernel_times(size, batch, dtype, device, "h", repeats)
        row["w7_both_ms"] = times_of(size, batch, dtype, device, "w7", None, repeats)["both_ms"]
        row["forward_over_floor"] = row["forward_ms"] / row["forward_floor_ms"]
        row["both_over_floor"] = row["both_ms"] / row["both_floor_ms"]
        row["w7_over_h"] = row["w7_both_ms"] / row["both_ms"]
        for opponent in opponents:
            if opponent not in available_backends():
                continue
            images = baseline_batch if opponent == "reference" else batch
            theirs = times_of(size, images, dtype, device, "h", opponent, max(3, repeats // 4))
            scaled = {key: value * batch / images for key, value in theirs.items()}
            row |= {f"{opponent}_{key}": value for key, value in scaled.items()}
            row[f"times_faster_than_{opponent}"] = scaled["both_ms"] / row["both_ms"]
    row |= merge_times(size, batch, dtype, device, rates["bytes"], TOLERANCE[dtype], repeats)


def line(row: dict[str, Any]) -> str:
    """One size in one line."""
    if "error" in row:
        return f"{row['size']:28} FAILED: {row['error']}"
    if not row["correct"]:
        return f"{row['size']:28} WRONG: off by {row['worst_error']:.1e}, not timed"
    text = (
        f"{row['size']:28} forward {row['forward_ms']:9.3f} ms ({row['forward_over_floor']:.2f}x floor)"
        f"  with backward {row['both_ms']:9.3f} ms ({row['both_over_floor']:.2f}x)  w7/h {row['w7_over_h']:.3f}"
    )
    for opponent in OPPONENTS:
        if f"times_faster_than_{opponent}" in row:
            text += f"  {row[f'times_faster_than_{opponent}']:.1f}x faster than {opponent}"
    if not row["merge_correct"]:
        return f"{text}  merge WRONG: off by {row['merge_error']:.1e}, not timed"
    return (
        f"{text}  merge {row['merge_ms']:.3f} ms ({row['merge_over_floor']:.2f}x floor,"
        f" {row['merge_times_faster_than_plain']:.1f}x faster than plain torch)"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--only", default="", help="sizes whose name contains this")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, help="begin no size after this time")
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object per size as it is done, then the rest"
    )
    options = parser.parse_args(arguments)
    sizes = [size for size in PUBLISHED_SIZES if options.only in size.name]
    if not sizes:
        parser.error(f"--only must match one of {', '.join(size.name for size in PUBLISHED_SIZES)}")
    results = bench(
        options.device,
        options.batch,
        DTYPES[options.dtype],
        sizes,
        options.repeats,
        tell=(lambda text: None) if options.json else lambda text: print(text, flush=True),
        seconds=options.seconds,
        observe=(lambda row: print(json.dumps(row), flush=True)) if options.json else lambda row: None,
    )
    if options.json:
        print(json.dumps({key: value for key, value in results.items() if key != "sizes"}), flush=True)
    elif results["left_out"]:
        print(f"not measured, out of time: {', '.join(results['left_out'])}")
    return int(any("error" in row or not row["correct"] for row in results["sizes"]))
