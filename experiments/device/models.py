"""Whole models beside timm's, one at a time, and where the time of a training step of ours goes."""

import time
from dataclasses import asdict

import timm
import torch
from common import DEVICE, DRY, Log, left

from scansearch.bench.models import bench_models

NAMES = [
    "localvim_tiny", "deit_tiny_patch16_224", "localvmamba_tiny", "swin_tiny_patch4_window7_224",
    "localvim_tiny_search", "localvim_small", "deit_small_patch16_224",
]  # fmt: skip
FAMILIES = ("scan_", "chain_", "reduce_tiles", "conv_", "merge_")


def profile(name: str) -> dict[str, float]:
    """Milliseconds of a training step: of the host until it returns, of the whole, and of the card by kernel."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    model = timm.create_model(name).to(DEVICE).train()
    images = torch.randn(128, 3, 224, 224, device=DEVICE)

    def step() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(images).float().square().mean()
        loss.backward()
        model.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    step()
    host = time.perf_counter() - began
    torch.cuda.synchronize()
    found = {"host_ms": 1e3 * host, "step_ms": 1e3 * (time.perf_counter() - began)}
    with profiler(activities=[ProfilerActivity.CUDA]) as recorded:
        step()
        torch.cuda.synchronize()
    for event in recorded.key_averages():
        key = event.key.lower()
        if event.key.startswith(FAMILIES):
            family = event.key
        elif any(part in key for part in ("gemm", "cutlass", "nvjet", "xmma")):
            family = "matrix products"
        else:
            family = "other kernels"
        found[family] = found.get(family, 0.0) + event.self_device_time_total / 1e3
    return found


def main() -> None:
    """The most telling pairs first."""
    settings = {"batch": 128, "repeats": 10, "dtype": "bfloat16"}
    if DRY:
        settings = {"batch": 1, "repeats": 1, "dtype": "float32"}
    log = Log("models", **settings)
    longest = 0.0
    for name in NAMES[1:2] if DRY else NAMES:
        if left() < max(8.0, 1.2 * longest):
            log.add(what="out of time", left_out=NAMES[NAMES.index(name) :])
            break
        began = time.monotonic()
        try:
            log.add(**asdict(bench_models([name], device=DEVICE, memory=False, **settings)[0]))
            if not DRY and name in ("localvim_tiny", "localvmamba_tiny"):
                log.add(model=name, what="training step", **profile(name))
        except Exception as error:
            log.failed(error, model=name)
        if not DRY:
            torch.cuda.empty_cache()
        longest = max(longest, time.monotonic() - began)


if __name__ == "__main__":
    main()
