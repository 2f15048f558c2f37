"""Images in ``.npy`` files, of any number of channels: read without trust, resized and cut in torch.

A file holds one array, [height, width] or [height, width, channels], of uint8, uint16, bool or float. Nothing in it
is executed: a pickled array is refused, and the header must fit the size of the file before memory is taken.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from scansearch.data.arrays import value_scale
from scansearch.data.augment import Augment
from scansearch.errors import InputError

LARGEST = 2**30  # bytes of one array
_MOST_UNEQUAL = 100  # as for pictures
_HEADERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_array(file: BinaryIO) -> np.ndarray:
    """The array [height, width, channels] in a ``.npy`` file, as it is stored.

    Raises:
        InputError: no such file, a damaged or hostile one, another shape or type.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version}")
        shape, fortran, dtype = _HEADERS[version](file, max_header_size=10_000)
    except Exception as error:  # damaged headers raise errors of any kind
        raise InputError(f"it is no .npy file that is read ({_short(error)})") from None
    if dtype.hasobject or dtype.names is not None:
        raise InputError(f"it holds {'Python objects' if dtype.hasobject else 'records'}, not numbers")
    value_scale(dtype.newbyteorder("="))
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(f"shape {list(shape)[:8]} is not [height, width] or [height, width, channels]")
    if max(shape[:2]) > _MOST_UNEQUAL * min(shape[:2]):
        raise InputError(
            f"{shape[1]} x {shape[0]} pixels: one side is more than {_MOST_UNEQUAL} times the other"
        )
    size, start = math.prod(shape) * dtype.itemsize, file.tell()
    held = file.seek(0, os.SEEK_END) - start
    if size > LARGEST or held < size:
        limit = f"more than {LARGEST:,}" if size > LARGEST else f"but holds {held:,}"
        raise InputError(f"shape {list(shape)} of {dtype} needs {size:,} bytes, {limit}")
    file.seek(start)
    content = file.read(size)
    if len(content) != size:
        raise InputError("it was cut off while it was read")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    array = array.astype(dtype.newbyteorder("="), copy=False)
    return array if array.ndim == 3 else array[..., None]


def as_tensor(array: np.ndarray) -> Tensor:
    """float32 [channels, height, width]: uint8 and uint16 divided by 255 and 65535, others as they are.

    Raises:
        InputError: another shape or type, or values that are no finite numbers.
    """
    if array.ndim not in (2, 3):
        raise InputError(f"shape {list(array.shape)} is not [height, width] or [height, width, channels]")
    array = array if array.ndim == 3 else array[..., None]
    values = array.astype(np.float32) / np.float32(value_scale(array.dtype))
    tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
    if not bool(tensor.isfinite().all()):
        raise InputError("holds values that are no finite numbers")
    return tensor


@dataclass(frozen=True)
class ArrayTransform:
    """An array of an image -> float32 tensor [channels, *image_size], resized, cut and normalised.

    Attributes:
        channels: that the array must have.
        mean, deviation: of each channel, subtracted and divided by.
        training: draws crops and mirror images from torch's global generator.
    """

    channels: int
    image_size: tuple[int, int]
    augment: Augment
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    training: bool = False

    def __call__(self, array: np.ndarray) -> Tensor:
        """Of ``array`` [height, width] or [height, width, channels]: uint8, uint16, bool or float.

        Raises:
            InputError: another number of channels, shape or type, or values that are no numbers.
        """
        image = as_tensor(array)
        if len(image) != self.channels:
            raise InputError(f"has {len(image)} channels, not {self.channels}")
        augment = self.augment
        if self.training and augment.random:
            image = self._random(image, augment)
        else:
            image = _central(image, self.image_size, augment)
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (self.mean, self.deviation))
        return (image - mean) / deviation

    def _random(self, image: Tensor, augment: Augment) -> Tensor:
        from torchvision.transforms import RandomResizedCrop

        scale, ratio = list(augment.scale), list(augment.ratio)
        top, left, height, width = RandomResizedCrop.get_params(image, scale, ratio)
        kind = augment.interpolation
        if kind == "random":
            kind = "bicubic" if torch.rand(()) < 0.5 else "bilinear"
        cut = _resize(image[:, top : top + height, left : left + width], self.image_size, kind)
        return cut.flip(2) if torch.rand(()) < augment.flip else cut


def check_augment(augment: Augment, channels: int) -> None:
    """Refuse what only pictures have.

    Raises:
        InputError: ``augment`` changes colours.
    """
    if augment.random and (augment.policy is not None or augment.color_jitter):
        raise InputError(
            f"augment.policy and augment.color_jitter change colours, but the images are .npy arrays of {channels} "
            "channels (allowed: the presets none and light, or scale, ratio, flip, interpolation and crop)"
        )


def _central(image: Tensor, size: tuple[int, int], augment: Augment) -> Tensor:
    """Resized so that the central crop of ``size`` is ``augment.crop`` of the side that fits tighter."""
    height, width = image.shape[1:]
    factor = max(
        math.floor(side / augment.crop) / own for side, own in zip(size, (height, width), strict=True)
    )
    inner = max(size[0], round(height * factor)), max(size[1], round(width * factor))
    image = _resize(image, inner, augment.resizing)
    top, left = (inner[0] - size[0]) // 2, (inner[1] - size[1]) // 2
    return image[:, top : top + size[0], left : left + size[1]]


def _resize(image: Tensor, size: tuple[int, int], kind: str) -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    resized = torch.nn.functional.interpolate(
        image[None], size=size, mode=kind, align_corners=False, antialias=True
    )
    return resized[0]


def _short(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]
