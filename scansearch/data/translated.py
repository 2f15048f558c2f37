"""``translated-digits``: scikit-learn's digits, each pasted unscaled somewhere on an empty canvas.

A small real task on which the order of the scan matters: without a position embedding, the place of a stroke
relative to the others must come from the scan. The native 8x8 images are shuffled by a fixed permutation; the
first 797 test, the next 200 validate and the last 800 train. Every canvas is drawn once, with fixed seeds, so
the data are the same for everybody: 9,600 training, 2,400 validation and 4,000 test canvases. They are
normalised by the mean and deviation of the training and validation canvases together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scansearch.data import ImageData, Sample, Split
from scansearch.data.digits import Images
from scansearch.errors import InputError

DIGIT = 8
TEST_DIGITS, VALIDATION_DIGITS, TRAIN_DIGITS = 797, 200, 800
TEST_CANVASES, CANVASES_PER_DIGIT = 4000, 12
_PERMUTATION_SEED, _TRAIN_SEED, _VALIDATION_SEED, _TEST_SEED = 2024, 1, 2, 3


def read(_: str, size: tuple[int, int]) -> ImageData:
    """The data set on canvases of ``size`` (height, width) pixels; 10x10 is what ``vim8-bench`` uses.

    Raises:
        InputError: a canvas smaller than a digit.
    """
    from sklearn.datasets import load_digits

    if min(size) < DIGIT:
        raise InputError(
            f"translated-digits needs canvases of at least {DIGIT}x{DIGIT} pixels, not {size[0]}x{size[1]}"
        )
    bunch = load_digits()
    order = np.random.default_rng(_PERMUTATION_SEED).permutation(len(bunch.target))
    test, validation, train = np.split(order, [TEST_DIGITS, TEST_DIGITS + VALIDATION_DIGITS])

    def draw(digits: np.ndarray, count: int, seed: int) -> tuple[Tensor, list[int]]:
        shown = np.resize(digits, count)  # round and round
        canvases = _paste(bunch.images[shown] / 16, size, seed)
        return torch.from_numpy(canvases).float().unsqueeze(1), bunch.target[shown].astype(int).tolist()

    parts = {
        "train": draw(train, CANVASES_PER_DIGIT * TRAIN_DIGITS, _TRAIN_SEED),
        "validation": draw(validation, CANVASES_PER_DIGIT * VALIDATION_DIGITS, _VALIDATION_SEED),
        "test": draw(test, TEST_CANVASES, _TEST_SEED),
    }
    seen = torch.cat([parts["train"][0], parts["validation"][0]])
    mean, deviation = seen.mean(), seen.std()

    def split(name: str) -> Split:
        images, labels = parts[name]
        normal = (images - mean) / deviation
        return Split(len(labels), Images(normal, labels), labels=labels)

    return ImageData(
        spec="translated-digits",
        classes=tuple(str(name) for name in bunch.target_names),
        channels=1,
        image_size=size,
        train=split("train"),
        validation=split("validation"),
        test=split("test"),
        mean=(float(mean),),
        deviation=(float(deviation),),
    )


def with_validation_in_training(data: ImageData) -> ImageData:
    """``data`` whose training split holds the validation images too, for a last training from scratch."""
    both = Joined(data.train, data.validation)
    labels = [*data.train.labels, *data.validation.labels]
    count = data.train.count + data.validation.count
    return replace(data, train=Split(count, both, data.train.augments, labels))


@dataclass(frozen=True)
class Joined:
    """Index -> image of ``first``, then of ``second``."""

    first: Split
    second: Split

    def __call__(self, index: int) -> Sample:
        if index < self.first.count:
            return self.first.read(index)
        return self.second.read(index - self.first.count)


def _paste(digits: np.ndarray, size: tuple[int, int], seed: int) -> np.ndarray:
    """``digits`` [count, 8, 8] at uniform places on zero canvases [count, height, width]."""
    generator = np.random.default_rng(seed)
    canvases = np.zeros((len(digits), *size))
    tops = generator.integers(0, size[0] - DIGIT + 1, len(digits))
    lefts = generator.integers(0, size[1] - DIGIT + 1, len(digits))
    for canvas, digit, top, left in zip(canvases, digits, tops, lefts, strict=True):
        canvas[top : top + DIGIT, left : left + DIGIT] = digit
    return canvases
