"""Names of classes, files and folders: any bytes, safe to show, and the same wherever the data is kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.folders import load, noted, refused
from support.pictures import made_images

from scansearch.data import load_data
from scansearch.errors import InputError


def test_names_of_classes_that_are_no_utf8_are_read_as_latin_1(tmp_path: Path) -> None:
    made_images(tmp_path, ["dog"], 3)
    made_images(tmp_path, [os.fsdecode(b"caf\xe9")], 3)
    data = load(tmp_path)
    assert data.classes == ("café", "dog")
    noted(data, "no UTF-8: read as Latin-1, 'café'")
    made_images(tmp_path, ["café"], 3)
    refused(tmp_path, "'café' twice")


def test_names_of_files_may_be_any_bytes(tmp_path: Path) -> None:
    made_images(tmp_path, ["cat", "dog"], 4)
    strange = os.fsdecode(b"\xff\x1b[31m\n.png")
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / strange)
    data = load(tmp_path, scoring=True)
    assert data.test.read(3)[0].isfinite().all()
    (tmp_path / "cat" / strange).write_bytes(b"no picture")
    broken = []
    for index in range(data.test.count):
        try:
            data.test.read(index)
        except InputError as error:
            broken.append(str(error))
    assert len(broken) == 1
    assert broken[0].isprintable()
    assert r"\udcff\x1b[31m\n.png" in broken[0]


def test_notes_hold_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    strange = os.fsdecode(b"\x1b[31m\xff")
    made_images(tmp_path / strange, ["cat", "dog"], 3)
    (tmp_path / strange / "cat" / f"a.{strange}").touch()
    (tmp_path / strange / "cat" / strange).symlink_to(".")
    notes = load(tmp_path).notes
    assert len(notes) >= 4
    assert all(note.isprintable() and note.encode() for note in notes)


def test_a_plain_path_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_images(tmp_path / "pets", ["cat", "dog"], 3)
    monkeypatch.chdir(tmp_path)
    for spec in ("pets", str(tmp_path / "pets"), "folder:pets"):
        assert load_data(spec, image_size=8).classes == ("cat", "dog")


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scansearch.data.specifications import absolute

    (tmp_path / "pets").mkdir()
    (tmp_path / "pets.tar").touch()
    monkeypatch.chdir(tmp_path)
    assert absolute("pets") == absolute("folder:pets") == f"folder:{tmp_path / 'pets'}"
    assert absolute("timm:pets.tar") == f"timm:{tmp_path / 'pets.tar'}"
    assert absolute("timm:torch/mnist@store") == f"timm:torch/mnist@{tmp_path / 'store'}"
    for spec in ("digits", "fake:8x8:2", "timm:hfds/mnist", absolute("folder:pets")):
        assert absolute(spec) == spec


def test_moving_a_folder_keeps_its_digest(tmp_path: Path) -> None:
    made_images(tmp_path / "pets", ["cat", "dog"], 3)
    before = load(tmp_path / "pets").digest
    shutil.move(tmp_path / "pets", tmp_path / "moved")
    assert load(tmp_path / "moved").digest == before
