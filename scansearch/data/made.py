"""``fake:HxW:classes``: made pictures of any size, for trying out recipes and measuring speed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from scansearch.data.augment import DEVIATION, MEAN, Augment, image_transforms
from scansearch.data.pictures import Pictures
from scansearch.data.splits import ImageData
from scansearch.errors import InputError

COUNTS = {"train": 512, "validation": 128, "test": 128}


def read(argument: str, size: tuple[int, int], augment: Augment) -> ImageData:
    """Coloured noise with one brighter band, whose place and colour tell the class; always the same pictures.

    They go through the same transforms as pictures from files.
    """
    match = re.fullmatch(r"(\d+)x(\d+):(\d+)", argument)
    height, width, classes = map(int, match.groups()) if match else (0, 0, 0)
    if min(height, width) < 1 or classes < 2:
        raise InputError(
            f"data 'fake:{argument}': expected fake:HEIGHTxWIDTH:CLASSES, for example fake:32x32:10"
        )
    augmented, plain = image_transforms(augment, size)

    def pictures(part: int, count: int) -> Pictures:
        def draw(index: int) -> Any:
            from PIL import Image

            label = index % classes
            image = np.random.default_rng([part, index]).integers(0, 160, (height, width, 3), dtype=np.uint8)
            row = label * height // classes
            image[row : row + max(1, height // classes), :, label % 3] = 255
            return Image.fromarray(image)

        return Pictures([i % classes for i in range(count)], draw, lambda i: f"made image {i}")

    made = {name: pictures(part, count) for part, (name, count) in enumerate(COUNTS.items())}
    return ImageData(
        spec=f"fake:{argument}",
        classes=tuple(str(label) for label in range(classes)),
        channels=3,
        image_size=size,
        train=made["train"].split(augmented, augments=True),
        validation=made["validation"].split(plain),
        test=made["test"].split(plain),
        mean=MEAN,
        deviation=DEVIATION,
    )
