"""A data specification -> train, validation and test sets; see :func:`load_data` for the specifications.

Batches are in :mod:`scansearch.data.batches`, the types in :mod:`scansearch.data.splits`;
both can be imported from here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

from scansearch.data.augment import Augment
from scansearch.data.batches import EpochBatches, evaluation_batches, training_batches
from scansearch.data.specifications import SPECIFICATIONS
from scansearch.data.splits import BrokenImage, BrokenImages, ImageData, Sample, Split, stratified
from scansearch.errors import InputError
from scansearch.text import printable

__all__ = [
    "Augment",
    "BrokenImage",
    "BrokenImages",
    "EpochBatches",
    "ImageData",
    "Sample",
    "Split",
    "evaluation_batches",
    "load_data",
    "stratified",
    "training_batches",
]


@dataclass(frozen=True)
class _Reader:
    """One kind of specification. ``function`` of ``module`` takes (argument, size), and Augment where ``pictures``."""

    module: str
    function: str = "read"
    needs_argument: bool = False
    pictures: bool = False


_READERS = {  # by kind, as in SPECIFICATIONS
    "digits": _Reader("scansearch.data.digits"),
    "folder": _Reader("scansearch.data.pictures", "read_folder", needs_argument=True, pictures=True),
    "timm": _Reader("scansearch.data.pictures", "read_timm", needs_argument=True, pictures=True),
    "fake": _Reader("scansearch.data.made", needs_argument=True, pictures=True),
    "translated-digits": _Reader("scansearch.data.translated"),
}


def takes_pictures(spec: str) -> bool:
    """Whether ``spec`` names pictures, which are cut and resized as an Augment says."""
    reader = _READERS.get(spec.partition(":")[0])
    return reader is not None and reader.pictures


def load_data(
    spec: str,
    *,
    image_size: int | tuple[int, int],
    augment: Augment | None = None,
    max_broken: int = 100,
) -> ImageData:
    """The data set that ``spec`` names, at ``image_size`` pixels.

    Args:
        spec: ``digits`` (scikit-learn's 1,797 images), ``folder:PATH`` (ImageNet layout), ``timm:NAME`` (tar
            files, torchvision, Hugging Face), ``fake:HxW:classes`` (made pictures) or ``translated-digits``.
        augment: how training pictures are changed; None for the preset ``light``, or the data set's own way.
        max_broken: how many pictures that cannot be read are skipped before a run stops.

    Raises:
        InputError: unknown specification; a folder that is missing or holds no images; ``augment`` for a data
            set that has no pictures.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not spec.isprintable():
        raise InputError(f"data {printable(spec)!r} holds a character that cannot be shown or is not UTF-8")
    kind, _, argument = spec.partition(":")
    if kind not in _READERS or bool(argument) != _READERS[kind].needs_argument:
        raise InputError(f"unknown data {spec!r} (allowed: {', '.join(SPECIFICATIONS.values())})")
    reader = _READERS[kind]
    function = getattr(import_module(reader.module), reader.function)
    if reader.pictures:
        augment = augment or Augment()
        data = replace(function(argument, size, augment), augment=augment)
    elif augment is not None:
        raise InputError(f"data {spec!r} has a fixed augmentation of its own: leave out augment")
    else:
        data = function(argument, size)
    return data.counting_broken(max_broken)
