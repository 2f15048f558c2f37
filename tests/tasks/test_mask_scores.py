"""mIoU, pixel accuracy and loss of masks against slow loops, whatever the order and the size of batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scansearch.data import Split
from scansearch.data.masks.transform import IGNORED
from scansearch.engine.devices import make_accelerator
from scansearch.errors import RunStopped
from scansearch.tasks.mask_scores import SegmentationRecord, class_ious, score_masks

CLASSES = 4


def made(count: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [count, classes, 5, 6] and masks; class 3 occurs nowhere in them and is never predicted."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, CLASSES, 5, 6, generator=generator)
    logits[:, 3] = -9.0
    masks = torch.randint(3, (count, 5, 6), generator=generator).to(torch.uint8)
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = IGNORED
    return logits, masks


def score(logits: torch.Tensor, masks: torch.Tensor, batch_size: int = 3):
    """The images are the logits themselves."""
    split = Split(len(masks), lambda index: (logits[index], masks[index]))
    return score_masks(
        lambda images: images,
        split,
        CLASSES,
        batch_size=batch_size,
        accelerator=make_accelerator("cpu", "no"),
    )


def test_scores_are_those_of_a_loop_over_pixels() -> None:
    logits, masks = made()
    found = score(logits, masks)
    hits, truths, guesses = (np.zeros(CLASSES, dtype=int) for _ in range(3))
    losses = []
    for image, mask in zip(logits.double().numpy(), masks.numpy(), strict=True):
        for row, column in np.argwhere(mask != IGNORED):
            values, label = image[:, row, column], mask[row, column]
            guess = values.argmax()
            truths[label] += 1
            guesses[guess] += 1
            hits[label] += guess == label
            losses.append(np.log(np.exp(values).sum()) - values[label])
    ious = [100 * hits[c] / (truths[c] + guesses[c] - hits[c]) for c in range(3)]
    assert class_ious(found.confusion.tolist()) == pytest.approx([*ious, None])
    assert found.miou == pytest.approx(np.mean(ious))
    assert found.accuracy == pytest.approx(100 * hits.sum() / truths.sum())
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert found.images == 7
    assert found.confusion.dtype == torch.int64


def test_neither_order_nor_batch_size_changes_a_score() -> None:
    logits, masks = made(11)
    first = score(logits, masks, 1)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    for batch_size in (2, 11):
        other = score(logits[order], masks[order], batch_size)
        assert torch.equal(first.confusion, other.confusion)
        assert first.miou == other.miou
        assert first.loss == pytest.approx(other.loss, rel=1e-6)


def test_a_predicted_class_that_no_mask_has_counts_as_nothing_right() -> None:
    logits, masks = made()
    logits[0, 3, 0, 0] = 99.0
    masks[0, 0, 0] = 1
    ious = class_ious(score(logits, masks).confusion.tolist())
    assert ious[3] == 0.0


def test_masks_without_any_class_are_one_line_and_one_among_others_is_not_counted() -> None:
    logits, masks = made()
    empty = torch.full_like(masks, IGNORED)
    with pytest.raises(RunStopped, match="no pixel of a split has a class"):
        score(logits, empty)
    both = score(torch.cat([logits, logits]), torch.cat([masks, empty]))
    assert torch.equal(both.confusion, score(logits, masks).confusion)
    assert both.loss == pytest.approx(score(logits, masks).loss)


def test_outputs_that_are_not_finite_are_an_error() -> None:
    logits, masks = made()
    logits[2] = float("nan")
    with pytest.raises(RunStopped, match="not finite"):
        score(logits, masks)


def test_a_record_tells_what_follows_from_its_matrix() -> None:
    record = SegmentationRecord(
        model="m",
        data="d",
        split="test",
        image_size=(4, 4),
        classes=("sky", "sea", "ship"),
        images=2,
        loss=0.5,
        confusion=((6, 2, 0), (1, 7, 0), (0, 0, 0)),
        device="cpu",
    )
    content = json.loads(record.to_json())
    assert content["per_class"] == {"sky": pytest.approx(600 / 9), "sea": pytest.approx(70), "ship": None}
    assert content["miou"] == record.score == pytest.approx((600 / 9 + 70) / 2)
    assert content["accuracy"] == pytest.approx(1300 / 16)
    assert content["task"] == "segment"
    assert record.describe().startswith("mIoU 68.33 % of 2 images")
