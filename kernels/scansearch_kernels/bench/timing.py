"""How long a call takes on any device."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def milliseconds(
    function: Callable[[], Any], device: str, repeats: int = 20, warmup: int = 3, queued: int = 1
) -> float:
    """Median time of a call: by device events around `queued` calls on CUDA, by the clock elsewhere."""
    for _ in range(warmup):
        function()
    times = []
    for _ in range(repeats):
        if device.startswith("cuda"):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(queued):
                function()
            end.record()
            end.synchronize()
            times.append(float(start.elapsed_time(end)) / queued)
        else:
            began = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def host_milliseconds(function: Callable[[], Any], device: str, repeats: int = 20) -> float:
    """Median time until a call returns, the device being idle before: what planning and launching cost the host."""
    times = []
    for _ in range(repeats):
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)
