"""Pictures with objects: drawn or in COCO's form, changed together, and told by their file where they are faulty."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.detections import coco_file, coco_folder

from scansearch.data import training_batches
from scansearch.data.augment import PRESETS, Augment
from scansearch.data.instances.run_lengths import decode_mask, encode_mask, plain_lengths
from scansearch.data.instances.sources import READERS, load_objects
from scansearch.data.instances.targets import ObjectBatch, boxes_around
from scansearch.data.masks.sources import load_masks
from scansearch.data.specifications import BOXED, absolute, without_folders
from scansearch.errors import InputError, MissingExtra

PARTS = ("train", "validation", "test")
SPECIFICATIONS: dict[str, Callable[[Path], str]] = {
    "shapes": lambda folder: "shapes:20x14:12",
    "coco": lambda folder: f"coco:{coco_folder(folder, {'train': 12, 'val': 3})}",
}


@pytest.fixture(params=list(READERS))
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    assert request.param in SPECIFICATIONS, "a new reader needs a specification in this file"
    assert request.param in BOXED
    return SPECIFICATIONS[request.param](tmp_path)


# --- every reader ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_images_and_objects_are_of_the_size_and_type_that_is_promised(spec: str, channels: int) -> None:
    for size in ((16, 16), (12, 21)):
        data = load_objects(spec, image_size=size, channels=channels)
        for part in PARTS:
            for index in {0, data.split(part).count - 1}:
                image, objects = data.split(part).read(index)
                assert image.shape == (channels, *size)
                assert image.dtype == torch.float32
                assert type(image) is torch.Tensor
                count = len(objects.labels)
                assert objects.boxes.shape == (count, 4)
                assert objects.masks.shape == (count, *size)
                assert objects.masks.dtype == torch.uint8
                assert set(objects.labels.tolist()) <= set(range(len(data.classes)))
                height, width = objects.content
                assert objects.masks[:, height:].sum() == objects.masks[:, :, width:].sum() == 0
                assert torch.equal(objects.boxes, boxes_around(objects.masks))
                assert bool(objects.truth) == (part != "train" and bool(count))
                for one in objects.truth:
                    assert decode_mask(one["segmentation"], *objects.size).any()


def test_batches_are_the_same_whatever_the_workers_and_where_they_start(spec: str) -> None:
    data = load_objects(spec, image_size=(12, 16))
    assert data.digest == load_objects(spec, image_size=(12, 16)).digest
    whole = list(training_batches(data.train, 4, seed=1, epoch=2))
    rest = list(training_batches(data.train, 4, seed=1, epoch=2, start=1, workers=1))
    assert len(rest) == len(whole) - 1
    for (image, objects), (again, same) in zip(whole[1:], rest, strict=True):
        assert torch.equal(image, again)
        for one, other in zip(objects, same, strict=True):
            assert one.identity == other.identity
            assert torch.equal(one.masks, other.masks)
            assert torch.equal(one.boxes, other.boxes)


def test_data_can_be_pickled(spec: str) -> None:
    data = load_objects(spec, image_size=16)
    again = pickle.loads(pickle.dumps(data.validation)).read(0)[1]
    assert again.truth == data.validation.read(0)[1].truth


def test_drawn_objects_are_the_masks_of_segmentation() -> None:
    masks, objects = (load("shapes:24x20:8", image_size=(24, 20)) for load in (load_masks, load_objects))
    assert objects.classes == masks.classes[1:]
    for index in range(8):
        (image, mask), (same, found) = (data.test.read(index) for data in (masks, objects))
        assert torch.equal(image, same)
        painted = torch.zeros_like(mask)
        for label, pixels in zip(found.labels, found.masks, strict=True):
            assert not painted[pixels > 0].any()
            painted[pixels > 0] = label + 1
        assert torch.equal(painted, mask)


def test_objects_of_which_a_crop_leaves_nothing_are_left_out() -> None:
    data = load_objects("shapes:40x40:8", image_size=16, augment=Augment(scale=(0.05, 0.1)))
    whole = load_objects("shapes:40x40:8", image_size=16, augment=PRESETS["none"])
    counts = []
    for index in range(8):
        torch.manual_seed(index)
        objects = data.train.read(index)[1]
        assert (objects.masks.flatten(1).sum(1) > 0).all()
        assert len(objects.masks) == len(objects.labels) == len(objects.boxes)
        counts.append((len(objects.labels), len(whole.train.read(index)[1].labels)))
    assert all(few <= many for few, many in counts)
    assert sum(few for few, _ in counts) < sum(many for _, many in counts) / 2


def test_a_batch_is_cut_as_tensors_are() -> None:
    images = [load_objects("shapes:16x16:8", image_size=16).test.read(i)[1] for i in range(5)]
    batch = ObjectBatch(images)
    for count in (1, 2, 3, 5):
        sizes = [len(part) for part in batch.chunk(count)]
        assert sizes == [len(part) for part in torch.arange(5).chunk(count)]
    assert batch[3] is images[3]


def test_boxes_touch_the_outer_edges_of_masks() -> None:
    mask = torch.zeros(2, 6, 9, dtype=torch.uint8)
    mask[0, 2:5, 3:4] = 1
    mask[1, 0, 0] = mask[1, 5, 8] = 1
    assert boxes_around(mask).tolist() == [[3, 2, 4, 5], [0, 0, 9, 6]]
    assert boxes_around(mask[:0]).shape == (0, 4)


def test_run_lengths_come_back_as_they_were() -> None:
    mask = (np.random.default_rng(0).random((7, 5)) < 0.4).astype(np.uint8)
    lengths, box, area = encode_mask(mask)
    assert np.array_equal(decode_mask(json.loads(json.dumps(lengths)), 7, 5), mask)
    assert area == mask.sum()
    runs = plain_lengths(lengths["counts"])
    pixels = np.repeat(np.arange(len(runs)) % 2, runs)
    assert np.array_equal(pixels.reshape(5, 7).T, mask)
    (x1, y1, x2, y2) = boxes_around(torch.from_numpy(mask)[None])[0].tolist()
    assert box == [x1, y1, x2 - x1, y2 - y1]


# --- files of COCO's form -------------------------------------------------------------------------------


def test_polygons_run_lengths_and_crowds_are_read_as_pycocotools_reads_them(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    root = coco_folder(tmp_path, {"train": 12, "val": 4})
    data = load_objects(f"coco:{root}", image_size=(20, 30))
    assert data.classes == ("bar", "cat")  # by their numbers, 3 and 7
    assert (data.train.count, data.validation.count, data.test.count) == (11, 1, 4)
    assert "there is no test set, so the validation pictures are it" in data.notes
    known = COCO(str(root / "annotations" / "instances_val2017.json"))
    for index in range(4):
        objects = data.test.read(index)[1]
        annotations = [known.anns[number] for number in known.getAnnIds(imgIds=objects.identity)]
        assert len(objects.truth) == len(annotations)
        plain = [one for one in annotations if not one["iscrowd"]]
        assert [objects.categories[label] for label in objects.labels] == [
            one["category_id"] for one in plain
        ]
        for mask, one in zip(objects.masks.numpy(), plain, strict=True):
            assert np.array_equal(mask, known.annToMask(one))
    assert sum(one["iscrowd"] for index in range(4) for one in data.test.read(index)[1].truth) == 1


def test_the_simple_layout_has_its_own_test_set(tmp_path: Path) -> None:
    root = coco_folder(tmp_path, {"train": 5, "val": 2, "test": 3}, simple=True)
    data = load_objects(f"coco:{root}", image_size=16)
    assert (data.train.count, data.validation.count, data.test.count) == (5, 2, 3)
    (root / "train.json").rename(root / "train" / "_annotations.coco.json")
    assert load_objects(f"coco:{root}", image_size=16).train.count == 5


def test_paths_of_coco_are_kept_as_those_of_other_folders() -> None:
    assert absolute("coco:data").startswith("coco:/")
    assert without_folders("coco:/home/somebody/coco") == "coco:coco"


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A fault in the training annotations."""

    def fault(root: Path) -> None:
        file = root / "train.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return fault


