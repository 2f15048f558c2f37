"""Throughput and memory of whole models on one device, the published ones beside timm's of their size."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from scansearch.bench.peak import peak_mib
from scansearch.bench.workload import DTYPES, Workload
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
ON_A_CPU = (  # each of ours with its raster baseline and timm's model of its size
    "localvim_tiny",
    "vim_tiny",
    "deit_tiny_patch16_224",
    "localvmamba_tiny",
    "vmamba_tiny",
    "swin_tiny_patch4_window7_224",
)


@dataclass(frozen=True)
class ModelRow:
    """One model on one device.

    Attributes:
        inference_peak_mib, training_peak_mib: on CUDA what torch allocated at most, model included; on a CPU under
            Linux how much the memory of a process of its own grew beyond the model; else None.
        threads: that computed; None on CUDA.
    """

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
    threads: int | None


def bench_models(
    names: Sequence[str] = PUBLISHED + BESIDE,
    *,
    device: str = "cuda",
    batch: int = 128,
    image_size: int = 224,
    dtype: str = "bfloat16",
    backend: str | None = None,
    repeats: int = 10,
    memory: bool = True,
    arguments: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[ModelRow]:
    """Images per second of inference and of training steps (forward, backward, AdamW), and peak memory.

    On a CPU the models take turns, so that what else the machine does meets all of them.

    Args:
        names: timm model names.
        device: where to run; `cuda` or `cpu`.
        batch: images at a time.
        image_size: side of the square images in pixels.
        dtype: activations' type, by autocast; `float32` for none.
        backend: of the scan and convolution, as in `scansearch_kernels`; None for the device's own.
        repeats: timed runs of each kind; their median counts.
        memory: on a CPU, measure the peaks too, each in a process of its own.
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
    for name in names:
        if not timm.is_model(name):
            near = nearest(name, timm.list_models())
            hint = "" if near is None else f" (did you mean {near!r}?)"
            raise InputError(f"model {name!r} is unknown to timm{hint}")
    kind, options = device.split(":")[0], {"img_size": image_size} | (arguments or {})

    def workload_of(name: str) -> Workload:
        model = timm.create_model(name, **options).to(device)
        return Workload(model, device, batch, image_size, DTYPES[dtype])

    def row(
        name: str, parameters: int, rates: tuple[float, float], peaks: tuple[float | None, float | None]
    ) -> ModelRow:
        one = ModelRow(
            model=name,
            device=device,
            backend=backend,
            batch=batch,
            image_size=image_size,
            dtype=dtype,
            parameters=parameters,
            inference_images_per_s=rates[0],
            inference_peak_mib=peaks[0],
            training_images_per_s=rates[1],
            training_peak_mib=peaks[1],
            threads=None if kind == "cuda" else torch.get_num_threads(),
        )
        progress(line(one))
        return one

    with forced_backend(backend):
        if kind == "cuda":  # one after another: what one model holds would count for the next
            return [
                row(name, one.parameters, *one.on_cuda(repeats))
                for name in names
                for one in [workload_of(name)]
            ]
        workloads = {name: workload_of(name) for name in names}
        rates = in_turns(workloads, repeats)
        nothing: tuple[float | None, float | None] = (None, None)
        return [
            row(
                name,
                workload.parameters,
                rates[name],
                peak_mib(name, options, batch, image_size, dtype) if memory else nothing,
            )
            for name, workload in workloads.items()
        ]


def in_turns(workloads: dict[str, Workload], repeats: int) -> dict[str, tuple[float, float]]:
    """Images per second of inference and of training on a CPU, by the medians of ``repeats`` rounds over all models."""
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in workloads}
    for round_ in range(repeats + 1):
        for name, workload in workloads.items():
            for function, times in zip((workload.infer, workload.train), seconds[name], strict=True):
                start = time.perf_counter()
                function()
                if round_:  # the first compiles kernels and fills caches
                    times.append(time.perf_counter() - start)
    return {
        name: (
            workloads[name].batch / statistics.median(infer),
            workloads[name].batch / statistics.median(train),
        )
        for name, (infer, train) in seconds.items()
    }


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
    if row.inference_peak_mib is not None and row.training_peak_mib is not None:
        text += f"  peak {row.inference_peak_mib:.0f} / {row.training_peak_mib:.0f} MiB"
    return text
