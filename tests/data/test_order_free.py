"""The bar without order: it sees brightness, and no order of pixels."""

from __future__ import annotations

import pytest
import torch

from scansearch.data import ImageData, Split, load_data
from scansearch.data.order_free import OrderFreeBar, order_free_bar


def made(images: torch.Tensor, labels: list[int]) -> ImageData:
    split = Split(len(labels), lambda index: (images[index], labels[index]))
    return ImageData(
        spec="made",
        classes=("a", "b"),
        channels=1,
        image_size=(6, 6),
        train=split,
        validation=split,
        test=split,
    )


def test_brightness_is_seen_and_order_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(200, 1, 6, 6, generator=generator)
    labels = (torch.arange(200) % 2).tolist()
    bright = noise.clone()
    bright[1::2] += 0.5
    assert order_free_bar(made(bright, labels)).accuracy == 100
    sorted_by_class = noise.flatten(1).sort(1).values
    sorted_by_class[1::2] = sorted_by_class[1::2].flip(1)
    bar = order_free_bar(made(sorted_by_class.reshape(200, 1, 6, 6), labels))
    assert bar.images == 200
    assert bar.accuracy < 75  # chance, and what 200 images let 20 features learn by heart


def test_planted_directions_are_above_the_bar_only_for_who_sees_them() -> None:
    for pattern in ("columns", "blocks", "nothing"):
        data = load_data(f"planted:{pattern}", image_size=10)
        assert order_free_bar(data).accuracy == pytest.approx(50, abs=9)


def test_the_same_data_give_the_same_bar_and_one_class_is_no_error() -> None:
    data = load_data("digits", image_size=8)
    first = order_free_bar(data)
    assert first == order_free_bar(data)
    assert 15 < first.accuracy < 60  # ten classes; strokes have a brightness
    assert order_free_bar(made(torch.zeros(4, 1, 6, 6), [0, 0, 0, 0])) == OrderFreeBar(100.0, 4)
