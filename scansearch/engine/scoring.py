"""Scoring a classifier on a split: one pass, every image once, over all processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scansearch.data import Split, evaluation_batches
from scansearch.engine.devices import widest_float
from scansearch.engine.loop import Metrics
from scansearch.errors import RunStopped

if TYPE_CHECKING:
    from accelerate import Accelerator

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scores:
    """What a model scored on a split, all processes together.

    Attributes:
        loss: mean cross-entropy in nats.
        top1, top5: percent of images whose label is the first, or among the first five, of the logits; with fewer
            than five classes, among as many as there are.
        confusion: int64 [label, prediction], on the CPU: numbers of images.
        seconds: of the forward passes alone, summed over the processes; 0 where they were not timed.
    """

    loss: float
    top1: float
    top5: float
    confusion: Tensor
    seconds: float

    @property
    def images(self) -> int:
        return int(self.confusion.sum())


@torch.no_grad()
def score_split(
    predict: Predict,
    split: Split,
    classes: int,
    *,
    batch_size: int,
    accelerator: Accelerator,
    workers: int = 0,
    timed: bool = False,
    name: str = "",
) -> Scores:
    """Score ``predict`` (images [batch, channels, height, width] -> logits [batch, classes]) on ``split``.

    With several processes each scores its share, and all get the sums.

    Args:
        timed: measure the forward passes, which waits for the device after each.
        name: of the split, for messages.

    Raises:
        RunStopped: no image can be read, or the loss is not finite.
    """
    device = accelerator.device
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    sums = torch.zeros(
        3, dtype=widest_float(device), device=device
    )  # loss, right among the first five, seconds
    batches = evaluation_batches(
        split, batch_size, rank=accelerator.process_index, ranks=accelerator.num_processes, workers=workers
    )
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        seconds, logits = timed_forward(predict, images, accelerator, timed)
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum").to(sums)
        first = logits.topk(min(5, classes), dim=1).indices
        sums += torch.stack([loss, (first == labels[:, None]).any(1).sum().to(sums), seconds])
        pairs = labels * classes + logits.argmax(1)
        confusion += torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    confusion = accelerator.reduce(confusion, reduction="sum").cpu()
    loss_sum, in_five, seconds_sum = accelerator.reduce(sums, reduction="sum").tolist()
    count = int(confusion.sum())
    if count == 0:
        raise RunStopped(f"no image of {f'the {name}' if name else 'a'} split can be read")
    if not math.isfinite(loss_sum):
        raise RunStopped(
            f"the loss on {count} images is {loss_sum}: the outputs of the model are not finite; its weights may not be"
        )
    return Scores(
        loss=loss_sum / count,
        top1=100 * int(confusion.diagonal().sum()) / count,
        top5=100 * in_five / count,
        confusion=confusion,
        seconds=seconds_sum,
    )


def score(
    predict: Predict,
    split: Split,
    classes: int,
    *,
    batch_size: int,
    accelerator: Accelerator,
    workers: int = 0,
) -> Metrics:
    """``loss`` (nats) and ``accuracy`` (top-1, percent) of :func:`score_split`."""
    scores = score_split(
        predict, split, classes, batch_size=batch_size, accelerator=accelerator, workers=workers
    )
    return {"loss": scores.loss, "accuracy": scores.top1}


def timed_forward(
    predict: Predict, images: Tensor, accelerator: Accelerator, timed: bool
) -> tuple[Tensor, Tensor]:
    """Seconds (a tensor; 0 if not ``timed``) and the float32 result of ``predict(images)``."""
    device = images.device
    waits = timed and device.type == "cuda"
    if waits:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    with accelerator.autocast():
        result = predict(images)
    if waits:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start if timed else 0.0
    return torch.tensor(seconds, dtype=widest_float(device), device=device), result.float()
