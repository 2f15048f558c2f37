"""Data sets are split once and for all, and batches are a pure function of (seed, epoch, position)."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pictures import made_images
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from scansearch.data import Augment, EpochBatches, evaluation_batches, load_data, training_batches
from scansearch.errors import InputError, MissingExtra, RunStopped
from scansearch.files.strict import validate


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


def test_what_was_subtracted_and_divided_by_is_told(digits):
    blank = -digits.mean[0] / digits.deviation[0]
    brightest = (1 - digits.mean[0]) / digits.deviation[0]
    pixels = torch.stack([digits.test.read(i)[0] for i in range(20)])
    assert float(pixels.min()) == pytest.approx(blank, abs=1e-5)
    assert float(pixels.max()) == pytest.approx(brightest, abs=1e-5)
    made = load_data("fake:8x8:2", image_size=8)
    assert (made.mean, made.deviation) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


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


# --- broken images ---


def _folder_with_broken_images(folder, broken):
    made_images(folder / "train", ("a", "b"), 20)
    made_images(folder / "val", ("a", "b"), 3)
    for name in broken:
        (folder / name).write_bytes(b"not a picture")
    return f"folder:{folder}"


def test_the_next_readable_image_stands_in_for_a_broken_one_in_training(tmp_path):
    clean = load_data(_folder_with_broken_images(tmp_path / "clean", []), image_size=8)
    paths = {clean.train.read(i)[0].shape for i in range(clean.train.count)}
    assert paths == {(3, 8, 8)}
    data = load_data(_folder_with_broken_images(tmp_path / "x", ["train/a/3.png"]), image_size=8)
    for workers in (0, 1):
        batches = list(training_batches(data.train, 6, seed=0, epoch=0, workers=workers))
        assert [len(images) for images, _ in batches] == [6] * (data.train.count // 6)
        assert all(image.isfinite().all() for images, _ in batches for image in images)
    assert [name.rsplit("/", 1)[-1] for name in data.broken.names] == ["3.png"]


def test_broken_images_are_left_out_of_evaluation(tmp_path):
    data = load_data(_folder_with_broken_images(tmp_path, ["val/a/0.png", "val/a/1.png"]), image_size=8)
    labels = torch.cat([labels for _, labels in evaluation_batches(data.test, 1)])
    assert labels.tolist() == [0, 1, 1, 1]
    assert len(data.broken.names) == 2
    assert len(data.broken.take_fresh()) == 2
    assert data.broken.take_fresh() == []


def test_more_broken_images_than_allowed_stop_with_the_last_ones_name(tmp_path):
    spec = _folder_with_broken_images(tmp_path, ["val/a/0.png", "val/a/1.png"])
    data = load_data(spec, image_size=8, max_broken=1)
    with pytest.raises(RunStopped, match=r"max_broken = 1 allows; the last: .*1\.png"):
        list(evaluation_batches(data.test, 2))
    every = [f"train/{name}/{i}.png" for name in "ab" for i in range(20)]
    data = load_data(_folder_with_broken_images(tmp_path / "all", every), image_size=8)
    with pytest.raises(RunStopped, match="no image of a batch can be read"):
        list(training_batches(data.train, 4, seed=0, epoch=0))


# --- made images, augmentation, timm ---


def test_made_images_are_always_the_same_and_tell_their_class():
    first, second = (load_data("fake:20x12:3", image_size=(16, 8)) for _ in range(2))
    assert first.classes == ("0", "1", "2")
    assert first.channels == 3
    for index in (0, 5, 100):
        image, label = first.test.read(index)
        assert image.shape == (3, 16, 8)
        assert torch.equal(image, second.test.read(index)[0])
        assert label == index % 3
    assert not torch.equal(first.test.read(0)[0], first.validation.read(0)[0])


@pytest.mark.parametrize("spec", ["fake:32:10", "fake:0x8:2", "fake:8x8:1", "fake:axb:2", "fake:8x8"])
def test_made_images_of_impossible_sizes_are_refused(spec):
    with pytest.raises(InputError, match="expected fake:HEIGHTxWIDTH:CLASSES"):
        load_data(spec, image_size=8)


AUGMENTATIONS = {
    "policy": Augment(policy="rand-m9-mstd0.5"),
    "scale": Augment(scale=(0.5, 0.6)),
    "ratio": Augment(ratio=(2.0, 3.0)),
    "colour": Augment(color_jitter=0.9),
    "interpolation": Augment(interpolation="bicubic"),
    "flip": Augment(flip=1.0),
}


@pytest.mark.parametrize("augment", AUGMENTATIONS.values(), ids=AUGMENTATIONS.keys())
def test_augmentation_changes_training_images_and_is_seeded_per_image(augment):
    def images(augment, start=0, workers=0):
        data = load_data("fake:20x20:3", image_size=16, augment=augment)
        batches = training_batches(data.train, 8, seed=1, epoch=2, batches=3, start=start, workers=workers)
        return [images for images, _ in batches]

    plain, augmented = images(None), images(augment)
    assert not torch.equal(torch.stack(plain), torch.stack(augmented))
    resumed = images(augment, start=1, workers=2)
    assert all(torch.equal(a, b) for a, b in zip(augmented[1:], resumed, strict=True))


def test_evaluation_crops_as_asked_and_augments_nothing():
    whole, cropped = (load_data("fake:20x20:3", image_size=16, augment=Augment(crop=c)) for c in (1.0, 0.5))
    assert not torch.equal(whole.test.read(0)[0], cropped.test.read(0)[0])
    assert torch.equal(whole.test.read(0)[0], whole.test.read(0)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "rand-m9-x"}, "augment.policy 'rand-m9-x'"),
        ({"policy": "nonsense"}, "augment.policy 'nonsense'"),
    ],
)
def test_unknown_policies_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=message):
        load_data("fake:8x8:2", image_size=8, augment=Augment(**options))


@pytest.mark.parametrize(
    "options", [{"scale": (0.5, 0.1)}, {"scale": (0.5, 2.0)}, {"policy": "v0", "color_jitter": 0.4}], ids=str
)
def test_impossible_augmentations_are_refused(options):
    with pytest.raises(InputError):
        validate(options, Augment, source="options")


def _tar(path, folder):
    import tarfile

    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".")


def assert_same_test_images(data, plain):
    assert data.test.count == plain.test.count > 0
    for i in range(data.test.count):
        (image, label), (expected, expected_label) = data.test.read(i), plain.test.read(i)
        assert torch.equal(image, expected)
        assert label == expected_label


def test_tar_files_are_read_and_split(tmp_path):
    made_images(tmp_path / "train", ("cat", "dog"), 10)
    made_images(tmp_path / "val", ("cat", "dog"), 4)
    (tmp_path / "tars").mkdir()
    for name in ("train", "val"):
        _tar(tmp_path / "tars" / f"{name}.tar", tmp_path / name)
    data = load_data(f"timm:{tmp_path / 'tars'}", image_size=8)
    assert data.classes == ("cat", "dog")
    assert (data.train.count, data.validation.count, data.test.count) == (18, 2, 8)
    assert_same_test_images(data, load_data(f"folder:{tmp_path}", image_size=8))
    assert sum(len(labels) for _, labels in evaluation_batches(data.test, 2, workers=2)) == 8
    single = load_data(f"timm:{tmp_path / 'tars' / 'train.tar'}", image_size=8)
    assert (single.train.count, single.validation.count, single.test.count) == (16, 2, 2)
    assert not [path for path in (tmp_path / "tars").iterdir() if path.suffix != ".tar"], "timm left a cache"


def _idx(path, array):
    """An array in the format of MNIST's files."""
    import gzip
    import struct

    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())
    with gzip.open(path.with_suffix(path.suffix + ".gz"), "wb") as file:
        file.write(header + array.tobytes())


