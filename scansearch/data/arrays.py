"""Images that a program already holds: arrays in memory, and torch data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scansearch.data.augment import Augment
from scansearch.data.names import PartName, listed, part_called
from scansearch.data.splits import BrokenImage, ImageData, Sample, Split, stratified_tenths
from scansearch.errors import InputError

_SPLIT_SEED = 2024
_AT_ONCE = 256  # images whose mean is computed in one step
_PARTS: tuple[PartName, ...] = ("train", "validation", "test")


def data_from_arrays(
    images: Any,
    labels: Sequence[int] | np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    name: str = "arrays",
) -> ImageData:
    """Data for ``search``, ``train`` and ``evaluate`` from arrays; they take it wherever they take a specification.

        numbers = numpy.load("images.npy", mmap_mode="r")              # [n, height, width, 13]
        data = scansearch.data_from_arrays(numbers, labels, classes=["water", "wood"])
        result = scansearch.search("vim8", data=data)

    Nothing is resized or augmented: the images are what the model sees.

    Args:
        images: [n, height, width] or [n, height, width, channels]: uint8 and uint16 are divided by 255 and 65535,
            bool and floats are taken as they are.
        labels: n integers, 0 to the number of classes - 1.
        classes: names in label order; by default the labels.
        splits: n names out of train, validation and test. By default a tenth of each class's images is for
            validation, a tenth for test.
        mean, deviation: of each channel, after the division; by default those of the training images.
        name: what messages and files call the data.

    Raises:
        InputError: shapes, types or labels that do not fit, or a class too small to split.
    """
    array = np.asarray(images)
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise InputError(
            f"images have shape {list(array.shape)}, not [n, height, width] or [n, height, width, channels]"
        )
    array = array if array.ndim == 4 else array[..., None]
    scale = value_scale(array.dtype)
    numbers, names = _labels(labels, len(array), classes)
    parts = _parts(numbers, names, splits)
    if mean is None or deviation is None:
        measured = _statistics(array, parts["train"], scale)
        mean, deviation = (
            measured[0] if mean is None else mean,
            measured[1] if deviation is None else deviation,
        )
    means, deviations = _per_channel(mean, deviation, array.shape[3])

    def split(part: PartName) -> Split:
        chosen = parts[part]
        read = ArrayReader(array, chosen, [numbers[i] for i in chosen], scale, means, deviations)
        return Split(len(chosen), read, labels=read.labels)

    digest = hashlib.sha256(repr((parts, numbers, array.shape, str(array.dtype))).encode())
    for image in array:
        digest.update(np.ascontiguousarray(image).data)
    return _data(
        name, names, array.shape[1:3], [split(part) for part in _PARTS], means, deviations, digest.hexdigest()
    )


def data_from_dataset(
    train: Any,
    validation: Any = None,
    test: Any = None,
    *,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    name: str = "dataset",
) -> ImageData:
    """Data for ``search``, ``train`` and ``evaluate`` from map-style torch data sets.

    An item is (image, label): the image a tensor [channels, height, width], or an array or PIL image as in
    :func:`data_from_arrays`, all of one shape; the label an integer. The images of ``train`` may be augmented at
    random; what the data set draws from torch, NumPy and Python is then seeded for each image.

    Args:
        validation, test: further data sets; those left out are a tenth of each class's images of ``train`` each.
        classes: names in label order; by default ``train.classes``, else the labels.
        mean, deviation: of each channel, subtracted and divided by; by default the images are taken as they come.
        name: what messages and files call the data.

    Raises:
        InputError: images or labels that do not fit, or a class too small to split.
    """
    given = {
        part: data for part, data in zip(_PARTS, (train, validation, test), strict=True) if data is not None
    }
    labels = {part: _dataset_labels(data, part) for part, data in given.items()}
    shape = _image(train[0][0]).shape
    if classes is None and isinstance(getattr(train, "classes", None), list | tuple):
        classes = [str(label) for label in train.classes]
    every = [label for numbers in labels.values() for label in numbers]
    _, names = _labels(every, len(every), classes)
    means, deviations = _per_channel(mean or [0.0] * shape[0], deviation or [1.0] * shape[0], shape[0])
    sources: dict[PartName, tuple[Any, list[int]]] = {
        part: (data, list(range(len(labels[part])))) for part, data in given.items()
    }
    missing = [part for part in _PARTS if part not in given]
    if missing:
        kept, *held = _held_out(labels["train"], names, len(missing))
        sources |= {part: (train, indices) for part, indices in zip(missing, held, strict=True)}
        sources["train"] = (train, kept)
    splits = []
    digest = hashlib.sha256()
    for part in _PARTS:
        data, chosen = sources[part]
        numbers = labels[part if part in given else "train"]
        read = DatasetReader(data, chosen, [numbers[i] for i in chosen], tuple(shape), means, deviations)
        splits.append(Split(len(chosen), read, part == "train", read.labels))
        digest.update(repr(read.labels).encode())
    return _data(name, names, tuple(shape[1:]), splits, means, deviations, digest.hexdigest())


def fitting(
    data: ImageData,
    *,
    image_size: int | tuple[int, int] | None,
    augment: Augment | None,
    channels: int | None,
    max_broken: int,
) -> ImageData:
    """``data`` as a configuration wants it; the options are those of ``load_data``.

    Raises:
        InputError: it wants what only data that are read from files can give.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if size is not None and tuple(size) != data.image_size:
        height, width = data.image_size
        raise InputError(
            f"the images of {data.spec!r} are {height}x{width} and are not resized: leave out image_size"
        )
    if channels not in (None, data.channels):
        raise InputError(f"the images of {data.spec!r} have {data.channels} channels, not {channels}")
    if augment is not None and augment != getattr(data, "augment", None):
        raise InputError(f"the images of {data.spec!r} are taken as they are: leave out augment")
    return data.counting_broken(max_broken)


