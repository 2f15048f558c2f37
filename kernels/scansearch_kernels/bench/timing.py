"""How long a call takes on any device."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def milliseconds(function: Callable[[], Any], device: str, repeats: int = 20, warmup: int = 3) -> float:
    """Median time of a call: by device events on CUDA, by the clock elsewhere."""
    for _ in range(warmup):
        function()
    times = []
    for _ in range(repeats):
        if device.startswith("cuda"):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            function()
            end.record()
            end.synchronize()
            times.append(float(start.elapsed_time(end)))
        else:
            began = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)
