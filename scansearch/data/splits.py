"""What every data set is made of: splits, and the images in them that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from scansearch.data.augment import Augment
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError, RunStopped

# An image, and its label, or what a task has in the place of one: a mask, or objects.
Sample = tuple[Tensor, Any]
SplitName = Literal["train", "validation", "test"]


class BrokenImage(InputError):
    """An image that cannot be read, with its name and the reason."""

    def __init__(self, name: str, reason: object) -> None:
        self.name, self.reason = name, " ".join(str(reason).split())
        super().__init__(f"image {name!r} cannot be read: {self.reason}")


@dataclass
class BrokenImages:
    """The images that had to be skipped so far.

    Attributes:
        limit: a run stops when more images than this are broken.
        names: the broken images, with the reason of each.
    """

    limit: int = 100
    names: dict[str, str] = field(default_factory=dict)
    _fresh: list[tuple[str, str]] = field(default_factory=list)

    def note(self, name: str, reason: str) -> None:
        """Count an image, once however often it is met.

        Raises:
            RunStopped: there are now more than ``limit``.
        """
        if name in self.names:
            return
        self._fresh.append((name, reason))
        self.learn({name: reason})

    def learn(self, names: Mapping[str, str]) -> None:
        """Count images that were noted elsewhere, too.

        Raises:
            RunStopped: there are now more than ``limit``.
        """
        self.names.update(names)
        if names and len(self.names) > self.limit:
            name, reason = list(names.items())[-1]
            raise RunStopped(
                f"more images cannot be read than max_broken = {self.limit} allows; the last: {name!r} ({reason})"
            )

    def take_fresh(self) -> list[tuple[str, str]]:
        """Names and reasons noted since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        count: number of images.
        read: index -> (image, label). The image is float32 [channels, height, width], normalised; the label is an int,
            the mask of the image, uint8 [height, width], or its objects
            (:class:`scansearch.data.instances.targets.ImageObjects`); where the split augments, it draws from torch's,
            NumPy's and Python's global generators. Raises BrokenImage where the image cannot be read.
        augments: whether ``read`` is random.
        labels: of all images, in order; empty where they are not known without reading the images.
        broken: where batches note the images that they had to skip.
    """

    count: int
    read: Callable[[int], Sample]
    augments: bool = False
    labels: Sequence[int] = field(default=(), repr=False)
    broken: BrokenImages = field(default_factory=BrokenImages, compare=False)


@dataclass(frozen=True)
class ImageData:
    """What :func:`scansearch.data.load_data` gives.

    Attributes:
        spec: the specification that it came from.
        classes: class names, in label order.
        channels: channels of an image.
        image_size: (height, width) in pixels.
        train, validation, test: disjoint splits.
        mean, deviation: of each channel, in units of the brightest pixel: what was subtracted from the images, and
            what they were divided by.
        augment: how pictures are cut and changed; None for data that have a way of their own.
        brightest: the value of float and 32-bit pictures that counts as 1; None where there are none.
        digest: SHA-256 over names and labels of the images, split by split, in their order, and over the content of
            up to 200 files; empty for data that come with a package.
        baseline: (name, accuracy in percent) of a simple classifier that any network must beat, or None.
        notes: what was read, what was passed over and why, one line each.
    """

    spec: str
    classes: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    augment: Augment | None = None
    brightest: float | None = None
    baseline: Callable[[], tuple[str, float]] | None = None
    digest: str = ""
    notes: tuple[str, ...] = ()

    @property
    def treatment(self) -> Treatment:
        """What a model that was trained on these data needs to know of its images."""
        return Treatment(
            image_size=self.image_size,
            classes=self.classes,
            mean=self.mean,
            std=self.deviation,
            augment=self.augment,
            brightest=self.brightest,
            digest=self.digest,
        )

    @property
    def broken(self) -> BrokenImages:
        """What has been skipped in any split of a data set from ``load_data``."""
        return self.train.broken

    def split(self, name: SplitName) -> Split:
        """The split called ``name``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def counting_broken(self, limit: int) -> ImageData:
        """The same data, whose splits share one count of broken images with this limit."""
        broken = BrokenImages(limit)
        return replace(
            self,
            train=replace(self.train, broken=broken),
            validation=replace(self.validation, broken=broken),
            test=replace(self.test, broken=broken),
        )


def stratified(labels: Sequence[int], held_out: int, *, seed: int) -> tuple[list[int], list[int]]:
    """Split 0..n-1 into (kept, ``held_out`` indices) with every class in proportion; sorted, fixed by ``seed``."""
    from sklearn.model_selection import train_test_split

    kept, held = train_test_split(
        np.arange(len(labels)), test_size=held_out, random_state=seed, stratify=np.asarray(labels)
    )
    return sorted(int(i) for i in kept), sorted(int(i) for i in held)


def stratified_tenths(labels: Sequence[int], parts: int, *, seed: int) -> list[list[int]]:
    """Split 0..n-1 into the indices that are kept and ``parts`` lists of a tenth, each with every class; sorted.

    A class of c images gives max(1, c / 10), rounded, to each part. How it is split depends on ``seed``, its label
    and c alone.

    Raises:
        ValueError: a class has no more than ``parts`` images.
    """
    every = np.asarray(labels, dtype=np.int64)
    split: list[list[int]] = [[] for _ in range(parts + 1)]
    for label in np.unique(every):
        (members,) = np.nonzero(every == label)
        if len(members) <= parts:
            raise ValueError(f"class {label} has {len(members)} images, not more than {parts}")
        members = members[np.random.default_rng([seed, int(label)]).permutation(len(members))]
        each = max(1, min((len(members) + 5) // 10, len(members) // (parts + 1)))
        for part in range(1, parts + 1):
            split[part] += members[(part - 1) * each : part * each].tolist()
        split[0] += members[parts * each :].tolist()
    return [sorted(indices) for indices in split]