def first(part: str, /, **values: Any) -> Callable[[Path], None]:
    return changed(lambda content: content[part][0].update(values))


FAULTS = {
    "no JSON": (lambda root: (root / "train.json").write_text("{"), r"train\.json: no JSON file"),
    "a list": (lambda root: (root / "train.json").write_text("[]"), r"train\.json: expected images"),
    "no lists": (changed(lambda content: content.pop("images")), r"train\.json: images is missing"),
    "a missing picture": (lambda root: (root / "train" / "000000000002.jpg").unlink(), "000000000002.jpg"),
    "another size": (
        lambda root: Image.new("RGB", (8, 9)).save(root / "train" / "000000000002.jpg"),
        r"000000000002\.jpg' is 8 x 9 pixels, its annotations say 30 x 20",
    ),
    "a path outside": (first("images", file_name="../secret.jpg"), r"'\.\./secret\.jpg' leads out of"),
    "a whole path": (first("images", file_name="/etc/passwd"), r"'/etc/passwd' leads out of"),
    "an unknown category": (first("annotations", category_id=9), r"annotation 1: category_id 9 is no"),
    "a category of another kind": (first("annotations", category_id=[3]), r"category_id \[3\] is no"),
    "an unknown image": (first("annotations", image_id=99), r"annotation 1: image_id 99 is no image"),
    "a negative side": (first("annotations", bbox=[1, 1, -2, 3]), "annotation 1: bbox .* negative side"),
    "a box elsewhere": (first("annotations", bbox=[99, 1, 2, 3]), "lies outside of its picture"),
    "a box of three numbers": (first("annotations", bbox=[1, 2, 3]), r"is not \[left, top"),
    "not a number": (first("annotations", bbox=[1, 2, 3, float("nan")]), r"is not \[left, top"),
    "half a corner": (first("annotations", segmentation=[[1, 2, 3, 4, 5]]), "a polygon needs x and y"),
    "a far polygon": (first("annotations", segmentation=[[1e9, 2, 3, 4, 5, 6]]), "near its picture"),
    "no mask": (first("annotations", segmentation=None), "annotation 1: segmentation is neither"),
    "short run lengths": (
        first("annotations", segmentation={"size": [20, 30], "counts": [1, 2]}),
        "do not add up",
    ),
    "damaged run lengths": (
        first("annotations", segmentation={"size": [20, 30], "counts": "z~"}),
        "run lengths cannot be read",
    ),
    "run lengths that stop": (
        first("annotations", segmentation={"size": [20, 30], "counts": "0P"}),
        "end in the middle",
    ),
    "two images of one number": (
        changed(lambda content: content["images"].append(content["images"][0])),
        "image 1 stands there twice",
    ),
    "two categories of one name": (first("categories", name="bar"), r"category 3 \(bar\) stands there twice"),
    "other categories": (first("categories", name="dog"), "has other categories than"),
    "no objects": (changed(lambda content: content["annotations"].clear()), "no object on the 5 pictures"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_that_names_the_file(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    root = coco_folder(tmp_path, {"train": 5, "val": 2, "test": 3}, simple=True)
    change(root)
    with pytest.raises(InputError, match=message) as error:
        load_objects(f"coco:{root}", image_size=16)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values", [{"bbox": [3, 4, 0, 5]}, {"segmentation": [[1.0, 2.0, 3.0, 4.0]]}, {"segmentation": []}]
)
def test_objects_of_no_area_are_left_out_and_told(values: dict[str, Any], tmp_path: Path) -> None:
    root = coco_folder(tmp_path, {"train": 5, "val": 2, "test": 3}, simple=True)
    options: dict[str, Any] = {"image_size": 16, "augment": PRESETS["none"]}
    before = load_objects(f"coco:{root}", **options).train.read(0)[1]
    first("annotations", **values)(root)
    data = load_objects(f"coco:{root}", **options)
    assert len(data.train.read(0)[1].labels) == len(before.labels) - 1
    (note,) = [note for note in data.notes if "of no area" in note]
    assert note == f"{root / 'train.json'}: left out 1 object of no area, the first annotation 1"


def test_folders_without_annotations_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_objects(f"coco:{tmp_path / 'none'}", image_size=16)
    with pytest.raises(InputError, match="coco:PATH needs one of them"):
        load_objects(f"coco:{tmp_path}", image_size=16)
    (tmp_path / "train.json").write_text(json.dumps(coco_file(3)))
    with pytest.raises(InputError, match=r"picture folder .*train' does not exist"):
        load_objects(f"coco:{tmp_path}", image_size=16)


def test_without_pycocotools_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(MissingExtra, match=r"detection needs pycocotools: pip install 'scansearch\[dense\]'"):
        encode_mask(np.ones((2, 2), dtype=np.uint8))
