"""Scores of masks at several scales: the mean of what a model says of an image in several sizes, and mirrored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch.errors import InputError
from scansearch.models.upernet import resize_map

_MOST, _LARGEST = 16, 8.0


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """``scales`` as they may be used.

    Raises:
        InputError: too many, a repeated one, or one that is no factor of a size.
    """
    for scale in scales:
        if not 1 / _LARGEST <= scale <= _LARGEST:
            raise InputError(f"scale {scale:g}: must lie in {1 / _LARGEST:g} to {_LARGEST:g}")
    if not 1 <= len(scales) <= _MOST or len(set(scales)) < len(scales):
        raise InputError(f"scales {', '.join(f'{scale:g}' for scale in scales)}: 1 to {_MOST} different ones")
    return tuple(map(float, scales))


def at_scales(
    predict: Callable[[Tensor], Tensor], scales: Sequence[float], *, flip: bool
) -> Callable[[Tensor], Tensor]:
    """``predict`` (images -> logits [batch, classes, height, width]) averaged over ``scales``: logarithms of mean
    probabilities, float32, at the images' own size.

    Args:
        flip: each size is also seen mirrored, and its answer mirrored back.
    """

    def averaged(images: Tensor) -> Tensor:
        size = images.shape[2:]
        total: Tensor | None = None
        for scale in scales:
            sides = [max(1, round(side * scale)) for side in size]
            resized = images if tuple(sides) == tuple(size) else resize_map(images, sides)
            for mirrored in (False, True) if flip else (False,):
                logits = predict(resized.flip(3) if mirrored else resized).float()
                logits = logits.flip(3) if mirrored else logits
                probabilities = F.softmax(resize_map(logits, size), dim=1)
                total = probabilities if total is None else total + probabilities
        assert total is not None
        mean = total / (len(scales) * (2 if flip else 1))
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()

    return averaged


def describe_scales(scales: Sequence[float], *, flip: bool) -> str:
    """The same in words."""
    sizes = ", ".join(f"{scale:g}" for scale in scales)
    return f"the mean of what is seen at the scales {sizes}{', each mirrored too' if flip else ''}"
