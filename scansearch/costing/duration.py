"""How long a run will take at least, told before its first step."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn

from scansearch.costing.unmoved import Forward, plain_forward, unmoved

_SEVERAL = 3  # images of the second measurement


def step_seconds(
    model: nn.Module,
    image: Sequence[int],
    images_at_once: int,
    *,
    device: torch.device,
    forward: Forward = plain_forward,
) -> float:
    """Seconds of one forward and backward pass of ``images_at_once`` images, by passes of one and of three.

    Reading images, the optimizer and validation are left out. No gradient is kept and no random number is used up.

    Args:
        image: (channels, height, width).
        forward: what is done with ``model`` and images.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]

    def measure(images: int) -> float:
        started = time.perf_counter()
        outputs = forward(model, torch.zeros(images, *image, device=device))
        parts = outputs if isinstance(outputs, tuple) else (outputs,)
        # Not backward(): it would leave gradients, and wake the hooks of a distributed wrapper.
        torch.autograd.grad([part.float().sum() for part in parts], parameters, allow_unused=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    several = min(_SEVERAL, images_at_once)
    with (
        torch.enable_grad(),
        unmoved(model),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        measure(1)  # compiles kernels
        one = measure(1)
        return extrapolate(one, measure(several), several, images_at_once)


def extrapolate(one: float, many: float, several: int, images: int) -> float:
    """Seconds of ``images`` images on the line through those of one and of ``several``; never below either."""
    if several == 1:
        return max(one, many) * images
    each = max(0.0, many - one) / (several - 1)
    return max(one, many if images >= several else 0.0, one + each * (images - 1))
