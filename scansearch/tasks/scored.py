"""What the tasks do alike when they score: check outputs and classes, and fill the record."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from scansearch import engine
from scansearch.data import ImageData, match_treatment
from scansearch.errors import InputError
from scansearch.tasks.protocol import ScoredSplit

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.data.treatment import Treatment


class SplitScores(Protocol):
    """What any task's score of a split says: mean loss (nats), images, and seconds of their forward passes."""

    @property
    def loss(self) -> float: ...

    @property
    def images(self) -> int: ...

    @property
    def seconds(self) -> float: ...


def record_fields(
    scores: SplitScores,
    data: ImageData,
    accelerator: Accelerator,
    *,
    split: ScoredSplit,
    model: str,
    genotype: str | None,
) -> dict[str, Any]:
    """What the records of all tasks say of a score."""
    return {
        "model": model,
        "genotype": genotype,
        "data": data.spec,
        "split": split,
        "image_size": data.image_size,
        "classes": data.classes,
        "images": scores.images,
        "skipped": data.split(split).count - scores.images,
        "loss": scores.loss,
        "images_per_second": scores.images * accelerator.num_processes / scores.seconds,
        "device": engine.device_name(accelerator.device),
    }


def match_in_order(data: ImageData, treatment: Treatment) -> ImageData:
    """``data`` normalised as ``treatment`` says, whose classes must be the same in the same order.

    Raises:
        InputError: they are not.
    """
    if treatment.classes and treatment.classes != data.classes:
        raise InputError(
            f"the {len(data.classes)} classes of {data.spec!r} are not those of the training, in its order: "
            f"{', '.join(treatment.classes[:5])}, ..."
        )
    return match_treatment(data, treatment)


def rows_of(confusion: Tensor) -> tuple[tuple[int, ...], ...]:
    """A matrix of counts as records keep it."""
    return tuple(tuple(row) for row in confusion.tolist())


def fitting_classes(
    predict: Callable[[Tensor], Tensor], data: ImageData, model: str, *, pixels: bool = False
) -> Callable[[Tensor], Tensor]:
    """``predict``, whose logits are [batch, classes] or, of ``pixels``, [batch, classes, height, width].

    Raises:
        InputError: while it predicts, where they are of another shape.
    """
    classes = len(data.classes)

    def checked(images: Tensor) -> Tensor:
        logits = predict(images)
        if logits.shape != (len(images), classes, *(images.shape[2:] if pixels else ())):
            raise InputError(
                f"{model} gives outputs of shape {list(logits.shape)}, but {data.spec!r} has {classes} classes"
            )
        return logits

    return checked
