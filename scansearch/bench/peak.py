"""Peak memory of a model on a CPU, measured in a process of its own."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

_STATUS, _NEW_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mib(
    name: str, options: dict[str, Any], batch: int, image_size: int, dtype: str
) -> tuple[float | None, float | None]:
    """MiB that one inference, and one training step after it, add to a process that holds the model and the images.

    None where the system does not tell (it is Linux that does), or the process died.

    Args:
        name, options: of timm's ``create_model``.
    """
    if not _NEW_PEAK.exists():
        return None, None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(_measured, name, options, batch, image_size, dtype).result()
        except BrokenExecutor:  # killed for want of memory
            return None, None


def _measured(
    name: str, options: dict[str, Any], batch: int, image_size: int, dtype: str
) -> tuple[float, float]:
    import timm

    import scansearch.models  # noqa: F401  (registers the published models)
    from scansearch.bench.workload import DTYPES, Workload

    model = timm.create_model(name, **options)
    Workload(model, "cpu", 1, image_size, DTYPES[dtype]).infer()  # loads kernels and libraries
    workload = Workload(model, "cpu", batch, image_size, DTYPES[dtype])
    peaks = []
    for function in (workload.infer, workload.train):
        _NEW_PEAK.write_text("5")
        before = _peak_kib()
        function()
        peaks.append((_peak_kib() - before) / 1024)
    return peaks[0], peaks[1]


def _peak_kib() -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
