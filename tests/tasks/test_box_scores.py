"""AP of boxes and masks: pycocotools' own on the saved file, in the pixels of the pictures, in any order."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from support.detections import coco_folder

from scansearch.data import ImageData, Split
from scansearch.data.instances.sources import load_objects
from scansearch.data.instances.targets import ImageObjects
from scansearch.engine.devices import make_accelerator
from scansearch.errors import RunStopped
from scansearch.tasks.box_scores import found_objects, score_objects
from scansearch.tasks.detection import TASK


def guess(images: torch.Tensor, targets, *, noise: float, seed: int = 0):
    """What a model might find: every object of the image a little beside itself, and one that is not there."""
    found = []
    for image in targets:
        generator = torch.Generator().manual_seed(seed + image.identity)
        count = len(image.labels)
        moved = image.boxes + noise * torch.randn(count, 4, generator=generator)
        extra = torch.tensor([[0.0, 0.0, 5.0, 5.0]])
        cells = torch.ones(count + 1, 1, 28, 28)
        cells[:, :, : int(20 * noise)] = 0.0
        found.append(
            {
                "boxes": torch.cat([moved, extra]),
                "labels": torch.cat([image.labels, torch.tensor([0])]),
                "scores": torch.cat([torch.rand(count, generator=generator) / 2 + 0.5, torch.tensor([0.3])]),
                "masks": cells,
            }
        )
    return found, torch.ones(len(targets), 5)


def with_noise(noise: float) -> Callable:
    return lambda images, targets: guess(images, targets, noise=noise)


@pytest.fixture
def data(tmp_path: Path) -> ImageData:
    """Pictures of 20 x 30 pixels that the model sees at twice that, the last row of them padding."""
    return load_objects(f"coco:{coco_folder(tmp_path, {'train': 12, 'val': 9})}", image_size=(41, 60))


def test_ap_is_that_of_pycocotools_on_the_saved_file(data: ImageData, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    record = TASK.evaluate(with_noise(0.4), data, make_accelerator("cpu", "no"), batch_size=4)
    file = tmp_path / "predictions.json"
    file.write_text(record.predictions_json())
    with redirect_stdout(StringIO()):
        truth = COCO(str(tmp_path / "annotations" / "instances_val2017.json"))
        found = truth.loadRes(str(file))
        for kind, own in (("bbox", record.box), ("segm", record.mask)):
            scores = COCOeval(truth, found, kind)
            scores.evaluate()
            scores.accumulate()
            scores.summarize()
            figures = [own.ap, own.ap50, own.ap75, own.small, own.medium, own.large]
            expected = [100 * value if value >= 0 else None for value in scores.stats[:6]]
            assert figures == [None if v is None else pytest.approx(v, abs=1e-6) for v in expected]
            assert 1 < own.ap < 99
            kept = [value for value in own.each if value is not None]
            assert sum(kept) / len(kept) == pytest.approx(own.ap)
    assert record.class_counts == {"bar": 8, "cat": 8}
    assert record.loss == pytest.approx(5.0)
    assert json.loads(record.to_json())["mask_ap"] == record.score == record.mask.ap
    assert "found" not in json.loads(record.to_json())


def test_objects_found_where_they_are_score_all(data: ImageData) -> None:
    scores = score_objects(
        with_noise(0.0), data.test, data.classes, batch_size=2, accelerator=make_accelerator("cpu", "no")
    )
    assert scores.box.ap == pytest.approx(100.0)
    assert scores.mask.ap == pytest.approx(100.0)
    assert scores.images == 9


def test_what_is_found_is_in_the_pixels_of_the_picture(data: ImageData) -> None:
    objects = data.test.read(0)[1]
    assert objects.size == (20, 30)
    assert objects.content == (40, 60)
    found = found_objects(guess(torch.zeros(0), [objects], noise=0.0)[0][0], objects)
    truth = [one for one in objects.truth if not one["iscrowd"]]
    for one, other in zip(found, truth, strict=False):
        assert one["bbox"] == pytest.approx(other["bbox"])
        assert one["category_id"] == other["category_id"]
        assert one["segmentation"]["size"] == [20, 30]


def test_neither_order_nor_batch_size_changes_a_score(data: ImageData) -> None:
    def score(split: Split, batch_size: int):
        return score_objects(
            with_noise(0.3),
            split,
            data.classes,
            batch_size=batch_size,
            accelerator=make_accelerator("cpu", "no"),
        )

    first = score(data.test, 1)
    turned = replace(data.test, read=lambda index: data.test.read(8 - index))
    for other in (score(data.test, 4), score(turned, 9)):
        assert other.box == first.box
        assert other.mask == first.mask
        assert other.found == first.found
        assert other.loss == pytest.approx(first.loss)


def test_a_split_without_objects_is_one_line_and_nothing_found_is_zero(data: ImageData) -> None:
    def bare(index: int) -> tuple[torch.Tensor, ImageObjects]:
        image, objects = data.test.read(index)
        return image, replace(objects, truth=())

    options = {"batch_size": 4, "accelerator": make_accelerator("cpu", "no")}
    with pytest.raises(RunStopped, match="a split has no object"):
        score_objects(with_noise(0.3), replace(data.test, read=bare), data.classes, **options)

    def blind(images: torch.Tensor, targets):
        found, losses = guess(images, targets, noise=0.1)
        return [{name: value[:0] for name, value in one.items()} for one in found], losses

    scores = score_objects(blind, data.test, data.classes, **options)
    assert scores.box.ap == scores.mask.ap == 0.0
    assert scores.found == ()
