"""Data sets are split once and for all, and batches are a pure function of (seed, epoch, position)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scansearch.data import EpochBatches, evaluation_batches, load_data, training_batches
from scansearch.errors import InputError


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", image_size=28)


def test_digits_is_split_into_disjoint_stratified_parts(digits):
    assert (digits.train.count, digits.validation.count, digits.test.count) == (1257, 180, 360)
    seen = set()
    for split in (digits.validation, digits.test):
        labels = np.bincount([split.read(i)[1] for i in range(split.count)], minlength=10)
        assert labels.max() - labels.min() <= max(2, split.count // 60)
        images = {split.read(i)[0].numpy().tobytes() for i in range(split.count)}
        assert len(images) == split.count
        assert not images & seen
        seen |= images
    assert digits.train.read(0)[0].shape == (1, 28, 28)


def test_digits_baseline_is_measured_on_the_test_split(digits):
    name, accuracy = digits.baseline()
    assert "logistic" in name
    assert 94 < accuracy < 99
    assert (accuracy * 3.6) == pytest.approx(round(accuracy * 3.6), abs=1e-6)  # a whole number of 360 images


def test_evaluation_visits_every_image_once_on_any_number_of_ranks(digits):
    for ranks in (1, 3):
        batches = [
            batch
            for rank in range(ranks)
            for batch in evaluation_batches(digits.test, 50, rank=rank, ranks=ranks)
        ]
        seen = {image.numpy().tobytes() for images, _ in batches for image in images}
        assert sum(len(labels) for _, labels in batches) == digits.test.count
        assert seen == {digits.test.read(i)[0].numpy().tobytes() for i in range(digits.test.count)}


@given(
    count=st.integers(1, 50),
    shares=st.integers(1, 4),
    ranks=st.integers(1, 3),
    batches=st.integers(1, 12),
    start=st.integers(0, 12),
    seed=st.integers(0, 5),
)
@settings(deadline=None)
def test_batches_do_not_depend_on_where_one_starts_or_on_the_number_of_ranks(
    count, shares, ranks, batches, start, seed
):
    size = shares * ranks
    whole = list(EpochBatches(count, size, batches, seed=seed, epoch=2))
    assert (
        list(EpochBatches(count, size, batches, seed=seed, epoch=2, start=min(start, batches)))
        == whole[start:]
    )
    parts = [
        list(EpochBatches(count, size, batches, seed=seed, epoch=2, rank=r, ranks=ranks))
        for r in range(ranks)
    ]
    assert [[key for piece in pieces for key in piece] for pieces in zip(*parts, strict=True)] == whole
    # Every pass over the split is a permutation of it.
    indices = [index for batch in whole for _, index in batch]
    for first in range(0, len(indices) - count + 1, count):
        assert sorted(indices[first : first + count]) == list(range(count))


def test_epochs_and_seeds_give_other_orders(digits):
    def order(seed, epoch):
        return [i for batch in EpochBatches(100, 10, 10, seed=seed, epoch=epoch) for _, i in batch]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_augmented_images_are_the_same_with_and_without_workers(digits):
    for epoch in (0, 3):
        plain = list(training_batches(digits.train, 16, seed=7, epoch=epoch, batches=4))
        workers = list(training_batches(digits.train, 16, seed=7, epoch=epoch, batches=4, start=2, workers=2))
        for (a, la), (b, lb) in zip(plain[2:], workers, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(la, lb)


def test_training_images_are_shifted_differently_in_every_epoch(digits):
    def image(epoch):
        loader = training_batches(digits.train, 1257, seed=0, epoch=epoch)
        ((images, _),) = loader
        return images.flatten(1).sort(0).values

    assert not torch.equal(image(0), image(1))


# --- folders ---


def made_images(folder, classes, each, size=(9, 7)):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")


def test_folder_with_all_three_splits(tmp_path):
    for split, each in (("train", 4), ("val", 2), ("test", 3)):
        made_images(tmp_path / split, ("cat", "dog"), each)
    data = load_data(f"folder:{tmp_path}", image_size=16)
    assert data.classes == ("cat", "dog")
    assert (data.train.count, data.validation.count, data.test.count) == (8, 4, 6)
    image, label = data.test.read(5)
    assert image.shape == (3, 16, 16)
    assert label == 1


def test_folder_without_a_third_split_holds_validation_out_of_training(tmp_path):
    made_images(tmp_path / "train", ("a", "b"), 20)
    made_images(tmp_path / "val", ("a", "b"), 3)
    data = load_data(f"folder:{tmp_path}", image_size=(16, 8))
    assert (data.train.count, data.validation.count, data.test.count) == (36, 4, 6)
    assert data.train.read(0)[0].shape == (3, 16, 8)


def test_folder_of_classes_alone_is_split_in_ten(tmp_path):
    made_images(tmp_path, ("a", "b", "c"), 10)
    data = load_data(f"folder:{tmp_path}", image_size=8)
    assert (data.train.count, data.validation.count, data.test.count) == (24, 3, 3)


@pytest.mark.parametrize("spec", ["", "digit", "digits:3", "folder", "folder:", "nope:x"])
def test_unknown_specifications_name_what_is_allowed(spec):
    with pytest.raises(InputError, match=r"allowed: digits, folder:PATH"):
        load_data(spec, image_size=8)


def test_bad_folders_are_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_data(f"folder:{tmp_path / 'missing'}", image_size=8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        load_data(f"folder:{tmp_path / 'empty'}", image_size=8)
    made_images(tmp_path / "a" / "train", ("x", "y"), 3)
    with pytest.raises(InputError, match="neither val/ nor test/"):
        load_data(f"folder:{tmp_path / 'a'}", image_size=8)
    made_images(tmp_path / "a" / "val", ("x", "z"), 3)
    with pytest.raises(InputError, match="'z'"):
        load_data(f"folder:{tmp_path / 'a'}", image_size=8)


def test_a_broken_image_is_named(tmp_path):
    made_images(tmp_path / "train", ("a", "b"), 20)
    made_images(tmp_path / "val", ("a", "b"), 3)
    (tmp_path / "val" / "b" / "2.png").write_bytes(b"not a picture")
    data = load_data(f"folder:{tmp_path}", image_size=8)
    with pytest.raises(InputError, match=r"2\.png"):
        data.test.read(5)
