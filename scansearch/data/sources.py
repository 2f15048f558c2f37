"""A data specification -> train, validation and test sets; see :func:`load_data` for the specifications.

Batches are in :mod:`scansearch.data.batches`, the types in :mod:`scansearch.data.splits`;
both can be imported from here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from scansearch.data.augment import Augment
from scansearch.data.batches import EpochBatches, evaluation_batches, training_batches
from scansearch.data.decoding import check_channels
from scansearch.data.specifications import BOXED, MASKED, SPECIFICATIONS
from scansearch.data.splits import BrokenImage, BrokenImages, ImageData, Sample, Split, stratified
from scansearch.errors import InputError
from scansearch.files.regular import similar
from scansearch.text import nearest, printable

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
    """One kind of specification.

    ``read`` of ``module`` takes (argument, size); where ``pictures``, also Augment, and ``channels``, ``scoring``
    and ``brightest`` by name.
    """

    module: str
    needs_argument: bool = False
    pictures: bool = False
    arrays: bool = False  # the files may be arrays, which tell their channels


_READERS = {  # by kind, as in SPECIFICATIONS
    "digits": _Reader("scansearch.data.digits"),
    "folder": _Reader("scansearch.data.folders", needs_argument=True, pictures=True, arrays=True),
    "timm": _Reader("scansearch.data.timm_sets", needs_argument=True, pictures=True, arrays=True),
    "fake": _Reader("scansearch.data.made", needs_argument=True, pictures=True),
    "translated-digits": _Reader("scansearch.data.translated"),
    "planted": _Reader("scansearch.data.planted", needs_argument=True),
}


def _with_kind(spec: str) -> str:
    """``spec``, with its kind where it is the path of a folder alone."""
    known = spec.partition(":")[0] in _READERS
    return f"folder:{spec}" if spec and not known and Path(spec).expanduser().is_dir() else spec


def _choices(spec: str, kind: str) -> str:
    """What is allowed; the nearest kind, or folder, goes first."""
    near = nearest(kind, SPECIFICATIONS)
    folder = similar(Path(spec).expanduser()) if near is None and "/" in spec else ""
    hint = f"did you mean {SPECIFICATIONS[near]!r}? " if near is not None else ""
    allowed = f"({hint}allowed: {', '.join(SPECIFICATIONS.values())}, or the path of a folder)"
    return f"{folder.strip()} {allowed}" if folder else allowed


def takes_pictures(spec: str) -> bool:
    """Whether ``spec`` names pictures, which are cut and resized as an Augment says."""
    reader = _READERS.get(_with_kind(spec).partition(":")[0])
    return reader is not None and reader.pictures


def load_data(
    spec: str,
    *,
    image_size: int | tuple[int, int],
    augment: Augment | None = None,
    max_broken: int = 100,
    channels: int | None = None,
    scoring: bool = False,
    brightest: float | None = None,
) -> ImageData:
    """The data set that ``spec`` names, at ``image_size`` pixels.

    Args:
        spec: ``digits`` (scikit-learn's 1,797 images), ``folder:PATH`` (see :mod:`scansearch.data.layouts`),
            ``timm:NAME`` (tar files, torchvision, Hugging Face), ``fake:HxW:classes`` (made pictures),
            ``translated-digits``, or ``planted:PATTERN`` (noise in which one direction sees the class). The path of a
            folder alone is read as ``folder:PATH``.
        augment: how training pictures are changed; None for the preset ``light``, or the data set's own way.
        max_broken: how many pictures that cannot be read are skipped before a run stops.
        channels: of a picture: 1 (grey), 3, or 4 (with opacity); None for 3, or what the data set has.
        scoring: the pictures are only scored, so of a folder without a test set all are the test set.
        brightest: the value of float and 32-bit pictures that counts as 1, as a model knows it; None for the one that
            fits them.

    Raises:
        InputError: unknown specification; a folder that is missing or holds no images; ``augment`` or other
            ``channels`` for a data set that has no pictures.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not spec.isprintable():
        raise InputError(f"data {printable(spec)!r} holds a character that cannot be shown or is not UTF-8")
    spec = _with_kind(spec)
    kind, _, argument = spec.partition(":")
    if kind == "python":
        raise InputError(
            f"the images of {spec!r} were made in Python: go on there, and give them as data (resume_search and "
            "resume_training take them)"
        )
    if (
        channels is not None
        and kind not in (*MASKED, *BOXED)
        and not (kind in _READERS and _READERS[kind].arrays)
    ):
        check_channels(channels, spec)
    if kind in MASKED:
        raise InputError(
            f"data {spec!r} has masks, and no class for each picture: it is data of task segment (--task segment)"
        )
    if kind in BOXED:
        raise InputError(
            f"data {spec!r} has boxes, and no class for each picture: it is data of task detect (--task detect)"
        )
    if kind not in _READERS or bool(argument) != _READERS[kind].needs_argument:
        raise InputError(f"unknown data {spec!r} {_choices(spec, kind)}")
    reader = _READERS[kind]
    function = import_module(reader.module).read
    if reader.pictures:
        augment = augment or Augment()
        options = {"channels": channels, "scoring": scoring, "brightest": brightest}
        data = function(argument, size, augment, **options)
        data = replace(data, augment=augment)
    elif augment is not None:
        raise InputError(f"data {spec!r} has a fixed augmentation of its own: leave out augment")
    else:
        data = function(argument, size)
        if channels not in (None, data.channels):
            raise InputError(f"data {spec!r} has images of {data.channels} channels, not {channels}")
    return data.counting_broken(max_broken)
