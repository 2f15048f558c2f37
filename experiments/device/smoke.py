"""Results on the card against the reference in float64: gradients, determinism, odd addresses, streams, graphs."""

import dataclasses
import random
from typing import Any

import torch
from common import DEVICE, DRY, Log, left, synchronize
from scansearch_kernels import causal_conv, selective_scan
from scansearch_kernels.bench.device import arguments_of
from scansearch_kernels.bench.published_sizes import PUBLISHED_SIZES
from support.gpu_checks import TOLERANCES, conv_arguments, leaves_and_gradients, tensors_of
from support.merge_checks import KINDS, compare_means, compare_sum, drawn
from support.scan_cases import CASES, ScanCase, random_order

log = Log("smoke")
SIZES = {size.name: size for size in PUBLISHED_SIZES}
SINGLE, HALF = torch.float32, torch.bfloat16


def moved(value: Any, dtype: torch.dtype) -> Any:
    """Tensors on the device, floating-point ones in `dtype`."""
    if isinstance(value, dict):
        return {name: moved(part, dtype) for name, part in value.items()}
    if isinstance(value, tuple) and value and isinstance(value[0], torch.Tensor):
        return tuple(moved(part, dtype) for part in value)
    if isinstance(value, torch.Tensor):
        return value.to(DEVICE, dtype if value.is_floating_point() else None)
    return value


def off_address(value: Any) -> Any:
    """The same values one element off an aligned address, in rows of odd length."""
    if isinstance(value, dict):
        return {name: off_address(part) for name, part in value.items()}
    if isinstance(value, tuple) and value and isinstance(value[0], torch.Tensor):
        return (off_address(value[0]), value[1])
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dim() < 3:
        return value
    wide = value.new_zeros(*value.shape[:-1], value.shape[-1] + 3)
    wide[..., 1:-2] = value
    return wide[..., 1:-2]