@dataclass(frozen=True)
class ArrayReader:
    """Index -> (image, label): the images ``chosen`` of an array [n, height, width, channels]."""

    images: np.ndarray
    chosen: list[int]
    labels: list[int]
    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, index: int) -> Sample:
        image = self.images[self.chosen[index]].astype(np.float32) / np.float32(self.scale)
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if not tensor.isfinite().all():
            raise BrokenImage(f"image {self.chosen[index]}", "holds values that are no finite numbers")
        return _normal(tensor, self.mean, self.deviation), self.labels[index]


@dataclass(frozen=True)
class DatasetReader:
    """Index -> (image, label): the items ``chosen`` of a torch data set, whose images have ``shape``."""

    dataset: Any
    chosen: list[int]
    labels: list[int]
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, index: int) -> Sample:
        name = f"image {self.chosen[index]}"
        try:
            image = _image(self.dataset[self.chosen[index]][0])
        except (OSError, InputError) as error:
            raise BrokenImage(name, error) from None
        if tuple(image.shape) != self.shape:
            raise InputError(
                f"{name} of the data set has shape {list(image.shape)}, the first {list(self.shape)}"
            )
        if not image.isfinite().all():
            raise BrokenImage(name, "holds values that are no finite numbers")
        return _normal(image, self.mean, self.deviation), self.labels[index]


