"""Picture and mask -> tensors of one size; what moves the pixels of one moves those of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scansearch.data.augment import Augment, image_statistics
from scansearch.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

IGNORED = 255  # the label of pixels that neither the loss nor a score counts
_UNSET_CROP = Augment().crop
_WHOLE = (1.0, 1.0)  # a crop of the whole area: none


def whole(augment: Augment) -> Augment:
    """``augment`` as masks take it: held-out pictures are scored whole.

    Raises:
        InputError: a policy, which would move pixels under their mask, or a crop.
    """
    if augment.policy is not None:
        raise InputError(
            f"augment.policy {augment.policy!r} moves pixels but no masks: leave it out (color_jitter is allowed)"
        )
    if augment.crop not in (1.0, _UNSET_CROP):
        raise InputError(
            f"augment.crop {augment.crop}: pictures with masks are scored whole, so leave it out"
        )
    return augment.model_copy(update={"crop": 1.0})


@dataclass(frozen=True)
class MaskTransform:
    """A picture of 8 bits a channel and its mask -> (float32 [channels, *size], uint8 [*size]).

    With ``augments``, a random crop of the picture resized to ``size``, mirrored at times, and changed colours, all
    drawn from torch's global generator; of scale [1, 1] there is no crop. Otherwise, and where there is no crop, the
    whole picture, resized to fit and padded at the right and bottom with the mean colour, where the mask is ignored.
    Masks are resized to the nearest pixel.

    Attributes:
        size: (height, width) in pixels.
    """

    augment: Augment
    size: tuple[int, int]
    channels: int
    augments: bool

    def __call__(self, picture: Picture, mask: np.ndarray) -> tuple[Tensor, Tensor]:
        image, moved = self.move(picture, torch.from_numpy(np.array(mask, dtype=np.uint8))[None])
        height, width = (want - has for want, has in zip(self.size, moved.shape[1:], strict=True))
        return image, F.pad(moved[0], (0, width, 0, height), value=IGNORED)

    def move(self, picture: Picture, masks: Tensor) -> tuple[Tensor, Tensor]:
        """The image as above, and ``masks`` uint8 [n, height, width] with its pixels, not yet padded."""
        values = np.array(picture)
        image = torch.from_numpy(values.reshape(*values.shape[:2], self.channels)).permute(2, 0, 1)
        # One more, so that there is one: not everything can resize nothing.
        planes = F.pad(masks, (0, 0, 0, 0, 0, 1))
        image, planes = self._augmented(image, planes) if self.augments else self._fitted(image, planes)
        mean, deviation = (torch.tensor(row)[:, None, None] for row in image_statistics(self.channels))
        normal = (image.float() / 255 - mean) / deviation
        height, width = (want - has for want, has in zip(self.size, normal.shape[1:], strict=True))
        return F.pad(normal, (0, width, 0, height)), planes[:-1]

    def _augmented(self, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        from torchvision import tv_tensors

        if self.augment.scale == _WHOLE:
            image, masks = self._fitted(image, masks)
        # As plain tensors again: later arithmetic need not know that it was a picture.
        moved, target = self._chain()(tv_tensors.Image(image), tv_tensors.Mask(masks))
        return moved.as_subclass(Tensor), target.as_subclass(Tensor)

    def _chain(self) -> Any:
        from torchvision.transforms import v2

        augment = self.augment
        named = {"bilinear": ("bilinear",), "bicubic": ("bicubic",), "random": ("bilinear", "bicubic")}
        crops = [
            v2.RandomResizedCrop(
                list(self.size),
                scale=augment.scale,
                ratio=augment.ratio,
                interpolation=v2.InterpolationMode(kind),
                antialias=True,
            )
            for kind in named[augment.interpolation]
        ]
        steps: list[Any] = [v2.RandomChoice(crops) if len(crops) > 1 else crops[0]]
        if augment.scale == _WHOLE:
            steps = [v2.Identity()]
        if augment.flip:
            steps.append(v2.RandomHorizontalFlip(augment.flip))
        if augment.color_jitter:
            steps.append(v2.ColorJitter(*[augment.color_jitter] * 3))
        return v2.Compose(steps)

    def _fitted(self, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as v2

        sides = image.shape[1:]
        scale = min(most / side for most, side in zip(self.size, sides, strict=True))
        size = [min(most, max(1, round(side * scale))) for most, side in zip(self.size, sides, strict=True)]
        resizing = InterpolationMode(self.augment.resizing)
        return (
            v2.resize_image(image, size, interpolation=resizing, antialias=True),
            v2.resize_mask(masks, size),
        )


def mask_transforms(
    augment: Augment, size: tuple[int, int], channels: int
) -> tuple[MaskTransform, MaskTransform]:
    """Transforms for training and for evaluation.

    Raises:
        InputError: changed colours of images that are not of 3 channels.
    """
    if channels != 3 and augment.color_jitter:
        raise InputError(f"augment.color_jitter needs images of 3 channels, not {channels}")
    plain = MaskTransform(augment, size, channels, augments=False)
    return MaskTransform(augment, size, channels, augments=augment.random), plain
