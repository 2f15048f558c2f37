"""Tar files of pictures, without unpacking them: the layouts of folders, and tar files of one tar file a class."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from scansearch.data.names import counted, is_junk
from scansearch.data.trees import Names, Tree
from scansearch.errors import InputError
from scansearch.files.regular import check_regular


class Member(NamedTuple):
    """A file in a tar file: what to call it, and where its bytes are."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarSource:
    """Members of the tar file ``file``. It is opened for every picture, so processes share no position in it."""

    file: str

    def open(self, key: Member) -> BinaryIO:
        with open(self.file, "rb") as archive:
            archive.seek(key.offset)
            return io.BytesIO(archive.read(key.size))

    def name(self, key: Member) -> str:
        return f"{self.file}:{key.name}"

    def short_name(self, key: Member) -> str:
        return key.name


def read_tar(file: Path) -> tuple[Tree, dict[Names, Member]]:
    """What the uncompressed tar file holds, and where.

    Raises:
        InputError: no tar file, or a damaged one.
    """
    members: dict[Names, Member] = {}
    folders: set[Names] = set()
    links = 0
    check_regular(file)
    try:
        with open(file, "rb") as archive:
            for path, info, offset in _members(archive, (), 0):
                if any(is_junk(name) for name in path) or not path:
                    continue
                folders |= {path[:depth] for depth in range(1, len(path))}
                if info.isdir():
                    folders.add(path)
                elif info.isreg() and not info.issparse():
                    members[path] = Member("/".join(path), offset, info.size)
                else:
                    links += 1
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise InputError(
            f"tar file {str(file)!r} cannot be read as an uncompressed tar file: {error}"
        ) from None
    notes = (
        (f"passed over {counted(links, 'member')} of {file.name} that are links or devices",) if links else ()
    )
    return Tree(str(file), tuple(members), frozenset(folders - members.keys()), notes), members


def _members(
    archive: BinaryIO, folder: Names, start: int, *, nested: bool = False
) -> Iterator[tuple[Names, tarfile.TarInfo, int]]:
    """Path, header and offset in the whole file of every member; a tar file among them is a folder of its stem."""
    with tarfile.open(fileobj=archive, mode="r:") as opened:
        for info in opened:
            path = tuple(part for part in PurePosixPath(info.name).parts if part not in ("/", ".", ".."))
            offset = start + info.offset_data
            if path and path[-1].lower().endswith(".tar") and info.isreg() and not nested:
                inner = opened.extractfile(info)
                assert inner is not None
                names = (*path[:-1], PurePosixPath(path[-1]).stem)
                yield from _members(inner, (*folder, *names), offset, nested=True)  # type: ignore[arg-type]
            else:
                yield (*folder, *path), info, offset
