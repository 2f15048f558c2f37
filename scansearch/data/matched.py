"""Data as a trained model knows them: its class names in its order, and images normalised as in its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scansearch.data.splits import ImageData, Sample, Split
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.text import printable

Statistics = tuple[Sequence[float] | None, Sequence[float] | None]
_SHOWN = 5  # names in a message


@dataclass(frozen=True)
class _Relabelled:
    """``read`` with label i replaced by ``labels[i]``; a class, so that processes that read images can take it."""

    read: Callable[[int], Sample]
    labels: tuple[int, ...]

    def __call__(self, index: int) -> Sample:
        image, label = self.read(index)
        return image, self.labels[label]


@dataclass(frozen=True)
class _Rescaled:
    """``read`` with images times ``factor`` plus ``offset``, both [channels, 1, 1]."""

    read: Callable[[int], Sample]
    factor: Tensor
    offset: Tensor

    def __call__(self, index: int) -> Sample:
        image, label = self.read(index)
        return image * self.factor + self.offset, label


def match_treatment(data: ImageData, treatment: Treatment) -> ImageData:
    """``data`` with the classes of ``treatment``, in its order, and images normalised by its mean and deviation.

    Classes go by name, never by position: of the model's classes some may be absent from the data.

    Raises:
        InputError: a class that the model does not know.
    """
    if treatment.classes and treatment.classes != data.classes:
        data = _with_classes(data, treatment.classes)
    change = rescaling((data.mean, data.deviation), (treatment.mean, treatment.std))
    if change is None:
        return data
    factor, offset = change
    return replace(
        _each_split(data, lambda read: _Rescaled(read, factor, offset)),
        mean=treatment.mean,
        deviation=treatment.std,
    )


def rescaling(own: Statistics, theirs: Statistics) -> tuple[Tensor, Tensor] | None:
    """Factor and offset, both [channels, 1, 1], from images normalised by ``own`` to those normalised by ``theirs``.

    Args:
        own, theirs: mean and deviation of each channel; None where they are not known.

    Returns:
        None where nothing is to be done, or not known.
    """
    (mean, deviation), (new_mean, new_deviation) = own, theirs
    if own == theirs or mean is None or deviation is None or new_mean is None or new_deviation is None:
        return None
    if len(mean) != len(new_mean):
        return None
    a, b, c, d = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in (mean, deviation, new_mean, new_deviation)
    )
    return (b / d).float(), ((a - c) / d).float()


def _with_classes(data: ImageData, classes: Sequence[str]) -> ImageData:
    position = {name: index for index, name in enumerate(classes)}
    unknown = [name for name in data.classes if name not in position]
    if unknown:
        raise InputError(
            f"{data.spec!r} has {_names(unknown, 'class', 'classes')}, which the model does not know (it knows "
            f"{_listed(classes)})"
        )
    labels = tuple(position[name] for name in data.classes)
    matched = _each_split(data, lambda read: _Relabelled(read, labels))
    train, validation, test = (
        replace(split, labels=[labels[label] for label in split.labels])
        for split in (matched.train, matched.validation, matched.test)
    )
    return replace(matched, classes=tuple(classes), train=train, validation=validation, test=test)


def _each_split(
    data: ImageData, change: Callable[[Callable[[int], Sample]], Callable[[int], Sample]]
) -> ImageData:
    def changed(split: Split) -> Split:
        return replace(split, read=change(split.read))

    return replace(
        data, train=changed(data.train), validation=changed(data.validation), test=changed(data.test)
    )


def _names(names: Sequence[str], one: str, several: str) -> str:
    return f"{one if len(names) == 1 else several} {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(printable(name)) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
