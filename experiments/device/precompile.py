"""Compiles what the later steps launch, on all cores at once, into Triton's cache."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch
from common import DRY, left
from scansearch_kernels.bench.compile_report import compile_variant, launches_of, variants
from scansearch_kernels.bench.published_sizes import PUBLISHED_SIZES
from scansearch_kernels.gpu import plan
from scansearch_kernels.gpu.launch import Launch
from support.scan_cases import CASES, check
from timing import BACKWARD, FORWARD

_launches: list[Launch] = []


def launches() -> list[Launch]:
    """One of each variant; those that compile longest first."""
    wanted = []
    for dtype in (torch.bfloat16, torch.float32, torch.float16):
        for size in PUBLISHED_SIZES:
            for batch, train in ((128, True), (128, False), (2, True)):
                wanted += launches_of(size, batch, dtype, train)
    for size in PUBLISHED_SIZES:
        if size.name in ("localvim_tiny", "localvmamba stage 1"):
            call = size.scan_call(128, torch.bfloat16)
            for tuning in (*FORWARD.values(), *BACKWARD.values()):
                forward, y, saved = plan.plan_forward(call, True, tuning)
                assert saved is not None
                wanted += forward + plan.plan_backward(call, saved, y, tuning)[0]
    for case in CASES.values():
        for dtype in (torch.float32, torch.float64):
            arguments = {
                name: tuple(part.to(dtype) for part in value)
                if isinstance(value, tuple) and isinstance(value[0], torch.Tensor)
                else value.to(dtype)
                if isinstance(value, torch.Tensor) and value.is_floating_point()
                else value
                for name, value in case.arguments()[0].items()
            }
            call = check(**arguments)
            if call.u.numel():
                forward, y, saved = plan.plan_forward(call, True)
                assert saved is not None
                wanted += forward + plan.plan_backward(call, saved, y)[0]
    return sorted(variants(wanted), key=lambda launch: "scan_backward" not in launch.kernel.__name__)


def compile_one(index: int) -> str:
    """The variant at this place of the list, which a forked process has inherited."""
    found = compile_variant(_launches[index])
    return f"{found.kernel} registers {found.registers} spills {found.spill_stores} in {found.seconds:.0f} s"


def main() -> None:
    """As many as fit the time."""
    if DRY:
        print("nothing to compile for the interpreter")
        return
    with torch.no_grad():
        _launches.extend(launches())
    began, done = time.monotonic(), 0
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(max_workers=max(1, (os.cpu_count() or 4) - 1), mp_context=context)
    futures = [pool.submit(compile_one, index) for index in range(len(_launches))]
    try:
        for future in as_completed(futures, timeout=max(5.0, left() - 3)):
            done += 1
            text = repr(future.exception()) if future.exception() else future.result()
            if "scan_" in text or future.exception():
                print(text[:300], flush=True)
    except TimeoutError:
        print("out of time", flush=True)
    print(f"compiled {done} of {len(futures)} in {time.monotonic() - began:.0f} s", flush=True)
    for process in (getattr(pool, "_processes", None) or {}).values():
        process.kill()
    os._exit(0)  # not to wait for what still compiles


if __name__ == "__main__":
    main()
