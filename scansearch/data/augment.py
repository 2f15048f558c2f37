"""Augmentation of image files, on timm's transforms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, model_validator

from scansearch.errors import InputError
from scansearch.files.strict import Numbers, StrictModel
from scansearch.text import choices

if TYPE_CHECKING:
    from torch import Tensor

# Of ImageNet's channels, as everywhere in timm.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Augment(StrictModel):
    """What is done to an image before it becomes a tensor.

    Training: a random crop of ``scale`` (share of the area) and ``ratio`` (width over height), resized; a
    mirror image with probability ``flip``; then ``policy`` (timm's names: ``rand-m9-mstd0.5``, ``augmix-m3``,
    ``original``, ...) or a colour jitter. Evaluation: the short side resized so that the central crop is ``crop`` of
    it. With ``random`` false, training images are treated as in evaluation.

    The defaults are the preset ``light``: they keep most of the picture and which way it faces.
    """

    random: bool = True
    scale: Numbers = Field(default=(0.64, 1.0), min_length=2, max_length=2)
    ratio: Numbers = Field(default=(3 / 4, 4 / 3), min_length=2, max_length=2)
    flip: float = Field(default=0.0, ge=0, le=1)
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

    @property
    def mirrors(self) -> bool:
        """Whether training images are mirrored at times, which makes a direction and its mirror image alike."""
        return self.random and self.flip > 0

    @property
    def resizing(self) -> str:
        """The interpolation of evaluation."""
        return "bicubic" if self.interpolation == "random" else self.interpolation

    def describe(self) -> str:
        """What is done to training images, in words."""
        if not self.random:
            return "no augmentation"
        parts = [f"random crops of {100 * self.scale[0]:.0f} to {100 * self.scale[1]:.0f} % of the area"]
        parts.append(f"mirrored with probability {self.flip:g}" if self.flip else "never mirrored")
        if self.policy is not None:
            parts.append(f"policy {self.policy}")
        if self.color_jitter:
            parts.append(f"colour jitter {self.color_jitter:g}")
        return ", ".join(parts)


# By name, as `--augment` takes them; `imagenet` is what the recipes of experiments/ build upon.
PRESETS = {
    "none": Augment(random=False),
    "light": Augment(),
    "imagenet": Augment(scale=(0.08, 1.0), flip=0.5, policy="rand-m9-mstd0.5", interpolation="bicubic"),
}

# What pictures become for a model whose own data had no such treatment: resized, and cut to its proportions only.
RESIZED = Augment(random=False, crop=1.0)


def _from_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f"unknown preset {value!r} {choices(value, PRESETS)}")
    return PRESETS[value]


def expand_preset(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` whose ``augment`` holds the fields of the preset that it names, so that single ones can be set.

    Raises:
        InputError: there is no such preset.
    """
    if not isinstance(options.get("augment"), str):
        return dict(options)
    try:
        preset: Augment = _from_name(options["augment"])
    except ValueError as error:
        raise InputError(f"augment: {error}") from None
    return {**options, "augment": preset.model_dump(mode="json")}


# A field that takes a preset's name, or an Augment's own fields.
AugmentChoice = Annotated[Augment, BeforeValidator(_from_name)]


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
            scale=cast(Any, tuple(augment.scale)),
            ratio=cast(Any, tuple(augment.ratio)),
            hflip=augment.flip,
            color_jitter=cast(Any, augment.color_jitter or None),
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
    evaluating = create_transform(
        shape,
        is_training=False,
        interpolation=augment.resizing,
        crop_pct=augment.crop,
        mean=mean,
        std=deviation,
    )
    return training if augment.random else evaluating, evaluating
