"""How an exported model wants its pictures: for configurations of timm, and for files that stand alone."""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from scansearch.exporting.source import Source


def picture_settings(source: Source) -> dict[str, Any]:
    """Mean, deviation, crop and interpolation in timm's terms: those of the training, where the weight file tells.

    Else ImageNet's figures for three channels, and none for others: images must then come normalised.
    """
    channels, treatment = source.model.in_chans, source.treatment
    mean = list(IMAGENET_DEFAULT_MEAN) if channels == 3 else [0.0] * channels
    std = list(IMAGENET_DEFAULT_STD) if channels == 3 else [1.0] * channels
    if treatment is not None and treatment.mean and treatment.std and len(treatment.mean) == channels:
        mean, std = list(treatment.mean), list(treatment.std)
    per_channel = {"mean": mean, "std": std}
    if treatment is None:
        return {"interpolation": "bicubic", "crop_pct": 1.0, **per_channel}
    augment = treatment.augment
    if augment is None:
        return {"interpolation": "bilinear", "crop_pct": 1.0, **per_channel}
    return {"interpolation": augment.resizing, "crop_pct": augment.crop, **per_channel}


def class_names(source: Source) -> tuple[str, ...]:
    """In the order of the outputs; empty where they are not known."""
    return source.treatment.classes if source.treatment is not None else ()


def brightest(source: Source) -> dict[str, float]:
    """The value of float and 32-bit pictures that counts as 1, by its name; empty where the training had none."""
    known = source.treatment.brightest if source.treatment is not None else None
    return {} if known is None else {"brightest": known}
