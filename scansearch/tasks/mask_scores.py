"""Scores of predicted masks, all from one matrix of counts: whatever the order of images and the size of batches."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, Strict
from torch import Tensor

from scansearch import engine
from scansearch.data import Split
from scansearch.data.masks.transform import IGNORED
from scansearch.display.homes import drawn
from scansearch.files.strict import Integers, StrictModel, Strings
from scansearch.tasks.shown import record_frame, record_html
from scansearch.text import printable

if TYPE_CHECKING:
    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure


def class_ious(confusion: Sequence[Sequence[int]]) -> list[float | None]:
    """Intersection over union of each class, percent; None for a class that is neither in masks nor predicted.

    Args:
        confusion: [label][prediction] -> number of pixels.
    """
    columns = [sum(column) for column in zip(*confusion, strict=True)]
    ious: list[float | None] = []
    for index, row in enumerate(confusion):
        union = sum(row) + columns[index] - row[index]
        ious.append(100 * row[index] / union if union else None)
    return ious


def mean_iou(confusion: Sequence[Sequence[int]]) -> float:
    """Mean of :func:`class_ious` over the classes that occur in masks or predictions, percent."""
    return statistics.fmean(iou for iou in class_ious(confusion) if iou is not None)


def pixel_accuracy(confusion: Sequence[Sequence[int]]) -> float:
    """Share of the pixels with a class whose class was predicted, percent."""
    total = sum(map(sum, confusion))
    return 100 * sum(row[index] for index, row in enumerate(confusion)) / total


class SegmentationRecord(StrictModel):
    """The score of one model on one split, at the size of the model's images.

    Attributes:
        images, skipped: images that were scored, and images that could not be read.
        loss: mean cross-entropy of the pixels with a class, in nats.
        confusion: [label][prediction] -> number of pixels; ignored pixels are not among them.
        images_per_second: of the model's forward passes alone, over the whole split; None where not measured.
        genotype: its hash, where the model has one.
        notes: how the data were read, where they were read for this score; one line each.
    """

    counted: ClassVar[str] = "pixels"
    class_title: ClassVar[str] = "IoU"

    schema_version: Literal[1] = Field(default=1, alias="schema")
    task: Literal["segment"] = "segment"
    model: str
    genotype: str | None = None
    data: str
    split: Literal["validation", "test"]
    image_size: Integers = Field(min_length=2, max_length=2)
    classes: Strings
    images: int = Field(ge=1)
    skipped: int = Field(default=0, ge=0)
    loss: float
    confusion: Annotated[tuple[Integers, ...], Strict(False)]
    images_per_second: float | None = None
    device: str
    notes: Strings = ()

    @property
    def class_counts(self) -> dict[str, int]:
        """Pixels of each class."""
        return dict(zip(self.classes, map(sum, self.confusion), strict=True))

    @property
    def miou(self) -> float:
        """See :func:`mean_iou`."""
        return mean_iou(self.confusion)

    @property
    def accuracy(self) -> float:
        """See :func:`pixel_accuracy`."""
        return pixel_accuracy(self.confusion)

    @property
    def per_class(self) -> dict[str, float | None]:
        """See :func:`class_ious`."""
        return dict(zip(self.classes, class_ious(self.confusion), strict=True))

    def __repr__(self) -> str:
        return printable(
            f"<SegmentationRecord of {self.model} on {self.data} {self.split}: {self.describe()}>"
        )

    def _repr_html_(self) -> str:
        return record_html(self)

    def to_frame(self) -> DataFrame:
        """A pandas table with a row for each class: ``class``, ``pixels``, ``right``, ``IoU`` (percent)."""
        return record_frame(self)

    def plot(self) -> Figure:
        """The confusion matrix of pixels, a matplotlib Figure, see :func:`scansearch.plots.confusion_figure`."""
        return drawn("confusion", self)

    @property
    def headline(self) -> str:
        """The one figure, for a title."""
        return f"mIoU {self.miou:.2f} %"

    @property
    def score(self) -> float:
        """The mIoU."""
        return self.miou

    def describe(self) -> str:
        """The figures in words."""
        rest = f"pixel accuracy {self.accuracy:.2f} %, loss {self.loss:.4f}"
        return f"mIoU {self.miou:.2f} % of {self.images} images ({rest})"

    def figure_lines(self) -> list[str]:
        """All figures and what was scored, in words, a few on a line."""
        height, width = self.image_size
        return [
            f"mIoU {self.miou:.2f} %  pixel accuracy {self.accuracy:.2f} %  loss {self.loss:.4f}  on {self.images} "
            f"{self.split} images of {self.data} at {height}x{width}"
        ]

    def to_json(self) -> str:
        """With what follows from the confusion matrix, for readers other than this class."""
        content: dict[str, Any] = self.model_dump(mode="json", by_alias=True) | {
            "miou": self.miou,
            "accuracy": self.accuracy,
            "per_class": self.per_class,
        }
        return json.dumps(content, allow_nan=False) + "\n"


@dataclass(frozen=True)
class MaskScores:
    """What a model scored on a split, all processes together.

    Attributes:
        loss: mean cross-entropy of the pixels with a class, in nats.
        confusion: int64 [label, prediction], on the CPU: numbers of pixels.
        images: that were scored.
        seconds: of the forward passes alone, summed over the processes; 0 where they were not timed.
    """

    loss: float
    confusion: Tensor
    images: int
    seconds: float

    @property
    def miou(self) -> float:
        return mean_iou(self.confusion.tolist())

    @property
    def accuracy(self) -> float:
        return pixel_accuracy(self.confusion.tolist())


def score_masks(
    predict: Callable[[Tensor], Tensor], split: Split, classes: int, **options: Any
) -> MaskScores:
    """Score ``predict`` (images -> logits [batch, classes, height, width]) on ``split``, whose labels are masks.

    Options and errors are those of :func:`scansearch.engine.tally_split`.
    """
    tally = engine.ConfusionTally(
        classes,
        options["accelerator"].device,
        ignored=IGNORED,
        nothing="no pixel of {split} has a class: all are ignored",
    )
    scored = engine.tally_split(predict, split, tally, **options)
    return MaskScores(scored.loss, tally.confusion, scored.images, scored.seconds)
