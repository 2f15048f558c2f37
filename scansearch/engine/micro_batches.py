"""One step's batch in micro-batches: gradients add up, and the loss and accuracy are those of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scansearch.engine.loop import Metrics
from scansearch.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = tuple[Tensor, Any]


@dataclass(frozen=True)
class MicroBatch:
    """Part of a batch: images [n, channels, height, width], labels int64 [n], masks or objects.

    Attributes:
        share: of the batch's images on this process; the shares of a batch add up to 1.
        last: whether gradients are averaged over the processes in this one's backward.
    """

    images: Tensor
    labels: Any
    share: float
    last: bool


def split_batch(batch: Batch, count: int) -> Iterator[MicroBatch]:
    """``batch`` in ``count`` parts of equal size."""
    images, labels = batch
    parts = list(zip(images.chunk(count), labels.chunk(count), strict=True))
    for index, (x, y) in enumerate(parts):
        yield MicroBatch(x, y, len(y) / len(labels), index + 1 == len(parts))


def add_gradients(
    batch: Batch,
    count: int,
    backward: Callable[[MicroBatch], Tensor],
    *,
    network: nn.Module,
    accelerator: Accelerator,
) -> Metrics:
    """Call ``backward`` on each micro-batch; the metrics are means over the batch and all processes.

    Args:
        count: micro-batches.
        backward: adds the gradient of its share of the loss, and returns (loss, accuracy from 0 to 1) of the
            micro-batch, float [2], without a graph; of a task without accuracy NaN in its place.
        network: what is wrapped for several processes; only the last backward exchanges its gradients.
    """
    images, labels = (part.to(accelerator.device) for part in batch)
    totals = torch.zeros(2, device=accelerator.device)
    for micro_batch in split_batch((images, labels), count):
        with nullcontext() if micro_batch.last else accelerator.no_sync(network):
            totals += backward(micro_batch) * micro_batch.share
    loss, accuracy = accelerator.reduce(totals, reduction="mean").tolist()
    return {"loss": loss} if math.isnan(accuracy) else {"loss": loss, "accuracy": 100 * accuracy}


def check_batch_size(batch_size: int, accumulate: int, *, processes: int, images: int, spec: str) -> None:
    """Refuse a batch that the data cannot fill or that does not divide.

    Args:
        accumulate: micro-batches of a batch on one process.
        images: number of training images of the data ``spec``.

    Raises:
        InputError: naming the sizes.
    """
    if images < batch_size:
        raise InputError(
            f"batch size {batch_size} is larger than the {images} training images of {spec!r}: "
            f"use --batch-size {images} or less"
        )
    if batch_size % (processes * accumulate):
        raise InputError(
            f"batch size {batch_size} is not a multiple of {processes} processes x {accumulate} micro-batches"
        )
