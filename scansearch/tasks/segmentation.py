"""Task ``segment``: one class for each pixel, from UPerNet on the backbone's feature maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scansearch import engine
from scansearch.data import ImageData, Split
from scansearch.data.masks.sources import load_masks
from scansearch.data.masks.transform import IGNORED
from scansearch.models.dense import feature_arguments
from scansearch.models.segmentation import SegmentationDecoder, SegmentationModel, make_decoder
from scansearch.records.heads import SegmentationHead, TaskHead
from scansearch.tasks.mask_scores import SegmentationRecord, score_masks
from scansearch.tasks.protocol import ScoredSplit
from scansearch.tasks.scored import fitting_classes, match_in_order, record_fields, rows_of

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
    figures: Mapping[str, str] = {"accuracy": "accuracy", "miou": "mIoU"}

    def load(self, spec: str, *, brightest: float | None = None, **options: Any) -> ImageData:
        return load_masks(spec, brightest=brightest, **options)

    def match(self, data: ImageData, treatment: Treatment) -> ImageData:
        return match_in_order(data, treatment)

    def arguments(self, family: str, arguments: Mapping[str, Any], classes: int) -> dict[str, Any]:
        return {"num_classes": 0, **feature_arguments(family, dict(arguments))}

    def decoder(self, backbone: ScanBackbone, classes: int, head: TaskHead | None) -> SegmentationDecoder:
        return make_decoder(backbone, classes, **(head or SegmentationHead()).arguments())

    def whole(self, backbone: ScanBackbone, decoder: nn.Module | None) -> nn.Module:
        assert isinstance(decoder, SegmentationDecoder)
        return SegmentationModel(backbone, decoder)

    def forward(self, network: nn.Module, images: Tensor, targets: Any, *gates: Any) -> Any:
        return network(images, *gates)

    def trial(self, network: nn.Module, images: Tensor) -> Any:
        return network(images)

    def criterion(self, smoothing: float, head: TaskHead | None) -> nn.Module:
        options = head if isinstance(head, SegmentationHead) else SegmentationHead()
        return PixelCrossEntropy(smoothing, options.auxiliary)

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

    def mean_loss(
        self, predict: Callable[[Tensor], Any], split: Split, classes: int, **options: Any
    ) -> float:
        return self.score(predict, split, classes, **options)["loss"]

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
        scores = score_masks(
            fitting_classes(predict, data, model, pixels=True),
            data.split(split),
            len(data.classes),
            batch_size=batch_size,
            accelerator=accelerator,
            workers=workers,
            timed=True,
            name=split,
        )
        fields = record_fields(scores, data, accelerator, split=split, model=model, genotype=genotype)
        return SegmentationRecord(**fields, confusion=rows_of(scores.confusion))


TASK = Segmentation()


def predicted_masks(predict: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The likeliest class of every pixel, uint8 [batch, height, width], on the CPU."""
    with torch.no_grad():
        return predict(images).argmax(1).to(torch.uint8).cpu()
