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
