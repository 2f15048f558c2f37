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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from scansearch_kernels import selective_scan
from scansearch_kernels.bench.cases import SIZES, Size, arguments, check_accuracy
from scansearch_kernels.bench.floor import Floor, processor
from scansearch_kernels.bench.hardware import instruction_set
from scansearch_kernels.bench.opponents import PASSES, OpponentTime, compare
from scansearch_kernels.bench.threads import line, threads_ms
from scansearch_kernels.cpu.threads import openmp_in_use

OUTPUT_LIMIT, GRADIENT_LIMIT = 2e-6, 1e-5
THREAD_ROUNDS = 10


@dataclass(frozen=True)
class Machine:
    """Where it was measured.

    Attributes:
        instructions: the widest vector instructions that the kernels use.
        team: whose threads compute.
        floor_steps_per_s: state updates a second of the floor, the best of the whole session.
    """

    processor: str
    instructions: str
    threads: int
    team: str
    floor_steps_per_s: float
    multiply_adds_per_s: float
    copy_bytes_per_s: float


@dataclass(frozen=True)
class KernelRow:
    """The kernels at one size, in one pass.

    Attributes:
        size: its name; `computes` is one of `PASSES`.
        shape: the fields of its `Size`.
        floor_ms, floor_ratio: None where `refused` says why no ratio is given.
        output_error, gradient_error: from float64, over the largest value.
        opponents: name -> its time; empty where they were not asked for.
        peak_extra_bytes: that forward with backward adds to the memory of a process; None for the forward alone.
        threads_ms: see `threads`; None for the forward alone.
    """

    size: str
    computes: str
    shape: dict[str, Any]
    ours_ms: float
    steps_per_s: float
    floor_ms: float | None
    floor_ratio: float | None
    output_error: float
    gradient_error: float
    refused: str | None
    opponents: dict[str, OpponentTime]
    peak_extra_bytes: int | None
    threads_ms: dict[str, float] | None
    machine: Machine

    def strongest(self) -> tuple[str, OpponentTime] | None:
        """The opponent that comes nearest to the kernels, of those that compute the same."""
        right = [(name, time) for name, time in self.opponents.items() if time.ratio is not None]
        return min(right, key=lambda entry: entry[1].ratio or 0.0, default=None)


def kernels(
    sizes: Sequence[str] | None = None,
    *,
    repeats: int = 20,
    baselines: bool = True,
    memory: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> list[KernelRow]:
    """Measure the kernels on torch's number of threads.

    Args:
        sizes: names in `SIZES`; all by default.
        repeats: rounds of floor, forward and forward with backward; the best of each counts.
        baselines: whether to time the opponents too (minutes in all).
        memory: whether to measure the peak of memory, in a process of its own.
        progress: called with a line of text before each size.

    Returns:
        One row per size and pass.

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
    measured = []
    for name in sizes or SIZES:
        size = SIZES[name]
        progress(f"{name}: {size}")
        errors = check_accuracy(size)
        times = _best_times(size, floor, repeats)
        opponents = compare(size) if baselines and not _wrong(errors) else {which: {} for which in PASSES}
        peak = peak_memory(name) if memory else None
        measured.append((name, errors, times, opponents, peak, threads_ms(size, min(repeats, THREAD_ROUNDS))))
    machine = Machine(
        processor=processor(),
        instructions=instruction_set(),
        threads=torch.get_num_threads(),
        team="torch's OpenMP" if openmp_in_use() else "Python threads",
        floor_steps_per_s=floor.steps_per_s,
        multiply_adds_per_s=floor.multiply_adds_per_s,
        copy_bytes_per_s=floor.bytes_per_s,
    )
    rows = []
    for name, errors, times, opponents, peak, ways in measured:
        refused = _wrong(errors) or _disturbed(floor)
        for which, seconds in zip(PASSES, times, strict=True):
            floor_ms = None if refused else 1e3 * SIZES[name].work() / floor.steps_per_s
            row = KernelRow(
                size=name,
                computes=which,
                shape=vars(SIZES[name]),
                ours_ms=1e3 * seconds,
                steps_per_s=SIZES[name].work() / seconds,
                floor_ms=floor_ms,
                floor_ratio=None if floor_ms is None else 1e3 * seconds / floor_ms,
                **errors,
                refused=refused,
                opponents=opponents[which],
                peak_extra_bytes=peak if which == PASSES[1] else None,
                threads_ms=ways if which == PASSES[1] else None,
                machine=machine,
            )
            rows.append(row)
    return rows


def table(rows: list[KernelRow]) -> str:
    """The result of `kernels` as lines of text."""
    if not rows:
        return "nothing measured"
    machine = rows[0].machine
    lines = [
        f"{machine.processor}, {machine.instructions}, {machine.threads} threads ({machine.team})",
        f"floor {machine.floor_steps_per_s / 1e9:.1f} G steps/s, multiply-adds"
        f" {machine.multiply_adds_per_s / 1e9:.0f} G/s, copy {machine.copy_bytes_per_s / 1e9:.1f} GB/s",
        "",
        f"{'size':12}{'pass':18}{'ours ms':>9}{'G steps/s':>11}{'floor ms':>10}{'ratio':>7}  others (times ours)",
    ]
    for row in rows:
        known = row.floor_ms is not None and row.floor_ratio is not None
        ratio = f"{row.floor_ms:10.2f}{row.floor_ratio:7.2f}" if known else f"{'-':>10}{'-':>7}"
        lines.append(
            f"{row.size:12}{row.computes:18}{row.ours_ms:9.2f}{row.steps_per_s / 1e9:11.2f}{ratio}  {_others(row)}"
        )
        if row.refused:
            lines.append(f"  no ratio: {row.refused}")
    lines += ["", f"{'size':12}{PASSES[1]} of one call (times as fast as one thread)"]
    lines += [
        f"{row.size:12}{line(row.threads_ms, machine.threads)}" for row in rows if row.threads_ms is not None
    ]
    return "\n".join(lines)


def _others(row: KernelRow) -> str:
    """The opponents, the strongest first, and the memory."""
    entries = sorted(row.opponents.items(), key=lambda entry: entry[1].ratio or float("inf"))
    parts = [
        f"{name} {time.ms:.0f} ms"
        + (
            f" ({time.ratio:.1f}x)"
            if time.ratio is not None
            else f" (differs by {time.difference:.1e}: no ratio)"
        )
        for name, time in entries
    ]
    if row.peak_extra_bytes is not None:
        parts.append(f"peak extra memory {row.peak_extra_bytes / 2**20:.0f} MiB")
    return "  ".join(parts)


def peak_memory(name: str) -> int | None:
    """Bytes that one forward with backward adds to the peak of a process that already holds its inputs."""
    command = [sys.executable, "-m", "scansearch_kernels.bench", "memory", name]
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "0"}
    )
    return int(run.stdout) if run.returncode == 0 else None


def _wrong(errors: dict[str, float]) -> str | None:
    output, gradient = errors["output_error"], errors["gradient_error"]
    if output <= OUTPUT_LIMIT and gradient <= GRADIENT_LIMIT:
        return None
    return f"the kernel is wrong (errors {output:.1e} and {gradient:.1e})"


def _disturbed(floor: Floor) -> str | None:
    if floor.plausible():
        return None
    return (
        f"a floor of {floor.steps_per_s / 1e9:.1f} G steps/s is implausible on a machine that does"
        f" {floor.multiply_adds_per_s / 1e9:.0f} G multiply-adds/s: measure again when it is idle"
    )


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
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else table(rows))
    return int(any(row.refused for row in rows))
