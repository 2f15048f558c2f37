"""A data specification -> train, validation and test sets, and the batches of one epoch.

Specifications: ``digits`` (scikit-learn's 1,797 real images), ``translated-digits`` (the same, pasted somewhere on
an empty canvas) and ``folder:PATH`` (ImageNet layout).

Randomness is a pure function of (seed, epoch, position): the order of an epoch, and the augmentation of
each image. So a run that is resumed in the middle of an epoch sees exactly what it would have seen, with
any number of workers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from scansearch.errors import InputError

Sample = tuple[Tensor, int]


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        count: number of images.
        read: index -> (image, label). The image is float32 [channels, height, width], normalised;
            where the split augments, it draws from torch's, NumPy's and Python's global generators.
        augments: whether ``read`` is random.
    """

    count: int
    read: Callable[[int], Sample]
    augments: bool = False


@dataclass(frozen=True)
class ImageData:
    """What :func:`load_data` gives.

    Attributes:
        spec: the specification that it came from.
        classes: class names, in label order.
        channels: channels of an image.
        image_size: (height, width) in pixels.
        train, validation, test: disjoint splits. ``train_clean`` is ``train`` without augmentation.
        baseline: (name, accuracy in percent) of a simple classifier that any network must beat, or None.
    """

    spec: str
    classes: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    train: Split
    validation: Split
    test: Split
    baseline: Callable[[], tuple[str, float]] | None = None


def load_data(spec: str, *, image_size: int | tuple[int, int]) -> ImageData:
    """The data set that ``spec`` names, at ``image_size`` pixels.

    Raises:
        InputError: unknown specification; a folder that is missing or holds no images.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    kind, _, argument = spec.partition(":")
    if kind not in _READERS or bool(argument) != _READERS[kind].needs_argument:
        raise InputError(f"unknown data {spec!r} (allowed: {', '.join(r.usage for r in _READERS.values())})")
    return _READERS[kind].read(argument, size)


# --- batches --------------------------------------------------------------------------------------------


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of one epoch as lists of (epoch, index) pairs, a pure function of its arguments.

    Positions run through random permutations of the split, one after the other, so ``batches`` may ask for
    more than one pass. With several ranks, each takes its contiguous part of every global batch: the
    global batch does not depend on the number of ranks.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        batches: int,
        *,
        seed: int,
        epoch: int,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.count, self.batch_size, self.batches = count, batch_size, batches
        self.seed, self.epoch, self.start = seed, epoch, start
        self.rank, self.share = rank, batch_size // ranks

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        permutations: dict[int, np.ndarray] = {}

        def index(position: int) -> int:
            cycle, offset = divmod(position, self.count)
            if cycle not in permutations:
                permutations[cycle] = np.random.default_rng([self.seed, self.epoch, cycle]).permutation(
                    self.count
                )
            return int(permutations[cycle][offset])

        for batch in range(self.start, self.batches):
            first = batch * self.batch_size + self.rank * self.share
            yield [(self.epoch, index(first + i)) for i in range(self.share)]


class _Seeded(Dataset[tuple[Tensor, Tensor]]):
    """Reads (epoch, index) pairs, with the global generators seeded for each pair where the split augments."""

    def __init__(self, split: Split, seed: int) -> None:
        self.split, self.seed = split, seed

    def __len__(self) -> int:
        return self.split.count

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key
        if self.split.augments:
            seed_everything(self.seed, epoch, index)
        image, label = self.split.read(index)
        return image, torch.tensor(label)


def seed_everything(*key: int) -> None:
    """Seed Python's, NumPy's and torch's global generators from a tuple of non-negative integers."""
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


def training_batches(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    batches: int | None = None,
    start: int = 0,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
) -> DataLoader[Any]:
    """Shuffled, augmented batches (images [b, c, h, w], labels int64 [b]) of one epoch, from batch ``start`` on.

    ``batches`` defaults to the full batches of one pass; b is ``batch_size / ranks``.
    """
    order = EpochBatches(
        split.count,
        batch_size,
        split.count // batch_size if batches is None else batches,
        seed=seed,
        epoch=epoch,
        start=start,
        rank=rank,
        ranks=ranks,
    )
    return DataLoader(_Seeded(split, seed), batch_sampler=order, num_workers=workers)


