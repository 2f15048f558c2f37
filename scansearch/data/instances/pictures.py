"""Pictures with objects that are read when it is their turn, and the data set made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch.data.augment import Augment, image_statistics
from scansearch.data.instances.targets import ImageObjects, boxes_around
from scansearch.data.masks.transform import MaskTransform, mask_transforms
from scansearch.data.splits import BrokenImage, ImageData, Sample, Split
from scansearch.text import printable


class Scene(NamedTuple):
    """A picture and what is on it.

    Attributes:
        picture: a PIL image of 8 bits a channel.
        masks: uint8 [n, height, width] of the objects, crowds not among them.
        labels: of the same objects.
        truth: see :class:`ImageObjects`; empty where it was not asked for.
    """

    picture: Any
    masks: np.ndarray
    labels: Sequence[int]
    truth: tuple[dict[str, Any], ...]


class SceneSource(Protocol):
    """Where scenes come from. A source can be pickled: worker processes get a copy."""

    @property
    def categories(self) -> tuple[int, ...]:
        """The number of each class in the data's own files."""

    def scene(self, key: Any, *, scored: bool) -> Scene:
        """What ``key`` stands for; with ``scored``, with its truth."""

    def identity(self, key: Any) -> int:
        """The picture's number, unlike that of all others of its split."""

    def name(self, key: Any) -> str:
        """What to call the picture in a message."""


@dataclass(frozen=True)
class ScenePictures:
    """Pictures of one source in order, not yet read."""

    source: SceneSource
    keys: Sequence[Any]

    def split(self, transform: MaskTransform, *, scored: bool) -> Split:
        return Split(len(self.keys), SceneReader(self, transform, scored), transform.augments)


@dataclass(frozen=True)
class SceneReader:
    """Index -> (image float32 [channels, height, width], :class:`ImageObjects`).

    Objects of which a crop leaves nothing are left out.
    """

    pictures: ScenePictures
    transform: MaskTransform
    scored: bool

    def __call__(self, index: int) -> Sample:
        source, key = self.pictures.source, self.pictures.keys[index]
        try:
            scene = source.scene(key, scored=self.scored)
            size = (scene.picture.height, scene.picture.width)
            if scene.masks.shape[1:] != size:
                raise ValueError(
                    f"its objects are of a picture of {scene.masks.shape[2]} x {scene.masks.shape[1]}"
                )
        except BrokenImage:
            raise
        except Exception as error:  # damaged files raise errors of any kind
            raise BrokenImage(source.name(key), str(error) or type(error).__name__) from None
        image, masks = self.transform.move(scene.picture, torch.from_numpy(scene.masks))
        content = (masks.shape[1], masks.shape[2])
        left = (masks > 0).flatten(1).any(1)
        masks, labels = masks[left], torch.tensor(list(scene.labels), dtype=torch.int64)[left]
        height, width = (whole - part for whole, part in zip(image.shape[1:], content, strict=True))
        padded: Tensor = F.pad(masks, (0, width, 0, height))
        return image, ImageObjects(
            boxes=boxes_around(padded),
            labels=labels,
            masks=padded,
            content=content,
            size=size,
            identity=source.identity(key),
            categories=source.categories,
            truth=scene.truth,
        )


def scene_data(
    spec: str,
    parts: Mapping[str, ScenePictures],
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
        train=parts["train"].split(training, scored=False),
        validation=parts["validation"].split(plain, scored=True),
        test=parts["test"].split(plain, scored=True),
        mean=mean,
        deviation=deviation,
        augment=augment,
        brightest=brightest,
        digest=digest,
        notes=tuple(map(printable, notes)),
    )
