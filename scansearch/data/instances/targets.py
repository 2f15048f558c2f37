"""What is on an image: boxes, classes and masks of its objects; one image, and a batch of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageObjects:
    """The objects of one image as the model sees it, crowds not among them, and the picture that it was made of.

    Attributes:
        boxes: float32 [n, 4]: left, top, right and bottom in pixels of the image, around the masks.
        labels: int64 [n], from 0.
        masks: uint8 [n, height, width], 1 on the object.
        content: height and width of what is not padding, at the top left of the image.
        size: height and width of the picture.
        identity: number of the picture.
        categories: the number of each class in the data's own files.
        truth: of an image that is scored, all objects of the picture, crowds too, as COCO's annotations have them.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    content: tuple[int, int]
    size: tuple[int, int]
    identity: int
    categories: tuple[int, ...]
    truth: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def to(self, device: torch.device) -> ImageObjects:
        return replace(
            self, boxes=self.boxes.to(device), labels=self.labels.to(device), masks=self.masks.to(device)
        )

    def without_masks(self) -> ImageObjects:
        """The same with no masks of the image, which take a byte for each pixel."""
        return replace(self, masks=self.masks[:, :0])


class ObjectBatch(Sequence[ImageObjects]):
    """The objects of the images of a batch; what a batch of labels can, it can too."""

    def __init__(self, images: Sequence[ImageObjects]) -> None:
        self.images = tuple(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.images[index]

    def __iter__(self) -> Iterator[ImageObjects]:
        return iter(self.images)

    def to(self, device: torch.device) -> ObjectBatch:
        return ObjectBatch([image.to(device) for image in self.images])

    def chunk(self, count: int) -> list[ObjectBatch]:
        """At most ``count`` parts, as :func:`torch.chunk` makes them."""
        size = -(-len(self) // count)
        return [ObjectBatch(self.images[start : start + size]) for start in range(0, len(self), size)]


def boxes_around(masks: Tensor) -> Tensor:
    """Boxes float32 [n, 4] around ``masks`` [n, height, width]: the outer edges of their outermost pixels.

    Every mask has a pixel.
    """
    rows, columns = masks.any(2).int(), masks.any(1).int()
    height, width = masks.shape[1:]
    edges = [
        columns.argmax(1),
        rows.argmax(1),
        width - columns.flip(1).argmax(1),
        height - rows.flip(1).argmax(1),
    ]
    return torch.stack(edges, dim=1).float()
