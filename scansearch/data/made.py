"""``fake:HxW:classes``: made pictures of any size, for trying out recipes and measuring speed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from scansearch.data.augment import Augment, image_statistics, image_transforms
from scansearch.data.pictures import Decoder, Pictures
from scansearch.data.splits import ImageData
from scansearch.errors import InputError

COUNTS = {"train": 512, "validation": 128, "test": 128}


def read(
    argument: str,
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int | None = None,
    scoring: bool = False,
    brightest: float | None = None,
) -> ImageData:
    """Coloured noise with one brighter band, whose place and colour tell the class; always the same pictures.

    They go through the same transforms as pictures from files.
    """
    match = re.fullmatch(r"(\d+)x(\d+):(\d+)", argument)
    height, width, classes = map(int, match.groups()) if match else (0, 0, 0)
    if min(height, width) < 1 or classes < 2:
        raise InputError(
            f"data 'fake:{argument}': expected fake:HEIGHTxWIDTH:CLASSES, for example fake:32x32:10"
        )
    statistics = image_statistics(3 if channels is None else channels)
    augmented, plain = image_transforms(augment, size, len(statistics[0]))
    decoder = Decoder(len(statistics[0]))
    made = {
        name: Pictures(
            [i % classes for i in range(count)], range(count), MadeSource(part, height, width, classes)
        )
        for part, (name, count) in enumerate(COUNTS.items())
    }
    return ImageData(
        spec=f"fake:{argument}",
        classes=tuple(str(label) for label in range(classes)),
        channels=decoder.channels,
        image_size=size,
        train=made["train"].split(augmented, augments=True, decoder=decoder),
        validation=made["validation"].split(plain, decoder=decoder),
        test=made["test"].split(plain, decoder=decoder),
        mean=statistics[0],
        deviation=statistics[1],
    )


@dataclass(frozen=True)
class MadeSource:
    """Pictures of ``part``; a key is an index."""

    part: int
    height: int
    width: int
    classes: int

    def open(self, key: int) -> Any:
        from PIL import Image

        label = key % self.classes
        rng = np.random.default_rng([self.part, key])
        image = rng.integers(0, 160, (self.height, self.width, 3), dtype=np.uint8)
        row = label * self.height // self.classes
        image[row : row + max(1, self.height // self.classes), :, label % 3] = 255
        return Image.fromarray(image)

    def name(self, key: int) -> str:
        return f"made image {key}"

    short_name = name
