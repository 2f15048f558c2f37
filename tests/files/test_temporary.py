"""What a killed process left is removed by the next writer; what a living one is making is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scansearch.errors import RunStopped
from scansearch.files import temporary
from scansearch.files.atomic import new_folder, write_text

START = """
import sys
from pathlib import Path
from scansearch.files import temporary
temporary.new_file(Path(sys.argv[1], "a.txt"))
temporary.new_folder(Path(sys.argv[1]), ".a.txt")
print("made", flush=True)
sys.stdin.read()
"""


def writer(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    return process


def test_only_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    with writer(tmp_path) as living:
        write_text(tmp_path / "a.txt", "whole")
        assert len(list(tmp_path.iterdir())) == 3
        living.kill()
    write_text(tmp_path / "other.txt", "")  # another name: not its business
    assert len(list(tmp_path.iterdir())) == 4
    write_text(tmp_path / "a.txt", "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "other.txt"]
    assert (tmp_path / "a.txt").read_text() == "again"


def test_all_names_are_cleared_at_once(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        process.kill()
    (tmp_path / ".hidden").touch()
    temporary.remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]


def test_a_dead_process_of_the_same_number_is_told_from_this_one(tmp_path: Path) -> None:
    _, mine = temporary.new_file(tmp_path / "a.txt")
    other = tmp_path / f"{mine.name[:-8]}abcdefgh"
    other.touch()
    temporary.remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize("parent", ["here", "."])
def test_what_this_process_is_making_stays_whatever_its_folder_is_called(
    parent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    made = [temporary.new_file(Path(parent, "a.txt"))[1], temporary.new_folder(Path(parent), ".b")]
    for folder in (Path(parent), tmp_path / parent):
        temporary.remove_abandoned(folder)
        assert all(path.exists() for path in made)
    for path in made:
        temporary.done(path)
        assert not path.exists()


def test_another_machines_is_removed_after_a_day(tmp_path: Path) -> None:
    path = tmp_path / ".a.txt.000000-1-abcdefgh"
    path.touch()
    temporary.remove_abandoned(tmp_path)
    assert path.exists()
    os.utime(path, (0, time.time() - 25 * 3600))
    temporary.remove_abandoned(tmp_path)
    assert not path.exists()


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    with writer(tmp_path) as process:
        process.kill()
    left = next(path for path in tmp_path.glob(".a.txt.*") if path.is_dir())
    left.rmdir()
    left.symlink_to(precious)
    temporary.remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (precious / "file").exists()


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    failing = new_folder(out)
    (failing.__enter__() / "half").touch()
    assert not failing.__exit__(KeyError, KeyError(), None)  # the error goes on
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    with new_folder(out) as made:
        (made / "whole").touch()
    assert [path.name for path in out.iterdir()] == ["whole"]
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(OSError, match="not empty"), new_folder(out):  # not empty
        pass
    assert [path.name for path in out.iterdir()] == ["whole"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunStopped, match=r"cannot write .*a\.txt': No space left on device"):
        write_text(tmp_path / "a.txt", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
