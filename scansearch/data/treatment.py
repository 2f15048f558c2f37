"""Treatment: how images become the input of a model, and which classes its outputs stand for.

One record that travels: a search writes it into its genotype, a training takes it from there and writes it into its
weight file, and evaluation and every export take it from the weights. So all of them see the same pixels.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Strict

from scansearch.data.augment import Augment
from scansearch.errors import InputError
from scansearch.files.strict import Numbers, StrictModel, Strings

Side = Annotated[int, Field(ge=1, le=16_384)]
Sides = Annotated[tuple[Side, Side], Strict(False)]


def read_image_size(value: Any) -> Any:
    """``96`` and ``64x96`` as a command line has them; anything else as it is.

    Raises:
        ValueError: another text.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([1-9]\d{0,5})(?:[xX]([1-9]\d{0,5}))?", value)
    if match is None:
        raise ValueError(
            f"image size {value!r}: expected a side such as 224, or HEIGHTxWIDTH such as 192x256"
        )
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


# Side, or [height, width], in pixels; texts such as 64x96 are read too.
ImageSize = Annotated[Side | Sides, BeforeValidator(read_image_size)]


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Both sides of an :data:`ImageSize`, which may come from a file of unknown origin.

    Raises:
        InputError: something else.
    """
    sides: Any = (size, size) if isinstance(size, int) else size
    if not isinstance(sides, list | tuple) or len(sides) != 2 or any(type(side) is not int for side in sides):
        raise InputError(f"image size {size!r}: expected a side in pixels, or height and width")
    return sides[0], sides[1]


class Treatment(StrictModel):
    """What is done to an image, and what the classes are.

    Attributes:
        image_size: height and width in pixels.
        classes: class names in the order of the outputs; empty where they are not known.
        mean, std: of each channel, in units of the brightest pixel: what is subtracted from images, and what they
            are divided by. There are as many as channels.
        augment: how pictures are cut and changed; None for data that have a way of their own.
        brightest: the value of float and 32-bit pictures that counts as 1, see :mod:`scansearch.data.decoding`; None
            where the training had no such pictures, or the file is of an earlier version.
        digest: of the images that the model was trained on, see ImageData; empty where they have none.
    """

    image_size: Sides
    classes: Strings = ()
    mean: Numbers | None = None
    std: Numbers | None = None
    augment: Augment | None = None
    brightest: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    digest: str = ""

    def describe(self) -> str:
        """Size, and what is done to the training images, in words."""
        height, width = self.image_size
        change = "the data's own augmentation" if self.augment is None else self.augment.describe()
        return f"{height}x{width} pixels, {change}"
