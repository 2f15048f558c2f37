"""Benchmark of the CPU kernels: `python -m scansearch_kernels.bench kernels [--size NAME ...] [--json]`.

For each size the kernels are first compared with a float64 reference; no ratio is given for a kernel that is
wrong. Then the floor of this machine (see `floor`) and the kernels are timed in turns, and the best of each counts.
`--compile-only [--arch 90] [--json]` compiles the GPU kernels instead, which needs no GPU (see `compile_report`); on a
GPU they are timed by `device_bench`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scansearch_kernels import selective_scan
from scansearch_kernels.bench.cases import SIZES, Size, arguments, check_accuracy
from scansearch_kernels.bench.floor import Floor, processor
from scansearch_kernels.bench.hardware import instruction_set
from scansearch_kernels.bench.threads import line, threads_ms
from scansearch_kernels.calls import check_scan
from scansearch_kernels.cpu.threads import openmp_in_use
from scansearch_kernels.reference import scan_loop

PASSES = ("forward", "forward+backward")
OUTPUT_LIMIT, GRADIENT_LIMIT = 2e-6, 1e-5
BASELINE_BYTES = 2**31
THREAD_ROUNDS = 10


def kernels(
    sizes: Sequence[str] | None = None,
    *,
    repeats: int = 20,
    baselines: bool = True,
    memory: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Measure the kernels on torch's number of threads.

    Args:
        sizes: names in `SIZES`; all by default.
        repeats: rounds of floor, forward and forward with backward; the best of each counts.
        baselines: whether to time the reference loop and mambapy's parallel scan too (minutes in all).
        memory: whether to measure the peak of memory, in a process of its own.
        progress: called with a line of text before each size.

    Returns:
        One object per size and pass: size, pass, shape, ours_ms, steps_per_s, floor_ms, floor_ratio (None if the
        kernel is wrong or the floor implausible, with `refused` saying so), errors, baselines, threads_ms (see
        `bench_threads`), and the machine.

    Raises:
        ValueError: an unknown size.
    """
    for name in sizes or ():
        if name not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got '{name}'")
    floor = Floor()
    # The C library keeps up to twice the largest block, of at most 32 MiB, that was ever freed. A process that trains
    # has freed one of that size; without this the order of the sizes would matter.
    torch.empty(31 * 2**20, dtype=torch.uint8)
    rows: list[dict[str, Any]] = []
    machine = {
        "processor": processor(), "instructions": instruction_set(), "threads": torch.get_num_threads(),
        "team": "torch's OpenMP" if openmp_in_use() else "Python threads",
    }  # fmt: skip
    chosen = list(sizes or SIZES)
    for name in chosen:
        size = SIZES[name]
        progress(f"{name}: {size}")
        errors = check_accuracy(size)
        times = _best_times(size, floor, repeats)
        others = _baselines(size) if baselines else {}
        peak = peak_memory(name) if memory else None
        ways = threads_ms(size, min(repeats, THREAD_ROUNDS))
        for which, seconds in zip(PASSES, times, strict=True):
            row: dict[str, Any] = {
                "size": name, "pass": which, "shape": vars(size), "ours_ms": 1e3 * seconds,
                "steps_per_s": size.work() / seconds, "floor_ms": None, "floor_ratio": None, **errors,
                "baselines": {key: _baseline(ms, seconds) for key, ms in others.get(which, {}).items()},
                "peak_extra_bytes": peak if which == PASSES[1] else None,
                "threads_ms": ways if which == PASSES[1] else None, **machine,
            }  # fmt: skip
            rows.append(row)
    for row in rows:  # the floor is the best of the whole session
        row |= {"floor_steps_per_s": floor.steps_per_s, "multiply_adds_per_s": floor.multiply_adds_per_s}
        row |= {"copy_bytes_per_s": floor.bytes_per_s, "refused": _refusal(row, floor)}
        if row["refused"] is None:
            row["floor_ms"] = 1e3 * SIZES[row["size"]].work() / floor.steps_per_s
            row["floor_ratio"] = row["ours_ms"] / row["floor_ms"]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The result of `kernels` as lines of text."""
    if not rows:
        return "nothing measured"
    first = rows[0]
    lines = [
        f"{first['processor']}, {first['instructions']}, {first['threads']} threads ({first['team']})",
        f"floor {first['floor_steps_per_s'] / 1e9:.1f} G steps/s, multiply-adds"
        f" {first['multiply_adds_per_s'] / 1e9:.0f} G/s, copy {first['copy_bytes_per_s'] / 1e9:.1f} GB/s",
        "",
        f"{'size':12}{'pass':18}{'ours ms':>9}{'G steps/s':>11}{'floor ms':>10}{'ratio':>7}  others (times ours)",
    ]
    for row in rows:
        shown = "  ".join(
            f"{key} {entry['ms']:.0f} ms ({entry['ratio']:.0f}x)" for key, entry in row["baselines"].items()
        )
        if row["peak_extra_bytes"] is not None:
            shown += f"  peak extra memory {row['peak_extra_bytes'] / 2**20:.0f} MiB"
        known = row["floor_ratio"] is not None
        ratio = f"{row['floor_ms']:10.2f}{row['floor_ratio']:7.2f}" if known else f"{'-':>10}{'-':>7}"
        lines.append(
            f"{row['size']:12}{row['pass']:18}{row['ours_ms']:9.2f}{row['steps_per_s'] / 1e9:11.2f}{ratio}  {shown}"
        )
        if row["refused"]:
            lines.append(f"  no ratio: {row['refused']}")
    lines += ["", f"{'size':12}{PASSES[1]} of one call (times as fast as one thread)"]
    for row in rows:
        if row["threads_ms"] is not None:
            lines.append(f"{row['size']:12}{line(row['threads_ms'], row['threads'])}")
    return "\n".join(lines)


def peak_memory(name: str) -> int | None:
    """Bytes that one forward with backward adds to the peak of a process that already holds its inputs."""
    command = [sys.executable, "-m", "scansearch_kernels.bench", "memory", name]
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "0"}
    )
    return int(run.stdout) if run.returncode == 0 else None


def _refusal(row: dict[str, Any], floor: Floor) -> str | None:
    if row["output_error"] > OUTPUT_LIMIT or row["gradient_error"] > GRADIENT_LIMIT:
        return f"the kernel is wrong (errors {row['output_error']:.1e} and {row['gradient_error']:.1e})"
    if not floor.plausible():
        return (
            f"a floor of {floor.steps_per_s / 1e9:.1f} G steps/s is implausible on a machine that does"
            f" {floor.multiply_adds_per_s / 1e9:.0f} G multiply-adds/s: measure again when it is idle"
        )
    return None


def _best_times(size: Size, floor: Floor, repeats: int) -> tuple[float, float]:
    """Seconds of the forward alone, and of the forward with its backward."""
    given, leaves, dy = arguments(size, size.batch)
    forward = both = float("inf")

    def run_forward() -> None:
        with torch.no_grad():
            selective_scan(**given, backend="cpu")

    def run_both() -> None:
        y = selective_scan(**given, backend="cpu")
        torch.autograd.grad(y, leaves, dy)

    for _ in range(repeats):
        floor.measure()
        # twice, as the floor's copy empties the caches, which in a model hold what the last layer wrote
        forward = min(forward, _seconds(run_forward), _seconds(run_forward))
        both = min(both, _seconds(run_both))
    return forward, both


def _baselines(size: Size) -> dict[str, dict[str, float]]:
    """Milliseconds of what one would run instead, scaled up where the whole batch would not fit."""
    batch = size.batch
    while batch > 1 and 4 * batch * size.directions * 2 * size.rows * size.dim * size.states > BASELINE_BYTES:
        batch //= 2
    given, leaves, dy = arguments(size, batch)
    scale = 1e3 * size.batch / batch
    absent = dict.fromkeys(("z", "write_order", "read_order", "lengths", "image_length"))
    call = check_scan(**{**absent, "delta_softplus": True, **given})
    with torch.no_grad():
        loop = min(_seconds(lambda: scan_loop(call)) for _ in range(2))
    baselines = {PASSES[0]: {"reference loop": scale * loop}, PASSES[1]: {}}
    try:
        from mambapy.pscan import pscan
    except ImportError:
        return baselines
    threads, best = torch.get_num_threads(), float("inf")
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        for _ in range(2):
            best = min(best, _seconds(lambda: _parallel_scan(pscan, given, leaves, dy)))
    torch.set_num_threads(threads)
    baselines[PASSES[1]]["mambapy"] = scale * best
    return baselines


def _parallel_scan(pscan: Any, given: dict[str, Any], leaves: list[Tensor], dy: Tensor) -> None:
    """The scan as one writes it around mambapy: copies in scan order, all states at once, copies back."""
    order = given["read_order" if "read_order" in given else "write_order"].long()
    batch, _, rows, dim = given["u"].shape
    directions = order.shape[0]

    def gathered(tensor: Tensor) -> Tensor:
        if "read_order" not in given:
            return tensor.flatten(0, 1)
        wide = order[None, :, :, None].expand(batch, -1, -1, tensor.shape[3])
        return tensor.expand(-1, directions, -1, -1).gather(2, wide).flatten(0, 1)

    u, delta, B, C = (gathered(given[name]) for name in ("u", "delta", "B", "C"))
    delta = torch.nn.functional.softplus(delta + given["delta_bias"].repeat(batch, 1)[:, None])
    A = given["A"].repeat(batch, 1, 1)[:, None]
    states = pscan(torch.exp(delta.unsqueeze(-1) * A), (delta * u).unsqueeze(-1) * B.unsqueeze(2))
    y = (states @ C.unsqueeze(-1)).squeeze(-1) + given["D"].repeat(batch, 1)[:, None] * u
    wide = order[None, :, :, None].expand(batch, -1, -1, dim)
    image = torch.zeros(batch, directions, rows, dim).scatter(2, wide, y.unflatten(0, (batch, directions)))
    if given.get("z") is not None:
        image = image * torch.nn.functional.silu(given["z"])[:, None]
    torch.autograd.grad(image, leaves, dy)


def _baseline(milliseconds: float, ours: float) -> dict[str, float]:
    return {"ms": milliseconds, "ratio": milliseconds / (1e3 * ours)}


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _memory(name: str) -> int:
    """In a fresh process on Linux: growth of the peak of resident memory over one forward with backward."""
    tiny = Size(1, 4, 16, 2, 1, False)
    given, leaves, dy = arguments(tiny, 1)
    torch.autograd.grad(selective_scan(**given), leaves, dy)
    given, leaves, dy = arguments(SIZES[name], SIZES[name].batch)
    Path("/proc/self/clear_refs").write_text("5")  # start a new peak
    before = _resident("VmHWM")
    y = selective_scan(**given)
    gradients = torch.autograd.grad(y, leaves, dy)
    assert len(gradients) == len(leaves)
    return _resident("VmHWM") - before


def _resident(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(entry)).split()[1])


def main(arguments_: list[str] | None = None) -> int:
    """Command line of the benchmark; returns the exit code (1 if any ratio was refused)."""
    parser = argparse.ArgumentParser(prog="python -m scansearch_kernels.bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("kernels", help="time the CPU kernels against this machine's floor")
    command.add_argument(
        "--size", action="append", choices=list(SIZES), help="may be repeated; all by default"
    )
    command.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    command.add_argument("--repeats", type=int, default=20)
    command.add_argument("--threads", type=int, default=torch.get_num_threads())
    command.add_argument("--no-baselines", action="store_true", help="skip the slow ones to compare with")
    commands.add_parser("memory", help="peak extra memory of one size, in bytes").add_argument(
        "size", choices=SIZES
    )
    options = parser.parse_args(arguments_)
    if options.command == "memory":
        print(_memory(options.size))
        return 0
    torch.set_num_threads(options.threads)
    rows = kernels(
        options.size,
        repeats=options.repeats,
        baselines=not options.no_baselines,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(rows, indent=1) if options.json else table(rows))
    return int(any(row["refused"] for row in rows))
