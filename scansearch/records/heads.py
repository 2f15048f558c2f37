"""Heads: what a task puts on a backbone, as configurations and weight files keep it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from scansearch.files.strict import StrictModel

TaskName = Literal["classify", "segment"]


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

    def arguments(self) -> dict[str, Any]:
        """What :func:`scansearch.models.segmentation.make_decoder` takes."""
        return self.model_dump() | {"auxiliary": self.auxiliary > 0}


class KeptHead(StrictModel):
    """The head of a model that is more than a backbone with a classifier.

    Attributes:
        classes: that it tells apart.
    """

    task: Literal["segment"] = "segment"
    classes: int = Field(ge=2, le=255)
    options: SegmentationHead
