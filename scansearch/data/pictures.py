"""Pictures that are decoded when they are read: where they come from, and the splits made of them."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from torch import Tensor

from scansearch.data.augment import Augment, image_statistics, image_transforms
from scansearch.data.decoding import brightest, convert, kind_of, open_picture, wide_values
from scansearch.data.names import PartName, counted, listed
from scansearch.data.splits import BrokenImage, ImageData, Sample, Split, stratified_tenths
from scansearch.errors import InputError
from scansearch.files.regular import check_regular
from scansearch.text import printable

_SPLIT_SEED = 2024
_LOOKED_AT = 200  # pictures of a data set whose kind is looked at beforehand


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
            raise BrokenImage(source.name(key), "it holds no picture of a kind that is read") from None
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


def assemble(
    spec: str,
    what: str,
    parts: Mapping[PartName, Pictures],
    classes: tuple[str, ...],
    size: tuple[int, int],
    augment: Augment,
    *,
    channels: int | None = None,
    scoring: bool = False,
    brightest: float | None = None,
    notes: Sequence[str] = (),
) -> ImageData:
    """Make the splits that are missing, in training first the test set, then the one for validation, of the rest.

    Args:
        parts: without ``train`` for scoring alone.
        scoring: the pictures are not learnt from, so none are held out: without a test set, those for validation
            are it, and without both all.
        brightest: of float and 32-bit pictures, as the model knows it; None for what fits these.

    Raises:
        InputError: nothing to train on, one class, or a class too small to be split.
    """
    parts, made = _for_scoring(parts) if scoring else _for_training(parts, classes, what)
    channels = channels or 3
    looked = look_at(list(parts.values()), channels, brightest)
    decoder = looked.decoder
    augmented, plain = image_transforms(augment, size, channels)
    mean, deviation = image_statistics(channels)
    train, validation, test = (parts[part] for part in ("train", "validation", "test"))
    return ImageData(
        spec=spec,
        classes=classes,
        channels=channels,
        image_size=size,
        train=train.split(augmented, augments=True, decoder=decoder),
        validation=validation.split(plain, decoder=decoder),
        test=test.split(plain, decoder=decoder),
        mean=mean,
        deviation=deviation,
        brightest=looked.brightest,
        digest=_digest([train, validation, test], looked.contents),
        notes=tuple(printable(note) for note in (*notes, *made, *looked.notes)),
    )


def _for_scoring(parts: Mapping[PartName, Pictures]) -> tuple[dict[PartName, Pictures], list[str]]:
    test = parts.get("test") or parts.get("validation") or parts["train"]
    validation = parts.get("validation") or test
    notes = [] if "test" in parts else [f"all {counted(len(test.labels), 'picture')} are scored"]
    return {"train": test.part([]), "validation": validation, "test": test}, notes


def _for_training(
    parts: Mapping[PartName, Pictures], classes: tuple[str, ...], what: str
) -> tuple[dict[PartName, Pictures], list[str]]:
    given = dict(parts)
    if "train" not in given:
        raise InputError(
            f"{what} holds pictures for {listed(given)} alone: they can be scored, not trained on"
        )
    notes = []
    if "test" not in given and "validation" in given:
        given["test"] = given.pop("validation")
        notes.append("there is no test set, so the validation images are it")
    missing: list[PartName] = [part for part in ("test", "validation") if part not in given]
    if missing:
        counts = Counter(given["train"].labels)
        small = [name for label, name in enumerate(classes) if counts[label] <= len(missing)]
        if small:
            noun = "class" if len(small) == 1 else "classes"
            raise InputError(
                f"{what}: {noun} {listed(small)} {'has' if len(small) == 1 else 'have'} too few images to split "
                f"({len(missing) + 1} are needed for training and {' and '.join(reversed(missing))})"
            )
        notes.append(f"a tenth of each class's training pictures is held out for {' and for '.join(missing)}")
        train = given["train"]
        kept, *held = stratified_tenths(train.labels, len(missing), seed=_SPLIT_SEED)
        given |= {part: train.part(indices) for part, indices in zip(missing, held, strict=True)}
        given["train"] = train.part(kept)
    return given, notes


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
    found: Counter[str] = Counter()
    values = []
    looked = 0
    for pictures in parts:
        if isinstance(pictures.source, IndexedSource):
            continue
        share = -(-_LOOKED_AT // len(parts))
        for index in range(0, len(pictures.keys), max(1, len(pictures.keys) // share)):
            looked += 1
            try:
                with pictures.source.open(pictures.keys[index]) as file:
                    content = file.read()
                contents.update(hashlib.sha256(content).digest())
                with open_picture(io.BytesIO(content)) as picture:
                    found[kind_of(picture)] += 1
                    value = wide_values(picture)
                    values += [] if value is None else [value]
            except Exception:  # reported when it is its turn
                found["broken"] += 1
    scale = brightest(values) if known is None else known
    fit = "which fits all that were looked at" if known is None else "as in the training"
    meanings = {
        "16-bit": "divided by 65535",
        "32-bit": f"divided by {scale:g}, {fit}",
        "transparent": "opacity is the fourth channel" if channels == 4 else "laid on white",
        "animated": "the first frame is taken",
    }
    notes = [
        f"{kind} pictures ({found[kind]} of {looked} looked at): {meaning}"
        for kind, meaning in meanings.items()
        if found[kind]
    ]
    met = scale if values else None
    return Look(Decoder(channels, scale), met, notes, contents.digest())


def _digest(splits: Sequence[Pictures], contents: bytes) -> str:
    digest = hashlib.sha256(contents)
    for pictures in splits:
        for key, label in zip(pictures.keys, pictures.labels, strict=True):
            digest.update(f"{pictures.source.short_name(key)}\0{label}\n".encode(errors="surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()
