"""Masks as run lengths, COCO's way of keeping them: a few bytes in place of one for each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from scansearch.errors import MissingExtra


def coco_masks() -> Any:
    """``pycocotools.mask``.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise MissingExtra("pycocotools", "dense", "detection") from None
    return mask


def encode_mask(mask: np.ndarray) -> tuple[dict[str, Any], list[float], float]:
    """Run lengths, the box (left, top, width, height) and the pixels of ``mask``, uint8 [height, width]."""
    tool = coco_masks()
    lengths = tool.encode(np.asfortranarray(mask))
    box, area = tool.toBbox(lengths).tolist(), float(tool.area(lengths))
    return {"size": list(lengths["size"]), "counts": lengths["counts"].decode("ascii")}, box, area


def plain_lengths(text: str) -> list[int]:
    """The run lengths in COCO's compressed ``text``: digits of base 32, and from the third on the difference to the one
    before the last.

    pycocotools does not check them, and leaves what they do not cover to chance.

    Raises:
        ValueError: a character that is no digit, or an end in the middle of a number.
    """
    lengths: list[int] = []
    value, place = 0, 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            raise ValueError(f"{character!r} is no digit of run lengths")
        value |= (digit & 31) << 5 * place
        place += 1
        if digit & 32:
            continue
        if digit & 16:
            value |= -1 << 5 * place
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value, place = 0, 0
    if place:
        raise ValueError("run lengths end in the middle of a number")
    return lengths


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask, uint8 [height, width], of polygons, of run lengths, or of compressed run lengths.

    Raises:
        ValueError: they are damaged.
    """
    tool = coco_masks()
    lengths = segmentation
    if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
        lengths = tool.frPyObjects(segmentation, height, width)
    if isinstance(lengths, list):
        lengths = tool.merge(lengths)
    mask: np.ndarray = tool.decode(lengths)
    if mask.shape != (height, width):
        raise ValueError(f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels")
    return mask
