"""What a run will cost, told before it starts: parameters, FLOPs, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scansearch.costing.unmoved import Forward, plain_forward, unmoved
from scansearch.engine.devices import available_bytes
from scansearch.errors import InputError
from scansearch.text import gibibytes

if TYPE_CHECKING:
    from collections.abc import Sequence

# Beside what autograd saves: temporaries of the backward pass, measured at 1.2 to 1.4 times the saved tensors.
_TRANSIENT = 1.4
# Weights, gradients and Adam's two moments, float32.
_BYTES_PER_PARAMETER = 16


@dataclass(frozen=True)
class Forecast:
    """Figures of one training step.

    Attributes:
        parameters: of the model, all of them.
        step_bytes: estimated peak memory of one step on one process, beyond what is in use already.
        available_bytes: what the device has free.
    """

    parameters: int
    step_bytes: int
    available_bytes: int


def forecast(
    model: nn.Module,
    image: Sequence[int],
    images_at_once: int,
    *,
    device: torch.device,
    forward: Forward = plain_forward,
) -> Forecast:
    """Estimate a step from one forward pass of one image, keeping count of what autograd saves.

    Args:
        image: (channels, height, width).
        images_at_once: images of one micro-batch on one process.
        forward: what is done with ``model`` and images.
    """
    parameters = sum(p.numel() for p in model.parameters())
    per_image = saved_bytes(model, torch.zeros(1, *image, device=device), forward)
    needed = parameters * _BYTES_PER_PARAMETER + int(per_image * images_at_once * _TRANSIENT)
    return Forecast(parameters, needed, available_bytes(device))


def check_memory(figures: Forecast, images_at_once: int) -> None:
    """Refuse a run that cannot fit.

    Raises:
        InputError: with the number of images at once that would fit.
    """
    if figures.step_bytes <= figures.available_bytes:
        return
    fixed = figures.parameters * _BYTES_PER_PARAMETER
    per_image = (figures.step_bytes - fixed) / images_at_once
    fitting = max(0, int((figures.available_bytes - fixed) / per_image))
    advice = (
        f"about {fitting} images at a time fit: a smaller --batch-size, or --set accumulate=N to split a batch"
        if fitting
        else "not even one image fits: a smaller variant, or more memory"
    )
    raise InputError(
        f"a step needs about {gibibytes(figures.step_bytes)} of memory and "
        f"{gibibytes(figures.available_bytes)} are free; {advice}"
    )


def describe(figures: Forecast) -> str:
    """The memory of a step in words."""
    return (
        f"about {gibibytes(figures.step_bytes)} of memory a step ({gibibytes(figures.available_bytes)} free)"
    )


def saved_bytes(model: nn.Module, images: Tensor, forward: Forward = plain_forward) -> int:
    """Bytes that autograd keeps for the backward pass of ``images``, parameters left out, storages counted once."""
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}
    kept = []  # so that no storage is freed and its address given to another

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    saving = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.enable_grad(), unmoved(model), saving:
        output = forward(model, images)
    del output
    return sum(seen.values())
