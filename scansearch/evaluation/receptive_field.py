"""The effective receptive field: which pixels the middle of a model's last feature map depends on, and how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scansearch.data import evaluation_batches
from scansearch.data.treatment import height_and_width
from scansearch.errors import InputError
from scansearch.evaluation.evaluate import scoring_augment
from scansearch.evaluation.predictors import Predictor, open_predictor
from scansearch.records.lookup import Kind, look_up
from scansearch.seeding import Stream, seed_everything
from scansearch.tasks import find_task

SUBJECTS: tuple[Kind, ...] = ("training", "weights", "published", "genotype", "search")


@dataclass(frozen=True)
class ReceptiveField:
    """What each pixel contributes.

    Attributes:
        name: of the model.
        values: [height, width], not negative; a mean over the images.
        trained: whether the weights are; of fresh ones the images are noise.
    """

    name: str
    values: np.ndarray
    trained: bool

    @property
    def title(self) -> str:
        """The name, and whether it is trained."""
        return self.name if self.trained else f"{self.name}, fresh weights"

    def area(self, share: float) -> float:
        """Share of the picture's area of the smallest set of pixels that holds ``share`` of all contributions."""
        ordered = np.sort(self.values.ravel())[::-1]
        held = np.cumsum(ordered) / ordered.sum()
        return float((np.searchsorted(held, share) + 1) / ordered.size)


def receptive_field(name: str, *, images: int = 16, seed: int = 0) -> ReceptiveField:
    """The effective receptive field (Luo et al., arXiv 1701.04128) as VMamba shows it (arXiv 2401.10166).

    The gradient of the sum over the channels in the middle of the last feature map with respect to the pixels, its
    positive part, summed over the channels of the image, a mean over images: validation images of the data that the
    model was trained on, or noise where its weights are fresh.

    Args:
        name: a training's run folder, a weight file, or what has a genotype, which gets fresh weights.
        images: how many.
        seed: of fresh weights and noise.

    Raises:
        InputError: no such model, one without a feature map, or data that are gone.
    """
    named = look_up(name, SUBJECTS, command="plot --kind field")
    if named.kind in ("training", "weights"):
        predictor = open_predictor(name, torch.device("cpu"), command="plot --kind field")
        model: Any = predictor.predict
        return ReceptiveField(name, field_of(model, _validation(predictor, images)), True)
    genotype = named.genotype()
    seed_everything(Stream.WEIGHTS, seed)
    model = genotype.build()
    height, width = height_and_width(genotype.model.get("img_size", 224))
    return ReceptiveField(name, field_of(model, torch.randn(images, model.in_chans, height, width)), False)


def field_of(model: nn.Module, images: Tensor) -> np.ndarray:
    """Contributions [height, width] of the pixels of ``images`` [n, channels, height, width], one after the other.

    Raises:
        InputError: the model has no feature map.
    """
    backbone: Any = getattr(model, "backbone", model)
    if not hasattr(backbone, "forward_intermediates"):
        raise InputError(f"{type(backbone).__name__} has no feature maps, so no receptive field")
    total = torch.zeros(images.shape[2:], dtype=torch.float64)
    backbone.eval()
    for image in images:
        pixels = image[None].clone().requires_grad_()
        last = backbone.forward_intermediates(pixels, intermediates_only=True, output_fmt="NCHW")[-1]
        middle = last[:, :, last.shape[2] // 2, last.shape[3] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, pixels)
        total += gradient[0].clamp(min=0).sum(0).double()
    return (total / len(images)).numpy()


def _validation(predictor: Predictor, count: int) -> Tensor:
    spec = predictor.data
    if spec is None or predictor.image_size is None:
        raise InputError(f"{predictor.name} does not say what it was trained on")
    options: dict[str, Any] = {
        "image_size": predictor.image_size,
        "augment": scoring_augment(spec, predictor.treatment, None),
        "channels": predictor.channels,
        "brightest": None if predictor.treatment is None else predictor.treatment.brightest,
    }
    task = find_task(predictor.task)
    data = task.load(spec, **options)
    if predictor.treatment is not None:
        data = task.match(data, predictor.treatment)
    images, _ = next(evaluation_batches(data.validation, count))
    return images
