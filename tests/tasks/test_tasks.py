"""What every task must give, by the one protocol that trainings and searches know."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.trainings import tiny_genotype

from scansearch.data import training_batches
from scansearch.data.masks.transform import IGNORED
from scansearch.engine.devices import make_accelerator
from scansearch.errors import InputError
from scansearch.records.heads import HEADS, SegmentationHead
from scansearch.tasks import TASKS, find_task
from scansearch.tasks.protocol import in_float32

DATA = {"classify": "digits", "segment": "shapes:16x16:8", "detect": "shapes:16x16:8"}
OTHERS = {"classify": "masks:PATH", "segment": "digits", "detect": "masks:PATH"}


@pytest.fixture(params=list(TASKS))
def name(request: pytest.FixtureRequest) -> str:
    assert request.param in DATA, "a new task needs data in this file"
    return request.param


def test_a_task_loads_builds_scores_and_records(name: str) -> None:
    task = find_task(name)
    assert task.name == name
    data = task.load(DATA[name], image_size=8)
    genotype, classes = tiny_genotype(), len(data.classes)
    head = HEADS[name]() if name in HEADS else None
    arguments = task.arguments(genotype.family, genotype.model, classes)
    backbone = genotype.build(**arguments, in_chans=data.channels, img_size=data.image_size)
    model = task.whole(backbone, task.decoder(backbone, classes, head))
    images, labels = next(training_batches(data.train, 2, seed=0, epoch=0))
    outputs = in_float32(task.forward(model, images, labels))
    loss = task.criterion(0.0, head)(outputs, labels)
    loss.backward()
    assert loss.isfinite()
    assert 0 <= float(task.accuracy(outputs, labels)) <= 1 or "accuracy" not in task.figures
    assert type(task.trial(model, images)) is type(task.forward(model, images, labels))
    options = {"batch_size": 8, "accelerator": make_accelerator("cpu", "no")}
    metrics = task.score(model.eval(), data.validation, classes, **options)
    assert {"loss", *task.figures} == set(metrics)
    assert task.score_name == list(task.figures)[-1]
    assert task.mean_loss(model, data.validation, classes, **options) == pytest.approx(metrics["loss"])
    record = task.evaluate(model, data, options["accelerator"], split="validation", batch_size=5)
    assert record.score == pytest.approx(metrics[task.score_name])
    assert record.loss == pytest.approx(metrics["loss"], rel=1e-5)
    assert list(record.per_class) == list(record.class_counts) == list(data.classes)
    assert f"{record.score:.2f} %" in record.describe()


def test_data_of_another_task_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=r"task (classify|segment)"):
        find_task(name).load(OTHERS[name], image_size=8)


def test_an_unknown_task_is_one_line() -> None:
    with pytest.raises(InputError, match=r"unknown task 'count' \(allowed: classify, segment, detect\)"):
        find_task("count")


def test_the_loss_of_masks_adds_up_over_parts_and_leaves_ignored_pixels_out() -> None:
    torch.manual_seed(0)
    logits, second = torch.randn(2, 4, 3, 5, 6).double()
    masks = torch.randint(3, (4, 5, 6)).to(torch.uint8)
    masks[0], masks[1, :2] = IGNORED, IGNORED
    loss = find_task("segment").criterion(0.0, SegmentationHead(auxiliary=0.25))
    whole = loss((logits, second), masks)
    parts = [loss((logits[i : i + 1], second[i : i + 1]), masks[i : i + 1]) for i in range(4)]
    assert float(whole) == pytest.approx(float(sum(parts)) / 4)
    assert float(parts[0]) == 0.0
    kept = masks != IGNORED
    each = [
        F.cross_entropy(x.movedim(1, -1)[kept], masks[kept].long(), reduction="sum") for x in (logits, second)
    ]
    assert float(whole) == pytest.approx(float(each[0] + 0.25 * each[1]) / masks.numel())
