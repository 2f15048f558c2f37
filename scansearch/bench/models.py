"""Throughput and memory of whole models on one device, the published ones beside timm's of their size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scansearch.errors import InputError
from scansearch.text import nearest

PUBLISHED = (
    "localvim_tiny",
    "localvim_small",
    "localvim_tiny_search",
    "localvmamba_tiny",
    "localvmamba_small",
    "localvmamba_tiny_search",
)
BESIDE = ("deit_tiny_patch16_224", "deit_small_patch16_224", "swin_tiny_patch4_window7_224")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ModelRow:
    """One model on one device; peaks are None but on CUDA."""

    model: str
    device: str
    backend: str | None
    batch: int
    image_size: int
    dtype: str
    parameters: int
    inference_images_per_s: float
    inference_peak_mib: float | None
    training_images_per_s: float
    training_peak_mib: float | None


def bench_models(
    names: Sequence[str] = PUBLISHED + BESIDE,
    *,
    device: str = "cuda",
    batch: int = 128,
    image_size: int = 224,
    dtype: str = "bfloat16",
    backend: str | None = None,
    repeats: int = 10,
    arguments: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[ModelRow]:
    """Images per second of inference and of training steps (forward, backward, AdamW), and peak memory.

    Args:
        names: timm model names.
        device: where to run; `cuda` or `cpu`.
        batch: images at a time.
        image_size: side of the square images in pixels.
        dtype: activations' type, by autocast; `float32` for none.
        backend: of the scan and convolution, as in `scansearch_kernels`; None for the device's own.
        repeats: timed runs of each kind; their median counts.
        arguments: passed to timm's `create_model` as well.
        progress: called with a line of text after each model.

    Returns:
        One row per model, in the order of ``names``.

    Raises:
        InputError: an unknown model or dtype, or a device that is not there.
    """
    import timm

    import scansearch.models  # noqa: F401  (registers the published models)

    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("device 'cuda' is not there: this machine has no usable CUDA device (try cpu)")
    rows = []
    for name in names:
        if not timm.is_model(name):
            near = nearest(name, timm.list_models())
            hint = "" if near is None else f" (did you mean {near!r}?)"
            raise InputError(f"model {name!r} is unknown to timm{hint}")
        sizes = {"img_size": image_size} | (arguments or {})
        model = timm.create_model(name, **sizes).to(device)
        with forced_backend(backend):
            (inference, inference_peak), (training, training_peak) = measure(
                model, device, batch, image_size, DTYPES[dtype], repeats
            )
        row = ModelRow(
            model=name,
            device=device,
            backend=backend,
            batch=batch,
            image_size=image_size,
            dtype=dtype,
            parameters=sum(entry.numel() for entry in model.parameters()),
            inference_images_per_s=inference,
            inference_peak_mib=inference_peak,
            training_images_per_s=training,
            training_peak_mib=training_peak,
        )
        rows.append(row)
        progress(line(row))
    return rows


def measure(
    model: nn.Module, device: str, batch: int, image_size: int, dtype: torch.dtype, repeats: int
) -> list[tuple[float, float | None]]:
    """Images per second and peak memory (MiB, on CUDA) of inference, then of training, on random images."""
    from scansearch_kernels.bench.timing import milliseconds

    images = torch.randn(batch, 3, image_size, image_size, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    mixed = dtype != torch.float32
    kind = device.split(":")[0]

    def infer() -> None:
        with torch.inference_mode(), torch.autocast(kind, dtype=dtype if mixed else None, enabled=mixed):
            model(images)

    def train() -> None:
        with torch.autocast(kind, dtype=dtype if mixed else None, enabled=mixed):
            logits = model(images)
        loss = nn.functional.cross_entropy(
            logits.float(), torch.zeros(batch, dtype=torch.long, device=device)
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    figures: list[tuple[float, float | None]] = []
    for function, mode in ((infer, False), (train, True)):
        model.train(mode)
        peak = None
        if kind == "cuda":
            torch.cuda.reset_peak_memory_stats()
        spent = milliseconds(function, device, repeats, warmup=2)
        if kind == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**20
        figures.append((1e3 * batch / spent, peak))
    return figures


@contextmanager
def forced_backend(backend: str | None) -> Iterator[None]:
    """Scan and convolution on one backend inside the block; None changes nothing."""
    from scansearch_kernels.backends import VARIABLE

    if backend is None:
        yield
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = backend
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def line(row: ModelRow) -> str:
    """One model in one line."""
    text = (
        f"{row.model:30} {row.parameters / 1e6:6.1f} M  inference {row.inference_images_per_s:9.1f}"
        f" images/s  training {row.training_images_per_s:9.1f} images/s"
    )
    if row.training_peak_mib is not None:
        text += f"  peak {row.inference_peak_mib:.0f} / {row.training_peak_mib:.0f} MiB"
    return text
