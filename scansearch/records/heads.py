"""Heads: what a task puts on a backbone, as configurations and weight files keep it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from scansearch.files.strict import StrictModel

TaskName = Literal["classify", "segment", "detect"]
# What tasks measure beside the loss, in percent: as epochs and results name it, and in words.
FIGURES = {"accuracy": "accuracy", "miou": "mIoU", "box_ap": "box AP", "mask_ap": "mask AP"}


PREDICTIONS = "predictions.json"  # the objects that a detector found, in COCO's form


class SegmentationHead(StrictModel):
    """What turns feature maps into a class for every pixel: UPerNet, see :mod:`scansearch.models.upernet`.

    Attributes:
        norm: ``group`` works with any number of images at once; ``batch`` needs two or more on every process, each of
            which normalises by its own images.
        channels: of UPerNet's inner maps; None for those of the widest feature map, at most the paper's 512.
        dropout: rate of whole channels before the classifiers.
        auxiliary: what the loss of the auxiliary FCN head counts beside the main one; 0 for no such head.
        auxiliary_channels: of the auxiliary head; None for those of its map, at most the paper's 256.
    """

    norm: Literal["batch", "group"] = "group"
    channels: int | None = Field(default=None, ge=2, le=8192)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    auxiliary: float = Field(default=0.4, ge=0, allow_inf_nan=False)
    auxiliary_channels: int | None = Field(default=None, ge=2, le=8192)

    @property
    def needs_pairs(self) -> bool:
        """Whether it cannot learn from one image at a time."""
        return self.norm == "batch"

    def arguments(self) -> dict[str, Any]:
        """What :func:`scansearch.models.segmentation.make_decoder` takes."""
        return self.model_dump() | {"auxiliary": self.auxiliary > 0}


class DetectionHead(StrictModel):
    """What finds objects on feature maps: torchvision's Mask R-CNN, see :mod:`scansearch.models.detection`.

    Attributes:
        heads: ``standard`` are torchvision's own sizes, ``small`` ones fit small pictures and a CPU.
        anchors: side of the anchors of a feature map, in its strides; None for 8 of standard heads and 4 of small ones.
    """

    heads: Literal["standard", "small"] = "standard"
    anchors: float | None = Field(default=None, gt=0, le=64)

    @property
    def needs_pairs(self) -> bool:
        """Whether it cannot learn from one image at a time."""
        return False

    def arguments(self) -> dict[str, Any]:
        """What :func:`scansearch.models.detection.make_detector` takes."""
        return self.model_dump()


TaskHead = SegmentationHead | DetectionHead
HEADS: dict[str, type[SegmentationHead] | type[DetectionHead]] = {
    "segment": SegmentationHead,
    "detect": DetectionHead,
}


def head_of_task(value: Any, info: ValidationInfo) -> Any:
    """``value`` as the head of the task that stands before it among the fields; a validator of pydantic."""
    kind = HEADS.get(info.data.get("task", ""))
    return (
        value if kind is None or value is None or isinstance(value, TaskHead) else kind.model_validate(value)
    )


class KeptHead(StrictModel):
    """The head of a model that is more than a backbone with a classifier.

    Attributes:
        classes: that it tells apart.
    """

    task: Literal["segment", "detect"] = "segment"
    classes: int = Field(ge=1, le=100_000)
    options: TaskHead

    _of_task = field_validator("options", mode="before")(head_of_task)
