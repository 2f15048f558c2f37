"""Task ``segment``: one class for each pixel, from UPerNet on the backbone's feature maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scansearch import engine
from scansearch.data import ImageData, Split, match_treatment
from scansearch.data.masks.sources import load_masks
from scansearch.data.masks.transform import IGNORED
from scansearch.errors import InputError
from scansearch.models.segmentation import (
    SegmentationDecoder,
    SegmentationModel,
    feature_arguments,
    make_decoder,
)
from scansearch.records.heads import SegmentationHead
from scansearch.tasks.mask_scores import SegmentationRecord, score_masks
from scansearch.tasks.protocol import ScoredSplit

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.data.treatment import Treatment
    from scansearch.models.backbone import ScanBackbone


class PixelCrossEntropy(nn.Module):
    """Cross-entropy (nats) of every pixel, plus ``auxiliary`` times that of the auxiliary head's logits.

    The sum over the pixels that have a class is divided by the number of all pixels, ignored ones too: so micro-batches
    and processes add up to the whole batch, and a mask without any class gives 0.
    """

    def __init__(self, smoothing: float, auxiliary: float) -> None:
        super().__init__()
        self.smoothing, self.auxiliary = smoothing, auxiliary

    def forward(self, outputs: Tensor | tuple[Tensor, Tensor], masks: Tensor) -> Tensor:
        """The loss of logits [n, classes, height, width], or of a pair of them, for ``masks`` [n, height, width]."""
        if isinstance(outputs, tuple):
            return self._loss(outputs[0], masks) + self.auxiliary * self._loss(outputs[1], masks)
        return self._loss(outputs, masks)

    def _loss(self, logits: Tensor, masks: Tensor) -> Tensor:
        total = F.cross_entropy(
            logits, masks.long(), ignore_index=IGNORED, label_smoothing=self.smoothing, reduction="sum"
        )
        return total / masks.numel()


class Segmentation:
    """See :class:`scansearch.tasks.protocol.VisionTask`."""

    name: Literal["segment"] = "segment"
    score_name = "miou"
    score_title = "mIoU"
    class_title = "IoU"

    def load(self, spec: str, *, brightest: float | None = None, **options: Any) -> ImageData:
        return load_masks(spec, brightest=brightest, **options)

    def match(self, data: ImageData, treatment: Treatment) -> ImageData:
        if treatment.classes and treatment.classes != data.classes:
            raise InputError(
                f"the {len(data.classes)} classes of {data.spec!r} are not those of the training, in its order: "
                f"{', '.join(treatment.classes[:5])}, ..."
            )
        return match_treatment(data, treatment)

    def arguments(self, family: str, arguments: Mapping[str, Any], classes: int) -> dict[str, Any]:
        return {"num_classes": 0, **feature_arguments(family, dict(arguments))}

    def decoder(
        self, backbone: ScanBackbone, classes: int, head: SegmentationHead | None
    ) -> SegmentationDecoder:
        return make_decoder(backbone, classes, **(head or SegmentationHead()).arguments())

    def whole(self, backbone: ScanBackbone, decoder: SegmentationDecoder | None) -> nn.Module:
        assert decoder is not None
        return SegmentationModel(backbone, decoder)

    def criterion(self, smoothing: float, head: SegmentationHead | None) -> nn.Module:
        return PixelCrossEntropy(smoothing, (head or SegmentationHead()).auxiliary)

    def accuracy(self, outputs: Any, labels: Tensor) -> Tensor:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        right = (logits.detach().argmax(1) == labels).sum()
        return right / (labels != IGNORED).sum().clamp(min=1)

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
        scores = score_masks(
            predict, split, classes, batch_size=batch_size, accelerator=accelerator, workers=workers
        )
        return {"loss": scores.loss, "accuracy": scores.accuracy, "miou": scores.miou}

    def evaluate(
        self,
        predict: Callable[[Tensor], Any],
        data: ImageData,
        accelerator: Accelerator,
        *,
        split: ScoredSplit = "test",
        batch_size: int = 64,
        workers: int = 0,
        model: str = "model",
        genotype: str | None = None,
    ) -> SegmentationRecord:
        classes = len(data.classes)

        def checked(images: Tensor) -> Tensor:
            logits = predict(images)
            if logits.shape != (len(images), classes, *images.shape[2:]):
                raise InputError(
                    f"{model} gives outputs of shape {list(logits.shape)}, but {data.spec!r} has {classes} classes"
                )
            return logits

        part = data.split(split)
        scores = score_masks(
            checked,
            part,
            classes,
            batch_size=batch_size,
            accelerator=accelerator,
            workers=workers,
            timed=True,
            name=split,
        )
        return SegmentationRecord(
            model=model,
            genotype=genotype,
            data=data.spec,
            split=split,
            image_size=data.image_size,
            classes=data.classes,
            images=scores.images,
            skipped=part.count - scores.images,
            loss=scores.loss,
            confusion=tuple(tuple(row) for row in scores.confusion.tolist()),
            images_per_second=scores.images * accelerator.num_processes / scores.seconds,
            device=engine.device_name(accelerator.device),
        )


TASK = Segmentation()


def predicted_masks(predict: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The likeliest class of every pixel, uint8 [batch, height, width], on the CPU."""
    with torch.no_grad():
        return predict(images).argmax(1).to(torch.uint8).cpu()
