"""Folders as people have them: what is read, what is passed over and told, and what is refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.folders import counts, load, noted, picture, refused
from support.pictures import made_images

from scansearch.data.layouts import arrange, check_classes, unwrap
from scansearch.data.names import part_called
from scansearch.data.trees import Tree
from scansearch.errors import InputError

# --- the order of classes ---

AMBIGUOUS = ["A", "a", "B", "b", "1", "01", "10", "2", "img2", "img10", "IMG2"]
ORDER = ["01", "1", "2", "10", "A", "a", "B", "b", "IMG2", "img2", "img10"]


def test_the_order_of_classes_does_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    made_images(tmp_path / "folder", AMBIGUOUS, 3)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(tmp_path / "folder", arcname=".")
    program = (
        "from scansearch.data import load_data\n"
        f"for spec in ('folder:{tmp_path / 'folder'}', 'timm:{tmp_path / 'all.tar'}'):\n"
        "    data = load_data(spec, image_size=8)\n"
        "    print(data.classes, [data.test.read(i)[1] for i in range(data.test.count)], data.digest)\n"
    )
    told = set()
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        assert done.returncode == 0, done.stderr
        told.add(done.stdout)
    assert len(told) == 1
    assert load(tmp_path / "folder").classes == tuple(ORDER)


def test_classes_that_differ_only_by_case_are_told(tmp_path: Path) -> None:
    made_images(tmp_path, ["cat", "Cat", "dog"], 3)
    noted(load(tmp_path), "'Cat', 'cat' differ only by case")


# --- splits ---


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("train", "valid", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "Val", "Test"),
    ],
    ids=str,
)
def test_splits_are_read_by_any_of_their_names(names: tuple[str, str, str], tmp_path: Path) -> None:
    for name, each in zip(names, (4, 2, 3), strict=True):
        made_images(tmp_path / name, ["cat", "dog"], each)
    data = load(tmp_path)
    assert counts(data) == (8, 4, 6)
    assert data.classes == ("cat", "dog")


def test_another_name_of_a_split_is_told(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        made_images(tmp_path / name, ["cat", "dog"], 3)
    noted(load(tmp_path), "valid/ is read as validation")


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        made_images(tmp_path / name, ["cat", "dog"], 3)
    refused(tmp_path, "two folders for validation", "'val', 'valid'")


def test_train_alone_is_split_like_classes_alone(tmp_path: Path) -> None:
    made_images(tmp_path / "nested" / "train", ["cat", "dog"], 20)
    data = load(tmp_path / "nested")
    assert counts(data) == (32, 4, 4)
    noted(data, "held out for test and for validation")
    made_images(tmp_path / "flat", ["cat", "dog"], 20)
    assert counts(load(tmp_path / "flat")) == counts(data)


def test_a_test_set_alone_is_scored_and_not_trained_on(tmp_path: Path) -> None:
    made_images(tmp_path / "test", ["cat", "dog"], 3)
    refused(tmp_path, "'test' alone", "scored, not trained on")
    data = load(tmp_path, scoring=True)
    assert counts(data) == (0, 6, 6)
    assert [data.test.read(i)[1] for i in range(6)] == [0, 0, 0, 1, 1, 1]


def test_scoring_takes_every_picture_of_classes_alone(tmp_path: Path) -> None:
    made_images(tmp_path, ["cat", "dog", "eel"], 20)
    assert counts(load(tmp_path)) == (48, 6, 6)
    assert counts(load(tmp_path, scoring=True)) == (0, 60, 60)
    noted(load(tmp_path, scoring=True), "all 60 pictures are scored")


def test_classes_that_a_split_lacks_are_told_or_refused(tmp_path: Path) -> None:
    made_images(tmp_path / "train", ["cat", "dog", "eel"], 5)
    made_images(tmp_path / "val", ["cat", "dog"], 2)
    made_images(tmp_path / "test", ["cat", "dog", "eel"], 2)
    noted(load(tmp_path), "validation has no pictures of class 'eel'")
    made_images(tmp_path / "test", ["Cat", "fox"], 2)
    refused(tmp_path, "classes 'Cat', 'fox' for test", "lack (they have 'cat')")


def test_an_empty_class_folder_is_called_empty(tmp_path: Path) -> None:
    for part in ("train", "val"):
        made_images(tmp_path / part, ["cat", "dog"], 4)
    for part in ("train", "val"):
        (tmp_path / part / "eel").mkdir()
        refused(tmp_path, f"{part}/eel' is empty")
        (tmp_path / part / "eel").rmdir()
    made_images(tmp_path / "flat", ["cat", "dog"], 4)
    (tmp_path / "flat" / "eel").mkdir()
    refused(tmp_path / "flat", "flat/eel' is empty")


# --- what belongs to a class ---


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    made_images(tmp_path, ["cat", "dog"], 4)
    made_images(tmp_path / "cat", ["2023", "thumbs"], 4)
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert sum(counts(data)) == 16


@pytest.mark.parametrize("layout", ["flat", "split", "twice"])
def test_one_more_level_is_followed_and_told(layout: str, tmp_path: Path) -> None:
    inner = tmp_path / "data" / "again" if layout == "twice" else tmp_path / "data"
    for part in ("train", "test") if layout == "split" else ("",):
        made_images(inner / part, ["cat", "dog"], 10)
    (tmp_path / "README.md").touch()
    (tmp_path / "__MACOSX").mkdir()
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    noted(data, f"what lies in {inner.relative_to(tmp_path).as_posix()}/ is read")


def test_junk_is_skipped(tmp_path: Path) -> None:
    for part in ("train", "val"):
        made_images(tmp_path / part, ["cat", "dog"], 4)
        for junk in (".ipynb_checkpoints", "__MACOSX", ".hidden"):
            made_images(tmp_path / part, [junk], 2)
            made_images(tmp_path / part / "cat", [junk], 2)
        for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png"):
            (tmp_path / part / "cat" / name).write_bytes(b"junk")
            (tmp_path / part / name).write_bytes(b"junk")
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert counts(data) == (6, 2, 8)
    assert not any("junk" in note or "passed over" in note for note in data.notes)


def test_a_picture_beside_the_class_folders_is_no_class(tmp_path: Path) -> None:
    made_images(tmp_path / "train", ["cat", "dog"], 10)
    picture(tmp_path / "train" / "cover.png")
    picture(tmp_path / "logo.png")
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert sum(counts(data)) == 20
    noted(data, "passed over 1 picture directly under train/")
    noted(data, "passed over 1 picture beside the folders of the splits")


def test_extensions_are_read_in_upper_and_lower_case(tmp_path: Path) -> None:
    names = ["a.PNG", "b.jpg", "c.JPEG", "d.bmp", "e.Gif", "f.webp", "g.tif", "h.TIFF", "i.ppm"]
    for label in ("cat", "dog"):
        for name in names:
            picture(tmp_path / label / name)
    (tmp_path / "cat" / "notes.txt").touch()
    (tmp_path / "dog" / "boxes.xml").touch()
    data = load(tmp_path)
    assert sum(counts(data)) == 2 * len(names)
    noted(data, "passed over 2 files that are no pictures (.txt, .xml)")
    for split in (data.train, data.validation, data.test):
        assert all(split.read(index)[0].isfinite().all() for index in range(split.count))


def test_folders_of_other_things_beside_classes_are_told(tmp_path: Path) -> None:
    made_images(tmp_path, ["cat", "dog"], 4)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "0.xml").touch()
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    noted(data, "passed over folder 'annotations'", ".xml")


@pytest.mark.parametrize("folders", [["images"], ["images", "annotations"], ["train", "test"]], ids=str)
def test_one_class_or_none_says_what_is_read(folders: list[str], tmp_path: Path) -> None:
    made_images(tmp_path, [name for name in folders if name != "annotations"], 4)
    if "annotations" in folders:
        (tmp_path / "annotations").mkdir()
        (tmp_path / "annotations" / "0.xml").touch()
    refused(tmp_path, "one folder a class", "labels.csv")


def test_pictures_without_any_folder_say_what_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    refused(tmp_path, "holds no images in class folders", "1 picture lie", "labels.csv")


def test_a_test_set_without_labels_is_told(tmp_path: Path) -> None:
    made_images(tmp_path / "train", ["cat", "dog"], 10)
    picture(tmp_path / "test" / "0.png")
    data = load(tmp_path)
    assert counts(data) == (16, 2, 2)
    noted(data, "passed over folder 'test' with 1 picture: they lie in no class folders")


# --- links ---


def test_links_are_followed(tmp_path: Path) -> None:
    made_images(tmp_path / "store", ["x", "y"], 6)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "store" / "x")
    (tmp_path / "data" / "dog").mkdir()
    for file in (tmp_path / "store" / "y").iterdir():
        (tmp_path / "data" / "dog" / file.name).symlink_to(file)
    data = load(tmp_path / "data")
    assert data.classes == ("cat", "dog")
    assert sum(counts(data)) == 12
    assert data.train.read(0)[0].isfinite().all()


@pytest.mark.parametrize("target", [".", "..", "../..", "../../.."])
def test_loops_show_no_picture_twice(target: str, tmp_path: Path) -> None:
    made_images(tmp_path / "data" / "train", ["cat", "dog"], 10)
    (tmp_path / "data" / "train" / "cat" / "loop").symlink_to(target)
    data = load(tmp_path / "data")
    assert sum(counts(data)) == 20
    noted(data, "'train/cat/loop': a link to a folder above it")


def test_a_folder_that_is_linked_twice_in_a_class_counts_once(tmp_path: Path) -> None:
    made_images(tmp_path, ["cat", "dog"], 5)
    made_images(tmp_path / "cat", ["2023"], 5)
    (tmp_path / "cat" / "latest").symlink_to("2023")
    data = load(tmp_path)
    assert sum(counts(data)) == 15
    noted(data, "5 pictures that links show a second time")


def test_a_folder_of_one_class_in_another_is_refused(tmp_path: Path) -> None:
    made_images(tmp_path, ["cat", "dog"], 5)
    (tmp_path / "cat" / "more").symlink_to("../dog")
    refused(tmp_path, "one and the same")


def test_a_split_that_is_a_link_to_another_is_told(tmp_path: Path) -> None:
    made_images(tmp_path / "train", ["cat", "dog"], 5)
    made_images(tmp_path / "test", ["cat", "dog"], 5)
    (tmp_path / "val").symlink_to("test")
    noted(load(tmp_path), "share pictures, by a link")


# --- any tree at all ---

NAMES = st.sampled_from(["train", "Val", "test", "valid", "cat", "Cat", "dog", "images", "1", "01"])
FILES = st.sampled_from(["a.png", "b.JPG", "c.txt", "0.png", "x.tiff", "noextension"])
PATHS = st.tuples(st.lists(NAMES, max_size=4), FILES).map(lambda pair: (*pair[0], pair[1]))


@given(
    paths=st.sets(PATHS, max_size=25),
    empty=st.sets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=2),
)
@settings(max_examples=300, deadline=None)
def test_any_tree_is_read_or_refused_in_one_line(paths: set, empty: set) -> None:
    folders = {path[:depth] for path in paths for depth in range(1, len(path))}
    folders |= {path[:depth] for path in empty for depth in range(1, len(path) + 1)}
    tree = Tree("root", tuple(sorted(paths)), frozenset(folders))
    inner, layout, refusal = (), None, ""
    try:
        inner = unwrap(tree)
        layout = arrange(tree.below(inner)).within(inner)
        check_classes(layout)
    except InputError as error:
        layout, refusal = None, str(error)
    assert (layout is None) == bool(refusal)
    assert refusal.isprintable()
    if layout is None:
        return
    taken = [path for classes in layout.parts.values() for found in classes.values() for path in found]
    assert len(taken) == len(set(taken))
    assert set(taken) <= {path for path in paths if path[-1] not in ("c.txt", "noextension")}
    for part, classes in layout.parts.items():
        for name, found in classes.items():
            assert found
            for path in found:
                split, label = (
                    path[len(inner) : len(inner) + 2] if layout.divided else ("train", path[len(inner)])
                )
                assert (part_called(split), label) == (part, name)
