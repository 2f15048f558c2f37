"""``shapes:HxW:count`` with boxes and masks of every shape: the pictures of :mod:`scansearch.data.masks.shapes`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scansearch.data.augment import Augment
from scansearch.data.decoding import convert
from scansearch.data.instances.pictures import Scene, ScenePictures, scene_data
from scansearch.data.instances.run_lengths import encode_mask
from scansearch.data.masks.shapes import CLASSES, draw, draw_plain, read_argument
from scansearch.data.splits import ImageData

_FIRST = 1_000_000  # the pictures of each split have numbers of their own


def read(
    argument: str,
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int,
    scoring: bool = False,
    brightest: float | None = None,
) -> ImageData:
    """The data set of pictures drawn at HxW pixels, seen at ``size``.

    Raises:
        InputError: an argument that is not HxW:count, or out of bounds.
    """
    height, width, counts, plain = read_argument(argument)
    parts = {
        name: ScenePictures(DrawnScenes(part, height, width, channels, plain), range(number))
        for part, (name, number) in enumerate(counts.items())
    }
    return scene_data(f"shapes:{argument}", parts, CLASSES[1:], size, augment, channels=channels)


@dataclass(frozen=True)
class DrawnScenes:
    """Pictures and shapes of one split; a key is an index. Of a shape that others cover, the visible part counts."""

    part: int
    height: int
    width: int
    channels: int
    plain: bool = False
    categories: tuple[int, ...] = tuple(range(1, len(CLASSES)))

    def scene(self, key: int, *, scored: bool) -> Scene:
        from PIL import Image

        drawing = (draw_plain if self.plain else draw)(self.part, key, self.height, self.width)
        masks = np.stack([pixels for _, pixels in drawing.shapes]).astype(np.uint8)
        labels = [label - 1 for label, _ in drawing.shapes]
        truth = []
        for mask, label in zip(masks, labels, strict=True) if scored else ():
            lengths, box, area = encode_mask(mask)
            truth.append(
                {
                    "category_id": self.categories[label],
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": lengths,
                }
            )
        picture = convert(Image.fromarray(drawing.picture), self.channels)
        return Scene(picture, masks, labels, tuple(truth))

    def identity(self, key: int) -> int:
        return self.part * _FIRST + key + 1

    def name(self, key: int) -> str:
        return f"drawn picture {key}"