def test_torchvision_data_sets_are_read_through_timm(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        _idx(folder / f"{part}-images-idx3-ubyte", images)
        _idx(folder / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    data = load_data(f"timm:torch/mnist@{tmp_path}", image_size=16)
    assert len(data.classes) == 10
    assert (data.train.count, data.validation.count, data.test.count) == (50, 10, 20)
    image, label = data.test.read(13)
    assert image.shape == (3, 16, 16)
    assert label == 3


def test_hugging_face_data_sets_are_read_through_timm(tmp_path):
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    for part, each in (("train", 6), ("test", 2)):
        made_images(tmp_path / "set" / part, ("cat", "dog"), each)
    data = load_data(f"timm:hfds/{tmp_path / 'set'}@{tmp_path / 'cache'}", image_size=8)
    assert data.classes == ("cat", "dog")
    assert (data.train.count, data.validation.count, data.test.count) == (10, 2, 4)
    assert_same_test_images(data, load_data(f"folder:{tmp_path / 'set'}", image_size=8))
    with pytest.raises(InputError, match="cannot be read") as found:
        load_data(f"timm:hfds/{tmp_path / 'none'}@{tmp_path / 'cache'}", image_size=8)
    assert "\n" not in str(found.value)


def test_hugging_face_data_sets_without_their_package_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"needs datasets: pip install 'scansearch\[hf\]'"):
        load_data("timm:hfds/mnist", image_size=8)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:wds/imagenet", "is a stream"),
        ("timm:tfds/mnist", "is a stream"),
        ("timm:torch/mnist", "needs a folder"),
        ("timm:torch/nonsense@/tmp", "cannot be read"),
        ("timm:/does/not/exist.tar", "neither a .tar file"),
    ],
)
def test_timm_specifications_that_cannot_be_used_are_one_clear_line(spec, message):
    with pytest.raises(InputError, match=message) as found:
        load_data(spec, image_size=8)
    assert "\n" not in str(found.value)


def test_a_file_that_is_no_tar_is_refused(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"not a tar")
    with pytest.raises(InputError, match="cannot be read as an uncompressed tar file"):
        load_data(f"timm:{tmp_path / 'x.tar'}", image_size=8)
