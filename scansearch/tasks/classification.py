"""Task ``classify``: one class for each picture, from the backbone's own head."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, Strict
from torch import Tensor, nn

from scansearch import engine
from scansearch.data import ImageData, Split, load_data, match_treatment
from scansearch.display.homes import drawn
from scansearch.files.strict import Integers, StrictModel, Strings
from scansearch.tasks.protocol import ScoredSplit
from scansearch.tasks.scored import fitting_classes, record_fields, rows_of
from scansearch.tasks.shown import record_frame, record_html
from scansearch.text import printable

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.data.treatment import Treatment
    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure
    from scansearch.models.backbone import ScanBackbone


class Evaluation(StrictModel):
    """The score of one model on one split.

    Attributes:
        images, skipped: images that were scored, and images that could not be read.
        loss: mean cross-entropy in nats.
        top1, top5: percent of images whose label is the first, or among the first five, of the logits; with fewer
            than five classes, among as many as there are.
        confusion: ``[label][prediction]`` -> number of images.
        images_per_second: of the model's forward passes alone, over the whole split; None where not measured.
        genotype: its hash, where the model has one.
        notes: how the data were read, where they were read for this score; one line each.
    """

    counted: ClassVar[str] = "images"
    class_title: ClassVar[str] = "accuracy"

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: str
    genotype: str | None = None
    data: str
    split: ScoredSplit
    image_size: Integers = Field(min_length=2, max_length=2)
    classes: Strings
    images: int = Field(ge=1)
    skipped: int = Field(default=0, ge=0)
    loss: float
    top1: float
    top5: float
    confusion: Annotated[tuple[Integers, ...], Strict(False)]
    images_per_second: float | None = None
    device: str
    notes: Strings = ()

    @property
    def per_class(self) -> dict[str, float | None]:
        """Accuracy in percent of the images of each class; None for a class without images."""
        rows = zip(self.classes, self.confusion, strict=True)
        return {
            name: 100 * row[index] / sum(row) if sum(row) else None for index, (name, row) in enumerate(rows)
        }

    @property
    def class_counts(self) -> dict[str, int]:
        """Images of each class."""
        return dict(zip(self.classes, map(sum, self.confusion), strict=True))

    @property
    def balanced_accuracy(self) -> float:
        """Mean accuracy of the classes with images, in percent: rare classes weigh as much as frequent ones."""
        known = [accuracy for accuracy in self.per_class.values() if accuracy is not None]
        return statistics.fmean(known)

    @property
    def macro_f1(self) -> float:
        """Mean F1 score (harmonic mean of precision and recall), in percent, of the classes that occur.

        A class occurs where it has images or was predicted.
        """
        predicted = [sum(column) for column in zip(*self.confusion, strict=True)]
        scores = [
            100 * 2 * row[index] / (sum(row) + predicted[index])
            for index, row in enumerate(self.confusion)
            if sum(row) + predicted[index]
        ]
        return statistics.fmean(scores)

    def __repr__(self) -> str:
        return printable(
            f"<Evaluation of {self.model} on {self.data} {self.split}: top-1 {self.top1:.2f} %, "
            f"top-5 {self.top5:.2f} %, loss {self.loss:.4f}, {self.images} images>"
        )

    def _repr_html_(self) -> str:
        balance = f"balanced accuracy {self.balanced_accuracy:.2f} %, macro F1 {self.macro_f1:.2f} %"
        return record_html(self, balance)

    def to_frame(self) -> DataFrame:
        """A pandas table with a row for each class: ``class``, ``images``, ``right``, ``accuracy`` (percent)."""
        return record_frame(self)

    def plot(self) -> Figure:
        """The confusion matrix, a matplotlib Figure, see :func:`scansearch.plots.confusion_figure`."""
        return drawn("confusion", self)

    @property
    def headline(self) -> str:
        """The one figure, for a title."""
        return f"{self.top1:.2f} % right"

    @property
    def score(self) -> float:
        """Top-1."""
        return self.top1

    def describe(self) -> str:
        """The figures in words."""
        return f"accuracy {self.top1:.2f} % of {self.images} images (top 5: {self.top5:.2f} %, loss {self.loss:.4f})"

    def figure_lines(self) -> list[str]:
        """All figures and what was scored, in words, a few on a line."""
        height, width = self.image_size
        return [
            f"top-1 {self.top1:.2f} %  top-5 {self.top5:.2f} %  loss {self.loss:.4f}  on {self.images} {self.split} "
            f"images of {self.data} at {height}x{width}",
            f"balanced accuracy {self.balanced_accuracy:.2f} %  macro F1 {self.macro_f1:.2f} %",
        ]

    def to_json(self) -> str:
        """With what follows from the confusion matrix, for readers other than this class."""
        import json

        content = self.model_dump(mode="json", by_alias=True) | {
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "per_class": self.per_class,
        }
        return json.dumps(content, allow_nan=False) + "\n"


def evaluate_model(
    predict: Callable[[Tensor], Tensor],
    data: ImageData,
    accelerator: Accelerator,
    *,
    split: ScoredSplit = "test",
    batch_size: int = 64,
    workers: int = 0,
    model: str = "model",
    genotype: str | None = None,
) -> Evaluation:
    """Score ``predict`` (images [batch, channels, height, width] -> logits [batch, classes]) on ``split``.

    With several processes each scores its share, and all get the sums.

    Raises:
        InputError: logits of another number of classes than the data have. RunStopped: no image can be
            read, or the loss is not finite.
    """
    scores = engine.score_split(
        fitting_classes(predict, data, model),
        data.split(split),
        len(data.classes),
        batch_size=batch_size,
        accelerator=accelerator,
        workers=workers,
        timed=True,
        name=split,
    )
    fields = record_fields(scores, data, accelerator, split=split, model=model, genotype=genotype)
    return Evaluation(**fields, top1=scores.top1, top5=scores.top5, confusion=rows_of(scores.confusion))


class Classification:
    """See :class:`scansearch.tasks.protocol.VisionTask`."""

    name: Literal["classify"] = "classify"
    score_name = "accuracy"
    score_title = "accuracy"
    class_title = "accuracy"
    figures: Mapping[str, str] = {"accuracy": "accuracy"}
    evaluate = staticmethod(evaluate_model)

    def load(self, spec: str, **options: Any) -> ImageData:
        return load_data(spec, **options)

    def match(self, data: ImageData, treatment: Treatment) -> ImageData:
        return match_treatment(data, treatment)

    def arguments(self, family: str, arguments: Mapping[str, Any], classes: int) -> dict[str, Any]:
        return {"num_classes": classes}

    def decoder(self, backbone: ScanBackbone, classes: int, head: Any) -> None:
        return None

    def whole(self, backbone: ScanBackbone, decoder: Any) -> nn.Module:
        return backbone

    def forward(self, network: nn.Module, images: Tensor, targets: Any, *gates: Any) -> Any:
        return network(images, *gates)

    def trial(self, network: nn.Module, images: Tensor) -> Any:
        return network(images)

    def criterion(self, smoothing: float, head: Any) -> nn.Module:
        return nn.CrossEntropyLoss(label_smoothing=smoothing)

    def accuracy(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.detach().argmax(1) == labels).float().mean()

    def score(
        self,
        predict: Callable[[Tensor], Any],
        split: Split,
        classes: int,
        *,
        batch_size: int,
        accelerator: Accelerator,
        workers: int = 0,
    ) -> engine.Metrics:
        return engine.score(
            predict, split, classes, batch_size=batch_size, accelerator=accelerator, workers=workers
        )

    def mean_loss(
        self, predict: Callable[[Tensor], Any], split: Split, classes: int, **options: Any
    ) -> float:
        return self.score(predict, split, classes, **options)["loss"]


TASK = Classification()
