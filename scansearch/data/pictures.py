"""Pictures that are decoded when they are read: where they come from, and the splits made of them."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from torch import Tensor

from scansearch.data.decoding import brightest, convert, kind_of, open_picture, value_range, wide_values
from scansearch.data.splits import BrokenImage, Sample, Split
from scansearch.files.regular import check_regular

_SPLIT_SEED = 2024
_DARK_16 = 16384  # 16-bit pictures below it use less than a quarter of the grey levels
LOOKED_AT = 200  # pictures of a data set whose kind is looked at beforehand


class Source(Protocol):
    """Where pictures come from. A source can be pickled: worker processes get a copy."""

    def open(self, key: Any) -> Any:
        """A PIL image, or what ``PIL.Image.open`` takes."""

    def name(self, key: Any) -> str:
        """What to call the picture in a message."""

    def short_name(self, key: Any) -> str:
        """The same wherever the data set is kept."""


@dataclass(frozen=True)
class FolderSource:
    """Files below ``root``; a key is a path relative to it."""

    root: str

    def open(self, key: str) -> BinaryIO:
        path = Path(self.root, key)
        check_regular(path)
        # Not blocking: what the name stands for may have changed since the check.
        return open(
            os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
        )

    def name(self, key: str) -> str:
        return os.path.join(self.root, key)

    def short_name(self, key: str) -> str:
        return key


@dataclass(frozen=True)
class IndexedSource:
    """Something whose items start with the picture; a key is an index."""

    data: Any
    what: str

    def open(self, key: int) -> Any:
        return self.data[key][0]

    def name(self, key: int) -> str:
        return f"{self.what} image {key}"

    short_name = name


@dataclass(frozen=True)
class Decoder:
    """What is made of a picture: see :mod:`scansearch.data.decoding`."""

    channels: int = 3
    scale: float = 1.0

    def read(self, source: Source, key: Any) -> Any:
        """The PIL image of ``key`` with 8 bits a channel.

        Raises:
            BrokenImage: it cannot be read.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            opened = source.open(key)
            if isinstance(opened, Image.Image):
                return convert(opened, self.channels, self.scale)
            with opened, open_picture(opened) as picture:
                return convert(picture, self.channels, self.scale)
        except UnidentifiedImageError:
            hint = ""
            if source.name(key).lower().endswith((".tif", ".tiff")):
                hint = ": of a TIFF with more bands than colour and opacity, save the array as .npy"
            raise BrokenImage(source.name(key), f"it holds no picture of a kind that is read{hint}") from None
        except Exception as error:  # damaged files raise errors of any kind
            raise BrokenImage(source.name(key), str(error) or type(error).__name__) from None


@dataclass(frozen=True)
class Pictures:
    """Pictures of one ``source`` in order, not yet decoded: a key of the source and a label for each."""

    labels: list[int]
    keys: Sequence[Any]
    source: Source

    def part(self, indices: Sequence[int]) -> Pictures:
        return Pictures([self.labels[i] for i in indices], [self.keys[i] for i in indices], self.source)

    def split(
        self,
        transform: Callable[[Any], Tensor],
        *,
        augments: bool = False,
        decoder: Decoder = Decoder(),
    ) -> Split:
        return Split(len(self.labels), PictureReader(self, transform, decoder), augments, self.labels)


@dataclass(frozen=True)
class PictureReader:
    """Index -> (image, label) of ``pictures``."""

    pictures: Pictures
    transform: Callable[[Any], Tensor]
    decoder: Decoder

    def __call__(self, index: int) -> Sample:
        pictures = self.pictures
        picture = self.decoder.read(pictures.source, pictures.keys[index])
        return self.transform(picture), pictures.labels[index]


class Look(NamedTuple):
    """What some pictures of a data set tell of all.

    Attributes:
        decoder: how to decode them.
        brightest: of the float and 32-bit pictures; None where none were met.
        notes: what they are, one line each.
        contents: a digest of their bytes.
    """

    decoder: Decoder
    brightest: float | None
    notes: list[str]
    contents: bytes


def look_at(parts: Sequence[Pictures], channels: int, known: float | None = None) -> Look:
    """How to decode the pictures of a data set, by up to some hundred of them, evenly chosen.

    Args:
        known: the brightest value of float and 32-bit pictures; None to choose it by these.
    """
    contents = hashlib.sha256()
    counts: Counter[str] = Counter()
    values = []
    lowest, highest_16 = 0.0, 0.0
    looked = 0
    for pictures in parts:
        if isinstance(pictures.source, IndexedSource):
            continue
        share = -(-LOOKED_AT // len(parts))
        for index in range(0, len(pictures.keys), max(1, len(pictures.keys) // share)):
            looked += 1
            try:
                with pictures.source.open(pictures.keys[index]) as file:
                    content = file.read()
                contents.update(hashlib.sha256(content).digest())
                with open_picture(io.BytesIO(content)) as picture:
                    kind = kind_of(picture)
                    counts[kind] += 1
                    value = wide_values(picture)
                    values += [] if value is None else [value]
                    span = value_range(picture)
                    if span is not None:
                        lowest = min(lowest, span[0])
                        highest_16 = max(highest_16, span[1] if kind == "16-bit" else 0.0)
            except Exception:  # reported when it is its turn
                counts["broken"] += 1
    scale = brightest(values) if known is None else known
    fit = "which fits all that were looked at" if known is None else "as in the training"
    meanings = {
        "16-bit": "divided by 65535",
        "32-bit": f"divided by {scale:g}, {fit}",
        "transparent": "opacity is the fourth channel" if channels == 4 else "laid on white",
        "animated": "the first frame is taken",
    }
    notes = [
        f"{kind} pictures ({counts[kind]} of {looked} looked at): {meaning}"
        for kind, meaning in meanings.items()
        if counts[kind]
    ]
    if 0 < highest_16 < _DARK_16:
        levels = round(255 * highest_16 / 65535) + 1
        notes.append(
            f"16-bit pictures: none that was looked at is brighter than {highest_16:g}, so {levels} of 256 grey levels "
            "are used; save them as float TIFF with values from 0 to 1, or spread over 0 to 65535, to use all"
        )
    if lowest < 0:
        notes.append(
            f"values below 0 are black, and the lowest looked at is {lowest:g}: add a constant to use them"
        )
    met = scale if values else None
    return Look(Decoder(channels, scale), met, notes, contents.digest())
