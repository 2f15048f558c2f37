"""What one would run instead of the CPU kernels: each scan with the copies into scan order and back that it needs.

An opponent computes rows in scan order; `with_copies` puts it into the place of one call of `selective_scan`. Each is
compared with the kernels before it is timed, and gets no ratio where it differs.
"""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch_kernels import selective_scan
from scansearch_kernels.bench import jax_scan
from scansearch_kernels.bench.cases import Size, arguments

PASSES = ("forward", "forward+backward")
LARGEST_DIFFERENCE = 1e-4  # of outputs and gradients, over the largest value
BASELINE_BYTES = 2**31  # states of all steps at once
CHUNK = 14  # steps that the compiled loop unrolls
Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""u and delta [rows, steps, dim], A [rows, dim, states], B and C [rows, steps, states] to y like u, all in scan order;
delta is what softplus gave, and D u is not in y."""


@dataclass(frozen=True)
class OpponentTime:
    """One opponent in one pass.

    Attributes:
        ms: the best of its rounds, scaled to the whole batch where that would not fit in memory.
        ratio: `ms` over the kernels' best of the same rounds; None where the results differ.
        difference: the largest from the kernels' outputs and gradients, over the largest value.
    """

    ms: float
    ratio: float | None
    difference: float


def available() -> dict[str, Scan]:
    """Name -> scan of every opponent that this machine can run, the plainest first."""
    scans: dict[str, Scan] = {"loop": loop}
    try:
        from mambapy.pscan import pscan
    except ImportError:
        pass
    else:
        scans["mambapy"] = lambda *inputs: parallel_scan(pscan, *inputs)
    if shutil.which(os.environ.get("CXX", "g++")):
        scans["compiled chunks"] = compiled_chunks()
    with suppress(ImportError):
        scans["JAX"] = jax_scan.scan()
    return scans


def loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """One step after another."""
    return chunk(torch.zeros_like(A), u, delta, B, C, A)[0]


def parallel_scan(pscan: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """mambapy's parallel scan, all states of all steps at once."""
    states = pscan(torch.exp(delta.unsqueeze(-1) * A[:, None]), (delta * u).unsqueeze(-1) * B.unsqueeze(2))
    y: Tensor = (states @ C.unsqueeze(-1)).squeeze(-1)
    return y


def chunk(state: Tensor, u: Tensor, delta: Tensor, B: Tensor, C: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """y of a few steps from ``state`` [rows, dim, states] on, and the state after them."""
    outputs = []
    for step in range(u.shape[1]):
        decay = torch.exp(delta[:, step, :, None] * A)
        state = decay * state + (delta[:, step] * u[:, step])[:, :, None] * B[:, step, None, :]
        outputs.append((state * C[:, step, None, :]).sum(-1))
    return torch.stack(outputs, dim=1), state


def compiled_chunks() -> Scan:
    """`chunk` of `CHUNK` steps under `torch.compile`, one call after another.

    What was compiled before is forgotten: torch stops compiling a function at its eighth kind of arguments.
    """
    torch.compiler.reset()
    compiled: Callable[..., tuple[Tensor, Tensor]] = torch.compile(chunk, dynamic=False)

    def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        state, outputs = torch.zeros_like(A), []
        for part in zip(*(tensor.split(CHUNK, dim=1) for tensor in (u, delta, B, C)), strict=True):
            y, state = compiled(state, *part, A)
            outputs.append(y)
        return torch.cat(outputs, dim=1)

    return scan


def with_copies(scan: Scan, given: dict[str, Any]) -> Tensor:
    """y [batch, directions, rows, dim] of the call ``given``, by ``scan`` between copies into scan order and back."""
    order = given["read_order" if "read_order" in given else "write_order"].long()
    batch, dim = given["u"].shape[0], given["u"].shape[3]

    def gathered(tensor: Tensor) -> Tensor:
        if "read_order" not in given:
            return tensor.flatten(0, 1)
        wide = order[None, :, :, None].expand(batch, -1, -1, tensor.shape[3])
        return tensor.expand(-1, order.shape[0], -1, -1).gather(2, wide).flatten(0, 1)

    u, delta, B, C = (gathered(given[name]) for name in ("u", "delta", "B", "C"))
    delta = F.softplus(delta + given["delta_bias"].repeat(batch, 1)[:, None])
    y = scan(u, delta, given["A"].repeat(batch, 1, 1), B, C) + given["D"].repeat(batch, 1)[:, None] * u
    wide = order[None, :, :, None].expand(batch, -1, -1, dim)
    y = y.unflatten(0, (batch, -1))
    image = torch.zeros_like(y).scatter(2, wide, y)
    return image * F.silu(given["z"])[:, None] if given.get("z") is not None else image


def compare(
    size: Size, rounds: int = 2, scans: dict[str, Scan] | None = None
) -> dict[str, dict[str, OpponentTime]]:
    """Pass -> name -> time of every opponent at ``size``, in turns with the kernels, on torch's number of threads."""
    batch = size.batch
    while batch > 1 and 4 * batch * size.directions * 2 * size.rows * size.dim * size.states > BASELINE_BYTES:
        batch //= 2
    given, leaves, dy = arguments(size, batch)

    def kernels() -> Tensor:
        return selective_scan(**given, backend="cpu")

    def forward(run: Callable[[], Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return [run()]

    def both(run: Callable[[], Tensor]) -> list[Tensor]:
        y = run()
        return [y.detach(), *torch.autograd.grad(y, leaves, dy)]

    times: dict[str, dict[str, OpponentTime]] = {which: {} for which in PASSES}
    for name, scan in (available() if scans is None else scans).items():

        def opponent(scan: Scan = scan) -> Tensor:
            return with_copies(scan, given)

        for which, computes in zip(PASSES, (forward, both), strict=True):
            difference = _difference(computes(opponent), computes(kernels))  # compiles, too
            ours = theirs = float("inf")
            for _ in range(rounds):
                ours = min(ours, *(_seconds(computes, kernels) for _ in range(3)))
                theirs = min(theirs, _seconds(computes, opponent))
            right = difference <= LARGEST_DIFFERENCE
            scale = 1e3 * size.batch / batch
            times[which][name] = OpponentTime(scale * theirs, theirs / ours if right else None, difference)
    return times


def _difference(theirs: list[Tensor], ours: list[Tensor]) -> float:
    """NaN, which is never small, where a result is not finite."""
    parts = [(a - b).abs().max() / b.abs().max() for a, b in zip(theirs, ours, strict=True)]
    return float(torch.stack(parts).max())


def _seconds(computes: Callable[[Callable[[], Tensor]], Any], run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    computes(run)
    return time.perf_counter() - start
