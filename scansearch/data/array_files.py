"""Data sets of ``.npy`` files: their channels and statistics, and the splits made of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from scansearch.data.arrays import channel_statistics
from scansearch.data.augment import Augment
from scansearch.data.bands import LARGEST, ArrayTransform, as_tensor, check_augment, read_array
from scansearch.data.names import ARRAY, PartName, extension
from scansearch.data.pictures import LOOKED_AT, IndexedSource, Pictures, Source
from scansearch.data.splits import BrokenImage, Sample, Split
from scansearch.errors import InputError

_MORE = 4096  # bytes of a header


@dataclass(frozen=True)
class ArrayFileReader:
    """Index -> (image, label) of ``files``, whose keys are those of ``.npy`` files."""

    files: Pictures
    transform: ArrayTransform

    def __call__(self, index: int) -> Sample:
        files = self.files
        return transformed(files.source, files.keys[index], self.transform), files.labels[index]


def transformed(source: Source, key: Any, transform: ArrayTransform) -> Tensor:
    """The tensor of one ``.npy`` file.

    Raises:
        BrokenImage: it cannot be read.
    """
    try:
        with source.open(key) as file:
            return transform(read_array(file))
    except Exception as error:  # damaged files raise errors of any kind
        raise BrokenImage(source.name(key), str(error) or type(error).__name__) from None


def holds_arrays(parts: Mapping[PartName, Pictures], what: str) -> bool:
    """Whether the files are ``.npy`` arrays.

    Raises:
        InputError: some are, others are pictures.
    """
    examples: dict[bool, str] = {}
    for files in parts.values():
        if not isinstance(files.source, IndexedSource):
            for key in files.keys:
                name = files.source.short_name(key)
                examples.setdefault(extension(name) == ARRAY, name)
    if len(examples) == 2:
        raise InputError(
            f"{what} holds both pictures ({examples[False]!r}) and .npy arrays ({examples[True]!r}): one kind is read "
            "at once"
        )
    return True in examples


@dataclass(frozen=True)
class ArraySet:
    """What some ``.npy`` files of a data set tell of all.

    Attributes:
        mean, deviation: of each channel, over up to 200 training images, after integers are divided by their
            largest; 0 and 1 where there are no training images.
        contents: a digest of the bytes of some files of all splits.
        notes: what they are, one line each.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    contents: bytes
    notes: list[str]

    @property
    def channels(self) -> int:
        return len(self.mean)

    def split(
        self, files: Pictures, size: tuple[int, int], augment: Augment, *, augments: bool = False
    ) -> Split:
        """A split of ``files`` at ``size`` (height, width)."""
        transform = ArrayTransform(self.channels, size, augment, self.mean, self.deviation, augments)
        random = augments and augment.random
        return Split(len(files.labels), ArrayFileReader(files, transform), random, files.labels)


def look_at_arrays(
    train: Pictures, others: Sequence[Pictures], augment: Augment, channels: int | None, what: str
) -> ArraySet:
    """Channels and statistics of a data set, by files evenly chosen.

    Args:
        channels: that a configuration or a model asks for; None for what the files have.

    Raises:
        InputError: files of several numbers of channels, or of others than asked for; none that can be read;
            ``augment`` changes colours.
    """
    contents = hashlib.sha256()
    known: tuple[str, int] | None = None
    shapes: set[str] = set()
    images: list[np.ndarray] = []
    broken: BrokenImage | None = None
    for files in (train, *others):
        for key, content in _some(files):
            name = files.source.short_name(key)
            try:
                if isinstance(content, Exception):
                    raise content
                contents.update(hashlib.sha256(content).digest())
                array = read_array(io.BytesIO(content))
                image = as_tensor(array)
            except Exception as error:  # reported when it is its turn
                broken = broken or BrokenImage(files.source.name(key), error)
                continue
            known = known or (name, len(image))
            if known[1] != len(image):
                raise InputError(
                    f"{what} holds .npy arrays of several numbers of channels: {known[0]!r} has {known[1]}, {name!r} "
                    f"{len(image)}"
                )
            shapes.add(f"{image.shape[1]}x{image.shape[2]} {array.dtype}")
            if files is train:
                images.append(image.numpy())
    if known is None:
        raise broken or InputError(f"{what} holds no .npy arrays that can be read")
    if channels not in (None, known[1]):
        raise InputError(f"{what} holds .npy arrays of {known[1]} channels, not {channels}")
    if train.keys:
        check_augment(augment, known[1])
    mean, deviation = [0.0] * known[1], [1.0] * known[1]
    if images:
        mean, deviation = channel_statistics(images)
    kinds = sorted(shapes)
    sizes = ", ".join(kinds[:3]) + (f" and {len(kinds) - 3} more" if len(kinds) > 3 else "")
    notes = [f".npy arrays of {known[1]} channels ({sizes}), height first, channels last"]
    return ArraySet(tuple(mean), tuple(deviation), contents.digest(), notes)


def _some(files: Pictures) -> Iterator[tuple[Any, bytes | Exception]]:
    """Keys, evenly chosen, and what their files hold."""
    for index in range(0, len(files.keys), max(1, -(-len(files.keys) // LOOKED_AT))):
        key = files.keys[index]
        try:
            with files.source.open(key) as file:
                yield key, file.read(LARGEST + _MORE)
        except Exception as error:
            yield key, error
