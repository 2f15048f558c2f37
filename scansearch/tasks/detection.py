"""Task ``detect``: box, class and mask of every object, from torchvision's Mask R-CNN on feature maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from scansearch import engine
from scansearch.data import ImageData, Split
from scansearch.data.instances.run_lengths import coco_masks
from scansearch.data.instances.sources import load_objects
from scansearch.data.instances.targets import ImageObjects, ObjectBatch
from scansearch.models.dense import feature_arguments
from scansearch.models.detection import DetectionDecoder, DetectionModel, make_detector
from scansearch.records.heads import DetectionHead, TaskHead
from scansearch.tasks.box_scores import DetectionRecord, LossTally, score_objects
from scansearch.tasks.protocol import ScoredSplit
from scansearch.tasks.scored import match_in_order, record_fields

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.data.treatment import Treatment
    from scansearch.models.backbone import ScanBackbone

_TRIED = 0.75  # sides of the object of a trial, as a share of the image's


class SumOfLosses(nn.Module):
    """The losses that the model computed, added up."""

    def forward(self, outputs: Tensor, targets: Any) -> Tensor:
        return outputs.sum()


class Detection:
    """See :class:`scansearch.tasks.protocol.VisionTask`."""

    name: Literal["detect"] = "detect"
    score_name = "mask_ap"
    score_title = "mask AP"
    class_title = "mask AP"
    figures: Mapping[str, str] = {"box_ap": "box AP", "mask_ap": "mask AP"}

    def load(self, spec: str, *, brightest: float | None = None, **options: Any) -> ImageData:
        coco_masks()
        return load_objects(spec, brightest=brightest, **options)

    def match(self, data: ImageData, treatment: Treatment) -> ImageData:
        return match_in_order(data, treatment)

    def arguments(self, family: str, arguments: Mapping[str, Any], classes: int) -> dict[str, Any]:
        return {"num_classes": 0, **feature_arguments(family, dict(arguments))}

    def decoder(self, backbone: ScanBackbone, classes: int, head: TaskHead | None) -> DetectionDecoder:
        return make_detector(backbone, classes, **(head or DetectionHead()).arguments())

    def whole(self, backbone: ScanBackbone, decoder: nn.Module | None) -> nn.Module:
        assert isinstance(decoder, DetectionDecoder)
        return DetectionModel(backbone, decoder)

    def forward(self, network: nn.Module, images: Tensor, targets: Any, *gates: Any) -> Any:
        return network(images, *gates, targets=targets)

    def trial(self, network: nn.Module, images: Tensor) -> Any:
        """Of one large object on each image, around which many proposals count."""
        return network(images, targets=ObjectBatch([_one_object(image) for image in images]))

    def criterion(self, smoothing: float, head: TaskHead | None) -> nn.Module:
        return SumOfLosses()

    def accuracy(self, outputs: Any, labels: Any) -> Tensor:
        return torch.tensor(float("nan"), device=outputs.device)

    def score(
        self,
        predict: Callable[..., Any],
        split: Split,
        classes: int,
        *,
        batch_size: int,
        accelerator: Accelerator,
        workers: int = 0,
    ) -> engine.Metrics:
        names = [str(label) for label in range(classes)]
        scores = score_objects(
            predict, split, names, batch_size=batch_size, accelerator=accelerator, workers=workers
        )
        return {"loss": scores.loss, "box_ap": scores.box.ap or 0.0, "mask_ap": scores.mask.ap or 0.0}

    def mean_loss(self, predict: Callable[..., Any], split: Split, classes: int, **options: Any) -> float:
        return engine.tally_split(predict, split, LossTally(), **options).loss

    def evaluate(
        self,
        predict: Callable[..., Any],
        data: ImageData,
        accelerator: Accelerator,
        *,
        split: ScoredSplit = "test",
        batch_size: int = 64,
        workers: int = 0,
        model: str = "model",
        genotype: str | None = None,
    ) -> DetectionRecord:
        scores = score_objects(
            predict,
            data.split(split),
            data.classes,
            batch_size=batch_size,
            accelerator=accelerator,
            workers=workers,
            timed=True,
            name=split,
        )
        fields = record_fields(scores, data, accelerator, split=split, model=model, genotype=genotype)
        return DetectionRecord(
            **fields, box=scores.box, mask=scores.mask, objects=scores.objects, found=scores.found
        )


TASK = Detection()


def _one_object(image: Tensor) -> ImageObjects:
    height, width = image.shape[1:]
    bottom, right = max(1, int(height * _TRIED)), max(1, int(width * _TRIED))
    mask = torch.zeros(1, height, width, dtype=torch.uint8, device=image.device)
    mask[:, :bottom, :right] = 1
    return ImageObjects(
        boxes=torch.tensor([[0.0, 0.0, right, bottom]], device=image.device),
        labels=torch.zeros(1, dtype=torch.int64, device=image.device),
        masks=mask,
        content=(height, width),
        size=(height, width),
        identity=0,
        categories=(1,),
    )
