"""Scoring a trained model from its file: its task's figures and the throughput on one split of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scansearch import engine
from scansearch.data import ImageData, takes_pictures
from scansearch.data.arrays import fitting
from scansearch.data.augment import RESIZED, Augment
from scansearch.data.names import part_called
from scansearch.data.specifications import BOXED, MASKED, MOST_WORKERS, absolute
from scansearch.data.treatment import Treatment
from scansearch.errors import InputError
from scansearch.evaluation.scales import at_scales, check_scales, describe_scales
from scansearch.tasks import find_task
from scansearch.tasks.classification import Evaluation, evaluate_model
from scansearch.tasks.protocol import VisionTask
from scansearch.text import choices

if TYPE_CHECKING:
    from scansearch.evaluation.predictors import Predictor

__all__ = ["Evaluation", "SplitName", "evaluate", "evaluate_model"]

SplitName = Literal["validation", "test"]


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
    scales: Sequence[float] | None = None,
    flip: bool = False,
) -> Any:
    """Score a trained model from its file.

    Returns:
        :class:`Evaluation`, of a segmentation :class:`scansearch.tasks.mask_scores.SegmentationRecord`, of a detection
        :class:`scansearch.tasks.box_scores.DetectionRecord`.

    Args:
        subject: a training's run folder, a weight file (``best.safetensors``), a timm hub folder, or an exported
            ``.pt2`` or ``.onnx`` file.
        data: a data specification, or images that the program holds (:func:`scansearch.data_from_arrays`); None for
            the data that the weights were trained on, where the file tells.
        split: ``test`` or ``validation``, also under the names that folders have (``val``, ``valid``).
        image_size: side, or (height, width), in pixels; None for what the model was made for.
        scales: of masks, factors of the images' size whose answers are averaged; None for the size alone.
        flip: of masks, whether the answer to the mirrored image is averaged too.
        crop: share of the resized short side that the central crop keeps, for pictures; None for that of the training.

    Pictures are resized, cut and normalised as in the training, and classes go by name, where the file tells.

    Raises:
        InputError: a file that holds no model, or one that does not fit the data: other channels, or a class that it
            does not know.
    """
    from scansearch.evaluation.predictors import open_predictor

    part = part_called(split)
    if part not in ("validation", "test"):
        raise InputError(f"unknown split {split!r} {choices(split, ('validation', 'val', 'test'))}")
    if batch_size < 1:
        raise InputError(f"batch size must be at least 1, not {batch_size}")
    if not 0 <= workers <= MOST_WORKERS:
        raise InputError(f"workers must lie in 0..{MOST_WORKERS}, not {workers}")
    if crop is not None and not 0 < crop <= 1:
        raise InputError(f"crop must lie in (0, 1], not {crop}")
    accelerator = engine.make_accelerator(device, mixed_precision)
    predictor = open_predictor(subject, accelerator.device)
    task = find_task(predictor.task)
    if task.name != "segment" and (scales is not None or flip):
        raise InputError(f"scales and flip average masks: {subject} holds a model of task {task.name}")
    averaged = None
    if scales is not None or flip:
        averaged = check_scales((1.0,) if scales is None else scales)
    if task.name != "classify":
        if crop is not None:
            raise InputError(f"crop {crop}: pictures of task {task.name} are scored whole")
        if data is not None and not isinstance(data, str):
            raise InputError(f"{subject} holds a model of task {task.name}: it needs a data specification")
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
            "augment": scoring_augment(spec, predictor.treatment, crop),
            "max_broken": max_broken,
            "channels": predictor.channels,
            "brightest": None if predictor.treatment is None else predictor.treatment.brightest,
        }
        images = _held_out(spec, predictor, options, task) or task.load(spec, scoring=True, **options)
    if predictor.channels not in (None, images.channels):
        raise InputError(
            f"{subject} takes images of {predictor.channels} channels, {images.spec!r} has {images.channels}"
        )
    if predictor.treatment is not None:
        images = task.match(images, predictor.treatment)
    evaluation = task.evaluate(
        predictor.predict if averaged is None else at_scales(predictor.predict, averaged, flip=flip),
        images,
        accelerator,
        split=part,
        batch_size=batch_size,
        workers=workers,
        model=predictor.name,
        genotype=predictor.genotype,
    )
    told = () if averaged is None else (describe_scales(averaged, flip=flip),)
    return evaluation.model_copy(update={"notes": (*images.notes, *told)})


def _held_out(spec: str, predictor: Predictor, options: dict[str, Any], task: VisionTask) -> ImageData | None:
    """The data as they were trained on, of which only what was held out may be scored; None for other data."""
    if predictor.data is not None and absolute(spec) == absolute(predictor.data):
        return task.load(spec, **options)
    if predictor.treatment is None or not predictor.treatment.digest:
        return None
    try:
        data = task.load(spec, **options)
    except InputError:  # they cannot be trained on, so the model was not
        return None
    return data if data.digest == predictor.treatment.digest else None


def scoring_augment(spec: str, treatment: Treatment | None, crop: float | None) -> Augment | None:
    """How pictures of ``spec`` are resized and cut: as in the training, but for ``crop`` where it is given."""
    pictures = takes_pictures(spec) or spec.partition(":")[0] in (*MASKED, *BOXED)
    trained = (treatment.augment or RESIZED) if treatment is not None and pictures else None
    if crop is None:
        return trained
    return (trained or Augment()).model_copy(update={"crop": crop})
