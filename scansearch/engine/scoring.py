"""Scoring a model on a split: one pass, every image once, over all processes; what is counted is a tally's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

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


class Tally(Protocol):
    """What is counted of a split, batch by batch, on one process.

    Attributes:
        nothing: in words, what is wrong where there was nothing to count; ``{split}`` stands for the split.
    """

    nothing: str

    def forward(self, predict: Callable[..., Any], images: Tensor, targets: Any) -> Any:
        """What the model makes of a batch."""

    def add(self, outputs: Any, targets: Any) -> Tensor:
        """Count a batch; returns the sum of its losses (nats)."""

    def gather(self, accelerator: Accelerator) -> int:
        """Bring together what all processes counted; returns how much it is, which the losses are a mean over."""


@dataclass(frozen=True)
class Scored:
    """Of a whole split, all processes together.

    Attributes:
        loss: mean in nats over what was counted.
        images: that were scored.
        seconds: of the forward passes alone, summed over the processes; 0 where they were not timed.
    """

    loss: float
    images: int
    seconds: float


@torch.no_grad()
def tally_split(
    predict: Callable[..., Any],
    split: Split,
    tally: Tally,
    *,
    batch_size: int,
    accelerator: Accelerator,
    workers: int = 0,
    timed: bool = False,
    name: str = "",
) -> Scored:
    """Let ``tally`` count what ``predict`` makes of every readable image of ``split``, once.

    With several processes each scores its share, and all get the sums.

    Args:
        timed: measure the forward passes, which waits for the device after each.
        name: of the split, for messages.

    Raises:
        RunStopped: no image can be read, there is nothing to count, or the loss is not finite.
    """
    device = accelerator.device
    sums = torch.zeros(3, dtype=widest_float(device), device=device)  # loss, images, seconds
    batches = evaluation_batches(
        split, batch_size, rank=accelerator.process_index, ranks=accelerator.num_processes, workers=workers
    )
    for images, targets in batches:
        images, targets = images.to(device), targets.to(device)
        with _timed(device, timed) as seconds, accelerator.autocast():
            outputs = tally.forward(predict, images, targets)
        loss = tally.add(outputs, targets).to(sums)
        sums += torch.stack([loss, torch.full_like(loss, len(images)), torch.full_like(loss, seconds[0])])
    counted = tally.gather(accelerator)
    loss_sum, count, seconds_sum = accelerator.reduce(sums, reduction="sum").tolist()
    which = f"the {name}" if name else "a"
    if not count:
        raise RunStopped(f"no image of {which} split can be read")
    if not counted:
        raise RunStopped(tally.nothing.format(split=f"{which} split"))
    if not math.isfinite(loss_sum):
        raise RunStopped(
            f"the loss on {int(count)} images is {loss_sum}: the outputs of the model are not finite; its weights may "
            "not be"
        )
    return Scored(loss_sum / counted, int(count), seconds_sum)


@contextmanager
def _timed(device: torch.device, timed: bool) -> Iterator[list[float]]:
    """Seconds of the block, as the only member of a list, after it; 0 if not ``timed``."""
    seconds = [0.0]
    waits = timed and device.type == "cuda"
    if waits:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    yield seconds
    if waits:
        torch.cuda.synchronize(device)
    if timed:
        seconds[0] = time.perf_counter() - start


class ConfusionTally:
    """Pairs of label and prediction of whatever has one label: images, or pixels.

    Attributes:
        confusion: int64 [label, prediction].
        in_five: how many had their label among the first five of the logits; with fewer classes, among as many.
    """

    def __init__(self, classes: int, device: torch.device, *, ignored: int = -100, nothing: str = "") -> None:
        self.classes, self.ignored, self.nothing = classes, ignored, nothing
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        self.in_five = torch.zeros((), dtype=torch.int64, device=device)

    def forward(self, predict: Callable[..., Any], images: Tensor, targets: Any) -> Tensor:
        logits: Tensor = predict(images)
        return logits.float()

    def add(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of logits [n, classes, ...] and labels [n, ...]; those labelled ``ignored`` do not count."""
        labels = targets.long()
        loss = nn.functional.cross_entropy(outputs, labels, ignore_index=self.ignored, reduction="sum")
        if outputs.ndim == 2:
            first = outputs.topk(min(5, self.classes), dim=1).indices
            self.in_five += (first == labels[:, None]).any(1).sum()
        kept = labels != self.ignored
        pairs = labels[kept] * self.classes + outputs.argmax(1)[kept]
        self.confusion += torch.bincount(pairs, minlength=self.classes**2).reshape_as(self.confusion)
        return loss

    def gather(self, accelerator: Accelerator) -> int:
        self.confusion = accelerator.reduce(self.confusion, reduction="sum").cpu()
        self.in_five = accelerator.reduce(self.in_five, reduction="sum").cpu()
        return int(self.confusion.sum())


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

    Options and errors are those of :func:`tally_split`.
    """
    tally = ConfusionTally(classes, accelerator.device)
    scored = tally_split(
        predict,
        split,
        tally,
        batch_size=batch_size,
        accelerator=accelerator,
        workers=workers,
        timed=timed,
        name=name,
    )
    return Scores(
        loss=scored.loss,
        top1=100 * int(tally.confusion.diagonal().sum()) / scored.images,
        top5=100 * int(tally.in_five) / scored.images,
        confusion=tally.confusion,
        seconds=scored.seconds,
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
