"""A trained model from its file, with what its pictures become and what its outputs stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from scansearch import engine
from scansearch.data.bands import ArrayTransform
from scansearch.data.decoding import CHANNELS
from scansearch.data.transform import PictureTransform, array_transform, picture_transform
from scansearch.errors import InputError
from scansearch.evaluation.predictors import open_predictor


@dataclass(frozen=True)
class LoadedModel:
    """What :func:`load` gives.

        logits = loaded.model(loaded.transform(picture)[None])
        loaded.classes[int(logits.argmax())]

    Attributes:
        name: the file or folder.
        model: images [batch, channels, height, width] -> logits [batch, classes], in evaluation mode. A ``.pt2`` or
            ``.onnx`` graph stays on the device that it was loaded to, and is not trained.
        transform: a PIL image -> float32 tensor [channels, height, width], as in the training's evaluation. Of a model
            of other than 1, 3 or 4 channels the same as ``arrays``.
        arrays: an array [height, width, channels], as ``numpy.load`` gives it, -> the same.
        classes: their names, in the order of the logits.
        image_size: height and width in pixels.
        device: where the model is.
    """

    name: str
    model: nn.Module
    transform: PictureTransform | ArrayTransform
    arrays: ArrayTransform
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    device: str


class _Graph(nn.Module):
    """A graph from a file, which knows neither training mode nor other devices."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.compute = [compute]  # in a list, so that an exported module is not asked for its mode

    def forward(self, images: Tensor) -> Tensor:
        return self.compute[0](images)


def load(subject: str | Path, *, device: str = "cpu", command: str = "load") -> LoadedModel:
    """A trained model, with the transform of its pictures and its classes.

    Args:
        subject: a training's run folder, a weight file (``best.safetensors``), a timm hub folder, or an exported
            ``.pt2`` or ``.onnx`` file. Nothing in it is executed.
        device: auto, cpu, cuda or mps.
        command: who asks, for messages.

    Raises:
        InputError: it holds no model, or does not tell its classes or what its images were.
    """
    # One device, and no processes: the accelerator is asked for its device alone.
    torch_device = engine.make_accelerator(device, "no").device
    predictor = open_predictor(subject, torch_device, command=command)
    if predictor.task != "classify":
        raise InputError(f"{subject} holds a model of task {predictor.task}: {command} takes classifiers")
    treatment = predictor.treatment
    remedy = "export it from a training's run folder"
    if treatment is None:
        raise InputError(f"{subject} does not tell what its images were in the training: {remedy}")
    if not treatment.classes:
        raise InputError(f"{subject} does not tell which classes its outputs stand for: {remedy}")
    size = predictor.image_size or treatment.image_size
    channels = predictor.channels or len(treatment.mean or ()) or 3
    arrays = array_transform(treatment, channels, size)
    pictures = picture_transform(treatment, channels, size) if channels in CHANNELS else None
    compute = predictor.predict
    model = compute if isinstance(compute, nn.Module) else _Graph(compute)
    return LoadedModel(
        predictor.name, model.eval(), pictures or arrays, arrays, treatment.classes, size, str(torch_device)
    )
