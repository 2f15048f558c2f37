"""What a model for masks or objects makes of pictures without a truth, in the pixels of the pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scansearch import engine
from scansearch.data.augment import RESIZED
from scansearch.data.instances.targets import ImageObjects
from scansearch.data.masks.transform import MaskTransform
from scansearch.data.pictures import FolderSource, Pictures, look_at
from scansearch.data.splits import BrokenImage
from scansearch.errors import InputError
from scansearch.evaluation.predictors import Predictor, open_predictor
from scansearch.models.upernet import resize_map
from scansearch.records.lookup import look_up
from scansearch.records.weights import read_header
from scansearch.tasks.box_scores import found_objects


@dataclass(frozen=True)
class DensePrediction:
    """What was found on one picture.

    Attributes:
        image: its path, as it was given or below the folder that was.
        picture: float [height, width, channels] in 0..1.
        mask: of a segmentation the class of every pixel, uint8 [height, width].
        objects: of a detection, in COCO's form with the class's name in the place of its number, the likeliest first.
    """

    image: str
    picture: np.ndarray
    mask: np.ndarray | None = None
    objects: tuple[dict[str, Any], ...] = ()


def open_dense(subject: str | Path, *, device: str, command: str) -> Predictor | None:
    """The model of ``subject``, where it is one for masks or objects; None where it is a classifier.

    Raises:
        InputError: it holds no model, or one that does not tell what its images were.
    """
    weights = look_up(subject, ("training", "weights", "exported"), command=command).weight_file
    if weights is None or read_header(weights).head is None:
        return None
    predictor = open_predictor(subject, engine.make_accelerator(device, "no").device, command=command)
    if predictor.treatment is None:
        raise InputError(f"{subject} does not tell what its images were in the training")
    return predictor


def predict_dense(
    predictor: Predictor, files: Sequence[str], *, device: str, least_score: float = 0.5
) -> Iterator[DensePrediction | BrokenImage]:
    """What ``predictor`` makes of every file, one at a time; what cannot be read is given as that error.

    Args:
        least_score: of the objects that are told.
    """
    treatment = predictor.treatment
    assert treatment is not None
    place = engine.make_accelerator(device, "no").device
    channels = predictor.channels or len(treatment.mean or ()) or 3
    transform = MaskTransform(
        treatment.augment or RESIZED, predictor.image_size or treatment.image_size, channels, augments=False
    )
    source = FolderSource(os.curdir)
    decoder = look_at([Pictures([0] * len(files), files, source)], channels, treatment.brightest).decoder
    for file in files:
        try:
            picture = decoder.read(source, file)
        except BrokenImage as error:
            yield BrokenImage(file, error.reason)
            continue
        size = (picture.height, picture.width)
        image, left = transform.move(picture, torch.zeros(0, *size, dtype=torch.uint8))
        values = np.asarray(picture, dtype=np.float64).reshape(*size, channels) / 255
        with torch.inference_mode():
            outputs = predictor.predict(image[None].to(place))
        height, width = left.shape[1:]
        if predictor.task == "segment":
            logits: Tensor = resize_map(outputs[..., :height, :width].float(), size)
            yield DensePrediction(file, values, logits.argmax(1)[0].to(torch.uint8).cpu().numpy())
            continue
        classes = treatment.classes
        shown = ImageObjects(
            torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, *size), (height, width), size, 0,
            tuple(range(len(classes))),
        )  # fmt: skip
        found = [
            {"class": classes[one.pop("category_id")], **{k: v for k, v in one.items() if k != "image_id"}}
            for one in found_objects(_only(outputs), shown)
        ]
        yield DensePrediction(
            file, values, objects=tuple(one for one in found if one["score"] >= least_score)
        )


def _only(outputs: Any) -> Any:
    (one,) = outputs
    return one