def _normal(image: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    return (image - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]


def value_scale(dtype: Any) -> float:
    """What values of ``dtype`` (of NumPy or torch) are divided by.

    Raises:
        InputError: no type of images.
    """
    if dtype == np.uint8 or dtype == torch.uint8:
        return 255.0
    if dtype == np.uint16 or dtype == torch.uint16:
        return 65535.0
    if dtype == torch.bool or (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        return 1.0
    if isinstance(dtype, np.dtype) and dtype.kind in "bf":
        return 1.0
    raise InputError(f"images are of type {dtype} (allowed: uint8, uint16, bool, and floats)")


def _image(image: Any) -> Tensor:
    """A float32 tensor [channels, height, width] of one image."""
    if not isinstance(image, Tensor):
        array = np.asarray(image)
        if array.ndim not in (2, 3):
            raise InputError(
                f"an image has shape {list(array.shape)}, not [height, width] or [height, width, channels]"
            )
        array = array if array.ndim == 3 else array[..., None]
        return torch.from_numpy(array.astype(np.float32).transpose(2, 0, 1).copy()) / value_scale(array.dtype)
    if image.ndim != 3:
        raise InputError(f"an image has shape {list(image.shape)}, not [channels, height, width]")
    return image.float() / value_scale(image.dtype)


def _labels(labels: Any, count: int, classes: Sequence[str] | None) -> tuple[list[int], tuple[str, ...]]:
    """``labels`` as integers, and the names of the classes."""
    array = np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise InputError(
            f"labels must be {count} integers, one an image, not {array.dtype} of shape {list(array.shape)}"
        )
    numbers = [int(label) for label in array]
    names = tuple(classes) if classes is not None else tuple(str(i) for i in range(max(numbers) + 1))
    if len(set(names)) != len(names) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise InputError(f"classes must be two or more different names, not {listed(map(str, names))}")
    if min(numbers) < 0 or max(numbers) >= len(names):
        raise InputError(
            f"labels run from {min(numbers)} to {max(numbers)}, but there are {len(names)} classes"
        )
    return numbers, names


def _dataset_labels(data: Any, part: str) -> list[int]:
    """The labels that a data set lists, else those of its items, each of which is read once."""
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__") or not len(data):
        raise InputError(f"the data set for {part} needs __getitem__ and a __len__ above 0")
    for attribute in ("targets", "labels"):
        labels = getattr(data, attribute, None)
        if labels is not None and not callable(labels) and len(labels) == len(data):
            return [int(label) for label in labels]
    return [int(data[index][1]) for index in range(len(data))]


def _parts(
    labels: list[int], classes: tuple[str, ...], splits: Sequence[str] | None
) -> dict[PartName, list[int]]:
    if splits is None:
        kept, validation, test = _held_out(labels, classes, 2)
        return {"train": kept, "validation": validation, "test": test}
    named = [part_called(str(split)) for split in splits]
    unknown = [str(split) for split, part in zip(splits, named, strict=True) if part is None]
    if unknown or len(named) != len(labels):
        what = listed(dict.fromkeys(unknown)) if unknown else f"{len(named)} names"
        raise InputError(f"splits must be {len(labels)} names out of train, validation and test, not {what}")
    parts = {part: [i for i, own in enumerate(named) if own == part] for part in _PARTS}
    empty = [part for part, indices in parts.items() if not indices]
    if empty:
        raise InputError(f"splits names no image for {listed(empty)}")
    return parts


def _held_out(labels: list[int], classes: tuple[str, ...], parts: int) -> list[list[int]]:
    small = [name for label, name in enumerate(classes) if labels.count(label) <= parts]
    if small:
        raise InputError(f"too few images to split of {listed(small)}: {parts + 1} are needed of each class")
    return stratified_tenths(labels, parts, seed=_SPLIT_SEED)


def _statistics(images: np.ndarray, chosen: list[int], scale: float) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, of values that are finite."""
    count = np.zeros(images.shape[3])
    total, squares = np.zeros_like(count), np.zeros_like(count)
    for first in range(0, len(chosen), _AT_ONCE):
        values = (
            images[chosen[first : first + _AT_ONCE]].astype(np.float64).reshape(-1, images.shape[3]) / scale
        )
        known = np.isfinite(values)
        values = np.where(known, values, 0)
        count += known.sum(0)
        total += values.sum(0)
        squares += (values**2).sum(0)
    return _mean_and_deviation(total / count.clip(1), squares / count.clip(1))


def channel_statistics(images: Sequence[np.ndarray]) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel over all pixels of float ``images`` [channels, height, width] of any sizes."""
    pixels = [image.astype(np.float64).reshape(len(image), -1) for image in images]
    count = sum(values.shape[1] for values in pixels)
    mean = sum(values.sum(1) for values in pixels) / count
    squares = sum((values**2).sum(1) for values in pixels) / count
    return _mean_and_deviation(mean, squares)


def _mean_and_deviation(mean: np.ndarray, squares: np.ndarray) -> tuple[list[float], list[float]]:
    """From the means of values and of their squares; a channel that is constant has deviation 1."""
    deviation = np.sqrt((squares - mean**2).clip(0))
    return mean.tolist(), np.where(deviation > 1e-6 * abs(mean), deviation, 1.0).tolist()


def _per_channel(
    mean: Sequence[float], deviation: Sequence[float], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    means, deviations = tuple(float(value) for value in mean), tuple(float(value) for value in deviation)
    if len(means) != channels or len(deviations) != channels:
        raise InputError(f"mean and deviation need a number for each of {channels} channels")
    if not np.isfinite([*means, *deviations]).all() or min(deviations) <= 0:
        raise InputError("mean and deviation must be finite, and deviation above 0")
    return means, deviations


def _data(
    name: str,
    classes: tuple[str, ...],
    size: tuple[int, ...],
    splits: list[Split],
    mean: tuple[float, ...],
    deviation: tuple[float, ...],
    digest: str,
) -> ImageData:
    if not name.isprintable() or not name:
        raise InputError(f"name {name!r} must be one line of text")
    train, validation, test = splits
    return ImageData(
        spec=f"python:{name}",
        classes=classes,
        channels=len(mean),
        image_size=(int(size[0]), int(size[1])),
        train=train,
        validation=validation,
        test=test,
        mean=mean,
        deviation=deviation,
        digest=digest,
    )
