"""A specification of pictures with objects -> train, validation and test sets."""

from __future__ import annotations

from typing import Any

from scansearch.data.masks.sources import Reader, load_dense
from scansearch.data.specifications import BOXED
from scansearch.data.splits import ImageData

READERS = {  # by kind, as in BOXED
    "shapes": Reader("scansearch.data.instances.shapes"),
    "coco": Reader("scansearch.data.instances.coco"),
}


def load_objects(spec: str, **options: Any) -> ImageData:
    """The pictures with objects that ``spec`` names; their targets are
    :class:`~scansearch.data.instances.targets.ImageObjects`.

    Args:
        spec: ``shapes:HxW:count`` (drawn) or ``coco:PATH``.
        options: of :func:`scansearch.data.masks.sources.load_dense`.

    Raises:
        InputError: as there. MissingExtra: pycocotools is not installed.
    """
    return load_dense(spec, READERS, task="detect", targets="boxes", allowed=BOXED, **options)
