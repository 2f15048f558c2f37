"""``shapes:HxW:count``: drawn discs, squares and triangles, for demonstrations and tests without a download.

Each picture is a pure function of its split and index. One to four shapes of any colour, turned at random, lie on a
background that changes from one corner to the other; later ones cover earlier ones. Colour and brightness say
nothing of the class. ``count`` training pictures, and a quarter as many each for validation and test, at least eight.

``shapes:HxW:count:plain`` is what a small model learns within a minute: one to three upright shapes, whole and apart
from each other, bright on a dark background. Still only their outlines tell the classes apart.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from scansearch.data.augment import Augment
from scansearch.data.decoding import convert
from scansearch.data.masks.pairs import MaskedPictures, masked_data
from scansearch.data.splits import ImageData
from scansearch.errors import InputError

CLASSES = ("background", "disc", "square", "triangle")
_MOST_SHAPES, _NOISE = 4, 10.0
_MOST_PLAIN, _TRIES = 3, 12
_UPRIGHT = {
    1: 0.0,
    2: 0.0,
    3: math.pi / 2,
}  # angles at which a square stands on a side, and so does a triangle
_LEAST, _MOST_SIDE, _MOST_COUNT = 8, 4096, 1_000_000


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
        name: MaskedPictures(DrawnShapes(part, height, width, channels, plain), range(number))
        for part, (name, number) in enumerate(counts.items())
    }
    return masked_data(f"shapes:{argument}", parts, CLASSES, size, augment, channels=channels)


def read_argument(argument: str) -> tuple[int, int, dict[str, int], bool]:
    """Height, width, the pictures of each split, train, validation and test in this order, and whether they are plain.

    Raises:
        InputError: another text, or out of bounds.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5}):([1-9]\d{0,7})(:plain)?", argument)
    height, width, count = (int(match[number]) for number in (1, 2, 3)) if match else (0, 0, 0)
    if not (_LEAST <= min(height, width) <= max(height, width) <= _MOST_SIDE and 1 <= count <= _MOST_COUNT):
        raise InputError(
            f"data 'shapes:{argument}': expected shapes:HEIGHTxWIDTH:COUNT with sides of {_LEAST} to {_MOST_SIDE} "
            f"pixels and 1 to {_MOST_COUNT} training pictures, for example shapes:64x64:256, or with :plain at its end"
        )
    held_out = max(8, count // 4)
    counts = {"train": count, "validation": held_out, "test": held_out}
    return height, width, counts, match is not None and match[4] is not None


@dataclass(frozen=True)
class Drawing:
    """One drawn picture.

    Attributes:
        picture: uint8 [height, width, 3].
        shapes: class (1 to 3) and visible pixels, bool [height, width], of each shape in the order of drawing; one
            that others cover whole is left out.
    """

    picture: np.ndarray
    shapes: tuple[tuple[int, np.ndarray], ...]

    @property
    def mask(self) -> np.ndarray:
        """The class of every pixel, uint8 [height, width]; 0 is background."""
        mask = np.zeros(self.picture.shape[:2], dtype=np.uint8)
        for label, pixels in self.shapes:
            mask[pixels] = label
        return mask


def draw(part: int, index: int, height: int, width: int) -> Drawing:
    """Picture ``index`` of split number ``part``."""
    rng = np.random.default_rng([2026, part, index])
    rows, columns = np.mgrid[:height, :width].astype(np.float64) + 0.5
    slope = (rows / height + columns / width)[..., None] / 2
    first, second = rng.uniform(0, 255, (2, 3))
    picture = first + slope * (second - first)
    drawn: list[tuple[int, np.ndarray]] = []
    for _ in range(rng.integers(1, _MOST_SHAPES + 1)):
        label = int(rng.integers(1, len(CLASSES)))
        radius = rng.uniform(0.12, 0.27) * min(height, width)
        centre = rng.uniform(0.1, 0.9, 2) * (height, width)
        angle = rng.uniform(0, 2 * math.pi)
        pixels = _inside(label, rows - centre[0], columns - centre[1], radius, angle)
        colour = rng.uniform(0, 255, 3)
        if not pixels.any():
            continue
        # A colour too near to what it covers would be a shape that nobody can see.
        while np.abs(colour - picture[pixels].mean(0)).max() < 60:
            colour = rng.uniform(0, 255, 3)
        picture[pixels] = colour
        drawn = [(other, seen & ~pixels) for other, seen in drawn]
        drawn.append((label, pixels))
    picture += rng.normal(0, _NOISE, picture.shape)
    visible = tuple((label, pixels) for label, pixels in drawn if pixels.any())
    return Drawing(picture.clip(0, 255).astype(np.uint8), visible)


def draw_plain(part: int, index: int, height: int, width: int) -> Drawing:
    """Plain picture ``index`` of split number ``part``."""
    rng = np.random.default_rng([2027, part, index])
    rows, columns = np.mgrid[:height, :width].astype(np.float64) + 0.5
    picture = np.zeros((height, width, 3)) + rng.uniform(0, 60)
    drawn: list[tuple[int, np.ndarray]] = []
    taken = np.zeros((height, width), dtype=bool)
    wanted = rng.integers(1, _MOST_PLAIN + 1)
    for _ in range(_TRIES):
        label = int(rng.integers(1, len(CLASSES)))
        radius = rng.uniform(0.12, 0.2) * min(height, width)
        room = 1.6 * radius  # a triangle reaches this far
        centre = rng.uniform(room, np.array([height, width]) - room)
        colour = rng.uniform(120, 255, 3)
        near = np.hypot(rows - centre[0], columns - centre[1]) < room
        if (taken & near).any():
            continue
        pixels = _inside(label, rows - centre[0], columns - centre[1], radius, _UPRIGHT[label])
        taken |= near
        picture[pixels] = colour
        drawn.append((label, pixels))
        if len(drawn) == wanted:
            break
    picture += rng.normal(0, _NOISE, picture.shape)
    return Drawing(picture.clip(0, 255).astype(np.uint8), tuple(drawn))


def _inside(label: int, y: np.ndarray, x: np.ndarray, radius: float, angle: float) -> np.ndarray:
    """Which points of the plane, given from the centre, lie in a shape of about pi radius^2 pixels."""
    if label == 1:
        return np.hypot(x, y) <= radius
    corners = 4 if label == 2 else 3
    turns = angle + 2 * math.pi / corners * np.arange(corners)
    # Areas as of the disc: a polygon is where all of its sides' distances stay below the inner radius.
    inner = radius * math.sqrt(math.pi / (corners * math.tan(math.pi / corners)))
    sides = [x * math.cos(turn) + y * math.sin(turn) <= inner for turn in turns]
    return np.logical_and.reduce(sides)


@dataclass(frozen=True)
class DrawnShapes:
    """Pictures and masks of one split; a key is an index."""

    part: int
    height: int
    width: int
    channels: int
    plain: bool = False

    def pair(self, key: int) -> tuple[Any, np.ndarray]:
        from PIL import Image

        drawing = (draw_plain if self.plain else draw)(self.part, key, self.height, self.width)
        return convert(Image.fromarray(drawing.picture), self.channels), drawing.mask

    def name(self, key: int) -> str:
        return f"drawn picture {key}"
