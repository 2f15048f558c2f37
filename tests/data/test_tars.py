"""Tar files have the layouts of folders, and damaged ones are told in one line."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from support.folders import counts, load
from support.pictures import made_images

from scansearch.data import load_data
from scansearch.errors import InputError


def test_a_tar_file_has_the_layouts_of_folders(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        made_images(tmp_path / "in" / "pets" / part, ["cat", "dog"], 5)
    made_images(tmp_path / "in" / "pets" / "train" / "cat", ["2023", ".hidden"], 5)
    with tarfile.open(tmp_path / "pets.tar", "w") as tar:
        tar.add(tmp_path / "in", arcname=".")
    packed = load_data(f"timm:{tmp_path / 'pets.tar'}", image_size=8)
    plain = load(tmp_path / "in")
    assert counts(packed) == counts(plain) == (13, 2, 10)
    for index in range(plain.test.count):
        (image, label), (expected, same) = packed.test.read(index), plain.test.read(index)
        assert label == same
        assert image.equal(expected)


def test_a_tar_file_of_one_tar_file_a_class_is_read(tmp_path: Path) -> None:
    made_images(tmp_path / "in", ["cat", "dog"], 5)
    (tmp_path / "out").mkdir()
    for name in ("cat", "dog"):
        with tarfile.open(tmp_path / "out" / f"{name}.tar", "w") as tar:
            for file in (tmp_path / "in" / name).iterdir():
                tar.add(file, arcname=file.name)
    with tarfile.open(tmp_path / "pets.tar", "w") as tar:
        tar.add(tmp_path / "out", arcname=".")
    packed = load_data(f"timm:{tmp_path / 'pets.tar'}", image_size=8)
    plain = load(tmp_path / "in")
    assert packed.classes == plain.classes
    assert all(packed.test.read(i)[0].equal(plain.test.read(i)[0]) for i in range(plain.test.count))


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_compressed_and_damaged_tar_files_are_one_line(mode: str, tmp_path: Path) -> None:
    made_images(tmp_path / "in", ["cat", "dog"], 3)
    with tarfile.open(tmp_path / "pets.tar", mode) as tar:  # type: ignore[call-overload]
        tar.add(tmp_path / "in", arcname=".")
    if mode == "w":
        content = bytearray((tmp_path / "pets.tar").read_bytes())
        content[:300] = b"x" * 300
        (tmp_path / "pets.tar").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as an uncompressed tar file") as error:
        load_data(f"timm:{tmp_path / 'pets.tar'}", image_size=8)
    assert "\n" not in str(error.value)
