"""Scores of found objects: average precision of boxes and masks (COCO, arXiv 1405.0312), computed by pycocotools."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from scansearch import engine
from scansearch.data import Split
from scansearch.data.instances.run_lengths import coco_masks, encode_mask
from scansearch.data.instances.targets import ImageObjects, ObjectBatch
from scansearch.display.frames import table_of
from scansearch.engine.devices import widest_float
from scansearch.files.strict import Counts, Integers, StrictModel, Strings
from scansearch.models.detection import Detections
from scansearch.tasks.shown import class_rows, record_html
from scansearch.text import printable

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.display.frames import DataFrame

_PASTED = 16  # masks of the size of a picture at a time
_MASKED = 0.5  # the probability from which a pixel belongs to an object
Found = list[dict[str, Any]]


class Precisions(StrictModel):
    """Average precisions in percent, means over the classes with objects; None where there are no such objects.

    Attributes:
        ap: mean over intersections of .5 to .95 of the union; ``ap50`` and ``ap75`` are of that one.
        small, medium, large: of objects below 32 x 32, below 96 x 96 and of more pixels of the picture.
        each: ``ap`` of every class.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    small: float | None
    medium: float | None
    large: float | None
    each: tuple[float | None, ...] = Field(strict=False)


def pasted_masks(cells: Tensor, boxes: Tensor, size: tuple[int, ...]) -> Tensor:
    """Masks uint8 [n, height, width] at ``size`` of predicted ones [n, 1, 28, 28] in ``boxes`` [n, 4].

    A pixel belongs to an object where its centre does, as in detectron2; torchvision's own way rounds boxes to whole
    pixels first, which costs small objects up to a pixel on each side.
    """
    if not len(boxes):
        return torch.zeros(0, *size, dtype=torch.uint8)
    left, top, right, bottom = boxes.unsqueeze(2).unbind(1)
    rows, columns = (torch.arange(side) + 0.5 for side in size)
    across = (columns - left) / (right - left) * 2 - 1  # of a box, from -1 to 1
    down = (rows - top) / (bottom - top) * 2 - 1
    shape = (len(boxes), *size)
    where = torch.stack([across[:, None].expand(shape), down[..., None].expand(shape)], dim=3)
    pasted = F.grid_sample(cells, where, align_corners=False)
    return (pasted[:, 0] >= _MASKED).to(torch.uint8)


def found_objects(detections: Mapping[str, Tensor], image: ImageObjects) -> Found:
    """What a model found on one image, in COCO's form and in the pixels of the picture; masks are run lengths.

    The picture's numbers are those of ``image``.
    """
    down, right = (side / part for side, part in zip(image.size, image.content, strict=True))
    boxes = detections["boxes"].float().cpu() * torch.tensor([right, down, right, down])
    labels, scores = detections["labels"].tolist(), detections["scores"].tolist()
    cells = detections["masks"].float().cpu()
    found: Found = []
    for start in range(0, len(boxes), _PASTED):
        part = slice(start, start + _PASTED)
        pasted = pasted_masks(cells[part], boxes[part], image.size)
        for mask, box in zip(pasted.numpy(), boxes[part].tolist(), strict=True):
            left, top, edge, bottom = box
            found.append(
                {
                    "image_id": image.identity,
                    "category_id": image.categories[labels[len(found)]],
                    "bbox": [left, top, edge - left, bottom - top],
                    "score": scores[len(found)],
                    "segmentation": encode_mask(mask)[0],
                }
            )
    return found


def truth_of(images: Sequence[ImageObjects], classes: Sequence[str]) -> dict[str, Any]:
    """The truth about ``images`` as one data set of COCO's form."""
    annotations = [{**one, "image_id": image.identity} for image in images for one in image.truth]
    numbers = images[0].categories if images else ()
    return {
        "images": [
            {"id": image.identity, "height": image.size[0], "width": image.size[1]} for image in images
        ],
        "categories": [{"id": number, "name": name} for number, name in zip(numbers, classes, strict=False)],
        "annotations": [{**one, "id": index} for index, one in enumerate(annotations, start=1)],
    }


