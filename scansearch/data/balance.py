"""Classes of unequal size: how many images each has, and draws or weights that make them count alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scansearch.data.splits import Split
from scansearch.errors import InputError
from scansearch.text import printable

MOST_UNEQUAL = (
    3  # the largest class may have so many times the images of the smallest before it is worth a line
)


def class_counts(split: Split, classes: int) -> list[int] | None:
    """Number of images of each class in ``split``; None where it does not list its labels."""
    if len(split.labels) != split.count:
        return None
    counts: list[int] = np.bincount(np.asarray(split.labels, dtype=np.int64), minlength=classes).tolist()
    return counts


def known_counts(split: Split, classes: int, spec: str) -> list[int]:
    """:func:`class_counts` of the training images of the data ``spec``.

    Raises:
        InputError: they do not list their labels.
    """
    counts = class_counts(split, classes)
    if counts is None:
        raise InputError(f"balance: the data {spec!r} do not list the labels of their images (allowed: none)")
    return counts


def class_weights(counts: Sequence[int]) -> list[float]:
    """A weight for each class, inversely proportional to its count; the mean over all images is 1.

    A class without images has weight 0: nothing is known of it.
    """
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 0.0 for count in counts]


def balanced_draws(labels: Sequence[int], generator: np.random.Generator) -> np.ndarray:
    """As many indices as ``labels``, int64: each of a class drawn evenly, and of an image drawn evenly from it."""
    numbers = np.asarray(labels, dtype=np.int64)
    by_class = np.argsort(numbers, kind="stable")
    _, firsts, counts = np.unique(numbers[by_class], return_index=True, return_counts=True)
    drawn = generator.integers(len(counts), size=len(numbers))
    return by_class[firsts[drawn] + generator.integers(counts[drawn])]


def unequal_classes(counts: Sequence[int], names: Sequence[str]) -> str | None:
    """One line where the largest class has more than :data:`MOST_UNEQUAL` times the images of the smallest."""
    most, least = max(counts), min(counts)
    if most <= MOST_UNEQUAL * least:
        return None
    frequent, rare = (printable(names[counts.index(count)]) for count in (most, least))
    return (
        f"classes are unequal: {frequent!r} has {most:,} training images, {rare!r} {least:,}; --balance weights or "
        "sampling, and balanced accuracy, are for that"
    )
