"""Augmentation of image files, on timm's transforms."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor

from scansearch.errors import InputError
from scansearch.files.strict import Numbers, StrictModel

# Of ImageNet's channels, as everywhere in timm.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Augment(StrictModel):
    """What is done to an image before it becomes a tensor.

    Training: a random crop of ``scale`` (share of the area) and ``ratio`` (width over height), resized; a
    horizontal flip; then ``policy`` (timm's names: ``rand-m9-mstd0.5``, ``augmix-m3``, ``original``, ...) or a
    colour jitter. Evaluation: the short side resized so that the central crop is ``crop`` of it.
    """

    scale: Numbers = Field(default=(0.08, 1.0), min_length=2, max_length=2)
    ratio: Numbers = Field(default=(3 / 4, 4 / 3), min_length=2, max_length=2)
    flip: float = Field(default=0.5, ge=0, le=1)
    policy: str | None = None
    color_jitter: float = Field(default=0.0, ge=0)
    interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear"
    crop: float = Field(default=0.875, gt=0, le=1)

    @model_validator(mode="after")
    def _consistent(self) -> Augment:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs two numbers, 0 < low <= high, found {[low, high]}")
        if self.scale[1] > 1:
            raise ValueError(f"scale: a share of the area is at most 1, found {self.scale[1]}")
        if self.policy is not None and self.color_jitter:
            raise ValueError("policy replaces color_jitter: give one of them")
        return self


def image_statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each of 1, 3 or 4 channels: ImageNet's, their averages for grey, 0.5 for opacity."""
    if channels == 1:
        return (sum(MEAN) / 3,), (sum(DEVIATION) / 3,)
    return (MEAN, DEVIATION) if channels == 3 else ((*MEAN, 0.5), (*DEVIATION, 0.5))


def image_transforms(
    augment: Augment, size: tuple[int, int], channels: int = 3
) -> tuple[Callable[[Any], Tensor], Callable[[Any], Tensor]]:
    """Transforms of PIL images to normalised tensors [channels, *size]: for training, and for evaluation.

    Raises:
        InputError: timm does not know ``augment.policy``, or it asks for colours that the images lack.
    """
    from timm.data import create_transform

    if channels != 3 and (augment.policy is not None or augment.color_jitter):
        raise InputError(f"augment.policy and augment.color_jitter need images of 3 channels, not {channels}")
    shape = (channels, *size)
    mean, deviation = image_statistics(channels)
    try:
        # timm passes over a part that has no number.
        if augment.policy is not None and not re.fullmatch(r"[a-z0-9]+(-[a-z]+[0-9.]+)*", augment.policy):
            raise ValueError("(each further part is a name and a number)")
        training = create_transform(
            shape,
            is_training=True,
            scale=tuple(augment.scale),
            ratio=tuple(augment.ratio),
            hflip=augment.flip,
            color_jitter=augment.color_jitter or None,
            auto_augment=augment.policy,
            interpolation=augment.interpolation,
            mean=mean,
            std=deviation,
        )
    except (AssertionError, ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"augment.policy {augment.policy!r} is none of timm's (allowed: for example rand-m9-mstd0.5, "
            f"augmix-m3, original, v0) {error}"
        ) from None
    plain = "bicubic" if augment.interpolation == "random" else augment.interpolation
    evaluating = create_transform(
        shape,
        is_training=False,
        interpolation=plain,
        crop_pct=augment.crop,
        mean=mean,
        std=deviation,
    )
    return training, evaluating
