"""Whether an output can be written is told before any work, and checking makes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scansearch.errors import InputError
from scansearch.files.outputs import check_file, check_folder, make_folder, numbered


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("old")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


FILES = {
    "a folder": ("full", (), "there is a folder of that name"),
    "ending": ("new.txt", (".yaml", ".yml"), "the file must end in .yaml or .yml"),
    "below a file": ("file/deep/new.txt", (), "is no folder"),
    "a pipe": ("pipe", (), "is no regular file"),
    "long name": ("x" * 300 + "/new", (), "cannot be written"),
}


@pytest.mark.parametrize(("name", "suffixes", "message"), FILES.values(), ids=FILES.keys())
def test_files_that_cannot_be_written_are_refused(
    name: str, suffixes: tuple[str, ...], message: str, folder: Path
) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match=message) as caught:
        check_file(folder / name, suffixes)
    assert str(caught.value).startswith(f"--out {folder / name}: ")
    assert sorted(folder.rglob("*")) == before


def test_folders_that_cannot_be_written_are_refused(folder: Path) -> None:
    check_folder(folder / "full")
    with pytest.raises(InputError, match="must be a new or an empty folder"):
        check_folder(folder / "full", fresh=True)
    for name in ("file", "file/below"):
        with pytest.raises(InputError):
            check_folder(folder / name, fresh=True)
        with pytest.raises(InputError, match="is no folder"):
            check_folder(folder / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(folder: Path) -> None:
    (folder / "full").chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        check_file(folder / "full" / "new" / "file")


def test_checking_makes_nothing_and_writing_makes_the_folders(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    check_file(None)
    check_folder(None)
    check_file(folder / "file")  # an old file is replaced
    check_file(folder / "a" / "b" / "new.txt")
    check_folder(folder / "a" / "b", fresh=True)
    assert sorted(folder.rglob("*")) == before
    make_folder(folder / "a" / "b")
    assert (folder / "a" / "b").is_dir()


def test_a_front_goes_to_numbered_files() -> None:
    assert numbered(Path("a/front.yaml"), 2) == [Path("a/front-1.yaml"), Path("a/front-2.yaml")]
    assert numbered(Path("front"), 1) == [Path("front-1.yaml")]
