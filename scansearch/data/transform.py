"""One picture -> the input of a trained model: the same pixels as the evaluation of the training saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from scansearch.data.augment import RESIZED, image_statistics, image_transforms
from scansearch.data.bands import ArrayTransform
from scansearch.data.decoding import CHANNELS, brightest, convert, wide_values
from scansearch.data.matched import rescaling
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


@dataclass(frozen=True)
class PictureTransform:
    """A PIL image of any kind -> float32 tensor [channels, height, width], as a model's evaluation has it.

    Attributes:
        channels: 1 (grey), 3, or 4 (with opacity).
        image_size: height and width in pixels.
        resized: a picture of 8 bits a channel -> tensor, resized, cut and normalised for pictures.
        brightest: the value of float and 32-bit pictures that counts as 1; None for the one that fits each picture.
        factor, offset: [channels, 1, 1], from that normalisation to the training's; None where they are equal.
    """

    channels: int
    image_size: tuple[int, int]
    resized: Callable[[Picture], Tensor]
    factor: Tensor | None = None
    offset: Tensor | None = None
    brightest: float | None = None

    def __call__(self, picture: Picture) -> Tensor:
        """As :mod:`scansearch.data.decoding` says; a float or 32-bit picture is a share of the training's
        brightest value, or of its own where that is not known.

        Raises:
            InputError: values that are no numbers, or a picture that is far longer than wide.
        """
        scale = self.brightest
        if scale is None:
            value = wide_values(picture)
            scale = brightest([] if value is None else [value])
        return self.tensor(convert(picture, self.channels, scale))

    def tensor(self, decoded: Picture) -> Tensor:
        """Of a picture that has 8 bits in each of ``channels`` already, upright."""
        image = self.resized(decoded)
        return image if self.factor is None or self.offset is None else image * self.factor + self.offset


def picture_transform(treatment: Treatment, channels: int, size: tuple[int, int]) -> PictureTransform:
    """The transform of ``treatment``. Where its data had a way of their own, pictures are resized alone.

    Raises:
        InputError: a number of channels that pictures do not have.
    """
    if channels not in CHANNELS:
        raise InputError(f"images of {channels} channels are no pictures (allowed: 1, 3, 4)")
    augment = treatment.augment or RESIZED
    plain = augment.model_copy(update={"policy": None, "color_jitter": 0.0})
    _, resized = image_transforms(plain, size, channels)
    change = rescaling(image_statistics(channels), (treatment.mean, treatment.std))
    factor, offset = change if change is not None else (None, None)
    return PictureTransform(channels, size, resized, factor, offset, treatment.brightest)


def array_transform(treatment: Treatment, channels: int, size: tuple[int, int]) -> ArrayTransform:
    """The transform of ``treatment`` for arrays, such as those in ``.npy`` files."""
    mean, deviation = treatment.mean, treatment.std
    if mean is None or deviation is None or not len(mean) == len(deviation) == channels:
        mean, deviation = (0.0,) * channels, (1.0,) * channels
    return ArrayTransform(channels, size, treatment.augment or RESIZED, mean, deviation)
