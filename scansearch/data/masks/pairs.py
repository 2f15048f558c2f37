"""Pictures with masks that are read when it is their turn, and the data set made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scansearch.data.augment import Augment, image_statistics
from scansearch.data.masks.transform import MaskTransform, mask_transforms
from scansearch.data.splits import BrokenImage, ImageData, Sample, Split
from scansearch.text import printable


class PairSource(Protocol):
    """Where pictures and masks come from. A source can be pickled: worker processes get a copy."""

    def pair(self, key: Any) -> tuple[Any, np.ndarray]:
        """A PIL image of 8 bits a channel, and the class of each of its pixels, uint8 [height, width]."""

    def name(self, key: Any) -> str:
        """What to call the picture in a message."""


@dataclass(frozen=True)
class MaskedPictures:
    """Pictures of one source in order, not yet read."""

    source: PairSource
    keys: Sequence[Any]

    def split(self, transform: MaskTransform) -> Split:
        return Split(len(self.keys), PairReader(self, transform), transform.augments)


@dataclass(frozen=True)
class PairReader:
    """Index -> (image float32 [channels, height, width], mask uint8 [height, width])."""

    pictures: MaskedPictures
    transform: MaskTransform

    def __call__(self, index: int) -> Sample:
        source, key = self.pictures.source, self.pictures.keys[index]
        try:
            picture, mask = source.pair(key)
            if mask.shape != (picture.height, picture.width):
                raise ValueError(f"its mask is {mask.shape[1]} x {mask.shape[0]} pixels")
        except BrokenImage:
            raise
        except Exception as error:  # damaged files raise errors of any kind
            raise BrokenImage(source.name(key), str(error) or type(error).__name__) from None
        return self.transform(picture, mask)


def masked_data(
    spec: str,
    parts: Mapping[str, MaskedPictures],
    classes: tuple[str, ...],
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int,
    brightest: float | None = None,
    digest: str = "",
    notes: Sequence[str] = (),
) -> ImageData:
    """The data set of ``parts``: train, validation and test.

    Raises:
        InputError: an augmentation that masks or images of ``channels`` do not have.
    """
    training, plain = mask_transforms(augment, size, channels)
    mean, deviation = image_statistics(channels)
    return ImageData(
        spec=spec,
        classes=classes,
        channels=channels,
        image_size=size,
        train=parts["train"].split(training),
        validation=parts["validation"].split(plain),
        test=parts["test"].split(plain),
        mean=mean,
        deviation=deviation,
        augment=augment,
        brightest=brightest,
        digest=digest,
        notes=tuple(map(printable, notes)),
    )
