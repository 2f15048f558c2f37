"""``digits``: scikit-learn's 1,797 real images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from scansearch.data.splits import ImageData, Sample, Split, stratified

_TEST, _VALIDATION, _SPLIT_SEED = 360, 180, 2024


def read(_: str, size: tuple[int, int]) -> ImageData:
    """8x8 grey images upsampled (bilinear) to ``size``; training images are shifted by up to a twelfth."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(int).tolist()
    rest, test = stratified(labels, _TEST, seed=_SPLIT_SEED)
    kept, held = stratified([labels[i] for i in rest], _VALIDATION, seed=_SPLIT_SEED)
    train, validation = [rest[i] for i in kept], [rest[i] for i in held]

    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16
    images = torch.nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
    mean, deviation = images[train].mean(), images[train].std()
    blank = float(-mean / deviation)
    images = (images - mean) / deviation
    reach = (size[0] // 12, size[1] // 12)

    def clean(indices: list[int]) -> Split:
        own = [labels[i] for i in indices]
        return Split(len(indices), Images(images[indices], own), labels=own)

    kept_labels = [labels[i] for i in train]
    return ImageData(
        spec="digits",
        classes=tuple(str(name) for name in bunch.target_names),
        channels=1,
        image_size=size,
        train=Split(len(train), Shifted(images[train], kept_labels, reach, blank), True, kept_labels),
        validation=clean(validation),
        test=clean(test),
        mean=(float(mean),),
        deviation=(float(deviation),),
        baseline=partial(_raw_pixels, rest, test),
    )


@dataclass(frozen=True)
class Images:
    """Index -> (image, label) of tensors in memory."""

    images: Tensor
    labels: list[int]

    def __call__(self, index: int) -> Sample:
        return self.images[index], self.labels[index]


@dataclass(frozen=True)
class Shifted(Images):
    """The same, each image moved by up to ``reach`` rows and columns, drawn anew."""

    reach: tuple[int, int]
    blank: float

    def __call__(self, index: int) -> Sample:
        rows, columns = (int(torch.randint(-r, r + 1, ())) for r in self.reach)
        return shift(self.images[index], rows, columns, self.blank), self.labels[index]


def _raw_pixels(fitted_on: list[int], scored_on: list[int]) -> tuple[str, float]:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    bunch = load_digits()
    fitted = LogisticRegression(max_iter=5000).fit(bunch.data[fitted_on] / 16, bunch.target[fitted_on])
    accuracy = fitted.score(bunch.data[scored_on] / 16, bunch.target[scored_on])
    return "logistic regression on the raw 8x8 pixels", 100 * accuracy


def shift(image: Tensor, rows: int, columns: int, fill: float) -> Tensor:
    """``image`` [c, h, w] moved down by ``rows`` and right by ``columns``, the gap filled with ``fill``."""
    moved = torch.full_like(image, fill)
    height, width = image.shape[-2:]
    moved[:, max(rows, 0) : height + min(rows, 0), max(columns, 0) : width + min(columns, 0)] = image[
        :, max(-rows, 0) : height - max(rows, 0), max(-columns, 0) : width - max(columns, 0)
    ]
    return moved
