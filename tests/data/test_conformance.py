"""What every data reader must give: splits of normalised images, the same at every reading."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from support.pictures import made_images

from scansearch.data import ImageData, load_data, sources

CLASSES = ("cat", "dog", "eel")


def _folder(tmp_path: Path) -> str:
    made_images(tmp_path, CLASSES, 20, size=(19, 23))
    return f"folder:{tmp_path}"


def _timm(tmp_path: Path) -> str:
    import tarfile

    made_images(tmp_path / "train", CLASSES, 20, size=(19, 23))
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(tmp_path / "train", arcname=".")
    return f"timm:{tmp_path / 'all.tar'}"


# one specification of every kind
SPECIFICATIONS = {
    "digits": lambda folder: "digits",
    "translated-digits": lambda folder: "translated-digits",
    "planted": lambda folder: "planted:blocks",
    "fake": lambda folder: "fake:30x20:3",
    "folder": _folder,
    "timm": _timm,
}
PARTS = ("train", "validation", "test")


@pytest.fixture(params=list(sources._READERS))
def reader(request: pytest.FixtureRequest) -> str:
    assert request.param in SPECIFICATIONS, "a new reader needs a specification in this file"
    return request.param


@pytest.fixture
def spec(reader: str, tmp_path: Path) -> str:
    return SPECIFICATIONS[reader](tmp_path)


def seeded(data: ImageData, part: str, index: int) -> tuple[torch.Tensor, int]:
    """One image, read from a fixed state of the random generators."""
    import random

    import numpy as np

    random.seed(index)
    np.random.seed(index)
    torch.manual_seed(index)
    return getattr(data, part).read(index)


def test_images_are_of_the_size_and_type_that_is_promised(reader: str, spec: str) -> None:
    sizes = [(16, 16), (12, 20)] if sources._READERS[reader].pictures else [(16, 16)]
    for size in sizes:
        data = load_data(spec, image_size=size)
        assert data.image_size == size
        assert data.spec == spec
        for part in PARTS:
            split = getattr(data, part)
            assert split.count > 0
            for index in {0, split.count // 2, split.count - 1}:
                image, label = split.read(index)
                assert image.shape == (data.channels, *size)
                assert image.dtype == torch.float32
                assert image.isfinite().all()
                assert type(label) is int
                assert 0 <= label < len(data.classes)


def test_every_class_is_in_every_split_and_named_once(spec: str) -> None:
    data = load_data(spec, image_size=16)
    assert len(set(data.classes)) == len(data.classes) >= 2
    for part in PARTS:
        split = getattr(data, part)
        labels = {split.read(index)[1] for index in range(0, split.count, max(1, split.count // 400))}
        assert labels == set(range(len(data.classes))), part


def test_loading_twice_gives_the_same_images(spec: str) -> None:
    first, second = load_data(spec, image_size=16), load_data(spec, image_size=16)
    for part in PARTS:
        assert getattr(first, part).count == getattr(second, part).count
        for index in range(0, getattr(first, part).count, max(1, getattr(first, part).count // 50)):
            (image, label), (again, same) = seeded(first, part, index), seeded(second, part, index)
            assert torch.equal(image, again)
            assert label == same


def test_only_splits_that_say_so_are_random(spec: str) -> None:
    data = load_data(spec, image_size=16)
    assert not data.validation.augments
    assert not data.test.augments
    for part in PARTS:
        split = getattr(data, part)
        if not split.augments:
            torch.manual_seed(0)
            first = [split.read(index)[0] for index in range(min(split.count, 10))]
            torch.manual_seed(1)
            assert all(torch.equal(image, split.read(index)[0]) for index, image in enumerate(first))


def test_what_was_subtracted_and_divided_by_is_one_figure_per_channel(spec: str) -> None:
    data = load_data(spec, image_size=16)
    for figures in (data.mean, data.deviation):
        assert figures is not None
        assert len(figures) == data.channels
        assert all(math.isfinite(figure) for figure in figures)
    assert min(data.deviation) > 0