def off_by(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest deviation relative to the largest entry; infinite where anything is not finite."""
    if not ours.numel():
        return 0.0
    if not bool(torch.isfinite(ours).all()):
        return float("inf")
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1e-6))


@torch.enable_grad()
def deviations(arguments: dict[str, Any], function: Any) -> dict[str, float]:
    """Of the output and of each gradient."""
    for tensor in tensors_of(arguments).values():
        tensor.requires_grad_()
    y, gradients, dy = leaves_and_gradients(function, arguments, None, backend="cuda")
    synchronize()
    exact = moved(arguments, torch.float64)
    for tensor in tensors_of(exact).values():
        tensor.detach_().requires_grad_()
    right, expected, _ = leaves_and_gradients(function, exact, dy.double(), backend="reference")
    pairs = {"y": (y, right)} | {name: (gradient, expected[name]) for name, gradient in gradients.items()}
    return {name: off_by(ours.detach(), theirs.detach()) for name, (ours, theirs) in pairs.items()}


def check(case: str, arguments: dict[str, Any], dtype: torch.dtype, function: Any = selective_scan) -> None:
    """One row: every deviation, and whether a second and third run agree in every bit."""
    try:
        found = deviations(arguments, function)
        runs = []
        for _ in range(1 if DRY else 3):
            y, gradients = _ones(function, arguments)
            runs.append([y, *gradients])
        same = all(torch.equal(a, b) for run in runs for a, b in zip(runs[0], run, strict=True))
        worst = max(found.values())
        log.add(case=case, ok=worst <= TOLERANCES[dtype] and same, worst=worst, same_bits=same, errors=found)
    except Exception as error:
        log.failed(error, case=case)


def _ones(function: Any, arguments: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    leaves = [tensor for tensor in tensors_of(arguments).values() if tensor.requires_grad]
    y = function(**arguments, backend="cuda")
    return y.detach(), list(torch.autograd.grad(y, leaves, torch.ones_like(y)))


def check_merge(case: str, compare: Any) -> None:
    """One of the project's own comparisons of the merge."""
    try:
        compare()
        log.add(case=case, ok=True)
    except Exception as error:
        log.failed(error, case=case)


def batch_is_only_a_batch(name: str) -> None:
    """The last half of 128 images alone gives the same bits: offsets beyond 32 bits would show here."""
    try:
        arguments, learned = arguments_of(SIZES[name], 128, HALF, DEVICE, "w7")
        y, gradients = _ones(selective_scan, arguments)
        finite = all(bool(torch.isfinite(part).all()) for part in (y, *gradients))
        del learned
        half: dict[str, Any] = {}
        for key, value in arguments.items():
            if key == "delta":
                half[key] = (value[0][-64:].detach().requires_grad_(), value[1])
            else:
                half[key] = value[-64:].detach().requires_grad_() if key in ("u", "B", "C", "z") else value
        y_half, gradients_half = _ones(selective_scan, half)
        same = torch.equal(y_half, y[-64:]) and torch.equal(gradients_half[0], gradients[0][-64:])
        log.add(case=f"{name}, last 64 of 128 alone", ok=same and finite)
    except Exception as error:
        log.failed(error, case=f"{name}, batch 128")


def stream_and_graph() -> None:
    """Forward and backward on a stream of its own, then captured and replayed on other values."""
    arguments, _ = arguments_of(SIZES["localvim_tiny"], 4, HALF, DEVICE, "w7")

    def step() -> list[torch.Tensor]:
        y, gradients = _ones(selective_scan, arguments)
        return [y, *gradients]

    try:
        here = step()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            there = step()
        torch.cuda.current_stream().wait_stream(side)
        log.add(case="side stream", ok=all(torch.equal(a, b) for a, b in zip(here, there, strict=True)))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        with torch.no_grad():
            arguments["u"].mul_(0.5)
            arguments["A"].mul_(0.7)
            arguments["delta"][1].mul_(1.3)
        graph.replay()
        fresh = step()
        log.add(case="graph", ok=all(torch.equal(a, b) for a, b in zip(captured, fresh, strict=True)))
    except Exception as error:
        log.failed(error, case="stream or graph")


def random_calls(seconds: float) -> None:
    """Small calls of any kind that the contract allows, until the time is over."""
    draw, until, count, wrong, worst = random.Random(20), left() - seconds, 0, 0, 0.0
    while left() > max(until, 3) and wrong < 10:
        rows = draw.choice([1, 2, 7, 16, 17] if DRY else [1, 2, 7, 16, 17, 63, 64, 65, 130])
        directions = draw.randint(1, 5)
        case = ScanCase(
            batch=draw.randint(1, 3), directions=directions, rows=rows, dim=draw.choice([1, 5, 31, 33, 64, 130]),
            states=draw.choice([1, 2, 3, 8, 16, 24]), rank=draw.choice([0, 1, 6, 16, 17]),
            shared_u=draw.random() < 0.5, skip=draw.random() < 0.8, gate=draw.random() < 0.5,
            bias=draw.random() < 0.8, read=draw.choice(["none", "order", "padded"]),
            write=draw.choice(["same", "order"]), dtype=SINGLE, seed=draw.randrange(1 << 30),
            lengths=tuple(draw.randint(0, rows) for _ in range(directions)) if draw.random() < 0.3 else None,
        )  # fmt: skip
        try:
            largest = max(deviations(moved(case.arguments()[0], SINGLE), selective_scan).values())
            worst, count = max(worst, largest), count + 1
            if largest > TOLERANCES[SINGLE]:
                wrong += 1
                log.add(case="random", ok=False, worst=largest, of=str(case))
        except Exception as error:
            wrong += 1
            log.failed(error, case="random", of=str(case))
    log.add(case="random calls", ok=wrong == 0, calls=count, wrong=wrong, worst=worst)


def main() -> None:
    """In the order of how much each check says."""
    small = {"rows": 6, "batch": 1} if DRY else {}
    names = ["plain", "low_rank_order"] + (
        [] if DRY else ["padded_low_rank", "lengths_orders", "both_orders"]
    )
    for name in names:
        check(name, moved(dataclasses.replace(CASES[name], **small).arguments()[0], SINGLE), SINGLE)
    published = ["localvim_tiny", "localvmamba stage 1", "localvmamba stage 4, w2", "localvim_tiny_search"]
    for name in [] if DRY else published:
        for dtype in (HALF, SINGLE, torch.float16):
            check(f"{name} {dtype}", arguments_of(SIZES[name], 2, dtype, DEVICE, "w7")[0], dtype)
    for dtype in (HALF, SINGLE):
        case = dataclasses.replace(
            CASES["low_rank_order"], **(small or {"rows": 100, "dim": 64, "states": 16})
        )
        check(f"odd addresses {dtype}", off_address(moved(case.arguments()[0], dtype)), dtype)
        conv = conv_arguments(batch=2, rows=13, dim=33, directions=4, width=4, dtype=dtype)
        conv |= {
            "read_order": random_order(torch.Generator().manual_seed(0), 4, 15, 13),
            "lengths": (15, 13, 6, 0),
        }
        check(f"convolution {dtype}", moved(conv, dtype), dtype, causal_conv)
        for shape in [(2, 3, 5, 24)] if DRY else [(2, 8, 197, 384), (1, 4, 3136, 192), (3, 1, 50, 100)]:
            given = drawn(shape, dtype, DEVICE)
            for kind in KINDS:
                check_merge(f"merge {kind} {shape} {dtype}", lambda g=given, k=kind: compare_sum(g, k))
            check_merge(f"means {shape} {dtype}", lambda g=given: compare_means(g[0]))
    if not DRY:
        batch_is_only_a_batch("localvim_tiny")
        batch_is_only_a_batch("localvmamba stage 1")
        stream_and_graph()
    random_calls(min(4.0 if DRY else 15.0, left() - 5))
    wrong = [row["case"] for row in log.rows if not row["ok"]]
    print(f"smoke: {len(log.rows)} checks, {len(wrong)} wrong: {wrong[:12]}", flush=True)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
