"""Pictures with masks: drawn or from folders, changed together, and told by their file where they are faulty."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.segmentations import masked_folder

from scansearch.data import ImageData, evaluation_batches, training_batches
from scansearch.data.augment import PRESETS, Augment
from scansearch.data.masks.shapes import CLASSES, draw, draw_plain
from scansearch.data.masks.sources import READERS, load_masks
from scansearch.data.masks.transform import IGNORED, MaskTransform
from scansearch.data.specifications import MASKED, absolute, without_folders
from scansearch.errors import InputError

PARTS = ("train", "validation", "test")


def random_masks(
    names: list[str], largest: int = 2, size: tuple[int, int] = (9, 13)
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.integers(0, largest + 1, size, dtype=np.uint8) for name in names}


def _masks(folder: Path) -> str:
    return f"masks:{masked_folder(folder, random_masks([f'{i}' for i in range(20)]))}"


def _ade(folder: Path) -> str:
    names = [f"training/ADE_train_{i}" for i in range(20)] + [f"validation/ADE_val_{i}" for i in range(4)]
    return f"ade:{masked_folder(folder, random_masks(names, 150), inside=('images', 'annotations'))}"


SPECIFICATIONS = {"shapes": lambda folder: "shapes:20x14:12", "masks": _masks, "ade": _ade}


@pytest.fixture(params=list(READERS))
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    assert request.param in SPECIFICATIONS, "a new reader needs a specification in this file"
    assert request.param in MASKED
    return SPECIFICATIONS[request.param](tmp_path)


def read(data: ImageData, part: str, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    random.seed(index)
    np.random.seed(index)
    torch.manual_seed(index)
    return data.split(part).read(index)


# --- every reader ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_and_masks_are_of_the_size_and_type_that_is_promised(spec: str, channels: int) -> None:
    for size in ((16, 16), (12, 21)):
        data = load_masks(spec, image_size=size, channels=channels)
        assert data.image_size == size
        assert data.spec == spec
        for part in PARTS:
            for index in {0, data.split(part).count - 1}:
                image, mask = data.split(part).read(index)
                assert image.shape == (channels, *size)
                assert image.dtype == torch.float32
                assert type(image) is type(mask) is torch.Tensor
                assert image.isfinite().all()
                assert mask.shape == size
                assert mask.dtype == torch.uint8
                assert set(mask.unique().tolist()) <= {*range(len(data.classes)), IGNORED}


def test_loading_twice_gives_the_same_and_only_training_images_are_random(spec: str) -> None:
    first, second = load_masks(spec, image_size=16), load_masks(spec, image_size=16)
    assert first.digest == second.digest
    assert [first.split(part).augments for part in PARTS] == [True, False, False]
    for part in PARTS:
        for image, again in zip(read(first, part, 1), read(second, part, 1), strict=True):
            assert torch.equal(image, again)
    for image, again in zip(first.test.read(0), first.test.read(0), strict=True):
        assert torch.equal(image, again)
    assert not torch.equal(first.train.read(0)[0], first.train.read(0)[0])


def test_batches_are_the_same_whatever_the_workers_and_where_they_start(spec: str) -> None:
    data = load_masks(spec, image_size=(12, 16))
    whole = list(training_batches(data.train, 4, seed=1, epoch=2))
    rest = list(training_batches(data.train, 4, seed=1, epoch=2, start=1, workers=1))
    for (image, mask), (again, same) in zip(whole[1:], rest, strict=True):
        assert mask.shape == (4, 12, 16)
        assert mask.dtype == torch.uint8
        assert torch.equal(image, again)
        assert torch.equal(mask, same)


def test_data_can_be_pickled(spec: str) -> None:
    data = load_masks(spec, image_size=16)
    again = pickle.loads(pickle.dumps(data.validation))
    assert torch.equal(again.read(0)[1], data.validation.read(0)[1])


# --- picture and mask move together ---------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "random"])
def test_a_pixel_keeps_its_class_through_crops_and_mirrors(interpolation: str) -> None:
    """The picture is as bright as its mask says, so after any change it must still be so, but for soft edges."""
    mask = np.zeros((40, 50), dtype=np.uint8)
    mask[8:30, 5:20], mask[20:38, 30:48] = 1, 2
    picture = Image.fromarray(mask * 100)
    augment = Augment(scale=(0.2, 1.0), flip=0.5, interpolation=interpolation)
    for augments in (True, False):
        transform = MaskTransform(augment, (33, 47), 1, augments=augments)
        plain = MaskTransform(augment, (40, 50), 1, augments=False)
        levels = [
            float(plain(Image.fromarray(np.full((40, 50), 100 * k, np.uint8)), mask)[0][0, 0, 0])
            for k in range(3)
        ]
        shares = []
        for seed in range(12):
            torch.manual_seed(seed)
            random.seed(seed)
            image, target = transform(picture, mask)
            known = target != IGNORED
            expected = torch.tensor(levels)[target[known].long()]
            shares.append(float(((image[0][known] - expected).abs() < 0.3).float().mean()))
        assert min(shares) > 0.85, shares
        assert len(set(shares)) > 3 or not augments


def test_whole_pictures_are_fitted_and_what_is_added_is_ignored() -> None:
    transform = MaskTransform(Augment(crop=1.0), (20, 20), 3, augments=False)
    image, mask = transform(Image.new("RGB", (40, 20), (255, 0, 0)), np.ones((20, 40), dtype=np.uint8))
    assert (mask[:10] == 1).all()
    assert (mask[10:] == IGNORED).all()
    assert (image[:, 10:] == 0).all()
    assert (image[0, :10] > 2).all()
    image, mask = transform(Image.new("RGB", (1, 90)), np.ones((90, 1), dtype=np.uint8))
    assert (mask[:, 0] == 1).all()
    assert (mask[:, 1:] == IGNORED).all()


def test_without_random_changes_training_pictures_are_whole_too() -> None:
    data = load_masks("shapes:16x16:8", image_size=16, augment=PRESETS["none"])
    assert not data.train.augments
    assert torch.equal(data.train.read(0)[1], torch.from_numpy(draw(0, 0, 16, 16).mask))


@pytest.mark.parametrize(
    ("augment", "channels", "message"),
    [
        ({"policy": "rand-m9"}, 3, "augment.policy 'rand-m9' moves pixels but no masks"),
        ({"crop": 0.5}, 3, "pictures with masks are scored whole"),
        ({"color_jitter": 0.4}, 1, "needs images of 3 channels"),
        ({}, 2, "images of 2 channels cannot be read"),
    ],
)
def test_what_masks_do_not_have_is_refused(augment, channels: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_masks("shapes:16x16:8", image_size=16, augment=Augment(**augment), channels=channels)


# --- drawn shapes ---------------------------------------------------------------------------------------


def test_shapes_are_drawn_from_split_and_index_and_show_all_classes() -> None:
    first, again, other = draw(0, 5, 24, 31), draw(0, 5, 24, 31), draw(1, 5, 24, 31)
    assert np.array_equal(first.picture, again.picture)
    assert not np.array_equal(first.picture, other.picture)
    assert first.picture.shape == (24, 31, 3)
    counts = np.bincount(np.concatenate([draw(0, i, 32, 32).mask.ravel() for i in range(60)]), minlength=4)
    assert len(counts) == len(CLASSES)
    shares = counts / counts.sum()
    assert shares.min() > 0.05
    assert 0.5 < shares[0] < 0.85


def test_every_shape_has_about_the_area_of_its_disc_and_covers_what_lies_below() -> None:
    for index in range(40):
        drawing = draw(2, index, 48, 48)
        rebuilt = np.zeros((48, 48), dtype=int)
        for _, pixels in drawing.shapes:
            assert pixels.any()
            rebuilt += pixels
        assert rebuilt.max() <= 1
        assert np.array_equal(rebuilt > 0, drawing.mask > 0)


def test_plain_shapes_are_whole_apart_and_brighter_than_what_is_behind() -> None:
    counts = np.zeros(len(CLASSES), dtype=int)
    for index in range(40):
        drawing = draw_plain(1, index, 40, 52)
        assert np.array_equal(drawing.picture, draw_plain(1, index, 40, 52).picture)
        grey = drawing.picture.mean(2)
        for label, pixels in drawing.shapes:
            counts[label] += 1
            assert not np.concatenate([pixels[[0, -1]].ravel(), pixels[:, [0, -1]].ravel()]).any()
            assert grey[pixels].mean() > 2 * grey[drawing.mask == 0].mean()
            ring = np.zeros_like(pixels)
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                ring |= np.roll(pixels, (down, right), (0, 1))
            assert not (ring & ~pixels & (drawing.mask > 0)).any()
    assert counts[1:].min() > 10
    masks = load_masks("shapes:16x16:8:plain", image_size=16)
    assert torch.equal(masks.validation.read(3)[1], torch.from_numpy(draw_plain(1, 3, 16, 16).mask))


@pytest.mark.parametrize(
    "argument",
    ["", "20x20", "20:4", "7x20:4", "20x20:0", "9999x20:4", "20x20:4:1", "20x20:4:plainer", "axb:c"],
)
def test_a_wrong_size_of_shapes_is_one_line(argument: str) -> None:
    with pytest.raises(InputError, match=r"shapes:HEIGHTxWIDTH:COUNT|has no masks"):
        load_masks(f"shapes:{argument}", image_size=16)


# --- folders --------------------------------------------------------------------------------------------


def test_a_folder_without_splits_is_split_and_classes_are_counted(tmp_path: Path) -> None:
    data = load_masks(_masks(tmp_path), image_size=(9, 13), augment=PRESETS["none"])
    assert [data.split(part).count for part in PARTS] == [16, 2, 2]
    assert data.classes == ("0", "1", "2")
    assert any("no classes.txt" in note for note in data.notes)
    seen = [batch[1] for part in PARTS for batch in evaluation_batches(data.split(part), 4)]
    expected = np.stack(list(random_masks([f"{i}" for i in range(20)]).values()))
    found = torch.cat(seen).numpy()
    assert sorted(map(bytes, found)) == sorted(map(bytes, expected)), "every mask once, as it is on disk"


def test_splits_classes_and_ignored_values_are_those_of_the_folder(tmp_path: Path) -> None:
    names = [f"train/a{i}" for i in range(4)] + ["val/x", "val/deep/y", "test/z"]
    masks = random_masks(names)
    masks["train/a0"][:] = IGNORED
    root = masked_folder(tmp_path, masks)
    (root / "classes.txt").write_text("sky\nsea\nship\nbird\n\n")
    data = load_masks(f"masks:{root}", image_size=(9, 13), augment=PRESETS["none"])
    assert data.classes == ("sky", "sea", "ship", "bird")  # no pixel is a bird
    assert [data.split(part).count for part in PARTS] == [4, 2, 1]
    assert (data.train.read(0)[1] == IGNORED).all()
    scored = load_masks(f"masks:{root}", image_size=16, scoring=True)
    assert (scored.train.count, scored.test.count) == (0, 1)


def test_ade_is_read_as_it_is_distributed(tmp_path: Path) -> None:
    spec = _ade(tmp_path)
    mask = np.arange(117, dtype=np.uint8).reshape(9, 13)
    Image.fromarray(mask).save(tmp_path / "annotations/validation/ADE_val_0.png")
    rows = [f"{i}\t0.1\t1\t1\t{'wall' if i < 3 else f'thing {i}'}, other name" for i in range(1, 151)]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]))
    data = load_masks(spec, image_size=(9, 13))
    assert len(data.classes) == 150
    assert data.classes[:3] == ("wall (1)", "wall (2)", "thing 3")
    assert [data.split(part).count for part in PARTS] == [18, 2, 4], "validation is the test set"
    expected = torch.from_numpy(mask) - 1  # 0 becomes 255
    assert torch.equal(data.test.read(0)[1], expected)
    assert expected[0, 0] == IGNORED
    scored = load_masks(spec, image_size=16, scoring=True)
    assert scored.test.count == 4


def test_pictures_that_a_camera_turned_fit_their_upright_masks(tmp_path: Path) -> None:
    root = masked_folder(tmp_path, random_masks([f"{i}" for i in range(4)]))
    turned = Image.fromarray(np.zeros((13, 9, 3), dtype=np.uint8))
    turned.save(root / "images" / "0.jpg", exif=_turned())
    data = load_masks(f"masks:{root}", image_size=16)
    for part in PARTS:
        for index in range(data.split(part).count):
            data.split(part).read(index)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _missing(root: Path) -> None:
    (root / "masks" / "3.png").unlink()


def _size(root: Path) -> None:
    Image.fromarray(np.zeros((9, 12), dtype=np.uint8)).save(root / "masks" / "3.png")


def _label(root: Path) -> None:
    (root / "classes.txt").write_text("a\nb\n")


def _colours(root: Path) -> None:
    Image.fromarray(np.zeros((9, 13, 3), dtype=np.uint8)).save(root / "masks" / "3.png")


def _wide(root: Path) -> None:
    Image.fromarray(np.full((9, 13), 300, dtype=np.uint16)).save(root / "masks" / "3.png")


def _damaged(root: Path) -> None:
    file = root / "masks" / "3.png"
    file.write_bytes(file.read_bytes()[:60])


def _jpeg(root: Path) -> None:
    (root / "masks" / "3.png").rename(root / "masks" / "3.jpg")


def _twins(root: Path) -> None:
    Image.new("RGB", (13, 9)).save(root / "images" / "3.png")


def _half_split(root: Path) -> None:
    for kind, ending in (("images", "jpg"), ("masks", "png")):
        (root / kind / "train").mkdir()
        (root / kind / f"3.{ending}").rename(root / kind / "train" / f"3.{ending}")


def _empty(root: Path) -> None:
    for file in (root / "images").iterdir():
        file.unlink()


def _no_masks(root: Path) -> None:
    (root / "masks").rename(root / "labels")


def _repeated(root: Path) -> None:
    (root / "classes.txt").write_text("a\na\nb\n")


def _one_class(root: Path) -> None:
    for file in (root / "masks").iterdir():
        Image.fromarray(np.zeros((9, 13), dtype=np.uint8)).save(file)


FAULTS = {
    _missing: r"1 picture of .*images' without a mask of that name in masks/: '3.jpg'",
    _size: r"mask '.*masks/3.png' is 12 x 9 pixels, its picture '.*images/3.jpg' 13 x 9",
    _label: r"mask '.*masks/\d+.png' holds the value 2, but there are 2 classes",
    _colours: r"mask '.*masks/3.png' cannot be read: it holds colours \(RGB\)",
    _wide: r"mask '.*masks/3.png' cannot be read: it holds the value 300, and 255 is the largest",
    _damaged: r"mask '.*masks/3.png' cannot be read: ",
    _jpeg: r"'.*masks/3.jpg' is no PNG file",
    _twins: r"images' holds '3.jpg' and '3.png': which of them is meant\?",
    _half_split: r"is in no folder of a split, but others are",
    _empty: r"images' holds no pictures",
    _no_masks: r"holds no masks/, which masks:PATH needs",
    _repeated: r"classes.txt: class 'a' stands there twice",
    _one_class: r"has one class only, '0'",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_bad_data_are_told_with_their_file_before_anything_starts(fault, tmp_path: Path) -> None:
    root = masked_folder(tmp_path, random_masks([f"{i}" for i in range(6)]))
    fault(root)
    with pytest.raises(InputError, match=FAULTS[fault]) as error:
        load_masks(f"masks:{root}", image_size=16)
    assert "\n" not in str(error.value)


def test_too_few_pictures_and_no_folder_are_one_line(tmp_path: Path) -> None:
    root = masked_folder(tmp_path, random_masks(["a", "b"]))
    with pytest.raises(InputError, match="2 pictures, too few to hold some out"):
        load_masks(f"masks:{root}", image_size=16)
    with pytest.raises(InputError, match="does not exist"):
        load_masks(f"masks:{root}/nowhere", image_size=16)
    with pytest.raises(InputError, match="holds no annotations/"):
        load_masks(f"ade:{root}", image_size=16)
    with pytest.raises(InputError, match="for 'test' alone"):
        load_masks(f"masks:{masked_folder(tmp_path / 'one', random_masks(['test/a']))}", image_size=16)


def test_a_damaged_picture_is_skipped_and_named(tmp_path: Path) -> None:
    root = masked_folder(tmp_path, random_masks([f"{i}" for i in range(12)]))
    for file in (root / "images").iterdir():
        if file.stem in ("1", "7"):
            file.write_bytes(b"no picture")
    data = load_masks(f"masks:{root}", image_size=16)
    batches = [b for part in PARTS for b in evaluation_batches(data.split(part), 3)]
    assert sum(len(images) for images, _ in batches) == 10
    assert sorted(Path(name).name for name in data.broken.names) == ["1.jpg", "7.jpg"]


def test_specifications_travel_without_the_machine_s_folders(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("masks", "ade"):
        assert absolute(f"{kind}:here") == f"{kind}:{tmp_path / 'here'}"
        assert without_folders(f"{kind}:{tmp_path / 'here'}") == f"{kind}:here"
    assert absolute("shapes:8x8:4") == "shapes:8x8:4"
