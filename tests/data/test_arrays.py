"""Images that a program holds: arrays and torch data sets, where a specification is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny import TINY_SPACE
from torch.utils.data import Dataset, TensorDataset

import scansearch
from scansearch.data import BrokenImage, data_from_arrays, data_from_dataset, evaluation_batches, load_data
from scansearch.errors import InputError
from scansearch.files.strict import validate

rng = np.random.default_rng(0)
LABELS = np.arange(40) % 2
CLASSES = ["water", "wood"]


def images(channels: int = 1, dtype: Any = np.uint8, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    made = rng.integers(0, 256, (40, *size, channels))
    return (made * 257).astype(dtype) if dtype == np.uint16 else made.astype(dtype)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_arrays_become_normalised_images(channels: int) -> None:
    array = images(channels, size=(5, 8))
    data = data_from_arrays(array, LABELS, classes=CLASSES)
    assert (data.channels, data.image_size, data.classes) == (channels, (5, 8), ("water", "wood"))
    assert (data.train.count, data.validation.count, data.test.count) == (32, 4, 4)
    shares = array.astype(np.float64) / 255
    seen = set()
    for split in (data.train, data.validation, data.test):
        for index in range(split.count):
            image, label = split.read(index)
            raw = image.numpy().transpose(1, 2, 0) * data.deviation + data.mean
            number = int(np.abs(shares - raw).sum((1, 2, 3)).argmin())
            assert np.abs(raw - shares[number]).max() < 1e-5
            assert label == LABELS[number]
            seen.add(number)
    assert seen == set(range(40))
    train = torch.stack([data.train.read(i)[0] for i in range(data.train.count)])
    assert train.mean((0, 2, 3)).abs().max() < 1e-5
    assert (train.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4


def test_every_type_of_number_gives_the_same_image() -> None:
    small = images(1)
    same = {
        "uint8": small,
        "uint16": small.astype(np.uint16) * 257,
        "float32": small.astype(np.float32) / 255,
        "float64": small / 255,
        "three axes": small[..., 0],
    }
    read = [data_from_arrays(array, LABELS).test.read(1)[0] for array in same.values()]
    for image in read[1:]:
        assert (image - read[0]).abs().max() < 1e-5


def test_mean_deviation_and_splits_are_taken_as_given() -> None:
    splits = ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    array = images(2, np.float32)
    data = data_from_arrays(array, LABELS, splits=splits, mean=[1, 2], deviation=[3, 4])
    assert (data.train.count, data.validation.count, data.test.count) == (20, 10, 10)
    expected = (array[30].transpose(2, 0, 1) - np.array([1, 2])[:, None, None]) / np.array([3, 4])[
        :, None, None
    ]
    assert np.abs(data.test.read(0)[0].numpy() - expected).max() < 1e-5


def test_files_of_numpy_stay_on_the_disk(tmp_path: Path) -> None:
    array = images(3)
    np.save(tmp_path / "images.npy", array)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    data, plain = data_from_arrays(mapped, LABELS), data_from_arrays(array, LABELS)
    assert data.digest == plain.digest
    assert torch.equal(data.test.read(0)[0], plain.test.read(0)[0])
    array[0] += 1
    assert data_from_arrays(array, LABELS).digest != plain.digest


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "axes": ({"images": np.zeros((4, 4))}, "shape [4, 4]"),
    "empty": ({"images": np.zeros((0, 4, 4))}, "shape [0, 4, 4]"),
    "type": ({"images": np.zeros((40, 4, 4), np.int64)}, "of type int64"),
    "labels": ({"labels": LABELS[:5]}, "labels must be 40 integers"),
    "float labels": ({"labels": LABELS / 2}, "labels must be 40 integers"),
    "negative": ({"labels": LABELS - 1, "classes": CLASSES}, "labels run from -1 to 0"),
    "too large": ({"labels": LABELS + 5, "classes": CLASSES}, "labels run from 5 to 6, but there are 2"),
    "same names": ({"classes": ["a", "a"]}, "two or more different names"),
    "one class": ({"labels": LABELS * 0}, "two or more different names"),
    "small class": ({"labels": (np.arange(40) == 3).astype(int)}, "too few images to split of '1'"),
    "splits": ({"splits": ["train"] * 39 + ["extra"]}, "not 'extra'"),
    "count of splits": ({"splits": ["train"] * 3}, "not 3 names"),
    "no test": ({"splits": ["train", "val"] * 20}, "no image for 'test'"),
    "mean": ({"mean": [1, 2]}, "a number for each of 1 channels"),
    "deviation": ({"deviation": [0]}, "deviation above 0"),
    "name": ({"name": "a\nb"}, "one line of text"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD.keys())
def test_arrays_that_do_not_fit_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        data_from_arrays(**({"images": images(), "labels": LABELS} | options))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_image_that_is_not_finite_is_broken() -> None:
    array = images(1, np.float32)
    array[0, 0, 0] = np.nan
    data = data_from_arrays(array, LABELS, splits=["test"] + ["train", "val"] * 19 + ["test"])
    with pytest.raises(BrokenImage, match="image 0"):
        data.test.read(0)
    assert data.train.read(0)[0].isfinite().all()
    assert sum(len(labels) for _, labels in evaluation_batches(data.test, 2)) == 1


# --- torch data sets ---


class Bands(Dataset):
    """13 channels, with labels that are found by reading only."""

    def __init__(self, count: int, tensors: bool = True) -> None:
        self.array, self.tensors = images(13)[:count], tensors

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.array[index]
        return (torch.from_numpy(image).permute(2, 0, 1) if self.tensors else image), index % 2


@pytest.mark.parametrize("tensors", [True, False])
def test_a_torch_data_set_is_read(tensors: bool) -> None:
    dataset = Bands(40, tensors)
    data = data_from_dataset(dataset, classes=CLASSES, mean=[0.5] * 13, deviation=[0.25] * 13)
    assert (data.train.count, data.validation.count, data.test.count) == (32, 4, 4)
    assert data.channels == 13
    image, label = data.test.read(0)
    chosen = data.test.read.chosen[0]  # type: ignore[attr-defined]
    assert label == chosen % 2
    expected = (dataset.array[chosen].transpose(2, 0, 1) / 255 - 0.5) / 0.25
    assert np.abs(image.numpy() - expected).max() < 1e-5
    assert data.train.augments


def test_three_torch_data_sets_are_the_three_splits() -> None:
    parts = [TensorDataset(torch.rand(n, 3, 8, 8), torch.arange(n) % 2) for n in (8, 4, 6)]
    data = data_from_dataset(*parts, classes=CLASSES)
    assert (data.train.count, data.validation.count, data.test.count) == (8, 4, 6)
    assert torch.equal(data.test.read(3)[0], parts[2][3][0])


def test_torchvisions_pictures_are_read() -> None:
    from torchvision.datasets import FakeData

    data = data_from_dataset(FakeData(60, (3, 8, 8), 2))
    assert data.train.read(0)[0].shape == (3, 8, 8)
    assert 0 <= float(data.train.read(0)[0].min()) <= float(data.train.read(0)[0].max()) <= 1


def test_images_of_other_shapes_in_a_data_set_are_refused() -> None:
    dataset = [(torch.zeros(1, 8, 8 + i % 2), i % 2) for i in range(20)]
    data = data_from_dataset(dataset, classes=CLASSES)
    odd = next(i for i in range(data.train.count) if data.train.read.chosen[i] % 2)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"has shape \[1, 8, 9\], the first \[1, 8, 8\]"):
        data.train.read(odd)


# --- where a specification is accepted ---


def test_arrays_are_searched_trained_on_evaluated_and_resumed(tmp_path: Path) -> None:
    from scansearch.runs.train_run import resume_training

    data = data_from_arrays(images(13), LABELS, classes=CLASSES, name="bands")
    space = validate(TINY_SPACE, scansearch.SearchSpace, source="tiny")
    options: dict[str, Any] = {"epochs": 1, "batch_size": 8, "device": "cpu"}
    found = scansearch.search(space, data=data, out=tmp_path / "search", k=2, **options)
    genotype = scansearch.derive(found.preferences, k=2, space=space)
    assert genotype.provenance.data == "python:bands"
    trained = scansearch.train(genotype, data=data, out=tmp_path / "train", **options)
    assert trained.test.data == "python:bands"
    assert trained.test.images == 4
    again = scansearch.evaluate(trained.run.folder, data=data, device="cpu")
    assert again.top1 == trained.test.top1
    assert again.loss == pytest.approx(trained.test.loss, abs=1e-6)
    assert resume_training(trained.run.folder, data=data).test.loss == pytest.approx(again.loss, abs=1e-6)
    with pytest.raises(InputError, match="made in Python") as error:
        resume_training(trained.run.folder)
    assert "\n" not in str(error.value)
    other = data_from_arrays(images(13), LABELS, classes=CLASSES, name="bands")
    with pytest.raises(InputError, match="cannot go on"):
        resume_training(trained.run.folder, data=other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 16}, "are 8x8 and are not resized"),
        ({"channels": 3}, "have 1 channels, not 3"),
        ({"augment": {"flip": 0.5}}, "leave out augment"),
    ],
)
def test_options_that_arrays_cannot_follow_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    data = data_from_arrays(images(), LABELS, name="bands")
    with pytest.raises(InputError, match=message):
        scansearch.train("localvim_tiny", data=data, out=tmp_path / "run", device="cpu", **options)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="made in Python"):
        load_data("python:bands", image_size=8)
