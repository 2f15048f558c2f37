"""How much slower the standalone file's scan in plain torch is than the CPU kernel, at one size of the models each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from scansearch_kernels import selective_scan
from scansearch_kernels.bench.cases import SIZES, Size
from torch import Tensor

from scansearch.errors import InputError
from scansearch.exporting.templates import shared

LIMIT = 1e-4  # difference of outputs and gradients, over the largest, above which no ratio is given
Scan = Callable[..., Tensor]


@dataclass(frozen=True)
class ScanRow:
    """Both scans at one size; ``ratio`` is None where they disagree.

    Attributes:
        computes: ``forward``, or ``forward+backward``.
        difference: the largest of outputs and gradients, over the largest value.
    """

    size: str
    computes: str
    shape: dict[str, Any]
    threads: int
    difference: float
    kernel_ms: float
    standalone_ms: float
    ratio: float | None


def bench_standalone(
    sizes: Sequence[str] = ("vim_k4", "vmamba1"),
    *,
    repeats: int = 5,
    progress: Callable[[str], None] = lambda line: None,
) -> list[ScanRow]:
    """Time both scans from the steps before their bias to y, in turns, on torch's number of threads; the best counts.

    Args:
        sizes: names of the kernel benchmark's sizes.
        repeats: rounds.
        progress: called with a line of text before each size.

    Returns:
        One row per size and pass.

    Raises:
        InputError: an unknown size.
    """
    for name in sizes:
        if name not in SIZES:
            raise InputError(f"size must be one of {', '.join(SIZES)}, not {name!r}")
    rows = []
    for name in sizes:
        progress(f"{name}: {SIZES[name]}")
        inputs, gradient = _inputs(SIZES[name])
        pair: tuple[Scan, Scan] = (_kernel, _standalone)
        mine, theirs = ([y, *grads] for y, grads in (_both(scan, inputs, gradient) for scan in pair))
        difference = max(
            float((a - b).abs().max() / a.abs().max()) for a, b in zip(mine, theirs, strict=True)
        )
        for which, run in (("forward", _forward), ("forward+backward", _both)):
            best = [float("inf")] * 2
            for _ in range(repeats):
                for index, scan in enumerate(pair):
                    start = time.perf_counter()
                    run(scan, inputs, gradient)
                    best[index] = min(best[index], time.perf_counter() - start)
            rows.append(
                ScanRow(
                    size=name,
                    computes=which,
                    shape=dict(vars(SIZES[name])),
                    threads=torch.get_num_threads(),
                    difference=difference,
                    kernel_ms=1e3 * best[0],
                    standalone_ms=1e3 * best[1],
                    ratio=best[1] / best[0] if difference <= LIMIT else None,
                )
            )
    return rows


HEADINGS = ("size", "computes", "kernel", "standalone", "ratio", "difference")


def cells(row: ScanRow) -> tuple[str, ...]:
    """The row as text, under :data:`HEADINGS`."""
    return (
        row.size,
        row.computes,
        f"{row.kernel_ms:.1f} ms",
        f"{row.standalone_ms:.1f} ms",
        "no ratio: they disagree" if row.ratio is None else f"{row.ratio:.1f} times the kernel",
        f"{row.difference:.1e}",
    )


def _kernel(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    return selective_scan(u, delta, A, B, C, D, delta_bias=bias, backend="cpu")


def _standalone(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """What the standalone file's ``SelectiveScan.scan`` does between its projections and the image order."""
    steps = F.softplus(delta + bias.unsqueeze(1))
    return shared.selective_scan(u, steps, A.transpose(1, 2), B, C) + D.unsqueeze(1) * u


def _forward(scan: Scan, inputs: list[Tensor], gradient: Tensor) -> None:
    with torch.no_grad():
        scan(*inputs)


def _both(scan: Scan, inputs: list[Tensor], gradient: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    y = scan(*inputs)
    return y.detach(), torch.autograd.grad(y, inputs, gradient)


def _inputs(size: Size) -> tuple[list[Tensor], Tensor]:
    """Random u, delta, A, B, C, D and bias of that size (seed 0), and a gradient of y."""
    draw = torch.Generator().manual_seed(0)
    batch, steps, dim, states, k = size.batch, size.rows, size.dim, size.states, size.directions

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    wide, narrow = (batch, k, steps, dim), (batch, k, steps, states)
    A = -torch.arange(1.0, states + 1).repeat(k, dim, 1)
    inputs = [normal(*wide), normal(*wide), A, normal(*narrow), normal(*narrow), normal(k, dim)]
    inputs.append(normal(k, dim) - 3)
    return [tensor.requires_grad_() for tensor in inputs], normal(*wide)
