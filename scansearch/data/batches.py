"""Batches: the order of an epoch, augmentation seeded per image, and images that cannot be read left out.

Randomness is a pure function of (seed, epoch, position): the order of an epoch, and the augmentation of
each image. So a run that is resumed in the middle of an epoch sees exactly what it would have seen, with
any number of workers.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from scansearch.data.balance import balanced_draws
from scansearch.data.instances.targets import ImageObjects, ObjectBatch
from scansearch.data.splits import BrokenImage, BrokenImages, Split
from scansearch.errors import RunStopped
from scansearch.seeding import Stream, generate, seed_host

Batch = tuple[Tensor, Any]
Broken = list[tuple[str, str]]


class Streams(NamedTuple):
    """Random streams of a split's batches: the order of its images, and the augmentation of each."""

    order: Stream
    image: Stream


TRAINING_STREAMS = Streams(Stream.TRAINING_ORDER, Stream.TRAINING_IMAGE)
VALIDATION_STREAMS = Streams(Stream.VALIDATION_ORDER, Stream.VALIDATION_IMAGE)
BALANCED_STREAMS = Streams(Stream.BALANCED_ORDER, Stream.TRAINING_IMAGE)
Key = tuple[int, ...]


class EpochBatches(Sampler[list[Key]]):
    """Batches of one epoch as lists of (epoch, index) pairs, a pure function of its arguments.

    Positions run through random permutations of the split, one after the other, so ``batches`` may ask for
    more than one pass. With several ranks, each takes its contiguous part of every global batch: the
    global batch does not depend on the number of ranks.

    With ``labels``, one for each image, a pass is drawn with replacement, so that classes are equally likely. Then
    the position is a third member, for an image that is drawn twice is augmented twice.
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
        stream: Stream = Stream.TRAINING_ORDER,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.stream, self.labels = stream, labels
        self.count, self.batch_size, self.batches = count, batch_size, batches
        self.seed, self.epoch, self.start = seed, epoch, start
        self.rank, self.share = rank, batch_size // ranks

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        passes: dict[int, np.ndarray] = {}

        def key(position: int) -> Key:
            cycle, offset = divmod(position, self.count)
            if cycle not in passes:
                passes[cycle] = self._pass(cycle)
            index = int(passes[cycle][offset])
            return (self.epoch, index) if self.labels is None else (self.epoch, index, position)

        for batch in range(self.start, self.batches):
            first = batch * self.batch_size + self.rank * self.share
            yield [key(first + i) for i in range(self.share)]

    def _pass(self, cycle: int) -> np.ndarray:
        generator = generate(self.stream, self.seed, self.epoch, cycle)
        if self.labels is None:
            return generator.permutation(self.count)
        return balanced_draws(self.labels, generator)


class _Seeded(Dataset[tuple[Tensor | None, int, Broken]]):
    """Reads the keys of :class:`EpochBatches`; where the split augments, each seeds the global generators.

    In place of an image that cannot be read comes the next one that can with ``substitute``, else None.
    """

    def __init__(self, split: Split, seed: int, stream: Stream, *, substitute: bool) -> None:
        self.split, self.seed, self.stream, self.substitute = split, seed, stream, substitute

    def __len__(self) -> int:
        return self.split.count

    def __getitem__(self, key: Key) -> tuple[Tensor | None, int, Broken]:
        epoch, index, *drawn = key
        broken: Broken = []
        tries = min(self.split.count, self.split.broken.limit + 1) if self.substitute else 1
        for attempt in range(tries):
            image = (index + attempt) % self.split.count
            if self.split.augments:
                seed_host(self.stream, self.seed, epoch, image, *drawn)
            try:
                return *self.split.read(image), broken
            except BrokenImage as error:
                broken.append((error.name, error.reason))
        return None, 0, broken


def _ignore_stop_signals(worker: int) -> None:
    """A worker lives as long as its parent, which answers SIGINT and SIGTERM for the whole process group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _loader(images: _Seeded, batches: Any, workers: int) -> DataLoader[Any]:
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_ignore_stop_signals,
    )


def _collate(items: list[tuple[Tensor | None, int, Broken]]) -> tuple[Batch | None, Broken]:
    broken = [entry for *_, entries in items for entry in entries]
    kept = [(image, label) for image, label, _ in items if image is not None]
    if not kept:
        return None, broken
    images, labels = zip(*kept, strict=True)
    return (torch.stack(images), _together(labels)), broken


def _together(labels: Sequence[Any]) -> Any:
    if isinstance(labels[0], ImageObjects):
        return ObjectBatch(labels)
    return torch.stack(list(labels)) if isinstance(labels[0], Tensor) else torch.tensor(labels)


def _noting(loaded: Iterable[Any], broken: BrokenImages, *, whole: bool) -> Iterator[Batch]:
    for batch, skipped in loaded:
        for name, reason in skipped:
            broken.note(name, reason)
        if batch is not None:
            yield batch
        elif whole:
            raise RunStopped(
                f"no image of a batch can be read; the last: {skipped[-1][0]!r} ({skipped[-1][1]})"
            )


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
    streams: Streams = TRAINING_STREAMS,
    balanced: bool = False,
) -> Iterator[Batch]:
    """Shuffled, augmented batches of one epoch, from batch ``start`` on: images [b, c, h, w] and labels int64 [b].

    Where labels are masks, they are uint8 [b, h, w]; of objects, an :class:`ObjectBatch`.

    ``batches`` defaults to the full batches of one pass; b is ``batch_size / ranks``. The next readable image
    takes the place of one that cannot be read. ``balanced`` draws with replacement, classes equally likely, by the
    labels that the split lists.

    Raises:
        RunStopped: while iterating, when more images are broken than the split allows.
    """
    streams = BALANCED_STREAMS if balanced else streams
    order = EpochBatches(
        split.count,
        batch_size,
        split.count // batch_size if batches is None else batches,
        seed=seed,
        epoch=epoch,
        start=start,
        rank=rank,
        ranks=ranks,
        stream=streams.order,
        labels=split.labels if balanced else None,
    )
    images = _Seeded(split, seed, streams.image, substitute=True)
    return _noting(iter(_loader(images, order, workers)), split.broken, whole=True)


def evaluation_batches(
    split: Split, batch_size: int, *, rank: int = 0, ranks: int = 1, workers: int = 0
) -> Iterator[Batch]:
    """Every readable image once, in order; with several ranks, each takes every ``ranks``-th image.

    Raises:
        RunStopped: while iterating, when more images are broken than the split allows.
    """
    keys = [(0, index) for index in range(rank, split.count, ranks)]
    lists = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
    images = _Seeded(split, 0, Stream.VALIDATION_IMAGE, substitute=False)
    return _noting(iter(_loader(images, lists, workers)), split.broken, whole=False)
