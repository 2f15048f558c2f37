"""Scoring a model: accuracy, loss, confusion and throughput on one split of a data set."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, Strict
from torch import Tensor

from scansearch import engine
from scansearch.data import ImageData, load_data, match_treatment, takes_pictures
from scansearch.data.arrays import fitting
from scansearch.data.augment import RESIZED, Augment
from scansearch.data.names import part_called
from scansearch.data.specifications import MOST_WORKERS, absolute
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.files.strict import Integers, StrictModel, Strings
from scansearch.text import printable

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure
    from scansearch.evaluation.predictors import Predictor

SplitName = Literal["validation", "test"]


class Evaluation(StrictModel):
    """The score of one model on one split.

    Attributes:
        images, skipped: images that were scored, and images that could not be read.
        loss: mean cross-entropy in nats.
        top1, top5: percent of images whose label is the first, or among the first five, of the logits; with fewer
            than five classes, among as many as there are.
        confusion: [label][prediction] -> number of images.
        images_per_second: of the model's forward passes alone, over the whole split; None where not measured.
        genotype: its hash, where the model has one.
        notes: how the data were read, where they were read for this score; one line each.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: str
    genotype: str | None = None
    data: str
    split: SplitName
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
        from scansearch.display.html import fragment, line, table

        rows = [
            (row["class"], row["images"], "" if row["accuracy"] is None else f"{row['accuracy']:.2f} %")
            for row in self._class_rows()
        ]
        balance = f"balanced accuracy {self.balanced_accuracy:.2f} %, macro F1 {self.macro_f1:.2f} %"
        return fragment(
            line(repr(self).strip("<>")), line(balance), table(("class", "images", "accuracy"), rows)
        )

    def _class_rows(self) -> list[dict[str, Any]]:
        pairs = zip(self.per_class.items(), self.confusion, strict=True)
        return [
            {"class": name, "images": sum(row), "right": row[index], "accuracy": accuracy}
            for index, ((name, accuracy), row) in enumerate(pairs)
        ]

    def to_frame(self) -> DataFrame:
        """A pandas table with a row for each class: ``class``, ``images``, ``right``, ``accuracy`` (percent)."""
        from scansearch.display.frames import table_of

        return table_of(self._class_rows(), ("class", "images", "right", "accuracy"))

    def plot(self) -> Figure:
        """The confusion matrix, a matplotlib Figure, see :func:`scansearch.plots.confusion_figure`."""
        from scansearch.display.homes import drawn

        return drawn("confusion", self)

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
    split: SplitName = "test",
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
    classes = len(data.classes)

    def checked(images: Tensor) -> Tensor:
        logits = predict(images)
        if logits.ndim != 2 or logits.shape[1] != classes:
            raise InputError(
                f"{model} gives outputs of shape {list(logits.shape)}, but {data.spec!r} has {classes} classes"
            )
        return logits

    part = data.split(split)
    scores = engine.score_split(
        checked,
        part,
        classes,
        batch_size=batch_size,
        accelerator=accelerator,
        workers=workers,
        timed=True,
        name=split,
    )
    return Evaluation(
        model=model,
        genotype=genotype,
        data=data.spec,
        split=split,
        image_size=data.image_size,
        classes=data.classes,
        images=scores.images,
        skipped=part.count - scores.images,
        loss=scores.loss,
        top1=scores.top1,
        top5=scores.top5,
        confusion=tuple(tuple(row) for row in scores.confusion.tolist()),
        images_per_second=scores.images * accelerator.num_processes / scores.seconds,
        device=engine.device_name(accelerator.device),
    )


def evaluate(
    subject: str | Path,
    *,
    data: str | ImageData | None = None,
    split: str = "test",
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 64,
    device: str = "auto",
    mixed_precision: Literal["no", "bf16"] = "no",
    workers: int = 0,
    crop: float | None = None,
    max_broken: int = 100,
) -> Evaluation:
    """Score a trained model from its file.

    Args:
        subject: a training's run folder, a weight file (``best.safetensors``), a timm hub folder, or an exported
            ``.pt2`` or ``.onnx`` file.
        data: a data specification, or images that the program holds (:func:`scansearch.data_from_arrays`); None for
            the data that the weights were trained on, where the file tells.
        split: ``test`` or ``validation``, also under the names that folders have (``val``, ``valid``).
        image_size: side, or (height, width), in pixels; None for what the model was made for.
        crop: share of the resized short side that the central crop keeps, for pictures; None for that of the training.

    Pictures are resized, cut and normalised as in the training, and classes go by name, where the file tells.

    Raises:
        InputError: a file that holds no model, or one that does not fit the data: other channels, or a class that it
            does not know.
    """
    from scansearch.evaluation.predictors import open_predictor

    part = part_called(split)
    if part not in ("validation", "test"):
        raise InputError(f"unknown split {split!r} (allowed: validation or val, test)")
    if batch_size < 1:
        raise InputError(f"batch size must be at least 1, not {batch_size}")
    if not 0 <= workers <= MOST_WORKERS:
        raise InputError(f"workers must lie in 0..{MOST_WORKERS}, not {workers}")
    if crop is not None and not 0 < crop <= 1:
        raise InputError(f"crop must lie in (0, 1], not {crop}")
    accelerator = engine.make_accelerator(device, mixed_precision)
    predictor = open_predictor(subject, accelerator.device)
    if data is not None and not isinstance(data, str):
        cut = None if crop is None else Augment(crop=crop)
        images = fitting(data, image_size=image_size, augment=cut, channels=None, max_broken=max_broken)
    else:
        spec = data or predictor.data
        if spec is None:
            raise InputError(f"{subject} does not say what it was trained on: give --data")
        size = image_size or predictor.image_size
        if size is None:
            raise InputError(f"{subject} does not say what image size it takes: give --image-size")
        options: dict[str, Any] = {
            "image_size": size,
            "augment": _augment(spec, predictor.treatment, crop),
            "max_broken": max_broken,
            "channels": predictor.channels,
            "brightest": None if predictor.treatment is None else predictor.treatment.brightest,
        }
        images = _held_out(spec, predictor, options) or load_data(spec, scoring=True, **options)
    if predictor.channels not in (None, images.channels):
        raise InputError(
            f"{subject} takes images of {predictor.channels} channels, {images.spec!r} has {images.channels}"
        )
    if predictor.treatment is not None:
        images = match_treatment(images, predictor.treatment)
    evaluation = evaluate_model(
        predictor.predict,
        images,
        accelerator,
        split=part,
        batch_size=batch_size,
        workers=workers,
        model=predictor.name,
        genotype=predictor.genotype,
    )
    return evaluation.model_copy(update={"notes": images.notes})


def _held_out(spec: str, predictor: Predictor, options: dict[str, Any]) -> ImageData | None:
    """The data as they were trained on, of which only what was held out may be scored; None for other data."""
    if predictor.data is not None and absolute(spec) == absolute(predictor.data):
        return load_data(spec, **options)
    if predictor.treatment is None or not predictor.treatment.digest:
        return None
    try:
        data = load_data(spec, **options)
    except InputError:  # they cannot be trained on, so the model was not
        return None
    return data if data.digest == predictor.treatment.digest else None


def _augment(spec: str, treatment: Treatment | None, crop: float | None) -> Augment | None:
    """How pictures of ``spec`` are resized and cut: as in the training, but for ``crop`` where it is given."""
    trained = (treatment.augment or RESIZED) if treatment is not None and takes_pictures(spec) else None
    if crop is None:
        return trained
    return (trained or Augment()).model_copy(update={"crop": crop})