def average_precisions(truth: dict[str, Any], found: Found, kind: Literal["bbox", "segm"]) -> Precisions:
    """The scores of ``found`` boxes or masks against ``truth``, both in COCO's form.

    Raises:
        MissingExtra: pycocotools is not installed.
    """
    coco_masks()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(StringIO()):  # pycocotools tells what it does
        known, guessed = COCO(), COCO()
        known.dataset = truth
        known.createIndex()
        guessed.dataset = truth | {"annotations": [_measured(one, i) for i, one in enumerate(found, start=1)]}
        guessed.createIndex()
        scores = COCOeval(known, guessed, kind)
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    figures = [100 * float(value) if value >= 0 else None for value in scores.stats[:6]]
    names = ("ap", "ap50", "ap75", "small", "medium", "large")
    precision = scores.eval["precision"][:, :, :, 0, -1]  # [overlap, recall, class] of all sizes
    each = []
    for index in range(len(truth["categories"])):
        values = precision[:, :, index]
        values = values[values >= 0]
        each.append(100 * float(values.mean()) if values.size else None)
    return Precisions(**dict(zip(names, figures, strict=True)), each=tuple(each))


def _measured(one: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A found object as pycocotools compares it; ``area`` decides whether it is small or large."""
    area = coco_masks().area(_bytes(one["segmentation"]))
    return {**one, "id": number, "area": float(area), "iscrowd": 0}


def _bytes(lengths: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": lengths["size"], "counts": lengths["counts"].encode("ascii")}


def summed_losses(losses: Tensor) -> Tensor:
    """The sum of the losses [batch, 5] of all images of a batch, in the widest float that the device has."""
    return losses.to(widest_float(losses.device)).sum()


class LossTally:
    """The losses of a split alone; see :class:`scansearch.engine.Tally`."""

    nothing = "{split} has no image"

    def __init__(self) -> None:
        self.images = 0

    def forward(self, predict: Callable[..., Any], images: Tensor, targets: Any) -> Any:
        return predict(images, targets=targets)

    def add(self, outputs: tuple[Detections, Tensor], targets: ObjectBatch) -> Tensor:
        self.images += len(targets)
        return summed_losses(outputs[1])

    def gather(self, accelerator: Accelerator) -> int:
        return int(accelerator.reduce(torch.tensor(self.images, device=accelerator.device), reduction="sum"))


class ObjectTally:
    """What was found on the images of a split, and the truth about them; see :class:`scansearch.engine.Tally`."""

    nothing = "{split} has no object: there is nothing to find"

    def __init__(self) -> None:
        self.images: list[ImageObjects] = []
        self.found: Found = []

    def forward(self, predict: Callable[..., Any], images: Tensor, targets: Any) -> Any:
        return predict(images, targets=targets)

    def add(self, outputs: tuple[Detections, Tensor], targets: ObjectBatch) -> Tensor:
        detections, losses = outputs
        for one, image in zip(detections, targets, strict=True):
            self.found += found_objects(one, image)
            self.images.append(image.without_masks())
        return summed_losses(losses)

    def gather(self, accelerator: Accelerator) -> int:
        self.images = engine.from_all_processes(accelerator, self.images)
        self.found = engine.from_all_processes(accelerator, self.found)
        self.images.sort(key=lambda image: image.identity)
        self.found.sort(key=lambda one: one["image_id"])
        objects = sum(not one["iscrowd"] for image in self.images for one in image.truth)
        return len(self.images) if objects else 0


@dataclass(frozen=True)
class ObjectScores:
    """What a model scored on a split, all processes together.

    Attributes:
        loss: mean over the images of the sum of the five losses.
        box, mask: average precisions of boxes and of masks.
        objects: of each class that there are, crowds left out.
        images: that were scored.
        seconds: of the forward passes alone, summed over the processes; 0 where they were not timed.
        found: all objects that were found, in COCO's form.
    """

    loss: float
    box: Precisions
    mask: Precisions
    objects: tuple[int, ...]
    images: int
    seconds: float
    found: tuple[dict[str, Any], ...]


def score_objects(
    predict: Callable[..., Any], split: Split, classes: Sequence[str], **options: Any
) -> ObjectScores:
    """Score ``predict`` (as :class:`scansearch.models.detection.DetectionModel` in evaluation) on ``split``.

    Options and errors are those of :func:`scansearch.engine.tally_split`.
    """
    coco_masks()
    tally = ObjectTally()
    scored = engine.tally_split(predict, split, tally, **options)
    truth = truth_of(tally.images, classes)
    kept = [one["category_id"] for one in truth["annotations"] if not one["iscrowd"]]
    return ObjectScores(
        loss=scored.loss,
        box=average_precisions(truth, tally.found, "bbox"),
        mask=average_precisions(truth, tally.found, "segm"),
        objects=tuple(kept.count(category["id"]) for category in truth["categories"]),
        images=scored.images,
        seconds=scored.seconds,
        found=tuple(tally.found),
    )


class DetectionRecord(StrictModel):
    """The score of one model on one split, in the pixels of the pictures themselves.

    Attributes:
        images, skipped: images that were scored, and images that could not be read.
        loss: mean over the images of the sum of the five losses of Mask R-CNN.
        box, mask: average precisions of boxes and of masks.
        objects: of each class that there are, crowds left out.
        found: all objects that were found, in COCO's form; no part of the record's file.
        images_per_second: of the model's forward passes alone, over the whole split; None where not measured.
        genotype: its hash, where the model has one.
        notes: how the data were read, where they were read for this score; one line each.
    """

    counted: ClassVar[str] = "objects"
    class_title: ClassVar[str] = "mask AP"

    schema_version: Literal[1] = Field(default=1, alias="schema")
    task: Literal["detect"] = "detect"
    model: str
    genotype: str | None = None
    data: str
    split: Literal["validation", "test"]
    image_size: Counts = Field(min_length=2, max_length=2)
    classes: Strings
    images: int = Field(ge=1)
    skipped: int = Field(default=0, ge=0)
    loss: float
    box: Precisions
    mask: Precisions
    objects: Integers
    images_per_second: float | None = None
    device: str
    notes: Strings = ()
    found: tuple[dict[str, Any], ...] = Field(default=(), exclude=True, repr=False)

    @property
    def box_ap(self) -> float:
        """Average precision of boxes, percent."""
        return self.box.ap or 0.0

    @property
    def mask_ap(self) -> float:
        """Average precision of masks, percent."""
        return self.mask.ap or 0.0

    @property
    def per_class(self) -> dict[str, float | None]:
        """Average precision of the masks of each class, percent; None for a class without objects."""
        return dict(zip(self.classes, self.mask.each, strict=True))

    @property
    def class_counts(self) -> dict[str, int]:
        """Objects of each class."""
        return dict(zip(self.classes, self.objects, strict=True))

    def __repr__(self) -> str:
        return printable(f"<DetectionRecord of {self.model} on {self.data} {self.split}: {self.describe()}>")

    def _repr_html_(self) -> str:
        return record_html(self)

    def to_frame(self) -> DataFrame:
        """A pandas table with a row for each class: ``class``, ``objects``, ``box AP``, ``mask AP`` (percent)."""
        rows = [{**row, "box AP": box} for row, box in zip(class_rows(self), self.box.each, strict=True)]
        return table_of(rows, ("class", self.counted, "box AP", self.class_title))

    @property
    def headline(self) -> str:
        """The one figure, for a title."""
        return f"mask AP {self.mask_ap:.2f} %"

    @property
    def score(self) -> float:
        """The average precision of masks."""
        return self.mask_ap

    def describe(self) -> str:
        """The figures in words."""
        rest = f"box AP {self.box_ap:.2f} %, loss {self.loss:.4f}"
        return f"mask AP {self.mask_ap:.2f} % of {self.images} images ({rest})"

    def figure_lines(self) -> list[str]:
        """All figures and what was scored, in words, a few on a line."""
        height, width = self.image_size
        return [
            f"mask AP {self.mask_ap:.2f} %  box AP {self.box_ap:.2f} %  loss {self.loss:.4f}  on {self.images} "
            f"{self.split} images of {self.data} at {height}x{width}",
            f"AP50 {_percent(self.mask.ap50)} (boxes {_percent(self.box.ap50)})  "
            f"AP75 {_percent(self.mask.ap75)} (boxes {_percent(self.box.ap75)})",
        ]

    def predictions_json(self) -> str:
        """What was found, as COCO's tools read it: one list."""
        return json.dumps(self.found, allow_nan=False) + "\n"

    def to_json(self) -> str:
        """With what follows from the kept figures, for readers other than this class."""
        content: dict[str, Any] = self.model_dump(mode="json", by_alias=True) | {
            "box_ap": self.box_ap,
            "mask_ap": self.mask_ap,
            "per_class": self.per_class,
            "class_counts": self.class_counts,
        }
        return json.dumps(content, allow_nan=False) + "\n"


def _percent(figure: float | None) -> str:
    return "none" if figure is None else f"{figure:.2f} %"