def evaluation_batches(
    split: Split, batch_size: int, *, rank: int = 0, ranks: int = 1, workers: int = 0
) -> DataLoader[Any]:
    """Every image once, in order; with several ranks, each takes every ``ranks``-th image."""
    keys = [(0, index) for index in range(rank, split.count, ranks)]
    lists = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
    return DataLoader(_Seeded(split, seed=0), batch_sampler=lists, num_workers=workers)


def stratified(labels: Sequence[int], held_out: int, *, seed: int) -> tuple[list[int], list[int]]:
    """Split 0..n-1 into (kept, ``held_out`` indices) with every class in proportion; sorted, fixed by ``seed``."""
    from sklearn.model_selection import train_test_split

    kept, held = train_test_split(
        np.arange(len(labels)), test_size=held_out, random_state=seed, stratify=np.asarray(labels)
    )
    return sorted(int(i) for i in kept), sorted(int(i) for i in held)


# --- readers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reader:
    usage: str
    needs_argument: bool
    read: Callable[[str, tuple[int, int]], ImageData]


_DIGITS_TEST, _DIGITS_VALIDATION, _DIGITS_SPLIT_SEED = 360, 180, 2024


def _digits(_: str, size: tuple[int, int]) -> ImageData:
    """8x8 grey images upsampled (bilinear) to ``size``; training images are shifted by up to a twelfth."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(int).tolist()
    rest, test = stratified(labels, _DIGITS_TEST, seed=_DIGITS_SPLIT_SEED)
    kept, held = stratified([labels[i] for i in rest], _DIGITS_VALIDATION, seed=_DIGITS_SPLIT_SEED)
    train, validation = [rest[i] for i in kept], [rest[i] for i in held]

    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16
    images = torch.nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
    mean, deviation = images[train].mean(), images[train].std()
    blank = float(-mean / deviation)
    images = (images - mean) / deviation
    reach = (size[0] // 12, size[1] // 12)

    def clean(indices: list[int]) -> Split:
        return Split(len(indices), lambda i: (images[indices[i]], labels[indices[i]]))

    def shifted(i: int) -> Sample:
        rows, columns = (int(torch.randint(-r, r + 1, ())) for r in reach)
        return _shift(images[train[i]], rows, columns, blank), labels[train[i]]

    def raw_pixels() -> tuple[str, float]:
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(max_iter=5000).fit(bunch.data[rest] / 16, bunch.target[rest])
        return "logistic regression on the raw 8x8 pixels", 100 * fitted.score(
            bunch.data[test] / 16, bunch.target[test]
        )

    return ImageData(
        spec="digits",
        classes=tuple(str(name) for name in bunch.target_names),
        channels=1,
        image_size=size,
        train=Split(len(train), shifted, augments=True),
        validation=clean(validation),
        test=clean(test),
        baseline=raw_pixels,
    )


def _shift(image: Tensor, rows: int, columns: int, fill: float) -> Tensor:
    """``image`` [c, h, w] moved down by ``rows`` and right by ``columns``, the gap filled with ``fill``."""
    moved = torch.full_like(image, fill)
    height, width = image.shape[-2:]
    moved[:, max(rows, 0) : height + min(rows, 0), max(columns, 0) : width + min(columns, 0)] = image[
        :, max(-rows, 0) : height - max(rows, 0), max(-columns, 0) : width - max(columns, 0)
    ]
    return moved


_FOLDER_SPLIT_SEED = 2024


def _folder(argument: str, size: tuple[int, int]) -> ImageData:
    """``PATH/train``, ``PATH/val`` (or ``validation``) and ``PATH/test``, one folder of images per class.

    Where only two of them exist, the second is the test set and a tenth of the training images validates;
    where the classes stand directly in PATH, a tenth validates and a tenth tests.
    """
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise InputError(f"data folder {str(root)!r} does not exist")
    found = {name: root / name for name in ("train", "val", "validation", "test") if (root / name).is_dir()}
    if "train" not in found:
        files = _class_files(root)
        labels = [label for _, label in files.samples]
        tenth = _tenth(labels, root)
        rest, test_indices = stratified(labels, tenth, seed=_FOLDER_SPLIT_SEED)
        kept, held = stratified([labels[i] for i in rest], tenth, seed=_FOLDER_SPLIT_SEED)
        train_files = [files.samples[rest[i]] for i in kept]
        validation_files = [files.samples[rest[i]] for i in held]
        test_files = [files.samples[i] for i in test_indices]
    else:
        files = _class_files(found["train"])
        others = [
            _class_files(found[name], files.classes)
            for name in ("val", "validation", "test")
            if name in found
        ]
        if not others:
            raise InputError(f"data folder {str(root)!r} has train/ but neither val/ nor test/")
        train_files, test_files = files.samples, others[-1].samples
        if len(others) > 1:
            validation_files = others[0].samples
        else:
            labels = [label for _, label in files.samples]
            kept, held = stratified(labels, _tenth(labels, root), seed=_FOLDER_SPLIT_SEED)
            train_files, validation_files = [files.samples[i] for i in kept], [files.samples[i] for i in held]
    from timm.data import create_transform

    shape = (3, *size)
    augmented = create_transform(shape, is_training=True, color_jitter=None)
    plain = create_transform(shape, is_training=False)
    return ImageData(
        spec=f"folder:{argument}",
        classes=files.classes,
        channels=3,
        image_size=size,
        train=_file_split(train_files, augmented, augments=True),
        validation=_file_split(validation_files, plain),
        test=_file_split(test_files, plain),
    )


def _tenth(labels: list[int], root: Path) -> int:
    classes = len(set(labels))
    smallest = min(labels.count(label) for label in set(labels))
    if smallest < 3:
        raise InputError(
            f"data folder {str(root)!r}: a class has {smallest} images; 3 are needed to split them"
        )
    return max(len(labels) // 10, classes)


@dataclass(frozen=True)
class _ClassFiles:
    samples: list[tuple[Path, int]]
    classes: tuple[str, ...]


def _class_files(folder: Path, classes: tuple[str, ...] | None = None) -> _ClassFiles:
    """Image files below ``folder`` with the index of their class folder, as timm's folder reader finds them."""
    from timm.data.readers import create_reader

    known = {name: index for index, name in enumerate(classes)} if classes is not None else None
    try:
        reader = create_reader("folder", root=str(folder), class_map=known or "")
    except RuntimeError:
        raise InputError(f"data folder {str(folder)!r} holds no images in class folders") from None
    names = classes or tuple(sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__))
    strangers = sorted({path.name for path in folder.iterdir() if path.is_dir()} - set(names))
    if strangers:
        raise InputError(
            f"data folder {str(folder)!r} has class {strangers[0]!r}, which the training images lack"
        )
    return _ClassFiles([(Path(path), int(label)) for path, label in reader.samples], names)


def _file_split(
    files: list[tuple[Path, int]], transform: Callable[[Any], Tensor], augments: bool = False
) -> Split:
    def read(index: int) -> Sample:
        from PIL import Image

        path, label = files[index]
        try:
            with Image.open(path) as image:
                return transform(image.convert("RGB")), label
        except OSError as error:
            raise InputError(f"image {str(path)!r} cannot be read: {error}") from None

    return Split(len(files), read, augments)


def _translated(argument: str, size: tuple[int, int]) -> ImageData:
    from scansearch import data_translated  # which itself needs this module

    return data_translated.read(argument, size)


_READERS = {
    "digits": _Reader("digits", needs_argument=False, read=_digits),
    "translated-digits": _Reader("translated-digits", needs_argument=False, read=_translated),
    "folder": _Reader("folder:PATH", needs_argument=True, read=_folder),
}
