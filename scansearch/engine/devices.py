"""Devices and processes of a run."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from scansearch.errors import InputError, RunStopped
from scansearch.text import choices

if TYPE_CHECKING:
    from accelerate import Accelerator


_Item = TypeVar("_Item")

DEVICES = ("auto", "cpu", "cuda", "mps")


def make_accelerator(device: str, mixed_precision: str) -> Accelerator:
    """The processes and device of this run, through Hugging Face accelerate.

    Args:
        device: ``auto`` (CUDA where present, else CPU), ``cpu``, ``cuda`` or ``mps`` (an Apple GPU).
        mixed_precision: ``no`` or ``bf16``.

    Raises:
        InputError: an unknown or absent device.
    """
    if device not in DEVICES:
        raise InputError(f"unknown device {device!r} {choices(device, DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device 'cuda' was asked for, but torch finds no CUDA device (allowed here: auto, cpu)"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' was asked for, but torch finds no Apple GPU (allowed here: auto, cpu)")
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # one process may run several jobs in sequence
    cpu = device == "cpu" or (device != "mps" and not torch.cuda.is_available())
    return Accelerator(cpu=cpu, mixed_precision=mixed_precision)


def widest_float(device: torch.device) -> torch.dtype:
    """What sums are kept in: float64, which Apple GPUs do not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def on_any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether ``flag`` is true on at least one process; every process must ask."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), reduction="sum") > 0)


def from_all_processes(accelerator: Accelerator, items: Sequence[_Item]) -> list[_Item]:
    """``items`` of every process, one after the other; every process must ask. Cheap where none has any."""
    if not on_any_process(accelerator, bool(items)) or accelerator.num_processes == 1:
        return list(items)
    from accelerate.utils import gather_object

    return list(gather_object(list(items)))


def check_equal_on_all_processes(accelerator: Accelerator, tensors: Sequence[Tensor], what: str) -> None:
    """Compare SHA-256 hashes of ``tensors`` over the processes.

    Raises:
        RunStopped: they differ; naming ``what``.
    """
    if accelerator.num_processes == 1:
        return
    digest = hashlib.sha256(
        b"".join(t.detach().cpu().contiguous().numpy().tobytes() for t in tensors)
    ).digest()
    words = torch.frombuffer(bytearray(digest), dtype=torch.int64).to(accelerator.device)
    hashes = accelerator.gather(words[None])
    if not bool((hashes == words).all()):
        raise RunStopped(f"{what} differ between the processes; the last checkpoint is kept")


def available_bytes(device: torch.device) -> int:
    """Free memory of ``device`` in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return int(psutil.virtual_memory().available)


def device_name(device: torch.device) -> str:
    """The device in words, with the number of threads on a CPU, because latency depends on it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
